// What the machine can do at most, measured by loops that do nothing else: multiply-adds, reading what lies in each
// of its caches and in memory, and launches of nothing. Input: threads; output: rates.
#ifndef VLMC_RUNTIME_MACHINE_H
#define VLMC_RUNTIME_MACHINE_H

#include "runtime/threads.h"

typedef struct MachineLevel {
  double bytes; // that it holds for all threads together; memory: infinite
  double rate;  // bytes per second that all threads together read from it
} MachineLevel;

enum { MACHINE_MOST_LEVELS = 4 };

typedef struct MachineLimits {
  int threads;
  const char *instructions; // of the multiply-adds: "AVX-512"
  double flops;             // per second, f32, all threads; 0: not known for this kind of processor
  double pair_flops;        // of bf16 by bf16, where the machine has products of pairs; else the same
  MachineLevel levels[MACHINE_MOST_LEVELS]; // caches that are larger than a thread's first, then memory
  int level_count;
  double launch, call; // seconds of a launch on all threads, and of one that a single thread does
} MachineLimits;

// Takes about a fifth of a second. False: threads or memory can not be had.
bool machine_measure(int threads, MachineLimits *limits);

// One measurement each. GFLOP/s while doing about so much, in f32 or (pairs) in bf16 where the machine has products of
// these, 0: not known; GB/s from reading all of it once.
double machine_compute(Threads *threads, double gflop, bool pairs);
double machine_read(Threads *threads, const void *memory, size_t bytes);

#endif
