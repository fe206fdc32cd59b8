// What the files that make a program share: build.c (one kernel), names.c, lower.c (all of it); internal to
// this folder.
#ifndef VLMC_COMPILER_LOWER_LOWERING_H
#define VLMC_COMPILER_LOWER_LOWERING_H

#include "compiler/lower/element.h"

typedef struct NodeList {
  NodeId *list;
  size_t count, capacity;
} NodeList;

typedef struct KernelRow {
  const Kernel *kernel;
  uint64_t hash;
  int row; // in Lowered.kernels
} KernelRow;

typedef struct Lowering {
  Arena *arena;
  const Graph *graph;
  const Fusion *fusion;
  const Sources *sources;
  const int64_t *symbols;
  Lowered *out;
  ElementContext context;
  NodeList *stored; // per group
  NodeList closure; // of the group at hand: nodes it computes, in order
  NodeList leaves;  // and those it loads
  uint32_t *stamp;  // per node: the last group whose closure has it
  int *buffer;      // per node: the program's buffer, or -1
  int *last_reader; // per node: INPUT: the last group that loads it
  int *update_of;   // per node: the output that it updates in place, or -1
  size_t buffer_capacity, launch_capacity, kernel_capacity;
  uint32_t *kernel_table; // hash table of kernels
  size_t kernel_table_size;
  KernelRow *rows;
  size_t row_count, row_capacity;
  const char **names; // hash table of the launches' names
  size_t name_count, name_table_size;
} Lowering;

static inline const Node *lowering_node(const Lowering *lowering, NodeId id) {
  return &lowering->graph->nodes[id];
}
static inline bool is_reduction(Op op) { return op == OP_SUM || op == OP_REDMAX; }

// ---- build.c
void find_closure(Lowering *lowering, uint32_t group); // what the group computes and loads
// The kernel of a group. context.node_of_buffer then says what its buffers are, until build_end.
Kernel *build_kernel(Lowering *lowering, uint32_t group);
void build_end(Lowering *lowering);
bool updates_fit(const Kernel *kernel); // each element of an update buffer is read where it is written

// ---- collapse.c
Kernel *collapse(Kernel *kernel);

// ---- names.c
void kernel_name(const Lowering *lowering, uint32_t group, bool digits, Text *name);
const char *unique_name(Lowering *lowering, const char *wanted);
const char *span_place(const Lowering *lowering, Span span); // "models/gpt.vlm:12"
const char *model_lines(const Lowering *lowering, const Kernel *kernel);

#endif
