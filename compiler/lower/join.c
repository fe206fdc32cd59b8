// The forward half of fusion: nodes in order -> homes and groups.
//
// A contraction, a reduction, a scatter opens a group. An elementwise node joins the group of an operand if
// its elements stand one to one in the group's iteration space: bias, activation and residual after a
// contraction, the normalised row after its statistics. Reductions over the same rows share a group, and two
// groups of rows become one where a node reads both. What joins nobody floats: whoever reads it computes it.
#include "compiler/lower/groups.h"

#include <string.h>

enum { WALK_LIMIT = 256, ROW_MAX_ALONE = 4096, LOOK_THROUGH = 3, RECENT_GROUPS = 12, RECENT_NODES = 32 };

static const Node *node_at(const Fusing *fusing, NodeId id) { return &fusing->graph->nodes[id]; }

static bool at_home(const Fusing *fusing, NodeId id, uint32_t group) {
  return fusing->home[id] && group_find(fusing, fusing->home[id]) == group;
}

bool made_from(const Fusing *fusing, NodeId id, uint32_t group) {
  if (fusing->home[id]) return at_home(fusing, id, group);
  const Homes *homes = &fusing->homes[id];
  for (int i = 0; i < homes->count; i++)
    if (group_find(fusing, homes->list[i]) == group) return true;
  return homes->many;
}

// ---- places -------------------------------------------------------------------------------------

// What reads a value of another group may be computed again where that value is stored.
static bool look_through(const Fusing *fusing, NodeId node, NodeId operand) {
  if (!fusing->home[node]) return true;
  return !fusing->home[operand] ||
         group_find(fusing, fusing->home[operand]) == group_find(fusing, fusing->home[node]);
}

// `far`: how many nodes of other groups to look through.
static bool locate_node(Fusing *fusing, uint32_t id, NodeId node, int far, Place *place) {
  Group *group = fusing->groups[id];
  if (at_home(fusing, node, id)) {
    *place = fusing->place[node];
    return place_refresh(&group->space, place);
  }
  for (int i = 0; i < group->external_count; i++)
    if (group->externals[i].node == node) {
      *place = group->externals[i].place;
      return place_refresh(&group->space, place);
    }
  if (fusing->home[node]) far--;
  if (far < 0 || is_heavy(fusing->graph, node) || fusing->visited[node] == fusing->visit) return false;
  fusing->visited[node] = fusing->visit;
  bool found = false;
  for (int k = 0; k < op_table[node_at(fusing, node)->op].inputs; k++) {
    Place operand, result;
    if (!look_through(fusing, node, node_at(fusing, node)->in[k])) continue;
    if (!locate_node(fusing, id, node_at(fusing, node)->in[k], far, &operand) ||
        !place_of_result(&group->space, fusing->graph, node, k, &operand, group->inner, &result))
      continue;
    if (found && place_refresh(&group->space, place) &&
        __builtin_popcountll(place_mask(&result)) <= __builtin_popcountll(place_mask(place)))
      continue;
    *place = result;
    found = true;
  }
  return found && place_refresh(&group->space, place);
}

bool locate(Fusing *fusing, uint32_t group, NodeId id, Place *place) {
  fusing->visit++;
  return locate_node(fusing, group_find(fusing, group), id, LOOK_THROUGH, place);
}

// Between two nodes of a group only what nobody will ever want to store can float: it would be read from
// memory by the very group that it is made from.
static bool stays_inside(const Fusing *fusing, NodeId id) {
  return is_view(fusing->graph, id) && node_at(fusing, id)->op != OP_CONCAT && !fusing->output[id];
}

static bool consistent_node(Fusing *fusing, uint32_t id, NodeId node, Place *place, int *steps) {
  Group *group = fusing->groups[id];
  if (++*steps > WALK_LIMIT) return false;
  if (at_home(fusing, node, id)) return place_equal(&group->space, &fusing->place[node], place);
  if (!made_from(fusing, node, id)) return true;
  if (*steps > 1 && !stays_inside(fusing, node)) return false;
  for (int k = 0; k < op_table[node_at(fusing, node)->op].inputs; k++) {
    NodeId in = node_at(fusing, node)->in[k];
    Place operand;
    if (!made_from(fusing, in, id)) continue;
    if (!place_of_operand(&group->space, fusing->graph, node, place, k, &operand)) return false;
    if (!consistent_node(fusing, id, in, &operand, steps)) return false;
  }
  return true;
}

bool consistent(Fusing *fusing, uint32_t group, NodeId id, const Place *place) {
  Place at = *place;
  int steps = 0;
  return consistent_node(fusing, group_find(fusing, group), id, &at, &steps);
}

static int64_t constant_elements(const Space *space, uint64_t mask) {
  int64_t elements = 1;
  for (int atom = 1; atom < space->count; atom++) {
    if (!(mask >> atom & 1)) continue;
    if (!extent_is_constant(space->atoms[atom].extent) || elements > ROW_MAX_ALONE) return ROW_MAX_ALONE + 1;
    elements *= space->atoms[atom].extent.offset;
  }
  return elements;
}

bool place_fits(const Group *group, Place *place) {
  if (!place_refresh(&group->space, place)) return false;
  uint64_t rows = space_whole(&group->space, group->rows), inner = space_whole(&group->space, group->inner);
  uint64_t mask = place_mask(place);
  switch (group->kind) {
  case KIND_MAP:
  case KIND_DOT:
  case KIND_COLUMN: return mask == rows;
  case KIND_ROW: // a single long row would leave all other processors idle
    return mask == rows ||
           (mask == (rows | inner) && (rows || constant_elements(&group->space, inner) <= ROW_MAX_ALONE));
  default: return false;
  }
}

// ---- what a group reads and does ----------------------------------------------------------------

static bool add_leaf(Group *group, NodeId id) {
  for (int i = 0; i < group->leaf_count; i++)
    if (group->leaves[i] == id) return true;
  if (group->leaf_count == GROUP_MAX_LEAVES) return false;
  group->leaves[group->leaf_count++] = id;
  return true;
}

static bool add_leaves(Fusing *fusing, uint32_t id, NodeId node, bool top) {
  if (is_free(fusing->graph, node) || at_home(fusing, node, id)) return true;
  if (fusing->home[node] || node_at(fusing, node)->op == OP_INPUT) return add_leaf(fusing->groups[id], node);
  if (!top && fusing->visited[node] == fusing->visit) return true;
  fusing->visited[node] = fusing->visit;
  for (int k = 0; k < op_table[node_at(fusing, node)->op].inputs; k++)
    if (!add_leaves(fusing, id, node_at(fusing, node)->in[k], false)) return false;
  return true;
}

// Large values that a reduction reads over the group's whole space: other reductions over them belong here.
static void add_externals(Fusing *fusing, uint32_t id, NodeId node, const Place *place, int far) {
  Group *group = fusing->groups[id];
  if (far < 0 || group->external_count == MAX_EXTERNALS || at_home(fusing, node, id)) return;
  if (fusing->home[node] || node_at(fusing, node)->op == OP_INPUT) {
    Place at = *place;
    uint64_t all = space_whole(&group->space, group->rows | group->inner);
    if (!place_refresh(&group->space, &at) || place_mask(&at) != all) return;
    for (int i = 0; i < group->external_count; i++)
      if (group->externals[i].node == node) return;
    group->externals[group->external_count++] = (External){node, at};
    far--;
  }
  if (is_heavy(fusing->graph, node)) return;
  for (int k = 0; k < op_table[node_at(fusing, node)->op].inputs; k++) {
    Place operand;
    if (look_through(fusing, node, node_at(fusing, node)->in[k]) &&
        place_of_operand(&group->space, fusing->graph, node, place, k, &operand))
      add_externals(fusing, id, node_at(fusing, node)->in[k], &operand, far);
  }
}

static void set_home(Fusing *fusing, NodeId id, uint32_t group, const Place *place) {
  fusing->home[id] = group;
  fusing->place[id] = *place;
  for (int i = 0; i < fusing->homes[id].count; i++) group_depend(fusing, group, fusing->homes[id].list[i]);
}

uint32_t open_group(Fusing *fusing, NodeId id, GroupKind kind) {
  uint32_t number = group_new(fusing, kind);
  Group *group = fusing->groups[number];
  Place place;
  space_add_type(&group->space, &node_at(fusing, id)->type, &place);
  group->rows = place_mask(&place);
  for (int i = 0; i < place.rank; i++)
    if (place.counts[i]) group->fastest = place.atoms[i][place.counts[i] - 1];
  group->members_kept = 1;
  fusing->visit++;
  add_leaves(fusing, number, id, true);
  set_home(fusing, id, number, &place);
  return number;
}

// ---- limits, tried on a copy and undone where one is passed -------------------------------------

static int atom_count(const Space *space, uint64_t mask) {
  return __builtin_popcountll(space_whole(space, mask));
}

// Axes that the kernel will have if each reduction binds its own.
static int axis_count(const Group *group, int reductions) {
  return atom_count(&group->space, group->rows | group->inner) +
         reductions * atom_count(&group->space, group->inner);
}

static bool within_limits(Fusing *fusing, uint32_t id, NodeId node) {
  Group *group = fusing->groups[id];
  if (axis_count(group, group->reductions) > GROUP_MAX_AXES) return false;
  int leaves = group->leaf_count, kept = group->members_kept + 1;
  Measure work = measure(fusing, node);
  for (int k = 0; k < op_table[node_at(fusing, node)->op].inputs; k++) { // its only reader comes in
    NodeId in = node_at(fusing, node)->in[k];
    if (at_home(fusing, in, id) && fusing->readers[in] == 1 && !fusing->output[in]) kept--;
  }
  fusing->visit++;
  if (group->ops + work.ops <= GROUP_MAX_OPS && kept <= GROUP_MAX_STORES &&
      add_leaves(fusing, id, node, true)) {
    group->ops += work.ops;
    group->members_kept = kept;
    return true;
  }
  group->leaf_count = leaves;
  return false;
}

static bool closes_circle(Fusing *fusing, const Homes *homes, uint32_t group) {
  for (int i = 0; i < homes->count; i++)
    if (group_depends(fusing, homes->list[i], group)) return true;
  return false;
}

// ---- merging two groups of rows that a node reads -----------------------------------------------

static void map_place(Place *place, const Space *from, const uint8_t *atoms) {
  if (!place_refresh(from, place)) return;
  for (int i = 0; i < place->rank; i++)
    for (int k = 0; k < place->counts[i]; k++) {
      place->atoms[i][k] = atoms[place->atoms[i][k]];
      if (!place->atoms[i][k]) place->known = false;
    }
}

// Atoms of `from` in terms of those of `to`: by where both have the node, and inner ones in order.
static bool map_atoms(Group *to, Group *from, Place *to_place, Place *from_place, uint8_t *atoms) {
  AtomPair pairs[MAX_RANK * AXIS_MAX_ATOMS];
  int count;
  memset(atoms, 0, SPACE_MAX_ATOMS);
  if (!place_align(&to->space, to_place, &from->space, from_place, pairs, &count)) return false;
  for (int i = 0; i < count; i++) atoms[pairs[i].b] = pairs[i].a;
  uint64_t to_inner = space_whole(&to->space, to->inner), from_inner = space_whole(&from->space, from->inner);
  uint64_t to_rows = space_whole(&to->space, to->rows), from_rows = space_whole(&from->space, from->rows);
  if (__builtin_popcountll(to_inner) != __builtin_popcountll(from_inner)) return false;
  if (__builtin_popcountll(to_rows) != __builtin_popcountll(from_rows)) return false;
  while (from_inner) {
    int a = __builtin_ctzll(to_inner), b = __builtin_ctzll(from_inner);
    to_inner &= to_inner - 1;
    from_inner &= from_inner - 1;
    if (!atoms[b]) atoms[b] = (uint8_t)a;
    if (atoms[b] != a || !extent_equal(to->space.atoms[a].extent, from->space.atoms[b].extent)) return false;
  }
  for (; from_rows; from_rows &= from_rows - 1) {
    int b = __builtin_ctzll(from_rows);
    if (!atoms[b] || !(to_rows >> atoms[b] & 1)) return false;
  }
  return true;
}

static bool merge_limits(const Group *a, const Group *b) {
  int reductions = a->reductions + b->reductions;
  return a->ops + b->ops <= GROUP_MAX_OPS && a->members_kept + b->members_kept <= GROUP_MAX_STORES &&
         reductions <= GROUP_MAX_REDUCTIONS && axis_count(a, reductions) <= GROUP_MAX_AXES &&
         a->leaf_count + b->leaf_count <= GROUP_MAX_LEAVES;
}

static bool merge_rows(Fusing *fusing, uint32_t into, uint32_t from, NodeId id) {
  Group *to = fusing->groups[into], *of = fusing->groups[from];
  Place to_place, from_place;
  uint8_t atoms[SPACE_MAX_ATOMS];
  if (to->kind != of->kind || (to->kind != KIND_ROW && to->kind != KIND_COLUMN)) return false;
  if (!merge_limits(to, of) || !groups_independent(fusing, into, from)) return false;
  if (!locate(fusing, into, id, &to_place) || !locate(fusing, from, id, &from_place)) return false;
  if (!map_atoms(to, of, &to_place, &from_place, atoms)) return false;
  for (NodeId node = 1; node < id; node++) {
    if (!at_home(fusing, node, from)) continue;
    map_place(&fusing->place[node], &of->space, atoms);
    map_place(&fusing->operand[node], &of->space, atoms);
  }
  for (int i = 0; i < of->external_count && to->external_count < MAX_EXTERNALS; i++) {
    map_place(&of->externals[i].place, &of->space, atoms);
    if (of->externals[i].place.known) to->externals[to->external_count++] = of->externals[i];
  }
  for (int i = 0; i < of->leaf_count; i++)
    if (!at_home(fusing, of->leaves[i], into)) add_leaf(to, of->leaves[i]);
  to->ops += of->ops;
  to->reductions += of->reductions;
  to->members_kept += of->members_kept;
  groups_merge(fusing, into, from);
  return true;
}

// ---- elementwise nodes --------------------------------------------------------------------------

bool try_group(Fusing *fusing, uint32_t group, NodeId id) {
  Place place;
  if (!locate(fusing, group, id, &place) || !place_fits(fusing->groups[group], &place)) return false;
  if (!consistent(fusing, group, id, &place) || closes_circle(fusing, &fusing->homes[id], group))
    return false;
  if (!within_limits(fusing, group, id)) return false;
  set_home(fusing, id, group, &place);
  return true;
}

// Groups that the node is made from, the latest first.
static int candidates(Fusing *fusing, const Homes *homes, uint32_t *list) {
  int count = 0;
  for (int i = 0; i < homes->count; i++) {
    uint32_t group = group_find(fusing, homes->list[i]);
    int at = count++;
    while (at && fusing->groups[list[at - 1]]->level < fusing->groups[group]->level) {
      list[at] = list[at - 1];
      at--;
    }
    list[at] = group;
  }
  return count;
}

static bool try_join(Fusing *fusing, NodeId id) {
  uint32_t list[MAX_SOURCES];
  const Homes *homes = &fusing->homes[id];
  if (homes->many) return false;
  int count = candidates(fusing, homes, list);
  for (int i = 0; i < count; i++)
    for (int k = i + 1; k < count; k++)
      if (list[i] != list[k] && !fusing->groups[list[i]]->into && !fusing->groups[list[k]]->into)
        merge_rows(fusing, list[i], list[k], id);
  for (int i = 0; i < count; i++)
    if (try_group(fusing, group_find(fusing, list[i]), id)) return true;
  return false;
}

// ---- reductions ---------------------------------------------------------------------------------

// Does the largest value that is read have its fastest axis among the reduced ones?
static void vote_fastest(Fusing *fusing, Space *space, NodeId id, const Place *place, uint64_t reduced,
                         int depth, double *votes) {
  if (depth > 32) return;
  if (fusing->home[id] || node_at(fusing, id)->op == OP_INPUT) {
    Place at = *place;
    if (!place_refresh(space, &at)) return;
    int last = at.rank;
    while (last && !at.counts[last - 1]) last--;
    if (!last) return;
    bool bound = space_whole(space, reduced) >> at.atoms[last - 1][at.counts[last - 1] - 1] & 1;
    *votes += bound ? node_weight(fusing->graph, id) : -node_weight(fusing->graph, id);
    return;
  }
  for (int k = 0; k < op_table[node_at(fusing, id)->op].inputs; k++) {
    Place operand;
    if (node_at(fusing, id)->op == OP_GATHER && k) continue; // where, not what
    if (place_near_operand(space, fusing->graph, id, place, k, &operand))
      vote_fastest(fusing, space, node_at(fusing, id)->in[k], &operand, reduced, depth + 1, votes);
  }
}

static uint64_t reduced_mask(const Node *node, const Place *operand) {
  uint64_t mask = 0;
  for (int i = 0; i < operand->rank; i++)
    for (int k = 0; k < operand->counts[i] && reduced_axes(node) >> i & 1; k++)
      mask |= (uint64_t)1 << operand->atoms[i][k];
  return mask;
}

static GroupKind reduction_kind(Fusing *fusing, NodeId id) {
  const Node *node = node_at(fusing, id);
  Space space;
  Place place;
  double votes = 0;
  space_init(&space);
  space_add_type(&space, &node_at(fusing, node->in[0])->type, &place);
  uint64_t reduced = reduced_mask(node, &place);
  vote_fastest(fusing, &space, node->in[0], &place, reduced, 0, &votes);
  if (votes == 0) return reduced_axes(node) >> (place.rank - 1) & 1 ? KIND_ROW : KIND_COLUMN;
  return votes > 0 ? KIND_ROW : KIND_COLUMN;
}

// Joins a group whose reductions bind the same axes of the same rows.
static bool try_rows(Fusing *fusing, uint32_t id, NodeId reduction, GroupKind kind) {
  Group *group = fusing->groups[id];
  const Node *node = node_at(fusing, reduction);
  Place operand, place;
  if (group->kind != kind || group->reductions == GROUP_MAX_REDUCTIONS) return false;
  if (axis_count(group, group->reductions + 1) > GROUP_MAX_AXES) return false;
  if (!locate(fusing, id, node->in[0], &operand)) return false;
  if (!place_of_result(&group->space, fusing->graph, reduction, 0, &operand, 0, &place)) return false;
  if (place_mask(&place) != space_whole(&group->space, group->rows)) return false;
  if (reduced_mask(node, &operand) != space_whole(&group->space, group->inner)) return false;
  if (!consistent(fusing, id, node->in[0], &operand)) return false;
  if (closes_circle(fusing, &fusing->homes[reduction], id) || !within_limits(fusing, id, reduction))
    return false;
  group->reductions++;
  set_home(fusing, reduction, id, &place);
  fusing->operand[reduction] = operand;
  add_externals(fusing, id, node->in[0], &operand, LOOK_THROUGH);
  return true;
}

// One of the latest groups that already reduce a large value that this one reads.
static bool try_siblings(Fusing *fusing, NodeId reduction, GroupKind kind) {
  size_t end = fusing->group_count;
  for (size_t i = end; i > 1 && i-- + RECENT_GROUPS > end;) {
    const Group *group = fusing->groups[i];
    if (group->into || group->kind != kind || !group->external_count) continue;
    if (try_rows(fusing, (uint32_t)i, reduction, kind)) return true;
  }
  return false;
}

static void home_reduction(Fusing *fusing, NodeId id) {
  const Node *node = node_at(fusing, id);
  GroupKind kind = reduction_kind(fusing, id);
  uint32_t list[MAX_SOURCES];
  int count = candidates(fusing, &fusing->homes[id], list);
  for (int i = 0; i < count; i++)
    if (try_rows(fusing, list[i], id, kind)) return;
  if (try_siblings(fusing, id, kind)) return;
  uint32_t number = group_new(fusing, kind);
  Group *group = fusing->groups[number];
  Place operand, place;
  space_add_type(&group->space, &node_at(fusing, node->in[0])->type, &operand);
  place_of_result(&group->space, fusing->graph, id, 0, &operand, 0, &place);
  group->rows = place_mask(&place);
  group->inner = reduced_mask(node, &operand);
  for (int i = 0; i < operand.rank; i++)
    if (operand.counts[i]) group->fastest = operand.atoms[i][operand.counts[i] - 1];
  group->reductions = group->members_kept = 1;
  group->ops = measure(fusing, id).ops;
  fusing->visit++;
  add_leaves(fusing, number, id, true);
  set_home(fusing, id, number, &place);
  fusing->operand[id] = operand;
  add_externals(fusing, number, node->in[0], &operand, LOOK_THROUGH);
}

// ---- all nodes ----------------------------------------------------------------------------------

static GroupKind heavy_kind(const Fusing *fusing, const Node *node) {
  switch (node->op) {
  case OP_SCATTER: return KIND_SCATTER;
  case OP_UPDATE: return KIND_UPDATE;
  case OP_FOLD:
    return fold_terms(fusing->graph, node) && fold_terms(fusing->graph, node) <= FOLD_MAX_TERMS ? KIND_MAP
                                                                                                : KIND_COLUMN;
  default: return KIND_DOT;
  }
}

// Views float, but for those that are stored in any case.
static bool joins(const Fusing *fusing, NodeId id) {
  return op_table[node_at(fusing, id)->op].properties & ELEMENTWISE ||
         (is_view(fusing->graph, id) && fusing->output[id]);
}

static bool same_part(const Fusing *fusing, NodeId a, NodeId b) {
  const Node *x = node_at(fusing, a), *y = node_at(fusing, b);
  const Type *left = &node_at(fusing, x->in[1])->type, *right = &node_at(fusing, y->in[1])->type;
  bool same = x->attributes.axis == y->attributes.axis && left->rank == right->rank &&
              extent_equal(x->attributes.start, y->attributes.start);
  for (int i = 0; i < left->rank && same; i++)
    same = extent_equal(left->axes[i].extent, right->axes[i].extent);
  return same;
}

// Keys and values go into their caches together.
static bool try_updates(Fusing *fusing, NodeId id) {
  for (NodeId other = id; other-- > 1 && id - other < RECENT_NODES;) {
    if (node_at(fusing, other)->op != OP_UPDATE || !fusing->home[other] || !same_part(fusing, id, other))
      continue;
    uint32_t group = group_find(fusing, fusing->home[other]);
    if (made_from(fusing, node_at(fusing, id)->in[0], group) ||
        closes_circle(fusing, &fusing->homes[id], group) || !within_limits(fusing, group, id))
      return false;
    set_home(fusing, id, group, &fusing->place[other]);
    return true;
  }
  return false;
}

static void home_node(Fusing *fusing, NodeId id) {
  const Node *node = node_at(fusing, id);
  if (node->op == OP_UPDATE && try_updates(fusing, id)) return;
  if (node->op == OP_SUM || node->op == OP_REDMAX) {
    home_reduction(fusing, id);
  } else if (is_heavy(fusing->graph, id)) {
    open_group(fusing, id, heavy_kind(fusing, node));
  } else if (!joins(fusing, id) || !try_join(fusing, id)) {
    Measure work = measure(fusing, id);
    if (fusing->homes[id].many || work.ops > FLOAT_MAX_OPS || work.leaves > FLOAT_MAX_LEAVES)
      open_group(fusing, id, KIND_MAP);
  }
}

void join(Fusing *fusing) {
  for (NodeId id = 1; id < fusing->graph->count; id++) {
    const Node *node = node_at(fusing, id);
    if (!fusing->needed[id] || node->op == OP_INPUT || is_free(fusing->graph, id)) continue;
    for (int k = 0; k < op_table[node->op].inputs; k++)
      homes_add_node(fusing, &fusing->homes[id], node->in[k]);
    home_node(fusing, id);
  }
}
