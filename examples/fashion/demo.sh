#!/bin/sh
# The whole chain on Fashion-MNIST, from pictures and labels to a model that answers questions about pictures.
# Called by `make demo`; PRESET=long trains longer, DATA names another copy of the pictures, OUT another folder.
set -eu
here=$(dirname "$0") build=${BUILD:-build} preset=${PRESET:-short} out=${OUT:-runs/demo}
source=${DATA:-/usr/share/datasets/fashion-mnist}
vlmc=$build/vlmc
case $preset in
short) size=fashion ;;
long) size=fashion_long ;;
*) echo "demo: PRESET is short or long, found \`$preset\`" >&2; exit 1 ;;
esac
step() { printf '\n== %s\n' "$*"; }

if [ -e "$out" ] && [ ! -e "$out/sft/run.json" ] && [ -n "$(ls -A "$out")" ]; then
  echo "demo: $out is there and is no demo's folder: it would be replaced; choose another OUT" >&2
  exit 1
fi
rm -rf "$out.unfinished"
mkdir -p "$out.unfinished"
new=$out.unfinished data=$new/data
trap 'rm -rf "$new"' EXIT
started=$(date +%s)

step "captions and dialogues from the labels"
"$here/prepare.sh" "$source" "$data"

step "1 of 4: the vision encoder learns by contrast against captions"
$vlmc train models/clip.vlm --preset $size --stage contrast --data "$data" --out "$new/clip"
step "2 of 4: the language model learns captions and dialogues as text"
$vlmc train models/gpt.vlm --preset $size --stage text --data "$data" --out "$new/gpt"
step "3 of 4: pretrain: projection and last layer of the language model, on captions"
$vlmc train models/vlm.vlm --preset $size --stage pretrain --data "$data" --out "$new/pretrain" \
  --from vision="$new/clip:vision" --from lm="$new/gpt"
step "4 of 4: SFT: projection and language model, on dialogues"
$vlmc train models/vlm.vlm --preset $size --stage sft --data "$data" --out "$new/sft" --from "$new/pretrain"
trained=$(date +%s)

step "questions about the 10,000 test pictures, answers generated freely, exact match"
for split in test-footwear test-chinese test-describe test; do
  $vlmc eval models/vlm.vlm --weights "$new/sft" --data "$data" --split $split --max-tokens 32 | tee "$new/$split.txt"
done
$vlmc eval models/vlm.vlm --weights "$new/sft" --data "$data" --split sheet --sheet "$new/answers.png" --quiet >/dev/null

step "a look inside"
$vlmc draw models/vlm.vlm --preset $size --stage sft -o "$new/architecture.svg"
$vlmc plot "$new/clip" "$new/gpt" "$new/pretrain" "$new/sft" -o "$new/loss.svg"
$vlmc models/vlm.vlm --preset $size --stage sft -o "$new/kernels.txt"
for question in "what is it?" "is it footwear?" "这是什么？" "描述这张图片"; do
  printf '%s  ' "$question"
  $vlmc chat models/vlm.vlm --weights "$new/sft" --image "$data/t10k-images-idx3-ubyte.gz#0" --prompt "$question" 2>/dev/null
done

rm -rf "$out"
mv "$new" "$out"
trap - EXIT
step "done: trained in $((trained - started)) s"
cat <<END
$out/sft               the checkpoint: $vlmc chat models/vlm.vlm --weights $out/sft --image PICTURE --prompt "what is it?"
$out/answers.png       held-out pictures with the answers
$out/loss.svg          loss curves of the four stages
$out/architecture.svg  what the model is made of
$out/kernels.txt       the kernels of a training step
END
