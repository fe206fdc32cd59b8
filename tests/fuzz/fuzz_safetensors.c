// Fuzz target: any bytes as a safetensors file. Whatever is accepted can be read to its last byte.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/weights/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Safetensors file;
  Failure failure;
  if (!safetensors_parse(bytes, size, "fuzzed", &file, &failure)) return 0;
  unsigned sum = 0;
  for (size_t i = 0; i < file.count; i++) {
    const SafetensorsTensor *tensor = &file.tensors[i];
    for (size_t b = 0; b < tensor->bytes; b++) sum += ((const uint8_t *)tensor->data)[b];
    if (safetensors_find(&file, tensor->name) != tensor) abort(); // two of one name
  }
  safetensors_close(&file);
  return sum == 1 ? -1 : 0; // so that the sum is needed
}
