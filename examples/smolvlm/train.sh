#!/bin/sh
# A VLM on top of SmolLM2: train.sh DEMO GGUF [OUT]. DEMO is what `make demo` left, GGUF what get-weights.sh fetched.
set -eu
[ $# -ge 2 ] || { echo "usage: train.sh DEMO GGUF [OUT]" >&2; exit 1; }
demo=$1 weights=$2 out=${3:-runs/smolvlm} vlmc=${BUILD:-build}/vlmc model=$(dirname "$0")/smolvlm.vlm
$vlmc train "$model" --stage pretrain --data "$demo/data" --out "$out/pretrain" --steps 100 \
  --from vision="$demo/clip:vision" --from lm="$weights"
$vlmc train "$model" --stage sft --data "$demo/data" --out "$out/sft" --steps 200 --from "$out/pretrain"
$vlmc eval "$model" --weights "$out/sft" --data "$demo/data" --max-tokens 32 --limit 1000
for question in "what is it?" "描述这张图片"; do
  $vlmc chat "$model" --weights "$out/sft" --image "$demo/data/t10k-images-idx3-ubyte.gz#0" --prompt "$question"
done
