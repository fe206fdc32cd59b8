#!/bin/sh
# The machine as the side that reads a model's weights once, as many bytes as `vlmc` says that they have:
# read.sh THREADS LEFT-OUT-MB OPTION-OF-VLMC... (left out: tables of which a step looks up a row or two)
threads=$1 without=$2 build=${BUILD:-build}
shift 2
size=$("$build/vlmc" "$@" --emit=memory | awk -v without="$without" '
  / (parameters|packed weights)$/ {total += $1 * ($2 == "GiB" ? 1024 : $2 == "KiB" ? 1 / 1024 : 1)}
  END {print total * 1.048576 - without}')
exec "$build/bench/machine" read "$size" "$threads"
