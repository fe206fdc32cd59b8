// Speed of contractions on the CPU, each beside what the machine can do, measured in the same run:
// multiply-adds against the peak of a loop that does nothing else; products with one row against the
// bandwidth of a loop that only reads. Input: none, or a part of a row's name; output: one line per row,
//
//   name  ours  machine  ratio  reach  ok|short     (tab-separated; GFLOP/s, or GB/s where the name says so)
#include "compiler/emit/emit.h"
#include "compiler/kernel/kernel.h"
#include "runtime/base/clock.h"
#include "runtime/device.h"
#include "runtime/machine.h"
#include "tests/bench/side.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROUNDS = 7, COPIES = 24, MOST_THREADS = 256 };

// ---- kernels

typedef enum Form { FORWARD, TO_INPUT, TO_WEIGHTS, SCORES, MIX } Form;
typedef struct Row {
  const char *name;
  Form form;
  int m, k, n; // as in m x k times k x n; of attention: batch entries, width of a head, length
  bool bandwidth;
  double reach[2]; // with one thread, with all
  DType dtype;     // of both operands
} Row;

static const Row rows[] = {
    {"forward 1024x768x3072", FORWARD, 1024, 768, 3072, false, {0.9, 0.85}, DTYPE_F32},
    {"forward 1024x3072x768", FORWARD, 1024, 3072, 768, false, {0.9, 0.85}, DTYPE_F32},
    {"forward 1024x768x50257", FORWARD, 1024, 768, 50257, false, {0.9, 0.85}, DTYPE_F32},
    {"forward 197x768x3072", FORWARD, 197, 768, 3072, false, {0.9, 0.85}, DTYPE_F32},
    {"forward 197x3072x768", FORWARD, 197, 3072, 768, false, {0.9, 0.85}, DTYPE_F32},
    {"to input 1024x3072x768", TO_INPUT, 1024, 3072, 768, false, {0.9, 0.85}, DTYPE_F32},
    {"to input 1024x768x3072", TO_INPUT, 1024, 768, 3072, false, {0.9, 0.85}, DTYPE_F32},
    {"to weights 3072x1024x768", TO_WEIGHTS, 1024, 768, 3072, false, {0.9, 0.85}, DTYPE_F32},
    {"to weights 768x1024x768", TO_WEIGHTS, 1024, 768, 768, false, {0.9, 0.85}, DTYPE_F32},
    {"forward 12800x96x384", FORWARD, 12800, 96, 384, false, {0.7, 0.7}, DTYPE_F32},
    {"forward 12800x384x96", FORWARD, 12800, 384, 96, false, {0.7, 0.7}, DTYPE_F32},
    {"to weights 384x12800x96", TO_WEIGHTS, 12800, 96, 384, false, {0.5, 0.5}, DTYPE_F32},
    {"forward 12800x96x10", FORWARD, 12800, 96, 10, false, {0.3, 0.3}, DTYPE_F32},
    {"scores 1024 of 50x24x50", SCORES, 256, 24, 50, false, {0.15, 0.15}, DTYPE_F32},
    {"mix 1024 of 50x50x24", MIX, 256, 24, 50, false, {0.15, 0.15}, DTYPE_F32},
    {"forward 16x768x3072", FORWARD, 16, 768, 3072, false, {0.4, 0.4}, DTYPE_F32},
    {"bf16 forward 1024x768x3072", FORWARD, 1024, 768, 3072, false, {0.85, 0.85}, DTYPE_BF16},
    {"bf16 forward 1024x3072x768", FORWARD, 1024, 3072, 768, false, {0.85, 0.85}, DTYPE_BF16},
    {"bf16 forward 1024x768x50257", FORWARD, 1024, 768, 50257, false, {0.85, 0.85}, DTYPE_BF16},
    {"bf16 forward 197x768x3072", FORWARD, 197, 768, 3072, false, {0.85, 0.85}, DTYPE_BF16},
    {"bf16 to input 1024x3072x768", TO_INPUT, 1024, 3072, 768, false, {0.85, 0.85}, DTYPE_BF16},
    {"bf16 to weights 3072x1024x768", TO_WEIGHTS, 1024, 768, 3072, false, {0.85, 0.85}, DTYPE_BF16},
    {"GB/s of 1x768x3072", FORWARD, 1, 768, 3072, true, {0.9, 0.9}, DTYPE_F32},
    {"GB/s of 1x768x50257", FORWARD, 1, 768, 50257, true, {0.9, 0.9}, DTYPE_F32},
    {"GB/s of 1x768x3072, k slow", TO_INPUT, 1, 768, 3072, true, {0.5, 0.5}, DTYPE_F32},
};
enum { ROWS = sizeof rows / sizeof *rows };

static ExprId load(Kernel *kernel, int buffer, int count, const int *axes) {
  ExprId index[KERNEL_MAX_RANK] = {0};
  for (int i = 0; i < count; i++) index[i] = kernel_axis_value(kernel, axes[i]);
  return kernel_load(kernel, buffer, index, 0);
}

static int buffer_of(Kernel *kernel, const char *name, DType dtype, BufferUse use, int count,
                     const int *axes) {
  Extent extents[KERNEL_MAX_RANK];
  for (int i = 0; i < count; i++) extents[i] = kernel->axes[axes[i]].extent;
  return kernel_buffer(kernel, name, dtype, count, extents, use);
}

static int buffer_over(Kernel *kernel, const char *name, BufferUse use, int count, const int *axes) {
  return buffer_of(kernel, name, DTYPE_F32, use, count, axes);
}

static void store(Kernel *kernel, int buffer, int count, const int *axes, ExprId value) {
  ExprId index[KERNEL_MAX_RANK] = {0};
  uint32_t mask = 0;
  for (int i = 0; i < count; i++) {
    index[i] = kernel_axis_value(kernel, axes[i]);
    mask |= 1u << axes[i];
  }
  kernel_store(kernel, buffer, index, value, mask, STORE_SET);
}

// A linear layer and its gradients; rows are batch and time. Buffer 0 is the activation, 1 the weight (or
// what takes its place), 2 the result.
static void make_linear(Kernel *kernel, const Row *row) {
  int b = kernel_axis(kernel, "b", extent_symbol(SYMBOL_BATCH)),
      t = kernel_axis(kernel, "t", extent_symbol(SYMBOL_TIME));
  int n = kernel_axis(kernel, "n", extent_constant(row->n)),
      k = kernel_axis(kernel, "k", extent_constant(row->k));
  bool to_weights = row->form == TO_WEIGHTS;
  int left[] = {b, t, to_weights ? n : k}, result[] = {b, t, n}, weight[] = {n, k}, across[] = {k, n},
      right[] = {b, t, k};
  const int *matrix = row->form == TO_INPUT ? across : weight;
  DType dtype = row->dtype;
  int x = buffer_of(kernel, "x", dtype, BUFFER_READ, 3, left);
  int w = to_weights ? buffer_of(kernel, "dy", dtype, BUFFER_READ, 3, right)
                     : buffer_of(kernel, "w", dtype, BUFFER_READ, 2, matrix);
  int y = to_weights ? buffer_over(kernel, "dw", BUFFER_WRITE, 2, weight)
                     : buffer_over(kernel, "y", BUFFER_WRITE, 3, result);
  ExprId of_left = load(kernel, x, 3, left);
  ExprId of_right = to_weights ? load(kernel, w, 3, right) : load(kernel, w, 2, matrix);
  uint32_t contract = to_weights ? 1u << b | 1u << t : 1u << k;
  store(kernel, y, to_weights ? 2 : 3, to_weights ? weight : result,
        kernel_dot(kernel, of_left, of_right, contract));
}

// Attention over q, k, v in one buffer [b, t, 3, h, e].
static void make_attention(Kernel *kernel, const Row *row) {
  int b = kernel_axis(kernel, "b", extent_symbol(SYMBOL_BATCH)),
      t = kernel_axis(kernel, "t", extent_symbol(SYMBOL_TIME));
  int s = kernel_axis(kernel, "s", extent_symbol(SYMBOL_SEEN)),
      h = kernel_axis(kernel, "h", extent_constant(4));
  int e = kernel_axis(kernel, "e", extent_constant(row->k));
  Extent extents[] = {kernel->axes[b].extent, kernel->axes[s].extent, extent_constant(3), extent_constant(4),
                      extent_constant(row->k)};
  int qkv = kernel_buffer(kernel, "qkv", DTYPE_F32, 5, extents, BUFFER_READ), part[3];
  for (int i = 0; i < 3; i++) {
    ExprId index[KERNEL_MAX_RANK] = {kernel_axis_value(kernel, b), kernel_axis_value(kernel, i ? s : t),
                                     kernel_number(kernel, i, DTYPE_I64), kernel_axis_value(kernel, h),
                                     kernel_axis_value(kernel, e)};
    part[i] = (int)kernel_load(kernel, qkv, index, 0);
  }
  int shares[] = {b, h, t, s}, mixed[] = {b, t, h, e};
  if (row->form == SCORES) {
    int y = buffer_over(kernel, "scores", BUFFER_WRITE, 4, shares);
    store(kernel, y, 4, shares, kernel_dot(kernel, (ExprId)part[0], (ExprId)part[1], 1u << e));
  } else {
    int p = buffer_over(kernel, "shares", BUFFER_READ, 4, shares),
        y = buffer_over(kernel, "mix", BUFFER_WRITE, 4, mixed);
    store(kernel, y, 4, mixed, kernel_dot(kernel, load(kernel, p, 4, shares), (ExprId)part[2], 1u << s));
  }
}

// ---- measuring

typedef struct Running {
  const Code *code;
  void *buffers[KERNEL_MAX_BUFFERS];
  const int64_t *symbols;
  void *scratch[MOST_THREADS];
} Running;

static void code_task(void *context, int worker, int64_t begin, int64_t end) {
  const Running *running = context;
  running->code->entry(running->buffers, running->symbols, begin, end, running->scratch[worker]);
}

static void *get(Device *device, size_t bytes) {
  Failure failure;
  void *memory = device->allocate(device, bytes, &failure);
  if (memory) return memory;
  printf("%s\n", failure.message);
  exit(1);
}

static void fill(DType dtype, void *values, size_t count) {
  uint32_t state = 1;
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    dtype_store(dtype, values, (int64_t)i, (double)(state >> 8) / 16777216.0 - 0.5);
  }
}

// Medians over rounds in which both sides take turns. Weights that would stay in the cache are taken in turn
// from several copies where bandwidth is measured.
static void measure(const Row *row, const Kernel *kernel, Running *running, Threads *threads,
                    Device *device) {
  double ours[ROUNDS], machine[ROUNDS], flops = kernel_flops(kernel, running->symbols);
  size_t weight_bytes = (size_t)row->n * (size_t)row->k * sizeof(float);
  int copies = row->bandwidth ? weight_bytes > 100u << 20 ? 2 : COPIES : 1;
  char *pool = copies > 1 ? get(device, weight_bytes * (size_t)copies) : NULL;
  if (pool)
    fill(DTYPE_F32, pool, weight_bytes * (size_t)copies / sizeof(float)); // unwritten pages are all one
  double work = row->bandwidth ? (double)weight_bytes : flops;
  int repeats = row->bandwidth ? copies : 1 + (int)(4e9 / flops);
  if (repeats > 40) repeats = 40;
  for (int round = -1; round < ROUNDS; round++) {
    double peak = row->bandwidth
                      ? machine_read(threads, pool, weight_bytes * (size_t)copies)
                      : machine_compute(threads, 3.0 * threads_count(threads), row->dtype == DTYPE_BF16);
    double start = clock_now();
    for (int i = 0; i < repeats; i++) {
      if (pool) running->buffers[1] = pool + weight_bytes * (size_t)(i % copies);
      threads_run(threads, work_count(&running->code->work, running->symbols), code_task, running);
    }
    if (round < 0) continue; // the first is for the caches and the clock
    ours[round] = work * repeats / (clock_now() - start) * 1e-9;
    machine[round] = peak;
  }
  if (pool) device->release(device, pool);
  double speed = side_median(ours, ROUNDS), limit = side_median(machine, ROUNDS),
         ratio = limit > 0 ? speed / limit : 0;
  int count = threads_count(threads);
  double reach = row->reach[count > 1];
  printf("dot %s, %d thread%s\t%.1f\t%.1f\t%.3f\t%.2f\t%s\n", row->name, count, count == 1 ? "" : "s", speed,
         limit, ratio, reach, ratio >= reach ? "ok" : "short");
  fflush(stdout);
}

static void run_row(const Emitter *emitter, const Row *row, Threads *const *threads, Device *device) {
  Arena *arena = arena_new();
  Kernel *kernel = kernel_new(arena, "dot");
  kernel->anchor = ANCHOR_DOT;
  bool attention = row->form == SCORES || row->form == MIX;
  if (attention)
    make_attention(kernel, row);
  else
    make_linear(kernel, row);
  int64_t length = attention ? row->n : row->m;
  int64_t symbols[SYMBOL_COUNT] = {0, attention ? row->m : 1, length, 0, length};
  Code code = {0};
  void *handle = NULL;
  Failure failure;
  EmitOptions options = {.threads = 1};
  if (emitter->compile(&kernel, 1, &options, &code, &handle, &failure)) {
    Running running = {.code = &code, .symbols = symbols};
    for (int i = 0; i < kernel->buffer_count; i++) {
      size_t count = 1;
      for (int r = 0; r < kernel->buffers[i].rank; r++)
        count *= (size_t)extent_value(kernel->buffers[i].extents[r], symbols);
      running.buffers[i] = get(device, count * sizeof(float));
      fill(kernel->buffers[i].dtype, running.buffers[i], count);
    }
    void *all[KERNEL_MAX_BUFFERS];
    memcpy(all, running.buffers, sizeof all);
    for (int i = 0; i < threads_count(threads[1]); i++)
      running.scratch[i] = get(device, (size_t)code.scratch_bytes + 64);
    for (int i = 0; i < (threads_count(threads[1]) > 1 ? 2 : 1); i++)
      measure(row, kernel, &running, threads[i], device);
    for (int i = 0; i < kernel->buffer_count; i++) device->release(device, all[i]);
    for (int i = 0; i < threads_count(threads[1]); i++) device->release(device, running.scratch[i]);
    emitter->release(handle);
  } else {
    printf("dot %s\t0\t0\t0\t%.2f\tshort\n%s\n", row->name, row->reach[0], failure.message);
  }
  arena_free(arena);
}

int main(int argc, char **argv) {
  Failure failure;
  const Emitter *emitter = emit_find("cpu", &failure);
  Device *device = emitter ? device_cpu(1, &failure) : NULL;
  if (!device) {
    printf("%s\n", failure.message);
    return 1;
  }
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  Threads *threads[] = {threads_open(1), threads_open(cores > MOST_THREADS ? MOST_THREADS : (int)cores)};
  for (int i = 0; i < ROWS; i++)
    if (argc < 2 || strstr(rows[i].name, argv[1])) run_row(emitter, &rows[i], threads, device);
  threads_close(threads[0]), threads_close(threads[1]);
  device->close(device);
  return 0;
}
