// Pictures of a data set, prepared for the model: decoded by whoever needs one first, then kept when all of
// them fit the bound. Which are bad is remembered either way.
#include <stdlib.h>
#include <string.h>

#include "runtime/loader_parts.h"

typedef enum PictureState { UNSEEN, IN_WORK, GOOD, BAD } PictureState;

struct PictureCache {
  const Preprocess *preprocess;
  const char *const *images;
  size_t count, size; // pictures; bytes of one, prepared
  PictureFolder *folder;
  _Atomic unsigned char *states; // [count]
  uint8_t *bytes;                // [count, size]; NULL: they do not fit
  pthread_mutex_t lock;          // over what follows
  Arena *arena;
  size_t tried, bad, reported;
  char **messages; // of bad ones, those not reported yet last
  size_t message_count, message_capacity;
};

PictureCache *picture_cache_new(const LoaderOptions *options, const Samples *samples) {
  const size_t default_bound = (size_t)512 << 20;
  PictureCache *cache = calloc(1, sizeof *cache);
  if (!cache) die("out of memory");
  const Preprocess *preprocess = options->preprocess;
  cache->preprocess = preprocess;
  cache->images = samples->images;
  cache->count = samples->image_count;
  cache->size = (size_t)preprocess->channels * (size_t)preprocess->height * (size_t)preprocess->width;
  cache->folder = picture_folder_open(dataset_folder(options->dataset));
  cache->states = calloc(cache->count + 1, sizeof *cache->states);
  if (!cache->states) die("out of memory");
  size_t bound = options->cache_bytes ? options->cache_bytes : default_bound;
  if (cache->count <= bound / cache->size) cache->bytes = malloc(cache->count * cache->size + 1);
  pthread_mutex_init(&cache->lock, NULL);
  cache->arena = arena_new();
  return cache;
}

void picture_cache_free(PictureCache *cache) {
  if (!cache) return;
  picture_folder_close(cache->folder);
  pthread_mutex_destroy(&cache->lock);
  arena_free(cache->arena);
  free((void *)cache->states);
  free(cache->bytes);
  free(cache);
}

static bool prepare(PictureCache *cache, int32_t image, uint8_t *out, Failure *failure) {
  Picture picture;
  if (!picture_folder_read(cache->folder, cache->images[image], &picture, failure)) return false;
  bool good = picture_prepare(&picture, cache->preprocess, cache->images[image], out, failure);
  picture_free(&picture);
  return good;
}

// Notes how a picture turned out, once for each. Fails when more than half of those tried are bad.
static bool note(PictureCache *cache, bool good, const char *message, Failure *failure) {
  size_t enough = cache->count < 100 ? cache->count : 100;
  pthread_mutex_lock(&cache->lock);
  cache->tried++;
  if (!good) {
    cache->bad++;
    char *copy = arena_copy(cache->arena, message, strlen(message));
    ARENA_PUSH(cache->arena, cache->messages, cache->message_count, cache->message_capacity, copy);
  }
  size_t tried = cache->tried, bad = cache->bad;
  pthread_mutex_unlock(&cache->lock);
  if (tried < enough || bad * 2 <= tried) return true;
  return fail(failure, "%zu of %zu pictures cannot be read, the last because: %.700s", bad, tried,
              good ? "(see above)" : message);
}

bool picture_cache_get(PictureCache *cache, int32_t image, uint8_t *scratch, const uint8_t **bytes,
                       Failure *failure) {
  _Atomic unsigned char *state = &cache->states[image];
  uint8_t *kept = cache->bytes ? cache->bytes + (size_t)image * cache->size : NULL;
  unsigned char seen = atomic_load_explicit(state, memory_order_acquire);
  *bytes = NULL;
  if (seen == BAD) return true;
  if (seen == GOOD && kept) {
    *bytes = kept;
    return true;
  }
  // The first to come keeps it; whoever comes meanwhile makes a copy of its own rather than wait.
  unsigned char unseen = UNSEEN;
  bool first = atomic_compare_exchange_strong(state, &unseen, IN_WORK);
  uint8_t *out = first && kept ? kept : scratch;
  Failure reason = {0};
  bool good = prepare(cache, image, out, &reason);
  if (first) atomic_store_explicit(state, good ? GOOD : BAD, memory_order_release);
  *bytes = good ? out : NULL;
  return !first || note(cache, good, reason.message, failure);
}

bool picture_cache_hash(PictureCache *cache, int32_t image, Hash *hash) {
  return picture_folder_hash(cache->folder, cache->images[image], hash);
}

size_t picture_cache_report(PictureCache *cache, LoaderBadPicture *report, void *context) {
  pthread_mutex_lock(&cache->lock);
  for (; report && cache->reported < cache->message_count; cache->reported++)
    report(context, cache->messages[cache->reported]);
  size_t bad = cache->bad;
  pthread_mutex_unlock(&cache->lock);
  return bad;
}
