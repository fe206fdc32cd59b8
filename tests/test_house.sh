#!/bin/sh
# The invariants of ARCHITECTURE.md that a machine can check. Prints what breaks them, ends like every test.
passed=0 failed=0
check() { # name, offenders (empty: good)
  if [ -z "$2" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED $1:"; echo "$2" | head -n 10; fi
}
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
check "every pass of the table is one file or one function" "$(for p in dead simplify cse gradient optimizer weights precision derive; do [ -f compiler/graph/passes/$p.c ] || echo "$p"; done)"
# Functions over 80 lines, but for a switch or table of short cases.
check "functions have at most 80 lines" "$(sources | grep '\.c$' | while read -r f; do
  awk -v f="$f" '/^[A-Za-z_].*\{[ \t]*$/ && !/^(struct|union|enum|typedef)/ && /\(/ {start = NR; head = $0; cases = 0}
       /^[ \t]*case / {cases++}
       /^\}/ {if (start && NR - start > 80 && cases * 4 < NR - start) printf "%s:%d %d lines: %s\n", f, start, NR - start, substr(head, 1, 60); start = 0}' "$f"; done)"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
