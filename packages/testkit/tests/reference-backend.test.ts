import { describeBackend, describeTiny, referenceBackend } from '../src/index.ts';

const create = async () => referenceBackend();

describeTiny({ name: 'reference', create });
describeTiny({ name: 'reference without fused ops', create: async () => referenceBackend({ fused: false }) });
describeBackend({ name: 'reference', create });
