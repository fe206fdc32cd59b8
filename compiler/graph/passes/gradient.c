// A graph with an output `loss` of rank 0 -> the same with an output "gradient:<parameter>" for every trained
// parameter that the loss depends on. Needs nothing else; keeps all forward nodes under their numbers. Walks
// backwards from the loss and only along nodes that a trained parameter reaches through differentiable
// operations, so that nothing is built behind frozen parts.
#include "compiler/graph/passes/passes.h"

#include "compiler/graph/gradients.h"

#include <string.h>

// Whether a trained parameter reaches each node so that its gradient matters there.
static const bool *find_wanted(const Graph *graph) {
  bool *wanted = ARENA_ARRAY(graph->arena, bool, graph->count);
  for (size_t i = 0; i < graph->input_count; i++)
    if (graph->inputs[i].role == INPUT_PARAM && graph->inputs[i].trained)
      wanted[graph->inputs[i].node] = true;
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    if (!gradient_rules[node->op] || !dtype_is_float(node->type.dtype)) continue;
    for (int i = 0; i < op_table[node->op].inputs; i++) wanted[id] |= wanted[node->in[i]];
  }
  return wanted;
}

// Gradients of neighbouring slices of one value (q, k and v of one product) are put side by side, where
// adding them would read zeros around each. 0: these are no such two.
static NodeId join_pieces(Graph *graph, NodeId x, NodeId y) {
  const Node *first = &graph->nodes[x], *second = &graph->nodes[y];
  if (first->op != OP_PAD || second->op != OP_PAD || first->attributes.axis != second->attributes.axis)
    return 0;
  int axis = first->attributes.axis;
  Extent whole = first->type.axes[axis].extent,
         starts[] = {first->attributes.start, second->attributes.start}, end;
  NodeId pieces[] = {first->in[0], second->in[0]};
  for (int i = 0; i < 2; i++) {
    Extent extent = graph_type(graph, pieces[i])->axes[axis].extent;
    if (!extent_add(starts[i], extent, &end) || !extent_equal(end, starts[!i])) continue;
    NodeId joined = graph_concat(graph, pieces[i], pieces[!i], axis);
    return graph_pad(graph, joined, axis, starts[i], whole);
  }
  return 0;
}

void gradient_contribute(Backward *backward, NodeId node, NodeId contribution) {
  NodeId *sum = &backward->gradients[node];
  NodeId joined = *sum ? join_pieces(backward->graph, *sum, contribution) : contribution;
  *sum = joined ? joined : graph_binary(backward->graph, OP_ADD, *sum, contribution);
}

// The origin of what is built for nodes of a forward origin; made once for each.
static uint32_t backward_origin(Graph *graph, uint32_t forward, uint32_t *made) {
  if (made[forward]) return made[forward];
  Origin origin = graph->origins[forward];
  origin.backward = true;
  made[forward] = (uint32_t)graph->origin_count;
  ARENA_PUSH(graph->arena, graph->origins, graph->origin_count, graph->origin_capacity, origin);
  return made[forward];
}

static void walk(Backward *backward) {
  Graph *graph = backward->graph;
  uint32_t *origins = ARENA_ARRAY(graph->arena, uint32_t, graph->origin_count);
  for (NodeId id = (NodeId)backward->count; id-- > 1;) {
    const Node *node = &graph->nodes[id];
    if (!backward->wanted[id] || !backward->gradients[id] || node->op == OP_INPUT) continue;
    graph->span = node->span;
    graph->origin = backward_origin(graph, node->origin, origins);
    gradient_rules[node->op](backward, id, backward->gradients[id]);
  }
}

static NodeId find_loss(const Graph *graph) {
  for (size_t i = 0; i < graph->output_count; i++)
    if (!strcmp(graph->outputs[i].name, "loss")) return graph->outputs[i].node;
  die("differentiation needs an output `loss`");
}

Graph *gradient(Graph *forward) {
  Graph *graph = graph_clone(forward);
  NodeId loss = find_loss(graph);
  Backward backward = {graph, graph->count, find_wanted(graph),
                       ARENA_ARRAY(graph->arena, NodeId, graph->count),
                       ARENA_ARRAY(graph->arena, NodeId, graph->count)};
  if (graph_type(graph, loss)->rank) die("the loss must be a single number");
  if (backward.wanted[loss]) {
    graph->span = graph->nodes[loss].span;
    backward.gradients[loss] = graph_constant(graph, 1, graph_type(graph, loss)->dtype);
    walk(&backward);
  }
  for (size_t i = 0; i < graph->input_count; i++) {
    const Input *input = &graph->inputs[i];
    NodeId result = backward.gradients[input->node];
    if (input->role != INPUT_PARAM || !input->trained || !result) continue;
    graph_output(graph, arena_print(graph->arena, "gradient:%s", input->name), result, false);
  }
  graph->span = (Span){0};
  graph->origin = 0;
  return graph;
}
