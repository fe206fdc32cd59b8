// GPT-2's spelling of bytes: printable Latin-1 bytes are themselves, the other 68 are U+0100 and up in order.
#include <string.h>

#include "runtime/tokenizer/parts.h"

static bool spells_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

static int code_point(unsigned char byte) {
  if (spells_itself(byte)) return byte;
  int others = 0;
  for (int i = 0; i < byte; i++) others += !spells_itself(i);
  return 256 + others;
}

static int byte_of(int code) {
  if (code < 256) return spells_itself(code) ? code : -1;
  int others = code - 256;
  for (int byte = 0; byte < 256; byte++)
    if (!spells_itself(byte) && others-- == 0) return byte;
  return -1;
}

unsigned char byte_level_nth(int index) {
  for (int code = 0, seen = 0;; code++)
    if (byte_of(code) >= 0 && seen++ == index) return (unsigned char)byte_of(code);
}

void byte_level_spell(Text *out, const char *bytes, size_t length) {
  for (size_t i = 0; i < length; i++) {
    int code = code_point((unsigned char)bytes[i]);
    char utf8[2] = {(char)(0xc0 | code >> 6), (char)(0x80 | (code & 63))};
    if (code < 128)
      text_add(out, (char[]){(char)code}, 1);
    else
      text_add(out, utf8, 2);
  }
}

bool byte_level_read(const char *spelling, size_t spelled, Arena *arena, char **bytes, size_t *length) {
  *bytes = arena_alloc(arena, spelled + 1);
  *length = 0;
  for (size_t at = 0; at < spelled;) {
    int code = (unsigned char)spelling[at++];
    if (code >= 0xc0 && code < 0xe0 && at < spelled && (spelling[at] & 0xc0) == 0x80)
      code = (code & 31) << 6 | (spelling[at++] & 63);
    else if (code >= 128)
      return false;
    int byte = byte_of(code);
    if (byte < 0) return false;
    (*bytes)[(*length)++] = (char)byte;
  }
  return true;
}
