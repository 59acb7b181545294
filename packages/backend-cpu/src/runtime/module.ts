import { plain, relaxed, type WasmBuild } from '../generated/wasm.ts';

/** A compiled module of kernels, and what kind it is. */
export interface KernelModule {
  readonly module: WebAssembly.Module;
  readonly relaxed: boolean;
  readonly shared: boolean;
}

/** A function of one body: f32x4.relaxed_madd of three zeros. Engines without relaxed SIMD refuse it. */
const relaxedProbe = Uint8Array.of(
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...[1, 5, 1, 0x60, 0, 1, 0x7b],
  ...[3, 2, 1, 0],
  ...section(10, [1, ...sized([0, ...zero(), ...zero(), ...zero(), 0xfd, 0x85, 0x02, 0x0b])]),
);

function zero(): number[] {
  return [0x41, 0, 0xfd, 0x0f];
}

function sized(bytes: number[]): number[] {
  return [bytes.length, ...bytes];
}

function section(id: number, bytes: number[]): number[] {
  return [id, ...sized(bytes)];
}

/** Whether this engine runs relaxed SIMD. */
export function hasRelaxedSimd(): boolean {
  return WebAssembly.validate(relaxedProbe);
}

/** Whether memory can be shared between threads here (in a browser: only in a page that is cross-origin isolated). */
export function hasSharedMemory(): boolean {
  return (
    typeof SharedArrayBuffer !== 'undefined' &&
    (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false
  );
}

function bytesOf(build: WasmBuild, shared: boolean): Uint8Array<ArrayBuffer> {
  const text = atob(build.base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  if (!shared) bytes[build.memoryFlag] = 1;
  return bytes;
}

/** Compiles the build that fits this engine. */
export async function compileKernels(options: { relaxed: boolean; shared: boolean }): Promise<KernelModule> {
  const module = await WebAssembly.compile(bytesOf(options.relaxed ? relaxed : plain, options.shared));
  return { module, ...options };
}
