/** The property tests of the addon's surface on the GPU that is here. */
process.env.LOWRANK_CUDA_REAL = '1';
const { run } = await import('./harness.ts');
await import('../../packages/backend-cuda/tests/properties.test.ts');
await run();
process.exit();
