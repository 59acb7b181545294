// A thread's whole life: waits for jobs in the shared memory and runs chunks of them. Plain JavaScript, embedded as text by
// scripts/build-wasm.mjs, so that the same source starts as a Node worker and as a browser worker without any bundler's help.
// The words of the control block are described in threads.ts.
export function runKernels({ module, memory, control, scratch, names, spins, ready }) {
  const instance = new WebAssembly.Instance(module, { env: { memory, abort() {} } });
  const kernels = names.map((name) => instance.exports[name]);
  const { claim } = instance.exports;
  instance.exports.setScratch(scratch);
  const words = new Int32Array(memory.buffer, control, 16);
  const numbers = new Float64Array(memory.buffer, control + 64, 64);
  let seen = Atomics.load(words, 0);
  ready();
  for (;;) {
    let generation = Atomics.load(words, 0);
    for (let i = 0; generation === seen && i < spins; i++) generation = Atomics.load(words, 0);
    if (generation === seen) {
      Atomics.wait(words, 0, seen);
      continue;
    }
    seen = generation;
    if (Atomics.load(words, 9) !== 0) return;
    const kernel = kernels[words[1]];
    const args = Array.from(numbers.subarray(0, words[2]));
    const chunks = words[3];
    const units = words[4];
    const grain = words[5];
    for (;;) {
      const chunk = claim(control + 48, generation, chunks);
      if (chunk < 0) break;
      try {
        kernel(...args, chunk * grain, Math.min(units, (chunk + 1) * grain));
      } catch {
        Atomics.store(words, 8, 1);
      }
      Atomics.add(words, 6, 1);
      if (Atomics.load(words, 7) !== 0) Atomics.notify(words, 6);
    }
  }
}
