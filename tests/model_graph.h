// A model file's text -> the graph of one of its functions, in f64, for tests of graph passes on whole
// models.
#ifndef VLMC_TESTS_MODEL_GRAPH_H
#define VLMC_TESTS_MODEL_GRAPH_H

#include "compiler/elaborate/elaborate.h"
#include "compiler/graph/passes/passes.h"
#include "tests/check.h"

#include <unistd.h>

typedef struct ModelText {
  Arena *arena;
  Sources sources;
  Diagnostics diagnostics;
  Modules modules;
  ModelOptions options;
  Model *model;
} ModelText;

// NULL model: `diagnostics` says why. Run from the project's folder.
static inline void model_text_open(ModelText *it, const char *text) {
  static const char *const library[] = {"stdlib", "models"};
  char path[] = "/tmp/vlmc-test-XXXXXX";
  *it = (ModelText){.arena = arena_new()};
  sources_init(&it->sources, it->arena);
  it->diagnostics.sources = &it->sources;
  int file = mkstemp(path);
  bool written = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
  if (file >= 0) close(file);
  if (written && ast_load(it->arena, &it->diagnostics, path, library, 2, &it->modules))
    it->model = model_open(it->arena, &it->diagnostics, &it->modules, &it->options);
  unlink(path);
}

static inline void model_text_close(ModelText *it) {
  text_free(&it->diagnostics.text);
  arena_free(it->arena);
}

// Each value in f64 in place of f32.
static inline Graph *model_text_graph(ModelText *it, const char *function) {
  Graph *graph = it->model ? model_graph(it->model, function) : NULL;
  for (NodeId id = 1; graph && id < graph->count; id++)
    if (graph->nodes[id].type.dtype == DTYPE_F32) graph->nodes[id].type.dtype = DTYPE_F64;
  return graph;
}

#endif
