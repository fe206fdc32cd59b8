// Training byte-level BPE: texts -> words with counts -> merges, most frequent pair first.
//
// Each merge touches only the words that hold its pair: a heap of candidates (pair, count, words) gives the
// most frequent one. Counts in the heap may be out of date (a merge changes those of its neighbours); the
// true count is looked up when a candidate comes to the top, which then finds its place anew. What the pairs
// of two merges spell may be the same token ("a" "bc", "ab" "c"): it is made once. A pair that such a token
// forms again becomes another candidate, with the words of its own; if both are merged, the later one counts.
// Hugging Face's trainer works in this way, down to the last detail, so that its files are ours: of texts that it gets
// whole (train_from_iterator), where pairs occur twice (min_frequency=2). Its train(FILES) cuts texts at line ends first.
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

enum { LEAST_COUNT = 2 }; // of a pair, to be merged

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
  uint32_t *words; // that gained it since it was last entered as a candidate
  uint32_t word_count, word_capacity;
  size_t merge; // its latest merge, plus 1
} Pair;

typedef struct Candidate { // of the heap
  int64_t count;           // of its pair when it was entered
  uint32_t pair, word_count;
  uint32_t *words;
} Candidate;

typedef struct Learning {
  TokenizerTrainer *trainer;
  Tokenizer *tokenizer;
  size_t token_capacity, merge_capacity;
  const char *const *specials;
  size_t special_count;
  int32_t byte_tokens[256];
  uint32_t *token_slots; // open hash table of ordinary tokens by their bytes: id plus 1
  size_t token_slot_count;
  Pair *pairs;
  size_t pair_count, pair_capacity;
  uint32_t *slots; // open hash table: index of a pair, plus 1
  size_t slot_count;
  uint32_t *gained; // pairs that have words since the last round
  size_t gained_count, gained_capacity;
  Candidate *heap;
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

// The pair's index, made if new.
static uint32_t pair_of(Learning *learning, int32_t left, int32_t right) {
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
  return *slot - 1;
}

// A word gained (or lost, `by` < 0) one occurrence of a pair. All of a word's changes come one after another.
static void change(Learning *learning, int32_t left, int32_t right, int64_t by, uint32_t word) {
  uint32_t index = pair_of(learning, left, right);
  Pair *pair = &learning->pairs[index];
  pair->count += by;
  if (by < 0 || (pair->word_count && pair->words[pair->word_count - 1] == word)) return;
  if (pair->word_count == pair->word_capacity) {
    pair->word_capacity = pair->word_capacity ? pair->word_capacity * 2 : 4;
    pair->words = grow(pair->words, pair->word_capacity, sizeof *pair->words);
  }
  pair->words[pair->word_count++] = word;
  if (pair->word_count > 1) return;
  if (learning->gained_count == learning->gained_capacity) {
    learning->gained_capacity = learning->gained_capacity ? learning->gained_capacity * 2 : 4096;
    learning->gained = grow(learning->gained, learning->gained_capacity, sizeof *learning->gained);
  }
  learning->gained[learning->gained_count++] = index;
}

static bool before(const Learning *learning, const Candidate *a, const Candidate *b) {
  if (a->count != b->count) return a->count > b->count;
  const Pair *first = &learning->pairs[a->pair], *second = &learning->pairs[b->pair];
  return first->left != second->left ? first->left < second->left : first->right < second->right;
}

static void push(Learning *learning, Candidate candidate) {
  if (learning->heap_count == learning->heap_capacity) {
    learning->heap_capacity = learning->heap_capacity ? learning->heap_capacity * 2 : 4096;
    learning->heap = grow(learning->heap, learning->heap_capacity, sizeof *learning->heap);
  }
  size_t at = learning->heap_count++;
  for (; at && before(learning, &candidate, &learning->heap[(at - 1) / 2]); at = (at - 1) / 2)
    learning->heap[at] = learning->heap[(at - 1) / 2];
  learning->heap[at] = candidate;
}

static Candidate pop(Learning *learning) {
  Candidate *heap = learning->heap, top = heap[0], last = heap[--learning->heap_count];
  size_t at = 0, child;
  while ((child = at * 2 + 1) < learning->heap_count) {
    if (child + 1 < learning->heap_count && before(learning, &heap[child + 1], &heap[child])) child++;
    if (!before(learning, &heap[child], &last)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  return top;
}

// Enters the pairs that gained words, with these words.
static void push_gained(Learning *learning) {
  for (size_t i = 0; i < learning->gained_count; i++) {
    Pair *pair = &learning->pairs[learning->gained[i]];
    if (pair->count > 0)
      push(learning, (Candidate){pair->count, learning->gained[i], pair->word_count, pair->words});
    else
      free(pair->words);
    pair->words = NULL;
    pair->word_count = pair->word_capacity = 0;
  }
  learning->gained_count = 0;
}

static void merge_in_word(Learning *learning, uint32_t index, const Merge *merge) {
  Word *word = &learning->trainer->words[index];
  int32_t *symbols = word->symbols;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < word->symbol_count; i++) {
    bool here = i + 1 < word->symbol_count && symbols[i] == merge->left && symbols[i + 1] == merge->right;
    if (!here) {
      symbols[kept++] = symbols[i];
      continue;
    }
    if (kept) {
      change(learning, symbols[kept - 1], merge->left, -word->count, index);
      change(learning, symbols[kept - 1], merge->result, word->count, index);
    }
    if (i + 2 < word->symbol_count) {
      change(learning, merge->right, symbols[i + 2], -word->count, index);
      change(learning, merge->result, symbols[i + 2], word->count, index);
    }
    symbols[kept++] = merge->result;
    i++;
  }
  word->symbol_count = kept;
}

// Tokens.

// In tokenizer.json ordinary tokens and special ones share one table of spellings.
static bool spells_special(const Learning *learning, const char *spelling) {
  bool found = false;
  for (size_t i = 0; i < learning->special_count; i++) found |= !strcmp(learning->specials[i], spelling);
  return found;
}

static uint32_t *find_token(const Learning *learning, const char *text, size_t length) {
  size_t mask = learning->token_slot_count - 1, at = hash_bytes(text, length) & mask;
  for (;; at = (at + 1) & mask) {
    uint32_t *slot = &learning->token_slots[at];
    if (!*slot) return slot;
    const Token *token = &learning->tokenizer->tokens[*slot - 1];
    if (token->text_length == length && !memcmp(token->text, text, length)) return slot;
  }
}

// The token of that spelling, made if new.
static int32_t token_of(Learning *learning, const char *text, size_t length, bool special) {
  Tokenizer *tokenizer = learning->tokenizer;
  uint32_t *slot = find_token(learning, text, length);
  if (*slot) return (int32_t)*slot - 1;
  size_t count = (size_t)tokenizer->count;
  Token token = {.text = arena_copy(tokenizer->arena, text, length),
                 .text_length = length,
                 .known = true,
                 .added = special,
                 .special = special};
  ARENA_PUSH(tokenizer->arena, tokenizer->tokens, count, learning->token_capacity, token);
  tokenizer->count = (int32_t)count;
  return (int32_t)(*slot = (uint32_t)count) - 1;
}

// Makes the candidate's pair a token, unless it would be too long or spelled as a special one is.
static void learn(Learning *learning, const Candidate *candidate) {
  Tokenizer *tokenizer = learning->tokenizer;
  Merge merge = {.left = learning->pairs[candidate->pair].left,
                 .right = learning->pairs[candidate->pair].right};
  const Token *left = &tokenizer->tokens[merge.left], *right = &tokenizer->tokens[merge.right];
  Text text = {0};
  text_add(&text, left->text, left->text_length);
  text_add(&text, right->text, right->text_length);
  if (text.length <= TOKENIZER_MAX_TOKEN_BYTES && !spells_special(learning, text.bytes)) {
    merge.result = token_of(learning, text.bytes, text.length, false);
    ARENA_PUSH(tokenizer->arena, tokenizer->merges, tokenizer->merge_count, learning->merge_capacity, merge);
    learning->pairs[candidate->pair].merge = tokenizer->merge_count;
    for (uint32_t i = 0; i < candidate->word_count; i++) merge_in_word(learning, candidate->words[i], &merge);
    push_gained(learning);
  }
  text_free(&text);
}

static void learn_all(Learning *learning, size_t vocabulary) {
  push_gained(learning);
  while (learning->heap_count && (size_t)learning->tokenizer->count < vocabulary) {
    Candidate candidate = pop(learning);
    int64_t count = learning->pairs[candidate.pair].count;
    if (count == candidate.count && count >= LEAST_COUNT) {
      learn(learning, &candidate);
      free(candidate.words);
    } else if (count != candidate.count) {
      candidate.count = count;
      push(learning, candidate);
    } else {
      free(candidate.words);
      break;
    }
  }
}

// A pair that was merged twice keeps its later place.
static void number_merges(Learning *learning) {
  Tokenizer *tokenizer = learning->tokenizer;
  size_t kept = 0;
  for (size_t i = 0; i < tokenizer->merge_count; i++) {
    Merge merge = tokenizer->merges[i];
    if (learning->pairs[pair_of(learning, merge.left, merge.right)].merge != i + 1) continue;
    merge.rank = (uint32_t)kept;
    tokenizer->merges[kept++] = merge;
  }
  tokenizer->merge_count = kept;
}

// Specials, the 256 bytes in the order of the characters that spell them, and every word as its bytes.
static void start(Learning *learning, size_t vocabulary) {
  learning->token_slot_count = 1024;
  while (learning->token_slot_count < vocabulary * 2) learning->token_slot_count *= 2;
  learning->token_slots = calloc(learning->token_slot_count, sizeof *learning->token_slots);
  if (!learning->token_slots) die("out of memory");
  for (size_t i = 0; i < learning->special_count; i++)
    token_of(learning, learning->specials[i], strlen(learning->specials[i]), true);
  for (int i = 0; i < 256; i++) {
    Text spelling = {0};
    char byte = (char)byte_level_nth(i);
    byte_level_spell(&spelling, &byte, 1);
    learning->byte_tokens[(unsigned char)byte] = token_of(learning, spelling.bytes, spelling.length, false);
    text_free(&spelling);
  }
  Arena *words = learning->trainer->arena;
  for (size_t i = 0; i < learning->trainer->count; i++) {
    Word *word = &learning->trainer->words[i];
    word->symbols = ARENA_ARRAY(words, int32_t, word->length);
    word->symbol_count = word->length;
    for (uint32_t at = 0; at < word->length; at++)
      word->symbols[at] = learning->byte_tokens[(unsigned char)word->bytes[at]];
    for (uint32_t at = 0; at + 1 < word->length; at++)
      change(learning, word->symbols[at], word->symbols[at + 1], word->count, (uint32_t)i);
  }
}

static void finish(Learning *learning) {
  for (size_t i = 0; i < learning->pair_count; i++) free(learning->pairs[i].words);
  for (size_t i = 0; i < learning->heap_count; i++) free(learning->heap[i].words);
  free(learning->pairs);
  free(learning->slots);
  free(learning->gained);
  free(learning->heap);
  free(learning->token_slots);
}

static bool check_specials(const Learning *learning, Failure *failure) {
  for (size_t i = 0; i < learning->special_count; i++) {
    const char *special = learning->specials[i];
    char *bytes;
    size_t length = strlen(special), spelled;
    if (!length || length > TOKENIZER_MAX_TOKEN_BYTES)
      return fail(failure, "special token %zu has %zu bytes, expected 1 to %d", i, length,
                  TOKENIZER_MAX_TOKEN_BYTES);
    if (length == 1 ||
        (byte_level_read(special, length, learning->trainer->arena, &bytes, &spelled) && spelled == 1))
      return fail(failure, "the special token \"%s\" is spelled as a single byte is", special);
    if (!is_text(special, length)) return fail(failure, "special token %zu is not valid UTF-8", i);
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
  start(&learning, vocabulary);
  learn_all(&learning, vocabulary);
  number_merges(&learning);
  finish(&learning);
  if (!tokenizer_index(learning.tokenizer, "the trained tokenizer", failure) ||
      !tokenizer_use(learning.tokenizer, &pipeline_gpt2, "the trained tokenizer", failure) ||
      !tokenizer_prepare(learning.tokenizer, "the trained tokenizer", failure))
    die("%s", failure->message);
  *out = learning.tokenizer;
  return true;
}
