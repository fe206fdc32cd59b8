// Expressions: what is known at compile time is computed, the rest becomes nodes of the graph.
#include "compiler/elaborate/value.h"

#include <math.h>
#include <string.h>

const char *source_text(Elaborator *elaborator, const Ast *ast) {
  Text text = {0};
  ast_print(ast, &text);
  size_t length = strcspn(text_string(&text), "\n");
  const char *copy = arena_copy(elaborator->arena, text_string(&text), length);
  text_free(&text);
  return copy;
}

const char *axis_label(Elaborator *elaborator, const Ast *axis) {
  return axis->kind == AST_NAME ? axis->text : source_text(elaborator, axis);
}

const char *axis_text(Elaborator *elaborator, const char *label, Extent extent) {
  Text text = {0};
  extent_print(&text, extent);
  bool named =
      label && (label[0] < '0' || label[0] > '9') && label[0] != '#' && strcmp(label, text_string(&text));
  const char *copy =
      arena_print(elaborator->arena, "%s%s%s", named ? label : "", named ? "=" : "", text_string(&text));
  text_free(&text);
  return copy;
}

const char *number_text(Elaborator *elaborator, double number) {
  Text text = {0};
  text_number(&text, number);
  const char *copy = arena_copy(elaborator->arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

const char *place_text(Elaborator *elaborator, Span place, Span from) {
  const Sources *sources = elaborator->diagnostics->sources;
  int line = span_line(sources, place);
  if (place.source == from.source) return arena_print(elaborator->arena, "line %d", line);
  return arena_print(elaborator->arena, "%s:%d", sources->list[place.source].path, line);
}

bool to_extent(Elaborator *elaborator, const Value *value, Span span, Extent *extent) {
  if (value->kind == VALUE_ERROR) return false;
  if (value->kind == VALUE_NUMBER) {
    if (value->extent.symbol || value->number == floor(value->number)) {
      *extent = value->extent.symbol ? value->extent : extent_constant((int64_t)value->number);
      if (extent->symbol || (extent->offset >= 0 && extent->offset < INT64_C(1) << 40)) return true;
    }
    bool large = value->number >= 0 && value->number == floor(value->number);
    error_at(elaborator->diagnostics, span, "expected a whole number %s, found %s",
             large ? "below 1099511627776 (2^40)" : "of at least 0", number_text(elaborator, value->number));
    return false;
  }
  error_at(elaborator->diagnostics, span, "expected a whole number, found %s", value_kind_name(value));
  return false;
}

bool to_truth(Elaborator *elaborator, const Value *value, Span span, bool *truth) {
  if (value->kind == VALUE_ERROR) return false;
  if (value->kind == VALUE_BOOL) return *truth = value->number != 0, true;
  error_at(elaborator->diagnostics, span, "expected true or false, known at compile time, found %s%s",
           value_kind_name(value),
           value->kind == VALUE_TENSOR ? "; per element chooses select(condition, x, y)" : "");
  return false;
}

// What an equation without extents reads may itself be one: the first in the chain is the one to mend.
static const Value *first_lazy(const Value *lazy, const Ast *ast, int depth) {
  const Value *found = NULL;
  if (!ast || depth > 16) return NULL;
  if (ast->kind == AST_INDEX && ast->a->kind == AST_NAME) {
    Value *base = scope_find(lazy->scope, ast->a->text);
    if (base && base->kind == VALUE_LAZY && base->ast != lazy->ast) {
      found = first_lazy(base, base->ast->a, depth + 1);
      return found ? found : base;
    }
  }
  const Ast *inside[] = {ast->a, ast->b, ast->c};
  for (int i = 0; i < 3 && !found; i++) found = first_lazy(lazy, inside[i], depth);
  for (size_t i = 0; i < ast->count && !found; i++) found = first_lazy(lazy, ast->list[i], depth);
  return found;
}

static void report_not_tensor(Elaborator *elaborator, const Value *value, Span span) {
  Diagnostics *diagnostics = elaborator->diagnostics;
  if (value->kind == VALUE_LAZY) {
    const Value *first = first_lazy(value, value->ast->a, 0);
    if (first) value = first;
    error_at(diagnostics, span,
             "nothing says how far index `%s` of `%s` runs; add `for %s < ...` to its equation", value->text,
             value->ast->list[0]->a->text, value->text);
    note_at(diagnostics, value->ast->span, "the equation");
  } else if (value->kind == VALUE_INSTANCE) {
    error_at(diagnostics, span,
             "expected a tensor or a number, found a layer: `%s(..)` configures it, `%s(..)(x)` applies it",
             value->instance->ast->text, value->instance->ast->text);
  } else {
    error_at(diagnostics, span, "expected a tensor or a number, found %s", value_kind_name(value));
  }
}

static Value index_tensor(Elaborator *elaborator, const Value *index, DType dtype, Span span) {
  if (!index->known) {
    error_at(elaborator->diagnostics, span,
             "nothing says how far index `%s` runs; add `for %s < ...` to the equation", index->text,
             index->text);
    return value_error();
  }
  Axis axis = {index->text, index->extent};
  NodeId node = graph_iota(elaborator->graph, axis, extent_constant(0), DTYPE_I32);
  return value_tensor(elaborator, graph_cast(elaborator->graph, node, dtype), &index->text);
}

bool to_tensor(Elaborator *elaborator, Value *value, DType dtype, Span span) {
  Graph *graph = elaborator->graph;
  switch (value->kind) {
  case VALUE_TENSOR: return true;
  case VALUE_ERROR: return false;
  case VALUE_BOOL:
    *value = value_tensor(elaborator, graph_constant(graph, value->number, DTYPE_BOOL), NULL);
    return true;
  case VALUE_NUMBER:
    if (dtype == DTYPE_BOOL || (!dtype_is_float(dtype) && value->number != floor(value->number)))
      dtype = DTYPE_F32;
    *value = value_tensor(elaborator,
                          value->extent.symbol ? graph_size(graph, value->extent, dtype)
                                               : graph_constant(graph, value->number, dtype),
                          NULL);
    return true;
  case VALUE_INDEX:
    *value = index_tensor(elaborator, value, DTYPE_I32, span);
    return value->kind == VALUE_TENSOR;
  case VALUE_PARAM:
    *value = parameter_value(elaborator, value->scope, value->ast, value->text);
    return value->kind == VALUE_TENSOR;
  default: report_not_tensor(elaborator, value, span);
  }
  return false;
}

static bool is_static(const Value *value) { return value->kind == VALUE_NUMBER || value->kind == VALUE_BOOL; }

static bool whole_extent(const Value *value, Extent *extent) {
  *extent = value->extent;
  if (value->extent.symbol) return true;
  if (value->number != floor(value->number) || fabs(value->number) > INT32_MAX) return false;
  *extent = extent_constant((int64_t)value->number);
  return true;
}

// Arithmetic with a run-time size, as far as the result is one.
static bool size_arithmetic(const char *op, const Value *x, const Value *y, Extent *extent) {
  Extent a, b;
  if (!whole_extent(x, &a) || !whole_extent(y, &b)) return false;
  if (*op == '-') b.scale = -b.scale, b.offset = -b.offset;
  if (*op == '+' || *op == '-') return extent_add(a, b, extent);
  return *op == '*' && extent_multiply(a, b, extent);
}

static Value static_arithmetic(Elaborator *elaborator, const Ast *at, const char *op, const Value *x,
                               const Value *y) {
  Extent extent;
  if (x->extent.symbol || y->extent.symbol) {

    if (size_arithmetic(op, x, y, &extent)) return value_size(extent);
    return (Value){.kind = VALUE_LIST}; // the caller goes on with tensors
  }
  double a = x->number, b = y->number;
  switch (*op) {
  case '+': return value_number(a + b);
  case '-': return value_number(a - b);
  case '*': return value_number(a * b);
  case '^': return value_number(pow(a, b));
  case '/':
  case '%':
    if (b == 0) {
      error_at(elaborator->diagnostics, at->span, "division by zero");
      return value_error();
    }
    return value_number(*op == '/' ? a / b : a - b * floor(a / b));
  case '=': return value_bool(a == b);
  case '!': return value_bool(a != b);
  case '<': return value_bool(op[1] ? a <= b : a < b);
  case '>': return value_bool(op[1] ? a >= b : a > b);
  case 'a': return value_bool(a && b);
  case 'o': return value_bool(a || b);
  }
  die("operator %s", op);
}

// `and`, `or` of a constant with a tensor: decided, or the tensor itself.
static bool static_logic(const char *op, const Value *known, const Value *other, Value *result) {
  bool decides = (*op == 'o') == (known->number != 0);
  *result = decides ? value_bool(known->number != 0) : *other;
  return true;
}

static Value token_compare(Elaborator *elaborator, const Ast *at, Value tensor, const char *token) {
  const char *name = arena_print(elaborator->arena, "token:%s", token);
  Input *input = graph_find_input(elaborator->graph, name);
  NodeId node =
      input ? input->node : graph_input(elaborator->graph, name, INPUT_SCALAR, (Type){.dtype = DTYPE_I32});
  if (tensor_dtype(elaborator, &tensor) != DTYPE_I32) {
    error_at(elaborator->diagnostics, at->span, "a token's text is compared with ids (i32), not with %s",
             dtype_name(tensor_dtype(elaborator, &tensor)));
    return value_error();
  }
  Value result = tensor;
  result.node = graph_binary(elaborator->graph, OP_EQUAL, tensor.node, node);
  return result;
}

static DType common_dtype(DType x, DType y, const char *op) {
  if (*op == '/' || *op == '^') return x == DTYPE_F64 || y == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
  if (x == DTYPE_BOOL && y == DTYPE_BOOL) return strchr("+-*%", *op) ? DTYPE_I32 : DTYPE_BOOL;
  return x > y ? x : y; // dtype.def is ordered by width, floats last
}

static Value tensor_binary(Elaborator *elaborator, Scope *scope, const Ast *at, const char *op, Value x,
                           Value y) {
  static const struct {
    const char *op;
    Op code;
    bool swap, negate;
  } rows[] = {
      {"+", OP_ADD, false, false},     {"-", OP_SUB, false, false},   {"*", OP_MUL, false, false},
      {"/", OP_DIV, false, false},     {"%", OP_MOD, false, false},   {"^", OP_POW, false, false},
      {"==", OP_EQUAL, false, false},  {"!=", OP_EQUAL, false, true}, {"<", OP_LESS, false, false},
      {"<=", OP_LESSEQ, false, false}, {">", OP_LESS, true, false},   {">=", OP_LESSEQ, true, false},
      {"and", OP_AND, false, false},   {"or", OP_OR, false, false},   {"min", OP_MIN, false, false},
      {"max", OP_MAX, false, false},
  };
  DType wanted = x.kind == VALUE_TENSOR   ? tensor_dtype(elaborator, &x)
                 : y.kind == VALUE_TENSOR ? tensor_dtype(elaborator, &y)
                                          : DTYPE_I32;
  if (!to_tensor(elaborator, &x, wanted, at->span) || !to_tensor(elaborator, &y, wanted, at->span))
    return value_error();
  DType dtype = common_dtype(tensor_dtype(elaborator, &x), tensor_dtype(elaborator, &y), op);
  if ((*op == 'a' || *op == 'o') && dtype != DTYPE_BOOL) {
    error_at(elaborator->diagnostics, at->span, "`%s` takes bools, such as comparisons give, found %s", op,
             dtype_name(dtype));
    return value_error();
  }
  x = tensor_cast(elaborator, &x, dtype);
  y = tensor_cast(elaborator, &y, dtype);
  if (!tensor_join(elaborator, scope, at->span, &x, &y)) return value_error();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (strcmp(rows[i].op, op)) continue;
    Value result = x.rank ? x : y;
    result.parts = 0;
    NodeId first = rows[i].swap ? y.node : x.node, second = rows[i].swap ? x.node : y.node;
    result.node = graph_binary(elaborator->graph, rows[i].code, first, second);
    if (rows[i].negate) result.node = graph_unary(elaborator->graph, OP_NOT, result.node);
    return result;
  }
  die("operator %s", op);
}

Value apply_binary(Elaborator *elaborator, Scope *scope, const Ast *at, const char *op, Value x, Value y) {
  if (x.kind == VALUE_ERROR || y.kind == VALUE_ERROR) return value_error();
  if (is_static(&x) && is_static(&y) && op[0] != 'm') {
    Value result = static_arithmetic(elaborator, at, op, &x, &y);
    if (result.kind != VALUE_LIST) return result;
  }
  Value result;
  if (!strcmp(op, "and") || !strcmp(op, "or")) {
    if (x.kind == VALUE_BOOL && static_logic(op, &x, &y, &result)) return result;
    if (y.kind == VALUE_BOOL && static_logic(op, &y, &x, &result)) return result;
  }
  if (x.kind == VALUE_STRING && y.kind == VALUE_STRING && op[0] == '=')
    return value_bool(!strcmp(x.text, y.text));
  if (x.kind == VALUE_TENSOR && y.kind == VALUE_NUMBER && !y.extent.symbol && !strcmp(op, "^") &&
      (y.number == 2 || y.number == 3)) {
    Value square = apply_binary(elaborator, scope, at, "*", x, x);
    return y.number == 2 ? square : apply_binary(elaborator, scope, at, "*", square, x);
  }
  if (!elaborator->graph) {
    error_at(elaborator->diagnostics, at->span, "`%s` needs numbers known at compile time, found %s and %s",
             op, value_kind_name(&x), value_kind_name(&y));
    return value_error();
  }
  if (x.kind == VALUE_TENSOR && y.kind == VALUE_STRING && !strcmp(op, "=="))
    return token_compare(elaborator, at, x, y.text);
  return tensor_binary(elaborator, scope, at, op, x, y);
}

Value apply_unary(Elaborator *elaborator, const Ast *at, Op op, Value x) {
  if (!to_tensor(elaborator, &x, DTYPE_F32, at->span)) return value_error();
  DType dtype = tensor_dtype(elaborator, &x);
  bool keeps = op == OP_NEG || op == OP_ABS || op == OP_STOP;
  if (op == OP_NOT && dtype != DTYPE_BOOL) {
    error_at(elaborator->diagnostics, at->span, "`not` takes bools, such as comparisons give, found %s",
             dtype_name(dtype));
    return value_error();
  }
  if (dtype == DTYPE_BOOL && (op == OP_NEG || op == OP_ABS)) x = tensor_cast(elaborator, &x, DTYPE_I32);
  if (op != OP_NOT && !keeps && !dtype_is_float(dtype)) x = tensor_cast(elaborator, &x, DTYPE_F32);
  Value result = x;
  result.parts = 0;
  result.node = graph_unary(elaborator->graph, op, x.node);
  return result;
}

Value apply_select(Elaborator *elaborator, Scope *scope, const Ast *at, Value condition, Value x, Value y) {
  if (condition.kind == VALUE_ERROR || x.kind == VALUE_ERROR || y.kind == VALUE_ERROR) return value_error();
  if (condition.kind == VALUE_BOOL) return condition.number ? x : y;
  DType wanted = x.kind == VALUE_TENSOR   ? tensor_dtype(elaborator, &x)
                 : y.kind == VALUE_TENSOR ? tensor_dtype(elaborator, &y)
                                          : DTYPE_F32;
  if (!to_tensor(elaborator, &condition, DTYPE_BOOL, at->span) ||
      !to_tensor(elaborator, &x, wanted, at->span) || !to_tensor(elaborator, &y, wanted, at->span))
    return value_error();
  if (tensor_dtype(elaborator, &condition) != DTYPE_BOOL) {
    error_at(elaborator->diagnostics, at->span, "the condition must be a bool, found %s",
             dtype_name(tensor_dtype(elaborator, &condition)));
    return value_error();
  }
  DType dtype = common_dtype(tensor_dtype(elaborator, &x), tensor_dtype(elaborator, &y), "select");
  x = tensor_cast(elaborator, &x, dtype);
  y = tensor_cast(elaborator, &y, dtype);
  // Join all three: the widest leads, the other two follow its order.
  if (!tensor_join(elaborator, scope, at->span, &x, &y) ||
      !tensor_join(elaborator, scope, at->span, x.rank ? &x : &y, &condition))
    return value_error();
  Value *lead = x.rank ? &x : y.rank ? &y : &condition;
  Extent extents[MAX_RANK];
  for (int i = 0; i < lead->rank; i++) extents[i] = tensor_extent(elaborator, lead, i);
  Value result = *lead;
  Value all[3] = {condition, x, y};
  for (int i = 0; i < 3; i++) all[i] = tensor_arrange(elaborator, &all[i], lead->rank, lead->labels, extents);
  result.parts = 0;
  result.node = graph_select(elaborator->graph, all[0].node, all[1].node, all[2].node);
  return result;
}

static Value in_graph(Elaborator *elaborator, Value value) {
  if (value.kind != VALUE_PARAM || !elaborator->graph) return value;
  return parameter_value(elaborator, value.scope, value.ast, value.text);
}

static Value evaluate_name(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value *found = scope_find(scope, ast->text);
  if (found) return in_graph(elaborator, *found);

  const char *closest = strlen(ast->text) > 1 ? scope_closest(scope, ast->text, true) : NULL;
  if (closest)
    error_at(elaborator->diagnostics, ast->span, "nothing is called `%s` here; is `%s` meant?", ast->text,
             closest);
  else if (scope_in_equation(scope))
    error_at(elaborator->diagnostics, ast->span,
             "nothing is called `%s` here: it is no index on the left of this equation, "
             "nor one of a sum, max or mean around",
             ast->text);
  else
    error_at(elaborator->diagnostics, ast->span, "nothing is called `%s` here", ast->text);
  return value_error();
}

static Value evaluate_member(Elaborator *elaborator, Scope *scope, const Ast *ast) {

  if (ast->a->kind == AST_NAME && !scope_find(scope, ast->a->text)) {
    error_at(elaborator->diagnostics, ast->a->span, "nothing is called `%s` here; a module needs `import %s`",
             ast->a->text, ast->a->text);
    return value_error();
  }
  Value object = evaluate(elaborator, scope, ast->a);
  if (object.kind == VALUE_ERROR) return object;
  Scope *inside = object.kind == VALUE_MODULE     ? object.scope
                  : object.kind == VALUE_INSTANCE ? object.instance->scope
                                                  : NULL;
  if (!inside) {
    error_at(elaborator->diagnostics, ast->span, "%s has no member `%s`", value_kind_name(&object),
             ast->text);
    return value_error();
  }
  for (size_t i = 0; i < inside->count; i++)
    if (!strcmp(inside->bindings[i].name, ast->text)) return in_graph(elaborator, inside->bindings[i].value);

  const char *closest = scope_closest(inside, ast->text, false);
  error_at(elaborator->diagnostics, ast->span, "`%s` has no member `%s`%s%s%s",
           source_text(elaborator, ast->a), ast->text, closest ? "; is `" : "", closest ? closest : "",
           closest ? "` meant?" : "");
  return value_error();
}

static Value evaluate_unary(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value x = evaluate(elaborator, scope, ast->a);
  bool negative = ast->text[0] == '-';
  if (x.kind == VALUE_ERROR) return x;
  if (negative && x.kind == VALUE_NUMBER)
    return apply_binary(elaborator, scope, ast, "*", value_number(-1), x);
  if (!negative && x.kind == VALUE_BOOL) return value_bool(!x.number);
  return apply_unary(elaborator, ast, negative ? OP_NEG : OP_NOT, x);
}

static Value evaluate_condition(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value condition = evaluate(elaborator, scope, ast->b);
  bool truth;
  if (!to_truth(elaborator, &condition, ast->b->span, &truth)) return value_error();
  return evaluate(elaborator, scope, truth ? ast->a : ast->c);
}

static Value evaluate_list(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value *list = ARENA_ARRAY(elaborator->arena, Value, ast->count);
  for (size_t i = 0; i < ast->count; i++) {
    list[i] = evaluate(elaborator, scope, ast->list[i]);
    if (list[i].kind == VALUE_ERROR) return value_error();
  }
  return (Value){.kind = VALUE_LIST, .list = list, .count = ast->count};
}

static Value evaluate_binary(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value x = evaluate(elaborator, scope, ast->a);
  Value y = evaluate(elaborator, scope, ast->b);
  if (elaborator->graph) elaborator->graph->span = ast->span;
  return apply_binary(elaborator, scope, ast, ast->text, x, y);
}

Value evaluate(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  if (elaborator->graph) elaborator->graph->span = ast->span;
  switch (ast->kind) {
  case AST_NUMBER: return value_number(ast->number);
  case AST_BOOL: return value_bool(ast->number != 0);
  case AST_STRING: return value_string(ast->text);
  case AST_NAME: return evaluate_name(elaborator, scope, ast);
  case AST_MEMBER: return evaluate_member(elaborator, scope, ast);
  case AST_UNARY: return evaluate_unary(elaborator, scope, ast);
  case AST_BINARY: return evaluate_binary(elaborator, scope, ast);
  case AST_CONDITION: return evaluate_condition(elaborator, scope, ast);
  case AST_LIST: return evaluate_list(elaborator, scope, ast);
  case AST_CALL: return evaluate_call(elaborator, scope, ast);
  case AST_LABELLED: return evaluate_labelled(elaborator, scope, ast);
  case AST_INDEX: return evaluate_index(elaborator, scope, ast);
  case AST_REDUCE: return evaluate_reduce(elaborator, scope, ast);
  default: error_at(elaborator->diagnostics, ast->span, "expected an expression"); return value_error();
  }
}
