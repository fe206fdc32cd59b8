// Sums over what was contracted already are taken of the contracted, which is smaller. Where o = dot over j of y, v:
//
//   sum over j of y * dot over e of a, v     becomes     sum over e of a * o
//
// That is how the gradient of a softmax comes out of attention: its sum over keys of weights and their gradients is
// one over a head's width of the result and its gradient, and no values per pair of positions are read for it. What
// such a sum was divided by, and the terms beside it, is divided by once, or not at all:
//
//   x / l - s / l   becomes   (x - s) / l            (u / l) * (y * l)   becomes   u * y
//
// Needs: a verified graph with one node per distinct value. Keeps: the outputs' values but for the order of sums and
// the last bits of quotients; what is 0 / 0 or beyond the largest number on the way may come out finite.
#include "compiler/graph/passes/passes.h"

#include <string.h>

// Where the axes of a contraction's result stand in its operands; -1: not there.
typedef struct DotSources {
  int8_t axis[2][MAX_RANK];
} DotSources;

static const Node *node_at(const Graph *graph, NodeId id) { return &graph->nodes[id]; }
static const Type *type_at(const Graph *graph, NodeId id) { return &graph->nodes[id].type; }

static DotSources sources_of(const Graph *graph, const Node *dot) {
  DotSources out;
  const int8_t *pairs[2] = {dot->attributes.left, dot->attributes.right};
  int next = dot->attributes.batch;
  memset(&out, -1, sizeof out);
  for (int k = 0; k < 2; k++) {
    uint32_t paired = 0;
    for (int i = 0; i < dot->attributes.batch + dot->attributes.contract; i++) paired |= 1u << pairs[k][i];
    for (int i = 0; i < dot->attributes.batch; i++) out.axis[k][i] = pairs[k][i];
    for (int i = 0; i < type_at(graph, dot->in[k])->rank; i++)
      if (!(paired >> i & 1)) out.axis[k][next++] = (int8_t)i;
  }
  return out;
}

// Looks through one change of the axes' order; from[i]: the axis that the value's axis i is.
static NodeId through_order(const Graph *graph, NodeId id, int8_t from[MAX_RANK]) {
  const Node *node = node_at(graph, id);
  bool order = node->op == OP_ARRANGE && node->type.rank == type_at(graph, node->in[0])->rank;
  for (int i = 0; i < node->type.rank; i++) {
    from[i] = order ? node->attributes.from[i] : (int8_t)i;
    if (from[i] < 0) return 0;
  }
  return order ? node->in[0] : id;
}

// The value that is spread over new axes, if `axes` are among them and all others are in order. 0: it is not.
static NodeId spread_over(const Graph *graph, NodeId id, uint32_t axes) {
  const Node *node = node_at(graph, id);
  int next = 0;
  if (node->op != OP_ARRANGE) return 0;
  for (int i = 0; i < node->type.rank; i++) {
    bool fresh = node->attributes.from[i] < 0;
    if (fresh != (axes >> i & 1) || (!fresh && node->attributes.from[i] != next++)) return 0;
  }
  return node->in[0];
}

// ---- the sum ------------------------------------------------------------------------------------

// dot over e of a, v with an axis that only v has, which the sum goes over.
typedef struct Product {
  NodeId a, v;
  int8_t in_a[MAX_RANK]; // per axis of the product as it is summed: that of a
  int8_t a_contract[MAX_RANK], v_contract[MAX_RANK];
  int contract;
  int8_t v_axis; // the one that is summed over
} Product;

static bool read_product(const Graph *graph, NodeId id, int axis, Product *out) {
  int8_t from[MAX_RANK];
  id = through_order(graph, id, from);
  const Node *dot = node_at(graph, id);
  if (!id || dot->op != OP_DOT) return false;
  DotSources sources = sources_of(graph, dot);
  const int8_t *pairs[2] = {dot->attributes.left, dot->attributes.right};
  int at = from[axis];
  int v = sources.axis[0][at] >= 0 ? 0 : 1, a = !v;
  if (sources.axis[a][at] >= 0) return false; // a batch axis
  *out = (Product){.a = dot->in[a], .v = dot->in[v], .contract = dot->attributes.contract};
  out->v_axis = sources.axis[v][at];
  for (int i = 0; i < dot->type.rank; i++) {
    out->in_a[i] = sources.axis[a][(int)from[i]];
    if (i != axis && out->in_a[i] < 0) return false; // v has more axes of its own
  }
  for (int i = 0; i < out->contract; i++) {
    out->a_contract[i] = pairs[a][dot->attributes.batch + i];
    out->v_contract[i] = pairs[v][dot->attributes.batch + i];
  }
  return true;
}

// Is the node dot over j of y, v? in_o: per axis of y, but for j, that of the result; o_contract: per contracted
// axis of the product, likewise.
static bool is_contracted(const Graph *graph, NodeId id, NodeId y, int axis, const Product *product,
                          int8_t in_o[MAX_RANK], int8_t o_contract[MAX_RANK]) {
  const Node *dot = node_at(graph, id);
  int8_t from[MAX_RANK];
  if (dot->op != OP_DOT || dot->attributes.contract != 1) return false;
  for (int k = 0; k < 2; k++) {
    if (dot->in[k] != product->v || dot->in[!k] == product->v) continue;
    const int8_t *pairs[2] = {dot->attributes.left, dot->attributes.right};
    int8_t order[MAX_RANK]; // per axis of y: that of the operand
    NodeId below = through_order(graph, dot->in[!k], from);
    if (dot->in[!k] == y)
      for (int i = 0; i < MAX_RANK; i++) order[i] = (int8_t)i;
    else if (below == y)
      for (int i = 0; i < type_at(graph, y)->rank; i++) order[(int)from[i]] = (int8_t)i;
    else
      continue;
    int batch = dot->attributes.batch;
    if (pairs[k][batch] != product->v_axis || pairs[!k][batch] != order[axis]) continue;
    DotSources sources = sources_of(graph, dot);
    bool all = true;
    for (int i = 0; i < type_at(graph, y)->rank; i++) {
      in_o[i] = -1;
      for (int o = 0; o < dot->type.rank; o++)
        if (sources.axis[!k][o] >= 0 && sources.axis[!k][o] == order[i]) in_o[i] = (int8_t)o;
      all = all && (i == axis || in_o[i] >= 0);
    }
    for (int i = 0; i < product->contract; i++) {
      o_contract[i] = -1;
      for (int o = 0; o < dot->type.rank; o++)
        if (sources.axis[k][o] == product->v_contract[i]) o_contract[i] = (int8_t)o;
      all = all && o_contract[i] >= 0;
    }
    if (all && dot->type.rank == type_at(graph, y)->rank - 1 + product->contract) return true;
  }
  return false;
}

// The value with the axes of `y` without `axis`, in order, and then the contracted ones.
static NodeId in_order(Graph *graph, NodeId value, const Type *like, int axis, const int8_t *places,
                       const int8_t *contract, int count) {
  Axis axes[MAX_RANK];
  int8_t from[MAX_RANK];
  int rank = 0;
  for (int i = 0; i < like->rank; i++)
    if (i != axis) from[rank++] = places[i];
  for (int i = 0; i < count; i++) from[rank++] = contract[i];
  for (int i = 0; i < rank; i++) axes[i] = type_at(graph, value)->axes[(int)from[i]];
  return graph_arrange(graph, value, rank, axes, from);
}

static NodeId contracted_sum(Graph *graph, NodeId x, NodeId y, int axis) {
  Product product;
  int8_t in_o[MAX_RANK], o_contract[MAX_RANK];
  if (!read_product(graph, x, axis, &product)) return 0;
  Type like = *type_at(graph, y); // a copy: the nodes move
  for (NodeId id = 1; id < graph->count; id++) {
    if (!is_contracted(graph, id, y, axis, &product, in_o, o_contract)) continue;
    NodeId a = in_order(graph, product.a, &like, axis, product.in_a, product.a_contract, product.contract);
    NodeId o = in_order(graph, id, &like, axis, in_o, o_contract, product.contract);
    uint32_t last = ((1u << product.contract) - 1) << (like.rank - 1);
    return graph_reduce(graph, OP_SUM, graph_binary(graph, OP_MUL, a, o), last);
  }
  return 0;
}

// A sum over one axis of x * y, or of (x / l) * y with l spread over that axis.
static NodeId associate_sum(Graph *graph, const Node *sum) {
  const Node *product = node_at(graph, sum->in[0]);
  uint32_t axes = sum->attributes.axes;
  if (product->op != OP_MUL || !axes || axes & (axes - 1)) return 0;
  for (int k = 0; k < 2; k++) {
    NodeId x = product->in[k], y = product->in[!k];
    const Node *quotient = node_at(graph, x);
    NodeId divisor = quotient->op == OP_DIV ? spread_over(graph, quotient->in[1], axes) : 0;
    NodeId made = contracted_sum(graph, divisor ? quotient->in[0] : x, y, __builtin_ctz(axes));
    if (made) return divisor ? graph_binary(graph, OP_DIV, made, divisor) : made;
  }
  return 0;
}

// ---- quotients ----------------------------------------------------------------------------------

// x / l - s / l, the second one spread over axes that l is spread over, too
static NodeId associate_difference(Graph *graph, const Node *node) {
  const Node *left = node_at(graph, node->in[0]), *spread = node_at(graph, node->in[1]);
  if (left->op != OP_DIV || spread->op != OP_ARRANGE) return 0;
  const Node *by = node_at(graph, left->in[1]), *right = node_at(graph, spread->in[0]);
  if (by->op != OP_ARRANGE || right->op != OP_DIV || right->in[1] != by->in[0]) return 0;
  for (int i = 0; i < node->type.rank; i++)
    if (by->attributes.from[i] != spread->attributes.from[i]) return 0;
  Type type = spread->type;
  int8_t from[MAX_RANK];
  memcpy(from, spread->attributes.from, sizeof from);
  NodeId x = left->in[0], divisor = left->in[1];
  NodeId s = graph_arrange(graph, right->in[0], type.rank, type.axes, from);
  return graph_binary(graph, OP_DIV, graph_binary(graph, OP_SUB, x, s), divisor);
}

static NodeId associate_product(Graph *graph, const Node *node) {
  for (int k = 0; k < 2; k++) {
    const Node *quotient = node_at(graph, node->in[k]), *product = node_at(graph, node->in[!k]);
    if (quotient->op != OP_DIV || product->op != OP_MUL) continue;
    for (int i = 0; i < 2; i++)
      if (product->in[i] == quotient->in[1])
        return graph_binary(graph, OP_MUL, quotient->in[0], product->in[!i]);
  }
  return 0;
}

// ---- all ----------------------------------------------------------------------------------------

static NodeId associate_node(Graph *graph, const Node *node) {
  if (node->type.dtype != DTYPE_F32 && node->type.dtype != DTYPE_F64) return 0;
  switch (node->op) {
  case OP_SUM: return associate_sum(graph, node);
  case OP_SUB: return associate_difference(graph, node);
  case OP_MUL: return associate_product(graph, node);
  default: return 0;
  }
}

Graph *associate(Graph *graph) {
  Arena *scratch = arena_new();
  NodeId *renamed = ARENA_ARRAY(scratch, NodeId, graph->count);
  Graph *result = graph_new_like(graph);
  for (NodeId id = 1; id < graph->count; id++) {
    Node node = graph->nodes[id];
    for (int i = 0; i < MAX_INPUTS; i++) node.in[i] = renamed[node.in[i]];
    result->span = node.span;
    result->origin = node.origin;
    NodeId made = associate_node(result, &node);
    renamed[id] = made ? made : graph_copy_node(result, graph, id, node.in);
  }
  graph_copy_outputs(result, graph, renamed);
  arena_free(scratch);
  return result;
}
