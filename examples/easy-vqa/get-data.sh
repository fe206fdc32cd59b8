#!/bin/sh
# Fetches easy-VQA (Victor Zhou, MIT licence) and makes it a data set: get-data.sh DIR
#
# The pictures and questions come inside the Python package easy-vqa 1.0; only its archive is taken, nothing of it
# is run. Needs pip, unzip and jq.
set -eu
[ $# -eq 1 ] || { echo "usage: get-data.sh DIR" >&2; exit 1; }
for tool in pip unzip jq; do
  command -v "$tool" >/dev/null || { echo "get-data.sh: $tool is missing (Debian: apt install python3-pip unzip jq)" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip download --quiet --no-deps --no-binary :none: -d "$work" easy-vqa==1.0
cd "$work"
for archive in easy_vqa-*.whl; do [ -f "$archive" ] && unzip -q "$archive"; done
for archive in easy[-_]vqa-*.tar.gz; do [ -f "$archive" ] && tar xzf "$archive" --strip-components=1; done
cd - >/dev/null
"$(dirname "$0")/prepare.sh" "$work/easy_vqa/data" "$1"
