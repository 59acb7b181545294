#!/usr/bin/env bash
# Runs the packed WebGPU suite and measurements on this machine's GPU. Records go to $OUT (or out/ beside this file) as JSON lines.
#   run.sh                    conformance of every variant, faults, then measurements
#   run.sh conformance [V …]  variants: auto, robust, portable, or features joined by commas; all at once, since the host compiles most of the time
#   run.sh faults             out of memory; 50 processes that end with work in flight
#   run.sh NAME …             NAME.mjs from this folder
# gl/*.deb beside this file, where there are any, are unpacked first: a Vulkan loader for machines that have only the driver.
set -u
here="$(cd "$(dirname "$0")" && pwd)"
out="${OUT:-$here/out}"
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
LOWRANK_DRIVER="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -1)"
export LOWRANK_COMMIT LOWRANK_DRIVER
echo "{\"kind\":\"machine\",\"commit\":\"$LOWRANK_COMMIT\",\"at\":\"$(date -u +%Y%m%dT%H%M%S)\",\"gpu\":\"$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv,noheader 2>/dev/null | head -1)\",\"cpu\":\"$(nproc) cores\"}" >>"$out/machine.jsonl"
status=0

one() {
  local features="$1"
  [ "$features" = robust ] && export WEBGPU_ROBUST=1 && features=auto
  export WEBGPU_FEATURES="$features"
  LOWRANK_RECORD="$out/tests-$1.jsonl" "$node" "$here/conformance-webgpu.mjs" >"$out/conformance-$1.log" 2>&1
  local code=$?
  gzip -f "$out/tests-$1.jsonl"
  return $code
}

conformance() {
  local pids=() names=("$@")
  [ $# = 0 ] && names=(auto robust portable shader-f16 subgroups)
  for name in "${names[@]}"; do (one "$name") & pids+=($!); done
  for i in "${!pids[@]}"; do
    wait "${pids[$i]}" || status=1
    echo "== ${names[$i]}"
    head -1 "$out/conformance-${names[$i]}.log"
    grep -A1 -m 40 FAILED "$out/conformance-${names[$i]}.log" | cut -c1-300
    tail -1 "$out/conformance-${names[$i]}.log"
  done
}

faults() {
  "$node" "$here/faults-webgpu.mjs" oom 2>&1 | tail -3 | tee -a "$out/faults.jsonl"
  local clean=0 thrown=0
  for _ in $(seq 50); do
    "$node" "$here/faults-webgpu.mjs" exit >/tmp/ended 2>&1 && grep -q enqueued /tmp/ended && clean=$((clean + 1))
  done
  for _ in $(seq 10); do
    "$node" "$here/faults-webgpu.mjs" throw >/tmp/ended 2>&1
    [ $? = 1 ] && grep -q 'on purpose' /tmp/ended && thrown=$((thrown + 1))
  done
  echo "{\"name\":\"ends with work in flight\",\"commit\":\"$LOWRANK_COMMIT\",\"exit\":\"$clean of 50\",\"uncaught\":\"$thrown of 10\"}" | tee -a "$out/faults.jsonl"
}

case "${1:-all}" in
  all)
    conformance
    faults
    "$node" "$here/ops.mjs" --out="$out/ops.jsonl"
    "$node" "$here/steps-main.mjs" --backend webgpu --dtype f16 --cases smol-qlora-8x512,1b-qlora-1x512 --out "$out/steps.jsonl"
    ;;
  conformance) shift; conformance "$@" ;;
  faults) faults ;;
  *) name="$1"; shift; "$node" "$here/$name.mjs" "$@" 2>&1; status=$? ;;
esac
exit "$status"
