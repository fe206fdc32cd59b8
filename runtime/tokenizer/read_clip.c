// CLIP's list of merges (bpe_simple_vocab_16e6.txt, perhaps packed by gzip) -> Tokenizer.
//
// The vocabulary is not in the file but follows from it: 256 bytes in the order of their spellings, the same
// at a word's end (with </w>), what the merges make, start and end of text. Of the file's 262,144 merges CLIP
// uses the first 48,894; a file with fewer is used whole.
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "runtime/tokenizer/parts.h"

enum { CLIP_MERGES = 48894, MAX_TEXT = 64 << 20 };

static bool unpack(const char *bytes, size_t size, const char *place, Text *out, Failure *failure) {
  z_stream stream = {.next_in = (Bytef *)bytes, .avail_in = (uInt)size};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) die("out of memory");
  int state = Z_OK;
  while (state == Z_OK && out->length < MAX_TEXT) {
    char block[16384];
    stream.next_out = (Bytef *)block;
    stream.avail_out = sizeof block;
    state = inflate(&stream, Z_NO_FLUSH);
    text_add(out, block, sizeof block - stream.avail_out);
  }
  inflateEnd(&stream);
  if (state == Z_STREAM_END) return true;
  if (out->length >= MAX_TEXT) return fail(failure, "%s: unpacks to more than %d MiB", place, MAX_TEXT >> 20);
  return fail(failure, "%s: the gzip file is broken or cut short", place);
}

static void add_token(Tokenizer *tokenizer, const char *text, size_t length, bool added) {
  tokenizer->tokens[tokenizer->count++] = (Token){.text = arena_copy(tokenizer->arena, text, length),
                                                  .text_length = length,
                                                  .known = true,
                                                  .added = added,
                                                  .special = added};
}

static void add_bytes(Tokenizer *tokenizer, const char *suffix) {
  for (int i = 0; i < 256; i++) {
    Text text = {0};
    byte_level_spell(&text, (char[]){(char)byte_level_nth(i)}, 1);
    text_add(&text, suffix, strlen(suffix));
    add_token(tokenizer, text.bytes, text.length, false);
    text_free(&text);
  }
}

typedef bool Line(Tokenizer *tokenizer, size_t index, const char *line, size_t length, const char *place,
                  Failure *failure);

// Every merge's line, after the first line of the file, which says what it is.
static bool each_line(Tokenizer *tokenizer, const char *text, size_t length, Line *take, const char *place,
                      Failure *failure) {
  const char *end = text + length, *stop = memchr(text, '\n', length);
  size_t index = 0;
  for (const char *line = stop ? stop + 1 : end; line < end && index < CLIP_MERGES; line = stop + 1) {
    stop = memchr(line, '\n', (size_t)(end - line));
    if (!stop) stop = end;
    size_t size = (size_t)(stop - line);
    if (size && !take(tokenizer, index++, line, size, place, failure)) return false;
  }
  return true;
}

// The token that a merge makes.
static bool add_result(Tokenizer *tokenizer, size_t index, const char *line, size_t length, const char *place,
                       Failure *failure) {
  const char *space = memchr(line, ' ', length);
  if (!space || length - 1 > TOKENIZER_MAX_TOKEN_BYTES)
    return fail(failure, "%s: merge %zu must be two tokens, found \"%.*s\"", place, index,
                length < 80 ? (int)length : 80, line);
  size_t left = (size_t)(space - line);
  Text text = {0};
  text_add(&text, line, left);
  text_add(&text, space + 1, length - left - 1);
  bool good = is_text(text.bytes, text.length);
  if (good) add_token(tokenizer, text.bytes, text.length, false);
  text_free(&text);
  tokenizer->merge_count = index + 1;
  return good || fail(failure, "%s: merge %zu is not valid UTF-8", place, index);
}

bool read_clip(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place, Failure *failure) {
  static const char *const specials[] = {"<|startoftext|>", "<|endoftext|>"};
  Text text = {0};
  bool packed = size > 2 && !memcmp(bytes, "\x1f\x8b", 2);
  bool good = !packed || unpack(bytes, size, place, &text, failure);
  const char *lines = packed ? text_string(&text) : bytes;
  size_t length = packed ? text.length : size;
  tokenizer->tokens = ARENA_ARRAY(tokenizer->arena, Token, CLIP_MERGES + 512 + 2);
  tokenizer->suffix = "</w>";
  add_bytes(tokenizer, "");
  add_bytes(tokenizer, tokenizer->suffix);
  good = good && each_line(tokenizer, lines, length, add_result, place, failure);
  for (int i = 0; i < 2; i++) add_token(tokenizer, specials[i], strlen(specials[i]), true);
  tokenizer->merges = ARENA_ARRAY(tokenizer->arena, Merge, tokenizer->merge_count);
  good = good && tokenizer_index(tokenizer, place, failure) &&
         each_line(tokenizer, lines, length, add_merge_line, place, failure) &&
         tokenizer_use(tokenizer, &pipeline_clip, place, failure);
  text_free(&text);
  if (!good) return false;
  tokenizer->unknown = tokenizer->count - 1;
  tokenizer->before = ARENA_ARRAY(tokenizer->arena, int32_t, 1);
  tokenizer->after = ARENA_ARRAY(tokenizer->arena, int32_t, 1);
  tokenizer->before_count = tokenizer->after_count = 1;
  *tokenizer->before = tokenizer->count - 2;
  *tokenizer->after = tokenizer->count - 1;
  return true;
}
