#!/bin/sh
# vlmc export and vlmc tokenizer train from outside: what they refuse, that a file is replaced whole or left alone, and
# that the same input gives the same bytes. Input: $BUILD/vlmc; output: FAILED lines and the closing line.
. "$(dirname "$0")/shell.sh"
cd "$(dirname "$0")/.." || exit 2
refuses() { # PATTERN ARGUMENT...: status 1, PATTERN in a message
  pattern=$1
  shift
  wants 1 "vlmc $*" "$vlmc" "$@" && holds "vlmc $*" err "$pattern"
}

# ---- tokenizer train
printf 'the cat sat on the mat, the cat and the hat\n' >"$here/one.txt"
printf 'a hat is not a mat: 12 cats, 12 hats\n  cät 猫猫\n' >"$here/two.txt"
printf '{"text": "the cat sat"}\n\n{"image": "x.png", "prompt": "what is it?", "answer": "the hat"}\n' >"$here/rows.jsonl"
: >"$here/empty.txt"
learn() { # FILE ARGUMENT...
  file=$1
  shift
  good "tokenizer train of $file" "$vlmc" tokenizer train --special "<end>" "$@" -o "$here/$file"
}
learn first.json --vocabulary 270 "$here/one.txt" "$here/two.txt" && holds "how many tokens" out 'first.json: 270 tokens$'
learn again.json --vocabulary 270 "$here/one.txt" "$here/two.txt"
same "the same texts" "$here/first.json" "$here/again.json"
learn other.json --vocabulary 270 "$here/two.txt" "$here/one.txt"
same "the texts in another order" "$here/first.json" "$here/other.json"
learn rows.json --vocabulary 270 "$here/rows.jsonl"
learn none.json --vocabulary 270 "$here/empty.txt" && holds "an empty text" out '257 tokens; no other pair occurs twice'
least=$here/least.json
good "as many tokens as there must be" "$vlmc" tokenizer train --vocabulary 256 "$here/one.txt" -o "$least"
train="tokenizer train --vocabulary 270"
refuses 'is followed by .train.' tokenizer
refuses 'is followed by .train.' tokenizer learn "$here/one.txt"
refuses 'no files to learn from' $train -o "$here/x"
refuses 'vocabulary is needed' tokenizer train "$here/one.txt" -o "$here/x"
refuses 'output is needed' $train "$here/one.txt"
refuses 'from 256 to 1048576, found .255' tokenizer train --vocabulary 255 "$here/one.txt" -o "$here/x"
refuses 'at least 258 .2 special' tokenizer train --vocabulary 257 --special "<a>" --special "<b>" "$here/one.txt" -o "$here/x"
refuses '"<a>" is named twice' $train --special "<a>" --special "<a>" "$here/one.txt" -o "$here/x"
refuses 'is spelled as a single byte' $train --special a "$here/one.txt" -o "$here/x"
refuses 'nosuch.txt: cannot open it' $train "$here/nosuch.txt" -o "$here/x"
refuses 'expected a file, found a folder' $train "$here" -o "$here/x"
refuses 'nowhere/x: cannot write it' $train "$here/one.txt" -o "$here/nowhere/x"
printf '{"text": 7}\n' >"$here/wrong.jsonl"
refuses 'wrong.jsonl:1' $train "$here/wrong.jsonl" -o "$here/x"
gone "a refused training" "$here/x"

# ---- a model to export: a step of training, its vocabulary from above
small="-p tiny -D vocab=270 -D width=32 -D depth=1 -D heads=2 -D context=64"
mkdir "$here/data"
for n in 1 2 3 4 5 6 7 8; do echo '{"text": "the cat sat on the mat"}'; done >"$here/data/text.jsonl"
learn gpt.json --vocabulary 270 --special "<|im_end|>" --special "<|im_start|>" --special "<image>" "$here/one.txt" "$here/two.txt"
good "training" "$vlmc" train models/gpt.vlm $small --data "$here/data" --out "$here/run" --tokenizer "$here/gpt.json" \
  --steps 1 -D text.batch=2 -q
mkdir "$here/made"
export="export models/gpt.vlm --weights $here/run -o $here/made/x"
refuses 'blocks of weights: gpt2, gguf; found nosuch' $export --as nosuch
refuses 'blocks of weights: gpt2, gguf$' $export
refuses 'format is safetensors or gguf, found .onnx' $export --as gguf --format onnx
refuses 'weights-dtype is f32, f16, bf16, q8_0 or q4_0, found .q3' $export --as gguf --format gguf --weights-dtype q3
refuses 'weights-dtype f16 needs --format gguf' $export --as gpt2 --weights-dtype f16
refuses 'does not say what a GGUF file has to' $export --as gpt2 --format gguf
refuses 'nowhere/x: cannot write it' export models/gpt.vlm --weights "$here/run" --as gguf --format gguf -o "$here/nowhere/x"
refuses 'made: ' export models/gpt.vlm --weights "$here/run" --as gguf --format gguf -o "$here/made"
# llama.cpp knows no overlapping patches, and a part of its second file is none
refuses 'blocks of weights: vision.clip, lm.gpt2, lm.gguf; found vision.mmproj' export models/vlm.vlm -p fashion \
  --from "$here/run" --as vision.mmproj --format gguf -o "$here/made/x"
if [ -z "$(ls -A "$here/made")" ]; then pass; else fail "a refused export left files" "$(ls -A "$here/made")"; fi

# ---- the same bytes again; smaller in smaller formats; replaced by a rename
for format in safetensors gguf; do
  as=gguf
  [ $format = gguf ] || as=gpt2
  good "export" "$vlmc" $export --as $as --format $format && mv "$here/made/x" "$here/made/$format"
  good "export again" "$vlmc" $export --as $as --format $format
  same "the same $format" "$here/made/x" "$here/made/$format"
done
last=$(wc -c <"$here/made/gguf")
for dtype in f16 q8_0 q4_0; do
  good "export in $dtype" "$vlmc" $export --as gguf --format gguf --weights-dtype $dtype && holds "formats" err ' in F32'
  size=$(wc -c <"$here/made/x")
  if [ "$size" -lt "$last" ]; then pass; else fail "$dtype takes $size bytes, not less than $last"; fi
  good "chat in $dtype" "$vlmc" chat models/gpt.vlm $small --weights "$here/made/x" --prompt "the" --max-tokens 4
  last=$size
done
ln "$here/made/gguf" "$here/made/kept" # an open or linked old file keeps its bytes
cp "$here/made/gguf" "$here/before"
good "replacing" "$vlmc" export models/gpt.vlm --weights "$here/run" --as gguf --format gguf --weights-dtype f16 -o "$here/made/gguf"
same "the old file's bytes" "$here/before" "$here/made/kept"
if cmp -s "$here/before" "$here/made/gguf"; then fail "the file was not replaced"; else pass; fi
# a write that fails half way: the old file stays, and nothing lies beside it
cp "$here/made/gguf" "$here/before"
ls -A "$here/made" >"$here/list"
(trap '' XFSZ && ulimit -f 8 && exec "$vlmc" $export --as gguf --format gguf -o "$here/made/gguf") >/dev/null 2>"$here/err"
status=$?
if [ $status = 1 ]; then holds "a full disk" err 'gguf: cannot write'; else fail "a full disk: status $status" "$(cat "$here/err")"; fi
same "the file that could not be replaced" "$here/before" "$here/made/gguf"
ls -A "$here/made" >"$here/list.after"
same "files beside it" "$here/list" "$here/list.after"

# ---- vocabularies that GGUF has no form for, and a template that a vocabulary has no tokens for
sed 's/"add_prefix_space": false/"add_prefix_space": true/' "$here/gpt.json" >"$here/prefix.json"
refuses 'splits text in a way that GGUF has no name for' $export --as gguf --format gguf --tokenizer "$here/prefix.json"
learn bare.json --vocabulary 270 "$here/one.txt"
good "without the template's tokens" "$vlmc" $export --as gguf --format gguf --tokenizer "$here/bare.json" &&
  holds "without the template's tokens" err 'written without a template: .*"<\|im_end\|>"'
finish
