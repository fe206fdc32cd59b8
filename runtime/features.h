// Features: what the frozen part of a training step makes of pictures, computed once and kept over epochs, stages and
// runs. The compiler parts the step in two programs (graph/passes/hoist.c); this joins them again.
//
//   before the first step   features_fill: of the scenes (loader.h) that the run will show more than once, those that
//                           are not kept yet go through the frozen program in batches, and into the store
//   in every step           features_set: rows that are kept are read from the store's mapping; the others, together,
//                           go through the frozen program
//
// A kept scene's key: the bytes of its pictures. A store's key: the frozen program, its target, the preprocessing, the
// bytes of all its parameters, and how features are kept. So nothing has to be thrown away when a model changes, and
// another stage with the same frozen part finds what is there. What a step sees does not depend on what is kept: rows
// that are computed in the step lose the same bits as those that were kept narrow.
//
// Where the store can not be used, or is full, all goes on, slower, and is said once.
#ifndef VLMC_RUNTIME_FEATURES_H
#define VLMC_RUNTIME_FEATURES_H

#include "runtime/feature_code.h"
#include "runtime/feed.h"
#include "runtime/loader.h"
#include "runtime/store.h"

#include <signal.h>
#include <stdio.h>

typedef struct FeatureOptions {
  const Program *program; // pictures -> results "feature:<n>", by which the step's inputs are called
  const char *meaning;    // what the program computes, as text
  const char *folder;     // of the stores
  uint64_t limit;         // bytes of all stores together
  FeatureCode code;
} FeatureOptions;

typedef struct FeatureFilling {
  Loader *loader;
  const Preprocess *preprocess;
  int at_once;            // rows of a batch
  uint64_t first, last;   // steps of the loader that the run will take: first ... last - 1
  bool pictures_unneeded; // by anyone else: the loader need not read pictures whose features are kept
  FILE *progress;         // NULL: quiet
  const volatile sig_atomic_t *stop;
} FeatureFilling;

typedef struct Features Features;

// Binds the program's parameters; they need not have their values yet. What the options point to has to outlive it.
bool features_open(const FeatureOptions *options, TensorStore *store, Features **out, Failure *failure);
void features_close(Features *features);             // accepts NULL; after the loader that it was filled from
const Feed *features_feed(const Features *features); // what the frozen program takes of a batch
Session *features_session(Features *features);       // of the frozen program
// Once all parameters have their values. Ends early, with what is done, where `stop` is set.
bool features_fill(Features *features, const FeatureFilling *filling, Failure *failure);
// The step's inputs of features for a batch that `feed_batch` has just handed over.
bool features_set(Features *features, Session *step, const Batch *batch, Failure *failure);

#endif
