// Feeding a program: which of its data inputs is what, and a batch into them. Inputs are known by their type,
// whatever their names: i32[B, T] are token ids; f32[B, T] is the weight of each position's target in the
// loss; f32[B, C, H, W] is a picture, f32[B, N, C, H, W] up to N of them.
#ifndef VLMC_RUNTIME_FEED_H
#define VLMC_RUNTIME_FEED_H

#include "runtime/loader.h"
#include "runtime/store.h"
#include "runtime/tokenizer/tokenizer.h"

typedef struct Feed {
  const char *ids, *weight, *picture; // the inputs' names; NULL: the program has none
  int64_t picture_elements;           // all of a sample: N * C * H * W
  int picture_count;                  // N; 1 where the input has no such axis; 0: no pictures
} Feed;

// Inputs "feature:<n>" are left to features.h. Fails on two inputs of one kind and on an input that is none of them.
bool feed_find(const Program *program, Feed *feed, Failure *failure);
// Sets the scalars "token:<special>" that the program asks for; fails where the tokenizer has no such token.
bool feed_tokens(Session *session, const Tokenizer *tokenizer, Failure *failure);
// Resizes the session for the batch and hands everything over.
bool feed_batch(Session *session, const Feed *feed, const Batch *batch, Failure *failure);

#endif
