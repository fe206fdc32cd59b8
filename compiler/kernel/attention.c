// Attention by its form. Input: a kernel; output: which of its expressions are scores, weights and values, and
// which axes are rows and keys, or why it is none:
//
//   result[row, column] = dot over key of weight[row, key], value[key, column]
//   weight              = elementwise in the scores dot(query[row, ..], key[key, ..]) and in what is loaded,
//                         or in their softmax over all keys, which may be scaled and masked afterwards
//
// Nothing is said about loops. Expressions that stand several times with other bound axes (the scores that the
// largest, the sum and the weight are made of) are compared up to the names of these axes.
#include "compiler/kernel/kernel.h"

#include <math.h>
#include <string.h>

typedef struct Find {
  const Kernel *kernel;
  Attention *out;
  ExprId *product; // per expression: a contraction that it is elementwise in, or 0
  bool *seen;      // per expression
  int steps;       // of a walk: a bound
} Find;

enum { MOST_STEPS = 1 << 14 };

static const Expr *expr_at(const Find *find, ExprId id) { return &find->kernel->exprs[id]; }
static bool depends(const Find *find, ExprId id, uint32_t axes) {
  return (kernel_free_axes(find->kernel, id) & axes) != 0;
}
static int only_axis(uint32_t axes) { return axes && !(axes & (axes - 1)) ? __builtin_ctz(axes) : -1; }

// ---- equal up to the names of axes --------------------------------------------------------------

typedef struct Renaming {
  int8_t to[KERNEL_MAX_AXES];
  uint32_t renamed; // axes that `to` changes
} Renaming;

static bool same(Find *find, const Renaming *names, ExprId a, ExprId b);

static bool same_operands(Find *find, const Renaming *names, const Expr *x, const Expr *y) {
  bool straight = true;
  for (int i = 0; i < 3 && straight; i++) straight = same(find, names, x->in[i], y->in[i]);
  if (straight) return true;
  bool commutes = x->op == SCALAR_ADD || x->op == SCALAR_MUL || x->op == SCALAR_MIN || x->op == SCALAR_MAX ||
                  x->op == SCALAR_EQUAL || x->op == SCALAR_AND || x->op == SCALAR_OR;
  return commutes && same(find, names, x->in[0], y->in[1]) && same(find, names, x->in[1], y->in[0]);
}

static bool same(Find *find, const Renaming *names, ExprId a, ExprId b) {
  const Expr *x = expr_at(find, a), *y = expr_at(find, b);
  if (!a || !b) return a == b;
  if (a == b && !(kernel_free_axes(find->kernel, a) & names->renamed)) return true;
  if (++find->steps > MOST_STEPS || x->op != y->op || x->dtype != y->dtype) return false;
  bool equal = x->op == SCALAR_CONST || (x->buffer == y->buffer && x->stream == y->stream);
  if (x->op == SCALAR_CONST) equal = !memcmp(&x->number, &y->number, sizeof x->number);
  if (x->op == SCALAR_AXIS) return names->to[x->axis] == y->axis;
  if (x->op == SCALAR_SIZE) return extent_equal(x->extent, y->extent);
  Renaming inner = *names;
  uint32_t left = x->axes, right = y->axes;
  for (; left && right; left &= left - 1, right &= right - 1) {
    int from = __builtin_ctz(left), to = __builtin_ctz(right);
    if (!extent_equal(find->kernel->axes[from].extent, find->kernel->axes[to].extent)) return false;
    inner.to[from] = (int8_t)to;
    inner.renamed |= 1u << from;
  }
  if (!equal || left || right || !same_operands(find, &inner, x, y)) return false;
  for (int i = 0; x->op == SCALAR_LOAD && i < find->kernel->buffers[x->buffer].rank; i++)
    if (!same(find, &inner, x->index[i], y->index[i])) return false;
  return true;
}

// Is `b` what `a` is with rows for keys and keys for rows?
static bool same_turned(Find *find, ExprId a, int row, int key, ExprId b) {
  const Attention *out = find->out;
  const KernelAxis *axes = find->kernel->axes;
  Renaming names = {.renamed = 1u << row | 1u << key};
  for (int i = 0; i < KERNEL_MAX_AXES; i++) names.to[i] = (int8_t)i;
  names.to[row] = (int8_t)out->key;
  names.to[key] = (int8_t)out->row;
  find->steps = 0;
  return extent_equal(axes[row].extent, axes[out->key].extent) &&
         extent_equal(axes[key].extent, axes[out->row].extent) && same(find, &names, a, b);
}

// Is `b` at axis `to` what `a` is at axis `from`?
static bool same_along(Find *find, ExprId a, int from, ExprId b, int to) {
  Renaming names = {.renamed = 1u << from};
  if (!extent_equal(find->kernel->axes[from].extent, find->kernel->axes[to].extent)) return false;
  for (int i = 0; i < KERNEL_MAX_AXES; i++) names.to[i] = (int8_t)i;
  names.to[from] = (int8_t)to;
  find->steps = 0;
  return same(find, &names, a, b);
}

// ---- softmax ------------------------------------------------------------------------------------

// exp(score - largest), and what `largest` is of
static bool is_exponential(const Find *find, ExprId id, ExprId *score, ExprId *largest) {
  const Expr *e = expr_at(find, id), *difference = expr_at(find, e->in[0]);
  if (e->op != SCALAR_EXP || difference->op != SCALAR_SUB) return false;
  *score = difference->in[0];
  *largest = difference->in[1];
  return expr_at(find, *largest)->op == SCALAR_REDMAX;
}

static const char *check_softmax(Find *find, ExprId share) {
  Attention *out = find->out;
  const Expr *total = expr_at(find, expr_at(find, share)->in[1]);
  ExprId score, again, largest;
  if (!is_exponential(find, expr_at(find, share)->in[0], &score, &out->largest))
    return "what is divided by the sum is no exp(score - largest score)";
  const Expr *greatest = expr_at(find, out->largest);
  if (out->more || only_axis(greatest->axes) < 0 || only_axis(total->axes) < 0)
    return "keys lie along several axes";
  if (!same_along(find, score, out->key, greatest->in[0], only_axis(greatest->axes)))
    return "the largest score is not that of the same scores";
  if (!is_exponential(find, total->in[0], &again, &largest) || largest != out->largest ||
      !same_along(find, score, out->key, again, only_axis(total->axes)))
    return "the sum is not that of the same exponentials";
  out->score = score;
  out->share = share;
  out->total = expr_at(find, share)->in[1];
  return NULL;
}

// The quotient of an exponential and a sum below a weight, if all that is done to it commutes with dividing by
// the sum: scaling, and choosing between it and 0. 0: there is none.
static ExprId find_share(Find *find, ExprId id) {
  const Expr *e = expr_at(find, id);
  bool divides = e->op == SCALAR_DIV && expr_at(find, e->in[1])->op == SCALAR_SUM;
  if (++find->steps > MOST_STEPS || !depends(find, id, 1u << find->out->key)) return 0;
  if (divides && expr_at(find, e->in[0])->op == SCALAR_EXP) return id;
  if (e->op == SCALAR_NEG) return find_share(find, e->in[0]);
  if (e->op == SCALAR_DIV) {
    ExprId of = find_share(find, e->in[0]);
    return of && !kernel_depends(find->kernel, e->in[1], of) ? of : 0;
  }
  if (e->op != SCALAR_MUL && e->op != SCALAR_SELECT) return 0;
  bool choice = e->op == SCALAR_SELECT;
  ExprId x = e->in[choice], y = e->in[choice + 1], of = find_share(find, x);
  if (!of) of = find_share(find, y), y = x;
  bool zero = expr_at(find, y)->op == SCALAR_CONST && expr_at(find, y)->number == 0;
  if (!of ||
      (choice ? !zero || kernel_depends(find->kernel, e->in[0], of) : kernel_depends(find->kernel, y, of)))
    return 0;
  return of;
}

// ---- scores -------------------------------------------------------------------------------------

static const char *add_inner(Find *find, ExprId id) {
  Attention *out = find->out;
  const Expr *dot = expr_at(find, id);
  uint32_t row = 1u << out->row, key = 1u << out->key;
  for (int i = 0; i < out->inner_count; i++)
    if (out->inner[i].dot == id) return NULL;
  if (out->inner_count == ATTENTION_MAX_INNER) return "weights are made of too many contractions";
  AttentionInner *inner = &out->inner[out->inner_count++];
  bool swap = depends(find, dot->in[0], key);
  *inner = (AttentionInner){.dot = id, .row_side = dot->in[swap], .key_side = dot->in[!swap]};
  inner->along = only_axis(dot->axes);
  if (inner->along < 0) return "scores are contracted over several axes";
  if (!depends(find, inner->row_side, row) || !depends(find, inner->key_side, key) ||
      depends(find, inner->row_side, key) || depends(find, inner->key_side, row))
    return "scores are no product of something per row and something per key";
  return NULL;
}

// All contractions below a weight; nothing else there may go over keys or rows.
static const char *find_inner(Find *find, ExprId id) {
  const Attention *out = find->out;
  const Expr *e = expr_at(find, id);
  if (!id || find->seen[id] || id == out->largest || id == out->total) return NULL;
  find->seen[id] = true;
  if (e->op == SCALAR_DOT) return add_inner(find, id);
  if (e->axes) return "a weight holds a sum or maximum beside its softmax";
  for (int i = 0; i < 3; i++) {
    const char *why = find_inner(find, e->in[i]);
    if (why) return why;
  }
  return NULL;
}

// ---- the whole ----------------------------------------------------------------------------------

// A contraction that each value is elementwise in.
static void find_products(Find *find) {
  find->product = ARENA_ARRAY(find->kernel->arena, ExprId, find->kernel->expr_count);
  for (ExprId id = 1; id < find->kernel->expr_count; id++) {
    const Expr *e = expr_at(find, id);
    if (e->op == SCALAR_DOT) find->product[id] = id;
    for (int i = 0; i < 3 && !e->axes && !find->product[id]; i++) find->product[id] = find->product[e->in[i]];
  }
}

// The axis to go along, of rows or keys: the longest of several, run-time ones first.
static int longest(const Kernel *kernel, uint32_t rows) {
  int best = -1;
  for (int axis = 0; axis < kernel->axis_count; axis++) {
    if (!(rows >> axis & 1)) continue;
    Extent x = kernel->axes[axis].extent, y = best < 0 ? x : kernel->axes[best].extent;
    bool longer = extent_is_constant(x) ? extent_is_constant(y) && x.offset >= y.offset : true;
    if (best < 0 || longer) best = axis;
  }
  return best;
}

// A result whose weights are those of another one, turned.
static const char *add_turned(Find *find, const AttentionOuter *outer, int row, int key, uint32_t more) {
  Attention *out = find->out;
  const Store *store = &find->kernel->stores[__builtin_ctz(outer->stores)];
  const KernelBuffer *buffer = &find->kernel->buffers[store->buffer];
  uint32_t batch = store->axes & ~(1u << row | 1u << outer->column);
  Extent width = find->kernel->axes[outer->column].extent;
  if (out->is_turned || more || out->more || batch != out->batch) return "results differ in axes";
  if (depends(find, outer->value, 1u << row)) return "values differ between rows";
  if (!extent_is_constant(width) || width.offset > ATTENTION_WIDEST) return "values are too wide";
  if (store->value != outer->dot || buffer->dtype != DTYPE_F32)
    return "what is summed the other way round is changed";
  if (kernel_stride((Kernel *)(uintptr_t)find->kernel, store->buffer, store->index, outer->column) != 1)
    return "columns are no neighbours";
  for (int i = 0; i < out->outer_count; i++) {
    if (!same_turned(find, outer->weight, row, key, out->outer[i].weight)) continue;
    out->turned = *outer;
    out->turned_row = row;
    out->turned_key = key;
    out->turned_of = i;
    out->is_turned = true;
    return NULL;
  }
  return "results differ in axes";
}

// What a contraction contracts: the weight is the side that is made of contractions.
static const char *read_outer(const Find *find, int number, ExprId dot, AttentionOuter *outer, int *row,
                              int *key) {
  const Store *store = &find->kernel->stores[number];
  const Expr *e = expr_at(find, dot);
  bool swap = !find->product[e->in[0]];
  if (swap && !find->product[e->in[1]]) return "its weights are no contractions";
  *outer = (AttentionOuter){.dot = dot, .weight = e->in[swap], .value = e->in[!swap]};
  outer->axes = store->axes;
  outer->stores = 1u << number;
  uint32_t weight = kernel_free_axes(find->kernel, outer->weight) & ~e->axes;
  uint32_t value = kernel_free_axes(find->kernel, outer->value) & ~e->axes;
  outer->column = only_axis(value & ~weight);
  if (outer->column < 0) return "values lie along several axes";
  *row = longest(find->kernel, weight & ~value);
  *key = longest(find->kernel, e->axes);
  return *row < 0 ? "there is one row of queries" : NULL;
}

static AttentionOuter *known_outer(Attention *out, ExprId dot) {
  for (int i = 0; i < out->outer_count; i++)
    if (out->outer[i].dot == dot) return &out->outer[i];
  return NULL;
}

// `turned`: the second time round, when all results over the keys are known; those are then passed over.
static const char *add_outer(Find *find, int number, ExprId dot, bool turned) {
  Attention *out = find->out;
  AttentionOuter outer, *known = known_outer(out, dot);
  int row, key;
  if (known && turned) return NULL;
  if (known) {
    known->stores |= 1u << number;
    return known->axes == find->kernel->stores[number].axes ? NULL
                                                            : "one result is stored over different axes";
  }
  const char *why = read_outer(find, number, dot, &outer, &row, &key);
  if (why) return why;
  uint32_t more = expr_at(find, dot)->axes & ~(1u << key);
  if (turned) return add_turned(find, &outer, row, key, more);
  if (out->outer_count && (row != out->row || key != out->key || more != out->more))
    return NULL; // perhaps turned
  if (out->outer_count == ATTENTION_MAX_OUTER) return "there are too many results";
  out->row = row;
  out->key = key;
  out->more = more;
  out->batch |= outer.axes & ~(1u << row | 1u << outer.column);
  out->outer[out->outer_count++] = outer;
  return NULL;
}

static const char *check_outer(Find *find, AttentionOuter *outer) {
  const Kernel *kernel = find->kernel;
  for (int i = 0; i < kernel->store_count; i++)
    if (!(outer->stores >> i & 1) && kernel_depends(kernel, kernel->stores[i].value, outer->dot))
      return "a stored value is made of several results";
  Extent width = kernel->axes[outer->column].extent;
  if (depends(find, outer->value, 1u << find->out->row)) return "values differ between rows";
  if (!extent_is_constant(width) || width.offset > ATTENTION_WIDEST) return "values are too wide";
  find->steps = 0;
  ExprId share = find_share(find, outer->weight);
  const char *why = share ? check_softmax(find, share) : NULL;
  memset(find->seen, 0, kernel->expr_count);
  return why ? why : find_inner(find, outer->weight);
}

// Whatever else is stored is one number per row, of the softmax's largest and sum.
static const char *check_statistic(Find *find, const Store *store, ExprId id) {
  const Attention *out = find->out;
  const Expr *e = expr_at(find, id);
  if (!id || find->seen[id] || id == out->largest || id == out->total) return NULL;
  find->seen[id] = true;
  if (store->axes & ~(out->batch | 1u << out->row)) return "something is stored per key or per value";
  if (e->axes) return "something else is reduced";
  for (int i = 0; i < 3; i++) {
    const char *why = check_statistic(find, store, e->in[i]);
    if (why) return why;
  }
  return NULL;
}

static const char *check_widths(const Find *find) {
  const Attention *out = find->out;
  if (!out->inner_count) return "its weights are no contractions";
  for (int i = 0; i < out->inner_count; i++) {
    Extent width = find->kernel->axes[out->inner[i].along].extent;
    if (!extent_is_constant(width)) return "the width of a head is only known at run time";
    if (width.offset > ATTENTION_WIDEST) return "heads are too wide";
  }
  if (out->share && (out->outer_count > 1 || out->is_turned)) return "a softmax has several results";
  return NULL;
}

const char *kernel_attention(const Kernel *kernel, Attention *out) {
  const char *why = NULL;
  memset(out, 0, sizeof *out);
  Find find = {.kernel = kernel, .out = out, .seen = ARENA_ARRAY(kernel->arena, bool, kernel->expr_count)};
  find_products(&find);
  for (int i = 0; i < kernel->store_count && !why; i++) {
    const Store *store = &kernel->stores[i];
    ExprId dot = find.product[store->value];
    if (store->mode != STORE_SET || kernel->buffers[store->buffer].use != BUFFER_WRITE)
      why = "it overwrites what it reads";
    else if (dot)
      why = add_outer(&find, i, dot, false);
  }
  if (!why && !out->outer_count) why = "there is no contraction";
  for (int i = 0; i < kernel->store_count && !why; i++)
    if (find.product[kernel->stores[i].value])
      why = add_outer(&find, i, find.product[kernel->stores[i].value], true);
  for (int i = 0; i < out->outer_count && !why; i++) why = check_outer(&find, &out->outer[i]);
  memset(find.seen, 0, kernel->expr_count);
  for (int i = 0; i < kernel->store_count && !why; i++)
    if (!find.product[kernel->stores[i].value])
      why = check_statistic(&find, &kernel->stores[i], kernel->stores[i].value);
  return why ? why : check_widths(&find);
}
