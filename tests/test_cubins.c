// Every kernel of every shipped model through NVRTC, for sm_80 and sm_90a, without a GPU: all files of models/ in all
// their presets and without one, all programs and stages, f32 and bf16; without a preset, weights packed in each way.
//
// Presets differ mostly in sizes, which are constants in the text. Kernels of the same schedule whose texts differ in
// nothing but numbers and names are compiled once, at the sizes of the first. Kernels of bf16 and of packed weights all
// share the same few conversions: they are compiled for one of the two architectures in turn, q4_0 under bf16 and the
// other packings under f32. VLMC_CUBINS=all leaves nothing out: each distinct text for both.
#include "compiler/compile.h"
#include "compiler/emit/cuda_emit.h"
#include "runtime/threads.h"
#include "tests/check.h"
#include "tests/shipped.h"

#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>

static const char *const architectures[] = {"sm_80", "sm_90a"};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

typedef struct Distinct {
  const char *key, *source, *name, *where; // key: what makes it another text
  uint64_t hash;
  bool skip[ARCHITECTURES], fine[ARCHITECTURES];
  CudaObject objects[ARCHITECTURES]; // without their bytes
  Failure failures[ARCHITECTURES];
} Distinct;

typedef struct Kernels {
  Arena *arena;
  bool every_size;
  Distinct *list;
  size_t count, capacity, seen;
  uint32_t *table; // of hash % TABLE, then the next free: index + 1 into list
  atomic_size_t next;
  const CudaCompiler *compiler;
} Kernels;
enum { TABLE = 1 << 15 };

// ---- which texts are the same ---------------------------------------------------------------------------

// The schedule as it is, then the function, numbers in it (but not in names) as N.
static void write_key(const char *function, bool every_size, Text *key) {
  const char *head = strstr(function, "extern \"C\""), *schedule = head;
  while (schedule > function && schedule[-1] == '\n') schedule--;
  while (schedule > function && schedule[-1] != '\n') schedule--;
  text_add(key, schedule, (size_t)(head - schedule));
  bool in_name = false;
  for (const char *at = head; *at; at++) {
    bool digit = isdigit((unsigned char)*at);
    if (digit && !in_name && !every_size) {
      while (isdigit((unsigned char)at[1]) || at[1] == '.') at++;
      text_add(key, "N", 1);
      continue;
    }
    in_name = isalnum((unsigned char)*at) || *at == '_';
    text_add(key, at, 1);
  }
}

static uint64_t hash_of(const Text *key) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < key->length; i++) hash = (hash ^ (unsigned char)key->bytes[i]) * 1099511628211u;
  return hash;
}

// The place in the table of this key: holds 0 where it is new.
static uint32_t *find(const Kernels *kernels, const Text *key, uint64_t hash) {
  for (size_t i = hash % TABLE;; i = (i + 1) % TABLE) {
    uint32_t *place = &kernels->table[i];
    if (!*place) return place;
    const Distinct *known = &kernels->list[*place - 1];
    if (known->hash == hash && !strcmp(known->key, text_string(key))) return place;
  }
}

// What a kernel and its axes are called does not make it another one.
static void key_of(const Kernels *kernels, Kernel *kernel, const EmitOptions *options, Text *key) {
  const char *name = kernel->name, *axes[KERNEL_MAX_AXES];
  char unnamed[KERNEL_MAX_AXES][3];
  Text function = {0};
  CudaShape shape;
  kernel->name = "it";
  for (int i = 0; i < kernel->axis_count; i++) {
    snprintf(unnamed[i], sizeof unnamed[i], "%c%c", (char)('p' + i / 16), (char)('a' + i % 16));
    axes[i] = kernel->axes[i].name;
    kernel->axes[i].name = unnamed[i];
  }
  cuda_function(kernel, options, &function, &shape);
  kernel->name = name;
  for (int i = 0; i < kernel->axis_count; i++) kernel->axes[i].name = axes[i];
  write_key(text_string(&function), kernels->every_size, key);
  text_free(&function);
}

static void add_kernel(Kernels *kernels, Kernel *kernel, const int64_t *symbols, bool narrow,
                       const char *where) {
  EmitOptions options = {.symbols = symbols};
  Text key = {0}, source = {0};
  CudaShape shape;
  key_of(kernels, kernel, &options, &key);
  uint64_t hash = hash_of(&key);
  uint32_t *place = find(kernels, &key, hash);
  kernels->seen++;
  if (!*place && kernels->count + 1 < TABLE) {
    cuda_source(kernel, &options, &source, &shape);
    Arena *arena = kernels->arena;
    Distinct it = {.key = arena_copy(arena, text_string(&key), key.length),
                   .source = arena_copy(arena, text_string(&source), source.length),
                   .name = arena_print(arena, "%s", kernel->name),
                   .where = where,
                   .hash = hash};
    if (narrow && !kernels->every_size) it.skip[kernels->count % 2] = true;
    ARENA_PUSH(arena, kernels->list, kernels->count, kernels->capacity, it);
    *place = (uint32_t)kernels->count;
  }
  text_free(&key), text_free(&source);
}

// ---- all programs of a model ----------------------------------------------------------------------------

// Does the program exist for this model and stage? The first stage stands for what does not depend on stages.
static bool wanted(Compiler *compiler, ProgramKind kind, bool first_stage, bool packed) {
  if (packed && kind != PROGRAM_FORWARD && kind != PROGRAM_PREFILL && kind != PROGRAM_DECODE) return false;
  switch (kind) {
  case PROGRAM_FORWARD: return first_stage;
  case PROGRAM_LOSS: return first_stage && model_has(compiler_model(compiler), "loss");
  case PROGRAM_TRAIN: return compiler_default_kind(compiler) == PROGRAM_TRAIN;
  case PROGRAM_APPLY:
    return wanted(compiler, PROGRAM_TRAIN, first_stage, packed) && compiler_stage(compiler)->accumulate > 1;
  case PROGRAM_FEATURES: // a part of what TRAIN has
    return false;
  default: // prefill and decode of models that write; test_derive.c holds which do
    return first_stage && model_template(compiler_model(compiler)) &&
           compiler_unit_until(compiler, kind, "derive");
  }
}

static void add_programs(Kernels *kernels, const CompileOptions *options, bool first_stage) {
  bool narrow = options->storage != DTYPE_F32 || options->packing != PACKING_NONE;
  Text errors = {0};
  Compiler *compiler = compiler_open(options, &errors);
  CHECK(compiler, "%s", text_string(&errors));
  text_free(&errors);
  for (int kind = 0; compiler && kind < PROGRAM_COUNT; kind++) {
    if (!wanted(compiler, kind, first_stage, options->packing != PACKING_NONE)) continue;
    const char *where = arena_print(
        kernels->arena, "%s --preset %s --stage %s --dtype %s --weights-dtype %s --program %s",
        options->model, options->preset ? options->preset : "(none)",
        options->stage ? options->stage : "(none)", options->storage == DTYPE_F32 ? "f32" : "bf16",
        packing_table[options->packing].name, program_names[kind]);
    const Unit *unit = compiler_unit_until(compiler, kind, "lower");
    CHECK(unit && unit->lowered.kernel_count, "%s: %s", where, compiler_errors(compiler));
    for (size_t i = 0; unit && i < unit->lowered.kernel_count; i++)
      add_kernel(kernels, unit->lowered.kernels[i], unit->symbols, narrow, where);
  }
  compiler_close(compiler);
}

// Is this part of the short form of the test?
static bool is_short(size_t preset, Packing packing, bool wide) {
  return !packing || (!preset && wide == (packing != PACKING_Q4_0));
}

static void add_model(Kernels *kernels, const Shipped *model, size_t preset) {
  for (int packing = 0; packing < PACKING_COUNT; packing++)
    for (int wide = 1; wide >= 0; wide--)
      for (size_t s = 0; s < model->stage_count || !s; s++) {
        if (s && packing) continue; // nothing packed is trained
        if (!kernels->every_size && !is_short(preset, (Packing)packing, wide)) continue;
        CompileOptions options = {.model = model->path,
                                  .preset = model->presets[preset],
                                  .stage = model->stage_count ? model->stages[s] : NULL,
                                  .target = "cuda",
                                  .storage = wide ? DTYPE_F32 : DTYPE_BF16,
                                  .packing = (Packing)packing,
                                  .library = shipped_library,
                                  .library_count = 2,
                                  .threads = 1};
        add_programs(kernels, &options, !s);
      }
}

// ---- NVRTC, on all cores --------------------------------------------------------------------------------

static void compile_one(const Kernels *kernels, Distinct *it, int a) {
  CudaObject *object = &it->objects[a];
  it->fine[a] = cuda_compile_text(kernels->compiler, it->source, it->name, architectures[a], false, object,
                                  &it->failures[a]);
  free(object->bytes);
  object->bytes = NULL;
}

static void *compile_some(void *context) {
  Kernels *kernels = context;
  for (size_t i; (i = atomic_fetch_add(&kernels->next, 1)) < kernels->count;)
    for (int a = 0; a < ARCHITECTURES; a++)
      if (!kernels->list[i].skip[a]) compile_one(kernels, &kernels->list[i], a);
  return NULL;
}

static void compile_all(Kernels *kernels) {
  pthread_t workers[16];
  int count = 0;
  while (count + 1 < threads_available() && count < 16 &&
         !pthread_create(&workers[count], NULL, compile_some, kernels))
    count++;
  compile_some(kernels);
  for (int i = 0; i < count; i++) pthread_join(workers[i], NULL);
}

static void check_object(const Distinct *it, int a) {
  const CudaObject *object = &it->objects[a];
  CHECK(it->fine[a], "%s for %s (%s): %s", it->name, architectures[a], it->where, it->failures[a].message);
  CHECK(!it->fine[a] || (object->registers > 0 && !object->spill_bytes),
        "%s for %s (%s): %d registers, %d bytes spilled", it->name, architectures[a], it->where,
        object->registers, object->spill_bytes);
}

int main(void) {
  CudaCompiler compiler;
  Failure failure = {0};
  if (!cuda_compiler_open(&compiler, &failure)) {
    SKIP("cubins of the models: %s", failure.message);
    return check_finish();
  }
  const char *sizes = getenv("VLMC_CUBINS");
  Arena *arena = arena_new();
  Kernels kernels = {.arena = arena,
                     .every_size = sizes && !strcmp(sizes, "all"),
                     .table = ARENA_ARRAY(arena, uint32_t, TABLE),
                     .compiler = &compiler};
  Shipped *models;
  size_t count = shipped_models(arena, &models);
  for (size_t i = 0; i < count; i++)
    for (size_t preset = 0; preset < models[i].preset_count; preset++)
      add_model(&kernels, &models[i], preset);
  CHECK(kernels.count + 1 < TABLE, "more than %d distinct kernels: make the table larger", TABLE);
  printf("%zu kernels of %zu models, %zu distinct\n", kernels.seen, count, kernels.count);
  compile_all(&kernels);
  for (size_t i = 0; i < kernels.count; i++)
    for (int a = 0; a < ARCHITECTURES; a++)
      if (!kernels.list[i].skip[a]) check_object(&kernels.list[i], a);
  arena_free(arena);
  return check_finish();
}
