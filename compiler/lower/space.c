// Places of nodes in iteration spaces: a node and the place of its neighbour in, its own place out.
#include "compiler/lower/space.h"

#include <string.h>

void space_init(Space *space) {
  memset(space, 0, sizeof *space);
  space->count = 1;
}

static int add_atom(Space *space, Extent extent, const char *label) {
  if (space->count == SPACE_MAX_ATOMS) return 0;
  space->atoms[space->count] = (Atom){.extent = extent, .label = label};
  return space->count++;
}

static bool is_one(Extent extent) { return extent_is_constant(extent) && extent.offset == 1; }

bool space_add_axis(Space *space, Axis axis, Place *place) {
  int i = place->rank++;
  place->counts[i] = 0;
  if (is_one(axis.extent)) return true;
  int atom = add_atom(space, axis.extent, axis.label);
  place->counts[i] = 1;
  place->atoms[i][0] = (uint8_t)atom;
  return atom != 0;
}

bool space_add_type(Space *space, const Type *type, Place *place) {
  memset(place, 0, sizeof *place);
  for (int i = 0; i < type->rank; i++)
    if (!space_add_axis(space, type->axes[i], place)) return false;
  place->known = true;
  return true;
}

// ---- splitting atoms ----------------------------------------------------------------------------

static bool append_whole(const Space *space, uint8_t atom, uint8_t *list, int *count) {
  if (space->atoms[atom].outer)
    return append_whole(space, space->atoms[atom].outer, list, count) &&
           append_whole(space, space->atoms[atom].inner, list, count);
  if (*count == AXIS_MAX_ATOMS) return false;
  list[(*count)++] = atom;
  return true;
}

bool place_refresh(const Space *space, Place *place) {
  if (!place->known) return false;
  for (int i = 0; i < place->rank; i++) {
    uint8_t list[AXIS_MAX_ATOMS] = {0};
    int count = 0;
    for (int k = 0; k < place->counts[i]; k++)
      if (!append_whole(space, place->atoms[i][k], list, &count)) return place->known = false;
    memcpy(place->atoms[i], list, sizeof list);
    place->counts[i] = (uint8_t)count;
  }
  return true;
}

static bool divides(int64_t part, Extent whole) {
  return part > 0 && whole.scale % part == 0 && whole.offset % part == 0;
}

// Splits a whole atom so that its inner part has the given constant extent.
static bool split_atom(Space *space, uint8_t atom, int64_t inner) {
  Extent whole = space->atoms[atom].extent;
  if (!divides(inner, whole)) return false;
  Extent outer = {whole.symbol, whole.scale / inner, whole.offset / inner};
  int first = add_atom(space, outer, space->atoms[atom].label);
  int second = add_atom(space, extent_constant(inner), space->atoms[atom].label);
  if (!first || !second) return false;
  space->atoms[atom].outer = (uint8_t)first;
  space->atoms[atom].inner = (uint8_t)second;
  return true;
}

// Takes atoms from the end of a list until their product is `extent`, splitting the last one if it must.
// `length` shrinks to what is left; the taken ones go to axis `to` of the place.
static bool take_inner(Space *space, uint8_t *list, int *length, Extent extent, Place *place, int to) {
  uint8_t taken[AXIS_MAX_ATOMS];
  int count = 0;
  while (!is_one(extent)) {
    if (!*length || count == AXIS_MAX_ATOMS) return false;
    uint8_t atom = list[*length - 1];
    Extent have = space->atoms[atom].extent;
    if (extent_equal(have, extent)) {
      extent = extent_constant(1);
      --*length;
    } else if (extent_is_constant(have) && divides(have.offset, extent)) {
      extent = (Extent){extent.symbol, extent.scale / have.offset, extent.offset / have.offset};
      --*length;
    } else if (extent_is_constant(extent) && split_atom(space, atom, extent.offset)) {
      extent = extent_constant(1);
      list[*length - 1] = space->atoms[atom].outer;
      atom = space->atoms[atom].inner;
    } else {
      return false;
    }
    taken[count++] = atom;
  }
  place->counts[to] = (uint8_t)count;
  for (int i = 0; i < count; i++) place->atoms[to][i] = taken[count - 1 - i];
  return true;
}

// One list of atoms as several axes, row-major.
static bool partition(Space *space, const uint8_t *atoms, int count, const Axis *axes, int parts,
                      Place *place, int to) {
  uint8_t list[AXIS_MAX_ATOMS];
  memcpy(list, atoms, sizeof list);
  for (int i = parts; i-- > 0;)
    if (!take_inner(space, list, &count, axes[i].extent, place, to + i)) return false;
  return count == 0;
}

// ---- comparing ----------------------------------------------------------------------------------

bool place_equal(const Space *space, Place *a, Place *b) {
  if (!place_refresh(space, a) || !place_refresh(space, b) || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->counts[i] != b->counts[i] || memcmp(a->atoms[i], b->atoms[i], a->counts[i])) return false;
  return true;
}

uint64_t place_mask(const Place *place) {
  uint64_t mask = 0;
  for (int i = 0; i < place->rank; i++)
    for (int k = 0; k < place->counts[i]; k++) mask |= (uint64_t)1 << place->atoms[i][k];
  return mask;
}

uint64_t space_whole(const Space *space, uint64_t mask) {
  for (int atom = 1; atom < space->count; atom++) { // parts stand behind their whole
    const Atom *of = &space->atoms[atom];
    if (!(mask >> atom & 1) || !of->outer) continue;
    mask &= ~((uint64_t)1 << atom);
    mask |= (uint64_t)1 << of->outer | (uint64_t)1 << of->inner;
  }
  return mask;
}

// Splits the last atoms of two lists until they have the same extent.
static bool align_last(Space *a_space, uint8_t *a, Space *b_space, uint8_t *b) {
  Extent x = a_space->atoms[*a].extent, y = b_space->atoms[*b].extent;
  if (extent_equal(x, y)) return true;
  if (extent_is_constant(y) && split_atom(a_space, *a, y.offset)) return *a = a_space->atoms[*a].inner, true;
  if (extent_is_constant(x) && split_atom(b_space, *b, x.offset)) return *b = b_space->atoms[*b].inner, true;
  return false;
}

bool place_align(Space *a_space, Place *a, Space *b_space, Place *b, AtomPair *pairs, int *count) {
  if (a->rank != b->rank) return false;
  for (;;) {
    bool again = false;
    *count = 0;
    if (!place_refresh(a_space, a) || !place_refresh(b_space, b)) return false;
    for (int i = 0; i < a->rank && !again; i++) {
      int x = a->counts[i], y = b->counts[i];
      while (x && y && !again) {
        uint8_t left = a->atoms[i][--x], right = b->atoms[i][--y];
        pairs[(*count)++] = (AtomPair){left, right};
        if (!align_last(a_space, &left, b_space, &right)) return false;
        again = a_space->atoms[a->atoms[i][x]].outer || b_space->atoms[b->atoms[i][y]].outer;
      }
      if (!again && (x || y)) return false;
    }
    if (!again) return true;
  }
}

// ---- from a node to its operands ----------------------------------------------------------------

static void copy_axis(Place *to, int i, const Place *from, int k) {
  to->counts[i] = from->counts[k];
  memcpy(to->atoms[i], from->atoms[k], AXIS_MAX_ATOMS);
}

static void copy_axes(Place *to, int at, const Place *from, int begin, int end) {
  for (int i = begin; i < end; i++) copy_axis(to, at + i - begin, from, i);
}

static bool concatenate(const Place *from, int axis, int count, Place *to, int at) {
  int length = 0;
  for (int i = axis; i < axis + count; i++)
    for (int k = 0; k < from->counts[i]; k++) {
      if (length == AXIS_MAX_ATOMS) return false;
      to->atoms[at][length++] = from->atoms[i][k];
    }
  to->counts[at] = (uint8_t)length;
  return true;
}

uint32_t reduced_axes(const Node *node) { return node->attributes.axes; }

bool place_of_operand(Space *space, const Graph *graph, NodeId id, const Place *given, int k,
                      Place *operand) {
  const Node *node = &graph->nodes[id];
  const Type *type = &graph->nodes[node->in[k]].type;
  int axis = node->attributes.axis, count = node->attributes.count;
  Place place = *given;
  memset(operand, 0, sizeof *operand);
  operand->rank = (uint8_t)type->rank;
  if (!place_refresh(space, &place)) return false;
  if (op_table[node->op].properties & ELEMENTWISE) {
    *operand = place;
    return true;
  }
  switch (node->op) {
  case OP_ARRANGE:
    for (int i = 0; i < node->type.rank; i++)
      if (node->attributes.from[i] >= 0) copy_axis(operand, node->attributes.from[i], &place, i);
    return operand->known = true;
  case OP_SPLIT:
    copy_axes(operand, 0, &place, 0, axis);
    if (!concatenate(&place, axis, count, operand, axis)) return false;
    copy_axes(operand, axis + 1, &place, axis + count, place.rank);
    return operand->known = true;
  case OP_MERGE:
    copy_axes(operand, 0, &place, 0, axis);
    if (!partition(space, place.atoms[axis], place.counts[axis], type->axes + axis, count, operand, axis))
      return false;
    copy_axes(operand, axis + count, &place, axis + 1, place.rank);
    return operand->known = true;
  case OP_GATHER:
    if (k != 1) return false;
    copy_axes(operand, 0, &place, 0, type->rank);
    return operand->known = true;
  case OP_SCATTER: { // one-hot: the value's element does not depend on the row
    int batch = node->attributes.batch;
    if (graph->nodes[node->in[0]].type.rank != batch) return false;
    copy_axes(operand, 0, &place, 0, batch);
    if (k) copy_axes(operand, batch, &place, batch + 1, place.rank);
    return operand->known = true;
  }
  default: return false;
  }
}

bool place_near_operand(Space *space, const Graph *graph, NodeId id, const Place *given, int k,
                        Place *operand) {
  const Node *node = &graph->nodes[id];
  Place place = *given;
  int axis = node->attributes.axis, batch = node->attributes.batch;
  if (place_of_operand(space, graph, id, given, k, operand)) return true;
  if (!place_refresh(space, &place)) return false;
  memset(operand, 0, sizeof *operand);
  operand->rank = (uint8_t)graph->nodes[node->in[k]].type.rank;
  switch (node->op) {
  case OP_SLICE:
  case OP_PAD:
  case OP_CONCAT: *operand = place; return true;
  case OP_WINDOW:
    copy_axes(operand, 0, &place, 0, axis);
    if (!concatenate(&place, axis, 2, operand, axis)) return false;
    copy_axes(operand, axis + 1, &place, axis + 2, place.rank);
    return operand->known = true;
  case OP_GATHER:
    copy_axes(operand, 0, &place, 0, batch);
    copy_axes(operand, batch + 1, &place, graph->nodes[node->in[1]].type.rank, place.rank);
    return operand->known = true;
  default: return false;
  }
}

// ---- from an operand to the node ----------------------------------------------------------------

// New axes take the unused atoms of `fill` in order.
static bool fill_new_axes(Space *space, const Node *node, uint64_t fill, Place *place) {
  uint8_t list[AXIS_MAX_ATOMS] = {0};
  Axis fresh[MAX_RANK];
  int to[MAX_RANK], axes = 0, count = 0;
  for (int i = 0; i < node->type.rank; i++)
    if (node->attributes.from[i] < 0) to[axes] = i, fresh[axes++] = node->type.axes[i];
  if (!axes) return true;
  fill = space_whole(space, fill);
  for (int atom = 1; atom < space->count; atom++) {
    if (!(fill >> atom & 1)) continue;
    if (count == AXIS_MAX_ATOMS) return false;
    list[count++] = (uint8_t)atom;
  }
  Place parts = {.known = true, .rank = (uint8_t)axes};
  bool ones = true;
  for (int i = 0; i < axes; i++) ones = ones && is_one(fresh[i].extent);
  if (!ones && !partition(space, list, count, fresh, axes, &parts, 0)) return false;
  for (int i = 0; i < axes; i++) copy_axis(place, to[i], &parts, i);
  return true;
}

bool place_of_result(Space *space, const Graph *graph, NodeId id, int k, const Place *given, uint64_t fill,
                     Place *place) {
  const Node *node = &graph->nodes[id];
  int axis = node->attributes.axis, count = node->attributes.count;
  Place from = *given;
  memset(place, 0, sizeof *place);
  place->rank = (uint8_t)node->type.rank;
  if (!place_refresh(space, &from)) return false;
  if (op_table[node->op].properties & ELEMENTWISE) {
    *place = from;
    return true;
  }
  switch (node->op) {
  case OP_ARRANGE:
    for (int i = 0; i < node->type.rank; i++)
      if (node->attributes.from[i] >= 0) copy_axis(place, i, &from, node->attributes.from[i]);
    return place->known = fill_new_axes(space, node, space_whole(space, fill) & ~place_mask(&from), place);
  case OP_SPLIT:
    copy_axes(place, 0, &from, 0, axis);
    if (!partition(space, from.atoms[axis], from.counts[axis], node->type.axes + axis, count, place, axis))
      return false;
    copy_axes(place, axis + count, &from, axis + 1, from.rank);
    return place->known = true;
  case OP_MERGE:
    copy_axes(place, 0, &from, 0, axis);
    if (!concatenate(&from, axis, count, place, axis)) return false;
    copy_axes(place, axis + 1, &from, axis + count, from.rank);
    return place->known = true;
  case OP_SUM:
  case OP_REDMAX: {
    int to = 0;
    for (int i = 0; i < from.rank; i++)
      if (!(reduced_axes(node) >> i & 1)) copy_axis(place, to++, &from, i);
    return place->known = true;
  }
  default: return (void)k, false;
  }
}
