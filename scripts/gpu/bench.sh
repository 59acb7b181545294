#!/usr/bin/env bash
# The benchmark on this machine's GPU, from what pack.mjs and pack-bench.mjs packed. Records go to $OUT/bench/ (or out/bench/ beside this file),
# appended line by line: what a limit cuts short leaves whole records.
#   bench.sh [PART …]       all of them where none is named; each has a limit, so that all end within nine and a half minutes
#     peers    whole steps beside PyTorch with PEFT, and Liger where it is there
#     ops      every op, CUDA and WebGPU in turns
#     load     checkpoint to device, first step, saving
#     train    more steps of ours, with the growth curves, on CUDA; a few on WebGPU
#     quality  the methods on the bundled model
# LOWRANK_BENCH_BACKENDS (cuda,webgpu) leaves one out.
set -u
here="$(cd "$(dirname "$0")" && pwd)"
out="${OUT:-$here/out}/bench"
mkdir -p "$out"
node="${LOWRANK_NODE:-/tmp/lowrank-node}"
[ -x "$node" ] || { xz -dc "$here/node.xz" >"$node.$$" && chmod +x "$node.$$" && mv "$node.$$" "$node"; } || exit 1
export LOWRANK_CUDA_BINARIES="$here/binaries" LOWRANK_PYTHON="${LOWRANK_PYTHON:-python3}" HF_HUB_OFFLINE=1
if [ -f "$here/site.tar.xz" ]; then
  [ -d /tmp/lowrank-site ] || { mkdir /tmp/lowrank-site && tar xJf "$here/site.tar.xz" -C /tmp/lowrank-site; }
  export PYTHONPATH="/tmp/lowrank-site${PYTHONPATH:+:$PYTHONPATH}"
fi
[ -f "$here/bench/bench.mjs" ] || { mkdir -p "$here/bench" && tar xJf "$here/bench.tar.xz" -C "$here/bench"; } || exit 1
backends="${LOWRANK_BENCH_BACKENDS:-cuda,webgpu}"
status=0
bench() {
  local name="$1" limit="$2"
  shift 2
  echo "== $name (at most $limit s)"
  SECONDS=0
  # the first signal lets it end with whole records and its table
  timeout -k 20 "$limit" "$node" "$here/bench/bench.mjs" --out "$out/$name.jsonl" "$@" 2>&1 | tee "$out/$name.log" | grep -v '^ops [0-9]'
  local code="${PIPESTATUS[0]}"
  [ "$code" = 0 ] || { status=1; echo "$name: exit code $code"; }
  echo "== $name took $SECONDS s"
}
peers() {
  bench peers 190 --backend cuda --suite train --against python \
    --filter 'qlora llama-3.1-8b 4×2048 r 16 recompute block' --filter 'qlora llama-3.1-8b 2×2048 r 16 recompute none' \
    --filter 'qlora smollm2-135m 8×512 r 16' --filter 'lora smollm2-135m 1×256 r 16 recompute none'
}
ops() { bench ops 150 --backend "$backends" --suite ops --full --seconds 0.05; }
load() { bench load 50 --backend "$backends" --suite load --full --filter 'load/bundled'; }
train() {
  bench train 110 --backend cuda --suite train \
    --filter 'qlora smollm2-135m 1×' --filter 'qlora smollm2-135m 6 layers' --filter 'qlora smollm2-135m 15 layers' \
    --filter 'llama-3.2-1b' --filter 'llama-3.1-8b 1×2048' --filter '4×2048 r 16 recompute block offload'
  case "$backends" in
    *webgpu*) bench train-webgpu 40 --backend webgpu --suite train --filter 'smollm2-135m 1×256' --filter 'smollm2-135m 8×512' ;;
  esac
}
quality() { bench quality 100 --backend cuda --suite quality --full --filter 'quality/bundled'; }
[ $# -gt 0 ] || set -- ops load peers train quality
for part in "$@"; do "$part"; done
exit "$status"
