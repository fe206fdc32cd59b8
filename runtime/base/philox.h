// Random numbers as a function of a counter (Philox 4x32-10, Salmon et al. 2011): the same on every target
// and in every order of evaluation. (counter, stream, index) -> uniform float in [0, 1).
#ifndef VLMC_BASE_PHILOX_H
#define VLMC_BASE_PHILOX_H

#include <stdint.h>

static inline void philox_block(uint32_t word[4], uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; round++) {
    uint64_t first = (uint64_t)0xD2511F53u * word[0], second = (uint64_t)0xCD9E8D57u * word[2];
    uint32_t next[4] = {(uint32_t)(second >> 32) ^ word[1] ^ key0, (uint32_t)second,
                        (uint32_t)(first >> 32) ^ word[3] ^ key1, (uint32_t)first};
    for (int i = 0; i < 4; i++) word[i] = next[i];
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

// The key is (counter, stream); four neighbouring indices share one block.
static inline float philox_uniform(uint32_t counter, uint32_t stream, int64_t index) {
  uint64_t block = (uint64_t)index / 4;
  uint32_t word[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
  philox_block(word, counter, stream);
  return (float)(word[index & 3] >> 8) * 0x1p-24f;
}

#endif
