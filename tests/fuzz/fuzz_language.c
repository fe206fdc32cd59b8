// Fuzz target: any bytes as a model file. What parses prints in a form that parses and prints the same; what
// opens as a model gives graphs that the verifier accepts, through every pass, and whole settings of its
// stages.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/opened.h"

#include "compiler/elaborate/elaborate.h"
#include "compiler/graph/passes/passes.h"

static void print_language(Opened *opened, const char *bytes, size_t size) {
  uint32_t source = sources_add(&opened->sources, "fuzzed", bytes, size);
  const Ast *file = ast_parse(opened->arena, &opened->diagnostics, source);
  if (!file) {
    if (!opened->diagnostics.errors) abort(); // refused without a word
    return;
  }
  Text once = {0}, twice = {0};
  ast_print(file, &once);
  source = sources_add(&opened->sources, "printed", text_string(&once), once.length);
  file = ast_parse(opened->arena, &opened->diagnostics, source);
  if (!file) abort();
  ast_print(file, &twice);
  if (strcmp(text_string(&once), text_string(&twice))) abort();
  text_free(&once);
  text_free(&twice);
}

static void check_function(Model *model, const char *function) {
  Text reason = {0};
  const char *const *stages;
  if (!model_has(model, function)) return;
  Graph *graph = model_graph(model, function);
  if (!graph) return;
  if (!graph_verify(graph, &reason)) abort();
  graph = dead(cse(simplify(graph)));
  if (!graph_verify(graph, &reason)) abort();
  for (size_t i = 0; i < model_stage_names(model, &stages); i++) model_select(model, stages[i], graph);
  text_free(&reason);
}

static void open_fuzzed_model(Opened *opened, const Modules *modules) {
  static const ModelOptions none = {0};
  int before = opened->diagnostics.errors;
  Model *model = model_open(opened->arena, &opened->diagnostics, modules, &none);
  if (!model) {
    if (opened->diagnostics.errors == before) abort();
    return;
  }
  const char *const *stages;
  size_t count = model_stage_names(model, &stages);
  for (size_t i = 0; i < count; i++) model_stage(model, stages[i]);
  model_template(model);
  model_preprocess(model);
  check_function(model, "forward");
  check_function(model, "loss");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char *const library[] = {"stdlib", "models"};
  Opened *opened = opened_new();
  Modules modules;
  char path[64];
  if (!memchr(bytes, 0, size)) print_language(opened, (const char *)bytes, size);
  int file = memfd_create("fuzzed", MFD_CLOEXEC); // modules are read by path
  snprintf(path, sizeof path, "/proc/self/fd/%d", file);
  if (file < 0 || write(file, bytes, size) != (ssize_t)size) abort();
  if (ast_load(opened->arena, &opened->diagnostics, path, library, 2, &modules))
    open_fuzzed_model(opened, &modules);
  close(file);
  opened_free(opened);
  return 0;
}
