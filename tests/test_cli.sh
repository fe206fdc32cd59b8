#!/bin/sh
# The command line from outside: exit statuses, messages, every form of every model, forms that read back, folders
# and devices as outputs, an installed copy. Input: $BUILD/vlmc; output: FAILED lines and the closing line.
. "$(dirname "$0")/shell.sh"
root=$(pwd)
exec </dev/null
# refuses PATTERN ARGUMENT...: a user error of vlmc whose message matches the pattern, and nothing on standard output
refuses() {
  pattern=$1
  shift
  wants 1 "vlmc $*" "$vlmc" "$@" || return
  if ! grep -qE -e "$pattern" "$here/err"; then
    fail "vlmc $*: no message like: $pattern" "$(cat "$here/err")"
  elif ! grep -q 'error: ' "$here/err" || grep -q 'internal' "$here/err"; then
    fail "vlmc $*: the message is not that of a user's error" "$(cat "$here/err")"
  elif [ -s "$here/out" ]; then
    fail "vlmc $*: it printed something beside the error" "$(cat "$here/out")"
  else
    pass
  fi
}
prints() { holds "$1" out "$2"; } # NAME PATTERN: the last command's output

# ---- help, version, lists
commands=$("$vlmc" --help | sed -n 's/^       vlmc \([a-z]*\) .*/\1/p')
if [ "$(echo "$commands" | wc -w)" -ge 8 ]; then pass; else fail "the commands that vlmc --help tells of" "$commands"; fi
for command in "" $commands; do
  good "vlmc $command --help" "$vlmc" $command --help && prints "vlmc $command --help" '^usage: vlmc'
  good "vlmc $command -h" "$vlmc" $command -h
  good "vlmc $command --version" "$vlmc" $command --version && prints "vlmc $command --version" '^vlmc [0-9]'
done
good "--list-passes" "$vlmc" --list-passes && prints "--list-passes" '^gradient '
good "--list-ops" "$vlmc" --list-ops && prints "--list-ops" '^dot '

# ---- the user's errors
refuses 'model file is expected'
refuses 'nothing.vlm.*No such file' nothing.vlm
refuses 'regular file' models
refuses 'regular file' /dev/null
refuses 'found also' models/vlm.vlm models/gpt.vlm
refuses 'unknown option `--foo`' --foo
refuses 'unknown option `-y`' -y
refuses 'not an option of `vlmc`' models/gpt.vlm --epochs 3
refuses 'not an option of `train`' train models/gpt.vlm --emit graph
refuses 'takes no value' --version=3
refuses 'needs a value' models/gpt.vlm --emit
refuses 'needs a value' models/gpt.vlm --emit=
refuses 'one of ast, graph' models/gpt.vlm --emit=foo
refuses 'no target `foo`' models/gpt.vlm --target foo
refuses 'no architectures' models/gpt.vlm --target cpu:x
refuses 'no preset `foo`.*tiny' models/gpt.vlm --preset foo
refuses 'no stage `foo`.*text' models/gpt.vlm --stage foo
refuses 'PATH=VALUE' models/gpt.vlm -D x
for size in x 8X 8GG -1 1e30 8Bi; do refuses 'takes a number of bytes, as in 500M' train models/vlm.vlm --cache-size "$size"; done
for size in 0 1.5G 8GiB "2 GB" 100kB 70000; do refuses 'data is needed' train models/vlm.vlm --cache-size "$size"; done
refuses '--cache-dtype is f32, f16 or int8, found `f8`' train models/vlm.vlm --cache-dtype f8
refuses 'fusion and features, found `x`' models/gpt.vlm --explain x
refuses 'no program of features: no features are kept: no input is a sample by itself' models/gpt.vlm --program features
refuses 'no program of features: --stop-after' models/vlm.vlm --program features --stop-after gradient
refuses 'nothing is called `foo`' models/gpt.vlm -D foo=3
refuses '^command line:1:4: error: nothing is called `foo`' models/gpt.vlm -D foo=3
refuses '^command line:1:10: error: nothing is called `abc`' models/gpt.vlm -D width=abc
refuses '^command line:1:10: error: `99999999999999999999` is too large a number; whole ones' models/gpt.vlm -D width=99999999999999999999
refuses '^command line:1:10: error: `9007199254740993` is too large' models/gpt.vlm -D width=9007199254740993
refuses 'below 1099511627776 .*, found 9000000000001$' models/gpt.vlm -D width=9000000000001
refuses 'did you mean `vlmc train`' trian models/gpt.vlm
refuses 'did you mean `vlmc train`' trian --data x models/gpt.vlm
refuses 'did you mean `vlmc chat`' chta
refuses 'unknown option `--step`; is --steps meant' train models/gpt.vlm --step 3
refuses 'nothing is called `widht` in GPT; is `width` meant' models/gpt.vlm -D widht=3
refuses 'nothing is called `lm.dept` in VLM; is `lm.depth` meant' models/vlm.vlm -D lm.dept=3
refuses 'No such file' zebra
refuses 'nothing is called `abc`' models/gpt.vlm -D width=abc
refuses 'stdlib/nn.vlm:[0-9]*:[0-9]*: error: ' models/gpt.vlm -D width=95
refuses 'at least 1' models/gpt.vlm -D width=0
refuses 'found -4' models/gpt.vlm -D width=-4
refuses 'at most 1000' models/gpt.vlm -D depth=1000000000
refuses 'whole number from 1 to' models/gpt.vlm --batch 0
refuses 'whole number from 1 to' models/gpt.vlm --batch 1.5
refuses 'whole number from 1 to' models/gpt.vlm --length 1e99
refuses 'no pass `foo`' models/gpt.vlm --stop-after foo
refuses 'no pass `foo`' models/gpt.vlm --dump-after foo
refuses 'knows fusion' models/gpt.vlm --explain foo
refuses 'f32 or bf16' models/gpt.vlm --dtype f16
refuses 'f32, bf16, q8_0 or q4_0, found `q8`; is q8_0 meant' models/gpt.vlm --weights-dtype q8
refuses 'f32, bf16, q8_0 or q4_0, found `other`$' models/gpt.vlm --weights-dtype other
refuses 'not an option of `train`' train models/gpt.vlm --weights-dtype q8_0
refuses 'forward, loss, train' models/gpt.vlm --program foo
refuses 'no kernel' models/gpt.vlm --preset tiny --emit=kernels --kernel nosuch
refuses 'shows none' models/gpt.vlm --preset tiny --emit=graph --kernel norm
refuses 'stop-after=fuse ends before' models/gpt.vlm --preset tiny --emit=kernels --stop-after fuse
refuses 'cannot write it' models/gpt.vlm --preset tiny --emit=graph -o "$here/nowhere/x"
mkdir "$here/folder" && good "-o FOLDER" "$vlmc" models/gpt.vlm --preset tiny --emit=graph -o "$here/folder" && good "its file" test -s "$here/folder/gpt.graph"
refuses 'data is needed' train models/gpt.vlm
refuses 'out is needed' train models/gpt.vlm --data "$here"
refuses 'text.jsonl.*no such file' train models/gpt.vlm --data "$here" --out "$here/run"
gone "a data folder without rows" "$here/run"
refuses 'run.json' eval models/gpt.vlm --weights "$here" --data "$here"
refuses 'weights is needed' eval models/gpt.vlm --data "$here"
refuses 'weights is needed' chat models/gpt.vlm
refuses 'data is needed' check models/gpt.vlm
refuses 'weights is needed' export models/gpt.vlm
refuses 'o is needed' export models/gpt.vlm --from "$here"
refuses 'one of the model.s blocks of weights: gpt2, gguf; found nosuch' export models/gpt.vlm --from "$here" -o "$here/x" --as nosuch
refuses 'one of the model.s blocks of weights: vision.clip, vision.mmproj, lm.gpt2, lm.gguf$' export models/vlm.vlm --from "$here" -o "$here/x"
refuses 'model file is expected' draw
refuses 'folder of a run' plot
refuses 'log.jsonl' plot "$here"
printf 'model M( {' >"$here/broken.vlm"
refuses 'broken.vlm:1:' "$here/broken.vlm"
printf 'model M() {}\0' >"$here/nul.vlm"
refuses 'NUL' "$here/nul.vlm"
: >"$here/empty.vlm"
refuses 'empty.vlm' "$here/empty.vlm"
head -c 17000000 /dev/zero | tr '\0' '#' >"$here/large.vlm"
refuses 'larger than' "$here/large.vlm"
rm "$here/large.vlm"

# ---- every form of every model, to a file, to standard output, to a folder
sizes() { # MODEL: LLaVA leaves the last block of its encoder out
  case $1 in
  gpt | llama | siglip | vit) echo "-D depth=1" ;;
  clip) echo "-D vision.depth=1 -D text.depth=1" ;;
  llava) echo "-D vision.depth=2 -D lm.depth=1" ;;
  *) echo "-D vision.depth=1 -D lm.depth=1" ;;
  esac
}
cuda=
if "$vlmc" models/gpt.vlm --preset tiny -D depth=1 --emit=cubin --kernel LayerNorm -o "$here/norm/" 2>"$here/err"; then cuda=yes; fi
nvrtc_message=$(cat "$here/err")
for file in models/*.vlm; do
  model=$(basename "$file" .vlm)
  small="--preset tiny $(sizes $model)"
  for form in ast graph grad fused kernels memory dot svg; do
    good "$model --emit=$form -o FILE" "$vlmc" models/$model.vlm $small --emit=$form -o "$here/$model.$form"
    good "$model --emit=$form" "$vlmc" models/$model.vlm $small --emit=$form && same "$model --emit=$form" "$here/out" "$here/$model.$form"
    good "$model --emit=$form -o DIR/" "$vlmc" models/$model.vlm $small --emit=$form -o "$here/$form/$model/"
    if [ -n "$(ls -A "$here/$form/$model")" ]; then pass; else fail "$model --emit=$form -o DIR/: nothing is there"; fi
  done
  some="$small --program forward --kernel Norm" # code of some kernels is enough here
  for form in llvm asm c cuda ptx cubin; do
    case $form-$cuda-$model in ptx-yes-gpt | cubin-yes-gpt | ptx-yes-vlm | cubin-yes-vlm) ;; ptx* | cubin*) continue ;; esac
    good "$model --emit=$form -o DIR/" "$vlmc" models/$model.vlm $some --emit=$form -o "$here/$form/$model/"
    cat "$here/$form/$model"/* >"$here/$model.$form" # several kernels' bytes go into one file only here
    [ $form = cubin ] || good "$model --emit=$form -o FILE" "$vlmc" models/$model.vlm $some --emit=$form -o "$here/$model.$form"
    if [ -s "$here/$model.$form" ] && [ -n "$(ls -A "$here/$form/$model")" ]; then pass; else fail "$model --emit=$form: nothing is there"; fi
  done
  good "draw $model" "$vlmc" draw models/$model.vlm --preset tiny && prints "draw $model" '^<svg|<svg '

  # what is printed reads back and prints the same again
  for form in graph grad kernels; do
    good "$model.$form read back" "$vlmc" "$here/$model.$form" --emit=$form -o "$here/again" && same "$model.$form" "$here/again" "$here/$model.$form"
  done
  cp "$here/$model.ast" "$here/$model.vlm"
  good "$model.ast read back" "$vlmc" "$here/$model.vlm" --preset tiny --emit=ast && same "$model.ast" "$here/out" "$here/$model.ast"
  good "$model.ast as a model" "$vlmc" "$here/$model.vlm" --preset tiny $(sizes $model) --emit=graph -o "$here/again" && same "graph of $model.ast" "$here/again" "$here/$model.graph"
done
good "table of a graph" "$vlmc" "$here/gpt.graph" && prints "table of a graph" '^total '
good "table of kernels" "$vlmc" "$here/gpt.kernels" && prints "table of kernels" '^total +[1-9]'
good "code of kernels" "$vlmc" "$here/gpt.kernels" --emit=c && prints "code of kernels" 'for \('
# ... with the model's lines: the table names them as before, and the code is the same to the last comment
small="models/gpt.vlm --preset tiny -D depth=1 --batch 3 --length 17"
lines() { sed -n '2,$s/^\([^ ]*\) .*OP *\(.*\)/\1 \2/p' "$1" | grep -v '^total'; }
good "model lines" "$vlmc" $small && lines "$here/out" >"$here/lines" && prints "model lines" 'models/gpt.vlm:[0-9]+'
good "kernels of these sizes" "$vlmc" $small --emit=kernels -o "$here/small.kernels" # likely sizes have a say in what fuses
good "model lines read back" "$vlmc" "$here/small.kernels" --batch 3 --length 17 && lines "$here/out" >"$here/again"
if [ -s "$here/lines" ]; then same "model lines read back" "$here/lines" "$here/again"; else fail "model lines: none found"; fi
for form in c cuda; do
  good "--emit=$form" "$vlmc" $small --emit=$form -o "$here/direct"
  good "--emit=$form of kernels" "$vlmc" "$here/small.kernels" --batch 3 --length 17 --emit=$form -o "$here/back" && same "--emit=$form of kernels" "$here/direct" "$here/back"
done
sed 's/^from .*/from models.vlm:0  x/' "$here/gpt.kernels" >"$here/wrong.kernels"
refuses 'wrong.kernels:2:17: error: expected the number of a line' "$here/wrong.kernels"
refuses 'holds kernels' "$here/gpt.kernels" --emit=graph
refuses 'holds a graph' "$here/gpt.graph" --emit=ast
refuses 'not a model file' train "$here/gpt.graph" --data "$here" --out "$here/run"
sed 's/mul/mull/' "$here/gpt.graph" >"$here/wrong.graph"
refuses 'wrong.graph:[0-9]+:[0-9]+: error: ' "$here/wrong.graph"
head -c 3000 "$here/gpt.kernels" >"$here/cut.kernels"
refuses 'cut.kernels:[0-9]+:[0-9]+: error: ' "$here/cut.kernels"

# ---- looking at passes
small="models/gpt.vlm --preset tiny -D depth=1"
good "table" "$vlmc" $small && prints "table" '^total .* for B=16 T=128'
good "table without a cache" "$vlmc" $small --cache-dir none && prints "table without a cache" '^total '
good "table of ref" "$vlmc" $small --target ref && prints "table of ref" '^total '
good "other sizes" "$vlmc" $small --batch 3 --length 17 && prints "other sizes" 'for B=3 T=17'
good "bf16" "$vlmc" $small --dtype bf16 --program forward && prints "bf16" '^total '
for format in bf16 q8_0 q4_0; do
  good "$format" "$vlmc" $small --weights-dtype $format --program forward &&
    prints "$format" "^weights of contractions: [145] in $format, " && prints "$format" '^total '
  "$vlmc" $small --weights-dtype $format --program forward --stop-after dead --dump-after dead 2>"$here/packed.graph"
  good "$format as text" "$vlmc" "$here/packed.graph" --target ref --stop-after dead --dump-after dead
  sed 1d "$here/packed.graph" >"$here/packed" && sed 1d "$here/err" >"$here/again"
  same "$format read back" "$here/packed" "$here/again"
done
good "trained weights stay" "$vlmc" $small --weights-dtype q8_0 && prints "trained weights stay" 'stays f32.*: it is trained'
good "packed weights in memory" "$vlmc" $small --weights-dtype q4_0 --program forward --emit=memory &&
  prints "packed weights in memory" '10 buffers  packed weights$'
for kind in forward loss train prefill decode; do good "--program $kind" "$vlmc" $small --program $kind --emit=memory && prints "--program $kind" "^memory of $kind"; done
"$vlmc" --list-passes | while read -r pass what; do
  "$vlmc" $small --stop-after "$pass" >"$here/out" 2>"$here/err" && [ ! -s "$here/err" ] || echo "$pass"
  "$vlmc" $small --stop-after "$pass" --dump-after "$pass" >/dev/null 2>"$here/err" || echo "$pass (dump)"
  case $pass in derive | emit) ;; *) grep -q "^# after $pass (train)" "$here/err" || echo "$pass (no dump)" ;; esac
done >"$here/passes"
if [ -s "$here/passes" ]; then fail "--stop-after and --dump-after" "$(cat "$here/passes")"; else pass; fi
good "--dump-after=all" "$vlmc" $small --dump-after all --stop-after lower && for name in elaborate canonical gradient optimizer simplify fuse lower; do
  if grep -q "^# after $name " "$here/err"; then pass; else fail "--dump-after=all shows no $name"; fi
done
good "--time-passes" "$vlmc" $small --time-passes
if grep -qE '^train +gradient +[0-9.]+ ms' "$here/err"; then pass; else fail "--time-passes" "$(cat "$here/err")"; fi
good "--explain=fusion" "$vlmc" $small --explain=fusion && prints "--explain=fusion" 'bytes .*models/gpt.vlm:[0-9]+ .*\(.+\)'
for run in 1 2; do "$vlmc" $small --emit=asm --kernel LayerNorm -j $run >"$here/asm.$run" 2>&1; done
same "the same code by 1 and 2 threads" "$here/asm.1" "$here/asm.2"

# ---- CUDA: with or without NVRTC, with or without a GPU
if [ "$cuda" ]; then
  for architecture in sm_80 sm_90a; do
    good "--target cuda:$architecture" "$vlmc" $small --program forward --target cuda:$architecture && prints "--target cuda:$architecture" '^(device: |compiled, but there is no device)'
  done
  refuses 'sm_12345' $small --program forward --target cuda:sm_12345
else
  skip "no NVRTC on this machine: $(echo "$nvrtc_message" | head -n 1)"
  refuses 'install' $small --target cuda
  refuses 'install' $small --emit=cubin -o "$here/cubins/"
fi
refuses 'a file of each of [0-9]+ kernels: -o DIR/' $small --emit=cubin

# ---- outputs that can not be written, and those that are no plain files
for words in "--help" "--list-ops" "$small" "$small --emit=graph" "$small --emit=svg" "draw $small" "$small --emit=memory"; do
  if "$vlmc" $words >/dev/full 2>"$here/err"; then fail "vlmc $words >/dev/full: status 0"; else pass; fi
  if "$vlmc" $words >&- 2>"$here/err"; then fail "vlmc $words with a closed output: status 0"; else pass; fi
  if grep -q 'output can not be written' "$here/err"; then pass; else fail "vlmc $words with a closed output" "$(cat "$here/err")"; fi
done
"$vlmc" $small --emit=graph 2>"$here/err" | head -n 1 >"$here/out"
if [ -s "$here/err" ]; then fail "a reader that leaves early" "$(cat "$here/err")"; else pass; fi
"$vlmc" $small --emit=graph -o /dev/stdout >"$here/stdout"
"$vlmc" $small --emit=graph -o /dev/stdout | cat >"$here/piped"
same "-o /dev/stdout" "$here/stdout" "$here/gpt.graph" && same "-o /dev/stdout in a pipe" "$here/piped" "$here/gpt.graph"
if [ -L /dev/stdout ] || [ -c /dev/stdout ] || [ -p /dev/stdout ]; then pass; else fail "/dev/stdout was replaced by a file"; fi
ln -s target "$here/link" && echo old >"$here/target"
good "-o LINK" "$vlmc" $small --emit=graph -o "$here/link" && same "-o LINK" "$here/target" "$here/gpt.graph"
if [ -L "$here/link" ]; then pass; else fail "-o LINK replaced the link"; fi

# ---- where it runs: any folder, without a home, with a cache that can not be
(cd / && "$vlmc" "$root/models/vlm.vlm" --preset tiny --emit=memory >"$here/out" 2>"$here/err")
if [ $? -eq 0 ]; then pass; else fail "from the folder /" "$(cat "$here/err")"; fi
good "without an environment" env -i "$vlmc" $small
for cache in /dev/null /proc/nothing "$here/gpt.graph"; do good "--cache-dir $cache" "$vlmc" $small --cache-dir "$cache" && prints "--cache-dir $cache" '^total '; done
find "$here/cache" -type f | while read -r file; do printf 'damaged' >"$file"; done
good "damaged cache" "$vlmc" $small && prints "damaged cache" '^total '
find "$here/cache" -type f | while read -r file; do : >"$file"; done
good "emptied cache" "$vlmc" $small && prints "emptied cache" '^total '

# ---- installed
if MAKEFLAGS='' make -s install BUILD="${BUILD:-build}" PREFIX="$here/usr" >"$here/err" 2>&1; then
  cp models/vlm.vlm "$here/own.vlm"
  (cd "$here" && usr/bin/vlmc own.vlm --preset tiny -D vision.depth=1 -D lm.depth=1 >out 2>err)
  if [ $? -eq 0 ]; then pass; else fail "the installed vlmc" "$(cat "$here/err")"; fi
  if grep -q "share/vlmc/models/vit.vlm\|stdlib/nn.vlm" "$here/out"; then pass; else fail "the installed vlmc: no lines of its library" "$(head -n 3 "$here/out")"; fi
  (cd "$here" && usr/bin/vlmc models/gpt.vlm --preset tiny -D depth=1 >out 2>err)
  if [ $? -eq 0 ]; then pass; else fail "a model that came with the installed vlmc" "$(cat "$here/err")"; fi
  mv "$here/usr/share" "$here/usr/gone"
  wants 1 "installed without its library" "$here/usr/bin/vlmc" "$here/own.vlm"
  if grep -q 'standard library' "$here/err"; then pass; else fail "installed without its library" "$(cat "$here/err")"; fi
  mv "$here/usr/gone" "$here/usr/share" && rm -r "$here/usr/lib"
  wants 1 "installed without the LLVM backend" "$here/usr/bin/vlmc" $small --cache-dir none
  if grep -q 'needs LLVM 19.*it is neither beside' "$here/err"; then pass; else fail "installed without the LLVM backend" "$(cat "$here/err")"; fi
  good "target ref without the LLVM backend" "$here/usr/bin/vlmc" $small --target ref
else
  fail "make install" "$(cat "$here/err")"
fi

finish
