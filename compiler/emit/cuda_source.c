// A kernel as CUDA C text. Input: a kernel; output: its comment, the helper functions it calls, and
// `extern "C" __global__ void kernel_NAME(buffers..., long long B, T, P, S)`, with the shape of its launch.
#include "compiler/emit/cuda_emit.h"

#include <string.h>

// ---- work: as many blocks as one product of extents asks for ------------------------------------

static void add_term(Work *work, Extent extent, int64_t divisor) {
  if (work->count < (int)(sizeof work->terms / sizeof *work->terms))
    work->terms[work->count++] = (WorkTerm){extent, divisor};
}

void cuda_work(Work *work, const Kernel *kernel, uint32_t axes, int64_t each) {
  int64_t constant = 1;
  int last = -1; // the last axis of run-time extent: it takes what the constant ones leave of `each`
  for (int i = 0; i < kernel->axis_count; i++) {
    if (!(axes >> i & 1)) continue;
    Extent extent = kernel->axes[i].extent;
    if (!extent_is_constant(extent))
      last = i;
    else if (__builtin_mul_overflow(constant, extent.offset, &constant))
      constant = INT64_MAX;
  }
  if (constant > each) {
    add_term(work, extent_constant(constant), each);
    each = 1;
  } else if (constant > 0) {
    each /= constant;
  }
  for (int i = 0; i < kernel->axis_count; i++)
    if (axes >> i & 1 && !extent_is_constant(kernel->axes[i].extent))
      add_term(work, kernel->axes[i].extent, i == last ? each : 1);
}

int64_t cuda_steps(const CudaKernel *k, uint32_t axes) {
  const Kernel *kernel = k->c.kernel;
  int64_t steps = 1;
  for (int i = 0; i < kernel->axis_count; i++) {
    if (!(axes >> i & 1)) continue;
    Extent extent = kernel->axes[i].extent;
    if (!extent_is_constant(extent) && !k->likely) return -1;
    int64_t length = extent_is_constant(extent) ? extent.offset : extent_value(extent, k->likely);
    if (__builtin_mul_overflow(steps, length, &steps)) return INT64_MAX;
  }
  return steps;
}

// ---- helpers of CUDA alone: what threads do together, and accesses of four elements -------------

typedef struct Helper {
  const char *name, *text;
} Helper;

// Totals over a warp, a block of 256 threads, and the 16 threads of each of 32 columns side by side. `name`
// is "sum" or "max", for floats or (with _whole) whole numbers; `add` is the statement that takes `other`
// into `value`.
#define TEAM_HELPERS(name, type, add)                                                                        \
  {"warp_" name, "static __device__ inline " type " warp_" name "(" type " value) {\n"                       \
                 "  for (int step = 16; step > 0; step /= 2) {\n"                                            \
                 "    const " type " other = __shfl_xor_sync(0xffffffffu, value, step);\n"                   \
                 "    " add "\n"                                                                             \
                 "  }\n"                                                                                     \
                 "  return value;\n"                                                                         \
                 "}\n"},                                                                                     \
      {"block_" name, "static __device__ inline " type " block_" name "(" type " value) {\n"                 \
                      "  __shared__ " type " slots[8];\n"                                                    \
                      "  value = warp_" name "(value);\n"                                                    \
                      "  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32] = value;\n"                      \
                      "  __syncthreads();\n"                                                                 \
                      "  value = slots[0];\n"                                                                \
                      "  for (int warp = 1; warp < 8; warp++) {\n"                                           \
                      "    const " type " other = slots[warp];\n"                                            \
                      "    " add "\n"                                                                        \
                      "  }\n"                                                                                \
                      "  __syncthreads();\n"                                                                 \
                      "  return value;\n"                                                                    \
                      "}\n"},                                                                                \
  {                                                                                                          \
    "column_" name, "static __device__ inline " type " column_" name "(" type " value) {\n"                  \
                    "  __shared__ " type " slots[16][32];\n"                                                 \
                    "  slots[threadIdx.x / 32][threadIdx.x % 32] = value;\n"                                 \
                    "  __syncthreads();\n"                                                                   \
                    "  value = slots[0][threadIdx.x % 32];\n"                                                \
                    "  for (int walker = 1; walker < 16; walker++) {\n"                                      \
                    "    const " type " other = slots[walker][threadIdx.x % 32];\n"                          \
                    "    " add "\n"                                                                          \
                    "  }\n"                                                                                  \
                    "  __syncthreads();\n"                                                                   \
                    "  return value;\n"                                                                      \
                    "}\n"                                                                                    \
  }

// Later ones may call earlier ones. Sums are added in a fixed order: the same bits in every run.
static const Helper helpers[] = {
    {"load_lanes",
     "template <typename V> struct Four;\n"
     "template <> struct Four<float> { typedef float4 T; };\n"
     "template <> struct Four<int> { typedef int4 T; };\n"
     "template <> struct Four<unsigned short> { typedef ushort4 T; };\n"
     "template <> struct Four<unsigned char> { typedef uchar4 T; };\n"
     "template <> struct Four<long long> { struct alignas(16) T { long long x, y, z, w; }; };\n"
     "template <> struct Four<double> { struct alignas(16) T { double x, y, z, w; }; };\n"
     "template <typename V> static __device__ inline void load_lanes(V *lanes, const V *from) {\n"
     "  const typename Four<V>::T four = *(const typename Four<V>::T *)from;\n"
     "  lanes[0] = four.x, lanes[1] = four.y, lanes[2] = four.z, lanes[3] = four.w;\n"
     "}\n"},
    {"store_lanes",
     "template <typename V> static __device__ inline void store_lanes(V *to, const V *lanes) {\n"
     "  typename Four<V>::T four;\n"
     "  four.x = lanes[0], four.y = lanes[1], four.z = lanes[2], four.w = lanes[3];\n"
     "  *(typename Four<V>::T *)to = four;\n"
     "}\n"},
    TEAM_HELPERS("sum", "float", "value += other;"),
    TEAM_HELPERS("max", "float", "value = max_float(value, other);"),
    TEAM_HELPERS("sum_whole", "long long", "value += other;"),
    TEAM_HELPERS("max_whole", "long long", "value = max_whole(value, other);"),
    {"online_step",
     "// One more value under a running maximum and the sum of exp(value - maximum).\n"
     "static __device__ inline void online_step(float &largest, float &total, float value) {\n"
     "  if (value > largest || value != value) {\n"
     "    total = total * expf(largest - value) + (1.0f + (value - value)); // the end: NaN for infinities\n"
     "    largest = value;\n"
     "  } else if (largest != -INFINITY) {\n"
     "    total += expf(value - largest);\n"
     "  }\n"
     "}\n"},
    {"online_join", "static __device__ inline void online_join(float &largest, float &total, float other, "
                    "float other_total) {\n"
                    "  const float top = max_float(largest, other);\n"
                    "  if (top == -INFINITY) return;\n"
                    "  total = __fadd_rn(__fmul_rn(total, expf(largest - top)), __fmul_rn(other_total, "
                    "expf(other - top)));\n"
                    "  largest = top;\n"
                    "}\n"},
    {"online_lanes", "static __device__ inline void online_lanes(float &largest, float &total) {\n"
                     "  for (int step = 16; step > 0; step /= 2) {\n"
                     "    const float other = __shfl_xor_sync(0xffffffffu, largest, step);\n"
                     "    const float other_total = __shfl_xor_sync(0xffffffffu, total, step);\n"
                     "    online_join(largest, total, other, other_total);\n"
                     "  }\n"
                     "}\n"},
    {"warp_online", "static __device__ inline void warp_online(float &largest, float &total) {\n"
                    "  online_lanes(largest, total);\n"
                    "  if (largest == -INFINITY) total = NAN; // as exp(-inf - -inf) is\n"
                    "}\n"},
    {"block_online",
     "static __device__ inline void block_online(float &largest, float &total) {\n"
     "  __shared__ float slots[8][2];\n"
     "  online_lanes(largest, total);\n"
     "  if (threadIdx.x % 32 == 0) slots[threadIdx.x / 32][0] = largest, slots[threadIdx.x / 32][1] = "
     "total;\n"
     "  __syncthreads();\n"
     "  largest = slots[0][0], total = slots[0][1];\n"
     "  for (int warp = 1; warp < 8; warp++) online_join(largest, total, slots[warp][0], slots[warp][1]);\n"
     "  __syncthreads();\n"
     "  if (largest == -INFINITY) total = NAN; // as exp(-inf - -inf) is\n"
     "}\n"},
};
enum { HELPER_COUNT = sizeof helpers / sizeof *helpers };

void cuda_helpers(const char *functions, Text *out) {
  bool needed[HELPER_COUNT];
  Text own = {0}, all = {0};
  for (int i = HELPER_COUNT; i-- > 0;) {
    needed[i] = csource_calls(functions, helpers[i].name);
    for (int k = i + 1; k < HELPER_COUNT; k++)
      needed[i] = needed[i] || (needed[k] && csource_calls(helpers[k].text, helpers[i].name));
  }
  needed[0] = needed[0] || needed[1]; // the types of four elements
  for (int i = 0; i < HELPER_COUNT; i++)
    if (needed[i]) text_print(&own, "%s", helpers[i].text);
  text_print(&all, "%s%s", text_string(&own), functions);
  text_print(out, "#ifndef INFINITY // no header has been read\n#define INFINITY __int_as_float(0x7f800000)\n"
                  "#define NAN __int_as_float(0x7fffffff)\n#endif\n\n");
  csource_helpers(text_string(&all), true, out);
  if (own.length) text_print(out, "%s\n", text_string(&own));
  text_free(&own);
  text_free(&all);
}

// ---- the function -------------------------------------------------------------------------------

static void write_body(CudaKernel *k) {
  switch (k->c.kernel->anchor) {
  case ANCHOR_ROW: cuda_row(k); return;
  case ANCHOR_COLUMN:
    if (!cuda_column(k)) cuda_row(k);
    return;
  case ANCHOR_DOT:
    if (!cuda_dot(k)) cuda_row(k);
    return;
  case ANCHOR_SCATTER: cuda_scatter(k); return;
  default: cuda_map(k);
  }
}

void cuda_function(Kernel *kernel, const EmitOptions *options, Text *out, CudaShape *shape) {
  CudaKernel k = {.likely = options ? options->symbols : NULL};
  Arena *arena = arena_new();
  csource_begin(&k.c, arena, kernel, true);
  write_body(&k);
  csource_comment(&k.c, options, k.schedule, out);
  text_print(out, "extern \"C\" __global__ void __launch_bounds__(%d, 1)\n%s(", k.threads, k.c.function);
  csource_parameters(&k.c, out);
  text_print(out, ") {\n%s}\n", text_string(&k.c.body));
  *shape = (CudaShape){k.work, k.threads};
  csource_end(&k.c);
  arena_free(arena);
}

void cuda_source(Kernel *kernel, const EmitOptions *options, Text *out, CudaShape *shape) {
  Text function = {0};
  cuda_function(kernel, options, &function, shape);
  cuda_helpers(text_string(&function), out);
  text_print(out, "%s", text_string(&function));
  text_free(&function);
}
