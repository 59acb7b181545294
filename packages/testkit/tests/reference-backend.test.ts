import { describeBackend, referenceBackend } from '../src/index.ts';

describeBackend({ name: 'reference', create: async () => referenceBackend() });
