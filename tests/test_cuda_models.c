// Models on target cuda: every kernel of their programs, at small sizes, executed by the simulator and, where there is
// one, by the GPU, against the interpreter. test_cubins.c compiles all kernels of all presets.
#include "compiler/compile.h"
#include "compiler/emit/cuda_emit.h"
#include "tests/check.h"
#include "tests/cuda_device.h"
#include "tests/cuda_simulate.h"

typedef struct Wanted {
  const char *model, *preset, *stage;
  ProgramKind kind;
  DType storage;
  Packing packing;
  const char *defines[8]; // small sizes for the simulator
} Wanted;

#define SMALL_VISION                                                                                         \
  "vision.image=12", "vision.patch=4", "vision.width=24", "vision.heads=3", "vision.depth=1"
#define SMALL_LLAMA "vocab=40", "width=36", "heads=3", "groups=1", "hidden=40", "depth=1"
#define SMALL_LM    "lm.width=24", "lm.heads=3", "lm.depth=1"
static const Wanted wanted[] = {
    {"models/vit.vlm",
     "tiny",
     NULL,
     PROGRAM_FORWARD,
     DTYPE_F32,
     PACKING_NONE,
     {"image=12", "patch=4", "width=24", "heads=3", "depth=1"}},
    {"models/gpt.vlm",
     "tiny",
     NULL,
     PROGRAM_TRAIN,
     DTYPE_F32,
     PACKING_NONE,
     {"vocab=40", "width=24", "heads=3", "depth=1"}},
    {"models/gpt.vlm",
     "tiny",
     NULL,
     PROGRAM_TRAIN,
     DTYPE_BF16,
     PACKING_NONE,
     {"vocab=40", "width=24", "heads=3", "depth=1"}},
    {"models/gpt.vlm",
     "tiny",
     NULL,
     PROGRAM_PREFILL,
     DTYPE_F32,
     PACKING_NONE,
     {"vocab=40", "width=24", "heads=3", "depth=1"}},
    {"models/gpt.vlm",
     "tiny",
     NULL,
     PROGRAM_DECODE,
     DTYPE_F32,
     PACKING_NONE,
     {"vocab=40", "width=24", "heads=3", "depth=1"}},
    {"models/clip.vlm", "tiny", NULL, PROGRAM_TRAIN, DTYPE_F32, PACKING_NONE, {SMALL_VISION}},
    {"models/vlm.vlm", "tiny", "pretrain", PROGRAM_TRAIN, DTYPE_F32, PACKING_NONE, {SMALL_VISION}},
    {"models/vlm.vlm", "tiny", "sft", PROGRAM_TRAIN, DTYPE_F32, PACKING_NONE, {SMALL_VISION}},
    {"models/vlm.vlm", "tiny", "sft", PROGRAM_PREFILL, DTYPE_F32, PACKING_NONE, {SMALL_VISION}},
    {"models/vlm.vlm", "tiny", "sft", PROGRAM_DECODE, DTYPE_F32, PACKING_NONE, {SMALL_VISION}},
    {"models/vlm.vlm", "tiny", "sft", PROGRAM_PREFILL, DTYPE_F32, PACKING_Q8_0, {SMALL_VISION}},
    {"models/llama.vlm", "tiny", NULL, PROGRAM_PREFILL, DTYPE_F32, PACKING_BF16, {SMALL_LLAMA}},
    {"models/llama.vlm", "tiny", NULL, PROGRAM_PREFILL, DTYPE_F32, PACKING_Q4_0, {SMALL_LLAMA}},
    {"models/llama.vlm", "tiny", NULL, PROGRAM_DECODE, DTYPE_BF16, PACKING_Q4_0, {SMALL_LLAMA}},
    {"models/llama.vlm", "tiny", NULL, PROGRAM_DECODE, DTYPE_F32, PACKING_Q8_0, {SMALL_LLAMA}},
};
enum { WANTED_COUNT = sizeof wanted / sizeof *wanted };
static const int64_t sizes[2][SYMBOL_COUNT] = {{0, 2, 5, 0, 5}, {0, 1, 1, 6, 7}}; // many positions, one

// Distinct kernels of many programs; the compilers that own them stay open.
typedef struct Found {
  Kernel *kernel;
  uint64_t hash;
  const int64_t *likely; // the program's sizes
} Found;
typedef struct Kernels {
  Arena *arena;
  Found *list;
  size_t count, capacity;
  Compiler *compilers[WANTED_COUNT];
} Kernels;

static void add_kernel(Kernels *kernels, Kernel *kernel, const int64_t *likely) {
  uint64_t hash = kernel_hash(kernel);
  for (size_t i = 0; i < kernels->count; i++)
    if (kernels->list[i].hash == hash && kernel_same_code(kernels->list[i].kernel, kernel)) return;
  kernel->name = arena_print(kernels->arena, "k%zu_%s", kernels->count, kernel->name);
  Found found = {kernel, hash, likely};
  ARENA_PUSH(kernels->arena, kernels->list, kernels->count, kernels->capacity, found);
}

static void add_program(Kernels *kernels, int number) {
  static const char *const library[] = {"stdlib", "models"};
  const Wanted *of = &wanted[number];
  CompileOptions options = {.model = of->model,
                            .preset = of->preset,
                            .stage = of->stage,
                            .target = "cuda",
                            .storage = of->storage,
                            .packing = of->packing,
                            .library = library,
                            .library_count = 2,
                            .threads = 1};
  options.defines = of->defines;
  while (of->defines[options.define_count]) options.define_count++;
  Text errors = {0};
  Compiler *compiler = kernels->compilers[number] = compiler_open(&options, &errors);
  CHECK(compiler, "%s", text_string(&errors));
  text_free(&errors);
  const Unit *unit = compiler ? compiler_unit_until(compiler, of->kind, "lower") : NULL;
  CHECK(unit, "%s %s: %s", of->model, program_names[of->kind], compiler ? compiler_errors(compiler) : "");
  for (size_t i = 0; unit && i < unit->lowered.kernel_count; i++)
    add_kernel(kernels, unit->lowered.kernels[i], unit->symbols);
}

static void collect(Kernels *kernels) {
  *kernels = (Kernels){.arena = arena_new()};
  for (int i = 0; i < WANTED_COUNT; i++) add_program(kernels, i);
  printf("%zu distinct kernels\n", kernels->count);
}

static void kernels_free(Kernels *kernels) {
  for (int i = 0; i < WANTED_COUNT; i++) compiler_close(kernels->compilers[i]);
  arena_free(kernels->arena);
}

static void test_simulated(const Kernels *kernels, const char *folder) {
  Case *cases = ARENA_ARRAY(kernels->arena, Case, kernels->count + 1);
  Text functions = {0};
  for (size_t i = 0; i < kernels->count; i++) {
    cases[i].kernel = kernels->list[i].kernel;
    add_case(&cases[i], kernels->list[i].likely, &functions);
  }
  void *handle = build_cases(kernels->arena, folder, "models", &functions);
  for (size_t i = 0; handle && i < kernels->count; i++)
    for (int s = 0; s < 2; s++) check_case(handle, &cases[i], sizes[s], 0, 8);
  if (handle) dlclose(handle);
  text_free(&functions);
}

static void test_device(const Kernels *kernels) {
  Gpu gpu;
  if (!gpu_open(&gpu, "kernels of the models")) return;
  for (size_t i = 0; i < kernels->count; i++)
    gpu_check(&gpu, kernels->list[i].kernel, kernels->list[i].likely, sizes, 2, 16);
  gpu_close(&gpu);
}

int main(void) {
  char folder[] = "/tmp/vlmc-test-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  Kernels kernels;
  collect(&kernels);
  if (simulator_available())
    test_simulated(&kernels, folder);
  else
    SKIP("simulated kernels of the models: no g++ on this machine");
  rmdir(folder);
  test_device(&kernels);
  kernels_free(&kernels);
  return check_finish();
}
