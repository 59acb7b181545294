/**
 * Loads a checkpoint of Llama-3.1-8B's shapes (bf16, four shards, 16 GB) into NF4 on the GPU, and says at what rate and with how much host
 * memory: checkpoint.mjs RECORD FOLDER [LAYERS]. FOLDER is made where it is not there; keep it in memory (tmpfs), which is where the page
 * cache of a file read before lies as well.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { rawConfig } from '../../benchmarks/src/shapes.ts';
import { cudaBackend } from '../../packages/backend-cuda/src/index.ts';
import { CommandList } from '../../packages/backend-cuda/src/runtime/commands.ts';
import { CudaDevice } from '../../packages/backend-cuda/src/runtime/device.ts';
import { loadModel } from '../../packages/models/src/index.ts';
import { folderFiles } from '../../packages/models/src/node.ts';
import { BlockwiseWeight } from '../../packages/nf4/src/index.ts';
import { Device } from '../../packages/tensor/src/index.ts';
import { processBytes, Records } from './record.ts';

const [record, folder = '/dev/shm/lowrank-8b', layers = '32'] = process.argv.slice(2);
const records = new Records(record);
const config = rawConfig('llama-3.1-8b', Number(layers)) as Record<string, number>;

/** Names and shapes as Hugging Face's checkpoint has them. */
function tensors(): [name: string, shape: number[]][] {
  const [h, f, v] = [config.hidden_size!, config.intermediate_size!, config.vocab_size!];
  const kv = (h / config.num_attention_heads!) * config.num_key_value_heads!;
  const list: [string, number[]][] = [['model.embed_tokens.weight', [v, h]]];
  for (let i = 0; i < config.num_hidden_layers!; i++) {
    const at = `model.layers.${i}`;
    for (const [name, rows] of [
      ['q_proj', h],
      ['k_proj', kv],
      ['v_proj', kv],
      ['o_proj', h],
    ] as const)
      list.push([`${at}.self_attn.${name}.weight`, [rows, h]]);
    list.push([`${at}.mlp.gate_proj.weight`, [f, h]], [`${at}.mlp.up_proj.weight`, [f, h]]);
    list.push([`${at}.mlp.down_proj.weight`, [h, f]]);
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) list.push([`${at}.${norm}.weight`, [h]]);
  }
  list.push(['model.norm.weight', [h]], ['lm_head.weight', [v, h]]);
  return list;
}

/** 64 MiB of bf16 of the size that weights have: random sign and mantissa, exponents of 2⁻⁹ to 2⁻⁶. */
function block(): Uint8Array {
  const bytes = randomBytes(64 << 20);
  for (let i = 1; i < bytes.length; i += 2) {
    const e = 118 + (bytes[i]! & 3);
    bytes[i] = (bytes[i]! & 0x80) | (e >> 1);
    bytes[i - 1] = (bytes[i - 1]! & 0x7f) | ((e & 1) << 7);
  }
  return bytes;
}

async function make(): Promise<void> {
  await mkdir(folder, { recursive: true });
  const all = tensors();
  const shards = 4;
  const sizes = all.map(([, shape]) => shape.reduce((a, b) => a * b, 2));
  const total = sizes.reduce((a, b) => a + b, 0);
  const parts: number[][] = Array.from({ length: shards }, () => []);
  let sum = 0;
  for (const [i, size] of sizes.entries()) {
    parts[Math.min(shards - 1, Math.floor((sum / total) * shards))]!.push(i);
    sum += size;
  }
  const noise = block();
  const map: Record<string, string> = {};
  await Promise.all(
    parts.map(async (list, shard) => {
      const file = `model-0000${shard + 1}-of-0000${shards}.safetensors`;
      const header: Record<string, object> = {};
      let at = 0;
      for (const i of list) {
        const [name, shape] = all[i]!;
        header[name] = { dtype: 'BF16', shape, data_offsets: [at, at + sizes[i]!] };
        map[name] = file;
        at += sizes[i]!;
      }
      const json = Buffer.from(JSON.stringify(header));
      const padded = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
      padded.writeBigUInt64LE(BigInt(padded.length - 8));
      json.copy(padded, 8);
      const handle = await open(join(folder, file), 'w');
      await handle.write(padded);
      for (let left = at; left > 0; left -= noise.length) await handle.write(noise, 0, Math.min(left, noise.length));
      await handle.close();
    }),
  );
  const index = { metadata: { total_size: total }, weight_map: map };
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
}

const rate = (bytes: number, ms: number) => Number((bytes / ms / 1e6).toFixed(2));

/** What the machine gives: pinned copies to the device, copies on the host, reads of a file. */
async function ceilings(): Promise<void> {
  const device = CudaDevice.open({});
  const { native } = device;
  const bytes = 64 << 20;
  const rounds = 16;
  const host = native.hostAllocate(device.handle, bytes);
  const memory = native.allocate(device.handle, bytes);
  const pinned = new Uint8Array(host.array);
  const time = async (name: string, body: () => Promise<void> | void) => {
    await body();
    const began = performance.now();
    for (let i = 0; i < rounds; i++) await body();
    records.add({ kind: 'ceiling', name, gigabytesPerSecond: rate(bytes * rounds, performance.now() - began) });
  };
  await time('pinned memory to the device', async () => {
    const list = new CommandList();
    list.hostToDevice({ memory, offset: 0, bytes }, host.handle, 0);
    native.submit(device.stream, list.packed);
    await native.synchronize(device.stream);
  });
  const plain = new Uint8Array(bytes).fill(3);
  await time('memory to pinned memory, one thread', () => pinned.set(plain));
  await time('write of 64 MiB', async () => {
    native.write(device.stream, memory, 0, plain);
    await native.synchronize(device.stream);
  });
  await time('write of 64 MiB in pieces of 4', async () => {
    for (let at = 0; at < bytes; at += 4 << 20)
      native.write(device.stream, memory, at, plain.subarray(at, at + (4 << 20)));
    await native.synchronize(device.stream);
  });
  const handle = await open(join(folder, 'model-00001-of-00004.safetensors'));
  let place = 0;
  const next = () => (place = (place + bytes) % (3 * 2 ** 30));
  for (const [name, target] of [
    ['used memory', plain],
    ['pinned memory', pinned],
  ] as const) {
    await time(`file into ${name}, one read`, async () => void (await handle.read(target, 0, bytes, next())));
    await time(`file into ${name}, four reads at a time`, async () => {
      const from = next();
      const part = bytes / 4;
      await Promise.all([0, 1, 2, 3].map((i) => handle.read(target, i * part, part, from + i * part)));
    });
  }
  await time('file into new memory, 4 MiB at a time', async () => {
    for (let at = 0, from = next(); at < bytes; at += 4 << 20)
      await handle.read(new Uint8Array(4 << 20), 0, 4 << 20, from + at);
  });
  await handle.close();
  native.closeDevice(device.handle);
}

if (!existsSync(join(folder, 'config.json'))) {
  const began = performance.now();
  await make();
  console.log(`made ${folder} in ${((performance.now() - began) / 1000).toFixed(1)} s`);
}
if (process.env.LOWRANK_CEILINGS !== '0') await ceilings();

for (let round = 0; round < 2; round++) {
  const device = new Device(await cudaBackend());
  const before = processBytes(readFileSync('/proc/self/status', 'utf8'), 'VmRSS');
  let top = 0;
  const watch = () => {
    top = Math.max(top, processBytes(readFileSync('/proc/self/status', 'utf8'), 'VmRSS'));
  };
  const began = performance.now();
  let bytes = 0;
  const model = await loadModel(device, await folderFiles(folder), {
    computeDtype: 'bf16',
    quantize: (_, values) => BlockwiseWeight.quantize(values),
    onProgress: (p) => {
      bytes = p.bytes;
      watch();
    },
  });
  await device.synchronize();
  const ms = performance.now() - began;
  const memory = device.memory();
  const highest = processBytes(readFileSync('/proc/self/status', 'utf8'), 'VmHWM');
  records.add({
    kind: 'checkpoint',
    name: '8B-shaped bf16 checkpoint to NF4 on the device',
    round,
    bytes,
    seconds: Number((ms / 1000).toFixed(2)),
    gigabytesPerSecond: rate(bytes, ms),
    goal: 3,
    met: rate(bytes, ms) >= 3,
    residentBefore: before,
    residentWhileLoading: top,
    residentHighest: highest,
    hostMet: highest <= 2 * 2 ** 30,
    weightsGiB: Number((memory.liveByClass.weights / 2 ** 30).toFixed(3)),
    peakGiB: Number((memory.peak / 2 ** 30).toFixed(3)),
  });
  model.dispose();
  await device.close();
}
process.exit(records.failed ? 1 : 0);
