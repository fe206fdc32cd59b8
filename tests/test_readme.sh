#!/bin/sh
# README.md and docs/tour.md tell the truth: their commands are run, and what they quote is what comes out.
#
#   sh tests/test_readme.sh             input: $BUILD/vlmc and the documents; output: FAILED lines, the closing line
#   UPDATE=1 sh tests/test_readme.sh    rewrites docs/architecture.svg and the quoted output that no longer holds
#   UPDATE=all sh tests/test_readme.sh  and the times and losses
#
# A fenced block of `sh` is run; a block of `text` right after it is its output. `<!-- varies -->` over the `text`
# says that it holds times, which differ from run to run, and losses, which sums in another order change: times are
# not compared then, losses may be half as much again. Lines of progress are left out. Calls of make are only looked
# up in the Makefile. For runs/demo a checkpoint of two steps stands in: its answers and figures are not compared.
# Skipped: what needs the pictures or NVRTC where these are not installed. What commands write stands in runs/. Blocks
# of `vlm` quote models/ or stdlib/, line by line. The Chinese documents have the same blocks. TIMES=1 times the blocks.
. "$(dirname "$0")/shell.sh"
root=$(pwd)
pictures=/usr/share/datasets/fashion-mnist

# blocks FILE FOLDER: block n becomes FOLDER/n.sh with FOLDER/n.text, FOLDER/n.varies, FOLDER/n.line; or FOLDER/n.vlm
blocks() {
  mkdir -p "$2"
  awk -v folder="$2" '
    /^<!-- varies -->$/ { varies = 1; next }
    !inside && /^```/ {
      kind = substr($0, 4)
      if (kind != "text") { n = sprintf("%02d", ++count); after = kind == "sh" } else if (!after) kind = "ignored"
      name = folder "/" n "." kind
      if (kind == "sh" || kind == "vlm") print NR > (folder "/" n ".line")
      if (kind == "text" && varies) printf "" > (folder "/" n ".varies")
      printf "" > name
      inside = 1; varies = 0
      next
    }
    /^```/ { close(name); inside = 0; if (kind == "text") after = 0; next }
    inside { print > name; next }
    NF { after = 0; varies = 0 }' "$1"
}

# replace FILE FOLDER: FILE with every output block n as FOLDER/n.got has it, where that exists
replace() {
  awk -v folder="$2" '
    !inside && /^```/ {
      print
      inside = 1; skipping = 0
      if ($0 == "```sh") { n = sprintf("%02d", ++count); after = 1 }
      else if ($0 != "```text") { count++; after = 0 }
      else if (after && (getline line < (folder "/" n ".got")) > 0) {
        do print line; while ((getline line < (folder "/" n ".got")) > 0)
        skipping = 1
      }
      next
    }
    /^```/ { inside = 0; skipping = 0 }
    !skipping' "$1" >"$here/replaced" && cat "$here/replaced" >"$1"
}

# in a second, what the commands that name runs/demo need
pretend_demo() {
  mkdir -p runs/demo && cp -r "$here/data" runs/demo/data || return
  build/vlmc train models/vlm.vlm --preset fashion --stage sft --data runs/demo/data --out runs/demo/sft \
    --steps 2 -D sft.batch=8 --quiet
}

# what two outputs must share where times and losses vary, and the losses
words() { sed -E 's/[0-9.]+ (ms|s|tokens\/s)\b/N \1/g; s/loss [0-9.]+/loss N/g' "$1"; }
losses() { sed -nE 's/.*loss ([0-9]+\.[0-9]+).*/\1/p' "$1"; }
form() { grep -E '^\[|%|/s' "$1" | sed -E 's/[0-9.]+/N/g; s/ +/ /g'; }
near() { # FILE FILE
  losses "$1" >"$here/one" && losses "$2" >"$here/two"
  paste -d ' ' "$here/one" "$here/two" | awk '$1 > 1.5 * $2 || $2 > 1.5 * $1 { print "loss", $1, "is not near", $2; bad = 1 } END { exit bad }'
}

same_output() { # BLOCK without its ending
  if [ "${UPDATE:-}" = all ]; then return 1; fi
  if [ -e "$1.varies" ]; then
    near "$1.text" "$1.got" || return 1
    words "$1.text" >"$here/wanted" && words "$1.got" >"$here/seen"
  else
    cp "$1.text" "$here/wanted" && cp "$1.got" "$here/seen"
  fi
  diff "$here/wanted" "$here/seen"
}

run_block() { # FILE BLOCK
  place="$1:$(cat "$2.line")"
  if grep -qE '^(sudo )?make' "$2.sh"; then
    for target in $(sed -nE 's/^(sudo )?make ([a-z]+).*/\2/p' "$2.sh"); do
      if grep -q "^$target:" "$root/Makefile"; then pass; else fail "$place: there is no make $target"; fi
    done
    return
  fi
  if [ ! -d "$here/data" ] && grep -qE 'runs/(data|demo|tour)|fashion-mnist' "$2.sh"; then
    skip "$place: the pictures (dataset-fashion-mnist) are not installed"
    return
  fi
  if grep -q runs/demo "$2.sh" && [ ! -d runs/demo ] && ! pretend_demo >"$here/log" 2>&1; then
    fail "$place: no checkpoint for runs/demo" "$(cat "$here/log")"
    return
  fi

  started=$(date +%s%N)
  timeout 120 sh -e "$2.sh" >"$here/log" 2>&1 </dev/null
  status=$?
  [ -z "${TIMES:-}" ] || echo "$place: $((($(date +%s%N) - started) / 1000000)) ms"
  grep -vE ' step [0-9]+/[0-9]+ .* left' "$here/log" >"$2.got" # without the progress of training
  if grep -q 'needs NVRTC' "$2.got"; then skip "$place: NVRTC is not installed"; rm "$2.got"; return; fi
  if [ $status -ne 0 ]; then fail "$place: status $status" "$(cat "$2.got")"; rm "$2.got"; return; fi
  if [ -e "$2.text" ] && grep -q runs/demo "$2.sh"; then
    form "$2.text" >"$here/wanted" && form "$2.got" >"$here/seen"
    if difference=$(diff "$here/wanted" "$here/seen"); then pass; else fail "$place: other lines are quoted (<) than come out (>)" "$difference"; fi
    rm "$2.got"
    return
  fi
  if [ ! -e "$2.text" ]; then pass; rm "$2.got"; return; fi
  if difference=$(same_output "$2"); then pass; rm "$2.got"; return; fi
  [ -n "${UPDATE:-}" ] || fail "$place: what is quoted (<) is not what comes out (>)" "$difference"
}

quotes() { # FILE BLOCK: every line of it stands in a model or in the library
  lost=$(grep -v '^ *$' "$2" | sed 's/ *$//' | while IFS= read -r line; do
    cat "$root"/models/*.vlm "$root"/stdlib/*.vlm | sed 's/ *$//' | grep -qxF -e "$line" || echo "$line"; done)
  if [ -z "$lost" ]; then pass; else fail "$1:$(cat "${2%.vlm}.line"): not in models/ or stdlib/" "$lost"; fi
}

# fresh copy of what the commands need, so that they leave nothing in the tree
workplace() {
  rm -rf "$here/work" && mkdir -p "$here/work/build" && cd "$here/work" || exit 2
  cp -r "$root/models" "$root/stdlib" "$root/examples" .
  cp "$vlmc" "$(dirname "$vlmc")/vlmc-llvm.so" build/
}

presets() { # FILE: its table of models names all presets of each, but for those of tests and examples
  sed -nE 's/^\| \[[a-z0-9]+\.vlm\]\((models\/[a-z0-9]+\.vlm)\) \|([^|]*)\|.*/\1 \2/p' "$root/$1" >"$here/table"
  while read -r model names; do
    told=$(echo "$names" | tr -d '`' | tr ' ' '\n' | sort)
    there=$(sed -nE 's/^preset ([a-z0-9_]+).*/\1/p' "$root/$model" | grep -vxE 'tiny|fashion|fashion_long|shapes' | sort)
    if [ "$told" = "$there" ]; then pass; else fail "$1: $model has the presets" "$there"; fi
  done <"$here/table"
  if [ "$(wc -l <"$here/table")" -ge 8 ]; then pass; else fail "$1: no table of models"; fi
}

links() { # FILE: what it links to is there
  folder=$(dirname "$root/$1")
  for target in $(sed '/^```/,/^```/d' "$root/$1" | grep -oE '(\]\(|src=")[^)"#]+' | sed -E 's/^(\]\(|src=")//' | grep -v '^https\?:'); do
    if [ -e "$folder/$target" ]; then pass; else fail "$1: links to $target, which is not there"; fi
  done
}

[ ! -d "$pictures" ] || examples/fashion/prepare.sh "$pictures" "$here/data" >/dev/null
for document in README docs/tour; do
  english=$document.md chinese=$document.zh-CN.md one=$here/$document/english two=$here/$document/chinese
  blocks "$english" "$one"
  blocks "$chinese" "$two"
  workplace
  for block in "$one"/*.sh; do run_block "$english" "${block%.sh}"; done
  left=$(ls | grep -vxE 'build|examples|models|runs|stdlib' | tr '\n' ' ')
  if [ -z "$left" ]; then pass; else fail "$english: its commands leave behind: $left"; fi
  cd "$root" || exit 2
  for block in "$one"/*.vlm; do [ ! -e "$block" ] || quotes "$english" "$block"; done
  if [ -n "${UPDATE:-}" ]; then
    replace "$english" "$one"
    replace "$chinese" "$one"
    rm -r "$one" "$two"
    blocks "$english" "$one"
    blocks "$chinese" "$two"
  fi
  rm -f "$one"/*.line "$one"/*.got "$two"/*.line
  if difference=$(diff -r "$one" "$two"); then pass; else fail "$english (<) and $chinese (>) have other blocks" "$difference"; fi
  links "$english"
  links "$chinese"
  [ "$document" != README ] || { presets "$english"; presets "$chinese"; }
done

"$vlmc" draw models/vlm.vlm --stage sft -o "$here/architecture.svg"
[ -z "${UPDATE:-}" ] || cp "$here/architecture.svg" docs/architecture.svg
if cmp -s "$here/architecture.svg" docs/architecture.svg; then pass; else fail "docs/architecture.svg is not what vlmc draw makes"; fi
finish
