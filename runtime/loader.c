// The loader: background threads fill batches from a pool; the consumer takes them in order of their steps.
#include "runtime/loader.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/loader_parts.h"

size_t loader_samples(const Loader *loader) { return loader->samples.count; }
size_t loader_pictures(const Loader *loader) { return loader->samples.image_count; }
LoaderSummary loader_summary(const Loader *loader) { return loader->samples.summary; }

uint64_t loader_steps(const Loader *loader, double epochs) {
  double steps = epochs * (double)loader->samples.count / loader->options.batch;
  return (uint64_t)ceil(steps - 1e-9); // 3 * (1/3) is one
}

// Filling a batch.

typedef struct Filling {
  Loader *loader;
  size_t *chosen;        // [batch] samples
  uint64_t *positions;   // [batch] their places in the endless order
  uint8_t *scratch;      // [pictures] prepared ones
  const uint8_t **bytes; // [pictures] of one sample
  bool shown;            // they are in `bytes`: the scene was not known
} Filling;

// All pictures of a sample; false in *good: one is bad.
static bool get_pictures(Filling *filling, const StoredSample *sample, bool *good, Failure *failure) {
  Loader *loader = filling->loader;
  size_t size = loader->picture_elements;
  *good = true;
  for (uint32_t i = 0; i < sample->image_count && *good; i++) {
    if (!picture_cache_get(loader->pictures, sample->images[i], filling->scratch + i * size,
                           &filling->bytes[i], failure))
      return false;
    *good = filling->bytes[i] != NULL;
  }
  return true;
}

static bool is_known(const Loader *loader, const StoredSample *sample) {
  const uint8_t *known = atomic_load_explicit(&loader->known, memory_order_acquire);
  return known && known[sample->scene];
}

// The pictures of the sample for place `i`. In training a sample with a bad one is replaced by another;
// otherwise *skip says that it is left out.
static bool choose_pictures(Filling *filling, size_t i, bool *skip, Failure *failure) {
  Loader *loader = filling->loader;
  const uint64_t most_attempts = 1000;
  *skip = false;
  for (uint64_t attempt = 0; attempt < most_attempts; attempt++) {
    const StoredSample *sample = &loader->samples.list[filling->chosen[i]];
    bool good = is_known(loader, sample);
    filling->shown = !good;
    if (!good && !get_pictures(filling, sample, &good, failure)) return false;
    if (good) return true;
    if (!loader->options.training) return *skip = true;
    filling->chosen[i] =
        order_replacement(loader->options.seed, filling->positions[i], attempt, loader->samples.count);
  }
  return fail(failure, "%s: finds no picture that can be read", dataset_path(loader->options.dataset));
}

static void write_pictures(Filling *filling, size_t i, float *out) {
  Loader *loader = filling->loader;
  const LoaderOptions *options = &loader->options;
  size_t size = loader->picture_elements, count = loader->samples.list[filling->chosen[i]].image_count;
  Augmentation drawn = {0};
  if (options->training && count)
    drawn = picture_augmentation(options->preprocess, options->seed,
                                 filling->positions[i] / loader->samples.count, filling->chosen[i]);
  for (size_t p = 0; p < count; p++)
    picture_normalise(options->preprocess, filling->bytes[p], options->training ? &drawn : NULL,
                      out + p * size);
  for (size_t e = count * size; e < (size_t)options->pictures * size; e++) out[e] = 0;
}

static void write_numbers(const StoredSample *sample, int pictures, int32_t *image) {
  for (int i = 0; i < pictures; i++) image[i] = i < (int)sample->image_count ? sample->images[i] : -1;
}

// Rows and pictures; fewer rows than chosen where bad pictures are left out.
static bool fill_pictures(Filling *filling, size_t count, Batch *batch, Failure *failure) {
  Loader *loader = filling->loader;
  size_t pictures = (size_t)loader->options.pictures;
  batch->rows = 0;
  for (size_t i = 0; i < count; i++) {
    bool skip = false;
    if (loader->pictures && !choose_pictures(filling, i, &skip, failure)) return false;
    if (skip) continue;
    size_t row = (size_t)batch->rows++;
    if (loader->pictures && filling->shown)
      write_pictures(filling, i, batch->picture + row * pictures * loader->picture_elements);
    const StoredSample *sample = &loader->samples.list[filling->chosen[i]];
    batch->row[row] = sample->row;
    if (batch->scene) batch->scene[row] = (int32_t)sample->scene;
    write_numbers(sample, (int)pictures, batch->image + row * pictures);
    filling->chosen[row] = filling->chosen[i];
  }
  return true;
}

static void fill_ids(const Filling *filling, Batch *batch) {
  const LoaderOptions *options = &filling->loader->options;
  const StoredSample *samples = filling->loader->samples.list;
  int multiple = options->multiple ? options->multiple : 8, longest = 1;
  for (int i = 0; i < batch->rows; i++)
    if ((int)samples[filling->chosen[i]].length > longest) longest = (int)samples[filling->chosen[i]].length;
  longest = (longest + multiple - 1) / multiple * multiple;
  batch->length = longest < options->length ? longest : options->length;
  int32_t padding = conversation_padding(options->conversation);
  batch->supervised = 0;
  for (int i = 0; i < batch->rows; i++) {
    size_t at = (size_t)i * (size_t)batch->length;
    sample_write(&samples[filling->chosen[i]], (size_t)batch->length, padding, batch->ids + at,
                 batch->weight + at);
    for (int t = 0; t < batch->length; t++) batch->supervised += batch->weight[at + (size_t)t] != 0;
  }
}

static bool fill(Filling *filling, uint64_t step, Batch *batch, Failure *failure) {
  const Loader *loader = filling->loader;
  size_t count = order_step(&loader->options, &loader->samples, step, filling->chosen, filling->positions);
  batch->step = step;
  if (!fill_pictures(filling, count, batch, failure)) return false;
  if (loader->options.conversation) fill_ids(filling, batch);
  return true;
}

// Threads.

static Slot *find_slot(const Loader *loader, SlotState state, const uint64_t *step) {
  for (int i = 0; i < loader->slot_count; i++)
    if (loader->slots[i].state == state && (!step || loader->slots[i].batch.step == *step))
      return &loader->slots[i];
  return NULL;
}

// Waits for a step that may be filled and a slot for it; NULL: the thread is to end. The lock is held.
static Slot *claim(Loader *loader, uint64_t *step) {
  while (!loader->stopping && !loader->failed) {
    bool wanted = loader->next_filled < loader->end &&
                  loader->next_filled < loader->next_taken + (uint64_t)loader->options.ahead;
    Slot *slot = wanted ? find_slot(loader, SLOT_FREE, NULL) : NULL;
    if (slot) {
      slot->state = SLOT_FILLING;
      slot->batch.step = *step = loader->next_filled++;
      return slot;
    }
    pthread_cond_wait(&loader->changed, &loader->lock);
  }
  return NULL;
}

static void *work(void *argument) {
  Loader *loader = argument;
  size_t batch = (size_t)loader->options.batch, pictures = (size_t)loader->options.pictures;
  Arena *arena = arena_new();
  Filling filling = {loader,
                     ARENA_ARRAY(arena, size_t, batch),
                     ARENA_ARRAY(arena, uint64_t, batch),
                     ARENA_ARRAY(arena, uint8_t, loader->picture_elements * pictures),
                     ARENA_ARRAY(arena, const uint8_t *, pictures),
                     false};
  uint64_t step;
  pthread_mutex_lock(&loader->lock);
  for (Slot *slot; (slot = claim(loader, &step));) {
    Failure failure;
    pthread_mutex_unlock(&loader->lock);
    bool good = fill(&filling, step, &slot->batch, &failure);
    pthread_mutex_lock(&loader->lock);
    slot->state = good ? SLOT_READY : SLOT_FREE;
    if (!good && !loader->failed) {
      loader->failed = true;
      loader->failure = failure;
    }
    pthread_cond_broadcast(&loader->changed);
  }
  pthread_mutex_unlock(&loader->lock);
  arena_free(arena);
  return NULL;
}

// Opening and closing.

static bool check_options(const LoaderOptions *options, Failure *failure) {
  if (options->batch < 1 || options->batch > 1 << 20)
    return fail(failure, "a batch of %d samples: expected 1 to %d", options->batch, 1 << 20);
  if (options->conversation && (options->length < 2 || options->length > 1 << 24))
    return fail(
        failure,
        "samples of at most %d tokens: expected 2 to %d; --length, or `length` in the stage, says how many",
        options->length, 1 << 24);
  if (options->pictures < 0 || options->pictures > 1 << 16)
    return fail(failure, "%d pictures of a sample: expected up to %d", options->pictures, 1 << 16);
  const Preprocess *preprocess = options->preprocess;
  if (!preprocess) return true;
  if ((preprocess->channels != 1 && preprocess->channels != 3) || preprocess->height < 1 ||
      preprocess->width < 1 || (int64_t)preprocess->height * preprocess->width > PICTURE_MAX_PIXELS)
    return fail(failure,
                "pictures of %d channels, %d x %d pixels: expected 1 or 3 channels and 1 to %d pixels",
                preprocess->channels, preprocess->width, preprocess->height, PICTURE_MAX_PIXELS);
  return true;
}

static void *checked_calloc(size_t count, size_t size) {
  size_t bytes;
  void *memory = __builtin_mul_overflow(count, size, &bytes) ? NULL : calloc(count + 1, size);
  if (!memory) die("out of memory (%zu times %zu bytes)", count, size);
  return memory;
}

static void make_slots(Loader *loader) {
  const LoaderOptions *options = &loader->options;
  size_t batch = (size_t)options->batch, pictures = (size_t)options->pictures,
         positions = batch * (options->conversation ? (size_t)options->length : 0);
  loader->slot_count = 2 * options->ahead; // as many ready or being filled as held
  loader->slots = checked_calloc((size_t)loader->slot_count, sizeof *loader->slots);
  for (int i = 0; i < loader->slot_count; i++) {
    Slot *slot = &loader->slots[i];
    if (options->conversation) {
      slot->batch.ids = checked_calloc(positions, sizeof *slot->batch.ids);
      slot->batch.weight = checked_calloc(positions, sizeof *slot->batch.weight);
    }
    if (options->preprocess) {
      slot->batch.picture =
          checked_calloc(batch * pictures * loader->picture_elements, sizeof *slot->batch.picture);
      slot->batch.scene = checked_calloc(batch, sizeof *slot->batch.scene);
    }
    slot->batch.row = checked_calloc(batch, sizeof *slot->batch.row);
    slot->batch.image = checked_calloc(batch * pictures, sizeof *slot->batch.image);
    slot->batch.pictures = options->pictures;
  }
}

static void start_threads(Loader *loader) {
  loader->threads = checked_calloc((size_t)loader->options.threads, sizeof *loader->threads);
  for (int i = 0; i < loader->options.threads; i++)
    if (pthread_create(&loader->threads[loader->thread_count], NULL, work, loader) == 0)
      loader->thread_count++;
  if (!loader->thread_count) die("no thread can be started");
}

bool loader_open(const LoaderOptions *options, uint64_t first_step, Loader **out, Failure *failure) {
  *out = NULL;
  if (!check_options(options, failure)) return false;
  Loader *loader = checked_calloc(1, sizeof *loader);
  loader->options = *options;
  if (loader->options.threads < 1) loader->options.threads = 1;
  if (loader->options.ahead < 1) loader->options.ahead = 4;
  if (loader->options.pictures < 1) loader->options.pictures = 1;
  loader->arena = arena_new();
  pthread_mutex_init(&loader->lock, NULL);
  pthread_cond_init(&loader->changed, NULL);
  if (!samples_read(&loader->options, loader->arena, &loader->samples, failure)) {
    loader_close(loader);
    return false;
  }
  const Preprocess *preprocess = options->preprocess;
  if (preprocess) {
    samples_number_scenes(loader->arena, &loader->samples);
    loader->pictures = picture_cache_new(&loader->options, &loader->samples);
    loader->picture_elements =
        (size_t)preprocess->channels * (size_t)preprocess->height * (size_t)preprocess->width;
  }
  loader->next_filled = loader->next_taken = first_step;
  loader->end = options->training ? UINT64_MAX : loader_steps(loader, 1);
  make_slots(loader);
  start_threads(loader);
  *out = loader;
  return true;
}

void loader_close(Loader *loader) {
  if (!loader) return;
  pthread_mutex_lock(&loader->lock);
  loader->stopping = true;
  pthread_cond_broadcast(&loader->changed);
  pthread_mutex_unlock(&loader->lock);
  for (int i = 0; i < loader->thread_count; i++) pthread_join(loader->threads[i], NULL);
  for (int i = 0; i < loader->slot_count; i++) {
    Batch *batch = &loader->slots[i].batch;
    free(batch->ids);
    free(batch->weight);
    free(batch->picture);
    free(batch->row);
    free(batch->image);
    free(batch->scene);
  }
  free(loader->slots);
  free(loader->threads);
  picture_cache_free(loader->pictures);
  pthread_mutex_destroy(&loader->lock);
  pthread_cond_destroy(&loader->changed);
  arena_free(loader->arena);
  free(loader);
}

// Taking batches.

static Slot *take(Loader *loader) { // the lock is held
  while (!loader->failed && loader->next_taken < loader->end) {
    Slot *slot = find_slot(loader, SLOT_READY, &loader->next_taken);
    if (!slot) {
      pthread_cond_wait(&loader->changed, &loader->lock);
      continue;
    }
    loader->next_taken++;
    slot->state = slot->batch.rows ? SLOT_HELD : SLOT_FREE; // nothing left of it: on to the next
    pthread_cond_broadcast(&loader->changed);
    if (slot->batch.rows) return slot;
  }
  return NULL;
}

bool loader_next(Loader *loader, Batch **batch, Failure *failure) {
  pthread_mutex_lock(&loader->lock);
  Slot *slot = take(loader);
  *batch = slot ? &slot->batch : NULL;
  bool good = !loader->failed;
  if (!good) {
    *failure = loader->failure;
    *batch = NULL;
    if (slot) slot->state = SLOT_FREE;
  }
  pthread_mutex_unlock(&loader->lock);
  return good;
}

void loader_give_back(Loader *loader, Batch *batch) {
  pthread_mutex_lock(&loader->lock);
  ((Slot *)batch)->state = SLOT_FREE;
  pthread_cond_broadcast(&loader->changed);
  pthread_mutex_unlock(&loader->lock);
}

size_t loader_bad_pictures(Loader *loader, LoaderBadPicture *report, void *context) {
  return loader->pictures ? picture_cache_report(loader->pictures, report, context) : 0;
}
