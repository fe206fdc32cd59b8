// From a graph to kernels and a program.
//
//   graph -> fuse.c    which nodes get memory and which are computed where they are read: a Fusion
//         -> attention.c   attention as one kernel, where the target makes it fast
//         -> element.c what one element of a node is, as an expression (one rule per op, column of ops.def)
//         -> lower.c   one kernel per group of the Fusion, its anchor, buffers and launch
//         -> plan.c    order of launches, lifetimes of buffers: a Program (without code)
//
// Needs: a verified graph. Keeps: meaning; sums may change their order. No kernel recomputes a reduction or a
// contraction; growth by recomputing cheap elementwise values is bounded.
#ifndef VLMC_COMPILER_LOWER_H
#define VLMC_COMPILER_LOWER_H

#include "compiler/graph/graph.h"
#include "compiler/kernel/kernel.h"
#include "runtime/program.h"

// ---- fuse.c -------------------------------------------------------------------------------------

// What became of one node. Every value that stays in memory although its reader could have absorbed it has a
// reason and a cost, printed by --explain=fusion.
typedef enum Reason {
  REASON_NONE,        // absorbed: computed where it is read
  REASON_OUTPUT,      // a result, or the new value of a state or parameter
  REASON_READERS,     // more than one reader, and not cheap to compute again
  REASON_REDUCTION,   // a sum or maximum is not computed again for each reader's element
  REASON_CONTRACTION, // likewise a dot
  REASON_BARRIER,     // its reader needs the whole of it: gather, scatter, contraction over it
  REASON_NARROW,      // a narrow copy, multiplied often
  REASON_LIMIT,       // the kernel would have too many buffers, stores or operations
  REASON_SHAPE,       // iteration spaces differ
  REASON_DISABLED,    // fusion is switched off
  REASON_COUNT
} Reason;
extern const char *const reason_texts[REASON_COUNT];

typedef struct Fusion {
  uint32_t *group; // per node: the group (from 1) that stores it to memory; 0: absorbed, or an input
  Reason *reason;  // per node
  // Per node: the concatenation in whose memory it is stored at once, or 0. The concatenation itself stands
  // there with its own number: no group computes it, and its group is the last of those that store a part.
  NodeId *inside;
  const char **note;    // per node: why its attention is not one kernel; NULL: nothing to say
  uint32_t group_count; // groups are numbered in an order in which they can run
} Fusion;

// enabled = false: every node but views, constants and iotas is a group of its own (the slow twin of the
// tests).
Fusion *fuse(const Graph *graph, bool enabled);
// Attention as one kernel, for emitters that make it fast: scores and weights leave memory. `symbols`: likely
// sizes, by which few rows of queries are left apart.
void fuse_attention(const Graph *graph, Fusion *fusion, const int64_t symbols[SYMBOL_COUNT]);
void fusion_print(const Graph *graph, const Fusion *fusion, Text *text); // --emit=fused: the graph by groups
// One line per value kept in memory: kernel, value, model line, bytes for the given sizes, reason.
void fusion_explain(const Graph *graph, const Fusion *fusion, const Sources *sources,
                    const int64_t symbols[SYMBOL_COUNT], Text *text);

// ---- lower.c ------------------------------------------------------------------------------------

typedef struct Lowered {
  Program program;  // program.codes[i] is the code of kernels[i], its name and work filled, its entry not yet
  Kernel **kernels; // distinct ones: equal kernels share a row
  size_t kernel_count;
} Lowered;

// Sizes are those that flops and bytes of the launches are computed for. All memory from `arena`.
void lower(Arena *arena, const Graph *graph, const Fusion *fusion, const Sources *sources,
           const int64_t symbols[SYMBOL_COUNT], Lowered *lowered);

// ---- plan.c: --emit=memory: arena, parameters, states, data by size; the peak and who is in it, by model
// line. Workspace: what `threads` threads take beside it while kernels run; 0 threads: none, or not known.
void memory_print(const Program *program, const int64_t symbols[SYMBOL_COUNT], int threads, Text *text);

#endif
