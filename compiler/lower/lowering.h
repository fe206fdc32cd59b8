// What the files that make a program share: build.c (one kernel), names.c, lower.c (all of it); internal to
// this folder.
#ifndef VLMC_COMPILER_LOWER_LOWERING_H
#define VLMC_COMPILER_LOWER_LOWERING_H

#include "compiler/lower/groups.h"

typedef struct NodeList {
  NodeId *list;
  size_t count, capacity;
} NodeList;

typedef struct KernelRow {
  const Kernel *kernel;
  uint64_t hash;
  int row; // in Lowered.kernels
  double flops, bytes;
} KernelRow;

typedef struct NameTable {
  const char **names; // hash table
  size_t size;
} NameTable;

enum { SPAN_PLACES = 1024 };
typedef struct SpanPlace {
  Span span;
  const char *text;
} SpanPlace;

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
  NameTable launch_names, code_names;
  SpanPlace *places; // those of the latest spans, SPAN_PLACES of them
} Lowering;

static inline const Node *lowering_node(const Lowering *lowering, NodeId id) {
  return &lowering->graph->nodes[id];
}
static inline bool is_reduction(Op op) { return op == OP_SUM || op == OP_REDMAX; }

// ---- lower.c: what a Lowering of a graph and its fusion starts with; arena, graph and fusion are set.
void lowering_prepare(Lowering *lowering);

// ---- build.c ------------------------------------------------------------------------------------
void find_closure(Lowering *lowering, uint32_t group); // what the group computes and loads
// The kernel of a group. context.node_of_buffer then says what its buffers are, until build_end.
Kernel *build_kernel(Lowering *lowering, uint32_t group, Arena *arena);
void build_end(Lowering *lowering);
bool updates_fit(const Kernel *kernel); // each element of an update buffer is read where it is written

// ---- collapse.c ---------------------------------------------------------------------------------
Kernel *kernel_copy(const Kernel *kernel, Arena *arena);
Kernel *collapse(Kernel *kernel);

// ---- names.c ------------------------------------------------------------------------------------
void kernel_name(const Lowering *lowering, uint32_t group, bool digits, Text *name);
NameTable names_for(Arena *arena, size_t count); // room for so many
const char *unique_name(Lowering *lowering, NameTable *table, const char *wanted);
const char *span_place(Lowering *lowering, Span span); // "models/gpt.vlm:12"
const char *model_lines(Lowering *lowering, const Kernel *kernel);

#endif
