// llama2.c's tokenizer .bin -> Tokenizer: the longest token's length, then for each token score, length and
// bytes, all little-endian. Tokens 0, 1 and 2 are <unk>, <s> and </s>, then come the 256 bytes; spaces stand
// where SentencePiece has its mark.
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

static uint32_t read_u32(const char *bytes) {
  const unsigned char *at = (const unsigned char *)bytes;
  return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

// The token's spelling with the mark put back, and its kind, which the file leaves to its place.
static void spell(Piece *piece, size_t id, const char *bytes, size_t length, Arena *arena) {
  static const char *const first[] = {"<unk>", "<s>", "</s>"};
  Text text = {0};
  if (id < 3)
    text_print(&text, "%s", first[id]);
  else
    for (size_t i = 0; i < length; i++)
      text_add(&text, bytes[i] == ' ' ? space_mark : bytes + i, bytes[i] == ' ' ? 3 : 1);
  piece->text = arena_copy(arena, text_string(&text), text.length);
  piece->length = text.length;
  piece->kind = id == 0 ? PIECE_UNKNOWN : id < 3 ? PIECE_CONTROL : id < 259 ? PIECE_BYTE : PIECE_NORMAL;
  text_free(&text);
}

static bool read_all(Tokenizer *tokenizer, const char *bytes, size_t size, Piece *pieces, const char *place,
                     Failure *failure) {
  size_t count = 0;
  for (size_t at = 4; at < size; count++) {
    uint32_t length = size - at >= 8 ? read_u32(bytes + at + 4) : UINT32_MAX;
    if (count == TOKENIZER_MAX_TOKENS)
      return fail(failure, "%s: has more than %d tokens", place, TOKENIZER_MAX_TOKENS);
    if (length > size || at + 8 > size - length)
      return fail(failure, "%s: token %zu at byte %zu goes beyond the file's end", place, count, at);
    uint32_t score = read_u32(bytes + at);
    memcpy(&pieces[count].score, &score, 4);
    spell(&pieces[count], count, bytes + at + 8, length, tokenizer->arena);
    at += 8 + length;
  }
  if (count < 259)
    return fail(failure, "%s: has %zu tokens, fewer than the 3 special ones and 256 bytes", place, count);
  return use_pieces(tokenizer, pieces, count, place, failure);
}

bool read_llama2c(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place, Failure *failure) {
  Piece *pieces = calloc(size / 8 + 1, sizeof *pieces);
  if (!pieces) die("out of memory");
  bool good = read_all(tokenizer, bytes, size, pieces, place, failure);
  free(pieces);
  if (!good || !tokenizer_use(tokenizer, &pipeline_llama, place, failure)) return false;
  tokenizer->before = ARENA_ARRAY(tokenizer->arena, int32_t, 1);
  tokenizer->before_count = 1;
  *tokenizer->before = 1;
  tokenizer->named[NAMED_END] = 2;
  return true;
}
