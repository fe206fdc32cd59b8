// Scoring: every question of a data set answered freely (greedy), compared with its answer by exact match.
#ifndef VLMC_RUNTIME_EVALUATE_H
#define VLMC_RUNTIME_EVALUATE_H

#include "runtime/generator.h"
#include "runtime/recipe.h"

#include <signal.h>
#include <stdio.h>

typedef struct EvaluateOptions {
  Generator *generator;
  const Tokenizer *tokenizer;
  const Template *form;
  const Preprocess *preprocess; // NULL: a text model
  const char *data, *split;     // DIR/SPLIT.jsonl, rows with prompt and answer (the last turn is asked)
  const char *training;      // the name of training rows to guess from without looking; NULL: no such column
  int64_t max_tokens, limit; // limit: first rows only; 0: all
  const char *sheet, *log;   // a PNG of pictures with answers, answers as JSON lines; NULL: none
  FILE *progress;            // NULL: quiet
  const volatile sig_atomic_t *stop;
} EvaluateOptions;

typedef struct EvaluateResult {
  int64_t right, rows, skipped; // skipped: their picture can not be read
  double seconds;
} EvaluateResult;

// Prints a line per kind of question into `report`: kind, share right, and what a guesser gets that knows the
// commonest training answer to each question's text but sees no picture.
bool evaluate_run(const EvaluateOptions *options, EvaluateResult *result, Text *report, Failure *failure);

#endif
