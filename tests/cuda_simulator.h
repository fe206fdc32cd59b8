// The thread block of a GPU, on the CPU: what CUDA C text means when it is compiled as C++ after this header.
//
//   g++ -fsanitize=thread -c -include tests/cuda_simulator.h -x c++ kernels.cu        (and linked without it)
//   SIMULATE(kernel_name)   defines simulate_kernel_name(blocks, threads, buffers, count, sizes, report, size)
//
// Each thread is a fiber; the order in which they run is fixed. The compiler's thread sanitizer puts a call
// at every access to memory; those calls end here, not in its library, so that every access of the text,
// untouched as it is, is judged:
//   - one outside of all buffers, or a write to a buffer that is only read, is reported with its distance;
//   - an access of four elements that is not aligned to its size is reported;
//   - two threads that meet at one word of shared memory, or of a buffer, one of them writing, with no
//     barrier between;
//   - a barrier or shuffle that some of its threads never reach.
// Shared memory starts every block as NaN. Reports name the kernel's block and thread.
#ifndef VLMC_TESTS_CUDA_SIMULATOR_H
#define VLMC_TESTS_CUDA_SIMULATOR_H

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <utility>

#define UNWATCHED __attribute__((no_sanitize_thread, noinline, unused))

// ---- the language

#define __global__
#define __device__
#define __shared__       static __attribute__((section("simulator_shared")))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
extern "C" char __start_simulator_shared[], __stop_simulator_shared[];
// So that the section is there even if no kernel uses it.
static __attribute__((section("simulator_shared"), used)) int simulator_some_shared;

struct SimulatorDimension {
  unsigned x, y, z;
};
// Four elements that move in one access, whose address is checked.
static void simulator_aligned(const void *address, size_t bytes);
#define SIMULATOR_FOUR(name, type)                                                                           \
  struct alignas(4 * sizeof(type)) name {                                                                    \
    type x, y, z, w;                                                                                         \
    name() {}                                                                                                \
    name(const name &other) : x(other.x), y(other.y), z(other.z), w(other.w) {                               \
      simulator_aligned(&other, sizeof other);                                                               \
    }                                                                                                        \
    name &operator=(const name &other) {                                                                     \
      simulator_aligned(this, sizeof other);                                                                 \
      x = other.x, y = other.y, z = other.z, w = other.w;                                                    \
      return *this;                                                                                          \
    }                                                                                                        \
  };
SIMULATOR_FOUR(float4, float)
SIMULATOR_FOUR(int4, int)
SIMULATOR_FOUR(ushort4, unsigned short)
SIMULATOR_FOUR(uchar4, unsigned char)

// ---- the machine

struct SimulatorBuffer {
  void *memory;
  size_t bytes;
  bool writable;
  const char *name;
};

enum SimulatorStatus { READY, AT_BARRIER, AT_WARP, DONE };

struct SimulatorFiber {
  ucontext_t context;
  SimulatorStatus status;
  unsigned mask; // of the warp operation it waits at
  uint64_t given, received;
  int partner; // lane whose value it wants; -1: the ballot
};

// Who touched a word last: global number of the thread and the time, counted in barriers.
struct SimulatorTouch {
  int writer, write_time, reader, read_time; // threads from 1, 0: nobody
};

struct SimulatorState {
  SimulatorDimension thread, block, grid, size;
  SimulatorFiber *fibers;
  ucontext_t scheduler;
  char *stacks;
  int current = -1, threads, time, vote, vote_result; // current: -1 outside of fibers

  bool failed;
  void (*invoke)(void *);
  void *call;
  const SimulatorBuffer *buffers;
  int buffer_count;
  SimulatorTouch **touched; // per buffer, per byte
  SimulatorTouch *shared;   // per byte
  char *report;
  size_t report_size, report_length;
  int reports;
};
static SimulatorState simulator;
enum { SIMULATOR_STACK = 64 << 10, SIMULATOR_MAX_REPORTS = 5 };

#define threadIdx simulator.thread
#define blockIdx  simulator.block
#define gridDim   simulator.grid
#define blockDim  simulator.size

UNWATCHED static void simulator_report(const char *format, ...) {
  simulator.failed = true;
  if (simulator.reports++ >= SIMULATOR_MAX_REPORTS) return;
  char line[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  size_t left = simulator.report_size - simulator.report_length;
  int wrote = snprintf(simulator.report + simulator.report_length, left, "block %u thread %d: %s\n",
                       simulator.block.x, simulator.current, line);
  if (wrote > 0 && (size_t)wrote < left) simulator.report_length += (size_t)wrote;
}

// Ends the launch: this fiber never goes on, so that what was reported does not happen.
UNWATCHED static void simulator_stop() {
  swapcontext(&simulator.fibers[simulator.current].context, &simulator.scheduler);
}

// ---- judging accesses

UNWATCHED static int simulator_me() {
  return (int)simulator.block.x * simulator.threads + simulator.current + 1;
}

// Was the other's access before mine, or my own?
UNWATCHED static bool simulator_ordered(int other, int when) {
  bool same_block = other && (other - 1) / simulator.threads == (int)simulator.block.x;
  return !other || other == simulator_me() || (same_block && when < simulator.time);
}

UNWATCHED static void simulator_touch(SimulatorTouch *touched, size_t at, size_t bytes, bool write,
                                      const char *name) {
  for (size_t i = at; i < at + bytes; i++) {
    SimulatorTouch *touch = &touched[i];
    int other = 0;
    if (write && !simulator_ordered(touch->reader, touch->read_time)) other = touch->reader;
    if (!simulator_ordered(touch->writer, touch->write_time)) other = touch->writer;
    if (other) {
      simulator_report("race: %s byte %zu of %s, which thread %d of block %d %s without a barrier between",
                       write ? "writes" : "reads", i, name, (other - 1) % simulator.threads,
                       (other - 1) / simulator.threads, other == touch->writer ? "wrote" : "read");
      return;
    }
    if (write)
      touch->writer = simulator_me(), touch->write_time = simulator.time;
    else
      touch->reader = simulator_me(), touch->read_time = simulator.time;
  }
}

UNWATCHED static void simulator_outside(const char *at, size_t bytes, bool write) {
  ptrdiff_t nearest = PTRDIFF_MAX;
  const char *name = "?", *side = "";
  for (int i = 0; i < simulator.buffer_count; i++) {
    const char *begin = (const char *)simulator.buffers[i].memory, *end = begin + simulator.buffers[i].bytes;
    ptrdiff_t distance = at >= end ? at - end : begin - at;
    if (distance < 0) distance = 0;
    if (distance < nearest)
      nearest = distance, name = simulator.buffers[i].name,
      side = at >= end ? "after the end" : "before the start";
  }
  simulator_report("out of bounds: %s %zu bytes, %td bytes %s of %s", write ? "writes" : "reads", bytes,
                   nearest, side, name);
}

UNWATCHED static void simulator_access(const void *address, size_t bytes, bool write) {
  if (simulator.current < 0) return;
  const char *at = (const char *)address;
  const char *stack = simulator.stacks + (size_t)simulator.current * SIMULATOR_STACK;
  if (at >= stack && at + bytes <= stack + SIMULATOR_STACK) return;
  if (at >= (const char *)&simulator && at < (const char *)(&simulator + 1)) return;
  if (at >= __start_simulator_shared && at + bytes <= __stop_simulator_shared) {
    simulator_touch(simulator.shared, (size_t)(at - __start_simulator_shared), bytes, write, "shared memory");
    return;
  }
  for (int i = 0; i < simulator.buffer_count; i++) {
    const SimulatorBuffer *buffer = &simulator.buffers[i];
    const char *begin = (const char *)buffer->memory;
    if (at < begin || at + bytes > begin + buffer->bytes) continue;
    if (write && !buffer->writable) {
      simulator_report("writes to %s, which is only read", buffer->name);
      simulator_stop();
    }
    if (buffer->writable)
      simulator_touch(simulator.touched[i], (size_t)(at - begin), bytes, write, buffer->name);
    return;
  }
  simulator_outside(at, bytes, write);
  simulator_stop();
}

UNWATCHED static void simulator_aligned(const void *address, size_t bytes) {
  if ((uintptr_t)address % bytes == 0) return;
  simulator_report("misaligned: %zu bytes in one access", bytes);
  simulator_stop();
}

// What the thread sanitizer's instrumentation calls.
#define SIMULATOR_HOOK(name, bytes, write)                                                                   \
  extern "C" UNWATCHED void name(void *address) { simulator_access(address, bytes, write); }
SIMULATOR_HOOK(__tsan_read1, 1, false)
SIMULATOR_HOOK(__tsan_read2, 2, false)
SIMULATOR_HOOK(__tsan_read4, 4, false)
SIMULATOR_HOOK(__tsan_read8, 8, false)
SIMULATOR_HOOK(__tsan_read16, 16, false)
SIMULATOR_HOOK(__tsan_write1, 1, true)
SIMULATOR_HOOK(__tsan_write2, 2, true)
SIMULATOR_HOOK(__tsan_write4, 4, true)
SIMULATOR_HOOK(__tsan_write8, 8, true)
SIMULATOR_HOOK(__tsan_write16, 16, true)
extern "C" UNWATCHED void __tsan_read_range(void *address, size_t bytes) {
  simulator_access(address, bytes, false);
}
extern "C" UNWATCHED void __tsan_write_range(void *address, size_t bytes) {
  simulator_access(address, bytes, true);
}
extern "C" UNWATCHED void __tsan_init(void) {}
extern "C" UNWATCHED void __tsan_func_entry(void *) {}
extern "C" UNWATCHED void __tsan_func_exit(void) {}

// ---- barriers and warps

UNWATCHED static void simulator_wait(SimulatorStatus status) {
  SimulatorFiber *fiber = &simulator.fibers[simulator.current];
  fiber->status = status;
  swapcontext(&fiber->context, &simulator.scheduler);
}

UNWATCHED static void __syncthreads() { simulator_wait(AT_BARRIER); }

UNWATCHED static int __syncthreads_or(int predicate) {
  simulator.vote |= predicate != 0;
  simulator_wait(AT_BARRIER);
  return simulator.vote_result;
}

UNWATCHED static uint64_t simulator_exchange(unsigned mask, uint64_t given, int partner) {
  SimulatorFiber *fiber = &simulator.fibers[simulator.current];
  fiber->mask = mask, fiber->given = given, fiber->partner = partner;
  if (!(mask >> (simulator.current % 32) & 1))
    simulator_report("is not in the mask %08x of its own warp operation", mask);
  simulator_wait(AT_WARP);
  return fiber->received;
}

template <typename V> UNWATCHED static V simulator_shuffle(unsigned mask, V value, int partner) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = simulator_exchange(mask, bits, partner);
  memcpy(&value, &bits, sizeof value);
  return value;
}
template <typename V> UNWATCHED static V __shfl_xor_sync(unsigned mask, V value, int lanes) {
  return simulator_shuffle(mask, value, (simulator.current % 32) ^ lanes);
}
template <typename V> UNWATCHED static V __shfl_sync(unsigned mask, V value, int lane) {
  return simulator_shuffle(mask, value, lane & 31);
}
template <typename V> UNWATCHED static V __shfl_down_sync(unsigned mask, V value, unsigned by) {
  int lane = simulator.current % 32 + (int)by;
  return simulator_shuffle(mask, value, lane < 32 ? lane : simulator.current % 32);
}
UNWATCHED static unsigned __ballot_sync(unsigned mask, int predicate) {
  return (unsigned)simulator_exchange(mask, predicate != 0, -1);
}
UNWATCHED static void __syncwarp(unsigned mask = 0xffffffffu) { simulator_exchange(mask, 0, -1); }

// ---- the scheduler

UNWATCHED static void simulator_enter() {
  simulator.invoke(simulator.call);
  simulator.fibers[simulator.current].status = DONE;
  swapcontext(&simulator.fibers[simulator.current].context, &simulator.scheduler);
}

UNWATCHED static bool simulator_run_ready() {
  bool progress = false;
  for (int i = 0; i < simulator.threads && !simulator.failed; i++) {
    if (simulator.fibers[i].status != READY) continue;
    simulator.current = i;
    simulator.thread.x = (unsigned)i;
    swapcontext(&simulator.scheduler, &simulator.fibers[i].context);
    progress = true;
  }
  simulator.current = -1;
  return progress;
}

// Warp operations at which all lanes of the mask have arrived are done.
UNWATCHED static bool simulator_release_warps() {
  bool released = false;
  for (int first = 0; first < simulator.threads; first += 32) {
    SimulatorFiber *lanes = &simulator.fibers[first];
    int count = simulator.threads - first < 32 ? simulator.threads - first : 32;
    unsigned mask = 0, ballot = 0;
    for (int i = 0; i < count; i++)
      if (lanes[i].status == AT_WARP) mask = lanes[i].mask;
    bool complete = mask != 0;
    for (int i = 0; i < 32; i++)
      if (mask >> i & 1 && !(i < count && lanes[i].status == AT_WARP && lanes[i].mask == mask))
        complete = false;
    if (!complete) continue;
    for (int i = 0; i < count; i++)
      if (mask >> i & 1 && lanes[i].given) ballot |= 1u << i;
    for (int i = 0; i < count; i++) {
      if (!(mask >> i & 1)) continue;
      int partner = lanes[i].partner;
      lanes[i].received = partner < 0 ? ballot : lanes[partner].given;
      lanes[i].status = READY;
    }
    released = true;
  }
  return released;
}

UNWATCHED static bool simulator_release_block() {
  int count[4] = {0};
  for (int i = 0; i < simulator.threads; i++) count[simulator.fibers[i].status]++;
  if (count[DONE] == simulator.threads) return false;
  if (count[AT_BARRIER] == simulator.threads) {
    for (int i = 0; i < simulator.threads; i++) simulator.fibers[i].status = READY;
    simulator.vote_result = simulator.vote;
    simulator.vote = 0;
    simulator.time++;
    return true;
  }
  simulator_report("barrier: %d threads wait at __syncthreads, %d at a warp operation, %d have ended",
                   count[AT_BARRIER], count[AT_WARP], count[DONE]);
  return false;
}

UNWATCHED static void simulator_block() {
  memset(__start_simulator_shared, 0xFF, (size_t)(__stop_simulator_shared - __start_simulator_shared));
  memset(simulator.shared, 0,
         sizeof(SimulatorTouch) * (size_t)(__stop_simulator_shared - __start_simulator_shared));
  simulator.vote = 0;
  for (int i = 0; i < simulator.threads; i++) {
    SimulatorFiber *fiber = &simulator.fibers[i];
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = simulator.stacks + (size_t)i * SIMULATOR_STACK;
    fiber->context.uc_stack.ss_size = SIMULATOR_STACK;
    fiber->context.uc_link = &simulator.scheduler;
    fiber->status = READY;
    makecontext(&fiber->context, simulator_enter, 0);
  }
  while (!simulator.failed &&
         (simulator_run_ready() || simulator_release_warps() || simulator_release_block())) {
  }
}

template <typename V> struct SimulatorPointer { static const bool is = false; };
template <typename V> struct SimulatorPointer<V *> { static const bool is = true; };

template <typename... P> struct SimulatorCall {
  void (*kernel)(P...);
  const SimulatorBuffer *buffers;
  int count;
  const long long *sizes; // sizes[1] is the first
  template <typename V> UNWATCHED V argument(size_t i) const {
    if constexpr (SimulatorPointer<V>::is)
      return (V)buffers[i].memory;
    else
      return (V)sizes[i - (size_t)count + 1];
  }
  template <size_t... I> UNWATCHED void with(std::index_sequence<I...>) { kernel(argument<P>(I)...); }
  UNWATCHED static void invoke(void *self) { ((SimulatorCall *)self)->with(std::index_sequence_for<P...>()); }
};

template <typename... P>
UNWATCHED static bool simulator_launch(void (*kernel)(P...), long long blocks, int threads,
                                       const SimulatorBuffer *buffers, int count, const long long *sizes,
                                       char *report, size_t size) {
  SimulatorCall<P...> call = {kernel, buffers, count, sizes};
  simulator = SimulatorState();
  simulator.threads = threads;
  simulator.invoke = SimulatorCall<P...>::invoke;
  simulator.call = &call;
  simulator.buffers = buffers, simulator.buffer_count = count;
  size_t shared = (size_t)(__stop_simulator_shared - __start_simulator_shared);
  simulator.shared = (SimulatorTouch *)calloc(shared, sizeof(SimulatorTouch));
  simulator.touched = (SimulatorTouch **)calloc((size_t)count + 1, sizeof(SimulatorTouch *));
  for (int i = 0; i < count; i++)
    if (buffers[i].writable)
      simulator.touched[i] = (SimulatorTouch *)calloc(buffers[i].bytes + 1, sizeof(SimulatorTouch));
  simulator.report = report, simulator.report_size = size;
  simulator.grid = {(unsigned)blocks, 1, 1}, simulator.size = {(unsigned)threads, 1, 1};
  simulator.fibers = (SimulatorFiber *)calloc((size_t)threads, sizeof(SimulatorFiber));
  simulator.stacks = (char *)malloc((size_t)threads * SIMULATOR_STACK);
  if (size) *report = 0;
  for (long long block = 0; block < blocks && !simulator.failed; block++) {
    simulator.block = {(unsigned)block, 0, 0};
    simulator_block();
  }
  simulator.current = -1;
  for (int i = 0; i < count; i++) free(simulator.touched[i]);
  free(simulator.touched);
  free(simulator.shared);
  free(simulator.fibers);
  free(simulator.stacks);
  return !simulator.failed;
}

typedef bool SimulatorFunction(long long blocks, int threads, const SimulatorBuffer *buffers, int count,
                               const long long *sizes, char *report, size_t size);
#define SIMULATE(kernel)                                                                                     \
  extern "C" UNWATCHED bool simulate_##kernel(long long blocks, int threads, const SimulatorBuffer *buffers, \
                                              int count, const long long *sizes, char *report,               \
                                              size_t size) {                                                 \
    return simulator_launch(kernel, blocks, threads, buffers, count, sizes, report, size);                   \
  }

// ---- the library

UNWATCHED static unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  return bits;
}
UNWATCHED static float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
UNWATCHED static float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
UNWATCHED static int __ffs(int value) { return __builtin_ffs(value); }
UNWATCHED static float __fadd_rn(float x, float y) { return x + y; }
UNWATCHED static float __fmul_rn(float x, float y) { return x * y; }
UNWATCHED static float rsqrtf(float x) { return 1.0f / sqrtf(x); }

#endif
