// The store -> a file in a published layout: the reverse of published.c, by the same rows.
#include "runtime/published.h"

#include "runtime/weights/gguf.h"
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

// Where the values of a tensor go.
typedef bool Put(void *writer, size_t index, const float *values, Failure *failure);

static bool put_safetensors(void *writer, size_t index, const float *values, Failure *failure) {
  return safetensors_put(writer, index, values, failure);
}

static bool put_gguf(void *writer, size_t index, const float *values, Failure *failure) {
  return gguf_put_f32(writer, index, values, failure);
}

// One tensor after the other. A failed put has freed the writer; before that it is ours to abandon: `*open`.
static bool put_tensors(const Save *save, void *writer, Put *put, bool *open, Failure *failure) {
  for (size_t i = 0; i < save->count; i++) {
    const SafetensorsTensor *tensor = &save->tensors[i];
    size_t elements = 1;
    for (int axis = 0; axis < tensor->rank; axis++) elements *= (size_t)tensor->extents[axis];
    float *values = malloc(elements * sizeof *values + 1);
    bool filled = values ? fill_tensor(save, tensor, values, failure)
                         : fail(failure, "out of memory for `%s`", tensor->name);
    *open = !filled;
    bool good = filled && put(writer, i, values, failure);
    free(values);
    if (!good) return false;
  }
  return true;
}

bool published_save(const char *path, const WeightMap *map, TensorStore *store, Failure *failure) {
  static const SafetensorsText metadata[] = {{"format", "pt"}}; // what the reference library asks for
  Arena *arena = arena_new();
  Save save = {.map = map, .store = store, .by_tensor = map_sorted(map, true)};
  SafetensorsWriter *writer = NULL;
  bool open = false;
  bool good = store_start(store, failure) && list_tensors(&save, arena, failure) &&
              safetensors_create(path, save.tensors, save.count, metadata, 1, &writer, failure) &&
              put_tensors(&save, writer, put_safetensors, &open, failure) &&
              safetensors_finish(writer, failure);
  if (open) safetensors_abandon(writer);
  free(save.by_tensor);
  arena_free(arena);
  return good;
}

// ---- GGUF ---------------------------------------------------------------------------------------

static void add_note(GgufMetadata *metadata, const MapNote *note, Arena *arena) {
  float *reals = ARENA_ARRAY(arena, float, note->count + 1);
  int32_t *wholes = ARENA_ARRAY(arena, int32_t, note->count + 1);
  for (size_t i = 0; note->kind != NOTE_TEXT && i < note->count; i++) {
    reals[i] = (float)note->numbers[i];
    if (note->kind == NOTE_WHOLE || note->kind == NOTE_WHOLES) wholes[i] = (int32_t)note->numbers[i];
  }
  switch (note->kind) {
  case NOTE_TEXT: gguf_add_string(metadata, note->key, note->text); break;
  case NOTE_TRUTH: gguf_add_bool(metadata, note->key, note->numbers[0] != 0); break;
  case NOTE_WHOLE: gguf_add_u32(metadata, note->key, (uint32_t)wholes[0]); break;
  case NOTE_REAL: gguf_add_f32(metadata, note->key, reals[0]); break;
  case NOTE_WHOLES: gguf_add_i32s(metadata, note->key, wholes, note->count); break;
  case NOTE_REALS: gguf_add_f32s(metadata, note->key, reals, note->count); break;
  }
}

// Tables of positions are added to, not multiplied by: programs that read GGUF want them in f32.
static bool is_matrix(const SafetensorsTensor *tensor) {
  return tensor->rank == 2 && !strstr(tensor->name, "position_embd");
}

static WeightFormat format_of(const SafetensorsTensor *tensor, WeightFormat matrices) {
  if (!is_matrix(tensor)) return WEIGHT_F32;
  return tensor->extents[1] % format_block_elements(matrices) ? WEIGHT_F16 : matrices;
}

static WeightTensor *gguf_tensors(const Save *save, WeightFormat matrices, Arena *arena) {
  WeightTensor *tensors = ARENA_ARRAY(arena, WeightTensor, save->count + 1);
  for (size_t i = 0; i < save->count; i++) {
    const SafetensorsTensor *from = &save->tensors[i];
    tensors[i] = (WeightTensor){.name = from->name, .format = format_of(from, matrices), .rank = from->rank};
    memcpy(tensors[i].extents, from->extents, sizeof tensors[i].extents);
  }
  return tensors;
}

// "FILE: 211 tensors in Q8_0, 61 in F32"
static void report_formats(const char *path, const WeightTensor *tensors, size_t count, Text *report) {
  const char *before = ": ", *what = " tensors";
  size_t numbers[WEIGHT_FORMAT_COUNT] = {0};
  for (size_t i = 0; i < count; i++) numbers[tensors[i].format]++;
  text_print(report, "%s", path);
  for (int format = WEIGHT_FORMAT_COUNT - 1; format >= 0; format--) {
    if (!numbers[format]) continue;
    text_print(report, "%s%zu%s in %s", before, numbers[format], what, format_name((WeightFormat)format));
    before = ", ";
    what = "";
  }
  text_print(report, "\n");
}

// How most of the file's bytes are stored, as llama.cpp numbers it: whoever writes knows, not the block.
static const char file_type[] = "general.file_type";

static void note_file_type(GgufMetadata *metadata, WeightFormat matrices) {
  static const uint32_t types[WEIGHT_FORMAT_COUNT] = {
      [WEIGHT_F32] = 0, [WEIGHT_F16] = 1, [WEIGHT_Q4_0] = 2, [WEIGHT_Q8_0] = 7, [WEIGHT_BF16] = 32};
  gguf_add_u32(metadata, file_type, types[matrices]);
  if (format_block_elements(matrices) > 1) gguf_add_u32(metadata, "general.quantization_version", 2);
}

bool published_save_gguf(const char *path, const WeightMap *map, WeightFormat matrices,
                         GgufMetadata *metadata, TensorStore *store, Text *report, Failure *failure) {
  bool complete = false; // not a part that another block takes in
  for (size_t i = 0; i < map->note_count; i++) complete |= !strcmp(map->notes[i].key, "general.architecture");
  if (!complete)
    return fail(
        failure,
        "block `%s` (%s) does not say what a GGUF file has to, as in `\"general.architecture\" = \"llama\"`",
        map->name, map->origin);
  Arena *arena = arena_new();
  Save save = {.map = map, .store = store, .by_tensor = map_sorted(map, true)};
  GgufWriter *writer = NULL;
  WeightTensor *tensors = NULL;
  bool open = false;
  for (size_t i = 0; i < map->note_count; i++)
    if (strcmp(map->notes[i].key, file_type) != 0) add_note(metadata, &map->notes[i], arena);
  note_file_type(metadata, matrices);
  bool good = store_start(store, failure) && list_tensors(&save, arena, failure);
  if (good) tensors = gguf_tensors(&save, matrices, arena);
  good = good && gguf_create(path, metadata, tensors, save.count, &writer, failure) &&
         put_tensors(&save, writer, put_gguf, &open, failure) && gguf_finish(writer, failure);
  if (good && report) report_formats(path, tensors, save.count, report);
  if (open) gguf_abandon(writer);
  free(save.by_tensor);
  arena_free(arena);
  return good;
}
