#include "runtime/tokenizer/parts.h"
// GGUF
bool read_gguf_vocabulary(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                          Failure *failure) {
  (void)tokenizer, (void)bytes, (void)size;
  return fail(failure, "%s: GGUF", place);
}
