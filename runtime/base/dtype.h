// Element types of tensors in memory.
#ifndef VLMC_BASE_DTYPE_H
#define VLMC_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum DType {
#define DTYPE(enumerator, name, bytes, c, cuda, safetensors) DTYPE_##enumerator,
#include "runtime/base/dtype.def"
#undef DTYPE
  DTYPE_COUNT
} DType;

const char *dtype_name(DType dtype);
const char *dtype_c(DType dtype);
const char *dtype_cuda(DType dtype);
const char *dtype_safetensors(DType dtype);
size_t dtype_bytes(DType dtype);
bool dtype_is_float(DType dtype);
bool dtype_from_name(const char *name, DType *out);        // false: no such type
bool dtype_from_safetensors(const char *name, DType *out); // false: no such type

// IEEE 754 binary16 and bfloat16 to and from float; rounding to nearest, ties to even; NaN stays NaN.
uint16_t bf16_from_float(float value);
float bf16_to_float(uint16_t bits);
uint16_t f16_from_float(float value);
float f16_to_float(uint16_t bits);

// One element of a tensor in memory, read and written as double (integers are exact below 2^53).
double dtype_load(DType dtype, const void *base, int64_t index);
void dtype_store(DType dtype, void *base, int64_t index, double value);

#endif
