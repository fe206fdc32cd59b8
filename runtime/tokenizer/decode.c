// Ids -> text that is valid UTF-8 at any moment.
#include "runtime/tokenizer/parts.h"

static const char replacement_character[] = "\xef\xbf\xbd";

static int sequence_length(unsigned char lead) {
  return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

// Whether `byte` may come second after `lead`: rules out overlong forms, surrogates and what is beyond
// U+10FFFF.
static bool second_fits(unsigned char lead, unsigned char byte) {
  unsigned char least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  unsigned char most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  return byte >= least && byte <= most;
}

size_t character_length(const char *text, size_t length) {
  const unsigned char *bytes = (const unsigned char *)text;
  size_t expected = length ? (size_t)sequence_length(bytes[0]) : 0;
  if (expected > length) return 0;
  for (size_t i = 1; i < expected; i++)
    if (i == 1 ? !second_fits(bytes[0], bytes[1]) : (bytes[i] & 0xc0) != 0x80) return 0;
  return expected;
}

bool is_text(const char *text, size_t length) {
  for (size_t at = 0, size; at < length; at += size)
    if (!text[at] || !(size = character_length(text + at, length - at))) return false;
  return true;
}

static void decode_byte(Decoder *decoder, unsigned char byte, Text *out) {
  if (decoder->held_count) {
    bool fits = decoder->held_count == 1 ? second_fits(decoder->held[0], byte) : (byte & 0xc0) == 0x80;
    if (!fits) tokenizer_decode_end(decoder, out);
  }
  if (!decoder->held_count && !sequence_length(byte)) {
    text_add(out, replacement_character, 3);
    return;
  }
  decoder->held[decoder->held_count++] = byte;
  if (decoder->held_count < sequence_length(decoder->held[0])) return;
  text_add(out, (const char *)decoder->held, (size_t)decoder->held_count);
  decoder->held_count = 0;
}

void tokenizer_decode(const Tokenizer *tokenizer, Decoder *decoder, int32_t id, bool specials, Text *out) {
  if (tokenizer_is_special(tokenizer, id) && !specials) return;
  size_t length;
  const char *bytes = tokenizer_bytes(tokenizer, id, &length);
  size_t at = 0;
  while (!decoder->begun && at < length && at < tokenizer->drop_spaces && bytes[at] == ' ') at++;
  decoder->begun |= length > 0;
  for (; at < length; at++) decode_byte(decoder, (unsigned char)bytes[at], out);
}

void tokenizer_decode_end(Decoder *decoder, Text *out) {
  if (decoder->held_count) text_add(out, replacement_character, 3);
  decoder->held_count = 0;
}
