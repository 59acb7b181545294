#!/usr/bin/env bash
# Runs the packed suite and measurements on this machine's GPU. Records go to $OUT (or out/ beside this file) as JSON lines, each with the
# commit, the machine and the command that made it.
#   run.sh                  conformance, then measurements
#   run.sh conformance [FILTER [PARTS]]     tests whose names hold FILTER; PARTS processes share them
#   run.sh sanitize TOOL [FILTER [PARTS]]   the same under compute-sanitizer (memcheck, racecheck, initcheck, synccheck)
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
# shared NAME FILTER PARTS [COMMAND …]: PARTS processes share the conformance suite, each run by COMMAND; their output in NAME-PART.log
shared() {
  local name="$1" filter="$2" parts="$3" pids="" part pid
  shift 3
  for part in $(seq "$parts"); do
    LOWRANK_FILTER="$filter" LOWRANK_SHARD="$part/$parts" LOWRANK_RECORD="$out/$name-$part.tests" \
      "$@" "$node" "$here/conformance.mjs" >"$out/$name-$part.log" 2>&1 &
    pids="$pids $!"
  done
  for pid in $pids; do wait "$pid" || status=$?; done
}
counted() { cat "$out/$1"-*.tests | grep -c "\"status\":\"$2\""; }
conformance() {
  local filter="${1:-}" parts="${2:-1}"
  shared conformance "$filter" "$parts"
  cat "$out"/conformance-*.log
  echo "{\"kind\":\"suite\",\"name\":\"conformance\",\"filter\":\"$filter\",\"parts\":$parts,\"exit\":$status,\"passed\":$(counted conformance passed),\"failed\":$(counted conformance failed),\"skipped\":$(counted conformance skipped)}" | tee -a "$out/conformance.jsonl"
  rm -f "$out"/conformance-*.tests
}
selfcheck() { "$node" "$here/selfcheck.mjs" "$out/selfcheck.jsonl" "$@" 2>&1 | tee "$out/selfcheck.log"; [ "${PIPESTATUS[0]}" = 0 ] || status=1; }
case "${1:-all}" in
  all) conformance; selfcheck ;;
  conformance | selfcheck) "$@" ;;
  sanitize) # TOOL [FILTER [PARTS]]
    tool="${2:-memcheck}" filter="${3:-}" parts="${4:-1}"
    # Writes of the bulk copy engine are not seen by initcheck: see conformance.ts.
    [ "$tool" != initcheck ] || export LOWRANK_MARK=1
    shared "sanitize-$tool" "$filter" "$parts" compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20
    cat "$out/sanitize-$tool"-*.log | grep -E "passed|=========.*(Invalid|SUMMARY|Race|Uninit|hazard|error)" | sort | uniq -c | sort -rn | head -40
    passed=$(counted "sanitize-$tool" passed)
    # "ERROR SUMMARY: 3 errors", "RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)"
    findings=$(cat "$out/sanitize-$tool"-*.log | sed -nE 's/.*SUMMARY: ([0-9]+) (errors?|hazards? displayed.*)$/\1/p' | awk '{ n += $1 } END { print n + 0 }')
    ended=$(grep -l 'SUMMARY' "$out/sanitize-$tool"-*.log | wc -l)
    [ "$ended" = "$parts" ] || { echo "sanitize: only $ended of $parts parts ended" && status=1; }
    echo "{\"kind\":\"sanitize\",\"tool\":\"$tool\",\"filter\":\"$filter\",\"passed\":$passed,\"findings\":$findings,\"parts\":$parts,\"ended\":$ended,\"exit\":$status}" >>"$out/sanitize.jsonl"
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
