// A fingerprint of bytes: 128 bits by which contents are told apart, as fast as memory gives them. Against damage
// and chance, not against someone who looks for two contents of one fingerprint.
#ifndef VLMC_BASE_HASH_H
#define VLMC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct Hash {
  uint64_t words[2]; // both 0: nothing was added yet
} Hash;

// The hash of what `hash` stood for, then of these bytes: pieces in order, "ab" + "c" being other than "a" + "bc".
void hash_add(Hash *hash, const void *bytes, size_t size);

#endif
