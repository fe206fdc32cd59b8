// Index arithmetic along the vector axis: (lane 0's value, constant step) instead of vectors of 64-bit
// numbers. Input: operands in that form; output: the result in that form, or for comparisons a mask made of
// 32-bit lanes.
#include "compiler/emit/llvm_emit.h"

static bool known(const Value *value, int64_t *number) {
  return !value->vector && !value->step && llvm_known(value->scalar, number);
}

static LLVMValueRef scalar_add(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  if (LLVMIsAConstantInt(y) && !LLVMConstIntGetSExtValue(y)) return x;
  if (LLVMIsAConstantInt(x) && !LLVMConstIntGetSExtValue(x)) return y;
  return LLVMBuildAdd(emit->builder, x, y, "");
}

static bool multiply(Emit *emit, const Value *x, const Value *y, Value *result) {
  int64_t factor = 1;
  if (!known(y, &factor)) {
    if (known(x, &factor)) return multiply(emit, y, x, result);
    if (x->step || y->step) return false;
  }
  if (__builtin_mul_overflow(x->step, factor, &result->step)) return false;
  if (__builtin_mul_overflow(x->multiple, y->multiple, &result->multiple)) result->multiple = 1;
  result->scalar = factor == 1 && LLVMIsAConstantInt(y->scalar)
                       ? x->scalar
                       : LLVMBuildMul(emit->builder, x->scalar, y->scalar, "");
  return true;
}

// Division rounds down. The quotient's remainder is in [0, divisor), so an arithmetic shift does it for
// powers of two.
static LLVMValueRef quotient(Emit *emit, LLVMValueRef x, int64_t divisor) {
  if (divisor == 1) return x;
  if (!(divisor & (divisor - 1)))
    return LLVMBuildAShr(emit->builder, x, llvm_i64(emit, __builtin_ctzll((uint64_t)divisor)), "");
  LLVMValueRef towards_zero = LLVMBuildSDiv(emit->builder, x, llvm_i64(emit, divisor), "");
  LLVMValueRef rest = LLVMBuildSub(
      emit->builder, x, LLVMBuildMul(emit->builder, towards_zero, llvm_i64(emit, divisor), ""), "");
  LLVMValueRef negative = LLVMBuildAShr(emit->builder, rest, llvm_i64(emit, 63), "");
  return LLVMBuildAdd(emit->builder, towards_zero, negative, "");
}

static LLVMValueRef remainder_of(Emit *emit, LLVMValueRef x, int64_t divisor) {
  if (!(divisor & (divisor - 1))) return LLVMBuildAnd(emit->builder, x, llvm_i64(emit, divisor - 1), "");
  LLVMValueRef whole = LLVMBuildMul(emit->builder, quotient(emit, x, divisor), llvm_i64(emit, divisor), "");
  return LLVMBuildSub(emit->builder, x, whole, "");
}

// x / c and x % c by a constant c > 0. Lanes that stay between two multiples of c share their quotient; lanes
// a multiple of c apart share their remainder.
static bool divide(Emit *emit, bool modulo, const Value *x, const Value *y, int lanes, Value *result) {
  int64_t divisor, reach;
  if (!known(y, &divisor) || divisor <= 0) return false;
  int64_t common = llvm_common_divisor(x->multiple, divisor);
  bool aligned = x->step >= 0 && !__builtin_mul_overflow(x->step, lanes - 1, &reach) && reach < common;
  if (!aligned && x->step % divisor) return false;
  result->scalar = (modulo ? remainder_of : quotient)(emit, x->scalar, divisor);
  if (modulo) {
    result->step = aligned ? x->step : 0;
    result->multiple = common;
  } else {
    result->step = aligned ? 0 : x->step / divisor;
    result->multiple = x->multiple % divisor ? 1 : x->multiple / divisor;
  }
  return true;
}

// x < y for x = a + i lane, y = b + j lane: (i - j) lane < b - a, in 32 bits once b - a is brought into
// reach.
static bool compare(Emit *emit, ScalarOp op, const Value *x, const Value *y, int lanes, Value *result) {
  LLVMIntPredicate predicate = op == SCALAR_LESS ? LLVMIntSLT : op == SCALAR_LESSEQ ? LLVMIntSLE : LLVMIntEQ;
  const int64_t reach = INT64_C(1) << 30;
  int64_t step;
  if (__builtin_sub_overflow(x->step, y->step, &step) || step > reach / lanes || step < -reach / lanes)
    return false;
  if (!step) {
    result->scalar = LLVMBuildICmp(emit->builder, predicate, x->scalar, y->scalar, "");
    return true;
  }
  LLVMValueRef apart = LLVMBuildSub(emit->builder, y->scalar, x->scalar, "");
  LLVMValueRef low = llvm_i64(emit, -2 * reach + 1);
  apart = llvm_minimum(emit, apart, llvm_i64(emit, 2 * reach - 1));
  apart = LLVMBuildSelect(emit->builder, LLVMBuildICmp(emit->builder, LLVMIntSLT, apart, low, ""), low, apart,
                          "");
  LLVMValueRef lane = llvm_iota(emit, emit->i32, lanes);
  lane = LLVMBuildMul(emit->builder, lane, llvm_splat(emit, llvm_i32(emit, (int32_t)step), lanes), "");
  LLVMValueRef bound = llvm_splat(emit, LLVMBuildTrunc(emit->builder, apart, emit->i32, ""), lanes);
  result->vector = LLVMBuildICmp(emit->builder, predicate, lane, bound, "");
  return true;
}

// The casts of a0 + step lane: exact in f64 up to 2^53, then rounded once.
static bool cast(Emit *emit, DType to, const Value *x, int lanes, Value *result) {
  if (!x->step) return false;
  if (to == DTYPE_I64) {
    *result = *x;
    return true;
  }
  if (to != DTYPE_F32) return false;
  LLVMTypeRef f64 = LLVMDoubleTypeInContext(emit->context);
  LLVMValueRef base = llvm_splat(emit, LLVMBuildSIToFP(emit->builder, x->scalar, f64, ""), lanes);
  LLVMValueRef *offsets = ARENA_ARRAY(emit->arena, LLVMValueRef, lanes);
  for (int i = 0; i < lanes; i++) offsets[i] = LLVMConstReal(f64, (double)(x->step * i));
  LLVMValueRef sum = LLVMBuildFAdd(emit->builder, base, LLVMConstVector(offsets, (unsigned)lanes), "");
  result->vector = LLVMBuildFPTrunc(emit->builder, sum, llvm_vector_of(emit->f32, lanes), "");
  return true;
}

bool llvm_index(Emit *emit, const Expr *expr, const Value *x, const Value *y, int lanes, Value *result) {
  if (x->vector || (y && y->vector)) return false;
  *result = (Value){.multiple = 1};
  switch (expr->op) {
  case SCALAR_NEG:
    result->scalar = LLVMBuildNeg(emit->builder, x->scalar, "");
    result->step = -x->step;
    result->multiple = x->multiple;
    return true;
  case SCALAR_ADD:
    result->scalar = scalar_add(emit, x->scalar, y->scalar);
    result->multiple = llvm_common_divisor(x->multiple, y->multiple);
    return !__builtin_add_overflow(x->step, y->step, &result->step);
  case SCALAR_SUB:
    result->scalar = LLVMBuildSub(emit->builder, x->scalar, y->scalar, "");
    result->multiple = llvm_common_divisor(x->multiple, y->multiple);
    return !__builtin_sub_overflow(x->step, y->step, &result->step);
  case SCALAR_MUL: return multiply(emit, x, y, result);
  case SCALAR_DIV:
  case SCALAR_MOD: return divide(emit, expr->op == SCALAR_MOD, x, y, lanes, result);
  case SCALAR_LESS:
  case SCALAR_LESSEQ:
  case SCALAR_EQUAL: return compare(emit, expr->op, x, y, lanes, result);
  case SCALAR_CAST: return cast(emit, expr->dtype, x, lanes, result);
  default: return false;
  }
}
