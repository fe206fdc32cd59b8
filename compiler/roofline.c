// The roofline of each launch, with a model of the caches: what was touched least recently is no longer there.
#include "compiler/roofline.h"

#include <math.h>

const char *const bound_names[BOUND_COUNT] = {"compute", "memory", "cache", "launch"};

typedef struct Roofline {
  const Program *program;
  const int64_t *symbols;
  const MachineLimits *limits;
  double *flops;          // per code
  bool *pairs;            // per code: bf16 by bf16
  double *read, *written; // per code and buffer of its kernel: bytes
  size_t *offsets;        // of temporaries
  double touched;         // bytes touched so far, by all launches
  double *touched_at;     // per buffer: `touched` before the launch that touched it last; NAN: none has
} Roofline;

static void count_codes(Roofline *state, Kernel *const *kernels) {
  for (int i = 0; i < state->program->code_count; i++) {
    state->flops[i] = kernel_flops(kernels[i], state->symbols);
    state->pairs[i] = kernel_multiplies_bf16(kernels[i]);
    kernel_traffic(kernels[i], state->symbols, state->read + (size_t)i * KERNEL_MAX_BUFFERS,
                   state->written + (size_t)i * KERNEL_MAX_BUFFERS);
  }
}

// When the memory of a buffer was last touched: of a temporary that begins to live also as the memory of others.
static double last_touch(const Roofline *state, int buffer, int launch) {
  const Buffer *all = state->program->buffers, *fresh = &all[buffer];
  double latest = state->touched_at[buffer];
  if (fresh->role != ROLE_TEMPORARY || fresh->first_launch != launch) return latest;
  size_t begin = state->offsets[buffer], end = begin + buffer_bytes(fresh, state->symbols);
  for (int i = 0; i < state->program->buffer_count; i++) {
    if (all[i].role != ROLE_TEMPORARY || state->offsets[i] >= end ||
        state->offsets[i] + buffer_bytes(&all[i], state->symbols) <= begin)
      continue;
    latest = fmax(latest, state->touched_at[i]); // fmax passes NAN over
  }
  return latest;
}

// The nearest level that holds all that was touched since; memory holds everything.
static const MachineLevel *find_level(const MachineLimits *limits, double distance) {
  int i = 0;
  while (i < limits->level_count - 1 && !(distance <= limits->levels[i].bytes)) i++;
  return &limits->levels[i];
}

static void find_bound(const Roofline *state, int code, double near, double far, LaunchCost *cost) {
  const MachineLimits *limits = state->limits;
  bool single = limits->threads == 1 || code_is_small(&state->program->codes[code], state->symbols);
  double compute = cost->flops / (state->pairs[code] ? limits->pair_flops : limits->flops),
         launch = single ? limits->call : limits->launch;
  cost->least = fmax(launch, fmax(compute, near + far));
  cost->bound = launch == cost->least    ? BOUND_LAUNCH
                : compute == cost->least ? BOUND_COMPUTE
                : far >= near            ? BOUND_MEMORY
                                         : BOUND_CACHE;
}

// Of a launch's j-th buffer: it comes to the core once, to be read or to be written; writing it back goes on
// beside. A buffer that stands there twice comes once.
static double bytes_come(const Roofline *state, const Launch *launch, int j) {
  size_t place = (size_t)launch->code * KERNEL_MAX_BUFFERS + (size_t)j;
  for (int i = 0; i < j; i++)
    if (launch->buffers[i] == launch->buffers[j]) return 0;
  return fmax(state->read[place], state->written[place]);
}

static void cost_launch(Roofline *state, int index, LaunchCost *cost) {
  const Launch *launch = &state->program->launches[index];
  const double *read = state->read + (size_t)launch->code * KERNEL_MAX_BUFFERS,
               *written = state->written + (size_t)launch->code * KERNEL_MAX_BUFFERS;
  const MachineLimits *limits = state->limits;
  bool known = limits && limits->flops > 0 && limits->level_count > 0;
  double near = 0, far = 0, own = 0; // seconds of reading from caches, from memory; bytes
  *cost = (LaunchCost){.flops = state->flops[launch->code]};
  for (int j = 0; j < launch->buffer_count; j++) {
    cost->bytes += read[j] + written[j];
    own += bytes_come(state, launch, j);
  }
  for (int j = 0; known && j < launch->buffer_count; j++) {
    double since = last_touch(state, launch->buffers[j], index);
    const MachineLevel *level = find_level(limits, isnan(since) ? INFINITY : state->touched + own - since);
    *(isfinite(level->bytes) ? &near : &far) += bytes_come(state, launch, j) / level->rate;
  }
  if (known) find_bound(state, launch->code, near, far, cost);
  for (int j = 0; j < launch->buffer_count; j++) state->touched_at[launch->buffers[j]] = state->touched;
  state->touched += own;
}

void roofline(const Lowered *lowered, const int64_t symbols[SYMBOL_COUNT], const MachineLimits *limits,
              LaunchCost *costs) {
  const Program *program = &lowered->program;
  Arena *arena = arena_new();
  Roofline state = {.program = program, .symbols = symbols, .limits = limits};
  state.flops = ARENA_ARRAY(arena, double, program->code_count);
  state.pairs = ARENA_ARRAY(arena, bool, program->code_count);
  size_t places = (size_t)program->code_count * (size_t)KERNEL_MAX_BUFFERS;
  state.read = ARENA_ARRAY(arena, double, places);
  state.written = ARENA_ARRAY(arena, double, places);
  state.offsets = ARENA_ARRAY(arena, size_t, program->buffer_count);
  state.touched_at = ARENA_ARRAY(arena, double, program->buffer_count);
  program_plan(program, symbols, state.offsets);
  count_codes(&state, lowered->kernels);
  for (int i = 0; i < program->buffer_count; i++) state.touched_at[i] = NAN;
  for (int run = 0; run < 2; run++) // the first leaves the caches as the second finds them
    for (int i = 0; i < program->launch_count; i++) cost_launch(&state, i, &costs[i]);
  arena_free(arena);
}
