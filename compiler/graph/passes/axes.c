// How axes pass through each operation, as far as time is concerned.
#include "compiler/graph/passes/causal.h"

#include <string.h>

bool is_time(Extent extent) { return extent.symbol == SYMBOL_TIME; }
bool is_exactly_time(Extent extent) { return extent_equal(extent, extent_symbol(SYMBOL_TIME)); }

static bool is_one(Extent extent) { return extent_equal(extent, extent_constant(1)); }

// SPLIT and MERGE: which of `count` parts is the whole, all others being 1; -1: none is.
static int whole_part(const Axis *parts, int count, Extent whole) {
  int found = -1;
  for (int i = 0; i < count; i++) {
    if (extent_equal(parts[i].extent, whole) && found < 0)
      found = i;
    else if (!is_one(parts[i].extent))
      return -1;
  }
  return found;
}

static bool listed(const int8_t *list, int count, int axis, int *at) {
  for (*at = 0; *at < count; ++*at)
    if (list[*at] == axis) return true;
  return false;
}

static void dot_map(const Graph *graph, const Node *node, int input, int8_t *to) {
  const Attributes *at = &node->attributes;
  const int8_t *own = input ? at->right : at->left;
  const Type *left = graph_type(graph, node->in[0]), *self = graph_type(graph, node->in[input]);
  int paired = at->batch + at->contract, next = at->batch + (input ? left->rank - paired : 0), pair;
  for (int i = 0; i < self->rank; i++) {
    if (!listed(own, paired, i, &pair))
      to[i] = (int8_t)next++;
    else
      to[i] = pair < at->batch ? (int8_t)pair : -1;
  }
}

// Axes before `axis` stay, those after the `removed` ones move behind `count` new ones.
static void replaced_map(int rank, int axis, int removed, int count, int8_t *to) {
  for (int i = 0; i < rank; i++)
    to[i] = (int8_t)(i < axis ? i : i < axis + removed ? -1 : i - removed + count);
}

// SCATTER takes (index, value) to [b.., rows, r..].
static void scatter_map(const Graph *graph, const Node *node, int input, int8_t *to) {
  int batch = node->attributes.batch, index = graph_type(graph, node->in[0])->rank;
  for (int i = 0; i < graph_type(graph, node->in[input])->rank; i++)
    to[i] = (int8_t)(i < batch ? i : i < index ? -1 : i - index + batch + 1);
}

void axis_map(const Graph *graph, NodeId id, int input, int8_t to[MAX_RANK]) {
  const Node *node = &graph->nodes[id];
  const Attributes *at = &node->attributes;
  const Type *x = graph_type(graph, node->in[input]);
  int next = 0, part;
  memset(to, -1, MAX_RANK);
  switch (node->op) {
  case OP_ARRANGE:
    for (int i = 0; i < node->type.rank; i++)
      if (at->from[i] >= 0) to[at->from[i]] = (int8_t)i;
    return;
  case OP_SPLIT:
    replaced_map(x->rank, at->axis, 1, at->count, to);
    part = whole_part(node->type.axes + at->axis, at->count, x->axes[at->axis].extent);
    if (part >= 0) to[at->axis] = (int8_t)(at->axis + part);
    return;
  case OP_MERGE:
    replaced_map(x->rank, at->axis, at->count, 1, to);
    part = whole_part(x->axes + at->axis, at->count, node->type.axes[at->axis].extent);
    if (part >= 0) to[at->axis + part] = (int8_t)at->axis;
    return;
  case OP_WINDOW: replaced_map(x->rank, at->axis, 1, 2, to); return;
  case OP_FOLD: replaced_map(x->rank, at->axis, 2, 1, to); return;
  case OP_SUM:
  case OP_REDMAX:
    for (int i = 0; i < x->rank; i++)
      if (!(at->axes >> i & 1)) to[i] = (int8_t)next++;
    return;
  case OP_DOT: dot_map(graph, node, input, to); return;
  case OP_GATHER:
    next = input ? 0 : graph_type(graph, node->in[1])->rank - at->batch - 1; // how far rows' own axes move
    for (int i = 0; i < x->rank; i++)
      to[i] = (int8_t)(i < at->batch || input ? i : i == at->batch ? -1 : i + next);
    return;
  case OP_SCATTER: scatter_map(graph, node, input, to); return;
  default: // elementwise, and views that only move or resize an axis
    for (int i = 0; i < x->rank; i++) to[i] = (int8_t)i;
  }
}

static bool any_time(const Axis *axes, int count) {
  for (int i = 0; i < count; i++)
    if (is_time(axes[i].extent)) return true;
  return false;
}

bool moves_time(const Graph *graph, NodeId id, uint32_t *axes) {
  const Node *node = &graph->nodes[id];
  const Attributes *at = &node->attributes;
  const Axis *y = node->type.axes + at->axis;
  *axes = 0;
  if (!(op_table[node->op].properties & VIEW) && node->op != OP_FOLD) return false;
  const Axis *x = graph_type(graph, node->in[0])->axes + at->axis;
  int before = 1, after = 1;
  switch (node->op) {
  case OP_SPLIT:
    after = at->count;
    if (whole_part(y, after, x->extent) >= 0) return false;
    break;
  case OP_MERGE:
    before = at->count;
    if (whole_part(x, before, y->extent) >= 0) return false;
    break;
  case OP_WINDOW: after = 2; break;
  case OP_FOLD: before = 2; break;
  case OP_SLICE:
  case OP_PAD:
  case OP_CONCAT: break; // a sum that holds T shows in the result
  default: return false;
  }
  *axes = ((1u << after) - 1) << at->axis;
  return any_time(x, before) || any_time(y, after);
}
