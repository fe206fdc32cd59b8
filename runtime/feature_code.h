// How features are kept: as they were computed, or narrower.
//
//   f32   as they were computed (those of --dtype bf16 as bf16): training sees the same bits
//   f16   IEEE binary16: within 2^-11 of a value's magnitude, or 2^-25 where that is below 2^-14
//   int8  a scale for each vector of the last axis, its largest magnitude / 127, and whole multiples of it: within
//         1/254 of that largest magnitude
#ifndef VLMC_RUNTIME_FEATURE_CODE_H
#define VLMC_RUNTIME_FEATURE_CODE_H

#include "runtime/base/dtype.h"

typedef enum FeatureCode { FEATURE_F32, FEATURE_F16, FEATURE_INT8, FEATURE_CODE_COUNT } FeatureCode;
extern const char *const feature_code_names[FEATURE_CODE_COUNT];

// One sample's part of a tensor: `count` elements in vectors of `vector`. Whole numbers and bools are kept as they are.
typedef struct FeatureShape {
  DType dtype;
  size_t count, vector;
} FeatureShape;

size_t feature_bytes(const FeatureShape *shape, FeatureCode code); // as kept
// False: a value that the code can not hold (f16: beyond 65504; int8: no finite number).
bool feature_encode(const FeatureShape *shape, FeatureCode code, const void *values, void *kept);
void feature_decode(const FeatureShape *shape, FeatureCode code, const void *kept, void *values);

#endif
