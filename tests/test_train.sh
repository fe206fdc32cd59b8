#!/bin/sh
# The whole chain from outside, on pictures of 8x8 made here: clip, gpt, vlm pretrain, vlm sft, eval, chat. Frozen
# parts keep every bit; a run that is killed and resumed ends with the bits of one that is not. Input: $BUILD/vlmc;
# output: FAILED lines and the closing line.
. "$(dirname "$0")/shell.sh"
refuses() { # PATTERN ARGUMENT...
  pattern=$1
  shift
  wants 1 "vlmc $*" "$vlmc" "$@" && holds "vlmc $*" err "error: .*($pattern)"
}

# ---- pictures and rows
be32() { byte $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)); }
# Picture N as 64 numbers: bright on the left (even N) or on the right (odd N), with noise of its own.
pixels() {
  awk -v n="$1" 'BEGIN { s = n * 7919 + 1
    for (y = 0; y < 8; y++) for (x = 0; x < 8; x++) {
      s = (s * 48271) % 2147483647
      print int(((x < 4) == (n % 2 == 0) ? 150 : 0) + s / 2147483647 * 100) } }'
}
# A PNG chunk: gzip ends with the CRC of what it packs, lowest byte first.
chunk() {
  be32 "$(wc -c <"$2")"
  { printf %s "$1"; cat "$2"; } >"$here/chunk"
  cat "$here/chunk"
  gzip -c "$here/chunk" | tail -c 8 | od -An -v -tu1 -N4 | { read -r a b c d; byte "$d" "$c" "$b" "$a"; }
}
png() { # N FILE: grey, 8x8, its rows stored uncompressed
  { be32 8; be32 8; byte 8 0 0 0 0; } >"$here/header"
  pixels "$1" | awk '(NR - 1) % 8 == 0 {print 0} {print}' >"$here/rows"
  sums=$(awk 'BEGIN {a = 1} {a = (a + $1) % 65521; b = (b + a) % 65521} END {printf "%d", b * 65536 + a}' "$here/rows")
  { byte 120 1 1 72 0 183 255; byte $(cat "$here/rows"); be32 "$sums"; } >"$here/body"
  : >"$here/empty"
  { printf '\211PNG\r\n\032\n'; chunk IHDR "$here/header"; chunk IDAT "$here/body"; chunk IEND "$here/empty"; } >"$2"
}
data=$here/data count=40
mkdir "$data"
{ be32 2051; be32 $count; be32 8; be32 8; for n in $(seq 0 $((count - 1))); do byte $(pixels "$n"); done; } | gzip >"$data/pictures.gz"
for n in $(seq 0 $((count - 1))); do
  if [ $((n % 2)) = 0 ]; then english=left chinese=左边; else english=right chinese=右边; fi
  echo "{\"image\": \"pictures.gz#$n\", \"caption\": \"bright on the $english\"}" >>"$data/captions.jsonl"
  for sort in "where is it?|$english" "在哪里？|$chinese"; do
    row="\"prompt\": \"${sort%|*}\", \"answer\": \"${sort#*|}\", \"kind\": \"${sort%|*}\"}"
    echo "{\"image\": \"pictures.gz#$n\", $row" >>"$data/dialogues.jsonl"
    echo "{$row" >>"$data/text.jsonl"
  done
  echo "{\"caption\": \"bright on the $english\"}" >>"$data/text.jsonl"
done
cp "$data/dialogues.jsonl" "$data/test.jsonl"
png 100 "$data/left.png"
png 101 "$data/right.png"

# ---- the chain
vision="-D vision.image=8 -D vision.patch=4 -D vision.width=32 -D vision.depth=1 -D vision.heads=2 -D vision.channels=1"
lm="-D lm.vocab=300 -D lm.context=96 -D lm.width=32 -D lm.depth=2 -D lm.heads=2"
gpt=$(echo "$lm" | sed 's/lm\.//g')
text="-D text.vocab=300 -D text.context=32 -D text.width=32 -D text.depth=1 -D text.heads=2 -D shared=16"
vlm() { # STAGE OUT OPTION...
  stage=$1 out=$2
  shift 2
  good "vlm $stage" "$vlmc" train models/vlm.vlm $vision $lm --stage "$stage" --data "$data" -D "$stage.batch=8" -D "$stage.rate=1e-3" --out "$here/$out" "$@"
}
good "clip" "$vlmc" train models/clip.vlm $vision $text -D contrast.batch=8 -D contrast.rate=1e-3 --data "$data" --out "$here/clip" --epochs 8 --profile
holds "clip --profile" out '^train, B=8 T=[0-9]+: mean of 39 runs, '
holds "clip --profile" out '^a run .* 100.00%$'
holds "clip" err '^tokenizer: [0-9]+ tokens, trained on '
holds "clip" err 'contrast  step 40/40  loss [0-9.]+ '
holds "clip" out 'done after step 40 of 40, loss '
good "gpt" "$vlmc" train models/gpt.vlm $gpt -D text.batch=8 -D text.rate=1e-3 --data "$data" --out "$here/gpt" --tokenizer "$here/clip/tokenizer.json" --epochs 4
from="--from vision=$here/clip:vision --from lm=$here/gpt"
vlm pretrain pretrain $from --epochs 6
vlm sft sft --from "$here/pretrain" --epochs 30
for stage in clip gpt pretrain sft; do
  if [ "$(ls "$here/$stage" | sed 's/-[0-9]*//' | tr '\n' ' ')" = "log.jsonl model.safetensors optimizer.safetensors run.json tokenizer.json " ]; then
    pass
  else
    fail "what a run leaves" "$(ls "$here/$stage")"
  fi
done
if [ "$(wc -l <"$here/clip/log.jsonl")" -eq 40 ]; then pass; else fail "log.jsonl has a line a step"; fi
same "one tokenizer for the chain" "$here/clip/tokenizer.json" "$here/sft/tokenizer.json"

# tensors FILE [PREFIX]: the bytes of the tensors whose names begin so, in the order of their names
tensors() {
  header=$(od -An -tu8 -N8 "$1" | tr -d ' ')
  tail -c +9 "$1" | head -c "$header" | grep -oE "\"${2:-[^_\"]}[^\"]*\": *\{\"dtype\"[^}]*\}" | sort | while read -r entry; do
    begin=$(echo "$entry" | sed 's/.*"data_offsets": *\[\([0-9]*\).*/\1/') end=$(echo "$entry" | sed 's/.*"data_offsets": *\[[0-9]*, *\([0-9]*\).*/\1/')
    echo "$entry" | sed 's/:.*//'
    tail -c +$((9 + header + begin)) "$1" | head -c $((end - begin))
  done
}
for run in clip pretrain sft; do
  for part in vision lm.token projection; do tensors "$here/$run/model.safetensors" $part >"$here/$run.$part"; done
done
if [ "$(wc -c <"$here/clip.vision")" -gt 20000 ]; then pass; else fail "the parts of a checkpoint can not be told apart"; fi
same "pretrain changed the frozen vision" "$here/clip.vision" "$here/pretrain.vision"
same "sft changed the frozen vision" "$here/clip.vision" "$here/sft.vision"
if cmp -s "$here/pretrain.projection" "$here/sft.projection"; then fail "sft did not train the projection"; else pass; fi
if cmp -s "$here/pretrain.lm.token" "$here/sft.lm.token"; then fail "sft did not train the tokens"; else pass; fi
tensors "$here/gpt/model.safetensors" token | sed 's/^"token/"lm.token/' >"$here/gpt.token"
same "pretrain changed the frozen tokens" "$here/gpt.token" "$here/pretrain.lm.token"

# ---- rows with pictures and rows without, turns of both kinds, mixed; then rows without alone
mixed=$here/mixed
mkdir "$mixed" "$here/words"
cp "$data/pictures.gz" "$mixed"
for n in $(seq 0 $((count - 1))); do
  if [ $((n % 2)) = 0 ]; then side=left; else side=right; fi
  echo "{\"image\": \"pictures.gz#$n\", \"prompt\": \"where is it?\", \"answer\": \"$side\"}"
  echo '{"prompt": "two and two?", "answer": "four"}'
  echo "{\"turns\": [{\"prompt\": \"two and two?\", \"answer\": \"four\"}, {\"image\": \"pictures.gz#$n\", \"prompt\": \"where is it?\", \"answer\": \"$side\"}]}"
  echo "{\"conversations\": [{\"from\": \"human\", \"value\": \"is it dark?\"}, {\"from\": \"gpt\", \"value\": \"who knows\"}]}"
done >"$mixed/dialogues.jsonl"
grep -v pictures "$mixed/dialogues.jsonl" >"$here/words/dialogues.jsonl"
grep -v '"image"' "$mixed/dialogues.jsonl" | head -n 2 >"$mixed/test.jsonl"
head -n 5 "$mixed/dialogues.jsonl" | grep '"image": "pictures.gz#[0-9]*", "prompt"' >>"$mixed/test.jsonl"
good "a mixture" "$vlmc" train models/vlm.vlm $vision $lm --stage sft --data "$mixed" -D sft.batch=8 -D sft.rate=1e-3 --from "$here/pretrain" --out "$here/mixture" --epochs 15
good "check of a mixture" "$vlmc" check models/vlm.vlm $vision $lm --stage sft --from "$here/pretrain" --data "$mixed" -D sft.batch=8 &&
  holds "check of a mixture" out '[2-6] of 8 samples have a picture; 0 have another number'
good "eval of a mixture" "$vlmc" eval models/vlm.vlm --weights "$here/mixture" --data "$mixed" --max-tokens 12 && holds "eval of a mixture" out '^accuracy 100'
good "chat without a picture" "$vlmc" chat models/vlm.vlm --weights "$here/mixture" --prompt "two and two?" && holds "chat without a picture" out '^four$'
printf '%s\n' "two and two?" "/image $data/right.png" "where is it?" >"$here/said"
good "first words, then a picture" "$vlmc" chat models/vlm.vlm --weights "$here/mixture" <"$here/said"
if [ "$(tr '\n' ' ' <"$here/out")" = "four right " ]; then pass; else fail "first words, then a picture" "$(cat "$here/out" "$here/err")"; fi
good "words alone" "$vlmc" train models/vlm.vlm $vision $lm --stage sft --data "$here/words" -D sft.batch=8 -D sft.decay=0 --from "$here/pretrain" --out "$here/unseen" --epochs 2
tensors "$here/unseen/model.safetensors" projection >"$here/unseen.projection"
same "words alone trained the projection of pictures" "$here/pretrain.projection" "$here/unseen.projection"

# ---- eval, chat, plot
sft="models/vlm.vlm --weights $here/sft"
good "eval" "$vlmc" eval $sft --data "$data" --log "$here/answers.jsonl" --sheet "$here/sheet.png" --max-tokens 12
tail -n 1 "$here/out" >"$here/last"
holds "eval" last '^accuracy [0-9]+\.[0-9]{2} % \([0-9]+/80\)$'
holds "what it learned (chance is 50 %)" last '^accuracy (9[0-9]|100)\.'
holds "eval tells kinds apart, and a guesser that sees no picture" out '^在哪里？ .*\(40/40\) .*guesser +50\.00 %'
if [ "$(wc -l <"$here/answers.jsonl")" -eq 80 ]; then pass; else fail "--log has a line an answer"; fi
if [ "$(head -c 4 "$here/sheet.png" | tail -c 3)" = PNG ]; then pass; else fail "--sheet is no PNG"; fi
good "eval --limit" "$vlmc" eval $sft --data "$data" --limit 3 --quiet --profile && holds "eval --limit" out '/3\)$'
for program in prefill decode; do holds "eval --profile" out "^$program, .*: mean of [0-9]+ runs?, [0-9.]+ ms each"; done
printf '{"text": "bright on the left, dark on the right"}\n{"text": "left"}\n' >"$data/texts.jsonl"
good "eval of texts" "$vlmc" eval models/gpt.vlm --weights "$here/gpt" --data "$data" --split texts && holds "eval of texts" out '^perplexity [0-9.]+ \([0-9]+ tokens, windows of 96\)$'
printf 'bright on the left' >"$here/text"
good "eval of a text" "$vlmc" eval models/gpt.vlm --weights "$here/gpt" --data "$here/text" --length 4 --weights-dtype bf16 --profile && holds "eval of a text" out 'windows of 4\)$' && holds "its profile" out '^loss, '
good "a model with pictures reads a text" "$vlmc" eval $sft --data "$here/text" && holds "a model with pictures reads a text" out '^perplexity '
refuses 'shows answers to questions' eval models/gpt.vlm --weights "$here/gpt" --data "$here/text" --log "$here/log"
: >"$here/nothing"
refuses 'no token to predict' eval models/gpt.vlm --weights "$here/gpt" --data "$here/nothing"
echo '{"prompt": "a", "answer": "b"}' >>"$data/texts.jsonl"
refuses 'texts.jsonl:3: .*a split is either' eval models/gpt.vlm --weights "$here/gpt" --data "$data" --split texts
refuses 'other.jsonl' eval $sft --data "$data" --split other
chat() { good "chat: $1" "$vlmc" chat $sft --image "$2" --prompt "$1" && holds "chat: $1" out "^$3\$" && holds "chat: $1" err 'first token after [0-9]+ ms, [0-9]+ tokens, [0-9]+ tokens/s'; }
chat "where is it?" "$data/left.png" left
chat "在哪里？" "$data/right.png" 右边
chat "在哪里？" "$data/pictures.gz#4" 左边
printf '%s\n' "where is it?" "/image $data/right.png" "where is it?" "在哪里？" /clear "where is it?" /nonsense "/image $data/none.png" "" /exit "where is it?" >"$here/said"
"$vlmc" chat $sft --image "$data/left.png" <"$here/said" >"$here/out" 2>"$here/err"
if [ $? -eq 0 ]; then pass; else fail "a conversation" "$(cat "$here/err")"; fi
if [ "$(head -n 2 "$here/out" | tr '\n' ' ')" = "left right " ] && [ "$(wc -l <"$here/out")" -eq 4 ]; then pass; else fail "a conversation's answers" "$(cat "$here/out")"; fi
holds "a conversation: help on unknown commands" err '^/image FILE'
holds "a conversation: a picture that is not there" err 'none.png: .*No such file'
printf "%s\n" "where is it?" "where is it?" "where is it?" "where is it?" >"$here/said"
good "a conversation longer than the model has room for" "$vlmc" chat $sft --image "$data/left.png" <"$here/said" && holds "a conversation longer than the model" err "error: .*(room|long|/clear)"
good "the end of input ends a conversation" "$vlmc" chat $sft </dev/null
# Ctrl-C where a question is awaited ends the conversation.
mkfifo "$here/fifo"
"$vlmc" chat $sft --image "$data/left.png" <"$here/fifo" >"$here/out" 2>"$here/err" &
run=$! tries=0
exec 3>"$here/fifo"
echo "where is it?" >&3
until grep -q left "$here/out" || [ $((tries += 1)) -gt 3000 ]; do sleep 0.02; done
sleep 0.1
kill -INT $run
{ wait $run; } 2>"$here/waited"
ended=$?
exec 3>&-
if [ $ended -eq 130 ]; then pass; else fail "SIGINT at a question: status $ended" "$(cat "$here/err")"; fi
sample() { # SEED FILE
  "$vlmc" chat $sft --image "$data/left.png" --prompt "tell" --temperature 3 --top-k 50 --top-p 0.99 --seed "$1" --max-tokens 20 2>/dev/null >"$here/$2"
}
sample 1 sampled
sample 1 sampled.again
sample 2 sampled.other
same "sampling by one seed" "$here/sampled" "$here/sampled.again"
if cmp -s "$here/sampled" "$here/sampled.other"; then fail "sampling by another seed"; else pass; fi
head -c 60 "$data/left.png" >"$data/cut.png"
refuses 'cut.png' chat $sft --image "$data/cut.png" --prompt x
refuses 'captions.jsonl' chat $sft --image "$data/captions.jsonl" --prompt x
refuses 'pictures.gz' chat $sft --image "$data/pictures.gz#40" --prompt x
# the published layout, written, read and written again
good "export" "$vlmc" export models/gpt.vlm --weights "$here/gpt" --as gpt2 -o "$here/gpt.safetensors"
good "export of a part" "$vlmc" export models/vlm.vlm --weights "$here/sft" --as lm.gpt2 -o "$here/lm.safetensors"
refuses 'does not say what a GGUF file has to' export models/vlm.vlm --weights "$here/sft" --as lm.gpt2 --format gguf -o "$here/lm.gguf"
good "export again" "$vlmc" export models/gpt.vlm $gpt --from "$here/gpt.safetensors" --as gpt2 -o "$here/again.safetensors"
same "export is the reverse of loading" "$here/gpt.safetensors" "$here/again.safetensors"
refuses 'width=32 -D' check models/gpt.vlm --preset tiny --data "$data" --from "$here/gpt.safetensors"
refuses 'not look at pictures' chat models/gpt.vlm --weights "$here/gpt" --image "$data/left.png" --prompt x
refuses 'run.json' chat models/vlm.vlm --weights "$data" --prompt x
mkdir "$here/damaged"
for file in "$here"/sft/*; do head -c 2000 "$file" >"$here/damaged/$(basename "$file")"; done
refuses 'damaged' chat models/vlm.vlm --weights "$here/damaged" --image "$data/left.png" --prompt x
good "plot" "$vlmc" plot "$here/clip" "$here/gpt" "$here/pretrain" "$here/sft" && holds "plot" out '<svg'

# ---- check
good "check" "$vlmc" check models/vlm.vlm $vision $lm --stage sft --from "$here/pretrain" --data "$data" -D sft.batch=8
for line in 'vision.cls +32 +frozen +from a checkpoint' 'projection.weight +32x32 +trained +from a checkpoint' '<image> x4' '\[(left|right|l|r)' \
  '8 of 8 samples have a picture; 0 have another number' 'positions are supervised \([0-9.]+ %\); 0 samples have none' '^good +the first loss is [0-9.]+, expected below 1.25 ln\(300\) = 7.1297'; do
  holds "check" out "$line"
done
refuses 'problem' check models/vlm.vlm $vision $lm --stage sft --data "$data" --tokenizer "$here/clip/tokenizer.json"
holds "check: frozen and not loaded" out '^PROBLEM  no frozen part is left at its random start'
good "check: a model that starts anew" "$vlmc" check models/gpt.vlm $gpt --data "$data" && holds "check: a model that starts anew" out 'expected about ln\(300\)'
# what a file holds beside what the model wants is listed, whole layers of it too, and nothing else
shallow=$(echo "$gpt" | sed 's/depth=2/depth=1/')
"$vlmc" check models/gpt.vlm $shallow --data "$data" --from "$here/gpt" >"$here/out" 2>"$here/err"
holds "check: a layer too many" out ' 16 of 16 tensors from a checkpoint'
tail -c +9 "$here/gpt/model.safetensors" | head -c "$(od -An -tu8 -N8 "$here/gpt/model.safetensors" | tr -d ' ')" |
  grep -oE '"blocks\.1\.[^"]*"' | tr -d '"' | sort >"$here/wanted"
sed -n 's/^.*model.safetensors: \(.*\) is there, nothing of the model wants it$/\1/p' "$here/err" | sort >"$here/listed"
if [ -s "$here/wanted" ]; then same "check: unused tensors are listed" "$here/wanted" "$here/listed"; else fail "the second layer's tensors"; fi
"$vlmc" check models/gpt.vlm $gpt --data "$data" --from "$here/gpt" >"$here/out" 2>"$here/err"
if grep -q 'nothing of the model' "$here/err"; then fail "check: of a file that fits all is used" "$(cat "$here/err")"; else pass; fi
# Weights of small magnitude, 0.008 to 0.5, times 2^8: bytes of signs and exponents, and some of fractions.
LC_ALL=C tr '\074\075\076\274\275\276' '\100\101\102\300\301\302' <"$here/gpt.safetensors" >"$here/senseless.safetensors"
refuses 'problem' check models/gpt.vlm $gpt --data "$data" --from "$here/senseless.safetensors"
holds "check: weights that fit by name alone" out '^PROBLEM  the first loss is .* expected below 1.25'

# ---- bad data
mkdir "$here/bad"
cp "$data"/*.png "$data/pictures.gz" "$here/bad"
head -n 16 "$data/captions.jsonl" | sed '3s/pictures.gz#2/cut.png/; 5s/pictures.gz#4/gone.png/' >"$here/bad/captions.jsonl"
good "bad pictures" "$vlmc" train models/clip.vlm $vision $text -D contrast.batch=4 --epochs 2 --data "$here/bad" --out "$here/skipping"
holds "bad pictures are counted" out '^2 pictures could not be read and were skipped'
for name in cut.png gone.png; do holds "a bad picture is named" err "skipped: .*$name"; done
refuses 'already holds a checkpoint' train models/clip.vlm $vision $text --data "$data" --out "$here/skipping"
for damage in 's/"caption"/"capton"/' 's/}$//' 's/pictures/..\/pictures/' 's/"image": "[^"]*"/"image": 7/'; do
  sed "2$damage" "$data/captions.jsonl" >"$here/bad/captions.jsonl"
  refuses 'captions.jsonl:2' train models/clip.vlm $vision $text --data "$here/bad" --out "$here/refused" --epochs 1
done
sed 's/"where is it?"/"where is it, in words as many as there is no room for?"/' "$data/dialogues.jsonl" >"$here/bad/dialogues.jsonl"
refuses 'none of its 80 samples has a target within 16 positions' train models/vlm.vlm $vision $lm --stage sft --length 16 --from "$here/pretrain" --data "$here/bad" --tokenizer "$here/clip/tokenizer.json" --out "$here/refused"
good "samples that are cut" "$vlmc" train models/vlm.vlm $vision $lm --stage sft -D sft.batch=8 --length 40 --steps 1 --from "$here/pretrain" --data "$here/bad" --tokenizer "$here/clip/tokenizer.json" --out "$here/cut" && holds "samples that are cut" err '^[0-9]+ of 80 samples are longer than 40 positions and were cut, [0-9]+ of them before their answer'
rm "$here/bad/dialogues.jsonl"
refuses 'is a file, and a folder is needed' train models/gpt.vlm $gpt --data "$data" --out "$data/left.png"
refuses '--log .*nowhere/x.jsonl: No such' eval $sft --data "$data" --log "$here/nowhere/x.jsonl"
refuses 'does not fit' train models/vlm.vlm $vision $lm -D lm.width=64 --stage sft --from "$here/pretrain" --data "$data" --out "$here/refused"
: >"$here/plain"
refuses 'folder' train models/gpt.vlm $gpt --data "$data" --out "$here/plain/run"
refuses 'the loss is .* at step' train models/gpt.vlm $gpt -D text.batch=8 -D "text.rate=1e30" -D "text.clip=0" --data "$data" --out "$here/nan" --epochs 1

# ---- the same bits: other numbers of threads, killed and resumed, interrupted and resumed
begin() { # OUT OPTION...: the shell's process becomes the run, so that signals reach it
  out=$1
  shift
  exec "$vlmc" train models/vlm.vlm $vision $lm --stage sft -D sft.batch=8 -D sft.rate=3e-3 --from "$here/pretrain" --data "$data" --out "$here/$out" --steps 48 --seed 7 --save-every 0 "$@" >"$here/out" 2>"$here/err"
}
run() { (begin "$@"); }
run whole || fail "a whole run" "$(cat "$here/err")"
equal() { # NAME OUT
  for of in whole "$2"; do tensors "$here/$of/model.safetensors" >"$here/$of.tensors"; done
  same "$1: parameters" "$here/whole.tensors" "$here/$2.tensors"
  same "$1: optimizer" "$here/whole/optimizer-48.safetensors" "$here/$2/optimizer-48.safetensors"
  for of in whole "$2"; do sed 's/, "seconds.*//' "$here/$of/log.jsonl" >"$here/$of.log"; done
  same "$1: log" "$here/whole.log" "$here/$2.log"
}
for threads in 1 3; do run threads$threads --threads $threads && equal "$threads threads" threads$threads; done
# stopped SIGNAL LINES OUT OPTION...: sends the signal once the log has so many lines
stopped() {
  signal=$1 lines=$2 out=$3
  shift 3
  begin "$out" "$@" &
  run=$! tries=0
  until [ "$(wc -l 2>/dev/null <"$here/$out/log.jsonl")" -ge "$lines" ] 2>/dev/null || [ $((tries += 1)) -gt 3000 ]; do sleep 0.02; done
  kill "-$signal" $run 2>/dev/null
  { wait $run; } 2>"$here/waited"
  stopped_status=$?
}
# ---- features of the frozen vision: kept by the runs so far, or computed in each step, the same bits
cat "$here/err" >"$here/reused"
holds "features are kept over runs" reused '^features: of 40 different pictures 40 are kept, 40 of them from earlier runs: 0\.0 MB in .*/features/[0-9a-f]{32}\.features$'
run uncached --cache-size 0 && equal "no features" uncached
if grep -q features "$here/err"; then fail "--cache-size 0 speaks of features" "$(cat "$here/err")"; else pass; fi
for size in 6K 100; do
  rm -rf "$here/small"
  run small$size --cache-dir "$here/small" --cache-size $size && equal "--cache-size $size" small$size
  if [ "$(find "$here/small/features" -type f -printf '%s\n' | awk '{s += $1} END {print s + 0}')" -le 6144 ]; then pass; else fail "--cache-size $size is exceeded" "$(ls -l "$here/small/features")"; fi
done
run small --cache-dir "$here/small" --cache-size 6K && holds "a bound that is reached" err '^features: of 40 different pictures [1-9][0-9]? are kept, 0 of them' &&
  holds "a bound that is reached" err '^features: there is room for no more'
find "$here/cache/vlmc/features" -type f | while read -r file; do
  { head -c 3000 "$file"; printf 'damaged'; tail -c +3008 "$file" | head -c 9000; } >"$here/hurt" && cp "$here/hurt" "$file"
done
run healed && equal "damaged features" healed && holds "damaged features" err '40 are kept, [12]?[0-9] of them from earlier runs'
run nowhere --cache-dir /dev/null && equal "no place for features" nowhere && holds "no place for features" err '^vlmc: warning: features are computed in each step: /dev/null'
for type in f16 int8; do
  run $type --cache-dtype $type
  run $type.uncached --cache-dtype $type --cache-dir "$here/narrow" --cache-size 100
  same "--cache-dtype $type: whatever is kept" "$here/$type/optimizer-48.safetensors" "$here/$type.uncached/optimizer-48.safetensors"
  if cmp -s "$here/whole/optimizer-48.safetensors" "$here/$type/optimizer-48.safetensors"; then fail "--cache-dtype $type changes no bit"; else pass; fi
  tail -n 1 "$here/whole/log.jsonl" "$here/$type/log.jsonl" | sed -n 's/.*"mean": \([0-9.e-]*\).*/\1/p' >"$here/means"
  if awk '{m[NR] = $1} END {exit !(NR == 2 && (m[1] - m[2]) ^ 2 < (0.02 * m[1]) ^ 2)}' "$here/means"; then pass; else fail "--cache-dtype $type: losses" "$(cat "$here/means")"; fi
done
# Ctrl-C while they are computed, by an encoder that takes its time: what is done is kept, the run goes on from there.
slow() { # OUT OPTION...
  out=$1
  shift
  exec "$vlmc" train models/vlm.vlm $(echo "$vision" | sed 's/width=32/width=256/; s/depth=1/depth=32/') $lm --stage sft -D sft.batch=8 --data "$data" --out "$here/$out" --steps 20 --threads 1 "$@" >"$here/out" 2>"$here/err"
}
(slow slow --cache-size 0) || fail "a slow encoder" "$(cat "$here/err")"
slow begun --cache-dir "$here/begun.cache" &
run=$! tries=0
until [ -n "$(find "$here/begun.cache/features" -size +2k 2>/dev/null)" ] || [ $((tries += 1)) -gt 3000 ]; do sleep 0.02; done
kill -INT $run
{ wait $run; } 2>"$here/waited"
status=$?
if [ $status -eq 130 ]; then pass; else fail "Ctrl-C while features are computed: status $status" "$(cat "$here/err")"; fi
(slow begun --cache-dir "$here/begun.cache" --resume) && same "Ctrl-C while features are computed" "$here/slow/optimizer-20.safetensors" "$here/begun/optimizer-20.safetensors" &&
  holds "features from before Ctrl-C" err '^features: of 40 different pictures 40 are kept, [1-4][0-9] of them from earlier runs'
good "pictures altered at random" "$vlmc" train models/vlm.vlm $vision $lm -D vision.mirror=1 --stage sft -D sft.batch=8 --from "$here/pretrain" --data "$data" --out "$here/altered" --steps 2 && holds "pictures altered at random" err '^features: none are kept, each time a picture is shown it is altered'
good "one pass over the pictures" "$vlmc" train models/vlm.vlm $vision $lm --stage pretrain -D pretrain.batch=8 --data "$data" --out "$here/once" --steps 3 --cache-dir "$here/once.cache" && holds "one pass over the pictures" err '^features: no picture is shown twice'

resume=
for lines in 3 8 15; do stopped KILL $lines killed $resume && resume=--resume; resume=--resume; done
if [ "$(wc -l <"$here/killed/log.jsonl")" -lt 48 ]; then pass; else fail "the run was over before it was killed"; fi
run killed --resume && equal "killed three times" killed
if [ "$(ls "$here/killed" | wc -l)" -eq 5 ]; then pass; else fail "leftovers of a killed run" "$(ls "$here/killed")"; fi
stopped INT 5 interrupted
if [ $stopped_status -eq 130 ]; then pass; else fail "SIGINT: status $stopped_status" "$(cat "$here/err")"; fi
holds "SIGINT is heard" err '^vlmc: stopping'
holds "SIGINT saves" out 'stopped after step [0-9]+ of 48'
run interrupted --resume && equal "interrupted" interrupted
for other in "--seed 8" "-D sft.decay=0.5" "--length 40" "--steps 49"; do
  if run killed --resume $other; then fail "--resume with $other: status 0"; else holds "--resume with $other" err 'same settings'; fi
done
good "--resume keeps the epochs" "$vlmc" train models/gpt.vlm $gpt -D text.batch=8 -D text.rate=1e-3 --data "$data" --out "$here/gpt" --resume
refuses 'already holds a checkpoint' train models/gpt.vlm $gpt --data "$data" --out "$here/gpt"
refuses '--from .*none: No such file' train models/vlm.vlm $vision $lm --data "$data" --out "$here/never" --from "lm=$here/none:x"
refuses '--weights .*none: No such file' chat models/gpt.vlm --weights "$here/none" --prompt x
if [ -e "$here/never" ]; then fail "a refused run left its folder"; else pass; fi
refuses 'no checkpoint to resume' train models/gpt.vlm $gpt --data "$data" --out "$here/never" --resume

finish
