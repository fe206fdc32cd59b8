// Bytes -> 128 bits. Four lanes of 64 bits each take every fourth word in turn (a step is one-to-one in the word and
// in the lane, so that a changed bit always shows), and are mixed at the end with the length and what came before.
#include "runtime/base/hash.h"

#include <string.h>

enum { LANES = 4 };
static const uint64_t odd = UINT64_C(0x9E3779B97F4A7C15);

// One-to-one in both. The second product spreads what the first left in the highest bits alone.
static uint64_t step(uint64_t lane, uint64_t word) {
  uint64_t x = (lane ^ word) * odd;
  return (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
}

static uint64_t rotate(uint64_t x, int by) { return x << by | x >> (64 - by); }

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
  x = (x ^ x >> 32) * UINT64_C(0xD6E8FEB86659FD93);
  return x ^ x >> 32;
}

static uint64_t word_at(const unsigned char *bytes, size_t size) { // what is missing is zero
  uint64_t word = 0;
  memcpy(&word, bytes, size < sizeof word ? size : sizeof word);
  return word;
}

void hash_add(Hash *hash, const void *from, size_t size) {
  const unsigned char *bytes = from;
  uint64_t lanes[LANES];
  for (uint64_t i = 0; i < LANES; i++) lanes[i] = mix(hash->words[i & 1] + (i + 1) * odd);
  size_t at = 0;
  for (; size - at >= sizeof lanes; at += sizeof lanes)
    for (int i = 0; i < LANES; i++) lanes[i] = step(lanes[i], word_at(bytes + at + 8 * i, 8));
  for (int i = 0; at < size; at += 8, i++) lanes[i] = step(lanes[i], word_at(bytes + at, size - at));
  uint64_t a = mix((uint64_t)size), b = a ^ odd;
  for (int i = 0; i < LANES; i++) {
    a = mix((a ^ lanes[i]) * odd);
    b = mix(rotate(b, 17) + lanes[LANES - 1 - i]);
  }
  hash->words[0] = a ^ hash->words[1];
  hash->words[1] = b ^ rotate(a, 31);
}
