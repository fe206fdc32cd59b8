// GGUF: counts, types and byte ranges are checked before a pointer leaves this file.
#include "runtime/weights/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/files.h"
#include "runtime/weights/parts.h"

enum { GGUF_DEFAULT_ALIGNMENT = 32, GGUF_MAX_ALIGNMENT = 1 << 20, GGUF_MAX_RANK = 4 };

struct GgufStorage {
  Arena *arena;
  Mapping mapping;
};

static const struct {
  const char *name;
  size_t bytes; // 0: of varying size
} types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", 1},         [GGUF_I8] = {"i8", 1},       [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},       [GGUF_U32] = {"u32", 4},     [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},       [GGUF_BOOL] = {"bool", 1},   [GGUF_U64] = {"u64", 8},
    [GGUF_STRING] = {"string", 0}, [GGUF_ARRAY] = {"array", 0}, [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

// ---- taking bytes -------------------------------------------------------------------------------

typedef struct Cursor {
  const unsigned char *bytes;
  size_t size, at;
  const char *path;
  Failure *failure;
} Cursor;

// The next `count` bytes, or NULL and a failure; `what` says of what.
static const unsigned char *take(Cursor *cursor, uint64_t count, const char *what) {
  size_t left = cursor->size - cursor->at;
  if (count > left) {
    fail(cursor->failure, "%s: %.200s at byte %zu takes %llu bytes, but only %zu follow", cursor->path, what,
         cursor->at, (unsigned long long)count, left);
    return NULL;
  }
  const unsigned char *taken = cursor->bytes + cursor->at;
  cursor->at += (size_t)count;
  return taken;
}

static bool take_u32(Cursor *cursor, uint32_t *out, const char *what) {
  const unsigned char *taken = take(cursor, 4, what);
  if (taken) *out = load_u32(taken);
  return taken != NULL;
}

static bool take_u64(Cursor *cursor, uint64_t *out, const char *what) {
  const unsigned char *taken = take(cursor, 8, what);
  if (taken) *out = load_u64(taken);
  return taken != NULL;
}

// A number of things of which each takes at least `least` bytes: more than can be there are refused before
// memory is taken for them.
static bool take_count(Cursor *cursor, size_t least, const char *what, size_t *out) {
  uint64_t count;
  size_t at = cursor->at;
  if (!take_u64(cursor, &count, what)) return false;
  size_t left = cursor->size - cursor->at;
  if (count > left / least)
    return fail(cursor->failure, "%s: %.200s at byte %zu is %llu, more than fit the %zu bytes that follow",
                cursor->path, what, at, (unsigned long long)count, left);
  *out = (size_t)count;
  return true;
}

static bool take_string(Cursor *cursor, GgufString *out, const char *what) {
  uint64_t length;
  if (!take_u64(cursor, &length, what)) return false;
  const unsigned char *bytes = take(cursor, length, what);
  *out = (GgufString){(const char *)bytes, (size_t)length};
  return bytes != NULL;
}

// A key or a tensor's name: not empty and without NUL bytes, so that it is what C strings compare.
static bool take_name(Cursor *cursor, Arena *arena, const char *what, const char **out) {
  GgufString string;
  size_t at = cursor->at;
  if (!take_string(cursor, &string, what)) return false;
  if (!string.length || memchr(string.bytes, 0, string.length))
    return fail(cursor->failure, "%s: %s at byte %zu is %s", cursor->path, what, at,
                string.length ? "text with NUL bytes" : "empty");
  *out = arena_copy(arena, string.bytes, string.length);
  return true;
}

// ---- metadata -----------------------------------------------------------------------------------

static bool known_type(Cursor *cursor, const GgufValue *value, uint32_t type) {
  if (value->array && type == GGUF_ARRAY)
    return fail(cursor->failure, "%s: metadata \"%.120s\" is an array of arrays, which is not known here",
                cursor->path, value->key);
  return type < GGUF_TYPE_COUNT ||
         fail(cursor->failure, "%s: metadata \"%.120s\" has type %u, which is not known", cursor->path,
              value->key, type);
}

static bool take_strings(Cursor *cursor, Arena *arena, GgufValue *value, const char *place) {
  GgufString *strings = ARENA_ARRAY(arena, GgufString, value->count + 1);
  value->strings = strings;
  for (size_t i = 0; i < value->count; i++)
    if (!take_string(cursor, &strings[i], place)) return false;
  return true;
}

static bool take_value(Cursor *cursor, Arena *arena, GgufValue *value) {
  char place[200];
  uint32_t type;
  if (!take_name(cursor, arena, "a metadata key", &value->key)) return false;
  snprintf(place, sizeof place, "metadata \"%.150s\"", value->key);
  if (!take_u32(cursor, &type, place) || !known_type(cursor, value, type)) return false;
  value->count = 1;
  if (type == GGUF_ARRAY) {
    value->array = true;
    if (!take_u32(cursor, &type, place) || !known_type(cursor, value, type)) return false;
    size_t least = types[type].bytes ? types[type].bytes : 8;
    char length[240];
    snprintf(length, sizeof length, "the length of %s", place);
    if (!take_count(cursor, least, length, &value->count)) return false;
  }
  value->type = (GgufType)type;
  if (type == GGUF_STRING) return take_strings(cursor, arena, value, place);
  value->numbers = take(cursor, value->count * types[type].bytes, place);
  return value->numbers != NULL;
}

static int by_key(const void *a, const void *b) {
  return strcmp((*(GgufValue *const *)a)->key, (*(GgufValue *const *)b)->key);
}

static bool keys_once(const Gguf *file, Failure *failure) {
  GgufValue **sorted = calloc(file->value_count + 1, sizeof *sorted);
  if (!sorted) die("out of memory");
  for (size_t i = 0; i < file->value_count; i++) sorted[i] = &file->values[i];
  qsort(sorted, file->value_count, sizeof *sorted, by_key);
  bool good = true;
  for (size_t i = 1; good && i < file->value_count; i++)
    if (!strcmp(sorted[i - 1]->key, sorted[i]->key))
      good = fail(failure, "%s: metadata \"%.200s\" is there twice", file->path, sorted[i]->key);
  free(sorted);
  return good;
}

static bool read_alignment(const Gguf *file, size_t *alignment, Failure *failure) {
  *alignment = GGUF_DEFAULT_ALIGNMENT;
  if (!gguf_find(file, "general.alignment")) return true;
  int64_t value;
  if (!gguf_get_integer(file, "general.alignment", &value, failure)) return false;
  if (value < 1 || value > GGUF_MAX_ALIGNMENT || (value & (value - 1)))
    return fail(failure, "%s: metadata \"general.alignment\" is %lld, no power of two up to %d", file->path,
                (long long)value, GGUF_MAX_ALIGNMENT);
  *alignment = (size_t)value;
  return true;
}

// ---- tensors ------------------------------------------------------------------------------------

static bool take_tensor(Cursor *cursor, Arena *arena, WeightTensor *tensor, uint64_t *offset) {
  char place[300];
  uint32_t rank, format;
  tensor->path = cursor->path;
  if (!take_name(cursor, arena, "a tensor's name", &tensor->name)) return false;
  snprintf(place, sizeof place, "tensor \"%.150s\"", tensor->name);
  if (!take_u32(cursor, &rank, place)) return false;
  if (rank > GGUF_MAX_RANK)
    return fail(cursor->failure, "%s: %s has %u axes, more than %d", cursor->path, place, rank,
                GGUF_MAX_RANK);
  tensor->rank = (int)rank;
  for (int axis = tensor->rank - 1; axis >= 0; axis--) {
    uint64_t extent;
    if (!take_u64(cursor, &extent, place)) return false;
    if (extent > INT64_MAX)
      return fail(cursor->failure, "%s: %s: axis %d is too large", cursor->path, place, axis);
    tensor->extents[axis] = (int64_t)extent;
  }
  if (!take_u32(cursor, &format, place) || !take_u64(cursor, offset, place)) return false;
  if (!format_from_gguf(format, &tensor->format))
    return fail(cursor->failure, "%s: %s is in format %u, which is not known here", cursor->path, place,
                format);
  char whole[620];
  snprintf(whole, sizeof whole, "%.300s: %s", cursor->path, place);
  return format_measure(tensor, whole, cursor->failure);
}

// Gives each tensor its bytes: `begin` is where the data begins, offsets count from there.
static bool place_tensors(Cursor *cursor, Gguf *file, const uint64_t *offsets, size_t begin,
                          size_t alignment) {
  size_t available = cursor->size - begin;
  for (size_t i = 0; i < file->count; i++) {
    WeightTensor *tensor = &file->tensors[i];
    if (offsets[i] % alignment)
      return fail(cursor->failure,
                  "%s: tensor \"%.120s\" is at offset %llu, no multiple of the alignment %zu", file->path,
                  tensor->name, (unsigned long long)offsets[i], alignment);
    if (offsets[i] > available || tensor->bytes > available - offsets[i])
      return fail(
          cursor->failure,
          "%s: tensor \"%.120s\" takes %zu bytes at offset %llu, which are not within the %zu of data",
          file->path, tensor->name, tensor->bytes, (unsigned long long)offsets[i], available);
    tensor->data = cursor->bytes + begin + offsets[i];
  }
  if (!table_disjoint(file->tensors, file->count, file->path, cursor->failure)) return false;
  for (size_t i = 0; i < file->count; i++) {
    WeightTensor *tensor = &file->tensors[i];
    tensor->data = table_align(file->storage->arena, tensor->format, tensor->data, tensor->bytes);
  }
  return true;
}

static bool read_tensors(Cursor *cursor, Gguf *file, size_t count) {
  Arena *arena = file->storage->arena;
  uint64_t *offsets = ARENA_ARRAY(arena, uint64_t, count + 1);
  size_t alignment;
  file->tensors = ARENA_ARRAY(arena, WeightTensor, count + 1);
  for (; file->count < count; file->count++)
    if (!take_tensor(cursor, arena, &file->tensors[file->count], &offsets[file->count])) return false;
  if (!table_by_name(file->tensors, file->count, file->path, arena, cursor->failure) ||
      !read_alignment(file, &alignment, cursor->failure))
    return false;
  size_t begin = (cursor->at + alignment - 1) / alignment * alignment;
  if (begin > cursor->size) begin = cursor->size; // no data: there may be no padding either
  return place_tensors(cursor, file, offsets, begin, alignment);
}

// ---- the file -----------------------------------------------------------------------------------

static bool check_version(Cursor *cursor, Gguf *file) {
  if (!take_u32(cursor, &file->version, "the version")) return false;
  if (file->version == 2 || file->version == 3) return true;
  const char *why = file->version & 0xffff ? "" : " (a big-endian file?)";
  return fail(cursor->failure, "%s: is GGUF version %u%s, expected 2 or 3", file->path, file->version, why);
}

static bool parse(const unsigned char *bytes, size_t size, Gguf *file, Failure *failure) {
  Cursor cursor = {bytes, size, 0, file->path, failure};
  size_t tensors, values;
  if (size < 4 || memcmp(bytes, "GGUF", 4))
    return fail(failure, "%s: is no GGUF file, which would begin with \"GGUF\"", file->path);
  cursor.at = 4;
  // The least bytes of a tensor: length and one byte of name, rank, format, offset; of a value: the same of
  // its key, type, one byte.
  if (!check_version(&cursor, file) || !take_count(&cursor, 25, "the number of tensors", &tensors) ||
      !take_count(&cursor, 14, "the number of metadata", &values))
    return false;
  file->values = ARENA_ARRAY(file->storage->arena, GgufValue, values + 1);
  for (; file->value_count < values; file->value_count++)
    if (!take_value(&cursor, file->storage->arena, &file->values[file->value_count])) return false;
  return keys_once(file, failure) && read_tensors(&cursor, file, tensors);
}

static void start(Gguf *file, const char *path) {
  Arena *arena = arena_new();
  *file = (Gguf){.path = arena_copy(arena, path, strlen(path))};
  file->storage = ARENA_NEW(arena, struct GgufStorage);
  file->storage->arena = arena;
}

bool gguf_parse(const unsigned char *bytes, size_t size, const char *name, Gguf *file, Failure *failure) {
  start(file, name);
  if (parse(bytes, size, file, failure)) return true;
  gguf_close(file);
  return false;
}

bool gguf_open(const char *path, Gguf *file, Failure *failure) {
  start(file, path);
  Mapping *mapping = &file->storage->mapping;
  if (file_map(path, mapping, failure) && parse(mapping->bytes, mapping->size, file, failure)) return true;
  gguf_close(file);
  return false;
}

bool gguf_recognised(const char *path) {
  char magic[4] = "";
  FILE *file = fopen(path, "rbe");
  bool begins = file && fread(magic, sizeof magic, 1, file) == 1 && !memcmp(magic, "GGUF", sizeof magic);
  if (file) fclose(file);
  return begins;
}

void gguf_close(Gguf *file) {
  if (!file->storage) return;
  file_unmap(&file->storage->mapping);
  arena_free(file->storage->arena);
  *file = (Gguf){0};
}

// ---- looking up ---------------------------------------------------------------------------------

const GgufValue *gguf_find(const Gguf *file, const char *key) {
  for (size_t i = 0; i < file->value_count; i++)
    if (!strcmp(file->values[i].key, key)) return &file->values[i];
  return NULL;
}

static bool is_float(GgufType type) { return type == GGUF_F32 || type == GGUF_F64; }
static bool is_integer(GgufType type) { return !is_float(type) && type != GGUF_STRING && type != GGUF_BOOL; }

static const unsigned char *element(const GgufValue *value, size_t index) {
  if (value->type == GGUF_STRING || index >= value->count)
    die("element %zu of metadata %s is no number", index, value->key);
  return (const unsigned char *)value->numbers + index * types[value->type].bytes;
}

// The `bytes` bytes at `at` as an unsigned number, and as one in two's complement.
static uint64_t load_unsigned(const unsigned char *at, size_t bytes) {
  uint64_t value = 0;
  while (bytes--) value = value << 8 | at[bytes];
  return value;
}

static int64_t load_signed(const unsigned char *at, size_t bytes) {
  int spare = 64 - 8 * (int)bytes;
  return (int64_t)(load_unsigned(at, bytes) << spare) >> spare;
}

int64_t gguf_integer(const GgufValue *value, size_t index) {
  const unsigned char *at = element(value, index);
  switch (value->type) {
  case GGUF_I8:
  case GGUF_I16:
  case GGUF_I32:
  case GGUF_I64: return load_signed(at, types[value->type].bytes);
  case GGUF_F32:
  case GGUF_F64: {
    double number = gguf_number(value, index);
    return number > -0x1p63 && number < 0x1p63 ? (int64_t)number : 0;
  }
  default: {
    uint64_t number = load_unsigned(at, types[value->type].bytes);
    return number <= INT64_MAX ? (int64_t)number : 0;
  }
  }
}

double gguf_number(const GgufValue *value, size_t index) {
  const unsigned char *at = element(value, index);
  if (value->type == GGUF_U64) return (double)load_u64(at);
  if (!is_float(value->type)) return (double)gguf_integer(value, index);
  float single;
  double number;
  memcpy(&single, at, 4);
  if (value->type == GGUF_F32) return (double)single;
  memcpy(&number, at, 8);
  return number;
}

// The value of `key` where `fits`, else a failure that says what was wanted and what is there.
static const GgufValue *expect(const Gguf *file, const char *key, bool array, bool fits(GgufType),
                               const char *wanted, Failure *failure) {
  const GgufValue *value = gguf_find(file, key);
  if (value && value->array == array && fits(value->type)) return value;
  if (!value)
    fail(failure, "%s: metadata \"%s\" must be %s, found nothing", file->path, key, wanted);
  else
    fail(failure, "%s: metadata \"%s\" must be %s, found %s%s", file->path, key, wanted,
         value->array ? "an array of " : "", types[value->type].name);
  return NULL;
}

static bool fits_string(GgufType type) { return type == GGUF_STRING; }
static bool fits_bool(GgufType type) { return type == GGUF_BOOL; }
static bool fits_number(GgufType type) { return is_integer(type) || is_float(type); }

bool gguf_get_string(const Gguf *file, const char *key, GgufString *out, Failure *failure) {
  const GgufValue *value = expect(file, key, false, fits_string, "a string", failure);
  if (value) *out = value->strings[0];
  return value != NULL;
}

bool gguf_get_integer(const Gguf *file, const char *key, int64_t *out, Failure *failure) {
  const GgufValue *value = expect(file, key, false, is_integer, "an integer", failure);
  if (value) *out = gguf_integer(value, 0);
  return value != NULL;
}

bool gguf_get_number(const Gguf *file, const char *key, double *out, Failure *failure) {
  const GgufValue *value = expect(file, key, false, fits_number, "a number", failure);
  if (value) *out = gguf_number(value, 0);
  return value != NULL;
}

bool gguf_get_bool(const Gguf *file, const char *key, bool *out, Failure *failure) {
  const GgufValue *value = expect(file, key, false, fits_bool, "a bool", failure);
  if (value) *out = gguf_integer(value, 0) != 0;
  return value != NULL;
}

bool gguf_get_strings(const Gguf *file, const char *key, const GgufString **out, size_t *count,
                      Failure *failure) {
  const GgufValue *value = expect(file, key, true, fits_string, "an array of strings", failure);
  if (value) *out = value->strings, *count = value->count;
  return value != NULL;
}

bool gguf_get_numbers(const Gguf *file, const char *key, const GgufValue **out, Failure *failure) {
  *out = expect(file, key, true, fits_number, "an array of numbers", failure);
  return *out != NULL;
}
