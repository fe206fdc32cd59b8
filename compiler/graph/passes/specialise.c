// Run-time sizes that are known become constants, in types and attributes; sizes used as numbers become
// numbers. Needs: a verified graph, and sizes for which no extent becomes negative. Keeps: the outputs'
// values for these sizes, every node.
#include "compiler/graph/passes/passes.h"

static Extent known(Extent extent, const int64_t symbols[SYMBOL_COUNT]) {
  bool replaced = extent.symbol && symbols[extent.symbol] >= 0;
  return replaced ? extent_constant(extent_value(extent, symbols)) : extent;
}

static NodeId copy(Graph *result, const Graph *graph, NodeId id, const NodeId *inputs,
                   const int64_t symbols[SYMBOL_COUNT]) {
  Node node = graph->nodes[id];
  for (int i = 0; i < node.type.rank; i++)
    node.type.axes[i].extent = known(node.type.axes[i].extent, symbols);
  node.attributes.extent = known(node.attributes.extent, symbols);
  node.attributes.start = known(node.attributes.start, symbols);
  result->span = node.span;
  result->origin = node.origin;
  if (node.op == OP_SIZE) return graph_size(result, node.attributes.extent, node.type.dtype);
  if (node.op != OP_INPUT) return graph_append(result, node.op, inputs, node.attributes, &node.type);
  const Input *input = &graph->inputs[node.attributes.input];
  NodeId copied = graph_input(result, input->name, input->role, node.type);
  result->inputs[result->input_count - 1].trained = input->trained;
  result->inputs[result->input_count - 1].initial = input->initial;
  result->inputs[result->input_count - 1].packing = input->packing;
  return copied;
}

Graph *specialise(Graph *graph, const int64_t symbols[SYMBOL_COUNT]) {
  Graph *result = graph_new_like(graph);
  Arena *scratch = arena_new();
  NodeId *renamed = ARENA_ARRAY(scratch, NodeId, graph->count);
  for (NodeId id = 1; id < graph->count; id++) {
    NodeId inputs[MAX_INPUTS];
    for (int i = 0; i < MAX_INPUTS; i++) inputs[i] = renamed[graph->nodes[id].in[i]];
    renamed[id] = copy(result, graph, id, inputs, symbols);
  }
  graph_copy_outputs(result, graph, renamed);
  arena_free(scratch);
  return result;
}
