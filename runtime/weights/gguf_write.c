// Writing GGUF, version 3: metadata gathered as bytes, tensors put one by one, the file renamed when whole.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/files.h"
#include "runtime/weights/gguf.h"

enum { GGUF_WRITE_ALIGNMENT = 32, CONVERTED_AT_ONCE = 1 << 16 };

// ---- metadata -----------------------------------------------------------------------------------

static void add_integer(Text *text, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) text_add(text, &(char){(char)(value >> 8 * i)}, 1);
}

static void add_string(Text *text, const char *bytes, size_t length) {
  add_integer(text, length, 8);
  text_add(text, bytes, length);
}

static void add_floats(Text *text, const float *values, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, &values[i], 4);
    add_integer(text, bits, 4);
  }
}

static Text *add_key(GgufMetadata *metadata, const char *key, GgufType type) {
  metadata->count++;
  add_string(&metadata->bytes, key, strlen(key));
  add_integer(&metadata->bytes, type, 4);
  return &metadata->bytes;
}

static Text *add_array(GgufMetadata *metadata, const char *key, GgufType type, size_t count) {
  Text *text = add_key(metadata, key, GGUF_ARRAY);
  add_integer(text, type, 4);
  add_integer(text, count, 8);
  return text;
}

void gguf_add_string(GgufMetadata *metadata, const char *key, const char *value) {
  add_string(add_key(metadata, key, GGUF_STRING), value, strlen(value));
}

void gguf_add_u32(GgufMetadata *metadata, const char *key, uint32_t value) {
  add_integer(add_key(metadata, key, GGUF_U32), value, 4);
}

void gguf_add_f32(GgufMetadata *metadata, const char *key, float value) {
  add_floats(add_key(metadata, key, GGUF_F32), &value, 1);
}

void gguf_add_bool(GgufMetadata *metadata, const char *key, bool value) {
  add_integer(add_key(metadata, key, GGUF_BOOL), value, 1);
}

void gguf_add_strings(GgufMetadata *metadata, const char *key, const GgufString *values, size_t count) {
  Text *text = add_array(metadata, key, GGUF_STRING, count);
  for (size_t i = 0; i < count; i++) add_string(text, values[i].bytes, values[i].length);
}

void gguf_add_i32s(GgufMetadata *metadata, const char *key, const int32_t *values, size_t count) {
  Text *text = add_array(metadata, key, GGUF_I32, count);
  for (size_t i = 0; i < count; i++) add_integer(text, (uint32_t)values[i], 4);
}

void gguf_add_f32s(GgufMetadata *metadata, const char *key, const float *values, size_t count) {
  add_floats(add_array(metadata, key, GGUF_F32, count), values, count);
}

void gguf_metadata_free(GgufMetadata *metadata) {
  text_free(&metadata->bytes);
  *metadata = (GgufMetadata){0};
}

// ---- tensors ------------------------------------------------------------------------------------

struct GgufWriter {
  Replacement replacement;
  size_t count, end; // end: of the file, with the padding after its last tensor
  struct Place {
    WeightFormat format;
    int64_t elements;
    size_t offset, bytes; // offset in the file
    bool put;
  } * places;
};

static size_t aligned(size_t at) {
  return (at + GGUF_WRITE_ALIGNMENT - 1) / GGUF_WRITE_ALIGNMENT * GGUF_WRITE_ALIGNMENT;
}

// Offsets count from the beginning of the data here. `end`: of the data.
static bool place_tensors(const char *path, const WeightTensor *tensors, size_t count, struct Place *places,
                          size_t *end, Failure *failure) {
  *end = 0;
  for (size_t i = 0; i < count; i++) {
    WeightTensor tensor = tensors[i];
    char place[400];
    snprintf(place, sizeof place, "%.250s: tensor \"%.120s\"", path, tensor.name);
    if (tensor.rank > 4 || format_gguf(tensor.format) < 0)
      return fail(failure, "%s: GGUF has no tensors of %d axes in %s", place, tensor.rank,
                  format_name(tensor.format));
    if (!format_measure(&tensor, place, failure)) return false;
    places[i] = (struct Place){tensor.format, tensor.elements, *end, tensor.bytes, false};
    *end = aligned(*end + tensor.bytes);
  }
  return true;
}

static void print_header(Text *text, const GgufMetadata *metadata, const WeightTensor *tensors, size_t count,
                         const struct Place *places) {
  text_add(text, "GGUF", 4);
  add_integer(text, 3, 4);
  add_integer(text, count, 8);
  add_integer(text, metadata->count, 8);
  text_add(text, text_string(&metadata->bytes), metadata->bytes.length);
  for (size_t i = 0; i < count; i++) {
    add_string(text, tensors[i].name, strlen(tensors[i].name));
    add_integer(text, (uint64_t)tensors[i].rank, 4);
    for (int axis = tensors[i].rank - 1; axis >= 0; axis--)
      add_integer(text, (uint64_t)tensors[i].extents[axis], 8);
    add_integer(text, (uint64_t)format_gguf(tensors[i].format), 4);
    add_integer(text, places[i].offset, 8);
  }
  while (text->length % GGUF_WRITE_ALIGNMENT) text_add(text, "", 1);
}

bool gguf_create(const char *path, const GgufMetadata *metadata, const WeightTensor *tensors, size_t count,
                 GgufWriter **out, Failure *failure) {
  *out = NULL;
  GgufWriter *writer = calloc(1, sizeof *writer);
  struct Place *places = calloc(count + 1, sizeof *places);
  if (!writer || !places) die("out of memory");
  writer->count = count;
  writer->places = places;
  Text header = {0};
  bool good = place_tensors(path, tensors, count, places, &writer->end, failure);
  if (good) {
    print_header(&header, metadata, tensors, count, places);
    for (size_t i = 0; i < count; i++) places[i].offset += header.length;
    writer->end += header.length;
    good = replacement_begin(&writer->replacement, path, failure) &&
           replacement_write(&writer->replacement, 0, header.bytes, header.length, failure);
  }
  text_free(&header);
  if (good)
    *out = writer;
  else
    gguf_abandon(writer);
  return good;
}

// Bytes [begin, begin + count) of a tensor.
static bool put_part(GgufWriter *writer, struct Place *place, size_t begin, const void *data, size_t count,
                     Failure *failure) {
  return replacement_write(&writer->replacement, place->offset + begin, data, count, failure);
}

static struct Place *declared(GgufWriter *writer, size_t index) {
  if (index >= writer->count) die("tensor %zu was not declared", index);
  writer->places[index].put = true;
  return &writer->places[index];
}

bool gguf_put(GgufWriter *writer, size_t index, const void *data, Failure *failure) {
  struct Place *place = declared(writer, index);
  if (put_part(writer, place, 0, data, place->bytes, failure)) return true;
  gguf_abandon(writer);
  return false;
}

bool gguf_put_f32(GgufWriter *writer, size_t index, const float *values, Failure *failure) {
  struct Place *place = declared(writer, index);
  unsigned char *converted = malloc(CONVERTED_AT_ONCE * sizeof(float)); // no format takes more
  if (!converted) die("out of memory");
  int block = format_block_elements(place->format), bytes = format_block_bytes(place->format);
  bool good = true;
  for (int64_t i = 0; good && i < place->elements; i += CONVERTED_AT_ONCE) {
    int64_t count = place->elements - i < CONVERTED_AT_ONCE ? place->elements - i : CONVERTED_AT_ONCE;
    if (!weights_write_f32(place->format, values + i, count, converted))
      die("%s is not written from f32", format_name(place->format));
    good = put_part(writer, place, (size_t)(i / block * bytes), converted, (size_t)(count / block * bytes),
                    failure);
  }
  free(converted);
  if (!good) gguf_abandon(writer);
  return good;
}

bool gguf_finish(GgufWriter *writer, Failure *failure) {
  size_t whole = 0; // how far the tensors reach
  for (size_t i = 0; i < writer->count; i++) {
    const struct Place *place = &writer->places[i];
    if (!place->put) die("tensor %zu was declared but never put", i);
    if (place->bytes && place->offset + place->bytes > whole) whole = place->offset + place->bytes;
  }
  static const char padding[GGUF_WRITE_ALIGNMENT];
  bool good = !whole || whole == writer->end ||
              replacement_write(&writer->replacement, whole, padding, writer->end - whole, failure);
  good = good && replacement_commit(&writer->replacement, failure);
  gguf_abandon(writer);
  return good;
}

void gguf_abandon(GgufWriter *writer) {
  if (!writer) return;
  replacement_abandon(&writer->replacement);
  free(writer->places);
  free(writer);
}
