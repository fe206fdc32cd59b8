#!/bin/sh
# easy-VQA as captions and dialogues: prepare.sh SOURCE DIR
#
# SOURCE holds train/ and test/, each with questions.json ([question, answer, picture] triples) and images/.
# Captions ("a blue rectangle") are put together from what the training questions of a picture give away; a
# picture whose questions do not tell both colour and shape gets none. Needs jq.
set -eu
[ $# -eq 2 ] || { echo "usage: prepare.sh SOURCE DIR" >&2; exit 1; }
command -v jq >/dev/null || { echo "prepare.sh: jq is missing (Debian: apt install jq)" >&2; exit 1; }
for split in train test; do
  [ -r "$1/$split/questions.json" ] || { echo "prepare.sh: $1/$split/questions.json is missing" >&2; exit 1; }
done
mkdir -p "$2"
for split in train test; do mkdir -p "$2/$split" && cp -r "$1/$split/images" "$2/$split/"; done

# triples SPLIT: picture, question, answer, by tabs
triples() { jq -r '.[] | [.[2], .[0], .[1]] | @tsv' "$1/$2/questions.json"; }

# dialogues SPLIT: triples -> rows
dialogues() {
  awk -F '\t' -v folder="$1" '{
    kind = $3 == "yes" || $3 == "no" ? "yes or no" : $2 ~ /colou?r/ ? "color" : "shape"
    printf "{\"image\": \"%s/images/%s.png\", \"prompt\": \"%s\", \"answer\": \"%s\", \"kind\": \"%s\"}\n", folder, $1, $2, $3, kind
  }'
}

# captions: training triples -> rows, for pictures of which both colour and shape are told
captions() {
  awk -F '\t' '
    BEGIN {
      split("teal black green blue gray yellow red brown", list, " "); for (i in list) colours[list[i]]
      split("rectangle circle triangle", list, " "); for (i in list) shapes[list[i]]
    }
    function learn(word) {
      if (word in colours) colour[$1] = word
      if (word in shapes) shape[$1] = word
    }
    {
      learn($3)
      denied = $3 == "no" || ($3 == "yes" && $2 ~ /(^| )(not|no)( |$)/)
      count = split($2, words, /[ ?]+/)
      if (!denied) for (i = 1; i <= count; i++) learn(words[i])
      if (!($1 in seen)) { seen[$1]; order[pictures++] = $1 }
    }
    END {
      for (i = 0; i < pictures; i++) {
        picture = order[i]
        if (picture in colour && picture in shape)
          printf "{\"image\": \"train/images/%s.png\", \"caption\": \"a %s %s\"}\n", picture, colour[picture], shape[picture]
      }
    }'
}

triples "$1" train | dialogues train >"$2/dialogues.jsonl"
triples "$1" train | captions >"$2/captions.jsonl"
cat "$2/captions.jsonl" "$2/dialogues.jsonl" | sed 's/"image": "[^"]*", //' >"$2/text.jsonl"
triples "$1" test | dialogues test >"$2/test.jsonl"
head -n 60 "$2/test.jsonl" >"$2/sheet.jsonl"
wc -l "$2"/*.jsonl
