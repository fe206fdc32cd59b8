// What the readers of this room share, for its own files alone: a growing table of tensors, checks over it,
// and the readers themselves as weights.c calls them.
#ifndef VLMC_WEIGHTS_PARTS_H
#define VLMC_WEIGHTS_PARTS_H

#include "runtime/base/arena.h"
#include "runtime/weights/format.h"

typedef struct WeightTable {
  Arena *arena; // tensors, names and copies of badly aligned bytes live here
  WeightTensor *tensors;
  size_t count, capacity;
} WeightTable;

// The tensors by name; where two have the same one, NULL and a failure.
WeightTensor **table_by_name(const WeightTensor *tensors, size_t count, const char *path, Arena *arena,
                             Failure *failure);
// The one called PREFIX NAME, put together. NULL: none.
const WeightTensor *table_find(WeightTensor *const *by_name, size_t count, const char *prefix,
                               const char *name);
// No two tensors share a byte.
bool table_disjoint(const WeightTensor *tensors, size_t count, const char *path, Failure *failure);
// `data` or, where it lies badly for the format, a copy of its `bytes` bytes.
const void *table_align(Arena *arena, WeightFormat format, const void *data, size_t bytes);

uint32_t load_u32(const unsigned char *at); // little endian, any alignment
uint64_t load_u64(const unsigned char *at);

// Whether bytes look like the format at their beginning; then reading says what is wrong with the rest. Both
// take whole files.
bool torch_begins(const unsigned char *bytes, size_t size);
bool torch_read(const unsigned char *bytes, size_t size, const char *path, WeightTable *table,
                Failure *failure);
bool llama2c_begins(const unsigned char *bytes, size_t size);
bool llama2c_read(const unsigned char *bytes, size_t size, const char *path, WeightTable *table,
                  Failure *failure);

// An index: {"weight_map": {"tensor": "file", ...}, ...}. Files are plain names: nothing leads out of the
// index's folder. Strings live in `arena`.
typedef struct WeightIndexEntry {
  const char *tensor;
  size_t shard; // in `shards`
} WeightIndexEntry;
typedef struct WeightIndex {
  WeightIndexEntry *entries;
  size_t count;
  const char **shards; // each once, sorted
  size_t shard_count;
} WeightIndex;
bool index_parse(const unsigned char *bytes, size_t size, const char *path, Arena *arena, WeightIndex *index,
                 Failure *failure);

#endif
