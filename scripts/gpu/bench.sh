#!/usr/bin/env bash
# The benchmark on this machine's GPU, from what pack.mjs and pack-bench.mjs packed. Records go to $OUT/records.jsonl (or out/ beside this
# file), line by line: what a limit cuts short leaves whole records. Words go to $OUT/bench.log.
#   bench.sh receive          keeps the piece beside this file for later runs
#   bench.sh PART[=SECONDS] … each with a limit of its own (in brackets); all but webgpu where none is named
#     ops [100]      bf16 ops of all shapes on CUDA, with the ceilings of the same run
#     ops32 [100]    the same in f32 and f16
#     train [110]    whole training steps on CUDA
#     curves [60]    growth with sequence, rank, batch and layers: SmolLM2-135M
#     curves8b [90]  the same: Llama-3.1-8B
#     load [40]      checkpoint to device, first step, saving
#     quality [110]  the methods on SmolLM2-135M and GSM8K, where pieces brought the model
#     bundled [60]   the methods on the bundled model
#     peers [110]    steps beside PEFT with bitsandbytes, Liger and Unsloth, where they are
#     peers8b [150]  more of them, Llama-3.1-8B
#     webgpu [90]    ops and steps on WebGPU
# Whether the numbers are the same, not how fast they come: lines in $OUT/same-numbers.jsonl, run where they are named.
#     nf4 [40]       SmolLM2's 210 weights quantized on CUDA: bitsandbytes' bytes
#     twenty [260]   20 steps of LoRA and QLoRA in f32 and bf16: CUDA, the CPU backend, PEFT on the GPU
#     gsm8k [480]    an epoch of GSM8K by QLoRA in bf16, beside PEFT and bitsandbytes
#     demo [120]     lowrank demo, which takes CUDA by itself; its words in $OUT/demo.log
# LOWRANK_BENCH_DRY=BACKEND runs each part in its smallest form on another backend: a check of this file, not a measurement.
set -u
here="$(cd "$(dirname "$0")" && pwd)"
out="${OUT:-$here/out}"
pieces="${LOWRANK_PIECES:-/tmp/lowrank-pieces}"
more="${LOWRANK_MORE:-/tmp/lowrank-more}"
dry="${LOWRANK_BENCH_DRY:-}"
mkdir -p "$out" "$pieces"
touch "$out/records.jsonl"

if [ "${1:-}" = receive ]; then
  cp "$here"/piece-* "$pieces"/ && ls -l "$pieces"
  exit
fi

node="${LOWRANK_NODE:-/tmp/lowrank-node}"
[ -x "$node" ] || { xz -dc "$here/node.xz" >"$node.$$" && chmod +x "$node.$$" && mv "$node.$$" "$node"; } || exit 1
bench="${LOWRANK_BENCH_FOLDER:-/tmp/lowrank-bench}"
[ -f "$bench/bench.mjs" ] || { mkdir -p "$bench" && tar xJf "$here/bench.tar.xz" -C "$bench"; } || exit 1
site=""
if [ -f "$here/site.tar.xz" ]; then
  [ -d "$bench/site" ] || { mkdir "$bench/site" && tar xJf "$here/site.tar.xz" -C "$bench/site"; }
  site="$bench/site"
fi

# What came in pieces: all of them, or it is left out.
last=$(ls "$pieces" 2>/dev/null | sed -n 's/^piece-[0-9]*-of-//p' | head -1)
if [ -n "$last" ] && [ "$(ls "$pieces" | wc -l)" = "$last" ]; then
  if [ ! -d "$more" ]; then
    mkdir "$more"
    for i in $(seq "$last"); do cat "$pieces/piece-$i-of-$last"; done | tar xJ -C "$more" || exit 1
    [ ! -d "$more/models" ] || "$node" "$bench/bench-models.mjs" "$more/models" || exit 1
  fi
  [ ! -d "$more/models" ] || export LOWRANK_MODELS="$more/models"
  [ ! -d "$more/site" ] || site="$site:$more/site"
elif [ -n "$last" ]; then
  echo "only $(ls "$pieces" | wc -l) of $last pieces are here: they are left out"
fi
[ -z "$site" ] || export PYTHONPATH="${site#:}${PYTHONPATH:+:$PYTHONPATH}"
[ ! -d "$bench/shared" ] || export LOWRANK_SHARED="$bench/shared"
export LOWRANK_CUDA_BINARIES="${LOWRANK_CUDA_BINARIES:-$bench/binaries}" LOWRANK_PYTHON="${LOWRANK_PYTHON:-python3}"
export HF_HUB_OFFLINE=1 UNSLOTH_DISABLE_STATISTICS=1
[ -e "$bench/bundled" ] || [ ! -d "$here/../../bundled" ] || ln -s "$(cd "$here/../../bundled" && pwd)" "$bench/bundled"
# models that Unsloth reads back are written here; memory is faster than a disk
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
if ls "$here"/gl/*.deb >/dev/null 2>&1 && ! ldconfig -p | grep -q 'libvulkan\.so\.1'; then
  for f in "$here"/gl/*.deb; do dpkg -x "$f" /; done
  ldconfig
fi
icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
[ -n "${VK_DRIVER_FILES:-}" ] || [ ! -f "$icd" ] || export VK_DRIVER_FILES="$icd"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"

status=0
# run SUITE BACKEND [OPTION …] -- FILTER …   within what is left of the part's seconds
run() {
  local suite="$1" backend="${dry:-$2}" options=() filters=()
  shift 2
  while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
  [ $# = 0 ] || shift
  for f in "$@"; do filters+=(--filter "$f"); done
  if [ -n "$dry" ]; then
    case "$suite" in
      ops) filters=(--filter 'small ops' --filter 'rope T 256 9×64') ;;
      train) filters=(--filter 'qlora smollm2-135m 3 layers 1×64 r 16') ;;
      load) filters=(--filter 'safetensors to nf4') ;;
      quality) filters=(--filter "${filters[1]} lora r 4") options=(--steps 2 --held-out 2) ;;
    esac
  fi
  local left=$((start + limit - $(date +%s)))
  [ "$left" -gt 3 ] || { echo "$part: no time is left for $suite on $backend" && return; }
  timeout -k 15 "$left" "$node" "$bench/bench.mjs" --out "$out/records.jsonl" --html /tmp/report.html --suite "$suite" \
    --backend "$backend" "${options[@]}" "${filters[@]}" >>"$out/bench.log" 2>&1
  local code=$?
  [ "$code" = 0 ] || { status=1 && echo "$part: $suite on $backend: exit code $code: $(grep -v '^$' "$out/bench.log" | tail -3 | cut -c1-300)"; }
}

ops() { run ops cuda --full --seconds 0.02 -- bf16 quantize 'adamw 16777216' 'small ops'; }
ops32() { run ops cuda --full --seconds 0.02 -- f32 'matmul*f16'; }
train() {
  run train cuda -- 'llama-3.1-8b 4×2048 r 16' 'llama-3.1-8b 2×2048 r 16 recompute none' 'lora llama-3.1-8b 2×2048 r 16 recompute selective' \
    'llama-3.1-8b 1×2048 r 16' 'smollm2-135m 8×512' 'train/lora smollm2-135m 1×512' 'lora smollm2-135m 1×256 r 16 recompute none' \
    'full smollm2-135m 1×256' 'llama-3.2-1b'
}
curves() {
  run train cuda -- 'qlora smollm2-135m 1×' 'qlora smollm2-135m 2×' 'qlora smollm2-135m 4×' 'qlora smollm2-135m 8×256' \
    '6 layers 1×256' '12 layers 1×256' '15 layers 1×256'
}
curves8b() {
  run train cuda -- '8b 1×2048 r 16 recompute block' '8b 1×256 ' '8b 1×512 ' '8b 1×1024 ' '8b 1×4096 ' '8b 1×8192 ' 'r 4 recompute block' \
    'r 64 recompute block' 'r 256 recompute block' '8b 2×2048 r 16 recompute block' '8b 8×' 'layers 1×2048'
}
load() { run load cuda --full; }
quality() { run quality cuda -- quality/smollm2-135m; }
bundled() { run quality cuda --full -- quality/bundled; }
peers() {
  run train cuda --against python -- 'qlora llama-3.1-8b 4×2048 r 16 recompute block' 'qlora smollm2-135m 8×512' 'train/lora smollm2-135m 1×512'
}
peers8b() { run train cuda --against python -- 'qlora llama-3.1-8b 2×2048 r 16 recompute none' 'lora llama-3.1-8b 4×2048 r 16 recompute block'; }
webgpu() {
  run ops webgpu --seconds 0.02 --full -- 'ops/matmul*f32' 'ops/matmul*f16' 'M 512 14336×4096 f16' 'M 2048 14336×4096 r 16*f16' 'T 2048*f16' 'M 256 1536×576*f32' 'small ops'
  run train webgpu -- 'smollm2-135m 1×256 r 16 recompute none' 'qlora smollm2-135m 8×512'
}

# Parts of same-numbers.ts share its file; the last seconds are for what it says of clients that were stopped.
same() {
  [ -d "$more/models" ] || [ "$part" = demo ] || echo "$part: no pieces with the model were received on this machine"
  [ -n "$site" ] || [ "$part" = demo ] || [ "$part" = nf4 ] || echo "$part: no site.tar.xz is here (pack-bench.mjs --peers): bitsandbytes must be the machine's own"
  timeout -k 5 "$limit" "$node" "$bench/same-numbers.mjs" "$part" "$out/same-numbers.jsonl" "$((limit - 5))" "${dry:-cuda}" ${dry:+small}
  local code=$?
  [ "$code" = 0 ] || { status=1 && echo "$part: exit code $code; the clients' words are in $out/same-numbers.jsonl.log"; }
}
nf4() { same; }
twenty() { same; }
gsm8k() { same; }
demo() { same; }
[ ! -s "$out/same-numbers.jsonl" ] || echo "$out/same-numbers.jsonl holds lines of earlier runs: those of this one are added"

[ $# -gt 0 ] || set -- ops train quality load curves peers curves8b ops32 bundled peers8b
for word in "$@"; do
  part="${word%%=*}"
  limit=$(sed -n "s/^#  *$part \[\([0-9]*\)\].*/\1/p" "$0")
  [ -n "$limit" ] || { echo "bench.sh: no part $part" && exit 2; }
  [ "$part" = "$word" ] || limit="${word#*=}"
  start=$(date +%s)
  before=$(cat "$out"/*.jsonl | wc -l)
  "$part"
  echo "== $part: $(($(cat "$out"/*.jsonl | wc -l) - before)) records in $(($(date +%s) - start)) s (limit $limit)"
done
[ ! -s "$out/records.jsonl" ] || "$node" -e '
  const text = require("fs").readFileSync(process.argv[1], "utf8");
  const records = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  const bad = records.filter((r) => r.status === "failed" || r.status === "wrong");
  console.log(`${records.length} records, ${bad.length} failed or wrong`);
  for (const r of bad.slice(0, 12)) console.log(`${r.status} ${r.suite}/${r.case} ${r.contender.name}: ${r.reason.slice(0, 160)}`);
  const ms = (r) => (r.median < 10 ? r.median.toPrecision(3) : Math.round(r.median));
  for (const r of records.filter((r) => r.status === "ok" && r.suite !== "ops").slice(-40)) console.log(`${r.contender.name} ${r.case}: ${ms(r)} ms`);
' "$out/records.jsonl"
exit "$status"
