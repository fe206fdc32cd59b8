// --profile: what a session's runs took, kernel by kernel, beside what the machine could have done at most. And a
// program run for nothing else, on random weights and inputs.
#include "compiler/commands.h"

#include "compiler/roofline.h"
#include "runtime/base/clock.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- the table ----------------------------------------------------------------------------------

// Launches of one code are one row.
typedef struct Row {
  const Launch *first;
  int calls; // per run
  double seconds, flops, bytes;
  double least, by_bound[BOUND_COUNT]; // seconds, in all and of the launches that each sets
} Row;

static int by_time(const void *left, const void *right) {
  const Row *a = left, *b = right;
  if (a->seconds != b->seconds) return a->seconds < b->seconds ? 1 : -1;
  return (a->first > b->first) - (a->first < b->first);
}

static void add_cost(Row *row, const LaunchCost *cost, double runs) {
  row->flops += runs * cost->flops;
  row->bytes += runs * cost->bytes;
  row->least += runs * cost->least;
  row->by_bound[cost->bound] += runs * cost->least;
}

// Into rows[code], and the sum of all into *total.
static void gather(const Lowered *lowered, const SessionProfile *profile, const MachineLimits *limits,
                   Row *rows, Row *total) {
  const Program *program = &lowered->program;
  LaunchCost *costs = calloc((size_t)program->launch_count + 1, sizeof *costs);
  if (!costs) die("out of memory for a profile");
  for (size_t k = 0; k < profile->size_count; k++) {
    const ProfiledSizes *sizes = &profile->sizes[k];
    roofline(lowered, sizes->symbols, limits, costs);
    for (int i = 0; i < program->launch_count; i++) {
      add_cost(&rows[program->launches[i].code], &costs[i], (double)sizes->runs);
      add_cost(total, &costs[i], (double)sizes->runs);
    }
  }
  free(costs);
  for (int i = 0; i < program->launch_count; i++) {
    Row *row = &rows[program->launches[i].code];
    if (!row->first) row->first = &program->launches[i];
    row->calls++, total->calls++;
    row->seconds += profile->seconds[i];
    total->seconds += profile->seconds[i];
  }
}

static Bound row_bound(const Row *row) {
  Bound bound = BOUND_COMPUTE;
  for (int i = 1; i < BOUND_COUNT; i++)
    if (row->by_bound[i] > row->by_bound[bound]) bound = (Bound)i;
  return bound;
}

static void print_time(const char *name, const char *calls, double seconds, const SessionProfile *profile,
                       Text *text) {
  text_print(text, "%-40.40s %6s %10.3f %6.2f%%", name, calls, 1e3 * seconds / (double)profile->runs,
             profile->whole > 0 ? 100 * seconds / profile->whole : 0);
}

// True: it was faster than memory is, so that what it read was still in a cache.
static bool print_row(const char *name, const Row *row, const SessionProfile *profile, Text *text) {
  char calls[16];
  double rate = row->seconds > 0 ? 1e-9 / row->seconds : 0;
  snprintf(calls, sizeof calls, "%d", row->calls);
  print_time(name, calls, row->seconds, profile, text);
  text_print(text, " %9.1f %7.1f", row->flops * rate, row->bytes * rate);
  bool known = row->least > 0 && row->seconds > 0;
  bool faster = known && row_bound(row) == BOUND_MEMORY && row->least > 1.05 * row->seconds;
  char share[16] = "", bound[16] = "";
  if (known) snprintf(share, sizeof share, "%.1f%%", 100 * row->least / row->seconds);
  if (known) snprintf(bound, sizeof bound, "%s%s", bound_names[row_bound(row)], faster ? "*" : "");
  text_print(text, " %7s %-8s", share, bound);
  if (row->first) text_print(text, " %-9s %s", row->first->anchor, row->first->lines);
  text_print(text, "\n");
  return faster;
}

static void print_sizes(const Program *program, const SessionProfile *profile, Text *text) {
  const int64_t *sizes = profile->sizes[0].symbols;
  text_print(text, "%s, ", program->name);
  if (profile->size_count > 1)
    text_print(text, "%zu sizes", profile->size_count);
  else
    text_print(text, "B=%" PRId64 " T=%" PRId64, sizes[SYMBOL_BATCH], sizes[SYMBOL_TIME]);
  if (profile->size_count == 1 && sizes[SYMBOL_PAST]) text_print(text, " P=%" PRId64, sizes[SYMBOL_PAST]);
  text_print(text, ": mean of %" PRId64 " run%s, %.3f ms each\n", profile->runs,
             profile->runs == 1 ? "" : "s", 1e3 * profile->whole / (double)profile->runs);
}

// "limits of 2 threads: 530 GFLOP/s (AVX-512), 220 GB/s from caches of 2 MB, ..., 35 GB/s from memory; ..."
static void print_limits(const MachineLimits *limits, Text *text) {
  if (!limits) {
    text_print(text, "what this device can do at most is not measured: no roofline\n");
    return;
  }
  text_print(text, "at most, on %d thread%s: ", limits->threads, limits->threads == 1 ? "" : "s");
  if (limits->flops > 0)
    text_print(text, "%.0f GFLOP/s (%s), of bf16 %.0f", 1e-9 * limits->flops, limits->instructions,
               1e-9 * limits->pair_flops);
  else
    text_print(text, "multiply-adds are not measured on this kind of processor: no roofline");
  for (int i = 0; i < limits->level_count; i++) {
    const MachineLevel *level = &limits->levels[i];
    if (isfinite(level->bytes))
      text_print(text, ", %.0f GB/s in a cache of %.0f MB", 1e-9 * level->rate, level->bytes * 0x1p-20);
    else
      text_print(text, ", %.0f GB/s in memory", 1e-9 * level->rate);
  }
  text_print(text, ", a launch %.1f us\n", 1e6 * limits->launch);
}

static void print_table(const Lowered *lowered, const SessionProfile *profile, const MachineLimits *limits,
                        Text *text) {
  const Program *program = &lowered->program;
  Row *rows = calloc((size_t)program->code_count + 1, sizeof *rows), total = {0};
  if (!rows) die("out of memory for a profile");
  gather(lowered, profile, limits, rows, &total);
  qsort(rows, (size_t)program->code_count, sizeof *rows, by_time);
  print_sizes(program, profile, text);
  print_limits(limits, text);
  text_print(text, "%-40s %6s %10s %7s %9s %7s %7s %-8s %-9s model lines\n", "kernel", "calls", "ms", "share",
             "GFLOP/s", "GB/s", "of roof", "bound by", "anchor");
  bool faster = false;
  for (int i = 0; i < program->code_count; i++)
    if (rows[i].first) faster |= print_row(program->codes[rows[i].first->code].name, &rows[i], profile, text);
  print_row("all kernels", &total, profile, text);
  print_time("between kernels", "", profile->whole - total.seconds, profile, text);
  text_print(text, "\n");
  print_time("a run", "", profile->whole, profile, text);
  text_print(text, "\n");
  if (faster) text_print(text, "* faster than memory is: what it reads was still in a cache\n");
  free(rows);
}

static void profile_table(Job *job, ProgramKind kind, const Session *session, Text *text) {
  const SessionProfile *profile = session ? session_profiled(session) : NULL;
  const Unit *unit = compiler_unit(job->compiler, kind);
  MachineLimits limits;
  if (!unit || !profile || !profile->runs) return;
  bool measured = job->device->host_memory && machine_measure(job->device->threads, &limits);
  print_table(&unit->lowered, profile, measured ? &limits : NULL, text);
}

void job_profile(Job *job, ProgramKind kind, const Session *session) {
  Text text = {0};
  profile_table(job, kind, session, &text);
  fputs(text_string(&text), stdout);
  text_free(&text);
}

// ---- a program on random inputs -----------------------------------------------------------------

// Floats from 0 to 1, whole numbers that are ids of tokens.
static bool set_data(Job *job, Session *session, const Buffer *buffer, const int64_t *symbols) {
  int64_t count = buffer_elements(buffer, symbols), vocabulary = job_vocabulary(job);
  size_t bytes = buffer_bytes(buffer, symbols);
  void *values = malloc(bytes + 1);
  uint32_t state = 1;
  if (!values) return fail(&job->failure, "out of memory for `%s`", buffer->name);
  for (int64_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    double number = (double)state * 0x1p-32; // below 1
    dtype_store(buffer->dtype, values, i,
                dtype_is_float(buffer->dtype) ? number : floor(number * (double)vocabulary));
  }
  bool good = session_set(session, buffer->name, values, bytes, &job->failure);
  free(values);
  return good;
}

static double scalar_value(const Job *job, const char *name) {
  const Stage *stage = compiler_stage(job->compiler);
  const struct {
    const char *name;
    double value;
  } known[] = {{"beta1", stage ? stage->beta1 : 0},
               {"beta2", stage ? stage->beta2 : 0},
               {"epsilon", 1e-8},
               {"decay", 0.1},
               {"rate", 1e-6},
               {"step", 1}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(known[i].name, name)) return known[i].value;
  return 0; // ids of special tokens, counters
}

static bool set_inputs(Job *job, Session *session, const int64_t *symbols) {
  const Program *program = session_program(session);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role == ROLE_DATA && !set_data(job, session, buffer, symbols)) return false;
    if (buffer->role == ROLE_SCALAR &&
        !session_set_scalar(session, buffer->name, scalar_value(job, buffer->name), &job->failure))
      return false;
  }
  return true;
}

// After one run, which draws the weights and finds memory untouched: for a second, three runs at least.
static bool run_often(Job *job, Session *session) {
  enum { LEAST = 3 };
  if (!session_run(session, &job->failure)) return false;
  session_profile(session, true);
  double start = clock_now();
  for (int i = 0; i < LEAST || clock_now() - start < 1; i++)
    if (!session_run(session, &job->failure)) return false;
  return true;
}

bool profile_program(Job *job, ProgramKind kind, Text *text) {
  const Unit *unit = compiler_unit(job->compiler, kind);
  if (!unit) return job_report(job);
  if (!unit->compiled)
    return fail(&job->failure, "--profile runs the program, and --stop-after=%s ends before there is one",
                job->options->stop_after);
  if (!unit->graph)
    return fail(&job->failure, "--profile runs a program, and %s holds kernels alone", job->options->model);
  const int64_t *symbols = unit->symbols;
  if (!job_open_device(job)) return false;
  Session *session = session_open(&unit->lowered.program, job->store, &job->failure);
  bool good = session &&
              session_resize(session, symbols[SYMBOL_BATCH], symbols[SYMBOL_TIME], symbols[SYMBOL_PAST],
                             &job->failure) &&
              set_inputs(job, session, symbols) && run_often(job, session);
  if (good) profile_table(job, kind, session, text);
  session_close(session);
  return good;
}
