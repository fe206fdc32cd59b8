// One program of one model as a side of a comparison (side.h). Input: options as `vlmc MODEL.vlm` has them, among
// them --program, --batch and --length; random weights, ids and pictures. A step is what a user waits for: of train
// a whole step with its optimizer, of forward one batch, of prefill a whole prompt, of decode one further token, each
// line beginning anew behind the same 64.
#include "compiler/compile.h"
#include "compiler/options.h"
#include "runtime/feed.h"
#include "tests/bench/side.h"

#include <string.h>

// The token that pictures replace, and how many there are at most: the whole of a picture comes first.
enum { PICTURE_TOKEN = 511, PICTURE_TOKENS = 196, DECODED_BEFORE = 64 };

typedef struct Running {
  const Unit *unit;
  Session *session;
  Feed feed;
  int64_t batch, length, past;
  int32_t *ids;
  float *weight, *picture;
  Failure failure;
} Running;

static uint32_t next_random(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

static void *get(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) die("out of memory");
  return memory;
}

static void make_data(Running *running) {
  size_t positions = (size_t)(running->batch * running->length),
         pixels = (size_t)(running->batch * running->feed.picture_elements);
  uint32_t state = 1;
  running->ids = get(positions, sizeof *running->ids);
  running->weight = get(positions, sizeof *running->weight);
  running->picture = get(pixels, sizeof *running->picture);
  for (size_t i = 0; i < positions; i++) {
    bool seen = running->feed.picture && i % (size_t)running->length < PICTURE_TOKENS;
    running->ids[i] = seen ? PICTURE_TOKEN : (int32_t)(next_random(&state) >> 8) % PICTURE_TOKEN;
    running->weight[i] = !seen;
  }
  for (size_t i = 0; i < pixels; i++)
    running->picture[i] = (float)(next_random(&state) >> 8) / 8388608.0f - 1;
}

static bool set_scalars(Running *running) {
  const Stage *stage = compiler_stage(running->unit->compiler);
  const Program *program = &running->unit->lowered.program;
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    bool token = !strncmp(buffer->name, "token:", 6);
    if (buffer->role == ROLE_SCALAR &&
        !session_set_scalar(running->session, buffer->name, token ? PICTURE_TOKEN : 1, &running->failure))
      return false;
  }
  if (!stage) return true;
  const struct {
    const char *name;
    double value;
  } scalars[] = {{"rate", 1e-5},
                 {"beta1", stage->beta1},
                 {"beta2", stage->beta2},
                 {"epsilon", stage->epsilon},
                 {"decay", stage->weight_decay}};
  for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
    if (!session_set_scalar(running->session, scalars[i].name, scalars[i].value, &running->failure))
      return false;
  return true;
}

static bool set_data(Running *running) {
  const Feed *feed = &running->feed;
  size_t positions = (size_t)(running->batch * running->length),
         pixels = (size_t)(running->batch * feed->picture_elements);
  Session *session = running->session;
  Failure *failure = &running->failure;
  return session_resize(session, running->batch, running->length, running->past, failure) &&
         (!feed->ids ||
          session_set(session, feed->ids, running->ids, positions * sizeof *running->ids, failure)) &&
         (!feed->weight || session_set(session, feed->weight, running->weight,
                                       positions * sizeof *running->weight, failure)) &&
         (!feed->picture ||
          session_set(session, feed->picture, running->picture, pixels * sizeof *running->picture, failure));
}

static bool begin(void *context) {
  Running *running = context;
  running->past = running->unit->kind == PROGRAM_DECODE ? DECODED_BEFORE : 0;
  return true;
}

static bool step(void *context) {
  Running *running = context;
  bool good = set_data(running) && session_run(running->session, &running->failure);
  running->past += running->unit->kind == PROGRAM_DECODE;
  if (!good) fprintf(stderr, "%s\n", running->failure.message);
  return good;
}

static bool read_options(int count, char **words, CompileOptions *compile, int *kind, Failure *failure) {
  static const char *const library[] = {"stdlib", "models"};
  static Options options;
  if (!options_read(count, words, &options, failure)) return false;
  if (!options.model || !options.program || !options.batch || !options.length)
    return fail(failure, "usage: step MODEL.vlm --program KIND --batch B --length T [option of vlmc]...");
  for (*kind = 0; *kind < PROGRAM_COUNT && strcmp(program_names[*kind], options.program);) ++*kind;
  *compile =
      (CompileOptions){.model = options.model,
                       .preset = options.preset,
                       .defines = options.defines,
                       .define_count = (size_t)options.define_count,
                       .stage = options.stage,
                       .target = options.target,
                       .storage = options.dtype && !strcmp(options.dtype, "bf16") ? DTYPE_BF16 : DTYPE_F32,
                       .threads = options.threads,
                       .batch = options.batch,
                       .length = options.length,
                       .library = library,
                       .library_count = 2};
  bool packed = !options.weights_dtype || packing_from_name(options.weights_dtype, &compile->packing);
  return (packed && *kind < PROGRAM_COUNT) || fail(failure, "no such --program or --weights-dtype");
}

int main(int count, char **words) {
  Running running = {0};
  CompileOptions options;
  Text errors = {0};
  int kind = 0;
  if (!read_options(count, words, &options, &kind, &running.failure))
    return fprintf(stderr, "%s\n", running.failure.message), 1;
  running.batch = options.batch, running.length = options.length;
  if (kind == PROGRAM_DECODE) options.length = 1024; // the cache's room, where the model has no limit
  Compiler *compiler = compiler_open(&options, &errors);
  running.unit = compiler ? compiler_unit(compiler, (ProgramKind)kind) : NULL;
  Device *device = running.unit ? device_cpu(options.threads, &running.failure) : NULL;
  TensorStore *store = device ? store_open(device, 0) : NULL;
  const Program *program = running.unit ? &running.unit->lowered.program : NULL;
  bool good = store && (running.session = session_open(program, store, &running.failure)) &&
              feed_find(program, &running.feed, &running.failure);
  if (good) make_data(&running);
  good = good && set_data(&running) && set_scalars(&running);
  if (!good)
    fprintf(stderr, "%s%s%s\n", text_string(&errors), compiler ? compiler_errors(compiler) : "",
            running.failure.message);
  int status = good ? side_serve(begin, step, &running) : 1;
  session_close(running.session);
  if (store) store_close(store);
  if (device) device->close(device);
  compiler_close(compiler);
  text_free(&errors);
  free(running.ids), free(running.weight), free(running.picture);
  return status;
}
