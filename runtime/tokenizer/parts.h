// Shared by the tokenizer's own files only: how a Tokenizer is laid out, and its splitting of text into
// words.
#ifndef VLMC_TOKENIZER_PARTS_H
#define VLMC_TOKENIZER_PARTS_H

#include <jansson.h>
#include <pthread.h>

#include "runtime/base/arena.h"
#include "runtime/tokenizer/tokenizer.h"

// split.c: text -> words. A splitter is a list of patterns; each splits the pieces that those
// before it left, at its matches, and both matches and what lies between them are pieces.
typedef struct Splitter Splitter;
typedef void SplitWord(void *context, const char *word, size_t length);

Splitter *splitter_new(void);
void splitter_free(Splitter *splitter); // accepts NULL
void splitter_add_gpt2(Splitter *splitter);
// `literal`: the pattern is the text itself. Fails on a pattern PCRE2 rejects and on more than 8 of them.
bool splitter_add(Splitter *splitter, const char *pattern, bool literal, const char *place, Failure *failure);
// Calls back with every word in order; together they are the whole text. Invalid UTF-8 lies in words of its
// own. One thread at a time. A pattern that gives up (its work is bounded) leaves the rest as one word.
void splitter_run(Splitter *splitter, const char *text, size_t length, SplitWord *word, void *context);

// tokenizer.c.
typedef struct Token {
  const char *bytes; // what it stands for
  size_t length;
  bool added;   // matched as a whole in text encoded with specials
  bool special; // and not shown when decoding without
} Token;

typedef struct Merge {
  int32_t left, right, result;
} Merge;

typedef struct PairSlot { // of an open hash table: (left, right) -> its merge's number, its rank
  uint64_t key;           // left << 32 | right, plus 1; 0: empty
  uint32_t rank;
} PairSlot;

struct Tokenizer {
  Arena *arena;
  Token *tokens; // [count]
  int32_t count;
  int32_t bytes[256]; // the token of each single byte
  Merge *merges;      // by rank
  size_t merge_count;
  PairSlot *pairs; // [pair_mask + 1]
  size_t pair_mask;
  int32_t *added; // ids of added tokens, longest first
  int32_t added_count;
  bool added_begins[256]; // first bytes of added tokens
  bool compose;           // text is brought into Unicode's form NFC first
  Splitter *splitter;
  const char *pre_tokenizer; // JSON of it, for saving
  struct WordCache *cache;
};

// A tokenizer without tokens; fill tokens, count, merges and splitter, then call tokenizer_prepare.
Tokenizer *tokenizer_new(void);
// Builds the tables from tokens and merges. Fails when one of the 256 bytes has no token.
bool tokenizer_prepare(Tokenizer *tokenizer, const char *place, Failure *failure);

// json.c: words as GPT-2 splits them, for a tokenizer that no file describes.
void tokenizer_use_gpt2(Tokenizer *tokenizer);

// bytes.c: GPT-2's printable spelling of bytes, one character of the Basic Multilingual Plane each.
void byte_level_spell(Text *out, const char *bytes, size_t length);
// Back; false when a character stands for no byte.
bool byte_level_read(const char *spelling, Arena *arena, char **bytes, size_t *length);

#endif
