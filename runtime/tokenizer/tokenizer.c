// What all tokenizers share: their life, and the tables that encoding needs, built from tokens and merges.
#include "runtime/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

const char space_mark[] = "\xe2\x96\x81";

void ids_add(Ids *ids, int32_t id) {
  if (ids->count == ids->capacity) {
    ids->capacity = ids->capacity ? ids->capacity * 2 : 64;
    ids->list = realloc(ids->list, ids->capacity * sizeof *ids->list);
    if (!ids->list) die("out of memory");
  }
  ids->list[ids->count++] = id;
}

void ids_free(Ids *ids) {
  free(ids->list);
  *ids = (Ids){0};
}

Tokenizer *tokenizer_new(void) {
  Arena *arena = arena_new();
  Tokenizer *tokenizer = ARENA_NEW(arena, Tokenizer);
  tokenizer->arena = arena;
  tokenizer->splitter = splitter_new();
  tokenizer->normalizer = normalizer_new();
  tokenizer->preparation = normalizer_new();
  tokenizer->merging = merging_new(arena);
  tokenizer->suffix = "";
  tokenizer->unknown = -1;
  for (int i = 0; i < NAMED_COUNT; i++) tokenizer->named[i] = -1;
  return tokenizer;
}

void tokenizer_free(Tokenizer *tokenizer) {
  if (!tokenizer) return;
  splitter_free(tokenizer->splitter);
  normalizer_free(tokenizer->normalizer);
  normalizer_free(tokenizer->preparation);
  merging_free(tokenizer->merging);
  json_decref(tokenizer->normalizer_json);
  json_decref(tokenizer->pre_tokenizer_json);
  json_decref(tokenizer->post_processor_json);
  json_decref(tokenizer->decoder_json);
  arena_free(tokenizer->arena);
}

// Hash tables.

static uint64_t mix(uint64_t x) { // murmur3's finaliser
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

uint64_t hash_bytes(const char *bytes, size_t length) { // FNV-1a, mixed
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
  return mix(hash);
}

static size_t table_size(size_t entries) {
  size_t slots = 16;
  while (slots < entries * 2) slots *= 2;
  return slots;
}

// The slot of a spelling, or the empty one where it would go.
static uint32_t *find_piece(const Tokenizer *tokenizer, const char *text, size_t length) {
  size_t at = hash_bytes(text, length) & tokenizer->piece_mask;
  for (;; at = (at + 1) & tokenizer->piece_mask) {
    uint32_t *slot = &tokenizer->pieces[at];
    if (!*slot) return slot;
    const Token *token = &tokenizer->tokens[*slot - 1];
    if (token->text_length == length && !memcmp(token->text, text, length)) return slot;
  }
}

int32_t tokenizer_lookup(const Tokenizer *tokenizer, const char *text, size_t length) {
  return (int32_t)*find_piece(tokenizer, text, length) - 1;
}

bool tokenizer_index(Tokenizer *tokenizer, const char *place, Failure *failure) {
  size_t slots = table_size((size_t)tokenizer->count);
  tokenizer->pieces = ARENA_ARRAY(tokenizer->arena, uint32_t, slots);
  tokenizer->piece_mask = slots - 1;
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (!token->known) continue;
    uint32_t *slot = find_piece(tokenizer, token->text, token->text_length);
    if (*slot && token->added && tokenizer->tokens[*slot - 1].added) { // the second is never used
      tokenizer->tokens[id] = (Token){0};
      continue;
    }
    if (*slot)
      return fail(failure, "%s: the tokens %d and %d are both \"%.80s\"", place, (int)*slot - 1, id,
                  token->text);
    *slot = (uint32_t)id + 1;
  }
  return true;
}

static uint64_t pair_key(int32_t left, int32_t right) {
  return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

// The slot of a pair, or the empty one where it would go.
static PairSlot *find_pair(const Tokenizer *tokenizer, int32_t left, int32_t right) {
  uint64_t key = pair_key(left, right);
  size_t at = mix(key) & tokenizer->pair_mask;
  while (tokenizer->pairs[at].key && tokenizer->pairs[at].key != key) at = (at + 1) & tokenizer->pair_mask;
  return &tokenizer->pairs[at];
}

const Merge *tokenizer_merge(const Tokenizer *tokenizer, int32_t left, int32_t right) {
  const PairSlot *slot = find_pair(tokenizer, left, right);
  return slot->key ? &tokenizer->merges[slot->merge] : NULL;
}

static bool index_merges(Tokenizer *tokenizer, const char *place, Failure *failure) {
  size_t slots = table_size(tokenizer->merge_count);
  tokenizer->pairs = ARENA_ARRAY(tokenizer->arena, PairSlot, slots);
  tokenizer->pair_mask = slots - 1;
  for (size_t i = 0; i < tokenizer->merge_count; i++) {
    const Merge *merge = &tokenizer->merges[i];
    PairSlot *slot = find_pair(tokenizer, merge->left, merge->right);
    if (slot->key) return fail(failure, "%s: merge %zu is the same as merge %u", place, i, slot->merge);
    *slot = (PairSlot){pair_key(merge->left, merge->right), (uint32_t)i};
  }
  return true;
}

// Symbols of single bytes.
static void index_bytes(Tokenizer *tokenizer) {
  for (int byte = 0; byte < 256; byte++) {
    Text spelling = {0};
    if (tokenizer->byte_level)
      byte_level_spell(&spelling, (char[]){(char)byte}, 1);
    else
      text_print(&spelling, "<0x%02X>", (unsigned)byte);
    tokenizer->bytes[byte] = tokenizer_lookup(tokenizer, spelling.bytes, spelling.length);
    text_add(&spelling, tokenizer->suffix, strlen(tokenizer->suffix));
    tokenizer->last_bytes[byte] = tokenizer_lookup(tokenizer, spelling.bytes, spelling.length);
    text_free(&spelling);
  }
}

// Added tokens.

static int compare_added(const void *a, const void *b) {
  const AddedToken *first = a, *second = b;
  int begins = (unsigned char)first->bytes[0] - (unsigned char)second->bytes[0];
  if (begins) return begins;
  if (first->length != second->length) return first->length > second->length ? -1 : 1;
  return first->id < second->id ? -1 : first->id > second->id;
}

static void index_added(Tokenizer *tokenizer, bool normalized) {
  AddedSet *set = &tokenizer->added[normalized];
  size_t count = 0;
  for (int32_t id = 0; id < tokenizer->count; id++)
    count += tokenizer->tokens[id].added && tokenizer->tokens[id].normalized == normalized;
  set->list = ARENA_ARRAY(tokenizer->arena, AddedToken, count);
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (!token->added || token->normalized != normalized) continue;
    const char *text = token->text;
    size_t length = token->text_length;
    if (normalized) normalizer_run(tokenizer->normalizer, &text, &length, true);
    if (length)
      set->list[set->count++] = (AddedToken){arena_copy(tokenizer->arena, text, length), length, id};
  }
  if (set->count) qsort(set->list, set->count, sizeof *set->list, compare_added);
  size_t at = 0;
  for (unsigned byte = 0; byte <= 256; byte++) {
    while (at < set->count && (unsigned char)set->list[at].bytes[0] < byte) at++;
    set->begins[byte] = (uint32_t)at;
  }
}

// Words may be cut before every "▁" that follows another character if no token has one inside.
static bool spaces_split(const Tokenizer *tokenizer) {
  if (tokenizer->byte_level || *tokenizer->suffix || tokenizer->whole_words) return false;
  if (!splitter_is_empty(tokenizer->splitter) || tokenizer_lookup(tokenizer, space_mark, 3) < 0) return false;
  for (size_t i = 0; i < tokenizer->merge_count; i++) {
    const Token *token = &tokenizer->tokens[tokenizer->merges[i].result];
    bool letters = false;
    for (size_t at = 0; at < token->text_length; at++) {
      bool mark = at + 3 <= token->text_length && !memcmp(token->text + at, space_mark, 3);
      if (mark && letters) return false;
      if (mark)
        at += 2;
      else
        letters = true;
    }
  }
  return true;
}

bool tokenizer_prepare(Tokenizer *tokenizer, const char *place, Failure *failure) {
  if (!index_merges(tokenizer, place, failure)) return false;
  index_bytes(tokenizer);
  index_added(tokenizer, false);
  index_added(tokenizer, true);
  tokenizer->split_spaces = spaces_split(tokenizer);
  return true;
}

// Questions.

int32_t tokenizer_count(const Tokenizer *tokenizer) { return tokenizer->count; }

int32_t tokenizer_find(const Tokenizer *tokenizer, const char *special) {
  size_t length = strlen(special);
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (token->added && token->text_length == length && !memcmp(token->text, special, length)) return id;
  }
  return -1;
}

static const Token *token_of(const Tokenizer *tokenizer, int32_t id) {
  if (id < 0 || id >= tokenizer->count) die("token %d is not one of %d", id, tokenizer->count);
  return &tokenizer->tokens[id];
}

bool tokenizer_is_special(const Tokenizer *tokenizer, int32_t id) { return token_of(tokenizer, id)->special; }

const char *tokenizer_bytes(const Tokenizer *tokenizer, int32_t id, size_t *length) {
  const Token *token = token_of(tokenizer, id);
  *length = token->length;
  return token->bytes ? token->bytes : "";
}

size_t tokenizer_before(const Tokenizer *tokenizer, const int32_t **ids) {
  *ids = tokenizer->before;
  return tokenizer->before_count;
}

size_t tokenizer_after(const Tokenizer *tokenizer, const int32_t **ids) {
  *ids = tokenizer->after;
  return tokenizer->after_count;
}

int32_t tokenizer_end(const Tokenizer *tokenizer) { return tokenizer->named[NAMED_END]; }
