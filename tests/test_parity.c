// Models against reference implementations at small random weights: tests/parity/models.py made the files of
// tests/parity/data, weights in the layouts that checkpoints are published in, and what comes out of them.
#include "compiler/compile.h"
#include "runtime/checkpoint.h"
#include "runtime/feed.h"
#include "runtime/sampler.h"
#include "runtime/weights/weights.h"

#include "check.h"

enum { MOST = 24, GREEDY = 64, STEPS = 10, IMAGE = 3 };

typedef struct Case {
  const char *name, *model;
  const char *part;    // of the model, which the file is about; "": all of it
  const char *stage;   // trained as it says; NULL: not
  const char *missing; // what the file leaves to another, NAME-vision.safetensors; NULL: nothing
  const char *defines[MOST];
} Case;

#define EYE(image)                                                                                           \
  "vision.width=24", "vision.hidden=40", "vision.depth=2", "vision.heads=3", "vision.patch=4",               \
      "vision.image=" image
#define ALONE "width=24", "hidden=40", "depth=2", "vocab=48", "heads=4", "groups=2"
#define WORDS "lm.width=24", "lm.hidden=40", "lm.depth=2", "lm.vocab=48", "lm.heads=4", "lm.groups=2"

static const Case cases[] = {
    {"clip", "tests/parity/clip.vlm", "vision", "probe", NULL, {EYE("12")}},
    {"siglip",
     "models/siglip.vlm",
     "",
     NULL,
     NULL,
     {"width=24", "hidden=40", "depth=2", "heads=3", "patch=4", "image=12"}},
    {"gpt2",
     "models/gpt.vlm",
     "",
     "text",
     NULL,
     {"vocab=48", "context=80", "width=24", "depth=2", "heads=3"}},
    {"llama", "models/llama.vlm", "", "text", NULL, {ALONE, "base=1e4", "tied=false"}},
    {"smollm2", "models/llama.vlm", "", NULL, NULL, {ALONE}},
    {"qwen2", "models/llama.vlm", "", NULL, NULL, {ALONE, "base=1e6", "eps=1e-6", "bias=true"}},
    {"qwen3", "models/llama.vlm", "", NULL, NULL, {ALONE, "base=1e6", "eps=1e-6", "norms=true", "size=10"}},
    {"llava", "models/llava.vlm", "", "sft", NULL, {EYE("12"), WORDS, "sft.accumulate=1"}},
    {"nanovlm", "models/nanovlm.vlm", "", NULL, NULL, {EYE("16"), WORDS}},
    {"minimind2v", "models/minimind2v.vlm", "", NULL, "vision.*", {EYE("12"), WORDS}},
    {"minimind3v", "models/minimind3v.vlm", "", NULL, "vision.*", {EYE("12"), WORDS}},
};

typedef struct Bench {
  const Case *it;
  Compiler *compiler;
  Device *device;
  TensorStore *store;
  Arena *arena;
  WeightFile expected;
  int64_t batch, length; // of the inputs; length 1 where there are none of text
} Bench;

static const char *data_file(Bench *bench, const char *suffix) {
  return arena_print(bench->arena, "tests/parity/data/%s%s.safetensors", bench->it->name, suffix);
}

static const float *wanted(const Bench *bench, const char *name) {
  return weights_find(&bench->expected, name)->data;
}

static bool load(Bench *bench, TensorStore *store, const char *suffix, const char *part) {
  Failure failure = {0};
  Text report = {0};
  PublishedOptions options = {.maps = compiler_weights(bench->compiler),
                              .allow_missing = &bench->it->missing,
                              .allow_count = bench->it->missing != NULL,
                              .report = &report};
  bool good = checkpoint_load(data_file(bench, suffix), "", part, store, &options, &failure);
  CHECK(good, "%s%s: %s\n%s", bench->it->name, suffix, failure.message, text_string(&report));
  text_free(&report);
  return good;
}

// NULL where the model can not be compiled for it (reported).
static Session *open_program(Bench *bench, TensorStore *store, ProgramKind kind) {
  Failure failure = {0};
  const Program *program = compiler_program(bench->compiler, kind);
  Session *session = program ? session_open(program, store, &failure) : NULL;
  CHECK(session, "%s, %s: %s%s", bench->it->name, program_names[kind], compiler_errors(bench->compiler),
        failure.message);
  return session;
}

static bool bench_open(Bench *bench, const Case *it, const char *target) {
  static const char *const library[] = {"stdlib", "models"};
  size_t defines = 0;
  while (defines < MOST && it->defines[defines]) defines++;
  CompileOptions options = {.model = it->model,
                            .defines = it->defines,
                            .define_count = defines,
                            .stage = it->stage,
                            .target = target,
                            .storage = DTYPE_F32,
                            .length = 80,
                            .library = library,
                            .library_count = 2};
  Text errors = {0};
  Failure failure = {0};
  *bench = (Bench){.it = it, .arena = arena_new()};
  bench->compiler = compiler_open(&options, &errors);
  CHECK(bench->compiler, "%s: %s", it->name, text_string(&errors));
  text_free(&errors);
  bool good = weights_open(data_file(bench, "-expected"), &bench->expected, &failure);
  bench->device = good ? device_cpu(0, &failure) : NULL;
  CHECK(bench->device, "%s", failure.message);
  if (!bench->compiler || !bench->device) return false;
  const WeightTensor *ids = weights_find(&bench->expected, "ids"),
                     *any = ids ? ids : weights_find(&bench->expected, "pixels");
  bench->batch = any->extents[0];
  bench->length = ids ? ids->extents[1] : 1;
  bench->store = store_open(bench->device, 1);
  return true;
}

static void bench_close(Bench *bench) {
  if (bench->store) store_close(bench->store);
  if (bench->device) bench->device->close(bench->device);
  weights_close(&bench->expected);
  compiler_close(bench->compiler);
  arena_free(bench->arena);
}

// Sizes, ids and whatever else the program takes; `length` ids from `ids`, after `past`.
static bool feed(Bench *bench, Session *session, const int32_t *ids, int64_t length, int64_t past) {
  Failure failure = {0};
  const Program *program = session_program(session);
  Feed inputs;
  bool good =
      feed_find(program, &inputs, &failure) && session_resize(session, bench->batch, length, past, &failure);
  size_t positions = (size_t)(bench->batch * length) * 4;
  if (good && inputs.ids) good = session_set(session, inputs.ids, ids, positions, &failure);
  if (good && inputs.weight)
    good = session_set(session, inputs.weight, wanted(bench, "weight"), positions, &failure);
  if (good && inputs.picture)
    good = session_set(session, inputs.picture, wanted(bench, "pixels"),
                       (size_t)(bench->batch * inputs.picture_elements) * sizeof(float), &failure);
  for (int i = 0; good && i < program->buffer_count; i++)
    if (!strncmp(program->buffers[i].name, "token:", 6))
      good = session_set_scalar(session, program->buffers[i].name, IMAGE, &failure);
  CHECK(good, "%s: %s", bench->it->name, failure.message);
  return good;
}

static bool run(Bench *bench, Session *session, const char *result, void *to, size_t bytes) {
  Failure failure = {0};
  bool good = session_run(session, &failure) && session_get(session, result, to, bytes, &failure);
  CHECK(good, "%s: %s", bench->it->name, failure.message);
  return good;
}

// Norm of the difference over the norm of what is wanted.
static double relative_error(const float *found, const float *right, size_t count) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < count; i++) {
    difference += ((double)found[i] - right[i]) * ((double)found[i] - right[i]);
    norm += (double)right[i] * right[i];
  }
  return sqrt(difference / norm);
}

static void check_forward(Bench *bench, const char *target) {
  Session *session = open_program(bench, bench->store, PROGRAM_FORWARD);
  if (session && load(bench, bench->store, "", bench->it->part) &&
      (!bench->it->missing || load(bench, bench->store, "-vision", "vision"))) {
    const WeightTensor *result = weights_find(&bench->expected, "result");
    float *found = arena_alloc(bench->arena, result->bytes);
    const WeightTensor *ids = weights_find(&bench->expected, "ids");
    if (feed(bench, session, ids ? ids->data : NULL, bench->length, 0) &&
        run(bench, session, "result", found, result->bytes)) {
      double error = relative_error(found, result->data, result->bytes / sizeof(float));
      CHECK(error <= 1e-4, "%s on %s: the result is wrong by %g", bench->it->name, target, error);
    }
  }
  session_close(session);
}

// As a chat does it: the prompt at once, then token by token from the cache.
static void check_greedy(Bench *bench) {
  Session *prefill = open_program(bench, bench->store, PROGRAM_PREFILL),
          *decode = prefill ? open_program(bench, bench->store, PROGRAM_DECODE) : NULL;
  const int32_t *right = (const void *)wanted(bench, "greedy"), *ids = (const void *)wanted(bench, "ids");
  int64_t batch = bench->batch, wrong = -1;
  Failure failure = {0};
  bool good = decode && session_resize(decode, batch, 1, 0, &failure); // the cache grows before it is filled
  int32_t *next = ARENA_ARRAY(bench->arena, int32_t, batch);
  for (int64_t i = 0; good && wrong < 0 && i < GREEDY; i++) {
    Session *session = i ? decode : prefill;
    int64_t length = i ? 1 : bench->length, past = i ? bench->length + i - 1 : 0;
    good = feed(bench, session, i ? next : ids, length, past);
    size_t bytes = session_result_bytes(session, "result"), vocabulary = bytes / 4 / (size_t)batch;
    float *logits = arena_alloc(bench->arena, bytes);
    good = good && run(bench, session, "result", logits, bytes);
    for (int64_t b = 0; good && b < batch; b++) {
      Sampler greedy = {0};
      next[b] = sampler_next(&greedy, logits + (size_t)b * vocabulary, (int32_t)vocabulary);
      if (next[b] != right[b * GREEDY + i]) wrong = i;
    }
  }
  CHECK(good && wrong < 0, "%s: token %lld of the continuation differs", bench->it->name, (long long)wrong);
  session_close(decode);
  session_close(prefill);
}

// The first moment after one step is a tenth of the gradient; the right one is read as if it were weights.
static void check_gradients(Bench *bench) {
  TensorStore *right = store_open(bench->device, 2);
  Session *session = open_program(bench, right, PROGRAM_FORWARD);
  double total = 0, difference = 0;
  if (session && load(bench, right, "-gradients", bench->it->part)) {
    for (size_t i = 0; i < right->count; i++) {
      const StoreTensor *gradient = right->list[i];
      const StoreTensor *moment =
          store_find(bench->store, arena_print(bench->arena, "first:%s", gradient->name));
      const float *a = gradient->memory, *b = moment ? moment->memory : NULL;
      for (size_t j = 0; gradient->role == ROLE_PARAM && j < gradient->bytes / sizeof(float); j++) {
        double found = b ? 10 * (double)b[j] : 0;
        total += (double)a[j] * a[j];
        difference += (found - a[j]) * (found - a[j]);
      }
    }
    CHECK(sqrt(difference / total) <= 1e-3, "%s: the gradients are wrong by %g", bench->it->name,
          sqrt(difference / total));
  }
  session_close(session);
  store_close(right);
}

static void check_training(Bench *bench) {
  static const struct {
    const char *name;
    double value;
  } scalars[] = {{"rate", 3e-3}, {"beta1", 0.9}, {"beta2", 0.999}, {"epsilon", 1e-8}, {"decay", 0.1}};
  const float *right = wanted(bench, "losses");
  const WeightTensor *ids = weights_find(&bench->expected, "ids");
  Session *session = open_program(bench, bench->store, PROGRAM_TRAIN);
  Failure failure = {0};
  bool good = session && feed(bench, session, ids ? ids->data : NULL, bench->length, 0);
  for (size_t i = 0; good && i < sizeof scalars / sizeof *scalars; i++)
    good = session_set_scalar(session, scalars[i].name, scalars[i].value, &failure);
  for (int step = 0; good && step < STEPS; step++) {
    float loss = 0;
    good = session_set_scalar(session, "step", step + 1, &failure) &&
           run(bench, session, "loss", &loss, sizeof loss);
    CHECK(fabs(loss - right[step]) <= 1e-4 * fabs(right[step]), "%s: the loss of step %d is %.7g, not %.7g",
          bench->it->name, step, (double)loss, (double)right[step]);
    if (good && !step) check_gradients(bench);
  }
  CHECK(good, "%s: %s", bench->it->name, failure.message);
  session_close(session);
}

int main(void) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Bench bench;
    if (bench_open(&bench, &cases[i], "ref")) check_forward(&bench, "ref");
    bench_close(&bench);
    if (bench_open(&bench, &cases[i], "cpu")) {
      check_forward(&bench, "cpu");
      if (weights_find(&bench.expected, "greedy")) check_greedy(&bench);
      if (cases[i].stage) check_training(&bench);
    }
    bench_close(&bench);
  }
  return check_finish();
}
