// The shipped models on target cuda without a GPU: every kernel of their programs, at small sizes, executed
// by the simulator against the interpreter; and every kernel of their presets through NVRTC for two
// architectures.
#include "compiler/compile.h"
#include "compiler/emit/cuda_emit.h"
#include "tests/check.h"
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
#define SMALL_LM "lm.width=24", "lm.heads=3", "lm.depth=1"
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
enum { WANTED_COUNT = sizeof wanted / sizeof *wanted, MAX_KERNELS = 1000 };

// Distinct kernels of many programs; the compilers that own them stay open.
typedef struct Kernels {
  Arena *arena;
  Kernel *list[MAX_KERNELS];
  uint64_t hashes[MAX_KERNELS];
  const int64_t *likely[MAX_KERNELS]; // the program's sizes
  int count;
  Compiler *compilers[WANTED_COUNT];
} Kernels;

static void add_kernel(Kernels *kernels, Kernel *kernel, const int64_t *likely) {
  uint64_t hash = kernel_hash(kernel);
  for (int i = 0; i < kernels->count; i++)
    if (kernels->hashes[i] == hash && kernel_same_code(kernels->list[i], kernel)) return;
  if (kernels->count == MAX_KERNELS) return;
  kernel->name = arena_print(kernels->arena, "k%d_%s", kernels->count, kernel->name);
  kernels->hashes[kernels->count] = hash;
  kernels->likely[kernels->count] = likely;
  kernels->list[kernels->count++] = kernel;
}

static void add_program(Kernels *kernels, int number, bool small) {
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
  while (small && of->defines[options.define_count]) options.define_count++;
  Text errors = {0};
  Compiler *compiler = kernels->compilers[number] = compiler_open(&options, &errors);
  CHECK(compiler, "%s", text_string(&errors));
  text_free(&errors);
  const Unit *unit = compiler ? compiler_unit_until(compiler, of->kind, "lower") : NULL;
  CHECK(unit, "%s %s: %s", of->model, program_names[of->kind], compiler ? compiler_errors(compiler) : "");
  for (size_t i = 0; unit && i < unit->lowered.kernel_count; i++)
    add_kernel(kernels, unit->lowered.kernels[i], unit->symbols);
}

static Kernels *collect(bool small) {
  Arena *arena = arena_new();
  Kernels *kernels = ARENA_NEW(arena, Kernels);
  kernels->arena = arena;
  for (int i = 0; i < WANTED_COUNT; i++) add_program(kernels, i, small);
  return kernels;
}

static void kernels_free(Kernels *kernels) {
  for (int i = 0; i < WANTED_COUNT; i++) compiler_close(kernels->compilers[i]);
  arena_free(kernels->arena);
}

static void test_simulated(const char *folder) {
  static const int64_t sizes[SYMBOL_COUNT] = {0, 2, 5, 0, 5}, decoding[SYMBOL_COUNT] = {0, 1, 1, 6, 7};
  Kernels *kernels = collect(true);
  Case *cases = ARENA_ARRAY(kernels->arena, Case, kernels->count + 1);
  Text functions = {0};
  for (int i = 0; i < kernels->count; i++) {
    cases[i].kernel = kernels->list[i];
    add_case(&cases[i], kernels->likely[i], &functions);
  }
  void *handle = build_cases(kernels->arena, folder, "models", &functions);
  for (int i = 0; handle && i < kernels->count; i++) {
    check_case(handle, &cases[i], sizes, 0, 8);
    check_case(handle, &cases[i], decoding, 0, 8);
  }
  if (handle) dlclose(handle);
  text_free(&functions);
  kernels_free(kernels);
}

static void test_cubins(void) {
  static const char *const architectures[] = {"sm_80", "sm_90a"};
  CudaCompiler compiler;
  Failure failure = {0};
  if (!cuda_compiler_open(&compiler, &failure)) {
    SKIP("cubins of the models: %s", failure.message);
    return;
  }
  Kernels *kernels = collect(false);
  Code *codes = ARENA_ARRAY(kernels->arena, Code, kernels->count + 1);
  for (int a = 0; a < 2; a++) {
    EmitOptions options = {.architecture = architectures[a], .threads = 2};
    void *handle = NULL;
    bool fine =
        emitter_cuda.compile(kernels->list, (size_t)kernels->count, &options, codes, &handle, &failure);
    CHECK(fine, "%s", failure.message);
    for (int i = 0; fine && i < kernels->count; i++)
      CHECK(codes[i].cubin_bytes && !codes[i].spill_bytes, "%s for %s spills %d bytes", codes[i].name,
            architectures[a], codes[i].spill_bytes);
    if (fine) emitter_cuda.release(handle);
  }
  printf("%d distinct kernels\n", kernels->count);
  kernels_free(kernels);
}

int main(void) {
  char folder[] = "/tmp/vlmc-test-XXXXXX";
  if (!mkdtemp(folder)) return 1;
  if (simulator_available())
    test_simulated(folder);
  else
    SKIP("simulated kernels of the models: no g++ on this machine");
  rmdir(folder);
  test_cubins();
  return check_finish();
}
