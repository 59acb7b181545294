import { describeBackend } from '@lowrank/testkit';
import { available, cudaBackend } from '../src/index.ts';
import { emulate } from './support/emulated.ts';

// Where a GPU is, it is tested; elsewhere the same kernels run in the emulator.
const emulated = process.env.LOWRANK_CUDA_EMULATE === '1' || !available().ok;
if (emulated) emulate();

describeBackend({ name: emulated ? 'cuda, kernels emulated' : 'cuda', create: () => cudaBackend() });
