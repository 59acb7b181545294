import type { Backend, DeviceBuffer, Offload } from '@lowrank/kernels';

interface Entry {
  readonly byteLength: number;
  readonly host: DeviceBuffer;
  pending: (() => void) | undefined;
}

/**
 * A backend whose copies to the host and back take as long as they may: bytes move when `stored` or `fetched` is called, and the places on
 * the way back hold garbage until then. Who overwrites or reads too early gets other numbers.
 */
export function withLazyHost(backend: Backend): Backend & { readonly log: string[] } {
  const { memory } = backend;
  const log: string[] = [];
  const garbage = memory.allocate(1 << 20);
  memory.write(garbage, 0, new Uint8Array(1 << 20).fill(0x7f));
  let held = 0;
  const done = (entry: Entry) => {
    entry.pending?.();
    entry.pending = undefined;
  };
  const offload: Offload = {
    store: (buffer, byteOffset, byteLength) => {
      const host = memory.allocate(byteLength);
      held += byteLength;
      log.push('store');
      return { byteLength, host, pending: () => memory.copy(buffer, byteOffset, host, 0, byteLength) } as Entry;
    },
    stored: (entry) => done(entry as Entry),
    fetch: (offloaded, buffer, byteOffset) => {
      const entry = offloaded as Entry;
      if (entry.pending) throw new Error('fetched while it is being stored');
      log.push('fetch');
      memory.copy(garbage, 0, buffer, byteOffset, entry.byteLength);
      entry.pending = () => memory.copy(entry.host, 0, buffer, byteOffset, entry.byteLength);
    },
    fetched: (entry) => done(entry as Entry),
    release: (offloaded) => {
      const entry = offloaded as Entry;
      if (entry.pending) throw new Error('released while a copy is under way');
      memory.release(entry.host);
      held -= entry.byteLength;
    },
    hostBytes: () => held,
  };
  return {
    ...backend,
    log,
    memory: {
      ...memory,
      alignment: memory.alignment,
      pooling: memory.pooling,
      allocate: (n) => memory.allocate(n),
      release: (b) => memory.release(b),
      write: (b, o, d) => memory.write(b, o, d),
      read: (b, o, n) => memory.read(b, o, n),
      copy: (f, fo, t, to, n) => memory.copy(f, fo, t, to, n),
      reservedBytes: () => memory.reservedBytes(),
      offload,
    },
  };
}
