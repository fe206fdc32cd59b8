// Which nodes get memory and which are computed where they are read.
#include "compiler/lower/element.h"

#include <inttypes.h>
#include <string.h>

const char *const reason_texts[REASON_COUNT] = {
    "absorbed",
    "a result, or a new value of a state or parameter",
    "more than one reader, and not cheap to compute again",
    "a sum or maximum is not computed again for each reader's element",
    "a contraction is not computed again for each reader's element",
    "its reader needs the whole of it",
    "the kernel would have too many buffers, stores or operations",
    "iteration spaces differ",
    "fusion is switched off",
};

enum { MAX_LEAVES = 12 }; // values read from memory by one kernel

static Fusion *fuse_nothing(const Graph *graph) {
  Fusion *fusion = ARENA_NEW(graph->arena, Fusion);
  fusion->group = ARENA_ARRAY(graph->arena, uint32_t, graph->count);
  fusion->reason = ARENA_ARRAY(graph->arena, Reason, graph->count);
  uint32_t *leaves = ARENA_ARRAY(graph->arena, uint32_t, graph->count);
  for (size_t i = 0; i < graph->output_count; i++) fusion->reason[graph->outputs[i].node] = REASON_OUTPUT;
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    bool free = op_table[node->op].properties & VIEW || node->op == OP_CONST || node->op == OP_IOTA ||
                node->op == OP_SIZE;
    for (int i = 0; i < op_table[node->op].inputs; i++) leaves[id] += leaves[node->in[i]];
    if (node->op == OP_INPUT) {
      leaves[id] = 1;
      continue;
    }
    if (free && leaves[id] <= MAX_LEAVES / 2 && fusion->reason[id] != REASON_OUTPUT) continue;
    fusion->group[id] = ++fusion->group_count;
    if (!fusion->reason[id]) fusion->reason[id] = free ? REASON_LIMIT : REASON_DISABLED;
    leaves[id] = 1;
  }
  return fusion;
}

Fusion *fuse(const Graph *graph, bool enabled) {
  (void)enabled;
  return fuse_nothing(graph);
}
