// Gradient rules: a forward node and the gradient of its result -> contributions to its inputs, one short
// rule per row of ops.def. Values of the forward pass are used as they are; views turn into views.
#include "compiler/graph/gradients.h"

#include <math.h>
#include <string.h>

#define RULE(name) static void gradient_##name(Backward *b, NodeId node, NodeId g)
// Contributes to input `i`; the expression is only evaluated, and its nodes built, where it is wanted.
#define GIVE(i, expression)                                                                                  \
  do {                                                                                                       \
    NodeId input_ = in(b, node, i);                                                                          \
    if (b->wanted[input_]) gradient_contribute(b, input_, (expression));                                     \
  } while (0)

// ---- shorthand ----------------------------------------------------------------------------------

static NodeId in(const Backward *b, NodeId node, int i) { return b->graph->nodes[node].in[i]; }
static const Type *type(const Backward *b, NodeId node) { return graph_type(b->graph, node); }
static Attributes attributes(const Backward *b, NodeId node) { return b->graph->nodes[node].attributes; }

static NodeId neg(Backward *b, NodeId x) { return graph_unary(b->graph, OP_NEG, x); }
static NodeId sub(Backward *b, NodeId x, NodeId y) { return graph_binary(b->graph, OP_SUB, x, y); }
static NodeId mul(Backward *b, NodeId x, NodeId y) { return graph_binary(b->graph, OP_MUL, x, y); }
static NodeId quotient(Backward *b, NodeId x, NodeId y) { return graph_binary(b->graph, OP_DIV, x, y); }
static NodeId choose(Backward *b, NodeId c, NodeId x, NodeId y) { return graph_select(b->graph, c, x, y); }

// A number with the type of `model`.
static NodeId number(Backward *b, double value, NodeId model) {
  return graph_like(b->graph, graph_constant(b->graph, value, type(b, model)->dtype), model);
}
static NodeId times(Backward *b, double factor, NodeId x) { return mul(b, number(b, factor, x), x); }

// The value of a number that is known here, looked for behind spreading and casts.
static bool known_number(const Backward *b, NodeId node, double *value) {
  const Node *at = &b->graph->nodes[node];
  while (at->op == OP_ARRANGE || at->op == OP_CAST) at = &b->graph->nodes[at->in[0]];
  *value = at->attributes.number;
  return at->op == OP_CONST;
}

// ---- elementwise --------------------------------------------------------------------------------

RULE(neg) { GIVE(0, neg(b, g)); }
// Where the forward pass divides the result by sums of it, the quotient is what the backward pass has at hand:
// keeping the result, or what it was made from, as well would cost as much memory again.
RULE(exp) {
  NodeId shares = b->quotients[node];
  GIVE(0, mul(b, g, shares ? mul(b, shares, in(b, shares, 1)) : node));
}
RULE(log) { GIVE(0, quotient(b, g, in(b, node, 0))); }
RULE(sqrt) { GIVE(0, quotient(b, times(b, 0.5, g), node)); }
RULE(rsqrt) { GIVE(0, mul(b, g, times(b, -0.5, mul(b, node, mul(b, node, node))))); }
RULE(sin) { GIVE(0, mul(b, g, graph_unary(b->graph, OP_COS, in(b, node, 0)))); }
RULE(cos) { GIVE(0, neg(b, mul(b, g, graph_unary(b->graph, OP_SIN, in(b, node, 0))))); }
RULE(tanh) { GIVE(0, mul(b, g, sub(b, number(b, 1, node), mul(b, node, node)))); }
RULE(cast) { GIVE(0, graph_cast(b->graph, g, type(b, in(b, node, 0))->dtype)); }

// 0 at 0.
RULE(abs) {
  NodeId x = in(b, node, 0), zero = number(b, 0, node);
  NodeId below = choose(b, graph_binary(b->graph, OP_LESS, x, zero), neg(b, g), zero);
  GIVE(0, choose(b, graph_binary(b->graph, OP_LESS, zero, x), g, below));
}

RULE(erf) {
  NodeId x = in(b, node, 0);
  NodeId bell = graph_unary(b->graph, OP_EXP, neg(b, mul(b, x, x)));
  GIVE(0, mul(b, g, times(b, 2 / sqrt(acos(-1)), bell)));
}

RULE(add) {
  GIVE(0, g);
  GIVE(1, g);
}

RULE(sub) {
  GIVE(0, g);
  GIVE(1, neg(b, g));
}

RULE(mul) {
  GIVE(0, mul(b, g, in(b, node, 1)));
  GIVE(1, mul(b, g, in(b, node, 0)));
}

RULE(div) {
  bool repeated = b->graph->nodes[in(b, node, 1)].op == OP_ARRANGE && b->wanted[in(b, node, 1)];
  if (repeated) b->quotients[in(b, node, 0)] = node;
  NodeId share = quotient(b, g, in(b, node, 1));
  GIVE(0, share);
  GIVE(1, neg(b, mul(b, share, node)));
}

// x - y * floor(x / y), the floor being flat.
RULE(mod) {
  NodeId x = in(b, node, 0), y = in(b, node, 1);
  GIVE(0, g);
  GIVE(1, neg(b, mul(b, g, graph_unary(b->graph, OP_FLOOR, quotient(b, x, y)))));
}

// Where the exponent is a number, products and quotients in place of another pow where they do.
static NodeId power_slope(Backward *b, NodeId node, NodeId x, double exponent) {
  if (exponent == 2) return times(b, 2, x);
  if (exponent == 3) return times(b, 3, mul(b, x, x));
  if (exponent == -1) return neg(b, mul(b, node, node));
  if (exponent == 0.5) return quotient(b, number(b, 0.5, x), node);
  return times(b, exponent, graph_binary(b->graph, OP_POW, x, number(b, exponent - 1, x)));
}

// d x^y / dy = x^y ln x, 0 where x is 0 and y is not negative.
static NodeId exponent_slope(Backward *b, NodeId node, NodeId x, NodeId y) {
  NodeId zero = number(b, 0, x);
  NodeId flat = graph_binary(b->graph, OP_AND, graph_binary(b->graph, OP_EQUAL, x, zero),
                             graph_binary(b->graph, OP_LESSEQ, zero, y));
  return choose(b, flat, zero, mul(b, node, graph_unary(b->graph, OP_LOG, x)));
}

RULE(pow) {
  NodeId x = in(b, node, 0), y = in(b, node, 1);
  double exponent;
  if (!known_number(b, y, &exponent)) {
    GIVE(0, mul(b, g, mul(b, y, graph_binary(b->graph, OP_POW, x, sub(b, y, number(b, 1, y))))));
  } else if (exponent == 1) {
    GIVE(0, g);
  } else if (exponent != 0) {
    GIVE(0, mul(b, g, power_slope(b, node, x, exponent)));
  }
  GIVE(1, mul(b, g, exponent_slope(b, node, x, y)));
}

// The chosen one gets all; equal ones half each.
static NodeId chosen(Backward *b, NodeId g, NodeId smaller, NodeId larger) {
  NodeId same = graph_binary(b->graph, OP_EQUAL, smaller, larger);
  NodeId less = graph_binary(b->graph, OP_LESS, smaller, larger);
  return choose(b, same, times(b, 0.5, g), choose(b, less, g, number(b, 0, g)));
}

RULE(min) {
  GIVE(0, chosen(b, g, in(b, node, 0), in(b, node, 1)));
  GIVE(1, chosen(b, g, in(b, node, 1), in(b, node, 0)));
}

RULE(max) {
  GIVE(0, chosen(b, g, in(b, node, 1), in(b, node, 0)));
  GIVE(1, chosen(b, g, in(b, node, 0), in(b, node, 1)));
}

RULE(select) {
  NodeId condition = in(b, node, 0);
  GIVE(1, choose(b, condition, g, number(b, 0, g)));
  GIVE(2, choose(b, condition, number(b, 0, g), g));
}

// ---- views --------------------------------------------------------------------------------------

// Sum over what was repeated, then the input's order again.
RULE(arrange) {
  Attributes at = attributes(b, node);
  const Type *result = type(b, node), *input = type(b, in(b, node, 0));
  uint32_t repeated = 0;
  int8_t back[MAX_RANK] = {0};
  int kept = 0;
  for (int i = 0; i < result->rank; i++) {
    if (at.from[i] < 0)
      repeated |= 1u << i;
    else
      back[at.from[i]] = (int8_t)kept++;
  }
  GIVE(0,
       graph_arrange(b->graph, graph_reduce(b->graph, OP_SUM, g, repeated), input->rank, input->axes, back));
}

RULE(split) {
  Attributes at = attributes(b, node);
  GIVE(0, graph_merge(b->graph, g, at.axis, at.count, type(b, in(b, node, 0))->axes[at.axis].label));
}

RULE(merge) {
  Attributes at = attributes(b, node);
  GIVE(0, graph_split(b->graph, g, at.axis, at.count, type(b, in(b, node, 0))->axes + at.axis));
}

RULE(window) {
  Attributes at = attributes(b, node);
  GIVE(0,
       graph_fold(b->graph, g, at.axis, type(b, in(b, node, 0))->axes[at.axis], at.start.offset, at.stride));
}

RULE(fold) {
  Attributes at = attributes(b, node);
  const Axis *axes = type(b, in(b, node, 0))->axes + at.axis;
  GIVE(0, graph_window(b->graph, g, at.axis, axes[0], axes[1], at.start.offset, at.stride));
}

RULE(slice) {
  Attributes at = attributes(b, node);
  GIVE(0, graph_pad(b->graph, g, at.axis, at.start, type(b, in(b, node, 0))->axes[at.axis].extent));
}

RULE(pad) {
  Attributes at = attributes(b, node);
  GIVE(0, graph_slice(b->graph, g, at.axis, at.start, type(b, in(b, node, 0))->axes[at.axis].extent));
}

RULE(concat) {
  int axis = attributes(b, node).axis;
  Extent first = type(b, in(b, node, 0))->axes[axis].extent,
         second = type(b, in(b, node, 1))->axes[axis].extent;
  GIVE(0, graph_slice(b->graph, g, axis, extent_constant(0), first));
  GIVE(1, graph_slice(b->graph, g, axis, first, second));
}

// ---- reductions ---------------------------------------------------------------------------------

// A reduction's result repeated over the axes that it lacks.
static NodeId repeat_over(Backward *b, NodeId x, NodeId reduction) {
  uint32_t axes = attributes(b, reduction).axes;
  const Type *input = type(b, in(b, reduction, 0));
  int8_t from[MAX_RANK];
  int next = 0;
  for (int i = 0; i < input->rank; i++) from[i] = axes >> i & 1 ? -1 : (int8_t)next++;
  return graph_arrange(b->graph, x, input->rank, input->axes, from);
}

RULE(sum) { GIVE(0, repeat_over(b, g, node)); }

// Elements that share the maximum share its gradient evenly.
RULE(redmax) {
  NodeId x = in(b, node, 0);
  NodeId largest = graph_binary(b->graph, OP_EQUAL, x, repeat_over(b, node, node));
  NodeId one = graph_cast(b->graph, largest, type(b, node)->dtype);
  NodeId count = graph_reduce(b->graph, OP_SUM, one, attributes(b, node).axes);
  NodeId share = repeat_over(b, quotient(b, g, count), node);
  GIVE(0, choose(b, largest, share, number(b, 0, share)));
}

// ---- contraction and indexing by data -----------------------------------------------------------

// One operand of a dot seen from its gradient: `pairs` and `other_pairs` are its axes and the other operand's
// in the attributes' order, `offset` is where the other's free axes start in g.
typedef struct Side {
  NodeId self, other;
  const int8_t *pairs, *other_pairs;
  int batch, contract, own_free, own_offset, other_free, other_offset;
} Side;

static bool listed(const int8_t *list, int count, int axis) {
  for (int i = 0; i < count; i++)
    if (list[i] == axis) return true;
  return false;
}

static Side dot_side(const Backward *b, NodeId node, const Attributes *at, bool left) {
  Side side = {.self = in(b, node, left ? 0 : 1), .other = in(b, node, left ? 1 : 0)};
  side.pairs = left ? at->left : at->right;
  side.other_pairs = left ? at->right : at->left;
  side.batch = at->batch, side.contract = at->contract;
  side.own_free = type(b, side.self)->rank - at->batch - at->contract;
  side.other_free = type(b, side.other)->rank - at->batch - at->contract;
  side.own_offset = at->batch + (left ? 0 : side.other_free);
  side.other_offset = at->batch + (left ? side.own_free : 0);
  return side;
}

// Axes of `operand` that stand in no pair, in order.
static int free_axes(const Backward *b, NodeId operand, const int8_t *pairs, int paired, int8_t *axes) {
  int count = 0;
  for (int i = 0; i < type(b, operand)->rank; i++)
    if (!listed(pairs, paired, i)) axes[count++] = (int8_t)i;
  return count;
}

// Where each axis of `self` stands in [batch, own free, contracted in the other operand's order], or with
// `contracted_first` in [batch, contracted, own free].
static void self_order(const Backward *b, const Side *side, bool contracted_first, int8_t *from) {
  int8_t own[MAX_RANK];
  int paired = side->batch + side->contract, own_count = free_axes(b, side->self, side->pairs, paired, own);
  int own_at = side->batch + (contracted_first ? side->contract : 0);
  int contracted_at = side->batch + (contracted_first ? 0 : own_count);
  for (int i = 0; i < side->batch; i++) from[side->pairs[i]] = (int8_t)i;
  for (int i = 0; i < own_count; i++) from[own[i]] = (int8_t)(own_at + i);
  for (int i = side->batch; i < paired; i++) {
    int before = 0; // how many contracted axes stand before this one in the other operand
    for (int j = side->batch; j < paired; j++) before += side->other_pairs[j] < side->other_pairs[i];
    from[side->pairs[i]] = (int8_t)(contracted_at + before);
  }
}

static bool is_identity(const int8_t *from, int rank) {
  for (int i = 0; i < rank; i++)
    if (from[i] != i) return false;
  return true;
}

// The other operand has no axes of its own, so nothing is summed: an elementwise product of repeated views.
static NodeId side_product(Backward *b, const Side *side, NodeId g) {
  const Type *self = type(b, side->self);
  int8_t from_g[MAX_RANK], from_other[MAX_RANK], own[MAX_RANK];
  int paired = side->batch + side->contract, own_count = free_axes(b, side->self, side->pairs, paired, own);
  memset(from_g, -1, sizeof from_g);
  memset(from_other, -1, sizeof from_other);
  for (int i = 0; i < side->batch; i++) from_g[side->pairs[i]] = (int8_t)i;
  for (int i = 0; i < own_count; i++) from_g[own[i]] = (int8_t)(side->own_offset + i);
  for (int i = 0; i < paired; i++) from_other[side->pairs[i]] = side->other_pairs[i];
  Type model = *self;
  NodeId spread_g = graph_arrange(b->graph, g, model.rank, model.axes, from_g);
  NodeId spread_other = graph_arrange(b->graph, side->other, model.rank, model.axes, from_other);
  return mul(b, spread_g, graph_cast(b->graph, spread_other, type(b, g)->dtype));
}

// Contracts g with the other operand over the other's free axes. Of the two orders of operands the one is
// taken that gives the axes of `self` in order; where neither does, a view puts them in order.
static NodeId side_gradient(Backward *b, const Side *side, NodeId g) {
  DType dtype = type(b, side->self)->dtype;
  if (!side->other_free) return graph_cast(b->graph, side_product(b, side, g), dtype);
  int8_t g_axes[MAX_RANK], other_axes[MAX_RANK], from[MAX_RANK];
  for (int i = 0; i < side->batch; i++) g_axes[i] = (int8_t)i, other_axes[i] = side->other_pairs[i];
  for (int i = 0; i < side->other_free; i++) g_axes[side->batch + i] = (int8_t)(side->other_offset + i);
  free_axes(b, side->other, side->other_pairs, side->batch + side->contract, other_axes + side->batch);
  Type self = *type(b, side->self);
  self_order(b, side, true, from);
  bool other_first = is_identity(from, self.rank),
       inner_kept = self.rank && from[self.rank - 1] == self.rank - 1;
  if (!other_first) {
    self_order(b, side, false, from);
    other_first = inner_kept && !is_identity(from, self.rank);
    if (other_first) self_order(b, side, true, from);
  }
  NodeId other = graph_cast(b->graph, side->other, type(b, g)->dtype);
  NodeId result = other_first
                      ? graph_dot(b->graph, other, g, side->batch, side->other_free, other_axes, g_axes)
                      : graph_dot(b->graph, g, other, side->batch, side->other_free, g_axes, other_axes);
  return graph_cast(b->graph, graph_arrange(b->graph, result, self.rank, self.axes, from), dtype);
}

RULE(dot) {
  Attributes at = attributes(b, node);
  Side left = dot_side(b, node, &at, true), right = dot_side(b, node, &at, false);
  GIVE(0, side_gradient(b, &left, g));
  GIVE(1, side_gradient(b, &right, g));
}

// One row is picked per batch element, so that an element of the input gets one contribution or none: it
// compares its position with the index. This fuses with what surrounds it (a cross entropy's `p - [v is the
// target]`), where a scatter would fill a tensor of the size of the logits with zeros only to have it added.
// A lookup of several rows (an embedding) adds up many contributions: there the scatter is needed.
static NodeId picked(Backward *b, NodeId node, NodeId g) {
  int batch = attributes(b, node).batch;
  NodeId index = in(b, node, 1);
  Type input = *type(b, in(b, node, 0));
  int8_t of_index[MAX_RANK], of_g[MAX_RANK], of_iota[MAX_RANK];
  for (int i = 0; i < input.rank; i++) {
    of_index[i] = i < batch ? (int8_t)i : -1;
    of_g[i] = (int8_t)(i < batch ? i : i == batch ? -1 : i - 1);
    of_iota[i] = i == batch ? 0 : -1;
  }
  NodeId iota = graph_iota(b->graph, input.axes[batch], extent_constant(0), type(b, index)->dtype);
  NodeId here = graph_arrange(b->graph, iota, input.rank, input.axes, of_iota);
  NodeId there = graph_arrange(b->graph, index, input.rank, input.axes, of_index);
  NodeId spread = graph_arrange(b->graph, g, input.rank, input.axes, of_g);
  return choose(b, graph_binary(b->graph, OP_EQUAL, here, there), spread, number(b, 0, spread));
}

RULE(gather) {
  int batch = attributes(b, node).batch;
  NodeId index = in(b, node, 1);
  if (type(b, index)->rank == batch) {
    GIVE(0, picked(b, node, g));
  } else {
    Axis rows = type(b, in(b, node, 0))->axes[batch];
    GIVE(0, graph_scatter(b->graph, index, g, batch, rows));
  }
}

RULE(scatter) { GIVE(1, graph_gather(b->graph, g, in(b, node, 0), attributes(b, node).batch)); }

// ---- the column of ops.def ----------------------------------------------------------------------

#define gradient_none NULL
GradientRule *const gradient_rules[OP_COUNT] = {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning)                          \
  [OP_##enumerator] = gradient_##gradient,
#include "compiler/graph/ops.def"
#undef OP
};
