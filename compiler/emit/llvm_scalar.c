// Arithmetic: one rule per row of kernel/ops.def. Input: operands of one shape; output: IR of that shape.
#include "compiler/emit/llvm_emit.h"

#define RULE(name)                                                                                           \
  static LLVMValueRef llvm_##name(Emit *emit, const Expr *expr, LLVMValueRef x, LLVMValueRef y,              \
                                  LLVMValueRef z)

// Each rule takes what it needs of these.
#define UNUSED (void)expr, (void)y, (void)z

static DType operand_dtype(Emit *emit, const Expr *expr) { return emit->kernel->exprs[expr->in[0]].dtype; }
static bool is_float(Emit *emit, const Expr *expr) { return operand_dtype(emit, expr) == DTYPE_F32; }

static LLVMValueRef float_intrinsic(Emit *emit, const char *name, LLVMValueRef x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  return llvm_intrinsic(emit, name, &type, 1, &x, 1);
}

RULE(structure) {
  UNUSED, (void)x;
  die("kernel %s: %s is structure, not arithmetic", emit->kernel->name, scalar_table[expr->op].name);
}

RULE(neg) {
  UNUSED;
  return is_float(emit, expr) ? LLVMBuildFNeg(emit->builder, x, "") : LLVMBuildNeg(emit->builder, x, "");
}
RULE(abs) {
  UNUSED;
  if (is_float(emit, expr)) return float_intrinsic(emit, "llvm.fabs", x);
  LLVMValueRef negative = LLVMBuildICmp(emit->builder, LLVMIntSLT, x, LLVMConstNull(LLVMTypeOf(x)), "");
  return LLVMBuildSelect(emit->builder, negative, LLVMBuildNeg(emit->builder, x, ""), x, "");
}
RULE(exp) {
  UNUSED;
  return llvm_math_exp(emit, x);
}
RULE(log) {
  UNUSED;
  return llvm_math_log(emit, x);
}
RULE(sqrt) {
  UNUSED;
  return float_intrinsic(emit, "llvm.sqrt", x);
}
RULE(rsqrt) {
  UNUSED;
  LLVMValueRef root = float_intrinsic(emit, "llvm.sqrt", x);
  return LLVMBuildFDiv(emit->builder, llvm_constant_like(emit, x, 1), root, "");
}
RULE(sin) {
  UNUSED;
  return llvm_math_sin(emit, x);
}
RULE(cos) {
  UNUSED;
  return llvm_math_cos(emit, x);
}
RULE(tanh) {
  UNUSED;
  return llvm_math_tanh(emit, x);
}
RULE(erf) {
  UNUSED;
  return llvm_math_erf(emit, x);
}
RULE(floor) {
  UNUSED;
  return is_float(emit, expr) ? float_intrinsic(emit, "llvm.floor", x) : x;
}
RULE(not ) {
  UNUSED;
  return LLVMBuildNot(emit->builder, x, "");
}

// A float becomes the nearest whole number towards zero, the ends of the range where it is beyond, 0 for NaN.
static LLVMValueRef to_whole(Emit *emit, LLVMValueRef x, LLVMTypeRef type) {
  return llvm_intrinsic(emit, "llvm.fptosi.sat", (LLVMTypeRef[]){type, LLVMTypeOf(x)}, 2, &x, 1);
}

static LLVMValueRef saturate_i32(Emit *emit, LLVMValueRef x, LLVMTypeRef type) {
  int lanes = llvm_width(x);
  LLVMValueRef high = llvm_splat(emit, llvm_i64(emit, INT32_MAX), lanes);
  LLVMValueRef low = llvm_splat(emit, llvm_i64(emit, INT32_MIN), lanes);
  x = LLVMBuildSelect(emit->builder, LLVMBuildICmp(emit->builder, LLVMIntSGT, x, high, ""), high, x, "");
  x = LLVMBuildSelect(emit->builder, LLVMBuildICmp(emit->builder, LLVMIntSLT, x, low, ""), low, x, "");
  return LLVMBuildTrunc(emit->builder, x, type, "");
}

RULE(cast) {
  UNUSED;
  DType from = operand_dtype(emit, expr), to = expr->dtype;
  LLVMTypeRef type = llvm_type(emit, to, llvm_width(x));
  LLVMValueRef zero = LLVMConstNull(LLVMTypeOf(x));
  if (from == to) return x;
  if (to == DTYPE_BOOL)
    return from == DTYPE_F32 ? LLVMBuildFCmp(emit->builder, LLVMRealUNE, x, zero, "")
                             : LLVMBuildICmp(emit->builder, LLVMIntNE, x, zero, "");
  if (to == DTYPE_F32)
    return from == DTYPE_BOOL ? LLVMBuildUIToFP(emit->builder, x, type, "")
                              : LLVMBuildSIToFP(emit->builder, x, type, "");
  if (from == DTYPE_F32) return to_whole(emit, x, type);
  if (from == DTYPE_BOOL) return LLVMBuildZExt(emit->builder, x, type, "");
  return to == DTYPE_I64 ? LLVMBuildSExt(emit->builder, x, type, "") : saturate_i32(emit, x, type);
}

RULE(add) {
  UNUSED;
  return is_float(emit, expr) ? llvm_fadd(emit, x, y) : LLVMBuildAdd(emit->builder, x, y, "");
}
RULE(sub) {
  UNUSED;
  if (!is_float(emit, expr)) return LLVMBuildSub(emit->builder, x, y, "");
  return llvm_contract(LLVMBuildFSub(emit->builder, x, y, ""));
}
RULE(mul) {
  UNUSED;
  return is_float(emit, expr) ? llvm_fmul(emit, x, y) : LLVMBuildMul(emit->builder, x, y, "");
}

// A whole number in all lanes of x's type.
static LLVMValueRef constant_like(LLVMValueRef x, long long number) {
  LLVMTypeRef type = LLVMTypeOf(x);
  if (LLVMGetTypeKind(type) != LLVMVectorTypeKind)
    return LLVMConstInt(type, (unsigned long long)number, true);
  LLVMValueRef lanes[256];
  unsigned count = LLVMGetVectorSize(type);
  for (unsigned i = 0; i < count; i++)
    lanes[i] = LLVMConstInt(LLVMGetElementType(type), (unsigned long long)number, true);
  return LLVMConstVector(lanes, count);
}

// Whole numbers: rounds down; by 0 it is 0. The machine's division is kept from dividing by 0 and the lowest
// by -1.
static LLVMValueRef divide_down(Emit *emit, bool modulo, LLVMValueRef x, LLVMValueRef y) {
  LLVMBuilderRef b = emit->builder;
  LLVMTypeRef type = LLVMTypeOf(x);
  LLVMValueRef zero = LLVMConstNull(type), ones = LLVMConstAllOnes(type);
  LLVMValueRef by_zero = LLVMBuildICmp(b, LLVMIntEQ, y, zero, ""),
               by_minus = LLVMBuildICmp(b, LLVMIntEQ, y, ones, "");
  LLVMValueRef one = LLVMBuildNeg(b, ones, "");
  LLVMValueRef safe = LLVMBuildSelect(b, LLVMBuildOr(b, by_zero, by_minus, ""), one, y, "");
  LLVMValueRef quotient = LLVMBuildSDiv(b, x, safe, "");
  LLVMValueRef rest = LLVMBuildSub(b, x, LLVMBuildMul(b, quotient, safe, ""), "");
  LLVMValueRef differ = LLVMBuildICmp(b, LLVMIntSLT, LLVMBuildXor(b, rest, safe, ""), zero, "");
  LLVMValueRef low = LLVMBuildAnd(b, differ, LLVMBuildICmp(b, LLVMIntNE, rest, zero, ""), "");
  LLVMValueRef result;
  if (modulo) {
    result = LLVMBuildSelect(b, low, LLVMBuildAdd(b, rest, safe, ""), rest, "");
  } else {
    result = LLVMBuildSelect(b, low, LLVMBuildSub(b, quotient, one, ""), quotient, "");
    result = LLVMBuildSelect(b, by_minus, LLVMBuildNeg(b, x, ""), result, "");
  }
  return LLVMBuildSelect(b, by_zero, zero, result, "");
}

// The exponent of a constant divisor that is a power of two, whose quotients rounded down are shifts; -1: it is none.
static int shift_of(const Emit *emit, const Expr *expr) {
  const Expr *divisor = &emit->kernel->exprs[expr->in[1]];
  if (divisor->op != SCALAR_CONST || divisor->number < 1 || divisor->number > 1 << 30) return -1;
  int64_t number = (int64_t)divisor->number;
  return number & (number - 1) ? -1 : __builtin_ctzll((uint64_t)number);
}

RULE(div) {
  UNUSED;
  if (is_float(emit, expr)) return LLVMBuildFDiv(emit->builder, x, y, "");
  int shift = shift_of(emit, expr);
  if (shift < 0) return divide_down(emit, false, x, y);
  return LLVMBuildAShr(emit->builder, x, constant_like(x, shift), "");
}
RULE(mod) {
  UNUSED;
  if (!is_float(emit, expr)) {
    int shift = shift_of(emit, expr);
    if (shift < 0) return divide_down(emit, true, x, y);
    return LLVMBuildAnd(emit->builder, x, constant_like(x, (1ll << shift) - 1), "");
  }
  LLVMValueRef whole = float_intrinsic(emit, "llvm.floor", LLVMBuildFDiv(emit->builder, x, y, ""));
  return llvm_contract(LLVMBuildFSub(emit->builder, x, llvm_fmul(emit, y, whole), ""));
}
RULE(pow) {
  UNUSED;
  return llvm_math_pow(emit, x, y);
}

// NaN wins, the first operand's before the second's.
static LLVMValueRef extreme(Emit *emit, const Expr *expr, bool greater, LLVMValueRef x, LLVMValueRef y) {
  LLVMBuilderRef b = emit->builder;
  if (operand_dtype(emit, expr) == DTYPE_BOOL)
    return greater ? LLVMBuildOr(b, x, y, "") : LLVMBuildAnd(b, x, y, "");
  if (!is_float(emit, expr)) {
    LLVMValueRef first = LLVMBuildICmp(b, greater ? LLVMIntSGT : LLVMIntSLT, x, y, "");
    return LLVMBuildSelect(b, first, x, y, "");
  }
  return llvm_extreme(emit, greater, x, y);
}
RULE(min) {
  UNUSED;
  return extreme(emit, expr, false, x, y);
}
RULE(max) {
  UNUSED;
  return extreme(emit, expr, true, x, y);
}

static LLVMValueRef compare(Emit *emit, const Expr *expr, LLVMRealPredicate real, LLVMIntPredicate whole,
                            LLVMIntPredicate boolean, LLVMValueRef x, LLVMValueRef y) {
  if (is_float(emit, expr)) return LLVMBuildFCmp(emit->builder, real, x, y, "");
  return LLVMBuildICmp(emit->builder, operand_dtype(emit, expr) == DTYPE_BOOL ? boolean : whole, x, y, "");
}
RULE(less) {
  UNUSED;
  return compare(emit, expr, LLVMRealOLT, LLVMIntSLT, LLVMIntULT, x, y);
}
RULE(lesseq) {
  UNUSED;
  return compare(emit, expr, LLVMRealOLE, LLVMIntSLE, LLVMIntULE, x, y);
}
RULE(equal) {
  UNUSED;
  return compare(emit, expr, LLVMRealOEQ, LLVMIntEQ, LLVMIntEQ, x, y);
}
RULE(and) {
  UNUSED;
  return LLVMBuildAnd(emit->builder, x, y, "");
}
RULE(or) {
  UNUSED;
  return LLVMBuildOr(emit->builder, x, y, "");
}
RULE(select) {
  UNUSED;
  return LLVMBuildSelect(emit->builder, x, y, z, "");
}

ScalarRule *const llvm_rules[SCALAR_COUNT] = {
#define SCALAR_OP(enumerator, name, operands, c, cuda, llvm, meaning) llvm_##llvm,
#include "compiler/kernel/ops.def"
#undef SCALAR_OP
};
