// safetensors: the header is parsed and every byte range checked before a pointer leaves this file.
#include "runtime/weights/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/files.h"
#include "runtime/json.h"

struct SafetensorsStorage {
  Arena *arena; // names, tables, and copies of tensors whose bytes lie badly aligned in the file
  Mapping mapping;
};

// Types of the format that no DType stands for: such a tensor can be listed and skipped.
static const struct {
  const char *spelling;
  size_t bytes;
} foreign[] = {{"I8", 1}, {"I16", 2}, {"U16", 2}, {"U32", 4}, {"U64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

static size_t element_bytes(const char *spelling, DType *dtype) {
  if (dtype_from_safetensors(spelling, dtype)) return dtype_bytes(*dtype);
  *dtype = DTYPE_COUNT;
  for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
    if (!strcmp(foreign[i].spelling, spelling)) return foreign[i].bytes;
  return 0;
}

// bytes = element * product of extents, or failure where that overflows.
static bool tensor_bytes(const int64_t *extents, int rank, size_t element, size_t *bytes) {
  *bytes = element;
  for (int i = 0; i < rank; i++)
    if (__builtin_mul_overflow(*bytes, (size_t)extents[i], bytes) || *bytes > INT64_MAX) return false;
  return true;
}

static bool read_extents(const json_t *shape, const char *place, SafetensorsTensor *tensor,
                         Failure *failure) {
  size_t rank = json_array_size(shape);
  if (rank > SAFETENSORS_MAX_RANK)
    return fail(failure, "%s: has %zu axes, more than %d", place, rank, SAFETENSORS_MAX_RANK);
  tensor->rank = (int)rank;
  for (size_t i = 0; i < rank; i++) {
    const json_t *extent = json_array_get(shape, i);
    if (!json_is_integer(extent) || json_integer_value(extent) < 0)
      return fail(failure, "%s: axis %zu of \"shape\" must be an integer of at least 0", place, i);
    tensor->extents[i] = json_integer_value(extent);
  }
  return true;
}

// "data_offsets": [begin, end] within the `available` bytes after the header.
static bool read_offsets(const json_t *offsets, const char *place, size_t available, size_t *begin,
                         size_t *end, Failure *failure) {
  const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
    return fail(failure, "%s: \"data_offsets\" must be two integers", place);
  json_int_t from = json_integer_value(first), to = json_integer_value(second);
  if (from < 0 || to < from || (uint64_t)to > available)
    return fail(failure, "%s: bytes %lld to %lld are not within the %zu bytes of data", place,
                (long long)from, (long long)to, available);
  *begin = (size_t)from, *end = (size_t)to;
  return true;
}

// One member of the header. `data` is the first byte after the header, `available` how many there are.
static bool read_tensor(const char *path, const char *name, const json_t *entry, const unsigned char *data,
                        size_t available, Arena *arena, SafetensorsTensor *tensor, Failure *failure) {
  char place[400];
  snprintf(place, sizeof place, "%.250s: tensor \"%.120s\"", path, name);
  if (!json_is_object(entry))
    return fail(failure, "%s: must be an object, found %s", place, json_kind(entry));
  const char *spelling;
  json_t *shape, *offsets;
  size_t begin = 0, end = 0, bytes;
  if (!json_get_string(entry, "dtype", place, &spelling, failure) ||
      !json_get_array(entry, "shape", place, &shape, failure) ||
      !json_get_array(entry, "data_offsets", place, &offsets, failure) ||
      !read_extents(shape, place, tensor, failure) ||
      !read_offsets(offsets, place, available, &begin, &end, failure))
    return false;
  size_t element = element_bytes(spelling, &tensor->dtype);
  if (!element) return fail(failure, "%s: \"dtype\" is \"%.40s\", which is not known", place, spelling);
  if (!tensor_bytes(tensor->extents, tensor->rank, element, &bytes))
    return fail(failure, "%s: the product of its extents is too large", place);
  if (bytes != end - begin)
    return fail(failure, "%s: its shape takes %zu bytes, but \"data_offsets\" gives %zu", place, bytes,
                end - begin);
  tensor->name = arena_copy(arena, name, strlen(name));
  tensor->spelling = arena_copy(arena, spelling, strlen(spelling));
  tensor->data = data + begin;
  tensor->bytes = bytes;
  return true;
}

static bool read_metadata(const json_t *object, Safetensors *file, Arena *arena, Failure *failure) {
  if (!json_is_object(object))
    return fail(failure, "%s: \"__metadata__\" must be an object, found %s", file->path, json_kind(object));
  file->metadata = ARENA_ARRAY(arena, SafetensorsText, json_object_size(object));
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)object, key, value) {
    if (!json_is_string(value))
      return fail(failure, "%s: \"__metadata__\": \"%.100s\" must be a string, found %s", file->path, key,
                  json_kind(value));
    const char *text = json_string_value(value);
    file->metadata[file->metadata_count++] =
        (SafetensorsText){arena_copy(arena, key, strlen(key)), arena_copy(arena, text, strlen(text))};
  }
  return true;
}

static int by_position(const void *a, const void *b) {
  const SafetensorsTensor *first = a, *second = b;
  const char *p = first->data, *q = second->data;
  if (p != q) return p < q ? -1 : 1;
  return (first->bytes > second->bytes) -
         (first->bytes < second->bytes); // empty ones before the one they touch
}

// The format allows neither overlap nor hole; `data` and `available` as above.
static bool check_cover(const Safetensors *file, const unsigned char *data, size_t available,
                        Failure *failure) {
  const unsigned char *next = data;
  for (size_t i = 0; i < file->count; i++) {
    const SafetensorsTensor *tensor = &file->tensors[i];
    if ((const unsigned char *)tensor->data < next)
      return fail(failure, "%s: tensors \"%.120s\" and \"%.120s\" overlap", file->path,
                  file->tensors[i - 1].name, tensor->name);
    if ((const unsigned char *)tensor->data > next)
      return fail(failure, "%s: %td bytes before tensor \"%.120s\" belong to no tensor", file->path,
                  (const unsigned char *)tensor->data - next, tensor->name);
    next = (const unsigned char *)tensor->data + tensor->bytes;
  }
  if (next != data + available)
    return fail(failure, "%s: %td bytes at its end belong to no tensor", file->path, data + available - next);
  return true;
}

// Readers get aligned pointers; the format promises none, so that odd files are copied.
static void align_tensors(Safetensors *file, Arena *arena) {
  for (size_t i = 0; i < file->count; i++) {
    SafetensorsTensor *tensor = &file->tensors[i];
    size_t element = tensor->dtype == DTYPE_COUNT ? 1 : dtype_bytes(tensor->dtype);
    if ((uintptr_t)tensor->data % element == 0) continue;
    void *copy = arena_alloc(arena, tensor->bytes);
    if (tensor->bytes) memcpy(copy, tensor->data, tensor->bytes);
    tensor->data = copy;
  }
}

static bool read_header(const json_t *header, const unsigned char *data, size_t available, Safetensors *file,
                        Failure *failure) {
  Arena *arena = file->storage->arena;
  if (!json_is_object(header))
    return fail(failure, "%s: its header must be an object, found %s", file->path, json_kind(header));
  file->tensors = ARENA_ARRAY(arena, SafetensorsTensor, json_object_size(header));
  const char *name;
  json_t *entry;
  json_object_foreach((json_t *)header, name, entry) {
    if (!strcmp(name, "__metadata__")) {
      if (!read_metadata(entry, file, arena, failure)) return false;
    } else {
      SafetensorsTensor *tensor = &file->tensors[file->count++];
      if (!read_tensor(file->path, name, entry, data, available, arena, tensor, failure)) return false;
    }
  }
  qsort(file->tensors, file->count, sizeof *file->tensors, by_position);
  if (!check_cover(file, data, available, failure)) return false;
  align_tensors(file, arena);
  return true;
}

static bool parse(const unsigned char *bytes, size_t size, Safetensors *file, Failure *failure) {
  if (size < 8)
    return fail(failure, "%s: has %zu bytes; a safetensors file begins with 8 bytes of header size",
                file->path, size);
  uint64_t length = 0;
  for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
  if (length > SAFETENSORS_MAX_HEADER)
    return fail(failure, "%s: its header is said to have %llu bytes, more than the %d allowed", file->path,
                (unsigned long long)length, SAFETENSORS_MAX_HEADER);
  if (length > size - 8)
    return fail(failure, "%s: its header is said to have %llu bytes, but only %zu follow", file->path,
                (unsigned long long)length, size - 8);
  char place[400];
  snprintf(place, sizeof place, "%.380s: header", file->path);
  json_t *header = json_parse((const char *)bytes + 8, (size_t)length, place, failure);
  bool good = header && read_header(header, bytes + 8 + length, size - 8 - (size_t)length, file, failure);
  json_decref(header);
  return good;
}

static void start(Safetensors *file, const char *path) {
  Arena *arena = arena_new();
  *file = (Safetensors){.path = arena_copy(arena, path, strlen(path))};
  file->storage = ARENA_NEW(arena, struct SafetensorsStorage);
  file->storage->arena = arena;
}

bool safetensors_parse(const unsigned char *bytes, size_t size, const char *name, Safetensors *file,
                       Failure *failure) {
  start(file, name);
  if (parse(bytes, size, file, failure)) return true;
  safetensors_close(file);
  return false;
}

bool safetensors_open(const char *path, Safetensors *file, Failure *failure) {
  start(file, path);
  Mapping *mapping = &file->storage->mapping;
  if (file_map(path, mapping, failure) && parse(mapping->bytes, mapping->size, file, failure)) return true;
  safetensors_close(file);
  return false;
}

void safetensors_close(Safetensors *file) {
  if (!file->storage) return;
  file_unmap(&file->storage->mapping);
  arena_free(file->storage->arena);
  *file = (Safetensors){0};
}

const SafetensorsTensor *safetensors_find(const Safetensors *file, const char *name) {
  for (size_t i = 0; i < file->count; i++)
    if (!strcmp(file->tensors[i].name, name)) return &file->tensors[i];
  return NULL;
}

const char *safetensors_metadata(const Safetensors *file, const char *key) {
  for (size_t i = 0; i < file->metadata_count; i++)
    if (!strcmp(file->metadata[i].key, key)) return file->metadata[i].value;
  return NULL;
}

// Writing.

struct SafetensorsWriter {
  Replacement replacement;
  size_t count;
  struct Place {
    size_t offset, bytes; // in the file
    bool put;
  } * places; // as the caller numbers tensors
};

// Offsets in the data: larger elements first, so that every tensor lies aligned. Returns the data's bytes.
static size_t place_tensors(const SafetensorsTensor *tensors, size_t count, struct Place *places) {
  size_t offset = 0;
  for (size_t element = 8; element; element /= 2)
    for (size_t i = 0; i < count; i++) {
      if (dtype_bytes(tensors[i].dtype) != element) continue;
      if (!tensor_bytes(tensors[i].extents, tensors[i].rank, element, &places[i].bytes))
        die("tensor %s is too large for a file", tensors[i].name);
      places[i].offset = offset;
      offset += places[i].bytes;
    }
  return offset;
}

static void print_header(Text *text, const SafetensorsTensor *tensors, size_t count,
                         const struct Place *places, const SafetensorsText *metadata, size_t metadata_count) {
  text_print(text, "{");
  for (size_t i = 0; i < metadata_count; i++) {
    text_print(text, i ? "," : "\"__metadata__\":{");
    json_quote(text, metadata[i].key);
    text_print(text, ":");
    json_quote(text, metadata[i].value);
  }
  if (metadata_count) text_print(text, count ? "}," : "}");
  for (size_t i = 0; i < count; i++) {
    json_quote(text, tensors[i].name);
    text_print(text, ":{\"dtype\":\"%s\",\"shape\":[", dtype_safetensors(tensors[i].dtype));
    for (int axis = 0; axis < tensors[i].rank; axis++)
      text_print(text, "%s%lld", axis ? "," : "", (long long)tensors[i].extents[axis]);
    text_print(text, "],\"data_offsets\":[%zu,%zu]}%s", places[i].offset, places[i].offset + places[i].bytes,
               i + 1 < count ? "," : "");
  }
  text_print(text, "}");
  while (text->length % 8) text_print(text, " "); // the data begins aligned
}

bool safetensors_create(const char *path, const SafetensorsTensor *tensors, size_t count,
                        const SafetensorsText *metadata, size_t metadata_count, SafetensorsWriter **out,
                        Failure *failure) {
  *out = NULL;
  SafetensorsWriter *writer = calloc(1, sizeof *writer);
  struct Place *places = calloc(count + 1, sizeof *places);
  if (!writer || !places) die("out of memory");
  writer->count = count;
  writer->places = places;
  place_tensors(tensors, count, places);
  Text header = {0};
  print_header(&header, tensors, count, places, metadata, metadata_count);
  unsigned char length[8];
  for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.length >> 8 * i);
  bool good = header.length <= SAFETENSORS_MAX_HEADER ||
              fail(failure, "%s: the names of %zu tensors do not fit a safetensors header", path, count);
  good = good && replacement_begin(&writer->replacement, path, failure) &&
         replacement_write(&writer->replacement, 0, length, 8, failure) &&
         replacement_write(&writer->replacement, 8, header.bytes, header.length, failure);
  for (size_t i = 0; i < count; i++) places[i].offset += 8 + header.length;
  text_free(&header);
  if (good)
    *out = writer;
  else
    safetensors_abandon(writer);
  return good;
}

bool safetensors_put(SafetensorsWriter *writer, size_t index, const void *data, Failure *failure) {
  if (index >= writer->count) die("tensor %zu was not declared", index);
  struct Place *place = &writer->places[index];
  place->put = true;
  if (replacement_write(&writer->replacement, place->offset, data, place->bytes, failure)) return true;
  safetensors_abandon(writer);
  return false;
}

bool safetensors_finish(SafetensorsWriter *writer, Failure *failure) {
  for (size_t i = 0; i < writer->count; i++)
    if (!writer->places[i].put) die("tensor %zu was declared but never put", i);
  bool good = replacement_commit(&writer->replacement, failure);
  safetensors_abandon(writer);
  return good;
}

void safetensors_abandon(SafetensorsWriter *writer) {
  if (!writer) return;
  replacement_abandon(&writer->replacement);
  free(writer->places);
  free(writer);
}

bool safetensors_write(const char *path, const SafetensorsTensor *tensors, size_t count,
                       const SafetensorsText *metadata, size_t metadata_count, Failure *failure) {
  SafetensorsWriter *writer;
  if (!safetensors_create(path, tensors, count, metadata, metadata_count, &writer, failure)) return false;
  for (size_t i = 0; i < count; i++)
    if (!safetensors_put(writer, i, tensors[i].data, failure)) return false;
  return safetensors_finish(writer, failure);
}
