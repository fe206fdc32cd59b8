// Text -> ids: added tokens are cut out, what is left is normalised, split into words and merged.
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer/parts.h"

typedef struct Encoding {
  const Tokenizer *tokenizer;
  bool specials;
  Ids *ids;
} Encoding;

// The longest added token that `text` begins with, or NULL.
static const AddedToken *added_at(const AddedSet *set, const char *text, size_t length) {
  unsigned char lead = (unsigned char)*text;
  for (uint32_t i = set->begins[lead]; i < set->begins[lead + 1]; i++) {
    const AddedToken *added = &set->list[i];
    if (added->length <= length && !memcmp(added->bytes, text, added->length)) return added;
  }
  return NULL;
}

static utf8proc_category_t category_at(const char *text, size_t length, utf8proc_int32_t *code) {
  utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, code);
  return size > 0 ? utf8proc_category(*code) : UTF8PROC_CATEGORY_CN;
}

static size_t character_start(const char *text, size_t end) { // of the character that ends at `end`
  size_t at = end;
  while (at && end - at < 4 && ((unsigned char)text[--at] & 0xc0) == 0x80) {
  }
  return at;
}

static bool is_space(const char *text, size_t length) {
  utf8proc_int32_t code;
  utf8proc_category_t category = category_at(text, length, &code);
  return (code >= 9 && code <= 13) || code == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

static bool is_word(const char *text, size_t length) { // a letter, mark, digit or connector
  utf8proc_int32_t code;
  utf8proc_category_t category = category_at(text, length, &code);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
         category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_PC;
}

// What a token takes with it: [*begin, *end) grows over white space. False: it may not stand there.
static bool fit(const Token *token, const char *text, size_t length, size_t done, size_t *begin,
                size_t *end) {
  if (token->single_word) {
    size_t before = character_start(text, *begin);
    if (*begin && is_word(text + before, *begin - before)) return false;
    if (*end < length && is_word(text + *end, length - *end)) return false;
  }
  while (token->strip_left && *begin > done) {
    size_t before = character_start(text, *begin);
    if (before < done || !is_space(text + before, *begin - before)) break;
    *begin = before;
  }
  while (token->strip_right && *end < length && is_space(text + *end, length - *end))
    *end += character_length(text + *end, length - *end);
  return true;
}

typedef void PlainText(const Encoding *encoding, const char *text, size_t length, bool first);

// Cuts the set's tokens out of a text; what lies between them goes to `plain`.
static void cut(const Encoding *encoding, const AddedSet *set, const char *text, size_t length, bool first,
                PlainText *plain) {
  size_t done = 0;
  for (size_t at = 0; set->count && at < length;) {
    const AddedToken *added = added_at(set, text + at, length - at);
    if (!added) {
      at++;
      continue;
    }
    const Token *token = &encoding->tokenizer->tokens[added->id];
    size_t begin = at, end = at + added->length;
    at = end;
    if ((token->special && !encoding->specials) || !fit(token, text, length, done, &begin, &end)) continue;
    if (begin > done) plain(encoding, text + done, begin - done, first && !done);
    ids_add(encoding->ids, added->id);
    done = at = end;
  }
  if (done < length) plain(encoding, text + done, length - done, first && !done);
}

// A word in which spaces begin words: no token goes over their borders.
static void add_marked_words(const Encoding *encoding, const char *word, size_t length) {
  size_t begin = 0;
  bool letters = false;
  for (size_t at = 0; at < length;) {
    bool mark = at + 3 <= length && !memcmp(word + at, space_mark, 3);
    if (mark && letters) {
      merge_word(encoding->tokenizer, word + begin, at - begin, encoding->ids);
      begin = at;
    }
    letters = !mark;
    at += mark ? 3 : 1;
  }
  merge_word(encoding->tokenizer, word + begin, length - begin, encoding->ids);
}

static void add_word(void *context, const char *word, size_t length) {
  const Encoding *encoding = context;
  if (encoding->tokenizer->split_spaces)
    add_marked_words(encoding, word, length);
  else
    merge_word(encoding->tokenizer, word, length, encoding->ids);
}

static void encode_words(const Encoding *encoding, const char *text, size_t length, bool first) {
  normalizer_run(encoding->tokenizer->preparation, &text, &length, first);
  splitter_run(encoding->tokenizer->splitter, text, length, add_word, (void *)encoding);
}

static void encode_plain(const Encoding *encoding, const char *text, size_t length, bool first) {
  normalizer_run(encoding->tokenizer->normalizer, &text, &length, first);
  cut(encoding, &encoding->tokenizer->added[1], text, length, first, encode_words);
}

void tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t length, bool specials, Ids *ids) {
  Encoding encoding = {tokenizer, specials, ids};
  merging_lock(tokenizer->merging);
  cut(&encoding, &tokenizer->added[0], text, length, true, encode_plain);
  merging_unlock(tokenizer->merging);
}
