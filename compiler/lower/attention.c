// Attention as one kernel: graph and Fusion -> a Fusion in which scores and their softmax are computed where the
// contraction over keys reads them, and are in memory no more.
//
// A group that contracts what a softmax stores, which reads what another contraction stores, is tried as one
// kernel; whether that is an attention, kernel_attention says, by its form alone. Each try that fails leaves its
// reason with the value that stays in memory.
#include "compiler/lower/lowering.h"

#include <string.h>

enum { FEWEST_ROWS = 24 }; // of queries: with fewer, three kernels read keys and values as fast

typedef struct Absorb {
  Fusion *fusion;
  Lowering lowering; // for kernels that are built to be looked at
  uint32_t *reader;  // per node: the one group that loads it; 0: none
  bool *fused;       // per group: it is an attention
  const int64_t *symbols;
  NodeId moved[GROUP_MAX_STORES * 2]; // stored by the group at hand from now on, or by none
  uint32_t from[GROUP_MAX_STORES * 2];
  int count;
} Absorb;

static const uint32_t several = UINT32_MAX;

static const Node *node_at(const Absorb *absorb, NodeId id) { return &absorb->lowering.graph->nodes[id]; }

static void forget(Absorb *absorb) { // that the closure was walked
  Lowering *lowering = &absorb->lowering;
  for (size_t i = 0; i < lowering->closure.count; i++) lowering->stamp[lowering->closure.list[i]] = 0;
  for (size_t i = 0; i < lowering->leaves.count; i++) lowering->stamp[lowering->leaves.list[i]] = 0;
}

static void find_readers(Absorb *absorb) {
  Lowering *lowering = &absorb->lowering;
  for (uint32_t group = 1; group <= absorb->fusion->group_count; group++) {
    find_closure(lowering, group);
    for (size_t i = 0; i < lowering->leaves.count; i++) {
      uint32_t *reader = &absorb->reader[lowering->leaves.list[i]];
      *reader = *reader && *reader != group ? several : group;
    }
    forget(absorb);
  }
  for (size_t i = 0; i < lowering->graph->output_count; i++)
    absorb->reader[lowering->graph->outputs[i].node] = several;
}

// What a group computes, counted.
typedef struct Parts {
  int contractions, reductions, largest; // largest: maxima
} Parts;

static Parts parts_of(Absorb *absorb, uint32_t group) {
  Lowering *lowering = &absorb->lowering;
  Parts parts = {0};
  find_closure(lowering, group);
  for (size_t i = 0; i < lowering->closure.count; i++) {
    const Node *node = node_at(absorb, lowering->closure.list[i]);
    parts.contractions += is_contraction(lowering->graph, node);
    parts.reductions += is_reduction(node->op);
    parts.largest += node->op == OP_REDMAX;
  }
  forget(absorb);
  return parts;
}

// ---- moving values between groups ---------------------------------------------------------------

static void list_remove(NodeList *list, NodeId id) {
  size_t count = 0;
  for (size_t i = 0; i < list->count; i++)
    if (list->list[i] != id) list->list[count++] = list->list[i];
  list->count = count;
}

static void list_insert(Absorb *absorb, NodeList *list, NodeId id) { // in order
  ARENA_PUSH(absorb->lowering.arena, list->list, list->count, list->capacity, id);
  for (size_t i = list->count - 1; i && list->list[i - 1] > id; i--) {
    list->list[i] = list->list[i - 1];
    list->list[i - 1] = id;
  }
}

static void move(Absorb *absorb, NodeId id, uint32_t to) { // 0: no memory
  uint32_t *group = &absorb->fusion->group[id];
  absorb->moved[absorb->count] = id;
  absorb->from[absorb->count++] = *group;
  list_remove(&absorb->lowering.stored[*group], id);
  if (to) list_insert(absorb, &absorb->lowering.stored[to], id);
  *group = to;
}

static void undo(Absorb *absorb) {
  while (absorb->count) {
    NodeId id = absorb->moved[--absorb->count];
    uint32_t now = absorb->fusion->group[id], before = absorb->from[absorb->count];
    if (now) list_remove(&absorb->lowering.stored[now], id);
    list_insert(absorb, &absorb->lowering.stored[before], id);
    absorb->fusion->group[id] = before;
  }
}

// Takes what `from` stores into `into`: row statistics that others read are stored there, all else only
// `into` may have read.
static const char *take(Absorb *absorb, uint32_t from, uint32_t into) {
  NodeList stored = absorb->lowering.stored[from];
  NodeId list[GROUP_MAX_STORES];
  if (stored.count > GROUP_MAX_STORES || stored.count + (size_t)absorb->count > GROUP_MAX_STORES)
    return "too much is stored beside it";
  memcpy(list, stored.list, stored.count * sizeof *list);
  for (size_t i = 0; i < stored.count; i++) {
    NodeId id = list[i];
    bool statistic = is_reduction(node_at(absorb, id)->op);
    if (absorb->fusion->inside[id]) return "a part of it is stored into a larger value";
    if (absorb->reader[id] != into && !statistic) return "others need it, too";
    move(absorb, id, absorb->reader[id] != into ? into : 0);
  }
  return NULL;
}

// ---- one attention ------------------------------------------------------------------------------

static bool small_enough(const Lowering *lowering, uint32_t group) {
  int axes = 0;
  for (size_t i = 0; i < lowering->closure.count; i++) {
    const Node *node = lowering_node(lowering, lowering->closure.list[i]);
    if (is_contraction(lowering->graph, node)) axes += 3 * node->attributes.contract;
    if (is_reduction(node->op)) axes += 2 * __builtin_popcount(node->attributes.axes);
  }
  return lowering->leaves.count + lowering->stored[group].count <= GROUP_MAX_BUFFERS &&
         lowering->closure.count <= 2 * GROUP_MAX_OPS && axes + MAX_RANK <= GROUP_MAX_AXES;
}

static const char *judge(Absorb *absorb, uint32_t group, Arena *arena) {
  Lowering *lowering = &absorb->lowering;
  Attention attention;
  find_closure(lowering, group);
  bool small = small_enough(lowering, group);
  forget(absorb);
  if (!small) return "too many values are read";
  Kernel *kernel = build_kernel(lowering, group, arena);
  build_end(lowering);
  forget(absorb);
  kernel = collapse(kernel_copy(kernel, arena));
  const char *why = kernel_attention(kernel, &attention);
  if (why) return why;
  int64_t rows = extent_value(kernel->axes[attention.row].extent, absorb->symbols);
  return rows < FEWEST_ROWS ? "there are too few rows of queries to pay" : NULL;
}

// The group that stores the softmax which `group` contracts over its keys, and the one that stores its scores.
static bool find_chain(Absorb *absorb, uint32_t group, uint32_t *softmax, uint32_t *scores, NodeId *weight) {
  Lowering *lowering = &absorb->lowering;
  find_closure(lowering, group);
  size_t count = lowering->leaves.count;
  NodeId *leaves = ARENA_ARRAY(lowering->arena, NodeId, count);
  memcpy(leaves, lowering->leaves.list, count * sizeof *leaves);
  forget(absorb);
  for (size_t i = 0; i < count; i++) {
    *weight = leaves[i];
    *softmax = absorb->fusion->group[leaves[i]];
    if (!*softmax) continue;
    Parts parts = parts_of(absorb, *softmax);
    if (parts.contractions || !parts.largest || parts.reductions < 2) continue;
    find_closure(lowering, *softmax);
    NodeId read = 0;
    for (size_t k = 0; k < lowering->leaves.count; k++) {
      uint32_t of = absorb->fusion->group[lowering->leaves.list[k]];
      if (of && node_at(absorb, lowering->leaves.list[k])->type.rank >= node_at(absorb, *weight)->type.rank)
        read = lowering->leaves.list[k];
    }
    forget(absorb);
    *scores = absorb->fusion->group[read];
    if (!read || *scores == *softmax) continue;
    parts = parts_of(absorb, *scores);
    if (parts.contractions == 1 && !parts.reductions) return true;
  }
  return false;
}

static void try_attention(Absorb *absorb, uint32_t group) {
  uint32_t softmax, scores;
  NodeId weight;
  Parts parts = parts_of(absorb, group);
  if (parts.contractions != 1 || parts.reductions) return;
  if (!find_chain(absorb, group, &softmax, &scores, &weight)) return;
  Arena *arena = arena_new();
  absorb->count = 0;
  const char *why = take(absorb, softmax, group);
  for (size_t i = 0; i < absorb->lowering.stored[scores].count && !why; i++) { // read by both, now by one
    NodeId id = absorb->lowering.stored[scores].list[i];
    if (absorb->reader[id] == softmax) absorb->reader[id] = group;
  }
  if (!why) why = take(absorb, scores, group);
  if (!why) why = judge(absorb, group, arena);
  if (why) {
    undo(absorb);
    absorb->fusion->note[weight] = why;
  }
  absorb->fused[group] = !why;
  arena_free(arena);
}

// ---- masks that several layers share ------------------------------------------------------------

// Is the node made of indices and numbers alone?
static bool is_index_arithmetic(Absorb *absorb, NodeId id) {
  Lowering *lowering = &absorb->lowering;
  uint32_t group = absorb->fusion->group[id];
  if (!group || absorb->reader[id] == 0 || is_contraction(lowering->graph, node_at(absorb, id))) return false;
  find_closure(lowering, group);
  bool pure = !lowering->leaves.count && lowering->stored[group].count == 1;
  for (size_t i = 0; i < lowering->closure.count; i++)
    pure = pure && !is_heavy(lowering->graph, lowering->closure.list[i]);
  forget(absorb);
  return pure;
}

// Which attentions load it; false: others do, too.
static bool only_attentions(Absorb *absorb, NodeId id, NodeList *groups) {
  Lowering *lowering = &absorb->lowering;
  groups->count = 0;
  for (size_t i = 0; i < lowering->graph->output_count; i++)
    if (lowering->graph->outputs[i].node == id) return false;
  for (uint32_t group = 1; group <= absorb->fusion->group_count; group++) {
    if (!lowering->stored[group].count) continue;
    bool reads = false;
    find_closure(lowering, group);
    for (size_t i = 0; i < lowering->leaves.count; i++) reads = reads || lowering->leaves.list[i] == id;
    forget(absorb);
    if (reads && !absorb->fused[group]) return false;
    if (reads) ARENA_PUSH(lowering->arena, groups->list, groups->count, groups->capacity, group);
  }
  return groups->count > 0;
}

// Where each attention computes the mask itself it is in memory no more, and blocks that it leaves empty are seen.
static void absorb_masks(Absorb *absorb) {
  NodeList groups = {0};
  for (NodeId id = 1; id < absorb->lowering.graph->count; id++) {
    if (!is_index_arithmetic(absorb, id) || !only_attentions(absorb, id, &groups)) continue;
    Arena *arena = arena_new();
    absorb->count = 0;
    move(absorb, id, 0);
    const char *why = NULL;
    for (size_t i = 0; i < groups.count && !why; i++) why = judge(absorb, groups.list[i], arena);
    if (why) undo(absorb);
    arena_free(arena);
  }
}

// ---- all ----------------------------------------------------------------------------------------

// Groups that store nothing any more leave the numbering.
static void renumber(const Graph *graph, Fusion *fusion, Arena *arena) {
  uint32_t *number = ARENA_ARRAY(arena, uint32_t, fusion->group_count + 1);
  for (NodeId id = 1; id < graph->count; id++)
    if (fusion->group[id]) number[fusion->group[id]] = 1;
  uint32_t count = 0;
  for (uint32_t group = 1; group <= fusion->group_count; group++)
    if (number[group]) number[group] = ++count;
  for (NodeId id = 1; id < graph->count; id++) fusion->group[id] = number[fusion->group[id]];
  fusion->group_count = count;
}

void fuse_attention(const Graph *graph, Fusion *fusion, const int64_t symbols[SYMBOL_COUNT]) {
  Arena *arena = arena_new();
  Absorb absorb = {.fusion = fusion, .symbols = symbols};
  absorb.reader = ARENA_ARRAY(arena, uint32_t, graph->count);
  absorb.lowering =
      (Lowering){.arena = arena, .graph = graph, .fusion = fusion, .symbols = symbols, .out = NULL};
  lowering_prepare(&absorb.lowering);
  absorb.fused = ARENA_ARRAY(arena, bool, fusion->group_count + 1);
  find_readers(&absorb);
  for (uint32_t group = 1; group <= fusion->group_count; group++)
    if (absorb.lowering.stored[group].count) try_attention(&absorb, group);
  absorb_masks(&absorb);
  renumber(graph, fusion, arena);
  arena_free(arena);
}
