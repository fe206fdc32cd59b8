// The graph: a program over whole tensors, in static single assignment form.
//
//   Graph -> Node (one operation, one result) -> Type (dtype and named axes) -> Axis (label and extent)
//
// Nodes live in one dense array in an order in which every input stands before its use; a NodeId is an index
// into it, 0 means none. Nothing here knows of the syntax tree or of loops. Text form (print.c, read.c):
//
//   graph loss
//   %1 = input ids data: i32[B, T]
//   %2 = input lm.token param train normal=0.02: f32[vocab=512, width=128]
//   %3 = gather %2 %1 batch=0: f32[B, T, width=128]
//   output loss result %9
//
// An axis prints as LABEL=EXTENT, or LABEL alone where the extent is the symbol of the same name.
#ifndef VLMC_COMPILER_GRAPH_GRAPH_H
#define VLMC_COMPILER_GRAPH_GRAPH_H

#include "runtime/base/arena.h"
#include "runtime/base/diagnostics.h"
#include "runtime/base/dtype.h"
#include "runtime/base/extent.h"
#include "runtime/base/packing.h"

enum { MAX_RANK = 8, MAX_INPUTS = 3 };

typedef uint32_t NodeId;

typedef enum Op {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning) OP_##enumerator,
#include "compiler/graph/ops.def"
#undef OP
  OP_COUNT
} Op;

typedef enum OpProperty { ELEMENTWISE = 1, VIEW = 2, REDUCTION = 4 } OpProperty;

typedef struct OpInfo {
  const char *name, *meaning;
  int inputs, properties;
} OpInfo;
extern const OpInfo op_table[OP_COUNT]; // graph.c

// ---- types --------------------------------------------------------------------------------------

typedef struct Axis {
  const char *label; // the name it broadcasts and prints by; never NULL; unique within a type
  Extent extent;
} Axis;

typedef struct Type {
  DType dtype;
  int rank;
  Axis axes[MAX_RANK];
} Type;

// ---- nodes --------------------------------------------------------------------------------------

// What an operation needs to know besides its inputs; the fields that matter are named per op.
typedef struct Attributes {
  double number;          // CONST
  Extent extent;          // SIZE: the extent; SCATTER: rows of the result; GATHER has them in its input
  Extent start;           // IOTA, SLICE, UPDATE, PAD (before), WINDOW and FOLD (constant, may be negative)
  int64_t stride;         // WINDOW, FOLD
  int axis;               // SPLIT, MERGE (first), WINDOW, FOLD (first), SLICE, PAD, CONCAT, UPDATE
  int count;              // SPLIT, MERGE: number of axes split into or merged
  uint32_t axes;          // SUM, REDMAX: bit mask of the input's axes to reduce
  int8_t from[MAX_RANK];  // ARRANGE: per axis of the result, the input's axis, or -1 for a new one
  int batch;              // GATHER, SCATTER: number of leading batch axes; DOT: number of batch pairs
  int contract;           // DOT: number of contracted pairs
  int8_t left[MAX_RANK];  // DOT: axes of x: first `batch` then `contract` of them
  int8_t right[MAX_RANK]; // DOT: axes of y, paired with left
  uint32_t stream;        // RANDOM: which draw of the program this is
  uint32_t input;         // INPUT: index into Graph.inputs
} Attributes;

typedef struct Node {
  Op op;
  NodeId in[MAX_INPUTS];
  Attributes attributes;
  Type type;
  Span span;       // the model line it came from
  uint32_t origin; // index into Graph.origins
} Node;

// Where in the model a node comes from: "vision.blocks.0.attn", called function "nn.softmax". A call of a
// library function keeps its name here, so that a pass can choose a fused form by name after inlining.
typedef struct Origin {
  const char *path;     // parameter path of the layer, "" at the top
  const char *function; // library function or layer, "" none
  uint32_t call;        // number of the call: nodes of the same call share it
  bool backward;        // made by differentiation of the forward origin
} Origin;

// ---- graphs -------------------------------------------------------------------------------------

typedef enum InputRole {
  INPUT_DATA,   // given anew at each run: ids, picture, answer
  INPUT_PARAM,  // weight, kept in checkpoints
  INPUT_STATE,  // kept between runs: optimizer moments, key/value caches
  INPUT_SCALAR, // rank 0, given anew at each run: learning rate, step, seed, ids of special tokens
  INPUT_PART,   // of a packed weight W: "values:W", "scales:W"
  INPUT_ROLE_COUNT
} InputRole;
extern const char *const input_role_names[INPUT_ROLE_COUNT]; // print.c

// How a parameter starts: a constant, or normal with mean 0 and deviation `spread`.
typedef struct Initial {
  bool normal;
  double value, spread;
} Initial;

typedef struct Input {
  const char *name; // "lm.blocks.0.attn.qkv.weight", "ids", "rate", "token:<image>"
  NodeId node;
  InputRole role;
  bool trained;    // INPUT_PARAM: gets a gradient
  Packing packing; // INPUT_PARAM: its parts are read in its place; itself it only says what is to be loaded
  Initial initial; // INPUT_PARAM
} Input;

// A result handed to the caller, or the next value of a state or parameter (written into it in place).
typedef struct Output {
  const char *name; // result's name, or the input's name it replaces
  NodeId node;
  bool update; // replaces the input of the same name
} Output;

typedef struct Graph {
  Arena *arena;
  const char *name;
  Node *nodes; // nodes[0] is unused
  size_t count, capacity;
  Input *inputs;
  size_t input_count, input_capacity;
  Output *outputs;
  size_t output_count, output_capacity;
  Origin *origins; // origins[0]: the top
  size_t origin_count, origin_capacity;
  uint32_t streams; // RANDOM streams handed out
  // what new nodes are tagged with
  Span span;
  uint32_t origin;
} Graph;

// ---- graph.c: building. Each builder infers the type, and ends the program on a type error: whoever builds
// from user's text checks first and reports at the user's line. Trivial cases (cast to the same dtype,
// identity arrange, empty reduction) return the input.

Graph *graph_new(Arena *arena, const char *name);
Graph *
graph_new_like(const Graph *graph); // no nodes yet; same arena, name, origins and streams: what a pass fills
NodeId graph_input(Graph *graph, const char *name, InputRole role, Type type);
void graph_output(Graph *graph, const char *name, NodeId node, bool update);
const Type *graph_type(const Graph *graph, NodeId node);
Input *graph_find_input(Graph *graph, const char *name); // NULL: none
// Appends any node; its type is inferred. `type` gives what the inputs do not say: all of it for INPUT, IOTA and
// RANDOM, the dtype for CONST, SIZE and CAST, the extents of new axes for ARRANGE, SPLIT, WINDOW, FOLD, SLICE and
// PAD. Its labels are taken for any op where the ranks agree; NULL where nothing is to be given.
NodeId graph_append(Graph *graph, Op op, const NodeId *inputs, Attributes attributes, const Type *type);

NodeId graph_constant(Graph *graph, double value, DType dtype);
NodeId graph_size(Graph *graph, Extent extent, DType dtype);
NodeId graph_iota(Graph *graph, Axis axis, Extent start, DType dtype);
NodeId graph_unary(Graph *graph, Op op, NodeId x);
NodeId graph_binary(Graph *graph, Op op, NodeId x,
                    NodeId y); // a rank-0 operand is spread to the other's type
NodeId graph_select(Graph *graph, NodeId condition, NodeId x, NodeId y);
NodeId graph_cast(Graph *graph, NodeId x, DType dtype);
// Axes of the result and, for each, the axis of x it comes from or -1: every axis of x appears once.
NodeId graph_arrange(Graph *graph, NodeId x, int rank, const Axis *axes, const int8_t *from);
NodeId graph_like(Graph *graph, NodeId scalar, NodeId model); // rank 0 spread over another's axes
NodeId graph_split(Graph *graph, NodeId x, int axis, int count, const Axis *parts);
NodeId graph_merge(Graph *graph, NodeId x, int axis, int count, const char *label);
NodeId graph_window(Graph *graph, NodeId x, int axis, Axis outer, Axis inner, int64_t start, int64_t stride);
NodeId graph_fold(Graph *graph, NodeId x, int axis, Axis result, int64_t start, int64_t stride);
NodeId graph_slice(Graph *graph, NodeId x, int axis, Extent start, Extent extent);
NodeId graph_pad(Graph *graph, NodeId x, int axis, Extent before, Extent extent); // extent: of the result
NodeId graph_concat(Graph *graph, NodeId x, NodeId y, int axis);
NodeId graph_reduce(Graph *graph, Op op, NodeId x, uint32_t axes);
NodeId graph_dot(Graph *graph, NodeId x, NodeId y, int batch, int contract, const int8_t *left,
                 const int8_t *right);
NodeId graph_gather(Graph *graph, NodeId x, NodeId index, int batch);
NodeId graph_scatter(Graph *graph, NodeId index, NodeId value, int batch, Axis rows);
NodeId graph_update(Graph *graph, NodeId state, NodeId value, int axis, Extent start);
NodeId graph_random(Graph *graph, NodeId counter, Type type);

// clone.c: a graph of its own with the same nodes under the same ids, for passes that only append.
Graph *graph_clone(const Graph *graph);

// The same node with its operands renamed, in another graph; used by every pass that rebuilds. An input is
// registered there, too. The type is inferred anew, labels, span and origin are kept.
NodeId graph_copy_node(Graph *to, const Graph *from, NodeId node, const NodeId *inputs);
// What a pass ends with: the outputs of `from`, of the nodes that they have become; no span or origin is open.
void graph_copy_outputs(Graph *to, const Graph *from, const NodeId *renamed);
// Labels that stay unique within a type: "T", "T'", "T''".
void type_make_labels_unique(Arena *arena, Type *type);
bool type_equal(const Type *a, const Type *b); // dtype and extents; labels may differ
int64_t type_elements(const Type *type, const int64_t symbols[SYMBOL_COUNT]);
// The type of a part of a packed weight: its leading axes, then blocks, then a block's values. False: it has
// no such part, since no number of its last axes holds whole blocks, or it would have too many axes.
bool type_of_part(const Type *weight, Packing packing, bool scales, Type *part);

// ---- infer.c ------------------------------------------------------------------------------------
// The result's type; `given` as for graph_append. False: `reason` says what does not fit ("axis 1 is 768 here but 3072 there").
bool infer_type(const Graph *graph, Op op, const NodeId *inputs, const Attributes *attributes,
                const Type *given, Type *type, Text *reason);

// ---- verify.c: order, arity, types as inferred, labels, inputs and outputs consistent, updates in place legal
bool graph_verify(const Graph *graph, Text *reason);
// For graphs just made from a user's text: reports, at its line, what holds more elements than EXTENT_LARGEST.
bool graph_check_sizes(const Graph *graph, Diagnostics *diagnostics);

// ---- print.c, read.c: print -> read -> print is the identity ------------------------------------
void graph_print(const Graph *graph, Text *text);
Graph *graph_read(Arena *arena, Diagnostics *diagnostics, uint32_t source); // NULL: errors were reported
void type_print(Text *text, const Type *type);

// ---- evaluate.c: the slow, obvious meaning in f64; naked loops, one function per op -------------
typedef struct Tensor {
  Type type; // all extents constant
  double *data;
} Tensor;
// inputs: one per Graph.inputs; outputs: one per Graph.outputs, memory from `arena`.
// Only for small graphs: tests, gradient checks, folding of constants.
void graph_evaluate(const Graph *graph, Arena *arena, const int64_t symbols[SYMBOL_COUNT],
                    const Tensor *inputs, Tensor *outputs);
// One element of an elementwise operation; dtype: of the result, which tells whole from real division.
double evaluate_element(Op op, DType dtype, double x, double y, double z);

// ---- passes/: each file exports one function of its own name; see passes/passes.h ---------------

#endif
