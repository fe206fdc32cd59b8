#!/bin/sh
# llama.cpp as a side of a comparison (llama.c), built and given random weights on the first call:
#   LLAMA_CPP=DIR sh llama.sh decode|prefill small|smollm2_135m FORMAT THREADS
#   LLAMA_CPP=DIR sh llama.sh vit FORMAT THREADS
# DIR holds the shared libraries of a build; the headers are in the sources that it was built from, which its
# CMakeCache.txt names, or in LLAMA_CPP_SOURCE.
set -eu
absent() { echo "absent $*"; exit 0; }
here=$(dirname "$0") cache=${XDG_CACHE_HOME:-$HOME/.cache}/vlmc
python=${PEERS_PYTHON:-$cache/peers/bin/python}
[ -n "${LLAMA_CPP:-}" ] || absent "LLAMA_CPP names no build of llama.cpp"
[ -e "$LLAMA_CPP/libllama.so" ] || absent "there is no libllama.so in LLAMA_CPP=$LLAMA_CPP"
source=${LLAMA_CPP_SOURCE:-$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$LLAMA_CPP/../CMakeCache.txt" 2>/dev/null || :)}
[ -e "$source/include/llama.h" ] || absent "LLAMA_CPP_SOURCE names no sources of llama.cpp"
"$python" -c 'import gguf' 2>/dev/null || absent "no gguf for $python: sh tests/bench/peers/setup.sh"

program=${BUILD:-build}/bench/llama
[ "$program" -nt "$here/llama.c" ] && [ "$program" -nt "$LLAMA_CPP/libllama.so" ] ||
  ${CC:-cc} -O2 -I"$source/include" -I"$source/ggml/include" -I"$source/tools/mtmd" -o "$program" "$here/llama.c" \
    -L"$LLAMA_CPP" -Wl,-rpath,"$(realpath "$LLAMA_CPP")" -lmtmd -lllama -lggml -lggml-base
# weights MODEL FORMAT: its file
weights() {
  file=$cache/bench/$1-$2.gguf
  [ "$file" -nt "$here/llama_gguf.py" ] || {
    mkdir -p "$cache/bench"
    "$python" "$here/llama_gguf.py" "$1" "$2" "$file.new" >&2 && mv "$file.new" "$file"
  }
}
if [ "$1" = vit ]; then
  weights vit "$2"
  vision=$file
  weights small f32
  exec "$program" vit "$file" "$3" "$vision"
fi
weights "$2" "$3"
exec "$program" "$1" "$file" "$4"
