// The LLVM backend against the interpreter: every sample kernel, for this machine and for an older one, at
// sizes that no vector divides.
#include "tests/check.h"
#include "tests/random_kernel.h"
#include "tests/sample_kernels.h"

#include "compiler/emit/emit.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

static int64_t tasks_of(const Code *code, const int64_t *symbols) {
  int64_t count = 1;
  for (int i = 0; i < code->work.count; i++) {
    int64_t extent = extent_value(code->work.terms[i].extent, symbols), divisor = code->work.terms[i].divisor;
    count *= (extent + divisor - 1) / divisor;
  }
  return count;
}

// All tasks, in `parts` calls from the last to the first: their order can not matter.
static void run_code(const Code *code, void *const *buffers, const int64_t *symbols, int64_t parts) {
  int64_t tasks = tasks_of(code, symbols);
  void *scratch = aligned_alloc(64, (size_t)(code->scratch_bytes + 63) / 64 * 64 + 64);
  for (int64_t part = parts; part-- > 0;)
    code->entry(buffers, symbols, tasks * part / parts, tasks * (part + 1) / parts, scratch);
  free(scratch);
}

// An angle of n radians that is right to the last place turns its sine by n such places.
static double tolerance(const Kernel *kernel, const int64_t *symbols) {
  double bound = sample_tolerance(kernel);
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (kernel->exprs[id].op == SCALAR_SIN) return bound + (double)symbols[SYMBOL_SEEN] * 0x1p-23;
  return bound;
}

// Infinities and NaN among the inputs, at places that depend on the seed.
static void spoil(const Kernel *kernel, SampleData *data, unsigned seed) {
  static const float special[] = {INFINITY, -INFINITY, NAN, -0.0f, 0x1p-130f};
  for (int i = 0; i < kernel->buffer_count; i++) {
    if (kernel->buffers[i].dtype != DTYPE_F32 || kernel->buffers[i].use != BUFFER_READ) continue;
    for (int k = 0; k < 5 && data->elements[i]; k++) {
      seed = seed * 1664525u + 1013904223u;
      if (seed >> 30) ((float *)data->buffers[i])[(seed >> 8) % data->elements[i]] = special[k];
    }
  }
}

static void compare(const Kernel *kernel, const Code *code, const int64_t *symbols, const char *what,
                    unsigned spoilt) {
  SampleData expected = sample_data(kernel, symbols, 1), got = sample_data(kernel, symbols, 1);
  if (spoilt) spoil(kernel, &expected, spoilt), spoil(kernel, &got, spoilt);
  kernel_interpret(kernel, expected.buffers, symbols);
  run_code(code, got.buffers, symbols, 3);
  double error = sample_error(kernel, &expected, &got), bound = tolerance(kernel, symbols);
  CHECK(error <= bound, "%s %s%s B=%d T=%d P=%d: error %g, bound %g", kernel->name, what,
        spoilt ? ", spoilt" : "", (int)symbols[SYMBOL_BATCH], (int)symbols[SYMBOL_TIME],
        (int)symbols[SYMBOL_PAST], error, bound);
  sample_data_free(&expected);
  sample_data_free(&got);
}

static void test_width(const Emitter *emitter, const char *architecture, const char *only, int width) {
  static const int64_t sizes[][3] = {{1, 1, 0}, {2, 3, 0}, {3, 17, 2}, {2, 33, 31}, {2, 0, 5}, {0, 4, 0}};
  Arena *arena = arena_new();
  Kernel *kernels[SAMPLE_COUNT];
  Code codes[SAMPLE_COUNT] = {{0}};
  size_t count = 0;
  Failure failure;
  void *handle = NULL;
  char what[64];
  snprintf(what, sizeof what, "width %d on %s", width, architecture ? architecture : "this machine");
  for (int i = 0; i < SAMPLE_COUNT; i++)
    if (!only || strstr(samples[i].name, only)) kernels[count++] = samples[i].make(arena, width);
  EmitOptions options = {.architecture = architecture, .threads = 2};
  bool compiled = emitter->compile(kernels, count, &options, codes, &handle, &failure);
  CHECK(compiled, "%s: %s", what, compiled ? "" : failure.message);
  for (size_t i = 0; compiled && i < count; i++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      int64_t symbols[SYMBOL_COUNT] = {0, sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][1] + sizes[s][2]};
      compare(kernels[i], &codes[i], symbols, what, 0);
      if (s == 2) compare(kernels[i], &codes[i], symbols, what, (unsigned)width);
    }
  if (compiled) emitter->release(handle);
  arena_free(arena);
}

// For this machine, for one with AVX2 and for one without: all run here.
static void test_samples(const Emitter *emitter, const char *only) {
  static const int here[] = {1, 7, 15, 16, 17, 31, 33, 63, 130}, older[] = {15, 33, 64};
  for (size_t i = 0; i < sizeof here / sizeof *here; i++) test_width(emitter, NULL, only, here[i]);
  for (size_t i = 0; i < sizeof older / sizeof *older; i++) test_width(emitter, "haswell", only, older[i]);
  test_width(emitter, "x86-64", only, 17);
}

static void test_random(const Emitter *emitter, const char *architecture, int first, int last) {
  enum { BATCH = 40 };
  for (int start = first; start < last; start += BATCH) {
    Arena *arena = arena_new();
    Kernel *kernels[BATCH];
    Code codes[BATCH] = {{0}};
    int count = last - start < BATCH ? last - start : BATCH;
    Failure failure;
    void *handle = NULL;
    for (int i = 0; i < count; i++) {
      Text reason = {0};
      kernels[i] = random_kernel(arena, (uint64_t)(start + i));
      CHECK(kernel_verify(kernels[i], &reason), "random kernel %d: %s", start + i, text_string(&reason));
      text_free(&reason);
    }
    EmitOptions options = {.architecture = architecture, .threads = 2};
    bool compiled = emitter->compile(kernels, (size_t)count, &options, codes, &handle, &failure);
    CHECK(compiled, "%s", compiled ? "" : failure.message);
    for (int i = 0; compiled && i < count; i++) {
      compare(kernels[i], &codes[i], (int64_t[SYMBOL_COUNT]){0, 3, 18, 5, 23}, "at random", 0);
      compare(kernels[i], &codes[i], (int64_t[SYMBOL_COUNT]){0, 1, 4, 0, 4}, "at random", 0);
    }
    if (compiled) emitter->release(handle);
    arena_free(arena);
  }
}

// ---- the same bits however the tasks are dealt out

static void test_tasks(const Emitter *emitter) {
  Arena *arena = arena_new();
  Kernel *kernels[SAMPLE_COUNT];
  Code codes[SAMPLE_COUNT] = {{0}};
  const int64_t symbols[SYMBOL_COUNT] = {0, 3, 37, 2, 39};
  Failure failure;
  void *handle;
  for (int i = 0; i < SAMPLE_COUNT; i++) kernels[i] = samples[i].make(arena, 70);
  EmitOptions options = {.threads = 2};
  bool compiled = emitter->compile(kernels, SAMPLE_COUNT, &options, codes, &handle, &failure);
  CHECK(compiled, "%s", compiled ? "" : failure.message);
  for (int i = 0; compiled && i < SAMPLE_COUNT; i++) {
    SampleData whole = sample_data(kernels[i], symbols, 3), parts = sample_data(kernels[i], symbols, 3);
    run_code(&codes[i], whole.buffers, symbols, 1);
    run_code(&codes[i], parts.buffers, symbols, 5);
    for (int b = 0; b < whole.count; b++)
      CHECK(!memcmp(whole.buffers[b], parts.buffers[b], whole.bytes[b]),
            "%s: %s depends on who runs which task", kernels[i]->name, kernels[i]->buffers[b].name);
    sample_data_free(&whole);
    sample_data_free(&parts);
  }
  if (compiled) emitter->release(handle);
  arena_free(arena);
}

// ---- the cache of objects

static int count_files(const char *folder, char *one, size_t size) {
  int count = 0;
  DIR *list = opendir(folder);
  for (struct dirent *entry; list && (entry = readdir(list));)
    if (entry->d_name[0] != '.') {
      count++;
      snprintf(one, size, "%s/%s", folder, entry->d_name);
    }
  if (list) closedir(list);
  return count;
}

static void compile_cached(const Emitter *emitter, const char *folder, const char *when) {
  Arena *arena = arena_new();
  Kernel *kernel = sample_layer_norm(arena, 33);
  Code code = {0};
  Failure failure;
  void *handle;
  EmitOptions options = {.threads = 1, .cache = folder};
  bool compiled = emitter->compile(&kernel, 1, &options, &code, &handle, &failure);
  CHECK(compiled, "%s: %s", when, compiled ? "" : failure.message);
  if (compiled) compare(kernel, &code, (int64_t[SYMBOL_COUNT]){0, 2, 5, 0, 5}, when, 0);
  if (compiled) emitter->release(handle);
  arena_free(arena);
}

// A file that is damaged in the middle, cut short, empty or longer than it says counts as none and is
// replaced.
static void test_cache(const Emitter *emitter) {
  char top[] = "/tmp/vlmc-cache-XXXXXX", folder[64], file[512] = "";
  if (!mkdtemp(top)) {
    SKIP("no folder for the cache: %s", top);
    return;
  }
  snprintf(folder, sizeof folder, "%s/made/on/demand", top);
  compile_cached(emitter, folder, "into an empty cache");
  CHECK(count_files(folder, file, sizeof file) == 1, "one kernel, one file");
  compile_cached(emitter, folder, "out of the cache");
  FILE *opened = fopen(file, "rb");
  static char whole[1 << 20];
  size_t size = opened ? fread(whole, 1, sizeof whole, opened) : 0;
  if (opened) fclose(opened);
  CHECK(size > 500, "the file holds an object");
  const size_t lengths[] = {size, size / 2, 0, 10, size + 1};
  for (int i = 0; i < 5; i++) {
    char damaged[sizeof whole] = {0};
    memcpy(damaged, whole, size);
    if (i == 0) damaged[size / 2] ^= 1;
    opened = fopen(file, "wb");
    fwrite(damaged, 1, lengths[i], opened);
    fclose(opened);
    compile_cached(emitter, folder, "out of a damaged cache");
    opened = fopen(file, "rb");
    char again[sizeof whole];
    bool same = fread(again, 1, sizeof again, opened) == size && !memcmp(again, whole, size);
    fclose(opened);
    CHECK(same, "damage %d was replaced by what was there before", i);
  }
  unlink(file);
  for (char *slash; (slash = strrchr(folder, '/')) && slash != folder + 4; *slash = 0) rmdir(folder);
  rmdir(top);
}

// ---- text forms

static void test_text(const Emitter *emitter) {
  Arena *arena = arena_new();
  Kernel *kernel = sample_softmax(arena, 0);
  EmitOptions options = {.architecture = "haswell", .threads = 1};
  Failure failure;
  Text ir = {0}, assembly = {0}, none = {0};
  CHECK(emitter->text(kernel, "llvm", &options, &ir, &failure), "llvm: %s", failure.message);
  CHECK(emitter->text(kernel, "asm", &options, &assembly, &failure), "asm: %s", failure.message);
  CHECK(strstr(text_string(&ir), "define void @kernel_softmax("), "IR has the kernel's function");
  CHECK(strstr(text_string(&ir), "<16 x float>") || strstr(text_string(&ir), "<8 x float>"),
        "IR has vectors");
  CHECK(strstr(text_string(&assembly), "ymm") && !strstr(text_string(&assembly), "zmm"),
        "haswell has AVX2 only");
  CHECK(!emitter->text(kernel, "cubin", &options, &none, &failure) && strstr(failure.message, "llvm or asm"),
        "another target's form is refused");
  text_free(&ir), text_free(&assembly), text_free(&none);
  arena_free(arena);
}

// ---- one function over the whole range of floats

static Kernel *map_of(Arena *arena, ScalarOp op, int operands, int count) {
  Kernel *k = kernel_new(arena, scalar_table[op].name);
  int n = sample_axis(k, "n", count);
  int x = SAMPLE_IN(k, "x", n), z = operands == 2 ? SAMPLE_IN(k, "z", n) : -1, y = SAMPLE_OUT(k, "y", n);
  ExprId first = sample_load(k, x, SAMPLE_AXES(n));
  ExprId value = operands == 2 ? kernel_binary(k, op, first, sample_load(k, z, SAMPLE_AXES(n)))
                               : kernel_unary(k, op, first);
  sample_store(k, y, SAMPLE_AXES(n), value);
  return k;
}

// Distance in units in the last place of the exact result; what is beyond the largest float is infinity.
static double places(double exact, float got) {
  float nearest = (float)exact;
  if (nearest == got || (nearest != nearest && got != got)) return 0;
  if (!(fabsf(nearest) <= 0x1.fffffep127f) || !(fabsf(got) <= 0x1.fffffep127f)) {
    double edge = 0x1p128 - 0x1p104; // one of them is infinite: were both near the edge?
    return fabs(exact) > edge && fabs((double)got) >= edge ? 1 : INFINITY;
  }
  double unit = ldexp(1, (nearest == 0                    ? -126
                          : ilogb((double)nearest) < -126 ? -126
                                                          : ilogb((double)nearest)) -
                             23);
  return fabs((double)got - exact) / unit;
}

static void test_function(const Emitter *emitter, const char *architecture, ScalarOp op,
                          double (*exact)(double), double bound) {
  enum { STRIDE = 2999, COUNT = 0xFFFFFFFFu / STRIDE };
  Arena *arena = arena_new();
  Kernel *kernel = map_of(arena, op, 1, COUNT);
  Code code = {0};
  void *handle;
  Failure failure;
  EmitOptions options = {.architecture = architecture, .threads = 1};
  float *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
  bool compiled = emitter->compile(&kernel, 1, &options, &code, &handle, &failure);
  CHECK(compiled, "%s", compiled ? "" : failure.message);
  for (uint32_t i = 0; i < COUNT; i++) memcpy(&x[i], &(uint32_t){i * STRIDE}, 4);
  static const float special[] = {0, -0.0f, INFINITY,  -INFINITY, NAN,
                                  1, -1,    0x1p-149f, 0x1p-126f, 0x1.fffffep127f};
  memcpy(x, special, sizeof special);
  if (compiled) run_code(&code, (void *[]){x, y}, (int64_t[SYMBOL_COUNT]){0}, 1);
  double worst = 0, at = 0;
  for (uint32_t i = 0; i < COUNT; i++) {
    double error = places(exact((double)x[i]), y[i]);
    if (error > worst) worst = error, at = (double)x[i];
  }
  CHECK(worst <= bound, "%s: off by %.2f places at %a, bound %.2f", scalar_table[op].name, worst, at, bound);
  if (compiled) emitter->release(handle);
  free(x), free(y);
  arena_free(arena);
}

static double rsqrt_exact(double x) { return 1 / sqrt(x); }
static void test_functions(const Emitter *emitter, const char *architecture) {
  test_function(emitter, architecture, SCALAR_EXP, exp, 2);
  test_function(emitter, architecture, SCALAR_LOG, log, 2);
  test_function(emitter, architecture, SCALAR_TANH, tanh, 4);
  test_function(emitter, architecture, SCALAR_ERF, erf, 4);
  test_function(emitter, architecture, SCALAR_SQRT, sqrt, 0.51);
  test_function(emitter, architecture, SCALAR_RSQRT, rsqrt_exact, 1.6);
  test_function(emitter, architecture, SCALAR_FLOOR, floor, 0);
}

// Sines near a multiple of pi are small differences: the bound is absolute.
static void test_circle(const Emitter *emitter, const char *architecture) {
  enum { COUNT = 100000 };
  Arena *arena = arena_new();
  Kernel *kernels[] = {map_of(arena, SCALAR_SIN, 1, COUNT), map_of(arena, SCALAR_COS, 1, COUNT)};
  Code codes[2] = {{0}};
  void *handle;
  Failure failure;
  EmitOptions options = {.architecture = architecture, .threads = 1};
  bool compiled = emitter->compile(kernels, 2, &options, codes, &handle, &failure);
  CHECK(compiled, "%s", compiled ? "" : failure.message);
  float *x = malloc(COUNT * sizeof *x), *y = malloc(COUNT * sizeof *y);
  int reach = architecture && !strcmp(architecture, "x86-64") ? 11 : 30; // without fma products must be exact
  for (int i = 0; i < COUNT; i++) x[i] = (float)ldexp(i % 2 ? -0.1 - i : 0.1 + i, i % reach - 10);
  for (int f = 0; compiled && f < 2; f++) {
    double worst = 0;
    run_code(&codes[f], (void *[]){x, y}, (int64_t[SYMBOL_COUNT]){0}, 1);
    for (int i = 0; i < COUNT; i++)
      worst = fmax(worst, fabs((double)y[i] - (f ? cos((double)x[i]) : sin((double)x[i]))));
    CHECK(worst <= 0x1p-23, "%s: off by %g", f ? "cos" : "sin", worst);
    const float special[] = {INFINITY, -INFINITY, NAN, 0x1p100f};
    float before[4];
    memcpy(before, x, sizeof before);
    memcpy(x, special, sizeof special);
    run_code(&codes[f], (void *[]){x, y}, (int64_t[SYMBOL_COUNT]){0}, 1);
    memcpy(x, before, sizeof before);
    CHECK(y[0] != y[0] && y[1] != y[1] && y[2] != y[2] && fabsf(y[3]) <= 1, "%s of infinities and NaN",
          f ? "cos" : "sin");
  }
  if (compiled) emitter->release(handle);
  free(x), free(y);
  arena_free(arena);
}

static void test_power(const Emitter *emitter, const char *architecture) {
  static const float special[] = {0,         -0.0f,      1,        -1,        2,       -2,    0.5f,
                                  -0.5f,     3,          -3,       1e-30f,    -1e-30f, 1e30f, -1e30f,
                                  0x1p-149f, -0x1p-149f, INFINITY, -INFINITY, NAN,     2.5f,  -2.5f,
                                  16777216,  16777217,   0.999f,   7,         41};
  enum { SPECIAL = sizeof special / sizeof *special, COUNT = SPECIAL * SPECIAL + 20000 };
  Arena *arena = arena_new();
  Kernel *kernel = map_of(arena, SCALAR_POW, 2, COUNT);
  Code code = {0};
  void *handle;
  Failure failure;
  EmitOptions options = {.architecture = architecture, .threads = 1};
  bool compiled = emitter->compile(&kernel, 1, &options, &code, &handle, &failure);
  CHECK(compiled, "%s", compiled ? "" : failure.message);
  float *x = malloc(COUNT * sizeof *x), *z = malloc(COUNT * sizeof *z), *y = malloc(COUNT * sizeof *y);
  for (int i = 0; i < COUNT; i++) {
    x[i] = i < SPECIAL * SPECIAL ? special[i / SPECIAL] : (float)(i * 0.00171);
    z[i] = i < SPECIAL * SPECIAL ? special[i % SPECIAL] : (float)((i * 7919 % 20011) * 0.003 - 30);
  }
  if (compiled) run_code(&code, (void *[]){x, z, y}, (int64_t[SYMBOL_COUNT]){0}, 1);
  for (int i = 0; i < COUNT; i++) {
    double error = places(pow((double)x[i], (double)z[i]), y[i]);
    CHECK(error <= 1, "pow(%a, %a) is %a, off by %.2f places", (double)x[i], (double)z[i], (double)y[i],
          error);
  }
  if (compiled) emitter->release(handle);
  free(x), free(y), free(z);
  arena_free(arena);
}

int main(int argc, char **argv) {
  Failure failure;
  const Emitter *emitter = emit_find("cpu", &failure);
  if (!emitter) {
    SKIP("%s", failure.message);
    return check_finish();
  }
  const char *only = argc > 1 ? argv[1] : NULL;
  static const char *const architectures[] = {NULL, "haswell", "x86-64"};
  for (int i = 0; i < 3; i++) {
    test_functions(emitter, architectures[i]);
    test_circle(emitter, architectures[i]);
    test_power(emitter, architectures[i]);
  }
  test_tasks(emitter);
  test_cache(emitter);
  test_text(emitter);
  test_samples(emitter, only);
  int first = argc > 2 ? atoi(argv[2]) : 0, last = argc > 2 ? first + 1 : 120;
  test_random(emitter, NULL, first, last);
  test_random(emitter, "haswell", first, argc > 2 ? last : 30);
  return check_finish();
}
