// Fuzz target: any bytes as the index of a sharded checkpoint. No file it names leads out of its folder.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/weights/parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Arena *arena = arena_new();
  WeightIndex index;
  Failure failure;
  if (index_parse(bytes, size, "fuzzed", arena, &index, &failure)) {
    for (size_t i = 0; i < index.count; i++)
      if (index.entries[i].shard >= index.shard_count || !*index.shards[index.entries[i].shard]) abort();
    for (size_t i = 0; i < index.shard_count; i++)
      if (strchr(index.shards[i], '/') || !strcmp(index.shards[i], "..")) abort();
  }
  arena_free(arena);
  return 0;
}
