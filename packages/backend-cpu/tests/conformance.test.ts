import { describeBackend } from '@lowrank/testkit';
import { cpuBackend } from '../src/index.ts';

describeBackend({ name: 'cpu, relaxed SIMD, two threads', create: () => cpuBackend({ simd: 'relaxed', threads: 2 }) });
describeBackend({ name: 'cpu, plain SIMD, one thread', create: () => cpuBackend({ simd: 'plain', threads: 1 }) });
