// Scenes: the pictures that a sample shows, in order. Samples -> numbers of scenes; a scene -> its pictures, its hash,
// and how often a run shows it.
#include <stdlib.h>
#include <string.h>

#include "runtime/loader_parts.h"

// ---- numbers ------------------------------------------------------------------------------------

// An open hash table from scenes to their numbers, while they are given.
typedef struct Scenes {
  const Samples *samples;
  uint32_t *slots; // number + 1; 0: empty
  size_t slot_count;
} Scenes;

static bool shows_the_same(const StoredSample *a, const StoredSample *b) {
  return a->image_count == b->image_count &&
         (!a->image_count || !memcmp(a->images, b->images, a->image_count * sizeof *a->images));
}

static uint32_t *find(const Scenes *scenes, const StoredSample *sample) {
  Hash hash = {0};
  hash_add(&hash, sample->images, sample->image_count * sizeof *sample->images);
  size_t mask = scenes->slot_count - 1;
  for (size_t at = hash.words[0] & mask;; at = (at + 1) & mask) {
    uint32_t *slot = &scenes->slots[at];
    const Samples *samples = scenes->samples;
    if (!*slot || shows_the_same(&samples->list[samples->scenes[*slot - 1]], sample)) return slot;
  }
}

void samples_number_scenes(Arena *arena, Samples *samples) {
  Scenes scenes = {.samples = samples, .slot_count = 1024};
  while (scenes.slot_count < 2 * samples->count) scenes.slot_count *= 2;
  scenes.slots = calloc(scenes.slot_count, sizeof *scenes.slots);
  if (!scenes.slots) die("out of memory");
  for (size_t i = 0; i < samples->count; i++) {
    StoredSample *sample = &samples->list[i];
    uint32_t *slot = find(&scenes, sample);
    if (!*slot) {
      ARENA_PUSH(arena, samples->scenes, samples->scene_count, samples->scene_capacity, i);
      *slot = (uint32_t)samples->scene_count;
    }
    sample->scene = *slot - 1;
  }
  free(scenes.slots);
}

// ---- what a run shows ---------------------------------------------------------------------------

size_t loader_scenes(const Loader *loader) { return loader->samples.scene_count; }

void loader_count_scenes(const Loader *loader, uint64_t first, uint64_t last, uint32_t *counts) {
  size_t batch = (size_t)loader->options.batch;
  size_t *chosen = calloc(batch, sizeof *chosen);
  uint64_t *positions = calloc(batch, sizeof *positions), most = loader_steps(loader, 2) + 1;
  if (!chosen || !positions) die("out of memory");
  if (last > first && last - first > most) last = first + most;
  for (uint64_t step = first; step < last; step++) {
    size_t count = order_step(&loader->options, &loader->samples, step, chosen, positions);
    for (size_t i = 0; i < count; i++) counts[loader->samples.list[chosen[i]].scene]++;
  }
  free(chosen);
  free(positions);
}

// ---- one scene ----------------------------------------------------------------------------------

static const StoredSample *sample_of(const Loader *loader, size_t scene) {
  return &loader->samples.list[loader->samples.scenes[scene]];
}

bool loader_scene_hash(Loader *loader, size_t scene, Hash *hash) {
  const StoredSample *sample = sample_of(loader, scene);
  *hash = (Hash){0};
  hash_add(hash, &sample->image_count, sizeof sample->image_count);
  for (uint32_t i = 0; i < sample->image_count; i++)
    if (!picture_cache_hash(loader->pictures, sample->images[i], hash)) return false;
  return true;
}

bool loader_scene(Loader *loader, size_t scene, float *picture, bool *good, Failure *failure) {
  const StoredSample *sample = sample_of(loader, scene);
  size_t size = loader->picture_elements;
  uint8_t *scratch = malloc(size);
  if (!scratch) die("out of memory");
  bool going = *good = true;
  for (uint32_t i = 0; i < sample->image_count && going && *good; i++) {
    const uint8_t *bytes;
    going = picture_cache_get(loader->pictures, sample->images[i], scratch, &bytes, failure);
    *good = going && bytes;
    if (*good) picture_normalise(loader->options.preprocess, bytes, NULL, picture + i * size);
  }
  free(scratch);
  for (size_t e = sample->image_count * size; e < (size_t)loader->options.pictures * size; e++)
    picture[e] = 0;
  return going;
}

void loader_know_scenes(Loader *loader, const uint8_t *known) {
  atomic_store_explicit(&loader->known, known, memory_order_release);
}
