// Random numbers without a state: a number is a function of the counters it is drawn for, so that any thread
// at any time, and a run that was resumed, draws the same.
#ifndef VLMC_RUNTIME_COUNTER_H
#define VLMC_RUNTIME_COUNTER_H

#include <stdint.h>

static inline uint64_t counter_mix(uint64_t x) { // splitmix64's finaliser
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

// 64 random bits for (seed, a, b, c).
static inline uint64_t counter_random(uint64_t seed, uint64_t a, uint64_t b, uint64_t c) {
  const uint64_t step = 0x9e3779b97f4a7c15u;
  uint64_t x = counter_mix(seed + step);
  x = counter_mix(x ^ (a + step));
  x = counter_mix(x ^ (b + 2 * step));
  return counter_mix(x ^ (c + 3 * step));
}

// From 64 random bits: 0 ... count-1, evenly (to within count / 2^64).
static inline uint64_t counter_below(uint64_t bits, uint64_t count) {
  return (uint64_t)((unsigned __int128)bits * count >> 64);
}

#endif
