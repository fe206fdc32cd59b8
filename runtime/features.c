// Features of a run: a frozen program, a store of what it made, and rows of batches out of both.
#include "runtime/features.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/feature_store.h"

enum { ALIGNMENT = 16 };

typedef struct Feature {
  const char *name;
  FeatureShape shape;    // of one sample
  size_t bytes;          // of one sample, as computed
  size_t offset;         // in an entry
  unsigned char *staged; // [rows] of a step
  unsigned char *fresh;  // [rows] as the frozen program gave them
} Feature;

struct Features {
  FeatureOptions options;
  Arena *arena;
  TensorStore *store;
  Session *session;
  Feed feed;
  Feature *list;
  size_t count;
  size_t entry_bytes;
  FeatureStore *kept; // NULL: nothing is kept
  Hash *names;        // per scene, as far as `named`
  uint8_t *named;
  uint8_t *known;       // per scene: has `entries`
  const void **entries; // per scene, in the store's mapping
  int rows;             // that the buffers have room for
  float *pictures;      // [rows] of those that are computed
  unsigned char *entry; // one, for what is kept narrow
};

// ---- opening ------------------------------------------------------------------------------------

static const int64_t one_sample[SYMBOL_COUNT] = {[SYMBOL_BATCH] = 1};

static void find_features(Features *features) {
  const Program *program = features->options.program;
  features->list = ARENA_ARRAY(features->arena, Feature, program->buffer_count);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_RESULT) continue;
    Feature *feature = &features->list[features->count++];
    size_t elements = (size_t)buffer_elements(buffer, one_sample);
    Extent last = buffer->extents[buffer->rank - 1];
    feature->name = buffer->name;
    feature->shape = (FeatureShape){buffer->dtype, elements, (size_t)extent_value(last, one_sample)};
    feature->bytes = buffer_bytes(buffer, one_sample);
    feature->offset = features->entry_bytes;
    size_t bytes = feature_bytes(&feature->shape, features->options.code);
    features->entry_bytes += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
}

bool features_open(const FeatureOptions *options, TensorStore *store, Features **out, Failure *failure) {
  Arena *arena = arena_new();
  Features *features = *out = ARENA_NEW(arena, Features);
  *features = (Features){.options = *options, .arena = arena, .store = store};
  find_features(features);
  features->entry = ARENA_ARRAY(arena, unsigned char, features->entry_bytes);
  features->session = session_open(options->program, store, failure);
  if (features->session && feed_find(options->program, &features->feed, failure)) return true;
  features_close(features);
  *out = NULL;
  return false;
}

void features_close(Features *features) {
  if (!features) return;
  for (size_t i = 0; i < features->count; i++) free(features->list[i].staged), free(features->list[i].fresh);
  free(features->pictures);
  session_close(features->session);
  feature_store_close(features->kept);
  arena_free(features->arena);
}

const Feed *features_feed(const Features *features) { return &features->feed; }

Session *features_session(Features *features) { return features->session; }

static void *resized(void *memory, size_t count, size_t size) {
  size_t bytes;
  memory = __builtin_mul_overflow(count, size, &bytes) ? NULL : realloc(memory, bytes + 1);
  if (!memory) die("out of memory (%zu times %zu bytes)", count, size);
  return memory;
}

static void have_rows(Features *features, int rows) {
  if (rows <= features->rows) return;
  features->rows = rows;
  for (size_t i = 0; i < features->count; i++) {
    Feature *feature = &features->list[i];
    feature->staged = resized(feature->staged, (size_t)rows, feature->bytes);
    feature->fresh = resized(feature->fresh, (size_t)rows, feature->bytes);
  }
  features->pictures =
      resized(features->pictures, (size_t)rows, (size_t)features->feed.picture_elements * sizeof(float));
}

// ---- the key ------------------------------------------------------------------------------------

static void add_text(Hash *hash, const char *text) { hash_add(hash, text, strlen(text)); }

static void add_preprocess(Hash *hash, const Preprocess *of) {
  const int64_t whole[] = {of->channels, of->height,       of->width,         of->pad_square,
                           of->resize,   of->resize_width, of->resize_height, of->resample};
  hash_add(hash, whole, sizeof whole);
  hash_add(hash, of->pad_colour, sizeof of->pad_colour);
  hash_add(hash, &of->scale, sizeof of->scale);
  hash_add(hash, of->mean, sizeof of->mean);
  hash_add(hash, of->std, sizeof of->std);
}

static bool add_parameter(Hash *hash, Device *device, const StoreTensor *tensor, Failure *failure) {
  add_text(hash, tensor->name);
  if (device->host_memory) {
    hash_add(hash, tensor->memory, tensor->bytes);
    return true;
  }
  void *copy = resized(NULL, tensor->bytes, 1);
  bool good = device->download(device, copy, tensor->memory, tensor->bytes, failure);
  if (good) hash_add(hash, copy, tensor->bytes);
  free(copy);
  return good;
}

static bool find_key(const Features *features, const Preprocess *preprocess, Hash *key, Failure *failure) {
  const Program *program = features->options.program;
  *key = (Hash){0};
  if (!store_start(features->store, failure)) return false;
  add_text(key, features->options.meaning);
  add_text(key, program->target);
  add_text(key, feature_code_names[features->options.code]);
  add_preprocess(key, preprocess);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    const StoreTensor *tensor = store_find(features->store, buffer->name);
    bool weight = buffer->role == ROLE_PARAM || buffer->role == ROLE_PART;
    if (weight && tensor && !tensor->packing && !add_parameter(key, features->store->device, tensor, failure))
      return false;
  }
  return true;
}

// ---- computing ----------------------------------------------------------------------------------

// `rows` pictures through the frozen program, into `fresh`.
static bool compute(Features *features, const float *pictures, int rows, Failure *failure) {
  Session *session = features->session;
  size_t elements = (size_t)rows * (size_t)features->feed.picture_elements;
  if (!session_resize(session, rows, 1, 0, failure) ||
      !session_set(session, features->feed.picture, pictures, elements * sizeof *pictures, failure) ||
      !session_run(session, failure))
    return false;
  for (size_t i = 0; i < features->count; i++) {
    Feature *feature = &features->list[i];
    if (!session_get(session, feature->name, feature->fresh, (size_t)rows * feature->bytes, failure))
      return false;
  }
  return true;
}

// False: a value that can not be kept so.
static bool encode(const Features *features, size_t row, unsigned char *entry) {
  for (size_t i = 0; i < features->count; i++) {
    const Feature *feature = &features->list[i];
    if (!feature_encode(&feature->shape, features->options.code, feature->fresh + row * feature->bytes,
                        entry + feature->offset))
      return false;
  }
  return true;
}

static void decode(const Features *features, const unsigned char *entry, size_t row) {
  for (size_t i = 0; i < features->count; i++) {
    const Feature *feature = &features->list[i];
    feature_decode(&feature->shape, features->options.code, entry + feature->offset,
                   feature->staged + row * feature->bytes);
  }
}

// ---- filling ------------------------------------------------------------------------------------

typedef struct Chunk { // scenes on their way through the frozen program
  const FeatureFilling *of;
  size_t elements; // of a scene's pictures
  size_t *scenes, count;
  float *pictures;
  bool good;
  Failure failure;
} Chunk;

typedef struct Fill {
  Features *features;
  const FeatureFilling *of;
  Arena *arena;
  uint32_t *counts;    // per scene
  size_t scenes, next; // all; those up to `next` have been in a chunk
  size_t shown, before, wanted, done, unfit;
  bool full;
  double told;
} Fill;

static bool stopped(const FeatureFilling *of) { return of->stop && *of->stop; }

static void tell(Fill *fill, bool last) {
  FILE *out = fill->of->progress;
  if (!out) return;
  bool terminal = isatty(fileno(out));
  double time = clock_now(), every = terminal ? 0.5 : 10;
  if (!last && time - fill->told < every) return;
  fill->told = time;
  fprintf(out, "%sfeatures: %zu of %zu pictures computed%s", terminal ? "\r" : "", fill->done, fill->wanted,
          terminal && !last ? "\033[K" : "\n");
  fflush(out);
}

// Names of the scenes that the run shows, and which of them are kept.
static void look_up(Fill *fill) {
  Features *features = fill->features;
  for (size_t i = 0; i < fill->scenes && !stopped(fill->of); i++) {
    if (!fill->counts[i]) continue;
    fill->shown++;
    bool needed = fill->counts[i] > 1 || feature_store_count(features->kept);
    features->named[i] = needed && loader_scene_hash(fill->of->loader, i, &features->names[i]);
    bool found = features->named[i] && feature_store_find(features->kept, features->names[i]);
    fill->before += found;
    fill->wanted += features->named[i] && !found && fill->counts[i] > 1;
  }
}

// The next scenes that are not kept; another run may have kept some since.
static void choose(Fill *fill, Chunk *chunk) {
  Features *features = fill->features;
  chunk->count = 0;
  for (; fill->next < fill->scenes && chunk->count < (size_t)fill->of->at_once; fill->next++) {
    size_t scene = fill->next;
    if (fill->counts[scene] < 2 || !features->named[scene]) continue;
    if (!feature_store_find(features->kept, features->names[scene])) chunk->scenes[chunk->count++] = scene;
  }
}

// Those of a chunk that can be read, one after the other.
static void *read_chunk(void *argument) {
  Chunk *chunk = argument;
  size_t read = 0;
  chunk->good = true;
  for (size_t i = 0; i < chunk->count && chunk->good; i++) {
    bool readable;
    chunk->good = loader_scene(chunk->of->loader, chunk->scenes[i], chunk->pictures + read * chunk->elements,
                               &readable, &chunk->failure);
    chunk->scenes[read] = chunk->scenes[i];
    read += chunk->good && readable;
  }
  chunk->count = read;
  return NULL;
}

// False: the run has to end. What can not be written is said, and ends the filling alone.
static bool keep_chunk(Fill *fill, const Chunk *chunk, Hash *names, unsigned char *entries,
                       Failure *failure) {
  Features *features = fill->features;
  size_t count = 0, added;
  Failure reason;
  if (!chunk->count) return true;
  if (!compute(features, chunk->pictures, (int)chunk->count, failure)) return false;
  for (size_t i = 0; i < chunk->count; i++) {
    names[count] = features->names[chunk->scenes[i]];
    bool fits = encode(features, i, entries + count * features->entry_bytes);
    fill->unfit += !fits;
    count += fits;
  }
  bool written = feature_store_add(features->kept, names, entries, count, &added, &reason);
  if (!written && fill->of->progress)
    fprintf(fill->of->progress, "vlmc: warning: no more features are kept: %s\n", reason.message);
  fill->full = !written || added < count;
  fill->done += chunk->count;
  tell(fill, false);
  return true;
}

static void make_chunk(Fill *fill, Chunk *chunk) {
  size_t rows = (size_t)fill->of->at_once;
  *chunk = (Chunk){.of = fill->of, .elements = (size_t)fill->features->feed.picture_elements};
  chunk->scenes = ARENA_ARRAY(fill->arena, size_t, rows);
  chunk->pictures = ARENA_ARRAY(fill->arena, float, rows * chunk->elements);
}

// One chunk is computed while the pictures of the next are read by a thread of their own.
static bool fill_store(Fill *fill, Failure *failure) {
  Chunk chunks[2];
  size_t rows = (size_t)fill->of->at_once;
  Hash *names = ARENA_ARRAY(fill->arena, Hash, rows);
  unsigned char *entries = ARENA_ARRAY(fill->arena, unsigned char, rows * fill->features->entry_bytes);
  have_rows(fill->features, fill->of->at_once);
  for (int i = 0; i < 2; i++) make_chunk(fill, &chunks[i]);
  choose(fill, &chunks[0]);
  read_chunk(&chunks[0]);
  bool good = true;
  for (int at = 0; good && chunks[at].good && !fill->full && !stopped(fill->of); at = !at) {
    pthread_t reader;
    choose(fill, &chunks[!at]);
    bool apart = !pthread_create(&reader, NULL, read_chunk, &chunks[!at]);
    good = keep_chunk(fill, &chunks[at], names, entries, failure);
    if (apart)
      pthread_join(reader, NULL);
    else
      read_chunk(&chunks[!at]);
    if (!good || (!chunks[!at].count && fill->next == fill->scenes)) break;
  }
  for (int i = 0; good && i < 2; i++)
    if (!chunks[i].good) good = false, *failure = chunks[i].failure;
  return good;
}

static size_t find_entries(Fill *fill) {
  Features *features = fill->features;
  size_t count = 0;
  for (size_t i = 0; i < fill->scenes; i++) {
    if (!features->named[i]) continue;
    features->entries[i] = feature_store_find(features->kept, features->names[i]);
    features->known[i] = features->entries[i] != NULL;
    count += features->known[i];
  }
  return count;
}

static void conclude(const Fill *fill, size_t kept) {
  FILE *out = fill->of->progress;
  const Features *features = fill->features;
  if (!out) return;
  if (!kept && !fill->wanted) {
    fprintf(out, "features: no picture is shown twice, none are kept\n");
    return;
  }
  fprintf(out,
          "features: of %zu different pictures %zu are kept, %zu of them from earlier runs: %.1f MB in %s\n",
          fill->shown, kept, fill->before, (double)kept * (double)features->entry_bytes / 1e6,
          feature_store_path(features->kept));
  if (fill->unfit)
    fprintf(out, "features: %zu hold values that %s can not, and are computed in each step\n", fill->unfit,
            feature_code_names[features->options.code]);
  if (fill->full)
    fprintf(
        out,
        "features: there is room for no more (--cache-size, or the disk); the others are computed in each "
        "step\n");
}

static bool open_kept(Features *features, const FeatureFilling *filling, Failure *failure) {
  Hash key;
  Failure reason;
  if (!find_key(features, filling->preprocess, &key, failure)) return false;
  const FeatureOptions *options = &features->options;
  if (!feature_store_open(options->folder, key, features->entry_bytes, options->limit, &features->kept,
                          &reason) &&
      filling->progress)
    fprintf(filling->progress, "vlmc: warning: features are computed in each step: %s\n", reason.message);
  return true;
}

bool features_fill(Features *features, const FeatureFilling *filling, Failure *failure) {
  if (!open_kept(features, filling, failure)) return false;
  if (!features->kept) return true;
  size_t scenes = loader_scenes(filling->loader);
  Fill fill = {features, filling, arena_new(), .scenes = scenes, .told = clock_now()};
  features->names = ARENA_ARRAY(features->arena, Hash, scenes);
  features->named = ARENA_ARRAY(features->arena, uint8_t, scenes);
  features->known = ARENA_ARRAY(features->arena, uint8_t, scenes);
  features->entries = ARENA_ARRAY(features->arena, const void *, scenes);
  fill.counts = ARENA_ARRAY(fill.arena, uint32_t, scenes);
  loader_count_scenes(filling->loader, filling->first, filling->last, fill.counts);
  look_up(&fill);
  bool good = !fill.wanted || stopped(filling) || fill_store(&fill, failure);
  if (good) {
    if (fill.wanted && fill.done) tell(&fill, true);
    conclude(&fill, find_entries(&fill));
    if (filling->pictures_unneeded) loader_know_scenes(filling->loader, features->known);
  }
  arena_free(fill.arena);
  return good;
}

// ---- a step -------------------------------------------------------------------------------------

// Rows that are not kept, computed together; they lose what they would lose if they were.
static bool compute_rows(Features *features, const Batch *batch, const int *missing, int count,
                         Failure *failure) {
  size_t elements = (size_t)features->feed.picture_elements;
  const float *pictures = count == batch->rows ? batch->picture : features->pictures;
  for (int i = 0; i < count && pictures != batch->picture; i++)
    memcpy(features->pictures + (size_t)i * elements, batch->picture + (size_t)missing[i] * elements,
           elements * sizeof *pictures);
  if (!compute(features, pictures, count, failure)) return false;
  for (int i = 0; i < count; i++) {
    if (features->options.code != FEATURE_F32 && encode(features, (size_t)i, features->entry)) {
      decode(features, features->entry, (size_t)missing[i]);
      continue;
    }
    for (size_t k = 0; k < features->count; k++) {
      const Feature *feature = &features->list[k];
      memcpy(feature->staged + (size_t)missing[i] * feature->bytes,
             feature->fresh + (size_t)i * feature->bytes, feature->bytes);
    }
  }
  return true;
}

bool features_set(Features *features, Session *step, const Batch *batch, Failure *failure) {
  int *missing = resized(NULL, (size_t)batch->rows, sizeof *missing), count = 0;
  have_rows(features, batch->rows);
  for (int i = 0; i < batch->rows; i++) {
    int32_t scene = batch->scene[i];
    if (features->known && features->known[scene])
      decode(features, features->entries[scene], (size_t)i);
    else
      missing[count++] = i;
  }
  bool good = !count || compute_rows(features, batch, missing, count, failure);
  free(missing);
  for (size_t i = 0; good && i < features->count; i++) {
    const Feature *feature = &features->list[i];
    good = session_set(step, feature->name, feature->staged, (size_t)batch->rows * feature->bytes, failure);
  }
  return good;
}
