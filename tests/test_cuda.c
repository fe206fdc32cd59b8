// Target cuda without a GPU: the text of every sample, executed by the simulator of the thread block, against
// the interpreter; planted bugs that the simulator must see; and NVRTC's cubins for two architectures. Where there is a
// GPU, the same kernels run on it as well.
#include "tests/check.h"
#include "tests/cuda_device.h"
#include "tests/cuda_simulate.h"
#include "tests/random_kernel.h"

enum { WIDTHS = 3, MAX_CASES = WIDTHS * SAMPLE_COUNT, RANDOM_COUNT = 24 };
static const int widths[WIDTHS] = {7, 40, 132};
static const int64_t few[SYMBOL_COUNT] = {0, 1, 1, 6, 7}; // contractions of few rows are another schedule
static const int64_t random_sizes[2][SYMBOL_COUNT] = {{0, 2, 5, 3, 8}, {0, 1, 4, 0, 4}};

// Narrow ones at all sizes, the wide ones for the edges of tiles.
static void test_samples(const char *folder) {
  static const int64_t sizes[][SYMBOL_COUNT] = {{0, 2, 5, 4, 9}, {0, 3, 1, 0, 1}, {0, 2, 67, 3, 70}};
  static const int64_t empty[][SYMBOL_COUNT] = {{0, 0, 4, 0, 4}, {0, 2, 0, 0, 0}, {0, 2, 0, 3, 3}};
  Arena *arena = arena_new();
  Case cases[MAX_CASES];
  Text functions = {0};
  int count = 0;
  for (int w = 0; w < WIDTHS; w++)
    for (int i = 0; i < SAMPLE_COUNT; i++) {
      Case *test = &cases[count++];
      test->kernel = samples[i].make(arena, widths[w]);
      test->kernel->name = arena_print(arena, "%s_%d", samples[i].name, widths[w]);
      add_case(test, w == 1 ? few : NULL, &functions);
    }
  void *handle = build_cases(arena, folder, "samples", &functions);
  for (int i = 0; handle && i < count; i++) {
    int width = i / SAMPLE_COUNT;
    if (width == 2 && cases[i].kernel->anchor != ANCHOR_DOT) continue;
    for (int s = width == 2 ? 2 : 0; s < (width == 1 ? 2 : 3); s++)
      check_case(handle, &cases[i], sizes[s], 0, 1);
    if (width == 2) continue;
    check_case(handle, &cases[i], sizes[0], 3, 1);
    for (int s = 0; s < 3; s++) check_case(handle, &cases[i], empty[s], 0, 1);
  }
  if (handle) dlclose(handle);
  text_free(&functions);
  arena_free(arena);
}

// What the samples do not think of: random kernels.
static void test_random(const char *folder) {
  Arena *arena = arena_new();
  Case cases[RANDOM_COUNT];
  Text functions = {0};
  for (int i = 0; i < RANDOM_COUNT; i++) {
    cases[i].kernel = random_kernel(arena, (uint64_t)(1 + i));
    add_case(&cases[i], i % 2 ? few : NULL, &functions);
  }
  void *handle = build_cases(arena, folder, "random", &functions);
  for (int i = 0; handle && i < RANDOM_COUNT; i++)
    for (int s = 0; s < 2; s++) check_case(handle, &cases[i], random_sizes[s], 0, 8);
  if (handle) dlclose(handle);
  text_free(&functions);
  arena_free(arena);
}

// ---- what the simulator must see

typedef struct Planted {
  const char *body, *report; // of a kernel of 64 threads with x f32[64] read, y f32[64] write; NULL: none
} Planted;

static const Planted planted[] = {
    {"y[threadIdx.x] = x[threadIdx.x];", NULL},
    {"__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; __syncthreads(); y[threadIdx.x] = s[63 - "
     "threadIdx.x];",
     NULL},
    {"y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);", NULL},
    {"y[threadIdx.x] = x[threadIdx.x + 1];", "out of bounds: reads 4 bytes, 0 bytes after the end of x"},
    {"y[threadIdx.x - 1] = x[threadIdx.x];", "out of bounds: writes 4 bytes"},
    {"((float *)x)[threadIdx.x] = 1.0f;", "which is only read"},
    {"__shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; y[threadIdx.x] = s[63 - threadIdx.x];",
     "race: "},
    {"__shared__ float s[1]; s[0] = x[threadIdx.x]; __syncthreads(); y[threadIdx.x] = s[0];", "race: writes"},
    {"__shared__ float s[64]; s[threadIdx.x] = 1.0f; __syncthreads(); y[threadIdx.x] = s[63 - threadIdx.x]; "
     "s[threadIdx.x] = 2.0f;",
     "race: writes"},
    {"y[threadIdx.x / 2] = x[threadIdx.x];", "race: writes"},
    {"if (threadIdx.x < 32) __syncthreads(); y[threadIdx.x] = x[threadIdx.x];",
     "barrier: 32 threads wait at __syncthreads, 0 at a warp operation, 32 have ended"},
    {"if (threadIdx.x != 5) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);",
     "31 at a warp operation"},
    {"const float4 four = *(const float4 *)(x + 1); y[threadIdx.x] = four.x;", "misaligned: 16 bytes"},
};
enum { PLANTED_COUNT = sizeof planted / sizeof *planted };

static void test_planted(const char *folder) {
  Arena *arena = arena_new();
  Text text = {0};
  for (int i = 0; i < PLANTED_COUNT; i++)
    text_print(&text,
               "extern \"C\" __global__ void planted_%d(const float *__restrict__ x, float *__restrict__ y, "
               "long long B, "
               "long long T, long long P, long long S) {\n  %s\n}\nSIMULATE(planted_%d)\n",
               i, planted[i].body, i);
  void *handle = build(arena, folder, "planted", text_string(&text));
  CHECK(handle, "the planted bugs do not compile");
  Kernel *kernel = kernel_new(arena, "planted");
  Extent extent = extent_constant(64);
  kernel_buffer(kernel, "x", DTYPE_F32, 1, &extent, BUFFER_READ);
  kernel_buffer(kernel, "y", DTYPE_F32, 1, &extent, BUFFER_WRITE);
  CudaShape shape = {.work.count = 0, .threads = 64};
  int64_t symbols[SYMBOL_COUNT] = {0, 1, 1, 0, 1};
  for (int i = 0; handle && i < PLANTED_COUNT; i++) {
    char report[4000];
    SampleData data = sample_data(kernel, symbols, 1);
    bool clean = simulate(handle, arena_print(arena, "simulate_planted_%d", i), kernel, &shape, &data,
                          symbols, work_count(&shape.work, symbols), report, sizeof report);
    bool expected = planted[i].report ? !clean && strstr(report, planted[i].report) : clean;
    CHECK(expected, "%s\n  wanted: %s\n  got: %s", planted[i].body,
          planted[i].report ? planted[i].report : "nothing", report);
    sample_data_free(&data);
  }
  if (handle) dlclose(handle);
  text_free(&text);
  arena_free(arena);
}

// ---- NVRTC

static void test_cubins(void) {
  CudaCompiler compiler;
  Failure failure = {0};
  if (!cuda_compiler_open(&compiler, &failure)) {
    SKIP("cubins: %s", failure.message);
    return;
  }
  static const char *const architectures[] = {"sm_80", "sm_90a"};
  for (int a = 0; a < 2; a++) {
    Arena *arena = arena_new();
    Kernel *kernels[SAMPLE_COUNT];
    Code codes[SAMPLE_COUNT] = {0};
    void *handle = NULL;
    for (int i = 0; i < SAMPLE_COUNT; i++) kernels[i] = samples[i].make(arena, 40);
    EmitOptions options = {.architecture = architectures[a], .threads = 2};
    bool fine = emitter_cuda.compile(kernels, SAMPLE_COUNT, &options, codes, &handle, &failure);
    CHECK(fine, "%s", failure.message);
    for (int i = 0; fine && i < SAMPLE_COUNT; i++) {
      CHECK(codes[i].cubin_bytes > 4 && !memcmp(codes[i].cubin, "\177ELF", 4), "%s: no cubin", codes[i].name);
      CHECK(codes[i].registers > 0 && !codes[i].spill_bytes, "%s for %s: %d registers, %d bytes spilled",
            codes[i].name, architectures[a], codes[i].registers, codes[i].spill_bytes);
    }
    if (fine) emitter_cuda.release(handle);
    arena_free(arena);
  }
}

// ---- a real GPU

// Samples and random kernels. The GPU's own functions round otherwise than those of the CPU: twice the slack.
static void test_device(void) {
  static const int64_t sizes[3][SYMBOL_COUNT] = {{0, 2, 5, 4, 9}, {0, 3, 1, 0, 1}, {0, 8, 131, 3, 134}};
  Gpu gpu;
  if (!gpu_open(&gpu, "samples and random kernels")) return;
  for (int w = 0; w < WIDTHS; w++)
    for (int i = 0; i < SAMPLE_COUNT; i++) {
      Arena *arena = arena_new();
      gpu_check(&gpu, samples[i].make(arena, widths[w]), w == 1 ? few : NULL, sizes, 3, 2);
      arena_free(arena);
    }
  for (int i = 0; i < RANDOM_COUNT; i++) {
    Arena *arena = arena_new();
    gpu_check(&gpu, random_kernel(arena, (uint64_t)(1 + i)), i % 2 ? few : NULL, random_sizes, 2, 16);
    arena_free(arena);
  }
  gpu_close(&gpu);
}

static bool compile_cached(Kernel *kernel, const char *folder, const char *architecture, Text *cubin) {
  Code code = {0};
  Failure failure = {0};
  void *handle;
  EmitOptions options = {.architecture = architecture, .threads = 1, .cache = folder};
  if (!emitter_cuda.compile(&kernel, 1, &options, &code, &handle, &failure)) return false;
  text_print(cubin, "%d registers ", code.registers);
  text_add(cubin, code.cubin, code.cubin_bytes);
  emitter_cuda.release(handle);
  return true;
}

// Cubins that come from the cache are the ones that were put there; a damaged file is made anew.
static void test_cache(void) {
  Failure failure;
  CudaCompiler compiler;
  char folder[] = "/tmp/vlmc-cache-XXXXXX", command[300];
  if (!cuda_compiler_open(&compiler, &failure) || !mkdtemp(folder)) return;
  Arena *arena = arena_new();
  Kernel *kernel = sample_layer_norm(arena, 33);
  Text first = {0}, again = {0}, other = {0};
  CHECK(compile_cached(kernel, folder, "sm_90a", &first), "into an empty cache");
  snprintf(command, sizeof command, "test $(ls %s/*.cubin | wc -l) = $COUNT", folder);
  setenv("COUNT", "1", 1);
  CHECK(system(command) == 0, "one kernel, one file");
  CHECK(compile_cached(kernel, folder, "sm_90a", &again) && again.length == first.length &&
            !memcmp(again.bytes, first.bytes, first.length),
        "the cache gives something else");
  compile_cached(kernel, folder, "sm_80", &other);
  setenv("COUNT", "2", 1);
  CHECK(system(command) == 0, "another architecture, another file");
  snprintf(command, sizeof command,
           "for f in %s/*.cubin; do printf x | dd of=$f bs=1 seek=300 conv=notrunc 2>/dev/null; done",
           folder);
  again.length = 0;
  CHECK(system(command) == 0 && compile_cached(kernel, folder, "sm_90a", &again) &&
            again.length == first.length && !memcmp(again.bytes, first.bytes, first.length),
        "a damaged file is taken");
  snprintf(command, sizeof command, "rm -r %s", folder);
  CHECK(system(command) == 0, "the cache is a folder of files");
  text_free(&first), text_free(&again), text_free(&other);
  arena_free(arena);
}

static void test_bad_architecture(void) {
  Failure failure = {0};
  Code code;
  void *handle;
  static const char *const names[] = {"sm_1", "hopper", "sm_90ab", "sm_90; rm"};
  for (int i = 0; i < 4; i++) {
    EmitOptions options = {.architecture = names[i], .threads = 1};
    bool fine = emitter_cuda.compile(NULL, 0, &options, &code, &handle, &failure);
    CHECK(!fine && strstr(failure.message, "is not a CUDA architecture"), "%s: %s", names[i],
          failure.message);
  }
}

int main(void) {
  char folder[] = "/tmp/vlmc-test-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  if (simulator_available()) {
    test_planted(folder);
    test_samples(folder);
    test_random(folder);
  } else {
    SKIP("simulated CUDA: no g++ on this machine");
  }
  rmdir(folder);
  test_cache();
  test_bad_architecture();
  test_cubins();
  test_device();
  return check_finish();
}
