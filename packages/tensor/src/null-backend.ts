import {
  type Backend,
  type Call,
  type CollectiveGroup,
  type CollectiveName,
  type CollectiveOps,
  checkCollective,
  checkPlace,
  collectiveNames,
  type FusedKernel,
  type FusedName,
  fusedContracts,
  type PrimitiveName,
  primitiveContracts,
} from '@lowrank/kernels';

/** What a null backend imitates: the parts of a backend that decide which kernels run and how much memory they take. */
export type Likeness = Pick<Backend, 'name' | 'caps'> & {
  readonly memory: Pick<Backend['memory'], 'alignment' | 'pooling'> & { readonly offload?: unknown };
  readonly fused: { readonly [F in FusedName]?: Pick<FusedKernel<never>, 'accepts' | 'workspace'> };
  readonly collectives?: unknown;
};

/**
 * A backend that computes nothing and accounts every byte: the same step on it answers "will this fit?" exactly, since shapes, kernels and
 * the pool are those of the backend it is like. Reads give zeros; collectives check their operands, and any group forms alone. Without a
 * likeness it takes every fused op, with no workspace.
 */
export function nullBackend(like?: Likeness): Backend {
  let reserved = 0;
  let hostBytes = 0;
  const skip = () => {};
  const all = { store: true, compute: true, fastMatmul: true };
  const accept = { accepts: () => true as const, run: skip };
  const names = (like ? Object.keys(like.fused) : Object.keys(fusedContracts)) as FusedName[];
  return {
    name: like ? `null (${like.name})` : 'null',
    caps: like?.caps ?? {
      device: 'accounting only',
      dtypes: { f32: all, f16: all, bf16: all, i32: all, u32: all, u8: all },
      preferredCompute: 'f32',
      limits: { maxBufferBytes: Number.MAX_SAFE_INTEGER },
      features: [],
      asynchronous: false,
    },
    memory: {
      alignment: like?.memory.alignment ?? 64,
      pooling: like?.memory.pooling ?? { kind: 'slab', slabBytes: 1 << 20 },
      allocate: (byteLength) => {
        reserved += byteLength;
        return { byteLength };
      },
      release: ({ byteLength }) => {
        reserved -= byteLength;
      },
      write: skip,
      read: async (_buffer, _offset, byteLength) => new Uint8Array(byteLength),
      copy: skip,
      ...(like?.memory.offload
        ? {
            offload: {
              store: (_buffer: unknown, _offset: number, byteLength: number) => {
                hostBytes += byteLength;
                return { byteLength };
              },
              stored: skip,
              fetch: skip,
              fetched: skip,
              release: ({ byteLength }: { byteLength: number }) => {
                hostBytes -= byteLength;
              },
              hostBytes: () => hostBytes,
            },
          }
        : {}),
      reservedBytes: () => reserved,
    },
    primitives: Object.fromEntries(
      (Object.keys(primitiveContracts) as PrimitiveName[]).map((n) => [n, skip]),
    ) as unknown as Backend['primitives'],
    fused: Object.fromEntries(
      names.map((n) => [n, like ? { ...like.fused[n], run: skip } : accept]),
    ) as Backend['fused'],
    ...(!like || like.collectives
      ? {
          collectives: {
            createId: () => new Uint8Array(0),
            join: async (options) => {
              checkPlace(options);
              const { rank, size } = options;
              return {
                rank,
                size,
                ops: Object.fromEntries(
                  collectiveNames.map((name) => [
                    name,
                    (call: Call<CollectiveOps[CollectiveName]>) => checkCollective(name, { rank, size }, call),
                  ]),
                ) as unknown as CollectiveGroup['ops'],
                leave: async () => {},
              };
            },
          },
        }
      : {}),
    synchronize: async () => {},
    close: async () => {},
  };
}
