// What each value of a forward graph has to do with time, found by following the axes of extent T. Internal
// to derive.c, which builds the incremental graph from it.
#ifndef VLMC_COMPILER_GRAPH_CAUSAL_H
#define VLMC_COMPILER_GRAPH_CAUSAL_H

#include "compiler/graph/graph.h"

// An element's value is the constant `value` wherever its index along one axis minus its index along another
// is greater than `beyond`: a mask's -inf, and the 0 that a softmax makes of it.
typedef struct Fact {
  bool known;
  double value;
  int64_t beyond;
} Fact;
typedef Fact FactTable[MAX_RANK][MAX_RANK]; // [i][j]: where index j - index i > beyond

static const int64_t NEVER = INT64_MIN / 4, ALWAYS = INT64_MAX / 4;

// Element (i, j, ..) depends on data of positions up to the largest of `first`, and i + reach[i's axis] over
// all axes of time.
typedef struct Moment {
  bool needed;   // an output depends on it
  bool timed;    // depends on T: has an axis of time, or comes from one
  bool changing; // computed from data with an axis of time, or worth as much: kept rather than computed again
  bool given;    // computed from data
  bool affine;   // element (i, j, ..) = offset + coefficient[0] * i + coefficient[1] * j + ..
  double coefficient[MAX_RANK], offset;
  int64_t reach[MAX_RANK], first;
  FactTable *facts; // NULL: none
  bool reported;    // as a sum over later positions
  NodeId ahead;     // where it first depended on later positions; 0: it does not
} Moment;

bool is_time(Extent extent); // holds T
bool is_exactly_time(Extent extent);
// Which axis of the result each axis of input `i` becomes, element by element; -1: it is moved, taken apart
// or summed over.
void axis_map(const Graph *graph, NodeId node, int input, int8_t to[MAX_RANK]);
// A view that moves or resizes an axis of time; `axes`: which of the result's axes that touches.
bool moves_time(const Graph *graph, NodeId node, uint32_t *axes);

// causal.c: one per node. Sums over later positions are reported at the model's line.
Moment *causal(const Graph *graph, Diagnostics *diagnostics);

#endif
