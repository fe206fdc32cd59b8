// One node where several compute the same: same operation, operands, attributes and extents; the first one's
// labels, span and origin stay. Operands of commutative operations are compared in either order. Updates in
// place and inputs are never joined; equal random draws have equal streams, so those are. Needs: a verified
// graph. Keeps: the outputs' values, the order of what stays.
#include "compiler/graph/attributes.h"
#include "compiler/graph/passes/passes.h"

#include <string.h>

typedef struct Table {
  NodeId *slots; // of the new graph; 0: free
  size_t mask;
} Table;

static bool commutative(Op op) {
  return op == OP_ADD || op == OP_MUL || op == OP_MIN || op == OP_MAX || op == OP_EQUAL || op == OP_AND ||
         op == OP_OR;
}

static uint64_t mix(uint64_t hash, uint64_t value) {
  return (hash ^ value) * 0x9E3779B97F4A7C15u ^ hash >> 29;
}

// Only some of the attributes: equal nodes hash alike, others mostly do not.
static uint64_t hash_node(const Node *node) {
  const Attributes *attributes = &node->attributes;
  uint64_t hash = node->op, number;
  memcpy(&number, &attributes->number, sizeof number);
  for (int i = 0; i < op_table[node->op].inputs; i++) hash = mix(hash, node->in[i]);
  hash = mix(hash, number);
  hash = mix(hash, (uint64_t)attributes->axis << 32 | attributes->axes);
  hash = mix(hash, (uint64_t)attributes->start.offset);
  hash = mix(hash, attributes->stream);
  hash = mix(hash, (uint64_t)node->type.dtype << 32 | (uint32_t)node->type.rank);
  for (int i = 0; i < node->type.rank; i++) hash = mix(hash, (uint64_t)node->type.axes[i].extent.offset);
  return hash;
}

static bool same(const Node *a, const Node *b) {
  return a->op == b->op && !memcmp(a->in, b->in, sizeof a->in) && type_equal(&a->type, &b->type) &&
         attributes_equal(a, b);
}

// Commutative operands in rising order.
static Node ordered(Node node) {
  if (commutative(node.op) && node.in[0] > node.in[1]) {
    NodeId first = node.in[0];
    node.in[0] = node.in[1];
    node.in[1] = first;
  }
  return node;
}

// The slot of a node like this one, or the free one where it belongs.
static NodeId *find(const Table *table, const Graph *graph, const Node *node) {
  Node wanted = ordered(*node);
  size_t at = hash_node(&wanted) & table->mask;
  while (table->slots[at]) {
    Node there = ordered(graph->nodes[table->slots[at]]);
    if (same(&there, &wanted)) break;
    at = (at + 1) & table->mask;
  }
  return &table->slots[at];
}

Graph *cse(Graph *graph) {
  Arena *scratch = arena_new();
  Table table = {.mask = 15};
  while (table.mask < graph->count * 2) table.mask = table.mask * 2 + 1;
  table.slots = ARENA_ARRAY(scratch, NodeId, table.mask + 1);
  NodeId *renamed = ARENA_ARRAY(scratch, NodeId, graph->count);
  Graph *result = graph_new_like(graph);
  for (NodeId id = 1; id < graph->count; id++) {
    Node node = graph->nodes[id];
    for (int i = 0; i < MAX_INPUTS; i++) node.in[i] = renamed[node.in[i]];
    bool joins = node.op != OP_INPUT && node.op != OP_UPDATE;
    NodeId *slot = joins ? find(&table, result, &node) : NULL;
    renamed[id] = slot && *slot ? *slot : graph_copy_node(result, graph, id, node.in);
    if (slot) *slot = renamed[id];
  }
  graph_copy_outputs(result, graph, renamed);
  arena_free(scratch);
  return result;
}
