// Conversations and rows of a data set -> ids and which of them are supervised, by the model file's template.
//
// Special tokens are only those that the template names; in what a row or a user brings (prompts, answers,
// captions, texts, the system's text) their spellings are ordinary text. What stands between two special
// tokens is encoded as one text, so that the ids are those of the whole text.
//
// The place of pictures is repeated for each picture of a turn, with the line break or blank straight after
// it, and left out with it in turns without. With image_tokens = 0 (a text model) it never stands.
#ifndef VLMC_RUNTIME_CONVERSATION_H
#define VLMC_RUNTIME_CONVERSATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"
#include "runtime/dataset.h"
#include "runtime/recipe.h"
#include "runtime/tokenizer/tokenizer.h"

typedef struct Conversation Conversation; // a template, parsed and encoded once; lives in an arena

// Fails when a form lacks {answer} or {system}, has a part twice or where it does not belong, or names a
// special token that the tokenizer lacks. `tokenizer` and `form` must outlive it. Safe from several threads
// afterwards.
bool conversation_new(Arena *arena, const Tokenizer *tokenizer, const Template *form, Conversation **out,
                      Failure *failure);

// The id of a special token, or of a text that is one token ("@" of minimind-v's first generation); else -1.
int32_t conversation_token(const Tokenizer *tokenizer, const char *text);

typedef struct Sample {
  int32_t *ids;        // [count]
  uint8_t *supervised; // [count]: 1 at t where the target ids[t+1] is supervised; 0 at the last
  size_t count;
  bool cut; // more text was there than fits
} Sample;

// One row as one sample of at most `length` ids. A caption row reads by Template.caption, a text row is
// wholly supervised and ends with the first end token where there is one. Fails (place first) when the
// template has no form for the row, or when `length` ends before the last picture does.
bool conversation_encode(const Conversation *conversation, const Row *row, const char *place, size_t length,
                         Arena *arena, Sample *sample, Failure *failure);

// What to generate from: all turns whole but the last, which stops where its answer would begin (its `answer`
// is not read). `system` NULL: the template's own. Nothing is cut.
void conversation_prompt(const Conversation *conversation, const char *system, const Turn *turns,
                         int turn_count, Ids *ids);
void conversation_caption_prompt(const Conversation *conversation,
                                 Ids *ids); // Template.caption up to {answer}, with one picture
// How many blanks a generated answer begins with that are the template's, not the answer's.
size_t conversation_blanks(const Conversation *conversation, const char *generated);
// An answer as generated, without these blanks and without what the template has between an answer and its
// end token (Llama-2: "{answer} </s>"), where it was generated. A copy.
const char *conversation_answer(const Conversation *conversation, const char *generated, Arena *arena);
bool conversation_takes_system(const Conversation *conversation); // the template has a place for it
bool conversation_has_turns(const Conversation *conversation);    // else it has captions alone

// Adds to a tokenizer's training what a row will be encoded as: its own texts and the template's, without
// special tokens, so that "assistant\n" before every answer becomes one token rather than ten.
void conversation_add_texts(const Template *form, const Row *row, TokenizerTrainer *trainer);

bool conversation_ends(const Conversation *conversation, int32_t id); // one of the end tokens
int32_t conversation_image(const Conversation *conversation);         // the image token's id, or -1
int32_t
conversation_padding(const Conversation *conversation); // what fills short rows: the first end token, or 0

#endif
