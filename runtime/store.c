// Parameters and states by name.
#include "runtime/store_internal.h"

#include "runtime/weights/format.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

TensorStore *store_open(Device *device, uint64_t seed) {
  Arena *arena = arena_new();
  TensorStore *store = ARENA_NEW(arena, TensorStore);
  store->arena = arena;
  store->device = device;
  store->seed = seed;
  return store;
}

void store_close(TensorStore *store) {
  if (!store) return;
  for (size_t i = 0; i < store->count; i++) store->device->release(store->device, store->list[i]->memory);
  arena_free(store->arena);
}

StoreTensor *store_find(const TensorStore *store, const char *name) {
  for (size_t i = 0; i < store->count; i++)
    if (!strcmp(store->list[i]->name, name)) return store->list[i];
  return NULL;
}

int64_t store_elements(const StoreTensor *tensor) {
  int64_t elements = 1;
  for (int i = 0; i < tensor->rank; i++) elements *= tensor->extents[i];
  return elements;
}

// ---- writing ------------------------------------------------------------------------------------

static bool write_parts(TensorStore *store, StoreTensor *tensor, const float *values, Failure *failure) {
  Device *device = store->device;
  StoreTensor *of = tensor->packed_values, *scales = tensor->scales;
  if (!of) return fail_internal(failure, "`%s` is packed and its parts are not bound", tensor->name);
  unsigned char *packed = malloc(of->bytes + 1);
  uint16_t *each = malloc((scales ? scales->bytes : 0) + 1);
  bool good = (packed && each) || fail(failure, "out of memory for `%s`", tensor->name);
  if (good && !weights_pack(tensor->packing, values, store_elements(tensor), packed, each))
    good =
        fail(failure, "`%s` holds infinities, NaN or numbers beyond what %s has a scale for; f32 takes them",
             tensor->name, packing_table[tensor->packing].name);
  good = good && device->upload(device, of->memory, packed, of->bytes, failure) &&
         (!scales || device->upload(device, scales->memory, each, scales->bytes, failure));
  free(packed);
  free(each);
  return good;
}

bool store_write(TensorStore *store, StoreTensor *tensor, const float *values, Failure *failure) {
  Device *device = store->device;
  tensor->started = true;
  if (tensor->packing) return write_parts(store, tensor, values, failure);
  if (tensor->dtype == DTYPE_F32)
    return device->upload(device, tensor->memory, values, tensor->bytes, failure);
  void *stored = malloc(tensor->bytes + 1);
  if (!stored) return fail(failure, "out of memory for `%s`", tensor->name);
  for (int64_t i = 0; i < store_elements(tensor); i++) dtype_store(tensor->dtype, stored, i, values[i]);
  bool good = device->upload(device, tensor->memory, stored, tensor->bytes, failure);
  free(stored);
  return good;
}

// ---- initial values -----------------------------------------------------------------------------

// FNV-1a, 64 bit: the name's part in the seed of its values.
static uint64_t hash_name(const char *name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
  return hash;
}

// SplitMix64 (Steele, Lea, Flood 2014).
static uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static double next_uniform(uint64_t *state) { return ((double)(next_random(state) >> 11) + 0.5) * 0x1p-53; }

// Normal values by Box and Muller (1958), two at a time.
static void fill_normal(float *values, int64_t count, double spread, uint64_t seed) {
  uint64_t state = seed;
  for (int64_t i = 0; i < count; i += 2) {
    double radius = sqrt(-2 * log(next_uniform(&state))), angle = 2 * M_PI * next_uniform(&state);
    values[i] = (float)(spread * radius * cos(angle));
    if (i + 1 < count) values[i + 1] = (float)(spread * radius * sin(angle));
  }
}

static bool set_initial(TensorStore *store, StoreTensor *tensor, Failure *failure) {
  if (!tensor->initial_normal && tensor->initial_value == 0 && !tensor->packing)
    return true; // memory starts as zeros
  int64_t elements = store_elements(tensor);
  float *values = malloc((size_t)elements * sizeof *values + 1);
  if (!values) return fail(failure, "out of memory for the initial values of `%s`", tensor->name);
  for (int64_t i = 0; i < elements; i++) values[i] = (float)tensor->initial_value;
  if (tensor->initial_normal)
    fill_normal(values, elements, tensor->initial_spread, store->seed ^ hash_name(tensor->name));
  bool good = store_write(store, tensor, values, failure);
  free(values);
  return good;
}

bool store_start(TensorStore *store, Failure *failure) {
  for (size_t i = 0; i < store->count; i++) {
    StoreTensor *tensor = store->list[i];
    if (tensor->started) continue;
    if (tensor->role == ROLE_PARAM && !set_initial(store, tensor, failure)) return false;
    tensor->started = true;
  }
  return true;
}

// ---- binding ------------------------------------------------------------------------------------

static bool buffer_is_fixed(const Buffer *buffer) {
  for (int i = 0; i < buffer->rank; i++)
    if (!extent_is_constant(buffer->extents[i])) return false;
  return true;
}

static bool shapes_agree(const StoreTensor *tensor, const Buffer *buffer, Failure *failure) {
  bool same =
      tensor->dtype == buffer->dtype && tensor->rank == buffer->rank && tensor->packing == buffer->packing;
  for (int i = 0; same && i < buffer->rank; i++)
    same = !extent_is_constant(buffer->extents[i]) || tensor->extents[i] == buffer->extents[i].offset;
  if (same) return true;
  return fail(failure, "`%s` has another shape or type here (%s) than in the program that made it",
              tensor->name, buffer->origin ? buffer->origin : "");
}

StoreTensor *store_bind(TensorStore *store, const Buffer *buffer, Failure *failure) {
  StoreTensor *tensor = store_find(store, buffer->name);
  if (tensor) {
    tensor->trained |= buffer->trained;
    return shapes_agree(tensor, buffer, failure) ? tensor : NULL;
  }
  tensor = ARENA_NEW(store->arena, StoreTensor);
  *tensor = (StoreTensor){.name = arena_copy(store->arena, buffer->name, strlen(buffer->name)),
                          .role = buffer->role,
                          .dtype = buffer->dtype,
                          .rank = buffer->rank,
                          .packing = buffer->packing,
                          .initial_normal = buffer->initial_normal,
                          .initial_value = buffer->initial_value,
                          .initial_spread = buffer->initial_spread,
                          .trained = buffer->trained};
  for (int i = 0; i < buffer->rank; i++)
    if (extent_is_constant(buffer->extents[i])) tensor->extents[i] = buffer->extents[i].offset;
  if (buffer_is_fixed(buffer) && !buffer->packing) {
    const int64_t none[SYMBOL_COUNT] = {0};
    tensor->bytes = buffer_bytes(buffer, none);
    tensor->memory = store->device->allocate(store->device, tensor->bytes, failure);
    if (!tensor->memory) return NULL;
  }
  ARENA_PUSH(store->arena, store->list, store->count, store->capacity, tensor);
  return tensor;
}

static StoreTensor *find_part(const TensorStore *store, const char *what, const StoreTensor *tensor) {
  const char *name = arena_print(store->arena, "%s:%s", what, tensor->name);
  return store_find(store, name);
}

void store_join(TensorStore *store, StoreTensor *tensor) {
  if (!tensor->packing || tensor->packed_values) return;
  tensor->packed_values = find_part(store, "values", tensor);
  tensor->scales = find_part(store, "scales", tensor);
}

// States with run-time extents (key/value caches) grow to the sizes asked for; growing loses their values.
bool store_resize(TensorStore *store, StoreTensor *tensor, const Buffer *buffer,
                  const int64_t symbols[SYMBOL_COUNT], Failure *failure) {
  if (buffer_is_fixed(buffer)) return true;
  size_t bytes = buffer_bytes(buffer, symbols);
  for (int i = 0; i < buffer->rank; i++) tensor->extents[i] = extent_value(buffer->extents[i], symbols);
  if (bytes <= tensor->bytes) return true;
  store->device->release(store->device, tensor->memory);
  tensor->memory = store->device->allocate(store->device, bytes, failure);
  tensor->bytes = tensor->memory ? bytes : 0;
  return tensor->memory != NULL;
}
