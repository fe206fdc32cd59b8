// Fuzz target: any bytes as a tokenizer's file. What is accepted encodes every text, decodes to valid UTF-8,
// and prints as a tokenizer.json that is accepted again and prints the same.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

// Whether nothing on the way may change or drop bytes.
static bool keeps_bytes(const Tokenizer *tokenizer) {
  const char *type = json_string_value(json_object_get(tokenizer->pre_tokenizer_json, "type"));
  bool keeps = tokenizer->byte_level && !tokenizer->normalizer_json && !*tokenizer->suffix && type &&
               !strcmp(type, "ByteLevel") && !tokenizer->drop_spaces &&
               !json_is_true(json_object_get(tokenizer->pre_tokenizer_json, "add_prefix_space"));
  const char *decoder = json_string_value(json_object_get(tokenizer->decoder_json, "type"));
  keeps &= !tokenizer->decoder_json || (decoder && !strcmp(decoder, "ByteLevel"));
  for (int byte = 0; byte < 256; byte++) keeps &= tokenizer->bytes[byte] >= 0;
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    keeps &= !token->added || !(token->strip_left || token->strip_right || token->known);
  }
  return keeps;
}

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
  for (size_t at = 0, size; at < decoded.length; at += size)
    if (!(size = character_length(decoded.bytes + at, decoded.length - at))) abort();
  if (keeps_bytes(tokenizer) && (joined.length != length || (length && memcmp(joined.bytes, text, length))))
    abort();
  ids_free(&ids);
  text_free(&joined);
  text_free(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char text[] = "Ab 12\n\n  don't \xe4\xb8\xad\xf0\x9f\xa6\x99 <|end|> \xff\xe4";
  Tokenizer *tokenizer, *again;
  Failure failure;
  if (!tokenizer_parse(bytes, size, "fuzzed", &tokenizer, &failure)) return 0;
  Text json = {0}, other = {0};
  tokenizer_print(tokenizer, &json);
  if (!tokenizer_parse(json.bytes, json.length, "printed", &again, &failure)) die("%s", failure.message);
  tokenizer_print(again, &other);
  if (strcmp(json.bytes, other.bytes)) abort();
  check_bytes(tokenizer, text, sizeof text - 1, true);
  check_bytes(again, (const char *)bytes, size < 2000 ? size : 2000, false);
  text_free(&json);
  text_free(&other);
  tokenizer_free(tokenizer);
  tokenizer_free(again);
  return 0;
}
