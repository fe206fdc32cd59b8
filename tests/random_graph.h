// Random graphs for comparing passes and backends: seed -> a verified graph over small odd and run-time
// extents that holds every operation sooner or later, and inputs for it.
//
// Made so that float32 and float64 agree: values stay small (what may grow goes through tanh), and operations
// that jump (floor, comparisons, casts to whole numbers) read only values that are exact in both.
#ifndef VLMC_TESTS_RANDOM_GRAPH_H
#define VLMC_TESTS_RANDOM_GRAPH_H

#include "compiler/graph/graph.h"

#include <math.h>
#include <stdio.h>

// B, T, P, S that random graphs are small for; any sizes with P + T = S <= RANDOM_CAPACITY will do.
static const int64_t random_symbols[SYMBOL_COUNT] = {0, 3, 5, 2, 7};
enum { RANDOM_CAPACITY = 9, RANDOM_POOL = 256, RANDOM_RANK = 5, RANDOM_ELEMENTS = 700 };

typedef struct RandomGraph {
  Graph *graph;
  uint64_t state;
  NodeId pool[RANDOM_POOL];    // what later nodes may read
  double bound[RANDOM_POOL];   // largest magnitude of its elements
  double quantum[RANDOM_POOL]; // all elements are multiples of it; 0: not exact
  int count, named;
} RandomGraph;

static uint32_t random_below(RandomGraph *r, uint32_t limit) {
  r->state = r->state * 6364136223846793005u + 1442695040888963407u;
  uint32_t word = (uint32_t)(r->state >> 33);
  return word % limit;
}

static const Type *random_type_of(const RandomGraph *r, int at) { return graph_type(r->graph, r->pool[at]); }

static bool random_fits(const Type *type) {
  return type->rank <= RANDOM_RANK && type_elements(type, random_symbols) <= RANDOM_ELEMENTS;
}

static int random_add(RandomGraph *r, NodeId node, double bound, double quantum) {
  if (r->count == RANDOM_POOL) return r->count - 1;
  if (quantum && bound / quantum > 0x1p20) quantum = 0;
  if (dtype_is_float(graph_type(r->graph, node)->dtype) && !(bound <= 16)) {
    node = graph_unary(r->graph, OP_TANH, node);
    bound = 1, quantum = 0;
  }
  r->pool[r->count] = node;
  r->bound[r->count] = bound;
  r->quantum[r->count] = quantum;
  return r->count++;
}

static Extent random_extent(RandomGraph *r) {
  switch (random_below(r, 7)) {
  case 0: return extent_symbol(SYMBOL_BATCH);
  case 1: return extent_symbol(SYMBOL_TIME);
  case 2: return (Extent){SYMBOL_TIME, 1, 1};
  case 3: return extent_constant(1);
  case 4: return extent_constant(2);
  case 5: return extent_constant(5);
  default: return extent_constant(3);
  }
}

static Axis random_axis(RandomGraph *r) {
  static const char *const labels[] = {"a", "b", "c", "d", "e", "T", "B"};
  return (Axis){labels[random_below(r, 7)], random_extent(r)};
}

static const char *random_name(RandomGraph *r, const char *prefix) {
  return arena_print(r->graph->arena, "%s%d", prefix, r->named++);
}

static int random_input(RandomGraph *r, DType dtype) {
  Type type;
  do {
    type = (Type){.dtype = dtype, .rank = (int)random_below(r, 5)};
    for (int i = 0; i < type.rank; i++) type.axes[i] = random_axis(r);
  } while (!random_fits(&type));
  InputRole role = !type.rank ? INPUT_SCALAR : random_below(r, 2) ? INPUT_PARAM : INPUT_DATA;
  for (int i = 0; i < type.rank; i++)
    if (type.axes[i].extent.symbol && role == INPUT_PARAM) role = INPUT_DATA;
  type_make_labels_unique(r->graph->arena, &type);
  NodeId node = graph_input(r->graph, random_name(r, "x"), role, type);
  r->graph->inputs[r->graph->input_count - 1].trained = role == INPUT_PARAM && dtype == DTYPE_F32;
  return random_add(r, node, dtype == DTYPE_F32 ? 2 : 9, dtype == DTYPE_F32 ? 0.25 : 1);
}

// Some node of the dtype with at least `rank` axes; exact if asked for.
static int random_pick(RandomGraph *r, DType dtype, int rank, bool exact) {
  for (int tries = 0; tries < 30; tries++) {
    int at = (int)random_below(r, (uint32_t)r->count);
    const Type *type = random_type_of(r, at);
    if (type->dtype == dtype && type->rank >= rank && (!exact || r->quantum[at] > 0)) return at;
  }
  int at;
  do at = random_input(r, dtype);
  while (random_type_of(r, at)->rank < rank);
  return at;
}

// Another node spread and reordered so that it fits a type; a constant where no axes match.
static int random_like(RandomGraph *r, const Type *type, DType dtype, bool exact) {
  Type wanted = *type;
  int at = random_pick(r, dtype, 0, exact);
  int8_t from[MAX_RANK];
  uint32_t used = 0;
  Type have = *random_type_of(r, at);
  for (int i = 0; i < wanted.rank; i++) {
    from[i] = -1;
    for (int j = 0; j < have.rank && from[i] < 0; j++)
      if (!(used >> j & 1) && extent_equal(have.axes[j].extent, wanted.axes[i].extent)) from[i] = (int8_t)j;
    if (from[i] >= 0) used |= 1u << from[i];
  }
  if (used != (1u << have.rank) - 1) {
    double value =
        dtype == DTYPE_F32 ? random_below(r, 5) * 0.5 - 1 : random_below(r, dtype == DTYPE_BOOL ? 2 : 4);
    at = random_add(r, graph_constant(r->graph, value, dtype), 4, dtype == DTYPE_F32 ? 0.5 : 1);
    for (int i = 0; i < wanted.rank; i++) from[i] = -1;
  }
  NodeId node = graph_arrange(r->graph, r->pool[at], wanted.rank, wanted.axes, from);
  return random_add(r, node, r->bound[at], r->quantum[at]);
}

// ---- one maker per family
// ------------------------------------------------------------------------------------------

static DType random_dtype(RandomGraph *r) {
  return random_below(r, 8) ? DTYPE_F32 : random_below(r, 3) ? DTYPE_I32 : DTYPE_BOOL;
}

static void random_source(RandomGraph *r) {
  Graph *g = r->graph;
  bool whole = random_below(r, 2);
  DType dtype = whole ? DTYPE_I32 : DTYPE_F32;
  switch (random_below(r, 4)) {
  case 0: random_add(r, graph_constant(g, random_below(r, 9) - 4.0, dtype), 4, 1); break;
  case 1: random_add(r, graph_size(g, random_extent(r), dtype), 8, 1); break;
  case 2:
    random_add(r,
               graph_iota(g, random_axis(r),
                          random_below(r, 2) ? extent_symbol(SYMBOL_PAST) : extent_constant(1), dtype),
               10, 1);
    break;
  default: {
    Type type = *random_type_of(r, random_pick(r, DTYPE_F32, 0, false));
    Input *counter = graph_find_input(g, "run");
    NodeId node = counter ? counter->node : graph_input(g, "run", INPUT_SCALAR, (Type){.dtype = DTYPE_I32});
    random_add(r, graph_random(g, node, type), 1, 0x1p-24);
  }
  }
}

// |x| + 1/2, where an operation needs it
static NodeId random_positive(RandomGraph *r, NodeId x) {
  return graph_binary(r->graph, OP_ADD, graph_unary(r->graph, OP_ABS, x),
                      graph_constant(r->graph, 0.5, DTYPE_F32));
}

static void random_unary(RandomGraph *r) {
  static const Op ops[] = {OP_NEG, OP_ABS, OP_EXP,  OP_LOG, OP_SQRT,  OP_RSQRT,
                           OP_SIN, OP_COS, OP_TANH, OP_ERF, OP_FLOOR, OP_STOP};
  Op op = ops[random_below(r, sizeof ops / sizeof *ops)];
  int at = random_pick(r, DTYPE_F32, 0, op == OP_FLOOR);
  bool keeps = op == OP_NEG || op == OP_ABS || op == OP_STOP,
       positive = op == OP_LOG || op == OP_SQRT || op == OP_RSQRT;
  NodeId x = r->pool[at];
  double bound = keeps            ? r->bound[at]
                 : op == OP_FLOOR ? r->bound[at] + 1
                 : op == OP_EXP   ? exp(r->bound[at])
                                  : 5;
  if (positive) x = random_positive(r, x);
  random_add(r, graph_unary(r->graph, op, x), bound, keeps ? r->quantum[at] : op == OP_FLOOR ? 1 : 0);
}

static void random_cast(RandomGraph *r) {
  static const DType dtypes[] = {DTYPE_F32, DTYPE_I32, DTYPE_BOOL, DTYPE_I32, DTYPE_I64};
  DType from = random_dtype(r), to = dtypes[random_below(r, 5)];
  int at = random_pick(r, from, 0, true);
  NodeId node = graph_cast(r->graph, r->pool[at], to);
  if (to == DTYPE_I64) node = graph_cast(r->graph, node, DTYPE_I32);
  random_add(r, node, r->bound[at] + 1, to == DTYPE_F32 && from == DTYPE_F32 ? r->quantum[at] : 1);
}

static void random_binary(RandomGraph *r) {
  static const Op ops[] = {OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, OP_POW, OP_MIN, OP_MAX};
  Op op = ops[random_below(r, sizeof ops / sizeof *ops)];
  DType dtype = op != OP_POW && !random_below(r, 5) ? DTYPE_I32 : DTYPE_F32;
  bool whole = dtype == DTYPE_I32;
  int at = random_pick(r, dtype, 0, op == OP_MOD),
      with = random_like(r, random_type_of(r, at), dtype, op == OP_MOD);
  NodeId x = r->pool[at], y = r->pool[with];
  double bound = r->bound[at] + r->bound[with], quantum = fmin(r->quantum[at], r->quantum[with]);
  if (op == OP_MUL) bound = r->bound[at] * r->bound[with], quantum = r->quantum[at] * r->quantum[with];
  if (op == OP_MOD && !whole) {
    y = graph_constant(r->graph, 2, dtype);
    bound = 2, quantum = r->quantum[at];
  }
  if (op == OP_DIV && !whole) y = random_positive(r, y), bound = 2 * r->bound[at], quantum = 0;
  if (op == OP_POW) {
    x = random_positive(r, x), y = graph_unary(r->graph, OP_TANH, y);
    bound = r->bound[at] + 2, quantum = 0;
  }
  if (whole && bound > 1e6) return;
  random_add(r, graph_binary(r->graph, op, x, y), bound, quantum);
}

static void random_compare(RandomGraph *r) {
  static const Op ops[] = {OP_LESS, OP_LESSEQ, OP_EQUAL};
  DType dtype = random_below(r, 2) ? DTYPE_I32 : DTYPE_F32;
  int at = random_pick(r, dtype, 0, true), with = random_like(r, random_type_of(r, at), dtype, true);
  random_add(r, graph_binary(r->graph, ops[random_below(r, 3)], r->pool[at], r->pool[with]), 1, 1);
}

static void random_logic(RandomGraph *r) {
  int at = random_pick(r, DTYPE_BOOL, 0, true),
      with = random_like(r, random_type_of(r, at), DTYPE_BOOL, true);
  NodeId node = random_below(r, 3)
                    ? graph_binary(r->graph, random_below(r, 2) ? OP_AND : OP_OR, r->pool[at], r->pool[with])
                    : graph_unary(r->graph, OP_NOT, r->pool[at]);
  random_add(r, node, 1, 1);
}

static void random_select(RandomGraph *r) {
  DType dtype = random_dtype(r);
  int x = random_pick(r, dtype, 0, false), y = random_like(r, random_type_of(r, x), dtype, false);
  int condition = random_like(r, random_type_of(r, x), DTYPE_BOOL, true);
  NodeId node = graph_select(r->graph, r->pool[condition], r->pool[x], r->pool[y]);
  random_add(r, node, fmax(r->bound[x], r->bound[y]), fmin(r->quantum[x], r->quantum[y]));
}

static void random_arrange(RandomGraph *r) {
  int at = random_pick(r, random_dtype(r), 0, false);
  Type x = *random_type_of(r, at), type = {.dtype = x.dtype};
  int8_t from[MAX_RANK];
  uint32_t used = 0;
  for (int left = x.rank; left || (type.rank < RANDOM_RANK && random_below(r, 2));) {
    if (type.rank == MAX_RANK) return;
    if (!left || !random_below(r, 4)) {
      from[type.rank] = -1;
      type.axes[type.rank++] = random_axis(r);
      continue;
    }
    int axis = (int)random_below(r, (uint32_t)x.rank);
    if (used >> axis & 1) continue;
    used |= 1u << axis, left--;
    from[type.rank] = (int8_t)axis;
    type.axes[type.rank++] = x.axes[axis];
  }
  if (random_fits(&type))
    random_add(r, graph_arrange(r->graph, r->pool[at], type.rank, type.axes, from), r->bound[at],
               r->quantum[at]);
}

static void random_merge(RandomGraph *r) {
  int at = random_pick(r, random_dtype(r), 2, false);
  const Type *type = random_type_of(r, at);
  int axis = (int)random_below(r, (uint32_t)type->rank - 1);
  Extent product;
  if (!extent_multiply(type->axes[axis].extent, type->axes[axis + 1].extent, &product)) return;
  random_add(r, graph_merge(r->graph, r->pool[at], axis, 2, "m"), r->bound[at], r->quantum[at]);
}

static void random_split(RandomGraph *r) {
  int at = random_pick(r, random_dtype(r), 1, false);
  const Type *type = random_type_of(r, at);
  int axis = (int)random_below(r, (uint32_t)type->rank);
  Extent whole = type->axes[axis].extent;
  int64_t factor = 3 - (int64_t)random_below(r, 3);
  if (whole.scale % factor || whole.offset % factor || type->rank == RANDOM_RANK) return;
  Axis parts[] = {{"o", {whole.symbol, whole.scale / factor, whole.offset / factor}},
                  {"i", extent_constant(factor)}};
  random_add(r, graph_split(r->graph, r->pool[at], axis, 2, parts), r->bound[at], r->quantum[at]);
}

static void random_window(RandomGraph *r) {
  int at = random_pick(r, random_dtype(r), 1, false);
  Type type = *random_type_of(r, at);
  int axis = (int)random_below(r, (uint32_t)type.rank);
  Axis outer = random_axis(r), inner = {"k", extent_constant(1 + random_below(r, 3))};
  int64_t start = (int64_t)random_below(r, 4) - 2, stride = 1 + random_below(r, 2);
  type.axes[type.rank++] = inner, type.axes[axis] = outer;
  if (random_fits(&type))
    random_add(r, graph_window(r->graph, r->pool[at], axis, outer, inner, start, stride), r->bound[at],
               r->quantum[at]);
}

static void random_fold(RandomGraph *r) {
  int at = random_pick(r, DTYPE_F32, 2, false);
  Type type = *random_type_of(r, at);
  int axis = (int)random_below(r, (uint32_t)type.rank - 1);
  int64_t start = (int64_t)random_below(r, 4) - 2, stride = 1 + random_below(r, 2);
  double terms = (double)extent_value(type.axes[axis].extent, random_symbols) *
                 (double)extent_value(type.axes[axis + 1].extent, random_symbols);
  Axis result = random_axis(r);
  type.axes[axis] = result;
  if (!random_fits(&type)) return;
  random_add(r, graph_fold(r->graph, r->pool[at], axis, result, start, stride), r->bound[at] * terms,
             r->quantum[at]);
}

static void random_slice(RandomGraph *r) {
  int at = random_pick(r, random_dtype(r), 1, false);
  const Type *type = random_type_of(r, at);
  int axis = (int)random_below(r, (uint32_t)type->rank);
  Extent whole = type->axes[axis].extent, extent = whole;
  int64_t cut = random_below(r, 3), start = cut ? random_below(r, (uint32_t)cut + 1) : 0;
  if (whole.offset < cut) return; // so that nothing is negative at any size
  extent.offset -= cut;
  random_add(r, graph_slice(r->graph, r->pool[at], axis, extent_constant(start), extent), r->bound[at],
             r->quantum[at]);
}

static void random_pad(RandomGraph *r) {
  int at = random_pick(r, random_dtype(r), 1, false);
  Type type = *random_type_of(r, at);
  int axis = (int)random_below(r, (uint32_t)type.rank);
  int64_t before = random_below(r, 3);
  type.axes[axis].extent.offset += before + random_below(r, 2);
  if (!random_fits(&type)) return;
  NodeId node = graph_pad(r->graph, r->pool[at], axis, extent_constant(before), type.axes[axis].extent);
  random_add(r, node, r->bound[at], r->quantum[at]);
}

static void random_concat(RandomGraph *r) {
  DType dtype = random_dtype(r);
  int x = random_pick(r, dtype, 1, false);
  Type type = *random_type_of(r, x), other = type, joined = type;
  int axis = (int)random_below(r, (uint32_t)type.rank);
  if (random_below(r, 2)) other.axes[axis].extent = extent_constant(1 + random_below(r, 3));
  if (!extent_add(type.axes[axis].extent, other.axes[axis].extent, &joined.axes[axis].extent) ||
      !random_fits(&joined))
    return;
  int y = random_like(r, &other, dtype, false);
  random_add(r, graph_concat(r->graph, r->pool[x], r->pool[y], axis), fmax(r->bound[x], r->bound[y]),
             fmin(r->quantum[x], r->quantum[y]));
}

static void random_reduce(RandomGraph *r) {
  bool whole = !random_below(r, 6), largest = !whole && random_below(r, 3) == 0;
  int at = random_pick(r, whole ? DTYPE_I32 : DTYPE_F32, 1, false);
  const Type *type = random_type_of(r, at);
  uint32_t axes = 1 + random_below(r, (1u << type->rank) - 1);
  double terms = 1;
  for (int i = 0; i < type->rank; i++)
    if (axes >> i & 1) terms *= (double)extent_value(type->axes[i].extent, random_symbols);
  if (largest && terms < 1) return;
  if (whole && terms * r->bound[at] > 1e6) return;
  random_add(r, graph_reduce(r->graph, largest ? OP_REDMAX : OP_SUM, r->pool[at], axes),
             largest ? r->bound[at] : r->bound[at] * terms, r->quantum[at]);
}

static void random_dot(RandomGraph *r) {
  int x = random_pick(r, DTYPE_F32, 1, false), y = random_pick(r, DTYPE_F32, 1, false);
  Type a = *random_type_of(r, x), b = *random_type_of(r, y), type = {.dtype = DTYPE_F32};
  int8_t left[MAX_RANK], right[MAX_RANK];
  int batch = 0, contract = 0;
  uint32_t used_a = 0, used_b = 0;
  double terms = 1;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; i < a.rank; i++) {
      for (int j = 0; j < b.rank && !(used_a >> i & 1); j++) {
        if (used_b >> j & 1 || !extent_equal(a.axes[i].extent, b.axes[j].extent) ||
            (!pass && random_below(r, 3)))
          continue;
        used_a |= 1u << i, used_b |= 1u << j;
        left[batch + contract] = (int8_t)i, right[batch + contract] = (int8_t)j;
        if (pass)
          contract++, terms *= (double)extent_value(a.axes[i].extent, random_symbols);
        else
          batch++;
      }
    }
  }
  if (batch + a.rank + b.rank - 2 * (batch + contract) > RANDOM_RANK) return;
  for (int i = 0; i < batch; i++) type.axes[type.rank++] = a.axes[left[i]];
  for (int i = 0; i < a.rank; i++)
    if (!(used_a >> i & 1)) type.axes[type.rank++] = a.axes[i];
  for (int i = 0; i < b.rank; i++)
    if (!(used_b >> i & 1)) type.axes[type.rank++] = b.axes[i];
  if (type.rank > RANDOM_RANK || !random_fits(&type)) return;
  random_add(r, graph_dot(r->graph, r->pool[x], r->pool[y], batch, contract, left, right),
             r->bound[x] * r->bound[y] * terms, r->quantum[x] * r->quantum[y]);
}

// A batch axis is shared where the leading axes happen to agree.
static void random_gather(RandomGraph *r) {
  int x = random_pick(r, DTYPE_F32, 1, false), index = random_pick(r, DTYPE_I32, 0, true);
  const Type *table = random_type_of(r, x), *picks = random_type_of(r, index);
  int batch = table->rank > 1 && picks->rank && extent_equal(table->axes[0].extent, picks->axes[0].extent);
  Type type = *picks;
  if (picks->rank + table->rank - batch - 1 > RANDOM_RANK) return;
  for (int i = batch + 1; i < table->rank; i++) type.axes[type.rank++] = table->axes[i];
  if (random_fits(&type))
    random_add(r, graph_gather(r->graph, r->pool[x], r->pool[index], batch), r->bound[x], r->quantum[x]);
}

static void random_scatter(RandomGraph *r) {
  int index = random_pick(r, DTYPE_I32, 1, true);
  Type picks = *random_type_of(r, index);
  int batch = picks.rank > 1 ? (int)random_below(r, 2) : 0, rank = picks.rank + (int)random_below(r, 2);
  Type type = picks;
  if (rank > picks.rank) type.axes[type.rank++] = random_axis(r);
  if (type.rank > RANDOM_RANK || !random_fits(&type)) return;
  int value = random_like(r, &type, DTYPE_F32, false);
  double terms = (double)type_elements(&picks, random_symbols);
  random_add(
      r, graph_scatter(r->graph, r->pool[index], r->pool[value], batch, (Axis){"rows", extent_constant(4)}),
      r->bound[value] * terms, r->quantum[value]);
}

// Writes a value into a state of its own, behind the past.
static void random_update(RandomGraph *r) {
  int value = random_pick(r, DTYPE_F32, 1, false);
  Type type = *random_type_of(r, value);
  int axis = (int)random_below(r, (uint32_t)type.rank);
  for (int i = 0; i < type.rank; i++)
    if (i == axis ? !extent_equal(type.axes[i].extent, extent_symbol(SYMBOL_TIME))
                  : type.axes[i].extent.symbol != 0)
      return;
  type.axes[axis].extent = extent_constant(RANDOM_CAPACITY);
  type_make_labels_unique(r->graph->arena, &type);
  const char *name = random_name(r, "state");
  NodeId state = graph_input(r->graph, name, INPUT_STATE, type);
  NodeId node = graph_update(r->graph, state, r->pool[value], axis, extent_symbol(SYMBOL_PAST));
  graph_output(r->graph, name, node, true);
  random_add(r, node, fmax(2, r->bound[value]), fmin(0.25, r->quantum[value]));
}

// ---- all of it
// -------------------------------------------------------------------------------------------------------

// About `size` operations; outputs: some of what nothing reads.
static inline Graph *random_graph(Arena *arena, uint64_t seed, int size) {
  typedef void Maker(RandomGraph *);
  static Maker *const makers[] = {random_source, random_unary,   random_unary,   random_cast,  random_binary,
                                  random_binary, random_binary,  random_compare, random_logic, random_select,
                                  random_select, random_arrange, random_merge,   random_split, random_merge,
                                  random_split,  random_window,  random_fold,    random_slice, random_pad,
                                  random_concat, random_reduce,  random_reduce,  random_dot,   random_dot,
                                  random_gather, random_scatter, random_update};
  RandomGraph r = {.graph = graph_new(arena, "random"), .state = seed * 2654435761u + 12345};
  random_input(&r, DTYPE_F32);
  random_input(&r, DTYPE_I32);
  random_input(&r, DTYPE_BOOL);
  for (int i = 0; i < size && r.count < RANDOM_POOL - 4; i++)
    makers[random_below(&r, sizeof makers / sizeof *makers)](&r);
  bool *read = ARENA_ARRAY(arena, bool, r.graph->count);
  for (NodeId id = 1; id < r.graph->count; id++)
    for (int i = 0; i < op_table[r.graph->nodes[id].op].inputs; i++) read[r.graph->nodes[id].in[i]] = true;
  for (NodeId id = 1; id < r.graph->count; id++)
    if (!read[id] && r.graph->nodes[id].op != OP_INPUT)
      graph_output(r.graph, random_name(&r, "result"), id, false);
  return r.graph;
}

// One tensor per input, with the constant types of these sizes.
static inline Tensor *random_inputs(const Graph *graph, Arena *arena, uint64_t seed, const int64_t *symbols) {
  RandomGraph r = {.state = seed + 99};
  Tensor *tensors = ARENA_ARRAY(arena, Tensor, graph->input_count + 1);
  for (size_t i = 0; i < graph->input_count; i++) {
    Type type = *graph_type(graph, graph->inputs[i].node);
    for (int j = 0; j < type.rank; j++)
      type.axes[j].extent = extent_constant(extent_value(type.axes[j].extent, symbols));
    int64_t elements = type_elements(&type, symbols);
    tensors[i] = (Tensor){type, ARENA_ARRAY(arena, double, elements)};
    for (int64_t j = 0; j < elements; j++) {
      double value = random_below(&r, 17) * 0.25 - 2;
      if (type.dtype == DTYPE_I32) value = (double)random_below(&r, 12) - 3;
      if (type.dtype == DTYPE_U8) value = (double)random_below(&r, 256);
      if (type.dtype == DTYPE_BOOL) value = random_below(&r, 2);
      tensors[i].data[j] = value;
    }
  }
  return tensors;
}

#endif
