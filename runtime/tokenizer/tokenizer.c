// Byte-level BPE: encoding by merges in order of rank, with a cache of words; decoding to valid UTF-8.
#include "runtime/tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer/parts.h"

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

// Words seen before and their ids. When it is full, all are forgotten and it starts anew.
enum { CACHE_SLOTS = 1 << 16, CACHE_WORDS = CACHE_SLOTS / 2, CACHE_WORD_BYTES = 64 };

typedef struct CachedWord {
  const char *bytes;
  const int32_t *ids;
  uint16_t length, count;
} CachedWord;

// One symbol of a word while it is merged: a linked list over an array.
typedef struct Symbol {
  int32_t id; // -1: merged into the one before it
  uint32_t previous, next;
} Symbol;

typedef struct Candidate { // a pair that may be merged; the heap's least (rank, position) is next
  uint32_t rank, position;
} Candidate;

struct WordCache {
  pthread_mutex_t lock; // over this and the splitter
  Arena *arena;
  CachedWord *slots; // [CACHE_SLOTS]
  size_t words;
  Symbol *symbols;
  Candidate *heap;
  size_t symbol_capacity, heap_count, heap_capacity;
};

static void cache_start(struct WordCache *cache) {
  cache->arena = arena_new();
  cache->slots = ARENA_ARRAY(cache->arena, CachedWord, CACHE_SLOTS);
  cache->words = 0;
}

Tokenizer *tokenizer_new(void) {
  Arena *arena = arena_new();
  Tokenizer *tokenizer = ARENA_NEW(arena, Tokenizer);
  tokenizer->arena = arena;
  tokenizer->splitter = splitter_new();
  tokenizer->cache = ARENA_NEW(arena, struct WordCache);
  pthread_mutex_init(&tokenizer->cache->lock, NULL);
  cache_start(tokenizer->cache);
  return tokenizer;
}

void tokenizer_free(Tokenizer *tokenizer) {
  if (!tokenizer) return;
  splitter_free(tokenizer->splitter);
  pthread_mutex_destroy(&tokenizer->cache->lock);
  arena_free(tokenizer->cache->arena);
  free(tokenizer->cache->symbols);
  free(tokenizer->cache->heap);
  arena_free(tokenizer->arena);
}

static uint64_t mix(uint64_t x) { // murmur3's finaliser
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
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

static bool index_merges(Tokenizer *tokenizer, const char *place, Failure *failure) {
  size_t slots = 16;
  while (slots < tokenizer->merge_count * 2) slots *= 2;
  tokenizer->pairs = ARENA_ARRAY(tokenizer->arena, PairSlot, slots);
  tokenizer->pair_mask = slots - 1;
  for (size_t rank = 0; rank < tokenizer->merge_count; rank++) {
    const Merge *merge = &tokenizer->merges[rank];
    PairSlot *slot = find_pair(tokenizer, merge->left, merge->right);
    if (slot->key) return fail(failure, "%s: merge %zu is the same as merge %u", place, rank, slot->rank);
    *slot = (PairSlot){pair_key(merge->left, merge->right), (uint32_t)rank};
  }
  return true;
}

// Bytes of one token each; added tokens longest first, so that the first that fits is the one to take.
static bool index_tokens(Tokenizer *tokenizer, const char *place, Failure *failure) {
  for (int byte = 0; byte < 256; byte++) tokenizer->bytes[byte] = -1;
  tokenizer->added = ARENA_ARRAY(tokenizer->arena, int32_t, tokenizer->count);
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (!token->added) {
      if (token->length == 1) tokenizer->bytes[(unsigned char)token->bytes[0]] = id;
      continue;
    }
    tokenizer->added_begins[(unsigned char)token->bytes[0]] = true;
    int32_t at = tokenizer->added_count++;
    for (; at > 0 && tokenizer->tokens[tokenizer->added[at - 1]].length < token->length; at--)
      tokenizer->added[at] = tokenizer->added[at - 1];
    tokenizer->added[at] = id;
  }
  for (int byte = 0; byte < 256; byte++)
    if (tokenizer->bytes[byte] < 0)
      return fail(failure, "%s: no token stands for the byte 0x%02x, as byte-level BPE needs", place, byte);
  return true;
}

bool tokenizer_prepare(Tokenizer *tokenizer, const char *place, Failure *failure) {
  return index_tokens(tokenizer, place, failure) && index_merges(tokenizer, place, failure);
}

int32_t tokenizer_count(const Tokenizer *tokenizer) { return tokenizer->count; }

int32_t tokenizer_find(const Tokenizer *tokenizer, const char *special) {
  size_t length = strlen(special);
  for (int32_t i = 0; i < tokenizer->added_count; i++) {
    const Token *token = &tokenizer->tokens[tokenizer->added[i]];
    if (token->length == length && !memcmp(token->bytes, special, length)) return tokenizer->added[i];
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
  return token->bytes;
}

// Merging one word.

static bool before(Candidate a, Candidate b) {
  return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static void heap_push(struct WordCache *cache, Candidate candidate) {
  if (cache->heap_count == cache->heap_capacity) {
    cache->heap_capacity = cache->heap_capacity ? cache->heap_capacity * 2 : 64;
    cache->heap = realloc(cache->heap, cache->heap_capacity * sizeof *cache->heap);
    if (!cache->heap) die("out of memory");
  }
  size_t at = cache->heap_count++;
  for (; at && before(candidate, cache->heap[(at - 1) / 2]); at = (at - 1) / 2)
    cache->heap[at] = cache->heap[(at - 1) / 2];
  cache->heap[at] = candidate;
}

static Candidate heap_pop(struct WordCache *cache) {
  Candidate *heap = cache->heap, top = heap[0], last = heap[--cache->heap_count];
  size_t at = 0, child;
  while ((child = at * 2 + 1) < cache->heap_count) {
    if (child + 1 < cache->heap_count && before(heap[child + 1], heap[child])) child++;
    if (!before(heap[child], last)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}

// Offers the pair that begins at symbol `position`, where there is a merge for it.
static void offer(const Tokenizer *tokenizer, uint32_t position, uint32_t end) {
  struct WordCache *cache = tokenizer->cache;
  uint32_t next = cache->symbols[position].next;
  if (next == end) return;
  const PairSlot *slot = find_pair(tokenizer, cache->symbols[position].id, cache->symbols[next].id);
  if (slot->key) heap_push(cache, (Candidate){slot->rank, position});
}

static void merge_at(const Tokenizer *tokenizer, Candidate candidate, uint32_t end) {
  Symbol *symbols = tokenizer->cache->symbols, *left = &symbols[candidate.position];
  const Merge *merge = &tokenizer->merges[candidate.rank];
  if (left->next == end || left->id != merge->left || symbols[left->next].id != merge->right)
    return; // outdated
  symbols[left->next].id = -1;
  left->id = merge->result;
  left->next = symbols[left->next].next;
  if (left->next != end) symbols[left->next].previous = candidate.position;
  offer(tokenizer, candidate.position, end);
  if (candidate.position) offer(tokenizer, left->previous, end);
}

static void encode_word(const Tokenizer *tokenizer, const char *word, size_t length, Ids *ids) {
  struct WordCache *cache = tokenizer->cache;
  if (length > UINT32_MAX / 2) die("a word of %zu bytes", length);
  if (length > cache->symbol_capacity) {
    cache->symbol_capacity = length + 64;
    free(cache->symbols);
    cache->symbols = malloc(cache->symbol_capacity * sizeof *cache->symbols);
    if (!cache->symbols) die("out of memory");
  }
  uint32_t end = (uint32_t)length;
  for (uint32_t i = 0; i < end; i++)
    cache->symbols[i] = (Symbol){tokenizer->bytes[(unsigned char)word[i]], i - 1, i + 1};
  cache->heap_count = 0;
  for (uint32_t i = 0; i < end; i++) offer(tokenizer, i, end);
  while (cache->heap_count) merge_at(tokenizer, heap_pop(cache), end);
  for (uint32_t i = 0; i < end; i = cache->symbols[i].next) ids_add(ids, cache->symbols[i].id);
}

static uint64_t hash_word(const char *word, size_t length) { // FNV-1a
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)word[i]) * 0x100000001b3u;
  return mix(hash);
}

// The slot of a short word, or the empty one where it would go.
static CachedWord *find_word(struct WordCache *cache, const char *word, size_t length) {
  size_t at = hash_word(word, length) & (CACHE_SLOTS - 1);
  for (;; at = (at + 1) & (CACHE_SLOTS - 1)) {
    CachedWord *slot = &cache->slots[at];
    if (!slot->bytes || (slot->length == length && !memcmp(slot->bytes, word, length))) return slot;
  }
}

typedef struct Encoding {
  const Tokenizer *tokenizer;
  Ids *ids;
} Encoding;

static void add_word(void *context, const char *word, size_t length) {
  const Encoding *encoding = context;
  struct WordCache *cache = encoding->tokenizer->cache;
  Ids *ids = encoding->ids;
  if (length > CACHE_WORD_BYTES) {
    encode_word(encoding->tokenizer, word, length, ids);
    return;
  }
  CachedWord *slot = find_word(cache, word, length);
  if (slot->bytes) {
    for (int i = 0; i < slot->count; i++) ids_add(ids, slot->ids[i]);
    return;
  }
  size_t start = ids->count;
  encode_word(encoding->tokenizer, word, length, ids);
  if (cache->words++ == CACHE_WORDS) {
    arena_free(cache->arena);
    cache_start(cache);
    slot = find_word(cache, word, length);
  }
  size_t count = ids->count - start;
  int32_t *kept = ARENA_ARRAY(cache->arena, int32_t, count);
  memcpy(kept, ids->list + start, count * sizeof *kept);
  *slot = (CachedWord){arena_copy(cache->arena, word, length), kept, (uint16_t)length, (uint16_t)count};
}

// Text without added tokens.
static void encode_plain(const Tokenizer *tokenizer, const char *text, size_t length, Ids *ids) {
  Encoding encoding = {tokenizer, ids};
  utf8proc_uint8_t *composed = NULL;
  if (tokenizer->compose && length) { // text that is not UTF-8 has no composed form and stays as it is
    utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &composed,
                                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size >= 0) text = (const char *)composed, length = (size_t)size;
  }
  splitter_run(tokenizer->splitter, text, length, add_word, &encoding);
  free(composed);
}

// The longest added token that `text` begins with, or -1.
static int32_t added_at(const Tokenizer *tokenizer, const char *text, size_t length) {
  if (!tokenizer->added_begins[(unsigned char)text[0]]) return -1;
  for (int32_t i = 0; i < tokenizer->added_count; i++) {
    const Token *token = &tokenizer->tokens[tokenizer->added[i]];
    if (token->length <= length && !memcmp(token->bytes, text, token->length)) return tokenizer->added[i];
  }
  return -1;
}

void tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t length, bool specials, Ids *ids) {
  pthread_mutex_lock(&tokenizer->cache->lock);
  size_t done = 0;
  for (size_t at = 0; specials && at < length;) {
    int32_t id = added_at(tokenizer, text + at, length - at);
    if (id < 0) {
      at++;
      continue;
    }
    encode_plain(tokenizer, text + done, at - done, ids);
    ids_add(ids, id);
    done = at += tokenizer->tokens[id].length;
  }
  encode_plain(tokenizer, text + done, length - done, ids);
  pthread_mutex_unlock(&tokenizer->cache->lock);
}

// Decoding.

static const char replacement_character[] = "\xef\xbf\xbd";

static int sequence_length(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

// Whether `byte` may come second after `lead`: rules out overlong forms, surrogates and what is beyond
// U+10FFFF.
static bool second_fits(unsigned char lead, unsigned char byte) {
  unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  return byte >= least && byte <= most;
}

static void decode_byte(Decoder *decoder, unsigned char byte, Text *out) {
  if (decoder->held_count) {
    bool fits = decoder->held_count == 1 ? second_fits(decoder->held[0], byte) : (byte & 0xc0) == 0x80;
    if (!fits) tokenizer_decode_end(decoder, out);
  }
  if (!decoder->held_count && !sequence_length(byte)) {
    text_add(out, replacement_character, 3);
    return;
  }
  decoder->held[decoder->held_count++] = byte;
  if (decoder->held_count < sequence_length(decoder->held[0])) return;
  text_add(out, (const char *)decoder->held, (size_t)decoder->held_count);
  decoder->held_count = 0;
}

void tokenizer_decode(const Tokenizer *tokenizer, Decoder *decoder, int32_t id, bool specials, Text *out) {
  const Token *token = token_of(tokenizer, id);
  if (token->special && !specials) return;
  for (size_t i = 0; i < token->length; i++) decode_byte(decoder, (unsigned char)token->bytes[i], out);
}

void tokenizer_decode_end(Decoder *decoder, Text *out) {
  if (decoder->held_count) text_add(out, replacement_character, 3);
  decoder->held_count = 0;
}
