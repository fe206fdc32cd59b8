// Shared by the tokenizer's own files only: how a Tokenizer is laid out, the steps that text goes through,
// and the readers of each format.
#ifndef VLMC_TOKENIZER_PARTS_H
#define VLMC_TOKENIZER_PARTS_H

#include <jansson.h>
#include <pthread.h>

#include "runtime/base/arena.h"
#include "runtime/tokenizer/tokenizer.h"

// ---- split.c: text -> words ---------------------------------------------------------------------
// A splitter is a list of patterns, each splitting the pieces that those before it left.
typedef struct Splitter Splitter;
typedef void SplitWord(void *context, const char *word, size_t length);

// What becomes of the matches of a pattern, and of what lies between them.
typedef enum SplitBehavior {
  SPLIT_ISOLATED,             // pieces, both
  SPLIT_REMOVED,              // only what lies between is kept
  SPLIT_MERGED_WITH_PREVIOUS, // a match ends the piece before it
  SPLIT_MERGED_WITH_NEXT,     // a match begins the piece after it
  SPLIT_CONTIGUOUS            // neighbouring matches are one piece
} SplitBehavior;

typedef struct SplitRule {
  const char *pattern;
  bool literal; // the pattern is the text itself
  SplitBehavior behavior;
  bool invert; // what lies between the matches is the match
} SplitRule;

Splitter *splitter_new(void);
void splitter_free(Splitter *splitter); // accepts NULL
void splitter_add_gpt2(Splitter *splitter);
// Fails on a pattern PCRE2 rejects and on too many of them.
bool splitter_add(Splitter *splitter, const SplitRule *rule, const char *place, Failure *failure);
bool splitter_is_empty(const Splitter *splitter);
// Calls back with every word in order. Invalid UTF-8 lies in words of its own. One thread at a time. A
// pattern that gives up (its work is bounded) leaves the rest as one word.
void splitter_run(Splitter *splitter, const char *text, size_t length, SplitWord *word, void *context);

// A pattern in the dialect of tokenizer.json; NULL with a failure. What PCRE2 understands otherwise is
// rewritten.
struct pcre2_real_code_8 *pattern_compile(const char *pattern, bool literal, const char *place,
                                          Failure *failure);

// ---- normalize.c: text -> text ------------------------------------------------------------------
typedef struct Normalizer Normalizer;

typedef enum NormalizeKind {
  NORMALIZE_NFC,
  NORMALIZE_NFD,
  NORMALIZE_NFKC,
  NORMALIZE_NFKD,
  NORMALIZE_LOWERCASE,
  NORMALIZE_STRIP_LEFT, // white space
  NORMALIZE_STRIP_RIGHT,
  NORMALIZE_PREPEND,         // `to`, before any text but the empty one
  NORMALIZE_PREPEND_MISSING, // `to`, where the text does not begin with it
  NORMALIZE_PREPEND_FIRST,   // the same, at the very beginning only
  NORMALIZE_REPLACE,         // literal `from` by `to`
  NORMALIZE_REPLACE_PATTERN  // matches of the pattern `from` by `to`
} NormalizeKind;

Normalizer *normalizer_new(void);
void normalizer_free(Normalizer *normalizer); // accepts NULL
// `from` and `to` are copied. Fails on a wrong pattern and on too many steps.
bool normalizer_add(Normalizer *normalizer, NormalizeKind kind, const char *from, const char *to,
                    const char *place, Failure *failure);
// Brings the text into its normal form: *text is left as it is, or set to one that lives until the next call.
// `first`: nothing of the whole text comes before this.
void normalizer_run(Normalizer *normalizer, const char **text, size_t *length, bool first);

// ---- tokenizer.c --------------------------------------------------------------------------------
typedef struct Token {
  const char *text; // its spelling in the vocabulary; of an added token, in texts. NULL: the id is not used
  size_t text_length;
  const char *bytes; // what it stands for
  size_t length;
  bool known;                   // an entry of the model's vocabulary: words may become it
  bool added;                   // cut out of texts as a whole, before words are
  bool special;                 // only in texts encoded with specials, and not shown when decoding without
  bool normalized;              // looked for after the text is normalised, in its own normal form
  bool strip_left, strip_right; // takes the white space beside it
  bool single_word;             // only where no letter or digit touches it
} Token;

// Tokens that a file names without their being in every text: other programs add them, or stop at them. Ids
// do not depend on them; they are kept for files that are written again.
typedef enum NamedToken {
  NAMED_BEGIN,
  NAMED_END,
  NAMED_END_OF_TURN,
  NAMED_END_OF_MESSAGE,
  NAMED_UNKNOWN,
  NAMED_PADDING,
  NAMED_COUNT
} NamedToken;

// What GGUF calls them, "bos_token_id", without what stands before its keys.
extern const char *const named_tokens[NAMED_COUNT];

typedef struct Merge {
  int32_t left, right, result;
  uint32_t rank; // the least is merged first; of equal ones the leftmost
} Merge;

typedef struct PairSlot { // of an open hash table: (left, right) -> its merge
  uint64_t key;           // left << 32 | right, plus 1; 0: empty
  uint32_t merge;
} PairSlot;

// Added tokens by first byte, longest first.
typedef struct AddedSet {
  struct AddedToken *list;
  size_t count;
  uint32_t begins[257]; // list[begins[byte]] ... list[begins[byte + 1] - 1] start with `byte`
} AddedSet;

typedef struct AddedToken {
  const char *bytes; // what is looked for
  size_t length;
  int32_t id;
} AddedToken;

struct Tokenizer {
  Arena *arena;
  Token *tokens; // [count]
  int32_t count;

  // The model: how words become ids.
  bool byte_level;    // symbols are bytes, spelled as GPT-2 does; else characters
  bool byte_fallback; // a character without token becomes the tokens <0x..> of its bytes
  bool fuse_unknown;  // neighbouring unknown characters are one unknown token
  bool whole_words;   // a word that is a token is not built from merges
  int32_t unknown;    // id for what has none, or -1: it is dropped
  const char *suffix; // of a word's last symbol ("</w>"), or ""
  Merge *merges;
  size_t merge_count;
  const float *scores; // [count] that the merges' ranks were made from; NULL: the merges are the file's own
  Normalizer *normalizer, *preparation; // before and after added tokens in normal form are cut out
  Splitter *splitter;
  int32_t *before, *after; // of every text
  size_t before_count, after_count;
  int32_t named[NAMED_COUNT]; // -1: not named
  const char *split_name;     // GGUF's name for how words are split, as the file said it; NULL: it did not
  size_t drop_spaces;         // that the very first token begins with: as many of them are not decoded

  // The same as tokenizer.json says it, for printing. NULL: null.
  json_t *normalizer_json, *pre_tokenizer_json, *post_processor_json, *decoder_json;

  // Tables, by tokenizer_prepare.
  int32_t bytes[256];      // byte-level: symbols of bytes; else tokens <0x..>; -1: none
  int32_t last_bytes[256]; // byte-level: the same with the suffix
  uint32_t *pieces;        // open hash table over known tokens: id plus 1; 0: empty
  size_t piece_mask;
  PairSlot *pairs;
  size_t pair_mask;
  AddedSet added[2]; // looked for in texts as they are; in normal form
  bool split_spaces; // no token goes on after "x▁": words may be cut there
  struct Merging *merging;
};

extern const char space_mark[]; // "▁" (U+2581), as SentencePiece spells the space

// A tokenizer without tokens; fill in the model, then call tokenizer_prepare.
Tokenizer *tokenizer_new(void);
// Builds the tables from tokens and merges.
bool tokenizer_prepare(Tokenizer *tokenizer, const char *place, Failure *failure);
// The known token of that spelling, or -1.
int32_t tokenizer_lookup(const Tokenizer *tokenizer, const char *text, size_t length);
// The merge of a pair, or NULL.
const Merge *tokenizer_merge(const Tokenizer *tokenizer, int32_t left, int32_t right);
uint64_t hash_bytes(const char *bytes, size_t length);

// merge.c: one word -> ids, with a cache of words.
struct Merging *merging_new(Arena *arena);
void merging_free(struct Merging *merging);
void merging_lock(struct Merging *merging);
void merging_unlock(struct Merging *merging);
void merge_word(const Tokenizer *tokenizer, const char *word, size_t length, Ids *ids);

// ---- pipeline.c: the steps of tokenizer.json ----------------------------------------------------
// Each takes a reference to its part of the JSON (NULL or null: nothing) and sets up the steps it names. Both
// kinds of tokens have to be there before read_decoder.
bool read_normalizer(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure);
bool read_pre_tokenizer(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure);
bool read_post_processor(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure);
bool read_decoder(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure);
// The same for steps that our own readers name: JSON texts, NULL for none.
typedef struct Pipeline {
  const char *normalizer, *pre_tokenizer, *decoder;
} Pipeline;
bool tokenizer_use(Tokenizer *tokenizer, const Pipeline *pipeline, const char *place, Failure *failure);
extern const Pipeline pipeline_gpt2, pipeline_clip, pipeline_llama;
extern const Pipeline pipeline_llama_bare; // without a space before the text

// ---- readers ------------------------------------------------------------------------------------
// Each fills a new tokenizer whose tables are still to be built.
bool read_tokenizer_json(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                         Failure *failure);
bool read_clip(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place, Failure *failure);
bool read_sentencepiece(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                        Failure *failure);
bool read_llama2c(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place, Failure *failure);
bool read_gguf_vocabulary(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                          Failure *failure);

// pieces.c: SentencePiece's vocabulary: pieces with scores, merged highest score first.
typedef enum PieceKind { // as numbered in its files and in GGUF
  PIECE_NORMAL = 1,
  PIECE_UNKNOWN,
  PIECE_CONTROL,
  PIECE_USER,
  PIECE_UNUSED,
  PIECE_BYTE
} PieceKind;
typedef struct Piece {
  const char *text; // in the tokenizer's arena
  size_t length;
  float score;
  PieceKind kind;
} Piece;
bool use_pieces(Tokenizer *tokenizer, const Piece *pieces, size_t count, const char *place, Failure *failure);

// merges.c: lists of merges by spelling, for vocabularies whose tokens are there (tokenizer_index).
bool tokenizer_index(Tokenizer *tokenizer, const char *place, Failure *failure);
// Fails where one of the sides, or what they spell together, is no token.
bool add_merge(Tokenizer *tokenizer, size_t rank, const char *left, size_t left_length, const char *right,
               size_t right_length, const char *place, Failure *failure);
// "left right"
bool add_merge_line(Tokenizer *tokenizer, size_t rank, const char *line, size_t length, const char *place,
                    Failure *failure);

// bytes.c: GPT-2's printable spelling of bytes, one character of the Basic Multilingual Plane each.
unsigned char byte_level_nth(int index); // bytes in the order of their spellings; 0 <= index < 256
void byte_level_spell(Text *out, const char *bytes, size_t length);
// Back; false when a character stands for no byte.
bool byte_level_read(const char *spelling, size_t spelled, Arena *arena, char **bytes, size_t *length);
// Length of the valid UTF-8 character at `text`; 0: there is none.
size_t character_length(const char *text, size_t length);
bool is_text(const char *text, size_t length); // valid UTF-8 without NUL

#endif
