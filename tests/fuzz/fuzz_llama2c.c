// Fuzz target: any bytes as a llama2.c file.
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  read_weights(bytes, size);
  return 0;
}
