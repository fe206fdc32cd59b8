// Fuzz target: any bytes as what torch.save wrote; also as the pickle in it, which else hides behind the
// archive.
#include "fuzz_weights.h"

#include "runtime/weights/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  read_weights(bytes, size);
  Arena *arena = arena_new();
  Failure failure;
  for (size_t at = 0; at < size;) {
    Pickle pickle;
    if (!pickle_read(bytes, size, &at, "fuzzed", arena, &pickle, &failure)) break;
    if (!pickle.root) abort();
  }
  arena_free(arena);
  return 0;
}
