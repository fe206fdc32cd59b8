#!/bin/sh
# make bench-peers: what we are beside what a user could pick instead, each measured in turns in one run (rounds.c).
#
#   sh tests/bench/peers.sh [ROW...]     only rows whose name, as it is printed, or family holds one of the words
#
# Prints the rows as `make bench` does and puts them into RESULTS.md, in place of those of the same name; rows that are
# not asked for stay, each with its date. A peer that is not here leaves its rows as they were, or unmeasured with the
# reason. Which rows there are: peers/rows.sh. From outside:
#
#   PEERS_PYTHON   a Python with PyTorch, ONNX Runtime and gguf (default: what peers/setup.sh made)
#   LLAMA_CPP      folder with the programs and libraries of a build of llama.cpp
#   LLM_C          a checkout of llm.c
#   ROUNDS         at least 5
#   RESULTS, PEER_ROWS  another table, other rows
set -u
cd "$(dirname "$0")/../.." || exit 2
build=${BUILD:-build} results=${RESULTS:-tests/bench/RESULTS.md} peers=tests/bench/peers tab='	'
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
printf '%s\n' "$@" | sed '/^$/d' >"$work/wanted"
: >"$work/table"

# ---- what rows.sh says: groups of sides that are measured together, and the rows made of them

family() { family=$1; }
group() { : >"$work/sides"; : >"$work/rows"; }
# side NAME PEER VERSION COMMAND...: PEER as the table calls it; the VERSION, if any, stands behind the date
side() { name=$1 peer=$2 version=$3; shift 3; printf '%s\t%s\t%s\t%s\n' "$name" "$peer" "$version" "$*" >>"$work/sides"; }
# row WHAT OURS OTHER REACH [TIMES [UNIT]]: the ratio is TIMES the other's milliseconds (or MiB) by ours. OTHER may be a
# number, =250, that ours is not to exceed.
row() { printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$family" "$1" "$2" "$3" "$4" "${5:-1}" "${6:-ms}" >>"$work/rows"; }

# Rows that are asked for, and of these the sides.
choose() {
  awk -F '\t' -v OFS='\t' '
    FILENAME ~ /wanted$/ {wanted[++words] = $0; next}
    FILENAME ~ /sides$/ {peer[$1] = $2; next}
    {line = $1 ": " $2 ", " $7 ", against " (substr($4, 1, 1) == "=" ? "limit" : peer[$4]); chosen = !words
     for (i = 1; i <= words; i++) if (index(line, wanted[i])) chosen = 1
     if (chosen) print}' "$work/wanted" "$work/sides" "$work/rows" >"$work/chosen"
  awk -F '\t' -v OFS='\t' '
    FILENAME ~ /chosen$/ {needed[$3]; needed[$4]; next}
    $1 in needed {print $1, $4}' "$work/chosen" "$work/sides" >"$work/needed"
}

# Measures the group and adds its rows to the table: family, what, peer, ours, other, ratio, reach, verdict, when or why.
measure() {
  choose
  : >"$work/measured"
  [ ! -s "$work/needed" ] || "$build/bench/rounds" "${ROUNDS:-5}" <"$work/needed" >"$work/measured" || return
  awk -F '\t' -v OFS='\t' -v stamp="$stamp" '
    function figure(x) {return sprintf(x < 10 ? "%.2f" : x < 100 ? "%.1f" : "%.0f", x)}
    FILENAME ~ /sides$/ {peer[$1] = $2; version[$1] = $3 == "" ? "" : ", " $3; next}
    FILENAME ~ /measured$/ {time[$1] = $2; mib[$1] = $3; next}
    FILENAME ~ /chosen$/ {chosen[$0]; next}
    {against = substr($4, 1, 1) == "=" ? "limit" : peer[$4]
     what = $2 ", " $7
     if (!($0 in chosen)) {print $1, what, against, "", "", "", $5, "kept", ""; next}
     ours = time[$3]; other = against == "limit" ? substr($4, 2) : time[$4]
     if (ours == "-" || other == "-") {
       print $1, what, against, "-", "-", "-", $5, (ours == "-" ? "failed" : "unmeasured"), (ours == "-" ? mib[$3] : mib[$4]); next}
     if ($7 == "MiB") {ours = mib[$3]; if (against != "limit") other = mib[$4]}
     other *= $6; ratio = other / ours
     print $1, what, against, figure(ours), figure(other), sprintf("%.2f", ratio), $5, (ratio >= $5 ? "ok" : "short"), stamp version[$4]
    }' "$work/sides" "$work/measured" "$work/chosen" "$work/rows" >"$work/group"
  awk -F '\t' -v OFS='\t' '$8 != "kept" {print $2 ", against " $3, $4, $5, $6, $7, $8 ($8 ~ /^(ok|short)$/ ? "" : ": " $9)}' "$work/group"
  cat "$work/group" >>"$work/table"
}

# ---- the table

processor() { sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1; }
features() { for feature in avx2 fma avx512f avx512_vnni avx512_bf16 amx_tile asimd sve; do
  grep -qwE "(flags|Features).*$feature" /proc/cpuinfo && printf ' %s' "$feature"; done; }
machine="$(processor), $(nproc) cores,$(features), $(awk '/^MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo)"
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD -- . ":!$results" 2>/dev/null || commit="$commit+"
stamp="$(date -u +%Y-%m-%d) $commit"

# Rows that this run did not make keep what the table has of them, if it is of this machine.
write_table() {
  old=/dev/null
  [ ! -e "$results" ] || { grep -qxF "Machine: $machine." "$results" && old=$results; } || echo "$results is of another machine: it begins anew" >&2
  {
    cat <<END
# What we are beside what a user could pick instead

Written by \`make bench-peers\` (tests/bench/peers.sh), never by hand. Both sides of a row run in turns in one run,
medians of at least 5 rounds; a ratio of at least \`reach\` is ok. \`limit\` is a time that ours is not to exceed,
\`machine\` what loops that do nothing else need for the same FLOPs or bytes.

Machine: $machine.
System: $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), Linux $(uname -r), $(${CC:-cc} --version | head -n 1), LLVM $(${LLVM:-llvm-config-19} --version 2>/dev/null || echo unknown).

| what | against | ours | other | ratio | reach | | measured |
|---|---|---|---|---|---|---|---|
END
    awk -v old="$old" '
      BEGIN {
        while ((getline line < old) > 0)
          if (split(line, cell, / *\| */) == 10) seen[cell[2] "\t" cell[3]] = line
        FS = "\t"}
      {key = $2 "\t" $3
       measured = $8 == "ok" || $8 == "short"
       was = (key in seen) && seen[key] !~ /\| unmeasured \|/
       if (!measured && $8 != "failed" && was) print seen[key]
       else if ($8 == "kept") printf "| %s | %s | - | - | - | %s | unmeasured | not asked for yet |\n", $2, $3, $7
       else printf "| %s | %s | %s | %s | %s | %s | %s | %s |\n", $2, $3, $4, $5, $6, $7, $8, $9}' "$work/table"
  } >"$results.new" && mv "$results.new" "$results"
}

printf 'name\tours\tother\tratio\treach\n'
. "${PEER_ROWS:-$peers/rows.sh}"
write_table
echo "$(grep -c "${tab}ok$tab" "$work/table") ok, $(grep -c "${tab}short$tab" "$work/table") short, in $results"
! grep -q "${tab}failed$tab" "$work/table"
