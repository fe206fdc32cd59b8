// The least time that a machine needs for a program's launches: by their FLOPs; by the bytes that they move, each
// buffer's from the nearest level of memory that can still hold it; and by launching at all. Input: a program with
// its kernels, the sizes of a run, what the machine can do (runtime/machine.h); output: seconds per launch.
#ifndef VLMC_COMPILER_ROOFLINE_H
#define VLMC_COMPILER_ROOFLINE_H

#include "compiler/lower/lower.h"
#include "runtime/machine.h"

typedef enum Bound { BOUND_COMPUTE, BOUND_MEMORY, BOUND_CACHE, BOUND_LAUNCH, BOUND_COUNT } Bound;
extern const char *const bound_names[BOUND_COUNT];

typedef struct LaunchCost {
  double flops, bytes;
  double least; // seconds, of the slowest of its bounds; 0: not known
  Bound bound;
} LaunchCost;

// Buffers are taken to stay in a cache as long as all that was touched since then fits into it; runs follow one
// another. `limits` NULL or without a peak: no time, FLOPs and bytes alone.
void roofline(const Lowered *lowered, const int64_t symbols[SYMBOL_COUNT], const MachineLimits *limits,
              LaunchCost *costs);

#endif
