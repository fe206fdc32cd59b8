// Kernels: one description for all targets, over scalars, axes and buffers. A kernel means, for each of its
// stores: for all values of the store's axes, buffer[index..] = value. A value is an expression graph; its
// reductions (sum, redmax, dot) bind axes of their own, everything else is elementwise. That is the whole
// meaning, and interpret.c executes just that, slowly; how loops look is the Schedule's and the emitter's
// matter and can not change a result but for the order of a sum.
//
//   kernel layernorm_1 row
//   from models/vit.vlm:31  x = x + attn(norm1(x))      (a model line that it implements, with its text)
//   axes b=B t=T d=128 e=128
//   buffer x f32[B, T, 128] read
//   buffer y f32[B, T, 128] write
//   %1 = load x [b, t, e] : f32              (operand expressions by number; index expressions in brackets)
//   %2 = sum %1 over e : f32
//   ...
//   store y [b, t, d] = %9 over b t d
//
// Text form: print.c writes it, read.c reads it back. The files named after `from` need not be there then:
// each such line becomes a source of its own (source.h), so that tables and comments show it as before.
#ifndef VLMC_COMPILER_KERNEL_KERNEL_H
#define VLMC_COMPILER_KERNEL_KERNEL_H

#include "runtime/base/arena.h"
#include "runtime/base/diagnostics.h"
#include "runtime/base/dtype.h"
#include "runtime/base/extent.h"

enum { KERNEL_MAX_AXES = 32, KERNEL_MAX_RANK = 8, KERNEL_MAX_BUFFERS = 24, KERNEL_MAX_STORES = 12 };
enum { KERNEL_MAX_PLACES = 64 }; // model lines that are shown; further ones are left out

typedef uint32_t ExprId; // index into Kernel.exprs, 0: none

typedef enum ScalarOp {
#define SCALAR_OP(enumerator, name, operands, c, cuda, llvm, meaning) SCALAR_##enumerator,
#include "compiler/kernel/ops.def"
#undef SCALAR_OP
  SCALAR_COUNT
} ScalarOp;

typedef struct ScalarInfo {
  const char *name;
  int operands;
  const char *c, *cuda;
} ScalarInfo;
extern const ScalarInfo scalar_table[SCALAR_COUNT]; // kernel.c

// One scalar. Index arithmetic is I64; data arithmetic is F32 (I32 and BOOL where the buffers are), whatever
// narrower type the buffers store: a load widens BF16 and F16 to F32, a store rounds.
typedef struct Expr {
  ScalarOp op;
  DType dtype;   // of the value: BOOL, I32, I64, F32 (F64 is not computed in)
  ExprId in[3];  // operands. LOAD: in[0] is a guard or 0 (where false nothing is read, the value is 0).
                 // RANDOM: in[0] run's counter (I32), in[1] linear index (I64)
  double number; // CONST
  int axis;      // AXIS: index into Kernel.axes; its value is an I64
  Extent extent; // SIZE: an I64
  int buffer;    // LOAD
  ExprId index[KERNEL_MAX_RANK]; // LOAD: one I64 per axis of the buffer
  uint32_t axes;                 // SUM, REDMAX, DOT: bit mask of the axes that it binds
  uint32_t stream;               // RANDOM
} Expr;

// What is known of a scalar from its operands; kept beside exprs by kernel.c.
typedef struct ExprFacts {
  uint32_t free_axes; // see kernel_free_axes
  int64_t low, high;  // I64: bounds of its value, INT64_MIN and INT64_MAX where unknown
} ExprFacts;

typedef struct KernelAxis {
  const char *name; // unique within the kernel
  Extent extent;
} KernelAxis;

// A parameter of the kernel: a contiguous row-major tensor. Two parameters never overlap. An `update` buffer
// is read and written: loads use the very index of its store, under stores of the same axes, and all values
// that one step of these axes stores are computed before the first of them is written (AdamW: m, v and w at
// once).
typedef enum BufferUse { BUFFER_READ, BUFFER_WRITE, BUFFER_UPDATE } BufferUse;
typedef struct KernelBuffer {
  const char *name;
  DType dtype;
  int rank;
  Extent extents[KERNEL_MAX_RANK];
  BufferUse use;
} KernelBuffer;

typedef enum StoreMode {
  STORE_SET,
  STORE_ADD // buffer[index] += value, in the row-major order of the store's axes; the buffer starts as zeros
} StoreMode;
typedef struct Store {
  int buffer;
  ExprId index[KERNEL_MAX_RANK]; // one per axis of the buffer; data-dependent only under STORE_ADD, where
                                 // an index outside of the buffer drops the value
  ExprId value;
  uint32_t axes; // bit mask of the axes it runs over
  StoreMode mode;
} Store;

// The forms that lowering makes and that emitters make fast; any other kernel with the anchor must still be
// right.
//
// MAP      Stores over the same axes, no reduction. Axes stand in row-major order of the first store, so that
//          the last is its contiguous one. Shifted, strided and guarded loads (slices, pads, concatenations).
// ROW      Reductions bind the fastest axes of what they read; their free axes are the rows. Stores run over
//          the rows (statistics) or over rows and inner axes (normalised rows, their axes are no bound ones
//          but of the same extents). Reductions depend on each other: softmax binds j2 for the largest and j3
//          for the sum of exponentials that hold it, and stores over j. No rows at all: a sum over everything.
// COLUMN   Reductions bind slow axes and keep the fastest; all stores run over the kept axes.
// DOT      Exactly one DOT. Its operands are loads under views, casts and a little cheap arithmetic (they are
//          read several times, or packed once per block). All stores run over batch, rows and columns of the
//          result, their values elementwise in it and in further loads: bias, activation, residual, scale,
//          mask.
// SCATTER  One STORE_ADD; the value may be any elementwise expression.
// ATTENTION  DOTs over keys whose left operand, the weight, is elementwise in DOTs of something per row and
//          something per key (scores), or in the softmax of such over the keys; see kernel_attention. The
//          largest score and the sum may be stored too. A weight that a mask makes 0 counts as nothing, also
//          beside a value that is not finite.
typedef enum Anchor {
  ANCHOR_MAP,       // no reduction
  ANCHOR_ROW,       // sums and maxima over the fastest axes of what is read: norms, softmax, losses
  ANCHOR_COLUMN,    // sums over slow axes, kept along the fast one: gradients of biases
  ANCHOR_DOT,       // one contraction with expressions before and after it
  ANCHOR_SCATTER,   // STORE_ADD
  ANCHOR_ATTENTION, // contractions over keys of what contractions make
  ANCHOR_COUNT
} Anchor;
extern const char *const anchor_names[ANCHOR_COUNT];

typedef struct Kernel {
  Arena *arena;
  const char *name; // unique within the program, an identifier: "vision_blocks_attn_softmax_3"
  Anchor anchor;
  KernelAxis axes[KERNEL_MAX_AXES];
  int axis_count;
  KernelBuffer buffers[KERNEL_MAX_BUFFERS];
  int buffer_count;
  Expr *exprs; // exprs[0] is unused; operands before uses; some may be unused
  ExprFacts *facts;
  size_t expr_count, expr_capacity;
  uint32_t *table; // hash table of exprs
  size_t table_size;
  Store stores[KERNEL_MAX_STORES];
  int store_count;
  Span *spans; // model lines it implements
  size_t span_count, span_capacity;
} Kernel;

// ---- kernel.c: building; hash-consed, so that equal expressions are one. Constants fold, x*1, x+0, x*0 on
// I64 simplify, (x*c + r) / c and % c with 0 <= r < c are resolved. Axes bound by one reduction may be bound
// by others beside it, never by one inside it or by a store.
Kernel *kernel_new(Arena *arena, const char *name);
int kernel_axis(Kernel *kernel, const char *name, Extent extent); // a fresh axis
int kernel_buffer(Kernel *kernel, const char *name, DType dtype, int rank, const Extent *extents,
                  BufferUse use);
ExprId kernel_intern(Kernel *kernel, Expr expr); // as it is
ExprId kernel_expr(Kernel *kernel, Expr expr);   // simplified (simplify.c)
ExprId kernel_number(Kernel *kernel, double value, DType dtype);
ExprId kernel_axis_value(Kernel *kernel, int axis);
ExprId kernel_size(Kernel *kernel, Extent extent);
ExprId kernel_unary(Kernel *kernel, ScalarOp op, ExprId x);
ExprId kernel_binary(Kernel *kernel, ScalarOp op, ExprId x, ExprId y);
ExprId kernel_select(Kernel *kernel, ExprId condition, ExprId x, ExprId y);
ExprId kernel_cast(Kernel *kernel, ExprId x, DType dtype);
ExprId kernel_load(Kernel *kernel, int buffer, const ExprId *index, ExprId guard);
ExprId kernel_reduce(Kernel *kernel, ScalarOp op, ExprId x, uint32_t axes);
ExprId kernel_dot(Kernel *kernel, ExprId x, ExprId y, uint32_t axes);
ExprId kernel_random(Kernel *kernel, ExprId counter, ExprId linear, uint32_t stream);
void kernel_store(Kernel *kernel, int buffer, const ExprId *index, ExprId value, uint32_t axes,
                  StoreMode mode);
DType kernel_value_dtype(DType stored); // of a load: bf16, f16, f64 -> f32, u8 -> i32, else the same
// The axes that a value depends on, those bound by reductions inside of it left out.
uint32_t kernel_free_axes(const Kernel *kernel, ExprId expr);

// ---- simplify.c: what the builders above apply to each new expression ---------------------------
ExprFacts kernel_facts(const Kernel *kernel, const Expr *expr);
ExprId kernel_simplify(Kernel *kernel, const Expr *expr); // 0: nothing to simplify

// ---- analyse.c: facts that schedules and emitters ask for ---------------------------------------
// value = sum of coefficient[a] * axis a + rest, where rest depends on no axis of `axes`; coefficients are
// extents' products and so given as expressions (0: does not depend on that axis). False: not affine.
bool kernel_affine(Kernel *kernel, ExprId index, uint32_t axes, int64_t coefficients[KERNEL_MAX_AXES]);
// Stride in elements with which a load or store moves along one axis: 0 constant, 1 contiguous,
// other constants; -1: not constant (symbolic stride or not affine).
int64_t kernel_stride(Kernel *kernel, int buffer, const ExprId *index, int axis);
// For an ANCHOR_DOT: the axes of the contraction by their part.
typedef struct DotAxes {
  ExprId dot;             // the contraction's expression
  uint32_t batch;         // in both operands and the result
  uint32_t rows, columns; // only in the left / only in the right operand
  uint32_t contract;
} DotAxes;
DotAxes kernel_dot_axes(const Kernel *kernel);

// ---- attention.c: for an ANCHOR_ATTENTION: what its expressions are ------------------------------
enum { ATTENTION_MAX_INNER = 2, ATTENTION_MAX_OUTER = 2, ATTENTION_WIDEST = 256 };
typedef struct AttentionInner { // scores: dot(row_side, key_side) over one axis
  ExprId dot, row_side, key_side;
  int along;
} AttentionInner;
typedef struct AttentionOuter { // a result: dot(weight, value) over the keys
  ExprId dot, weight, value;
  int column;      // axis that only values have
  uint32_t axes;   // of the stores that hold it
  uint32_t stores; // these, as bits
} AttentionOuter;
typedef struct Attention {
  int row, key;   // axes
  uint32_t batch; // axes that rows are taken apart by
  uint32_t more;  // further axes that results are summed over, without a softmax: heads that share keys
  AttentionInner inner[ATTENTION_MAX_INNER];
  AttentionOuter outer[ATTENTION_MAX_OUTER];
  int inner_count, outer_count;
  // One more result, of the same weights but over the rows: result[key, column] = dot over row of weight, value. Its
  // expressions have axes of their own: `turned_row` and `turned_key` are its rows and keys, `turned_of` says whose
  // weights it has. What it stores is the plain sum, in f32. Only where `is_turned`.
  AttentionOuter turned;
  int turned_row, turned_key, turned_of;
  bool is_turned;
  // With a softmax, else 0: the weight is made of share = exp(score - largest) / total in a way that commutes
  // with dividing by the total; largest and total bind axes of their own.
  ExprId score, share, largest, total;
} Attention;
const char *kernel_attention(const Kernel *kernel, Attention *attention); // NULL: it is one; else why not

// ---- analyse.c ----------------------------------------------------------------------------------
double kernel_flops(const Kernel *kernel, const int64_t symbols[SYMBOL_COUNT]); // mul + add = 2
double kernel_bytes(const Kernel *kernel,
                    const int64_t symbols[SYMBOL_COUNT]); // each buffer's touched part once
void kernel_traffic(const Kernel *kernel, const int64_t symbols[SYMBOL_COUNT],
                    double *read, double *written); // likewise, of each buffer in bytes

bool kernel_multiplies_bf16(const Kernel *kernel); // a contraction whose operands both lie in memory as bf16

void kernel_reachable(const Kernel *kernel, bool *reached);      // by expr: is it needed by a store
bool kernel_depends(const Kernel *kernel, ExprId id, ExprId on); // is `on` part of `id`, or the same

// ---- share.c: reductions over axes of one extent bind the same axis, so that equal terms are one expression
Kernel *kernel_share(Arena *arena, const Kernel *kernel);

// ---- places.c: the model lines that a kernel implements -----------------------------------------
typedef struct KernelPlace {
  const char *path;
  int line;
  const char *text; // of the line, not NUL-terminated; blanks around it and what is very long are left out
  size_t length;
} KernelPlace;
// Each line once, in order of use; how many there are.
int kernel_places(const Kernel *kernel, const Sources *sources, KernelPlace places[KERNEL_MAX_PLACES]);
void kernel_place_print(const KernelPlace *place, Text *text);               // FILE:LINE  TEXT
void kernel_lines(const Kernel *kernel, const Sources *sources, Text *text); // FILE:LINE, FILE:LINE

// ---- verify.c, print.c, read.c ------------------------------------------------------------------
bool kernel_verify(const Kernel *kernel, Text *reason);
// `sources` NULL: without model lines, as a cache of code by its text wants it.
void kernel_print(const Kernel *kernel, const Sources *sources, Text *text);
// Reads any number of kernels; false: errors were reported.
bool kernel_read(Arena *arena, Diagnostics *diagnostics, uint32_t source, Kernel ***kernels, size_t *count);

// ---- compare.c: equal but for names and spans: such kernels share their code. -------------------
bool kernel_same_code(const Kernel *a, const Kernel *b);
uint64_t kernel_hash(const Kernel *kernel);

// ---- interpret.c: the meaning, executed. Every operation is done in f64 and rounded to its dtype, so that
// it can be compared tightly with the backends; SUM and DOT add in f64 and round once. Bounds of every access
// are checked: a violation ends the program with the kernel's name.
double scalar_evaluate(ScalarOp op, bool whole, double x, double y, double z); // unrounded; whole: I64, I32
double scalar_round(DType dtype, double value);
void kernel_interpret(const Kernel *kernel, void *const *buffers, const int64_t symbols[SYMBOL_COUNT]);

#endif
