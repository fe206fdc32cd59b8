// Training one stage: batches through a compiled step, rate by schedule, a log, checkpoints, and an end that
// loses nothing.
#ifndef VLMC_RUNTIME_TRAINER_H
#define VLMC_RUNTIME_TRAINER_H

#include "runtime/checkpoint.h"
#include "runtime/features.h"
#include "runtime/feed.h"
#include "runtime/recipe.h"

#include <signal.h>
#include <stdio.h>

typedef struct TrainerOptions {
  const Program *program;         // a training step: results "loss", "gradient norm"
  const Program *apply;           // stages that accumulate: the second part of a step; else NULL
  const FeatureOptions *features; // the part that was hoisted out of `program`; NULL: none
  TensorStore *store;             // parameters already as the run starts from
  const Stage *stage;
  const Preprocess *preprocess; // NULL: no pictures
  const Template *form;         // NULL: no text
  const Tokenizer *tokenizer;   // NULL: no text
  const char *data, *out;       // folders
  int64_t length;               // longest sample in ids, pictures included
  double epochs;
  int64_t steps; // end after so many; 0: by epochs. The schedule is always that of all epochs (or of `steps`)
  uint64_t seed;
  bool resume;
  double save_every;                 // seconds between checkpoints
  FILE *progress;                    // a line that is written anew each second; NULL: quiet
  const volatile sig_atomic_t *stop; // set by a signal: save and end
  bool profile;
} TrainerOptions;

typedef struct TrainerResult {
  Progress progress;
  bool stopped; // by the signal
  size_t bad_pictures;
  Session *session, *apply; // still open, for their profiles; the caller closes them
  Features *features;       // likewise, with features_session's; NULL: none
} TrainerResult;

bool trainer_run(const TrainerOptions *options, TrainerResult *result, Failure *failure);

// Learning rate at optimizer step `step` (from 0) of `total`: linear warm-up, then the stage's schedule
// (cosine: Loshchilov and Hutter, SGDR, 2017).
double schedule_rate(const Stage *stage, int64_t step, int64_t total);

#endif
