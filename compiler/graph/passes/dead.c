// Drops what no output needs, inputs included; an input that an output replaces stays, and so does a packed
// weight while a part of it does. Needs: a verified graph. Keeps: the outputs' values, the order of what
// stays.
#include "compiler/graph/passes/passes.h"

#include <string.h>

static void mark(const Graph *graph, bool *needed) {
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    needed[output->node] = true;
    for (size_t j = 0; output->update && j < graph->input_count; j++)
      if (!strcmp(graph->inputs[j].name, output->name)) needed[graph->inputs[j].node] = true;
  }
  for (NodeId id = (NodeId)graph->count - 1; id; id--)
    for (int i = 0; needed[id] && i < op_table[graph->nodes[id].op].inputs; i++)
      needed[graph->nodes[id].in[i]] = true;
  bool scales;
  for (size_t i = 0; i < graph->input_count; i++) {
    const Input *part = &graph->inputs[i];
    if (part->role == INPUT_PART && needed[part->node])
      needed[graph_find_input((Graph *)(uintptr_t)graph, packing_whole(part->name, &scales))->node] = true;
  }
}

Graph *dead(Graph *graph) {
  Arena *scratch = arena_new();
  bool *needed = ARENA_ARRAY(scratch, bool, graph->count);
  NodeId *renamed = ARENA_ARRAY(scratch, NodeId, graph->count);
  mark(graph, needed);
  Graph *result = graph_new_like(graph);
  for (NodeId id = 1; id < graph->count; id++) {
    NodeId inputs[MAX_INPUTS];
    for (int i = 0; i < MAX_INPUTS; i++) inputs[i] = renamed[graph->nodes[id].in[i]];
    if (needed[id]) renamed[id] = graph_copy_node(result, graph, id, inputs);
  }
  graph_copy_outputs(result, graph, renamed);
  arena_free(scratch);
  return result;
}
