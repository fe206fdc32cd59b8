#!/bin/sh
# Checkpoints that others trained give the text that their authors got.
# Input: $BUILD/vlmc, real data in $VLMC_TEST_DATA or ../shared/data; output: FAILED lines and the closing line.
. "$(dirname "$0")/shell.sh"
data=${VLMC_TEST_DATA:-../shared/data}

# continues NAME EXPECTED OPTION...: the plain greedy text is what EXPECTED holds
continues() {
  name=$1 expected=$2
  shift 2
  { cat "$expected" && echo; } >"$here/expected"
  good "$name" "$vlmc" chat "$@" --plain && same "$name" "$here/out" "$here/expected"
}

stories=$data/stories260K
if [ -e "$stories/stories260K.bin" ]; then
  continues "stories260K, 200 tokens" "$stories/expected_t0_n200.txt" models/llama.vlm --preset stories260k \
    --weights "$stories/stories260K.bin" --tokenizer "$stories/tok512.bin" --prompt "" --max-tokens 200
  continues "stories260K by SentencePiece's vocabulary" "$stories/expected_t0_n200.txt" models/llama.vlm \
    --preset stories260k --weights "$stories/stories260K.bin" --tokenizer "$stories/tok512.model" --prompt "" --max-tokens 200
  good "stories260K as GGUF" "$vlmc" export models/llama.vlm --preset stories260k --from "$stories/stories260K.bin" --as gguf --format gguf \
    --tokenizer "$stories/tok512.bin" -o "$here/stories.gguf" &&
    continues "stories260K from our own GGUF" "$stories/expected_t0_n200.txt" models/llama.vlm \
      --preset stories260k --weights "$here/stories.gguf" --prompt "" --max-tokens 200
else
  skip "stories260K: no $stories (VLMC_TEST_DATA names a folder that has it)"
fi
finish
