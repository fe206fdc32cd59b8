// The type of every operation's result, from the types of its inputs: operation, inputs, attributes -> type,
// or the reason why they do not fit. The only place in the compiler that knows these rules; one per type rule
// of ops.def.
#include <inttypes.h>
#include <string.h>

#include "compiler/graph/graph.h"

typedef struct Inference {
  const Graph *graph;
  Op op;
  const Type *x, *y, *z; // types of the inputs
  const Attributes *attributes;
  const Type *given; // or NULL
  Type *type;
  Text *reason;
} Inference;

#define REFUSE(...) return text_print(inference->reason, __VA_ARGS__), false

// ---- what the rules share -----------------------------------------------------------------------

static bool whole_dtype(DType dtype) { return dtype == DTYPE_I32 || dtype == DTYPE_I64; }

static bool axes_match(Inference *inference, const Type *x, int i, const Type *y, int j) {
  if (extent_equal(x->axes[i].extent, y->axes[j].extent)) return true;
  text_print(inference->reason, "axis %d (%s) is ", i, x->axes[i].label);
  extent_print(inference->reason, x->axes[i].extent);
  text_print(inference->reason, " here but axis %d (%s) is ", j, y->axes[j].label);
  extent_print(inference->reason, y->axes[j].extent);
  REFUSE(" there");
}

static bool operands_match(Inference *inference, const Type *x, const Type *y) {
  if (x->rank != y->rank) REFUSE("operands have %d and %d axes", x->rank, y->rank);
  for (int i = 0; i < x->rank; i++)
    if (!axes_match(inference, x, i, y, i)) return false;
  return true;
}

static bool dtypes_match(Inference *inference, const Type *x, const Type *y) {
  if (x->dtype == y->dtype) return true;
  REFUSE("operands are %s and %s", dtype_name(x->dtype), dtype_name(y->dtype));
}

static bool axis_exists(Inference *inference, const Type *x, int axis) {
  if (axis >= 0 && axis < x->rank) return true;
  REFUSE("there is no axis %d in %d axes", axis, x->rank);
}

static bool is_given(Inference *inference, int rank) {
  if (!inference->given) REFUSE("its type must be given");
  if (inference->given->rank != rank || rank > MAX_RANK)
    REFUSE("the result has %d axes, not %d", rank, inference->given->rank);
  return true;
}

// Appends an axis to the result.
static bool add_axis(Inference *inference, Axis axis) {
  Type *type = inference->type;
  if (type->rank == MAX_RANK) REFUSE("the result has more than %d axes", MAX_RANK);
  type->axes[type->rank++] = axis;
  return true;
}

static bool add_axes(Inference *inference, const Type *from, int begin, int end) {
  for (int i = begin; i < end; i++)
    if (!add_axis(inference, from->axes[i])) return false;
  return true;
}

// The axes of x, but `removed` of them from `axis` on give way to `count` of the given type's.
static bool replace_by_given(Inference *inference, int axis, int removed, int count) {
  const Type *x = inference->x;
  if (!axis_exists(inference, x, axis) || !axis_exists(inference, x, axis + removed - 1)) return false;
  if (!is_given(inference, x->rank - removed + count)) return false;
  inference->type->dtype = x->dtype;
  return add_axes(inference, x, 0, axis) && add_axes(inference, inference->given, axis, axis + count) &&
         add_axes(inference, x, axis + removed, x->rank);
}

// Where the number of elements is out of bounds, the bound: graph_check_sizes reports the operand.
static bool product(Inference *inference, const Axis *axes, int count, Extent *result) {
  *result = extent_constant(1);
  for (int i = 0; i < count; i++) {
    if (result->symbol && axes[i].extent.symbol) REFUSE("two of the axes have run-time sizes");
    if (!extent_multiply(*result, axes[i].extent, result)) *result = extent_constant(EXTENT_LARGEST);
  }
  return true;
}

static bool lies_inside(Inference *inference, Extent start, Extent extent, Extent whole) {
  if (!extent_bounded(start)) REFUSE("the start is too large");
  if (extent_inside(start, extent, whole)) return true;
  extent_print(inference->reason, extent);
  text_print(inference->reason, " elements from ");
  extent_print(inference->reason, start);
  text_print(inference->reason, " on do not lie in an axis of ");
  extent_print(inference->reason, whole);
  return false;
}

// ---- rules: sources -----------------------------------------------------------------------------

static bool type_input(Inference *inference) {
  if (!inference->given) REFUSE("its type must be given");
  *inference->type = *inference->given;
  return true;
}

static bool type_constant(Inference *inference) {
  if (!is_given(inference, 0)) return false;
  inference->type->dtype = inference->given->dtype;
  return true;
}

static bool type_size(Inference *inference) {
  if (!is_given(inference, 0)) return false;
  if (inference->given->dtype == DTYPE_BOOL) REFUSE("a size is a number, not a bool");
  if (!extent_bounded(inference->attributes->extent)) REFUSE("the extent is too large");
  inference->type->dtype = inference->given->dtype;
  return true;
}

static bool type_iota(Inference *inference) {
  if (!is_given(inference, 1)) return false;
  if (inference->given->dtype == DTYPE_BOOL) REFUSE("an index is a number, not a bool");
  if (!extent_bounded(inference->attributes->start)) REFUSE("the start is too large");
  *inference->type = *inference->given;
  return true;
}

static bool type_random(Inference *inference) {
  if (inference->x->rank || !whole_dtype(inference->x->dtype))
    REFUSE("the counter is a whole number of rank 0");
  if (!inference->given) REFUSE("its type must be given");
  if (!dtype_is_float(inference->given->dtype))
    REFUSE("random numbers are floats, not %s", dtype_name(inference->given->dtype));
  *inference->type = *inference->given;
  return true;
}

// ---- rules: elementwise -------------------------------------------------------------------------

// What an operation computes in: bools, floats, any numbers, or anything.
static bool dtype_suits(Inference *inference) {
  DType dtype = inference->x->dtype;
  const char *name = dtype_name(dtype);
  switch (inference->op) {
  case OP_NOT:
  case OP_AND:
  case OP_OR:
    if (dtype != DTYPE_BOOL) REFUSE("it takes bools, not %s", name);
    return true;
  case OP_NEG:
  case OP_ABS:
  case OP_ADD:
  case OP_SUB:
  case OP_MUL:
  case OP_DIV:
  case OP_MOD:
    if (dtype == DTYPE_BOOL) REFUSE("it takes numbers, not bool");
    return true;
  case OP_STOP:
  case OP_MIN:
  case OP_MAX: return true;
  default:
    if (!dtype_is_float(dtype)) REFUSE("it takes floats, not %s", name);
    return true;
  }
}

static bool type_same(Inference *inference) {
  const Type *x = inference->x, *y = inference->y;
  if (y && (!dtypes_match(inference, x, y) || !operands_match(inference, x, y))) return false;
  *inference->type = *x;
  return dtype_suits(inference);
}

static bool type_cast(Inference *inference) {
  if (!inference->given) REFUSE("the dtype must be given");
  *inference->type = *inference->x;
  inference->type->dtype = inference->given->dtype;
  return true;
}

static bool type_compare(Inference *inference) {
  const Type *x = inference->x, *y = inference->y;
  if (!dtypes_match(inference, x, y) || !operands_match(inference, x, y)) return false;
  *inference->type = *x;
  inference->type->dtype = DTYPE_BOOL;
  return true;
}

static bool type_select(Inference *inference) {
  if (inference->x->dtype != DTYPE_BOOL)
    REFUSE("the condition is %s, not bool", dtype_name(inference->x->dtype));
  *inference->type = *inference->y;
  return dtypes_match(inference, inference->y, inference->z) &&
         operands_match(inference, inference->x, inference->y) &&
         operands_match(inference, inference->y, inference->z);
}

// ---- rules: views -------------------------------------------------------------------------------

static bool type_arrange(Inference *inference) {
  const Type *x = inference->x;
  uint32_t used = 0;
  if (!inference->given) REFUSE("its axes must be given");
  if (inference->given->rank > MAX_RANK) REFUSE("the result has more than %d axes", MAX_RANK);
  inference->type->dtype = x->dtype;
  for (int i = 0; i < inference->given->rank; i++) {
    int from = inference->attributes->from[i];
    Axis axis = inference->given->axes[i];
    if (from >= 0) {
      if (!axis_exists(inference, x, from)) return false;
      if (used >> from & 1) REFUSE("axis %d (%s) appears twice", from, x->axes[from].label);
      used |= 1u << from;
      axis.extent = x->axes[from].extent;
    }
    if (!add_axis(inference, axis)) return false;
  }
  for (int i = 0; i < x->rank; i++)
    if (!(used >> i & 1)) REFUSE("axis %d (%s) is missing", i, x->axes[i].label);
  return true;
}

static bool type_split(Inference *inference) {
  int axis = inference->attributes->axis, count = inference->attributes->count;
  Extent whole;
  if (count < 2 || count > MAX_RANK) REFUSE("an axis is split into %d", count);
  if (!replace_by_given(inference, axis, 1, count)) return false;
  if (!product(inference, inference->type->axes + axis, count, &whole)) return false;
  if (extent_equal(whole, inference->x->axes[axis].extent)) return true;
  text_print(inference->reason, "the parts hold ");
  extent_print(inference->reason, whole);
  text_print(inference->reason, " but axis %d (%s) has ", axis, inference->x->axes[axis].label);
  extent_print(inference->reason, inference->x->axes[axis].extent);
  return false;
}

static bool type_merge(Inference *inference) {
  const Type *x = inference->x;
  int axis = inference->attributes->axis, count = inference->attributes->count;
  if (count < 2 || count > MAX_RANK) REFUSE("%d axes are merged", count);
  if (!axis_exists(inference, x, axis) || !axis_exists(inference, x, axis + count - 1)) return false;
  Axis merged = {.label = x->axes[axis].label};
  if (!product(inference, x->axes + axis, count, &merged.extent)) return false;
  inference->type->dtype = x->dtype;
  return add_axes(inference, x, 0, axis) && add_axis(inference, merged) &&
         add_axes(inference, x, axis + count, x->rank);
}

static bool stride_suits(Inference *inference) {
  const Attributes *attributes = inference->attributes;
  if (!extent_is_constant(attributes->start)) REFUSE("the start of a window is a constant");
  if (attributes->stride < 1 || attributes->stride > EXTENT_LARGEST)
    REFUSE("the stride is %" PRId64, attributes->stride);
  if (!extent_bounded(attributes->start)) REFUSE("the start is too large");
  return true;
}

static bool type_window(Inference *inference) {
  return stride_suits(inference) && replace_by_given(inference, inference->attributes->axis, 1, 2);
}

static bool type_slice(Inference *inference) {
  int axis = inference->attributes->axis;
  return replace_by_given(inference, axis, 1, 1) &&
         lies_inside(inference, inference->attributes->start, inference->type->axes[axis].extent,
                     inference->x->axes[axis].extent);
}

static bool type_pad(Inference *inference) {
  int axis = inference->attributes->axis;
  return replace_by_given(inference, axis, 1, 1) &&
         lies_inside(inference, inference->attributes->start, inference->x->axes[axis].extent,
                     inference->type->axes[axis].extent);
}

static bool type_concat(Inference *inference) {
  const Type *x = inference->x, *y = inference->y;
  int axis = inference->attributes->axis;
  if (!dtypes_match(inference, x, y) || !axis_exists(inference, x, axis)) return false;
  if (x->rank != y->rank) REFUSE("operands have %d and %d axes", x->rank, y->rank);
  for (int i = 0; i < x->rank; i++)
    if (i != axis && !axes_match(inference, x, i, y, i)) return false;
  *inference->type = *x;
  Extent here = x->axes[axis].extent, there = y->axes[axis].extent,
         *whole = &inference->type->axes[axis].extent;
  if (extent_add(here, there, whole)) return true;
  if (here.symbol && there.symbol && here.symbol != there.symbol)
    REFUSE("the two extents along axis %d (%s) run with different run-time sizes", axis, x->axes[axis].label);
  *whole = extent_constant(EXTENT_LARGEST);
  return true;
}

// ---- rules: reductions, contraction, indexing ---------------------------------------------------

static bool type_reduce(Inference *inference) {
  const Type *x = inference->x;
  uint32_t axes = inference->attributes->axes;
  if (!axes || axes >> x->rank) REFUSE("it reduces axes 0x%x of %d axes", axes, x->rank);
  if (inference->op == OP_SUM && !whole_dtype(x->dtype) && !dtype_is_float(x->dtype))
    REFUSE("a sum of %s is not defined", dtype_name(x->dtype));
  if (inference->op == OP_REDMAX && !dtype_is_float(x->dtype))
    REFUSE("a largest %s is not defined", dtype_name(x->dtype)); // -inf when empty
  inference->type->dtype = x->dtype;
  for (int i = 0; i < x->rank; i++)
    if (!(axes >> i & 1) && !add_axis(inference, x->axes[i])) return false;
  return true;
}

static bool type_fold(Inference *inference) {
  if (!stride_suits(inference) || !replace_by_given(inference, inference->attributes->axis, 2, 1))
    return false;
  if (!dtype_is_float(inference->x->dtype))
    REFUSE("it takes floats, not %s", dtype_name(inference->x->dtype));
  return true;
}

static bool type_dot(Inference *inference) {
  const Type *x = inference->x, *y = inference->y;
  const Attributes *attributes = inference->attributes;
  uint32_t used_x = 0, used_y = 0;
  if (!dtypes_match(inference, x, y)) return false;
  if (!dtype_is_float(x->dtype)) REFUSE("it takes floats, not %s", dtype_name(x->dtype));
  if (attributes->batch < 0 || attributes->contract < 0 ||
      attributes->batch + attributes->contract > MAX_RANK)
    REFUSE("it pairs %d and %d axes", attributes->batch, attributes->contract);
  for (int i = 0; i < attributes->batch + attributes->contract; i++) {
    int left = attributes->left[i], right = attributes->right[i];
    if (!axis_exists(inference, x, left) || !axis_exists(inference, y, right) ||
        !axes_match(inference, x, left, y, right))
      return false;
    if (used_x >> left & 1 || used_y >> right & 1) REFUSE("an axis is paired twice");
    used_x |= 1u << left, used_y |= 1u << right;
  }
  inference->type->dtype = x->dtype;
  for (int i = 0; i < attributes->batch; i++)
    if (!add_axis(inference, x->axes[attributes->left[i]])) return false;
  for (int i = 0; i < x->rank; i++)
    if (!(used_x >> i & 1) && !add_axis(inference, x->axes[i])) return false;
  for (int i = 0; i < y->rank; i++)
    if (!(used_y >> i & 1) && !add_axis(inference, y->axes[i])) return false;
  return true;
}

static bool type_gather(Inference *inference) {
  const Type *x = inference->x, *index = inference->y;
  int batch = inference->attributes->batch;
  if (!whole_dtype(index->dtype)) REFUSE("the index is %s, not a whole number", dtype_name(index->dtype));
  if (batch < 0 || batch >= x->rank || batch > index->rank)
    REFUSE("%d batch axes in %d and %d axes", batch, x->rank, index->rank);
  for (int i = 0; i < batch; i++)
    if (!axes_match(inference, x, i, index, i)) return false;
  inference->type->dtype = x->dtype;
  return add_axes(inference, index, 0, index->rank) && add_axes(inference, x, batch + 1, x->rank);
}

static bool type_scatter(Inference *inference) {
  const Type *index = inference->x, *value = inference->y;
  int batch = inference->attributes->batch;
  if (!whole_dtype(index->dtype)) REFUSE("the index is %s, not a whole number", dtype_name(index->dtype));
  if (!dtype_is_float(value->dtype)) REFUSE("it adds floats, not %s", dtype_name(value->dtype));
  if (batch < 0 || batch > index->rank || index->rank > value->rank)
    REFUSE("%d batch axes in %d and %d axes", batch, index->rank, value->rank);
  for (int i = 0; i < index->rank; i++)
    if (!axes_match(inference, index, i, value, i)) return false;
  inference->type->dtype = value->dtype;
  return add_axes(inference, index, 0, batch) &&
         add_axis(inference, (Axis){"rows", inference->attributes->extent}) &&
         add_axes(inference, value, index->rank, value->rank);
}

static bool type_update(Inference *inference) {
  const Type *x = inference->x, *value = inference->y;
  int axis = inference->attributes->axis;
  if (!dtypes_match(inference, x, value) || !axis_exists(inference, x, axis)) return false;
  if (x->rank != value->rank) REFUSE("state and value have %d and %d axes", x->rank, value->rank);
  for (int i = 0; i < x->rank; i++)
    if (i != axis && !axes_match(inference, x, i, value, i)) return false;
  *inference->type = *x;
  return lies_inside(inference, inference->attributes->start, value->axes[axis].extent, x->axes[axis].extent);
}

// ---- all of them --------------------------------------------------------------------------------

typedef bool Rule(Inference *inference);
static Rule *const rules[OP_COUNT] = {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning) type_##type,
#include "compiler/graph/ops.def"
#undef OP
};

// Extents not negative where known, and labels present. How much all of it holds: graph_check_sizes.
static bool axes_sound(Inference *inference) {
  Type *type = inference->type;
  if (type->rank < 0 || type->rank > MAX_RANK) REFUSE("it has %d axes", type->rank);
  for (int i = 0; i < type->rank; i++) {
    Axis *axis = &type->axes[i];
    if (!axis->label) REFUSE("axis %d has no label", i);
    if (axis->extent.symbol < 0 || axis->extent.symbol >= SYMBOL_COUNT)
      REFUSE("axis %d has no such symbol", i);
    if (!extent_bounded(axis->extent)) REFUSE("axis %d (%s) is too long", i, axis->label);
    if (extent_is_constant(axis->extent) && axis->extent.offset < 0)
      REFUSE("axis %d (%s) is %" PRId64 " long", i, axis->label, axis->extent.offset);
  }
  return true;
}

bool infer_type(const Graph *graph, Op op, const NodeId *inputs, const Attributes *attributes,
                const Type *given, Type *type, Text *reason) {
  const Type *types[MAX_INPUTS] = {0};
  for (int i = 0; i < op_table[op].inputs; i++) types[i] = graph_type(graph, inputs[i]);
  *type = (Type){0};
  Inference inference = {graph, op, types[0], types[1], types[2], attributes, given, type, reason};
  if (!rules[op](&inference)) return false;
  for (int i = 0; given && given->rank == type->rank && i < type->rank; i++)
    if (given->axes[i].label) type->axes[i].label = given->axes[i].label;
  return axes_sound(&inference);
}
