// Element types: the columns of dtype.def, and the 16-bit floats.
#include "runtime/base/dtype.h"

#include <math.h>
#include <string.h>

static const struct {
  const char *name, *c, *cuda, *safetensors;
  size_t bytes;
} rows[DTYPE_COUNT] = {
#define DTYPE(enumerator, name, bytes, c, cuda, safetensors) {name, c, cuda, safetensors, bytes},
#include "runtime/base/dtype.def"
#undef DTYPE
};

const char *dtype_name(DType dtype) { return rows[dtype].name; }
const char *dtype_c(DType dtype) { return rows[dtype].c; }
const char *dtype_cuda(DType dtype) { return rows[dtype].cuda; }
const char *dtype_safetensors(DType dtype) { return rows[dtype].safetensors; }
size_t dtype_bytes(DType dtype) { return rows[dtype].bytes; }

bool dtype_is_float(DType dtype) {
  return dtype == DTYPE_BF16 || dtype == DTYPE_F16 || dtype == DTYPE_F32 || dtype == DTYPE_F64;
}

bool dtype_from_name(const char *name, DType *out) {
  for (int i = 0; i < DTYPE_COUNT; i++)
    if (!strcmp(rows[i].name, name)) return *out = (DType)i, true;
  return false;
}

bool dtype_from_safetensors(const char *name, DType *out) {
  for (int i = 0; i < DTYPE_COUNT; i++)
    if (!strcmp(rows[i].safetensors, name)) return *out = (DType)i, true;
  return false;
}

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

uint16_t bf16_from_float(float value) {
  uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)((bits >> 16) | 0x40); // quiet NaN
  return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float bf16_to_float(uint16_t bits) { return float_of((uint32_t)bits << 16); }

uint16_t f16_from_float(float value) {
  uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // rounds to infinity
  if (magnitude < 0x38800000) {                                  // subnormal: let the FPU round
    float scaled = float_of(magnitude) * 16777216.0f;            // 2^24: one unit is the last place
    return (uint16_t)(sign | (uint32_t)nearbyintf(scaled));
  }
  uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return (uint16_t)(sign | ((rounded - 0x38000000) >> 13));
}

float f16_to_float(uint16_t bits) {
  uint32_t sign = (uint32_t)(bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return float_of(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) return float_of(sign | bits_of((float)fraction / 16777216.0f));
  return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

double dtype_load(DType dtype, const void *base, int64_t index) {
  switch (dtype) {
  case DTYPE_BOOL:
  case DTYPE_U8: return ((const uint8_t *)base)[index];
  case DTYPE_I32: return ((const int32_t *)base)[index];
  case DTYPE_I64: return (double)((const int64_t *)base)[index];
  case DTYPE_BF16: return (double)bf16_to_float(((const uint16_t *)base)[index]);
  case DTYPE_F16: return (double)f16_to_float(((const uint16_t *)base)[index]);
  case DTYPE_F32: return (double)((const float *)base)[index];
  case DTYPE_F64: return ((const double *)base)[index];
  case DTYPE_COUNT: break;
  }
  return 0;
}

void dtype_store(DType dtype, void *base, int64_t index, double value) {
  switch (dtype) {
  case DTYPE_BOOL:
  case DTYPE_U8: ((uint8_t *)base)[index] = (uint8_t)value; return;
  case DTYPE_I32: ((int32_t *)base)[index] = (int32_t)value; return;
  case DTYPE_I64: ((int64_t *)base)[index] = (int64_t)value; return;
  case DTYPE_BF16: ((uint16_t *)base)[index] = bf16_from_float((float)value); return;
  case DTYPE_F16: ((uint16_t *)base)[index] = f16_from_float((float)value); return;
  case DTYPE_F32: ((float *)base)[index] = (float)value; return;
  case DTYPE_F64: ((double *)base)[index] = value; return;
  case DTYPE_COUNT: return;
  }
}
