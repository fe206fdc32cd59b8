// Loops that do nothing else than what is measured.
#include "runtime/machine.h"

#include "runtime/base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TRIES = 4 }; // of each loop: the best is what the machine can do

// ---- multiply-adds ------------------------------------------------------------------------------

#if defined(__x86_64__)
// Sixteen (twelve) independent chains of fused multiply-adds; returns FLOPs.
#define CHAIN(operation, register, number)                                                                   \
  operation " %%" register "30, %%" register "31, %%" register number "\n\t"
#define CHAIN_LOW(operation, register, number)                                                               \
  operation " %%" register "14, %%" register "15, %%" register number "\n\t"
// Sixteen chains of one operation, which does so many FLOPs in each lane.
#define CHAINS_512(name, features, operation, flops)                                                         \
  __attribute__((target(features))) static double name(int64_t rounds) {                                     \
    int64_t left = rounds;                                                                                   \
    __asm__ volatile(                                                                                        \
        "1:\n\t" CHAIN(operation, "zmm", "0") CHAIN(operation, "zmm", "1") CHAIN(operation, "zmm", "2")      \
            CHAIN(operation, "zmm", "3") CHAIN(operation, "zmm", "4") CHAIN(operation, "zmm", "5")           \
                CHAIN(operation, "zmm", "6") CHAIN(operation, "zmm", "7") CHAIN(operation, "zmm", "8")       \
                    CHAIN(operation, "zmm", "9") CHAIN(operation, "zmm", "10") CHAIN(operation, "zmm", "11") \
                        CHAIN(operation, "zmm", "12") CHAIN(operation, "zmm", "13")                          \
                            CHAIN(operation, "zmm", "14") CHAIN(operation, "zmm", "15") "dec %0\n\tjnz 1b"   \
        : "+r"(left)::"zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9",        \
          "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15");                                             \
    return (double)rounds * 16 * 16 * (flops);                                                               \
  }
CHAINS_512(chains_512, "avx512f", "vfmadd231ps", 2)
CHAINS_512(chains_pairs, "avx512f,avx512bf16", "vdpbf16ps", 4)
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
static const char *chain_instructions(void) {
  if (__builtin_cpu_supports("avx512f")) return "AVX-512";
  return __builtin_cpu_supports("fma") ? "AVX2" : NULL;
}
static double chains(int64_t rounds, bool pairs) {
  if (pairs && __builtin_cpu_supports("avx512bf16")) return chains_pairs(rounds);
  if (__builtin_cpu_supports("avx512f")) return chains_512(rounds);
  return __builtin_cpu_supports("fma") ? chains_256(rounds) : 0;
}
#else
static const char *chain_instructions(void) { return NULL; }
static double chains(int64_t rounds, bool pairs) {
  (void)rounds, (void)pairs;
  return 0; // not known here: whoever asks says so
}
#endif

typedef struct Computing {
  int64_t rounds;
  bool pairs;
} Computing;

static void compute_task(void *context, int worker, int64_t begin, int64_t end) {
  const Computing *computing = context;
  (void)worker;
  for (; begin < end; begin++) chains(computing->rounds, computing->pairs);
}

double machine_compute(Threads *threads, double gflop, bool pairs) {
  int64_t tasks = threads_count(threads);
  double each = chains(1, pairs);
  Computing computing = {each > 0 ? 1 + (int64_t)(gflop * 1e9 / (each * (double)tasks)) : 1, pairs};
  double start = clock_now();
  threads_run(threads, tasks, compute_task, &computing);
  return (double)tasks * each * (double)computing.rounds / (clock_now() - start) * 1e-9;
}

// ---- reading ------------------------------------------------------------------------------------

typedef long Wide __attribute__((vector_size(64), aligned(64)));
typedef struct Reading {
  const Wide *memory;
  int64_t count, repeats; // of Wides per task, a multiple of 8; how often a task reads them
} Reading;

// What is beyond the caches has to be asked for early: the hardware, left to itself, reads a quarter less on one core.
enum { READ_AHEAD = 128 }; // Wides

#define READ_LOOP(name, ahead)                                                                               \
  static long name(const Wide *from, int64_t count) {                                                        \
    Wide a = {0}, b = {0}, c = {0}, d = {0};                                                                 \
    for (int64_t i = 0; i < count; i += 8) {                                                                 \
      for (int k = 0; ahead && k < 8; k++) __builtin_prefetch(from + i + k + READ_AHEAD);                    \
      a ^= from[i], b ^= from[i + 1], c ^= from[i + 2], d ^= from[i + 3];                                    \
      a ^= from[i + 4], b ^= from[i + 5], c ^= from[i + 6], d ^= from[i + 7];                                \
    }                                                                                                        \
    a ^= b ^ c ^ d;                                                                                          \
    return a[0] ^ a[1] ^ a[2] ^ a[3] ^ a[4] ^ a[5] ^ a[6] ^ a[7];                                            \
  }
#if defined(__x86_64__)
__attribute__((target("avx512f"))) READ_LOOP(read_512, false);
__attribute__((target("avx512f"))) READ_LOOP(read_512_ahead, true);
__attribute__((target("avx2"))) READ_LOOP(read_256, false);
__attribute__((target("avx2"))) READ_LOOP(read_256_ahead, true);
#endif
READ_LOOP(read_plain, false);
READ_LOOP(read_plain_ahead, true);

static long read_once(const Wide *from, int64_t count, bool ahead) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return (ahead ? read_512_ahead : read_512)(from, count);
  if (__builtin_cpu_supports("avx2")) return (ahead ? read_256_ahead : read_256)(from, count);
#endif
  return (ahead ? read_plain_ahead : read_plain)(from, count);
}

static void read_task(void *context, int worker, int64_t begin, int64_t end) {
  const Reading *reading = context;
  (void)worker;
  for (; begin < end; begin++)
    for (int64_t r = 0; r < reading->repeats; r++) {
      long sum = read_once(reading->memory + begin * reading->count, reading->count, reading->repeats == 1);
      __asm__ volatile("" ::"r"(sum) : "memory");
    }
}

// Bytes per second. In `pieces` that threads take as they come free; each is read `repeats` times in a row.
static double read_rate(Threads *threads, const void *memory, size_t bytes, int64_t pieces, int64_t repeats) {
  Reading reading = {memory, (int64_t)(bytes / (size_t)pieces / sizeof(Wide)) / 8 * 8, repeats};
  double start = clock_now();
  threads_run(threads, pieces, read_task, &reading);
  double moved = (double)pieces * (double)reading.count * sizeof(Wide) * (double)repeats;
  return moved / (clock_now() - start);
}

double machine_read(Threads *threads, const void *memory, size_t bytes) {
  return read_rate(threads, memory, bytes, 64, 1) * 1e-9;
}

static void touch_task(void *context, int worker, int64_t begin, int64_t end) {
  const Reading *reading = context;
  size_t each = (size_t)reading->count * sizeof(Wide);
  (void)worker;
  memset((char *)reading->memory + (size_t)begin * each, 1, (size_t)(end - begin) * each);
}

// ---- caches -------------------------------------------------------------------------------------

static bool read_line(const char *path, char *line, int size) {
  FILE *file = fopen(path, "re");
  bool good = file && fgets(line, size, file);
  if (file) fclose(file);
  return good;
}

// "ff,0000000f": processors that share a cache.
static int count_bits(const char *mask) {
  int bits = 0;
  for (; *mask; mask++) {
    char digit[2] = {*mask, 0};
    bits += __builtin_popcountl(strtoul(digit, NULL, 16));
  }
  return bits;
}

// What Linux tells of one cache of the first processor: how much of it so many threads have in all.
static bool read_cache(int index, int threads, int *level, double *bytes) {
  char path[96], line[256], unit = 0;
  const char *folder = "/sys/devices/system/cpu/cpu0/cache/index";
  long size = 0;
  snprintf(path, sizeof path, "%s%d/level", folder, index);
  if (!read_line(path, line, sizeof line)) return false;
  *level = atoi(line);
  snprintf(path, sizeof path, "%s%d/size", folder, index);
  if (!read_line(path, line, sizeof line) || sscanf(line, "%ld%c", &size, &unit) < 1) return false;
  snprintf(path, sizeof path, "%s%d/shared_cpu_map", folder, index);
  int shared = read_line(path, line, sizeof line) ? count_bits(line) : 1;
  int caches = shared > 0 ? (threads + shared - 1) / shared : 1;
  *bytes = (double)size * (unit == 'K' ? 0x1p10 : unit == 'M' ? 0x1p20 : 1) * caches;
  return size > 0;
}

static void find_caches(MachineLimits *limits) {
  int level;
  double bytes;
  for (int i = 0; i < 10 && read_cache(i, limits->threads, &level, &bytes); i++) {
    double largest = limits->level_count ? limits->levels[limits->level_count - 1].bytes : 0;
    if (level < 2 || bytes <= largest || limits->level_count == MACHINE_MOST_LEVELS - 1) continue;
    limits->levels[limits->level_count++].bytes = bytes;
  }
}

// ---- all of it ----------------------------------------------------------------------------------

static void nothing_task(void *context, int worker, int64_t begin, int64_t end) {
  (void)context, (void)worker, (void)begin, (void)end;
}

static double launch_seconds(Threads *threads, int64_t tasks) {
  enum { LAUNCHES = 200 };
  double best = INFINITY;
  for (int i = 0; i < TRIES; i++) {
    double start = clock_now();
    for (int k = 0; k < LAUNCHES; k++) threads_run(threads, tasks, nothing_task, NULL);
    best = fmin(best, (clock_now() - start) / LAUNCHES);
  }
  return best;
}

// Half of a cache, over and over; of memory, more than the caches hold, in pieces that nobody reads twice.
static void measure_level(MachineLevel *level, Threads *threads, const char *memory, size_t all) {
  bool cache = isfinite(level->bytes);
  size_t bytes = cache && level->bytes / 2 < (double)all ? (size_t)(level->bytes / 2) : all;
  int64_t pieces = cache ? threads_count(threads) : 64,
          repeats = cache ? 1 + (int64_t)(64e6 / (double)bytes) : 1;
  for (int i = 0; i < TRIES; i++)
    level->rate = fmax(level->rate, read_rate(threads, memory, bytes, pieces, repeats));
}

static bool measure_reading(MachineLimits *limits, Threads *threads) {
  enum { LEAST = 64 << 20, MOST = 512 << 20, PIECES = 64 };
  double caches = limits->level_count ? limits->levels[limits->level_count - 1].bytes : 0;
  size_t bytes = (size_t)fmin(MOST, fmax(LEAST, 4 * caches)) / PIECES / 512 * 512 * PIECES;
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  madvise(memory, bytes, MADV_HUGEPAGE);
  threads_run(threads, PIECES, touch_task, &(Reading){memory, (int64_t)(bytes / PIECES / sizeof(Wide)), 1});
  limits->levels[limits->level_count++].bytes = INFINITY;
  for (int i = 0; i < limits->level_count; i++) measure_level(&limits->levels[i], threads, memory, bytes);
  munmap(memory, bytes);
  return true;
}

bool machine_measure(int threads, MachineLimits *limits) {
  enum { GFLOP = 1 }; // per thread and try
  *limits = (MachineLimits){.threads = threads, .instructions = chain_instructions()};
  Threads *pool = threads_open(threads);
  if (!pool) return false;
  find_caches(limits);
  for (int i = 0; i < TRIES && limits->instructions; i++) {
    limits->flops = fmax(limits->flops, 1e9 * machine_compute(pool, GFLOP * threads, false));
    limits->pair_flops = fmax(limits->pair_flops, 1e9 * machine_compute(pool, GFLOP * threads, true));
  }
  limits->launch = launch_seconds(pool, threads);
  limits->call = launch_seconds(pool, 1);
  bool good = measure_reading(limits, pool);
  threads_close(pool);
  return good;
}
