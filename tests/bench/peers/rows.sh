# Which rows `make bench-peers` has, and what they are to reach; sourced by peers.sh, which says what the words mean.
# FLOPs of the machine's rows are what the model needs at least, whatever our programs do: 2 per multiply-add, causal
# attention by half, a training step three times its forward part. Of bytes, each weight is read once per token.

cache=${XDG_CACHE_HOME:-$HOME/.cache}/vlmc python=${PEERS_PYTHON:-}
[ -n "$python" ] || python=$cache/peers/bin/python
# version PACKAGE NAME
version() { [ ! -x "$python" ] || "$python" -c "import importlib.metadata as m; print('$2', m.version('$1').split('+')[0])" 2>/dev/null; }
torch_version=$(version torch PyTorch) onnx_version=$(version onnxruntime "ONNX Runtime")
llama_version=$("${LLAMA_CPP:-/nowhere}/llama-completion" --version 2>&1 |
  sed -n 's/^version: \([^ ]*\).*commit \(.*\))/llama.cpp \1 \2/p')
llm_c_version=$(git -C "${LLM_C:-/nowhere}" log -1 --format='llm.c of %cd' --date=format:%Y-%m-%d 2>/dev/null)

as() { name=$1 peer=$2; shift 2; side "$name" "$peer" "" "$build/bench/step" "$@"; }
ours() { name=$1; shift; as "$name" vlmc "$@"; }
machine() { side machine machine "" "$build/bench/machine" "$@"; }
timed() { name=$1; shift; side "$name" vlmc "" sh tests/bench/timed.sh "$@"; }
# script NAME PEER VERSION SCRIPT ARGUMENT...
script() {
  name=$1 peer=$2 version=$3 file=$4
  shift 4
  if [ -x "$python" ]; then side "$name" "$peer" "$version" "$python" "$peers/$file" "$@"; else
    side "$name" "$peer" "" echo absent "no $python: sh $peers/setup.sh makes it"; fi
}
torch() { how=$1 file=$2; shift 2; script "$how" "PyTorch $how" "$torch_version" "$file" "$how" "$@"; }
llama() { side llama llama.cpp "$llama_version" sh "$peers/llama.sh" "$@"; }

step() { # BATCH LENGTH GFLOP
  small="models/gpt.vlm --preset small --stage text --program train --batch $1 --length $2"
  what="GPT-2 124M training step, B=$1 T=$2"
  family gpt
  group
  ours ours $small
  as f32 "vlmc in f32" $small
  ours bf16 $small --dtype bf16
  torch eager torch_gpt.py "$1" "$2"
  torch compiled torch_gpt.py "$1" "$2"
  side llm.c llm.c "$llm_c_version" sh "$peers/llm_c.sh" "$1" "$2"
  machine compute "$3" 0
  row "$what" ours eager 1.50
  row "$what" ours compiled 1.30
  row "$what" ours llm.c 6.00
  row "$what" ours machine 0.75
  row "$what, bf16" bf16 f32 1.60
  [ "$2" = 64 ] || { measure; return; }
  row "peak memory of a $what" ours eager 1.67 1 MiB
  row "peak memory of a $what" ours llm.c 1.67 1 MiB
  measure
}
step 4 64 190.6
step 4 256 773.4
step 1 1024 816.9

family vit
for batch in 1 8; do
  group
  ours ours models/vit.vlm --preset b16 --program forward --batch $batch --length 1
  torch eager torch_vit.py $batch
  script onnx "ONNX Runtime" "$onnx_version" onnx_vit.py $batch "$(nproc)"
  [ $batch != 1 ] || llama vit f32 "$(nproc)"
  machine compute $((batch * 3513)).e-2 0
  what="ViT-B/16 encoding, batch $batch"
  row "$what" ours eager 1.40
  row "$what" ours onnx 1.30
  [ $batch != 1 ] || row "$what" ours llama 1.70
  row "$what" ours machine 0.80
  measure
done

family vlm
for stage in pretrain sft; do
  group
  ours ours models/vlm.vlm --stage $stage --program train --batch 8 --length 276
  torch eager torch_vlm.py $stage 8 80
  what="VLM step, $stage, ViT-B/16 and GPT-2 124M, 196 + 80 tokens, batch 8"
  row "$what" ours eager 1.50
  measure
  group
  side ours vlmc "" sh tests/bench/train.sh $stage 8 79
  torch eager torch_vlm.py $stage 8 80
  row "$what, from the second epoch on" ours eager 2.00
  measure
done

# generation FAMILY MODEL FILE PRESET MB-OF-POSITIONS
generation() {
  for format in f32 bf16 q8_0 q4_0; do
    case $format in f32) reach=1.50 ;; q4_0) reach=1.00 ;; *) reach=2.00 ;; esac
    for threads in 1 2; do
      model="models/$3.vlm --preset $4 --weights-dtype $format --threads $threads --batch 1"
      [ $threads = 1 ] && on="1 thread" || on="$threads threads"
      group
      family "$1"
      if [ "$1" = decode ]; then
        ours ours $model --program decode --length 1
        llama decode "$4" $format $threads
        side machine machine "" sh "$peers/read.sh" $threads "$5" $model --program decode
        row "$2 decode, $format, $on" ours llama 1.00
        row "$2 decode, $format, $on" ours machine 0.90
      else
        # llama.cpp rounds what it multiplies with bf16 weights to bf16 too
        [ $format = bf16 ] && model="$model --dtype bf16"
        ours ours $model --program prefill --length 512
        llama prefill "$4" $format $threads
        row "$2 prefill of 512, $format, $on" ours llama $reach
      fi
      measure
    done
  done
}
for kind in decode prefill; do
  generation $kind "GPT-2 124M" gpt small 3.1
  generation $kind SmolLM2-135M llama smollm2_135m 0
done

family first
group
ours ours models/vlm.vlm --program prefill --batch 1 --length 212
row "first token after a picture, ViT-B/16 and GPT-2 124M, 196 + 16 tokens" ours =250 1.00
measure

family start
group
timed gpt "$build/vlmc" models/gpt.vlm --preset small --stage text --cache-dir none
timed vlm "$build/vlmc" models/vlm.vlm --stage sft --cache-dir none
timed warm_gpt "$build/vlmc" models/gpt.vlm --preset small --stage text --cache-dir "$work/cache"
timed warm_vlm "$build/vlmc" models/vlm.vlm --stage sft --cache-dir "$work/cache"
row "cold compile, GPT-2 124M training step" gpt =1000 1.00
row "cold compile, VLM training step" vlm =1500 1.00
row "warm compile, GPT-2 124M training step" warm_gpt =100 1.00
row "warm compile, VLM training step" warm_vlm =100 1.00
measure

family scaling
group
small="models/gpt.vlm --preset small --stage text --program train --length 64"
ours large $small --batch 8
as half "twice batch 4" $small --batch 4
ours both $small --batch 4
as one "1 thread" $small --batch 4 --threads 1
row "GPT-2 124M training step, T=64, batch 8" large half 0.95 2
row "GPT-2 124M training step, B=4 T=64, 2 threads" both one 1.85
measure
group
encode="models/vit.vlm --preset b16 --program forward --length 1"
ours large $encode --batch 8
as single "8 times batch 1" $encode --batch 1
as one "1 thread" $encode --batch 8 --threads 1
row "ViT-B/16 encoding, batch 8" large single 0.95 8
row "ViT-B/16 encoding, batch 8, 2 threads" large one 1.85
measure
