// Attention as one kernel: graph and Fusion -> a Fusion in which scores and their softmax are computed where the
// contraction over keys reads them, and are in memory no more.
//
// A group that contracts what a softmax stores, which reads what another contraction stores, is tried as one
// kernel; whether that is an attention, kernel_attention says, by its form alone. Each try that fails leaves its
// reason with the value that stays in memory.
#include "compiler/lower/lowering.h"

#include <string.h>

enum {
  FEWEST_TASKS = 8,    // batch entries that are tasks: with fewer, threads would idle
  FEWEST_ROWS = 24,    // of queries: with fewer, three kernels are as fast
  FEWEST_TRAINED = 96, // where it is trained, so that weights are computed again
};

enum { MOST_MOVED = 64, MOST_GROUPS = 8, SHOWN = 0 }; // SHOWN: the "group" that reads outputs

typedef struct Absorb {
  Fusion *fusion;
  Lowering lowering; // for kernels that are built to be looked at
  NodeList *readers; // per node: the groups that load it, in order
  bool *fused;       // per group: it is an attention
  const int64_t *symbols;
  NodeId moved[MOST_MOVED]; // what has been given to other groups, or to none, since the last decision
  uint32_t from[MOST_MOVED];
  int count;
} Absorb;

static const Node *node_at(const Absorb *absorb, NodeId id) { return &absorb->lowering.graph->nodes[id]; }

static void forget(Absorb *absorb) { // that the closure was walked
  Lowering *lowering = &absorb->lowering;
  for (size_t i = 0; i < lowering->closure.count; i++) lowering->stamp[lowering->closure.list[i]] = 0;
  for (size_t i = 0; i < lowering->leaves.count; i++) lowering->stamp[lowering->leaves.list[i]] = 0;
}

static void add_reader(Absorb *absorb, NodeId id, uint32_t group) {
  NodeList *list = &absorb->readers[id];
  ARENA_PUSH(absorb->lowering.arena, list->list, list->count, list->capacity, group);
}

static void find_readers(Absorb *absorb) {
  Lowering *lowering = &absorb->lowering;
  for (size_t i = 0; i < lowering->graph->output_count; i++)
    add_reader(absorb, lowering->graph->outputs[i].node, SHOWN);
  for (uint32_t group = 1; group <= absorb->fusion->group_count; group++) {
    find_closure(lowering, group);
    for (size_t i = 0; i < lowering->leaves.count; i++) add_reader(absorb, lowering->leaves.list[i], group);
    forget(absorb);
  }
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

static bool move(Absorb *absorb, NodeId id, uint32_t to) { // 0: no memory
  uint32_t *group = &absorb->fusion->group[id];
  if (absorb->count == MOST_MOVED) return false;
  absorb->moved[absorb->count] = id;
  absorb->from[absorb->count++] = *group;
  if (*group) list_remove(&absorb->lowering.stored[*group], id);
  if (to) list_insert(absorb, &absorb->lowering.stored[to], id);
  *group = to;
  return true;
}

static void undo(Absorb *absorb, int down_to) {
  while (absorb->count > down_to) {
    NodeId id = absorb->moved[--absorb->count];
    uint32_t now = absorb->fusion->group[id], before = absorb->from[absorb->count];
    if (now) list_remove(&absorb->lowering.stored[now], id);
    if (before) list_insert(absorb, &absorb->lowering.stored[before], id);
    absorb->fusion->group[id] = before;
  }
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
         lowering->closure.count <= 2 * GROUP_MAX_OPS && axes + MAX_RANK <= KERNEL_MAX_AXES;
}

static const char *judge(Absorb *absorb, uint32_t group, int64_t fewest) {
  Lowering *lowering = &absorb->lowering;
  Attention attention;
  find_closure(lowering, group);
  bool small = small_enough(lowering, group);
  forget(absorb);
  if (!small) return "too many values are read";
  Arena *arena = arena_new();
  Kernel *kernel = build_kernel(lowering, group, arena);
  build_end(lowering);
  forget(absorb);
  kernel = collapse(kernel_copy(kernel, arena));
  const char *why = kernel_attention(kernel, &attention);
  int64_t rows = why ? 0 : extent_value(kernel->axes[attention.row].extent, absorb->symbols), tasks = 1;
  for (int axis = 0; axis < kernel->axis_count && !why; axis++)
    if (attention.batch >> axis & 1) tasks *= extent_value(kernel->axes[axis].extent, absorb->symbols);
  if (!why && attention.is_turned && tasks < FEWEST_TASKS)
    why = "there are too few heads to share among threads";
  arena_free(arena);
  if (why) return why;
  return rows < fewest ? "there are too few rows of queries to pay" : NULL;
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

// Groups that are to be attentions, the forward one first, and the values per row and key that they compute.
typedef struct Chain {
  uint32_t groups[MOST_GROUPS];
  NodeId pairs[MOST_GROUPS];
  int group_count, pair_count;
} Chain;

// Does the group contract what is made of the node?
static bool contracts(Absorb *absorb, uint32_t group, NodeId id) {
  Lowering *lowering = &absorb->lowering;
  Arena *arena = arena_new();
  bool *made = ARENA_ARRAY(arena, bool, lowering->graph->count), found = false;
  made[id] = true;
  find_closure(lowering, group);
  for (size_t i = 0; i < lowering->closure.count; i++) {
    NodeId each = lowering->closure.list[i];
    const Node *node = node_at(absorb, each);
    for (int k = 0; k < op_table[node->op].inputs; k++) made[each] = made[each] || made[node->in[k]];
    found = found || (made[each] && is_contraction(lowering->graph, node));
  }
  forget(absorb);
  arena_free(arena);
  return found;
}

// All that reads a value per row and key: contractions of it, and what makes one other such value of it.
static const char *follow(Absorb *absorb, NodeId pair, Chain *chain) {
  for (int i = 0; i < chain->pair_count; i++)
    if (chain->pairs[i] == pair) return NULL;
  if (chain->pair_count == MOST_GROUPS) return "too many values are made of its weights";
  if (absorb->fusion->inside[pair]) return "a part of it is stored into a larger value";
  chain->pairs[chain->pair_count++] = pair;
  for (size_t i = 0; i < absorb->readers[pair].count; i++) {
    uint32_t group = absorb->readers[pair].list[i];
    bool known = false;
    for (int k = 0; k < chain->group_count; k++) known = known || chain->groups[k] == group;
    if (known) continue;
    if (group == SHOWN) return "others need it, too";
    NodeList stored = absorb->lowering.stored[group];
    if (contracts(absorb, group, pair)) {
      if (chain->group_count == MOST_GROUPS) return "too many kernels need its weights";
      chain->groups[chain->group_count++] = group;
    } else {
      if (stored.count != 1 || parts_of(absorb, group).reductions) return "others need it, too";
      const char *why = follow(absorb, stored.list[0], chain);
      if (why) return why;
    }
  }
  return NULL;
}

// The softmax's largest and sum: stored by the forward group where the backward part computes weights again.
static const char *store_statistics(Absorb *absorb, uint32_t softmax, uint32_t group) {
  Lowering *lowering = &absorb->lowering;
  NodeId list[MOST_GROUPS];
  int count = 0;
  find_closure(lowering, softmax);
  for (size_t i = 0; i < lowering->closure.count && count < MOST_GROUPS; i++)
    if (is_reduction(node_at(absorb, lowering->closure.list[i])->op))
      list[count++] = lowering->closure.list[i];
  forget(absorb);
  for (int i = 0; i < count; i++) {
    if (absorb->fusion->inside[list[i]] || !move(absorb, list[i], group))
      return "too much is stored beside it";
    if (!absorb->fusion->reason[list[i]]) absorb->fusion->reason[list[i]] = REASON_REDUCTION;
  }
  return NULL;
}

// Does the group compute nothing but what the chain's kernels will compute themselves, or is it one of them?
static bool is_of_chain(const Absorb *absorb, const Chain *chain, uint32_t softmax, uint32_t group) {
  bool of = group == softmax && group != SHOWN;
  for (int i = 0; i < chain->group_count; i++) of = of || chain->groups[i] == group;
  for (int i = 0; i < chain->pair_count; i++)
    of = of || (absorb->fusion->group[chain->pairs[i]] == group && group != SHOWN);
  return of;
}

// Takes the chain's values out of memory, and the scores, which nobody else may read. What else the softmax's group
// stores must be statistics.
static const char *absorb_pairs(Absorb *absorb, uint32_t softmax, uint32_t scores, Chain *chain) {
  uint32_t group = chain->groups[0], of[] = {softmax, scores};
  bool kept = chain->group_count > 1;
  for (int k = 0; k < 2; k++) {
    NodeList stored = absorb->lowering.stored[of[k]];
    for (size_t i = 0; i < stored.count; i++) {
      NodeId id = stored.list[i];
      bool pair = false;
      for (int p = 0; p < chain->pair_count; p++) pair = pair || chain->pairs[p] == id;
      bool statistic = k == 0 && is_reduction(node_at(absorb, id)->op);
      const NodeList *readers = &absorb->readers[id];
      bool own = k == 1; // of the scores
      for (size_t r = 0; r < readers->count; r++)
        own = own && is_of_chain(absorb, chain, softmax, readers->list[r]);
      if (!pair && !statistic && !own) return "others need it, too";
      kept = kept || statistic;
      if (own && chain->pair_count < MOST_GROUPS) chain->pairs[chain->pair_count++] = id;
    }
  }
  const char *why = kept ? store_statistics(absorb, softmax, group) : NULL;
  for (int p = 0; p < chain->pair_count && !why; p++)
    if (!move(absorb, chain->pairs[p], 0)) why = "too much is stored beside it";
  return why;
}

// Two results of the same rows and keys in one kernel: they share scores. The earlier one's readers must wait.
static void join_pair(Absorb *absorb, uint32_t early, uint32_t late) {
  int before = absorb->count;
  NodeList stored = absorb->lowering.stored[early];
  NodeId list[GROUP_MAX_STORES];
  if (stored.count > GROUP_MAX_STORES) return;
  memcpy(list, stored.list, stored.count * sizeof *list);
  for (size_t i = 0; i < stored.count; i++) {
    NodeId whole = absorb->fusion->inside[list[i]];
    const NodeList *readers = &absorb->readers[whole ? whole : list[i]];
    for (size_t k = 0; k < readers->count; k++)
      if (readers->list[k] != SHOWN && readers->list[k] <= late) return;
  }
  bool fits = true;
  for (size_t i = 0; i < stored.count && fits; i++) fits = move(absorb, list[i], late);
  if (!fits || judge(absorb, late, 0)) undo(absorb, before);
}

static void try_attention(Absorb *absorb, uint32_t group) {
  uint32_t softmax, scores;
  NodeId weight;
  Parts parts = parts_of(absorb, group);
  if (parts.contractions != 1 || parts.reductions) return;
  if (!find_chain(absorb, group, &softmax, &scores, &weight) || absorb->fusion->note[weight]) return;
  Chain chain = {.groups = {group}, .group_count = 1};
  absorb->count = 0;
  const char *why = follow(absorb, weight, &chain);
  if (!why) why = absorb_pairs(absorb, softmax, scores, &chain);
  int64_t fewest = chain.group_count > 1 ? FEWEST_TRAINED : FEWEST_ROWS;
  for (int i = 0; i < chain.group_count && !why; i++) why = judge(absorb, chain.groups[i], fewest);
  if (why) {
    undo(absorb, 0);
    absorb->fusion->note[weight] = why;
    return;
  }
  for (int i = 0; i < chain.group_count; i++) absorb->fused[chain.groups[i]] = true;
  for (int i = 1; i < chain.group_count; i++)
    for (int k = i + 1; k < chain.group_count; k++) {
      uint32_t a = chain.groups[i], b = chain.groups[k];
      if (absorb->lowering.stored[a].count && absorb->lowering.stored[b].count)
        join_pair(absorb, a < b ? a : b, a < b ? b : a);
    }
}

// ---- masks that several layers share ------------------------------------------------------------

// Is the node made of indices and numbers alone?
static bool is_index_arithmetic(Absorb *absorb, NodeId id) {
  Lowering *lowering = &absorb->lowering;
  uint32_t group = absorb->fusion->group[id];
  if (!group || !absorb->readers[id].count || is_contraction(lowering->graph, node_at(absorb, id)))
    return false;
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
    absorb->count = 0;
    const char *why = move(absorb, id, 0) ? NULL : "too many moves";
    for (size_t i = 0; i < groups.count && !why; i++) why = judge(absorb, groups.list[i], 0);
    if (why) undo(absorb, 0);
  }
}

// ---- all ----------------------------------------------------------------------------------------

// Groups that store nothing any more leave the numbering.
static void renumber(const Graph *graph, Fusion *fusion, Arena *arena) {
  uint32_t *number = ARENA_ARRAY(arena, uint32_t, fusion->group_count + 1);
  for (NodeId id = 1; id < graph->count; id++) { // a concatenation is there when its last part is
    NodeId whole = fusion->inside[id];
    if (whole && whole != id && fusion->group[whole] < fusion->group[id])
      fusion->group[whole] = fusion->group[id];
  }
  for (NodeId id = 1; id < graph->count; id++)
    if (fusion->group[id] && fusion->inside[id] != id) number[fusion->group[id]] = 1;
  uint32_t count = 0;
  for (uint32_t group = 1; group <= fusion->group_count; group++)
    if (number[group]) number[group] = ++count;
  for (NodeId id = 1; id < graph->count; id++) fusion->group[id] = number[fusion->group[id]];
  fusion->group_count = count;
}

void fuse_attention(const Graph *graph, Fusion *fusion, const int64_t symbols[SYMBOL_COUNT]) {
  Arena *arena = arena_new();
  Absorb absorb = {.fusion = fusion, .symbols = symbols};
  absorb.readers = ARENA_ARRAY(arena, NodeList, graph->count);
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
