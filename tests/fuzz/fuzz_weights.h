// What the fuzz targets of weight files share: every tensor of an accepted file is read to its last element,
// by the dequantiser and by its bytes, and is found under its name.
#ifndef VLMC_TESTS_FUZZ_WEIGHTS_H
#define VLMC_TESTS_FUZZ_WEIGHTS_H

#include <stdint.h>
#include <stdlib.h>

#include "runtime/weights/weights.h"

static inline void read_weights(const uint8_t *bytes, size_t size) {
  WeightFile file;
  Failure failure;
  if (!weights_parse(bytes, size, "fuzzed", &file, &failure)) return;
  volatile unsigned sum = 0; // so that the bytes are needed
  for (size_t i = 0; i < file.count; i++) {
    const WeightTensor *tensor = &file.tensors[i];
    if (weights_find(&file, tensor->name) != tensor) abort(); // two of one name
    for (size_t b = 0; b < tensor->bytes; b++) sum += ((const uint8_t *)tensor->data)[b];
    float values[64];
    for (int64_t at = 0; at < tensor->elements; at += 64)
      weights_read_f32(tensor, at, tensor->elements - at < 64 ? tensor->elements - at : 64, values);
  }
  weights_close(&file);
}

#endif
