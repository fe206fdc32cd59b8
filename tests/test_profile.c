// The roofline against sums by hand: what each launch moves, from which level of memory, and what bounds it. What a
// session counts of its runs, and what is measured of the machine. The table is read from outside: test_profile.sh.
#include "compiler/roofline.h"
#include "runtime/store.h"

#include "check.h"

enum { N = 1000 }; // elements of every buffer: 4,000 bytes

// y = x * x, and z += y * x in place.
static const char *const text = "kernel square map\n"
                                "axes n=1000\n"
                                "buffer x f32[1000] read\n"
                                "buffer y f32[1000] write\n"
                                "%1 = load x [n] : f32\n"
                                "%2 = mul %1 %1 : f32\n"
                                "store y [n] = %2 over n\n"
                                "\n"
                                "kernel add map\n"
                                "axes n=1000\n"
                                "buffer x f32[1000] read\n"
                                "buffer y f32[1000] read\n"
                                "buffer z f32[1000] update\n"
                                "%1 = load x [n] : f32\n"
                                "%2 = load y [n] : f32\n"
                                "%3 = load z [n] : f32\n"
                                "%4 = mul %1 %2 : f32\n"
                                "%5 = add %3 %4 : f32\n"
                                "store z [n] = %5 over n\n";

static bool read_kernels(Arena *arena, Lowered *lowered) {
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  uint32_t source = sources_add(&sources, "k.kernel", text, strlen(text));
  bool good = kernel_read(arena, &diagnostics, source, &lowered->kernels, &lowered->kernel_count);
  CHECK(good && lowered->kernel_count == 2, "%s", text_string(&diagnostics.text));
  text_free(&diagnostics.text);
  return good;
}

// square: data -> a; square: a -> b; add: data, b -> state.
static void make_program(Arena *arena, Lowered *lowered) {
  static const char *const names[] = {"data", "a", "b", "state"};
  static const BufferRole roles[] = {ROLE_DATA, ROLE_TEMPORARY, ROLE_TEMPORARY, ROLE_STATE};
  static int used[3][3] = {{0, 1}, {1, 2}, {0, 2, 3}};
  Program *program = &lowered->program;
  *program =
      (Program){.name = "test", .target = "ref", .buffer_count = 4, .launch_count = 3, .code_count = 2};
  program->buffers = ARENA_ARRAY(arena, Buffer, 4);
  program->launches = ARENA_ARRAY(arena, Launch, 3);
  program->codes = ARENA_ARRAY(arena, Code, 2);
  for (int i = 0; i < 4; i++)
    program->buffers[i] = (Buffer){.name = names[i],
                                   .role = roles[i],
                                   .dtype = DTYPE_F32,
                                   .rank = 1,
                                   .extents = {extent_constant(N)},
                                   .first_launch = i == 2 ? 1 : 0,
                                   .last_launch = i == 1 ? 1 : 2};
  for (int i = 0; i < 3; i++)
    program->launches[i] =
        (Launch){.code = i / 2, .buffers = used[i], .buffer_count = i == 2 ? 3 : 2, .kernel = "k"};
  for (int i = 0; i < 2; i++)
    program->codes[i] =
        (Code){.name = lowered->kernels[i]->name,
               .work = {.terms = {{extent_constant(N), 10}}, .count = 1},
               .interpreted = lowered->kernels[i],
               .interpret = (void (*)(const void *, void *const *, const int64_t *))kernel_interpret};
}

static bool near(double found, double expected) { return fabs(found - expected) <= 1e-9 * expected; }

static MachineLimits limits_of(double flops, double cache) {
  return (MachineLimits){.threads = 2,
                         .instructions = "none",
                         .flops = flops,
                         .pair_flops = 2 * flops,
                         .levels = {{cache, 100}, {INFINITY, 10}},
                         .level_count = 2,
                         .launch = 5,
                         .call = 1};
}

static void test_roofline(const Lowered *lowered) {
  const int64_t symbols[SYMBOL_COUNT] = {0, 1, 1, 0, 1};
  LaunchCost costs[3];
  // A cache that holds everything: 8,000 bytes come to each square, 12,000 to add, whose state comes once.
  MachineLimits limits = limits_of(1e9, 1e9);
  roofline(lowered, symbols, &limits, costs);
  CHECK(costs[0].flops == N && costs[2].flops == 2 * N, "%g %g", costs[0].flops, costs[2].flops);
  CHECK(costs[0].bytes == 8 * N && costs[2].bytes == 16 * N, "%g %g", costs[0].bytes, costs[2].bytes);
  for (int i = 0; i < 3; i++) {
    CHECK(costs[i].bound == BOUND_CACHE, "launch %d is bound by %s", i, bound_names[costs[i].bound]);
    CHECK(near(costs[i].least, i == 2 ? 120 : 80), "launch %d: %g s", i, costs[i].least);
  }
  // One that holds nothing.
  limits = limits_of(1e9, 10);
  roofline(lowered, symbols, &limits, costs);
  for (int i = 0; i < 3; i++)
    CHECK(costs[i].bound == BOUND_MEMORY && near(costs[i].least, i == 2 ? 1200 : 800),
          "launch %d: %g s by %s", i, costs[i].least, bound_names[costs[i].bound]);
  // One that holds two launches: `a` is still there for the second, `b` for the third; data and state are not.
  limits = limits_of(1e9, 21000);
  roofline(lowered, symbols, &limits, costs);
  CHECK(near(costs[1].least, 40 + 400) || near(costs[1].least, 40 + 40), "a launch of two levels: %g s",
        costs[1].least);
  CHECK(near(costs[2].least, 40 + 800) && costs[2].bound == BOUND_MEMORY, "%g s", costs[2].least);
  // Slow arithmetic, and a launch that costs more than its work.
  limits = limits_of(1, 1e9);
  roofline(lowered, symbols, &limits, costs);
  CHECK(costs[0].bound == BOUND_COMPUTE && near(costs[0].least, N), "%g s", costs[0].least);
  limits = limits_of(1e9, 1e9);
  limits.levels[0].rate = limits.levels[1].rate = 1e9;
  roofline(lowered, symbols, &limits, costs);
  CHECK(costs[0].bound == BOUND_LAUNCH && costs[0].least == 5, "%g s", costs[0].least);
  limits.threads = 1;
  roofline(lowered, symbols, &limits, costs);
  CHECK(costs[0].bound == BOUND_LAUNCH && costs[0].least == 1, "%g s", costs[0].least);
  // Unknown limits leave FLOPs and bytes.
  limits.flops = 0;
  roofline(lowered, symbols, &limits, costs);
  CHECK(costs[0].least == 0 && costs[0].flops == N && costs[0].bytes == 8 * N, "%g s", costs[0].least);
  roofline(lowered, symbols, NULL, costs);
  CHECK(costs[2].least == 0 && costs[2].flops == 2 * N, "%g s", costs[2].least);
}

static void test_traffic(const Lowered *lowered) {
  const int64_t symbols[SYMBOL_COUNT] = {0, 1, 1, 0, 1};
  double read[KERNEL_MAX_BUFFERS], written[KERNEL_MAX_BUFFERS];
  kernel_traffic(lowered->kernels[1], symbols, read, written);
  CHECK(read[0] == 4 * N && read[1] == 4 * N && read[2] == 4 * N, "%g %g %g", read[0], read[1], read[2]);
  CHECK(written[0] == 0 && written[2] == 4 * N, "%g %g", written[0], written[2]);
  CHECK(kernel_bytes(lowered->kernels[1], symbols) == 16 * N, "their sum");
}

static void test_session(const Program *program) {
  Failure failure = {0};
  Device *device = device_cpu(1, &failure);
  TensorStore *store = device ? store_open(device, 0) : NULL;
  Session *session = store ? session_open(program, store, &failure) : NULL;
  CHECK(session, "%s", failure.message);
  if (!session) return;
  bool good = session_resize(session, 1, 1, 0, &failure) && session_run(session, &failure);
  CHECK(good && !session_profiled(session), "off from the start: %s", failure.message);
  session_profile(session, true);
  const SessionProfile *profile = session_profiled(session);
  CHECK(profile && !profile->runs && !profile->size_count, "nothing yet");
  for (int i = 0; good && i < 5; i++)
    good = session_resize(session, 1 + i % 2, 1, 0, &failure) && session_run(session, &failure);
  CHECK(good && profile->runs == 5 && profile->size_count == 2, "%lld runs", (long long)profile->runs);
  CHECK(profile->size_count == 2 && profile->sizes[0].runs == 3 && profile->sizes[1].runs == 2, "by size");
  CHECK(profile->size_count == 2 && profile->sizes[1].symbols[SYMBOL_BATCH] == 2, "the second's");
  double sum = profile->seconds[0] + profile->seconds[1] + profile->seconds[2];
  CHECK(sum > 0 && sum <= profile->whole, "%g of %g s", sum, profile->whole);
  session_profile(session, true);
  CHECK(session_profiled(session)->runs == 0, "begins anew");
  session_profile(session, false);
  CHECK(!session_profiled(session) && session_run(session, &failure), "off again");
  session_close(session);
  store_close(store);
  device->close(device);
}

static void test_machine(void) {
  for (int threads = 1; threads <= 2; threads++) {
    MachineLimits limits;
    bool good = machine_measure(threads, &limits);
    CHECK(good && limits.threads == threads && limits.level_count > 0, "%d threads", threads);
    CHECK((limits.flops > 0) == (limits.instructions != NULL), "a peak has instructions");
    for (int i = 0; good && i < limits.level_count; i++) {
      CHECK(limits.levels[i].rate > 0 && isfinite(limits.levels[i].rate), "%g bytes/s",
            limits.levels[i].rate);
      CHECK(!i || limits.levels[i].bytes > limits.levels[i - 1].bytes, "levels grow");
      CHECK(isinf(limits.levels[i].bytes) == (i == limits.level_count - 1), "memory is the last");
    }
    CHECK(limits.launch > 0 && limits.call > 0, "%g s, %g s", limits.launch, limits.call);
  }
}

int main(void) {
  Arena *arena = arena_new();
  Lowered lowered = {0};
  if (read_kernels(arena, &lowered)) {
    make_program(arena, &lowered);
    test_traffic(&lowered);
    test_roofline(&lowered);
    test_session(&lowered.program);
  }
  test_machine();
  arena_free(arena);
  return check_finish();
}
