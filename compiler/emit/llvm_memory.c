// Memory: elements as they are stored, and as the values that kernels compute with. Input: addresses,
// contiguous or one per lane, and a mask; output: IR that reads, widens, rounds and writes.
#include "compiler/emit/llvm_emit.h"

LLVMTypeRef llvm_stored_type(Emit *emit, DType dtype) {
  switch (dtype) {
  case DTYPE_BOOL:
  case DTYPE_U8: return emit->i8;
  case DTYPE_BF16: return emit->i16;
  case DTYPE_F16: return emit->machine->f16 ? LLVMHalfTypeInContext(emit->context) : emit->i16;
  case DTYPE_F64: return LLVMDoubleTypeInContext(emit->context);
  default: return llvm_type(emit, dtype, 1);
  }
}

// ---- f16 by whole-number arithmetic, for machines that do not convert it ------------------------

static LLVMValueRef bits(Emit *emit, int64_t value, int lanes) {
  return llvm_splat(emit, llvm_i32(emit, (int32_t)value), lanes);
}

// The exponent is rebased by a product, which takes denormals along; infinity and NaN get the largest
// exponent.
static LLVMValueRef f16_widen(Emit *emit, LLVMValueRef raw, int lanes) {
  LLVMBuilderRef b = emit->builder;
  LLVMTypeRef i32 = llvm_vector_of(emit->i32, lanes), f32 = llvm_vector_of(emit->f32, lanes);
  LLVMValueRef half = LLVMBuildZExt(b, raw, i32, "");
  LLVMValueRef sign =
      LLVMBuildShl(b, LLVMBuildAnd(b, half, bits(emit, 0x8000, lanes), ""), bits(emit, 16, lanes), "");
  LLVMValueRef magnitude = LLVMBuildAnd(b, half, bits(emit, 0x7FFF, lanes), "");
  LLVMValueRef finite = LLVMBuildICmp(b, LLVMIntULT, magnitude, bits(emit, 0x7C00, lanes), "");
  LLVMValueRef shifted = LLVMBuildShl(b, magnitude, bits(emit, 13, lanes), "");
  LLVMValueRef value = LLVMBuildBitCast(b, shifted, f32, "");
  value = LLVMBuildFMul(b, value, llvm_splat(emit, llvm_f32(emit, 0x1p112), lanes), "");
  LLVMValueRef endless = LLVMBuildOr(b, shifted, bits(emit, 0x7F800000, lanes), "");
  value = LLVMBuildSelect(b, finite, LLVMBuildBitCast(b, value, i32, ""), endless, "");
  return LLVMBuildBitCast(b, LLVMBuildOr(b, value, sign, ""), f32, "");
}

// Normal numbers round by adding half of the last place; below 2^-14 adding 0.5 leaves the right bits at the
// end.
static LLVMValueRef f16_round(Emit *emit, LLVMValueRef value, int lanes) {
  LLVMBuilderRef b = emit->builder;
  LLVMTypeRef i32 = llvm_vector_of(emit->i32, lanes), f32 = llvm_vector_of(emit->f32, lanes);
  LLVMValueRef all = LLVMBuildBitCast(b, value, i32, "");
  LLVMValueRef sign =
      LLVMBuildLShr(b, LLVMBuildAnd(b, all, bits(emit, 0x80000000, lanes), ""), bits(emit, 16, lanes), "");
  LLVMValueRef magnitude = LLVMBuildAnd(b, all, bits(emit, 0x7FFFFFFF, lanes), "");
  LLVMValueRef odd =
      LLVMBuildAnd(b, LLVMBuildLShr(b, magnitude, bits(emit, 13, lanes), ""), bits(emit, 1, lanes), "");
  LLVMValueRef up =
      LLVMBuildAdd(b, magnitude, LLVMBuildAdd(b, odd, bits(emit, 0xFFF - 0x38000000, lanes), ""), "");
  LLVMValueRef normal = LLVMBuildLShr(b, up, bits(emit, 13, lanes), "");
  LLVMValueRef small = LLVMBuildFAdd(b, LLVMBuildBitCast(b, magnitude, f32, ""),
                                     llvm_splat(emit, llvm_f32(emit, 0.5), lanes), "");
  small = LLVMBuildSub(b, LLVMBuildBitCast(b, small, i32, ""), bits(emit, 0x3F000000, lanes), "");
  LLVMValueRef is_small = LLVMBuildICmp(b, LLVMIntULT, magnitude, bits(emit, 0x38800000, lanes), "");
  LLVMValueRef is_large = LLVMBuildICmp(b, LLVMIntUGE, magnitude, bits(emit, 0x47800000, lanes), "");
  LLVMValueRef is_nan = LLVMBuildICmp(b, LLVMIntUGT, magnitude, bits(emit, 0x7F800000, lanes), "");
  LLVMValueRef large = LLVMBuildSelect(b, is_nan, bits(emit, 0x7E00, lanes), bits(emit, 0x7C00, lanes), "");
  LLVMValueRef half =
      LLVMBuildSelect(b, is_small, small, LLVMBuildSelect(b, is_large, large, normal, ""), "");
  return LLVMBuildTrunc(b, LLVMBuildOr(b, half, sign, ""), llvm_vector_of(emit->i16, lanes), "");
}

// ---- values and what memory holds ---------------------------------------------------------------

// What memory holds, as the expression dtype that kernels give it.
static LLVMValueRef widen(Emit *emit, DType dtype, LLVMValueRef raw, int lanes) {
  LLVMTypeRef f32 = llvm_vector_of(emit->f32, lanes), i32 = llvm_vector_of(emit->i32, lanes);
  switch (dtype) {
  case DTYPE_BOOL: return LLVMBuildICmp(emit->builder, LLVMIntNE, raw, LLVMConstNull(LLVMTypeOf(raw)), "");
  case DTYPE_U8: return LLVMBuildZExt(emit->builder, raw, i32, "");
  case DTYPE_F16:
    return emit->machine->f16 ? LLVMBuildFPExt(emit->builder, raw, f32, "") : f16_widen(emit, raw, lanes);
  case DTYPE_F64: return LLVMBuildFPTrunc(emit->builder, raw, f32, "");
  case DTYPE_BF16:
    raw = LLVMBuildZExt(emit->builder, raw, i32, "");
    raw = LLVMBuildShl(emit->builder, raw, llvm_splat(emit, llvm_i32(emit, 16), lanes), "");
    return LLVMBuildBitCast(emit->builder, raw, f32, "");
  default: return raw;
  }
}

// Rounds to nearest, ties to even, by whole-number arithmetic: the machine's own instruction would flush
// denormals, and the same bits are to come out everywhere.
static LLVMValueRef round_bf16(Emit *emit, LLVMValueRef value, int lanes) {
  LLVMBuilderRef b = emit->builder;
  LLVMTypeRef i32 = llvm_vector_of(emit->i32, lanes), i16 = llvm_vector_of(emit->i16, lanes);
  LLVMValueRef sixteen = llvm_splat(emit, llvm_i32(emit, 16), lanes);
  LLVMValueRef bits = LLVMBuildBitCast(b, value, i32, "");
  LLVMValueRef high = LLVMBuildLShr(b, bits, sixteen, "");
  LLVMValueRef odd = LLVMBuildAnd(b, high, llvm_splat(emit, llvm_i32(emit, 1), lanes), "");
  LLVMValueRef up = LLVMBuildAdd(b, odd, llvm_splat(emit, llvm_i32(emit, 0x7FFF), lanes), "");
  LLVMValueRef rounded = LLVMBuildLShr(b, LLVMBuildAdd(b, bits, up, ""), sixteen, "");
  LLVMValueRef quiet = LLVMBuildOr(b, high, llvm_splat(emit, llvm_i32(emit, 0x40), lanes), "");
  LLVMValueRef nan = LLVMBuildFCmp(b, LLVMRealUNO, value, value, "");
  return LLVMBuildTrunc(b, LLVMBuildSelect(b, nan, quiet, rounded, ""), i16, "");
}

static LLVMValueRef narrow(Emit *emit, DType dtype, LLVMValueRef value, int lanes) {
  LLVMTypeRef type = llvm_vector_of(llvm_stored_type(emit, dtype), lanes);
  switch (dtype) {
  case DTYPE_BOOL: return LLVMBuildZExt(emit->builder, value, type, "");
  case DTYPE_U8: return LLVMBuildTrunc(emit->builder, value, type, "");
  case DTYPE_F16:
    return emit->machine->f16 ? LLVMBuildFPTrunc(emit->builder, value, type, "")
                              : f16_round(emit, value, lanes);
  case DTYPE_F64: return LLVMBuildFPExt(emit->builder, value, type, "");
  case DTYPE_BF16: return round_bf16(emit, value, lanes);
  default: return value;
  }
}

static LLVMValueRef all_lanes(Emit *emit, int lanes) {
  return llvm_splat(emit, LLVMConstInt(emit->i1, 1, false), lanes);
}

LLVMValueRef llvm_read(Emit *emit, DType dtype, LLVMValueRef address, int lanes, LLVMValueRef mask) {
  LLVMTypeRef element = llvm_stored_type(emit, dtype), type = llvm_vector_of(element, lanes);
  unsigned align = (unsigned)dtype_bytes(dtype);
  LLVMValueRef raw;
  if (LLVMGetTypeKind(LLVMTypeOf(address)) == LLVMVectorTypeKind) {
    LLVMValueRef arguments[] = {address, llvm_i32(emit, (int32_t)align), mask ? mask : all_lanes(emit, lanes),
                                LLVMConstNull(type)};
    raw = llvm_intrinsic(emit, "llvm.masked.gather", (LLVMTypeRef[]){type, LLVMTypeOf(address)}, 2, arguments,
                         4);
  } else if (mask && lanes > 1) {
    LLVMValueRef arguments[] = {address, llvm_i32(emit, (int32_t)align), mask, LLVMConstNull(type)};
    raw = llvm_intrinsic(emit, "llvm.masked.load", (LLVMTypeRef[]){type, emit->pointer}, 2, arguments, 4);
  } else {
    raw = LLVMBuildLoad2(emit->builder, type, address, "");
    LLVMSetAlignment(raw, align);
  }
  return widen(emit, dtype, raw, lanes);
}

void llvm_write(Emit *emit, DType dtype, LLVMValueRef address, LLVMValueRef value, int lanes,
                LLVMValueRef mask) {
  LLVMTypeRef type = llvm_vector_of(llvm_stored_type(emit, dtype), lanes);
  unsigned align = (unsigned)dtype_bytes(dtype);
  value = narrow(emit, dtype, value, lanes);
  bool scattered = LLVMGetTypeKind(LLVMTypeOf(address)) == LLVMVectorTypeKind;
  if (!scattered && (!mask || lanes == 1)) {
    LLVMSetAlignment(LLVMBuildStore(emit->builder, value, address), align);
    return;
  }
  LLVMValueRef arguments[] = {value, address, llvm_i32(emit, (int32_t)align),
                              mask ? mask : all_lanes(emit, lanes)};
  LLVMTypeRef overloads[] = {type, LLVMTypeOf(address)};
  llvm_intrinsic(emit, scattered ? "llvm.masked.scatter" : "llvm.masked.store", overloads, 2, arguments, 4);
}
