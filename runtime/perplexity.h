// Scoring a text: how surprised a model is by each next token of it, exp of the mean of -ln p, by the model's own
// loss. A text is read in windows, each with what stands before every text (the tokenizer's first tokens, <s>), or
// where there is nothing of the kind with the token before it, so that each token is predicted once.
#ifndef VLMC_RUNTIME_PERPLEXITY_H
#define VLMC_RUNTIME_PERPLEXITY_H

#include "runtime/feed.h"

#include <signal.h>
#include <stdio.h>

typedef struct PerplexityOptions {
  Session *session; // of the program `loss`, its weights loaded
  const Tokenizer *tokenizer;
  int64_t window; // positions; at least 2
  int64_t limit;  // windows of each text; 0: all
  FILE *progress; // NULL: quiet
  const volatile sig_atomic_t *stop;
} PerplexityOptions;

typedef struct Perplexity {
  double nats; // sum of -ln p
  int64_t tokens;
} Perplexity;

// Adds a text. Fails where the model's loss is not one of tokens.
bool perplexity_add(const PerplexityOptions *options, const char *text, size_t length, Perplexity *sum,
                    Failure *failure);

#endif
