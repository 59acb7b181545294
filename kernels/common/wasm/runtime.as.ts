// Per-instance state and the claiming of chunks. Threads share the memory; globals belong to one instance, so each thread has its own scratch.
import { writeConstants } from './math.as';

/** Bytes of scratch that an instance must be given before it runs a kernel that tiles. */
export const SCRATCH_BYTES: i32 = 2 << 20;

let base: usize = 0;

/** Gives this instance its own `SCRATCH_BYTES` of scratch, 64-byte aligned, and writes the constants of math.as.ts. */
export function setScratch(p: usize): void {
  base = p;
  writeConstants();
}

export function scratchBytes(): i32 {
  return SCRATCH_BYTES;
}

@inline
export function scratch(): usize {
  return base;
}

/**
 * Takes the next chunk of job `generation`, or −1 when the job is over or has no chunks left.
 * The ticket at `p` is (generation << 32 | next chunk): a thread that wakes late finds another generation there and takes nothing.
 */
export function claim(p: usize, generation: i32, chunks: i32): i32 {
  let ticket = atomic.load<u64>(p);
  while (true) {
    const next = <i32>ticket;
    if (<i32>(ticket >> 32) != generation || <u32>next >= <u32>chunks) return -1;
    const seen = atomic.cmpxchg<u64>(p, ticket, ticket + 1);
    if (seen == ticket) return next;
    ticket = seen;
  }
}
