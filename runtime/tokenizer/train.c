// Training byte-level BPE: texts -> words with counts -> merges, most frequent pair first.
//
// Each merge touches only the words that hold its pair: every pair knows its count and its words, and a heap
// gives the most frequent one. Counts in the heap may be too high (a merge lowers those of its neighbours);
// the true count is looked up when an entry comes to the top, which then sinks. Equal counts: lower ids
// first.
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer/parts.h"

typedef struct Word {
  const char *bytes;
  uint32_t length;
  uint32_t symbol_count;
  int32_t *symbols; // its tokens at this point of training
  int64_t count;    // how often the texts have it
} Word;

struct TokenizerTrainer {
  Arena *arena;
  Splitter *splitter;
  Word *words;
  size_t count, capacity;
  uint32_t *slots; // open hash table: index of a word, plus 1; 0: empty
  size_t slot_count;
};

static void *grow(void *memory, size_t count, size_t size) {
  memory = realloc(memory, count * size);
  if (!memory) die("out of memory");
  return memory;
}

TokenizerTrainer *tokenizer_trainer_new(void) {
  Arena *arena = arena_new();
  TokenizerTrainer *trainer = ARENA_NEW(arena, TokenizerTrainer);
  trainer->arena = arena;
  trainer->splitter = splitter_new();
  splitter_add_gpt2(trainer->splitter);
  return trainer;
}

void tokenizer_trainer_free(TokenizerTrainer *trainer) {
  if (!trainer) return;
  splitter_free(trainer->splitter);
  free(trainer->words);
  free(trainer->slots);
  arena_free(trainer->arena);
}

static uint64_t hash_bytes(const char *bytes, size_t length) { // FNV-1a, then mixed
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
  return hash ^ hash >> 29;
}

static uint32_t *find_slot(const TokenizerTrainer *trainer, const char *bytes, size_t length) {
  size_t mask = trainer->slot_count - 1, at = hash_bytes(bytes, length) & mask;
  for (;; at = (at + 1) & mask) {
    uint32_t *slot = &trainer->slots[at];
    if (!*slot) return slot;
    const Word *word = &trainer->words[*slot - 1];
    if (word->length == length && !memcmp(word->bytes, bytes, length)) return slot;
  }
}

static void rehash(TokenizerTrainer *trainer) {
  free(trainer->slots);
  trainer->slot_count = trainer->slot_count ? trainer->slot_count * 2 : 1024;
  trainer->slots = calloc(trainer->slot_count, sizeof *trainer->slots);
  if (!trainer->slots) die("out of memory");
  for (size_t i = 0; i < trainer->count; i++)
    *find_slot(trainer, trainer->words[i].bytes, trainer->words[i].length) = (uint32_t)i + 1;
}

static void count_word(void *context, const char *bytes, size_t length) {
  TokenizerTrainer *trainer = context;
  if (trainer->count * 2 >= trainer->slot_count) rehash(trainer);
  uint32_t *slot = find_slot(trainer, bytes, length);
  if (!*slot) {
    if (trainer->count >= UINT32_MAX - 1 || length >= UINT32_MAX)
      die("the text has too many or too long words");
    if (trainer->count == trainer->capacity) {
      trainer->capacity = trainer->capacity ? trainer->capacity * 2 : 1024;
      trainer->words = grow(trainer->words, trainer->capacity, sizeof *trainer->words);
    }
    trainer->words[trainer->count] =
        (Word){.bytes = arena_copy(trainer->arena, bytes, length), .length = (uint32_t)length};
    *slot = (uint32_t)++trainer->count;
  }
  trainer->words[*slot - 1].count++;
}

void tokenizer_trainer_add(TokenizerTrainer *trainer, const char *text, size_t length) {
  splitter_run(trainer->splitter, text, length, count_word, trainer);
}

// Pairs.

typedef struct Pair {
  int32_t left, right;
  int64_t count;   // in all texts
  uint32_t *words; // that hold it, perhaps some that no longer do
  uint32_t word_count, word_capacity;
} Pair;

typedef struct Entry { // of the heap
  int64_t count;       // of its pair when it was entered
  uint32_t pair;
} Entry;

typedef struct Learning {
  TokenizerTrainer *trainer;
  Tokenizer *tokenizer;
  size_t token_capacity, merge_capacity;
  const char *const *specials;
  size_t special_count;
  Pair *pairs;
  size_t pair_count, pair_capacity;
  uint32_t *slots; // open hash table: index of a pair, plus 1
  size_t slot_count;
  Entry *heap;
  size_t heap_count, heap_capacity;
} Learning;

static uint32_t *find_pair(const Learning *learning, int32_t left, int32_t right) {
  uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  size_t mask = learning->slot_count - 1, at = (key * 0x9e3779b97f4a7c15u) >> 32 & mask;
  for (;; at = (at + 1) & mask) {
    uint32_t *slot = &learning->slots[at];
    if (!*slot) return slot;
    const Pair *pair = &learning->pairs[*slot - 1];
    if (pair->left == left && pair->right == right) return slot;
  }
}

static void rehash_pairs(Learning *learning) {
  free(learning->slots);
  learning->slot_count = learning->slot_count ? learning->slot_count * 2 : 4096;
  learning->slots = calloc(learning->slot_count, sizeof *learning->slots);
  if (!learning->slots) die("out of memory");
  for (size_t i = 0; i < learning->pair_count; i++)
    *find_pair(learning, learning->pairs[i].left, learning->pairs[i].right) = (uint32_t)i + 1;
}

// The pair, made if new. The pointer holds until the next call.
static Pair *pair_of(Learning *learning, int32_t left, int32_t right) {
  if (learning->pair_count * 2 >= learning->slot_count) rehash_pairs(learning);
  uint32_t *slot = find_pair(learning, left, right);
  if (!*slot) {
    if (learning->pair_count >= UINT32_MAX / 2) die("the text has too many pairs");
    if (learning->pair_count == learning->pair_capacity) {
      learning->pair_capacity = learning->pair_capacity ? learning->pair_capacity * 2 : 4096;
      learning->pairs = grow(learning->pairs, learning->pair_capacity, sizeof *learning->pairs);
    }
    learning->pairs[learning->pair_count] = (Pair){.left = left, .right = right};
    *slot = (uint32_t)++learning->pair_count;
  }
  return &learning->pairs[*slot - 1];
}

// A word gained (or lost, `by` < 0) one occurrence of a pair.
static void change(Learning *learning, int32_t left, int32_t right, int64_t by, uint32_t word) {
  Pair *pair = pair_of(learning, left, right);
  pair->count += by;
  if (by < 0 || (pair->word_count && pair->words[pair->word_count - 1] == word)) return;
  if (pair->word_count == pair->word_capacity) {
    pair->word_capacity = pair->word_capacity ? pair->word_capacity * 2 : 4;
    pair->words = grow(pair->words, pair->word_capacity, sizeof *pair->words);
  }
  pair->words[pair->word_count++] = word;
}

static bool before(const Learning *learning, Entry a, Entry b) {
  if (a.count != b.count) return a.count > b.count;
  const Pair *first = &learning->pairs[a.pair], *second = &learning->pairs[b.pair];
  return first->left != second->left ? first->left < second->left : first->right < second->right;
}

static void push(Learning *learning, Entry entry) {
  if (learning->heap_count == learning->heap_capacity) {
    learning->heap_capacity = learning->heap_capacity ? learning->heap_capacity * 2 : 4096;
    learning->heap = grow(learning->heap, learning->heap_capacity, sizeof *learning->heap);
  }
  size_t at = learning->heap_count++;
  for (; at && before(learning, entry, learning->heap[(at - 1) / 2]); at = (at - 1) / 2)
    learning->heap[at] = learning->heap[(at - 1) / 2];
  learning->heap[at] = entry;
}

static Entry pop(Learning *learning) {
  Entry *heap = learning->heap, top = heap[0], last = heap[--learning->heap_count];
  size_t at = 0, child;
  while ((child = at * 2 + 1) < learning->heap_count) {
    if (child + 1 < learning->heap_count && before(learning, heap[child + 1], heap[child])) child++;
    if (!before(learning, heap[child], last)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}

// Enters the pairs made since `from`: only new pairs ever gain occurrences, since they hold the new token.
static void push_new(Learning *learning, size_t from) {
  for (size_t i = from; i < learning->pair_count; i++)
    if (learning->pairs[i].count > 1) push(learning, (Entry){learning->pairs[i].count, (uint32_t)i});
}

static void merge_in_word(Learning *learning, uint32_t index, Merge merge) {
  Word *word = &learning->trainer->words[index];
  int32_t *symbols = word->symbols;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < word->symbol_count; i++) {
    bool here = i + 1 < word->symbol_count && symbols[i] == merge.left && symbols[i + 1] == merge.right;
    if (!here) {
      symbols[kept++] = symbols[i];
      continue;
    }
    if (kept) {
      change(learning, symbols[kept - 1], merge.left, -word->count, index);
      change(learning, symbols[kept - 1], merge.result, word->count, index);
    }
    if (i + 2 < word->symbol_count) {
      change(learning, merge.right, symbols[i + 2], -word->count, index);
      change(learning, merge.result, symbols[i + 2], word->count, index);
    }
    symbols[kept++] = merge.result;
    i++;
  }
  word->symbol_count = kept;
}

static int32_t add_token(Learning *learning, const char *bytes, size_t length, bool special) {
  Tokenizer *tokenizer = learning->tokenizer;
  size_t count = (size_t)tokenizer->count;
  ARENA_PUSH(tokenizer->arena, tokenizer->tokens, count, learning->token_capacity,
             ((Token){bytes, length, special, special}));
  tokenizer->count = (int32_t)count;
  return tokenizer->count - 1;
}

// In tokenizer.json ordinary tokens and special ones share one table of spellings.
static bool spells_special(const Learning *learning, const char *bytes, size_t length) {
  Text spelling = {0};
  byte_level_spell(&spelling, bytes, length);
  bool found = false;
  for (size_t i = 0; i < learning->special_count; i++)
    found |= !strcmp(learning->specials[i], text_string(&spelling));
  text_free(&spelling);
  return found;
}

// Makes the pair a token, unless it would be too long or spelled as a special one is.
static void learn(Learning *learning, uint32_t index) {
  Pair pair = learning->pairs[index];
  Tokenizer *tokenizer = learning->tokenizer;
  const Token *left = &tokenizer->tokens[pair.left], *right = &tokenizer->tokens[pair.right];
  size_t length = left->length + right->length;
  if (length > TOKENIZER_MAX_TOKEN_BYTES) return;
  char *bytes = arena_alloc(tokenizer->arena, length + 1);
  memcpy(bytes, left->bytes, left->length);
  memcpy(bytes + left->length, right->bytes, right->length);
  if (spells_special(learning, bytes, length)) return;
  Merge merge = {pair.left, pair.right, add_token(learning, bytes, length, false)};
  ARENA_PUSH(tokenizer->arena, tokenizer->merges, tokenizer->merge_count, learning->merge_capacity, merge);
  size_t known = learning->pair_count;
  for (uint32_t i = 0; i < pair.word_count; i++) merge_in_word(learning, pair.words[i], merge);
  learning->pairs[index].count = 0;
  learning->pairs[index].word_count = 0;
  push_new(learning, known);
}

static void learn_all(Learning *learning, size_t vocabulary) {
  push_new(learning, 0);
  while (learning->heap_count && (size_t)learning->tokenizer->count < vocabulary) {
    Entry entry = pop(learning);
    int64_t count = learning->pairs[entry.pair].count;
    if (count == entry.count)
      learn(learning, entry.pair);
    else if (count > 1)
      push(learning, (Entry){count, entry.pair});
  }
}

// Specials, the 256 bytes, and every word as its bytes.
static void start(Learning *learning) {
  Arena *arena = learning->tokenizer->arena;
  for (size_t i = 0; i < learning->special_count; i++) {
    size_t length = strlen(learning->specials[i]);
    add_token(learning, arena_copy(arena, learning->specials[i], length), length, true);
  }
  for (int byte = 0; byte < 256; byte++)
    add_token(learning, arena_copy(arena, (char[]){(char)byte}, 1), 1, false);
  int32_t first = (int32_t)learning->special_count;
  Arena *words = learning->trainer->arena;
  for (size_t i = 0; i < learning->trainer->count; i++) {
    Word *word = &learning->trainer->words[i];
    word->symbols = ARENA_ARRAY(words, int32_t, word->length);
    word->symbol_count = word->length;
    for (uint32_t at = 0; at < word->length; at++) word->symbols[at] = first + (unsigned char)word->bytes[at];
    for (uint32_t at = 0; at + 1 < word->length; at++)
      change(learning, word->symbols[at], word->symbols[at + 1], word->count, (uint32_t)i);
  }
}

static bool utf8_valid(const char *text) {
  utf8proc_int32_t code;
  utf8proc_ssize_t size;
  for (; *text; text += size)
    if ((size = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code)) <= 0) return false;
  return true;
}

static bool check_specials(const Learning *learning, Failure *failure) {
  for (size_t i = 0; i < learning->special_count; i++) {
    const char *special = learning->specials[i];
    char *bytes;
    size_t length = strlen(special), spelled;
    if (!length || length > TOKENIZER_MAX_TOKEN_BYTES)
      return fail(failure, "special token %zu has %zu bytes, expected 1 to %d", i, length,
                  TOKENIZER_MAX_TOKEN_BYTES);
    if (length == 1 || (byte_level_read(special, learning->trainer->arena, &bytes, &spelled) && spelled == 1))
      return fail(failure, "the special token \"%s\" is spelled as a single byte is", special);
    if (!utf8_valid(special)) return fail(failure, "special token %zu is not valid UTF-8", i);
    for (size_t other = 0; other < i; other++)
      if (!strcmp(special, learning->specials[other]))
        return fail(failure, "the special token \"%.80s\" is named twice", special);
  }
  return true;
}

bool tokenizer_trainer_finish(TokenizerTrainer *trainer, size_t vocabulary, const char *const *specials,
                              size_t special_count, Tokenizer **out, Failure *failure) {
  *out = NULL;
  if (vocabulary < special_count + 256 || vocabulary > TOKENIZER_MAX_TOKENS)
    return fail(
        failure,
        "a vocabulary of %zu tokens: expected at least %zu (%zu special tokens and 256 bytes), at most %d",
        vocabulary, special_count + 256, special_count, TOKENIZER_MAX_TOKENS);
  Learning learning = {.trainer = trainer, .specials = specials, .special_count = special_count};
  if (!check_specials(&learning, failure)) return false;
  learning.tokenizer = tokenizer_new();
  start(&learning);
  learn_all(&learning, vocabulary);
  tokenizer_use_gpt2(learning.tokenizer);
  for (size_t i = 0; i < learning.pair_count; i++) free(learning.pairs[i].words);
  free(learning.pairs);
  free(learning.slots);
  free(learning.heap);
  if (!tokenizer_prepare(learning.tokenizer, "the trained tokenizer", failure)) die("%s", failure->message);
  *out = learning.tokenizer;
  return true;
}
