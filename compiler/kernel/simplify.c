// Simplification of scalar expressions as they are built: constants fold, neutral operands go, and
// whole-number division is resolved by what is known of the operands' bounds, so that chains of reshapes
// become plain indices. Input: one expression over simplified operands; output: an equal, simpler one, or 0.
//
//   (12*h + d) / 12 = h and mod 12 = d              where 0 <= d < 12
//   (6*x + y) / 12  = x / 2                         where 0 <= y < 6
//   (T*h + t) / T   = h                             where t is an axis of extent T
#include "compiler/kernel/kernel.h"

#include <math.h>
#include <string.h>

enum { MAX_TERMS = 16 };
static const double EXACT = 9007199254740992.0; // 2^53: whole numbers below are exact in doubles

// ---- facts: free axes and bounds ----------------------------------------------------------------

static int64_t add_bound(int64_t a, int64_t b, int64_t unknown) {
  int64_t sum;
  if (a == INT64_MIN || a == INT64_MAX || b == INT64_MIN || b == INT64_MAX) return unknown;
  return __builtin_add_overflow(a, b, &sum) ? unknown : sum;
}

static bool bounded(const ExprFacts *facts) { return facts->low != INT64_MIN && facts->high != INT64_MAX; }

static int64_t floor_div(int64_t x, int64_t y) {
  int64_t quotient = x / y;
  return quotient - (x % y != 0 && (x < 0) != (y < 0));
}

static void product_bounds(const ExprFacts *x, const ExprFacts *y, ExprFacts *out) {
  if (bounded(x) && bounded(y)) {
    int64_t corner[4], low = INT64_MAX, high = INT64_MIN;
    for (int i = 0; i < 4; i++) {
      if (__builtin_mul_overflow(i & 1 ? x->high : x->low, i & 2 ? y->high : y->low, &corner[i])) return;
      if (corner[i] < low) low = corner[i];
      if (corner[i] > high) high = corner[i];
    }
    out->low = low;
    out->high = high;
  } else if (x->low >= 0 && y->low >= 0) {
    out->low = 0;
  }
}

static void whole_bounds(const Kernel *kernel, const Expr *expr, ExprFacts *out) {
  const ExprFacts *x = &kernel->facts[expr->in[0]], *y = &kernel->facts[expr->in[1]];
  switch (expr->op) {
  case SCALAR_CONST:
    if (fabs(expr->number) < EXACT) out->low = out->high = (int64_t)expr->number;
    return;
  case SCALAR_AXIS: {
    Extent extent = kernel->axes[expr->axis].extent;
    out->low = 0;
    if (extent_is_constant(extent)) out->high = extent.offset > 0 ? extent.offset - 1 : 0;
    return;
  }
  case SCALAR_SIZE: out->low = 0; return;
  case SCALAR_ADD:
    out->low = add_bound(x->low, y->low, INT64_MIN);
    out->high = add_bound(x->high, y->high, INT64_MAX);
    return;
  case SCALAR_SUB:
    out->low = add_bound(x->low, y->high == INT64_MAX ? INT64_MAX : -y->high, INT64_MIN);
    out->high = add_bound(x->high, y->low == INT64_MIN ? INT64_MIN : -y->low, INT64_MAX);
    return;
  case SCALAR_MUL: product_bounds(x, y, out); return;
  case SCALAR_DIV:
    if (y->low != y->high || y->low <= 0) return;
    if (x->low != INT64_MIN) out->low = floor_div(x->low, y->low);
    if (x->high != INT64_MAX) out->high = floor_div(x->high, y->low);
    return;
  case SCALAR_MOD:
    if (y->low <= 0) return;
    out->low = 0;
    if (y->high != INT64_MAX) out->high = y->high - 1;
    if (x->low >= 0 && x->high < out->high) out->high = x->high;
    return;
  case SCALAR_MIN:
    out->low = x->low < y->low ? x->low : y->low;
    out->high = x->high < y->high ? x->high : y->high;
    return;
  case SCALAR_MAX:
    out->low = x->low > y->low ? x->low : y->low;
    out->high = x->high > y->high ? x->high : y->high;
    return;
  case SCALAR_SELECT: {
    const ExprFacts *z = &kernel->facts[expr->in[2]];
    out->low = y->low < z->low ? y->low : z->low;
    out->high = y->high > z->high ? y->high : z->high;
    return;
  }
  default: return;
  }
}

ExprFacts kernel_facts(const Kernel *kernel, const Expr *expr) {
  ExprFacts facts = {0, INT64_MIN, INT64_MAX};
  if (expr->op == SCALAR_AXIS) facts.free_axes = 1u << expr->axis;
  for (int i = 0; i < 3; i++) facts.free_axes |= kernel->facts[expr->in[i]].free_axes;
  if (expr->op == SCALAR_LOAD)
    for (int i = 0; i < KERNEL_MAX_RANK; i++) facts.free_axes |= kernel->facts[expr->index[i]].free_axes;
  facts.free_axes &= ~expr->axes;
  if (expr->dtype == DTYPE_I64) whole_bounds(kernel, expr, &facts);
  return facts;
}

// ---- small helpers ------------------------------------------------------------------------------

static bool is_whole(DType dtype) { return dtype == DTYPE_I64 || dtype == DTYPE_I32; }

static bool constant(const Kernel *kernel, ExprId id, double *value) {
  const Expr *expr = &kernel->exprs[id];
  if (!id || expr->op != SCALAR_CONST) return false;
  *value = expr->number;
  return true;
}

static ExprId whole(Kernel *kernel, int64_t value) { return kernel_number(kernel, (double)value, DTYPE_I64); }

static bool commutes(ScalarOp op) {
  return op == SCALAR_ADD || op == SCALAR_MUL || op == SCALAR_MIN || op == SCALAR_MAX || op == SCALAR_EQUAL ||
         op == SCALAR_AND || op == SCALAR_OR;
}

// ---- sums of whole numbers, for division: constant + sum of factor[i] * term[i] -----------------

typedef struct Sum {
  ExprId term[MAX_TERMS];
  int64_t factor[MAX_TERMS];
  int count;
  int64_t constant;
} Sum;

static bool sum_add(const Kernel *kernel, ExprId id, int64_t factor, Sum *sum) {
  const Expr *expr = &kernel->exprs[id];
  double number;
  switch (expr->op) {
  case SCALAR_CONST: {
    int64_t product;
    return fabs(expr->number) < EXACT && !__builtin_mul_overflow((int64_t)expr->number, factor, &product) &&
           !__builtin_add_overflow(sum->constant, product, &sum->constant);
  }
  case SCALAR_ADD:
    return sum_add(kernel, expr->in[0], factor, sum) && sum_add(kernel, expr->in[1], factor, sum);
  case SCALAR_SUB:
    return sum_add(kernel, expr->in[0], factor, sum) && sum_add(kernel, expr->in[1], -factor, sum);
  case SCALAR_NEG: return sum_add(kernel, expr->in[0], -factor, sum);
  case SCALAR_MUL:
    if (constant(kernel, expr->in[1], &number) && fabs(number) < EXACT &&
        !__builtin_mul_overflow(factor, (int64_t)number, &factor))
      return sum_add(kernel, expr->in[0], factor, sum);
    break;
  default: break;
  }
  for (int i = 0; i < sum->count; i++)
    if (sum->term[i] == id) return !__builtin_add_overflow(sum->factor[i], factor, &sum->factor[i]);
  if (sum->count == MAX_TERMS) return false;
  sum->term[sum->count] = id;
  sum->factor[sum->count++] = factor;
  return true;
}

static ExprId sum_build(Kernel *kernel, const Sum *sum) {
  ExprId total = 0;
  for (int i = 0; i < sum->count; i++) {
    if (!sum->factor[i]) continue;
    ExprId term = kernel_binary(kernel, SCALAR_MUL, sum->term[i], whole(kernel, sum->factor[i]));
    total = total ? kernel_binary(kernel, SCALAR_ADD, total, term) : term;
  }
  if (!total) return whole(kernel, sum->constant);
  return sum->constant ? kernel_binary(kernel, SCALAR_ADD, total, whole(kernel, sum->constant)) : total;
}

// Is 0 <= sum < limit for all values of the axes?
static bool sum_within(const Kernel *kernel, const Sum *sum, int64_t limit) {
  ExprFacts total = {0, sum->constant, sum->constant};
  for (int i = 0; i < sum->count; i++) {
    ExprFacts factor = {0, sum->factor[i], sum->factor[i]}, term = {0, INT64_MIN, INT64_MAX};
    product_bounds(&kernel->facts[sum->term[i]], &factor, &term);
    if (!sum->factor[i]) term.low = term.high = 0;
    total.low = add_bound(total.low, term.low, INT64_MIN);
    total.high = add_bound(total.high, term.high, INT64_MAX);
  }
  return total.low >= 0 && total.high < limit;
}

// Splits sum = multiple * unit + rest by whether a factor is divisible.
static void sum_split(const Sum *sum, int64_t unit, Sum *multiple, Sum *rest) {
  *multiple = *rest = (Sum){0};
  for (int i = 0; i < sum->count; i++) {
    bool divisible = sum->factor[i] % unit == 0;
    Sum *to = divisible ? multiple : rest;
    to->term[to->count] = sum->term[i];
    to->factor[to->count++] = divisible ? sum->factor[i] / unit : sum->factor[i];
  }
  multiple->constant = floor_div(sum->constant, unit);
  rest->constant = sum->constant - multiple->constant * unit;
}

static int64_t greatest_divisor(int64_t a, int64_t b) {
  if (a < 0) a = -a;
  while (b) {
    int64_t next = a % b;
    a = b;
    b = next;
  }
  return a;
}

// x / divisor (or x mod divisor) for a constant divisor; 0 where nothing is gained.
static ExprId divide(Kernel *kernel, ExprId x, int64_t divisor, bool modulo) {
  Sum sum = {0}, multiple, rest;
  if (divisor <= 0 || divisor > (int64_t)1 << 52 || !sum_add(kernel, x, 1, &sum)) return 0;
  if (divisor == 1) return modulo ? whole(kernel, 0) : x;
  sum_split(&sum, divisor, &multiple, &rest);
  if (sum_within(kernel, &rest, divisor)) return sum_build(kernel, modulo ? &rest : &multiple);
  if (multiple.count || multiple.constant) { // (divisor*q + r) / divisor = q + r / divisor, whatever r is
    ExprId small = sum_build(kernel, &rest);
    ExprId part = kernel_binary(kernel, modulo ? SCALAR_MOD : SCALAR_DIV, small, whole(kernel, divisor));
    return modulo ? part : kernel_binary(kernel, SCALAR_ADD, sum_build(kernel, &multiple), part);
  }
  for (int i = 0; i < sum.count; i++) {
    int64_t unit = greatest_divisor(sum.factor[i], divisor);
    sum_split(&sum, unit, &multiple, &rest);
    if (unit <= 1 || !sum_within(kernel, &rest, unit) ||
        (!rest.count && !rest.constant && sum.count == 1 && modulo))
      continue;
    ExprId coarse = kernel_binary(kernel, modulo ? SCALAR_MOD : SCALAR_DIV, sum_build(kernel, &multiple),
                                  whole(kernel, divisor / unit));
    if (!modulo) return coarse;
    return kernel_binary(kernel, SCALAR_ADD, kernel_binary(kernel, SCALAR_MUL, coarse, whole(kernel, unit)),
                         sum_build(kernel, &rest));
  }
  const Expr *inner = &kernel->exprs[x];
  double other;
  int64_t product;
  if (!modulo && inner->op == SCALAR_DIV && constant(kernel, inner->in[1], &other) && other > 0 &&
      !__builtin_mul_overflow((int64_t)other, divisor, &product) && product < (int64_t)1 << 52)
    return kernel_binary(kernel, SCALAR_DIV, inner->in[0], whole(kernel, product));
  if (modulo && inner->op == SCALAR_MOD && constant(kernel, inner->in[1], &other) &&
      (int64_t)other % divisor == 0)
    return kernel_binary(kernel, SCALAR_MOD, inner->in[0], whole(kernel, divisor));
  return 0;
}

// The same for a symbolic divisor: terms that hold it as a factor, and a rest that is an axis of its extent.
static ExprId divide_by_size(Kernel *kernel, ExprId x, ExprId size, bool modulo) {
  Sum sum = {0}, multiple = {0}, rest = {0};
  if (!sum_add(kernel, x, 1, &sum)) return 0;
  rest.constant = sum.constant;
  for (int i = 0; i < sum.count; i++) {
    const Expr *term = &kernel->exprs[sum.term[i]];
    ExprId factor = 0;
    if (sum.term[i] == size)
      factor = whole(kernel, 1);
    else if (term->op == SCALAR_MUL && term->in[1] == size)
      factor = term->in[0];
    else if (term->op == SCALAR_MUL && term->in[0] == size)
      factor = term->in[1];
    Sum *to = factor ? &multiple : &rest;
    to->term[to->count] = factor ? factor : sum.term[i];
    to->factor[to->count++] = sum.factor[i];
  }
  bool zero = !rest.count && !rest.constant, inside = false;
  if (rest.count == 1 && rest.factor[0] == 1 && !rest.constant) {
    const Expr *term = &kernel->exprs[rest.term[0]];
    inside = (term->op == SCALAR_AXIS &&
              extent_equal(kernel->axes[term->axis].extent, kernel->exprs[size].extent)) ||
             (term->op == SCALAR_MOD && term->in[1] == size);
  }
  if (!zero && !inside) return 0;
  return sum_build(kernel, modulo ? &rest : &multiple);
}

// ---- rules by operation -------------------------------------------------------------------------

static ExprId fold_constants(Kernel *kernel, const Expr *expr) {
  double value[3] = {0};
  int operands = scalar_table[expr->op].operands;
  if (expr->op < SCALAR_NEG || expr->op >= SCALAR_RANDOM) return 0;
  for (int i = 0; i < operands; i++)
    if (!constant(kernel, expr->in[i], &value[i])) return 0;
  bool integers = is_whole(kernel->exprs[expr->in[expr->op == SCALAR_SELECT]].dtype);
  if (integers && (expr->op == SCALAR_DIV || expr->op == SCALAR_MOD) && value[1] == 0) return 0;
  double result = scalar_evaluate(expr->op, integers, value[0], value[1], value[2]);
  if (is_whole(expr->dtype) && !(fabs(result) < (expr->dtype == DTYPE_I32 ? 2147483648.0 : EXACT))) return 0;
  return kernel_number(kernel, result, expr->dtype);
}

// (q * c*k) + (x mod c) * k where q = x / c: x * k
static ExprId rejoin(Kernel *kernel, ExprId quotient, ExprId remainder) {
  double scale = 1, unit = 1, divisor, other;
  if (kernel->exprs[quotient].op == SCALAR_MUL && constant(kernel, kernel->exprs[quotient].in[1], &scale))
    quotient = kernel->exprs[quotient].in[0];
  if (kernel->exprs[remainder].op == SCALAR_MUL && constant(kernel, kernel->exprs[remainder].in[1], &unit))
    remainder = kernel->exprs[remainder].in[0];
  const Expr *div = &kernel->exprs[quotient], *mod = &kernel->exprs[remainder];
  if (div->op != SCALAR_DIV || mod->op != SCALAR_MOD || div->in[0] != mod->in[0]) return 0;
  if (!constant(kernel, div->in[1], &divisor) || !constant(kernel, mod->in[1], &other)) return 0;
  if (divisor != other || scale != divisor * unit) return 0;
  return kernel_binary(kernel, SCALAR_MUL, div->in[0], kernel_number(kernel, unit, DTYPE_I64));
}

static ExprId simplify_add(Kernel *kernel, const Expr *expr) {
  ExprId x = expr->in[0], y = expr->in[1];
  double a, b;
  if (constant(kernel, y, &b) && b == 0) return x;
  if (expr->dtype != DTYPE_I64) return 0;
  const Expr *inner = &kernel->exprs[x];
  if (constant(kernel, y, &b) && inner->op == SCALAR_ADD && constant(kernel, inner->in[1], &a) &&
      fabs(a + b) < EXACT)
    return kernel_binary(kernel, SCALAR_ADD, inner->in[0], kernel_number(kernel, a + b, DTYPE_I64));
  ExprId joined = rejoin(kernel, x, y);
  return joined ? joined : rejoin(kernel, y, x);
}

static ExprId simplify_sub(Kernel *kernel, const Expr *expr) {
  ExprId x = expr->in[0], y = expr->in[1];
  double b;
  if (constant(kernel, y, &b) && b == 0) return x;
  if (expr->dtype != DTYPE_I64) return 0;
  if (x == y) return whole(kernel, 0);
  if (constant(kernel, y, &b))
    return kernel_binary(kernel, SCALAR_ADD, x, kernel_number(kernel, -b, DTYPE_I64));
  return 0;
}

static ExprId simplify_mul(Kernel *kernel, const Expr *expr) {
  ExprId x = expr->in[0];
  double a, b;
  if (!constant(kernel, expr->in[1], &b)) return 0;
  if (b == 1) return x;
  if (expr->dtype != DTYPE_I64) return 0;
  if (b == 0) return whole(kernel, 0);
  const Expr *inner = &kernel->exprs[x];
  if (inner->op == SCALAR_MUL && constant(kernel, inner->in[1], &a) && fabs(a * b) < EXACT)
    return kernel_binary(kernel, SCALAR_MUL, inner->in[0], kernel_number(kernel, a * b, DTYPE_I64));
  return 0;
}

static ExprId simplify_div_mod(Kernel *kernel, const Expr *expr) {
  bool modulo = expr->op == SCALAR_MOD;
  double b;
  if (constant(kernel, expr->in[1], &b)) {
    if (expr->dtype == DTYPE_I64) return divide(kernel, expr->in[0], (int64_t)b, modulo);
    return b == 1 && !modulo ? expr->in[0] : 0;
  }
  if (expr->dtype == DTYPE_I64 && kernel->exprs[expr->in[1]].op == SCALAR_SIZE)
    return divide_by_size(kernel, expr->in[0], expr->in[1], modulo);
  return 0;
}

static ExprId truth(Kernel *kernel, bool value) { return kernel_number(kernel, value, DTYPE_BOOL); }

// Comparisons of indices that hold or fail for all values: guards that turned out to be unneeded.
static ExprId simplify_compare(Kernel *kernel, const Expr *expr) {
  ExprId x = expr->in[0], y = expr->in[1];
  const Expr *left = &kernel->exprs[x], *right = &kernel->exprs[y];
  if (left->dtype != DTYPE_I64) return 0;
  ExprFacts a = kernel->facts[x], b = kernel->facts[y];
  if (x == y) return truth(kernel, expr->op != SCALAR_LESS);
  bool below = a.high != INT64_MAX && b.low != INT64_MIN && a.high < b.low;
  bool above = a.low != INT64_MIN && b.high != INT64_MAX && a.low > b.high;
  if (expr->op == SCALAR_EQUAL) return below || above ? truth(kernel, false) : 0;
  if (below) return truth(kernel, true);
  if (above) return truth(kernel, false);
  bool touching = a.high != INT64_MAX && a.high == b.low, reversed = a.low != INT64_MIN && a.low == b.high;
  if (expr->op == SCALAR_LESSEQ && touching) return truth(kernel, true);
  if (expr->op == SCALAR_LESS && reversed) return truth(kernel, false);
  if (left->op == SCALAR_AXIS && right->op == SCALAR_SIZE &&
      extent_equal(kernel->axes[left->axis].extent, right->extent))
    return truth(kernel, true);
  return 0;
}

static ExprId simplify_logic(Kernel *kernel, const Expr *expr) {
  ExprId x = expr->in[0], y = expr->in[1];
  double value;
  if (x == y) return x;
  for (int i = 0; i < 2; i++)
    if (constant(kernel, expr->in[i], &value)) {
      bool decided = expr->op == SCALAR_AND ? value == 0 : value != 0;
      return decided ? expr->in[i] : expr->in[1 - i];
    }
  return 0;
}

static ExprId simplify_minmax(Kernel *kernel, const Expr *expr) {
  ExprId x = expr->in[0], y = expr->in[1];
  if (x == y) return x;
  if (expr->dtype != DTYPE_I64) return 0;
  ExprFacts a = kernel->facts[x], b = kernel->facts[y];
  bool less = a.high != INT64_MAX && b.low != INT64_MIN && a.high <= b.low;
  bool more = a.low != INT64_MIN && b.high != INT64_MAX && a.low >= b.high;
  if (!less && !more) return 0;
  return (expr->op == SCALAR_MIN) == less ? x : y;
}

static ExprId simplify_load(Kernel *kernel, const Expr *expr) {
  double guard;
  if (!constant(kernel, expr->in[0], &guard)) return 0;
  if (guard == 0) return kernel_number(kernel, 0, expr->dtype);
  Expr unguarded = *expr;
  unguarded.in[0] = 0;
  return kernel_intern(kernel, unguarded);
}

static ExprId simplify_rest(Kernel *kernel, const Expr *expr) {
  const Expr *inner = &kernel->exprs[expr->in[0]];
  double value;
  switch (expr->op) {
  case SCALAR_SIZE: return extent_is_constant(expr->extent) ? whole(kernel, expr->extent.offset) : 0;
  case SCALAR_AXIS: {
    Extent extent = kernel->axes[expr->axis].extent;
    return extent_is_constant(extent) && extent.offset == 1 ? whole(kernel, 0) : 0;
  }
  case SCALAR_NEG: return inner->op == SCALAR_NEG ? inner->in[0] : 0;
  case SCALAR_NOT: return inner->op == SCALAR_NOT ? inner->in[0] : 0;
  case SCALAR_CAST: return inner->dtype == expr->dtype ? expr->in[0] : 0;
  case SCALAR_SELECT:
    if (constant(kernel, expr->in[0], &value)) return value != 0 ? expr->in[1] : expr->in[2];
    return expr->in[1] == expr->in[2] ? expr->in[1] : 0;
  default: return 0;
  }
}

ExprId kernel_simplify(Kernel *kernel, const Expr *expr) {
  ExprId folded = fold_constants(kernel, expr);
  if (folded) return folded;
  Expr swapped = *expr;
  double value;
  if (commutes(expr->op) && constant(kernel, expr->in[0], &value) && !constant(kernel, expr->in[1], &value)) {
    // constants stand right
    swapped.in[0] = expr->in[1];
    swapped.in[1] = expr->in[0];
    ExprId simple = kernel_simplify(kernel, &swapped);
    return simple ? simple : kernel_intern(kernel, swapped);
  }
  switch (expr->op) {
  case SCALAR_ADD: return simplify_add(kernel, expr);
  case SCALAR_SUB: return simplify_sub(kernel, expr);
  case SCALAR_MUL: return simplify_mul(kernel, expr);
  case SCALAR_DIV:
  case SCALAR_MOD: return simplify_div_mod(kernel, expr);
  case SCALAR_LESS:
  case SCALAR_LESSEQ:
  case SCALAR_EQUAL: return simplify_compare(kernel, expr);
  case SCALAR_AND:
  case SCALAR_OR: return simplify_logic(kernel, expr);
  case SCALAR_MIN:
  case SCALAR_MAX: return simplify_minmax(kernel, expr);
  case SCALAR_LOAD: return simplify_load(kernel, expr);
  default: return simplify_rest(kernel, expr);
  }
}
