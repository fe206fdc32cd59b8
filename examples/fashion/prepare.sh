#!/bin/sh
# Fashion-MNIST as captions and dialogues: labels -> DIR/*.jsonl beside links to the pictures' archives.
#
#   prepare.sh SOURCE DIR      SOURCE: folder of the four idx files (Debian: /usr/share/datasets/fashion-mnist)
#
# Rows of training files come from the training split, rows of test files from the test split, nothing else.
set -eu
[ $# -eq 2 ] || { echo "usage: prepare.sh SOURCE DIR" >&2; exit 1; }
source=$(realpath "$1") target=$2
for name in train-images-idx3 train-labels-idx1 t10k-images-idx3 t10k-labels-idx1; do
  [ -r "$source/$name-ubyte.gz" ] || { echo "prepare.sh: $source/$name-ubyte.gz is missing" >&2; exit 1; }
done
mkdir -p "$target"
for split in train t10k; do ln -sf "$source/$split-images-idx3-ubyte.gz" "$target/$split-images-idx3-ubyte.gz"; done

# labels SPLIT: one label a line, 0 to 9; the file starts with 8 bytes of magic and count
labels() { zcat "$source/$1-labels-idx1-ubyte.gz" | tail -c +9 | od -An -v -tu1 -w1 | tr -d ' '; }

# rows KIND SPLIT: labels on standard input -> rows
rows() {
  awk -v kind="$1" -v split_name="$2" '
    BEGIN {
      split("a T-shirt,trousers,a pullover,a dress,a coat,a sandal,a shirt,a sneaker,a bag,an ankle boot", english, ",")
      split("T恤,裤子,套衫,裙子,外套,凉鞋,汗衫,运动鞋,包,踝靴", chinese, ",")
      archive = split_name "-images-idx3-ubyte.gz"
    }
    function dialogue(number, question, answer, sort) {
      printf "{\"image\": \"%s#%d\", \"prompt\": \"%s\", \"answer\": \"%s\", \"kind\": \"%s\"}\n", archive, number, question, answer, sort
    }
    {
      label = $1 + 1; number = NR - 1; shoe = label == 6 || label == 8 || label == 10
      if (kind == "captions") printf "{\"image\": \"%s#%d\", \"caption\": \"a photo of %s\"}\n", archive, number, english[label]
      if (kind == "text") printf "{\"caption\": \"a photo of %s\"}\n", english[label]
      if (kind ~ /what|dialogues|sheet|text/) dialogue(number, "what is it?", english[label], "what is it?")
      if (kind ~ /footwear|dialogues|sheet|text/) dialogue(number, "is it footwear?", shoe ? "yes" : "no", "is it footwear?")
      if (kind ~ /chinese|dialogues|sheet|text/) dialogue(number, "这是什么？", chinese[label], "这是什么？")
      if (kind ~ /describe|dialogues|sheet|text/) dialogue(number, "描述这张图片", "这是一张" chinese[label] "的照片。", "描述这张图片")
    }'
}

labels train | rows captions train >"$target/captions.jsonl"
labels train | rows dialogues train >"$target/dialogues.jsonl"
labels train | head -n 2000 | rows text train | sed 's/"image": "[^"]*", //' >"$target/text.jsonl"
labels t10k | rows what t10k >"$target/test.jsonl"
labels t10k | rows footwear t10k >"$target/test-footwear.jsonl"
labels t10k | rows chinese t10k >"$target/test-chinese.jsonl"
labels t10k | rows describe t10k >"$target/test-describe.jsonl"
labels t10k | head -n 40 | rows sheet t10k >"$target/sheet.jsonl"
wc -l "$target"/*.jsonl
