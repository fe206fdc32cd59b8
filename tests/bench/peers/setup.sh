#!/bin/sh
# Installs the Python peers (PyTorch, ONNX Runtime, transformers, gguf) from PyPI into a folder of their own, about 2 GB:
# setup.sh [DIR], by default $XDG_CACHE_HOME/vlmc/peers, where peers.sh looks for them.
set -eu
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/vlmc/peers}
command -v python3 >/dev/null || { echo "setup.sh: python3 is missing (Debian: apt install python3-venv)" >&2; exit 1; }
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
# The CPU's build of PyTorch is a tenth of the size; where its index can not be reached, the general one does as well.
"$folder/bin/pip" install --quiet --index-url https://download.pytorch.org/whl/cpu torch ||
  "$folder/bin/pip" install --quiet torch
"$folder/bin/pip" install --quiet numpy transformers onnx onnxscript onnxruntime gguf
"$folder/bin/python" -c 'import torch, onnxruntime, transformers; print("PyTorch", torch.__version__, "ONNX Runtime", onnxruntime.__version__, "transformers", transformers.__version__)'
