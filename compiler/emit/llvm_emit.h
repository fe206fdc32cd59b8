// Internal header of the LLVM backend: kernels to already vectorised IR, IR to objects, objects to code.
//
//   kernel -> llvm_prepare.c   reductions over axes of one extent share that axis, so that equal terms are one
//          -> llvm_map.c llvm_row.c llvm_scatter.c llvm_dot.c llvm_attention.c   loops of one anchor each, which ask
//             llvm_expression.c for values: leaves, loads, index arithmetic
//             llvm_index.c llvm_memory.c for whole numbers and for loads and stores
//             llvm_reduce.c     for sums, maxima and contractions met inside of an expression
//             llvm_scalar.c llvm_math.c llvm_random.c   for arithmetic: one rule per row of ops.def
//          -> llvm_target.c    passes and machine code for one CPU
//          -> llvm_cache.c     objects on disk
//          -> llvm_emitter.c   the Emitter: threads that compile, the linker that makes objects callable
//
// How code is built: nothing makes a phi by hand. Loop counters and accumulators are variables (allocas that
// mem2reg promotes), so that code can be added in front of a loop that is already open. A Scope is a region
// of code in which some axes have values; scopes nest as the loops do. A value is computed in the outermost
// scope in which all axes that it depends on are bound, once, and remembered there.
#ifndef VLMC_COMPILER_EMIT_LLVM_EMIT_H
#define VLMC_COMPILER_EMIT_LLVM_EMIT_H

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

#include "compiler/emit/emit.h"

// What the code is for.
typedef struct Machine {
  const char *cpu, *features;  // LLVM's names
  int lanes;                   // f32 in one register: 16, 8 or 4
  int registers;               // vector registers: 32 or 16
  bool fma, avx512, f16, bf16; // f16: conversions; bf16: AVX512-BF16 dot products
} Machine;

typedef struct Scope Scope;
enum { LLVM_MAX_INJECTIONS = 64, LLVM_MAX_KEPT = 4 };

// llvm_kept.c: a value that one sweep over a row writes down for the next ones.
typedef struct Kept {
  ExprId expr;
  int axis;
  const Scope *rows;   // the scope of one row
  const Store *result; // kept where this store will write in the end; NULL: in scratch memory, at `offset`
  int64_t offset;
  bool writing, written;
} Kept;

// One kernel being emitted: void function(ptr buffers, ptr symbols, i64 begin, i64 end, ptr scratch).
typedef struct Emit {
  Arena *arena; // dies with the kernel's emission
  const Machine *machine;
  Kernel *kernel; // as llvm_prepare left it
  LLVMContextRef context;
  LLVMModuleRef module;
  LLVMBuilderRef builder; // stands at the end of the innermost scope's code
  LLVMValueRef function;
  LLVMTypeRef i1, i8, i16, i32, i64, f32, pointer;
  LLVMValueRef buffers[KERNEL_MAX_BUFFERS];
  LLVMValueRef symbols[SYMBOL_COUNT];
  LLVMValueRef begin, end, scratch; // scratch: 64-byte aligned memory of this thread
  int64_t scratch_bytes;            // how much of it the code uses; grown by llvm_scratch
  Work work;                        // set by the anchor
  Scope *root;                      // the whole function; binds no axis
  Scope *innermost;
  bool *live;          // per expression: some store needs it
  uint32_t *free_axes; // per expression: the axes that its value depends on
  int *level;          // per expression: how many reductions are nested in it, one inside of the other
  uint64_t *uses;      // per expression: which injected expressions it is made of, as bits
  ExprId injections[LLVM_MAX_INJECTIONS];
  int injection_count;
  Kept kept[LLVM_MAX_KEPT];
  int kept_count;
  LLVMBasicBlockRef allocas; // first block: only variables
} Emit;

// ---- llvm_scope.c: regions, loops, variables ----------------------------------------------------

// A value as it is remembered. Index arithmetic along the vector axis stays scalar as long as it can: then
// `scalar` is lane 0's value and each lane is `step` more than the one before.
typedef struct Value {
  LLVMValueRef scalar, vector; // either may be NULL; both NULL: not computed yet
  int64_t step;
  int64_t multiple; // of whole numbers: what lane 0's value is known to be a multiple of
} Value;

// Lanes: at most one axis of a chain of scopes is the vector axis: its value is that of lane 0, the others
// count on by one; `mask` says which lanes are in range (NULL: all). Any whole number of lanes will do:
// several times the machine's lanes means several registers.
struct Scope {
  Scope *outer;
  int depth;               // root: 0
  LLVMBasicBlockRef block; // where its code goes on while an inner scope is open
  uint32_t axes;           // those bound here
  LLVMValueRef axis[KERNEL_MAX_AXES];
  int64_t multiple[KERNEL_MAX_AXES]; // what the axis's value is known to be a multiple of (1: nothing known)
  int vector_axis;                   // bound here with lanes, or -1
  int lanes;
  LLVMValueRef mask;
  uint64_t pins; // injected here, as bits
  Value *memo;   // per expression
};

// A scope opened at the builder's place, inside of the innermost one. Close in reverse order.
Scope *llvm_scope_open(Emit *emit);
void llvm_scope_close(Emit *emit, Scope *scope);
void llvm_bind(Scope *scope, int axis, LLVMValueRef value, int64_t multiple); // i64
void llvm_bind_lanes(Scope *scope, int axis, LLVMValueRef first, int64_t multiple, int lanes,
                     LLVMValueRef mask);
// From here on `expr` is this value in this scope and inside of it: of the type llvm_value would return.
void llvm_inject(Emit *emit, Scope *scope, ExprId expr, LLVMValueRef value);

// for (i = begin; i < end; i += step): opens a scope (bind axes to loop.index in it). Both bounds are i64.
typedef struct Loop {
  Scope *scope;
  LLVMValueRef index; // i64
  LLVMValueRef variable, step, end;
  LLVMBasicBlockRef body, exit;
  bool once; // known to run just once
} Loop;
Loop llvm_loop_open(Emit *emit, LLVMValueRef begin, LLVMValueRef end, int64_t step);
void llvm_loop_close(Emit *emit, Loop *loop);

// if (condition) { ... }: opens a scope.
typedef struct Branch {
  Scope *scope;
  LLVMBasicBlockRef exit;
} Branch;
Branch llvm_branch_open(Emit *emit, LLVMValueRef condition);
void llvm_branch_close(Emit *emit, Branch *branch);

// Moves the builder to the end of an outer scope's code, in front of the loops that are open in it, and back.
typedef struct Place {
  Scope *innermost;
  LLVMBasicBlockRef block, before;
  LLVMValueRef terminator;
} Place;
Place llvm_place_enter(Emit *emit, Scope *scope);
void llvm_place_leave(Emit *emit, const Place *place);

LLVMValueRef llvm_variable(Emit *emit, LLVMTypeRef type); // an alloca; read and write it with load and store
LLVMValueRef llvm_get(Emit *emit, LLVMTypeRef type, LLVMValueRef variable);
void llvm_set(Emit *emit, LLVMValueRef variable, LLVMValueRef value);

// The loop over the function's tasks, emit->work being set: coordinates[i] is the task's place in term i, in
// [0, ceil(extent / divisor)); the last term runs fastest.
Loop llvm_tasks_open(Emit *emit, LLVMValueRef coordinates[8]);

// Offset in bytes (64-byte aligned) of `bytes` of scratch memory that nobody else uses.
int64_t llvm_scratch(Emit *emit, int64_t bytes);

// ---- llvm_expression.c: values ------------------------------------------------------------------

// The value of `expr` in `scope` (which must be the innermost or outside of it): a scalar where it does not
// depend on the vector axis, else a vector of the scope's lanes. F32: float; BOOL: i1; I32; I64. Reductions
// and contractions that were not injected are computed by loops on the spot.
LLVMValueRef llvm_value(Emit *emit, Scope *scope, ExprId expr);
LLVMValueRef llvm_vector(Emit *emit, Scope *scope, ExprId expr); // the same, scalars spread to all lanes
// The same in the form that is remembered; and the outermost scope in which it is computed.
Value llvm_evaluate(Emit *emit, Scope *scope, ExprId expr);
Scope *llvm_placement(const Emit *emit, Scope *scope, ExprId expr);
// The scope whose vector axis `expr` depends on, or NULL.
Scope *llvm_vector_scope(const Emit *emit, Scope *scope, ExprId expr);
LLVMValueRef llvm_materialise(Emit *emit, const Value *value, int lanes); // all lanes as one vector
// Number of lanes and mask in force in `scope`: 1 and NULL where no axis is the vector axis.
int llvm_lanes(const Scope *scope, LLVMValueRef *mask, int *axis);
// Writes the value of a STORE_SET in a scope where all its axes are bound; respects mask and lanes.
void llvm_store(Emit *emit, Scope *scope, const Store *store);

// ---- llvm_memory.c ------------------------------------------------------------------------------
LLVMTypeRef llvm_stored_type(Emit *emit, DType dtype); // of one element in memory
// Memory: elements of `dtype` at `address` (contiguous, or a vector of addresses), as values of the
// expression dtype that kernels give that dtype (bf16: F32, u8: I32) and back. Lanes where mask is false
// (NULL: none) are neither read nor written, and read as 0.
LLVMValueRef llvm_read(Emit *emit, DType dtype, LLVMValueRef address, int lanes, LLVMValueRef mask);
void llvm_write(Emit *emit, DType dtype, LLVMValueRef address, LLVMValueRef value, int lanes,
                LLVMValueRef mask);
// Address of buffer[index..] for lane 0, with *step 1 (lanes are neighbours) or 0 (all the same); else *step
// is INT64_MIN and the result a vector of addresses.
LLVMValueRef llvm_address(Emit *emit, Scope *scope, int buffer, const ExprId *index, int lanes,
                          int64_t *step);

// ---- small builders (llvm_scope.c) --------------------------------------------------------------
int llvm_width(LLVMValueRef value);                   // lanes of a value: 1 for a scalar
bool llvm_known(LLVMValueRef value, int64_t *number); // a constant whole number?
int64_t llvm_common_divisor(int64_t a, int64_t b);
LLVMValueRef llvm_i64(Emit *emit, int64_t value);
LLVMValueRef llvm_i32(Emit *emit, int32_t value);
LLVMValueRef llvm_f32(Emit *emit, double value);
LLVMTypeRef llvm_type(Emit *emit, DType dtype, int lanes);           // of values: f32, i32, i64, i1
LLVMTypeRef llvm_vector_of(LLVMTypeRef element, int lanes);          // the element itself for lanes 1
LLVMValueRef llvm_splat(Emit *emit, LLVMValueRef scalar, int lanes); // vectors pass through
LLVMValueRef llvm_constant_like(Emit *emit, LLVMValueRef like,
                                double value);       // float constant of like's shape
LLVMValueRef llvm_extent(Emit *emit, Extent extent); // i64, computed once at the function's start
LLVMValueRef llvm_offset(Emit *emit, LLVMValueRef pointer, LLVMTypeRef element,
                         LLVMValueRef index);                       // address
LLVMValueRef llvm_iota(Emit *emit, LLVMTypeRef element, int lanes); // <0, 1, 2, ...>
// <lanes x i1>: lane < count (count: i64)
LLVMValueRef llvm_tail_mask(Emit *emit, LLVMValueRef count, int lanes);
LLVMValueRef llvm_intrinsic(Emit *emit, const char *name, LLVMTypeRef *overloads, unsigned overload_count,
                            LLVMValueRef *arguments, unsigned argument_count);
LLVMValueRef llvm_fmul(Emit *emit, LLVMValueRef x, LLVMValueRef y);                // may be contracted
LLVMValueRef llvm_fadd(Emit *emit, LLVMValueRef x, LLVMValueRef y);                // may be contracted
LLVMValueRef llvm_fma(Emit *emit, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z); // x*y + z, fused
LLVMValueRef llvm_contract(LLVMValueRef value); // lets a float operation be fused with its neighbour
// The greater (or lesser) float; NaN wins, x's before y's.
LLVMValueRef llvm_extreme(Emit *emit, bool greater, LLVMValueRef x, LLVMValueRef y);
LLVMValueRef llvm_minimum(Emit *emit, LLVMValueRef x, LLVMValueRef y); // i64, signed

// ---- llvm_nest.c: which axis becomes lanes, how many, and what a task is ------------------------

typedef struct AxisCost {
  double operations; // of the parts of the values that depend on the axis, per lane
  double access;     // of loads, were this axis the lanes: 1 each where lanes are neighbours
  bool gathers;      // some are not
} AxisCost;
AxisCost llvm_axis_cost(Emit *emit, const ExprId *values, int count, int axis);
// Lanes to use along an axis: at most `most` registers of them.
int llvm_choose_lanes(Emit *emit, const ExprId *values, int count, int axis, int most);
// The axis among `candidates` along which loads and stores are cheapest; -1: no candidates.
int llvm_choose_axis(Emit *emit, const Store *const *stores, int count, uint32_t candidates);
double llvm_likely_size(Emit *emit, uint32_t axes); // product of extents, run-time sizes guessed

// A piece of the vector axis: begin .. end, with what is known about begin and about the length.
typedef struct Range {
  LLVMValueRef begin, end;
  int64_t begin_multiple, length_multiple;
} Range;
Range llvm_range_whole(Emit *emit, int axis);
int llvm_tail_lanes(Emit *emit, const Range *range,
                    int lanes); // lanes of the pieces after the last whole one
// axis = begin .. end in pieces of `lanes`, the rest in smaller pieces under a mask (`tail`).
typedef void VectorBody(Emit *emit, Scope *scope, bool tail, void *context);
void llvm_vector_loop(Emit *emit, int axis, const Range *range, int lanes, VectorBody *body, void *context);

// Open loops, outermost first.
typedef struct Nest {
  Loop loops[KERNEL_MAX_AXES + 1];
  int count;
  Range range; // what is left to loop over of the vector axis
} Nest;
// Sets emit->work and opens the loops over tasks and over all of `axes` but the vector axis (-1: none), which
// may be cut into blocks too. `work`: of one step of all axes, in units of about 16 operations of one lane.
Nest llvm_nest_tasks(Emit *emit, uint32_t axes, double work, int vector_axis, int lanes);
void llvm_nest_loops(Emit *emit, Nest *nest, uint32_t axes); // plain loops over whole axes
void llvm_nest_close(Emit *emit, Nest *nest);

// ---- llvm_map.c: stores over the same axes go together ------------------------------------------
typedef struct StoreGroup {
  uint32_t axes;
  const Store *stores[KERNEL_MAX_STORES];
  ExprId values[KERNEL_MAX_STORES];
  int count;
} StoreGroup;
int llvm_store_groups(Emit *emit, StoreGroup groups[KERNEL_MAX_STORES]);
void llvm_store_all(Emit *emit, Scope *scope, const StoreGroup *group);
void llvm_group_loops(Emit *emit, const StoreGroup *group,
                      uint32_t bound); // over the axes that are not yet bound

// ---- llvm_kept.c: before the sweeps, in each step of a sweep (first and last), and after each sweep
void llvm_kept_plan(Emit *emit, Scope *rows, const StoreGroup *group, uint32_t row_axes);
void llvm_kept_read(Emit *emit, Scope *scope, const Scope *rows);
void llvm_kept_write(Emit *emit, Scope *scope, const Scope *rows);
void llvm_kept_done(Emit *emit);

// ---- llvm_prepare.c -----------------------------------------------------------------------------
Kernel *llvm_prepare(Arena *arena, const Kernel *kernel);

// ---- anchors: each emits the whole body of the function and sets emit->work. --------------------
// False: the kernel is none of its kind and nothing was emitted; llvm_map takes every kernel without
// STORE_ADD.
bool llvm_map(Emit *emit);
bool llvm_row(Emit *emit);
bool llvm_scatter(Emit *emit);
bool llvm_dot(Emit *emit);
bool llvm_attention(Emit *emit);

// ---- llvm_reduce.c: SUM, REDMAX or DOT (and those like it that fit the same loops) in the innermost scope,
// as remembered values of that scope.
void llvm_reduce(Emit *emit, Scope *scope, ExprId expr);

// ---- llvm_index.c: whole numbers along the vector axis that stay scalar; false: not in a form that does
bool llvm_index(Emit *emit, const Expr *expr, const Value *x, const Value *y, int lanes, Value *result);

// ---- llvm_random.c: uniform numbers in [0, 1) as runtime/base/philox.h defines them -------------
LLVMValueRef llvm_random(Emit *emit, uint32_t stream, const Value *counter, const Value *index, int lanes);

// ---- llvm_math.c: floats, one or a vector -------------------------------------------------------
LLVMValueRef llvm_math_exp(Emit *emit, LLVMValueRef x);
LLVMValueRef llvm_math_log(Emit *emit, LLVMValueRef x);
LLVMValueRef llvm_math_tanh(Emit *emit, LLVMValueRef x);
LLVMValueRef llvm_math_erf(Emit *emit, LLVMValueRef x);
LLVMValueRef llvm_math_sin(Emit *emit, LLVMValueRef x);
LLVMValueRef llvm_math_cos(Emit *emit, LLVMValueRef x);
LLVMValueRef llvm_math_pow(Emit *emit, LLVMValueRef x, LLVMValueRef y);

// ---- llvm_scalar.c: operands are of equal shape, of the dtypes that the expression's operands have.
typedef LLVMValueRef ScalarRule(Emit *emit, const Expr *expr, LLVMValueRef x, LLVMValueRef y, LLVMValueRef z);
extern ScalarRule *const llvm_rules[SCALAR_COUNT];

#endif
