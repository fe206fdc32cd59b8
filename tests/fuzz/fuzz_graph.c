// Fuzz target: any bytes as the text of a graph. What is accepted is legal, prints in a form that is accepted
// and prints the same, and goes through the passes and the lowering to kernels that are legal too.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/opened.h"

#include "compiler/graph/passes/passes.h"
#include "compiler/lower/lower.h"

static void verify_graph(const Graph *graph) {
  Text reason = {0};
  if (!graph_verify(graph, &reason)) die("illegal graph: %s", text_string(&reason));
  text_free(&reason);
}

static Graph *read_fuzzed_graph(Opened *opened, const char *text, size_t size) {
  int before = opened->diagnostics.errors;
  uint32_t source = sources_add(&opened->sources, "fuzzed", text, size);
  Graph *graph = graph_read(opened->arena, &opened->diagnostics, source);
  if (!graph && opened->diagnostics.errors == before) abort(); // refused without a word
  return graph;
}

static void print_fuzzed_graph(Opened *opened, const Graph *graph) {
  Text once = {0}, twice = {0};
  graph_print(graph, &once);
  const Graph *again = read_fuzzed_graph(opened, text_string(&once), once.length);
  if (!again) die("what was printed is refused: %s", text_string(&opened->diagnostics.text));
  graph_print(again, &twice);
  if (strcmp(text_string(&once), text_string(&twice))) abort();
  text_free(&once);
  text_free(&twice);
}

static void lower_fuzzed_graph(Opened *opened, Graph *graph, bool fused) {
  static const int64_t symbols[SYMBOL_COUNT] = {0, 2, 3, 4, 7};
  Lowered lowered = {0};
  Text reason = {0};
  lower(opened->arena, graph, fuse(graph, fused), &opened->sources, symbols, &lowered);
  for (size_t i = 0; i < lowered.kernel_count; i++)
    if (!kernel_verify(lowered.kernels[i], &reason)) die("illegal kernel: %s", text_string(&reason));
  text_free(&reason);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Opened *opened = opened_new();
  Graph *graph = memchr(bytes, 0, size) ? NULL : read_fuzzed_graph(opened, (const char *)bytes, size);
  if (graph) {
    verify_graph(graph);
    print_fuzzed_graph(opened, graph);
    lower_fuzzed_graph(opened, graph, false);
    graph = dead(cse(simplify(graph)));
    verify_graph(graph);
    lower_fuzzed_graph(opened, graph, true);
  }
  opened_free(opened);
  return 0;
}
