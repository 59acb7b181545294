#!/usr/bin/env bash
# Runs the packed WebGPU suite and measurements on this machine's GPU, within eight minutes. What it finds goes to $OUT (or out/ beside
# this file), line by line, so that a run that is cut short leaves whole records: kernels.jsonl, steps.jsonl, profile.jsonl (kernels of a step;
# read by benchmarks/src/gpu-lines.ts), variants.jsonl (tiles and kernels that were tried), notes.jsonl (machine, conformance, faults),
# tests.tar.gz (a line a test, logs), log.txt.
#   run.sh                    conformance of every variant, then faults, then measurements alone
#   run.sh conformance [V …]  variants: auto, robust, portable, or features joined by commas; all at once, since the host compiles most of the time
#   run.sh faults             out of memory; 50 processes that end with work in flight
#   run.sh kernels [PART …] | variants [PART …]   those whose names have a part
#   run.sh peers | steps
#   run.sh NAME …             NAME.mjs from this folder
# Every part has a limit, and one that fails does not stop the next. LOWRANK_SMALL=1 tries all of it at sizes for a device in software.
# gl/*.deb beside this file, where there are any, are unpacked first: a Vulkan loader for machines that have only the driver.
set -u
here="$(cd "$(dirname "$0")" && pwd)"
out="${OUT:-$here/out}"
work="$(mktemp -d)"
mkdir -p "$out"
node="${LOWRANK_NODE:-/tmp/lowrank-node}"
[ -x "$node" ] || { xz -dc "$here/node.xz" >"$node.$$" && chmod +x "$node.$$" && mv "$node.$$" "$node"; } || exit 1
dawn="$here/node_modules/webgpu/dist/linux-x64/dawn.node"
[ -f "$dawn" ] || xz -dk "$dawn.xz" || exit 1
if ! ldconfig -p | grep -q 'libvulkan\.so\.1' && ls "$here"/gl/*.deb >/dev/null 2>&1; then
  for f in "$here"/gl/*.deb; do dpkg -x "$f" /; done
  ldconfig
fi
icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
[ -z "${VK_DRIVER_FILES:-}" ] && [ -f "$icd" ] && export VK_DRIVER_FILES="$icd"
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/tmp}"
LOWRANK_COMMIT="$(cat "$here/commit")"
LOWRANK_GPU="$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)"
LOWRANK_DRIVER="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)"
export LOWRANK_COMMIT LOWRANK_GPU LOWRANK_DRIVER
small="${LOWRANK_SMALL:-}"
size=4096
[ -n "$small" ] && size=128
status=0

# A line of notes.jsonl, in the forms of benchmarks/src/gpu-lines.ts; what happened beside goes to log.txt.
say() { echo "$*" | tee -a "$out/log.txt"; }
note() { echo "{\"commit\":\"$LOWRANK_COMMIT\",\"at\":\"$(date -u +%FT%TZ)\",\"gpu\":\"$LOWRANK_GPU\",\"driver\":\"$LOWRANK_DRIVER\",\"command\":\"run.sh\",$1}" | tee -a "$out/notes.jsonl"; }

# Runs a program of this folder: SECONDS NAME ARGUMENT …
program() {
  local limit="$1" name="$2" began=$SECONDS code
  [ -n "$small" ] && limit=$((limit * 5))
  shift 2
  timeout -k 5 "$limit" "$node" "$here/$name.mjs" "$@" 2>&1 | tee -a "$out/log.txt" | cut -c1-260
  code="${PIPESTATUS[0]}"
  [ "$code" = 0 ] || status=1
  say "$name: exit $code, $((SECONDS - began)) s"
}

# One process of the suite: VARIANT PART PARTS
one() {
  local features="$1"
  [ "$features" = robust ] && export WEBGPU_ROBUST=1 && features=auto
  WEBGPU_FEATURES="$features" LOWRANK_SHARD="$2/$3" LOWRANK_RECORD="$work/tests-$1-$2.jsonl" \
    timeout -k 5 "${LOWRANK_SUITE_SECONDS:-170}" "$node" "$here/conformance-webgpu.mjs" >"$work/conformance-$1-$2.log" 2>&1
}

conformance() {
  local began=$SECONDS names=("$@") parts pids=() name part
  [ $# = 0 ] && names=(auto robust portable shader-f16 subgroups)
  parts=$(($(nproc) / ${#names[@]}))
  [ "$parts" -ge 1 ] || parts=1
  for name in "${names[@]}"; do for part in $(seq "$parts"); do
    one "$name" "$part" "$parts" &
    pids+=($!)
    # On few cores one after another.
    [ "$(nproc)" -ge "${#names[@]}" ] || wait "${pids[-1]}"
  done; done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  for name in "${names[@]}"; do
    local passed failed skipped ended
    passed=$(cat "$work/tests-$name"-*.jsonl 2>/dev/null | grep -c '"status":"passed"')
    failed=$(cat "$work/tests-$name"-*.jsonl 2>/dev/null | grep -c '"status":"failed"')
    skipped=$(cat "$work/tests-$name"-*.jsonl 2>/dev/null | grep -c '"status":"skipped"')
    ended=$(grep -l ' passed, ' "$work/conformance-$name"-*.log 2>/dev/null | wc -l)
    [ "$failed" = 0 ] && [ "$ended" = "$parts" ] || status=1
    note "\"kind\":\"suite\",\"name\":\"WebGPU conformance, $name\",\"passed\":$passed,\"failed\":$failed,\"skipped\":$skipped,\"processes\":$parts,\"ended\":$ended,\"seconds\":$((SECONDS - began)),\"setup\":$(head -1 "$work/conformance-$name-1.log" | grep '^{' || echo null)"
    cat "$work/conformance-$name"-*.log | grep -A1 FAILED | cut -c1-300 | head -30
  done
  tar czf "$out/tests.tar.gz" -C "$work" .
}

faults() {
  [ -n "$small" ] || program 40 faults-webgpu oom
  grep '"WebGPU: out of memory' "$out/log.txt" 2>/dev/null | tail -1 >"$work/oom"
  [ -s "$work/oom" ] && note "\"kind\":\"fault\",$(sed 's/^{//;s/}$//' "$work/oom")"
  local jobs=$(($(nproc) / 2)) began=$SECONDS
  # SECONDS PROCESSES HOW CODE TEXT: how many end with that code and say that.
  ended() {
    seq "$2" | timeout -k 5 "$1" xargs -P "$jobs" -I{} sh -c "
      timeout 60 '$node' '$here/faults-webgpu.mjs' $3 >'$work/ended-$3-{}' 2>&1
      [ \$? = $4 ] && grep -q '$5' '$work/ended-$3-{}' && echo clean" | grep -c clean
  }
  local clean thrown
  clean=$(ended 60 50 exit 0 enqueued)
  thrown=$(ended 20 10 throw 1 'on purpose')
  local ok=false
  [ "$clean" = 50 ] && [ "$thrown" = 10 ] && ok=true
  [ "$ok" = true ] || status=1
  note "\"kind\":\"fault\",\"name\":\"WebGPU: 50 processes end with work in flight, 10 more by an error\",\"ok\":$ok,\"exit\":\"$clean of 50\",\"uncaught\":\"$thrown of 10\",\"seconds\":$((SECONDS - began))"
}

kernels() {
  local how=(--size="$size" --out="$out/kernels.jsonl" --variants-out="$out/variants.jsonl")
  program 90 ops "${how[@]}" "$@"
}
variants() { program 90 ops --size="$size" --variants-only --variants-out="$out/variants.jsonl" "$@"; }
peers() { program 30 peers --size="$size" --out="$out/kernels.jsonl"; }
steps() {
  local how=(--backend webgpu --dtype f16 --out "$out/steps.jsonl" --profile "$out/profile.jsonl")
  # Drivers run a pipeline before it is optimised: the first steps do not count.
  how+=(--steps 140 --last 30)
  [ -n "$small" ] && how+=(--layers 1 --batch 1 --length 16 --vocabulary 512 --steps 3 --last 1)
  program 50 steps-main "${how[@]}" --cases smol-qlora-8x512
  program 50 steps-main "${how[@]}" --cases 1b-qlora-1x512
}

say "$(nvidia-smi --query-gpu=name,memory.total,clocks.sm,clocks.mem --format=csv,noheader 2>/dev/null | head -1), $(nproc) cores"
case "${1:-all}" in
  all)
    conformance
    faults
    kernels
    peers
    steps
    variants
    ;;
  conformance) shift; conformance "$@" ;;
  faults | kernels | variants | peers | steps) part="$1"; shift; "$part" "$@" ;;
  *) name="$1"; shift; program 600 "$name" "$@" ;;
esac
rm -rf "$work"
exit "$status"
