#!/bin/sh
# A model that looks at two pictures, trained and talked with from outside: rows as LLaVA publishes them, in one array;
# Llama-2's template with a system's text; several pictures, turns without one, captions. Input: $BUILD/vlmc; output:
# FAILED lines and the closing line.
. "$(dirname "$0")/shell.sh"
equal() { if [ "$2" = "$3" ]; then pass; else fail "$1: $2, not $3"; fi; }

# ---- pictures 0 ... 39 of 4x4, bright on the left (even) or on the right (odd); rows about two of them
data=$here/data count=40
mkdir "$data"
{ byte 0 0 8 3 0 0 0 $count 0 0 0 4 0 0 0 4
  byte $(awk -v count=$count 'BEGIN { s = 7
    for (n = 0; n < count; n++) for (i = 0; i < 16; i++) {
      s = (s * 48271) % 2147483647
      print int(((i % 4 < 2) == (n % 2 == 0) ? 160 : 0) + s / 2147483647 * 90) } }'); } >"$data/p.idx"
side() { if [ $(($1 % 2)) = 0 ]; then echo left; else echo right; fi; }
said() { printf '{"from": "human", "value": "%s"}, {"from": "gpt", "value": "%s"}' "$1" "$2"; }
row() { # FIRST SECOND: both in one turn, or one in each
  printf '{"id": "x", "image": ["p.idx#%d", "p.idx#%d"], "conversations": [' "$1" "$2"
  if [ $((($1 + $2 / 2) % 2)) = 0 ]; then
    said '<image><image>\nboth?' "$(side "$1") $(side "$2")"
  else
    said '<image>\nnow?' "$(side "$1")" && printf ', ' && said 'now?\n<image>' "$(side "$2")"
  fi
  printf ']}\n'
}
nothing() { printf '{"conversations": [' && said 'both?' nothing && printf ']}\n'; }
{ echo "["
  for n in $(seq 0 199); do
    row $((n * 7 % count)) $((n * 11 / 3 % count)) && echo ,
    [ $((n % 10)) != 0 ] || { nothing && echo ,; }
  done
  nothing && echo "]"; } >"$data/pairs.json"
for n in $(seq 0 19); do
  echo "{\"image\": [\"p.idx#$((n * 3 % count))\", \"p.idx#$((n * 5 / 2 % count))\"], \"prompt\": \"both?\", \"answer\": \"$(side $((n * 3))) $(side $((n * 5 / 2)))\"}"
done >"$data/test.jsonl"

cat >"$here/two.vlm" <<'END'
import nn, gpt

layer Eye(width) (x[N, C, H, W]) -> [N, 2, width] {
  param weight[width, C, 4, 2] ~ normal(0.3)
  y[n, p, d] = sum[c,i,j] x[n, c, i, 2*p + j] * weight[d, c, i, j]   for p < 2
  return nn.gelu(y)
}

model Two(pictures = 2) {
  lm  = gpt.GPT(vocab = 300, context = 64, width = 48, depth = 2, heads = 4)
  eye = Eye(48)

  forward(picture[B, pictures, 1, 4, 4], ids: i32[B, T]) -> logits[B, T, lm.vocab] {
    flat[b*pictures + p, c, y, x] = picture[b, p, c, y, x]
    eyes = eye(flat)
    seen[b, p*2 + n, d] = eyes[b*pictures + p, n, d]   for b < B, p < pictures, n < 2
    return lm.decode(splice(lm.embed(ids), at = ids == "<image>", seen))
  }

  loss(picture, ids, answer[B, T]) = nn.cross_entropy(forward(picture, ids), next(ids), answer)
  preprocess picture { channels 1; resize bicubic exact 4; scale 1/255; mean 0.5; std 0.5 }
}

template chat {
  specials "</s>" "<s>" "<image>"
  system   "<<SYS>>\n{system}\n<</SYS>>\n\n" "Look."
  turn     "<s>[INST] {system}<image>\n{prompt} [/INST] {answer} </s>"
  caption  "<image>{answer}</s>"
  picture  "<image>" 2
  end      "</s>" "<s>"
}

stage pairs { data pairs
              adamw(rate = cosine(4e-3, floor = 0.1, warmup = 0.05), clip = 1.0)  batch 32  epochs 30 }
END
two="$here/two.vlm --weights $here/run"

# ---- train, ask
wants 0 "check" "$vlmc" check "$here/two.vlm" --data "$data"
holds "check counts pictures" out 'good .* 0 have another number of `<image>` than 2 per picture'
holds "check shows what is learnt" out '\[INST\].*/INST.*\]\|*$|\[</s>\]'
wants 0 "train" "$vlmc" train "$here/two.vlm" --data "$data" --out "$here/run" --quiet
wants 0 "eval" "$vlmc" eval $two --data "$data" --max-tokens 12 --log "$here/answers"
tail -n 1 "$here/out" >"$here/last"
holds "it learned to tell two pictures (chance is 25 %)" last '^accuracy (9[0-9]|100)\.'
wants 0 "two pictures at once" "$vlmc" chat $two --image "$data/p.idx#3" --image "$data/p.idx#8" --prompt "both?"
equal "two pictures at once" "$(tr -s ' ' <"$here/out" | sed 's/ $//')" "right left"
cat >"$here/said" <<END
/image $data/p.idx#2
now?
/image $data/p.idx#5
now?
/image $data/p.idx#9
now?
/clear
both?
END
"$vlmc" chat $two <"$here/said" >"$here/out" 2>"$here/err"
equal "pictures one after the other, then none" "$(tr '\n' ' ' <"$here/out" | tr -s ' ')" "left right right nothing "
holds "a third picture" err 'the model looks at 2 at most: the conversation starts anew'
wants 1 "three pictures at once" "$vlmc" train "$here/two.vlm" -D Two.pictures=1 --data "$data" --out "$here/no"
holds "more pictures than the model looks at" err 'pairs.json:2: the row shows 2 pictures, but the model looks at 1'

# ---- an ordinary token in a picture's place, as minimind-v has it
sed '/^  specials/s/ "<image>"//; s/<image>/@/g' "$here/two.vlm" >"$here/at.vlm"
at="$here/at.vlm --weights $here/run"
wants 0 "an ordinary token for pictures" "$vlmc" chat $at --image "$data/p.idx#3" --prompt "both?"
wants 1 "a question that holds it" "$vlmc" chat $at --image "$data/p.idx#3" --prompt "who @ me?"
holds "a question that holds it" err 'the question holds "@", which stands for a picture'

# ---- the system's text, by the number of tokens
tokens() { "$vlmc" chat $two --prompt "both?" "$@" 2>"$here/err" >"$here/out"; sed -n 's/^\[\([0-9]*\) prompt tokens.*/\1/p' "$here/err"; }
plain=$(tokens) other=$(tokens --system "Look. Look.") seeing=$(tokens --image "$data/p.idx#1")
if [ "$other" -gt "$plain" ]; then pass; else fail "--system: $other tokens, $plain without"; fi
if [ "$seeing" -gt $((plain + 1)) ]; then pass; else fail "a picture: $seeing tokens, $plain without"; fi
sed -i '/^  system/d; s/{system}//g' "$here/two.vlm"
wants 1 "--system without a place" "$vlmc" chat $two --prompt x --system y
holds "--system without a place" err 'template has no `system`'

# ---- captions alone
sed -i '/^  turn/d' "$here/two.vlm"
printf '/image %s\nwhat?\n' "$data/p.idx#1" >"$here/said"
"$vlmc" chat $two --image "$data/p.idx#1" --max-tokens 5 <"$here/said" >"$here/out" 2>"$here/err"
equal "a caption for each picture" "$(wc -l <"$here/out")" 2
equal "the same for the same picture" "$(sort -u "$here/out" | wc -l)" 1
holds "a question to a model of captions" err 'captions, but no turns'

finish
