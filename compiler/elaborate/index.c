// Indexing: x[b, t+1, y*patch + i, target[b,t], 1:, ..]. Index variables become labels of axes; what lies
// outside of an axis reads 0; an item that is a tensor of whole numbers picks by data.
#include "compiler/elaborate/value.h"

#include <math.h>
#include <string.h>

enum { AFFINE_LIMIT = 1 << 30 }; // of factors and offsets: beyond is no index of a tensor

// ---- c1*v1 + c2*v2 + .. + offset ----------------------------------------------------------------

static bool is_small(int64_t number) { return number >= -AFFINE_LIMIT && number <= AFFINE_LIMIT; }

static bool affine_is_small(const Affine *affine) {
  for (int i = 0; i < affine->count; i++)
    if (!is_small(affine->factors[i])) return false;
  return is_small(affine->offset);
}

static bool affine_add(Affine *sum, const Affine *term, int64_t sign) {

  for (int i = 0; i < term->count; i++) {
    int at = 0;
    while (at < sum->count && sum->variables[at] != term->variables[i]) at++;
    if (at == 4) return false;
    if (at == sum->count) sum->factors[sum->count++] = 0;
    sum->variables[at] = term->variables[i];
    sum->factors[at] += sign * term->factors[i];
  }
  int kept = 0;
  for (int i = 0; i < sum->count; i++) { // i - i
    if (!sum->factors[i]) continue;
    sum->variables[kept] = sum->variables[i];
    sum->factors[kept++] = sum->factors[i];
  }

  sum->count = kept;
  sum->offset += sign * term->offset;
  return affine_is_small(sum);
}

static bool affine_binary(Elaborator *elaborator, Scope *scope, const Ast *item, Affine *affine) {
  Affine x = {0}, y = {0};
  if (!strchr("+-*/", item->text[0]) || item->text[1]) return false;
  if (!affine_index(elaborator, scope, item->a, &x) || !affine_index(elaborator, scope, item->b, &y))
    return false;
  *affine = x;
  switch (item->text[0]) {
  case '+': return affine_add(affine, &y, 1);
  case '-': return affine_add(affine, &y, -1);
  case '/':
    if (x.count || y.count || !y.offset || x.offset % y.offset) return false;
    affine->offset /= y.offset;
    return true;
  default:
    if (x.count && y.count) return false;
    if (y.count) *affine = y;
    int64_t factor = y.count ? x.offset : y.offset;
    for (int i = 0; i < affine->count; i++) affine->factors[i] *= factor;

    affine->offset *= factor;
    return affine_is_small(affine);
  }
}

static bool affine_number(double number, Affine *affine) {
  if (number != floor(number) || fabs(number) > AFFINE_LIMIT) return false;
  affine->offset = (int64_t)number;
  return true;
}

static bool affine_value(const Value *found, Value *variable, Affine *affine) {
  *affine = (Affine){0};
  if (found->kind == VALUE_INDEX) {
    affine->count = 1, affine->variables[0] = variable, affine->factors[0] = 1;
    return true;
  }

  if (found->kind != VALUE_NUMBER || found->extent.symbol) return false;
  return affine_number(found->number, affine);
}

bool affine_index(Elaborator *elaborator, Scope *scope, const Ast *item, Affine *affine) {
  *affine = (Affine){0};
  if (item->kind == AST_NUMBER) {

    return affine_number(item->number, affine);
  }
  if (item->kind == AST_NAME) {
    Value *found = scope_find(scope, item->text);
    return found && affine_value(found, found, affine);
  }
  if (item->kind == AST_MEMBER) {
    Value *object = item->a->kind == AST_NAME ? scope_find(scope, item->a->text) : NULL;
    if (!object || object->kind != VALUE_INSTANCE) return false;
    Value member = evaluate(elaborator, scope, item);
    return affine_value(&member, NULL, affine);
  }
  if (item->kind == AST_UNARY && item->text[0] == '-') {
    Affine x;
    return affine_index(elaborator, scope, item->a, &x) && affine_add(affine, &x, -1);
  }
  return item->kind == AST_BINARY && affine_binary(elaborator, scope, item, affine);
}

// ---- reading one axis ---------------------------------------------------------------------------

static void rename_axis(Value *tensor, int axis, const char *name) {
  tensor->labels[axis] = name;
  tensor->aliases[axis] = NULL;
}

static Value insert_label(Value tensor, NodeId node, int axis, const char *name) {
  for (int i = tensor.rank; i > axis; i--) {
    tensor.labels[i] = tensor.labels[i - 1];
    tensor.aliases[i] = tensor.aliases[i - 1];
  }
  tensor.rank++;
  tensor.node = node;
  rename_axis(&tensor, axis, name);
  return tensor;
}

bool add_product(int64_t *sum, int64_t a, int64_t b) {
  int64_t product;
  return !__builtin_mul_overflow(a, b, &product) && !__builtin_add_overflow(*sum, product, sum);
}

// Farthest element that the variables from `first` on reach, counted from where all are 0.
static bool reach(const Affine *affine, int first, int64_t *last) {
  *last = 0;
  for (int i = first; i < affine->count; i++) {
    if (!extent_is_constant(affine->variables[i]->extent) || affine->factors[i] < 0) return false;

    if (!add_product(last, affine->factors[i], affine->variables[i]->extent.offset - 1)) return false;
  }
  return true;
}

// v alone, moved by `offset`: the whole axis, a slice of it, or a window that reads 0 outside.
static Value read_single(Elaborator *elaborator, Value tensor, int axis, const Value *variable,
                         int64_t offset) {
  Graph *graph = elaborator->graph;
  Extent whole = tensor_extent(elaborator, &tensor, axis), wanted = variable->extent;
  bool constant = extent_is_constant(whole) && extent_is_constant(wanted);
  bool inside = constant ? offset >= 0 && offset + wanted.offset <= whole.offset
                         : offset == 0 && wanted.symbol && extent_is_constant(whole);
  if (offset == 0 && extent_equal(whole, wanted)) {
    rename_axis(&tensor, axis, variable->text);
    return tensor;
  }
  if (inside) {
    tensor.node = graph_slice(graph, tensor.node, axis, extent_constant(offset), wanted);
    rename_axis(&tensor, axis, variable->text);
    return tensor;
  }
  NodeId node = graph_window(graph, tensor.node, axis, (Axis){variable->text, wanted},
                             (Axis){"#one", extent_constant(1)}, offset, 1);
  tensor = insert_label(tensor, node, axis, variable->text);
  rename_axis(&tensor, axis + 1, "#one");
  return tensor_drop(elaborator, &tensor, axis + 1);
}

// The variables from `first` on, outermost first, each a window whose inside is read by the rest.
static Value read_affine(Elaborator *elaborator, Value tensor, int axis, const Affine *affine, int first,
                         Span span) {
  Graph *graph = elaborator->graph;
  const Value *variable = affine->variables[first];
  int64_t offset = first ? 0 : affine->offset, factor = affine->factors[first], last;
  bool alone = first + 1 == affine->count;
  if (alone && factor == 1) return read_single(elaborator, tensor, axis, variable, offset);
  if (!reach(affine, first + 1, &last) || factor < 1) {
    error_at(elaborator->diagnostics, span,
             "inside of an axis, indices are added with factors of at least 1, and "
             "only the first may run over a run-time size");
    return value_error();
  }
  Extent whole = tensor_extent(elaborator, &tensor, axis);
  Axis outer = {variable->text, variable->extent}, inner = {"#inner", extent_constant(last + 1)};
  NodeId node;
  Extent covered;
  bool tiles = factor == last + 1 && offset == 0 &&
               extent_multiply(variable->extent, inner.extent, &covered) && extent_equal(covered, whole);
  if (tiles)
    node = graph_split(graph, tensor.node, axis, 2, (Axis[]){outer, inner});
  else
    node = graph_window(graph, tensor.node, axis, outer, inner, offset, factor);
  tensor = insert_label(tensor, node, axis, variable->text);
  rename_axis(&tensor, axis + 1, "#inner");
  if (alone) return tensor_drop(elaborator, &tensor, axis + 1);
  return read_affine(elaborator, tensor, axis + 1, affine, first + 1, span);
}

static Value read_constant(Elaborator *elaborator, Value tensor, int axis, int64_t at, const char *label,
                           Span span) {
  Extent whole = tensor_extent(elaborator, &tensor, axis);
  if (at < 0 && extent_is_constant(whole)) at += whole.offset;
  if (at < 0 || (extent_is_constant(whole) && at >= whole.offset)) {
    error_at(elaborator->diagnostics, span, "index %lld is outside of an axis of %s", (long long)at,
             axis_text(elaborator, label, whole));
    return value_error();
  }
  tensor.node = graph_slice(elaborator->graph, tensor.node, axis, extent_constant(at), extent_constant(1));
  return tensor_drop(elaborator, &tensor, axis);
}

static bool slice_bound(Elaborator *elaborator, Scope *scope, const Ast *ast, Extent whole, Extent *bound) {
  if (!ast) return true;
  Value value = evaluate(elaborator, scope, ast);
  if (value.kind == VALUE_NUMBER && !value.extent.symbol && value.number < 0 &&
      value.number > -(double)EXTENT_LARGEST)
    return extent_add(whole, (Extent){0, 0, (int64_t)value.number}, bound);
  return to_extent(elaborator, &value, ast->span, bound);
}

static Value read_slice(Elaborator *elaborator, Scope *scope, Value tensor, int axis, const Ast *item) {
  Extent whole = tensor_extent(elaborator, &tensor, axis), begin = extent_constant(0), end = whole, extent;
  if (!slice_bound(elaborator, scope, item->a, whole, &begin) ||
      !slice_bound(elaborator, scope, item->b, whole, &end))
    return value_error();
  Extent minus = {begin.symbol, -begin.scale, -begin.offset};
  if (!extent_add(end, minus, &extent) || (extent_is_constant(extent) && extent.offset < 0) ||
      !extent_inside(begin, extent, whole)) {
    error_at(elaborator->diagnostics, item->span, "the slice %s does not lie inside of an axis of %s",
             source_text(elaborator, item), axis_text(elaborator, tensor.labels[axis], whole));
    return value_error();
  }
  tensor.node = graph_slice(elaborator->graph, tensor.node, axis, begin, extent);
  return tensor;
}

// ---- picking by data ----------------------------------------------------------------------------

// Axes that the index shares with the tensor by name run together; the index's other axes take the place of
// the picked one.
static Value pick(Elaborator *elaborator, Value tensor, const char *label, Value index, Span span) {
  const char *first[MAX_RANK], *order[MAX_RANK], *result[MAX_RANK];
  const char *alias[MAX_RANK] = {0};
  int shared = 0, rank = 0, own, count = 0;
  for (int i = 0; i < index.rank; i++) {
    int axis = tensor_axis(&tensor, index.labels[i]);
    if (axis >= 0 && !strcmp(tensor.labels[axis], index.labels[i])) first[shared++] = index.labels[i];
  }
  own = shared;
  for (int i = 0; i < index.rank; i++) {
    bool taken = false;
    for (int j = 0; j < shared; j++) taken |= first[j] == index.labels[i];
    if (!taken) first[own++] = index.labels[i];
  }
  for (int i = 0; i < own; i++) {
    int from = tensor_axis(&index, first[i]);
    alias[count] = index.aliases[from];
    result[count++] = first[i];
  }
  for (int i = 0; i < shared; i++) order[rank++] = first[i];
  order[rank++] = label;
  for (int i = 0; i < tensor.rank; i++) {
    bool taken = false;
    for (int j = 0; j < rank; j++) taken |= !strcmp(order[j], tensor.labels[i]);
    if (taken) continue;
    if (count == MAX_RANK) {
      error_at(elaborator->diagnostics, span, "more than %d axes", MAX_RANK);
      return value_error();
    }
    alias[count] = tensor.aliases[i];
    result[count++] = order[rank++] = tensor.labels[i];
  }
  Value x = tensor_arrange(elaborator, &tensor, rank, order, NULL);
  Value at = tensor_arrange(elaborator, &index, own, first, NULL);
  Value picked = value_tensor(elaborator, graph_gather(elaborator->graph, x.node, at.node, shared), result);
  memcpy(picked.aliases, alias, sizeof alias);
  return picked;
}

// ---- all items ----------------------------------------------------------------------------------

typedef struct Picks {
  const char *labels[MAX_RANK];
  Value indices[MAX_RANK];
  int count;
} Picks;

static bool known_variables(Elaborator *elaborator, const Affine *affine, Span span) {
  for (int i = 0; i < affine->count; i++) {
    if (affine->variables[i]->known) continue;
    error_at(elaborator->diagnostics, span,
             "nothing says how far index `%s` runs; add `for %s < ...` to the equation",
             affine->variables[i]->text, affine->variables[i]->text);
    return false;
  }
  return true;
}

static bool runs_once(Elaborator *elaborator, const Affine *affine, const Value *tensor, Span span) {
  for (int i = 0; i < affine->count; i++) {
    for (int j = 0; j < tensor->rank; j++) {
      if (strcmp(tensor->labels[j], affine->variables[i]->text)) continue;
      error_at(elaborator->diagnostics, span, "index `%s` runs over two axes of the same tensor",
               tensor->labels[j]);
      return false;
    }
  }
  return true;
}

static Value read_item(Elaborator *elaborator, Scope *scope, Value tensor, int *axis, const Ast *item,
                       const char *label, Picks *picks) {
  Affine affine;
  if (item->kind == AST_SLICE) return read_slice(elaborator, scope, tensor, (*axis)++, item);
  if (affine_index(elaborator, scope, item, &affine)) {
    if (!affine.count) return read_constant(elaborator, tensor, *axis, affine.offset, label, item->span);
    if (!known_variables(elaborator, &affine, item->span) ||
        !runs_once(elaborator, &affine, &tensor, item->span))
      return value_error();
    if (affine.count == 1 && !affine.variables[0]->label && affine.factors[0] == 1)
      affine.variables[0]->label = label;
    Value read = read_affine(elaborator, tensor, *axis, &affine, 0, item->span);
    *axis += affine.count;
    return read;
  }
  Value index = evaluate(elaborator, scope, item);
  if (index.kind == VALUE_NUMBER && index.extent.symbol) {
    if (!extent_inside(index.extent, extent_constant(1), tensor_extent(elaborator, &tensor, *axis))) {
      error_at(elaborator->diagnostics, item->span, "this index is outside of axis %s", tensor.labels[*axis]);
      return value_error();
    }
    tensor.node = graph_slice(elaborator->graph, tensor.node, *axis, index.extent, extent_constant(1));
    return tensor_drop(elaborator, &tensor, *axis);
  }
  if (!to_tensor(elaborator, &index, DTYPE_I32, item->span)) return value_error();
  if (tensor_dtype(elaborator, &index) != DTYPE_I32) {
    error_at(elaborator->diagnostics, item->span,
             "an index is a whole number (i32), found %s; i32(..) drops the fraction",
             dtype_name(tensor_dtype(elaborator, &index)));
    return value_error();
  }
  picks->labels[picks->count] = arena_print(elaborator->arena, "#pick%d", picks->count);
  rename_axis(&tensor, *axis, picks->labels[picks->count]);
  picks->indices[picks->count++] = index;
  ++*axis;
  return tensor;
}

// An axis that is about to be read by an index loses its label, which another index of this reading may bear.
static void hide_labels(Elaborator *elaborator, const Ast *ast, Value *tensor, int whole,
                        const char **labels) {
  int axis = 0;
  for (size_t i = 0; i < ast->count; i++) {
    AstKind kind = ast->list[i]->kind;
    if (kind != AST_DOTS) labels[i] = tensor->labels[axis];
    if (kind != AST_DOTS && kind != AST_SLICE)
      rename_axis(tensor, axis, arena_print(elaborator->arena, "#%d", axis));
    axis += kind == AST_DOTS ? whole : 1;
  }
}

void report_indices(Elaborator *elaborator, const Ast *ast, const Value *tensor, size_t items) {
  Text text = {0};
  value_describe(elaborator, tensor, &text);
  error_at(elaborator->diagnostics, ast->span, "%zu indices for %s", items, text_string(&text));
  text_free(&text);
}

static Value index_tensor(Elaborator *elaborator, Scope *scope, const Ast *ast, Value tensor) {
  size_t items = ast->count;
  for (size_t i = 0; i < ast->count; i++) items -= ast->list[i]->kind == AST_DOTS;
  if (items > (size_t)tensor.rank) {

    report_indices(elaborator, ast, &tensor, items);
    return value_error();
  }
  int whole = tensor.rank - (int)items, axis = 0;
  Picks picks = {.count = 0};
  const char *labels[MAX_RANK] = {0};
  if (ast->count > MAX_RANK) {
    error_at(elaborator->diagnostics, ast->span, "more than %d axes", MAX_RANK);
    return value_error();
  }
  hide_labels(elaborator, ast, &tensor, whole, labels);
  for (size_t i = 0; i < ast->count; i++) {
    if (ast->list[i]->kind == AST_DOTS) {
      axis += whole;
      continue;
    }
    tensor = read_item(elaborator, scope, tensor, &axis, ast->list[i], labels[i], &picks);
    if (tensor.kind == VALUE_ERROR) return tensor;
  }
  for (int i = 0; i < picks.count; i++) {
    tensor = pick(elaborator, tensor, picks.labels[i], picks.indices[i], ast->span);
    if (tensor.kind == VALUE_ERROR) return tensor;
  }
  tensor.parts = 0;
  return tensor;
}

Value evaluate_base(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  for (size_t i = elaborator->memo_count; scope->equation && i-- > 0;)
    if (elaborator->memos[i].ast == ast && elaborator->memos[i].scope == scope)
      return elaborator->memos[i].value;
  Value value = evaluate(elaborator, scope, ast);
  if (scope->equation && value.kind == VALUE_TENSOR)
    ARENA_PUSH(elaborator->arena, elaborator->memos, elaborator->memo_count, elaborator->memo_capacity,
               ((struct Memo){ast, scope, value}));
  return value;
}

Value evaluate_index(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  Value base = evaluate_base(elaborator, scope, ast->a);
  if (base.kind == VALUE_ERROR) return base;
  if (base.kind == VALUE_LAZY) return evaluate_lazy(elaborator, scope, ast, &base);
  if (base.kind == VALUE_LIST) {
    Affine at;
    if (ast->count == 1 && affine_index(elaborator, scope, ast->list[0], &at) && !at.count &&
        at.offset >= 0 && (size_t)at.offset < base.count)
      return base.list[at.offset];
    error_at(elaborator->diagnostics, ast->span, "a list of %zu takes one constant index below that",
             base.count);
    return value_error();
  }
  if (base.kind != VALUE_TENSOR) {
    error_at(elaborator->diagnostics, ast->span, "%s can not be indexed", value_kind_name(&base));
    return value_error();
  }
  return index_tensor(elaborator, scope, ast, base);
}
