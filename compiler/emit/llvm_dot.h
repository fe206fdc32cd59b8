// Internal header of contractions on the CPU. One kernel, dot(left, right) over its contract axes, runs as
//
//   for each part of the result that this call's tasks own               llvm_dot.c
//     for each block of columns and of the contraction
//       pack the right operand into panels                               llvm_dot_pack.c
//       for each group of rows: pack the left operand, or read it where it lies
//         for each tile of the result: sums in registers                 llvm_dot_tile.c
//           on the last block: the expressions after the contraction, and the stores
//
// Every element of the result is one chain of fused multiply-adds over the contraction in its order, whatever
// the tile, the block or the thread, so that results depend on none of them. (With few rows it is a fixed
// number of chains along a line: llvm_dot.c, few rows.)
//
// Axes are handled in sets (batch, rows, columns, contraction), each counted through as one index: what the
// expressions need of the single axes is had from it by division, rarely.
#ifndef VLMC_COMPILER_EMIT_LLVM_DOT_H
#define VLMC_COMPILER_EMIT_LLVM_DOT_H

#include "compiler/emit/llvm_emit.h"

enum {
  DOT_VECTORS = 3,  // registers side by side in a tile and in a panel of the right operand
  DOT_MAX_ROWS = 8, // rows of a tile
};

// A set of axes counted through as one: digits from slow to fast.
typedef struct DotDigit {
  int axis;            // takes the digit's value
  uint32_t zeros;      // slower axes that this one runs on into, as memory does: they stay 0
  LLVMValueRef extent; // i64
} DotDigit;
typedef struct DotIndex {
  DotDigit digits[KERNEL_MAX_AXES];
  int count;
  LLVMValueRef size; // i64, the product; 1 for the empty set
} DotIndex;

typedef struct DotOperand {
  ExprId expr;
  const DotIndex *own; // rows or columns
  bool lines;          // a plain load, contiguous along the contraction
  bool across;         // packed with lanes along its own axes; else along the contraction, transposed
} DotOperand;

typedef struct Dot {
  ExprId expr;
  DotIndex batch, rows, columns, contract;
  DotOperand left, right;      // left: broadcast element by element; right: in vectors
  int lanes, tile_rows, width; // width: columns of a tile and of a right panel
  // Steps of the contraction in each 32-bit element of a panel: 1, an f32; 2, where both operands are bf16 and the
  // machine multiplies pairs of these (odd: a step that counts for nothing may follow the last).
  int steps;
  bool odd; // steps is 2 and the contraction may have an odd number of them
} Dot;

// ---- llvm_dot_plan.c: false: not of the form that this emitter takes ----------------------------
bool dot_plan(Emit *emit, Dot *dot);
// How an operand of rows or columns `own` can be read for a contraction.
DotOperand dot_operand(Emit *emit, ExprId expr, const DotIndex *own, const DotIndex *contract);
// Gives all axes of the set their values, `flat` being the place in it.
void dot_bind(Emit *emit, Scope *scope, const DotIndex *index, LLVMValueRef flat);
void dot_bind_digit(Emit *emit, Scope *scope, const DotDigit *digit, LLVMValueRef value); // one of them

// A loop over the part [begin, end) of a set, by runs along its fastest axis; all other axes are bound in it.
typedef struct DotRuns {
  Loop loop;
  Scope *scope;
  const DotIndex *index;
  LLVMValueRef first, last; // of the fastest axis
  LLVMValueRef flat;        // place of `first` in the set
  int axis;                 // -1: the set is empty, one run of length 1
} DotRuns;
DotRuns dot_runs_open(Emit *emit, const DotIndex *index, LLVMValueRef begin, LLVMValueRef end);
void dot_runs_close(Emit *emit, DotRuns *runs);
// The run in vectors: `piece` emits code for lanes from the run's element `offset` on, bound in `scope`. Runs
// begin at multiples of the lanes wherever a set has one digit.
typedef void DotPiece(Emit *emit, void *context, Scope *scope, LLVMValueRef offset, int lanes,
                      LLVMValueRef mask);
void dot_runs_pieces(Emit *emit, const DotRuns *runs, DotPiece *piece, void *context);
bool dot_constant(LLVMValueRef value, int64_t *number);
// Is the set one digit whose length is known to be a multiple?
bool dot_multiple_of(const DotIndex *index, int64_t multiple);

// Vectors of sums that are added to in turn, so that no addition waits for the one before.
enum { DOT_CHAINS = 4 }; // at most
typedef struct DotChains {
  LLVMValueRef sums[DOT_CHAINS]; // variables
  int count, next;
} DotChains;

// ---- llvm_dot_pack.c ----------------------------------------------------------------------------
// Panels of `width` elements of an operand's own index side by side, for each step of the contraction:
// element (c, k) at base[c / width * panel_stride + (k - k_begin) * width + c % width], c counted from
// `begin`. With two steps to an element, (k - k_begin) / 2 in place of k - k_begin, the even one in the lower half.
typedef struct DotPanels {
  LLVMValueRef base;
  LLVMValueRef begin, end;     // of the own index
  LLVMValueRef k_begin, k_end; // of the contraction
  LLVMValueRef panel_stride;   // in elements: at least k_end - k_begin, rounded up to lanes, / steps * width
  int width;                   // lanes or a multiple
} DotPanels;
void dot_pack(Emit *emit, const Dot *dot, const DotOperand *operand, const DotPanels *panels);
// Asks for what the expression will load, in a scope that is some steps ahead, where the machine does not see by itself
// where this is going: rows of a matrix are far apart, and where much is computed few loads are under way.
void dot_prefetch(Emit *emit, Scope *scope, ExprId expr, int lanes);
// Addresses of `count` lines of the operand from `begin` on (beyond end - 1: that one again), at place `k` of
// the contraction, into an array of pointers.
void dot_lines(Emit *emit, const Dot *dot, const DotOperand *operand, LLVMValueRef begin, LLVMValueRef end,
               LLVMValueRef k, int count, LLVMValueRef pointers);
// Lines of any operand as f32 or bf16, one after the other, `stride` elements apart.
void dot_evaluate_lines(Emit *emit, const Dot *dot, const DotOperand *operand, DType dtype,
                        LLVMValueRef begin, LLVMValueRef end, LLVMValueRef k_begin, LLVMValueRef k_end,
                        LLVMValueRef base, LLVMValueRef stride);

// Steps that a contraction comes in: all of its axes but the slowest, if their number is known and small and divides any
// block of the contraction; else 0.
int64_t dot_unit_steps(const DotIndex *contract);
// chains += one unit of the right operand, from step `first` on, times `elements`. The columns are bound.
void dot_unit(Emit *emit, const Dot *dot, LLVMValueRef first, LLVMValueRef elements, DotChains *chains);

// ---- llvm_dot_tile.c: functions of the module, made when first asked for ------------------------
// void (ptr left, ptr right, ptr sums, i64 count, i64 accumulate): sums[r][c] (+)= left[r] . right[c];
// left: `lines` ? tile_rows pointers to lines : a panel of `lanes` rows. count: of 32-bit elements.
LLVMValueRef dot_tile_function(Emit *emit, const Dot *dot, bool lines, int vectors);
// void (ptr lines, i64 count, ptr panel, i64 width): `lanes` lines of count steps to panel[k * width + line], or of two
// bf16 steps to an element.
LLVMValueRef dot_transpose_function(Emit *emit, const Dot *dot, DType dtype);
// void (ptr lines, ptr line, i64 count, ptr sums, i64 accumulate): sums[i] (+)= lines[i] . line, for
// dot_lines_at_once lines, one after the other: a machine reads ahead best along one line.
LLVMValueRef dot_lines_function(Emit *emit, DType dtype, DType line_dtype);
int dot_lines_at_once(const Emit *emit);
DotChains dot_chains_open(Emit *emit, int count);                                   // a power of two of them
void dot_chains_add(Emit *emit, DotChains *chains, LLVMValueRef x, LLVMValueRef y); // += x * y
// Their sum becomes totals[index]: an array of dot_lines_at_once vectors.
void dot_chains_close(Emit *emit, const DotChains *chains, LLVMValueRef totals, LLVMValueRef index);
LLVMValueRef dot_totals(Emit *emit);
// sums[i] (+)= all lanes of totals[i] added up.
void dot_fold(Emit *emit, LLVMValueRef totals, LLVMValueRef sums, LLVMValueRef accumulate);
void dot_call(Emit *emit, LLVMValueRef function, LLVMValueRef *arguments, unsigned count);

#endif
