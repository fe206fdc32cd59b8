// exp, log, tanh, erf, sin, cos and pow of floats, one or a vector of them, as polynomials. Input: a value;
// output: IR without calls. Right for NaN, infinities, zeros and denormals; exp and log stay within 2 units
// in the last place, tanh and erf within 4; sin and cos reduce in f64; pow computes in f64 altogether.
//
// Coefficients are Chebyshev fits over the reduced range, computed for these functions.
#include "compiler/emit/llvm_emit.h"

#include <math.h>

typedef LLVMValueRef Val;

static LLVMTypeRef f64_type(Emit *emit, Val like) {
  return llvm_vector_of(LLVMDoubleTypeInContext(emit->context), llvm_width(like));
}
static LLVMTypeRef i32_type(Emit *emit, Val like) { return llvm_vector_of(emit->i32, llvm_width(like)); }
static LLVMTypeRef i64_type(Emit *emit, Val like) { return llvm_vector_of(emit->i64, llvm_width(like)); }
static LLVMTypeRef f32_type(Emit *emit, Val like) { return llvm_vector_of(emit->f32, llvm_width(like)); }

// A constant of the value's own float type.
static Val number(Emit *emit, Val like, double value) {
  LLVMTypeRef type = LLVMTypeOf(like);
  if (llvm_width(like) > 1) type = LLVMGetElementType(type);
  return llvm_splat(emit, LLVMConstReal(type, value), llvm_width(like));
}
static Val whole(Emit *emit, Val like, LLVMTypeRef element, int64_t value) {
  return llvm_splat(emit, LLVMConstInt(element, (uint64_t)value, true), llvm_width(like));
}

static Val add(Emit *emit, Val x, Val y) { return LLVMBuildFAdd(emit->builder, x, y, ""); }
static Val sub(Emit *emit, Val x, Val y) { return LLVMBuildFSub(emit->builder, x, y, ""); }
static Val mul(Emit *emit, Val x, Val y) { return LLVMBuildFMul(emit->builder, x, y, ""); }
static Val divide(Emit *emit, Val x, Val y) { return LLVMBuildFDiv(emit->builder, x, y, ""); }
static Val pick(Emit *emit, Val condition, Val x, Val y) {
  return LLVMBuildSelect(emit->builder, condition, x, y, "");
}
static Val test(Emit *emit, LLVMRealPredicate predicate, Val x, double y) {
  return LLVMBuildFCmp(emit->builder, predicate, x, number(emit, x, y), "");
}
static Val unary(Emit *emit, const char *name, Val x) {
  LLVMTypeRef type = LLVMTypeOf(x);
  return llvm_intrinsic(emit, name, &type, 1, &x, 1);
}
static Val with_sign(Emit *emit, Val magnitude, Val sign) {
  LLVMTypeRef type = LLVMTypeOf(magnitude);
  return llvm_intrinsic(emit, "llvm.copysign", &type, 1, (Val[]){magnitude, sign}, 2);
}

// c[0] + c[1] x + c[2] x^2 ...
static Val polynomial(Emit *emit, Val x, const double *c, int count) {
  Val sum = number(emit, x, c[count - 1]);
  for (int i = count - 2; i >= 0; i--) sum = llvm_fma(emit, sum, x, number(emit, x, c[i]));
  return sum;
}
#define POLYNOMIAL(emit, x, ...)                                                                             \
  polynomial(emit, x, (const double[]){__VA_ARGS__},                                                         \
             (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)))

// 2^n for whole n in [-126, 127] given as i32
static Val power_of_two(Emit *emit, Val n) {
  Val bits = LLVMBuildAdd(emit->builder, n, whole(emit, n, emit->i32, 127), "");
  bits = LLVMBuildShl(emit->builder, bits, whole(emit, n, emit->i32, 23), "");
  return LLVMBuildBitCast(emit->builder, bits, f32_type(emit, n), "");
}

// x = n ln 2 + r: e^x = 2^n e^r. 2^n goes in by halves, so that results round once into denormals and
// overflow to infinity; what is 0 skips that, for processors to which denormals are a burden. Adding 1.5 x
// 2^23 leaves n in the low bits, without a conversion that NaN would break.
Val llvm_math_exp(Emit *emit, Val x) {
  const double shift = 12582912;
  Val none = test(emit, LLVMRealOLT, x, -103.9721),
      zero = number(emit, x, 0); // below half of the least denormal
  Val in = pick(emit, none, zero, x);
  in = pick(emit, test(emit, LLVMRealOGT, in, 89), number(emit, x, 89), in);
  Val shifted = llvm_fma(emit, in, number(emit, x, 1.4426950408889634), number(emit, x, shift));
  Val n = sub(emit, shifted, number(emit, x, shift));
  Val r = llvm_fma(emit, n, number(emit, x, -0.693359375), in);
  r = llvm_fma(emit, n, number(emit, x, 2.12194440054690583e-4), r);
  Val p = POLYNOMIAL(emit, r, 0.5, 0.16666573381900845, 0.04166655011030512, 0.008363773874405574,
                     0.0013926926614021907);
  p = llvm_fma(emit, p, mul(emit, r, r), r);
  p = add(emit, p, number(emit, x, 1));
  Val bits = LLVMBuildBitCast(emit->builder, shifted, i32_type(emit, x), "");
  Val whole_n = LLVMBuildSub(emit->builder, bits, whole(emit, x, emit->i32, 0x4B400000), "");
  Val half = LLVMBuildAShr(emit->builder, whole_n, whole(emit, x, emit->i32, 1), "");
  Val rest = LLVMBuildSub(emit->builder, whole_n, half, "");
  Val power = mul(emit, mul(emit, p, power_of_two(emit, half)), power_of_two(emit, rest));
  return pick(emit, none, zero, power);
}

// x = m 2^e with m in [sqrt(1/2), sqrt(2)): log x = log(1 + (m - 1)) + e ln 2
Val llvm_math_log(Emit *emit, Val x) {
  LLVMBuilderRef b = emit->builder;
  Val tiny = test(emit, LLVMRealOLT, x, 0x1p-126);
  Val normal = pick(emit, tiny, mul(emit, x, number(emit, x, 0x1p23)), x);
  Val bits = LLVMBuildBitCast(b, normal, i32_type(emit, x), "");
  Val above = LLVMBuildSub(b, bits, whole(emit, x, emit->i32, 0x3F3504F3), ""); // bits of sqrt(1/2)
  Val exponent = LLVMBuildAShr(b, above, whole(emit, x, emit->i32, 23), "");
  Val m = LLVMBuildSub(b, bits, LLVMBuildShl(b, exponent, whole(emit, x, emit->i32, 23), ""), "");
  Val f = sub(emit, LLVMBuildBitCast(b, m, LLVMTypeOf(x), ""), number(emit, x, 1));
  Val e = LLVMBuildSIToFP(b, exponent, LLVMTypeOf(x), "");
  e = sub(emit, e, pick(emit, tiny, number(emit, x, 23), number(emit, x, 0)));
  Val p = POLYNOMIAL(emit, f, 0.33333331180030046, -0.24999996957950882, 0.200007157488921,
                     -0.16667802319501254, 0.1424905764569748, -0.12425687331451106, 0.1168541992348674,
                     -0.11479733846637635, 0.06971611471451178);
  Val square = mul(emit, f, f);
  Val y = mul(emit, mul(emit, square, f), p);
  y = llvm_fma(emit, e, number(emit, x, -2.12194440054690583e-4), y);
  y = llvm_fma(emit, square, number(emit, x, -0.5), y);
  y = add(emit, y, f);
  y = llvm_fma(emit, e, number(emit, x, 0.693359375), y);
  y = pick(emit, test(emit, LLVMRealOEQ, x, 0), number(emit, x, -INFINITY), y);
  y = pick(emit, test(emit, LLVMRealOEQ, x, INFINITY), x, y);
  return pick(emit, test(emit, LLVMRealULT, x, 0), number(emit, x, NAN),
              pick(emit, test(emit, LLVMRealUNO, x, 0), x, y));
}

// Near 0: x + x^3 P(x^2); else 1 - 2 / (e^2|x| + 1)
Val llvm_math_tanh(Emit *emit, Val x) {
  Val magnitude = unary(emit, "llvm.fabs", x), square = mul(emit, x, x);
  Val p = POLYNOMIAL(emit, square, -0.3333333312343919, 0.133332963528113, -0.053957595132456244,
                     0.02175570034585329, -0.008301695360635958, 0.0022460036855930367);
  Val near = llvm_fma(emit, mul(emit, p, square), x, x);
  Val power = llvm_math_exp(emit, add(emit, magnitude, magnitude));
  Val share = divide(emit, number(emit, x, 2), add(emit, power, number(emit, x, 1)));
  Val far = with_sign(emit, sub(emit, number(emit, x, 1), share), x);
  return pick(emit, test(emit, LLVMRealOLT, magnitude, 0.625), near, far);
}

// Below 1: x + x P(x^2); from 1 to 4: 1 - e^-Q(|x|) with Q = -log(erfc); from 4 on it is 1 in f32
Val llvm_math_erf(Emit *emit, Val x) {
  Val magnitude = unary(emit, "llvm.fabs", x), square = mul(emit, x, x);
  Val p =
      POLYNOMIAL(emit, square, 0.12837916584835093, -0.37612626666720334, 0.11283594715160218,
                 -0.026854212010626412, 0.005189087423433974, -0.000801686428716587, 7.875875062685488e-05);
  Val near = llvm_fma(emit, p, x, x);
  Val in = pick(emit, test(emit, LLVMRealOGT, magnitude, 4), number(emit, x, 4), magnitude);
  Val q = POLYNOMIAL(emit, in, -0.00032013804967769883, 1.130233434841994, 0.631826051559163,
                     0.11008008294882024, -0.026421136005663898, 0.004759596293266265, -0.0005968056256607798,
                     4.605804268918978e-05, -1.6371514145936436e-06);
  Val far = sub(emit, number(emit, x, 1), llvm_math_exp(emit, LLVMBuildFNeg(emit->builder, q, "")));
  return pick(emit, test(emit, LLVMRealOLT, magnitude, 1), near, with_sign(emit, far, x));
}

// x = n pi/2 + r, reduced in f64; `quarters` turns the result on by as many quarters: 0 sin, 1 cos. From 2^50
// on, where floats are millions of turns apart, the angle counts as 0.
static Val sine(Emit *emit, Val x, int quarters) {
  const double shift = 6755399441055744; // 1.5 x 2^52: n is left in the low bits
  LLVMBuilderRef b = emit->builder;
  Val huge = LLVMBuildFCmp(b, LLVMRealOGT, unary(emit, "llvm.fabs", x), number(emit, x, 0x1p50), "");
  Val in = pick(emit, huge, sub(emit, x, x), x); // infinity becomes NaN
  Val wide = LLVMBuildFPExt(b, in, f64_type(emit, x), "");
  Val shifted = add(emit, mul(emit, wide, number(emit, wide, 0.6366197723675814)), number(emit, wide, shift));
  Val n = sub(emit, shifted, number(emit, wide, shift));
  Val r = llvm_fma(emit, n, number(emit, wide, -1.5707963267341256), wide); // 33 bits of pi/2
  r = llvm_fma(emit, n, number(emit, wide, -6.0771005065061922e-11), r);
  Val turn = LLVMBuildTrunc(b, LLVMBuildBitCast(b, shifted, i64_type(emit, x), ""), i32_type(emit, x), "");
  turn = LLVMBuildAdd(b, turn, whole(emit, x, emit->i32, quarters), "");
  Val s = LLVMBuildFPTrunc(b, r, LLVMTypeOf(x), ""), square = mul(emit, s, s);
  Val p = POLYNOMIAL(emit, square, -0.16666666663832763, 0.008333331865959415, -0.00019840082012765537,
                     2.7249314054698804e-06);
  Val sin = llvm_fma(emit, mul(emit, p, square), s, s);
  Val q = POLYNOMIAL(emit, square, 0.0416666666643024, -0.0013888887664713619, 2.4800596435621998e-05,
                     -2.7300448619488353e-07);
  Val cos = llvm_fma(emit, q, mul(emit, square, square),
                     llvm_fma(emit, square, number(emit, x, -0.5), number(emit, x, 1)));
  Val odd = LLVMBuildAnd(b, turn, whole(emit, x, emit->i32, 1), "");
  Val use_cos = LLVMBuildICmp(b, LLVMIntNE, odd, whole(emit, x, emit->i32, 0), "");
  Val sign = LLVMBuildShl(b, LLVMBuildAnd(b, turn, whole(emit, x, emit->i32, 2), ""),
                          whole(emit, x, emit->i32, 30), "");
  Val value = LLVMBuildBitCast(b, pick(emit, use_cos, cos, sin), i32_type(emit, x), "");
  return LLVMBuildBitCast(b, LLVMBuildXor(b, value, sign, ""), LLVMTypeOf(x), "");
}
Val llvm_math_sin(Emit *emit, Val x) { return sine(emit, x, 0); }
Val llvm_math_cos(Emit *emit, Val x) { return sine(emit, x, 1); }

// log of a positive f64 that came from an f32 (so it is a normal number); 2 artanh((m - 1) / (m + 1)) + e ln
// 2
static Val log_f64(Emit *emit, Val x) {
  LLVMBuilderRef b = emit->builder;
  Val bits = LLVMBuildBitCast(b, x, i64_type(emit, x), "");
  Val above = LLVMBuildSub(b, bits, whole(emit, x, emit->i64, 0x3FE6A09E667F3BCD), ""); // bits of sqrt(1/2)
  Val exponent = LLVMBuildAShr(b, above, whole(emit, x, emit->i64, 52), "");
  Val m_bits = LLVMBuildSub(b, bits, LLVMBuildShl(b, exponent, whole(emit, x, emit->i64, 52), ""), "");
  Val m = LLVMBuildBitCast(b, m_bits, LLVMTypeOf(x), "");
  Val e = LLVMBuildSIToFP(b, LLVMBuildTrunc(b, exponent, i32_type(emit, x), ""), LLVMTypeOf(x), "");
  Val s = divide(emit, sub(emit, m, number(emit, x, 1)), add(emit, m, number(emit, x, 1)));
  Val p = POLYNOMIAL(emit, mul(emit, s, s), 2.0000000000000004, 0.6666666666655189, 0.40000000062209023,
                     0.2857141594486558, 0.22223440098249791, 0.18121750064019482, 0.1683993712463889);
  return llvm_fma(emit, e, number(emit, x, 0.6931471805599453), mul(emit, p, s));
}

// e^x for an f64 in [-110, 100]
static Val exp_f64(Emit *emit, Val x) {
  const double shift = 6755399441055744;
  LLVMBuilderRef b = emit->builder;
  Val shifted = add(emit, mul(emit, x, number(emit, x, 1.4426950408889634)), number(emit, x, shift));
  Val r = llvm_fma(emit, sub(emit, shifted, number(emit, x, shift)), number(emit, x, -0.6931471805599453), x);
  Val p = POLYNOMIAL(emit, r, 1.0, 1.0000000000000075, 0.5000000000000007, 0.166666666665451,
                     0.04166666666656539, 0.008333333388889617, 0.0013888888935172437, 0.00019841166223756682,
                     2.4801500976060442e-05, 2.7641848603771925e-06, 2.762774654094673e-07);
  Val n =
      LLVMBuildShl(b, LLVMBuildBitCast(b, shifted, i64_type(emit, x), ""), whole(emit, x, emit->i64, 52), "");
  Val bits = LLVMBuildAdd(b, LLVMBuildBitCast(b, p, i64_type(emit, x), ""), n, "");
  return LLVMBuildBitCast(b, bits, LLVMTypeOf(x), "");
}

// |x|^y = e^(y log |x|) in f64, then the cases that the C library lists.
Val llvm_math_pow(Emit *emit, Val x, Val y) {
  LLVMBuilderRef b = emit->builder;
  Val magnitude = unary(emit, "llvm.fabs", x);
  Val wide = LLVMBuildFPExt(b, magnitude, f64_type(emit, x), "");
  Val product = mul(emit, log_f64(emit, wide), LLVMBuildFPExt(b, y, f64_type(emit, y), ""));
  product = pick(emit, test(emit, LLVMRealOLT, product, -110), number(emit, product, -110), product);
  product = pick(emit, test(emit, LLVMRealOGT, product, 100), number(emit, product, 100), product);
  Val power = LLVMBuildFPTrunc(b, exp_f64(emit, product), LLVMTypeOf(x), "");
  Val zero = test(emit, LLVMRealOEQ, magnitude, 0), infinite = test(emit, LLVMRealOEQ, magnitude, INFINITY);
  Val down = test(emit, LLVMRealOLT, y, 0), none = number(emit, x, 0), all = number(emit, x, INFINITY);
  power = pick(emit, zero, pick(emit, down, all, none), power);
  power = pick(emit, infinite, pick(emit, down, none, all), power);
  // A negative base: NaN unless y is whole, and then y's parity is the sign.
  Val half = mul(emit, y, number(emit, y, 0.5));
  Val is_whole = LLVMBuildFCmp(b, LLVMRealOEQ, unary(emit, "llvm.floor", y), y, "");
  Val is_even = LLVMBuildFCmp(b, LLVMRealOEQ, unary(emit, "llvm.floor", half), half, "");
  Val odd = LLVMBuildAnd(b, is_whole, LLVMBuildNot(b, is_even, ""), "");
  Val negative = pick(emit, odd, with_sign(emit, power, x), power);
  Val bad = LLVMBuildAnd(b, test(emit, LLVMRealOLT, x, 0), LLVMBuildNot(b, is_whole, ""), "");
  bad = LLVMBuildAnd(b, bad, LLVMBuildNot(b, infinite, ""), "");
  power = pick(emit, bad, number(emit, x, NAN), negative);
  // Powers of 1 by infinity are 1; beyond that infinite powers go by the size of the base.
  Val unit = test(emit, LLVMRealOEQ, magnitude, 1);
  Val endless = test(emit, LLVMRealOEQ, unary(emit, "llvm.fabs", y), INFINITY);
  power = pick(emit, LLVMBuildAnd(b, unit, endless, ""), number(emit, x, 1), power);
  Val nan = LLVMBuildFCmp(b, LLVMRealUNO, x, y, "");
  power = pick(emit, nan, number(emit, x, NAN), power);
  Val one = LLVMBuildOr(b, test(emit, LLVMRealOEQ, y, 0), test(emit, LLVMRealOEQ, x, 1), "");
  return pick(emit, one, number(emit, x, 1), power);
}
