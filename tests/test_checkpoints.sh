#!/bin/sh
# Checkpoints that others trained give the text that their authors got.
# Input: $BUILD/vlmc, real data in $VLMC_TEST_DATA or ../shared/data; output: FAILED lines and the closing line.
vlmc=$(realpath "${BUILD:-build}/vlmc") data=${VLMC_TEST_DATA:-../shared/data}
here=$(mktemp -d) || exit 2
trap 'rm -rf "$here"' EXIT
export XDG_CACHE_HOME="$here/cache"
passed=0 failed=0 skipped=0

# continues NAME EXPECTED OPTION...: the plain greedy text is what EXPECTED holds
continues() {
  name=$1 expected=$2
  shift 2
  { cat "$expected" && echo; } >"$here/expected"
  "$vlmc" chat "$@" --plain >"$here/out" 2>"$here/err"
  if cmp -s "$here/out" "$here/expected"; then passed=$((passed + 1)); else
    failed=$((failed + 1))
    echo "FAILED $name: another text"
    head -c 600 "$here/out" "$here/err" | sed 's/^/  /'
  fi
}

stories=$data/stories260K
if [ -e "$stories/stories260K.bin" ]; then
  continues "stories260K, 200 tokens" "$stories/expected_t0_n200.txt" models/llama.vlm --preset stories260k \
    --weights "$stories/stories260K.bin" --tokenizer "$stories/tok512.bin" --prompt "" --max-tokens 200
  continues "stories260K by SentencePiece's vocabulary" "$stories/expected_t0_n200.txt" models/llama.vlm \
    --preset stories260k --weights "$stories/stories260K.bin" --tokenizer "$stories/tok512.model" --prompt "" --max-tokens 200
  if "$vlmc" export models/llama.vlm --preset stories260k --from "$stories/stories260K.bin" --as gguf --format gguf \
    --tokenizer "$stories/tok512.bin" -o "$here/stories.gguf" 2>"$here/err"; then
    continues "stories260K from our own GGUF" "$stories/expected_t0_n200.txt" models/llama.vlm \
      --preset stories260k --weights "$here/stories.gguf" --prompt "" --max-tokens 200
  else
    failed=$((failed + 1))
    echo "FAILED stories260K as GGUF" && head -c 600 "$here/err"
  fi
else
  skipped=$((skipped + 1))
  echo "skipped: stories260K: no $stories (VLMC_TEST_DATA names a folder that has it)"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
