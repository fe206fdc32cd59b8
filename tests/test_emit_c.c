// Target c against the interpreter: the text of every sample is compiled by the system's compiler and
// executed.
#include "compiler/emit/emit.h"
#include "tests/check.h"
#include "tests/sample_kernels.h"

#include <dlfcn.h>
#include <unistd.h>

// Calls void f(buffers..., long long B, T, P, S): pointers and long long pass alike as whole registers and
// stack slots, so that one call of 24 + 4 words serves all.
static void call_with(void *function, const Kernel *kernel, void *const *buffers, const int64_t *symbols) {
  int64_t w[KERNEL_MAX_BUFFERS + SYMBOL_COUNT] = {0};
  int n = kernel->buffer_count;
  for (int i = 0; i < n; i++) w[i] = (int64_t)(intptr_t)buffers[i];
  for (int i = 1; i < SYMBOL_COUNT; i++) w[n++] = symbols[i];
  typedef int64_t W;
  void (*f)(W, W, W, W, W, W, W, W, W, W, W, W, W, W, W, W);
  *(void **)&f = function;
  f(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15]);
}

static void test_sample(const char *folder, const Sample *sample, int width) {
  int64_t symbols[SYMBOL_COUNT] = {0, 2, 5, 4, 9};
  Arena *arena = arena_new();
  Kernel *kernel = sample->make(arena, width);
  Text text = {0};
  Failure failure = {0};
  EmitOptions options = {.symbols = symbols};
  CHECK(emitter_c.text(kernel, "c", &options, &text, &failure), "%s", failure.message);
  char *source = arena_print(arena, "%s/%s.c", folder, sample->name);
  char *library = arena_print(arena, "%s/%s_%d.so", folder, sample->name, width);
  FILE *file = fopen(source, "w");
  fwrite(text.bytes, 1, text.length, file);
  fclose(file);
  char *command =
      arena_print(arena, "cc -std=c11 -Wall -Werror -O1 -fPIC -shared -o %s %s -lm", library, source);
  bool compiled = system(command) == 0;
  CHECK(compiled, "%s is not C:\n%s", sample->name, text_string(&text));
  void *handle = compiled ? dlopen(library, RTLD_NOW) : NULL;
  void *function = handle ? dlsym(handle, arena_print(arena, "kernel_%s", kernel->name)) : NULL;
  CHECK(function, "%s", kernel->name);
  if (function) {
    SampleData expected = sample_data(kernel, symbols, 3), got = sample_data(kernel, symbols, 3);
    kernel_interpret(kernel, expected.buffers, symbols);
    call_with(function, kernel, got.buffers, symbols);
    double error = sample_error(kernel, &expected, &got);
    CHECK(error <= sample_tolerance(kernel), "%s at width %d: error %g\n%s", sample->name, width, error,
          text_string(&text));
    sample_data_free(&expected);
    sample_data_free(&got);
  }
  if (handle) dlclose(handle);
  unlink(source);
  unlink(library);
  text_free(&text);
  arena_free(arena);
}

int main(void) {
  char folder[] = "/tmp/vlmc-test-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  for (int i = 0; i < SAMPLE_COUNT; i++) test_sample(folder, &samples[i], 7);
  rmdir(folder);
  return check_finish();
}
