// The backward half of fusion: homes -> which values are stored, and the order of groups.
//
// From the last node to the first, each knows by then which groups need it. A floating node is computed in
// all of them, or gets a home after all: in one of them, or in a new group. A node with a home that others
// need is stored, unless computing it again from what is in memory anyway costs next to nothing.
#include "compiler/lower/groups.h"

#include "runtime/base/failure.h"

#include <stdlib.h>
#include <string.h>

// What computing again or in several places may cost, in simple operations.
enum {
  OPERAND_COST = 3,    // in an operand of a contraction, which is read several times
  SHARED_COST = 4,     // in several groups, with a large value to read
  SHARED_NO_READ = 16, // in several groups, with none (random masks, index arithmetic)
  BROADCAST_COST = 3,  // per element of a much larger value
  AGAIN_COST = 60,     // a forward value in the backward part
  AGAIN_OPS = 32,
  RECENT_LATE = 4,
  SMALL_WORK = 1 << 17, // less in all is not worth a launch
  SMALL_SHARE = 8,      // this many times smaller counts as small
  OFTEN = 64            // multiplications that pay for a narrow copy of a contraction's operand
};

typedef struct Demand {
  uint32_t group;
  bool operand; // of a contraction
  Place place;  // where in the group's space; unknown where it differs between readers
  uint32_t next;
} Demand;

// What a value is computed from: anything; numbers and indices; parts of packed weights and these.
typedef enum Made { MADE_OF_ANY, MADE_OF_NUMBERS, MADE_OF_PARTS } Made;

typedef struct Keep {
  Fusing *fusing;
  Demand *demands; // demands[0] is unused
  size_t demand_count, demand_capacity;
  uint32_t *first; // per node
  NodeId *base;    // per group: the member that others are computed again from, or 0
  bool *outside;   // per node: read by another group than its home
  uint8_t *made;   // per node: a Made
  float *reuse;    // per node: how often contractions multiply each of its elements, by views too
  NodeId *late;    // nodes that opened a group in this sweep
  size_t late_count, late_capacity;
} Keep;

static const Node *node_at(const Keep *keep, NodeId id) { return &keep->fusing->graph->nodes[id]; }
static int inputs_of(const Keep *keep, NodeId id) { return op_table[node_at(keep, id)->op].inputs; }
static uint32_t home_of(const Keep *keep, NodeId id) {
  return keep->fusing->home[id] ? group_find(keep->fusing, keep->fusing->home[id]) : 0;
}
static Group *group_of(const Keep *keep, uint32_t group) { return keep->fusing->groups[group]; }

// ---- demands ------------------------------------------------------------------------------------

static Demand *find_demand(Keep *keep, NodeId id, uint32_t group) {
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next)
    if (keep->demands[i].group == group) return &keep->demands[i];
  return NULL;
}

static void demand(Keep *keep, NodeId id, uint32_t group, bool operand, const Place *place) {
  Demand *known = find_demand(keep, id, group);
  Place at = place ? *place : (Place){0};
  if (known) {
    known->operand = known->operand || operand;
    if (!place_equal(&group_of(keep, group)->space, &known->place, &at)) known->place.known = false;
    return;
  }
  Demand fresh = {.group = group, .operand = operand, .place = at, .next = keep->first[id]};
  if (!keep->demand_count)
    ARENA_PUSH(keep->fusing->arena, keep->demands, keep->demand_count, keep->demand_capacity, fresh);
  ARENA_PUSH(keep->fusing->arena, keep->demands, keep->demand_count, keep->demand_capacity, fresh);
  keep->first[id] = (uint32_t)keep->demand_count - 1;
  if (!is_free(keep->fusing->graph, id)) group_of(keep, group)->pending++;
}

// The group computes the node at the place: it needs the node's operands.
static void compute(Keep *keep, NodeId id, uint32_t group, bool operand, const Place *place) {
  const Node *node = node_at(keep, id);
  Space *space = &group_of(keep, group)->space;
  if (find_demand(keep, id, group)) group_of(keep, group)->pending--;
  for (int k = 0; k < inputs_of(keep, id); k++) {
    Place at = {0};
    bool contracted = node->op == OP_DOT && is_contraction(keep->fusing->graph, node);
    if (node->op == OP_SUM || node->op == OP_REDMAX)
      at = keep->fusing->operand[id];
    else if (place && place->known && !contracted)
      place_of_operand(space, keep->fusing->graph, id, place, k, &at);
    if (node->op == OP_UPDATE && !k && node_at(keep, node->in[0])->op == OP_INPUT)
      continue; // written, not read
    demand(keep, node->in[k], group, operand || contracted, &at);
  }
}

static void compute_everywhere(Keep *keep, NodeId id) {
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next) {
    Demand at = keep->demands[i]; // the array moves
    compute(keep, id, at.group, at.operand, &at.place);
  }
}

static void store(Keep *keep, NodeId id, Reason reason) {
  uint32_t group = home_of(keep, id);
  keep->fusing->fusion->group[id] = group;
  keep->fusing->fusion->reason[id] = reason;
  group_of(keep, group)->stores++;
  compute(keep, id, group, false, &keep->fusing->place[id]);
}

// ---- computing again ----------------------------------------------------------------------------

static bool stored_anyway(const Keep *keep, NodeId id) {
  uint32_t home = home_of(keep, id);
  if (keep->fusing->output[id] || (home && keep->base[home] == id)) return true;
  return is_heavy(keep->fusing->graph, id) && keep->outside[id];
}

typedef struct Again {
  uint32_t home;
  double weight;
  int ops, cost, large; // large: values that would have to stay in memory for this alone
} Again;

static bool again_node(Keep *keep, NodeId id, bool top, Again *again) {
  const Fusing *fusing = keep->fusing;
  const Node *node = node_at(keep, id);
  if (is_free(fusing->graph, id) || node->op == OP_INPUT || keep->fusing->visited[id] == keep->fusing->visit)
    return true;
  keep->fusing->visited[id] = keep->fusing->visit;
  if (!top && stored_anyway(keep, id)) return true;
  bool small = node_weight(fusing->graph, id) * SMALL_SHARE <= again->weight;
  bool elsewhere = fusing->home[id] && home_of(keep, id) != again->home;
  bool busy =
      !fusing->home[id] && fusing->readers[id] > 1 && !is_view(fusing->graph, id) && op_cost(node) > 0;
  if (!top && !small && (elsewhere || busy)) {
    again->large += !keep->first[id]; // what later nodes need is in memory by then
    return again->large <= 1;
  }
  if (is_heavy(fusing->graph, id)) return small;
  if (elsewhere && small) return true;
  again->ops++;
  again->cost += op_cost(node);
  if (again->ops > AGAIN_OPS || again->cost > AGAIN_COST) return false;
  for (int k = 0; k < op_table[node->op].inputs; k++)
    if (!again_node(keep, node->in[k], false, again)) return false;
  return true;
}

// Can others compute the node again from values that are in memory anyway?
static bool cheap_again(Keep *keep, NodeId id, uint32_t home) {
  Again again = {.home = home, .weight = node_weight(keep->fusing->graph, id)};
  keep->fusing->visit++;
  return again_node(keep, id, true, &again);
}

static bool needed_outside(Keep *keep, NodeId id, uint32_t home, bool *operand) {
  bool outside = false;
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next) {
    if (keep->demands[i].group == home) continue;
    outside = true;
    *operand = *operand || keep->demands[i].operand;
  }
  return outside;
}

// ---- nodes with a home --------------------------------------------------------------------------

static Reason heavy_reason(const Node *node) {
  return node->op == OP_DOT ? REASON_CONTRACTION : REASON_REDUCTION;
}

// A cast to a wider type: whoever needs it reads the narrow value and has it, at no cost.
static bool widens(const Keep *keep, NodeId id) {
  const Node *node = node_at(keep, id);
  return node->op == OP_CAST &&
         dtype_bytes(node_at(keep, node->in[0])->type.dtype) < dtype_bytes(node->type.dtype);
}

static void keep_member(Keep *keep, NodeId id) {
  uint32_t home = home_of(keep, id);
  bool operand = false, heavy = is_heavy(keep->fusing->graph, id);
  bool outside = needed_outside(keep, id, home, &operand);
  if (keep->fusing->output[id]) {
    store(keep, id, REASON_OUTPUT);
  } else if (!outside) {
    compute(keep, id, home, false, &keep->fusing->place[id]);
  } else if (widens(keep, id)) {
    compute_everywhere(keep, id);
  } else if (heavy) {
    store(keep, id, heavy_reason(node_at(keep, id)));
  } else if (!operand && keep->base[home] != id && cheap_again(keep, id, home)) {
    compute_everywhere(keep, id);
  } else {
    store(keep, id, operand ? REASON_BARRIER : REASON_READERS);
  }
}

// ---- floating nodes -----------------------------------------------------------------------------

static bool group_has_room(const Keep *keep, uint32_t group, int more) {
  const Group *of = group_of(keep, group);
  return of->pending + of->stores + more <= GROUP_MAX_BUFFERS;
}

static int fresh_inputs(Keep *keep, NodeId id, uint32_t group) {
  int count = 0;
  for (int k = 0; k < inputs_of(keep, id); k++) {
    NodeId in = node_at(keep, id)->in[k];
    count += !is_free(keep->fusing->graph, in) && !find_demand(keep, in, group);
  }
  return count;
}

// One of the groups that need a node computes and stores it; all others then depend on that one.
static bool can_host(Keep *keep, NodeId id, const Demand *host) {
  Group *group = group_of(keep, host->group);
  Place place = host->place;
  if (host->operand || group->kind == KIND_SCATTER || group->kind == KIND_UPDATE) return false;
  if (group->stores == GROUP_MAX_STORES ||
      !group_has_room(keep, host->group, 1 + fresh_inputs(keep, id, host->group)))
    return false;
  if (!place.known || !place_fits(group, &place) || !consistent(keep->fusing, host->group, id, &place))
    return false;
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next) {
    uint32_t other = keep->demands[i].group;
    if (other != host->group && group_depends(keep->fusing, host->group, other)) return false;
  }
  return true;
}

static uint32_t find_host(Keep *keep, NodeId id, Place *place) {
  static const int preference[] = {[KIND_ROW] = 4, [KIND_MAP] = 3,     [KIND_COLUMN] = 2,
                                   [KIND_DOT] = 1, [KIND_SCATTER] = 0, [KIND_UPDATE] = 0};
  uint32_t best = 0;
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next) {
    Demand *host = &keep->demands[i];
    if (best && preference[group_of(keep, host->group)->kind] <= preference[group_of(keep, best)->kind])
      continue;
    if (!can_host(keep, id, host)) continue;
    best = host->group;
    *place = host->place;
  }
  return best;
}

static bool same_extents(const Type *a, const Type *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (!extent_equal(a->axes[i].extent, b->axes[i].extent)) return false;
  return true;
}

static bool shares_operand(Keep *keep, NodeId id, uint32_t group) {
  for (int k = 0; k < inputs_of(keep, id); k++) {
    NodeId in = node_at(keep, id)->in[k];
    if (!is_free(keep->fusing->graph, in) && find_demand(keep, in, group)) return true;
  }
  return false;
}

// One of the latest groups over the same axes, if they have something to share: a launch is saved, and for
// numbers of rank 0 that is all there is.
static uint32_t find_sibling(Keep *keep, NodeId id) {
  const Homes *homes = &keep->fusing->homes[id];
  const Type *type = &node_at(keep, id)->type;
  for (size_t i = keep->late_count; i-- > 0 && i + RECENT_LATE >= keep->late_count;) {
    uint32_t group = home_of(keep, keep->late[i]);
    bool fits = same_extents(type, &node_at(keep, keep->late[i])->type) &&
                (!type->rank || shares_operand(keep, id, group)) &&
                group_of(keep, group)->stores < GROUP_MAX_STORES &&
                group_has_room(keep, group, 1 + homes->count + inputs_of(keep, id));
    for (uint32_t d = keep->first[id]; d && fits; d = keep->demands[d].next)
      fits = keep->demands[d].group != group && !group_depends(keep->fusing, group, keep->demands[d].group);
    for (int k = 0; k < homes->count && fits; k++) fits = !group_depends(keep->fusing, homes->list[k], group);
    if (fits) return keep->late[i];
  }
  return 0;
}

static void set_home(Keep *keep, NodeId id, uint32_t group, const Place *place) {
  const Homes *homes = &keep->fusing->homes[id];
  keep->fusing->home[id] = group;
  keep->fusing->place[id] = *place;
  for (int i = 0; i < homes->count; i++) group_depend(keep->fusing, group, homes->list[i]);
}

static void open_late(Keep *keep, NodeId id) {
  open_group(keep->fusing, id, KIND_MAP);
  ARENA_PUSH(keep->fusing->arena, keep->late, keep->late_count, keep->late_capacity, id);
}

// A view that must be stored beside the value that it shows.
static bool join_origin(Keep *keep, NodeId id) {
  Homes homes = keep->fusing->homes[id];
  for (int i = 0; i < homes.count && is_view(keep->fusing->graph, id); i++)
    if (try_group(keep->fusing, group_find(keep->fusing, homes.list[i]), id)) return true;
  return false;
}

static void materialise(Keep *keep, NodeId id, Reason reason) {
  Place place = {.known = true};
  uint32_t group = find_host(keep, id, &place);
  NodeId sibling = group ? 0 : find_sibling(keep, id);
  if (group) {
    set_home(keep, id, group, &place);
  } else if (sibling) {
    place = keep->fusing->place[sibling];
    set_home(keep, id, home_of(keep, sibling), &place);
  } else if (!join_origin(keep, id)) {
    open_late(keep, id);
  }
  group = home_of(keep, id);
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next)
    group_depend(keep->fusing, keep->demands[i].group, group);
  store(keep, id, reason);
}

static double group_weight(const Keep *keep, uint32_t group) {
  const Group *of = group_of(keep, group);
  uint64_t mask = space_whole(&of->space, of->rows | of->inner);
  double weight = 1;
  for (; mask; mask &= mask - 1)
    weight *= (double)extent_value(of->space.atoms[__builtin_ctzll(mask)].extent, typical_sizes);
  return weight;
}

// Is a small value computed again and again for the elements of a much larger one? What does not change along
// the fastest axis is not: it is computed once per row. Contractions have no such place for it.
static bool repeated(Keep *keep, NodeId id, const Demand *by, int cost) {
  const Group *group = group_of(keep, by->group);
  if (group_weight(keep, by->group) * cost < SMALL_WORK) return false;
  if (node_weight(keep->fusing->graph, id) * SMALL_SHARE > group_weight(keep, by->group)) return false;
  Place place = by->place;
  if (group->kind == KIND_DOT || !node_at(keep, id)->type.rank || !place_refresh(&group->space, &place))
    return true;
  uint64_t fastest = space_whole(&group->space, (uint64_t)1 << group->fastest);
  return (place_mask(&place) & fastest) != 0;
}

// A parameter cast to the type of the activations that it is multiplied with: machines multiply these faster than
// mixed ones, and read half as much each time.
static bool copied_narrow(const Keep *keep, NodeId id) {
  const Node *node = node_at(keep, id), *of = node_at(keep, node->in[0]);
  return node->op == OP_CAST && node->type.dtype == DTYPE_BF16 && of->type.dtype == DTYPE_F32 &&
         keep->reuse[id] >= OFTEN;
}

// Why a floating node is not computed by its readers; REASON_NONE: it is. A packed weight's value always is,
// at whatever cost: in memory it would take what packing saves.
static Reason reason_to_store(Keep *keep, NodeId id) {
  const Graph *graph = keep->fusing->graph;
  Measure work = measure(keep->fusing, id);
  int groups = 0;
  bool view = is_view(graph, id) || node_at(keep, id)->op == OP_CAST; // what is below decides for itself
  if (keep->fusing->output[id]) return REASON_OUTPUT;
  if (keep->made[id] == MADE_OF_PARTS) return REASON_NONE;
  if (copied_narrow(keep, id)) return REASON_NARROW;
  for (uint32_t i = keep->first[id]; i; i = keep->demands[i].next, groups++) {
    const Demand *by = &keep->demands[i];
    bool own =
        made_from(keep->fusing, id, by->group); // a view that a group has of its own value stays inside
    if (!own && !group_has_room(keep, by->group, fresh_inputs(keep, id, by->group) - 1)) return REASON_LIMIT;
    if (view && node_at(keep, id)->op != OP_CONCAT) continue;
    if (by->operand && (!work.plain || work.cost > OPERAND_COST || work.large > 1)) return REASON_BARRIER;
    if (work.cost > BROADCAST_COST && repeated(keep, id, by, work.cost)) return REASON_READERS;
  }
  if (view || groups < 2) return REASON_NONE;
  bool cheap = work.large ? work.large == 1 && work.cost <= SHARED_COST : work.cost <= SHARED_NO_READ;
  return cheap ? REASON_NONE : REASON_READERS;
}

static bool rearranges(const Node *node) {
  if (node->op == OP_SPLIT || node->op == OP_MERGE) return true;
  if (node->op != OP_ARRANGE) return false;
  for (int i = 0; i < node->type.rank; i++)
    if (node->attributes.from[i] < 0) return false;
  return true;
}

// The group that could store a node as it stands: its home, or that of a value which nobody else reads and
// which the node is a view of, with the same fastest axis. 0: none.
static uint32_t store_where_made(Keep *keep, NodeId id) {
  NodeId value = id;
  while (!keep->fusing->home[value]) {
    if (!rearranges(node_at(keep, value)) || (value != id && keep->fusing->readers[value] != 1)) return 0;
    value = node_at(keep, value)->in[0];
  }
  uint32_t home = home_of(keep, value);
  if (value == id) return home;
  Place place;
  if (keep->fusing->readers[value] != 1 || keep->fusing->output[value]) return 0;
  if (!locate(keep->fusing, home, id, &place)) return 0;
  Place *of = &keep->fusing->place[value];
  if (!place_refresh(&group_of(keep, home)->space, of)) return 0;
  int last = of->rank, to = place.rank;
  while (last && !of->counts[last - 1]) last--;
  while (to && !place.counts[to - 1]) to--;
  bool same = !last || (to && of->atoms[last - 1][of->counts[last - 1] - 1] ==
                                  place.atoms[to - 1][place.counts[to - 1] - 1]);
  return same ? home : 0;
}

static bool sink(Keep *keep, NodeId id) {
  uint32_t home = store_where_made(keep, id);
  return home && !find_demand(keep, id, home) && try_group(keep->fusing, home, id);
}

// ---- concatenations: parts that nobody else reads are stored side by side by those who make them

enum { MAX_PARTS = 6 };
typedef struct Parts {
  NodeId list[MAX_PARTS];
  uint32_t groups[MAX_PARTS];
  int count;
} Parts;

static bool find_parts(Keep *keep, NodeId id, int axis, Parts *parts) {
  const Fusing *fusing = keep->fusing;
  for (int k = 0; k < 2; k++) {
    NodeId in = node_at(keep, id)->in[k];
    const Node *node = node_at(keep, in);
    if (fusing->readers[in] != 1 || fusing->output[in]) return false;
    if (node->op == OP_CONCAT && node->attributes.axis == axis && !fusing->home[in]) {
      if (!find_parts(keep, in, axis, parts)) return false;
      continue;
    }
    uint32_t group = store_where_made(keep, in);
    if (!group || parts->count == MAX_PARTS || node->op == OP_SCATTER || node->op == OP_UPDATE) return false;
    for (int i = 0; i < parts->count; i++)
      if (parts->groups[i] == group) return false;
    parts->list[parts->count] = in;
    parts->groups[parts->count++] = group;
  }
  return true;
}

static bool replaces_input(const Keep *keep, NodeId id) {
  const Graph *graph = keep->fusing->graph;
  for (size_t i = 0; i < graph->output_count && keep->fusing->output[id]; i++)
    if (graph->outputs[i].node == id && graph->outputs[i].update) return true;
  return false;
}

static bool store_parts(Keep *keep, NodeId id, Reason reason) {
  Fusing *fusing = keep->fusing;
  Parts parts = {.count = 0};
  if (node_at(keep, id)->op != OP_CONCAT || replaces_input(keep, id)) return false;
  if (!find_parts(keep, id, node_at(keep, id)->attributes.axis, &parts)) return false;
  for (int i = 0; i < parts.count; i++) {
    NodeId part = parts.list[i];
    const Group *group = group_of(keep, parts.groups[i]);
    if (group->kind == KIND_SCATTER || group->kind == KIND_UPDATE || group->stores == GROUP_MAX_STORES)
      return false;
    if (!fusing->home[part] && !try_group(fusing, parts.groups[i], part)) return false;
    if (!place_fits(group, &fusing->place[part])) return false;
  }
  for (int i = 0; i < parts.count; i++) {
    store(keep, parts.list[i], reason);
    fusing->fusion->inside[parts.list[i]] = id;
  }
  fusing->fusion->inside[id] = id;
  fusing->fusion->reason[id] = reason;
  return true;
}

static void keep_float(Keep *keep, NodeId id) {
  if (is_view(keep->fusing->graph, id) && sink(keep, id)) {
    store(keep, id, keep->fusing->output[id] ? REASON_OUTPUT : heavy_reason(&(Node){.op = OP_DOT}));
    return;
  }
  Reason reason = reason_to_store(keep, id);
  if (reason && store_parts(keep, id, reason)) return;
  if (reason)
    materialise(keep, id, reason);
  else
    compute_everywhere(keep, id);
}

// ---- what is known before: who is read outside of its home, and what each contraction's readers go back to

static void find_outside(Keep *keep) {
  enum { NOBODY = 0, SEVERAL = UINT32_MAX };
  const Fusing *fusing = keep->fusing;
  uint32_t *reader =
      ARENA_ARRAY(fusing->arena, uint32_t, fusing->graph->count); // the one group that computes with it
  for (NodeId id = fusing->graph->count; id-- > 1;) {
    if (!fusing->needed[id]) continue;
    uint32_t home = home_of(keep, id);
    keep->outside[id] = home && reader[id] && reader[id] != home;
    uint32_t group = home ? home : fusing->output[id] ? SEVERAL : reader[id];
    for (int k = 0; k < inputs_of(keep, id); k++) {
      uint32_t *of = &reader[node_at(keep, id)->in[k]];
      *of = *of == NOBODY || *of == group ? group : SEVERAL;
    }
  }
}

static void find_made(Keep *keep) {
  const Graph *graph = keep->fusing->graph;
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = node_at(keep, id);
    bool part = node->op == OP_INPUT && graph->inputs[node->attributes.input].role == INPUT_PART;
    Made made = part ? MADE_OF_PARTS : MADE_OF_NUMBERS;
    if (is_heavy(graph, id) || (node->op == OP_INPUT && !part)) made = MADE_OF_ANY;
    for (int k = 0; k < inputs_of(keep, id) && made; k++) {
      Made in = (Made)keep->made[node->in[k]];
      made = !in || in > made ? in : made;
    }
    keep->made[id] = (uint8_t)made;
  }
}

static double contracted(const Graph *graph, const Node *dot) {
  const Type *type = &graph->nodes[dot->in[0]].type;
  double steps = 1;
  for (int i = 0; i < dot->attributes.contract; i++) {
    int axis = dot->attributes.left[dot->attributes.batch + i];
    steps *= (double)extent_value(type->axes[axis].extent, typical_sizes);
  }
  return steps;
}

static void find_reuse(Keep *keep) {
  const Graph *graph = keep->fusing->graph;
  for (NodeId id = graph->count; id-- > 1;) {
    const Node *node = node_at(keep, id);
    if (!keep->fusing->needed[id]) continue;
    for (int k = 0; k < inputs_of(keep, id); k++) {
      float *of = &keep->reuse[node->in[k]], more = is_view(graph, id) ? keep->reuse[id] : 0;
      if (is_contraction(graph, node))
        more = (float)(node_weight(graph, id) * contracted(graph, node) / node_weight(graph, node->in[k]));
      if (more > *of) *of = more;
    }
  }
}

// Marks values that a contraction reads, through views.
static void mark_operands(Keep *keep, NodeId *operand_of) {
  for (NodeId id = keep->fusing->graph->count; id-- > 1;) {
    const Node *node = node_at(keep, id);
    bool contraction = is_contraction(keep->fusing->graph, node);
    if (!keep->fusing->needed[id]) continue;
    for (int k = 0; k < inputs_of(keep, id); k++)
      if (contraction || (is_view(keep->fusing->graph, id) && operand_of[id])) operand_of[node->in[k]] = id;
  }
}

// The last value of a contraction's group before its readers part: bias added, say. Where two or more members
// are needed elsewhere, this one is stored and they are computed again from it.
static void find_bases(Keep *keep) {
  Fusing *fusing = keep->fusing;
  size_t count = fusing->graph->count;
  NodeId *operand_of = ARENA_ARRAY(fusing->arena, NodeId, count);
  NodeId *only_reader = ARENA_ARRAY(fusing->arena, NodeId, count);
  int *wanted = ARENA_ARRAY(fusing->arena, int, fusing->group_count + 1);
  mark_operands(keep, operand_of);
  for (NodeId id = 1; id < count; id++)
    for (int k = 0; k < inputs_of(keep, id) && fusing->needed[id]; k++)
      only_reader[node_at(keep, id)->in[k]] = id;
  for (NodeId id = 1; id < count; id++) {
    uint32_t home = home_of(keep, id);
    if (!home || group_of(keep, home)->kind != KIND_DOT) continue;
    if (is_heavy(fusing->graph, id)) {
      keep->base[home] = id;
      for (NodeId next = id; fusing->readers[next] == 1 && !fusing->output[next];) { // through views
        next = only_reader[next];
        if (home_of(keep, next) == home)
          keep->base[home] = next;
        else if (fusing->home[next])
          break;
      }
    } else if (keep->outside[id] && !operand_of[id] && !fusing->output[id]) {
      wanted[home]++;
    }
  }
  for (uint32_t group = 1; group < fusing->group_count; group++) {
    NodeId base = keep->base[group];
    bool stored = base && keep->outside[base];
    if (base && !stored && wanted[group] < 2) keep->base[group] = 0;
  }
}

// ---- order --------------------------------------------------------------------------------------

typedef struct Order {
  uint32_t *heap; // groups that can run, the one with the smallest key first
  size_t count;
  NodeId *keys;
} Order;

static bool before(const Order *order, uint32_t a, uint32_t b) {
  return order->keys[a] != order->keys[b] ? order->keys[a] < order->keys[b] : a < b;
}

static void heap_push(Order *order, uint32_t group) {
  size_t at = order->count++;
  for (; at && before(order, group, order->heap[(at - 1) / 2]); at = (at - 1) / 2)
    order->heap[at] = order->heap[(at - 1) / 2];
  order->heap[at] = group;
}

static uint32_t heap_pop(Order *order) {
  uint32_t top = order->heap[0], last = order->heap[--order->count];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= order->count) break;
    if (child + 1 < order->count && before(order, order->heap[child + 1], order->heap[child])) child++;
    if (!before(order, order->heap[child], last)) break;
    order->heap[at] = order->heap[child];
    at = child;
  }
  if (order->count) order->heap[at] = last;
  return top;
}

static void add_edge(Keep *keep, GroupList *after, int *waits, uint32_t first, uint32_t second) {
  if (first == second) return;
  ARENA_PUSH(keep->fusing->arena, after[first].list, after[first].count, after[first].capacity, second);
  waits[second]++;
}

// Groups that overwrite a parameter or state come after all that read the old value, where that is possible.
static void order_updates(Keep *keep, GroupList *after, int *waits) {
  Fusing *fusing = keep->fusing;
  for (size_t i = 0; i < fusing->graph->output_count; i++) {
    const Output *output = &fusing->graph->outputs[i];
    uint32_t writer = fusing->fusion->group[output->node];
    if (!output->update || !writer) continue;
    NodeId old = graph_find_input((Graph *)(uintptr_t)fusing->graph, output->name)->node;
    for (uint32_t d = keep->first[old]; d; d = keep->demands[d].next) {
      uint32_t reader = keep->demands[d].group;
      if (reader == writer || group_depends(fusing, reader, writer)) continue;
      group_depend(fusing, writer, reader);
      add_edge(keep, after, waits, reader, writer);
    }
  }
}

static void number_groups(Keep *keep) {
  Fusing *fusing = keep->fusing;
  Fusion *fusion = fusing->fusion;
  size_t groups = fusing->group_count, nodes = fusing->graph->count;
  GroupList *after = ARENA_ARRAY(fusing->arena, GroupList, groups + 1);
  int *waits = ARENA_ARRAY(fusing->arena, int, groups + 1);
  uint32_t *number = ARENA_ARRAY(fusing->arena, uint32_t, groups + 1);
  Order order = {.heap = ARENA_ARRAY(fusing->arena, uint32_t, groups + 1),
                 .keys = ARENA_ARRAY(fusing->arena, NodeId, groups + 1)};
  for (NodeId id = 1; id < nodes; id++) {
    if (!fusion->group[id]) continue;
    NodeId read = fusion->inside[id] ? fusion->inside[id] : id;
    order.keys[fusion->group[id]] = id;
    for (uint32_t d = keep->first[read]; d; d = keep->demands[d].next)
      add_edge(keep, after, waits, fusion->group[id], keep->demands[d].group);
  }
  order_updates(keep, after, waits);
  for (uint32_t group = 1; group < groups; group++) { // what needs nothing comes just before whoever needs it
    NodeId earliest = 0;
    for (size_t i = 0; i < after[group].count; i++)
      if (!earliest || order.keys[after[group].list[i]] < earliest)
        earliest = order.keys[after[group].list[i]];
    if (!waits[group] && earliest) order.keys[group] = earliest - 1;
  }
  for (uint32_t group = 1; group < groups; group++)
    if (order.keys[group] && !waits[group]) heap_push(&order, group);
  while (order.count) {
    uint32_t group = heap_pop(&order);
    number[group] = ++fusion->group_count;
    for (size_t i = 0; i < after[group].count; i++)
      if (!--waits[after[group].list[i]]) heap_push(&order, after[group].list[i]);
  }
  for (NodeId id = 1; id < nodes; id++) {
    if (fusion->group[id] && !number[fusion->group[id]])
      die("fusion: the groups depend on each other in a circle");
    fusion->group[id] = number[fusion->group[id]];
  }
  for (NodeId id = 1; id < nodes; id++) { // a concatenation is there when its last part is
    NodeId whole = fusion->inside[id];
    if (whole && whole != id && fusion->group[whole] < fusion->group[id])
      fusion->group[whole] = fusion->group[id];
  }
}

void keep(Fusing *fusing) {
  size_t nodes = fusing->graph->count;
  Keep keep = {.fusing = fusing};
  keep.first = ARENA_ARRAY(fusing->arena, uint32_t, nodes);
  keep.outside = ARENA_ARRAY(fusing->arena, bool, nodes);
  keep.base = ARENA_ARRAY(fusing->arena, NodeId, fusing->group_count + nodes + 1);
  keep.made = ARENA_ARRAY(fusing->arena, uint8_t, nodes);
  find_outside(&keep);
  keep.reuse = ARENA_ARRAY(fusing->arena, float, nodes);
  find_made(&keep);
  find_reuse(&keep);
  find_bases(&keep);
  for (NodeId id = nodes; id-- > 1;) {
    if (!fusing->needed[id] || node_at(&keep, id)->op == OP_INPUT) continue;
    if (!keep.first[id] && !fusing->output[id]) continue;
    if (fusing->home[id])
      keep_member(&keep, id);
    else if (!is_free(fusing->graph, id) || fusing->output[id])
      keep_float(&keep, id);
  }
  number_groups(&keep);
}
