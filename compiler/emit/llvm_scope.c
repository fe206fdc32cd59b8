// Scopes, loops and variables of the function being emitted, and the small builders that everything else
// uses.
#include "compiler/emit/llvm_emit.h"

#include <string.h>

// ---- scopes -------------------------------------------------------------------------------------

Scope *llvm_scope_open(Emit *emit) {
  Scope *scope = ARENA_NEW(emit->arena, Scope);
  scope->outer = emit->innermost;
  scope->vector_axis = -1;
  scope->lanes = 1;
  scope->memo = ARENA_ARRAY(emit->arena, Value, emit->kernel->expr_count);
  if (scope->outer) {
    scope->depth = scope->outer->depth + 1;
    scope->outer->block = LLVMGetInsertBlock(emit->builder);
  }
  emit->innermost = scope;
  return scope;
}

void llvm_scope_close(Emit *emit, Scope *scope) {
  if (emit->innermost != scope) die("scope of kernel %s closed out of order", emit->kernel->name);
  emit->innermost = scope->outer;
}

void llvm_bind(Scope *scope, int axis, LLVMValueRef value, int64_t multiple) {
  scope->axes |= 1u << axis;
  scope->axis[axis] = value;
  scope->multiple[axis] = multiple;
}

void llvm_bind_lanes(Scope *scope, int axis, LLVMValueRef first, int64_t multiple, int lanes,
                     LLVMValueRef mask) {
  llvm_bind(scope, axis, first, multiple);
  scope->vector_axis = axis;
  scope->lanes = lanes;
  scope->mask = mask;
}

// Whatever uses an injected value must stay in the scope of the injection: each injected expression has a
// bit, and each expression knows the bits of those it is made of. A reduction that binds the value's axis
// computes values of its own.
static void spread_use(Emit *emit, ExprId injected, uint64_t bit) {
  const Kernel *kernel = emit->kernel;
  emit->uses[injected] |= bit;
  for (ExprId user = injected + 1; user < kernel->expr_count; user++) {
    const Expr *expr = &kernel->exprs[user];
    if (expr->axes & emit->free_axes[injected]) continue;
    for (int i = 0; i < 3; i++) emit->uses[user] |= emit->uses[expr->in[i]] & bit;
    int rank = expr->op == SCALAR_LOAD ? kernel->buffers[expr->buffer].rank : 0;
    for (int i = 0; i < rank; i++) emit->uses[user] |= emit->uses[expr->index[i]] & bit;
  }
}

static uint64_t injection_bit(Emit *emit, ExprId expr) {
  int i = 0;
  while (i < emit->injection_count && emit->injections[i] != expr) i++;
  if (i == LLVM_MAX_INJECTIONS) die("kernel %s: too many injected values", emit->kernel->name);
  if (i == emit->injection_count) {
    emit->injections[emit->injection_count++] = expr;
    spread_use(emit, expr, UINT64_C(1) << i);
  }
  return UINT64_C(1) << i;
}

void llvm_inject(Emit *emit, Scope *scope, ExprId expr, LLVMValueRef value) {
  bool vector = LLVMGetTypeKind(LLVMTypeOf(value)) == LLVMVectorTypeKind;
  scope->pins |= injection_bit(emit, expr);
  scope->memo[expr] =
      (Value){.scalar = vector ? NULL : value, .vector = vector ? value : NULL, .multiple = 1};
}

// ---- going back to an outer scope ---------------------------------------------------------------

Place llvm_place_enter(Emit *emit, Scope *scope) {
  Place place = {.innermost = emit->innermost, .block = LLVMGetInsertBlock(emit->builder)};
  if (scope == emit->innermost) return place;
  place.before = scope->block;
  place.terminator = LLVMGetBasicBlockTerminator(scope->block);
  if (place.terminator) LLVMInstructionRemoveFromParent(place.terminator);
  LLVMPositionBuilderAtEnd(emit->builder, scope->block);
  emit->innermost = scope;
  return place;
}

void llvm_place_leave(Emit *emit, const Place *place) {
  Scope *scope = emit->innermost;
  if (scope == place->innermost) return;
  LLVMBasicBlockRef end = LLVMGetInsertBlock(emit->builder);
  if (place->terminator) LLVMInsertIntoBuilder(emit->builder, place->terminator);
  // Scopes in between whose code goes on in the same block follow it to where it ends now.
  for (Scope *inner = place->innermost; inner != scope; inner = inner->outer)
    if (inner->block == place->before) inner->block = end;
  scope->block = end;
  LLVMPositionBuilderAtEnd(emit->builder, place->block == place->before ? end : place->block);
  emit->innermost = place->innermost;
}

// ---- variables, loops, branches -----------------------------------------------------------------

LLVMValueRef llvm_variable(Emit *emit, LLVMTypeRef type) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(emit->builder);
  LLVMPositionBuilderBefore(emit->builder, LLVMGetBasicBlockTerminator(emit->allocas));
  LLVMValueRef variable = LLVMBuildAlloca(emit->builder, type, "");
  LLVMPositionBuilderAtEnd(emit->builder, here);
  return variable;
}

LLVMValueRef llvm_get(Emit *emit, LLVMTypeRef type, LLVMValueRef variable) {
  return LLVMBuildLoad2(emit->builder, type, variable, "");
}

void llvm_set(Emit *emit, LLVMValueRef variable, LLVMValueRef value) {
  LLVMBuildStore(emit->builder, value, variable);
}

// Tested at the end of the body, and once in front of it; known to run just once it is no loop at all.
Loop llvm_loop_open(Emit *emit, LLVMValueRef begin, LLVMValueRef end, int64_t step) {
  int64_t first, last;
  bool known = llvm_known(begin, &first) && llvm_known(end, &last);
  Loop loop = {
      .step = llvm_i64(emit, step), .end = end, .once = known && first < last && last - first <= step};
  loop.body = LLVMAppendBasicBlockInContext(emit->context, emit->function, "loop");
  loop.exit = LLVMAppendBasicBlockInContext(emit->context, emit->function, "done");
  loop.scope = llvm_scope_open(emit);
  if (loop.once) {
    LLVMBuildBr(emit->builder, loop.body);
    LLVMPositionBuilderAtEnd(emit->builder, loop.body);
    loop.index = begin;
    return loop;
  }
  loop.variable = llvm_variable(emit, emit->i64);
  llvm_set(emit, loop.variable, begin);
  LLVMValueRef any = LLVMBuildICmp(emit->builder, LLVMIntSLT, begin, end, "");
  LLVMBuildCondBr(emit->builder, any, loop.body, loop.exit);
  LLVMPositionBuilderAtEnd(emit->builder, loop.body);
  loop.index = llvm_get(emit, emit->i64, loop.variable);
  return loop;
}

void llvm_loop_close(Emit *emit, Loop *loop) {
  if (loop->once) {
    LLVMBuildBr(emit->builder, loop->exit);
  } else {
    LLVMValueRef next = LLVMBuildNSWAdd(emit->builder, loop->index, loop->step, "");
    llvm_set(emit, loop->variable, next);
    LLVMValueRef more = LLVMBuildICmp(emit->builder, LLVMIntSLT, next, loop->end, "");
    LLVMBuildCondBr(emit->builder, more, loop->body, loop->exit);
  }
  LLVMPositionBuilderAtEnd(emit->builder, loop->exit);
  llvm_scope_close(emit, loop->scope);
}

Branch llvm_branch_open(Emit *emit, LLVMValueRef condition) {
  LLVMBasicBlockRef then = LLVMAppendBasicBlockInContext(emit->context, emit->function, "then");
  Branch branch = {.exit = LLVMAppendBasicBlockInContext(emit->context, emit->function, "endif")};
  branch.scope = llvm_scope_open(emit);
  LLVMBuildCondBr(emit->builder, condition, then, branch.exit);
  LLVMPositionBuilderAtEnd(emit->builder, then);
  return branch;
}

void llvm_branch_close(Emit *emit, Branch *branch) {
  LLVMBuildBr(emit->builder, branch->exit);
  LLVMPositionBuilderAtEnd(emit->builder, branch->exit);
  llvm_scope_close(emit, branch->scope);
}

Loop llvm_tasks_open(Emit *emit, LLVMValueRef coordinates[8]) {
  LLVMValueRef counts[8];
  for (int i = 0; i < emit->work.count; i++) {
    const WorkTerm *term = &emit->work.terms[i];
    LLVMValueRef extent = llvm_extent(emit, term->extent);
    Place place = llvm_place_enter(emit, emit->root);
    LLVMValueRef up = LLVMBuildNSWAdd(emit->builder, extent, llvm_i64(emit, term->divisor - 1), "");
    counts[i] =
        term->divisor == 1 ? extent : LLVMBuildUDiv(emit->builder, up, llvm_i64(emit, term->divisor), "");
    llvm_place_leave(emit, &place);
  }
  Loop tasks = llvm_loop_open(emit, emit->begin, emit->end, 1);
  LLVMValueRef rest = tasks.index;
  for (int i = emit->work.count - 1; i >= 0; i--) {
    int64_t count;
    bool single = llvm_known(counts[i], &count) && count == 1;
    if (single || i == 0) {
      coordinates[i] = single ? llvm_i64(emit, 0) : rest;
      continue;
    }
    LLVMValueRef quotient = LLVMBuildUDiv(emit->builder, rest, counts[i], "");
    coordinates[i] =
        LLVMBuildNSWSub(emit->builder, rest, LLVMBuildNSWMul(emit->builder, quotient, counts[i], ""), "");
    rest = quotient;
  }
  return tasks;
}

int64_t llvm_scratch(Emit *emit, int64_t bytes) {
  int64_t offset = emit->scratch_bytes;
  emit->scratch_bytes += (bytes + 63) / 64 * 64;
  return offset;
}

// ---- small builders -----------------------------------------------------------------------------

int llvm_width(LLVMValueRef value) {
  LLVMTypeRef type = LLVMTypeOf(value);
  return LLVMGetTypeKind(type) == LLVMVectorTypeKind ? (int)LLVMGetVectorSize(type) : 1;
}

bool llvm_known(LLVMValueRef value, int64_t *number) {
  if (!LLVMIsAConstantInt(value)) return false;
  *number = LLVMConstIntGetSExtValue(value);
  return true;
}

int64_t llvm_common_divisor(int64_t a, int64_t b) {
  a = a < 0 ? -a : a, b = b < 0 ? -b : b;
  while (b) {
    int64_t rest = a % b;
    a = b, b = rest;
  }
  return a;
}

LLVMValueRef llvm_i64(Emit *emit, int64_t value) { return LLVMConstInt(emit->i64, (uint64_t)value, true); }
LLVMValueRef llvm_i32(Emit *emit, int32_t value) {
  return LLVMConstInt(emit->i32, (uint64_t)(int64_t)value, true);
}
LLVMValueRef llvm_f32(Emit *emit, double value) { return LLVMConstReal(emit->f32, value); }

LLVMTypeRef llvm_vector_of(LLVMTypeRef element, int lanes) {
  return lanes == 1 ? element : LLVMVectorType(element, (unsigned)lanes);
}

LLVMTypeRef llvm_type(Emit *emit, DType dtype, int lanes) {
  LLVMTypeRef element = dtype == DTYPE_F32   ? emit->f32
                        : dtype == DTYPE_I32 ? emit->i32
                        : dtype == DTYPE_I64 ? emit->i64
                                             : emit->i1;
  return llvm_vector_of(element, lanes);
}

LLVMValueRef llvm_splat(Emit *emit, LLVMValueRef scalar, int lanes) {
  LLVMTypeRef type = LLVMTypeOf(scalar);
  if (lanes == 1 || LLVMGetTypeKind(type) == LLVMVectorTypeKind) return scalar;
  if (LLVMIsConstant(scalar)) {
    LLVMValueRef *elements = ARENA_ARRAY(emit->arena, LLVMValueRef, lanes);
    for (int i = 0; i < lanes; i++) elements[i] = scalar;
    return LLVMConstVector(elements, (unsigned)lanes);
  }
  LLVMValueRef poison = LLVMGetPoison(LLVMVectorType(type, (unsigned)lanes));
  LLVMValueRef one = LLVMBuildInsertElement(emit->builder, poison, scalar, llvm_i32(emit, 0), "");
  return LLVMBuildShuffleVector(emit->builder, one, poison,
                                LLVMConstNull(LLVMVectorType(emit->i32, (unsigned)lanes)), "");
}

LLVMValueRef llvm_constant_like(Emit *emit, LLVMValueRef like, double value) {
  return llvm_splat(emit, llvm_f32(emit, value), llvm_width(like));
}

LLVMValueRef llvm_extent(Emit *emit, Extent extent) {
  if (extent_is_constant(extent)) return llvm_i64(emit, extent.offset);
  Place place = llvm_place_enter(emit, emit->root);
  LLVMValueRef value = emit->symbols[extent.symbol];
  if (extent.scale != 1) value = LLVMBuildNSWMul(emit->builder, value, llvm_i64(emit, extent.scale), "");
  if (extent.offset) value = LLVMBuildNSWAdd(emit->builder, value, llvm_i64(emit, extent.offset), "");
  llvm_place_leave(emit, &place);
  return value;
}

LLVMValueRef llvm_offset(Emit *emit, LLVMValueRef pointer, LLVMTypeRef element, LLVMValueRef index) {
  int64_t known;
  if (llvm_known(index, &known) && known == 0) return pointer;
  return LLVMBuildGEP2(emit->builder, element, pointer, &index, 1, "");
}

LLVMValueRef llvm_iota(Emit *emit, LLVMTypeRef element, int lanes) {
  LLVMValueRef *elements = ARENA_ARRAY(emit->arena, LLVMValueRef, lanes);
  for (int i = 0; i < lanes; i++) elements[i] = LLVMConstInt(element, (uint64_t)i, true);
  return lanes == 1 ? elements[0] : LLVMConstVector(elements, (unsigned)lanes);
}

LLVMValueRef llvm_tail_mask(Emit *emit, LLVMValueRef count, int lanes) {
  LLVMValueRef few =
      LLVMBuildTrunc(emit->builder, llvm_minimum(emit, count, llvm_i64(emit, lanes)), emit->i32, "");
  return LLVMBuildICmp(emit->builder, LLVMIntSLT, llvm_iota(emit, emit->i32, lanes),
                       llvm_splat(emit, few, lanes), "");
}

LLVMValueRef llvm_intrinsic(Emit *emit, const char *name, LLVMTypeRef *overloads, unsigned overload_count,
                            LLVMValueRef *arguments, unsigned argument_count) {
  unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
  LLVMValueRef function = LLVMGetIntrinsicDeclaration(emit->module, id, overloads, overload_count);
  LLVMTypeRef type = LLVMIntrinsicGetType(emit->context, id, overloads, overload_count);
  return LLVMBuildCall2(emit->builder, type, function, arguments, argument_count, "");
}

// Constants fold to constants, which take no flags.
LLVMValueRef llvm_contract(LLVMValueRef value) {
  if (LLVMIsAInstruction(value) && LLVMCanValueUseFastMathFlags(value))
    LLVMSetFastMathFlags(value, LLVMFastMathAllowContract);
  return value;
}
LLVMValueRef llvm_fmul(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return llvm_contract(LLVMBuildFMul(emit->builder, x, y, ""));
}
LLVMValueRef llvm_fadd(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return llvm_contract(LLVMBuildFAdd(emit->builder, x, y, ""));
}

LLVMValueRef llvm_fma(Emit *emit, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z) {
  LLVMTypeRef type = LLVMTypeOf(x);
  if (!emit->machine->fma) return llvm_fadd(emit, llvm_fmul(emit, x, y), z);
  return llvm_intrinsic(emit, "llvm.fma", &type, 1, (LLVMValueRef[]){x, y, z}, 3);
}

LLVMValueRef llvm_extreme(Emit *emit, bool greater, LLVMValueRef x, LLVMValueRef y) {
  LLVMRealPredicate predicate = greater ? LLVMRealOGT : LLVMRealOLT;
  LLVMValueRef beyond = LLVMBuildFCmp(emit->builder, predicate, x, y, "");
  LLVMValueRef nan = LLVMBuildFCmp(emit->builder, LLVMRealUNO, x, x, "");
  return LLVMBuildSelect(emit->builder, LLVMBuildOr(emit->builder, beyond, nan, ""), x, y, "");
}

LLVMValueRef llvm_minimum(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  int64_t a, b;
  if (llvm_known(x, &a) && llvm_known(y, &b)) return a < b ? x : y;
  return LLVMBuildSelect(emit->builder, LLVMBuildICmp(emit->builder, LLVMIntSLT, x, y, ""), x, y, "");
}
