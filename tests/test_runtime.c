// The runtime without the model language: threads, sampler, schedule, store and sessions, checkpoints,
// guesser.
#include "check.h"

#include "compiler/emit/emit.h"
#include "compiler/lower/lower.h"
#include "runtime/checkpoint.h"
#include "runtime/files.h"
#include "runtime/guess.h"
#include "runtime/plot.h"
#include "runtime/sampler.h"
#include "runtime/store.h"
#include "runtime/threads.h"
#include "runtime/trainer.h"

#include <stdatomic.h>
#include <unistd.h>

// ---- threads

typedef struct Marks {
  atomic_int *count; // per task
  atomic_int worst_worker;
} Marks;

static void mark_tasks(void *context, int worker, int64_t begin, int64_t end) {
  Marks *marks = context;
  for (int64_t i = begin; i < end; i++) atomic_fetch_add(&marks->count[i], 1);
  if (worker > atomic_load(&marks->worst_worker)) atomic_store(&marks->worst_worker, worker);
}

static void test_threads(void) {
  static const int64_t sizes[] = {0, 1, 2, 3, 17, 1000, 10007};
  for (int threads = 1; threads <= 5; threads += 2) {
    Threads *pool = threads_open(threads);
    CHECK(pool && threads_count(pool) == threads, "%d threads", threads);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      for (int again = 0; again < 20; again++) {
        Marks marks = {calloc((size_t)sizes[s] + 1, sizeof(atomic_int)), 0};
        int wrong = 0;
        threads_run(pool, sizes[s], mark_tasks, &marks);
        for (int64_t i = 0; i < sizes[s]; i++) wrong += marks.count[i] != 1;
        if (wrong || marks.worst_worker >= threads || again == 19)
          CHECK(!wrong && marks.worst_worker < threads, "%d of %lld tasks not run once", wrong,
                (long long)sizes[s]);
        free(marks.count);
      }
    }
    threads_close(pool);
  }
}

// Launch upon launch, each with other tasks and other data, on more threads than there are cores: whoever comes late
// from one must not do anything in the next.
static void sum_tasks(void *context, int worker, int64_t begin, int64_t end) {
  atomic_llong *sum = context;
  (void)worker;
  for (; begin < end; begin++) atomic_fetch_add(sum, begin + 1);
}

static void test_many_launches(void) {
  Threads *pool = threads_open(7);
  int wrong = 0;
  for (int64_t i = 0; i < 20000; i++) {
    int64_t tasks = i * 37 % 150;
    atomic_llong sum = 0;
    threads_run(pool, tasks, sum_tasks, &sum);
    wrong += sum != tasks * (tasks + 1) / 2;
    if (i % 5000 == 0) usleep(2000); // time to fall asleep
  }
  CHECK(!wrong, "%d launches did not do their tasks once each", wrong);
  threads_close(pool);
}

static void test_small(void) {
  const int64_t symbols[SYMBOL_COUNT] = {0, 3, 1, 0, 1};
  Code code = {.work = {.terms = {{extent_symbol(SYMBOL_BATCH), 1}}, .count = 1}};
  CHECK(!code_is_small(&code, symbols), "what is not known is not small");
  code.task_seconds = 1e-7;
  CHECK(code_is_small(&code, symbols), "3 tasks of 0.1 us are");
  code.task_seconds = 1e-4;
  CHECK(!code_is_small(&code, symbols), "3 tasks of 100 us are not");
  code.work.count = 0;
  CHECK(code_is_small(&code, symbols), "a single task is nothing to share");
}

// ---- sampler

static void test_sampler(void) {
  const float logits[] = {0.5f, 2.0f, NAN, 2.0f, -INFINITY, 1.0f};
  Sampler greedy = {0};
  CHECK(sampler_next(&greedy, logits, 6) == 1, "the lowest id among equals");
  const float nothing[] = {NAN, NAN};
  CHECK(sampler_next(&greedy, nothing, 2) == 0, "nothing finite");
  const float first_nan[] = {NAN, -3.0f};
  CHECK(sampler_next(&greedy, first_nan, 2) == 1, "NaN in front");

  // Frequencies against the softmax: with n draws the deviation of a share p is sqrt(p (1 - p) / n); 5 of
  // them.
  const float plain[] = {0, 1, 2, 3};
  Sampler sampler = {.temperature = 1, .top_p = 1, .state = 7};
  int draws = 40000, counts[4] = {0};
  double total = 0;
  for (int i = 0; i < draws; i++) counts[sampler_next(&sampler, plain, 4)]++;
  for (int i = 0; i < 4; i++) total += exp(plain[i]);
  for (int i = 0; i < 4; i++) {
    double share = exp(plain[i]) / total, bound = 5 * sqrt(share * (1 - share) / draws);
    CHECK(fabs((double)counts[i] / draws - share) < bound, "token %d: %d draws, share %.3f", i, counts[i],
          share);
  }
  Sampler two = {.temperature = 1, .top_k = 2, .top_p = 1, .state = 1},
          nucleus = {.temperature = 1, .top_p = 0.6, .state = 1};
  int outside = 0, beside = 0;
  for (int i = 0; i < 1000; i++) {
    outside += sampler_next(&two, plain, 4) < 2;
    beside += sampler_next(&nucleus, plain, 4) != 3; // the likeliest holds 0.64
  }
  CHECK(!outside && !beside, "top-k let %d through, top-p %d", outside, beside);
}

static void test_schedule(void) {
  Stage stage = {.rate = 2, .schedule = SCHEDULE_COSINE, .floor = 0.1, .warmup = 0.1};
  CHECK(fabs(schedule_rate(&stage, 0, 100) - 0.2) < 1e-12, "first step of the warm-up");
  CHECK(fabs(schedule_rate(&stage, 9, 100) - 2) < 1e-12, "its last");
  CHECK(fabs(schedule_rate(&stage, 55, 100) - 1.1) < 1e-12, "half way: %g", schedule_rate(&stage, 55, 100));
  CHECK(fabs(schedule_rate(&stage, 100, 100) - 0.2) < 1e-12, "the floor");
  stage.schedule = SCHEDULE_LINEAR, stage.warmup = 0;
  CHECK(fabs(schedule_rate(&stage, 50, 100) - 1.1) < 1e-12, "linear");
  stage.schedule = SCHEDULE_CONSTANT;
  CHECK(schedule_rate(&stage, 50, 100) == 2, "constant");
}

// ---- store, session, checkpoint

static Extent constant(int64_t value) { return extent_constant(value); }

// result[b, d] = data[b, d] * weight[d]; weight is replaced by weight + 1, count (a state) by count + rate.
static void make_program(Arena *arena, Lowered *lowered, void **code) {
  static const int64_t sizes[SYMBOL_COUNT] = {0, 3, 1, 0, 1};
  Graph *graph = graph_new(arena, "sample");
  Axis b = {"B", extent_symbol(SYMBOL_BATCH)}, d = {"d", constant(5)};
  NodeId data = graph_input(graph, "data", INPUT_DATA, (Type){DTYPE_F32, 2, {b, d}});
  NodeId weight = graph_input(graph, "part.weight", INPUT_PARAM, (Type){DTYPE_F32, 1, {d}});
  NodeId count = graph_input(graph, "first:part.weight", INPUT_STATE, (Type){.dtype = DTYPE_F32, .rank = 0});
  NodeId rate = graph_input(graph, "rate", INPUT_SCALAR, (Type){.dtype = DTYPE_F32, .rank = 0});
  graph_find_input(graph, "part.weight")->initial = (Initial){true, 0, 0.5};
  graph_find_input(graph, "part.weight")->trained = true;
  int8_t from[] = {-1, 0};
  Axis axes[] = {b, d};
  NodeId wide = graph_arrange(graph, weight, 2, axes, from);
  graph_output(graph, "result", graph_binary(graph, OP_MUL, data, wide), false);
  graph_output(graph, "part.weight", graph_binary(graph, OP_ADD, weight, graph_constant(graph, 1, DTYPE_F32)),
               true);
  graph_output(graph, "first:part.weight", graph_binary(graph, OP_ADD, count, rate), true);
  Text reason = {0};
  CHECK(graph_verify(graph, &reason), "%s", text_string(&reason));
  text_free(&reason);
  lower(arena, graph, fuse(graph, true), NULL, sizes, lowered);
  lowered->program.name = "sample";
  Failure failure;
  EmitOptions options = {0};
  CHECK(emitter_ref.compile(lowered->kernels, lowered->kernel_count, &options, lowered->program.codes, code,
                            &failure),
        "%s", failure.message);
}

static void run_once(Session *session, int64_t batch, float *result) {
  Failure failure = {0};
  float data[35];
  for (int i = 0; i < 35; i++) data[i] = (float)(i % 7) - 3;
  size_t bytes = (size_t)batch * 5 * sizeof(float);
  bool good = session_resize(session, batch, 1, 0, &failure) &&
              session_set(session, "data", data, bytes, &failure) &&
              session_set_scalar(session, "rate", 0.25, &failure) &&
              session_set_scalar(session, "absent", 1, &failure) && session_run(session, &failure) &&
              session_get(session, "result", result, bytes, &failure);
  CHECK(good, "%s", failure.message);
}

// What a checkpoint brings is not computed, and not replaced later; what it does not bring starts as ever.
static void test_lazy(const Program *program, const char *folder, const float *saved, const float *initial) {
  Failure failure = {0};
  Device *device = device_cpu(1, &failure);
  TensorStore *loaded = store_open(device, 42), *fresh = store_open(device, 42);
  Session *session = session_open(program, loaded, &failure), *other = session_open(program, fresh, &failure);
  float result[35];
  CHECK(session && other && checkpoint_load(folder, "", "", loaded, NULL, &failure), "%s", failure.message);
  CHECK(store_start(loaded, &failure), "%s", failure.message);
  CHECK(!memcmp(store_find(loaded, "part.weight")->memory, saved, 5 * sizeof *saved),
        "the checkpoint's values stay");
  run_once(session, 7, result);
  CHECK(result[1] == -2 * saved[1], "and are those that run: %g", result[1]);
  run_once(other, 7, result);
  CHECK(result[1] == -2 * initial[1], "a run starts what nobody gave: %g", result[1]);
  session_close(session), session_close(other);
  store_close(loaded), store_close(fresh);
  device->close(device);
}

static void test_session(const Program *program, const char *folder) {
  Failure failure = {0};
  Device *device = device_cpu(2, &failure);
  TensorStore *store = store_open(device, 42), *other = store_open(device, 42),
              *third = store_open(device, 43);
  Session *session = session_open(program, store, &failure);
  CHECK(session, "%s", failure.message);
  float before[5], result[35];
  StoreTensor *weight = store_find(store, "part.weight"), *state = store_find(store, "first:part.weight");
  CHECK(!weight->started && !memcmp(weight->memory, (float[5]){0}, sizeof before),
        "no value before it is needed");
  CHECK(store_start(store, &failure) && weight->started, "%s", failure.message);
  memcpy(before, weight->memory, sizeof before);
  run_once(session, 7, result);
  int wrong = 0;
  for (int i = 0; i < 35; i++) wrong += result[i] != ((float)(i % 7) - 3) * before[i % 5];
  CHECK(!wrong, "%d elements wrong", wrong);
  CHECK(((float *)weight->memory)[2] == before[2] + 1 && *(float *)state->memory == 0.25f,
        "updated in place");
  run_once(session, 2, result);
  CHECK(*(float *)state->memory == 0.5f, "and again, for a smaller batch");
  CHECK(!session_set(session, "data", before, 4, &failure) && failure.internal, "the wrong size is refused");

  Progress progress = {3, 9, 1.5, 2.25}, read = {0};
  CHECK(checkpoint_save(folder, store, &progress, &failure), "%s", failure.message);
  progress.step = 4;
  CHECK(checkpoint_save(folder, store, &progress, &failure), "%s", failure.message);
  Session *twin = session_open(program, other, &failure);
  CHECK(store_start(other, &failure), "%s", failure.message);
  CHECK(!memcmp(store_find(other, "part.weight")->memory, before, sizeof before), "equal seeds start equal");
  session_close(session_open(program, third, &failure));
  CHECK(store_start(third, &failure), "%s", failure.message);
  CHECK(memcmp(store_find(third, "part.weight")->memory, before, sizeof before), "other seeds start other");
  CHECK(checkpoint_resume(folder, other, &read, &failure), "%s", failure.message);
  CHECK(!memcmp(&read, &progress, sizeof read), "progress comes back");
  CHECK(!memcmp(store_find(other, "part.weight")->memory, weight->memory, sizeof before),
        "parameters come back");
  CHECK(!memcmp(store_find(other, "first:part.weight")->memory, state->memory, 4), "states come back");
  CHECK(checkpoint_load(folder, "part", "part", third, NULL, &failure), "%s", failure.message);
  CHECK(!checkpoint_load(folder, "nowhere", "part", third, NULL, &failure) &&
            strstr(failure.message, "nowhere.weight"),
        "%s", failure.message);
  CHECK(!checkpoint_load(folder, "", "nowhere", third, NULL, &failure) && strstr(failure.message, "nowhere"),
        "%s", failure.message);
  test_lazy(program, folder, weight->memory, before);
  char old[300];
  snprintf(old, sizeof old, "%s/optimizer-3.safetensors", folder);
  CHECK(!file_exists(old), "the older optimizer file is gone");
  session_close(session);
  session_close(twin);
  store_close(store), store_close(other), store_close(third);
  device->close(device);
}

static void test_run_info(const char *folder) {
  Arena *arena = arena_new();
  Failure failure;
  RunInfo info = {.model = "models/\"odd\".vlm",
                  .preset = "tiny",
                  .define_count = 2,
                  .defines = {"a=1", "b.c=\\2"},
                  .seed = 5},
          read;
  CHECK(run_info_write(folder, &info, &failure), "%s", failure.message);
  CHECK(run_info_read(folder, arena, &read, &failure), "%s", failure.message);
  CHECK(!strcmp(read.model, info.model) && !strcmp(read.preset, "tiny") && !read.stage &&
            read.define_count == 2 && !strcmp(read.defines[1], "b.c=\\2") && read.seed == 5,
        "run.json comes back");
  arena_free(arena);
}

static void test_guesser(const char *folder) {
  char path[300];
  Failure failure;
  Guesser *guesser;
  static const char rows[] =
      "{\"prompt\": \"q\", \"answer\": \"b\"}\n{\"prompt\": \"q\", \"answer\": \"a\"}\n"
      "{\"prompt\": \"q\", \"answer\": \"b\"}\n{\"prompt\": \"p\", \"answer\": \"z\"}\n";
  snprintf(path, sizeof path, "%s/rows.jsonl", folder);
  CHECK(file_replace(path, rows, sizeof rows - 1, &failure), "%s", failure.message);
  CHECK(guesser_open(folder, "rows", &guesser, &failure), "%s", failure.message);
  CHECK(!strcmp(guesser_answer(guesser, "q"), "b") && !strcmp(guesser_answer(guesser, "p"), "z") &&
            !guesser_answer(guesser, "?"),
        "commonest");
  guesser_close(guesser);
}

static void test_plot(const char *folder) {
  char path[300];
  Failure failure;
  Text svg = {0};
  static const char log[] =
      "{\"step\": 1, \"loss\": 2.0, \"mean\": 2.0}\n{\"step\": 2, \"loss\": 1.0, \"mean\": 1.9}\n";
  snprintf(path, sizeof path, "%s/log.jsonl", folder);
  CHECK(file_replace(path, log, sizeof log - 1, &failure), "%s", failure.message);
  CHECK(plot_losses(&folder, 1, &svg, &failure), "%s", failure.message);
  CHECK(strstr(text_string(&svg), "</svg>") && strstr(text_string(&svg), "polyline"), "a drawing");
  text_free(&svg);
  CHECK(file_replace(path, log, 50, &failure), "%s", failure.message);
  CHECK(!plot_losses(&folder, 1, &svg, &failure) && strstr(failure.message, "log.jsonl:2"),
        "a cut line is named: %s", failure.message);
  text_free(&svg);
}

int main(void) {
  char folder[] = "/tmp/vlmc-runtime-XXXXXX";
  Arena *arena = arena_new();
  Lowered lowered = {0};
  void *code = NULL;
  if (!mkdtemp(folder)) return 1;
  test_threads();
  test_many_launches();
  test_small();
  test_sampler();
  test_schedule();
  make_program(arena, &lowered, &code);
  test_session(&lowered.program, folder);
  test_run_info(folder);
  test_guesser(folder);
  test_plot(folder);
  emitter_ref.release(code);
  arena_free(arena);
  char command[400];
  snprintf(command, sizeof command, "rm -r %s", folder);
  CHECK(!system(command), "cleaned up");
  return check_finish();
}
