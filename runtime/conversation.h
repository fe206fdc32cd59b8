// Rows of a data set -> ids and which of them are supervised, by the model file's template.
//
// The template's own text is encoded with special tokens, what a row brings (prompts, answers, captions,
// texts) without. `<image>` stands in the first turn only, and only in rows with a picture; where it does not
// stand, one line break straight after it goes with it. With image_tokens = 0 (a text model) it never stands.
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

// Fails when the template lacks {answer}, has a part twice, or names a special token that the tokenizer
// lacks. `tokenizer` must outlive it. Safe from several threads afterwards.
bool conversation_new(Arena *arena, const Tokenizer *tokenizer, const Template *form, Conversation **out,
                      Failure *failure);

typedef struct Sample {
  int32_t *ids;        // [count]
  uint8_t *supervised; // [count]: 1 at t where the target ids[t+1] is supervised; 0 at the last
  size_t count;
  bool cut; // more text was there than fits
} Sample;

// One row as one sample of at most `length` ids. A caption row reads by Template.caption, a text row is
// wholly supervised and ends with the end token where there is one. Fails (place first) when the template has
// no caption form for a caption row, or when `length` ends before the picture does.
bool conversation_encode(const Conversation *conversation, const Row *row, const char *place, size_t length,
                         Arena *arena, Sample *sample, Failure *failure);

// What to generate from: all turns whole but the last, which stops where its answer would begin (its `answer`
// is not read). Nothing is cut.
void conversation_prompt(const Conversation *conversation, const Turn *turns, int turn_count, bool picture,
                         Ids *ids);
void conversation_caption_prompt(const Conversation *conversation,
                                 Ids *ids); // Template.caption up to {answer}

// Adds to a tokenizer's training what a row will be encoded as: its own texts and the template's, without
// special tokens, so that "assistant\n" before every answer becomes one token rather than ten.
void conversation_add_texts(const Template *form, const Row *row, TokenizerTrainer *trainer);

int32_t conversation_end(const Conversation *conversation);     // the end token's id, or -1
int32_t conversation_image(const Conversation *conversation);   // the image token's id, or -1
int32_t conversation_padding(const Conversation *conversation); // what fills short rows: the end token, or 0

#endif
