// Equations over index variables: y[b, t, o] = sum[i] x[b, t, i] * w[o, i] + .. where .. for ..
//
// How far an index runs follows from what it reads: all axes that it reads directly are equally long, and
// reads with an offset (x[i + half]) must stay inside. A run-time size against a fixed one reads its
// beginning.
#include "compiler/elaborate/value.h"

#include <math.h>
#include <string.h>

// ---- finding the extents ------------------------------------------------------------------------

static bool mentions_index(Scope *scope, const Ast *ast) {
  if (!ast) return false;
  if (ast->kind == AST_NAME) {
    Value *found = scope_find(scope, ast->text);
    return found && found->kind == VALUE_INDEX;
  }
  if (ast->kind == AST_CALL && ast->a->kind == AST_INDEX && mentions_index(scope, ast->a->a)) return true;
  bool callee = ast->kind == AST_CALL && ast->a->kind == AST_INDEX;
  if (!callee && mentions_index(scope, ast->a)) return true;
  if (mentions_index(scope, ast->b) || mentions_index(scope, ast->c)) return true;
  if (ast->kind == AST_REDUCE) return false;
  for (size_t i = 0; i < ast->count; i++)
    if (mentions_index(scope, ast->list[i])) return true;
  return false;
}

static void bind_direct(Elaborator *elaborator, Value *variable, Extent extent, const char *label,
                        Span span) {
  if (!variable->known) {
    variable->extent = extent, variable->known = true, variable->first = span;
    if (!variable->label) variable->label = label;
    return;
  }
  if (extent_equal(variable->extent, extent) || variable->count)
    return; // count: bounded by `for` or an offset
  if (extent.symbol && !variable->extent.symbol) {
    variable->extent = extent, variable->first = span;
    variable->label = label;
    return;
  }
  if (variable->extent.symbol && !extent.symbol) return;

  error_at(elaborator->diagnostics, span, "index `%s` runs over %s elements here, but over %s there",
           variable->text, axis_text(elaborator, label, extent),
           axis_text(elaborator, variable->label, variable->extent));
  note_at(elaborator->diagnostics, variable->first, "there");
}

// One item over an axis of `extent`: what its one unknown variable, if any, may reach.
static void bind_item(Elaborator *elaborator, Scope *scope, const Ast *item, Extent extent,
                      const char *label) {
  Affine affine;
  if (item->kind == AST_SLICE || item->kind == AST_DOTS || !affine_index(elaborator, scope, item, &affine))
    return;
  if (affine.count == 1 && affine.factors[0] == 1 && affine.offset == 0) {
    bind_direct(elaborator, affine.variables[0], extent, label, item->span);
    return;
  }
  if (!extent_is_constant(extent) || !affine.count) return;
  Value *unknown = NULL;
  int64_t factor = 1, rest = affine.offset;
  for (int i = 0; i < affine.count; i++) {
    Value *variable = affine.variables[i];
    if (!variable->known || affine.count == 1) {
      if (unknown) return;
      unknown = variable, factor = affine.factors[i];
    } else if (extent_is_constant(variable->extent) && affine.factors[i] > 0) {

      if (!add_product(&rest, affine.factors[i], variable->extent.offset - 1)) return;
    }
  }
  if (!unknown || factor < 1 || extent.offset - 1 - rest < 0) return;
  int64_t limit = (extent.offset - 1 - rest) / factor + 1;
  if (unknown->known &&
      (!extent_is_constant(unknown->extent) || unknown->extent.offset <= limit || unknown->count == 2))
    return;
  if (affine.count == 1 && !unknown->known && affine.factors[0] == 1)
    return; // a direct read says more; see below
  unknown->extent = extent_constant(limit);
  unknown->known = true;
  unknown->count = 1; // shortened: direct reads may be longer
}

static void collect(Elaborator *elaborator, Scope *scope, const Ast *ast);

static void collect_items(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value base = {.kind = VALUE_ERROR};
  if (!mentions_index(scope, ast->a)) base = evaluate_base(elaborator, scope, ast->a);
  scope->poisoned |= base.kind == VALUE_ERROR && !mentions_index(scope, ast->a);
  if (base.kind != VALUE_TENSOR) return;
  size_t fixed = ast->count;
  for (size_t i = 0; i < ast->count; i++) fixed -= ast->list[i]->kind == AST_DOTS;

  if (fixed > (size_t)base.rank) {
    report_indices(elaborator, ast, &base, fixed);
    scope->poisoned = true;
    return;
  }
  int axis = 0;
  for (size_t i = 0; i < ast->count; i++) {
    if (ast->list[i]->kind == AST_DOTS) {
      axis += base.rank - (int)fixed;
      continue;
    }
    bind_item(elaborator, scope, ast->list[i], tensor_extent(elaborator, &base, axis), base.labels[axis]);
    axis++;
  }
}

static void collect(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  if (!ast) return;
  bool callee = ast->kind == AST_CALL && ast->a->kind == AST_INDEX;
  if (ast->kind == AST_INDEX) collect_items(elaborator, scope, ast);
  if (!callee && !(ast->kind == AST_INDEX && !mentions_index(scope, ast->a)))
    collect(elaborator, scope, ast->a);
  collect(elaborator, scope, ast->b);
  collect(elaborator, scope, ast->c);
  if (ast->kind == AST_REDUCE) return;
  for (size_t i = 0; i < ast->count; i++) collect(elaborator, scope, ast->list[i]);
}

static int unknown_count(const Scope *scope) {
  int count = 0;
  for (size_t i = 0; i < scope->count; i++)
    count += scope->bindings[i].value.kind == VALUE_INDEX && !scope->bindings[i].value.known;
  return count;
}

static const char *first_unknown(const Scope *scope) {
  for (size_t i = 0; i < scope->count; i++)
    if (scope->bindings[i].value.kind == VALUE_INDEX && !scope->bindings[i].value.known)
      return scope->bindings[i].name;
  return NULL;
}

// Reads with compound indices may need what other reads say first, so again until nothing new is learnt.
static void find_extents(Elaborator *elaborator, Scope *scope, const Ast *value, const Ast *where) {
  int before, errors = elaborator->diagnostics->errors, round = 0;
  do {
    before = unknown_count(scope);
    collect(elaborator, scope, value);
    collect(elaborator, scope, where);
    round++;
  } while (elaborator->diagnostics->errors == errors && (unknown_count(scope) < before || round < 2));
}

static void declare(Elaborator *elaborator, Scope *scope, const char *name) {
  for (size_t i = 0; i < scope->count; i++)
    if (!strcmp(scope->bindings[i].name, name)) return;
  scope_set(elaborator->arena, scope, name, (Value){.kind = VALUE_INDEX, .text = name});
}

static void declare_reduced(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  if (!ast) return;
  if (ast->kind == AST_REDUCE)
    for (size_t i = 0; i < ast->count; i++) declare(elaborator, scope, ast->list[i]->text);
  declare_reduced(elaborator, scope, ast->a);
  declare_reduced(elaborator, scope, ast->b);
  declare_reduced(elaborator, scope, ast->c);
  if (ast->kind == AST_REDUCE) return;
  for (size_t i = 0; i < ast->count; i++) declare_reduced(elaborator, scope, ast->list[i]);
}

// Names after sum[..] that no read uses as an index are labels of whole tensors: not variables.
static void drop_unknown(Scope *scope, size_t from) {
  size_t kept = from;
  for (size_t i = from; i < scope->count; i++)
    if (scope->bindings[i].value.known) scope->bindings[kept++] = scope->bindings[i];
  scope->count = kept;
}

// ---- sums and maxima ----------------------------------------------------------------------------

typedef struct Factors {
  Value list[16];
  bool divides[16];
  int count;
} Factors;

static bool flatten(Elaborator *elaborator, Scope *scope, const Ast *ast, bool divides, Factors *factors) {
  bool product = ast->kind == AST_BINARY && !ast->text[1] && (*ast->text == '*' || *ast->text == '/');
  if (product)
    return flatten(elaborator, scope, ast->a, divides, factors) &&
           flatten(elaborator, scope, ast->b, divides != (*ast->text == '/'), factors);
  if (factors->count == 16) {
    error_at(elaborator->diagnostics, ast->span, "more than 16 factors in one product");
    return false;
  }
  Value value = evaluate(elaborator, scope, ast);
  if (value.kind != VALUE_NUMBER && !to_tensor(elaborator, &value, DTYPE_F32, ast->span)) return false;
  factors->list[factors->count] = value;
  factors->divides[factors->count++] = divides;
  return true;
}

static bool holds_any(const Value *value, const Ast *reduce) {
  if (value->kind != VALUE_TENSOR) return false;
  for (size_t i = 0; i < reduce->count; i++)
    if (tensor_axis(value, reduce->list[i]->text) >= 0) return true;
  return false;
}

static bool holds_all(const Value *value, const Ast *reduce) {
  for (size_t i = 0; i < reduce->count; i++)
    if (tensor_axis(value, reduce->list[i]->text) < 0) return false;
  return true;
}

// A sum over both of two float tensors, one of which has axes of its own, is a contraction.
static bool is_contraction(Elaborator *elaborator, const Value *x, const Value *y, const Ast *reduce) {
  if (!holds_all(x, reduce) || !holds_all(y, reduce)) return false;
  if (!dtype_is_float(tensor_dtype(elaborator, x)) || !dtype_is_float(tensor_dtype(elaborator, y)))
    return false;
  for (int i = 0; i < x->rank; i++)
    if (tensor_axis(y, x->labels[i]) < 0) return true;
  for (int i = 0; i < y->rank; i++)
    if (tensor_axis(x, y->labels[i]) < 0) return true;
  return false;
}

static Value contract(Elaborator *elaborator, Scope *scope, Span span, Value x, Value y, const Ast *reduce) {
  Value check_x = x, check_y = y;
  const char *labels[MAX_RANK * 2];
  int8_t left[MAX_RANK], right[MAX_RANK];
  int batch = 0, count = 0, rank = 0;
  uint32_t used_x = 0, used_y = 0, reduced = 0;
  for (size_t i = 0; i < reduce->count; i++) reduced |= 1u << tensor_axis(&x, reduce->list[i]->text);
  for (int i = 0; i < x.rank; i++) {
    int other = tensor_axis(&y, x.labels[i]);
    if (other < 0 || reduced >> i & 1) continue;
    left[count] = (int8_t)i, right[count++] = (int8_t)other;
    used_x |= 1u << i, used_y |= 1u << other;
    labels[rank++] = x.labels[i];
    batch++;
  }
  for (size_t i = 0; i < reduce->count; i++) {
    left[count] = (int8_t)tensor_axis(&x, reduce->list[i]->text);
    right[count] = (int8_t)tensor_axis(&y, reduce->list[i]->text);
    used_x |= 1u << left[count], used_y |= 1u << right[count];
    count++;
  }
  for (int i = 0; i < count; i++) {
    Extent here = tensor_extent(elaborator, &x, left[i]), there = tensor_extent(elaborator, &y, right[i]);
    if (extent_equal(here, there)) continue;
    tensor_join(elaborator, scope, span, &check_x, &check_y); // reports the pair that does not fit
    return value_error();
  }
  for (int i = 0; i < x.rank; i++)
    if (!(used_x >> i & 1)) labels[rank++] = x.labels[i];
  for (int i = 0; i < y.rank; i++)
    if (!(used_y >> i & 1)) labels[rank++] = y.labels[i];
  if (rank > MAX_RANK) {
    error_at(elaborator->diagnostics, span, "more than %d axes", MAX_RANK);
    return value_error();
  }
  NodeId node = graph_dot(elaborator->graph, x.node, y.node, batch, (int)reduce->count, left, right);
  return value_tensor(elaborator, node, labels);
}

static Value reduce_tensor(Elaborator *elaborator, Value x, const Ast *reduce, Op op) {
  uint32_t axes = 0;
  for (size_t i = 0; i < reduce->count; i++) {
    int axis = tensor_axis(&x, reduce->list[i]->text);
    if (axis < 0) {
      Text text = {0};
      value_describe(elaborator, &x, &text);
      error_at(elaborator->diagnostics, reduce->list[i]->span, "`%s` is not an axis of %s",
               reduce->list[i]->text, text_string(&text));
      text_free(&text);
      return value_error();
    }
    axes |= 1u << axis;
  }
  if (op == OP_SUM && tensor_dtype(elaborator, &x) == DTYPE_BOOL) x = tensor_cast(elaborator, &x, DTYPE_I32);
  return tensor_reduce(elaborator, &x, op, axes);
}

static Value scale_back(Elaborator *elaborator, Scope *scope, const Ast *at, Value sum,
                        const Factors *factors, const bool *outside) {
  for (int i = 0; i < factors->count; i++)
    if (outside[i])
      sum = apply_binary(elaborator, scope, at, factors->divides[i] ? "/" : "*", sum, factors->list[i]);
  return sum;
}

static Value evaluate_sum(Elaborator *elaborator, Scope *scope, const Ast *reduce) {
  Factors factors = {.count = 0};
  bool outside[16] = {0};
  if (!flatten(elaborator, scope, reduce->a, false, &factors)) return value_error();
  Value left = {0}, right = {0};
  for (int i = 0; i < factors.count; i++) {
    Value factor = factors.list[i];
    outside[i] = !holds_any(&factor, reduce);
    if (outside[i]) continue;
    if (factors.divides[i]) factor = apply_binary(elaborator, scope, reduce, "/", value_number(1), factor);
    Value *side = left.kind == VALUE_ERROR ? &left : &right;
    *side = side->kind == VALUE_ERROR ? factor : apply_binary(elaborator, scope, reduce, "*", *side, factor);
    if (side->kind == VALUE_ERROR) return *side;
  }
  if (left.kind == VALUE_ERROR) {
    error_at(elaborator->diagnostics, reduce->span, "nothing in this sum runs over `%s`",
             reduce->list[0]->text);
    return value_error();
  }
  elaborator->graph->span = reduce->span;
  Value sum;
  if (right.kind == VALUE_TENSOR && is_contraction(elaborator, &left, &right, reduce)) {
    sum = contract(elaborator, scope, reduce->span, left, right, reduce);
  } else {
    if (right.kind == VALUE_TENSOR) left = apply_binary(elaborator, scope, reduce, "*", left, right);
    if (left.kind == VALUE_ERROR) return left;
    sum = reduce_tensor(elaborator, left, reduce, OP_SUM);
  }
  return scale_back(elaborator, scope, reduce, sum, &factors, outside);
}

static Value evaluate_other(Elaborator *elaborator, Scope *scope, const Ast *reduce) {
  Value x = evaluate(elaborator, scope, reduce->a);
  if (!to_tensor(elaborator, &x, DTYPE_F32, reduce->a->span)) return value_error();
  elaborator->graph->span = reduce->span;
  if (!strcmp(reduce->text, "max")) return reduce_tensor(elaborator, x, reduce, OP_REDMAX);
  Value sum = reduce_tensor(elaborator, x, reduce, OP_SUM);
  for (size_t i = 0; i < reduce->count && sum.kind == VALUE_TENSOR; i++) {
    Extent extent = tensor_extent(elaborator, &x, tensor_axis(&x, reduce->list[i]->text));
    sum = apply_binary(elaborator, scope, reduce, "/", sum, value_size(extent));
  }
  return sum;
}

Value evaluate_reduce(Elaborator *elaborator, Scope *scope, const Ast *reduce) {
  size_t memos = elaborator->memo_count;
  if (!scope_in_equation(scope)) {
    scope = scope_new(elaborator->arena, scope);
    scope->equation = true;
    declare_reduced(elaborator, scope, reduce);
    int errors = elaborator->diagnostics->errors;
    find_extents(elaborator, scope, reduce->a, NULL);
    if (elaborator->diagnostics->errors > errors || scope->poisoned) return value_error();
    drop_unknown(scope, 0);
    scope->equation = scope->count > 0;
  }
  bool sum = !strcmp(reduce->text, "sum");
  Value value = sum ? evaluate_sum(elaborator, scope, reduce) : evaluate_other(elaborator, scope, reduce);
  elaborator->memo_count = memos;
  return value;
}

// ---- assignments --------------------------------------------------------------------------------

static void declare_target(Elaborator *elaborator, Scope *scope, const Ast *item) {
  if (!item) return;
  if (item->kind == AST_NAME) {
    Value *found = scope_find(scope->parent, item->text);
    if (!found || found->kind != VALUE_NUMBER) declare(elaborator, scope, item->text);
    return;
  }
  if (item->kind == AST_MEMBER) return;
  declare_target(elaborator, scope, item->a);
  declare_target(elaborator, scope, item->b);
}

static bool reads_tensor(const Ast *ast, const char *name) {
  if (!ast) return false;
  if (ast->kind == AST_INDEX && ast->a->kind == AST_NAME && !strcmp(ast->a->text, name)) return true;
  if (reads_tensor(ast->a, name) || reads_tensor(ast->b, name) || reads_tensor(ast->c, name)) return true;
  for (size_t i = 0; i < ast->count; i++)
    if (reads_tensor(ast->list[i], name)) return true;
  return false;
}

// An index hides a tensor of the same name: reading that in the equation can not be meant.
static bool check_hidden(Elaborator *elaborator, const Scope *scope, const Ast *assign) {
  for (size_t i = 0; i < scope->count; i++) {
    const char *name = scope->bindings[i].name;
    if (!reads_tensor(assign->a, name) && !reads_tensor(assign->b, name)) continue;
    error_at(elaborator->diagnostics, assign->span,
             "`%s` is an index of this equation, so `%s[..]` can not be read in it; "
             "give the index another name",
             name, name);
    return false;
  }
  return true;
}

static bool declare_bounds(Elaborator *elaborator, Scope *scope, const Ast *bounds) {
  for (size_t i = 0; bounds && i < bounds->count; i++) {
    const Ast *bound = bounds->list[i];
    Value value = evaluate(elaborator, scope->parent, bound->a);
    Value index = {.kind = VALUE_INDEX, .text = bound->text, .known = true, .count = 2};
    if (!to_extent(elaborator, &value, bound->span, &index.extent)) return false;
    if (bound->a->kind == AST_NAME) index.label = bound->a->text;
    scope_set(elaborator->arena, scope, bound->text, index);
  }
  return true;
}

static Value evaluate_body(Elaborator *elaborator, Scope *scope, const Ast *assign) {
  Value value = evaluate(elaborator, scope, assign->a);
  if (!assign->b || value.kind == VALUE_ERROR) return value;
  Value condition = evaluate(elaborator, scope, assign->b);
  return apply_select(elaborator, scope, assign->b, condition, value, value_number(-INFINITY));
}

// sum[i] (a) * b is written like a call and ends at its bracket: worth a word when `i` is left over.
static void note_bracket(Elaborator *elaborator, const Ast *ast, const char *index) {
  if (!ast || ast->kind == AST_STRING) return;
  for (size_t i = 0; ast->kind == AST_REDUCE && i < ast->count; i++)
    if (!strcmp(ast->list[i]->text, index))
      note_at(elaborator->diagnostics, ast->span,
              "this %s ends here; to go on, bracket the whole product: %s[%s] ((..) * ..)", ast->text,
              ast->text, index);
  note_bracket(elaborator, ast->a, index);
  note_bracket(elaborator, ast->b, index);
}

// The labels of the left side in order, variables of compound items each on their own.
static bool target_labels(Elaborator *elaborator, Scope *scope, const Ast *assign, const Ast *target,
                          const Value *value, const char **labels, Extent *extents, int *rank,
                          Affine *items) {
  uint32_t used = 0;
  *rank = 0;
  for (size_t i = 0; i < target->count; i++) {
    const Ast *item = target->list[i];
    if (item->kind == AST_DOTS) continue;
    if (!affine_index(elaborator, scope, item, &items[i])) {
      error_at(elaborator->diagnostics, item->span,
               "on the left of an equation stand index variables, and sums of "
               "them with constant factors");
      return false;
    }
    for (int j = 0; j < items[i].count; j++) {
      int axis = tensor_axis(value, items[i].variables[j]->text);
      if (axis >= 0) used |= 1u << axis;
    }
  }
  for (size_t i = 0; i < target->count; i++) {
    const Ast *item = target->list[i];
    for (int j = 0; item->kind == AST_DOTS && j < value->rank && *rank < MAX_RANK; j++) {
      if (used >> j & 1) continue;
      extents[*rank] = tensor_extent(elaborator, value, j);
      labels[(*rank)++] = value->labels[j];
      used |= 1u << j;
    }
    for (int j = 0; item->kind != AST_DOTS && j < items[i].count && *rank < MAX_RANK; j++) {
      extents[*rank] = items[i].variables[j]->extent;
      labels[(*rank)++] = items[i].variables[j]->text;
    }
  }
  for (int i = 0; i < value->rank; i++) {
    if (used >> i & 1) continue;

    error_at(elaborator->diagnostics, target->span,
             "index `%s` stands on the right but not on the left: sum over it, or "
             "name it on the left",
             value->labels[i]);
    note_bracket(elaborator, assign->a, value->labels[i]);
    return false;
  }
  return true;
}

// y*side + x: the axes of y and x become one.
static bool merge_item(Elaborator *elaborator, Value *value, int axis, const Affine *item, const Ast *ast) {
  int64_t inner = 1;
  for (int i = item->count - 1; i >= 0; i--) {
    if (item->factors[i] != inner || !extent_is_constant(item->variables[i]->extent)) {
      if (i == 0 && item->factors[0] == inner) break;
      error_at(elaborator->diagnostics, ast->span,
               "the factor of `%s` must be the number of elements inside of it, %lld",
               item->variables[i]->text, (long long)inner);
      return false;
    }

    int64_t wider = 0;
    if (!add_product(&wider, inner, item->variables[i]->extent.offset)) {
      error_at(elaborator->diagnostics, ast->span, "more elements than any machine holds");
      return false;
    }
    inner = wider;
  }
  const char *label = source_text(elaborator, ast);
  value->node = graph_merge(elaborator->graph, value->node, axis, item->count, label);
  value->labels[axis] = value->aliases[axis] = label;
  for (int i = axis + 1; i + item->count - 1 < value->rank; i++) {
    value->labels[i] = value->labels[i + item->count - 1];
    value->aliases[i] = value->aliases[i + item->count - 1];
  }
  value->rank -= item->count - 1;
  return true;
}

// The name that an axis is known by outside of its equation: that of the axis the index first read.
static const char *outside_label(const Value *value, int axis, const Value *variable) {
  const char *label = variable->label && variable->label[0] != '#' ? variable->label : variable->text;
  for (int i = 0; i < axis; i++)
    if (!strcmp(value->labels[i], label)) return variable->text;
  return label;
}

// A second equation for the same name, moved along one axis by what is there: the next piece of it.
static Value append_piece(Elaborator *elaborator, const Ast *target, const Value *before, Value piece,
                          int axis, int64_t offset) {
  Extent there = before->kind == VALUE_TENSOR && axis < before->rank ? tensor_extent(elaborator, before, axis)
                                                                     : extent_constant(-1);
  if (before->kind != VALUE_TENSOR || before->rank != piece.rank ||
      !extent_equal(there, extent_constant(offset))) {
    error_at(elaborator->diagnostics, target->span,
             "this continues `%s` at %lld, but what is there ends elsewhere", target->a->text,
             (long long)offset);
    return value_error();
  }
  Value result = *before;
  result.node = graph_concat(elaborator->graph, before->node, piece.node, axis);
  return result;
}

static Value place(Elaborator *elaborator, Scope *scope, const Ast *assign, const Ast *target, Value value) {
  Affine items[MAX_RANK] = {0};
  const char *labels[MAX_RANK];
  Extent extents[MAX_RANK];
  int rank, moved = -1;
  if (target->count > MAX_RANK) {
    error_at(elaborator->diagnostics, target->span, "more than %d axes", MAX_RANK);
    return value_error();
  }
  if (!target_labels(elaborator, scope, assign, target, &value, labels, extents, &rank, items))
    return value_error();
  value = tensor_arrange(elaborator, &value, rank, labels, extents);
  int dots = rank, axis = 0;
  for (size_t i = 0; i < target->count; i++) dots -= items[i].count;
  for (size_t i = 0; i < target->count; i++) {
    const Ast *item = target->list[i];
    if (item->kind == AST_DOTS) {
      axis += dots;
      continue;
    }
    if (!items[i].count) {
      error_at(elaborator->diagnostics, item->span, "on the left, each axis needs an index variable");
      return value_error();
    }
    if (items[i].offset) moved = (int)i;
    if (items[i].count > 1) {
      if (!merge_item(elaborator, &value, axis, &items[i], item)) return value_error();
    } else {
      value.aliases[axis] = items[i].variables[0]->text;
      value.labels[axis] = outside_label(&value, axis, items[i].variables[0]);
    }
    if (moved == (int)i) {
      Value *before = scope_find(scope->parent, target->a->text);
      static const Value nothing = {.kind = VALUE_ERROR};
      return append_piece(elaborator, target, before ? before : &nothing, value, axis, items[i].offset);
    }
    axis++;
  }
  return value;
}

static Value equation_value(Elaborator *elaborator, Scope *outer, const Ast *assign, const Ast *target) {
  Scope *scope = scope_new(elaborator->arena, outer);
  int errors = elaborator->diagnostics->errors;
  scope->equation = true;
  for (size_t i = 0; i < target->count; i++) declare_target(elaborator, scope, target->list[i]);
  if (!declare_bounds(elaborator, scope, assign->c)) return value_error();
  size_t on_left = scope->count;
  declare_reduced(elaborator, scope, assign->a);
  declare_reduced(elaborator, scope, assign->b);
  if (!check_hidden(elaborator, scope, assign)) return value_error();
  find_extents(elaborator, scope, assign->a, assign->b);
  drop_unknown(scope, on_left);
  if (elaborator->diagnostics->errors > errors || scope->poisoned) return value_error();
  if (unknown_count(scope))
    return (Value){.kind = VALUE_LAZY, .ast = assign, .scope = outer, .text = first_unknown(scope)};
  Value value = evaluate_body(elaborator, scope, assign);
  if (value.kind == VALUE_ERROR || !to_tensor(elaborator, &value, DTYPE_F32, assign->span))
    return value_error();
  return place(elaborator, scope, assign, target, value);
}

static void assign_equation(Elaborator *elaborator, Scope *outer, const Ast *assign, const Ast *target) {
  const char *name = target->a->text;
  size_t memos = elaborator->memo_count;
  if (target->a->kind != AST_NAME) {
    error_at(elaborator->diagnostics, target->span, "an equation defines a name");
    return;
  }
  Value value = equation_value(elaborator, outer, assign, target);
  elaborator->memo_count = memos;
  scope_set(elaborator->arena, outer, name, value);
}

static void report_parts(Elaborator *elaborator, const Ast *assign, const Value *value) {
  if (value->kind == VALUE_LIST)
    error_at(elaborator->diagnostics, assign->span, "%zu names for a list of %zu", assign->count,
             value->count);
  else if (value->kind == VALUE_TENSOR && value->parts)
    error_at(elaborator->diagnostics, assign->span, "%zu names for %s parts", assign->count,
             axis_text(elaborator, NULL, tensor_extent(elaborator, value, value->parts - 1)));
  else
    error_at(elaborator->diagnostics, assign->span,
             "%zu names on the left take apart a list or what split gives, not %s", assign->count,
             value_kind_name(value));
}

static void assign_parts(Elaborator *elaborator, Scope *scope, const Ast *assign, Value value) {
  size_t count = assign->count;
  bool fits = value.kind == VALUE_LIST ? value.count == count : false;
  if (value.kind == VALUE_TENSOR && value.parts)
    fits = extent_equal(tensor_extent(elaborator, &value, value.parts - 1), extent_constant((int64_t)count));
  if (!fits && value.kind != VALUE_ERROR) report_parts(elaborator, assign, &value);
  for (size_t i = 0; i < count; i++) {
    Value part = value_error();
    if (fits && value.kind == VALUE_LIST) part = value.list[i];
    if (fits && value.kind == VALUE_TENSOR) {
      int axis = value.parts - 1;
      part = value;
      part.parts = 0;
      part.node =
          graph_slice(elaborator->graph, value.node, axis, extent_constant((int64_t)i), extent_constant(1));
      part = tensor_drop(elaborator, &part, axis);
    }
    if (assign->list[i]->kind != AST_NAME) {
      error_at(elaborator->diagnostics, assign->list[i]->span, "several targets are plain names");
      continue;
    }
    scope_set(elaborator->arena, scope, assign->list[i]->text, part);
  }
}

void execute_assign(Elaborator *elaborator, Scope *scope, const Ast *assign) {
  const Ast *target = assign->list[0];
  if (assign->count == 1 && target->kind == AST_INDEX) {
    if (elaborator->graph)
      assign_equation(elaborator, scope, assign, target);
    else
      error_at(elaborator->diagnostics, assign->span, "equations stand in functions and layers");
    return;
  }
  Value value = evaluate_body(elaborator, scope, assign);
  if (assign->count > 1) {
    assign_parts(elaborator, scope, assign, value);
    return;
  }
  if (target->kind != AST_NAME) {
    error_at(elaborator->diagnostics, target->span, "expected a name, or a name with indices, on the left");
    return;
  }
  scope_set(elaborator->arena, scope, target->text, value);
}

Value evaluate_lazy(Elaborator *elaborator, Scope *scope, const Ast *index, const Value *lazy) {
  const Ast *target = lazy->ast->list[0];
  Scope *inside = scope_new(elaborator->arena, lazy->scope);
  inside->equation = true;
  if (target->count != index->count) {
    error_at(elaborator->diagnostics, index->span, "`%s` has %zu indices", target->a->text, target->count);
    return value_error();
  }
  for (size_t i = 0; i < index->count; i++) {
    Value value = evaluate(elaborator, scope, index->list[i]);
    if (value.kind == VALUE_ERROR) return value;
    if (target->list[i]->kind != AST_NAME) {
      error_at(elaborator->diagnostics, target->list[i]->span, "expected a plain index here");
      return value_error();
    }
    scope_set(elaborator->arena, inside, target->list[i]->text, value);
  }
  return evaluate_body(elaborator, inside, lazy->ast);
}
