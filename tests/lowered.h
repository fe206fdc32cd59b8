// A graph against its meaning: lowered with and without fusion, verified, executed by the kernel interpreter
// and compared with graph_evaluate. What rounding may do is measured: by how far results move with the
// inputs.
#ifndef VLMC_TESTS_LOWERED_H
#define VLMC_TESTS_LOWERED_H

#include "tests/execute.h"

#include "compiler/graph/graph.h"
#include "tests/random_graph.h"

static const int64_t *const symbols = random_symbols;

// ---- comparing

static uint64_t random_state = 1;
static inline double random_unit(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return (double)(random_state >> 11) / 9007199254740992.0;
}

// How far results move when each input moves by about one rounding: the yardstick for rounding inside.
static inline double **sensitivity(Arena *arena, const Graph *graph, const Tensor *inputs,
                                   const Tensor *outputs, double rounding) {
  double **moved = ARENA_ARRAY(arena, double *, graph->output_count + 1);
  Tensor *near = ARENA_ARRAY(arena, Tensor, graph->input_count + 1);
  Tensor *results = ARENA_ARRAY(arena, Tensor, graph->output_count + 1);
  for (size_t i = 0; i < graph->output_count; i++)
    moved[i] = ARENA_ARRAY(arena, double, type_elements(&outputs[i].type, symbols) + 1);
  for (int round = 0; round < 3; round++) {
    for (size_t i = 0; i < graph->input_count; i++) {
      int64_t count = type_elements(&inputs[i].type, symbols);
      near[i] = (Tensor){inputs[i].type, ARENA_ARRAY(arena, double, count + 1)};
      for (int64_t k = 0; k < count; k++)
        near[i].data[k] =
            inputs[i].data[k] + (dtype_is_float(inputs[i].type.dtype) ? rounding * (random_unit() - 0.5) : 0);
    }
    graph_evaluate(graph, arena, symbols, near, results);
    for (size_t i = 0; i < graph->output_count; i++)
      for (int64_t k = 0; k < type_elements(&outputs[i].type, symbols); k++)
        moved[i][k] = fmax(moved[i][k], fabs(results[i].data[k] - outputs[i].data[k]));
  }
  return moved;
}

static inline bool close_enough(double ours, double meant, double moved) {
  if (isnan(meant) || isnan(moved)) return isnan(meant) ? isnan(ours) : true;
  if (isinf(meant)) return ours == meant;
  return fabs(ours - meant) <= 64 * moved + 32 * 0x1p-24 * fmax(1, fabs(meant));
}

static inline void compare(const Graph *graph, const Lowered *lowered, const Memory *memory,
                           const Tensor *outputs, double **moved, const char *what) {
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    int buffer = -1; // a result and a state may have the same name
    for (int k = 0; k < lowered->program.buffer_count; k++)
      if (!strcmp(lowered->program.buffers[k].name, output->name) &&
          (lowered->program.buffers[k].role == ROLE_RESULT) == !output->update)
        buffer = k;
    CHECK(buffer >= 0, "%s, %s: no buffer for output %s", graph->name, what, output->name);
    if (buffer < 0) continue;
    int64_t count = type_elements(&outputs[i].type, symbols), wrong = 0, first = -1;
    DType dtype = lowered->program.buffers[buffer].dtype;
    for (int64_t k = 0; k < count; k++) {
      double ours = dtype_load(dtype, memory->buffers[buffer], k);
      if (close_enough(ours, outputs[i].data[k], moved[i][k])) continue;
      if (!wrong++) first = k;
    }
    CHECK(!wrong, "%s, %s: output %s: %ld of %ld differ, first [%ld]: %.9g instead of %.9g (moved %g)",
          graph->name, what, output->name, (long)wrong, (long)count, (long)first,
          dtype_load(dtype, memory->buffers[buffer], first < 0 ? 0 : first),
          outputs[i].data[first < 0 ? 0 : first], moved[i][first < 0 ? 0 : first]);
  }
}

static inline void check_kernels(const Graph *graph, const Lowered *lowered, const char *what) {
  for (size_t i = 0; i < lowered->kernel_count; i++) {
    Text reason = {0};
    bool legal = kernel_verify(lowered->kernels[i], &reason);
    Text text = {0};
    if (!legal) kernel_print(lowered->kernels[i], NULL, &text);
    CHECK(legal, "%s, %s: %s\n%s", graph->name, what, text_string(&reason), text_string(&text));
    text_free(&reason);
    text_free(&text);
  }
}

static inline void show(const Graph *graph, const Fusion *fusion, const Lowered *lowered) {
  Text text = {0};
  graph_print(graph, &text);
  fusion_print(graph, fusion, &text);
  for (size_t i = 0; i < lowered->kernel_count; i++) kernel_print(lowered->kernels[i], NULL, &text);
  printf("%s\n", text_string(&text));
  fflush(stdout);
  text_free(&text);
}

static inline void run_lowered(Arena *arena, const Graph *graph, const Tensor *inputs, const Tensor *outputs,
                               double **moved, bool enabled) {
  const char *what = enabled ? "fused" : "unfused";
  int before = check_failed;
  Lowered lowered;
  Fusion *fusion = fuse(graph, enabled);
  lower(arena, graph, fusion, NULL, symbols, &lowered);
  check_kernels(graph, &lowered, what);
  if (getenv("SHOW") && !enabled) show(graph, fusion, &lowered);
  Memory memory = memory_open(&lowered.program, symbols, arena);
  for (size_t i = 0; i < graph->input_count; i++) {
    int buffer = program_find(&lowered.program, graph->inputs[i].name);
    if (graph->inputs[i].packing) continue; // has no memory
    for (int64_t k = 0; k < type_elements(&inputs[i].type, symbols); k++)
      dtype_store(inputs[i].type.dtype, memory.buffers[buffer], k, inputs[i].data[k]);
  }
  execute(&lowered, symbols, &memory);
  compare(graph, &lowered, &memory, outputs, moved, what);
  if (check_failed > before) show(graph, fusion, &lowered);
}

// What an optimizer's numbers must be for its step to be one: rates and moments are not negative.
static inline void settle_inputs(const Graph *graph, Tensor *inputs) {
  for (size_t i = 0; i < graph->input_count; i++) {
    const Input *input = &graph->inputs[i];
    const Type *type = &inputs[i].type;
    if (input->role == INPUT_SCALAR && dtype_is_float(type->dtype))
      *inputs[i].data = strcmp(input->name, "step") ? 0.5 : 3;
    for (int64_t k = 0; !strncmp(input->name, "second:", 7) && k < type_elements(type, symbols); k++)
      inputs[i].data[k] = fabs(inputs[i].data[k]);
  }
}

// `rounding`: of the narrowest float that values are stored in.
static inline void check_rounded(const Graph *graph, uint64_t seed, double rounding) {
  Arena *arena = arena_new();
  Text reason = {0};
  bool legal = graph_verify(graph, &reason);
  CHECK(legal, "%s: %s", graph->name, text_string(&reason));
  text_free(&reason);
  if (legal) {
    Tensor *inputs = random_inputs(graph, arena, seed, symbols);
    settle_inputs(graph, inputs);
    Tensor *outputs = ARENA_ARRAY(arena, Tensor, graph->output_count + 1);
    graph_evaluate(graph, arena, symbols, inputs, outputs);
    double **moved = sensitivity(arena, graph, inputs, outputs, rounding);
    run_lowered(arena, graph, inputs, outputs, moved, false);
    run_lowered(arena, graph, inputs, outputs, moved, true);
  }
  arena_free(arena);
}

static inline void check_seed(const Graph *graph, uint64_t seed) { check_rounded(graph, seed, 0x1p-23); }
static inline void check_graph(const Graph *graph) { check_seed(graph, 1); }

#endif
