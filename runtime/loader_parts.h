// Shared by the loader's own files only: its samples, its pictures, and the order of samples.
#ifndef VLMC_RUNTIME_LOADER_PARTS_H
#define VLMC_RUNTIME_LOADER_PARTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/arena.h"
#include "runtime/loader.h"
#include "runtime/picture.h"

// loader_samples.c: every row as the ids it gives, kept for all epochs. The picture's run of image tokens is
// kept as one; `picture_length` says how many they are.
typedef struct StoredSample {
  const int32_t *ids; // [stored]
  const uint8_t *supervised;
  uint32_t stored;
  uint32_t length;                     // in ids, the run in full
  uint32_t picture_at, picture_length; // the run; length 0: none
  uint32_t row;                        // of the data set
  const int32_t *images;               // among its pictures
  uint32_t image_count;
  uint32_t scene;
} StoredSample;

typedef struct Samples {
  StoredSample *list;
  size_t count, capacity;
  const char **images; // different pictures by number
  size_t image_count, image_capacity;
  size_t *scenes; // a sample of each, by number
  size_t scene_count, scene_capacity;
  LoaderSummary summary;
} Samples;

bool samples_read(const LoaderOptions *options, Arena *arena, Samples *samples, Failure *failure);
void sample_write(const StoredSample *sample, size_t length, int32_t padding, int32_t *ids, float *weight);

// loader_scenes.c: gives every sample the number of its scene.
void samples_number_scenes(Arena *arena, Samples *samples);

// loader_order.c: which samples make up a step. Returns how many; chosen and positions have room for a batch.
size_t order_step(const LoaderOptions *options, const Samples *samples, uint64_t step, size_t *chosen,
                  uint64_t *positions);
// The sample at place `index` of the epoch's order: a permutation of 0 ... count-1 for each (seed, epoch).
uint64_t order_permute(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t count);
// For training: what takes the place of a sample whose picture is bad, at the `attempt`th try.
size_t order_replacement(uint64_t seed, uint64_t position, uint64_t attempt, size_t count);

// loader_pictures.c: prepared pictures, cached when all fit.
typedef struct PictureCache PictureCache;
PictureCache *picture_cache_new(const LoaderOptions *options, const Samples *samples);
void picture_cache_free(PictureCache *cache); // accepts NULL
// The bytes of a picture, prepared: in the cache, or in `scratch` (large enough for one). NULL: it is bad.
// Fails when too many are.
bool picture_cache_get(PictureCache *cache, int32_t image, uint8_t *scratch, const uint8_t **bytes,
                       Failure *failure);
bool picture_cache_hash(PictureCache *cache, int32_t image, Hash *hash); // false: can not be read
size_t picture_cache_report(PictureCache *cache, LoaderBadPicture *report, void *context);

// ---- the loader itself, for loader.c and loader_scenes.c

typedef enum SlotState { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_HELD } SlotState;

typedef struct Slot {
  Batch batch; // first, so that a Batch's address is its slot's
  SlotState state;
} Slot;

struct Loader {
  LoaderOptions options;
  Arena *arena;
  Samples samples;
  PictureCache *pictures;       // NULL without a preprocess
  size_t picture_elements;      // of one picture
  const uint8_t *_Atomic known; // per scene; NULL: none is
  Slot *slots;
  int slot_count;
  pthread_t *threads;
  int thread_count;     // started
  pthread_mutex_t lock; // over slots' states and all that follows
  pthread_cond_t changed;
  uint64_t next_filled, next_taken, end; // steps
  bool stopping, failed;
  Failure failure;
};

#endif
