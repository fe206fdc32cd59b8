// Byte-level BPE: text <-> ids. Text is split into words by a pattern (GPT-2's, or what a tokenizer.json asks
// for), each word's bytes are merged pair by pair in the order the merges were learned. Every byte string has
// an encoding and decodes to itself.
//
// A Tokenizer may be used from several threads at once (a lock guards its cache of words).
#ifndef VLMC_TOKENIZER_TOKENIZER_H
#define VLMC_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/failure.h"
#include "runtime/base/text.h"

enum {
  TOKENIZER_MAX_TOKENS = 1 << 20,     // entries of a vocabulary
  TOKENIZER_MAX_FILE = 256 << 20,     // bytes of a tokenizer.json
  TOKENIZER_MAX_TOKEN_BYTES = 1 << 12 // bytes one token stands for
};

typedef struct Tokenizer Tokenizer;

// Ids on the C heap, grown by whoever appends.
typedef struct Ids {
  int32_t *list;
  size_t count, capacity;
} Ids;
void ids_add(Ids *ids, int32_t id);
void ids_free(Ids *ids);

// Training: add texts, then finish with a size. The same texts in the same order give the same tokenizer.
// Special tokens get ids 0 ... special_count-1, the 256 bytes follow, then the merges as they are learned.
// Fewer than `vocabulary` tokens come out when the text has no more pairs that occur twice. Fails when
// `vocabulary` is less than special_count + 256, or a special token is empty, named twice or a single byte.
typedef struct TokenizerTrainer TokenizerTrainer;
TokenizerTrainer *tokenizer_trainer_new(void);
void tokenizer_trainer_add(TokenizerTrainer *trainer, const char *text, size_t length);
bool tokenizer_trainer_finish(TokenizerTrainer *trainer, size_t vocabulary, const char *const *specials,
                              size_t special_count, Tokenizer **out, Failure *failure);
void tokenizer_trainer_free(TokenizerTrainer *trainer); // accepts NULL

// Reads tokenizer.json (Hugging Face's layout): model BPE; normalizer none or NFC; pre-tokenizers ByteLevel,
// Split, Digits and sequences of them; added tokens. Anything else in it that would change ids is refused by
// name.
bool tokenizer_read(const char *path, Tokenizer **out, Failure *failure);
bool tokenizer_parse(const char *json, size_t size, const char *name, Tokenizer **out, Failure *failure);
// Reads vocab.json and merges.txt as GPT-2 published them. "<|endoftext|>", where present, is special.
bool tokenizer_read_gpt2(const char *vocabulary_path, const char *merges_path, Tokenizer **out,
                         Failure *failure);
bool tokenizer_save(const Tokenizer *tokenizer, const char *path, Failure *failure); // atomically
void tokenizer_print(const Tokenizer *tokenizer, Text *json); // what tokenizer_save writes
void tokenizer_free(Tokenizer *tokenizer);                    // accepts NULL

int32_t tokenizer_count(const Tokenizer *tokenizer);                     // ids are 0 ... count-1
int32_t tokenizer_find(const Tokenizer *tokenizer, const char *special); // a special token's id, or -1
bool tokenizer_is_special(const Tokenizer *tokenizer, int32_t id);
// The bytes an id stands for (a special token's spelling); not NUL-terminated. Dies on an id out of range.
const char *tokenizer_bytes(const Tokenizer *tokenizer, int32_t id, size_t *length);

// Appends the ids of a text. With `specials`, spellings of special tokens in it become those tokens; without,
// they are ordinary text: that is how anything a user wrote has to be encoded.
void tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t length, bool specials, Ids *ids);

// Decoding as tokens come, into valid UTF-8 only: bytes of an unfinished character are held back until the
// next token; bytes that cannot be UTF-8 become U+FFFD. Start with a zeroed Decoder.
typedef struct Decoder {
  unsigned char held[4];
  int held_count;
} Decoder;
// Special tokens append their spelling when `specials`, nothing otherwise.
void tokenizer_decode(const Tokenizer *tokenizer, Decoder *decoder, int32_t id, bool specials, Text *out);
void tokenizer_decode_end(Decoder *decoder, Text *out); // what is still held becomes one U+FFFD

#endif
