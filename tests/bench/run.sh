#!/bin/sh
# make bench: what we are beside what we want to be, as ratios measured in one run. A row each, tab-separated:
#
#   name  ours  other  ratio  reach  ok|short
#
# A ratio of at least `reach` is ok. Where less is better (time), the ratio is the limit by ours. Ends with 1 where
# something could not be measured.
set -u
build=${BUILD:-build}
vlmc=$build/vlmc
rows=$(mktemp) || exit 2
trap 'rm -f "$rows"' EXIT

now() { date +%s%N; }
# limit NAME MOST-MILLISECONDS REPEATS COMMAND...: the median of the repeats; a failing command has no row
limit() {
  name=$1 most=$2 repeats=$3
  shift 3
  for round in $(seq 0 "$repeats"); do
    start=$(now)
    "$@" >/dev/null || { echo "bench: $* failed" >&2; return 1; }
    end=$(now)
    [ "$round" -eq 0 ] || echo $(((end - start) / 1000)) # the first reads the program from the disk
  done | sort -n | awk -v name="$name" -v most="$most" '
    {times[NR] = $1}
    END {if (!NR) {printf "%s\t-\t%.1f\t0\t1.00\tshort\n", name, most; exit}
         ours = times[int((NR + 1) / 2)] / 1000; ratio = most / ours
         printf "%s\t%.1f\t%.1f\t%.3f\t1.00\t%s\n", name, ours, most, ratio, (ratio >= 1 ? "ok" : "short")}'
}
show() { tee -a "$rows"; }

printf 'name\tours\tother\tratio\treach\n'
limit "vlmc --help, ms" 20 15 "$vlmc" --help | show
limit "cold compile of the demo's largest step, ms" 1000 3 "$vlmc" models/clip.vlm --preset fashion --stage contrast --cache-dir none | show
for step in "clip fashion contrast" "gpt fashion text" "vlm fashion pretrain" "vlm fashion sft"; do
  set -- $step
  { "$build/bench/bench_memory" "models/$1.vlm" "$2" "$3" || printf 'memory of %s\t-\t-\t0\t0.98\tshort\n' "$step"; } | show
done
for program in "$build"/bench/bench_*; do
  case $program in *.d | *.o | */bench_memory) continue ;; esac
  "$program" | show
done

echo "$(grep -c '	ok$' "$rows") ok, $(grep -c '	short$' "$rows") short"
! grep -q '	-	' "$rows"
