// Merges by the spelling of their sides.
#include <string.h>

#include "runtime/tokenizer/parts.h"

// A merge names two tokens, and what they spell together is a third: longer than either, so that no cycle is
// possible.
bool add_merge(Tokenizer *tokenizer, size_t rank, const char *left, size_t left_length, const char *right,
               size_t right_length, const char *place, Failure *failure) {
  Text joined = {0};
  text_add(&joined, left, left_length);
  text_add(&joined, right, right_length);
  const char *names[3] = {left, right, joined.bytes};
  size_t lengths[3] = {left_length, right_length, joined.length};
  int32_t ids[3];
  bool good = left_length && right_length;
  if (!good) fail(failure, "%s: merge %zu has an empty side", place, rank);
  for (int i = 0; good && i < 3; i++) {
    ids[i] = tokenizer_lookup(tokenizer, names[i], lengths[i]);
    good = ids[i] >= 0 || fail(failure, "%s: merge %zu needs the token \"%.*s\", which the vocabulary lacks",
                               place, rank, lengths[i] < 80 ? (int)lengths[i] : 80, names[i]);
  }
  if (good) tokenizer->merges[rank] = (Merge){ids[0], ids[1], ids[2], (uint32_t)rank};
  text_free(&joined);
  return good;
}

bool add_merge_line(Tokenizer *tokenizer, size_t rank, const char *line, size_t length, const char *place,
                    Failure *failure) {
  const char *space = memchr(line, ' ', length);
  size_t left = space ? (size_t)(space - line) : 0, right = space ? length - left - 1 : 0;
  if (!space || memchr(space + 1, ' ', right))
    return fail(failure, "%s: merge %zu must be two tokens, found \"%.*s\"", place, rank,
                length < 80 ? (int)length : 80, line);
  return add_merge(tokenizer, rank, line, left, space + 1, right, place, failure);
}
