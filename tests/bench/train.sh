#!/bin/sh
# `vlmc train` of models/vlm.vlm as a side of a comparison (side.h), from its second epoch on: train.sh STAGE BATCH WORDS.
# A step is the time from one line of its log to the next, so all that a user waits for is in it: reading of data and
# what is kept of them over epochs. 64 random pictures with so many random words each, in PYTHON's own PNG.
set -eu
stage=$1 batch=$2 words=$3 vlmc=${BUILD:-build}/vlmc pictures=64
folder=$(mktemp -d)
"${PYTHON:-python3}" - "$folder" $pictures "$words" <<'END' || { rm -rf "$folder"; echo "absent no python3 to draw pictures with"; exit 0; }
import json, os, random, struct, sys, zlib
folder, pictures, words = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(0)
vocabulary = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=5)) for _ in range(2000)]
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
for i in range(pictures):
    rows = b"".join(b"\0" + os.urandom(224 * 3) for _ in range(224))
    with open(f"{folder}/{i}.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 224, 224, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b""))
for name in "captions", "dialogues":
    with open(f"{folder}/{name}.jsonl", "w") as file:
        for i in range(pictures):
            file.write(json.dumps({"image": f"{i}.png", "caption": " ".join(random.choices(vocabulary, k=words))}) + "\n")
END
lines() { if [ -e "$folder/run/log.jsonl" ]; then wc -l <"$folder/run/log.jsonl"; else echo 0; fi; }
# Ends with the training, where that ends by itself; what it said is the reason then.
until_line() { while [ "$(lines)" -lt "$1" ]; do [ -e /proc/$$/exe ] || { rm -rf "$folder"; exit 1; }; sleep 0.05; done; }
serve() { # beside the training, which the driver stops and lets go on: a step in which it stood still is left out
  until_line $((pictures / batch + 2))
  echo ready
  while read -r count; do
    from=$(($(lines) + 1))
    until_line $((from + count))
    sed -n "$from,$((from + count))p" "$folder/run/log.jsonl" | sed 's/.*"seconds": \([0-9.]*\).*/\1/' |
      awk 'NR > 1 {print $1 - last} {last = $1}' | sort -n |
      awk '{times[NR] = $1} END {printf "%.3f\n", 1e3 * times[int((NR + 1) / 2)]}'
  done
  kill -KILL $$
  rm -rf "$folder"
}
exec 3<&0 4>&1
serve <&3 >&4 &
exec "$vlmc" train models/vlm.vlm --stage "$stage" -D "$stage.batch=$batch" --data "$folder" --out "$folder/run" \
  --cache-dir "$folder/cache" --epochs 100000 --save-every 1000000 --quiet >&2 3<&- 4>&-
