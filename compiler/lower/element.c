// One element of a node as a scalar expression: graph and index -> expressions of a kernel. One rule per
// lowering column of ops.def; a forgotten one is a link error.
#include "compiler/lower/element.h"

#include "runtime/base/failure.h"

#include <stdio.h>
#include <string.h>

typedef ExprId Rule(ElementContext *context, NodeId id, const ExprId *index);

// ---- index arithmetic ---------------------------------------------------------------------------

static ExprId whole(ElementContext *context, int64_t value) {
  return kernel_number(context->kernel, (double)value, DTYPE_I64);
}

static ExprId size_of(ElementContext *context, Extent extent) { return kernel_size(context->kernel, extent); }

static ExprId binary(ElementContext *context, ScalarOp op, ExprId x, ExprId y) {
  return kernel_binary(context->kernel, op, x, y);
}

static ExprId extent_number(ElementContext *context, Extent extent) {
  if (extent_is_constant(extent)) return whole(context, extent.offset);
  if (extent.offset >= 0 && extent.scale >= 0) return size_of(context, extent);
  ExprId symbol = size_of(context, extent_symbol((Symbol)extent.symbol)); // a SIZE is not negative
  ExprId scaled = binary(context, SCALAR_MUL, symbol, whole(context, extent.scale));
  return binary(context, SCALAR_ADD, scaled, whole(context, extent.offset));
}

static ExprId both(ElementContext *context, ExprId x, ExprId y) {
  if (!x || !y) return x ? x : y;
  return binary(context, SCALAR_AND, x, y);
}

// 0 <= index < extent
static ExprId inside(ElementContext *context, ExprId index, Extent extent) {
  ExprId low = binary(context, SCALAR_LESSEQ, whole(context, 0), index);
  return both(context, low, binary(context, SCALAR_LESS, index, extent_number(context, extent)));
}

static bool is_true(const ElementContext *context, ExprId id) {
  const Expr *expr = &context->kernel->exprs[id];
  return expr->op == SCALAR_CONST && expr->number != 0;
}

static const Node *node_at(const ElementContext *context, NodeId id) { return &context->graph->nodes[id]; }

static const Type *operand_type(const ElementContext *context, NodeId id, int k) {
  return &context->graph->nodes[node_at(context, id)->in[k]].type;
}

static DType value_dtype(const ElementContext *context, NodeId id) {
  return kernel_value_dtype(node_at(context, id)->type.dtype);
}

// The operand's element where `condition` holds, else 0; nothing is read where it does not hold.
static ExprId guarded(ElementContext *context, NodeId operand, const ExprId *index, ExprId condition) {
  if (is_true(context, condition)) return element(context, operand, index);
  ExprId outer = context->guard;
  context->guard = both(context, outer, condition);
  ExprId value = element(context, operand, index);
  ExprId guard = context->guard;
  context->guard = outer;
  const Expr *expr = &context->kernel->exprs[value];
  if (expr->op == SCALAR_LOAD && expr->in[0] == guard) return value; // a load is 0 where its guard is false
  return kernel_select(context->kernel, condition, value,
                       kernel_number(context->kernel, 0, context->kernel->exprs[value].dtype));
}

ExprId place_index(ElementContext *context, const Place *place, int i) {
  ExprId index = whole(context, 0);
  for (int k = 0; k < place->counts[i]; k++) {
    uint8_t atom = place->atoms[i][k];
    const Atom *of = &context->space.atoms[atom];
    if (context->axis_of_atom[atom] < 0)
      context->axis_of_atom[atom] = kernel_axis(context->kernel, of->label, of->extent);
    index = binary(context, SCALAR_MUL, index, size_of(context, of->extent));
    ExprId axis = kernel_axis_value(context->kernel, context->axis_of_atom[atom]);
    index = binary(context, SCALAR_ADD, axis, index);
  }
  return index;
}

// ---- sources ------------------------------------------------------------------------------------

static ExprId element_input(ElementContext *context, NodeId id, const ExprId *index) {
  (void)index;
  die("kernel %s: input %%%u has no memory", context->kernel->name, id);
}

static ExprId element_constant(ElementContext *context, NodeId id, const ExprId *index) {
  (void)index;
  return kernel_number(context->kernel, node_at(context, id)->attributes.number, value_dtype(context, id));
}

static ExprId element_size(ElementContext *context, NodeId id, const ExprId *index) {
  (void)index;
  return kernel_cast(context->kernel, extent_number(context, node_at(context, id)->attributes.extent),
                     value_dtype(context, id));
}

static ExprId element_iota(ElementContext *context, NodeId id, const ExprId *index) {
  ExprId start = extent_number(context, node_at(context, id)->attributes.start);
  return kernel_cast(context->kernel, binary(context, SCALAR_ADD, index[0], start), value_dtype(context, id));
}

static ExprId element_random(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  ExprId counter = kernel_cast(context->kernel, element(context, node->in[0], NULL), DTYPE_I32);
  ExprId linear = whole(context, 0);
  for (int i = 0; i < node->type.rank; i++) {
    linear = binary(context, SCALAR_MUL, linear, size_of(context, node->type.axes[i].extent));
    linear = binary(context, SCALAR_ADD, linear, index[i]);
  }
  return kernel_random(context->kernel, counter, linear, node->attributes.stream);
}

// ---- elementwise --------------------------------------------------------------------------------

static const ScalarOp scalar_ops[OP_COUNT] = {
    [OP_NEG] = SCALAR_NEG,   [OP_ABS] = SCALAR_ABS,       [OP_EXP] = SCALAR_EXP,
    [OP_LOG] = SCALAR_LOG,   [OP_SQRT] = SCALAR_SQRT,     [OP_RSQRT] = SCALAR_RSQRT,
    [OP_SIN] = SCALAR_SIN,   [OP_COS] = SCALAR_COS,       [OP_TANH] = SCALAR_TANH,
    [OP_ERF] = SCALAR_ERF,   [OP_FLOOR] = SCALAR_FLOOR,   [OP_NOT] = SCALAR_NOT,
    [OP_CAST] = SCALAR_CAST, [OP_ADD] = SCALAR_ADD,       [OP_SUB] = SCALAR_SUB,
    [OP_MUL] = SCALAR_MUL,   [OP_DIV] = SCALAR_DIV,       [OP_MOD] = SCALAR_MOD,
    [OP_POW] = SCALAR_POW,   [OP_MIN] = SCALAR_MIN,       [OP_MAX] = SCALAR_MAX,
    [OP_LESS] = SCALAR_LESS, [OP_LESSEQ] = SCALAR_LESSEQ, [OP_EQUAL] = SCALAR_EQUAL,
    [OP_AND] = SCALAR_AND,   [OP_OR] = SCALAR_OR,         [OP_SELECT] = SCALAR_SELECT,
    [OP_SUM] = SCALAR_SUM,   [OP_REDMAX] = SCALAR_REDMAX,
};

// Kernels compute in f32, i32 and bools: logic stands in for the smaller and the larger of two bools.
static ScalarOp scalar_op(Op op, DType dtype) {
  if (dtype == DTYPE_BOOL && op == OP_MIN) return SCALAR_AND;
  if (dtype == DTYPE_BOOL && op == OP_MAX) return SCALAR_OR;
  return scalar_ops[op];
}

static ExprId element_scalar(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  ExprId operands[3] = {0};
  for (int i = 0; i < op_table[node->op].inputs; i++) operands[i] = element(context, node->in[i], index);
  if (node->op == OP_STOP) return operands[0];
  if (node->op == OP_CAST) return kernel_cast(context->kernel, operands[0], value_dtype(context, id));
  if (node->op == OP_SELECT) return kernel_select(context->kernel, operands[0], operands[1], operands[2]);
  ScalarOp op = scalar_op(node->op, operand_type(context, id, 0)->dtype);
  if (op_table[node->op].inputs == 1) return kernel_unary(context->kernel, op, operands[0]);
  return kernel_binary(context->kernel, op, operands[0], operands[1]);
}

// ---- views --------------------------------------------------------------------------------------

static ExprId element_arrange(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  ExprId from[MAX_RANK] = {0};
  for (int i = 0; i < node->type.rank; i++)
    if (node->attributes.from[i] >= 0) from[node->attributes.from[i]] = index[i];
  return element(context, node->in[0], from);
}

// Of a node that is wanted at its own place, the operand's index by its place: without division and
// remainder, and the same for all who want it there.
static bool index_by_place(ElementContext *context, NodeId id, const ExprId *index, ExprId *from) {
  Space space = context->space; // splitting atoms now would come too late
  Place place = context->places[id], operand;
  if (!place_refresh(&space, &place)) return false;
  for (int i = 0; i < place.rank; i++) {
    for (int k = 0; k < place.counts[i]; k++) // a contraction's own, which is bound and nobody's index
      if (context->axis_of_atom[place.atoms[i][k]] < 0) return false;
    if (place_index(context, &place, i) != index[i]) return false;
  }
  if (!place_of_operand(&space, context->graph, id, &place, 0, &operand)) return false;
  if (space.count != context->space.count || !place_refresh(&space, &operand)) return false;
  for (int i = 0; i < operand.rank; i++) from[i] = place_index(context, &operand, i);
  return true;
}

static ExprId element_split(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  int axis = node->attributes.axis, count = node->attributes.count;
  ExprId from[MAX_RANK] = {0}, joined = index[axis];
  if (index_by_place(context, id, index, from)) return element(context, node->in[0], from);
  for (int i = axis + 1; i < axis + count; i++) {
    joined = binary(context, SCALAR_MUL, joined, size_of(context, node->type.axes[i].extent));
    joined = binary(context, SCALAR_ADD, index[i], joined);
  }
  for (int i = 0; i < operand_type(context, id, 0)->rank; i++)
    from[i] = i < axis ? index[i] : i == axis ? joined : index[i + count - 1];
  return element(context, node->in[0], from);
}

static ExprId element_merge(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  const Type *type = operand_type(context, id, 0);
  int axis = node->attributes.axis, count = node->attributes.count;
  ExprId from[MAX_RANK] = {0}, rest = index[axis];
  if (index_by_place(context, id, index, from)) return element(context, node->in[0], from);
  for (int i = axis + count - 1; i > axis; i--) {
    ExprId size = size_of(context, type->axes[i].extent);
    from[i] = binary(context, SCALAR_MOD, rest, size);
    rest = binary(context, SCALAR_DIV, rest, size);
  }
  for (int i = 0; i < type->rank; i++)
    if (i <= axis || i >= axis + count)
      from[i] = i < axis ? index[i] : i == axis ? rest : index[i - count + 1];
  return element(context, node->in[0], from);
}

static ExprId element_window(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  const Type *type = operand_type(context, id, 0);
  int axis = node->attributes.axis;
  ExprId from[MAX_RANK] = {0};
  ExprId at = binary(context, SCALAR_MUL, index[axis], whole(context, node->attributes.stride));
  at = binary(context, SCALAR_ADD, at, index[axis + 1]);
  at = binary(context, SCALAR_ADD, at, extent_number(context, node->attributes.start));
  for (int i = 0; i < type->rank; i++) from[i] = i < axis ? index[i] : i == axis ? at : index[i + 1];
  return guarded(context, node->in[0], from, inside(context, at, type->axes[axis].extent));
}

// The index moved along the node's axis by its start: to where it lies in the whole (SCALAR_ADD) or the piece.
static void shifted_index(ElementContext *context, const Node *node, const ExprId *index, ScalarOp to,
                          ExprId from[MAX_RANK]) {
  int axis = node->attributes.axis;
  for (int i = 0; i < MAX_RANK; i++) from[i] = i < node->type.rank ? index[i] : 0;
  from[axis] = binary(context, to, index[axis], extent_number(context, node->attributes.start));
}

static ExprId element_slice(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  ExprId from[MAX_RANK];
  shifted_index(context, node, index, SCALAR_ADD, from);
  return element(context, node->in[0], from);
}

static ExprId element_pad(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  ExprId from[MAX_RANK];
  int axis = node->attributes.axis;
  shifted_index(context, node, index, SCALAR_SUB, from);
  return guarded(context, node->in[0], from,
                 inside(context, from[axis], operand_type(context, id, 0)->axes[axis].extent));
}

// A choice of two elements, each wanted only where it is chosen.
static ExprId choose(ElementContext *context, ExprId condition, NodeId x, const ExprId *x_index, NodeId y,
                     const ExprId *y_index) {
  double known = context->kernel->exprs[condition].number;
  if (context->kernel->exprs[condition].op == SCALAR_CONST)
    return known != 0 ? element(context, x, x_index) : element(context, y, y_index);
  ExprId outer = context->guard;
  context->guard = both(context, outer, condition);
  ExprId first = element(context, x, x_index);
  context->guard = both(context, outer, kernel_unary(context->kernel, SCALAR_NOT, condition));
  ExprId second = element(context, y, y_index);
  context->guard = outer;
  return kernel_select(context->kernel, condition, first, second);
}

static ExprId element_concat(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  int axis = node->attributes.axis;
  ExprId second[MAX_RANK] = {0};
  for (int i = 0; i < node->type.rank; i++) second[i] = index[i];
  ExprId length = extent_number(context, operand_type(context, id, 0)->axes[axis].extent);
  second[axis] = binary(context, SCALAR_SUB, index[axis], length);
  ExprId condition = binary(context, SCALAR_LESS, index[axis], length);
  return choose(context, condition, node->in[0], index, node->in[1], second);
}

// ---- reductions ---------------------------------------------------------------------------------

// The index over one reduced axis: bound axes of the kernel, by the place's atoms where it is known.
static ExprId bind_axis(ElementContext *context, const Place *place, int i, Axis axis, int depth,
                        uint32_t *bound) {
  Kernel *kernel = context->kernel;
  if (extent_is_constant(axis.extent) && axis.extent.offset == 1) return whole(context, 0);
  if (!place || depth >= ELEMENT_MAX_DEPTH) {
    int fresh = kernel_axis(kernel, axis.label, axis.extent);
    *bound |= 1u << fresh;
    return kernel_axis_value(kernel, fresh);
  }
  ExprId index = whole(context, 0);
  for (int k = 0; k < place->counts[i]; k++) {
    uint8_t atom = place->atoms[i][k];
    int *to = &context->bound_axis[depth][atom];
    Extent extent = context->space.atoms[atom].extent;
    if (*to < 0) *to = kernel_axis(kernel, context->space.atoms[atom].label, extent);
    *bound |= 1u << *to;
    index = binary(context, SCALAR_MUL, index, size_of(context, extent));
    index = binary(context, SCALAR_ADD, kernel_axis_value(kernel, *to), index);
  }
  return index;
}

static ExprId element_sum(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  const Type *type = operand_type(context, id, 0);
  Place place = context->places[node->in[0]];
  bool placed = context->places[id].known && place_refresh(&context->space, &place);
  ExprId from[MAX_RANK] = {0};
  uint32_t bound = 0;
  for (int i = 0, kept = 0; i < type->rank; i++)
    from[i] = reduced_axes(node) >> i & 1
                  ? bind_axis(context, placed ? &place : NULL, i, type->axes[i], context->depths[id], &bound)
                  : index[kept++];
  ExprId value = element(context, node->in[0], from);
  if (!bound) return value;
  return kernel_reduce(context->kernel, scalar_ops[node->op], value, bound);
}

static ExprId element_redmax(ElementContext *context, NodeId id, const ExprId *index) {
  return element_sum(context, id, index);
}

int64_t fold_terms(const Graph *graph, const Node *node) {
  Extent inner = graph->nodes[node->in[0]].type.axes[node->attributes.axis + 1].extent;
  if (!extent_is_constant(inner)) return 0;
  return (inner.offset + node->attributes.stride - 1) / node->attributes.stride;
}

// The term of window `outer` in element `at`: x[.., outer, at - start - outer*stride, ..] where both are
// inside.
static ExprId fold_term(ElementContext *context, NodeId id, const ExprId *index, ExprId outer, ExprId inner) {
  const Node *node = node_at(context, id);
  const Type *type = operand_type(context, id, 0);
  int axis = node->attributes.axis;
  ExprId from[MAX_RANK] = {0};
  for (int i = 0; i < type->rank; i++)
    from[i] = i < axis ? index[i] : i == axis ? outer : i == axis + 1 ? inner : index[i - 1];
  ExprId condition = both(context, inside(context, outer, type->axes[axis].extent),
                          inside(context, inner, type->axes[axis + 1].extent));
  return guarded(context, node->in[0], from, condition);
}

// Few overlapping windows: o = (p - start) / stride - k, one term for each k; many: a sum over all windows.
static ExprId element_fold(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  int axis = node->attributes.axis;
  ExprId stride = whole(context, node->attributes.stride);
  ExprId start = extent_number(context, node->attributes.start);
  ExprId at = binary(context, SCALAR_SUB, index[axis], start);
  int64_t terms = fold_terms(context->graph, node);
  if (!terms || terms > FOLD_MAX_TERMS) {
    uint32_t bound = 0;
    ExprId outer = bind_axis(context, NULL, 0, operand_type(context, id, 0)->axes[axis], 0, &bound);
    ExprId inner = binary(context, SCALAR_SUB, at, binary(context, SCALAR_MUL, outer, stride));
    ExprId term = fold_term(context, id, index, outer, inner);
    return bound ? kernel_reduce(context->kernel, SCALAR_SUM, term, bound) : term;
  }
  ExprId last = binary(context, SCALAR_DIV, at, stride), first = binary(context, SCALAR_MOD, at, stride),
         sum = 0;
  for (int64_t k = 0; k < terms; k++) {
    ExprId outer = binary(context, SCALAR_SUB, last, whole(context, k));
    ExprId inner = binary(context, SCALAR_ADD, first, whole(context, k * node->attributes.stride));
    ExprId term = fold_term(context, id, index, outer, inner);
    sum = sum ? binary(context, SCALAR_ADD, sum, term) : term;
  }
  return sum;
}

// ---- contraction and indexing by data -----------------------------------------------------------

static void dot_index(const Node *node, const int8_t *pairs, int rank, int first_free, const ExprId *index,
                      const ExprId *contract, ExprId *from) {
  const Attributes *attributes = &node->attributes;
  uint32_t paired = 0;
  for (int i = 0; i < attributes->batch + attributes->contract; i++) {
    from[pairs[i]] = i < attributes->batch ? index[i] : contract[i - attributes->batch];
    paired |= 1u << pairs[i];
  }
  for (int i = 0; i < rank; i++)
    if (!(paired >> i & 1)) from[i] = index[first_free++];
}

bool is_contraction(const Graph *graph, const Node *node) {
  if (node->op != OP_DOT) return false;
  const Type *x = &graph->nodes[node->in[0]].type;
  for (int i = 0; i < node->attributes.contract; i++) {
    Extent extent = x->axes[node->attributes.left[node->attributes.batch + i]].extent;
    if (!extent_is_constant(extent) || extent.offset != 1) return true;
  }
  return false;
}

static ExprId element_dot(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  const Attributes *attributes = &node->attributes;
  const Type *x = operand_type(context, id, 0), *y = operand_type(context, id, 1);
  int pairs = attributes->batch + attributes->contract;
  bool placed = context->places[id].known && (id == context->lead || id == context->second);
  ExprId contract[MAX_RANK] = {0}, left[MAX_RANK] = {0}, right[MAX_RANK] = {0};
  uint32_t bound = 0;
  for (int i = 0; i < attributes->contract; i++) {
    Place place = context->contract[id == context->second ? context->second_order[i] : i];
    contract[i] = bind_axis(context, placed && place_refresh(&context->space, &place) ? &place : NULL, 0,
                            x->axes[attributes->left[attributes->batch + i]], 0, &bound);
  }
  dot_index(node, attributes->left, x->rank, attributes->batch, index, contract, left);
  dot_index(node, attributes->right, y->rank, attributes->batch + x->rank - pairs, index, contract, right);
  ExprId a = element(context, node->in[0], left), b = element(context, node->in[1], right);
  return bound ? kernel_dot(context->kernel, a, b, bound) : binary(context, SCALAR_MUL, a, b);
}

static ExprId element_gather(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  const Type *x = operand_type(context, id, 0);
  int batch = node->attributes.batch, chosen = operand_type(context, id, 1)->rank;
  ExprId from[MAX_RANK] = {0};
  ExprId row = kernel_cast(context->kernel, element(context, node->in[1], index), DTYPE_I64);
  for (int i = 0; i < x->rank; i++)
    from[i] = i < batch ? index[i] : i == batch ? row : index[chosen + i - batch - 1];
  return guarded(context, node->in[0], from, inside(context, row, x->axes[batch].extent));
}

bool scatter_is_elementwise(const Graph *graph, const Node *node) {
  return node->op == OP_SCATTER && graph->nodes[node->in[0]].type.rank == node->attributes.batch;
}

static ExprId element_scatter(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  int batch = node->attributes.batch;
  if (!scatter_is_elementwise(context->graph, node))
    die("kernel %s: scatter %%%u is read where it is computed", context->kernel->name, id);
  ExprId from[MAX_RANK] = {0};
  ExprId row = kernel_cast(context->kernel, element(context, node->in[0], index), DTYPE_I64);
  for (int i = 0; i < operand_type(context, id, 1)->rank; i++) from[i] = i < batch ? index[i] : index[i + 1];
  ExprId condition = binary(context, SCALAR_EQUAL, row, index[batch]);
  ExprId value = element(context, node->in[1], from);
  return kernel_select(context->kernel, condition, value,
                       kernel_number(context->kernel, 0, value_dtype(context, id)));
}

// As a value; where it overwrites its state in place, lower.c stores the new part alone.
static ExprId element_update(ElementContext *context, NodeId id, const ExprId *index) {
  const Node *node = node_at(context, id);
  ExprId from[MAX_RANK];
  int axis = node->attributes.axis;
  shifted_index(context, node, index, SCALAR_SUB, from);
  ExprId condition = inside(context, from[axis], operand_type(context, id, 1)->axes[axis].extent);
  return choose(context, condition, node->in[1], from, node->in[0], index);
}

// ---- all of them --------------------------------------------------------------------------------

static Rule *const rules[OP_COUNT] = {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning) element_##lowering,
#include "compiler/graph/ops.def"
#undef OP
};

bool element_is_loaded(const Graph *graph, const Fusion *fusion, uint32_t group, NodeId node) {
  return graph->nodes[node].op == OP_INPUT || (fusion->group[node] && fusion->group[node] != group);
}

static ExprId load(ElementContext *context, NodeId id, const ExprId *index) {
  const Type *type = &node_at(context, id)->type;
  int *buffer = &context->buffer_of_node[id];
  if (*buffer < 0) {
    Extent extents[MAX_RANK];
    for (int i = 0; i < type->rank; i++) extents[i] = type->axes[i].extent;
    char name[16];
    snprintf(name, sizeof name, "x%d", context->kernel->buffer_count);
    *buffer = kernel_buffer(context->kernel, name, type->dtype, type->rank, extents, BUFFER_READ);
    context->node_of_buffer[*buffer] = id;
  }
  return kernel_load(context->kernel, *buffer, index, context->guard);
}

static uint64_t memo_hash(const Memo *memo) {
  uint64_t hash = memo->node * 0x9E3779B97F4A7C15u + memo->guard;
  for (int i = 0; i < MAX_RANK; i++) hash = (hash ^ hash >> 29 ^ memo->index[i]) * 0xBF58476D1CE4E5B9u;
  return hash ^ hash >> 32;
}

static Memo *memo_find(ElementContext *context, const Memo *wanted) {
  if (!context->memo_table_size) return NULL;
  size_t mask = context->memo_table_size - 1;
  for (size_t at = memo_hash(wanted) & mask; context->memo_table[at]; at = (at + 1) & mask) {
    Memo *memo = &context->memos[context->memo_table[at] - 1];
    if (memo->node == wanted->node && memo->guard == wanted->guard &&
        !memcmp(memo->index, wanted->index, sizeof memo->index))
      return memo;
  }
  return NULL;
}

static void memo_place(ElementContext *context, size_t number) {
  size_t mask = context->memo_table_size - 1, at = memo_hash(&context->memos[number]) & mask;
  while (context->memo_table[at]) at = (at + 1) & mask;
  context->memo_table[at] = (uint32_t)number + 1;
}

static void memo_add(ElementContext *context, Memo memo) {
  ARENA_PUSH(context->arena, context->memos, context->memo_count, context->memo_capacity, memo);
  if (context->memo_table_size >= 2 * context->memo_count) {
    memo_place(context, context->memo_count - 1);
    return;
  }
  context->memo_table_size = 4 * context->memo_capacity;
  context->memo_table = ARENA_ARRAY(context->arena, uint32_t, context->memo_table_size);
  for (size_t i = 0; i < context->memo_count; i++) memo_place(context, i);
}

ExprId element(ElementContext *context, NodeId id, const ExprId *index) {
  if (element_is_loaded(context->graph, context->fusion, context->group, id)) return load(context, id, index);
  Memo memo = {.node = id, .guard = context->guard};
  for (int i = 0; i < node_at(context, id)->type.rank; i++) memo.index[i] = index[i];
  Memo *known = memo_find(context, &memo);
  if (known) return known->value;
  memo.value = rules[node_at(context, id)->op](context, id, memo.index);
  memo_add(context, memo);
  return memo.value;
}
