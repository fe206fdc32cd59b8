// A file -> Tokenizer: which of the formats it is, its content says.
#include <string.h>
#include <sys/stat.h>

#include "runtime/files.h"
#include "runtime/tokenizer/parts.h"

typedef bool Reader(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                    Failure *failure);

static bool begins(const char *bytes, size_t size, const char *with) {
  return size >= strlen(with) && !memcmp(bytes, with, strlen(with));
}

// llama2.c: the longest token's length as int32, then score, length and bytes of <unk>.
static bool is_llama2c(const char *bytes, size_t size) {
  return size >= 12 && !bytes[2] && !bytes[3] && !memcmp(bytes + 8, "\5\0\0\0<unk>", size < 17 ? 4 : 9);
}

static Reader *reader_of(const char *bytes, size_t size) {
  size_t at = begins(bytes, size, "\xef\xbb\xbf") ? 3 : 0;
  while (at < size && strchr(" \t\r\n", bytes[at]) && bytes[at]) at++;
  if (begins(bytes, size, "GGUF")) return read_gguf_vocabulary;
  if (at < size && (bytes[at] == '{' || bytes[at] == '[')) return read_tokenizer_json;
  if (begins(bytes, size, "\x1f\x8b") || begins(bytes, size, "\"bpe_simple_vocab") ||
      begins(bytes, size, "#version") || begins(bytes, size, "bpe_simple_vocab"))
    return read_clip;
  if (is_llama2c(bytes, size)) return read_llama2c;
  if (begins(bytes, size, "\n")) return read_sentencepiece;
  return NULL;
}

bool tokenizer_parse(const void *bytes, size_t size, const char *name, Tokenizer **out, Failure *failure) {
  *out = NULL;
  Reader *reader = reader_of(bytes, size);
  if (!reader)
    return fail(
        failure,
        "%s: is none of the tokenizers known: tokenizer.json, vocab.json with merges.txt, CLIP's merges, "
        "SentencePiece, llama2.c, GGUF",
        name);
  Tokenizer *tokenizer = tokenizer_new();
  bool good = reader(tokenizer, bytes, size, name, failure) && tokenizer_prepare(tokenizer, name, failure);
  if (good)
    *out = tokenizer;
  else
    tokenizer_free(tokenizer);
  return good;
}

// GPT-2's vocabulary is an object of ids alone; its merges lie beside it. NULL: this is none.
static const char *merges_beside(const char *path, const Mapping *mapping, Arena *arena) {
  const char *bytes = (const char *)mapping->bytes, *name = strrchr(path, '/');
  const char *vocab = strstr(name ? name : path, "vocab.json");
  if (!vocab || !begins(bytes, mapping->size, "{") ||
      memmem(bytes, mapping->size < 65536 ? mapping->size : 65536, "\"model\": {", 10))
    return NULL;
  const char *merges = arena_print(arena, "%.*smerges.txt", (int)(vocab - path), path);
  return file_exists(merges) ? merges : NULL;
}

bool tokenizer_open(const char *path, Tokenizer **out, Failure *failure) {
  *out = NULL;
  Mapping mapping;
  if (!file_map(path, &mapping, failure)) return false;
  Arena *arena = arena_new();
  const char *merges = merges_beside(path, &mapping, arena);
  bool gguf = begins((const char *)mapping.bytes, mapping.size, "GGUF"); // holds the weights too
  bool good =
      gguf || mapping.size <= TOKENIZER_MAX_FILE ||
      fail(failure, "%s: has %zu bytes, more than the %d allowed", path, mapping.size, TOKENIZER_MAX_FILE);
  if (good)
    good = merges ? tokenizer_read_gpt2(path, merges, out, failure)
                  : tokenizer_parse(mapping.bytes, mapping.size, path, out, failure);
  file_unmap(&mapping);
  arena_free(arena);
  return good;
}
