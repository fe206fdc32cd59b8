// THE list of passes. A Unit goes through it from top to bottom; after every pass that leaves a graph the
// verifier runs, and the four generic things are done here: dump, time, stop, and the message on failure.
#include "compiler/compile_internal.h"

#include "compiler/graph/passes/passes.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { KIND_ALL = (1 << PROGRAM_COUNT) - 1, KIND_TRAIN = 1 << PROGRAM_TRAIN | 1 << PROGRAM_APPLY };
enum { KIND_WHOLE = KIND_ALL & ~(1 << PROGRAM_FEATURES) }; // that one begins where TRAIN has been hoisted
enum { KIND_DERIVED = 1 << PROGRAM_PREFILL | 1 << PROGRAM_DECODE };

typedef struct Pass {
  const char *name;
  int kinds; // bit mask of the programs that it is for
  bool (*run)(Unit *unit);
  const char *what;
} Pass;

static bool run_dead(Unit *unit) { return (unit->graph = dead(unit->graph)) != NULL; }
static bool run_simplify(Unit *unit) { return (unit->graph = simplify(unit->graph)) != NULL; }
static bool run_cse(Unit *unit) { return (unit->graph = cse(unit->graph)) != NULL; }
static bool run_associate(Unit *unit) {
  unit->graph = associate(cse(simplify(unit->graph)));
  return true;
}
static bool run_gradient(Unit *unit) { return (unit->graph = gradient(unit->graph)) != NULL; }

static bool run_elaborate(Unit *unit) { return unit_elaborate(unit); }

static bool run_canonical(Unit *unit) {
  unit->graph = dead(cse(simplify(unit->graph)));
  unit->before_backward = unit->graph;
  return true;
}

static bool run_weights(Unit *unit) {
  Packing packing = unit->compiler->options.packing;
  if (packing) unit->graph = weights(unit->graph, unit->before_backward, packing);
  return true;
}

static bool run_precision(Unit *unit) {
  DType storage = unit->compiler->options.storage;
  if (storage != DTYPE_F32) unit->graph = precision(unit->graph, storage);
  return true;
}

static bool run_optimizer(Unit *unit) { return unit_optimizer(unit); }
static bool run_derive(Unit *unit) { return unit_derive(unit); }
static bool run_hoist(Unit *unit) { return unit_hoist(unit); }

static bool run_fuse(Unit *unit) {
  unit->fusion = fuse(unit->graph, !unit->compiler->options.unfused);
  if (!unit->compiler->options.unfused && emit_takes_attention(unit->compiler->options.target))
    fuse_attention(unit->graph, unit->fusion, unit->symbols);
  return true;
}

static bool run_lower(Unit *unit) {
  lower(unit->arena, unit->graph, unit->fusion, unit->compiler->diagnostics.sources, unit->symbols,
        &unit->lowered);
  unit->lowered.program.name = program_names[unit->kind];
  unit->lowered.program.target = unit->compiler->options.target;
  return unit_verify_kernels(unit);
}

static bool run_emit(Unit *unit) { return unit_emit(unit); }

static const Pass passes[] = {
    {"elaborate", KIND_ALL, run_elaborate,
     "from the syntax tree to a graph: axes by name, parameters by path"},
    // from here on: no syntax tree; every value has a dtype, named axes, and the model line it came from
    {"canonical", KIND_WHOLE, run_canonical,
     "simplify, then one node per distinct value, then only what is needed"},
    {"derive", KIND_DERIVED, run_derive,
     "prefill or decode with a key/value cache, by following the time axis"},
    {"gradient", KIND_TRAIN, run_gradient, "gradients towards what the stage trains, and nothing else"},
    {"associate", KIND_TRAIN, run_associate,
     "sums of gradients over what a contraction summed already are taken of its result"},
    {"optimizer", KIND_TRAIN, run_optimizer, "clipping and the update of every trained parameter"},
    // from here on: the graph holds the whole step
    {"weights", KIND_WHOLE, run_weights,
     "under --weights-dtype: weights of contractions in that format, dequantised where they are read"},
    {"precision", KIND_WHOLE, run_precision, "under --dtype bf16: rounding at named points"},
    {"simplify", KIND_WHOLE, run_simplify, "fold constants and identities"},
    {"cse", KIND_WHOLE, run_cse, "one node where several compute the same"},
    {"dead", KIND_WHOLE, run_dead, "drop what no output needs"},
    {"hoist", 1 << PROGRAM_TRAIN, run_hoist,
     "what frozen parts make of a picture becomes a program of its own, where it is kept over epochs"},
    // from here on: the graph is final
    {"fuse", KIND_ALL, run_fuse, "which values stay in memory; the rest is computed where it is read"},
    {"lower", KIND_ALL, run_lower, "one kernel per group, launches in order, lifetimes of buffers"},
    // from here on: no graph; kernels and a program
    {"emit", KIND_ALL, run_emit, "kernels to code"},
};
enum { PASS_COUNT = sizeof passes / sizeof *passes };

void pipeline_list(Text *text) {
  for (int i = 0; i < PASS_COUNT; i++) text_print(text, "%-10s %s\n", passes[i].name, passes[i].what);
}

int pipeline_find(const char *name) {
  for (int i = 0; i < PASS_COUNT; i++)
    if (!strcmp(passes[i].name, name)) return i;
  return -1;
}

static void dump(const Unit *unit, const Pass *pass) {
  Text text = {0};
  if (!strcmp(pass->name, "lower"))
    print_kernels(unit, &text);
  else if (!strcmp(pass->name, "fuse"))
    fusion_print(unit->graph, unit->fusion, &text);
  else if (strcmp(pass->name, "emit"))
    graph_print(unit->graph, &text);
  if (text.length)
    fprintf(stderr, "# after %s (%s)\n%s", pass->name, program_names[unit->kind], text_string(&text));
  text_free(&text);
}

static bool verify(Unit *unit, const Pass *pass) {
  Text reason = {0};
  if (!unit->graph || graph_verify(unit->graph, &reason)) return true;
  unit_internal_error(unit, "pass `%s` left an illegal graph: %s", pass->name, text_string(&reason));
  text_free(&reason);
  return false;
}

bool pipeline_run(Unit *unit, int *done, int last) {
  const CompileOptions *options = &unit->compiler->options;
  int stop = options->stop_after ? pipeline_find(options->stop_after) : PASS_COUNT - 1;
  if (last < stop) stop = last;
  for (; *done <= stop && !unit->failed; ++*done) {
    const Pass *pass = &passes[*done];
    bool kernels_only = !unit->graph && unit->lowered.kernel_count && strcmp(pass->name, "emit");
    if (!(pass->kinds >> unit->kind & 1) || kernels_only) continue;
    double start = clock_now();
    unit->failed = !pass->run(unit);
    double middle = clock_now();
    unit->failed = unit->failed || !verify(unit, pass);
    if (unit->failed) return false;
    if (options->time_passes)
      fprintf(stderr, "%-8s %-10s %8.2f ms   verify %6.2f ms\n", program_names[unit->kind], pass->name,
              1e3 * (middle - start), 1e3 * (clock_now() - middle));
    if (options->dump_after &&
        (!strcmp(options->dump_after, "all") || !strcmp(options->dump_after, pass->name)))
      dump(unit, pass);
  }
  return !unit->failed;
}
