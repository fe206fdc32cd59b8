#!/bin/sh
# The whole chain on easy-VQA: train.sh DATA [OUT]. DATA is what get-data.sh or prepare.sh made.
set -eu
[ $# -ge 1 ] || { echo "usage: train.sh DATA [OUT]" >&2; exit 1; }
data=$1 out=${2:-runs/easy-vqa} vlmc=${BUILD:-build}/vlmc
$vlmc train models/clip.vlm --preset shapes --stage contrast --data "$data" --out "$out/clip"
$vlmc train models/gpt.vlm --preset shapes --stage text --data "$data" --out "$out/gpt"
$vlmc train models/vlm.vlm --preset shapes --stage pretrain --data "$data" --out "$out/pretrain" \
  --from vision="$out/clip:vision" --from lm="$out/gpt"
$vlmc train models/vlm.vlm --preset shapes --stage sft --data "$data" --out "$out/sft" --from "$out/pretrain"
$vlmc eval models/vlm.vlm --weights "$out/sft" --data "$data" --max-tokens 8
$vlmc eval models/vlm.vlm --weights "$out/sft" --data "$data" --split sheet --sheet "$out/answers.png" --quiet
