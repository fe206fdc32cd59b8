#!/usr/bin/env python3
"""Writes tokenization.json: what published tokenizer libraries make of short and nasty texts.

Cases are a vocabulary of the test data ("base") and the members of tokenizer.json that are put in its place; for each
text the file has a checksum of the ids, as decimals with spaces (the last 4 digits of FNV-1a's 32 bits), and one of the
text that they decode to (the last 2), where that is right: the library takes added tokens as "ü" for spelled bytes, and SentencePiece also drops
later spaces where it joins them. "trained" is what Hugging Face's trainer learns from all texts. Run where the libraries are
(pip install tokenizers sentencepiece gguf, in a folder of its own), DATA being the folder of test data:
python3 tests/parity/tokenization.py DATA > tests/parity/tokenization.json
"""
import gzip
import json
import random
import struct
import sys

import gguf
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

DATA = sys.argv[1] if len(sys.argv) > 1 else "../shared/data"

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BYTES_ONLY = dict(BYTE_LEVEL, use_regex=False)
DIGITS = {"type": "Digits", "individual_digits": True}
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
GPT4O = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         rf"|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIALS = ["<|end|>", "<image>", "<|im_start|>"]


def steps(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def normals(*parts):
    return {"type": "Sequence", "normalizers": list(parts)}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def added(number, content, **flags):
    token = {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
    return dict(token, **flags)


def metaspace(scheme, splits):
    part = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": splits}
    return {"normalizer": None, "pre_tokenizer": part, "decoder": part}


END = added(50256, "<|endoftext|>")
PLAIN = {"special": False}
ADDED = [END, added(50257, "<a>", lstrip=True), added(50258, "thee", single_word=True, **PLAIN),
         added(50259, "    ", **PLAIN), added(50260, "     ", **PLAIN), added(50261, "ings of", rstrip=True, **PLAIN),
         added(50262, "Éa", normalized=True, **PLAIN),
         added(50263, "photo of", normalized=True, lstrip=True, rstrip=True, **PLAIN),
         added(50264, "中文", single_word=True, **PLAIN), added(50265, "🙂", lstrip=True, **PLAIN)]
DEEPSEEK = steps(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), DIGITS, BYTES_ONLY)
COMPAT = normals({"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True})
REPLACE = normals({"type": "NFKD"}, {"type": "Replace", "pattern": {"Regex": "[aeiou]{2,}|\\s+$"}, "content": "#"})
THOUSANDS = steps(split(r"(?=(\d{3})+(?!\d))"), split("x*|(?=2)"), BYTES_ONLY)

GPT2 = {
    "gpt2": {},
    "smollm": {"pre_tokenizer": steps(DIGITS, BYTE_LEVEL)},
    "qwen2": {"normalizer": {"type": "NFC"}, "pre_tokenizer": steps(split(CONTRACTIONS + r"\p{N}" + REST), BYTES_ONLY)},
    "llama3": {"pre_tokenizer": steps(split(CONTRACTIONS + r"\p{N}{1,3}" + REST), BYTES_ONLY),
               "model": {"ignore_merges": True}},
    "gpt4o": {"pre_tokenizer": steps(split(GPT4O), BYTES_ONLY)},
    "deepseek": {"pre_tokenizer": DEEPSEEK},
    "prefix": {"pre_tokenizer": dict(BYTE_LEVEL, add_prefix_space=True)},
    "compat": {"normalizer": COMPAT},
    "decomposed": {"normalizer": {"type": "NFD"}},
    "replace": {"normalizer": REPLACE},
    "literal": {"pre_tokenizer": steps(split(" ", "MergedWithPrevious", kind="String"), BYTES_ONLY)},
    "empty": {"pre_tokenizer": THOUSANDS},
    "punctuation": {"pre_tokenizer": steps({"type": "Punctuation", "behavior": "Contiguous"}, {"type": "WhitespaceSplit"},
                                           {"type": "Digits", "individual_digits": False}, BYTE_LEVEL)},
    "whitespace": {"pre_tokenizer": steps({"type": "Whitespace"}, BYTES_ONLY)},
    "added": {"added_tokens": ADDED, "normalizer": normals({"type": "NFC"}, {"type": "Lowercase"})},
}
for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
    GPT2[behavior] = {"pre_tokenizer": steps(split(r"[aeiou\s]", behavior), BYTES_ONLY)}
    GPT2["not" + behavior] = {"pre_tokenizer": steps(split(r"\w+", behavior, True), BYTES_ONLY)}
LLAMA = {"llama2": {}, "unfused": {"model": {"byte_fallback": False, "fuse_unk": False}},
         "fused": {"model": {"byte_fallback": False}}}
for scheme in ["first", "always", "never"]:
    for splits in [True, False]:
        LLAMA[f"metaspace {scheme} {splits}"] = metaspace(scheme, splits)


def file_of(model, tokens=(), normalizer=None, pre=BYTE_LEVEL, decoder=BYTE_LEVEL):
    whole = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": list(tokens),
            "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": None, "decoder": decoder,
            "model": dict(whole, **model)}


def gpt2():
    vocabulary = json.load(open(DATA + "/tokenizers/gpt2_vocab.json"))
    lines = open(DATA + "/tokenizers/gpt2_merges.txt").read().split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    return file_of({"vocab": vocabulary, "merges": merges}, [END])


def clip():
    packed = gzip.open(DATA + "/tokenizers/bpe_simple_vocab_16e6.txt.gz").read().decode()
    merges = packed.split("\n")[1:49152 - 256 - 2 + 1]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = letters + [letter + "</w>" for letter in letters] + ["".join(merge.split()) for merge in merges]
    names += ["<|startoftext|>", "<|endoftext|>"]
    model = {"vocab": {name: i for i, name in enumerate(names)}, "merges": merges, "unk_token": "<|endoftext|>",
             "end_of_word_suffix": "</w>"}
    space = {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}
    pattern = split(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "Removed", True)
    return file_of(model, [added(49406, "<|startoftext|>"), added(49407, "<|endoftext|>")],
                   normals({"type": "NFC"}, space, {"type": "Lowercase"}), steps(pattern, BYTE_LEVEL))


def llama2c():
    """Pieces with scores of llama2.c's file."""
    bytes_, at, pieces = open(DATA + "/tokenizers/llama2_tokenizer.bin", "rb").read(), 4, []
    while at < len(bytes_):
        score, length = struct.unpack_from("<fi", bytes_, at)
        pieces.append((bytes_[at + 8:at + 8 + length].decode().replace(" ", "▁"), score))
        at += 8 + length
    return [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)] + pieces[3:]


def llama(pieces):
    """As transformers converts SentencePiece's models."""
    vocabulary, merges = {piece: i for i, (piece, _) in enumerate(pieces)}, []
    for piece, score in pieces[259:]:
        ways = [(piece[:i], piece[i:], score) for i in range(1, len(piece))
                if piece[:i] in vocabulary and piece[i:] in vocabulary]
        merges += sorted(ways, key=lambda way: (vocabulary[way[0]], vocabulary[way[1]]))
    merges.sort(key=lambda way: (way[2], len(way[0]), len(way[1])), reverse=True)
    mark = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    model = {"vocab": vocabulary, "merges": [way[:2] for way in merges], "unk_token": "<unk>", "fuse_unk": True,
             "byte_fallback": True}
    return file_of(model, [added(i, pieces[i][0]) for i in range(3)],
                   normals({"type": "Prepend", "prepend": "▁"}, mark), None, decoder)


def sentencepiece_model(pieces):
    """The same pieces as SentencePiece's own protocol buffer."""
    def number(value):
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def field(tag, content):
        return number(tag << 3 | 2) + number(len(content)) + content

    out = b""
    for i, (piece, score) in enumerate(pieces):
        kind = 2 if i == 0 else 3 if i < 3 else 6 if i < 259 else 1
        out += field(1, field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + number(kind))
    trainer = b"\x18\x02" + number(35 << 3) + b"\x01" + number(40 << 3) + b"\x00" + number(41 << 3) + b"\x01"
    return out + field(2, trainer + number(42 << 3) + b"\x02") + field(3, field(1, b"identity") + b"\x18\x01\x20\x00")


def gguf_file(name, pre):
    fields = gguf.GGUFReader(f"{DATA}/tokenizers/ggml-vocab-{name}.gguf").fields
    tokens, kinds, merges = (fields["tokenizer.ggml." + key].contents() for key in ["tokens", "token_type", "merges"])
    vocabulary, extra = {}, []
    for i, token in enumerate(tokens):
        if token in vocabulary:
            continue
        vocabulary[token] = i
        if kinds[i] in (3, 4):
            extra.append(added(i, token, special=kinds[i] == 3))
    return file_of({"vocab": vocabulary, "merges": merges}, extra, None, pre)


def texts():
    draw = random.Random(5)
    inputs = open(DATA + "/tokenizers/ggml-vocab-gpt-2.gguf.inp").read().split("\n__ggml_vocab_test__\n")[:-1]
    hand = json.load(open(__file__.replace(".py", "_texts.json")))
    pieces = hand["pieces"]
    mixed = ["".join(draw.choice(pieces) for _ in range(draw.choice([2, 4, 8, 16, 30]))) for _ in range(150)]
    long = ["a" * 300 + " " + "b" * 300, " " * 70, "\n" * 40, "ab " * 100, "abcdefghijklmnopqrstuvwxyz" * 5]
    return inputs, hand["texts"] + mixed + long


def checksum(text):
    value = 0x811c9dc5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xffffffff
    return f"{value:08x}"


def case(name, base, changes, encode, decode, strings, specials=True):
    ids = [encode(text) for text in strings]
    return {"name": name, "base": base, "changes": changes, "specials": specials,
            "ids": "".join(checksum(" ".join(map(str, row)))[4:] for row in ids),
            "decoded": "".join(checksum(decode(row))[6:] for row in ids) if decode else ""}


def library_case(name, base, whole, changes, strings):
    changed = dict(whole, **{key: part for key, part in changes.items() if key != "model"})
    changed["model"] = dict(whole["model"], **changes.get("model", {}))
    library = Tokenizer.from_str(json.dumps(changed))
    clean = (lambda text: text.replace("</w>", " ")) if name == "clip" else (lambda text: text)
    return case(name, base, changes, lambda text: library.encode(text, add_special_tokens=False).ids,
                None if name in ("added", "deepseek-coder") else
                lambda ids: clean(library.decode(ids, skip_special_tokens=False)), strings)


def trained(strings, size):
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.train_from_iterator(strings, trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return library.to_str(pretty=True)


def main():
    inputs, own = texts()
    strings = inputs + own
    cases = [library_case(name, "tokenizers/gpt2_vocab.json", gpt2(), changes, strings) for name, changes in GPT2.items()]
    pieces = llama2c()
    whole = llama(pieces)
    cases += [library_case(name, "tokenizers/llama2_tokenizer.bin", whole, changes, strings)
              for name, changes in LLAMA.items()]
    cases.append(library_case("clip", "tokenizers/bpe_simple_vocab_16e6.txt.gz", clip(), {}, strings))
    cases.append(library_case("minimind", "tokenizers/minimind_tokenizer.json",
                              json.load(open(DATA + "/tokenizers/minimind_tokenizer.json")), {}, strings))
    for name, pre in [("starcoder", steps(DIGITS, BYTE_LEVEL)), ("deepseek-coder", DEEPSEEK)]:
        cases.append(library_case(name, f"tokenizers/ggml-vocab-{name}.gguf", gguf_file(name, pre), {}, strings))
    models_ = {"tokenizers/llama2_tokenizer.bin": {"model_proto": sentencepiece_model(pieces)},
               "tokenizers/ggml-vocab-llama-spm.gguf": {"model_proto": sentencepiece_model(pieces)},
               "stories260K/tok512.model": {"model_file": DATA + "/stories260K/tok512.model"}}
    for base, source in models_.items():
        library = sentencepiece.SentencePieceProcessor(**source)
        cases.append(case("sentencepiece", base, {}, library.encode, None if "512" in base else library.decode, strings, False))
    whole = trained(strings, 420)
    merges = json.loads(whole)["model"]["merges"]
    result = {"texts": own, "cases": cases,
              "trained": {"vocabulary": 420, "specials": SPECIALS, "merges": [" ".join(merge) for merge in merges],
                          "file": checksum(whole)}}
    large = {}
    for name, size in [("tinyshakespeare.txt", 4096), ("chinese", 6400)]:
        large[name] = {"vocabulary": size,
                       "file": checksum(trained([open(f"{DATA}/text/{name}", newline="").read()], size))}
    result["trained"]["large"] = large
    print(json.dumps(result, ensure_ascii=False, indent=0, separators=(",", ":")))


if __name__ == "__main__":
    main()
