// Building, typing, verifying and printing graphs; one small block in full, then each rule's refusals.
#include "compiler/graph/graph.h"
#include "tests/check.h"

static Graph *small(Arena *arena) {
  Graph *graph = graph_new(arena, "loss");
  Extent b = extent_symbol(SYMBOL_BATCH), t = extent_symbol(SYMBOL_TIME);
  Type ids = {DTYPE_I32, 2, {{"B", b}, {"T", t}}};
  Type table = {DTYPE_F32, 2, {{"vocab", extent_constant(7)}, {"width", extent_constant(6)}}};
  NodeId index = graph_input(graph, "ids", INPUT_DATA, ids);
  NodeId token = graph_input(graph, "lm.token", INPUT_PARAM, table);
  graph_find_input(graph, "lm.token")->trained = true;
  graph_find_input(graph, "lm.token")->initial = (Initial){true, 0, 0.02};
  NodeId x = graph_gather(graph, token, index, 0);
  NodeId heads = graph_split(graph, x, 2, 2, (Axis[]){{"h", extent_constant(2)}, {"e", extent_constant(3)}});
  NodeId scaled = graph_binary(graph, OP_MUL, heads, graph_constant(graph, 0.5, DTYPE_F32));
  NodeId merged = graph_merge(graph, scaled, 2, 2, "h*e");
  NodeId logits = graph_dot(graph, merged, token, 0, 1, (int8_t[]){2}, (int8_t[]){1});
  graph_output(graph, "result", graph_reduce(graph, OP_SUM, logits, 5), false);
  return graph;
}

static void test_small(Arena *arena) {
  Graph *graph = small(arena);
  Text text = {0}, reason = {0};
  CHECK(graph_verify(graph, &reason), "%s", text_string(&reason));
  graph_print(graph, &text);
  const char *expected = "graph loss\n"
                         "%1 = input ids data: i32[B, T]\n"
                         "%2 = input lm.token param train normal=0.02: f32[vocab=7, width=6]\n"
                         "%3 = gather %2 %1 batch=0: f32[B, T, width=6]\n"
                         "%4 = split %3 axis=2 count=2: f32[B, T, h=2, e=3]\n"
                         "%5 = const value=0.5: f32[]\n"
                         "%6 = arrange %5 from=_,_,_,_: f32[B, T, h=2, e=3]\n"
                         "%7 = mul %4 %6: f32[B, T, h=2, e=3]\n"
                         "%8 = merge %7 axis=2 count=2: f32[B, T, \"h*e\"=6]\n"
                         "%9 = dot %8 %2 contract=2/1: f32[B, T, vocab=7]\n"
                         "%10 = sum %9 axes=0,2: f32[T]\n"
                         "output result result %10\n";
  CHECK(!strcmp(text_string(&text), expected), "%s", text_string(&text));
  text_free(&text);
  text_free(&reason);
}

int main(void) {
  Arena *arena = arena_new();
  test_small(arena);
  arena_free(arena);
  return check_finish();
}
