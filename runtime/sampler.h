// From logits to the next token.
#ifndef VLMC_RUNTIME_SAMPLER_H
#define VLMC_RUNTIME_SAMPLER_H

#include <stddef.h>
#include <stdint.h>

typedef struct Sampler {
  double temperature; // 0: always the likeliest token (the lowest id among equals)
  int64_t top_k;      // 0: all
  double top_p;       // 1: all; nucleus sampling (Holtzman et al. 2020)
  uint64_t state;     // of the generator: start with the seed
} Sampler;

// logits: [vocabulary]. NaN counts as -inf. Never fails: where nothing is finite it takes token 0.
int32_t sampler_next(Sampler *sampler, const float *logits, int32_t vocabulary);

#endif
