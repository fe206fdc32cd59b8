// The loader: rows of a data set -> batches ready for the device, made ahead by background threads.
//
// Which samples make up step N depends on (data, options, N) alone: the order is a counter-based permutation
// of (seed, epoch), so that a run resumed at step N sees what the unbroken run would have seen. In training
// samples run on over the end of an epoch, so that every batch is full.
#ifndef VLMC_RUNTIME_LOADER_H
#define VLMC_RUNTIME_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/failure.h"
#include "runtime/base/hash.h"
#include "runtime/conversation.h"
#include "runtime/dataset.h"
#include "runtime/recipe.h"

typedef struct LoaderOptions {
  const Dataset *dataset;
  const Conversation *conversation; // NULL: no ids (a model of pictures alone)
  const Preprocess *preprocess;     // NULL: a text model; pictures of the rows are left unread
  int pictures;                     // N: most pictures of a sample that the model looks at; 0: 1
  int batch;                        // samples in a batch
  int length;                       // longest sample in ids
  int multiple;                     // batches' T is a multiple of this (but not over `length`); 0: 8
  bool training; // shuffled, augmented, without end; else every row once in order, plain, last batch smaller
  uint64_t seed;
  // Samples of like length share batches, which saves padding where lengths differ much. It also makes the
  // samples of a batch alike in other ways: not for contrastive losses, nor for a few short answers.
  bool bucket;
  int threads;        // background threads; 0: 1
  int ahead;          // batches kept ready; 0: 4
  size_t cache_bytes; // prepared pictures are kept in memory when all fit; 0: 512 MiB
} LoaderOptions;

typedef struct Batch {
  int rows;           // B
  int length;         // T; 0 without a conversation
  int32_t *ids;       // [B, T]; short samples are filled up with conversation_padding
  float *weight;      // [B, T]: 1 at t where the target ids[t+1] is supervised, else 0
  float *picture;     // [B, N, C, H, W]; zeros where a row has no (more) picture; NULL without a preprocess
  size_t *row;        // [B]: index of each row in the data set
  int32_t *scene;     // [B]: what each row shows; NULL without a preprocess
  int32_t *image;     // [B, N]: numbers of its pictures among the data set's different ones; -1: none
  int pictures;       // N
  int64_t supervised; // sum of weight
  uint64_t step;
} Batch;

typedef struct Loader Loader;

// Parses and encodes every row once (rows whose line is wrong, or that show more pictures than the model
// looks at, fail here, with their line). A text row longer
// than `length` becomes several samples. Batches start at `first_step`.
// What the options point to has to outlive the loader.
bool loader_open(const LoaderOptions *options, uint64_t first_step, Loader **out, Failure *failure);
void loader_close(Loader *loader); // accepts NULL; outstanding batches end with it

size_t loader_samples(const Loader *loader);                // in one epoch
uint64_t loader_steps(const Loader *loader, double epochs); // batches that show epochs * samples, rounded up
size_t loader_pictures(const Loader *loader);               // different pictures

// What the samples of one epoch are like.
typedef struct LoaderSummary {
  size_t samples, cut, longest; // cut: those of which `length` ended a part; longest: in ids
  size_t silent;                // without any supervised target
  uint64_t ids, supervised;     // all together; supervised targets
} LoaderSummary;
LoaderSummary loader_summary(const Loader *loader);

// ---- scenes: what samples show, their pictures in order. Samples that show the same share one; there is none
// without a preprocess. For features that are kept (features.h).
size_t loader_scenes(const Loader *loader);
// How often each is shown in steps first ... last - 1, counted up to 2 epochs.
void loader_count_scenes(const Loader *loader, uint64_t first, uint64_t last, uint32_t *counts);
// The hash of the bytes of a scene's pictures as they lie in their files. False: one can not be read.
bool loader_scene_hash(Loader *loader, size_t scene, Hash *hash);
// A scene as batches have it, [N, C, H, W], without augmentation; *good: none of its pictures is bad.
bool loader_scene(Loader *loader, size_t scene, float *picture, bool *good, Failure *failure);
// Whoever takes batches knows these scenes (known[scene] is not 0): what stands in `picture` for their rows does not
// matter. Batches that are ready already have their pictures. `known` has to outlive the loader.
void loader_know_scenes(Loader *loader, const uint8_t *known);

// The next batch, waiting for it if need be; *batch is NULL after the last (never in training). It stays
// valid until given back; at most `ahead` may be held at a time.
bool loader_next(Loader *loader, Batch **batch, Failure *failure);
void loader_give_back(Loader *loader, Batch *batch);

// Pictures that could not be read so far. In training another row takes the place of theirs (drawn by
// counter); else the row is left out. More than half of those tried (of at least 100, or all) is a failure of
// loader_next.
typedef void LoaderBadPicture(void *context, const char *message);
size_t loader_bad_pictures(Loader *loader, LoaderBadPicture *report,
                           void *context); // each message is reported once

#endif
