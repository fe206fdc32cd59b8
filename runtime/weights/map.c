// Rows of a WeightMap at work: elements between a published tensor and a parameter, and rows by name.
#include "runtime/weights/map.h"

#include "runtime/base/failure.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

bool map_is_identity(const MapRow *row) {
  if (row->rank != row->tensor_rank || row->variable_count != row->rank) return false;
  for (int i = 0; i < row->rank; i++) {
    if (row->extents[i] != row->tensor_extents[i] || row->bounds[i] != row->extents[i]) return false;
    if (row->ours[i].offset || row->theirs[i].offset) return false;
    for (int v = 0; v < row->variable_count; v++)
      if (row->ours[i].factors[v] != (v == i) || row->theirs[i].factors[v] != (v == i)) return false;
  }
  return true;
}

// The indices of all axes as one index of the row-major whole.
static MapIndex flatten(const MapIndex *axes, const int64_t *extents, int rank) {
  MapIndex flat = {0};
  for (int i = 0; i < rank; i++) {
    flat.offset = flat.offset * extents[i] + axes[i].offset;
    for (int v = 0; v < MAP_MAX_VARIABLES; v++)
      flat.factors[v] = flat.factors[v] * extents[i] + axes[i].factors[v];
  }
  return flat;
}

// to[a] = from[b] for all values of the variables from `depth` on.
static void copy(const int64_t *bounds, int count, int depth, const MapIndex *to_index, int64_t a, float *to,
                 const MapIndex *from_index, int64_t b, const float *from) {
  if (depth == count) {
    to[a] = from[b];
    return;
  }
  int64_t to_step = to_index->factors[depth], from_step = from_index->factors[depth];
  for (int64_t i = 0; i < bounds[depth]; i++, a += to_step, b += from_step) {
    if (depth + 1 == count)
      to[a] = from[b];
    else
      copy(bounds, count, depth + 1, to_index, a, to, from_index, b, from);
  }
}

void map_copy_in(const MapRow *row, const float *tensor, float *parameter) {
  MapIndex ours = flatten(row->ours, row->extents, row->rank);
  MapIndex theirs = flatten(row->theirs, row->tensor_extents, row->tensor_rank);
  copy(row->bounds, row->variable_count, 0, &ours, ours.offset, parameter, &theirs, theirs.offset, tensor);
}

void map_copy_out(const MapRow *row, const float *parameter, float *tensor) {
  MapIndex ours = flatten(row->ours, row->extents, row->rank);
  MapIndex theirs = flatten(row->theirs, row->tensor_extents, row->tensor_rank);
  copy(row->bounds, row->variable_count, 0, &theirs, theirs.offset, tensor, &ours, ours.offset, parameter);
}

// ---- by name ------------------------------------------------------------------------------------

static int by_block(const MapRow *a, const MapRow *b) { return a < b ? -1 : a > b; }

static int by_parameter(const void *left, const void *right) {
  const MapRow *a = *(const MapRow *const *)left, *b = *(const MapRow *const *)right;
  int order = strcmp(a->parameter, b->parameter);
  return order ? order : by_block(a, b);
}

static int by_tensor_name(const void *left, const void *right) {
  const MapRow *a = *(const MapRow *const *)left, *b = *(const MapRow *const *)right;
  int order = strcmp(a->tensor, b->tensor);
  return order ? order : by_block(a, b);
}

const MapRow **map_sorted(const WeightMap *map, bool by_tensor) {
  const MapRow **list = malloc((map->row_count + 1) * sizeof *list);
  if (!list) die("out of memory");
  for (size_t i = 0; i < map->row_count; i++) list[i] = &map->rows[i];
  qsort(list, map->row_count, sizeof *list, by_tensor ? by_tensor_name : by_parameter);
  return list;
}

size_t map_find(const MapRow *const *list, size_t count, bool by_tensor, const char *name, size_t *first) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    int order = strcmp(by_tensor ? list[middle]->tensor : list[middle]->parameter, name);
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  size_t end = low;
  while (end < count && !strcmp(by_tensor ? list[end]->tensor : list[end]->parameter, name)) end++;
  *first = low;
  return end - low;
}

bool map_glob(const char *pattern, const char *name) { return !fnmatch(pattern, name, 0); }
