// What the machine can do at most, measured: multiply-adds of a loop that does nothing else, and bytes of a loop that
// only reads. Input: a pool of threads; output: GFLOP/s, GB/s.
#ifndef VLMC_BENCH_MACHINE_H
#define VLMC_BENCH_MACHINE_H

#include "runtime/base/clock.h"
#include "runtime/threads.h"

#include <stdbool.h>
#include <stddef.h>

#if defined(__x86_64__)
// Sixteen independent chains of fused multiply-adds; returns FLOPs.
#define CHAIN(operation, register, number)                                                                   \
  operation " %%" register "30, %%" register "31, %%" register number "\n\t"
#define CHAIN_LOW(operation, register, number)                                                               \
  operation " %%" register "14, %%" register "15, %%" register number "\n\t"
__attribute__((target("avx512f"))) static double chains_512(int64_t rounds) {
  int64_t left = rounds;
#define EACH(n) CHAIN("vfmadd231ps", "zmm", #n)
  __asm__ volatile("1:\n\t" EACH(0) EACH(1) EACH(2) EACH(3) EACH(4) EACH(5) EACH(6) EACH(7) EACH(8) EACH(9)
                       EACH(10) EACH(11) EACH(12) EACH(13) EACH(14) EACH(15) "dec %0\n\tjnz 1b"
                   : "+r"(left)::"zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8",
                     "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15");
#undef EACH
  return (double)rounds * 16 * 16 * 2;
}
// The same with pairs of bf16.
__attribute__((target("avx512f,avx512bf16"))) static double chains_pairs(int64_t rounds) {
  int64_t left = rounds;
#define EACH(n) CHAIN("vdpbf16ps", "zmm", #n)
  __asm__ volatile("1:\n\t" EACH(0) EACH(1) EACH(2) EACH(3) EACH(4) EACH(5) EACH(6) EACH(7) EACH(8) EACH(9)
                       EACH(10) EACH(11) EACH(12) EACH(13) EACH(14) EACH(15) "dec %0\n\tjnz 1b"
                   : "+r"(left)::"zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8",
                     "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15");
#undef EACH
  return (double)rounds * 16 * 16 * 4;
}
__attribute__((target("avx2,fma"))) static double chains_256(int64_t rounds) {
  int64_t left = rounds;
#define EACH(n) CHAIN_LOW("vfmadd231ps", "ymm", #n)
  __asm__ volatile("1:\n\t" EACH(0) EACH(1) EACH(2) EACH(3) EACH(4) EACH(5) EACH(6) EACH(7) EACH(8) EACH(9)
                       EACH(10) EACH(11) "dec %0\n\tjnz 1b"
                   : "+r"(left)::"ymm0", "ymm1", "ymm2", "ymm3", "ymm4", "ymm5", "ymm6", "ymm7", "ymm8",
                     "ymm9", "ymm10", "ymm11");
#undef EACH
  return (double)rounds * 12 * 8 * 2;
}
static double chains(int64_t rounds, bool pairs) {
  if (pairs && __builtin_cpu_supports("avx512bf16")) return chains_pairs(rounds);
  if (__builtin_cpu_supports("avx512f")) return chains_512(rounds);
  return __builtin_cpu_supports("fma") ? chains_256(rounds) : 0;
}
#else
static double chains(int64_t rounds, bool pairs) {
  (void)rounds, (void)pairs;
  return 0; // not known here: rows are printed without a ratio
}
#endif

typedef long Wide __attribute__((vector_size(64), aligned(64)));
typedef struct Reading {
  const Wide *memory;
  int64_t count; // of Wides, per task
} Reading;

typedef struct Computing {
  int64_t rounds;
  bool pairs;
} Computing;

static void compute_task(void *context, int worker, int64_t begin, int64_t end) {
  const Computing *computing = context;
  (void)worker;
  for (; begin < end; begin++) chains(computing->rounds, computing->pairs);
}

static void read_task(void *context, int worker, int64_t begin, int64_t end) {
  const Reading *reading = context;
  (void)worker;
  for (; begin < end; begin++) {
    const Wide *from = reading->memory + begin * reading->count;
    Wide sums[8] = {{0}};
    for (int64_t i = 0; i + 8 <= reading->count; i += 8)
      for (int k = 0; k < 8; k++) sums[k] ^= from[i + k];
    for (int k = 1; k < 8; k++) sums[0] ^= sums[k];
    __asm__ volatile("" ::"r"(&sums[0]) : "memory");
  }
}

// GFLOP/s while doing about so much, in f32 or (pairs) in bf16 where the machine has products of these; 0: not known
// for this machine.
static inline double machine_compute(Threads *threads, double gflop, bool pairs) {
  int64_t tasks = threads_count(threads);
  double each = chains(1, pairs);
  Computing computing = {each > 0 ? 1 + (int64_t)(gflop * 1e9 / (each * (double)tasks)) : 1, pairs};
  double start = clock_now();
  threads_run(threads, tasks, compute_task, &computing);
  return (double)tasks * each * (double)computing.rounds / (clock_now() - start) * 1e-9;
}

// GB/s
static inline double machine_read(Threads *threads, const void *memory, size_t bytes) {
  enum { PIECES = 64 };
  Reading reading = {memory, (int64_t)(bytes / PIECES / sizeof(Wide))};
  double start = clock_now();
  threads_run(threads, PIECES, read_task, &reading);
  return (double)PIECES * (double)reading.count * sizeof(Wide) / (clock_now() - start) * 1e-9;
}

#endif
