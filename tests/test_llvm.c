// The LLVM backend against the interpreter: every sample kernel, for this machine and for an older one, at
// sizes that no vector divides.
#include "tests/check.h"
#include "tests/sample_kernels.h"

#include "compiler/emit/emit.h"

#include <stdlib.h>

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

static void compare(const Kernel *kernel, const Code *code, const int64_t *symbols, const char *what) {
  SampleData expected = sample_data(kernel, symbols, 1), got = sample_data(kernel, symbols, 1);
  kernel_interpret(kernel, expected.buffers, symbols);
  run_code(code, got.buffers, symbols, 3);
  double error = sample_error(kernel, &expected, &got), bound = tolerance(kernel, symbols);
  CHECK(error <= bound, "%s %s B=%d T=%d P=%d: error %g, bound %g", kernel->name, what,
        (int)symbols[SYMBOL_BATCH], (int)symbols[SYMBOL_TIME], (int)symbols[SYMBOL_PAST], error, bound);
  sample_data_free(&expected);
  sample_data_free(&got);
}

static void test_samples(const Emitter *emitter, const char *architecture, const char *only) {
  static const int widths[] = {1, 7, 15, 16, 17, 31, 33, 63, 64, 130};
  static const int64_t sizes[][3] = {{1, 1, 0}, {2, 3, 0}, {3, 17, 2}, {2, 33, 31}};
  for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
    Arena *arena = arena_new();
    Kernel *kernels[SAMPLE_COUNT];
    Code codes[SAMPLE_COUNT] = {{0}};
    size_t count = 0;
    Failure failure;
    void *handle = NULL;
    for (int i = 0; i < SAMPLE_COUNT; i++)
      if (!only || strstr(samples[i].name, only)) kernels[count++] = samples[i].make(arena, widths[w]);
    EmitOptions options = {.architecture = architecture, .threads = 2};
    bool compiled = emitter->compile(kernels, count, &options, codes, &handle, &failure);
    CHECK(compiled, "width %d: %s", widths[w], compiled ? "" : failure.message);
    for (size_t i = 0; compiled && i < count; i++)
      for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t symbols[SYMBOL_COUNT] = {0, sizes[s][0], sizes[s][1], sizes[s][2], sizes[s][1] + sizes[s][2]};
        char what[64];
        snprintf(what, sizeof what, "width %d on %s", widths[w],
                 architecture ? architecture : "this machine");
        compare(kernels[i], &codes[i], symbols, what);
      }
    if (compiled) emitter->release(handle);
    arena_free(arena);
  }
}

int main(int argc, char **argv) {
  Failure failure;
  const Emitter *emitter = emit_find("cpu", &failure);
  if (!emitter) {
    SKIP("%s", failure.message);
    return check_finish();
  }
  const char *only = argc > 1 ? argv[1] : NULL;
  test_samples(emitter, NULL, only);
  test_samples(emitter, "haswell", only);
  return check_finish();
}
