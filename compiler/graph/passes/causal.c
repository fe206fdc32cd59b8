// Forward graph over [B, T] -> per value, which positions it depends on. A small abstract interpretation: how
// far each axis of time reaches ahead, which masks make values constant for later positions, and which values
// are plain functions of indices (so that `j <= i` is understood).
//
// A sum over positions is causal where its terms are 0 for the later ones, a maximum where they are -inf.
// Values are taken to be finite: 0 * x is 0, -inf + x is -inf.
#include "compiler/graph/passes/causal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Analysis {
  const Graph *graph;
  Diagnostics *diagnostics;
  Moment *moments;
} Analysis;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
// NEVER and ALWAYS stay what they are.
static int64_t moved(int64_t reach, int64_t by) {
  if (reach <= NEVER || reach >= ALWAYS) return reach;
  return larger(NEVER, smaller(ALWAYS, reach + by));
}

// At most ALWAYS.
static int64_t times(int64_t a, int64_t b) { return (double)a * (double)b < (double)ALWAYS ? a * b : ALWAYS; }

static const Type *type_at(const Analysis *a, NodeId node) { return graph_type(a->graph, node); }

static bool is_whole(DType dtype) { return dtype == DTYPE_I32 || dtype == DTYPE_I64; }

static bool is_constant(const Moment *moment) {
  for (int i = 0; i < MAX_RANK; i++)
    if (moment->coefficient[i] != 0) return false;
  return moment->affine;
}

static Fact fact_of(const Moment *moment, int i, int j) {
  if (is_constant(moment)) return (Fact){true, moment->offset, NEVER};
  return moment->facts ? (*moment->facts)[i][j] : (Fact){0};
}

static void set_fact(Analysis *a, Moment *moment, int i, int j, Fact fact) {
  if (!fact.known || isnan(fact.value)) return;
  if (!moment->facts) moment->facts = arena_alloc(a->graph->arena, sizeof *moment->facts);
  (*moment->facts)[i][j] = fact;
}

// ---- constants and comparisons ------------------------------------------------------------------

// The operation on numbers that are known. False: not a number, or none of the dtype.
static bool scalar(Op op, DType dtype, int count, const double *x, double *result) {
  if (op == OP_CAST && !dtype_is_float(dtype) && !(fabs(x[0]) < 1e15)) return false;
  *result = evaluate_element(op, dtype, x[0], count > 1 ? x[1] : 0, count > 2 ? x[2] : 0);
  return !isnan(*result);
}

// What operand `i` with this value makes of the result, whatever the other is.
static bool absorbs(Op op, int i, double value, double *result) {
  *result = value;
  switch (op) {
  case OP_MUL:
  case OP_AND: return value == 0;
  case OP_DIV: return value == 0 && i == 0;
  case OP_OR: return value != 0;
  case OP_ADD:
  case OP_MIN: return value == -INFINITY;
  case OP_SUB: return value == -INFINITY && i == 0;
  default: return false;
  }
}

static Fact later(Fact fact, int64_t beyond) {
  fact.beyond = larger(fact.beyond, beyond);
  return fact;
}

static Fact select_fact(const Fact *x) {
  if (x[0].known) return later(x[0].value != 0 ? x[1] : x[2], x[0].beyond);
  bool same = x[1].known && x[2].known && x[1].value == x[2].value;
  return same ? later(x[1], x[2].beyond) : (Fact){0};
}

static Fact combine(Op op, DType dtype, int count, const Fact *x) {
  if (op == OP_SELECT) return select_fact(x);
  Fact best = {0};
  double values[MAX_INPUTS] = {0}, result;
  int64_t beyond = NEVER;
  bool all = true;
  for (int i = 0; i < count; i++) {
    all &= x[i].known;
    values[i] = x[i].value;
    beyond = larger(beyond, x[i].beyond);
    if (x[i].known && absorbs(op, i, x[i].value, &result) && (!best.known || x[i].beyond < best.beyond))
      best = (Fact){true, result, x[i].beyond};
  }
  if (!best.known && all && scalar(op, dtype, count, values, &result)) best = (Fact){true, result, beyond};
  return best;
}

// With difference = x - y = slope * (j - i) + offset, what x < y, x <= y or x == y is once j - i is large
// enough.
static Fact comparison(Op op, double slope, double offset) {
  double turn = fabs(offset / slope),
         toward = slope > 0 ? -offset / slope : offset / -slope; // difference is 0 there
  if (turn > 1e15) return (Fact){0};
  bool rises = slope > 0;
  // Rising: < fails from `toward` on, <= and == behind it. Falling: <= holds from it on, < behind it, ==
  // fails.
  bool at_turn = rises ? op == OP_LESS : op == OP_LESSEQ;
  double value = op == OP_EQUAL || rises ? 0 : 1;
  return (Fact){true, value, (int64_t)(at_turn ? ceil(toward) - 1 : floor(toward))};
}

static void compare_indices(Analysis *a, const Node *node, Moment *y) {
  const Moment *left = &a->moments[node->in[0]], *right = &a->moments[node->in[1]];
  double slope[MAX_RANK];
  int used = 0;
  if (!left->affine || !right->affine) return;
  for (int i = 0; i < MAX_RANK; i++) {
    slope[i] = left->coefficient[i] - right->coefficient[i];
    used += slope[i] != 0;
  }
  for (int i = 0; i < node->type.rank && used == 2; i++)
    for (int j = 0; j < node->type.rank; j++)
      if (i != j && slope[j] != 0 && slope[i] == -slope[j])
        set_fact(a, y, i, j, comparison(node->op, slope[j], left->offset - right->offset));
}

// ---- elementwise --------------------------------------------------------------------------------

static void affine_sum(const Moment *left, const Moment *right, double sign, Moment *y) {
  y->affine = left->affine && right->affine;
  y->offset = left->offset + sign * right->offset;
  for (int i = 0; i < MAX_RANK; i++) y->coefficient[i] = left->coefficient[i] + sign * right->coefficient[i];
}

static void affine_scaled(const Moment *x, double factor, Moment *y) {
  y->affine = x->affine;
  y->offset = factor * x->offset;
  for (int i = 0; i < MAX_RANK; i++) y->coefficient[i] = factor * x->coefficient[i];
}

static bool all_whole(const Moment *x) {
  bool whole = x->offset == floor(x->offset);
  for (int i = 0; i < MAX_RANK; i++) whole &= x->coefficient[i] == floor(x->coefficient[i]);
  return whole;
}

static void elementwise_affine(Analysis *a, const Node *node, Moment *y) {
  const Moment *x[MAX_INPUTS];
  double values[MAX_INPUTS] = {0}, result;
  int count = op_table[node->op].inputs, constants = 0;
  for (int i = 0; i < count; i++) {
    x[i] = &a->moments[node->in[i]];
    values[i] = x[i]->offset;
    constants += is_constant(x[i]);
  }
  if (constants == count && scalar(node->op, node->type.dtype, count, values, &result)) {
    y->affine = true, y->offset = result;
    return;
  }
  switch (node->op) {
  case OP_ADD: affine_sum(x[0], x[1], 1, y); return;
  case OP_SUB: affine_sum(x[0], x[1], -1, y); return;
  case OP_NEG: affine_scaled(x[0], -1, y); return;
  case OP_STOP: affine_scaled(x[0], 1, y); return;
  case OP_CAST:
    if (node->type.dtype != DTYPE_BOOL) affine_scaled(x[0], 1, y);
    if (is_whole(node->type.dtype) && !all_whole(x[0])) y->affine = false;
    return;
  case OP_DIV:
    if (is_constant(x[1]) && x[1]->offset != 0 && !is_whole(node->type.dtype))
      affine_scaled(x[0], 1 / x[1]->offset, y);
    return;
  case OP_MUL:
    if (is_constant(x[1]))
      affine_scaled(x[0], x[1]->offset, y);
    else if (is_constant(x[0]))
      affine_scaled(x[1], x[0]->offset, y);
    return;
  default: return;
  }
}

static void elementwise(Analysis *a, const Node *node, Moment *y) {
  int count = op_table[node->op].inputs;
  elementwise_affine(a, node, y);
  if (node->op == OP_LESS || node->op == OP_LESSEQ || node->op == OP_EQUAL) compare_indices(a, node, y);
  for (int i = 0; i < node->type.rank; i++)
    for (int j = 0; j < node->type.rank; j++) {
      Fact facts[MAX_INPUTS];
      if (i == j || !is_time(node->type.axes[i].extent) || !is_time(node->type.axes[j].extent)) continue;
      for (int k = 0; k < count; k++) facts[k] = fact_of(&a->moments[node->in[k]], i, j);
      set_fact(a, y, i, j, combine(node->op, node->type.dtype, count, facts));
    }
}

// ---- what axes carry with them ------------------------------------------------------------------

// Reaches, and facts about values that `keeps` says survive, along the axes that pass through.
static void carry(Analysis *a, NodeId id, int input, bool keeps_all, double kept, Moment *y) {
  const Moment *x = &a->moments[a->graph->nodes[id].in[input]];
  int rank = type_at(a, a->graph->nodes[id].in[input])->rank;
  int8_t to[MAX_RANK];
  axis_map(a->graph, id, input, to);
  for (int i = 0; i < rank; i++) {
    if (to[i] < 0) continue;
    y->reach[to[i]] = larger(y->reach[to[i]], x->reach[i]);
    for (int j = 0; j < rank && !(op_table[a->graph->nodes[id].op].properties & ELEMENTWISE); j++) {
      Fact fact = i == j || to[j] < 0 ? (Fact){0} : fact_of(x, i, j);
      if (fact.known && (keeps_all || fact.value == kept)) set_fact(a, y, to[i], to[j], fact);
    }
  }
}

static void carry_affine(Analysis *a, NodeId id, Moment *y) {
  NodeId input = a->graph->nodes[id].in[0];
  const Moment *x = &a->moments[input];
  int8_t to[MAX_RANK];
  axis_map(a->graph, id, 0, to);
  y->affine = x->affine, y->offset = x->offset;
  for (int i = 0; i < type_at(a, input)->rank; i++) {
    if (x->coefficient[i] == 0) continue;
    if (to[i] < 0)
      y->affine = false;
    else
      y->coefficient[to[i]] = x->coefficient[i];
  }
}

// Facts along an axis whose indices move by `by` (the new index is the old one plus that).
static void move_facts(Moment *y, int axis, int64_t by) {
  for (int i = 0; y->facts && i < MAX_RANK; i++) {
    if (i == axis) continue;
    Fact *ahead = &(*y->facts)[i][axis], *behind = &(*y->facts)[axis][i];
    if (ahead->known) ahead->beyond = moved(ahead->beyond, by);
    if (behind->known) behind->beyond = moved(behind->beyond, -by);
  }
}

static void drop_facts(Moment *y, int axis) {
  for (int i = 0; y->facts && i < MAX_RANK; i++)
    (*y->facts)[i][axis].known = (*y->facts)[axis][i].known = false;
}

// ---- views --------------------------------------------------------------------------------------

// An element at a place that need not be there (in a shorter run it reads 0, or something else) depends on
// that place, data or not.
static int64_t reach_of_place(int64_t reach, Extent extent) { return larger(reach, -extent.offset); }

// What lies at a place depends on how many positions there are.
static void follows_length(Moment *y, int axis) {
  y->reach[axis] = ALWAYS;
  y->affine = false;
  drop_facts(y, axis);
}

static void slice(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  int axis = node->attributes.axis;
  Extent start = node->attributes.start, extent = node->type.axes[axis].extent;
  Extent whole = type_at(a, node->in[0])->axes[axis].extent;
  carry(a, id, 0, true, 0, y);
  carry_affine(a, id, y);
  if (!extent_is_constant(start)) {
    follows_length(y, axis);
    if (!is_time(extent)) y->first = ALWAYS;
    return;
  }
  y->offset += y->coefficient[axis] * (double)start.offset;
  y->reach[axis] = moved(y->reach[axis], start.offset);
  move_facts(y, axis, -start.offset);
  if (is_time(extent) || !is_time(whole)) return;
  int64_t last =
      extent_is_constant(extent) ? start.offset + extent.offset - 1 : ALWAYS; // a fixed number of the first
  y->first = larger(y->first, moved(reach_of_place(a->moments[node->in[0]].reach[axis], whole), last));
  y->reach[axis] = NEVER;
}

static void pad(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  int axis = node->attributes.axis;
  Extent before = node->attributes.start, whole = type_at(a, node->in[0])->axes[axis].extent;
  carry(a, id, 0, false, 0, y);
  if (!extent_is_constant(before)) {
    follows_length(y, axis);
    return;
  }
  if (is_time(whole)) y->reach[axis] = reach_of_place(y->reach[axis], whole);
  y->reach[axis] = moved(y->reach[axis], -before.offset);
  move_facts(y, axis, before.offset);
}

static void concat(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  int axis = node->attributes.axis;
  Extent before = type_at(a, node->in[0])->axes[axis].extent;
  carry(a, id, 1, false, NAN, y);
  if (extent_is_constant(before)) y->reach[axis] = moved(y->reach[axis], -before.offset);
  carry(a, id, 0, false, NAN, y);
  if (is_time(before)) y->reach[axis] = reach_of_place(y->reach[axis], before);
}

static void window(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Attributes *at = &node->attributes;
  Extent whole = type_at(a, node->in[0])->axes[at->axis].extent;
  Extent outer = node->type.axes[at->axis].extent, inner = node->type.axes[at->axis + 1].extent;
  carry(a, id, 0, false, 0, y);
  if (!is_time(whole)) return;
  int64_t reach = moved(reach_of_place(a->moments[node->in[0]].reach[at->axis], whole), at->start.offset);
  if (is_time(outer) && extent_is_constant(inner)) {
    y->reach[at->axis] = at->stride == 1 ? moved(reach, inner.offset - 1) : ALWAYS;
  } else if (is_time(inner) && extent_is_constant(outer)) {
    y->reach[at->axis + 1] = moved(reach, times(outer.offset - 1, at->stride));
  } else if (extent_is_constant(outer) && extent_is_constant(inner)) {
    y->first = larger(y->first, moved(moved(reach, times(outer.offset - 1, at->stride)), inner.offset - 1));
  } else {
    y->first = ALWAYS;
  }
}

// Place p holds only windows o and places i inside of them with o, i <= p - start.
static void fold(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Attributes *at = &node->attributes;
  const Axis *axes = type_at(a, node->in[0])->axes + at->axis;
  bool timed = false;
  carry(a, id, 0, false, 0, y);
  for (int i = 0; i < 2; i++) {
    if (!is_time(axes[i].extent)) continue;
    int64_t reach = reach_of_place(a->moments[node->in[0]].reach[at->axis + i], axes[i].extent);
    y->reach[at->axis] = larger(y->reach[at->axis], moved(reach, -at->start.offset));
    timed = true;
  }
  if (timed && !is_time(node->type.axes[at->axis].extent)) y->first = ALWAYS;
}

// A position stays at its place only where it is the outermost part. An index is not below any that it was
// merged from; the other way it may be far above.
static void split_merge(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Attributes *at = &node->attributes;
  const Moment *x = &a->moments[node->in[0]];
  bool merge = node->op == OP_MERGE;
  const Axis *parts = (merge ? type_at(a, node->in[0]) : &node->type)->axes + at->axis;
  uint32_t axes;
  carry(a, id, 0, true, 0, y);
  carry_affine(a, id, y);
  if (!moves_time(a->graph, id, &axes)) return;
  for (int i = 0; i < at->count; i++) {
    if (!is_time(parts[i].extent)) continue;
    bool outermost = i == 0 && (merge || x->reach[at->axis] == NEVER);
    int axis = merge ? at->axis : at->axis + i;
    if (outermost && merge)
      y->reach[axis] = x->reach[at->axis];
    else if (!outermost)
      follows_length(y, axis);
  }
}

// ---- sums over positions ------------------------------------------------------------------------

static bool exact_offset(Extent extent, int64_t *offset) {
  *offset = extent.offset;
  return is_time(extent) && extent.scale == 1;
}

// Of a sum's terms x over its axis j: an axis i that stays, with terms that are `neutral` for all later j.
// Without it the sum depends on how many positions there are, even where it reads no data.
static bool masked_by(Analysis *a, NodeId x, const int8_t *to, int j, double neutral, int *by,
                      int64_t *beyond) {
  const Type *type = type_at(a, x);
  int64_t here, there;
  if (!exact_offset(type->axes[j].extent, &there)) return false;
  for (int i = 0; i < type->rank; i++) {
    if (i == j || to[i] < 0 || !exact_offset(type->axes[i].extent, &here)) continue;
    Fact fact = fact_of(&a->moments[x], i, j);
    if (!fact.known || fact.value != neutral || fact.beyond > there - here) continue;
    *by = to[i], *beyond = fact.beyond;
    return true;
  }
  return false;
}

// Once per model line: a layer's line is elaborated for every block.
static bool reported_before(const Analysis *a, NodeId id) {
  Span span = a->graph->nodes[id].span;
  for (NodeId i = 1; i < id; i++) {
    Span other = a->graph->nodes[i].span;
    if (a->moments[i].reported && other.source == span.source && other.begin == span.begin) return true;
  }
  return false;
}

static void report_sum(Analysis *a, NodeId id) {
  const Node *node = &a->graph->nodes[id];
  a->moments[id].reported = true;
  if (reported_before(a, id)) return;
  const Origin *origin = &a->graph->origins[node->origin];
  char place[160] = ""; // of a line of the library, the layer that called it
  if (*origin->path) snprintf(place, sizeof place, " in `%.60s` of `%.60s`", origin->function, origin->path);
  error_at(a->diagnostics, node->span,
           "this %s%s runs over all positions, later ones included, so the model can not write one token "
           "after the "
           "other; a condition such as `where j <= i` leaves the later ones out",
           node->op == OP_REDMAX ? "maximum" : "sum", place);
}

static void reduce(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Type *type = type_at(a, node->in[0]);
  const Moment *x = &a->moments[node->in[0]];
  double neutral = node->op == OP_SUM ? 0 : -INFINITY;
  int8_t to[MAX_RANK];
  axis_map(a->graph, id, 0, to);
  carry(a, id, 0, false, neutral, y);
  for (int j = 0; j < type->rank; j++) {
    int by;
    int64_t beyond;
    if (to[j] >= 0 || !is_time(type->axes[j].extent)) continue;
    if (masked_by(a, node->in[0], to, j, neutral, &by, &beyond))
      y->reach[by] = larger(y->reach[by], moved(x->reach[j], larger(beyond, NEVER)));
    else
      report_sum(a, id);
  }
}

static void dot(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Attributes *at = &node->attributes;
  int8_t to[2][MAX_RANK];
  for (int i = 0; i < 2; i++) {
    carry(a, id, i, false, 0, y);
    axis_map(a->graph, id, i, to[i]);
  }
  for (int i = 0; i < node->type.rank; i++) y->changing |= is_time(node->type.axes[i].extent);
  for (int i = at->batch; i < at->batch + at->contract; i++) {
    int pair[] = {at->left[i], at->right[i]}, by;
    int64_t beyond;
    if (!is_time(type_at(a, node->in[0])->axes[pair[0]].extent)) continue;
    int64_t reach = larger(a->moments[node->in[0]].reach[pair[0]], a->moments[node->in[1]].reach[pair[1]]);
    if (masked_by(a, node->in[0], to[0], pair[0], 0, &by, &beyond) ||
        masked_by(a, node->in[1], to[1], pair[1], 0, &by, &beyond))
      y->reach[by] = larger(y->reach[by], moved(reach, beyond));
    else
      report_sum(a, id);
  }
}

// ---- indexing by data ---------------------------------------------------------------------------

// Rows of positions may be picked at a fixed distance: x[b, t - 1].
static void gather(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  int rows = node->attributes.batch, by = -1;
  const Moment *x = &a->moments[node->in[0]], *index = &a->moments[node->in[1]];
  carry(a, id, 0, false, NAN, y);
  carry(a, id, 1, false, NAN, y);
  if (!is_time(type_at(a, node->in[0])->axes[rows].extent)) return;
  for (int i = 0; i < type_at(a, node->in[1])->rank && index->affine; i++) {
    if (index->coefficient[i] == 0) continue;
    bool whole = index->coefficient[i] == 1 && is_time(type_at(a, node->in[1])->axes[i].extent);
    by = by < 0 && whole ? i : MAX_RANK;
  }
  int64_t reach = reach_of_place(x->reach[rows], type_at(a, node->in[0])->axes[rows].extent);
  if (by >= 0 && by < MAX_RANK && fabs(index->offset) < 1e15) {
    y->reach[by] = larger(y->reach[by], moved(reach, (int64_t)ceil(index->offset)));
    return;
  }
  error_at(
      a->diagnostics, node->span,
      "this picks positions by data, later ones perhaps included, so the model can not write one token after "
      "the other");
}

static void scatter(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Type *index = type_at(a, node->in[0]);
  carry(a, id, 0, false, NAN, y);
  carry(a, id, 1, false, NAN, y);
  for (int i = node->attributes.batch; i < index->rank; i++)
    if (is_time(index->axes[i].extent)) report_sum(a, id);
}

// ---- sources ------------------------------------------------------------------------------------

static void input(Analysis *a, const Node *node, Moment *y) {
  const Input *input = &a->graph->inputs[node->attributes.input];
  int times = 0, exact = 0;
  for (int i = 0; i < node->type.rank; i++) {
    times += is_time(node->type.axes[i].extent);
    exact += is_exactly_time(node->type.axes[i].extent);
    if (is_time(node->type.axes[i].extent)) y->reach[i] = 0;
  }
  y->given = input->role == INPUT_DATA;
  y->changing = times > 0;
  if (times > 1 || exact < times || (times && input->role != INPUT_DATA))
    error_at(a->diagnostics, node->span,
             "`%s` must have a single axis of length T to be given piece by piece", input->name);
}

static void report_length(Analysis *a, const Node *node) {
  error_at(a->diagnostics, node->span,
           "this depends on the number of positions, which grows while the model writes");
}

static void source(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  const Attributes *at = &node->attributes;
  switch (node->op) {
  case OP_INPUT: input(a, node, y); return;
  case OP_CONST: y->affine = true, y->offset = at->number; return;
  case OP_IOTA:
    y->affine = extent_is_constant(at->start);
    y->coefficient[0] = 1, y->offset = (double)at->start.offset;
    if (is_time(at->start)) report_length(a, node);
    return;
  case OP_SIZE:
    if (is_time(at->extent)) report_length(a, node);
    return;
  default: // RANDOM
    error_at(a->diagnostics, node->span,
             "this draws random numbers: `forward` must not, to write one token after the other");
  }
}

// ---- all nodes ----------------------------------------------------------------------------------

static void find_needed(const Graph *graph, Moment *moments) {
  for (size_t i = 0; i < graph->output_count; i++) moments[graph->outputs[i].node].needed = true;
  for (NodeId id = (NodeId)graph->count; id-- > 1;)
    for (int i = 0; i < op_table[graph->nodes[id].op].inputs && moments[id].needed; i++)
      moments[graph->nodes[id].in[i]].needed = true;
}

static void transfer(Analysis *a, NodeId id, Moment *y) {
  const Node *node = &a->graph->nodes[id];
  if (op_table[node->op].properties & ELEMENTWISE) {
    for (int i = 0; i < op_table[node->op].inputs; i++) carry(a, id, i, false, NAN, y);
    elementwise(a, node, y);
    return;
  }
  switch (node->op) {
  case OP_ARRANGE:
    carry(a, id, 0, true, 0, y);
    carry_affine(a, id, y);
    return;
  case OP_SPLIT:
  case OP_MERGE: split_merge(a, id, y); return;
  case OP_WINDOW: window(a, id, y); return;
  case OP_FOLD: fold(a, id, y); return;
  case OP_SLICE: slice(a, id, y); return;
  case OP_PAD: pad(a, id, y); return;
  case OP_CONCAT: concat(a, id, y); return;
  case OP_SUM:
  case OP_REDMAX: reduce(a, id, y); return;
  case OP_DOT: dot(a, id, y); return;
  case OP_GATHER: gather(a, id, y); return;
  case OP_SCATTER: scatter(a, id, y); return;
  default: source(a, id, y);
  }
}

// P and S are only known to graphs that were derived.
static bool is_derived(const Node *node) {
  bool derived = node->attributes.start.symbol > SYMBOL_TIME || node->attributes.extent.symbol > SYMBOL_TIME;
  for (int i = 0; i < node->type.rank; i++) derived |= node->type.axes[i].extent.symbol > SYMBOL_TIME;
  return derived;
}

static bool looks_ahead(const Moment *moment) {
  bool ahead = moment->first > 0;
  for (int i = 0; i < MAX_RANK; i++) ahead |= moment->reach[i] > 0;
  return ahead;
}

static void analyse(Analysis *a, NodeId id) {
  const Node *node = &a->graph->nodes[id];
  Moment *y = &a->moments[id];
  y->first = NEVER;
  for (int i = 0; i < MAX_RANK; i++) y->reach[i] = NEVER;
  if (is_derived(node) || node->op == OP_UPDATE) {
    error_at(a->diagnostics, node->span,
             "this graph writes one token after the other already: it is no `forward`");
    return;
  }
  for (int i = 0; i < op_table[node->op].inputs; i++) {
    const Moment *x = &a->moments[node->in[i]];
    y->timed |= x->timed, y->changing |= x->changing, y->given |= x->given;
    y->first = larger(y->first, x->first);
    if (x->ahead && !y->ahead) y->ahead = x->ahead;
  }
  for (int i = 0; i < node->type.rank; i++) y->timed |= is_time(node->type.axes[i].extent);
  transfer(a, id, y);
  if (!looks_ahead(y))
    y->ahead = 0;
  else if (!y->ahead)
    y->ahead = id;
}

Moment *causal(const Graph *graph, Diagnostics *diagnostics) {
  Analysis analysis = {graph, diagnostics, ARENA_ARRAY(graph->arena, Moment, graph->count)};
  find_needed(graph, analysis.moments);
  for (NodeId id = 1; id < graph->count; id++)
    if (analysis.moments[id].needed) analyse(&analysis, id);
  return analysis.moments;
}
