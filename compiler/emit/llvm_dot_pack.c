// Operands of a contraction into panels that tiles read from one end to the other. Whatever expression the
// operand is, it is evaluated here, once per element and panel. Two ways: lanes across the operand's own axes
// store as they come; lanes along the contraction make lines first, which are then transposed.
#include "compiler/emit/llvm_dot.h"

enum {
  STEPS_AHEAD = 16, // of the contraction, that rows are asked for before their turn
  LINE_BLOCK = 256, // steps of the contraction that lines are made for at a time
};

static LLVMValueRef add(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWAdd(emit->builder, x, y, "");
}
static LLVMValueRef subtract(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWSub(emit->builder, x, y, "");
}
static LLVMValueRef multiply(Emit *emit, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildNSWMul(emit->builder, x, y, "");
}

// The row of a panel that holds step k.
static LLVMValueRef panel_row(Emit *emit, const Dot *dot, LLVMValueRef k) {
  return dot->steps == 2 ? LLVMBuildLShr(emit->builder, k, llvm_i64(emit, 1), "") : k;
}

// Is the expression an index that needs no memory?
static bool computed(const Emit *emit, ExprId expr) {
  const Expr *e = &emit->kernel->exprs[expr];
  if (!expr) return true;
  if (e->op == SCALAR_LOAD || e->axes) return false;
  return computed(emit, e->in[0]) && computed(emit, e->in[1]) && computed(emit, e->in[2]);
}

static void find_loads(const Emit *emit, ExprId expr, ExprId *loads, int *count) {
  const Expr *e = &emit->kernel->exprs[expr];
  if (!expr || e->axes) return;
  for (int i = 0; i < *count; i++)
    if (loads[i] == expr) return;
  if (e->op == SCALAR_LOAD && *count < KERNEL_MAX_BUFFERS) loads[(*count)++] = expr;
  for (int i = 0; i < 3 && e->op != SCALAR_LOAD; i++) find_loads(emit, e->in[i], loads, count);
}

static void prefetch_load(Emit *emit, Scope *scope, ExprId load, int lanes) {
  const Expr *e = &emit->kernel->exprs[load];
  for (int i = 0; i < emit->kernel->buffers[e->buffer].rank; i++)
    if (!computed(emit, e->index[i])) return;
  int64_t step;
  LLVMValueRef address = llvm_address(emit, scope, e->buffer, e->index, lanes, &step);
  if (step == INT64_MIN || (lanes > 1 && llvm_vector_scope(emit, scope, load) == NULL)) return;
  LLVMValueRef arguments[] = {address, llvm_i32(emit, 0), llvm_i32(emit, 3), llvm_i32(emit, 1)};
  llvm_intrinsic(emit, "llvm.prefetch", &emit->pointer, 1, arguments, 4);
}

void dot_prefetch(Emit *emit, Scope *scope, ExprId expr, int lanes) {
  ExprId loads[KERNEL_MAX_BUFFERS];
  int count = 0;
  find_loads(emit, expr, loads, &count);
  for (int i = 0; i < count; i++) prefetch_load(emit, scope, loads[i], lanes);
}

typedef struct Target {
  const DotOperand *operand;
  LLVMValueRef base;
  DType dtype;         // of lines: f32 or bf16
  int pair_axis;       // of panels: the axis whose next value gives the element's upper half; -1: an f32
  LLVMValueRef next;   // that value
  LLVMValueRef paired; // i1: there is one; NULL: always
  bool padded;         // lanes beyond the end may be written
  int ahead_axis;      // an axis whose value will be `ahead` in a while; -1: none
  LLVMValueRef ahead;
} Target;

// Two bf16, which are f32 whose lower half is 0, in one element. Passed on as an f32, whatever number that would be.
static LLVMValueRef with_next(Emit *emit, const Target *target, LLVMValueRef value, int lanes) {
  LLVMBuilderRef b = emit->builder;
  LLVMTypeRef i32 = llvm_vector_of(emit->i32, lanes);
  Scope *scope = llvm_scope_open(emit);
  llvm_bind(scope, target->pair_axis, target->next, 1);
  LLVMValueRef next = llvm_splat(emit, llvm_value(emit, scope, target->operand->expr), lanes);
  llvm_scope_close(emit, scope);
  LLVMValueRef low =
      LLVMBuildLShr(b, LLVMBuildBitCast(b, value, i32, ""), llvm_splat(emit, llvm_i32(emit, 16), lanes), "");
  LLVMValueRef high = LLVMBuildBitCast(b, next, i32, "");
  if (target->paired) high = LLVMBuildSelect(b, target->paired, high, LLVMConstNull(i32), "");
  return LLVMBuildBitCast(b, LLVMBuildOr(b, low, high, ""), llvm_vector_of(emit->f32, lanes), "");
}

static void evaluate_piece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                           LLVMValueRef mask) {
  const Target *target = context;
  if (target->ahead_axis >= 0) {
    Scope *ahead = llvm_scope_open(emit);
    llvm_bind(ahead, target->ahead_axis, target->ahead, 1);
    dot_prefetch(emit, ahead, target->operand->expr, lanes);
    llvm_scope_close(emit, ahead);
  }
  LLVMValueRef value = llvm_splat(emit, llvm_value(emit, scope, target->operand->expr), lanes);
  if (target->pair_axis >= 0) value = with_next(emit, target, value, lanes);
  LLVMTypeRef element = target->dtype == DTYPE_F32 ? emit->f32 : emit->i16;
  llvm_write(emit, target->dtype, llvm_offset(emit, target->base, element, offset), value, lanes,
             target->padded ? NULL : mask);
}

// ---- lanes across the operand's own axes --------------------------------------------------------

// One step of one panel that is full and one run: no loop, no masks.
static void pack_full(Emit *emit, const DotOperand *operand, LLVMValueRef first, int width, Target *target) {
  int lanes = emit->machine->lanes;
  for (int lane = 0; lane < width; lane += lanes) {
    Scope *scope = llvm_scope_open(emit);
    LLVMValueRef offset = llvm_i64(emit, lane);
    dot_bind(emit, scope, operand->own, first); // for the axes that stay 0
    llvm_bind_lanes(scope, operand->own->digits[0].axis, add(emit, first, offset), 1, lanes, NULL);
    evaluate_piece(emit, target, scope, offset, lanes, NULL);
    llvm_scope_close(emit, scope);
  }
}

static void pack_runs(Emit *emit, const DotOperand *operand, LLVMValueRef first, LLVMValueRef end,
                      const Target *target) {
  DotRuns runs = dot_runs_open(emit, operand->own, first, end);
  Target place = *target;
  place.base = llvm_offset(emit, target->base, emit->f32, subtract(emit, runs.flat, first));
  dot_runs_pieces(emit, &runs, evaluate_piece, &place);
  dot_runs_close(emit, &runs);
}

// Beyond the last step the last one is read once more, and counts for nothing.
static void set_pair(Emit *emit, const Dot *dot, const DotRuns *steps, LLVMValueRef step, Target *target) {
  target->pair_axis = dot->steps == 2 ? steps->axis : -1;
  target->next = add(emit, step, llvm_i64(emit, 1));
  target->paired = NULL;
  if (!dot->odd) return;
  target->paired = LLVMBuildICmp(emit->builder, LLVMIntSLT, target->next, steps->last, "");
  target->next = LLVMBuildSelect(emit->builder, target->paired, target->next, step, "");
}

static void pack_across(Emit *emit, const Dot *dot, const DotOperand *operand, const DotPanels *panels) {
  LLVMValueRef width = llvm_i64(emit, panels->width), zero = llvm_i64(emit, 0);
  DotRuns steps = dot_runs_open(emit, &dot->contract, panels->k_begin, panels->k_end);
  Loop step = llvm_loop_open(emit, steps.first, steps.last, dot->steps);
  llvm_bind(step.scope, steps.axis, step.index, 1);
  LLVMValueRef k =
      add(emit, subtract(emit, steps.flat, panels->k_begin), subtract(emit, step.index, steps.first));
  LLVMValueRef row =
      llvm_offset(emit, panels->base, emit->f32, multiply(emit, panel_row(emit, dot, k), width));
  Loop panel = llvm_loop_open(emit, panels->begin, panels->end, panels->width);
  LLVMValueRef number = LLVMBuildUDiv(emit->builder, subtract(emit, panel.index, panels->begin), width, "");
  LLVMValueRef place = llvm_offset(emit, row, emit->f32, multiply(emit, number, panels->panel_stride));
  LLVMValueRef end = llvm_minimum(emit, add(emit, panel.index, width), panels->end);
  Target target = {.operand = operand,
                   .base = place,
                   .dtype = DTYPE_F32,
                   .padded = operand->own->count == 1,
                   .ahead_axis = steps.axis,
                   .ahead = add(emit, step.index, llvm_i64(emit, STEPS_AHEAD))};
  set_pair(emit, dot, &steps, step.index, &target);
  bool never_full = operand->own->count != 1, always_full = dot_multiple_of(operand->own, panels->width);
  LLVMValueRef length = subtract(emit, end, panel.index);
  LLVMValueRef full = LLVMBuildICmp(emit->builder, LLVMIntEQ, length, width, "");
  if (!never_full) {
    Branch whole = llvm_branch_open(emit, full);
    pack_full(emit, operand, panel.index, panels->width, &target);
    llvm_branch_close(emit, &whole);
  }
  if (!always_full) {
    LLVMValueRef partial = LLVMBuildICmp(emit->builder, LLVMIntNE, length, never_full ? zero : width, "");
    Branch rest = llvm_branch_open(emit, partial);
    pack_runs(emit, operand, panel.index, end, &target);
    llvm_branch_close(emit, &rest);
  }
  llvm_loop_close(emit, &panel);
  llvm_loop_close(emit, &step);
  dot_runs_close(emit, &steps);
}

// ---- lanes along the contraction ----------------------------------------------------------------

void dot_lines(Emit *emit, const Dot *dot, const DotOperand *operand, LLVMValueRef begin, LLVMValueRef end,
               LLVMValueRef k, int count, LLVMValueRef pointers) {
  const Expr *load = &emit->kernel->exprs[operand->expr];
  LLVMValueRef last = subtract(emit, end, llvm_i64(emit, 1));
  for (int i = 0; i < count; i++) {
    Scope *scope = llvm_scope_open(emit);
    dot_bind(emit, scope, operand->own, llvm_minimum(emit, add(emit, begin, llvm_i64(emit, i)), last));
    dot_bind(emit, scope, &dot->contract, k);
    int64_t step;
    LLVMValueRef address = llvm_address(emit, scope, load->buffer, load->index, 1, &step);
    LLVMBuildStore(emit->builder, address, llvm_offset(emit, pointers, emit->pointer, llvm_i64(emit, i)));
    llvm_scope_close(emit, scope);
  }
}

void dot_evaluate_lines(Emit *emit, const Dot *dot, const DotOperand *operand, DType dtype,
                        LLVMValueRef begin, LLVMValueRef end, LLVMValueRef k_begin, LLVMValueRef k_end,
                        LLVMValueRef base, LLVMValueRef stride) {
  Loop line = llvm_loop_open(emit, begin, end, 1);
  dot_bind(emit, line.scope, operand->own, line.index);
  LLVMValueRef place = multiply(emit, subtract(emit, line.index, begin), stride);
  DotRuns runs = dot_runs_open(emit, &dot->contract, k_begin, k_end);
  LLVMValueRef offset = add(emit, place, subtract(emit, runs.flat, k_begin));
  Target target = {.operand = operand,
                   .base = llvm_offset(emit, base, dtype == DTYPE_F32 ? emit->f32 : emit->i16, offset),
                   .dtype = dtype,
                   .padded = dot->contract.count == 1,
                   .pair_axis = -1,
                   .ahead_axis = -1};
  dot_runs_pieces(emit, &runs, evaluate_piece, &target);
  dot_runs_close(emit, &runs);
  llvm_loop_close(emit, &line);
}

enum { LARGEST_UNIT = 64 };

int64_t dot_unit_steps(const DotIndex *contract) {
  int64_t steps = 1, extent;
  if (contract->count < 2) return 0;
  for (int i = 1; i < contract->count; i++) {
    if (!dot_constant(contract->digits[i].extent, &extent) || extent < 1 || extent > LARGEST_UNIT) return 0;
    steps *= extent;
    if (steps > LARGEST_UNIT) return 0;
  }
  return steps & (steps - 1) ? 0 : steps; // blocks of the contraction hold whole units
}

// Steps [begin, begin + the fastest axis's length) of a unit, the slower axes being bound.
static void unit_run(Emit *emit, const Dot *dot, int64_t begin, LLVMValueRef elements, DotChains *chains) {
  const DotDigit *fast = &dot->contract.digits[dot->contract.count - 1];
  int64_t length = LLVMConstIntGetSExtValue(fast->extent);
  LLVMTypeRef vector = llvm_vector_of(emit->f32, dot->lanes);
  for (int64_t k = 0; k < length; k += dot->lanes) {
    Scope *scope = llvm_scope_open(emit);
    bool whole = length - k >= dot->lanes;
    LLVMValueRef mask = whole ? NULL : llvm_tail_mask(emit, llvm_i64(emit, length - k), dot->lanes);
    dot_bind_digit(emit, scope, fast, llvm_i64(emit, k)); // for the axes that stay 0
    llvm_bind_lanes(scope, fast->axis, llvm_i64(emit, k), k ? k : length, dot->lanes, mask);
    LLVMValueRef address = llvm_offset(emit, elements, emit->f32, llvm_i64(emit, begin + k));
    LLVMValueRef element = llvm_read(emit, DTYPE_F32, address, dot->lanes, mask);
    LLVMValueRef weight = llvm_splat(emit, llvm_value(emit, scope, dot->right.expr), dot->lanes);
    if (mask) weight = LLVMBuildSelect(emit->builder, mask, weight, LLVMConstNull(vector), "");
    dot_chains_add(emit, chains, weight, element);
    llvm_scope_close(emit, scope);
  }
}

void dot_unit(Emit *emit, const Dot *dot, LLVMValueRef first, LLVMValueRef elements, DotChains *chains) {
  const DotIndex *contract = &dot->contract;
  int fastest = contract->count - 1;
  int64_t steps = dot_unit_steps(contract),
          length = LLVMConstIntGetSExtValue(contract->digits[fastest].extent);
  LLVMValueRef number = LLVMBuildUDiv(emit->builder, first, llvm_i64(emit, steps), "");
  Scope *unit = llvm_scope_open(emit);
  dot_bind_digit(emit, unit, &contract->digits[0], number);
  for (int64_t begin = 0; begin < steps; begin += length) {
    Scope *run = llvm_scope_open(emit);
    int64_t rest = begin / length;
    for (int i = fastest - 1; i > 0; i--) {
      int64_t extent = LLVMConstIntGetSExtValue(contract->digits[i].extent);
      dot_bind_digit(emit, run, &contract->digits[i], llvm_i64(emit, rest % extent));
      rest /= extent;
    }
    unit_run(emit, dot, begin, elements, chains);
    llvm_scope_close(emit, run);
  }
  llvm_scope_close(emit, unit);
}

// Lines that are no plain loads: evaluated into scratch memory, then as if they had been there.
static void transpose_evaluated(Emit *emit, const Dot *dot, const DotOperand *operand,
                                const DotPanels *panels, LLVMValueRef begin, LLVMValueRef end,
                                LLVMValueRef place, LLVMValueRef pointers) {
  int64_t bytes = (int64_t)dot->lanes * LINE_BLOCK * 4;
  DType dtype = dot->steps == 2 ? DTYPE_BF16 : DTYPE_F32;
  LLVMTypeRef element = dot->steps == 2 ? emit->i16 : emit->f32;
  LLVMValueRef lines = llvm_offset(emit, emit->scratch, emit->i8, llvm_i64(emit, llvm_scratch(emit, bytes)));
  LLVMValueRef stride = llvm_i64(emit, LINE_BLOCK), width = llvm_i64(emit, panels->width);
  for (int i = 0; i < dot->lanes; i++)
    LLVMBuildStore(emit->builder, llvm_offset(emit, lines, element, llvm_i64(emit, i * LINE_BLOCK)),
                   llvm_offset(emit, pointers, emit->pointer, llvm_i64(emit, i)));
  Loop block = llvm_loop_open(emit, panels->k_begin, panels->k_end, LINE_BLOCK);
  LLVMValueRef k_end = llvm_minimum(emit, add(emit, block.index, stride), panels->k_end);
  dot_evaluate_lines(emit, dot, operand, dtype, begin, end, block.index, k_end, lines, stride);
  LLVMValueRef k = panel_row(emit, dot, subtract(emit, block.index, panels->k_begin));
  LLVMValueRef target = llvm_offset(emit, place, emit->f32, multiply(emit, k, width));
  LLVMValueRef arguments[] = {pointers, subtract(emit, k_end, block.index), target, width};
  dot_call(emit, dot_transpose_function(emit, dot, DTYPE_F32), arguments, 4);
  llvm_loop_close(emit, &block);
}

static void pack_along(Emit *emit, const Dot *dot, const DotOperand *operand, const DotPanels *panels) {
  LLVMValueRef pointers = llvm_variable(emit, LLVMArrayType2(emit->pointer, (uint64_t)dot->lanes));
  LLVMValueRef width = llvm_i64(emit, panels->width), lanes = llvm_i64(emit, dot->lanes);
  Loop group = llvm_loop_open(emit, panels->begin, panels->end, dot->lanes);
  LLVMValueRef from_begin = subtract(emit, group.index, panels->begin);
  LLVMValueRef number = LLVMBuildUDiv(emit->builder, from_begin, width, "");
  LLVMValueRef column = subtract(emit, from_begin, multiply(emit, number, width));
  LLVMValueRef offset = add(emit, multiply(emit, number, panels->panel_stride), column);
  LLVMValueRef place = llvm_offset(emit, panels->base, emit->f32, offset);
  if (operand->lines) {
    DType dtype = emit->kernel->buffers[emit->kernel->exprs[operand->expr].buffer].dtype;
    dot_lines(emit, dot, operand, group.index, panels->end, panels->k_begin, dot->lanes, pointers);
    LLVMValueRef arguments[] = {pointers, subtract(emit, panels->k_end, panels->k_begin), place, width};
    dot_call(emit, dot_transpose_function(emit, dot, dtype), arguments, 4);
  } else {
    LLVMValueRef end = llvm_minimum(emit, add(emit, group.index, lanes), panels->end);
    transpose_evaluated(emit, dot, operand, panels, group.index, end, place, pointers);
  }
  llvm_loop_close(emit, &group);
}

void dot_pack(Emit *emit, const Dot *dot, const DotOperand *operand, const DotPanels *panels) {
  if (operand->across)
    pack_across(emit, dot, operand, panels);
  else
    pack_along(emit, dot, operand, panels);
}
