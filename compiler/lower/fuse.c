// Which nodes get memory and which are computed where they are read: graph -> Fusion. The work is done in two
// sweeps, join.c forward and keep.c backward; without fusion every operation is a group of its own.
#include "compiler/lower/groups.h"

const char *const reason_texts[REASON_COUNT] = {
    "absorbed",
    "a result, or a new value of a state or parameter",
    "more than one reader, and not cheap to compute again",
    "a sum or maximum is not computed again for each reader's element",
    "a contraction is not computed again for each reader's element",
    "its reader needs the whole of it",
    "contractions multiply this narrow copy often",
    "the kernel would have too many buffers, stores or operations",
    "iteration spaces differ",
    "fusion is switched off",
};

enum { MAX_LEAVES = 12 }; // values read from memory by one kernel

static Fusion *fuse_nothing(const Graph *graph) {
  Fusion *fusion = ARENA_NEW(graph->arena, Fusion);
  fusion->group = ARENA_ARRAY(graph->arena, uint32_t, graph->count);
  fusion->reason = ARENA_ARRAY(graph->arena, Reason, graph->count);
  fusion->inside = ARENA_ARRAY(graph->arena, NodeId, graph->count);
  fusion->note = ARENA_ARRAY(graph->arena, const char *, graph->count);
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

// Nodes that an output needs; how many of them read each.
static void find_needed(Fusing *fusing) {
  const Graph *graph = fusing->graph;
  for (size_t i = 0; i < graph->output_count; i++)
    fusing->needed[graph->outputs[i].node] = fusing->output[graph->outputs[i].node] = true;
  for (NodeId id = graph->count; id-- > 1;)
    for (int k = 0; k < op_table[graph->nodes[id].op].inputs && fusing->needed[id]; k++) {
      NodeId in = graph->nodes[id].in[k];
      bool again = k && in == graph->nodes[id].in[0]; // x * x reads x once
      fusing->needed[in] = true;
      fusing->readers[in] += !again;
    }
}

Fusion *fuse(const Graph *graph, bool enabled) {
  if (!enabled) return fuse_nothing(graph);
  Arena *arena = arena_new();
  size_t count = graph->count;
  Fusing fusing = {.arena = arena, .graph = graph, .fusion = ARENA_NEW(graph->arena, Fusion)};
  fusing.fusion->group = ARENA_ARRAY(graph->arena, uint32_t, count);
  fusing.fusion->reason = ARENA_ARRAY(graph->arena, Reason, count);
  fusing.fusion->inside = ARENA_ARRAY(graph->arena, NodeId, count);
  fusing.fusion->note = ARENA_ARRAY(graph->arena, const char *, count);
  fusing.needed = ARENA_ARRAY(arena, bool, count);
  fusing.output = ARENA_ARRAY(arena, bool, count);
  fusing.readers = ARENA_ARRAY(arena, uint32_t, count);
  fusing.home = ARENA_ARRAY(arena, uint32_t, count);
  fusing.homes = ARENA_ARRAY(arena, Homes, count);
  fusing.place = ARENA_ARRAY(arena, Place, count);
  fusing.operand = ARENA_ARRAY(arena, Place, count);
  fusing.visited = ARENA_ARRAY(arena, uint32_t, count);
  find_needed(&fusing);
  join(&fusing);
  keep(&fusing);
  arena_free(arena);
  return fusing.fusion;
}
