#!/usr/bin/env bash
# Runs the packed suite and measurements on this machine's GPU. Records go to $OUT (or out/ beside this file) as JSON lines, each with the
# commit, the machine and the command that made it.
#   run.sh                  conformance, then measurements
#   run.sh conformance      one of them; further words: a filter on names
#   run.sh sanitize TOOL [FILTER [PARTS]]   conformance under compute-sanitizer (memcheck, racecheck, initcheck, synccheck)
#   run.sh profile COUNT NAME …   kernels of NAME.mjs, the first COUNT launches left out, by Nsight Compute: time by kernel, in profile.csv
#   run.sh NAME …           NAME.mjs from this folder
set -u
here="$(cd "$(dirname "$0")" && pwd)"
out="${OUT:-$here/out}"
mkdir -p "$out"
node="${LOWRANK_NODE:-/tmp/lowrank-node}"
[ -x "$node" ] || { xz -dc "$here/node.xz" >"$node.$$" && chmod +x "$node.$$" && mv "$node.$$" "$node"; } || exit 1
export LOWRANK_CUDA_BINARIES="$here/binaries" LOWRANK_CUDA_REAL=1
command="run.sh $*"
# Every line of a record says which commit, machine and command made it.
trap '"$node" "$here/stamp.mjs" "$out" "$(cat "$here/commit")" "$command"' EXIT
status=0
conformance() { LOWRANK_RECORD="$out/conformance.jsonl" LOWRANK_FILTER="${1:-}" "$node" "$here/conformance.mjs" 2>&1 | tee "$out/conformance.log"; [ "${PIPESTATUS[0]}" = 0 ] || status=1; }
selfcheck() { "$node" "$here/selfcheck.mjs" "$out/selfcheck.jsonl" "$@" 2>&1 | tee "$out/selfcheck.log"; [ "${PIPESTATUS[0]}" = 0 ] || status=1; }
case "${1:-all}" in
  all) conformance; selfcheck ;;
  conformance | selfcheck) "$@" ;;
  sanitize) # TOOL [FILTER [PARTS]]: PARTS processes share the suite
    tool="${2:-memcheck}" filter="${3:-}" parts="${4:-1}" pids=""
    for part in $(seq "$parts"); do
      LOWRANK_FILTER="$filter" LOWRANK_SHARD="$part/$parts" LOWRANK_RECORD="$out/sanitize-$tool-$part.tests" \
        compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 "$node" "$here/conformance.mjs" >"$out/sanitize-$tool-$part.log" 2>&1 &
      pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || status=$?; done
    cat "$out/sanitize-$tool"-*.log | grep -E "passed|=========.*(Invalid|SUMMARY|Race|Uninit|hazard|error)" | sort | uniq -c | sort -rn | head -40
    passed=$(cat "$out/sanitize-$tool"-*.tests | grep -c '"status":"passed"')
    echo "{\"kind\":\"sanitize\",\"tool\":\"$tool\",\"filter\":\"$filter\",\"passed\":$passed,\"exit\":$status,\"summaries\":\"$(grep -h SUMMARY "$out/sanitize-$tool"-*.log | sed 's/=* *//' | sort | uniq -c | tr -s ' \n' ' ')\"}" >>"$out/sanitize.jsonl"
    rm -f "$out/sanitize-$tool"-*.tests
    ;;
  profile) # COUNT NAME …
    skip="$2" name="$3"; shift 3
    ncu --clock-control none --graph-profiling node --launch-skip "$skip" --launch-count "${LOWRANK_LAUNCHES:-600}" --metrics gpu__time_duration.sum \
      --csv --log-file "$out/profile.csv" "$node" "$here/$name.mjs" "$@" >"$out/profile.log" 2>&1 || status=$?
    "$node" "$here/profile-table.mjs" "$out/profile.csv" | tee "$out/profile.txt"
    ;;
  *) name="$1"; shift; "$node" "$here/$name.mjs" "$@" 2>&1 | tee "$out/$name.log"; status="${PIPESTATUS[0]}" ;;
esac
exit "$status"
