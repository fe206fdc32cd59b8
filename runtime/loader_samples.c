// Rows of a data set -> samples, encoded once; which different pictures they show.
#include <stdlib.h>
#include <string.h>

#include "runtime/loader_parts.h"

// An open hash table from names of pictures to their numbers, while rows are read.
typedef struct Names {
  uint32_t *slots; // number + 1; 0: empty
  size_t slot_count;
} Names;

static uint32_t *find_name(const Names *names, const Samples *samples, const char *image) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char *at = image; *at; at++) hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
  for (size_t at = (hash ^ hash >> 29) & (names->slot_count - 1);; at = (at + 1) & (names->slot_count - 1)) {
    uint32_t *slot = &names->slots[at];
    if (!*slot || !strcmp(samples->images[*slot - 1], image)) return slot;
  }
}

static void grow_names(Names *names, const Samples *samples) {
  free(names->slots);
  names->slot_count = names->slot_count ? names->slot_count * 2 : 1024;
  names->slots = calloc(names->slot_count, sizeof *names->slots);
  if (!names->slots) die("out of memory");
  for (size_t i = 0; i < samples->image_count; i++)
    *find_name(names, samples, samples->images[i]) = (uint32_t)i + 1;
}

static int32_t number_of(Names *names, Samples *samples, const char *image, Arena *arena) {
  if (samples->image_count * 2 >= names->slot_count) grow_names(names, samples);
  uint32_t *slot = find_name(names, samples, image);
  if (!*slot) {
    ARENA_PUSH(arena, samples->images, samples->image_count, samples->image_capacity,
               arena_copy(arena, image, strlen(image)));
    *slot = (uint32_t)samples->image_count;
  }
  return (int32_t)*slot - 1;
}

// Keeps a sample, with its run of image tokens folded into one that has the last one's mask.
static void store(const Sample *sample, int32_t image_token, StoredSample stored, Arena *arena,
                  Samples *samples) {
  size_t at = 0, run = 0;
  while (image_token >= 0 && at < sample->count && sample->ids[at] != image_token) at++;
  while (image_token >= 0 && at + run < sample->count && sample->ids[at + run] == image_token) run++;
  size_t folded = run ? run - 1 : 0, kept = sample->count - folded;
  int32_t *ids = ARENA_ARRAY(arena, int32_t, kept);
  uint8_t *supervised = ARENA_ARRAY(arena, uint8_t, kept);
  uint64_t targets = 0;
  for (size_t i = 0, from = 0; i < kept; i++, from++) {
    if (i == at) from += folded;
    ids[i] = sample->ids[from];
    supervised[i] = sample->supervised[from];
    targets += supervised[i];
  }
  stored.ids = ids, stored.supervised = supervised;
  stored.stored = (uint32_t)kept, stored.length = (uint32_t)sample->count;
  stored.picture_at = (uint32_t)at, stored.picture_length = (uint32_t)run;
  ARENA_PUSH(arena, samples->list, samples->count, samples->capacity, stored);
  samples->summary.ids += sample->count;
  samples->summary.cut += sample->cut;
  samples->summary.supervised += targets;
  samples->summary.silent += !targets;
  if (sample->count > samples->summary.longest) samples->summary.longest = sample->count;
}

// A long text in pieces that share one id, so that every target stays one.
static void store_text(const Sample *whole, size_t length, StoredSample stored, Arena *arena,
                       Samples *samples) {
  for (size_t begin = 0; begin + 1 < whole->count; begin += length - 1) {
    size_t count = whole->count - begin < length ? whole->count - begin : length;
    Sample piece = {whole->ids + begin, whole->supervised + begin, count, false};
    uint8_t kept = piece.supervised[count - 1];
    piece.supervised[count - 1] = 0; // its target is the next piece's
    store(&piece, -1, stored, arena, samples);
    piece.supervised[count - 1] = kept;
    if (begin + count == whole->count) break;
  }
}

static bool number_images(const LoaderOptions *options, const Row *row, const char *place, Names *names,
                          Arena *arena, Samples *samples, StoredSample *stored, Failure *failure) {
  if (row->image_count > (size_t)options->pictures)
    return fail(failure, "%s: the row shows %zu pictures, but the model looks at %d", place, row->image_count,
                options->pictures);
  int32_t *images = ARENA_ARRAY(arena, int32_t, row->image_count);
  for (size_t i = 0; i < row->image_count; i++) images[i] = number_of(names, samples, row->images[i], arena);
  stored->images = images;
  stored->image_count = (uint32_t)row->image_count;
  return true;
}

static bool read_row(const LoaderOptions *options, size_t index, Names *names, Arena *scratch, Arena *arena,
                     Samples *samples, Failure *failure) {
  Row row;
  if (!dataset_row(options->dataset, index, scratch, &row, failure)) return false;
  StoredSample stored = {.row = (uint32_t)index};
  const char *place =
      arena_print(scratch, "%s:%zu", dataset_path(options->dataset), dataset_line(options->dataset, index));
  if (options->preprocess && !number_images(options, &row, place, names, arena, samples, &stored, failure))
    return false;
  if (!options->conversation) {
    ARENA_PUSH(arena, samples->list, samples->count, samples->capacity, stored);
    return true;
  }
  size_t length = row.text ? SIZE_MAX : (size_t)options->length;
  Sample sample;
  if (!conversation_encode(options->conversation, &row, place, length, scratch, &sample, failure))
    return false;
  if (row.text)
    store_text(&sample, (size_t)options->length, stored, arena, samples);
  else if (sample.count)
    store(&sample, conversation_image(options->conversation), stored, arena, samples);
  return true;
}

bool samples_read(const LoaderOptions *options, Arena *arena, Samples *samples, Failure *failure) {
  size_t rows = dataset_count(options->dataset);
  const char *path = dataset_path(options->dataset);
  if (rows > INT32_MAX) return fail(failure, "%s: has %zu rows, more than %d", path, rows, INT32_MAX);
  Names names = {0};
  bool good = true;
  Arena *scratch = arena_new();
  for (size_t i = 0; good && i < rows; i++) {
    if (i % 256 == 255) arena_free(scratch), scratch = arena_new();
    good = read_row(options, i, &names, scratch, arena, samples, failure);
  }
  arena_free(scratch);
  free(names.slots);
  samples->summary.samples = samples->count;
  if (good && !samples->count) return fail(failure, "%s: its rows are too short to learn from", path);
  return good;
}

void sample_write(const StoredSample *sample, size_t length, int32_t padding, int32_t *ids, float *weight) {
  size_t out = 0;
  for (size_t i = 0; i < sample->stored; i++) {
    size_t repeats = sample->picture_length && i == sample->picture_at ? sample->picture_length : 1;
    for (size_t r = 0; r < repeats; r++, out++) {
      ids[out] = sample->ids[i];
      weight[out] = r + 1 == repeats ? sample->supervised[i] : 0;
    }
  }
  for (; out < length; out++) ids[out] = padding, weight[out] = 0;
}
