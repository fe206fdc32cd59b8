#!/bin/sh
# Coverage-guided fuzzing of every reader of foreign input, under the address and undefined-behaviour sanitizers:
# tests/fuzz/run.sh [SECONDS [TARGET ...]]. Where the published suites of pictures are ($VLMC_TEST_DATA, else
# ../shared/data), they are seeds too. New inputs stay in build/fuzz; what fails is left in build/fuzz/found.
set -eu
seconds=${1:-60} LIBS=${LIBS:?"make fuzz says which libraries to link"}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- $(for file in tests/fuzz/fuzz_*.c; do basename "$file" .c | sed 's/^fuzz_//'; done)
flags="-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
make -s BUILD=build/fuzz CC=clang CFLAGS="$flags" WARNINGS=-std=c11 build/fuzz/libvlmc.a
mkdir -p build/fuzz/found build/fuzz/suites
data=${VLMC_TEST_DATA:-../shared/data} suites=build/fuzz/suites
for archive in "$data"/pngsuite/pngsuite.tar.xz "$data"/jpeg/*.tar; do
  [ ! -e "$archive" ] || tar -xf "$archive" -C "$suites"
done
find "$suites" -type f ! -name '*.png' ! -name '*.jp*g' -delete
failed=0
for target in "$@"; do
  clang -std=c11 -D_GNU_SOURCE -I. -Ibuild/fuzz -O1 -g -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=undefined -o "build/fuzz/fuzz_$target" "tests/fuzz/fuzz_$target.c" build/fuzz/libvlmc.a $LIBS
  mkdir -p "build/fuzz/new/$target"
  seeds=tests/fuzz/corpus/$target
  [ "$target" != language ] || seeds="$seeds models stdlib tests/errors"
  [ "$target" != picture ] || seeds="$seeds $suites" # libFuzzer reads the folders inside of it too
  printf '%s: %s s\n' "$target" "$seconds"
  "build/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3000 -max_len=16384 -verbosity=0 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/found/$target-" "build/fuzz/new/$target" $seeds ||
    failed=$((failed + 1))
done
[ "$failed" -eq 0 ] || { echo "fuzz: $failed targets failed; see build/fuzz/found" >&2; exit 1; }
