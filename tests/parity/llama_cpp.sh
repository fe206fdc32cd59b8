#!/bin/sh
# Models that vlmc exported, run by llama.cpp: its greedy text and its number of prompt tokens against vlmc's own.
#
#   LLAMA_CPP=DIR [SMOLLM2=FILE.gguf] sh tests/parity/llama_cpp.sh [MODEL.vlm RUN PICTURE PROMPT]
#
# DIR is a build of llama.cpp with llama-completion (or a llama-cli that has its options) and, for pictures,
# llama-mtmd-cli. Without arguments: stories260K of the test data; SmolLM2 (examples/smolvlm/get-weights.sh); two small
# models of LLaVA's shape, trained here for half a minute each to tell pictures of PngSuite apart. With arguments: a model
# with blocks `lm.gguf` and `mmproj`, its training run, a PNG or JPEG of the model's size, and a question.
# Output: a line per comparison. Sums are taken in another order there and its gelu is rounded to f16, so a text whose
# next token was nearly a tie may part; what is expected is that the texts are equal. With weights in blocks it rounds
# activations to 8 bits as well: there the texts have to begin alike. Versions with issue 25814 put CLIP's class token
# behind the patches, so that a model which looks closely (models/llava.vlm) may answer otherwise there.
cd "$(dirname "$0")/../.." || exit 2
[ -n "${LLAMA_CPP:-}" ] || { echo "skipped: LLAMA_CPP names no build of llama.cpp"; exit 0; }
. tests/shell.sh
program() { for name in "$@"; do for at in "$LLAMA_CPP/bin/$name" "$LLAMA_CPP/$name"; do
  [ ! -x "$at" ] || { echo "$at"; return; }; done; done; }
completion=$(program llama-completion llama-cli) pictures=$(program llama-mtmd-cli)
[ -n "$completion" ] || { echo "skipped: neither llama-completion nor llama-cli in $LLAMA_CPP or its bin"; exit 0; }
data=${VLMC_TEST_DATA:-../shared/data}
greedy="--temp 0 -ctk f32 -ctv f32 -fa off -t 2 --no-warmup"

# Text without the white space around it and llama.cpp's mark at its end.
bare() { awk 'BEGIN { RS = "\001" } { sub(/[ \n]+$/, ""); sub(/ *\[end of text\]$/, ""); sub(/^[ \n]+/, ""); print }' "$1"; }
# theirs COMMAND...: $here/theirs and $prompt. What these programs print may be lost where they end: until all is there.
theirs() {
  for try in 1 2 3 4 5 6 7 8; do
    timeout 600 "$@" </dev/null >"$here/out" 2>"$here/err" || { fail "llama.cpp" "$(cat "$here/err")"; return 1; }
    prompt=$(sed -n 's/.*prompt eval time.*\/ *\([0-9]*\) tokens.*/\1/p' "$here/err")
    [ -z "$prompt" ] || [ "$(tail -c 2 "$here/out" | od -An -tx1 | tr -d ' ')" != 0a0a ] || break
  done
  bare "$here/out" >"$here/theirs"
}
# compares BYTES NAME OPTION...: what `vlmc chat` says with these options against what `theirs` got, its first BYTES if
# the texts part somewhere
compares() {
  least=$1 name=$2
  shift 2
  timeout 600 "$vlmc" chat "$@" >"$here/out" 2>"$here/err" || { fail "$name" "$(cat "$here/err")"; return; }
  bare "$here/out" >"$here/ours"
  ours=$(sed -n 's/^\[\([0-9]*\) prompt tokens.*/\1/p' "$here/err")
  same=$(cmp "$here/ours" "$here/theirs" 2>&1 | sed 's/.*byte \([0-9]*\).*/\1/')
  if [ "$ours" = "$prompt" ] && [ "${same:-$least}" -ge "$least" ]; then
    pass
    echo "equal: $name: $ours prompt tokens, ${same:+the first $same of }$(wc -c <"$here/ours") bytes:" \
      "$(head -c 50 "$here/ours" | head -n 1)"
  else
    fail "$name: $ours and $prompt prompt tokens" "$(diff "$here/ours" "$here/theirs")"
  fi
}

stories() {
  [ -e "$data/stories260K/stories260K.bin" ] || { skip "no $data/stories260K (VLMC_TEST_DATA)"; return; }
  model="models/llama.vlm --preset stories260k"
  for dtype in f32 f16 bf16 q8_0 q4_0; do
    case $dtype in q*) least=60 ;; *) least=1000 ;; esac
    good "export of stories260K" "$vlmc" export $model --from "$data/stories260K/stories260K.bin" --as gguf \
      --tokenizer "$data/stories260K/tok512.bin" --format gguf --weights-dtype $dtype -o "$here/stories.gguf" &&
      theirs "$completion" -m "$here/stories.gguf" -p "" -n 200 -no-cnv --no-display-prompt $greedy &&
      compares $least "stories260K in $dtype" $model --weights "$here/stories.gguf" --plain --prompt "" --max-tokens 200
  done
}

smollm2() {
  [ -n "${SMOLLM2:-}" ] || { skip "SMOLLM2 names no file (examples/smolvlm/get-weights.sh gets it)"; return; }
  for dtype in f32 f16; do
    good "export of SmolLM2" "$vlmc" export models/llama.vlm --from "$SMOLLM2" --as gguf --format gguf \
      --weights-dtype $dtype -o "$here/smollm2.gguf" || continue
    for question in "What is the capital of France?" "Write two sentences about the sea."; do
      theirs "$completion" -m "$here/smollm2.gguf" -p "$question" -n 64 -st --jinja --no-display-prompt --simple-io $greedy &&
        compares 1000 "SmolLM2 in $dtype" models/llama.vlm --weights "$here/smollm2.gguf" --prompt "$question" --max-tokens 64
    done
  done
}

# picture MODEL RUN PICTURE PROMPT, after export_vlm MODEL RUN
export_vlm() {
  for part in lm.gguf mmproj; do
    good "export of $part" "$vlmc" export "$1" --weights "$2" --as $part --format gguf -o "$here/$part" || return 1
  done
}
picture() {
  theirs "$pictures" -m "$here/lm.gguf" --mmproj "$here/mmproj" --image "$3" -n 64 --jinja $greedy -v -p "<__media__>
$4" && compares 1000 "$(basename "$1"), picture $(basename "$3")" "$1" --weights "$2" --image "$3" --prompt "$4" --max-tokens 64
}

seeing() { # MODEL OPTION...
  model=$1
  shift
  good "training of $model" "$vlmc" train "$model" "$@" --stage sft --data "$here" --out "$here/run" --epochs 100 -q &&
    export_vlm "$model" "$here/run" || return
  for name in $names; do picture "$model" "$here/run" "$here/png/$name.png" "what is it?"; done
  rm -r "$here/run"
}
small() {
  archive=$data/pngsuite/pngsuite.tar.xz names="basn0g01 basn0g08 basn2c08 basn2c16 basn3p08"
  [ -e "$archive" ] || { skip "no $archive (VLMC_TEST_DATA)"; return; }
  tar -xJf "$archive" -C "$here" || return
  for name in $names; do for question in "what is it?" "its name?"; do
    echo "{\"image\": \"png/$name.png\", \"prompt\": \"$question\", \"answer\": \"the picture $name\"}"
  done; done >"$here/dialogues.jsonl"
  seeing tests/parity/seeing.vlm
  seeing models/llava.vlm --preset tiny -D vision.image=32 -D vision.patch=8 -D sft.rate=2e-3 -D sft.batch=10 -D sft.accumulate=1
}

if [ $# = 4 ]; then
  [ -n "$pictures" ] || { echo "skipped: no llama-mtmd-cli in $LLAMA_CPP or its bin"; exit 0; }
  export_vlm "$1" "$2" && picture "$@"
else
  stories
  smollm2
  if [ -n "$pictures" ]; then small; else skip "no llama-mtmd-cli in $LLAMA_CPP or its bin"; fi
fi
finish
