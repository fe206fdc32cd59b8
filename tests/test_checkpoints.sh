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
  texts="--preset stories260k --weights $stories/stories260K.bin --tokenizer $stories/tok512.bin"
  # perplexity FORMAT MOST: of Shakespeare's text, at most so many times that of f32
  perplexity() {
    good "stories260K in $1" "$vlmc" eval models/llama.vlm $texts --data "$data/text/tinyshakespeare.txt" --limit 32 --weights-dtype "$1" &&
      holds "stories260K in $1" out '^perplexity [0-9.]+ \(16352 tokens, windows of 512\)$'
    value=$(sed 's/perplexity \([0-9.]*\) .*/\1/' "$here/out")
    plain=${plain:-$value}
    if awk "BEGIN { exit !($value <= $plain * $2) }"; then pass; else fail "stories260K in $1: perplexity $value, $plain in f32"; fi
  }
  perplexity f32 1 && perplexity bf16 1.002 && perplexity q8_0 1.005 && perplexity q4_0 1.05
  good "stories260K in q8_0 goes on" "$vlmc" chat models/llama.vlm $texts --plain --prompt "" --max-tokens 40 --weights-dtype q8_0 &&
    holds "stories260K in q8_0 goes on" out '^Once upon a time, there was a little girl named Lily'
  holds "stories260K in q8_0 says what it holds" err '^weights of contractions: 36 in q8_0, 0.3 MiB instead of 1.0$'
else
  skip "stories260K: no $stories (VLMC_TEST_DATA names a folder that has it)"
fi
finish
