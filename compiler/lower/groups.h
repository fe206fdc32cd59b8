// What the two halves of fusion share: groups of nodes that will be one kernel each; internal to this folder.
//
//   join.c   forward: every node that is not cheap gets a home, the group that computes it; elementwise nodes
//            join the group of an operand where they can; the others float until somebody reads them
//   keep.c   backward: who needs each value; floating nodes are computed by their readers or get a home after
//            all; of the nodes with a home, those needed elsewhere are stored or computed again
#ifndef VLMC_COMPILER_LOWER_GROUPS_H
#define VLMC_COMPILER_LOWER_GROUPS_H

#include "compiler/lower/element.h"

typedef enum GroupKind { KIND_MAP, KIND_ROW, KIND_COLUMN, KIND_DOT, KIND_SCATTER, KIND_UPDATE } GroupKind;

// What a group may hold: few enough buffers for a kernel, and expressions that compile fast.
enum {
  GROUP_MAX_LEAVES = 12,  // values that it reads from memory
  GROUP_MAX_BUFFERS = 20, // these and those that it stores
  GROUP_MAX_STORES = 8,
  GROUP_MAX_OPS = 96, // operations, counted as trees
  GROUP_MAX_REDUCTIONS = 6,
  GROUP_MAX_AXES = 24,
  FLOAT_MAX_LEAVES = 6, // of an expression without a home
  FLOAT_MAX_OPS = 48,
  MAX_SOURCES = 8,
  MAX_EXTERNALS = 8
};

typedef struct GroupList {
  uint32_t *list;
  size_t count, capacity;
} GroupList;

typedef struct External {
  NodeId node;
  Place place;
} External;

typedef struct Group {
  GroupKind kind;
  uint32_t into; // merged into that group; 0: itself
  Space space;
  uint64_t rows;                     // atoms that stores run over in any case
  uint64_t inner;                    // ROW, COLUMN: atoms that reductions bind
  uint8_t fastest;                   // the last atom of its space, along which loops run innermost
  External externals[MAX_EXTERNALS]; // values of other groups that reductions read over the whole space
  int external_count;
  NodeId leaves[GROUP_MAX_LEAVES];
  int leaf_count, ops, reductions, members_kept; // members_kept: bound of its stores
  int pending, stores;       // keep.c: values that it needs and that are not settled, and its stores
  GroupList inputs, readers; // groups that it depends on, that depend on it
  uint32_t level;            // longer than any path to it
  uint32_t stamp;
} Group;

// Homes of the nodes whose values a floating node is made of.
typedef struct Homes {
  uint8_t count;
  bool many; // more than fit: such a node does not float
  uint32_t list[MAX_SOURCES];
} Homes;

typedef struct Fusing {
  Arena *arena;
  const Graph *graph;
  Fusion *fusion;
  Group **groups; // groups[0] is unused
  size_t group_count, group_capacity;
  bool *needed;             // per node
  bool *output;             // per node
  uint32_t *readers;        // per node: how many nodes read it
  uint32_t *home;           // per node; 0: floats
  Homes *homes;             // per node
  Place *place;             // per node with a home: in its group's space
  Place *operand;           // per SUM and REDMAX: its operand's place in the home's space
  uint32_t stamp;           // of the last walk over groups
  uint32_t *visited, visit; // per node: stamp of the last walk over nodes
} Fusing;

// ---- groups.c -----------------------------------------------------------------------------------
uint32_t group_new(Fusing *fusing, GroupKind kind);
uint32_t group_find(const Fusing *fusing, uint32_t group); // what it was merged into
Group *group_at(Fusing *fusing, uint32_t group);
void group_depend(Fusing *fusing, uint32_t group, uint32_t on);
bool group_depends(Fusing *fusing, uint32_t group, uint32_t on); // through any chain; not on itself
// Neither depends on the other, so that one group may stand in the place of both.
bool groups_independent(Fusing *fusing, uint32_t a, uint32_t b);
void groups_merge(Fusing *fusing, uint32_t into, uint32_t from); // dependencies only
void homes_add(const Fusing *fusing, Homes *homes, uint32_t group);
void homes_add_node(const Fusing *fusing, Homes *homes, NodeId id); // its home, or what it is made of

// ---- measure.c: what it costs to compute a node where it is read --------------------------------
typedef struct Measure {
  int ops;    // operations down to values in memory, as a tree where indices differ
  int cost;   // in simple operations
  int leaves; // different values in memory
  int large;  // of them as large as the node itself
  bool plain; // nothing but casts and simple arithmetic: fit for an operand of a contraction
} Measure;
enum { MEASURE_LIMIT = 200 };
Measure measure(Fusing *fusing, NodeId id);
extern const int64_t typical_sizes[SYMBOL_COUNT];  // that run-time sizes are guessed to be
double node_weight(const Graph *graph, NodeId id); // elements, for typical run-time sizes
int op_cost(const Node *node);
bool is_view(const Graph *graph, NodeId id);
bool is_free(const Graph *graph, NodeId id);  // constants, sizes and indices: no memory, no work
bool is_heavy(const Graph *graph, NodeId id); // computed once, in one place

// ---- join.c -------------------------------------------------------------------------------------
void join(Fusing *fusing);
bool made_from(const Fusing *fusing, NodeId id, uint32_t group); // is it, or anything below it, of the group?
// Place of any node in a group's space, from members and externals below it.
bool locate(Fusing *fusing, uint32_t group, NodeId id, Place *place);
// Does all that the node at that place is made of stand in the group where the group computes it?
bool consistent(Fusing *fusing, uint32_t group, NodeId id, const Place *place);
// Do the place's atoms cover what a store of the group may run over?
bool place_fits(const Group *group, Place *place);

// Makes the group the node's home if it can be.
bool try_group(Fusing *fusing, uint32_t group, NodeId id);
// A group of its own as home, in the space of the node's type.
uint32_t open_group(Fusing *fusing, NodeId id, GroupKind kind);

// ---- keep.c -------------------------------------------------------------------------------------
void keep(Fusing *fusing); // fills fusion->group by groups that store, numbered in order, and the reasons

#endif
