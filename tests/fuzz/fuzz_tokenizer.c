// Fuzz target: any bytes as a tokenizer.json. What is accepted encodes every text so that it decodes to
// itself, and prints in a form that is accepted again.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/tokenizer.h"

static void check_bytes(const Tokenizer *tokenizer, const char *text, size_t length, bool specials) {
  Ids ids = {0};
  Text joined = {0}, decoded = {0};
  Decoder decoder = {0};
  tokenizer_encode(tokenizer, text, length, specials, &ids);
  for (size_t i = 0; i < ids.count; i++) {
    size_t count;
    const char *bytes = tokenizer_bytes(tokenizer, ids.list[i], &count);
    text_add(&joined, bytes, count);
    tokenizer_decode(tokenizer, &decoder, ids.list[i], true, &decoded);
  }
  tokenizer_decode_end(&decoder, &decoded);
  if (joined.length != length || (length && memcmp(joined.bytes, text, length))) abort();
  ids_free(&ids);
  text_free(&joined);
  text_free(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char text[] = "Ab 12\n\n  don't \xe4\xb8\xad\xf0\x9f\xa6\x99 <|end|> \xff\xe4";
  Tokenizer *tokenizer, *again;
  Failure failure;
  if (!tokenizer_parse((const char *)bytes, size, "fuzzed", &tokenizer, &failure)) return 0;
  Text json = {0};
  tokenizer_print(tokenizer, &json);
  if (!tokenizer_parse(json.bytes, json.length, "printed", &again, &failure)) abort();
  if (!strstr(json.bytes, "NFC")) { // which may change what is written
    check_bytes(tokenizer, text, sizeof text - 1, true);
    check_bytes(tokenizer, (const char *)bytes, size < 2000 ? size : 2000, false);
  }
  text_free(&json);
  tokenizer_free(tokenizer);
  tokenizer_free(again);
  return 0;
}
