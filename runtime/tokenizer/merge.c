// One word -> ids: its symbols, then merges in order of rank, with a cache of words.
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

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
  const Merge *merge;
} Candidate;

typedef struct Merging {
  pthread_mutex_t lock; // over this, the splitter and the normalizers
  Arena *arena;
  CachedWord *slots; // [CACHE_SLOTS]
  size_t words;
  Symbol *symbols;
  Candidate *heap;
  size_t symbol_count, symbol_capacity, heap_count, heap_capacity;
} Merging;

static void cache_start(Merging *merging) {
  merging->arena = arena_new();
  merging->slots = ARENA_ARRAY(merging->arena, CachedWord, CACHE_SLOTS);
  merging->words = 0;
}

Merging *merging_new(Arena *arena) {
  Merging *merging = ARENA_NEW(arena, Merging);
  pthread_mutex_init(&merging->lock, NULL);
  cache_start(merging);
  return merging;
}

void merging_free(Merging *merging) {
  pthread_mutex_destroy(&merging->lock);
  arena_free(merging->arena);
  free(merging->symbols);
  free(merging->heap);
}

void merging_lock(Merging *merging) { pthread_mutex_lock(&merging->lock); }
void merging_unlock(Merging *merging) { pthread_mutex_unlock(&merging->lock); }

static bool before(const Candidate *a, const Candidate *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void heap_push(Merging *merging, Candidate candidate) {
  if (merging->heap_count == merging->heap_capacity) {
    merging->heap_capacity = merging->heap_capacity ? merging->heap_capacity * 2 : 64;
    merging->heap = realloc(merging->heap, merging->heap_capacity * sizeof *merging->heap);
    if (!merging->heap) die("out of memory");
  }
  size_t at = merging->heap_count++;
  for (; at && before(&candidate, &merging->heap[(at - 1) / 2]); at = (at - 1) / 2)
    merging->heap[at] = merging->heap[(at - 1) / 2];
  merging->heap[at] = candidate;
}

static Candidate heap_pop(Merging *merging) {
  Candidate *heap = merging->heap, top = heap[0], last = heap[--merging->heap_count];
  size_t at = 0, child;
  while ((child = at * 2 + 1) < merging->heap_count) {
    if (child + 1 < merging->heap_count && before(&heap[child + 1], &heap[child])) child++;
    if (!before(&heap[child], &last)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}

// Offers the pair that begins at symbol `position`, where there is a merge for it.
static void offer(const Tokenizer *tokenizer, uint32_t position) {
  Merging *merging = tokenizer->merging;
  uint32_t next = merging->symbols[position].next;
  if (next == merging->symbol_count) return;
  const Merge *merge = tokenizer_merge(tokenizer, merging->symbols[position].id, merging->symbols[next].id);
  if (merge) heap_push(merging, (Candidate){merge->rank, position, merge});
}

static void apply(const Tokenizer *tokenizer, const Candidate *candidate) {
  Merging *merging = tokenizer->merging;
  uint32_t end = (uint32_t)merging->symbol_count;
  Symbol *symbols = merging->symbols, *left = &symbols[candidate->position];
  const Merge *merge = candidate->merge;
  if (left->next == end || left->id != merge->left || symbols[left->next].id != merge->right)
    return; // outdated
  symbols[left->next].id = -1;
  left->id = merge->result;
  left->next = symbols[left->next].next;
  if (left->next != end) symbols[left->next].previous = candidate->position;
  offer(tokenizer, candidate->position);
  if (candidate->position) offer(tokenizer, left->previous);
}

static void add_symbol(Merging *merging, int32_t id) {
  uint32_t at = (uint32_t)merging->symbol_count++;
  merging->symbols[at] = (Symbol){id, at - 1, at + 1};
}

// A character without a token of its own.
static void add_unknown(const Tokenizer *tokenizer, const char *bytes, size_t length, bool *fused) {
  Merging *merging = tokenizer->merging;
  bool fallback = tokenizer->byte_fallback;
  for (size_t i = 0; fallback && i < length; i++) fallback = tokenizer->bytes[(unsigned char)bytes[i]] >= 0;
  for (size_t i = 0; fallback && i < length; i++)
    add_symbol(merging, tokenizer->bytes[(unsigned char)bytes[i]]);
  if (fallback || tokenizer->unknown < 0) return;
  if (!*fused || !tokenizer->fuse_unknown) add_symbol(merging, tokenizer->unknown);
  *fused = true;
}

static int32_t character_token(const Tokenizer *tokenizer, const char *bytes, size_t length, bool last) {
  char spelling[4 + 64];
  size_t more = last ? strlen(tokenizer->suffix) : 0;
  if (!more) return tokenizer_lookup(tokenizer, bytes, length);
  memcpy(spelling, bytes, length);
  memcpy(spelling + length, tokenizer->suffix, more);
  return tokenizer_lookup(tokenizer, spelling, length + more);
}

// The word's symbols before any merge: one per byte or character, several for one that falls back to bytes.
static void start(const Tokenizer *tokenizer, const char *word, size_t length) {
  Merging *merging = tokenizer->merging;
  bool fused = false; // the symbol before this one is unknown
  if (length > merging->symbol_capacity) {
    merging->symbol_capacity = length + 64;
    free(merging->symbols);
    merging->symbols = malloc(merging->symbol_capacity * sizeof *merging->symbols);
    if (!merging->symbols) die("out of memory");
  }
  merging->symbol_count = 0;
  for (size_t at = 0, size; at < length; at += size) {
    size = tokenizer->byte_level ? 1 : character_length(word + at, length - at);
    if (!size) size = 1; // no UTF-8: a byte alone
    const int32_t *bytes = at + 1 == length ? tokenizer->last_bytes : tokenizer->bytes;
    int32_t id = tokenizer->byte_level ? bytes[(unsigned char)word[at]]
                                       : character_token(tokenizer, word + at, size, at + size == length);
    if (id >= 0) {
      add_symbol(merging, id);
      fused = false;
    } else {
      add_unknown(tokenizer, word + at, size, &fused);
    }
  }
}

// The token that is the whole word, where the tokenizer asks for it first; else -1.
static int32_t whole_word(const Tokenizer *tokenizer, const char *word, size_t length) {
  Text spelling = {0};
  if (!tokenizer->whole_words) return -1;
  if (tokenizer->byte_level)
    byte_level_spell(&spelling, word, length);
  else
    text_add(&spelling, word, length);
  int32_t id = tokenizer_lookup(tokenizer, spelling.bytes, spelling.length);
  text_free(&spelling);
  return id >= 0 && !tokenizer->tokens[id].special ? id : -1;
}

static void merge_anew(const Tokenizer *tokenizer, const char *word, size_t length, Ids *ids) {
  Merging *merging = tokenizer->merging;
  if (length > UINT32_MAX / 2) die("a word of %zu bytes", length);
  int32_t whole = whole_word(tokenizer, word, length);
  if (whole >= 0) {
    ids_add(ids, whole);
    return;
  }
  start(tokenizer, word, length);
  merging->heap_count = 0;
  uint32_t end = (uint32_t)merging->symbol_count;
  for (uint32_t i = 0; i < end; i++) offer(tokenizer, i);
  while (merging->heap_count) {
    Candidate best = heap_pop(merging);
    apply(tokenizer, &best);
  }
  for (uint32_t i = 0; i < end; i = merging->symbols[i].next) ids_add(ids, merging->symbols[i].id);
}

// The slot of a short word, or the empty one where it would go.
static CachedWord *find_word(Merging *merging, const char *word, size_t length) {
  size_t at = hash_bytes(word, length) & (CACHE_SLOTS - 1);
  for (;; at = (at + 1) & (CACHE_SLOTS - 1)) {
    CachedWord *slot = &merging->slots[at];
    if (!slot->bytes || (slot->length == length && !memcmp(slot->bytes, word, length))) return slot;
  }
}

void merge_word(const Tokenizer *tokenizer, const char *word, size_t length, Ids *ids) {
  Merging *merging = tokenizer->merging;
  if (length > CACHE_WORD_BYTES) {
    merge_anew(tokenizer, word, length, ids);
    return;
  }
  CachedWord *slot = find_word(merging, word, length);
  if (slot->bytes) {
    for (int i = 0; i < slot->count; i++) ids_add(ids, slot->ids[i]);
    return;
  }
  size_t from = ids->count;
  merge_anew(tokenizer, word, length, ids);
  if (merging->words++ == CACHE_WORDS) {
    arena_free(merging->arena);
    cache_start(merging);
    slot = find_word(merging, word, length);
  }
  size_t count = ids->count - from;
  int32_t *kept = ARENA_ARRAY(merging->arena, int32_t, count);
  if (count) memcpy(kept, ids->list + from, count * sizeof *kept);
  *slot = (CachedWord){arena_copy(merging->arena, word, length), kept, (uint16_t)length, (uint16_t)count};
}
