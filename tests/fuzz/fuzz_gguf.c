// Fuzz target: any bytes as a GGUF file. What is accepted can be read whole, its metadata too.
#include <string.h>

#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Gguf file;
  Failure failure;
  read_weights(bytes, size);
  if (!gguf_parse(bytes, size, "fuzzed", &file, &failure)) return 0;
  volatile double sum = 0;
  for (size_t i = 0; i < file.value_count; i++) {
    const GgufValue *value = &file.values[i];
    if (gguf_find(&file, value->key) != value) abort(); // two of one key
    for (size_t k = 0; k < value->count; k++) {
      if (value->type == GGUF_STRING)
        sum += memchr(value->strings[k].bytes, 0, value->strings[k].length) ? 1 : 0;
      else
        sum += gguf_number(value, k) + (double)gguf_integer(value, k);
    }
  }
  gguf_close(&file);
  return 0;
}
