// The forward graph over [B, T] -> the incremental graph: T new positions after P earlier ones, S = P + T
// seen. Needs nothing; keeps spans and origins.
//
// Every axis of extent T is wanted in one of three parts: the new positions, all that are seen, or the last
// one. Going back from the results, each node learns in which variants it is wanted; going forward, these are
// built:
//
//   - most nodes just ask their inputs for the same part; what is summed over, they ask to see whole;
//   - a value computed from data that is wanted whole is computed for the new positions and put into a cache;
//   - what follows from indices and parameters alone (masks, angles) is computed again for all positions;
//   - views that move positions (a shift by one) are built whole, and the part is cut out;
//   - the last position is cut out of the new ones where they are there anyway, else it is all that
//     is computed.
//
// causal.c proves that no position depends on a later one.
#include "compiler/graph/passes/causal.h"
#include "compiler/graph/passes/passes.h"

#include <string.h>

typedef enum Part { PART_NONE, PART_NEW, PART_SEEN, PART_LAST } Part; // NONE: not an axis of time

typedef enum Plan {
  PLAN_REBUILD, // from its inputs
  PLAN_CACHE,   // the new positions, put into a cache
  PLAN_CUT,     // out of another variant of the same node
  PLAN_KEPT     // read from what prefill kept
} Plan;

typedef struct Variant {
  uint8_t parts[MAX_RANK];
  Plan plan;
  bool planned;
  struct Variant *source; // CACHE, CUT: the variant it is made from
  NodeId built;
  struct Variant *next;
} Variant;

typedef struct Derivation {
  const Graph *from;
  Graph *to;
  const Moment *moments;
  Variant **variants; // per node of `from`
  bool *border;       // per node: does not depend on T, but something that does reads it
  DeriveKind kind;
  int64_t capacity;
  Diagnostics *diagnostics;
  int caches, kept;
  bool reported;
} Derivation;

static const Type *old_type(const Derivation *d, NodeId node) { return graph_type(d->from, node); }

static int count_parts(const Variant *variant) {
  int count = 0;
  for (int i = 0; i < MAX_RANK; i++) count += variant->parts[i] != PART_NONE;
  return count;
}

static bool has_part(const Variant *variant, Part part) {
  for (int i = 0; i < MAX_RANK; i++)
    if (variant->parts[i] == part) return true;
  return false;
}

// ---- what is wanted -----------------------------------------------------------------------------

// The variant of a node with these parts, made where it is not there yet. Axes that are longer or shorter
// than T are only had whole.
static Variant *want(Derivation *d, NodeId node, const uint8_t *parts) {
  Variant wanted = {.parts = {0}}, **end = &d->variants[node];
  for (int i = 0; i < old_type(d, node)->rank; i++) {
    Extent extent = old_type(d, node)->axes[i].extent;
    if (!is_time(extent)) continue;
    wanted.parts[i] = is_exactly_time(extent) && parts[i] ? parts[i] : PART_SEEN;
  }
  for (; *end; end = &(*end)->next)
    if (!memcmp((*end)->parts, wanted.parts, sizeof wanted.parts)) return *end;
  *end = ARENA_NEW(d->to->arena, Variant);
  **end = wanted;
  return *end;
}

static Variant *find(const Derivation *d, NodeId node, const uint8_t *parts) {
  for (Variant *variant = d->variants[node]; variant; variant = variant->next)
    if (!memcmp(variant->parts, parts, sizeof variant->parts)) return variant;
  return NULL;
}

static void replace_parts(const Variant *variant, Part from, Part to, uint8_t *parts) {
  for (int i = 0; i < MAX_RANK; i++) parts[i] = variant->parts[i] == from ? (uint8_t)to : variant->parts[i];
}

// The parts in which a variant reads its input: what is not an axis of the result is seen whole.
static Variant *want_input(Derivation *d, NodeId node, const Variant *variant, int input) {
  uint8_t parts[MAX_RANK] = {0};
  int8_t to[MAX_RANK];
  axis_map(d->from, node, input, to);
  for (int i = 0; i < MAX_RANK; i++) parts[i] = to[i] < 0 ? PART_SEEN : variant->parts[to[i]];
  return want(d, d->from->nodes[node].in[input], parts);
}

// Values that only stand in another shape are cached before that: never larger, and shared.
static bool passes_through(const Derivation *d, NodeId id) {
  const Node *node = &d->from->nodes[id];
  switch (node->op) {
  case OP_ARRANGE:
  case OP_SPLIT:
  case OP_MERGE:
  case OP_STOP: return true;
  case OP_CAST: return dtype_bytes(old_type(d, node->in[0])->dtype) <= dtype_bytes(node->type.dtype);
  default: return false;
  }
}

static bool is_cached(const Derivation *d, NodeId node, const Variant *variant) {
  if (count_parts(variant) != 1 || !has_part(variant, PART_SEEN) || passes_through(d, node)) return false;
  for (int i = 0; i < old_type(d, node)->rank; i++)
    if (variant->parts[i] && !is_exactly_time(old_type(d, node)->axes[i].extent)) return false;
  return d->moments[node].changing;
}

static void plan_from(Derivation *d, NodeId node, Variant *variant, Plan plan, const uint8_t *parts) {
  variant->plan = plan;
  variant->source = want(d, node, parts);
}

static void plan(Derivation *d, NodeId node, Variant *variant) {
  const Moment *moment = &d->moments[node];
  uint8_t parts[MAX_RANK];
  uint32_t moved;
  variant->planned = true;
  if (!moment->timed) {
    bool kept = d->border[node] && moment->given && d->kind == DERIVE_DECODE;
    variant->plan = kept ? PLAN_KEPT : PLAN_REBUILD;
  } else if (moves_time(d->from, node, &moved)) {
    for (int i = 0; i < MAX_RANK; i++)
      parts[i] = moved >> i & 1 && variant->parts[i] ? PART_SEEN : variant->parts[i];
    if (memcmp(parts, variant->parts, sizeof parts)) plan_from(d, node, variant, PLAN_CUT, parts);
  } else if (is_cached(d, node, variant)) {
    replace_parts(variant, PART_SEEN, PART_NEW, parts);
    plan_from(d, node, variant, PLAN_CACHE, parts);
  } else if (has_part(variant, PART_LAST)) {
    replace_parts(variant, PART_LAST, PART_NEW, parts);
    bool there = moment->changing && find(d, node, parts);
    if (there || d->from->nodes[node].op == OP_INPUT) plan_from(d, node, variant, PLAN_CUT, parts);
  }
  for (int i = 0; i < op_table[d->from->nodes[node].op].inputs && variant->plan == PLAN_REBUILD; i++) {
    want_input(d, node, variant, i);
    if (moment->timed && !d->moments[d->from->nodes[node].in[i]].timed)
      d->border[d->from->nodes[node].in[i]] = true;
  }
}

// The last position's variants come after all others, which decide whether the new positions are there
// anyway.
static void plan_node(Derivation *d, NodeId node) {
  for (int last = 0; last < 2; last++)
    for (Variant *variant = d->variants[node]; variant; variant = variant->next)
      if (!variant->planned && (last || !has_part(variant, PART_LAST))) plan(d, node, variant);
  for (Variant *variant = d->variants[node]; variant; variant = variant->next)
    if (!variant->planned) plan(d, node, variant); // wanted by the last position's
}

// ---- building -----------------------------------------------------------------------------------

static Extent seen_extent(Extent extent) {
  if (is_time(extent)) extent.symbol = SYMBOL_SEEN;
  return extent;
}

static Extent part_extent(Part part, Extent extent) {
  if (part == PART_SEEN) return seen_extent(extent);
  return part == PART_LAST ? extent_constant(1) : extent;
}

static NodeId rebuild(Derivation *d, NodeId id, const Variant *variant) {
  const Node *node = &d->from->nodes[id];
  NodeId inputs[MAX_INPUTS] = {0};
  Type type = node->type;
  Attributes attributes = node->attributes;
  if (node->op == OP_INPUT) return graph_copy_node(d->to, d->from, id, inputs);
  for (int i = 0; i < op_table[node->op].inputs; i++) inputs[i] = want_input(d, id, variant, i)->built;
  for (int i = 0; i < type.rank; i++)
    type.axes[i].extent = part_extent(variant->parts[i], type.axes[i].extent);
  attributes.extent = seen_extent(attributes.extent);
  attributes.start = seen_extent(attributes.start);
  if (node->op == OP_IOTA && variant->parts[0] == PART_NEW) attributes.start.symbol = SYMBOL_PAST;
  if (node->op == OP_IOTA && variant->parts[0] == PART_LAST) attributes.start.symbol = SYMBOL_SEEN;
  if (node->op == OP_IOTA && attributes.start.symbol > SYMBOL_TIME) {
    attributes.start.scale = 1;
    attributes.start.offset -= attributes.start.symbol == SYMBOL_SEEN;
  }
  return graph_append(d->to, node->op, inputs, attributes, &type);
}

// From a part to a smaller one: NEW are positions P .. S of what is seen, LAST is the last of either.
static NodeId cut(Derivation *d, const Variant *variant) {
  NodeId node = variant->source->built;
  for (int i = 0; i < MAX_RANK; i++) {
    Part part = variant->parts[i], source = variant->source->parts[i];
    Extent last = {source == PART_SEEN ? SYMBOL_SEEN : SYMBOL_TIME, 1, -1};
    if (part == source) continue;
    if (part == PART_NEW)
      node = graph_slice(d->to, node, i, extent_symbol(SYMBOL_PAST), extent_symbol(SYMBOL_TIME));
    else
      node = graph_slice(d->to, node, i, last, extent_constant(1));
  }
  return node;
}

static void report_ahead(Derivation *d, NodeId node) {
  const Moment *moment = &d->moments[node];
  if (!moment->ahead || d->reported) return; // what follows from the first place is no news
  d->reported = true;
  error_at(d->diagnostics, d->from->nodes[moment->ahead].span,
           "this looks at later positions, so the model can not write one token after the other");
}

static NodeId put_into_cache(Derivation *d, NodeId id, const Variant *variant) {
  const char *name = arena_print(d->to->arena, "cache:%d", d->caches++);
  NodeId value = variant->source->built;
  Type type = *graph_type(d->to, value);
  int axis = 0;
  report_ahead(d, id);
  while (!variant->parts[axis]) axis++;
  type.axes[axis].extent = extent_constant(d->capacity);
  NodeId state = graph_input(d->to, name, INPUT_STATE, type);
  NodeId updated = graph_update(d->to, state, value, axis, extent_symbol(SYMBOL_PAST));
  graph_output(d->to, name, updated, true);
  return graph_slice(d->to, updated, axis, extent_constant(0), extent_symbol(SYMBOL_SEEN));
}

// What does not depend on T is numbered in the order of the nodes, so that both kinds agree on the names.
static NodeId keep(Derivation *d, NodeId id, NodeId value) {
  if (!d->border[id] || !d->moments[id].given) return value;
  const char *name = arena_print(d->to->arena, "kept:%d", d->kept++);
  NodeId state = graph_input(d->to, name, INPUT_STATE, *old_type(d, id));
  if (!value) return state;
  graph_output(d->to, name, value, true);
  return value;
}

static void build(Derivation *d, NodeId id, Variant *variant) {
  if (variant->built) return;
  if (variant->source)
    build(d, id, variant->source); // cut from a cached one, which is made from the new ones
  d->to->span = d->from->nodes[id].span;
  d->to->origin = d->from->nodes[id].origin;
  switch (variant->plan) {
  case PLAN_REBUILD:
    variant->built = rebuild(d, id, variant);
    if (!d->moments[id].timed) variant->built = keep(d, id, variant->built);
    return;
  case PLAN_KEPT: variant->built = keep(d, id, 0); return;
  case PLAN_CUT: variant->built = cut(d, variant); return;
  case PLAN_CACHE: variant->built = put_into_cache(d, id, variant); return;
  }
}

// ---- results ------------------------------------------------------------------------------------

static void result_parts(const Derivation *d, NodeId node, bool last_only, uint8_t *parts) {
  const Type *type = old_type(d, node);
  memset(parts, 0, MAX_RANK);
  for (int i = 0; i < type->rank; i++)
    if (is_time(type->axes[i].extent)) parts[i] = last_only ? PART_LAST : PART_NEW;
}

static void check_result(Derivation *d, const Output *output) {
  const Type *type = old_type(d, output->node);
  int times = 0, exact = 0;
  for (int i = 0; i < type->rank; i++) {
    times += is_time(type->axes[i].extent);
    exact += is_exactly_time(type->axes[i].extent);
  }
  if (times != 1 || exact != 1)
    error_at(d->diagnostics, d->from->nodes[output->node].span,
             "`%s` must have a single axis of length T, a value for each position, to write one token after "
             "the other",
             output->name);
  report_ahead(d, output->node);
}

Graph *derive(Graph *graph, DeriveKind kind, int64_t capacity, bool last_only, Diagnostics *diagnostics) {
  int errors = diagnostics->errors;
  uint8_t parts[MAX_RANK];
  Derivation d = {.from = graph, .to = graph_new_like(graph), .kind = kind, .capacity = capacity};
  d.diagnostics = diagnostics;
  d.moments = causal(graph, diagnostics);
  d.variants = ARENA_ARRAY(graph->arena, Variant *, graph->count);
  d.border = ARENA_ARRAY(graph->arena, bool, graph->count);
  for (size_t i = 0; i < graph->output_count; i++) {
    NodeId node = graph->outputs[i].node;
    check_result(&d, &graph->outputs[i]);
    result_parts(&d, node, last_only, parts);
    want(&d, node, parts);
  }
  for (size_t i = 0; i < graph->input_count; i++) // read by nothing, but there while its parts are
    if (graph->inputs[i].packing) want(&d, graph->inputs[i].node, (uint8_t[MAX_RANK]){0});
  if (diagnostics->errors > errors) return NULL;
  for (NodeId id = (NodeId)graph->count; id-- > 1;) plan_node(&d, id);
  for (NodeId id = 1; id < graph->count; id++)
    for (Variant *variant = d.variants[id]; variant; variant = variant->next) build(&d, id, variant);
  for (size_t i = 0; i < graph->output_count; i++) {
    result_parts(&d, graph->outputs[i].node, last_only, parts);
    graph_output(d.to, graph->outputs[i].name, find(&d, graph->outputs[i].node, parts)->built, false);
  }
  d.to->span = (Span){0};
  d.to->origin = 0;
  return diagnostics->errors > errors ? NULL : d.to;
}
