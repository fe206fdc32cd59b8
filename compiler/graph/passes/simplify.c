// Folds constants and identities. Every node is made anew, its operands being simplified already, and tried
// against the rules of its operation; a rule answers with a node of fewer or smaller operations, so this
// ends.
//   elementwise  of numbers: the number; x+0, x-0, x*1, x/1, x^1, not not x, -(-x), x+(-y), c and true,
//                select of a constant; of operands that all repeat the same axes: computed once, then repeated
//   cast         of a cast that lost nothing
//   arrange      of arrange: one; in order: nothing
//   split, merge back again: nothing. slice of everything: nothing; of slice: one
//   sum          over repeated axes: times their size; over one element: a merge; sum of sum, max of max: one
// 0*x stays for floats, since x may be infinite or NaN; stop stays, since gradients are not yet made.
// Needs: a verified graph. Keeps: the outputs' values but for the last bits of sums and the sign of a zero.
#include "compiler/graph/passes/passes.h"

#include <math.h>
#include <stdlib.h>

// Simplifies and appends; `given` as for graph_append.
static NodeId make(Graph *graph, Op op, const NodeId *in, Attributes attributes, const Type *given);

// ---- looking at operands ------------------------------------------------------------------------

static const Node *node_of(const Graph *graph, NodeId id) { return &graph->nodes[id]; }

// Is it one number in all elements?
static bool uniform(const Graph *graph, NodeId id, double *number) {
  const Node *node = node_of(graph, id);
  if (node->op == OP_ARRANGE) node = node_of(graph, node->in[0]);
  if (node->op != OP_CONST) return false;
  *number = node->attributes.number;
  return true;
}

static bool is_number(const Graph *graph, NodeId id, double wanted) {
  double number = 0;
  return uniform(graph, id, &number) && number == wanted;
}

static bool is_op(const Graph *graph, NodeId id, Op op) { return node_of(graph, id)->op == op; }

static NodeId make_binary(Graph *graph, Op op, NodeId x, NodeId y) {
  return make(graph, op, (NodeId[]){x, y}, (Attributes){0}, NULL);
}

// The axes of an arrange that are new, as a bit mask.
static uint32_t repeated_axes(const Node *node) {
  uint32_t mask = 0;
  for (int i = 0; node->op == OP_ARRANGE && i < node->type.rank; i++)
    if (node->attributes.from[i] < 0) mask |= 1u << i;
  return mask;
}

// An arrange without the new axes of `mask`.
static NodeId without_axes(Graph *graph, NodeId id, uint32_t mask) {
  Node node = *node_of(graph, id);
  Type type = {.dtype = node.type.dtype};
  Attributes attributes = {0};
  for (int i = 0; i < node.type.rank; i++) {
    if (mask >> i & 1) continue;
    attributes.from[type.rank] = node.attributes.from[i];
    type.axes[type.rank++] = node.type.axes[i];
  }
  return make(graph, OP_ARRANGE, node.in, attributes, &type);
}

// x spread over the type, whose axes of `mask` are new.
static NodeId with_axes(Graph *graph, NodeId x, uint32_t mask, const Type *type) {
  Attributes attributes = {0};
  int from = 0;
  for (int i = 0; i < type->rank; i++) attributes.from[i] = (int8_t)(mask >> i & 1 ? -1 : from++);
  return make(graph, OP_ARRANGE, &x, attributes, type);
}

// ---- elementwise --------------------------------------------------------------------------------

// Is the number the same in this dtype?
static bool representable(double number, DType dtype) {
  if (number != number) return dtype_is_float(dtype);
  switch (dtype) {
  case DTYPE_F64: return true;
  case DTYPE_F32: return (double)(float)number == number;
  case DTYPE_BF16: return (double)bf16_to_float(bf16_from_float((float)number)) == number;
  case DTYPE_F16: return (double)f16_to_float(f16_from_float((float)number)) == number;
  default: return evaluate_element(OP_CAST, dtype, number, 0, 0) == number;
  }
}

static NodeId fold_numbers(Graph *graph, Op op, const NodeId *in, const Type *given) {
  double numbers[MAX_INPUTS] = {0};
  for (int i = 0; i < op_table[op].inputs; i++) {
    if (!is_op(graph, in[i], OP_CONST)) return 0;
    numbers[i] = node_of(graph, in[i])->attributes.number;
  }
  DType operand = graph_type(graph, in[op == OP_SELECT])->dtype, dtype = operand;
  if (op == OP_LESS || op == OP_LESSEQ || op == OP_EQUAL) dtype = DTYPE_BOOL;
  if (op == OP_CAST) dtype = given->dtype;
  bool rounds = op == OP_CAST && dtype_is_float(dtype) && dtype_is_float(operand);
  if (rounds && !(representable(numbers[0], dtype) && representable(numbers[0], operand))) return 0;
  double value = evaluate_element(op, dtype, numbers[0], numbers[1], numbers[2]);
  if (!dtype_is_float(dtype) && !representable(value, dtype)) return 0; // overflow is not ours to decide
  return graph_constant(graph, value, dtype);
}

// Where every operand repeats an axis, computes once and repeats the result.
static NodeId hoist_repetition(Graph *graph, Op op, const NodeId *in, Attributes attributes,
                               const Type *given) {
  uint32_t repeated = UINT32_MAX;
  int count = op_table[op].inputs;
  for (int i = 0; i < count; i++) repeated &= repeated_axes(node_of(graph, in[i]));
  if (!repeated) return 0;
  NodeId narrow[MAX_INPUTS];
  Type type = *graph_type(graph, in[0]), dtype = {.dtype = given ? given->dtype : type.dtype};
  for (int i = 0; given && given->rank == type.rank && i < type.rank; i++)
    if (given->axes[i].label) type.axes[i].label = given->axes[i].label;
  for (int i = 0; i < count; i++) narrow[i] = without_axes(graph, in[i], repeated);
  return with_axes(graph, make(graph, op, narrow, attributes, &dtype), repeated, &type);
}

// The x of -x, repeated where -x is; 0 where it is no negation.
static NodeId negated(Graph *graph, NodeId id) {
  Node node = *node_of(graph, id);
  if (node.op == OP_NEG) return node.in[0];
  if (node.op != OP_ARRANGE || !is_op(graph, node.in[0], OP_NEG)) return 0;
  NodeId source = node_of(graph, node.in[0])->in[0];
  return make(graph, OP_ARRANGE, &source, node.attributes, &node.type);
}

static NodeId make_negation(Graph *graph, NodeId x) { return make(graph, OP_NEG, &x, (Attributes){0}, NULL); }

static NodeId simplify_add(Graph *graph, NodeId x, NodeId y) {
  NodeId opposite;
  if (is_number(graph, y, 0)) return x;
  if (is_number(graph, x, 0)) return y;
  if ((opposite = negated(graph, y))) return make_binary(graph, OP_SUB, x, opposite);
  if ((opposite = negated(graph, x))) return make_binary(graph, OP_SUB, y, opposite);
  return 0;
}

static NodeId simplify_sub(Graph *graph, NodeId x, NodeId y) {
  if (is_number(graph, y, 0)) return x;
  NodeId opposite = negated(graph, y);
  return opposite ? make_binary(graph, OP_ADD, x, opposite) : 0;
}

// Signs move outwards, until a sum takes them.
static NodeId simplify_mul(Graph *graph, NodeId x, NodeId y) {
  bool whole = !dtype_is_float(graph_type(graph, x)->dtype);
  if (is_number(graph, y, 1) || (whole && is_number(graph, x, 0))) return x;
  if (is_number(graph, x, 1) || (whole && is_number(graph, y, 0))) return y;
  if (is_op(graph, x, OP_NEG))
    return make_negation(graph, make_binary(graph, OP_MUL, node_of(graph, x)->in[0], y));
  if (is_op(graph, y, OP_NEG))
    return make_negation(graph, make_binary(graph, OP_MUL, x, node_of(graph, y)->in[0]));
  return 0;
}

// Division by a power of two is the product with its reciprocal, to the last bit.
static NodeId simplify_div(Graph *graph, NodeId x, NodeId y) {
  double number = 0;
  int exponent;
  if (is_number(graph, y, 1)) return x;
  if (!dtype_is_float(graph_type(graph, x)->dtype)) return 0;
  if (is_op(graph, x, OP_NEG))
    return make_negation(graph, make_binary(graph, OP_DIV, node_of(graph, x)->in[0], y));
  if (!uniform(graph, y, &number) || fabs(frexp(number, &exponent)) != 0.5 || abs(exponent) > 14) return 0;
  NodeId reciprocal = graph_constant(graph, 1 / number, graph_type(graph, x)->dtype);
  uint32_t all = UINT32_MAX;
  return make_binary(graph, OP_MUL, x, with_axes(graph, reciprocal, all, graph_type(graph, y)));
}

static NodeId simplify_pow(Graph *graph, NodeId x, NodeId y) {
  if (is_number(graph, y, 1)) return x;
  if (is_number(graph, y, 2)) return make_binary(graph, OP_MUL, x, x);
  return 0;
}

// `and` is decided by false, `or` by true.
static NodeId simplify_logic(Graph *graph, NodeId x, NodeId y, bool decided_by) {
  double number;
  if (x == y) return x;
  if (uniform(graph, x, &number)) return (number != 0) == decided_by ? x : y;
  if (uniform(graph, y, &number)) return (number != 0) == decided_by ? y : x;
  return 0;
}

static NodeId simplify_select(Graph *graph, NodeId condition, NodeId x, NodeId y) {
  double number;
  if (x == y) return x;
  if (!uniform(graph, condition, &number)) return 0;
  return number != 0 ? x : y;
}

static NodeId undo(Graph *graph, Op op, NodeId x) {
  return is_op(graph, x, op) ? node_of(graph, x)->in[0] : 0;
}

// Does every value of `from` have a place in `to`?
static bool lossless(DType from, DType to) {
  switch (from) {
  case DTYPE_BOOL: return true;
  case DTYPE_U8: return to != DTYPE_BOOL; // 255 has 8 bits, as bf16's and f16's fractions can hold
  case DTYPE_I32: return to == DTYPE_I64 || to == DTYPE_F64;
  case DTYPE_BF16:
  case DTYPE_F16: return to == DTYPE_F32 || to == DTYPE_F64;
  case DTYPE_F32: return to == DTYPE_F64;
  default: return from == to;
  }
}

static NodeId simplify_cast(Graph *graph, NodeId x, DType dtype) {
  if (graph_type(graph, x)->dtype == dtype) return x;
  if (!is_op(graph, x, OP_CAST)) return 0;
  NodeId source = node_of(graph, x)->in[0];
  if (!lossless(graph_type(graph, source)->dtype, graph_type(graph, x)->dtype)) return 0;
  return make(graph, OP_CAST, &source, (Attributes){0}, &(Type){.dtype = dtype});
}

static NodeId simplify_identity(Graph *graph, Op op, const NodeId *in, const Type *given) {
  switch (op) {
  case OP_ADD: return simplify_add(graph, in[0], in[1]);
  case OP_SUB: return simplify_sub(graph, in[0], in[1]);
  case OP_MUL: return simplify_mul(graph, in[0], in[1]);
  case OP_DIV: return simplify_div(graph, in[0], in[1]);
  case OP_POW: return simplify_pow(graph, in[0], in[1]);
  case OP_AND: return simplify_logic(graph, in[0], in[1], false);
  case OP_OR: return simplify_logic(graph, in[0], in[1], true);
  case OP_NOT:
  case OP_NEG: return undo(graph, op, in[0]);
  case OP_SELECT: return simplify_select(graph, in[0], in[1], in[2]);
  case OP_CAST: return simplify_cast(graph, in[0], given->dtype);
  default: return 0;
  }
}

// ---- views --------------------------------------------------------------------------------------

static NodeId simplify_arrange(Graph *graph, NodeId x, Attributes attributes, const Type *given) {
  Node inner = *node_of(graph, x);
  bool identity = given->rank == inner.type.rank;
  for (int i = 0; i < given->rank; i++) identity = identity && attributes.from[i] == i;
  if (identity) return x;
  if (inner.op != OP_ARRANGE) return 0;
  for (int i = 0; i < given->rank; i++)
    if (attributes.from[i] >= 0) attributes.from[i] = inner.attributes.from[attributes.from[i]];
  return make(graph, OP_ARRANGE, inner.in, attributes, given);
}

static NodeId simplify_split(Graph *graph, NodeId x, const Attributes *attributes, const Type *given) {
  const Node *inner = node_of(graph, x);
  if (inner->op != OP_MERGE || inner->attributes.axis != attributes->axis ||
      inner->attributes.count != attributes->count)
    return 0;
  const Type *before = graph_type(graph, inner->in[0]);
  for (int i = attributes->axis; i < attributes->axis + attributes->count; i++)
    if (!extent_equal(before->axes[i].extent, given->axes[i].extent)) return 0;
  return inner->in[0];
}

static NodeId simplify_merge(Graph *graph, NodeId x, const Attributes *attributes) {
  const Node *inner = node_of(graph, x);
  bool undone = inner->op == OP_SPLIT && inner->attributes.axis == attributes->axis &&
                inner->attributes.count == attributes->count;
  return undone ? inner->in[0] : 0;
}

static NodeId simplify_slice(Graph *graph, NodeId x, Attributes attributes, const Type *given) {
  Node inner = *node_of(graph, x);
  int axis = attributes.axis;
  if (extent_equal(attributes.start, extent_constant(0)) &&
      extent_equal(given->axes[axis].extent, inner.type.axes[axis].extent))
    return x;
  if (inner.op != OP_SLICE || inner.attributes.axis != axis ||
      !extent_add(attributes.start, inner.attributes.start, &attributes.start))
    return 0;
  return make(graph, OP_SLICE, inner.in, attributes, given);
}

static NodeId simplify_pad(Graph *graph, NodeId x, const Attributes *attributes, const Type *given) {
  Extent whole = graph_type(graph, x)->axes[attributes->axis].extent;
  bool nothing = extent_equal(attributes->start, extent_constant(0)) &&
                 extent_equal(given->axes[attributes->axis].extent, whole);
  return nothing ? x : 0;
}

// ---- reductions ---------------------------------------------------------------------------------

// The axes of `outer`, which counts what `inner` left, in the numbering before `inner`.
static uint32_t axes_before(uint32_t inner, uint32_t outer) {
  uint32_t result = 0;
  for (int i = 0, kept = 0; i < MAX_RANK; i++)
    if (!(inner >> i & 1) && outer >> kept++ & 1) result |= 1u << i;
  return result;
}

// The axes of `mask` in the numbering after those of `removed` are gone.
static uint32_t axes_after(uint32_t mask, uint32_t removed) {
  uint32_t result = 0;
  for (int i = 0, kept = 0; i < MAX_RANK; i++) {
    if (removed >> i & 1) continue;
    if (mask >> i & 1) result |= 1u << kept;
    kept++;
  }
  return result;
}

// Sums over what an arrange repeated: n times x. Maxima: x, if n can not be 0.
static NodeId reduce_repetition(Graph *graph, Op op, NodeId x, uint32_t axes) {
  Node inner = *node_of(graph, x);
  uint32_t taken = repeated_axes(&inner) & axes;
  for (int i = 0; i < inner.type.rank; i++) {
    Extent extent = inner.type.axes[i].extent;
    bool positive = extent_is_constant(extent) && extent.offset > 0;
    if (!positive && (op == OP_REDMAX || extent_is_constant(extent))) taken &= ~(1u << i);
  }
  if (!taken) return 0;
  NodeId result = without_axes(graph, x, taken);
  uint32_t rest = axes_after(axes, taken);
  if (rest) result = make(graph, op, &result, (Attributes){.axes = rest}, NULL);
  for (int i = 0; op == OP_SUM && i < inner.type.rank; i++) {
    if (!(taken >> i & 1)) continue;
    NodeId size = graph_size(graph, inner.type.axes[i].extent, inner.type.dtype);
    size = with_axes(graph, size, UINT32_MAX, graph_type(graph, result));
    result = make_binary(graph, OP_MUL, result, size);
  }
  return result;
}

// An axis of extent 1 that is reduced becomes part of its neighbour, which is no arithmetic.
static NodeId reduce_single(Graph *graph, Op op, NodeId x, uint32_t axes) {
  Type type = *graph_type(graph, x);
  int single = 0;
  while (single < type.rank &&
         !(axes >> single & 1 && extent_equal(type.axes[single].extent, extent_constant(1))))
    single++;
  if (single == type.rank || type.rank == 1) return 0;
  int first = single ? single - 1 : 0;
  for (int i = single; i + 1 < type.rank; i++) type.axes[i] = type.axes[i + 1];
  type.rank--;
  NodeId merged = make(graph, OP_MERGE, &x, (Attributes){.axis = first, .count = 2}, &type);
  uint32_t rest = axes_after(axes, 1u << single);
  return rest ? make(graph, op, &merged, (Attributes){.axes = rest}, NULL) : merged;
}

static NodeId simplify_reduce(Graph *graph, Op op, NodeId x, uint32_t axes) {
  if (is_op(graph, x, op)) {
    NodeId source = node_of(graph, x)->in[0];
    uint32_t inner = node_of(graph, x)->attributes.axes;
    return make(graph, op, &source, (Attributes){.axes = inner | axes_before(inner, axes)}, NULL);
  }
  if (op == OP_SUM && is_op(graph, x, OP_NEG)) {
    NodeId source = node_of(graph, x)->in[0];
    return make_negation(graph, make(graph, op, &source, (Attributes){.axes = axes}, NULL));
  }
  NodeId found = reduce_repetition(graph, op, x, axes);
  return found ? found : reduce_single(graph, op, x, axes);
}

// ---- all of it ----------------------------------------------------------------------------------

static NodeId try_rules(Graph *graph, Op op, const NodeId *in, Attributes attributes, const Type *given) {
  switch (op) {
  case OP_SIZE:
    return extent_is_constant(attributes.extent) ? graph_size(graph, attributes.extent, given->dtype) : 0;
  case OP_ARRANGE: return simplify_arrange(graph, in[0], attributes, given);
  case OP_SPLIT: return simplify_split(graph, in[0], &attributes, given);
  case OP_MERGE: return simplify_merge(graph, in[0], &attributes);
  case OP_SLICE: return simplify_slice(graph, in[0], attributes, given);
  case OP_PAD: return simplify_pad(graph, in[0], &attributes, given);
  case OP_SUM:
  case OP_REDMAX: return simplify_reduce(graph, op, in[0], attributes.axes);
  default: break;
  }
  if (!(op_table[op].properties & ELEMENTWISE)) return 0;
  NodeId found = simplify_identity(graph, op, in, given);
  if (!found && op != OP_STOP) found = fold_numbers(graph, op, in, given);
  return found ? found : hoist_repetition(graph, op, in, attributes, given);
}

static NodeId make(Graph *graph, Op op, const NodeId *in, Attributes attributes, const Type *given) {
  NodeId found = try_rules(graph, op, in, attributes, given);
  return found ? found : graph_append(graph, op, in, attributes, given);
}

Graph *simplify(Graph *graph) {
  Graph *result = graph_new_like(graph);
  Arena *scratch = arena_new();
  NodeId *renamed = ARENA_ARRAY(scratch, NodeId, graph->count);
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    NodeId in[MAX_INPUTS];
    for (int i = 0; i < MAX_INPUTS; i++) in[i] = renamed[node->in[i]];
    result->span = node->span;
    result->origin = node->origin;
    renamed[id] = node->op == OP_INPUT ? graph_copy_node(result, graph, id, in)
                                       : make(result, node->op, in, node->attributes, &node->type);
  }
  graph_copy_outputs(result, graph, renamed);
  arena_free(scratch);
  return result;
}
