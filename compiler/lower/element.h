// What one element of a node is, as an expression of a kernel; internal to this folder.
#ifndef VLMC_COMPILER_LOWER_ELEMENT_H
#define VLMC_COMPILER_LOWER_ELEMENT_H

#include "compiler/lower/lower.h"
#include "compiler/lower/space.h"

enum { ELEMENT_MAX_DEPTH = 8 }; // reductions inside of reductions that share the space's atoms

// Elements already made: the same node at the same index under the same guard is one expression.
typedef struct Memo {
  NodeId node;
  ExprId guard, index[MAX_RANK], value;
} Memo;

typedef struct ElementContext {
  Arena *arena;
  const Graph *graph;
  const Fusion *fusion;
  Kernel *kernel;
  uint32_t group;      // nodes of it are computed here, those of other groups are loaded
  ExprId guard;        // where false, the element is not wanted and nothing may be read; 0: always wanted
  int *buffer_of_node; // per node: the kernel's buffer, or -1
  NodeId node_of_buffer[KERNEL_MAX_BUFFERS];
  Space space;
  Place *places;                                      // per node; known for those that have one in the space
  uint8_t *depths;                                    // per node: reductions on the way down, itself included
  NodeId lead;                                        // the group's last DOT, if it has any
  NodeId second;                                      // one beside it that is contracted over the same, or 0,
  int8_t second_order[MAX_RANK];                      // and for each of its pairs which of the lead's it is
  Place contract[MAX_RANK];                           // its contracted pairs, one axis each
  int axis_of_atom[SPACE_MAX_ATOMS];                  // the kernel's axis, or -1
  int bound_axis[ELEMENT_MAX_DEPTH][SPACE_MAX_ATOMS]; // likewise where a reduction of that depth binds it
  Memo *memos;
  size_t memo_count, memo_capacity;
  uint32_t *memo_table; // hash table of memos
  size_t memo_table_size;
} ElementContext;

// The element of `node` at `index`, one I64 per axis of the node's type.
ExprId element(ElementContext *context, NodeId node, const ExprId *index);
// The number that the atoms of axis `i` of a place stand for; free axes of the kernel.
ExprId place_index(ElementContext *context, const Place *place, int i);
// Is the node read from memory in this group?
bool element_is_loaded(const Graph *graph, const Fusion *fusion, uint32_t group, NodeId node);
// A product over no axis, or over axes of one element, is elementwise and no contraction.
bool is_contraction(const Graph *graph, const Node *node);
// A scatter that adds at most one value to each element is elementwise: its index has batch axes only.
bool scatter_is_elementwise(const Graph *graph, const Node *node);
// A fold whose windows overlap at most this often is a plain sum of terms rather than a reduction.
enum { FOLD_MAX_TERMS = 4 };
int64_t fold_terms(const Graph *graph, const Node *node); // windows that meet in one element; 0: not constant

#endif
