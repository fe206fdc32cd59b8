// Talking with a model: one answer, a conversation with commands, or the continuation of a text.
#ifndef VLMC_RUNTIME_CHAT_H
#define VLMC_RUNTIME_CHAT_H

#include "runtime/generator.h"
#include "runtime/recipe.h"

#include <signal.h>
#include <stdio.h>

enum { CHAT_ANSWERING = -1 };

typedef struct ChatOptions {
  Generator *generator;
  const Tokenizer *tokenizer;
  const Template *form; // NULL: no conversation; `prompt`, or each line of `in`, is a text to go on with
  const Preprocess *preprocess; // NULL: a text model
  Sampler sampler;
  int64_t max_tokens;
  const char *const *images; // looked at from the start
  int image_count;
  const char *system;          // what the model is told before all else; NULL: what the template says
  const char *prompt;          // NULL: a conversation with whoever writes to `in`
  FILE *in, *out, *messages;   // answers go to `out`, all else to `messages`
  volatile sig_atomic_t *stop; // CHAT_ANSWERING while an answer is made; any other value ends it
} ChatOptions;

bool chat_run(const ChatOptions *options, Failure *failure);

#endif
