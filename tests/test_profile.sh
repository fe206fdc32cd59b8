#!/bin/sh
# --profile from outside: columns, order and sums of its table for every program, on one thread and on two, and what it
# refuses. That of train, eval and chat: test_train.sh. Input: $BUILD/vlmc; output: FAILED lines and the closing line.
. "$(dirname "$0")/shell.sh"
gpt="models/gpt.vlm --preset tiny -D depth=1 --length 20"
refuses() { # PATTERN ARGUMENT...
  pattern=$1
  shift
  wants 1 "vlmc $*" "$vlmc" "$@" && holds "vlmc $*" err "error: .*($pattern)"
}
table() { # NAME: the profile in $here/out
  holds "$1" out '^kernel +calls +ms +share +GFLOP/s +GB/s +of roof +bound by +anchor +model lines$'
  # Rows of kernels are sorted by time; they and the time between them are the whole run.
  awk '/^kernel / {inside = 1; next}
    /^all kernels / {inside = 0; all = $5; next}
    /^between kernels / {between = $4; next}
    /^a run / {whole = $4; next}
    inside {rows++; sum += $4; if (rows > 1 && $3 > last + 0) exit 1; last = $3}
    END {if (!rows) exit 2
      if (sum - all > 0.01 * rows || all - sum > 0.01 * rows) exit 3
      if (all + between > 100.02 || all + between < 99.98 || whole != "100.00%") exit 4}' "$here/out"
  status=$?
  if [ $status = 0 ]; then pass; else fail "$1: its rows do not add up ($status)" "$(cat "$here/out")"; fi
  if grep -q 'no roofline' "$here/out"; then
    skip "$1: no roofline on this machine"
  else
    holds "$1" out '^at most, on [0-9]+ threads?: [0-9]+ GFLOP/s \([A-Z0-9-]+\), of bf16 [0-9]+, .* GB/s in memory, a launch [0-9.]+ us$'
    holds "$1" out '^blocks_[a-z]+_Linear.* +[0-9.]+% (compute|memory\*?|cache|launch) +dot +[a-zA-Z0-9/._]+:[0-9]+'
  fi
}
for case in "1 train" "1 decode" "2 forward" "2 loss" "2 train" "2 prefill" "2 decode"; do
  name="${case#* } on ${case% *}"
  good "$name" "$vlmc" $gpt --threads ${case% *} --program ${case#* } --batch 3 --profile && table "$name"
done
holds "decode" out '^decode, B=3 T=1 P=19: mean of [0-9]+ runs, [0-9.]+ ms each$'
good "apply" "$vlmc" $gpt -D text.accumulate=2 --program apply --profile && holds "apply" out '^all kernels '
good "-o FILE" "$vlmc" $gpt --program forward --profile -o "$here/table" && holds "-o FILE" table '^a run .* 100.00%$'
good "target ref" "$vlmc" models/gpt.vlm --preset tiny -D depth=1 -D width=8 -D heads=1 --length 2 --batch 1 --program forward --target ref --profile &&
  holds "target ref" out '^a run '
good "a graph" "$vlmc" $gpt --program forward --emit=graph -o "$here/gpt.graph"
good "a graph" "$vlmc" "$here/gpt.graph" --length 20 --profile && table "a graph"
good "kernels" "$vlmc" $gpt --program forward --emit=kernels -o "$here/gpt.kernels"
refuses 'holds kernels alone' "$here/gpt.kernels" --profile
refuses 'one at a time' $gpt --profile --emit=graph
refuses 'one at a time' $gpt --profile --explain=fusion
refuses 'stop-after=fuse ends before' $gpt --profile --stop-after fuse
refuses 'not an option of `check`' check models/gpt.vlm --profile
finish
