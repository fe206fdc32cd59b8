// Features of frozen parts. A step that is parted in two gives the bits of the whole one: random graphs as
// graph_evaluate has them, the shipped models as machine code, at several numbers of samples; each sample's features
// are its own, whichever samples stand beside it. What is kept on the disk: damage, bounds, several writers, and
// what narrow types lose.
#include "compiler/compile.h"
#include "compiler/graph/passes/passes.h"
#include "runtime/feature_code.h"
#include "runtime/feature_store.h"
#include "runtime/feed.h"
#include "runtime/store.h"
#include "tests/check.h"
#include "tests/random_graph.h"
#include "tests/shipped.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

// ---- graphs, in f64

static Tensor *inputs_of(const Graph *graph, const Graph *whole, const Tensor *inputs, const Graph *frozen,
                         const Tensor *features, Arena *arena) {
  Tensor *chosen = ARENA_ARRAY(arena, Tensor, graph->input_count + 1);
  for (size_t i = 0; i < graph->input_count; i++) {
    for (size_t j = 0; j < whole->input_count; j++)
      if (!strcmp(graph->inputs[i].name, whole->inputs[j].name)) chosen[i] = inputs[j];
    for (size_t j = 0; features && j < frozen->output_count; j++)
      if (!strcmp(graph->inputs[i].name, frozen->outputs[j].name)) chosen[i] = features[j];
  }
  return chosen;
}

static bool same_values(const Tensor *a, const Tensor *b, const int64_t *symbols) {
  int64_t count = type_elements(&a->type, symbols);
  for (int64_t i = 0; i < count; i++)
    if (memcmp(&a->data[i], &b->data[i], sizeof *a->data) && !(isnan(a->data[i]) && isnan(b->data[i])))
      return false;
  return type_elements(&b->type, symbols) == count;
}

// The features of one sample out of those of the batch: what the frozen program makes of it alone.
static bool is_by_itself(const Graph *frozen, const Tensor *inputs, const Tensor *features,
                         const int64_t *symbols, Arena *arena) {
  int64_t one[SYMBOL_COUNT];
  memcpy(one, symbols, sizeof one);
  one[SYMBOL_BATCH] = 1;
  for (int64_t sample = 0; sample < symbols[SYMBOL_BATCH]; sample++) {
    Tensor *alone = ARENA_ARRAY(arena, Tensor, frozen->input_count + 1);
    Tensor *results = ARENA_ARRAY(arena, Tensor, frozen->output_count + 1);
    for (size_t i = 0; i < frozen->input_count; i++) {
      const Type *type = graph_type(frozen, frozen->inputs[i].node);
      alone[i] = inputs[i];
      if (frozen->inputs[i].role != INPUT_DATA) continue;
      alone[i].type.axes[0].extent = extent_constant(1);
      alone[i].data += sample * type_elements(type, one);
    }
    graph_evaluate(frozen, arena, one, alone, results);
    for (size_t i = 0; i < frozen->output_count; i++) {
      int64_t count = type_elements(graph_type(frozen, frozen->outputs[i].node), one);
      for (int64_t k = 0; k < count; k++) {
        double together = features[i].data[sample * count + k], apart = results[i].data[k];
        if (together != apart && !(isnan(together) && isnan(apart))) return false;
      }
    }
  }
  return true;
}

static void show(const Graph *graph) {
  Text text = {0};
  graph_print(graph, &text);
  printf("%s", text_string(&text));
  text_free(&text);
}

// True: the graph was parted.
static bool check_graph(Graph *whole, double least_work, const int64_t *symbols, uint64_t seed,
                        const char *what) {
  Text text = {0}, reason = {0};
  Graph *frozen, *rest = hoist(whole, least_work, &frozen, &text);
  CHECK(text.length, "%s: nothing is said", what);
  text_free(&text);
  if (!frozen) {
    CHECK(rest == whole, "%s: changed, but not parted", what);
    return false;
  }
  bool legal = graph_verify(frozen, &reason) && graph_verify(rest, &reason);
  CHECK(legal, "%s: %s", what, text_string(&reason));
  text_free(&reason);
  if (!legal) return true;
  Arena *arena = arena_new();
  Tensor *inputs = random_inputs(whole, arena, seed, symbols);
  Tensor *expected = ARENA_ARRAY(arena, Tensor, whole->output_count + 1);
  Tensor *results = ARENA_ARRAY(arena, Tensor, rest->output_count + 1);
  Tensor *features = ARENA_ARRAY(arena, Tensor, frozen->output_count + 1);
  Tensor *frozen_inputs = inputs_of(frozen, whole, inputs, NULL, NULL, arena);
  graph_evaluate(whole, arena, symbols, inputs, expected);
  graph_evaluate(frozen, arena, symbols, frozen_inputs, features);
  graph_evaluate(rest, arena, symbols, inputs_of(rest, whole, inputs, frozen, features, arena), results);
  bool good = rest->output_count == whole->output_count;
  for (size_t i = 0; good && i < whole->output_count; i++)
    good = same_values(&expected[i], &results[i], symbols);
  CHECK(good, "%s: the parted graph has other results", what);
  bool by_itself = is_by_itself(frozen, frozen_inputs, features, symbols, arena);
  CHECK(by_itself, "%s: a sample's features depend on others", what);
  if (!good || !by_itself) show(whole), show(frozen), show(rest);
  arena_free(arena);
  return true;
}

// Random graphs, half of their parameters frozen, whatever it saves.
static void test_random_graphs(void) {
  int parted = 0;
  for (uint64_t seed = 0; seed < 1500 && check_failed < 3; seed++) {
    Arena *arena = arena_new();
    Graph *graph = random_graph(arena, seed, 20 + (int)(seed % 60));
    for (size_t i = 0; i < graph->input_count; i++) graph->inputs[i].trained &= (seed + i) % 2;
    char what[32];
    snprintf(what, sizeof what, "seed %d", (int)seed);
    parted += check_graph(graph, 0, random_symbols, seed, what);
    arena_free(arena);
  }
  CHECK(parted >= 20, "only %d random graphs were parted", parted);
}

static Graph *read_graph(Arena *arena, const char *text) {
  Sources *sources = ARENA_NEW(arena, Sources);
  sources_init(sources, arena);
  Diagnostics diagnostics = {.sources = sources};
  Graph *graph = graph_read(arena, &diagnostics, sources_add(sources, "test", text, strlen(text)));
  CHECK(graph, "%s", text_string(&diagnostics.text));
  text_free(&diagnostics.text);
  return graph;
}

// What is no sample's own is not hoisted, nor what is not worth it; what is, whatever stands around it. Every graph
// has x[B, C, I], a frozen w[O, I] and a trained v[O]; %9 is what v is multiplied with.
#define HEAD                                                                                                 \
  "graph train\n%1 = input x data: f32[B, C=3, I=4]\n%2 = input w param value=1: f32[O=5, I=4]\n"            \
  "%3 = input v param train value=1: f32[O=5]\n%4 = input rate scalar: f32[]\n"
#define DOT       "%5 = dot %1 %2 contract=2/1: f32[B, C=3, O=5]\n"
#define TAIL      "%40 = arrange %3 from=_,_,0: f32[B, C=3, O=5]\n%41 = mul %40 %9: f32[B, C=3, O=5]\n" SUM("%41")
#define SUM(node) "%42 = sum " node " axes=0,1,2: f32[]\noutput loss result %42\n"

static const struct {
  const char *name, *text;
  double least_work;
  bool parted;
} forms[] = {
    {"a contraction", HEAD DOT "%9 = tanh %5: f32[B, C=3, O=5]\n" TAIL, 0, true},
    {"too little of it", HEAD DOT "%9 = tanh %5: f32[B, C=3, O=5]\n" TAIL, 2.1, false},
    {"just enough", HEAD DOT "%9 = tanh %5: f32[B, C=3, O=5]\n" TAIL, 2, true},
    {"no contraction",
     HEAD "%6 = sum %1 axes=2: f32[B, C=3]\n%9 = arrange %6 from=0,1,_: f32[B, C=3, O=5]\n" TAIL, 0, false},
    {"a run-time scalar",
     HEAD "%6 = arrange %4 from=_,_,_: f32[B, C=3, I=4]\n%7 = mul %1 %6: f32[B, C=3, I=4]\n"
          "%9 = dot %7 %2 contract=2/1: f32[B, C=3, O=5]\n" TAIL,
     0, false},
    {"a sum over samples",
     HEAD DOT "%6 = sum %5 axes=0: f32[C=3, O=5]\n%9 = arrange %6 from=_,0,1: f32[B, C=3, O=5]\n" TAIL, 0,
     true},
    {"samples by their numbers",
     HEAD
     "%6 = iota start=0: f32[B]\n%7 = arrange %6 from=0,_,_: f32[B, C=3, I=4]\n%8 = mul %1 %7: f32[B, C=3, "
     "I=4]\n%9 = dot %8 %2 contract=2/1: f32[B, C=3, O=5]\n" TAIL,
     0, false},
    {"the number of samples",
     HEAD
     "%6 = size extent=B: f32[]\n%7 = arrange %6 from=_,_,_: f32[B, C=3, I=4]\n%8 = mul %1 %7: f32[B, C=3, "
     "I=4]\n%9 = dot %8 %2 contract=2/1: f32[B, C=3, O=5]\n" TAIL,
     0, false},
    {"samples that are not first",
     HEAD "%6 = dot %2 %1 contract=1/2: f32[O=5, B, C=3]\n%9 = tanh %6: f32[O=5, B, C=3]\n"
          "%40 = arrange %3 from=0,_,_: f32[O=5, B, C=3]\n%41 = mul %40 %9: f32[O=5, B, C=3]\n" SUM("%41"),
     0, true},
    {"several rows of a sample",
     HEAD "%6 = merge %1 axis=0 count=2: f32[R=3*B, I=4]\n%7 = dot %6 %2 contract=1/1: f32[R=3*B, O=5]\n"
          "%8 = tanh %7: f32[R=3*B, O=5]\n%9 = split %8 axis=0 count=2: f32[B, C=3, O=5]\n" TAIL,
     0, true},
    {"samples beside samples",
     HEAD DOT "%6 = sum %5 axes=1: f32[B, O=5]\n%7 = dot %6 %6 contract=1/1: f32[B, B'=B]\n"
              "%8 = sum %7 axes=1: f32[B]\n%9 = arrange %8 from=0,_,_: f32[B, C=3, O=5]\n" TAIL,
     0, true},
    {"a weight that is written",
     HEAD DOT "%9 = tanh %5: f32[B, C=3, O=5]\n" TAIL "%50 = neg %2: f32[O=5, I=4]\noutput w update %50\n", 0,
     false},
};

static void test_forms(void) {
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    Arena *arena = arena_new();
    Graph *graph = read_graph(arena, forms[i].text);
    if (graph)
      CHECK(check_graph(graph, forms[i].least_work, random_symbols, i, forms[i].name) == forms[i].parted,
            "%s: parted or not", forms[i].name);
    arena_free(arena);
  }
}

// ---- models, as machine code

enum { LENGTH = 24, MOST = 6, STEPS = 2 };

typedef struct Side {
  Compiler *compiler;
  Device *device;
  TensorStore *store;
  Session *features, *step; // features: NULL in the whole program
  Failure failure;
} Side;

static bool open_side(Side *side, const CompileOptions *options, bool hoist) {
  CompileOptions own = *options;
  Text errors = {0};
  own.hoist = hoist;
  *side = (Side){.compiler = compiler_open(&own, &errors)};
  CHECK(side->compiler, "%s", text_string(&errors));
  text_free(&errors);
  const Unit *unit = side->compiler ? compiler_unit(side->compiler, PROGRAM_TRAIN) : NULL;
  if (!unit) return false;
  side->device = device_cpu(2, &side->failure);
  side->store = store_open(side->device, 3);
  if (unit->frozen)
    side->features =
        session_open(compiler_program(side->compiler, PROGRAM_FEATURES), side->store, &side->failure);
  side->step = session_open(&unit->lowered.program, side->store, &side->failure);
  return side->step && (!unit->frozen || side->features);
}

static void close_side(Side *side) {
  session_close(side->features);
  session_close(side->step);
  if (side->store) store_close(side->store);
  if (side->device) side->device->close(side->device);
  compiler_close(side->compiler);
}

static void fill(float *data, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; i++)
    data[i] = (float)((seed = seed * 1664525u + 1013904223u) >> 8) / 8388608.0f - 1;
}

static void set_scalars(Session *session) {
  const struct {
    const char *name;
    double value;
  } scalars[] = {{"rate", 1e-3},  {"step", 1},       {"beta1", 0.9},
                 {"beta2", 0.99}, {"epsilon", 1e-8}, {"decay", 0.1}};
  Failure failure;
  for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
    session_set_scalar(session, scalars[i].name, scalars[i].value, &failure);
  const Program *program = session_program(session);
  for (int i = 0; i < program->buffer_count; i++)
    if (program->buffers[i].role == ROLE_SCALAR && !strncmp(program->buffers[i].name, "token:", 6))
      session_set_scalar(session, program->buffers[i].name, 1, &failure);
}

// Every input of data by its name: pictures by a seed per sample, so that sample i has the same one in any batch.
static bool set_data(Session *session, int64_t batch, int64_t first, Failure *failure) {
  const Program *program = session_program(session);
  const int64_t symbols[SYMBOL_COUNT] = {0, batch, LENGTH, 0, LENGTH};
  bool good = session_resize(session, batch, LENGTH, 0, failure);
  for (int i = 0; good && i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_DATA || !strncmp(buffer->name, "feature:", 8)) continue;
    size_t count = (size_t)buffer_elements(buffer, symbols), each = count / (size_t)batch;
    float *data = calloc(count + 1, sizeof *data);
    for (int64_t b = 0; b < batch; b++) {
      fill(data + (size_t)b * each, each, (uint32_t)(first + b) * 77 + 5);
      int32_t *ids = (int32_t *)(void *)data + (size_t)b * each;
      for (size_t k = 0; k < each && buffer->dtype == DTYPE_I32; k++)
        ids[k] = k % 3 ? 1 : (int32_t)(k + (size_t)b);
    }
    good = session_set(session, buffer->name, data, count * sizeof *data, failure);
    free(data);
  }
  return good;
}

// The features of samples first ... first + batch - 1, computed `at_once` together.
static bool compute(Side *side, const char *name, int64_t first, int64_t batch, int64_t at_once, char *out,
                    size_t each) {
  for (int64_t b = 0; b < batch; b += at_once) {
    int64_t count = batch - b < at_once ? batch - b : at_once;
    if (!set_data(side->features, count, first + b, &side->failure) ||
        !session_run(side->features, &side->failure) ||
        !session_get(side->features, name, out + (size_t)b * each, (size_t)count * each, &side->failure))
      return false;
  }
  return true;
}

static bool run_step(Side *side, int64_t batch, int64_t at_once, float *loss) {
  set_scalars(side->step);
  bool good = set_data(side->step, batch, 0, &side->failure);
  const Program *program = session_program(side->step);
  const int64_t symbols[SYMBOL_COUNT] = {0, batch, LENGTH, 0, LENGTH};
  for (int i = 0; good && side->features && i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_DATA || strncmp(buffer->name, "feature:", 8)) continue;
    size_t bytes = buffer_bytes(buffer, symbols);
    char *features = calloc(bytes + 1, 1);
    good = compute(side, buffer->name, 0, batch, at_once, features, bytes / (size_t)batch) &&
           session_set(side->step, buffer->name, features, bytes, &side->failure);
    free(features);
  }
  return good && session_run(side->step, &side->failure) &&
         session_get(side->step, "loss", loss, sizeof *loss, &side->failure);
}

static size_t different(const TensorStore *a, const TensorStore *b) {
  size_t count = 0;
  for (size_t i = 0; i < a->count; i++) {
    const StoreTensor *other = store_find(b, a->list[i]->name);
    count += !other || other->bytes != a->list[i]->bytes ||
             memcmp(other->memory, a->list[i]->memory, other->bytes);
  }
  return count + (a->count != b->count);
}

static void check_parting(const CompileOptions *options, const char *what, bool expected) {
  CompileOptions own = *options;
  Text errors = {0};
  own.hoist = true;
  Compiler *compiler = compiler_open(&own, &errors);
  const Unit *unit = compiler ? compiler_unit_until(compiler, PROGRAM_TRAIN, "hoist") : NULL;
  CHECK(unit && (unit->frozen != NULL) == expected, "%s: parted or not: %s", what, text_string(&errors));
  text_free(&errors);
  compiler_close(compiler);
}

static void check_model(const CompileOptions *options, const char *what) {
  Side whole, parted;
  bool good = open_side(&whole, options, false) && open_side(&parted, options, true);
  CHECK(good, "%s: %s%s", what, whole.compiler ? compiler_errors(whole.compiler) : "", whole.failure.message);
  CHECK(!good || parted.features, "%s: is not parted", what);
  static const int64_t at_once[STEPS] = {MOST, 1};
  for (int i = 0; good && parted.features && i < STEPS; i++) {
    float a = 0, b = 1;
    good = run_step(&whole, MOST, 0, &a) && run_step(&parted, MOST, at_once[i], &b);
    CHECK(good, "%s: %s%s", what, whole.failure.message, parted.failure.message);
    CHECK(!memcmp(&a, &b, sizeof a), "%s: step %d: loss %.9g, parted %.9g", what, i, a, b);
    size_t count = good ? different(whole.store, parted.store) : 0;
    CHECK(!count, "%s: step %d: %zu of %zu tensors differ", what, i, count, whole.store->count);
  }
  close_side(&whole);
  close_side(&parted);
}

static void test_models(void) {
  static const struct {
    const char *model, *preset, *stage;
    DType dtype;
    bool parted, run;
  } rows[] = {
      {"models/vlm.vlm", "tiny", "pretrain", DTYPE_F32, true, true},
      {"models/vlm.vlm", "fashion", "sft", DTYPE_BF16, true, true},
      {"models/llava.vlm", "tiny", "pretrain", DTYPE_F32, true, true},
      {"models/llava.vlm", "tiny", "sft", DTYPE_F32, true, false},
      {"models/minimind2v.vlm", "tiny", "sft", DTYPE_F32, true, false},
      {"models/minimind3v.vlm", "tiny", "pretrain", DTYPE_BF16, true, false},
      {"models/nanovlm.vlm", "tiny", "sft", DTYPE_F32, false, false},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char what[120];
    snprintf(what, sizeof what, "%s --preset %s --stage %s --dtype %s", rows[i].model, rows[i].preset,
             rows[i].stage, dtype_name(rows[i].dtype));
    CompileOptions options = {.model = rows[i].model,
                              .preset = rows[i].preset,
                              .stage = rows[i].stage,
                              .target = "cpu",
                              .storage = rows[i].dtype,
                              .batch = MOST,
                              .length = LENGTH,
                              .library = shipped_library,
                              .library_count = 2};
    if (rows[i].run)
      check_model(&options, what);
    else
      check_parting(&options, what, rows[i].parted);
  }
}

// ---- hashes

static void test_hash(void) {
  unsigned char bytes[100] = {0};
  Hash seen[2000];
  int count = 0, twice = 0;
  for (size_t size = 0; size <= sizeof bytes; size++) { // zeros of all lengths, then each with one bit set
    seen[count] = (Hash){0};
    hash_add(&seen[count++], bytes, size);
  }
  for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    seen[count] = (Hash){0};
    hash_add(&seen[count++], bytes, sizeof bytes);
    bytes[bit / 8] = 0;
  }
  for (int i = 0; i < count; i++)
    for (int k = 0; k < i; k++)
      twice += seen[i].words[0] == seen[k].words[0] || seen[i].words[1] == seen[k].words[1];
  CHECK(!twice, "%d of %d hashes are those of other bytes", twice, count);
  Hash together = {0}, apart = {0};
  hash_add(&together, "abc", 3);
  hash_add(&apart, "ab", 2);
  hash_add(&apart, "c", 1);
  CHECK(memcmp(&together, &apart, sizeof apart), "pieces are told apart");
  unsigned char moved[72];
  for (size_t i = 0; i < 64; i++) moved[1 + i] = bytes[i] = (unsigned char)(i * 7);
  Hash here = {0}, there = {0};
  hash_add(&here, bytes, 64);
  hash_add(&there, moved + 1, 64);
  CHECK(!memcmp(&here, &there, sizeof here), "bytes at odd addresses have the same hash");
}

// ---- narrow types: the errors that feature_code.h states

static void test_codes(void) {
  enum { VECTOR = 7, COUNT = 5 * VECTOR };
  static const float scales[] = {1e-38f, 1e-6f, 1, 300, 60000};
  float values[COUNT], back[COUNT];
  char kept[8 * COUNT];
  for (int narrow = 0; narrow < 2; narrow++)
    for (int code = 0; code < FEATURE_CODE_COUNT; code++) {
      FeatureShape shape = {narrow ? DTYPE_BF16 : DTYPE_F32, COUNT, VECTOR};
      uint16_t halves[COUNT], halves_back[COUNT];
      fill(values, COUNT, 9 + (uint32_t)code);
      for (int i = 0; i < COUNT; i++) {
        values[i] *= scales[i / VECTOR];
        halves[i] = bf16_from_float(values[i]);
        if (narrow) values[i] = bf16_to_float(halves[i]);
      }
      const void *from = narrow ? (const void *)halves : values;
      void *to = narrow ? (void *)halves_back : back;
      CHECK(feature_encode(&shape, (FeatureCode)code, from, kept), "%s: refused", feature_code_names[code]);
      feature_decode(&shape, (FeatureCode)code, kept, to);
      double worst = 0; // as a share of what is allowed
      for (int i = 0; i < COUNT; i++) {
        double largest = 0, value = values[i], found = narrow ? bf16_to_float(halves_back[i]) : back[i];
        for (int k = 0; k < VECTOR; k++) largest = fmax(largest, fabs(values[i / VECTOR * VECTOR + k]));
        double allowed = code == FEATURE_INT8  ? largest * (1.0 / 254 + 1e-6)
                         : code == FEATURE_F16 ? fmax(0x1p-11 * fabs(value), 0x1p-25)
                                               : 0;
        if (code == FEATURE_INT8 && largest < 1e-36)
          allowed = largest; // steps below the smallest normal number
        if (narrow && code) allowed += 0x1p-8 * fabs(found);
        double error = fabs(found - value);
        worst = fmax(worst, allowed ? error / allowed : error ? INFINITY : 0);
      }
      CHECK(worst <= 1, "%s of %s: the error is %.3g of what is stated", feature_code_names[code],
            dtype_name(shape.dtype), worst);
    }
  FeatureShape shape = {DTYPE_F32, VECTOR, VECTOR};
  static const float outside[] = {NAN, INFINITY, -70000};
  for (int i = 0; i < 3; i++) {
    float strange[VECTOR] = {1, 2, 3}, same[VECTOR];
    strange[VECTOR - 1] = outside[i];
    CHECK(!feature_encode(&shape, FEATURE_F16, strange, kept), "f16 takes %g", outside[i]);
    CHECK(feature_encode(&shape, FEATURE_INT8, strange, kept) == (i == 2), "int8 and %g", outside[i]);
    CHECK(feature_encode(&shape, FEATURE_F32, strange, kept), "f32 refuses %g", outside[i]);
    feature_decode(&shape, FEATURE_F32, kept, same);
    CHECK(!memcmp(same, strange, sizeof same), "f32 changed %g", outside[i]);
  }
  FeatureShape whole = {DTYPE_I32, 3, 3};
  int32_t numbers[] = {1 << 30, -5, 0}, again[3];
  CHECK(feature_bytes(&whole, FEATURE_INT8) == sizeof numbers &&
            feature_encode(&whole, FEATURE_INT8, numbers, kept),
        "whole numbers are kept as they are");
  feature_decode(&whole, FEATURE_INT8, kept, again);
  CHECK(!memcmp(numbers, again, sizeof numbers), "whole numbers are kept as they are");
}

// ---- the store

enum { ENTRY = 100, SLOT = 64 + 128 };

static Hash name_of(int number) {
  Hash hash = {0};
  hash_add(&hash, &number, sizeof number);
  return hash;
}
static void make_entry(int number, unsigned char *entry) {
  for (int i = 0; i < ENTRY; i++) entry[i] = (unsigned char)(number * 31 + i);
}

static FeatureStore *open_store(const char *folder, int key, uint64_t limit) {
  FeatureStore *store;
  Failure failure;
  bool good = feature_store_open(folder, name_of(key), ENTRY, limit, &store, &failure);
  CHECK(good, "%s", failure.message);
  return store;
}

static size_t add(FeatureStore *store, int first, int count) {
  unsigned char *entries = calloc((size_t)count + 1, ENTRY);
  Hash *names = calloc((size_t)count + 1, sizeof *names);
  Failure failure;
  size_t added;
  for (int i = 0; i < count; i++) {
    make_entry(first + i, entries + i * ENTRY);
    names[i] = name_of(first + i);
  }
  CHECK(feature_store_add(store, names, entries, (size_t)count, &added, &failure), "%s", failure.message);
  free(entries);
  free(names);
  return added;
}

// How many of 0 ... count - 1 are there; each must be right.
static int present(FeatureStore *store, int count) {
  int found = 0, wrong = 0;
  for (int i = 0; i < count; i++) {
    unsigned char wanted[ENTRY];
    make_entry(i, wanted);
    const void *entry = feature_store_find(store, name_of(i));
    found += entry != NULL;
    wrong += entry && memcmp(entry, wanted, ENTRY);
  }
  CHECK(!wrong, "%d entries are others", wrong);
  return found;
}

static void change_byte(const char *path, off_t at) {
  unsigned char byte = 0;
  int file = open(path, O_RDWR);
  bool good = file >= 0 && pread(file, &byte, 1, at) == 1;
  byte ^= 0x40;
  CHECK(good && pwrite(file, &byte, 1, at) == 1, "%s: byte %lld can not be changed", path, (long long)at);
  close(file);
}

// Any byte of a file changed, or the file cut anywhere: what is found is right, and what is lost comes again in place.
static void test_damage(const char *folder) {
  enum { COUNT = 5, SIZE = 64 + COUNT * SLOT };
  int lost = 0;
  for (off_t at = 0; at < SIZE; at += 3) {
    for (int cut = 0; cut < 2; cut++) {
      FeatureStore *store = open_store(folder, 1, 1 << 20);
      if (add(store, 0, COUNT) != COUNT) CHECK(false, "not all entries are there");
      char path[300];
      snprintf(path, sizeof path, "%s", feature_store_path(store));
      feature_store_close(store);
      if (cut)
        CHECK(!truncate(path, at), "%s can not be cut", path);
      else
        change_byte(path, at);
      store = open_store(folder, 1, 1 << 20);
      int found = present(store, COUNT);
      lost += found < COUNT;
      if (found < COUNT - 1 && !cut && at >= 64) CHECK(false, "a byte took %d entries", COUNT - found);
      if (add(store, 0, COUNT) != COUNT || present(store, COUNT) != COUNT)
        CHECK(false, "after byte %lld: not all are there again", (long long)at);
      feature_store_close(store);
      struct stat status;
      CHECK(!stat(path, &status) && status.st_size == SIZE, "the file has %lld bytes",
            (long long)status.st_size);
    }
  }
  CHECK(lost > SIZE / 3, "damage was seen %d times only", lost);
}

static uint64_t bytes_in(const char *folder, int *files) {
  char command[400], line[200] = "";
  snprintf(command, sizeof command,
           "find '%s' -type f -printf '%%s\\n' | awk '{s += $1} END {print NR, s + 0}'", folder);
  FILE *pipe = popen(command, "r");
  unsigned long long bytes = 0;
  if (pipe && fgets(line, sizeof line, pipe)) sscanf(line, "%d %llu", files, &bytes);
  if (pipe) pclose(pipe);
  return bytes;
}

static void test_bounds(const char *folder) {
  const uint64_t limit = 2 * 64 + 10 * SLOT;
  int files = 0;
  FeatureStore *first = open_store(folder, 2, limit);
  CHECK(add(first, 0, 7) == 7, "seven fit");
  FeatureStore *second = open_store(folder, 3, limit);
  CHECK(add(second, 0, 3) == 3 && bytes_in(folder, &files) <= limit && files == 2, "three more fit");
  CHECK(add(second, 3, 3) == 3, "the older file makes room");
  CHECK(bytes_in(folder, &files) <= limit && files == 1, "%d files are left", files);
  CHECK(present(first, 7) == 7, "who has the older file open keeps it");
  CHECK(add(second, 6, 9) == 4 && present(second, 20) == 10, "ten fit, not %zu", feature_store_count(second));
  CHECK(add(second, 0, 10) == 10, "what is there needs no room");
  CHECK(bytes_in(folder, &files) <= limit, "%llu bytes", (unsigned long long)bytes_in(folder, &files));
  feature_store_close(first);
  feature_store_close(second);
  FeatureStore *tight = open_store(folder, 4, 70);
  CHECK(add(tight, 0, 2) == 0 && bytes_in(folder, &files) && files == 2, "what can not fit removes nothing");
  feature_store_close(tight);
}

// Several processes add overlapping entries, all at once, and one of them is killed now and then.
static void test_writers(const char *folder) {
  enum { WRITERS = 4, COUNT = 60 };
  pid_t writers[WRITERS];
  fflush(stdout);
  for (int w = 0; w < WRITERS; w++) {
    if ((writers[w] = fork())) continue;
    int failed = check_failed;
    for (int round = 0; round < COUNT; round++) {
      FeatureStore *store = open_store(folder, 5, 1 << 20);
      add(store, (round * (w + 1)) % COUNT, 3);
      present(store, COUNT + 3);
      feature_store_close(store);
    }
    fflush(stdout);
    _exit(check_failed > failed);
  }
  usleep(20000);
  kill(writers[0], SIGKILL);
  for (int w = 0; w < WRITERS; w++) {
    int status = 0;
    waitpid(writers[w], &status, 0);
    CHECK(w == 0 || (WIFEXITED(status) && !WEXITSTATUS(status)), "writer %d", w);
  }
  FeatureStore *store = open_store(folder, 5, 1 << 20);
  int found = present(store, COUNT + 3);
  CHECK(found >= COUNT, "%d of %d entries are there", found, COUNT);
  int files;
  uint64_t bytes = bytes_in(folder, &files);
  CHECK(bytes <= (uint64_t)(64 + (found + 1) * SLOT), "entries stand there twice: %llu bytes",
        (unsigned long long)bytes);
  feature_store_close(store);
}

static void remove_folder(const char *folder) {
  char command[300];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  CHECK(!system(command), "%s is left", folder);
}

static void test_store(void) {
  char above[] = "/tmp/vlmc-test-XXXXXX", folder[100];
  CHECK(mkdtemp(above), "no folder can be made");
  snprintf(folder, sizeof folder, "%s/a/b", above);
  void (*const tests[])(const char *) = {test_damage, test_bounds, test_writers};
  for (int i = 0; i < 3; i++) {
    tests[i](folder);
    remove_folder(folder);
  }
  FeatureStore *store;
  Failure failure;
  CHECK(!feature_store_open("/dev/null/x", name_of(0), ENTRY, 1 << 20, &store, &failure) &&
            strstr(failure.message, "/dev/null"),
        "a folder that can not be made");
  // Another size of entries, under the same key: the file is replaced.
  store = open_store(folder, 6, 1 << 20);
  add(store, 0, 3);
  feature_store_close(store);
  CHECK(feature_store_open(folder, name_of(6), ENTRY + 1, 1 << 20, &store, &failure) &&
            !feature_store_count(store),
        "another form");
  feature_store_close(store);
  remove_folder(above);
}

int main(void) {
  test_hash();
  test_codes();
  test_store();
  test_forms();
  test_random_graphs();
  test_models();
  return check_finish();
}
