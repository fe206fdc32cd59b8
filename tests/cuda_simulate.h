// CUDA text on the CPU, for tests: kernels to text, text through the system's C++ compiler with
// cuda_simulator.h, the resulting functions beside the interpreter. Run from the project's folder.
#ifndef VLMC_TESTS_CUDA_SIMULATE_H
#define VLMC_TESTS_CUDA_SIMULATE_H

#include "compiler/emit/cuda_emit.h"
#include "tests/check.h"
#include "tests/sample_kernels.h"

#include <dlfcn.h>
#include <unistd.h>

typedef struct SimulatorBuffer { // as in cuda_simulator.h
  void *memory;
  size_t bytes;
  bool writable;
  const char *name;
} SimulatorBuffer;
typedef bool SimulatorFunction(long long blocks, int threads, const SimulatorBuffer *buffers, int count,
                               const long long *sizes, char *report, size_t size);

static inline bool simulator_available(void) { return system("g++ --version > /dev/null 2>&1") == 0; }

typedef struct Case {
  Kernel *kernel;
  CudaShape shape;
} Case;

static inline bool write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  if (!file) return false;
  fputs(text, file);
  return fclose(file) == 0;
}

// Compiles CUDA text as C++ under the simulator; NULL if that can not be done.
static inline void *build(Arena *arena, const char *folder, const char *name, const char *text) {
  char *source = arena_print(arena, "%s/%s.cu", folder, name),
       *object = arena_print(arena, "%s/%s.o", folder, name);
  char *library = arena_print(arena, "%s/%s.so", folder, name);
  if (!write_file(source, text)) return NULL;
  char *command = arena_print(arena,
                              "g++ -std=c++17 -O1 -w -ffp-contract=off -fPIC -fsanitize=thread -I. -include "
                              "tests/cuda_simulator.h -x c++ -c -o %s %s && g++ -shared -o %s %s",
                              object, source, library, object);
  void *handle = system(command) == 0 ? dlopen(library, RTLD_NOW) : NULL;
  if (!handle && dlerror()) printf("%s\n", text);
  unlink(source), unlink(object), unlink(library);
  return handle;
}

static inline bool simulate(void *handle, const char *function, const Kernel *kernel, const CudaShape *shape,
                            SampleData *data, const int64_t *symbols, int64_t blocks, char *report,
                            size_t size) {
  SimulatorBuffer buffers[KERNEL_MAX_BUFFERS];
  long long sizes[SYMBOL_COUNT];
  SimulatorFunction *run;
  *(void **)&run = dlsym(handle, function);
  snprintf(report, size, "no function %s", function);
  if (!run) return false;
  for (int i = 0; i < kernel->buffer_count; i++)
    buffers[i] = (SimulatorBuffer){data->buffers[i], data->bytes[i], kernel->buffers[i].use != BUFFER_READ,
                                   kernel->buffers[i].name};
  for (int i = 0; i < SYMBOL_COUNT; i++) sizes[i] = symbols[i];
  return run(blocks, shape->threads, buffers, kernel->buffer_count, sizes, report, size);
}

// `blocks`: 0: as many as the code asks for; any number must do.
static inline void check_case(void *handle, const Case *test, const int64_t *symbols, int64_t blocks,
                              double slack) {
  Kernel *kernel = test->kernel;
  char report[4000], function[200];
  SampleData expected = sample_data(kernel, symbols, 5), got = sample_data(kernel, symbols, 5);
  kernel_interpret(kernel, expected.buffers, symbols);
  snprintf(function, sizeof function, "simulate_kernel_%s", kernel->name);
  if (!blocks) blocks = work_count(&test->shape.work, symbols);
  if (!blocks) blocks = 1;
  bool clean = simulate(handle, function, kernel, &test->shape, &got, symbols, blocks, report, sizeof report);
  double error = sample_error(kernel, &expected, &got);
  CHECK(clean && error <= slack * sample_tolerance(kernel), "%s at B=%d T=%d P=%d in %d blocks: error %g %s",
        kernel->name, (int)symbols[1], (int)symbols[2], (int)symbols[3], (int)blocks, error, report);
  sample_data_free(&expected);
  sample_data_free(&got);
}

// `likely`: sizes that the schedule is chosen for, or NULL.
static inline void add_case(Case *test, const int64_t *likely, Text *functions) {
  EmitOptions options = {.symbols = likely};
  cuda_function(test->kernel, &options, functions, &test->shape);
  text_print(functions, "SIMULATE(kernel_%s)\n\n", test->kernel->name);
}

static inline void *build_cases(Arena *arena, const char *folder, const char *name, const Text *functions) {
  Text text = {0};
  cuda_helpers(text_string(functions), &text);
  text_print(&text, "%s", text_string(functions));
  void *handle = build(arena, folder, name, text_string(&text));
  CHECK(handle, "the kernels of %s do not compile as C++", name);
  text_free(&text);
  return handle;
}

#endif
