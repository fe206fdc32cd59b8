// Tokenizers: text <-> ids by byte-pair encoding, in the forms that models are published with.
//
//   text -> added tokens cut out -> normalised -> split into words -> each word's symbols merged pair by pair
//
// Byte-level vocabularies (GPT-2, Llama 3, Qwen2, SmolLM, CLIP) start from bytes, those in the style of
// SentencePiece (Llama 2) from characters, with byte tokens for characters they lack. Where a vocabulary has
// all 256 bytes, every byte string has an encoding and decodes to itself.
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
  TOKENIZER_MAX_TOKENS = 1 << 20, // entries of a vocabulary
  TOKENIZER_MAX_FILE = 256 << 20, // bytes of a tokenizer's file (weights beside it in a GGUF do not count)
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

// Training byte-level BPE with GPT-2's splitting: add texts, then finish with a size. The same texts give the
// same tokenizer, in any order, and the file that Hugging Face's library writes, byte for byte, for
//
//   Tokenizer(BPE()), pre_tokenizer = ByteLevel(add_prefix_space=False), decoder = ByteLevel()
//   BpeTrainer(vocab_size=vocabulary, min_frequency=2, special_tokens=specials,
//              initial_alphabet=ByteLevel.alphabet()).train_from_iterator(texts)
//
// Ids: special tokens, the 256 bytes in the order of their spellings, then merges as they are learned. The
// most frequent pair is next; among equals that with the lower left id, then the lower right id. Fewer than
// `vocabulary` tokens come out when no pair is left that occurs twice. One difference: a pair that would be
// spelled as a special token is, is never merged. Fails when `vocabulary` is less than special_count + 256,
// or a special token is empty, named twice or a single byte.
typedef struct TokenizerTrainer TokenizerTrainer;
TokenizerTrainer *tokenizer_trainer_new(void);
void tokenizer_trainer_add(TokenizerTrainer *trainer, const char *text, size_t length);
bool tokenizer_trainer_finish(TokenizerTrainer *trainer, size_t vocabulary, const char *const *specials,
                              size_t special_count, Tokenizer **out, Failure *failure);
void tokenizer_trainer_free(TokenizerTrainer *trainer); // accepts NULL

// Reads a tokenizer, of whichever kind the content says:
//
//   tokenizer.json    Hugging Face's: model BPE; what else it has that would change ids is either followed
//                     or refused by name
//   vocab.json        GPT-2's, with the merges.txt beside it (in gpt2_vocab.json's case gpt2_merges.txt)
//   bpe_*.txt[.gz]    CLIP's list of merges
//   tokenizer.model   SentencePiece's, of the kind BPE
//   *.bin             llama2.c's
//   *.gguf            the vocabulary inside (models `gpt2` and `llama`)
bool tokenizer_open(const char *path, Tokenizer **out, Failure *failure);
bool tokenizer_parse(const void *bytes, size_t size, const char *name, Tokenizer **out, Failure *failure);
bool tokenizer_read_gpt2(const char *vocabulary_path, const char *merges_path, Tokenizer **out,
                         Failure *failure);
// Any of them as tokenizer.json.
bool tokenizer_save(const Tokenizer *tokenizer, const char *path, Failure *failure); // atomically
void tokenizer_print(const Tokenizer *tokenizer, Text *json);                        // what it writes
// The keys tokenizer.ggml.* of a GGUF file. Fails where the format has no form for it: it knows byte-level
// vocabularies, split in one of the ways that read_gguf.c lists, and SentencePiece's whose merges follow from
// scores of tokens. The model has `vocabulary` tokens, of which those that the tokenizer lacks are never
// used. `begin` and `end` (-1: what the tokenizer's own file named) are what programs that add a first token
// would add and what generation stops at, where the tokenizer itself adds none before or after every text.
struct GgufMetadata;
bool tokenizer_note_gguf(const Tokenizer *tokenizer, int64_t vocabulary, int32_t begin, int32_t end,
                         struct GgufMetadata *metadata, Failure *failure);
void tokenizer_free(Tokenizer *tokenizer); // accepts NULL

int32_t tokenizer_count(const Tokenizer *tokenizer);                     // ids are 0 ... count-1
int32_t tokenizer_find(const Tokenizer *tokenizer, const char *special); // an added token's id, or -1
bool tokenizer_is_special(const Tokenizer *tokenizer, int32_t id);
// The bytes an id stands for (a special token's spelling); not NUL-terminated. Dies on an id out of range.
const char *tokenizer_bytes(const Tokenizer *tokenizer, int32_t id, size_t *length);
// The ids that models trained with this tokenizer saw before and after every text (<s>; CLIP's start and
// end). tokenizer_encode does not add them: the caller knows where its text begins and ends.
size_t tokenizer_before(const Tokenizer *tokenizer, const int32_t **ids);
size_t tokenizer_after(const Tokenizer *tokenizer, const int32_t **ids);
// The token that the tokenizer's file names as the end of a text (GGUF, SentencePiece, llama2.c); -1: it names none.
int32_t tokenizer_end(const Tokenizer *tokenizer);

// Appends the ids of a text. With `specials`, spellings of special tokens in it become those tokens; without,
// they are ordinary text: that is how anything a user wrote has to be encoded. Added tokens that are not
// special are found in either case.
void tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t length, bool specials, Ids *ids);

// Decoding as tokens come, into valid UTF-8 only: bytes of an unfinished character are held back until the
// next token; bytes that cannot be UTF-8 become U+FFFD. The space that SentencePiece puts before a text is
// dropped. Start with a zeroed Decoder.
typedef struct Decoder {
  unsigned char held[4];
  int held_count;
  bool begun; // something was written or held
} Decoder;
// Special tokens append their spelling when `specials`, nothing otherwise.
void tokenizer_decode(const Tokenizer *tokenizer, Decoder *decoder, int32_t id, bool specials, Text *out);
void tokenizer_decode_end(Decoder *decoder, Text *out); // what is still held becomes one U+FFFD

#endif
