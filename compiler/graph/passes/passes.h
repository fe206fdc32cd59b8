// Passes from graph to graph. Each returns a new graph in the same arena (or the same one, unchanged); nodes
// keep their spans and origins. One file per pass, its first lines say what it needs and keeps.
#ifndef VLMC_COMPILER_GRAPH_PASSES_H
#define VLMC_COMPILER_GRAPH_PASSES_H

#include "compiler/graph/graph.h"

// dead.c: drops what no output needs.
Graph *dead(Graph *graph);
// simplify.c: folds constants, x*1, x+0, arrange of arrange, select of a constant, split of merge, cast of cast.
Graph *simplify(Graph *graph);
// cse.c: one node where several compute the same.
Graph *cse(Graph *graph);
// associate.c: sums over what a contraction has summed already are taken of its result.
Graph *associate(Graph *graph);
// specialise.c: run-time sizes that are known become constants; symbols[s] < 0 stays a symbol.
Graph *specialise(Graph *graph, const int64_t symbols[SYMBOL_COUNT]);
// gradient.c: needs one output `loss` of rank 0; adds, for every trained parameter that it depends on, an
// output "gradient:<parameter>". Only towards what is trained: nothing is built behind frozen parts.
Graph *gradient(Graph *graph);
// optimizer.c: needs `gradient`, whose outputs it uses up; `rule` is a graph over rank-0 inputs parameter,
// gradient, first, second, rate, step, ... with outputs parameter, first, second (from the standard library's
// adamw). It is applied elementwise to every trained parameter after clipping by the global norm. What the rule
// both takes and returns is a state "first:<parameter>" that starts as zeros; `decay` is 0 for parameters of
// fewer than two axes; what else it takes is a scalar input of that name. Adds the result "gradient norm".
//
// With accumulate > 1 a step is parted into two programs. The graph of a micro-step only adds its gradients to
// the states "accumulated:<parameter>", which start as zeros. After `accumulate` of them the graph made with
// `apply` runs once: it takes the mean, clips, applies the rule and sets the sums back to zero. It reads no data,
// and between the two the gradients of several machines can meet.
typedef struct OptimizerOptions {
  double clip;    // largest global norm; 0: none
  int accumulate; // micro-steps per step; 1: gradients are used at once
  bool apply;     // accumulate > 1: the step's second program
} OptimizerOptions;
Graph *optimizer(Graph *graph, const Graph *rule, OptimizerOptions options);
// weights.c: f32 parameters that contractions read, and that are not trained, become packed (base/packing.h):
// whoever reads them reads the parts, "values:<parameter>" and "scales:<parameter>", and computes the value from
// these. Which they are, `source` says: a graph of the same model from before differentiation and derivation, so
// that all programs of a model agree. Those whose last axes hold no whole number of blocks stay f32. Where
// q4_0 is asked for, only those are in it whose result a further weight reads, after element-wise operations (an
// MLP's first ones); the others, and tables that are looked up, are in q8_0.
Graph *weights(Graph *graph, const Graph *source, Packing packing);
// What became of them: a line on how many are packed and what that saves, and one on each that is not.
void weights_report(const Graph *graph, const Graph *source, Text *text);
// precision.c: activations (float values with a run-time axis that come from contractions or looked-up rows) are
// stored as `storage` where they are stored, and contractions read that; parameters, gradients, optimizer states,
// sums, maxima, data and results stay f32. A node's dtype is its storage: arithmetic inside of a kernel is f32.
Graph *precision(Graph *graph, DType storage);
// hoist.c: needs a whole step, with its updates. What depends on frozen parameters and on one sample's own inputs alone
// becomes *frozen, a program with results "feature:<n>" whose first axis is that of the samples; what comes back is
// the step with these as inputs of data. `explanation` says what is kept, or why nothing is: then *frozen is NULL and
// the step comes back as it was. Kept is what saves `least_work` operations of contractions for each byte of it.
Graph *hoist(Graph *graph, double least_work, Graph **frozen, Text *explanation);
// derive.c: from `forward` over [B, T] the incremental graph: computes T new positions after P earlier ones,
// keeps what later positions look at in states "cache:<n>" of `capacity` positions, looks at S = P + T of
// them. PREFILL starts anew (P = 0) and takes all data inputs; DECODE goes on (P > 0): what depends on inputs
// without a time axis (pictures) was kept by PREFILL in states "kept:<n>". With last_only the result is of the
// last position alone. Reports a model that is not causal at the model's line, and returns NULL.
typedef enum DeriveKind { DERIVE_PREFILL, DERIVE_DECODE } DeriveKind;
Graph *derive(Graph *graph, DeriveKind kind, int64_t capacity, bool last_only, Diagnostics *diagnostics);

#endif
