// A graph in f32 -> the same graph with activations in a narrower storage type. Needs nothing; keeps spans,
// origins and the meaning, up to rounding. Run-time sizes must still be symbols: they tell activations from
// parameters.
//
// A node's dtype is what it is stored as, where it is stored: kernels compute in f32, a load widens and a
// store rounds. So activations are given the narrow dtype, and casts stand only where both kinds meet; inside
// of a kernel they cost and change nothing. (A parameter that a contraction reads often is stored once more, narrow.)
//
//   narrow: contractions with a run-time axis and what they read, rows that are looked up, what is computed
//           elementwise from these; states with a run-time axis (key/value caches)
//   f32:    parameters, their gradients and the optimizer's states; data and results; sums, maxima and single
//           elements picked out (statistics, losses), and what is computed from f32 alone; what is compared
//           for equality, since a rounded value no longer equals the maximum it was
#include "compiler/graph/passes/passes.h"

#include <string.h>

typedef struct Precision {
  const Graph *from;
  Graph *to;
  DType storage;
  bool *exact;   // per node of `from`: keeps all its bits
  NodeId *value; // per node of `from`: the node of `to`
  NodeId *casts; // per node of `from`: that in the other of the two dtypes; 0: not needed so far
} Precision;

static bool has_run_time_axis(const Type *type) {
  for (int i = 0; i < type->rank; i++)
    if (!extent_is_constant(type->axes[i].extent)) return true;
  return false;
}

static DType dtype_of(const Precision *p, NodeId node) { return graph_type(p->to, p->value[node])->dtype; }
static bool is_narrow(const Precision *p, NodeId node) { return dtype_of(p, node) == p->storage; }
static bool was_f32(const Precision *p, NodeId node) { return graph_type(p->from, node)->dtype == DTYPE_F32; }

// A node that may be narrow: an activation.
static bool may_narrow(const Precision *p, NodeId node) {
  return was_f32(p, node) && !p->exact[node] && has_run_time_axis(graph_type(p->from, node));
}

// A node's value in a dtype, if it is one of the two; whole numbers and bools stay what they are.
static NodeId read_as(Precision *p, NodeId node, DType dtype) {
  if (!was_f32(p, node) || dtype_of(p, node) == dtype) return p->value[node];
  if (!p->casts[node]) {
    p->to->span = p->from->nodes[node].span;
    p->to->origin = p->from->nodes[node].origin;
    p->casts[node] = graph_cast(p->to, p->value[node], dtype);
  }
  return p->casts[node];
}

static NodeId rebuild(Precision *p, NodeId id, DType dtype) {
  const Node *node = &p->from->nodes[id];
  NodeId inputs[MAX_INPUTS] = {0};
  for (int i = 0; i < op_table[node->op].inputs; i++) inputs[i] = read_as(p, node->in[i], dtype);
  return graph_copy_node(p->to, p->from, id, inputs);
}

static bool any_narrow(const Precision *p, NodeId id) {
  const Node *node = &p->from->nodes[id];
  for (int i = 0; i < op_table[node->op].inputs; i++)
    if (was_f32(p, node->in[i]) && is_narrow(p, node->in[i])) return true;
  return false;
}

// Only the rows looked up are narrow, not the table; a single element picked out is a statistic.
static NodeId gather(Precision *p, NodeId id) {
  const Node *node = &p->from->nodes[id];
  bool rows = graph_type(p->from, node->in[0])->rank > node->attributes.batch + 1;
  NodeId picked = rebuild(p, id, dtype_of(p, node->in[0]));
  p->to->span = node->span, p->to->origin = node->origin;
  return was_f32(p, id) ? graph_cast(p->to, picked, rows && may_narrow(p, id) ? p->storage : DTYPE_F32)
                        : picked;
}

// A gradient towards a parameter is summed and left in f32, but reads activations narrow.
static NodeId wide_dot(Precision *p, NodeId id) {
  const Node *node = &p->from->nodes[id];
  NodeId inputs[MAX_INPUTS];
  for (int i = 0; i < 2; i++) {
    inputs[i] = read_as(p, node->in[i], may_narrow(p, node->in[i]) ? p->storage : DTYPE_F32);
    if (was_f32(p, node->in[i])) inputs[i] = graph_cast(p->to, inputs[i], DTYPE_F32);
  }
  return graph_copy_node(p->to, p->from, id, inputs);
}

static NodeId input(Precision *p, NodeId id) {
  NodeId copy = graph_copy_node(p->to, p->from, id, NULL);
  bool state = p->from->inputs[p->from->nodes[id].attributes.input].role == INPUT_STATE;
  if (state && may_narrow(p, id)) p->to->nodes[copy].type.dtype = p->storage;
  return copy;
}

static NodeId convert(Precision *p, NodeId id) {
  const Node *node = &p->from->nodes[id];
  bool narrow = may_narrow(p, id) && any_narrow(p, id);
  switch (node->op) {
  case OP_INPUT: return input(p, id);
  case OP_GATHER: return gather(p, id);
  case OP_DOT: return may_narrow(p, id) ? rebuild(p, id, p->storage) : wide_dot(p, id);
  case OP_SUM:
  case OP_REDMAX:
  case OP_SCATTER: return rebuild(p, id, DTYPE_F32);
  case OP_UPDATE: return rebuild(p, id, dtype_of(p, node->in[0]));
  case OP_CAST: return graph_copy_node(p->to, p->from, id, (NodeId[]){p->value[node->in[0]]});
  case OP_CONCAT: return rebuild(p, id, narrow ? p->storage : DTYPE_F32);
  default: break;
  }
  bool follows = op_table[node->op].properties & VIEW || node->op == OP_FOLD;
  if (follows) return rebuild(p, id, dtype_of(p, node->in[0]));
  return rebuild(p, id, narrow ? p->storage : DTYPE_F32);
}

// What is compared for equality, and what that is a view of.
static void find_exact(Precision *p) {
  for (NodeId id = (NodeId)p->from->count; id-- > 1;) {
    const Node *node = &p->from->nodes[id];
    bool passes = op_table[node->op].properties & VIEW && p->exact[id];
    for (int i = 0; i < op_table[node->op].inputs; i++)
      p->exact[node->in[i]] |= node->op == OP_EQUAL || passes;
  }
}

Graph *precision(Graph *graph, DType storage) {
  Precision p = {.from = graph, .to = graph_new_like(graph), .storage = storage};
  p.exact = ARENA_ARRAY(graph->arena, bool, graph->count);
  p.value = ARENA_ARRAY(graph->arena, NodeId, graph->count);
  p.casts = ARENA_ARRAY(graph->arena, NodeId, graph->count);
  find_exact(&p);
  for (NodeId id = 1; id < graph->count; id++) p.value[id] = convert(&p, id);
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    DType dtype = DTYPE_F32;
    if (output->update) dtype = graph_type(p.to, graph_find_input(p.to, output->name)->node)->dtype;
    graph_output(p.to, output->name, read_as(&p, output->node, dtype), output->update);
  }
  p.to->span = (Span){0};
  p.to->origin = 0;
  return p.to;
}
