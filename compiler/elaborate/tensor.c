// Tensors by the names of their axes: finding, ordering, joining and reducing them.
#include "compiler/elaborate/value.h"

#include <string.h>

int tensor_axis(const Value *tensor, const char *name) {
  for (int i = 0; i < tensor->rank; i++)
    if (tensor->aliases[i] && !strcmp(tensor->aliases[i], name)) return i;
  for (int i = 0; i < tensor->rank; i++)
    if (!strcmp(tensor->labels[i], name)) return i;
  return -1;
}

static int label_axis(const Value *tensor, const char *label) {
  for (int i = 0; i < tensor->rank; i++)
    if (!strcmp(tensor->labels[i], label)) return i;
  return -1;
}

Extent tensor_extent(const Elaborator *elaborator, const Value *tensor, int axis) {
  return graph_type(elaborator->graph, tensor->node)->axes[axis].extent;
}

DType tensor_dtype(const Elaborator *elaborator, const Value *tensor) {
  return graph_type(elaborator->graph, tensor->node)->dtype;
}

Value tensor_arrange(Elaborator *elaborator, const Value *tensor, int rank, const char *const *labels,
                     const Extent *extents) {
  Axis axes[MAX_RANK] = {0};
  int8_t from[MAX_RANK] = {0};
  for (int i = 0; i < rank; i++) {
    from[i] = (int8_t)label_axis(tensor, labels[i]);
    axes[i].label = labels[i];
    axes[i].extent = from[i] < 0 ? extents[i] : tensor_extent(elaborator, tensor, from[i]);
  }
  NodeId node = graph_arrange(elaborator->graph, tensor->node, rank, axes, from);
  Value result = value_tensor(elaborator, node, labels);
  for (int i = 0; i < rank; i++) result.aliases[i] = from[i] < 0 ? NULL : tensor->aliases[from[i]];
  return result;
}

// Sums of bools and bytes are counted in whole numbers.
static DType summable(DType dtype) { return dtype == DTYPE_BOOL || dtype == DTYPE_U8 ? DTYPE_I32 : dtype; }

Value tensor_drop(Elaborator *elaborator, const Value *tensor, int axis) {
  Graph *graph = elaborator->graph;
  Value result = *tensor;
  result.parts = 0;
  if (tensor->rank == 1) {
    DType dtype = tensor_dtype(elaborator, tensor), summed = summable(dtype);
    NodeId sum = graph_reduce(graph, OP_SUM, graph_cast(graph, tensor->node, summed), 1);
    result.node = graph_cast(graph, sum, dtype);
  } else {
    int first = axis + 1 < tensor->rank ? axis : axis - 1;
    const char *kept = tensor->labels[first == axis ? axis + 1 : first];
    result.node = graph_merge(graph, tensor->node, first, 2, kept);
  }
  for (int i = axis; i + 1 < tensor->rank; i++) {
    result.labels[i] = tensor->labels[i + 1];
    result.aliases[i] = tensor->aliases[i + 1];
  }
  result.rank--;
  return result;
}

Value tensor_reduce(Elaborator *elaborator, const Value *tensor, Op op, uint32_t axes) {
  Value result = *tensor;
  DType dtype = tensor_dtype(elaborator, tensor);
  DType computed = op == OP_SUM ? summable(dtype) : dtype_is_float(dtype) ? dtype : DTYPE_F32;
  NodeId node = graph_cast(elaborator->graph, tensor->node, computed);
  result.node = graph_reduce(elaborator->graph, op, node, axes);
  result.rank = result.parts = 0;
  for (int i = 0; i < tensor->rank; i++) {
    if (axes >> i & 1) continue;
    result.labels[result.rank] = tensor->labels[i];
    result.aliases[result.rank++] = tensor->aliases[i];
  }
  return result;
}

Value tensor_cast(Elaborator *elaborator, const Value *tensor, DType dtype) {
  Value result = *tensor;
  result.node = graph_cast(elaborator->graph, tensor->node, dtype);
  return result;
}

static void report_missing(Elaborator *elaborator, Span span, const Value *x, const Value *y,
                           const char *only_x, const char *only_y) {
  Text left = {0}, right = {0};
  value_describe(elaborator, x, &left);
  value_describe(elaborator, y, &right);
  error_at(elaborator->diagnostics, span,
           "%s and %s do not broadcast: axes go by name, and each side has one that the other lacks (`%s`, "
           "`%s`); an "
           "index equation can say which belong together",
           text_string(&left), text_string(&right), only_x, only_y);
  text_free(&left);
  text_free(&right);
}

static bool extents_fit(Elaborator *elaborator, Span span, const Value *x, const Value *y) {
  for (int i = 0; i < x->rank; i++) {
    int other = label_axis(y, x->labels[i]);
    if (other < 0) continue;
    Extent here = tensor_extent(elaborator, x, i), there = tensor_extent(elaborator, y, other);
    if (extent_equal(here, there)) continue;

    const Node *nodes = elaborator->graph->nodes;
    error_at(elaborator->diagnostics, span, "axis %s is %s here (%s) but %s there (%s)", x->labels[i],
             axis_text(elaborator, NULL, here), place_text(elaborator, nodes[x->node].span, span),
             axis_text(elaborator, NULL, there), place_text(elaborator, nodes[y->node].span, span));
    return false;
  }
  return true;
}

bool tensor_join(Elaborator *elaborator, Scope *scope, Span span, Value *x, Value *y) {
  if (!x->rank || !y->rank) return true; // the graph spreads a rank-0 operand itself
  if (!extents_fit(elaborator, span, x, y)) return false;
  const char *labels[MAX_RANK], *only_y = NULL, *only_x = NULL;
  Extent extents[MAX_RANK];
  for (int i = 0; i < y->rank; i++)
    if (label_axis(x, y->labels[i]) < 0) only_y = y->labels[i];
  for (int i = 0; i < x->rank; i++)
    if (label_axis(y, x->labels[i]) < 0) only_x = x->labels[i];
  if (only_x && only_y && !scope_in_equation(scope)) {
    report_missing(elaborator, span, x, y, only_x, only_y);
    return false;
  }
  const Value *lead = only_y && !only_x ? y : x, *other = lead == x ? y : x;
  int rank = 0;
  for (int i = 0; i < lead->rank; i++) {
    extents[rank] = tensor_extent(elaborator, lead, i);
    labels[rank++] = lead->labels[i];
  }
  for (int i = 0; i < other->rank; i++) {
    if (label_axis(lead, other->labels[i]) >= 0) continue;
    if (rank == MAX_RANK) {
      error_at(elaborator->diagnostics, span, "more than %d axes", MAX_RANK);
      return false;
    }
    extents[rank] = tensor_extent(elaborator, other, i);
    labels[rank++] = other->labels[i];
  }
  const char *aliases[MAX_RANK];
  for (int i = 0; i < rank; i++) {
    int from = label_axis(lead, labels[i]), there = label_axis(other, labels[i]);
    aliases[i] = from >= 0 && lead->aliases[from] ? lead->aliases[from]
                 : there >= 0                     ? other->aliases[there]
                                                  : NULL;
  }
  *x = tensor_arrange(elaborator, x, rank, labels, extents);
  *y = tensor_arrange(elaborator, y, rank, labels, extents);
  memcpy(x->aliases, aliases, sizeof aliases);
  memcpy(y->aliases, aliases, sizeof aliases);
  return true;
}
