// Features <-> the bytes that are kept of them.
#include "runtime/feature_code.h"

#include <math.h>
#include <string.h>

const char *const feature_code_names[FEATURE_CODE_COUNT] = {"f32", "f16", "int8"};

static const float F16_LARGEST = 65504;

static bool is_kept_whole(const FeatureShape *shape, FeatureCode code) {
  return code == FEATURE_F32 || (shape->dtype != DTYPE_F32 && shape->dtype != DTYPE_BF16);
}

static float load(DType dtype, const void *values, size_t index) {
  return dtype == DTYPE_F32 ? ((const float *)values)[index]
                            : bf16_to_float(((const uint16_t *)values)[index]);
}

static void store(DType dtype, void *values, size_t index, float value) {
  if (dtype == DTYPE_F32)
    ((float *)values)[index] = value;
  else
    ((uint16_t *)values)[index] = bf16_from_float(value);
}

size_t feature_bytes(const FeatureShape *shape, FeatureCode code) {
  if (is_kept_whole(shape, code)) return shape->count * dtype_bytes(shape->dtype);
  if (code == FEATURE_F16) return shape->count * sizeof(uint16_t);
  return shape->count / shape->vector * sizeof(float) + shape->count;
}

static bool encode_f16(const FeatureShape *shape, const void *values, uint16_t *kept) {
  for (size_t i = 0; i < shape->count; i++) {
    float value = load(shape->dtype, values, i);
    if (!(fabsf(value) <= F16_LARGEST)) return false;
    kept[i] = f16_from_float(value);
  }
  return true;
}

// All scales stand before all multiples.
static bool encode_int8(const FeatureShape *shape, const void *values, void *kept) {
  size_t vectors = shape->count / shape->vector;
  int8_t *multiples = (int8_t *)kept + vectors * sizeof(float);
  for (size_t v = 0; v < vectors; v++) {
    size_t first = v * shape->vector;
    float largest = 0;
    for (size_t i = first; i < first + shape->vector; i++) {
      float magnitude = fabsf(load(shape->dtype, values, i));
      if (!isfinite(magnitude)) return false;
      largest = fmaxf(largest, magnitude);
    }
    float scale = largest / 127;
    memcpy((char *)kept + v * sizeof scale, &scale, sizeof scale);
    // A scale so small that it has lost bits, or all of them, must not take multiples beyond 127.
    for (size_t i = first; i < first + shape->vector; i++) {
      float multiple = scale > 0 ? rintf(load(shape->dtype, values, i) / scale) : 0;
      multiples[i] = (int8_t)fmaxf(-127, fminf(127, multiple));
    }
  }
  return true;
}

bool feature_encode(const FeatureShape *shape, FeatureCode code, const void *values, void *kept) {
  if (!is_kept_whole(shape, code))
    return code == FEATURE_F16 ? encode_f16(shape, values, kept) : encode_int8(shape, values, kept);
  memcpy(kept, values, feature_bytes(shape, code));
  return true;
}

void feature_decode(const FeatureShape *shape, FeatureCode code, const void *kept, void *values) {
  if (is_kept_whole(shape, code)) {
    memcpy(values, kept, feature_bytes(shape, code));
    return;
  }
  if (code == FEATURE_F16) {
    for (size_t i = 0; i < shape->count; i++)
      store(shape->dtype, values, i, f16_to_float(((const uint16_t *)kept)[i]));
    return;
  }
  size_t vectors = shape->count / shape->vector;
  const int8_t *multiples = (const int8_t *)kept + vectors * sizeof(float);
  for (size_t v = 0; v < vectors; v++) {
    float scale;
    memcpy(&scale, (const char *)kept + v * sizeof scale, sizeof scale);
    for (size_t i = v * shape->vector; i < (v + 1) * shape->vector; i++)
      store(shape->dtype, values, i, (float)multiples[i] * scale);
  }
}
