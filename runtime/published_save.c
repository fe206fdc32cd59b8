// The store -> a file in a published layout: the reverse of published.c, by the same rows.
#include "runtime/published.h"

#include "runtime/weights/safetensors.h"

#include <stdlib.h>
#include <string.h>

typedef struct Save {
  const WeightMap *map;
  const TensorStore *store;
  const MapRow **by_tensor;
  SafetensorsTensor *tensors; // in the block's order
  size_t count;
} Save;

static StoreTensor *find_parameter(const Save *save, const MapRow *row) {
  StoreTensor *tensor = store_find(save->store, row->parameter);
  return tensor && tensor->role == ROLE_PARAM ? tensor : NULL;
}

// Distinct tensors, each at its first row.
static bool list_tensors(Save *save, Arena *arena, Failure *failure) {
  const WeightMap *map = save->map;
  if (map->partial)
    return fail(failure,
                "block `%s` (%s) speaks of a part of `%s` only: the rest of it is not there to be written",
                map->name, map->origin, map->partial);
  save->tensors = ARENA_ARRAY(arena, SafetensorsTensor, map->row_count + 1);
  for (size_t i = 0, first; i < map->row_count; i++) {
    const MapRow *row = &map->rows[i];
    if (!find_parameter(save, row))
      return fail(failure, "`%s`, which `%s` is made of (%s), is no parameter of the model's `forward`",
                  row->parameter, row->tensor, row->origin);
    map_find(save->by_tensor, map->row_count, true, row->tensor, &first);
    if (save->by_tensor[first] != row) continue;
    SafetensorsTensor *tensor = &save->tensors[save->count++];
    *tensor = (SafetensorsTensor){.name = row->tensor, .dtype = DTYPE_F32, .rank = row->tensor_rank};
    memcpy(tensor->extents, row->tensor_extents, sizeof tensor->extents);
  }
  return true;
}

static bool read_parameter(const Save *save, const StoreTensor *tensor, float *values, Failure *failure) {
  Device *device = save->store->device;
  if (tensor->dtype == DTYPE_F32)
    return device->download(device, values, tensor->memory, tensor->bytes, failure);
  void *stored = malloc(tensor->bytes + 1);
  bool good = stored ? device->download(device, stored, tensor->memory, tensor->bytes, failure)
                     : fail(failure, "out of memory for `%s`", tensor->name);
  int64_t elements = (int64_t)(tensor->bytes / dtype_bytes(tensor->dtype));
  for (int64_t i = 0; good && i < elements; i++) values[i] = (float)dtype_load(tensor->dtype, stored, i);
  free(stored);
  return good;
}

// All elements of one tensor, from the parameters of its rows.
static bool fill_tensor(const Save *save, const SafetensorsTensor *tensor, float *values, Failure *failure) {
  size_t first, count = map_find(save->by_tensor, save->map->row_count, true, tensor->name, &first);
  for (size_t i = first; i < first + count; i++) {
    const MapRow *row = save->by_tensor[i];
    const StoreTensor *parameter = find_parameter(save, row);
    size_t elements = parameter->bytes / dtype_bytes(parameter->dtype);
    float *read = malloc(elements * sizeof *read + 1);
    bool good = read ? read_parameter(save, parameter, read, failure)
                     : fail(failure, "out of memory for `%s`", parameter->name);
    if (good) map_copy_out(row, read, values);
    free(read);
    if (!good) return false;
  }
  return true;
}

static bool write_tensors(const Save *save, const char *path, Failure *failure) {
  static const SafetensorsText metadata[] = {{"format", "pt"}}; // what the reference library asks for
  SafetensorsWriter *writer;
  if (!safetensors_create(path, save->tensors, save->count, metadata, 1, &writer, failure)) return false;
  for (size_t i = 0; i < save->count; i++) {
    const SafetensorsTensor *tensor = &save->tensors[i];
    size_t elements = 1;
    for (int axis = 0; axis < tensor->rank; axis++) elements *= (size_t)tensor->extents[axis];
    float *values = malloc(elements * sizeof *values + 1);
    bool filled = values ? fill_tensor(save, tensor, values, failure)
                         : fail(failure, "out of memory for `%s`", tensor->name);
    if (!filled) safetensors_abandon(writer);
    bool good = filled && safetensors_put(writer, i, values, failure);
    free(values);
    if (!good) return false;
  }
  return safetensors_finish(writer, failure);
}

bool published_save(const char *path, const WeightMap *map, const TensorStore *store, Failure *failure) {
  Arena *arena = arena_new();
  Save save = {.map = map, .store = store, .by_tensor = map_sorted(map, true)};
  bool good = list_tensors(&save, arena, failure) && write_tensors(&save, path, failure);
  free(save.by_tensor);
  arena_free(arena);
  return good;
}
