#!/bin/sh
# llm.c as a side of a comparison (llm_c.c), built on the first call: LLM_C=CHECKOUT sh llm_c.sh BATCH LENGTH
set -eu
here=$(dirname "$0") program=${BUILD:-build}/bench/llm_c
[ -n "${LLM_C:-}" ] || { echo "absent LLM_C names no checkout of llm.c"; exit 0; }
[ -e "$LLM_C/train_gpt2.c" ] || { echo "absent there is no train_gpt2.c in LLM_C=$LLM_C"; exit 0; }
[ "$program" -nt "$here/llm_c.c" ] && [ "$program" -nt "$LLM_C/train_gpt2.c" ] ||
  ${CC:-cc} -O3 -march=native -ffast-math -fopenmp -D_GNU_SOURCE -I"$LLM_C" -o "$program" "$here/llm_c.c" -lm
exec "$program" "$@"
