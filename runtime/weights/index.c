// The index of a sharded checkpoint: which tensor is in which file beside it.
#include <stdlib.h>
#include <string.h>

#include "runtime/json.h"
#include "runtime/weights/parts.h"

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// A shard lies beside its index: no folders, not even one's own.
static bool plain_name(const char *name) {
  return *name && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

// All file names, sorted, each once.
static bool gather_shards(json_t *map, const char *path, Arena *arena, WeightIndex *index, Failure *failure) {
  const char *tensor;
  json_t *value;
  size_t count = 0;
  const char **names = ARENA_ARRAY(arena, const char *, json_object_size(map) + 1);
  json_object_foreach(map, tensor, value) {
    const char *name = json_string_value(value);
    if (!name)
      return fail(failure, "%s: \"weight_map\": the file of \"%.120s\" must be a string, found %s", path,
                  tensor, json_kind(value));
    if (!plain_name(name))
      return fail(failure,
                  "%s: \"weight_map\": \"%.120s\" is said to be in \"%.120s\", which is no file beside it",
                  path, tensor, name);
    names[count++] = arena_copy(arena, name, strlen(name));
  }
  qsort(names, count, sizeof *names, by_text);
  for (size_t i = 0; i < count; i++)
    if (!i || strcmp(names[i], names[i - 1])) names[index->shard_count++] = names[i];
  index->shards = names;
  return true;
}

bool index_parse(const unsigned char *bytes, size_t size, const char *path, Arena *arena, WeightIndex *index,
                 Failure *failure) {
  *index = (WeightIndex){0};
  json_t *root = json_parse((const char *)bytes, size, path, failure), *map, *value;
  bool good = root && json_get_object(root, "weight_map", path, &map, failure);
  if (good && !json_object_size(map)) good = fail(failure, "%s: its \"weight_map\" is empty", path);
  good = good && gather_shards(map, path, arena, index, failure);
  if (good) {
    const char *tensor;
    index->entries = ARENA_ARRAY(arena, WeightIndexEntry, json_object_size(map));
    json_object_foreach(map, tensor, value) {
      const char *name = json_string_value(value);
      const char **found = bsearch(&name, index->shards, index->shard_count, sizeof *index->shards, by_text);
      index->entries[index->count++] =
          (WeightIndexEntry){arena_copy(arena, tensor, strlen(tensor)), (size_t)(found - index->shards)};
    }
  }
  json_decref(root);
  return good;
}
