// The gradient rules, one per operation, and what they work on. Internal to differentiation
// (passes/gradient.c walks, gradients.c knows the operations).
#ifndef VLMC_COMPILER_GRAPH_GRADIENTS_H
#define VLMC_COMPILER_GRAPH_GRADIENTS_H

#include "compiler/graph/graph.h"

typedef struct Backward {
  Graph *graph;       // forward nodes, and the backward nodes appended behind them
  size_t count;       // forward nodes are those below
  const bool *wanted; // per forward node: a trained parameter reaches it through differentiable operations
  NodeId *gradients;  // per forward node: sum of the contributions so far; 0: none
  NodeId *quotients;  // per forward node: it, divided by a value repeated along some axis; 0: none (softmax)
} Backward;

// From the gradient of `node` to contributions to its wanted inputs; builds nothing for the others.
typedef void GradientRule(Backward *backward, NodeId node, NodeId gradient);
extern GradientRule *const gradient_rules[OP_COUNT]; // NULL where no gradient flows through

// gradient.c: adds a contribution, of the node's own type, to a forward node's gradient.
void gradient_contribute(Backward *backward, NodeId node, NodeId contribution);

#endif
