/**
 * What cuBLASLt's other algorithms would win over its first choice: node --conditions=source bench/algorithms.ts [record.jsonl] [name filter].
 * Needs a GPU. Each product of a training step is timed with every algorithm that the library offers and whose sums do not depend on timing.
 */
import type { View } from '@lowrank/kernels';
import { bench, group, setsFor } from './context.ts';

const candidates = 10;
const bf16 = 14;
const f32 = 0;

interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Of row-major operands: A [k, m], B [n, k]. */
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly typeD?: number;
}

/** Products of one block: `rows` tokens, hidden, feed-forward, joint q, k and v; `r` columns of low rank a layer. */
function productsOf(rows: number, hidden: number, feed: number, qkv: number, r: number): Product[] {
  const forward = (n: number, k: number): Product => ({ m: rows, n, k, transB: true });
  const back = (n: number, k: number): Product => ({ m: rows, n, k });
  const gradient = (m: number, n: number): Product => ({ m, n, k: rows, transA: true, typeD: f32 });
  return [
    forward(qkv, hidden + 3 * r),
    forward(hidden, hidden + r),
    forward(2 * feed, hidden + 2 * r),
    forward(hidden, feed),
    back(hidden, qkv),
    back(hidden, hidden),
    back(hidden, 2 * feed),
    back(feed, hidden + r),
    forward(3 * r, hidden),
    forward(r, feed),
    back(2 * r, 2 * feed),
    back(r, hidden),
    gradient(2 * r, hidden),
    gradient(2 * feed, 2 * r),
    gradient(r, feed),
    gradient(hidden, r),
  ];
}

async function compare(title: string, p: Product): Promise<void> {
  const { native, handle, commands, blasWorkspace } = bench.device;
  const { m, n, k, transA = false, transB = false, typeD = bf16 } = p;
  const plan = native.matmulPlan(handle, {
    m,
    n,
    k,
    transA,
    transB,
    typeA: bf16,
    typeB: bf16,
    typeD,
    workspaceBytes: blasWorkspace.bytes,
    candidates,
  });
  const bytes = 2 * (m * k + n * k) + (typeD === f32 ? 4 : 2) * m * n;
  const sets = Array.from({ length: setsFor(bytes) }, () => ({
    a: bench.normal(transA ? [k, m] : [m, k], 'bf16'),
    b: bench.normal(transB ? [n, k] : [k, n], 'bf16'),
    d: bench.empty([m, n], typeD === f32 ? 'f32' : 'bf16'),
  }));
  const at = ({ buffer, byteOffset }: View) => ({
    memory: (buffer as { handle?: number }).handle!,
    offset: byteOffset,
    bytes: 0,
  });
  const name = `${title} ${m}×${n}×${k}${transA ? ' Aᵀ' : ''}${transB ? ' Bᵀ' : ''}`;
  let first = Number.NaN;
  for (const [i, algorithm] of plan.algos.entries()) {
    native.matmulChoose(plan.handle, i);
    const workspace = algorithm.workspaceBytes > 0 ? blasWorkspace : undefined;
    const calls = sets.map(({ a, b, d }) => () => {
      commands.matmul(plan.handle, 1, 0, at(a), at(b), at(d), workspace);
      bench.device.enqueued();
    });
    const figure = await bench.time(`${name}, choice ${i}, workspace ${algorithm.workspaceBytes}`, calls, {
      flops: 2 * m * n * k,
      bytes,
    });
    if (i === 0) first = figure.microseconds;
    else if (figure.microseconds < 0.97 * first)
      console.log(`  choice ${i}: ${((1 - figure.microseconds / first) * 100).toFixed(0)} % less than the first`);
  }
  for (const { a, b, d } of sets) bench.free(a, b, d);
  native.release(plan.handle);
}

for (const [title, rows, hidden, feed, qkv] of [
  ['135M', 512, 576, 1536, 960],
  ['135M', 4096, 576, 1536, 960],
  ['8B', 2048, 4096, 14336, 6144],
  ['8B', 8192, 4096, 14336, 6144],
] as const)
  await group(`algorithms ${title} ${rows}`, async () => {
    for (const p of productsOf(rows, hidden, feed, qkv, 16)) await compare(title, p);
  });
process.exit();
