// Element formats of weight files and the tensors made of them: what every reader and writer of this room
// speaks. A format lays elements down in blocks: of one element for plain numbers, of 32 or 256 for GGUF's
// quantised formats, where a block runs along the innermost axis and carries its own scale.
#ifndef VLMC_WEIGHTS_FORMAT_H
#define VLMC_WEIGHTS_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/dtype.h"
#include "runtime/base/failure.h"
#include "runtime/base/packing.h"

enum { WEIGHTS_MAX_RANK = 8 };

typedef enum WeightFormat {
#define FORMAT(enumerator, name, elements, bytes, dtype, gguf, read) WEIGHT_##enumerator,
#include "runtime/weights/format.def"
#undef FORMAT
  WEIGHT_FORMAT_COUNT
} WeightFormat;

const char *format_name(WeightFormat format);   // "F32", "Q4_K": as safetensors and GGUF spell them
int format_block_elements(WeightFormat format); // 1, 32 or 256
int format_block_bytes(WeightFormat format);
DType format_dtype(WeightFormat format); // DTYPE_COUNT: in memory there is no such element type
int format_gguf(WeightFormat format);    // its number in GGUF; -1: none
bool format_from_name(const char *name, WeightFormat *out); // false: no such format
bool format_from_gguf(uint32_t number, WeightFormat *out);  // false: no such format

// A tensor of a file that was checked: `bytes` bytes are there to be read.
typedef struct WeightTensor {
  const char *name;
  const char *path; // the file that holds it: of a sharded checkpoint, the shard
  WeightFormat format;
  int rank;
  int64_t extents[WEIGHTS_MAX_RANK]; // outermost first; any may be 0
  int64_t elements;                  // their product; 1 for rank 0
  const void *data;                  // row-major, little endian, aligned for its DType where it has one
  size_t bytes;
} WeightTensor;

// Sets `elements` and `bytes` from format and extents. Fails where an extent is negative, a product overflows
// or the innermost axis is no whole number of blocks; `place` begins the message.
bool format_measure(WeightTensor *tensor, const char *place, Failure *failure);

// Elements [first, first + count) as f32; they must be there. The reference for every faster way: one element
// after the other, straight from the format's definition. Integers above 2^24 are rounded.
void weights_read_f32(const WeightTensor *tensor, int64_t first, int64_t count, float *out);

// The reverse: `count` elements from f32, rounded to nearest (ties to even for floats), as whole blocks.
// False: there is no such writer (only F32, F16, BF16, Q8_0, Q4_0 have one) or count is no whole number of
// blocks. Quantised values are those that ggml's reference quantisers give.
bool weights_write_f32(WeightFormat format, const float *values, int64_t count, void *out);

// `count` elements from f32 into the parts of a packed weight, rounded just so: blocks that came from a file
// of the same format, made by those quantisers, are what they were. False: a block holds infinities, NaN or
// numbers too large for an f16 scale; or count is no whole number of blocks. `scales` is not touched where
// there are none.
bool weights_pack(Packing packing, const float *values, int64_t count, void *packed, uint16_t *scales);

#endif
