// Building graphs: operations and what they know -> nodes with their types.
#include "compiler/graph/graph.h"

#include <string.h>

#include "compiler/graph/attributes.h"
#include "runtime/base/failure.h"

const OpInfo op_table[OP_COUNT] = {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning)                          \
  {name, meaning, inputs, properties},
#include "compiler/graph/ops.def"
#undef OP
};

const uint16_t op_fields[OP_COUNT] = {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning) FIELDS_##type,
#include "compiler/graph/ops.def"
#undef OP
};

// ---- types --------------------------------------------------------------------------------------

void type_make_labels_unique(Arena *arena, Type *type) {
  for (int i = 1; i < type->rank; i++) {
    for (int j = 0; j < i; j++) {
      if (strcmp(type->axes[i].label, type->axes[j].label)) continue;
      type->axes[i].label = arena_print(arena, "%s'", type->axes[i].label);
      j = -1; // the new label may be taken as well
    }
  }
}

bool type_equal(const Type *a, const Type *b) {
  if (a->dtype != b->dtype || a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (!extent_equal(a->axes[i].extent, b->axes[i].extent)) return false;
  return true;
}

int64_t type_elements(const Type *type, const int64_t symbols[SYMBOL_COUNT]) {
  int64_t elements = 1;
  for (int i = 0; i < type->rank; i++) elements *= extent_value(type->axes[i].extent, symbols);
  return elements;
}

bool type_of_part(const Type *weight, Packing packing, bool scales, Type *part) {
  const PackingInfo *info = &packing_table[packing];
  int64_t extents[MAX_RANK], elements = 1;
  for (int i = 0; i < weight->rank; i++) {
    if (!extent_is_constant(weight->axes[i].extent)) return false;
    extents[i] = weight->axes[i].extent.offset;
  }
  int row = packing_row(packing, weight->rank, extents);
  *part = *weight;
  part->dtype = scales ? DTYPE_F16 : info->values;
  if (info->block == 1) return !scales;
  if (row < 0 || row + 3 > MAX_RANK) return false; // with an axis for halves of blocks between the two
  for (int i = row; i < weight->rank; i++) elements *= extents[i];
  part->axes[row] = (Axis){"block", extent_constant(elements / info->block)};
  part->axes[row + 1] = (Axis){"value", extent_constant(info->stored)};
  part->rank = row + (scales ? 1 : 2);
  return true;
}

// ---- attributes ---------------------------------------------------------------------------------

const char *field_name(Field field) {
  static const char *const names[] = {"value", "extent", "axis", "start", "stride",   "count",  "axes",
                                      "from",  "batch",  "rows", "pairs", "contract", "stream", "input"};
  int bit = 0;
  while (field >> bit > 1) bit++;
  return names[bit];
}

static bool pairs_equal(const Attributes *a, const Attributes *b) {
  if (a->batch != b->batch || a->contract != b->contract) return false;
  size_t pairs = (size_t)(a->batch + a->contract);
  return !memcmp(a->left, b->left, pairs) && !memcmp(a->right, b->right, pairs);
}

static bool field_equal(Field field, const Node *x, const Node *y) {
  const Attributes *a = &x->attributes, *b = &y->attributes;
  switch (field) {
  case FIELD_VALUE: return !memcmp(&a->number, &b->number, sizeof a->number); // tells -0 from 0
  case FIELD_EXTENT:
  case FIELD_ROWS: return extent_equal(a->extent, b->extent);
  case FIELD_AXIS: return a->axis == b->axis;
  case FIELD_START: return extent_equal(a->start, b->start);
  case FIELD_STRIDE: return a->stride == b->stride;
  case FIELD_COUNT: return a->count == b->count;
  case FIELD_AXES: return a->axes == b->axes;
  case FIELD_FROM: return !memcmp(a->from, b->from, (size_t)x->type.rank);
  case FIELD_BATCH: return a->batch == b->batch;
  case FIELD_PAIRS:
  case FIELD_CONTRACT: return pairs_equal(a, b);
  case FIELD_STREAM: return a->stream == b->stream;
  case FIELD_INPUT: return a->input == b->input;
  case FIELD_END: break;
  }
  return true;
}

bool attributes_equal(const Node *a, const Node *b) {
  for (unsigned field = 1; field < FIELD_END; field <<= 1)
    if (op_fields[a->op] & field && !field_equal((Field)field, a, b)) return false;
  return true;
}

// ---- graphs -------------------------------------------------------------------------------------

static Graph *new_graph(Arena *arena, const char *name, size_t capacity, size_t origin_capacity) {
  Graph *graph = ARENA_NEW(arena, Graph);
  graph->arena = arena;
  graph->name = arena_copy(arena, name, strlen(name));
  graph->nodes = ARENA_ARRAY(arena, Node, capacity);
  graph->capacity = capacity;
  graph->origins = ARENA_ARRAY(arena, Origin, origin_capacity);
  graph->origin_capacity = origin_capacity;
  ARENA_PUSH(arena, graph->nodes, graph->count, graph->capacity, (Node){0});
  ARENA_PUSH(arena, graph->origins, graph->origin_count, graph->origin_capacity,
             ((Origin){.path = "", .function = ""}));
  return graph;
}

Graph *graph_new(Arena *arena, const char *name) { return new_graph(arena, name, 8, 8); }

// With room for as much as the old one has: most passes leave about that, and growing would touch it twice.
Graph *graph_new_like(const Graph *graph) {
  Graph *copy =
      new_graph(graph->arena, graph->name, graph->count + graph->count / 8 + 8, graph->origin_count + 8);
  copy->streams = graph->streams;
  for (size_t i = 1; i < graph->origin_count; i++)
    ARENA_PUSH(copy->arena, copy->origins, copy->origin_count, copy->origin_capacity, graph->origins[i]);
  return copy;
}

const Type *graph_type(const Graph *graph, NodeId node) {
  if (!node || node >= graph->count) die("graph %s has no node %u", graph->name, node);
  return &graph->nodes[node].type;
}

Input *graph_find_input(Graph *graph, const char *name) {
  for (size_t i = 0; i < graph->input_count; i++)
    if (!strcmp(graph->inputs[i].name, name)) return &graph->inputs[i];
  return NULL;
}

NodeId graph_append(Graph *graph, Op op, const NodeId *inputs, Attributes attributes, const Type *type) {
  Node node = {.op = op, .attributes = attributes, .span = graph->span, .origin = graph->origin};
  for (int i = 0; i < op_table[op].inputs; i++) {
    node.in[i] = inputs[i];
    graph_type(graph, inputs[i]); // ends the program where there is no such node
  }
  Text reason = {0};
  if (!infer_type(graph, op, inputs, &attributes, type, &node.type, &reason))
    die("graph %s: %%%zu = %s: %s", graph->name, graph->count, op_table[op].name, text_string(&reason));
  type_make_labels_unique(graph->arena, &node.type);
  ARENA_PUSH(graph->arena, graph->nodes, graph->count, graph->capacity, node);
  return (NodeId)(graph->count - 1);
}

NodeId graph_input(Graph *graph, const char *name, InputRole role, Type type) {
  NodeId node =
      graph_append(graph, OP_INPUT, NULL, (Attributes){.input = (uint32_t)graph->input_count}, &type);
  Input input = {.name = arena_copy(graph->arena, name, strlen(name)), .node = node, .role = role};
  ARENA_PUSH(graph->arena, graph->inputs, graph->input_count, graph->input_capacity, input);
  return node;
}

void graph_output(Graph *graph, const char *name, NodeId node, bool update) {
  graph_type(graph, node);
  Output output = {arena_copy(graph->arena, name, strlen(name)), node, update};
  ARENA_PUSH(graph->arena, graph->outputs, graph->output_count, graph->output_capacity, output);
}

static bool same_origin(const Origin *a, const Origin *b) {
  return a->call == b->call && a->backward == b->backward && !strcmp(a->path, b->path) &&
         !strcmp(a->function, b->function);
}

// Mostly the same index, since passes begin with graph_new_like; a graph put into another one searches.
static uint32_t copy_origin(Graph *to, const Graph *from, uint32_t origin) {
  const Origin *wanted = &from->origins[origin];
  if (origin < to->origin_count && same_origin(&to->origins[origin], wanted)) return origin;
  for (size_t i = 0; i < to->origin_count; i++)
    if (same_origin(&to->origins[i], wanted)) return (uint32_t)i;
  ARENA_PUSH(to->arena, to->origins, to->origin_count, to->origin_capacity, *wanted);
  return (uint32_t)to->origin_count - 1;
}

NodeId graph_copy_node(Graph *to, const Graph *from, NodeId node, const NodeId *inputs) {
  const Node *old = &from->nodes[node];
  Span span = to->span;
  uint32_t origin = to->origin;
  NodeId copy;
  to->span = old->span;
  to->origin = copy_origin(to, from, old->origin);
  if (old->op == OP_INPUT) {
    const Input *input = &from->inputs[old->attributes.input];
    copy = graph_input(to, input->name, input->role, old->type);
    Input *copied = &to->inputs[to->input_count - 1];
    copied->trained = input->trained;
    copied->initial = input->initial;
    copied->packing = input->packing;
  } else {
    copy = graph_append(to, old->op, inputs, old->attributes, &old->type);
  }
  if (old->op == OP_RANDOM && to->streams <= old->attributes.stream) to->streams = old->attributes.stream + 1;
  to->span = span;
  to->origin = origin;
  return copy;
}

void graph_copy_outputs(Graph *to, const Graph *from, const NodeId *renamed) {
  for (size_t i = 0; i < from->output_count; i++)
    graph_output(to, from->outputs[i].name, renamed[from->outputs[i].node], from->outputs[i].update);
  to->span = (Span){0};
  to->origin = 0;
}

// ---- builders: sources --------------------------------------------------------------------------

NodeId graph_constant(Graph *graph, double value, DType dtype) {
  return graph_append(graph, OP_CONST, NULL, (Attributes){.number = value}, &(Type){.dtype = dtype});
}

NodeId graph_size(Graph *graph, Extent extent, DType dtype) {
  if (extent_is_constant(extent)) return graph_constant(graph, (double)extent.offset, dtype);
  return graph_append(graph, OP_SIZE, NULL, (Attributes){.extent = extent}, &(Type){.dtype = dtype});
}

NodeId graph_iota(Graph *graph, Axis axis, Extent start, DType dtype) {
  Type type = {.dtype = dtype, .rank = 1, .axes = {axis}};
  return graph_append(graph, OP_IOTA, NULL, (Attributes){.start = start}, &type);
}

NodeId graph_random(Graph *graph, NodeId counter, Type type) {
  return graph_append(graph, OP_RANDOM, &counter, (Attributes){.stream = graph->streams++}, &type);
}

// ---- builders: elementwise ----------------------------------------------------------------------

NodeId graph_like(Graph *graph, NodeId scalar, NodeId model) {
  const Type *type = graph_type(graph, model);
  Axis axes[MAX_RANK];
  int8_t from[MAX_RANK];
  int rank = type->rank;
  if (graph_type(graph, scalar)->rank) die("graph_like spreads a tensor of rank 0");
  for (int i = 0; i < rank; i++) axes[i] = type->axes[i], from[i] = -1;
  return graph_arrange(graph, scalar, rank, axes, from);
}

NodeId graph_unary(Graph *graph, Op op, NodeId x) {
  return graph_append(graph, op, &x, (Attributes){0}, NULL);
}

// Spreads operands of rank 0 over the axes of the first operand that has any.
static void spread(Graph *graph, NodeId *operands, int count) {
  NodeId model = 0;
  for (int i = count - 1; i >= 0; i--)
    if (graph_type(graph, operands[i])->rank) model = operands[i];
  for (int i = 0; model && i < count; i++)
    if (!graph_type(graph, operands[i])->rank) operands[i] = graph_like(graph, operands[i], model);
}

NodeId graph_binary(Graph *graph, Op op, NodeId x, NodeId y) {
  NodeId operands[] = {x, y};
  spread(graph, operands, 2);
  return graph_append(graph, op, operands, (Attributes){0}, NULL);
}

NodeId graph_select(Graph *graph, NodeId condition, NodeId x, NodeId y) {
  NodeId operands[] = {condition, x, y};
  spread(graph, operands, 3);
  return graph_append(graph, OP_SELECT, operands, (Attributes){0}, NULL);
}

NodeId graph_cast(Graph *graph, NodeId x, DType dtype) {
  if (graph_type(graph, x)->dtype == dtype) return x;
  return graph_append(graph, OP_CAST, &x, (Attributes){0}, &(Type){.dtype = dtype});
}

// ---- builders: views ----------------------------------------------------------------------------

NodeId graph_arrange(Graph *graph, NodeId x, int rank, const Axis *axes, const int8_t *from) {
  Attributes attributes = {0};
  Type type = {.rank = rank};
  bool identity = rank == graph_type(graph, x)->rank;
  if (rank > MAX_RANK) die("arrange makes %d axes", rank);
  for (int i = 0; i < rank; i++) {
    attributes.from[i] = from[i];
    type.axes[i] = axes[i];
    identity = identity && from[i] == i;
  }
  return identity ? x : graph_append(graph, OP_ARRANGE, &x, attributes, &type);
}

// The axes of x with `removed` of them from `axis` on replaced by `count` others.
static Type replace_axes(const Type *x, int axis, int removed, int count, const Axis *axes) {
  Type type = {.dtype = x->dtype, .rank = x->rank - removed + count};
  if (axis < 0 || axis + removed > x->rank || type.rank > MAX_RANK)
    die("axes %d to %d of %d give way to %d", axis, axis + removed, x->rank, count);
  for (int i = 0; i < type.rank; i++) {
    if (i < axis)
      type.axes[i] = x->axes[i];
    else if (i < axis + count)
      type.axes[i] = axes[i - axis];
    else
      type.axes[i] = x->axes[i - count + removed];
  }
  return type;
}

NodeId graph_split(Graph *graph, NodeId x, int axis, int count, const Axis *parts) {
  if (count == 1) return x;
  Type type = replace_axes(graph_type(graph, x), axis, 1, count, parts);
  return graph_append(graph, OP_SPLIT, &x, (Attributes){.axis = axis, .count = count}, &type);
}

NodeId graph_merge(Graph *graph, NodeId x, int axis, int count, const char *label) {
  if (count == 1) return x;
  Type type = replace_axes(graph_type(graph, x), axis, count, 1, &(Axis){.label = label});
  return graph_append(graph, OP_MERGE, &x, (Attributes){.axis = axis, .count = count}, &type);
}

NodeId graph_window(Graph *graph, NodeId x, int axis, Axis outer, Axis inner, int64_t start, int64_t stride) {
  Type type = replace_axes(graph_type(graph, x), axis, 1, 2, (Axis[]){outer, inner});
  Attributes attributes = {.axis = axis, .start = extent_constant(start), .stride = stride};
  return graph_append(graph, OP_WINDOW, &x, attributes, &type);
}

NodeId graph_fold(Graph *graph, NodeId x, int axis, Axis result, int64_t start, int64_t stride) {
  Type type = replace_axes(graph_type(graph, x), axis, 2, 1, &result);
  Attributes attributes = {.axis = axis, .start = extent_constant(start), .stride = stride};
  return graph_append(graph, OP_FOLD, &x, attributes, &type);
}

// The type of x with another extent of one axis.
static Type resized(const Type *x, int axis, Extent extent) {
  if (axis < 0 || axis >= x->rank) die("axis %d of %d", axis, x->rank);
  return replace_axes(x, axis, 1, 1, &(Axis){x->axes[axis].label, extent});
}

NodeId graph_slice(Graph *graph, NodeId x, int axis, Extent start, Extent extent) {
  Type type = resized(graph_type(graph, x), axis, extent);
  if (type_equal(&type, graph_type(graph, x)) && extent_equal(start, extent_constant(0))) return x;
  return graph_append(graph, OP_SLICE, &x, (Attributes){.axis = axis, .start = start}, &type);
}

NodeId graph_pad(Graph *graph, NodeId x, int axis, Extent before, Extent extent) {
  Type type = resized(graph_type(graph, x), axis, extent);
  if (type_equal(&type, graph_type(graph, x)) && extent_equal(before, extent_constant(0))) return x;
  return graph_append(graph, OP_PAD, &x, (Attributes){.axis = axis, .start = before}, &type);
}

NodeId graph_concat(Graph *graph, NodeId x, NodeId y, int axis) {
  return graph_append(graph, OP_CONCAT, (NodeId[]){x, y}, (Attributes){.axis = axis}, NULL);
}

// ---- builders: reductions, contraction, indexing ------------------------------------------------

NodeId graph_reduce(Graph *graph, Op op, NodeId x, uint32_t axes) {
  if (!axes) return x;
  return graph_append(graph, op, &x, (Attributes){.axes = axes}, NULL);
}

NodeId graph_dot(Graph *graph, NodeId x, NodeId y, int batch, int contract, const int8_t *left,
                 const int8_t *right) {
  Attributes attributes = {.batch = batch, .contract = contract};
  if (batch < 0 || contract < 0 || batch + contract > MAX_RANK) die("dot of %d + %d pairs", batch, contract);
  memcpy(attributes.left, left, (size_t)(batch + contract));
  memcpy(attributes.right, right, (size_t)(batch + contract));
  return graph_append(graph, OP_DOT, (NodeId[]){x, y}, attributes, NULL);
}

NodeId graph_gather(Graph *graph, NodeId x, NodeId index, int batch) {
  return graph_append(graph, OP_GATHER, (NodeId[]){x, index}, (Attributes){.batch = batch}, NULL);
}

NodeId graph_scatter(Graph *graph, NodeId index, NodeId value, int batch, Axis rows) {
  Attributes attributes = {.batch = batch, .extent = rows.extent};
  NodeId node = graph_append(graph, OP_SCATTER, (NodeId[]){index, value}, attributes, NULL);
  Type *type = &graph->nodes[node].type;
  type->axes[batch].label = rows.label;
  type_make_labels_unique(graph->arena, type);
  return node;
}

NodeId graph_update(Graph *graph, NodeId state, NodeId value, int axis, Extent start) {
  return graph_append(graph, OP_UPDATE, (NodeId[]){state, value}, (Attributes){.axis = axis, .start = start},
                      NULL);
}
