// Functions that the language itself provides; everything above them is in the standard library.
#include "compiler/elaborate/value.h"

#include <math.h>
#include <string.h>

static bool expect_count(Elaborator *elaborator, const Ast *call, size_t count, size_t wanted) {
  if (count == wanted) return true;
  error_at(elaborator->diagnostics, call->span, "`%s` takes %zu argument%s, found %zu",
           source_text(elaborator, call->a), wanted, wanted == 1 ? "" : "s", count);
  return false;
}

// Numbers known at compile time are computed, tensors become a node.
static Value unary(Elaborator *elaborator, const Ast *call, const Value *arguments, size_t count, Op op,
                   double (*fold)(double)) {
  if (!expect_count(elaborator, call, count, 1)) return value_error();
  const Value *x = &arguments[0];
  if (x->kind == VALUE_NUMBER && !x->extent.symbol && fold) {
    Value result = value_number(fold(x->number));
    result.number = fold(x->number);
    return result;
  }
  return apply_unary(elaborator, call, op, *x);
}

static double fold_rsqrt(double x) { return 1 / sqrt(x); }

#define UNARY(name, op, fold)                                                                                \
  static Value builtin_##name(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments, \
                              size_t count) {                                                                \
    (void)scope;                                                                                             \
    return unary(elaborator, call, arguments, count, op, fold);                                              \
  }
UNARY(exp, OP_EXP, exp)
UNARY(log, OP_LOG, log)
UNARY(sqrt, OP_SQRT, sqrt)
UNARY(rsqrt, OP_RSQRT, fold_rsqrt)
UNARY(sin, OP_SIN, sin)
UNARY(cos, OP_COS, cos)
UNARY(tanh, OP_TANH, tanh)
UNARY(erf, OP_ERF, erf)
UNARY(abs, OP_ABS, fabs)
UNARY(floor, OP_FLOOR, floor)
UNARY(stop, OP_STOP, NULL)
#undef UNARY

static Value cast(Elaborator *elaborator, const Ast *call, const Value *arguments, size_t count,
                  DType dtype) {
  if (!expect_count(elaborator, call, count, 1)) return value_error();
  Value x = arguments[0];
  if (!to_tensor(elaborator, &x, dtype, call->span)) return value_error();
  return tensor_cast(elaborator, &x, dtype);
}

static Value builtin_f32(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                         size_t count) {
  (void)scope;
  return cast(elaborator, call, arguments, count, DTYPE_F32);
}

static Value builtin_i32(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                         size_t count) {
  (void)scope;
  return cast(elaborator, call, arguments, count, DTYPE_I32);
}

// select(condition, x, y)
static Value builtin_select(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                            size_t count) {
  if (!expect_count(elaborator, call, count, 3)) return value_error();
  return apply_select(elaborator, scope, call, arguments[0], arguments[1], arguments[2]);
}

static Value reduce_all(Elaborator *elaborator, const Ast *call, const Value *argument, Op op) {
  Value x = *argument;
  if (!to_tensor(elaborator, &x, DTYPE_F32, call->span)) return value_error();
  if (op == OP_SUM && tensor_dtype(elaborator, &x) == DTYPE_BOOL) x = tensor_cast(elaborator, &x, DTYPE_I32);
  return x.rank ? tensor_reduce(elaborator, &x, op, (1u << x.rank) - 1) : x;
}

static Value builtin_sum(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                         size_t count) {
  (void)scope;
  if (!expect_count(elaborator, call, count, 1)) return value_error();
  return reduce_all(elaborator, call, &arguments[0], OP_SUM);
}

// mean(x) over all axes
static Value builtin_mean(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                          size_t count) {
  if (!expect_count(elaborator, call, count, 1)) return value_error();
  Value x = arguments[0], sum = reduce_all(elaborator, call, &x, OP_SUM);
  if (sum.kind == VALUE_ERROR || x.kind != VALUE_TENSOR) return sum;
  for (int i = 0; i < x.rank; i++)
    sum = apply_binary(elaborator, scope, call, "/", sum, value_size(tensor_extent(elaborator, &x, i)));
  return sum;
}

// max(x) over all axes, max(x, y) elementwise
static Value builtin_max(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                         size_t count) {
  if (count == 1) return reduce_all(elaborator, call, &arguments[0], OP_REDMAX);
  if (!expect_count(elaborator, call, count, 2)) return value_error();
  if (arguments[0].kind == VALUE_NUMBER && arguments[1].kind == VALUE_NUMBER)
    return arguments[0].number > arguments[1].number ? arguments[0] : arguments[1];
  return apply_binary(elaborator, scope, call, "max", arguments[0], arguments[1]);
}

static Value builtin_min(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                         size_t count) {
  if (!expect_count(elaborator, call, count, 2)) return value_error();
  if (arguments[0].kind == VALUE_NUMBER && arguments[1].kind == VALUE_NUMBER)
    return arguments[0].number < arguments[1].number ? arguments[0] : arguments[1];
  return apply_binary(elaborator, scope, call, "min", arguments[0], arguments[1]);
}

// split(x, [3, heads, E]): the last axis as several; a list of names on the left takes the first of them
// apart.
static Value builtin_split(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                           size_t count) {
  (void)scope;
  if (!expect_count(elaborator, call, count, 2)) return value_error();
  Value x = arguments[0];
  const Value *parts = &arguments[1];
  if (!to_tensor(elaborator, &x, DTYPE_F32, call->span)) return value_error();
  if (parts->kind != VALUE_LIST || parts->count < 2 || !x.rank || x.rank - 1 + parts->count > MAX_RANK) {
    error_at(elaborator->diagnostics, call->span, "split takes a tensor and a list of two or more sizes");
    return value_error();
  }
  Axis axes[MAX_RANK];
  Extent product = extent_constant(1);
  const Ast *texts = call->list[1]->a;
  for (size_t i = 0; i < parts->count; i++) {

    const Ast *text = texts->kind == AST_LIST ? texts->list[i] : texts;
    if (!to_extent(elaborator, &parts->list[i], text->span, &axes[i].extent)) return value_error();
    axes[i].label = texts->kind == AST_LIST ? axis_label(elaborator, texts->list[i]) : "part";
    extent_multiply(product, axes[i].extent, &product);
  }
  Extent whole = tensor_extent(elaborator, &x, x.rank - 1);
  if (!extent_equal(whole, product)) {

    error_at(elaborator->diagnostics, call->span, "the parts make up %s elements, but the last axis has %s",
             axis_text(elaborator, NULL, product), axis_text(elaborator, x.labels[x.rank - 1], whole));
    return value_error();
  }
  Value result = x;
  result.node = graph_split(elaborator->graph, x.node, x.rank - 1, (int)parts->count, axes);
  result.rank = x.rank - 1 + (int)parts->count;
  result.parts = x.rank;
  for (size_t i = 0; i < parts->count; i++) {
    result.labels[x.rank - 1 + (int)i] = axes[i].label;
    result.aliases[x.rank - 1 + (int)i] = NULL;
  }
  return result;
}

// merge(x, h, e): adjacent axes as one.
static Value builtin_merge(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                           size_t count) {
  (void)scope, (void)arguments;
  Value x = count ? arguments[0] : value_error();
  if (count < 3) {
    error_at(elaborator->diagnostics, call->span,
             "merge takes a tensor and two or more of its adjacent axes");
    return value_error();
  }
  if (!to_tensor(elaborator, &x, DTYPE_F32, call->list[0]->span)) return value_error();
  int first = tensor_axis(&x, axis_label(elaborator, call->list[1]->a));
  const char *label = "";
  for (size_t i = 1; i < count; i++) {
    const Ast *name = call->list[i]->a;
    const char *text = axis_label(elaborator, name);
    int axis = tensor_axis(&x, text);
    if (axis < 0 || axis != first + (int)i - 1) {
      Text type = {0};
      type_print(&type, graph_type(elaborator->graph, x.node));
      error_at(elaborator->diagnostics, name->span,
               "`%s` is %s of %s: merge takes adjacent axes by their names", text,
               axis < 0 ? "no axis" : "not the next axis", text_string(&type));
      text_free(&type);
      return value_error();
    }
    label = *label ? arena_print(elaborator->arena, "%s*%s", label, text) : text;
  }
  int merged = (int)count - 1;
  Value result = x;
  result.node = graph_merge(elaborator->graph, x.node, first, merged, label);
  result.rank = x.rank - merged + 1;
  result.parts = 0;
  result.labels[first] = label, result.aliases[first] = NULL;
  for (int i = first + 1; i < result.rank; i++) {
    result.labels[i] = x.labels[i + merged - 1];
    result.aliases[i] = x.aliases[i + merged - 1];
  }
  return result;
}

// The last axis of x that y has not, or has with another extent; -1: none.
static int last_unshared(const Elaborator *elaborator, const Value *x, const Value *y) {
  int last = -1;
  for (int i = 0; i < x->rank; i++) {
    int there = tensor_axis(y, x->labels[i]);
    if (there < 0 || !extent_equal(tensor_extent(elaborator, x, i), tensor_extent(elaborator, y, there)))
      last = i;
  }
  return last;
}

// The axes to join, -1 where a tensor has none and is one step of it. False: reported.
static bool find_joined(Elaborator *elaborator, const Ast *call, const Value *x, const Value *y, int *axis_x,
                        int *axis_y) {
  if (call->a->kind == AST_INDEX && call->a->count == 1) {
    const char *name = axis_label(elaborator, call->a->list[0]);
    *axis_x = tensor_axis(x, name), *axis_y = tensor_axis(y, name);
    if (*axis_x >= 0 || *axis_y >= 0) return true;
    error_at(elaborator->diagnostics, call->span, "neither tensor has an axis `%s`", name);
    return false;
  }
  *axis_x = last_unshared(elaborator, x, y), *axis_y = last_unshared(elaborator, y, x);
  if (*axis_x >= 0 || *axis_y >= 0) return true;
  error_at(elaborator->diagnostics, call->span,
           "the tensors agree in all axes: name the one to join, as in concat[T](x, y)");
  return false;
}

// The tensor with the axes of `model`; what it lacks is repeated, along `axis` it is taken once.
static bool fit_side(Elaborator *elaborator, const Ast *call, Value *side, int own, const Value *model,
                     int axis) {

  Extent extents[MAX_RANK];
  for (int i = 0; i < model->rank; i++)
    extents[i] = i == axis ? extent_constant(1) : tensor_extent(elaborator, model, i);
  for (int i = 0; i < side->rank; i++) {
    int there = tensor_axis(model, side->labels[i]);
    if (there >= 0 &&
        (i == own || (there != axis && extent_equal(tensor_extent(elaborator, side, i), extents[there]))))
      continue;
    Text here = {0}, other = {0};
    value_describe(elaborator, side, &here);
    value_describe(elaborator, model, &other);
    error_at(elaborator->diagnostics, call->span, "axis %s of %s does not fit the other tensor, %s",
             side->labels[i], text_string(&here), text_string(&other));

    text_free(&here);
    text_free(&other);
    return false;
  }
  if (own >= 0) side->labels[own] = model->labels[axis];
  *side = tensor_arrange(elaborator, side, model->rank, model->labels, extents);
  return true;
}

// concat[n](x, y): y after x along axis n; what one lacks of the other's axes is repeated. Without a name:
// along the last axis that they do not share.
static Value builtin_concat(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                            size_t count) {
  (void)scope;
  if (!expect_count(elaborator, call, count, 2)) return value_error();
  Value x = arguments[0], y = arguments[1];
  int axis_x, axis_y;
  if (!to_tensor(elaborator, &x, DTYPE_F32, call->span) ||
      !to_tensor(elaborator, &y, DTYPE_F32, call->span) ||
      !find_joined(elaborator, call, &x, &y, &axis_x, &axis_y))
    return value_error();
  bool first = axis_y < 0 || (axis_x >= 0 && x.rank > y.rank); // whose axes the result has
  Value model = first ? x : y;
  int axis = first ? axis_x : axis_y;
  if (tensor_dtype(elaborator, &x) != tensor_dtype(elaborator, &y)) {
    error_at(elaborator->diagnostics, call->span, "the tensors are %s and %s",
             dtype_name(tensor_dtype(elaborator, &x)), dtype_name(tensor_dtype(elaborator, &y)));
    return value_error();
  }
  if (!fit_side(elaborator, call, &x, axis_x, &model, axis) ||
      !fit_side(elaborator, call, &y, axis_y, &model, axis))
    return value_error();
  model.node = graph_concat(elaborator->graph, x.node, y.node, axis);
  model.parts = 0;
  return model;
}

// random(x): uniform in [0, 1), another number at each element of x and in each run.
static Value builtin_random(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                            size_t count) {
  (void)scope;
  if (!expect_count(elaborator, call, count, 1)) return value_error();
  Value x = arguments[0];
  if (!to_tensor(elaborator, &x, DTYPE_F32, call->span)) return value_error();
  Input *counter = graph_find_input(elaborator->graph, "run");
  NodeId node = counter ? counter->node
                        : graph_input(elaborator->graph, "run", INPUT_SCALAR, (Type){.dtype = DTYPE_I32});
  Type type = *graph_type(elaborator->graph, x.node);
  type.dtype = DTYPE_F32;
  x.node = graph_random(elaborator->graph, node, type);
  return x;
}

const struct BuiltinRow builtin_rows[] = {
    {"exp", builtin_exp, MAX_ARGUMENTS},       {"log", builtin_log, MAX_ARGUMENTS},
    {"sqrt", builtin_sqrt, MAX_ARGUMENTS},     {"rsqrt", builtin_rsqrt, MAX_ARGUMENTS},
    {"sin", builtin_sin, MAX_ARGUMENTS},       {"cos", builtin_cos, MAX_ARGUMENTS},
    {"tanh", builtin_tanh, MAX_ARGUMENTS},     {"erf", builtin_erf, MAX_ARGUMENTS},
    {"abs", builtin_abs, MAX_ARGUMENTS},       {"floor", builtin_floor, MAX_ARGUMENTS},
    {"stop", builtin_stop, MAX_ARGUMENTS},     {"f32", builtin_f32, MAX_ARGUMENTS},
    {"i32", builtin_i32, MAX_ARGUMENTS},       {"select", builtin_select, MAX_ARGUMENTS},
    {"sum", builtin_sum, MAX_ARGUMENTS},       {"mean", builtin_mean, MAX_ARGUMENTS},
    {"max", builtin_max, MAX_ARGUMENTS},       {"min", builtin_min, MAX_ARGUMENTS},
    {"split", builtin_split, MAX_ARGUMENTS},   {"merge", builtin_merge, 1},
    {"concat", builtin_concat, MAX_ARGUMENTS}, {"random", builtin_random, MAX_ARGUMENTS},
};
const size_t builtin_row_count = sizeof builtin_rows / sizeof *builtin_rows;
