// Philox 4x32-10 on vectors, the same bits as runtime/base/philox.h. Input: counter, stream and index of each
// lane; output: uniform floats in [0, 1).
#include "compiler/emit/llvm_emit.h"

// A 32-bit word by a factor. Words are kept in 64-bit lanes of which the upper half is whatever came about:
// machines multiply the lower halves of such lanes to whole products at once.
static LLVMValueRef product(Emit *emit, LLVMValueRef word, uint32_t factor, int lanes) {
  LLVMValueRef low =
      LLVMBuildAnd(emit->builder, word, llvm_splat(emit, llvm_i64(emit, 0xFFFFFFFF), lanes), "");
  return LLVMBuildMul(emit->builder, low, llvm_splat(emit, llvm_i64(emit, factor), lanes), "");
}

static void philox_block(Emit *emit, LLVMValueRef word[4], LLVMValueRef key0, LLVMValueRef key1, int lanes) {
  LLVMBuilderRef b = emit->builder;
  LLVMValueRef step0 = llvm_splat(emit, llvm_i64(emit, 0x9E3779B9), lanes);
  LLVMValueRef step1 = llvm_splat(emit, llvm_i64(emit, 0xBB67AE85), lanes);
  LLVMValueRef half = llvm_splat(emit, llvm_i64(emit, 32), lanes);
  for (int round = 0; round < 10; round++) {
    LLVMValueRef first = product(emit, word[0], 0xD2511F53u, lanes);
    LLVMValueRef second = product(emit, word[2], 0xCD9E8D57u, lanes);
    word[0] = LLVMBuildXor(b, LLVMBuildXor(b, LLVMBuildLShr(b, second, half, ""), word[1], ""), key0, "");
    word[1] = second;
    word[2] = LLVMBuildXor(b, LLVMBuildXor(b, LLVMBuildLShr(b, first, half, ""), word[3], ""), key1, "");
    word[3] = first;
    key0 = LLVMBuildAdd(b, key0, step0, "");
    key1 = LLVMBuildAdd(b, key1, step1, "");
  }
}

static LLVMValueRef uniform(Emit *emit, LLVMValueRef bits, int lanes) {
  bits = LLVMBuildLShr(emit->builder, bits, llvm_splat(emit, llvm_i32(emit, 8), lanes), "");
  LLVMValueRef value = LLVMBuildUIToFP(emit->builder, bits, llvm_vector_of(emit->f32, lanes), "");
  return LLVMBuildFMul(emit->builder, value, llvm_splat(emit, llvm_f32(emit, 0x1p-24), lanes), "");
}

// One block per element of `blocks` (i64); key: the counter (i32, spread) and the stream.
static void blocks_of(Emit *emit, LLVMValueRef blocks, LLVMValueRef counter, uint32_t stream, int lanes,
                      LLVMValueRef word[4]) {
  LLVMBuilderRef b = emit->builder;
  LLVMTypeRef i32 = llvm_vector_of(emit->i32, lanes), i64 = llvm_vector_of(emit->i64, lanes);
  word[0] = blocks;
  word[1] = LLVMBuildLShr(b, blocks, llvm_splat(emit, llvm_i64(emit, 32), lanes), "");
  word[2] = word[3] = LLVMConstNull(i64);
  philox_block(emit, word, LLVMBuildZExt(b, counter, i64, ""),
               llvm_splat(emit, llvm_i64(emit, stream), lanes), lanes);
  for (int i = 0; i < 4; i++) word[i] = LLVMBuildTrunc(b, word[i], i32, "");
}

// (a0 a1 ..) (b0 b1 ..) -> (a0 b0 a1 b1 ..)
static LLVMValueRef interleave(Emit *emit, LLVMValueRef a, LLVMValueRef c, int lanes) {
  LLVMValueRef *order = ARENA_ARRAY(emit->arena, LLVMValueRef, 2 * lanes);
  for (int i = 0; i < 2 * lanes; i++) order[i] = llvm_i32(emit, i / 2 + (i % 2) * lanes);
  if (lanes == 1) {
    LLVMValueRef both = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(a), 2));
    both = LLVMBuildInsertElement(emit->builder, both, a, llvm_i32(emit, 0), "");
    return LLVMBuildInsertElement(emit->builder, both, c, llvm_i32(emit, 1), "");
  }
  return LLVMBuildShuffleVector(emit->builder, a, c, LLVMConstVector(order, (unsigned)(2 * lanes)), "");
}

// Neighbouring lanes that start at a multiple of 4 share their blocks: a quarter of the work.
static LLVMValueRef shared_blocks(Emit *emit, uint32_t stream, LLVMValueRef counter, LLVMValueRef index,
                                  int lanes) {
  LLVMBuilderRef b = emit->builder;
  int count = lanes / 4;
  LLVMValueRef word[4];
  LLVMValueRef first = LLVMBuildLShr(b, index, llvm_i64(emit, 2), "");
  LLVMValueRef blocks =
      LLVMBuildAdd(b, llvm_splat(emit, first, count), llvm_iota(emit, emit->i64, count), "");
  blocks_of(emit, blocks, llvm_splat(emit, counter, count), stream, count, word);
  LLVMValueRef even = interleave(emit, word[0], word[2], count),
               odd = interleave(emit, word[1], word[3], count);
  return uniform(emit, interleave(emit, even, odd, 2 * count), lanes);
}

LLVMValueRef llvm_random(Emit *emit, uint32_t stream, const Value *counter, const Value *index, int lanes) {
  LLVMBuilderRef b = emit->builder;
  if (!counter->vector && !index->vector && index->step == 1 && index->multiple % 4 == 0 && lanes % 4 == 0)
    return shared_blocks(emit, stream, counter->scalar, index->scalar, lanes);
  LLVMValueRef keys = llvm_materialise(emit, counter, lanes), at = llvm_materialise(emit, index, lanes),
               word[4];
  LLVMValueRef blocks = LLVMBuildLShr(b, at, llvm_splat(emit, llvm_i64(emit, 2), lanes), "");
  blocks_of(emit, blocks, keys, stream, lanes, word);
  LLVMValueRef bits = word[3];
  LLVMValueRef place = LLVMBuildAnd(b, at, llvm_splat(emit, llvm_i64(emit, 3), lanes), "");
  for (int i = 2; i >= 0; i--) {
    LLVMValueRef here = LLVMBuildICmp(b, LLVMIntEQ, place, llvm_splat(emit, llvm_i64(emit, i), lanes), "");
    bits = LLVMBuildSelect(b, here, word[i], bits, "");
  }
  return uniform(emit, bits, lanes);
}
