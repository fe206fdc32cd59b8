// What it costs to compute a node where it is read, instead of reading it: node -> operations and leaves.
#include "compiler/lower/groups.h"

const int64_t typical_sizes[SYMBOL_COUNT] = {0, 8, 256, 128, 384};

double node_weight(const Graph *graph, NodeId id) {
  const Type *type = &graph->nodes[id].type;
  double elements = 1;
  for (int i = 0; i < type->rank; i++) elements *= (double)extent_value(type->axes[i].extent, typical_sizes);
  return elements;
}

int op_cost(const Node *node) {
  switch (node->op) {
  case OP_EXP:
  case OP_LOG:
  case OP_SIN:
  case OP_COS:
  case OP_TANH:
  case OP_ERF:
  case OP_RANDOM: return 10;
  case OP_POW: return 20;
  case OP_DIV:
  case OP_MOD:
  case OP_SQRT:
  case OP_RSQRT: return 4;
  case OP_CAST:
  case OP_STOP: return 0;
  case OP_GATHER: return 5;
  default: return op_table[node->op].properties & VIEW ? 0 : 1;
  }
}

bool is_view(const Graph *graph, NodeId id) { return op_table[graph->nodes[id].op].properties & VIEW; }

bool is_free(const Graph *graph, NodeId id) {
  Op op = graph->nodes[id].op;
  return op == OP_CONST || op == OP_SIZE || op == OP_IOTA;
}

bool is_heavy(const Graph *graph, NodeId id) {
  const Node *node = &graph->nodes[id];
  if (node->op == OP_SCATTER) return !scatter_is_elementwise(graph, node);
  return node->op == OP_SUM || node->op == OP_REDMAX || node->op == OP_FOLD || node->op == OP_UPDATE ||
         is_contraction(graph, node);
}

static bool shifts_index(const Graph *graph, NodeId id) {
  switch (graph->nodes[id].op) {
  case OP_WINDOW:
  case OP_SLICE:
  case OP_PAD:
  case OP_CONCAT:
  case OP_GATHER: return true;
  default: return false;
  }
}

typedef struct Count {
  Fusing *fusing;
  uint32_t base; // visits from here on are of this measure
  double weight;
  Measure out;
} Count;

// Below a shifted index everything is computed anew: what was visited in another scope counts again.
static void count_node(Count *count, NodeId id, uint32_t scope, bool top) {
  Fusing *fusing = count->fusing;
  const Graph *graph = fusing->graph;
  const Node *node = &graph->nodes[id];
  if (is_free(graph, id) || count->out.ops > MEASURE_LIMIT || fusing->visited[id] == scope) return;
  bool first = fusing->visited[id] < count->base;
  fusing->visited[id] = scope;
  count->out.ops++;
  if (node->op == OP_INPUT || (!top && fusing->home[id])) {
    count->out.leaves += first;
    count->out.large += first && node_weight(graph, id) * 4 >= count->weight;
    return;
  }
  count->out.cost += op_cost(node);
  if (op_cost(node) > 4 || node->op == OP_CONCAT || node->op == OP_SCATTER) count->out.plain = false;
  if (shifts_index(graph, id)) scope = ++fusing->visit;
  for (int i = 0; i < op_table[node->op].inputs; i++) count_node(count, node->in[i], scope, false);
}

Measure measure(Fusing *fusing, NodeId id) {
  Count count = {.fusing = fusing, .weight = node_weight(fusing->graph, id), .out = {.plain = true}};
  count.base = ++fusing->visit;
  count_node(&count, id, count.base, true);
  return count.out;
}
