// safetensors files: named tensors in one file. Reading maps the file and checks everything before anyone
// sees a pointer; writing streams tensors into a file that takes its name only when whole.
//
//   u64 n (little endian) | n bytes of JSON: {"name": {"dtype": "F32", "shape": [2, 3],
//   "data_offsets": [0, 24]}, ..., "__metadata__": {"key": "text"}} | the tensors' bytes, without holes
#ifndef VLMC_WEIGHTS_SAFETENSORS_H
#define VLMC_WEIGHTS_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/failure.h"

enum { SAFETENSORS_MAX_RANK = 8, SAFETENSORS_MAX_HEADER = 100 << 20 };

typedef struct SafetensorsTensor {
  const char *name;
  DType dtype;          // DTYPE_COUNT: a type of the format that is not one of ours (`spelling` says which)
  const char *spelling; // "F32", as in the file; ignored when writing
  int rank;
  int64_t extents[SAFETENSORS_MAX_RANK]; // any of them may be 0
  const void *data; // aligned for the dtype, row-major, little endian; valid until the file is closed
  size_t bytes;     // ignored when writing: the extents say it
} SafetensorsTensor;

typedef struct SafetensorsText {
  const char *key, *value;
} SafetensorsText;

typedef struct Safetensors {
  const char *path;
  SafetensorsTensor *tensors; // in the order of their bytes
  size_t count;
  SafetensorsText *metadata;
  size_t metadata_count;
  struct SafetensorsStorage *storage;
} Safetensors;

// Checked: header within the file and the limit, JSON, no name twice, known dtypes, extents whose product
// fits, byte ranges inside the file that agree with dtype and extents, without overlap or hole.
bool safetensors_open(const char *path, Safetensors *file, Failure *failure);
// The same from bytes that the caller keeps alive (`name` is used in messages). For tests and fuzzing.
bool safetensors_parse(const unsigned char *bytes, size_t size, const char *name, Safetensors *file,
                       Failure *failure);
void safetensors_close(Safetensors *file);                                            // accepts a zeroed one
const SafetensorsTensor *safetensors_find(const Safetensors *file, const char *name); // NULL: none
const char *safetensors_metadata(const Safetensors *file, const char *key);           // NULL: none

// Writing: declare all tensors (their `data` is not looked at), put the bytes of each in any order, finish.
// Failing anywhere, finish included, leaves whatever bore the name as it was and frees the writer.
typedef struct SafetensorsWriter SafetensorsWriter;
bool safetensors_create(const char *path, const SafetensorsTensor *tensors, size_t count,
                        const SafetensorsText *metadata, size_t metadata_count, SafetensorsWriter **writer,
                        Failure *failure);
bool safetensors_put(SafetensorsWriter *writer, size_t index, const void *data, Failure *failure);
bool safetensors_finish(SafetensorsWriter *writer, Failure *failure);
void safetensors_abandon(SafetensorsWriter *writer); // accepts NULL

// All at once, with each tensor's `data`.
bool safetensors_write(const char *path, const SafetensorsTensor *tensors, size_t count,
                       const SafetensorsText *metadata, size_t metadata_count, Failure *failure);

#endif
