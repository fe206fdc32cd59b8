#!/bin/sh
# A command as a side of a comparison (side.h): a step is one run of it, from its start to its end. timed.sh COMMAND...
echo ready
while read -r count; do
  for step in $(seq "$count"); do
    start=$(date +%s%N)
    "$@" >/dev/null || { echo "$* failed" >&2; exit 1; }
    echo $(($(date +%s%N) - start))
  done >"${TMPDIR:-/tmp}/timed.$$" || exit 1
  sort -n "${TMPDIR:-/tmp}/timed.$$" | awk '{times[NR] = $1} END {printf "%.6f\n", times[int((NR + 1) / 2)] / 1e6}'
done
rm -f "${TMPDIR:-/tmp}/timed.$$"
