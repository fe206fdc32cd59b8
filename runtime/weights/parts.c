// Tables of tensors: names once, bytes disjoint and aligned.
#include "runtime/weights/parts.h"

#include <stdlib.h>
#include <string.h>

uint32_t load_u32(const unsigned char *at) {
  return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t load_u64(const unsigned char *at) { return load_u32(at) | (uint64_t)load_u32(at + 4) << 32; }

static int by_name(const void *a, const void *b) {
  return strcmp((*(WeightTensor *const *)a)->name, (*(WeightTensor *const *)b)->name);
}

WeightTensor **table_by_name(const WeightTensor *tensors, size_t count, const char *path, Arena *arena,
                             Failure *failure) {
  WeightTensor **sorted = ARENA_ARRAY(arena, WeightTensor *, count + 1);
  for (size_t i = 0; i < count; i++) sorted[i] = (WeightTensor *)&tensors[i];
  qsort(sorted, count, sizeof *sorted, by_name);
  for (size_t i = 1; i < count; i++)
    if (!strcmp(sorted[i - 1]->name, sorted[i]->name)) {
      fail(failure, "%s: two tensors are called \"%.200s\"", path, sorted[i]->name);
      return NULL;
    }
  return sorted;
}

// The order of "PREFIX" "NAME", put together, against `with`.
static int compare_joined(const char *prefix, const char *name, const char *with) {
  size_t length = strlen(prefix);
  int order = strncmp(prefix, with, length);
  return order ? order : strcmp(name, with + length);
}

const WeightTensor *table_find(WeightTensor *const *sorted, size_t count, const char *prefix,
                               const char *name) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = compare_joined(prefix, name, sorted[middle]->name);
    if (!order) return sorted[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

static int by_place(const void *a, const void *b) {
  const WeightTensor *first = *(const WeightTensor *const *)a, *second = *(const WeightTensor *const *)b;
  uintptr_t p = (uintptr_t)first->data, q = (uintptr_t)second->data;
  if (p != q) return p < q ? -1 : 1;
  return (first->bytes > second->bytes) - (first->bytes < second->bytes); // empty ones before what they touch
}

bool table_disjoint(const WeightTensor *tensors, size_t count, const char *path, Failure *failure) {
  const WeightTensor **sorted = calloc(count + 1, sizeof *sorted);
  if (!sorted) die("out of memory");
  for (size_t i = 0; i < count; i++) sorted[i] = &tensors[i];
  qsort(sorted, count, sizeof *sorted, by_place);
  bool good = true;
  for (size_t i = 1; good && i < count; i++)
    if ((uintptr_t)sorted[i - 1]->data + sorted[i - 1]->bytes > (uintptr_t)sorted[i]->data)
      good = fail(failure, "%s: tensors \"%.120s\" and \"%.120s\" overlap", path, sorted[i - 1]->name,
                  sorted[i]->name);
  free(sorted);
  return good;
}

const void *table_align(Arena *arena, WeightFormat format, const void *data, size_t bytes) {
  DType dtype = format_dtype(format);
  size_t element = dtype == DTYPE_COUNT ? 1 : dtype_bytes(dtype); // blocks are read by bytes
  if ((uintptr_t)data % element == 0) return data;
  void *copy = arena_alloc(arena, bytes);
  if (bytes) memcpy(copy, data, bytes);
  return copy;
}
