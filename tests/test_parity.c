// Models against reference implementations at small random weights: tests/parity/models.py made the files of
// tests/parity/data, weights in the layouts that checkpoints are published in, and what comes out of them.
#include "compiler/compile.h"
#include "runtime/checkpoint.h"
#include "runtime/feed.h"
#include "runtime/files.h"
#include "runtime/sampler.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/weights.h"

#include "check.h"

#include <unistd.h>

enum { MOST = 24, GREEDY = 64, STEPS = 10, IMAGE = 3 };

typedef struct Case {
  const char *name, *model;
  const char *part;  // of the model, which the file is about; "": all of it
  const char *stage; // trained as it says; NULL: not
  const char *preset;
  const char *missing; // what the file leaves to another, NAME-vision.safetensors; NULL: nothing
  const char *defines[MOST];
} Case;

#define EYE(image)                                                                                           \
  "vision.width=24", "vision.hidden=40", "vision.depth=2", "vision.heads=3", "vision.patch=4",               \
      "vision.image=" image
#define ALONE "width=24", "hidden=40", "depth=2", "vocab=48", "heads=4", "groups=2"
#define WORDS "lm.width=24", "lm.hidden=40", "lm.depth=2", "lm.vocab=48", "lm.heads=4", "lm.groups=2"

static const Case cases[] = {
    {"clip", "tests/parity/clip.vlm", "vision", "probe", NULL, NULL, {EYE("12")}},
    {"siglip",
     "models/siglip.vlm",
     "",
     NULL,
     NULL,
     NULL,
     {"width=24", "hidden=40", "depth=2", "heads=3", "patch=4", "image=12"}},
    {"gpt2",
     "models/gpt.vlm",
     "",
     "text",
     NULL,
     NULL,
     {"vocab=48", "context=80", "width=24", "depth=2", "heads=3"}},
    {"llama", "models/llama.vlm", "", "text", NULL, NULL, {ALONE, "base=1e4", "tied=false"}},
    {"smollm2", "models/llama.vlm", "", NULL, NULL, NULL, {ALONE}},
    {"qwen2", "models/llama.vlm", "", NULL, NULL, NULL, {ALONE, "base=1e6", "eps=1e-6", "bias=true"}},
    {"qwen3",
     "models/llama.vlm",
     "",
     NULL,
     NULL,
     NULL,
     {ALONE, "base=1e6", "eps=1e-6", "norms=true", "size=10"}},
    {"llava", "models/llava.vlm", "", "sft", NULL, NULL, {EYE("12"), WORDS, "sft.accumulate=1"}},
    {"nanovlm", "models/nanovlm.vlm", "", NULL, NULL, NULL, {EYE("16"), WORDS}},
    {"minimind2v", "models/minimind2v.vlm", "", NULL, NULL, "vision.*", {EYE("12"), WORDS}},
    {"minimind3v", "models/minimind3v.vlm", "", NULL, NULL, "vision.*", {EYE("12"), WORDS}},
};

// What people trained and published, with the text that its author's program writes.
static const Case stories = {
    .name = "stories260K", .model = "models/llama.vlm", .part = "", .preset = "stories260k"};

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

static const void *wanted(const Bench *bench, const char *name) {
  return weights_find(&bench->expected, name)->data;
}

static bool load(Bench *bench, TensorStore *store, const char *path, const char *part) {
  Failure failure = {0};
  Text report = {0};
  PublishedOptions options = {.maps = compiler_weights(bench->compiler),
                              .allow_missing = &bench->it->missing,
                              .allow_count = bench->it->missing != NULL,
                              .report = &report};
  bool good = checkpoint_load(path, "", part, store, &options, &failure);
  CHECK(good, "%s: %s\n%s", bench->it->name, failure.message, text_string(&report));
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
                            .preset = it->preset,
                            .defines = it->defines,
                            .define_count = defines,
                            .stage = it->stage,
                            .target = target,
                            .storage = DTYPE_F32,
                            .length = 256,
                            .library = library,
                            .library_count = 2};
  Text errors = {0};
  Failure failure = {0};
  *bench = (Bench){.it = it, .arena = arena_new()};
  bench->compiler = compiler_open(&options, &errors);
  bench->device = device_cpu(1, &failure); // small work: waiting for each other would cost more
  CHECK(bench->compiler && bench->device, "%s: %s%s", it->name, text_string(&errors), failure.message);
  text_free(&errors);
  if (bench->device) bench->store = store_open(bench->device, 1);
  return bench->compiler && bench->device;
}

// The inputs and all that should come out of them.
static bool open_expected(Bench *bench) {
  Failure failure = {0};
  bool good = weights_open(data_file(bench, "-expected"), &bench->expected, &failure);
  CHECK(good, "%s", failure.message);
  if (!good) return false;
  const WeightTensor *ids = weights_find(&bench->expected, "ids"),
                     *any = ids ? ids : weights_find(&bench->expected, "pixels");
  bench->batch = any->extents[0];
  bench->length = ids ? ids->extents[1] : 1;
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

static void check_result(Bench *bench, Session *session, const char *target, const char *file) {
  const WeightTensor *result = weights_find(&bench->expected, "result");
  float *found = arena_alloc(bench->arena, result->bytes);
  const WeightTensor *ids = weights_find(&bench->expected, "ids");
  if (feed(bench, session, ids ? ids->data : NULL, bench->length, 0) &&
      run(bench, session, "result", found, result->bytes)) {
    double error = relative_error(found, result->data, result->bytes / sizeof(float));
    CHECK(error <= 1e-4, "%s on %s: the result is wrong by %g", file, target, error);
  }
}

static void check_forward(Bench *bench, const char *target, const char *file) {
  Session *session = open_program(bench, bench->store, PROGRAM_FORWARD);
  if (session && load(bench, bench->store, file, bench->it->part) &&
      (!bench->it->missing || load(bench, bench->store, data_file(bench, "-vision"), "vision")))
    check_result(bench, session, target, file);
  session_close(session);
}

// As a chat does it: the prompt at once, then token by token from the cache. next: [count, batch].
static bool generate(Bench *bench, const int32_t *ids, int64_t count, int32_t *next) {
  Session *prefill = open_program(bench, bench->store, PROGRAM_PREFILL),
          *decode = prefill ? open_program(bench, bench->store, PROGRAM_DECODE) : NULL;
  int64_t batch = bench->batch;
  Failure failure = {0};
  bool good = decode && session_resize(decode, batch, 1, 0, &failure); // the cache grows before it is filled
  for (int64_t i = 0; good && i < count; i++, next += batch) {
    Session *session = i ? decode : prefill;
    good = feed(bench, session, i ? next - batch : ids, i ? 1 : bench->length, i ? bench->length + i - 1 : 0);
    size_t bytes = session_result_bytes(session, "result"), vocabulary = bytes / 4 / (size_t)batch;
    float *logits = arena_alloc(bench->arena, bytes);
    good = good && run(bench, session, "result", logits, bytes);
    for (int64_t b = 0; good && b < batch; b++) {
      Sampler greedy = {0};
      next[b] = sampler_next(&greedy, logits + (size_t)b * vocabulary, (int32_t)vocabulary);
    }
  }
  CHECK(good, "%s: %s", bench->it->name, failure.message);
  session_close(decode);
  session_close(prefill);
  return good;
}

static void check_greedy(Bench *bench) {
  int32_t *found = ARENA_ARRAY(bench->arena, int32_t, GREEDY * bench->batch);
  const int32_t *right = wanted(bench, "greedy");
  if (!generate(bench, wanted(bench, "ids"), GREEDY, found)) return;
  for (int64_t b = 0; b < bench->batch; b++) {
    int64_t same = 0;
    while (same < GREEDY && found[same * bench->batch + b] == right[b * GREEDY + same]) same++;
    CHECK(same == GREEDY, "%s: after %lld tokens another text", bench->it->name, (long long)same);
  }
}

// The same weights as LLaVA's own program saves them: other names, the tower inside or in a file of its own.
static const char *original_name(Bench *bench, const char *name) {
  static const char *const names[][2] = {{"vision_tower.", "model.vision_tower.vision_tower."},
                                         {"multi_modal_projector.linear_1.", "model.mm_projector.0."},
                                         {"multi_modal_projector.linear_2.", "model.mm_projector.2."},
                                         {"language_model.", ""}};
  for (int i = 0; i < 4; i++)
    if (!strncmp(name, names[i][0], strlen(names[i][0])))
      return arena_print(bench->arena, "%s%s", names[i][1], name + strlen(names[i][0]));
  CHECK(false, "no rule for %s", name);
  return name;
}

static void write_original(Bench *bench, const char *path, const WeightFile *from, bool tower) {
  static const SafetensorsText metadata = {"format", "pt"};
  SafetensorsTensor *tensors = ARENA_ARRAY(bench->arena, SafetensorsTensor, from->count);
  size_t count = 0;
  Failure failure = {0};
  for (size_t i = 0; i < from->count; i++) {
    const WeightTensor *tensor = &from->tensors[i];
    if (!tower && !strncmp(tensor->name, "vision_tower.", 13)) continue;
    SafetensorsTensor *out = &tensors[count++];
    *out = (SafetensorsTensor){.name = original_name(bench, tensor->name), .dtype = DTYPE_F32};
    out->rank = tensor->rank, out->data = tensor->data;
    memcpy(out->extents, tensor->extents, sizeof *tensor->extents * (size_t)tensor->rank);
  }
  CHECK(safetensors_write(path, tensors, count, &metadata, 1, &failure), "%s", failure.message);
}

static void test_original(const Case *llava, bool tower) {
  Bench bench;
  Failure failure = {0};
  WeightFile from = {0};
  char path[] = "/tmp/vlmc-parity-XXXXXX";
  int handle = mkstemp(path);
  if (handle >= 0) close(handle);
  Case it = *llava;
  if (!tower) it.missing = "vision.*";
  if (bench_open(&bench, &it, "ref") && open_expected(&bench) &&
      weights_open(data_file(&bench, ""), &from, &failure)) {
    Session *session = open_program(&bench, bench.store, PROGRAM_FORWARD); // binds the parameters
    write_original(&bench, path, &from, tower);
    if (session && !tower) load(&bench, bench.store, data_file(&bench, ""), "vision");
    if (session && load(&bench, bench.store, path, "")) check_result(&bench, session, "ref", path);
    session_close(session);
  }
  CHECK(!*failure.message, "%s", failure.message);
  weights_close(&from);
  unlink(path);
  bench_close(&bench);
}

// 200 tokens from <s> on, to the byte; through llama2.c's reader, its tokenizer and the block for its layout.
static void test_stories(void) {
  enum { COUNT = 200 };
  if (!check_data()) {
    SKIP("stories260K: no folder of test data");
    return;
  }
  Bench bench;
  Failure failure = {0};
  Tokenizer *tokenizer = NULL;
  if (!bench_open(&bench, &stories, "cpu")) return bench_close(&bench);
  const char *folder = arena_print(bench.arena, "%s/stories260K", check_data());
  int32_t start[] = {1}, found[COUNT];
  char right[1024] = {0};
  FILE *file = fopen(arena_print(bench.arena, "%s/expected_t0_n200.txt", folder), "r");
  CHECK(file && fread(right, 1, sizeof right - 1, file), "the expected text");
  if (file) fclose(file);
  bench.batch = bench.length = 1;
  bool good = tokenizer_open(arena_print(bench.arena, "%s/tok512.bin", folder), &tokenizer, &failure);
  CHECK(good, "%s", failure.message);
  Session *session = good ? open_program(&bench, bench.store, PROGRAM_FORWARD) : NULL; // binds the parameters
  good = session && load(&bench, bench.store, arena_print(bench.arena, "%s/stories260K.bin", folder), "");
  if (good && generate(&bench, start, COUNT, found)) {
    Text text = {0};
    Decoder decoder = {0};
    for (int i = 0; i < COUNT; i++) tokenizer_decode(tokenizer, &decoder, found[i], false, &text);
    tokenizer_decode_end(&decoder, &text);
    CHECK(!strcmp(text_string(&text), right), "found\n%s\nexpected\n%s", text_string(&text), right);
    text_free(&text);
  }
  session_close(session);
  tokenizer_free(tokenizer);
  bench_close(&bench);
}

// The first moment after one step is a tenth of the gradient; the right one is read as if it were weights.
static void check_gradients(Bench *bench) {
  TensorStore *right = store_open(bench->device, 2);
  Session *session = open_program(bench, right, PROGRAM_FORWARD);
  double total = 0, difference = 0;
  if (session && load(bench, right, data_file(bench, "-gradients"), bench->it->part)) {
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

// What is trained is compiled for the CPU throughout; of the others the CPU gives the result, and the
// interpreter of kernels the rest.
static void test_case(const Case *it, const char *target) {
  Bench bench;
  if (bench_open(&bench, it, target) && open_expected(&bench)) {
    const char *gguf = arena_print(bench.arena, "tests/parity/data/%s.gguf", it->name);
    check_forward(&bench, target, data_file(&bench, ""));
    if (!strcmp(target, "ref") && file_exists(gguf)) check_forward(&bench, target, gguf);
    bool whole = it->stage ? !strcmp(target, "cpu") : !strcmp(target, "ref");
    if (whole && weights_find(&bench.expected, "greedy")) check_greedy(&bench);
    if (whole && it->stage) check_training(&bench);
  }
  bench_close(&bench);
}

int main(void) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    test_case(&cases[i], "ref");
    test_case(&cases[i], "cpu");
    if (!strcmp(cases[i].name, "llava")) test_original(&cases[i], true), test_original(&cases[i], false);
  }
  test_stories();
  return check_finish();
}
