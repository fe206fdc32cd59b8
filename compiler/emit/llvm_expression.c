// Values of expressions in scopes. Input: an expression and the scope that binds its axes; output: IR for it
// in the outermost scope where it can be computed, remembered there.
#include "compiler/emit/llvm_emit.h"

// ---- where --------------------------------------------------------------------------------------

// Outwards from `scope`: the first that binds an axis which the value depends on, or holds an injected part
// of it.
Scope *llvm_placement(const Emit *emit, Scope *scope, ExprId expr) {
  while (scope->outer && !(scope->axes & emit->free_axes[expr]) && !(scope->pins & emit->uses[expr]))
    scope = scope->outer;
  return scope;
}

Scope *llvm_vector_scope(const Emit *emit, Scope *scope, ExprId expr) {
  uint32_t needed = emit->free_axes[expr];
  for (; scope && needed; needed &= ~scope->axes, scope = scope->outer)
    if (scope->vector_axis >= 0 && needed >> scope->vector_axis & 1) return scope;
  return NULL;
}

int llvm_lanes(const Scope *scope, LLVMValueRef *mask, int *axis) {
  while (scope && scope->vector_axis < 0) scope = scope->outer;
  if (mask) *mask = scope ? scope->mask : NULL;
  if (axis) *axis = scope ? scope->vector_axis : -1;
  return scope ? scope->lanes : 1;
}

// ---- addresses ----------------------------------------------------------------------------------

typedef struct Term {
  Scope *scope; // where this part of the offset is known
  Value value;
  int64_t stride;
  LLVMValueRef run_time_stride; // where the stride is no constant
} Term;

static LLVMValueRef scaled(Emit *emit, const Term *term, LLVMValueRef value) {
  if (!term->run_time_stride && term->stride == 1) return value;
  LLVMValueRef stride = term->run_time_stride ? term->run_time_stride : llvm_i64(emit, term->stride);
  return LLVMBuildMul(emit->builder, value, llvm_splat(emit, stride, llvm_width(value)), "");
}

// One term per axis of the buffer, those known in outer scopes first.
static int offset_terms(Emit *emit, Scope *scope, int buffer, const ExprId *index, Term *terms) {
  const KernelBuffer *of = &emit->kernel->buffers[buffer];
  int64_t constant = 1;
  LLVMValueRef run_time = NULL;
  for (int i = of->rank; i-- > 0;) {
    Term *term = &terms[i];
    term->scope = llvm_placement(emit, scope, index[i]);
    term->value = llvm_evaluate(emit, scope, index[i]);
    term->stride = constant, term->run_time_stride = run_time;
    if (i == 0) break;
    Place place = llvm_place_enter(emit, emit->root);
    LLVMValueRef extent = llvm_extent(emit, of->extents[i]);
    if (run_time || !extent_is_constant(of->extents[i]))
      run_time = LLVMBuildMul(emit->builder, run_time ? run_time : llvm_i64(emit, constant), extent, "");
    else
      constant *= of->extents[i].offset;
    llvm_place_leave(emit, &place);
  }
  for (int i = 1; i < of->rank; i++)
    for (int k = i; k > 0 && terms[k].scope->depth < terms[k - 1].scope->depth; k--) {
      Term swap = terms[k];
      terms[k] = terms[k - 1], terms[k - 1] = swap;
    }
  return of->rank;
}

LLVMValueRef llvm_address(Emit *emit, Scope *scope, int buffer, const ExprId *index, int lanes,
                          int64_t *step) {
  Term terms[KERNEL_MAX_RANK];
  int count = offset_terms(emit, scope, buffer, index, terms);
  LLVMTypeRef element = llvm_stored_type(emit, emit->kernel->buffers[buffer].dtype);
  LLVMValueRef address = emit->buffers[buffer], vector = NULL;
  int64_t along = 0;
  for (int i = 0; i < count; i++) {
    const Term *term = &terms[i];
    LLVMValueRef part = term->value.vector;
    if (!part) {
      Place place = llvm_place_enter(emit, term->scope);
      address = llvm_offset(emit, address, element, scaled(emit, term, term->value.scalar));
      llvm_place_leave(emit, &place);
      if (!term->value.step) continue;
      if (!term->run_time_stride) {
        along += term->value.step * term->stride;
        continue;
      }
      part = LLVMBuildMul(emit->builder, llvm_iota(emit, emit->i64, lanes),
                          llvm_splat(emit, llvm_i64(emit, term->value.step), lanes), "");
    }
    part = scaled(emit, term, part);
    vector = vector ? LLVMBuildAdd(emit->builder, vector, part, "") : part;
  }
  *step = along;
  if (!vector && (along == 0 || along == 1)) return address;
  *step = INT64_MIN;
  if (along || !vector) {
    LLVMValueRef even = LLVMBuildMul(emit->builder, llvm_iota(emit, emit->i64, lanes),
                                     llvm_splat(emit, llvm_i64(emit, along), lanes), "");
    vector = vector ? LLVMBuildAdd(emit->builder, vector, even, "") : even;
  }
  return llvm_offset(emit, address, element, vector);
}

// ---- loads --------------------------------------------------------------------------------------

// An address where zeros can be read instead, for loads whose guard is the same in all lanes.
static LLVMValueRef zeros(Emit *emit, LLVMTypeRef type) {
  LLVMValueRef global = LLVMAddGlobal(emit->module, type, "");
  LLVMSetInitializer(global, LLVMConstNull(type));
  LLVMSetLinkage(global, LLVMPrivateLinkage);
  LLVMSetGlobalConstant(global, true);
  LLVMSetAlignment(global, 16);
  return global;
}

static LLVMValueRef any_lane(Emit *emit, LLVMValueRef mask) {
  LLVMTypeRef type = LLVMTypeOf(mask);
  return llvm_intrinsic(emit, "llvm.vector.reduce.or", &type, 1, &mask, 1);
}

static LLVMValueRef both(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return x && y ? LLVMBuildAnd(emit->builder, x, y, "") : x ? x : y;
}

static Value value_of(LLVMValueRef value) {
  bool vector = LLVMGetTypeKind(LLVMTypeOf(value)) == LLVMVectorTypeKind;
  return (Value){.scalar = vector ? NULL : value, .vector = vector ? value : NULL, .multiple = 1};
}

// Evenly spaced lanes are read at once; a guard that differs between lanes joins the mask.
static Value load(Emit *emit, Scope *scope, const Expr *expr, int lanes, LLVMValueRef mask) {
  DType dtype = emit->kernel->buffers[expr->buffer].dtype;
  int64_t step;
  Value guard = {0};
  if (expr->in[0]) guard = llvm_evaluate(emit, scope, expr->in[0]);
  LLVMValueRef address = llvm_address(emit, scope, expr->buffer, expr->index, lanes, &step);
  int read_lanes = step == 0 ? 1 : lanes;
  LLVMValueRef uniform = guard.scalar;
  if (guard.vector && read_lanes == 1) uniform = any_lane(emit, both(emit, guard.vector, mask));
  if (uniform && step != INT64_MIN) {
    LLVMTypeRef type = llvm_vector_of(llvm_stored_type(emit, dtype), read_lanes);
    address = LLVMBuildSelect(emit->builder, uniform, address, zeros(emit, type), "");
  }
  LLVMValueRef wanted = guard.vector;
  if (guard.scalar && step == INT64_MIN) wanted = llvm_splat(emit, guard.scalar, lanes);
  if (read_lanes > 1) return value_of(llvm_read(emit, dtype, address, lanes, both(emit, mask, wanted)));
  LLVMValueRef value = llvm_read(emit, dtype, address, 1, NULL);
  if (!guard.vector) return value_of(value);
  LLVMValueRef all = llvm_splat(emit, value, lanes);
  return value_of(LLVMBuildSelect(emit->builder, guard.vector, all, LLVMConstNull(LLVMTypeOf(all)), ""));
}

// ---- values -------------------------------------------------------------------------------------

LLVMValueRef llvm_materialise(Emit *emit, const Value *value, int lanes) {
  if (value->vector) return value->vector;
  LLVMValueRef all = llvm_splat(emit, value->scalar, lanes);
  if (!value->step) return all;
  LLVMValueRef *steps = ARENA_ARRAY(emit->arena, LLVMValueRef, lanes);
  for (int i = 0; i < lanes; i++) steps[i] = llvm_i64(emit, value->step * i);
  return LLVMBuildAdd(emit->builder, all, LLVMConstVector(steps, (unsigned)lanes), "");
}

static Value whole_constant(Emit *emit, DType dtype, int64_t number) {
  LLVMTypeRef type = llvm_type(emit, dtype, 1);
  return (Value){.scalar = LLVMConstInt(type, (uint64_t)number, true), .multiple = number};
}

static Value axis_value(Emit *emit, Scope *scope, int axis) {
  while (scope && !(scope->axes >> axis & 1)) scope = scope->outer;
  if (!scope) die("kernel %s: axis %s has no value here", emit->kernel->name, emit->kernel->axes[axis].name);
  bool lanes = scope->vector_axis == axis && scope->lanes > 1;
  return (Value){.scalar = scope->axis[axis], .step = lanes, .multiple = scope->multiple[axis]};
}

static Value size_value(Emit *emit, Extent extent) {
  int64_t multiple = extent.offset % (extent.scale ? extent.scale : 1) ? 1 : extent.scale;
  if (extent_is_constant(extent)) multiple = extent.offset;
  return (Value){.scalar = llvm_extent(emit, extent), .multiple = multiple};
}

// An operation on operands of one shape: vectors as soon as one of them is.
static Value arithmetic(Emit *emit, Scope *scope, const Expr *expr, int lanes) {
  Value in[3] = {{0}};
  int count = 0;
  bool vector = false;
  for (; count < 3 && expr->in[count]; count++) {
    in[count] = llvm_evaluate(emit, scope, expr->in[count]);
    vector = vector || in[count].vector || in[count].step;
  }
  Value result;
  bool whole = count <= 2 && emit->kernel->exprs[expr->in[0]].dtype == DTYPE_I64;
  if (whole && llvm_index(emit, expr, &in[0], count == 2 ? &in[1] : NULL, lanes, &result)) return result;
  LLVMValueRef operands[3] = {0};
  for (int i = 0; i < count; i++) operands[i] = llvm_materialise(emit, &in[i], vector ? lanes : 1);
  return value_of(llvm_rules[expr->op](emit, expr, operands[0], operands[1], operands[2]));
}

static Value compute(Emit *emit, Scope *scope, ExprId id) {
  const Expr *expr = &emit->kernel->exprs[id];
  const Scope *vector = llvm_vector_scope(emit, scope, id);
  int lanes = vector ? vector->lanes : 1;
  switch (expr->op) {
  case SCALAR_CONST:
    if (expr->dtype == DTYPE_F32) return value_of(llvm_f32(emit, expr->number));
    return whole_constant(emit, expr->dtype, (int64_t)expr->number);
  case SCALAR_AXIS: return axis_value(emit, scope, expr->axis);
  case SCALAR_SIZE: return size_value(emit, expr->extent);
  case SCALAR_LOAD: return load(emit, scope, expr, lanes, vector ? vector->mask : NULL);
  case SCALAR_RANDOM: {
    Value counter = llvm_evaluate(emit, scope, expr->in[0]), index = llvm_evaluate(emit, scope, expr->in[1]);
    bool all = counter.vector || index.vector || index.step;
    return value_of(llvm_random(emit, expr->stream, &counter, &index, all ? lanes : 1));
  }
  case SCALAR_SUM:
  case SCALAR_REDMAX:
  case SCALAR_DOT: llvm_reduce(emit, scope, id); return scope->memo[id];
  default: return arithmetic(emit, scope, expr, lanes);
  }
}

Value llvm_evaluate(Emit *emit, Scope *scope, ExprId expr) {
  Scope *home = llvm_placement(emit, scope, expr);
  Value *memo = &home->memo[expr];
  if (memo->scalar || memo->vector) return *memo;
  Place place = llvm_place_enter(emit, home);
  Value value = compute(emit, home, expr);
  llvm_place_leave(emit, &place);
  *memo = value;
  return value;
}

LLVMValueRef llvm_value(Emit *emit, Scope *scope, ExprId expr) {
  Value value = llvm_evaluate(emit, scope, expr);
  if (!value.step || value.vector) return value.vector ? value.vector : value.scalar;
  Scope *vector = llvm_vector_scope(emit, scope, expr);
  return llvm_materialise(emit, &value, vector->lanes);
}

LLVMValueRef llvm_vector(Emit *emit, Scope *scope, ExprId expr) {
  return llvm_splat(emit, llvm_value(emit, scope, expr), llvm_lanes(scope, NULL, NULL));
}

void llvm_store(Emit *emit, Scope *scope, const Store *store) {
  LLVMValueRef mask;
  int axis, lanes = llvm_lanes(scope, &mask, &axis);
  DType dtype = emit->kernel->buffers[store->buffer].dtype;
  if (axis < 0 || !(store->axes >> axis & 1)) lanes = 1, mask = NULL;
  LLVMValueRef value = llvm_value(emit, scope, store->value);
  int64_t step;
  LLVMValueRef address = llvm_address(emit, scope, store->buffer, store->index, lanes, &step);
  if (lanes > 1 && step) {
    llvm_write(emit, dtype, address, llvm_splat(emit, value, lanes), lanes, mask);
    return;
  }
  if (LLVMGetTypeKind(LLVMTypeOf(value)) == LLVMVectorTypeKind)
    value = LLVMBuildExtractElement(emit->builder, value, llvm_i32(emit, 0), "");
  llvm_write(emit, dtype, address, value, 1, NULL);
}
