// For tests of the language: a model from a file or from text, its graphs, and their values by the evaluator.
#ifndef VLMC_TESTS_ELABORATE_H
#define VLMC_TESTS_ELABORATE_H

#include "compiler/elaborate/elaborate.h"

#include "check.h"

#include <unistd.h>

typedef struct Session {
  Arena *arena;
  Sources sources;
  Diagnostics diagnostics;
  Modules modules;
  ModelOptions options;
  Model *model;
} Session;

static inline const char *session_said(const Session *session) {
  return text_string(&session->diagnostics.text);
}

// "path=value" as on the command line.
static inline void session_define(Session *session, const char *const *texts, size_t count) {
  Define *defines = ARENA_ARRAY(session->arena, Define, count);
  for (size_t i = 0; i < count; i++) {
    const char *value = strchr(texts[i], '=') + 1;
    uint32_t source = sources_add(&session->sources, "-D", texts[i], strlen(texts[i]));
    defines[i].span = (Span){source, 0, (uint32_t)(value - texts[i] - 1)};
    defines[i].path = arena_copy(session->arena, texts[i], (size_t)(value - texts[i] - 1));
    defines[i].value =
        ast_parse_expression(session->arena, &session->diagnostics, source, (size_t)(value - texts[i]));
  }
  session->options.defines = defines;
  session->options.define_count = count;
}

static inline bool session_open(Session *session, const char *path, const char *preset,
                                const char *const *defines, size_t define_count) {
  static const char *const library[] = {"stdlib", "models"};
  *session = (Session){.arena = arena_new()};
  sources_init(&session->sources, session->arena);
  session->diagnostics.sources = &session->sources;
  session->options.preset = preset;
  session_define(session, defines, define_count);
  if (ast_load(session->arena, &session->diagnostics, path, library, 2, &session->modules))
    session->model = model_open(session->arena, &session->diagnostics, &session->modules, &session->options);
  return session->model != NULL;
}

// A file of the given text, opened as a model; preset: its name or NULL.
static inline bool session_open_preset(Session *session, const char *text, const char *preset) {
  char path[] = "/tmp/vlmc-test-XXXXXX.vlm";
  int handle = mkstemps(path, 4);
  FILE *file = handle < 0 ? NULL : fdopen(handle, "w");
  if (file) fputs(text, file), fclose(file);
  bool good = session_open(session, path, preset, NULL, 0);
  unlink(path);
  return good;
}

static inline bool session_open_text(Session *session, const char *text) {
  return session_open_preset(session, text, NULL);
}

static inline void session_close(Session *session) {
  text_free(&session->diagnostics.text);
  arena_free(session->arena);
}

// ---- values

typedef struct Run {
  Session session;
  Graph *graph;
  Tensor *inputs, *outputs;
  int64_t symbols[SYMBOL_COUNT];
} Run;

static inline double *run_fill(Arena *arena, int64_t count, uint32_t *state) {
  double *data = ARENA_ARRAY(arena, double, count);
  for (int64_t i = 0; i < count; i++) {
    *state = *state * 1664525 + 1013904223;
    data[i] = (double)(*state >> 8) / (1 << 23) - 1;
  }
  return data;
}

// The graph of a function of run->session's model, with inputs filled: floats uniform in [-1, 1), whole
// numbers in [0, range).
static inline bool run_begin(Run *run, const char *function, int batch, int time, int range) {
  uint32_t state = 7;
  run->graph = model_graph(run->session.model, function);
  CHECK(run->graph, "%s: %s", function, session_said(&run->session));
  if (!run->graph) return false;
  Text reason = {0};
  CHECK(graph_verify(run->graph, &reason), "%s", text_string(&reason));
  text_free(&reason);
  Arena *arena = run->session.arena;
  run->symbols[SYMBOL_BATCH] = batch, run->symbols[SYMBOL_TIME] = run->symbols[SYMBOL_SEEN] = time;
  run->inputs = ARENA_ARRAY(arena, Tensor, run->graph->input_count);
  run->outputs = ARENA_ARRAY(arena, Tensor, run->graph->output_count);
  for (size_t i = 0; i < run->graph->input_count; i++) {
    Tensor *tensor = &run->inputs[i];
    tensor->type = *graph_type(run->graph, run->graph->inputs[i].node);
    for (int j = 0; j < tensor->type.rank; j++)
      tensor->type.axes[j].extent = extent_constant(extent_value(tensor->type.axes[j].extent, run->symbols));
    int64_t count = type_elements(&tensor->type, run->symbols);
    tensor->data = run_fill(arena, count, &state);
    for (int64_t j = 0; j < count && !dtype_is_float(tensor->type.dtype); j++)
      tensor->data[j] = floor((tensor->data[j] + 1) / 2 * range);
  }
  return true;
}

static inline bool run_open(Run *run, const char *text, const char *function, int batch, int time,
                            int range) {
  *run = (Run){0};
  bool good = session_open_text(&run->session, text);
  CHECK(good, "%s\n%s", text, session_said(&run->session));
  return good && run_begin(run, function, batch, time, range);
}

static inline double *run_input(Run *run, const char *name) {
  for (size_t i = 0; i < run->graph->input_count; i++)
    if (!strcmp(run->graph->inputs[i].name, name)) return run->inputs[i].data;
  CHECK(false, "no input `%s`", name);
  exit(1);
}

static inline const Tensor *run_evaluate(Run *run) {
  graph_evaluate(run->graph, run->session.arena, run->symbols, run->inputs, run->outputs);
  return &run->outputs[0];
}

static inline void run_close(Run *run) { session_close(&run->session); }

// Every element of the first output against `wanted`.
static inline void check_values(const char *what, const Tensor *tensor, const double *wanted, int64_t count) {
  int64_t symbols[SYMBOL_COUNT] = {0}, elements = type_elements(&tensor->type, symbols);
  CHECK(elements == count, "%s has %lld elements, not %lld", what, (long long)elements, (long long)count);
  for (int64_t i = 0; i < count && elements == count; i++) {
    bool same = fabs(tensor->data[i] - wanted[i]) <= 1e-9 * (1 + fabs(wanted[i]));
    if (same) continue;
    CHECK(false, "%s: element %lld is %.12g, not %.12g", what, (long long)i, tensor->data[i], wanted[i]);
    return;
  }
  CHECK(true, "%s", what);
}

#endif
