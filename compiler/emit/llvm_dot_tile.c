// The inner loops of contractions, as functions of their own inside of the kernel's module: a tile of sums in
// registers, the transposition that packing needs, and products of lines for few rows.
#include "compiler/emit/llvm_dot.h"

#include <string.h>

// ---- functions beside the kernel ----------------------------------------------------------------

typedef struct Helper {
  Emit emit; // the kernel's, but for function, scopes and variables
  LLVMBasicBlockRef outside;
  LLVMValueRef parameters[6];
} Helper;

// signature: one letter per parameter, p: pointer that nothing else points into, i: i64.
static Helper helper_open(Emit *emit, const char *name, const char *signature) {
  Helper helper = {.emit = *emit, .outside = LLVMGetInsertBlock(emit->builder)};
  LLVMTypeRef types[6];
  unsigned count = (unsigned)strlen(signature);
  for (unsigned i = 0; i < count; i++) types[i] = signature[i] == 'p' ? emit->pointer : emit->i64;
  LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(emit->context), types, count, false);
  Emit *inner = &helper.emit;
  inner->function = LLVMAddFunction(emit->module, name, type);
  LLVMSetLinkage(inner->function, LLVMInternalLinkage);
  LLVMValueRef outer = LLVMGetBasicBlockParent(helper.outside);
  LLVMAttributeRef attributes[64];
  if (LLVMGetAttributeCountAtIndex(outer, LLVMAttributeFunctionIndex) <= 64) {
    unsigned have = LLVMGetAttributeCountAtIndex(outer, LLVMAttributeFunctionIndex);
    LLVMGetAttributesAtIndex(outer, LLVMAttributeFunctionIndex, attributes);
    for (unsigned i = 0; i < have; i++)
      LLVMAddAttributeAtIndex(inner->function, LLVMAttributeFunctionIndex, attributes[i]);
  }
  unsigned noalias = LLVMGetEnumAttributeKindForName("noalias", 7);
  for (unsigned i = 0; i < count; i++) {
    helper.parameters[i] = LLVMGetParam(inner->function, i);
    if (signature[i] == 'p')
      LLVMAddAttributeAtIndex(inner->function, i + 1, LLVMCreateEnumAttribute(emit->context, noalias, 0));
  }
  inner->allocas = LLVMAppendBasicBlockInContext(emit->context, inner->function, "variables");
  LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(emit->context, inner->function, "body");
  LLVMPositionBuilderAtEnd(emit->builder, inner->allocas);
  LLVMBuildBr(emit->builder, body);
  LLVMPositionBuilderAtEnd(emit->builder, body);
  inner->innermost = NULL;
  inner->root = llvm_scope_open(inner);
  return helper;
}

static LLVMValueRef helper_close(Helper *helper) {
  LLVMBuildRetVoid(helper->emit.builder);
  LLVMPositionBuilderAtEnd(helper->emit.builder, helper->outside);
  return helper->emit.function;
}

void dot_call(Emit *emit, LLVMValueRef function, LLVMValueRef *arguments, unsigned count) {
  LLVMTypeRef types[6];
  for (unsigned i = 0; i < count; i++) types[i] = LLVMTypeOf(arguments[i]);
  LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(emit->context), types, count, false);
  LLVMBuildCall2(emit->builder, type, function, arguments, count, "");
}

// ---- small builders -----------------------------------------------------------------------------

static LLVMValueRef at(Emit *emit, LLVMTypeRef element, LLVMValueRef pointer, int64_t index) {
  return llvm_offset(emit, pointer, element, llvm_i64(emit, index));
}

static LLVMValueRef add(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWAdd(emit->builder, x, y, "");
}

static LLVMValueRef times(Emit *emit, LLVMValueRef x, int64_t y) {
  return LLVMBuildNSWMul(emit->builder, x, llvm_i64(emit, y), "");
}

static LLVMValueRef read_f32(Emit *emit, LLVMValueRef address, int lanes) {
  return llvm_read(emit, DTYPE_F32, address, lanes, NULL);
}

static void write_f32(Emit *emit, LLVMValueRef address, LLVMValueRef value, int lanes) {
  llvm_write(emit, DTYPE_F32, address, value, lanes, NULL);
}
// Elements of memory only need their size here.
static LLVMTypeRef memory_type(Emit *emit, DType dtype) {
  return LLVMIntTypeInContext(emit->context, (unsigned)dtype_bytes(dtype) * 8);
}

static LLVMValueRef load_pointer(Emit *emit, LLVMValueRef pointers, int64_t index) {
  return LLVMBuildLoad2(emit->builder, emit->pointer, at(emit, emit->pointer, pointers, index), "");
}

static LLVMValueRef round_down(Emit *emit, LLVMValueRef count, int multiple) {
  return LLVMBuildAnd(emit->builder, count, llvm_i64(emit, -multiple), "");
}

static LLVMValueRef not_zero(Emit *emit, LLVMValueRef x) {
  return LLVMBuildICmp(emit->builder, LLVMIntNE, x, llvm_i64(emit, 0), "");
}

// <a0 b0 a1 b1 ...> of the lower (half 0) or the upper (half 1) lanes.
static LLVMValueRef zip(Emit *emit, LLVMValueRef a, LLVMValueRef b, int lanes, int half) {
  LLVMValueRef picks[64];
  for (int i = 0; i < lanes; i++) picks[i] = llvm_i32(emit, half * lanes / 2 + i / 2 + (i % 2) * lanes);
  return LLVMBuildShuffleVector(emit->builder, a, b, LLVMConstVector(picks, (unsigned)lanes), "");
}

// ---- a tile of sums -----------------------------------------------------------------------------

typedef struct Tile {
  Emit *emit;
  bool lines, pairs;
  int rows, vectors, lanes;
  LLVMTypeRef vector;
  LLVMValueRef left[DOT_MAX_ROWS]; // lines: one pointer per row
  LLVMValueRef panel, right;
  LLVMValueRef sums[DOT_MAX_ROWS][DOT_VECTORS]; // variables
} Tile;

// 32-bit elements of a panel or line, each two bf16: at even places of memory.
static LLVMValueRef read_pairs(Emit *emit, LLVMValueRef address, int lanes) {
  LLVMValueRef pairs = LLVMBuildLoad2(emit->builder, llvm_vector_of(emit->i32, lanes), address, "");
  LLVMSetAlignment(pairs, 2);
  return pairs;
}

static LLVMValueRef read_element(const Tile *tile, LLVMValueRef address, int lanes) {
  return tile->pairs ? read_pairs(tile->emit, address, lanes) : read_f32(tile->emit, address, lanes);
}

// sum + x * y, in each lane; of pairs both products.
static LLVMValueRef multiply_add(const Tile *tile, LLVMValueRef x, LLVMValueRef y, LLVMValueRef sum) {
  Emit *emit = tile->emit;
  if (!tile->pairs) return llvm_fma(emit, x, y, sum);
  LLVMTypeRef pairs = LLVMVectorType(LLVMBFloatTypeInContext(emit->context), 2 * (unsigned)tile->lanes);
  LLVMValueRef arguments[] = {sum, LLVMBuildBitCast(emit->builder, x, pairs, ""),
                              LLVMBuildBitCast(emit->builder, y, pairs, "")};
  return llvm_intrinsic(emit, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, arguments, 3);
}

// One step of the contraction: every row's element times every vector of columns.
static void tile_step(Tile *tile, LLVMValueRef k) {
  Emit *emit = tile->emit;
  LLVMValueRef columns[DOT_VECTORS];
  LLVMValueRef right = llvm_offset(emit, tile->right, emit->f32, times(emit, k, DOT_VECTORS * tile->lanes));
  LLVMValueRef left =
      tile->lines ? NULL : llvm_offset(emit, tile->panel, emit->f32, times(emit, k, tile->lanes));
  for (int v = 0; v < tile->vectors; v++)
    columns[v] = read_element(tile, at(emit, emit->f32, right, v * tile->lanes), tile->lanes);
  for (int r = 0; r < tile->rows; r++) {
    LLVMValueRef address =
        tile->lines ? llvm_offset(emit, tile->left[r], emit->f32, k) : at(emit, emit->f32, left, r);
    LLVMValueRef element = llvm_splat(emit, read_element(tile, address, 1), tile->lanes);
    for (int v = 0; v < tile->vectors; v++) {
      LLVMValueRef sum = llvm_get(emit, tile->vector, tile->sums[r][v]);
      llvm_set(emit, tile->sums[r][v], multiply_add(tile, element, columns[v], sum));
    }
  }
}

static void tile_loop(Tile *tile, LLVMValueRef begin, LLVMValueRef end, int unroll) {
  Loop loop = llvm_loop_open(tile->emit, begin, end, unroll);
  for (int u = 0; u < unroll; u++) tile_step(tile, add(tile->emit, loop.index, llvm_i64(tile->emit, u)));
  llvm_loop_close(tile->emit, &loop);
}

// From memory into the registers, or back.
static void tile_move(Tile *tile, LLVMValueRef memory, bool into) {
  Emit *emit = tile->emit;
  for (int r = 0; r < tile->rows; r++)
    for (int v = 0; v < tile->vectors; v++) {
      LLVMValueRef address = at(emit, emit->f32, memory, (r * DOT_VECTORS + v) * tile->lanes);
      if (into)
        llvm_set(emit, tile->sums[r][v], read_f32(emit, address, tile->lanes));
      else
        write_f32(emit, address, llvm_get(emit, tile->vector, tile->sums[r][v]), tile->lanes);
    }
}

LLVMValueRef dot_tile_function(Emit *outer, const Dot *dot, bool lines, int vectors) {
  enum { UNROLL = 4 };
  const char *name = arena_print(outer->arena, "dot_tile%s_%s_%d", dot->steps == 2 ? "_pairs" : "",
                                 lines ? "lines" : "panel", vectors);
  LLVMValueRef known = LLVMGetNamedFunction(outer->module, name);
  if (known) return known;
  Helper helper = helper_open(outer, name, "pppii");
  Emit *emit = &helper.emit;
  LLVMValueRef *parameters = helper.parameters, count = parameters[3];
  Tile tile = {.emit = emit,
               .lines = lines,
               .pairs = dot->steps == 2,
               .rows = dot->tile_rows,
               .vectors = vectors,
               .lanes = dot->lanes};
  tile.vector = llvm_vector_of(emit->f32, dot->lanes);
  tile.panel = parameters[0];
  tile.right = parameters[1];
  for (int r = 0; r < tile.rows; r++) {
    if (lines) tile.left[r] = load_pointer(emit, parameters[0], r);
    for (int v = 0; v < vectors; v++) {
      tile.sums[r][v] = llvm_variable(emit, tile.vector);
      llvm_set(emit, tile.sums[r][v], LLVMConstNull(tile.vector));
    }
  }
  Branch accumulate = llvm_branch_open(emit, not_zero(emit, parameters[4]));
  tile_move(&tile, parameters[2], true);
  llvm_branch_close(emit, &accumulate);
  LLVMValueRef unrolled = round_down(emit, count, UNROLL);
  tile_loop(&tile, llvm_i64(emit, 0), unrolled, UNROLL);
  tile_loop(&tile, unrolled, count, 1);
  tile_move(&tile, parameters[2], false);
  return helper_close(&helper);
}

// ---- transposition ------------------------------------------------------------------------------

// `lanes` vectors of one line each become `lanes` vectors of one step each: what is interleaved with its
// opposite, log2(lanes) times over, ends up transposed.
static void transpose(Emit *emit, LLVMValueRef *vectors, int lanes) {
  LLVMValueRef next[64];
  for (int stride = lanes / 2; stride; stride /= 2) {
    for (int i = 0; i < lanes / 2; i++)
      for (int half = 0; half < 2; half++)
        next[2 * i + half] = zip(emit, vectors[i], vectors[i + lanes / 2], lanes, half);
    memcpy(vectors, next, sizeof(LLVMValueRef) * (size_t)lanes);
  }
}

typedef struct Transposition {
  Emit *emit;
  bool pairs;
  DType dtype;
  LLVMValueRef lines, panel, width;
} Transposition;

static LLVMValueRef read_line(const Transposition *of, LLVMValueRef line, LLVMValueRef k, LLVMValueRef mask) {
  Emit *emit = of->emit;
  int lanes = emit->machine->lanes;
  if (!of->pairs)
    return llvm_read(emit, of->dtype, llvm_offset(emit, line, memory_type(emit, of->dtype), k), lanes, mask);
  LLVMTypeRef type = llvm_vector_of(emit->i32, lanes);
  LLVMValueRef address = llvm_offset(emit, line, emit->i32, k);
  LLVMValueRef arguments[] = {address, llvm_i32(emit, 2), mask, LLVMConstNull(type)};
  LLVMValueRef pairs =
      llvm_intrinsic(emit, "llvm.masked.load", (LLVMTypeRef[]){type, emit->pointer}, 2, arguments, 4);
  return LLVMBuildBitCast(emit->builder, pairs, llvm_vector_of(emit->f32, lanes), "");
}

static void transpose_block(const Transposition *of, LLVMValueRef k, LLVMValueRef mask) {
  Emit *emit = of->emit;
  LLVMValueRef vectors[64];
  int lanes = emit->machine->lanes;
  for (int i = 0; i < lanes; i++) vectors[i] = read_line(of, load_pointer(emit, of->lines, i), k, mask);
  transpose(emit, vectors, lanes);
  for (int i = 0; i < lanes; i++) {
    LLVMValueRef place = LLVMBuildNSWMul(emit->builder, add(emit, k, llvm_i64(emit, i)), of->width, "");
    write_f32(emit, llvm_offset(emit, of->panel, emit->f32, place), vectors[i], lanes);
  }
}

// The last step of an odd number, with nothing beside it: element `pair` of each line has but a lower half.
static void transpose_last(const Transposition *of, LLVMValueRef pair) {
  Emit *emit = of->emit;
  LLVMValueRef row =
      llvm_offset(emit, of->panel, emit->i32, LLVMBuildNSWMul(emit->builder, pair, of->width, ""));
  for (int i = 0; i < emit->machine->lanes; i++) {
    LLVMValueRef address =
        llvm_offset(emit, load_pointer(emit, of->lines, i), emit->i16, times(emit, pair, 2));
    LLVMValueRef half = LLVMBuildLoad2(emit->builder, emit->i16, address, "");
    LLVMBuildStore(emit->builder, LLVMBuildZExt(emit->builder, half, emit->i32, ""),
                   at(emit, emit->i32, row, i));
  }
}

LLVMValueRef dot_transpose_function(Emit *outer, const Dot *dot, DType dtype) {
  bool pairs = dot->steps == 2;
  const char *name = arena_print(outer->arena, "dot_transpose_%s", pairs ? "pairs" : dtype_name(dtype));
  LLVMValueRef known = LLVMGetNamedFunction(outer->module, name);
  if (known) return known;
  Helper helper = helper_open(outer, name, "pipi");
  Emit *emit = &helper.emit;
  Transposition of = {emit, pairs, dtype, helper.parameters[0], helper.parameters[2], helper.parameters[3]};
  int lanes = emit->machine->lanes;
  LLVMValueRef steps = helper.parameters[1], zero = llvm_i64(emit, 0);
  LLVMValueRef count = pairs ? LLVMBuildLShr(emit->builder, steps, llvm_i64(emit, 1), "") : steps;
  LLVMValueRef whole = emit->machine->avx512 ? zero : round_down(emit, count, lanes);
  if (!emit->machine->avx512) { // where masks cost, only the last block has one
    Loop loop = llvm_loop_open(emit, zero, whole, lanes);
    transpose_block(&of, loop.index, NULL);
    llvm_loop_close(emit, &loop);
  }
  Loop loop = llvm_loop_open(emit, whole, count, lanes);
  LLVMValueRef rest = LLVMBuildNSWSub(emit->builder, count, loop.index, "");
  transpose_block(&of, loop.index, llvm_tail_mask(emit, rest, lanes));
  llvm_loop_close(emit, &loop);
  if (dot->odd) {
    LLVMValueRef odd = LLVMBuildAnd(emit->builder, steps, llvm_i64(emit, 1), "");
    Branch last = llvm_branch_open(emit, not_zero(emit, odd));
    transpose_last(&of, count);
    llvm_branch_close(emit, &last);
  }
  return helper_close(&helper);
}

// ---- products of lines --------------------------------------------------------------------------

int dot_lines_at_once(const Emit *emit) { return emit->machine->lanes < 8 ? emit->machine->lanes : 8; }

DotChains dot_chains_open(Emit *emit, int count) {
  DotChains chains = {.count = count};
  LLVMTypeRef vector = llvm_vector_of(emit->f32, emit->machine->lanes);
  for (int i = 0; i < count; i++) {
    chains.sums[i] = llvm_variable(emit, vector);
    llvm_set(emit, chains.sums[i], LLVMConstNull(vector));
  }
  return chains;
}

void dot_chains_add(Emit *emit, DotChains *chains, LLVMValueRef x, LLVMValueRef y) {
  LLVMValueRef sum = chains->sums[chains->next++ % chains->count];
  llvm_set(emit, sum, llvm_fma(emit, x, y, llvm_get(emit, LLVMTypeOf(x), sum)));
}

LLVMValueRef dot_totals(Emit *emit) {
  LLVMTypeRef vector = llvm_vector_of(emit->f32, emit->machine->lanes);
  return llvm_variable(emit, LLVMArrayType2(vector, (uint64_t)dot_lines_at_once(emit)));
}

void dot_chains_close(Emit *emit, const DotChains *chains, LLVMValueRef totals, LLVMValueRef index) {
  LLVMTypeRef vector = llvm_vector_of(emit->f32, emit->machine->lanes);
  LLVMValueRef sums[DOT_CHAINS];
  for (int i = 0; i < chains->count; i++) sums[i] = llvm_get(emit, vector, chains->sums[i]);
  for (int count = chains->count; count > 1; count /= 2)
    for (int i = 0; i < count / 2; i++) sums[i] = llvm_fadd(emit, sums[i], sums[i + count / 2]);
  LLVMBuildStore(emit->builder, sums[0], llvm_offset(emit, totals, vector, index));
}

typedef struct Lines {
  Emit *emit;
  LLVMTypeRef memory, line_memory;
  DType dtype, line_dtype;
  LLVMValueRef pointer, line;
  DotChains chains;
} Lines;

static void lines_step(Lines *lines, LLVMValueRef k, LLVMValueRef mask) {
  Emit *emit = lines->emit;
  int lanes = emit->machine->lanes;
  LLVMValueRef x =
      llvm_read(emit, lines->line_dtype, llvm_offset(emit, lines->line, lines->line_memory, k), lanes, mask);
  LLVMValueRef y =
      llvm_read(emit, lines->dtype, llvm_offset(emit, lines->pointer, lines->memory, k), lanes, mask);
  dot_chains_add(emit, &lines->chains, y, x);
}

// The product of one line, into totals[index].
static void lines_product(Lines *lines, LLVMValueRef count, LLVMValueRef totals, LLVMValueRef index) {
  Emit *emit = lines->emit;
  int lanes = emit->machine->lanes, several = DOT_CHAINS * lanes;
  LLVMValueRef whole = round_down(emit, count, lanes), most = round_down(emit, count, several);
  lines->chains = dot_chains_open(emit, DOT_CHAINS);
  Loop steps = llvm_loop_open(emit, llvm_i64(emit, 0), most, several);
  for (int i = 0; i < DOT_CHAINS; i++)
    lines_step(lines, add(emit, steps.index, llvm_i64(emit, i * lanes)), NULL);
  llvm_loop_close(emit, &steps);
  Loop step = llvm_loop_open(emit, most, whole, lanes);
  lines_step(lines, step.index, NULL);
  llvm_loop_close(emit, &step);
  LLVMValueRef rest = LLVMBuildNSWSub(emit->builder, count, whole, "");
  Branch tail = llvm_branch_open(emit, not_zero(emit, rest));
  lines_step(lines, whole, llvm_tail_mask(emit, rest, lanes));
  llvm_branch_close(emit, &tail);
  dot_chains_close(emit, &lines->chains, totals, index);
}

// One vector of the sums over the lanes of `count` vectors: interleave and add, then fold what is left.
static LLVMValueRef fold_lines(Emit *emit, LLVMValueRef *vectors, int count, int lanes) {
  for (int half = count / 2; half; half /= 2)
    for (int i = 0; i < half; i++)
      vectors[i] = llvm_fadd(emit, zip(emit, vectors[i], vectors[i + half], lanes, 0),
                             zip(emit, vectors[i], vectors[i + half], lanes, 1));
  LLVMValueRef sum = vectors[0];
  for (; lanes > count; lanes /= 2) {
    LLVMValueRef halves[2], picks[64];
    for (int h = 0; h < 2; h++) {
      for (int i = 0; i < lanes / 2; i++) picks[i] = llvm_i32(emit, h * lanes / 2 + i);
      halves[h] =
          LLVMBuildShuffleVector(emit->builder, sum, sum, LLVMConstVector(picks, (unsigned)lanes / 2), "");
    }
    sum = llvm_fadd(emit, halves[0], halves[1]);
  }
  return sum;
}

void dot_fold(Emit *emit, LLVMValueRef totals, LLVMValueRef sums, LLVMValueRef accumulate) {
  int count = dot_lines_at_once(emit), lanes = emit->machine->lanes;
  LLVMTypeRef vector = llvm_vector_of(emit->f32, lanes);
  LLVMValueRef vectors[8];
  for (int i = 0; i < count; i++) vectors[i] = llvm_get(emit, vector, at(emit, vector, totals, i));
  LLVMValueRef total = fold_lines(emit, vectors, count, lanes), none = LLVMConstNull(LLVMTypeOf(total));
  LLVMValueRef before =
      LLVMBuildSelect(emit->builder, not_zero(emit, accumulate), read_f32(emit, sums, count), none, "");
  write_f32(emit, sums, llvm_fadd(emit, before, total), count);
}

LLVMValueRef dot_lines_function(Emit *outer, DType dtype, DType line_dtype) {
  const char *name = arena_print(outer->arena, "dot_lines_%s_%s", dtype_name(dtype), dtype_name(line_dtype));
  LLVMValueRef known = LLVMGetNamedFunction(outer->module, name);
  if (known) return known;
  Helper helper = helper_open(outer, name, "ppipi");
  Emit *emit = &helper.emit;
  Lines lines = {.emit = emit, .dtype = dtype, .line_dtype = line_dtype, .line = helper.parameters[1]};
  lines.memory = memory_type(emit, dtype);
  lines.line_memory = memory_type(emit, line_dtype);
  LLVMValueRef totals = dot_totals(emit), count = llvm_i64(emit, dot_lines_at_once(emit));
  Loop line = llvm_loop_open(emit, llvm_i64(emit, 0), count, 1);
  lines.pointer =
      llvm_get(emit, emit->pointer, llvm_offset(emit, helper.parameters[0], emit->pointer, line.index));
  lines_product(&lines, helper.parameters[2], totals, line.index);
  llvm_loop_close(emit, &line);
  dot_fold(emit, totals, helper.parameters[3], helper.parameters[4]);
  return helper_close(&helper);
}
