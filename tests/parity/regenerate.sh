#!/bin/sh
# Makes tests/parity/data anew with the reference implementations, in a private folder of Python packages.
#   sh tests/parity/regenerate.sh [CASE ...]
set -e
cd "$(dirname "$0")"
VENV=${VENV:-../../build/parity}
[ -x "$VENV/bin/python" ] || python3 -m venv "$VENV"
"$VENV/bin/python" -c 'import torch, transformers, safetensors, gguf' 2>/dev/null ||
  "$VENV/bin/pip" install --quiet torch transformers safetensors gguf
"$VENV/bin/python" models.py "$@"
