// GGUF files, versions 2 and 3, little endian: typed metadata, then tensors in plain or quantised formats.
//
//   "GGUF" | u32 version | u64 tensors | u64 metadata | per metadata: string key, u32 type, value
//   | per tensor: string name, u32 rank, u64 extents (innermost first), u32 format, u64 offset
//   | padding | the tensors' bytes, each aligned to "general.alignment" (32 where it is absent)
//
// A string is a u64 length and its bytes; an array a u32 type, a u64 count and the elements.
#ifndef VLMC_WEIGHTS_GGUF_H
#define VLMC_WEIGHTS_GGUF_H

#include "runtime/base/text.h"
#include "runtime/weights/format.h"

typedef enum GgufType { // as numbered in files
  GGUF_U8,
  GGUF_I8,
  GGUF_U16,
  GGUF_I16,
  GGUF_U32,
  GGUF_I32,
  GGUF_F32,
  GGUF_BOOL,
  GGUF_STRING,
  GGUF_ARRAY, // of a value: never; the value's type is its elements', and `array` is set
  GGUF_U64,
  GGUF_I64,
  GGUF_F64,
  GGUF_TYPE_COUNT
} GgufType;

typedef struct GgufString { // any bytes, not NUL-terminated
  const char *bytes;
  size_t length;
} GgufString;

typedef struct GgufValue {
  const char *key;
  GgufType type;
  bool array;
  size_t count;              // of elements; 1 where it is no array
  const GgufString *strings; // `count` of them where type is GGUF_STRING
  const void *numbers; // else the packed elements, little endian and perhaps badly aligned: use gguf_number
} GgufValue;

typedef struct Gguf {
  const char *path;
  uint32_t version;
  GgufValue *values; // in the order of the file
  size_t value_count;
  WeightTensor *tensors; // in the order of the file, their extents turned to outermost first
  size_t count;
  struct GgufStorage *storage;
} Gguf;

// Checked: counts against the bytes that are there, types, no key or name twice, ranks (at most 4), formats,
// alignment, byte ranges within the file and without overlap.
bool gguf_open(const char *path, Gguf *file, Failure *failure);
// The same from bytes that the caller keeps alive (`name` is used in messages).
bool gguf_parse(const unsigned char *bytes, size_t size, const char *name, Gguf *file, Failure *failure);
void gguf_close(Gguf *file);            // accepts a zeroed one
bool gguf_recognised(const char *path); // a file that begins as one

const GgufValue *gguf_find(const Gguf *file, const char *key); // NULL: none

// Element `index` of a value that is no text; 64-bit integers are exact in gguf_integer alone, which gives 0
// for what no int64_t holds.
double gguf_number(const GgufValue *value, size_t index);
int64_t gguf_integer(const GgufValue *value, size_t index);

// Metadata that must be there, in the type asked for: else a failure that names the file, the key and what
// was found. Any integer type is an integer, any number a number.
bool gguf_get_string(const Gguf *file, const char *key, GgufString *out, Failure *failure);
bool gguf_get_integer(const Gguf *file, const char *key, int64_t *out, Failure *failure);
bool gguf_get_number(const Gguf *file, const char *key, double *out, Failure *failure);
bool gguf_get_bool(const Gguf *file, const char *key, bool *out, Failure *failure);
bool gguf_get_strings(const Gguf *file, const char *key, const GgufString **out, size_t *count,
                      Failure *failure);
bool gguf_get_numbers(const Gguf *file, const char *key, const GgufValue **out, Failure *failure); // an array

// Writing. First the metadata, in order:
typedef struct GgufMetadata {
  Text bytes;
  uint64_t count;
} GgufMetadata;
void gguf_add_string(GgufMetadata *metadata, const char *key, const char *value);
void gguf_add_u32(GgufMetadata *metadata, const char *key, uint32_t value);
void gguf_add_f32(GgufMetadata *metadata, const char *key, float value);
void gguf_add_bool(GgufMetadata *metadata, const char *key, bool value);
void gguf_add_strings(GgufMetadata *metadata, const char *key, const GgufString *values, size_t count);
void gguf_add_i32s(GgufMetadata *metadata, const char *key, const int32_t *values, size_t count);
void gguf_add_f32s(GgufMetadata *metadata, const char *key, const float *values, size_t count);
void gguf_metadata_free(GgufMetadata *metadata);

// Then all tensors are declared (name, format, rank, extents outermost first; the rest is not looked at), the
// values of each put in any order, and the file finished. Failing anywhere, finish included, leaves whatever
// bore the name as it was and frees the writer.
typedef struct GgufWriter GgufWriter;
bool gguf_create(const char *path, const GgufMetadata *metadata, const WeightTensor *tensors, size_t count,
                 GgufWriter **writer, Failure *failure);
bool gguf_put(GgufWriter *writer, size_t index, const void *data, Failure *failure); // bytes of the format
bool gguf_put_f32(GgufWriter *writer, size_t index, const float *values, Failure *failure); // converts them
bool gguf_finish(GgufWriter *writer, Failure *failure);
void gguf_abandon(GgufWriter *writer); // accepts NULL

#endif
