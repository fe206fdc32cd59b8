#!/bin/sh
# The invariants of ARCHITECTURE.md that a machine can check. Prints what breaks them, ends like every test.
unbuilt=fine
. "$(dirname "$0")/shell.sh"
check() { if [ -z "$2" ]; then pass; else fail "$1" "$2"; fi; } # NAME OFFENDERS (empty: good)
sources() { find compiler runtime -name '*.[chly]' -o -name '*.def' | grep -v '^build'; }
# includes FOLDER-PATTERN FORBIDDEN-PATTERN: files of the folder that include what they may not
includes() { grep -rnE "^#include \"($2)" $1 2>/dev/null; }

check "the runtime includes nothing of the compiler" "$(includes runtime 'compiler/')"
check "base includes nothing above it" "$(grep -rnE '^#include "' runtime/base | grep -v '"runtime/base/')"
check "syntax knows no graph, kernel or runtime" "$(includes compiler/syntax 'compiler/(elaborate|graph|lower|kernel|emit)|runtime/([a-z_]+\.|tokenizer/|weights/)')"
check "the graph knows neither syntax nor loops" "$(includes compiler/graph 'compiler/(syntax|elaborate|lower|kernel|emit)|runtime/([a-z_]+\.|tokenizer/|weights/)')"
check "kernels know no graph" "$(includes compiler/kernel 'compiler/(syntax|elaborate|graph|lower|emit)')"
check "emitters never see a graph" "$(includes compiler/emit 'compiler/(syntax|elaborate|graph|lower)')"
check "elaborate makes graphs, no kernels" "$(includes compiler/elaborate 'compiler/(lower|kernel|emit)')"
check "LLVM's headers only in the LLVM backend" "$(grep -rnE '^#include <llvm' compiler runtime | grep -v '^compiler/emit/llvm_')"
check "no CUDA headers anywhere: its functions are found at run time" "$(grep -rnE '^#include <(cuda|nvrtc)' compiler runtime)"
check "an emitter asks for no model operation" "$(grep -rnwE 'OP_[A-Z]+' compiler/emit compiler/kernel)"
check "nothing unfinished" "$(sources | xargs grep -nE '\b(TODO|FIXME|XXX|HACK)\b')"
check "files have at most 800 lines" "$(sources | xargs wc -l | awk '$1 > 800 && $2 != "total" {print}')"
check "every file says first what it is" "$(sources | while read -r f; do head -n 3 "$f" | grep -qE '//|/\*' || echo "$f"; done)"
# The rows of the pipeline's table: what vlmc lists, each run by the function of its name, which a file or a folder holds
# or which is made of others. And each file of graph passes holds the function of its name, declared with its needs.
table() { sed -n '/^static const Pass passes/,/^};/s/^ *{"\([a-z]*\)", [^,]*, \([a-z_]*\),.*/\1 \2/p' compiler/pipeline.c; }
check "the table of passes can be read" "$(table | grep -qx 'elaborate run_elaborate' && table | grep -qx 'emit run_emit' || echo compiler/pipeline.c)"
check "every pass of the table is one file, one folder, or made of others" "$(table | while read -r pass run; do
  [ "$run" = "run_$pass" ] || echo "$pass: $run"
  [ -z "$(find compiler -name "$pass.c" -o -type d -name "$pass")" ] || continue
  sed -n "/^static bool $run(/,/^}/p" compiler/pipeline.c | grep -qE "\b($(table | cut -d ' ' -f 1 | tr '\n' '|')none)\(" || echo "$pass"
done)"
check "every file of graph passes holds the pass of its name" "$(grep -l '"compiler/graph/passes/passes.h"' compiler/graph/passes/*.c | while read -r f; do
  pass=$(basename "$f" .c)
  grep -q "^// $pass\.c: " compiler/graph/passes/passes.h && grep -q "^Graph \*$pass(" compiler/graph/passes/passes.h && grep -q "^Graph \*$pass(" "$f" || echo "$f"
done)"
if [ -x "$vlmc" ]; then
  "$vlmc" --list-passes | sed 's/ .*//' >"$here/listed"
  check "vlmc --list-passes has the table's rows" "$(table | sed 's/ .*//' | diff "$here/listed" -)"
else
  skip "vlmc --list-passes: there is no $vlmc"
fi

# Functions over 80 lines, from the first of their signature to the closing brace, but for a switch of short cases.
long_functions() { # FILE...
  awk 'FNR == 1 || (/^[A-Za-z_]/ && !open) {start = open = 0}
    /^[A-Za-z_].*\(/ && !/=/ && !/^(struct|union|enum|typedef)/ {start = FNR; cases = open = 0; head = substr($0, 1, 60)}
    start && !open && /[;}][ \t]*(\/\/.*)?$/ {start = 0}
    start && /\{[ \t]*(\/\/.*)?$/ {open = 1}
    /^[ \t]*case / {cases++}
    /^\}/ {lines = FNR - start + 1
      if (open && lines > 80 && cases * 4 < lines) printf "%s:%d %d lines: %s\n", FILENAME, start, lines, head
      start = open = 0}' "$@"
}
check "functions have at most 80 lines" "$(long_functions $(sources | grep '\.[ch]$'))"
function_of() { echo "static int planted(int a,"; echo "                   int b) { // why"; seq -f "  a += %.0f;" $(($1 - 3)); echo "}"; }
{ function_of 80; echo "static int short(void) { return 1; }"; function_of 81; } >"$here/planted.c"
check "a function of 81 lines is seen, whatever its signature" "$(long_functions "$here/planted.c" | grep -q '^[^ ]*:82 81 lines' || long_functions "$here/planted.c" || echo none)"
check "one of 80 is not" "$(long_functions "$here/planted.c" | grep ' 80 lines')"

# What run.sh makes of tests that end in other ways than they say.
suite() { # STATUS LINE WANTED-LINE
  printf 'echo "%s"\nexit %s\n' "$2" "$1" >"$here/tests/test_planted.sh"
  last=$(BUILD=$here sh tests/run.sh "$here/tests/test_planted.sh" | tail -n 1)
  [ "$last" = "$3" ] || echo "status $1 after \"$2\": $last"
}
mkdir "$here/tests"
check "run.sh counts what a test's status says beside its closing line" "$(
  suite 0 "5 passed, 0 failed, 1 skipped" "5 passed, 0 failed, 1 skipped"
  suite 1 "5 passed, 0 failed" "5 passed, 1 failed"
  suite 1 "5 passed, 2 failed" "5 passed, 2 failed"
  suite 139 "5 passed, 2 failed" "5 passed, 3 failed"
  suite 0 "no closing line" "0 passed, 1 failed"
)"

# What peers.sh makes of sides that speak as tests/bench/side.h says: rows, reasons, and a table in which a run of some
# rows leaves the others.
if [ -x "${BUILD:-build}/bench/rounds" ]; then
  cat >"$here/rows.sh" <<'END'
fake() { side "$1" "$2" "$3" "sh -c 'echo ready; while read n; do echo $4; done'"; }
family first
group
fake ours vlmc "" ${OURS:-2}
fake slow "Tortoise hasty" "Tortoise 1.2" 5
fake quick Hare "" 1
side gone Dodo "" echo absent extinct
row "a race" ours slow 1.50
row "a race" ours quick 0.75
row "a race" ours gone 1.00
row "a race against time" ours =4 1.00 2
measure
family second
group
side broken vlmc "" "sh -c 'echo it broke >&2'"
fake other Hare "" 1
row "a fall" broken other 1.00
measure
END
  race() { BUILD=${BUILD:-build} PEER_ROWS=$here/rows.sh RESULTS=$here/results.md sh tests/bench/peers.sh "$@" >"$here/race" 2>&1; }
  cell() { awk -F ' *[|] *' -v what="$1" -v against="$2" '$2 == what && $3 == against {print $4, $5, $6, $8}' "$here/results.md"; }
  is() { [ "$1" = "$2" ] || echo "\`$1\`, not \`$2\`"; }
  check "peers.sh tells of a side that failed" "$(race && echo "no failure")"
  check "peers.sh writes a row for every pair" "$(
    is "$(cell "a race, ms" "Tortoise hasty")" "2.00 5.00 2.50 ok"
    is "$(cell "a race, ms" Hare)" "2.00 1.00 0.50 short"
    is "$(cell "a race against time, ms" limit)" "2.00 8.00 4.00 ok"
    is "$(cell "a race, ms" Dodo)" "- - - unmeasured"
    is "$(cell "a fall, ms" Hare)" "- - - failed"
    grep -q "| extinct |" "$here/results.md" || echo "no reason of the absent"
    grep -q "| it broke |" "$here/results.md" || echo "no reason of the failed"
    grep -qE "Tortoise hasty .* [0-9-]{10} .*, Tortoise 1.2 \|" "$here/results.md" || echo "no date and version")"
  OURS=1 race "against Hare" first:
  check "a run of some rows leaves the others" "$(
    is "$(cell "a race, ms" Hare)" "1.00 1.00 1.00 ok"
    is "$(cell "a race, ms" "Tortoise hasty")" "1.00 5.00 5.00 ok")"
  OURS=4 race "a race, ms, against Tortoise"
  check "a run of one row leaves the others of its group" "$(
    is "$(cell "a race, ms" "Tortoise hasty")" "4.00 5.00 1.25 short"
    is "$(cell "a race, ms" Hare)" "1.00 1.00 1.00 ok"
    is "$(cell "a fall, ms" Hare)" "- - - failed"
    is "$(grep -c '^| ' "$here/results.md")" 6)"
else
  skip "peers.sh: there is no ${BUILD:-build}/bench/rounds"
fi
finish
