// One kernel per group of the Fusion: graph and fusion -> kernels, buffers and launches in order.
//
// For each group: which nodes it computes (its closure), their places in one iteration space, the expressions
// of what it stores, the anchor. Equal kernels share a row. New values of parameters and states are written
// in place where nothing reads the old value later, else they go through a temporary and a copy at the end.
#include "compiler/lower/element.h"

#include "runtime/base/failure.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct NodeList {
  NodeId *list;
  size_t count, capacity;
} NodeList;

typedef struct Lowering {
  Arena *arena;
  const Graph *graph;
  const Fusion *fusion;
  const Sources *sources;
  const int64_t *symbols;
  Lowered *out;
  ElementContext context;
  NodeList *stored; // per group
  NodeList closure; // of the group at hand: nodes it computes, in order
  NodeList leaves;  // and those it loads
  uint32_t *stamp;  // per node: the last group whose closure has it
  int *buffer;      // per node: the program's buffer, or -1
  int *last_reader; // per node: INPUT: the last group that loads it
  int *update_of;   // per node: the output that it updates in place, or -1
  size_t buffer_capacity, launch_capacity, kernel_capacity;
  uint32_t *kernel_table; // hash table of kernels
  size_t kernel_table_size;
  uint64_t *kernel_hashes;
  size_t kernel_hash_capacity;
  const char **names; // hash table of the launches' names
  size_t name_count, name_table_size;
} Lowering;

static const Node *node_at(const Lowering *lowering, NodeId id) { return &lowering->graph->nodes[id]; }

static bool is_reduction(Op op) { return op == OP_SUM || op == OP_REDMAX; }

// ---- closures

static int compare_ids(const void *a, const void *b) {
  NodeId x = *(const NodeId *)a, y = *(const NodeId *)b;
  return x < y ? -1 : x > y;
}

static void collect(Lowering *lowering, uint32_t group, NodeId id) {
  if (lowering->stamp[id] == group) return;
  lowering->stamp[id] = group;
  NodeList *list = &lowering->closure;
  if (element_is_loaded(lowering->graph, lowering->fusion, group, id)) list = &lowering->leaves;
  ARENA_PUSH(lowering->arena, list->list, list->count, list->capacity, id);
  if (list == &lowering->leaves) return;
  for (int i = 0; i < op_table[node_at(lowering, id)->op].inputs; i++)
    collect(lowering, group, node_at(lowering, id)->in[i]);
}

static void find_closure(Lowering *lowering, uint32_t group) {
  lowering->closure.count = lowering->leaves.count = 0;
  const NodeList *stored = &lowering->stored[group];
  for (size_t i = 0; i < stored->count; i++) {
    NodeId id = stored->list[i];
    const Node *node = node_at(lowering, id);
    if (node->op == OP_UPDATE) { // its state is written, not read
      lowering->stamp[id] = group;
      ARENA_PUSH(lowering->arena, lowering->closure.list, lowering->closure.count, lowering->closure.capacity,
                 id);
      collect(lowering, group, node->in[1]);
    } else {
      collect(lowering, group, id);
    }
  }
  qsort(lowering->closure.list, lowering->closure.count, sizeof(NodeId), compare_ids);
}

// ---- places

static void set_depths(Lowering *lowering) {
  uint8_t *depths = lowering->context.depths;
  for (size_t i = 0; i < lowering->leaves.count; i++) depths[lowering->leaves.list[i]] = 0;
  for (size_t i = 0; i < lowering->closure.count; i++) {
    NodeId id = lowering->closure.list[i];
    const Node *node = node_at(lowering, id);
    uint8_t depth = 0;
    for (int k = node->op == OP_UPDATE; k < op_table[node->op].inputs; k++)
      if (depths[node->in[k]] > depth) depth = depths[node->in[k]];
    depths[id] = (uint8_t)(depth + (is_reduction(node->op) && depth < UINT8_MAX));
  }
}

// Walks a contraction's operand down, so that atoms are split where its views need it.
static void settle(Lowering *lowering, NodeId id, const Place *place, int depth) {
  ElementContext *context = &lowering->context;
  if (depth > 64 || element_is_loaded(context->graph, context->fusion, context->group, id)) return;
  for (int k = 0; k < op_table[node_at(lowering, id)->op].inputs; k++) {
    Place operand;
    if (place_of_operand(&context->space, context->graph, id, place, k, &operand))
      settle(lowering, node_at(lowering, id)->in[k], &operand, depth + 1);
  }
}

// The contraction's result gives the space; contracted pairs add to it.
static bool place_dot(Lowering *lowering, NodeId id) {
  ElementContext *context = &lowering->context;
  const Node *node = node_at(lowering, id);
  const Attributes *attributes = &node->attributes;
  const int8_t *pairs[2] = {attributes->left, attributes->right};
  Place *result = &context->places[id];
  if (!space_add_type(&context->space, &node->type, result)) return false;
  const Type *x = &node_at(lowering, node->in[0])->type;
  for (int i = 0; i < attributes->contract; i++) {
    context->contract[i] = (Place){.known = true};
    if (!space_add_axis(&context->space, x->axes[attributes->left[attributes->batch + i]],
                        &context->contract[i]))
      return result->known = false;
  }
  for (int k = 0, free_axis = attributes->batch; k < 2; k++) {
    const Type *type = &node_at(lowering, node->in[k])->type;
    Place operand = {.known = true, .rank = (uint8_t)type->rank};
    uint32_t paired = 0;
    for (int i = 0; i < attributes->batch + attributes->contract; i++) {
      bool batch = i < attributes->batch;
      const Place *from = batch ? result : &context->contract[i - attributes->batch];
      int axis = batch ? i : 0, to = pairs[k][i];
      operand.counts[to] = from->counts[axis];
      memcpy(operand.atoms[to], from->atoms[axis], AXIS_MAX_ATOMS);
      paired |= 1u << to;
    }
    for (int i = 0; i < type->rank; i++) {
      if (paired >> i & 1) continue;
      operand.counts[i] = result->counts[free_axis];
      memcpy(operand.atoms[i], result->atoms[free_axis++], AXIS_MAX_ATOMS);
    }
    settle(lowering, node->in[k], &operand, 0);
  }
  return true;
}

static void set_place(Lowering *lowering, NodeId id, const Place *place) {
  if (place->known && !lowering->context.places[id].known) lowering->context.places[id] = *place;
}

// The operand of a reduction whose result has a place: reduced axes take the atoms of `bound`, in order.
static bool place_of_reduced(Lowering *lowering, NodeId id, uint64_t bound, Place *operand) {
  const Node *node = node_at(lowering, id);
  Space *space = &lowering->context.space;
  Place result = lowering->context.places[id];
  const Type *type = &node_at(lowering, node->in[0])->type;
  *operand = (Place){.rank = (uint8_t)type->rank};
  if (!is_reduction(node->op) || !place_refresh(space, &result)) return false;
  bound = space_whole(space, bound);
  for (int i = 0, kept = 0; i < type->rank; i++) {
    if (!(reduced_axes(node) >> i & 1)) {
      operand->counts[i] = result.counts[kept];
      memcpy(operand->atoms[i], result.atoms[kept++], AXIS_MAX_ATOMS);
      continue;
    }
    if (extent_equal(type->axes[i].extent, extent_constant(1))) continue;
    if (!bound) return false;
    int atom = __builtin_ctzll(bound);
    bound &= bound - 1;
    if (!extent_equal(space->atoms[atom].extent, type->axes[i].extent)) return false;
    operand->counts[i] = 1;
    operand->atoms[i][0] = (uint8_t)atom;
  }
  return operand->known = true;
}

// Rows of what a group reduces beside its lead, without a node that reads both: in order, if the extents
// agree.
static bool place_beside(Lowering *lowering, NodeId id, NodeId lead) {
  ElementContext *context = &lowering->context;
  Place result = context->places[lead];
  const Type *type = &node_at(lowering, id)->type, *as = &node_at(lowering, lead)->type;
  if (!is_reduction(node_at(lowering, id)->op) || !result.known || type->rank != as->rank) return false;
  for (int i = 0; i < type->rank; i++)
    if (!extent_equal(type->axes[i].extent, as->axes[i].extent)) return false;
  context->places[id] = result;
  return true;
}

// From the lead's place to those of all nodes around it, up and down until nothing changes.
static void spread_places(Lowering *lowering, uint64_t fill) {
  ElementContext *context = &lowering->context;
  const NodeList *closure = &lowering->closure;
  for (int round = 0; round < 4; round++) {
    for (size_t i = 0; i < closure->count; i++) {
      NodeId id = closure->list[i];
      const Node *node = node_at(lowering, id);
      for (int k = 0; k < op_table[node->op].inputs && !context->places[id].known; k++) {
        Place place;
        const Place *operand = &context->places[node->in[k]];
        if (operand->known && place_of_result(&context->space, context->graph, id, k, operand, fill, &place))
          set_place(lowering, id, &place);
      }
    }
    for (size_t i = closure->count; i-- > 0;) {
      NodeId id = closure->list[i];
      const Node *node = node_at(lowering, id);
      if (!context->places[id].known) continue;
      for (int k = 0; k < op_table[node->op].inputs; k++) {
        Place place;
        if (context->places[node->in[k]].known) continue;
        if (place_of_operand(&context->space, context->graph, id, &context->places[id], k, &place) ||
            place_of_reduced(lowering, id, fill, &place))
          set_place(lowering, node->in[k], &place);
      }
    }
  }
}

// The node that gives a group its space: its contraction, else its first reduction, else what it stores
// first.
static NodeId find_lead(const Lowering *lowering, uint32_t group) {
  NodeId reduction = 0;
  for (size_t i = 0; i < lowering->closure.count; i++) {
    NodeId id = lowering->closure.list[i];
    Op op = node_at(lowering, id)->op;
    if (is_contraction(lowering->graph, node_at(lowering, id))) return id;
    if (is_reduction(op) && !reduction) reduction = id;
  }
  return reduction ? reduction : lowering->stored[group].list[0];
}

static void set_places(Lowering *lowering, uint32_t group) {
  ElementContext *context = &lowering->context;
  NodeId lead = find_lead(lowering, group);
  const Node *node = node_at(lowering, lead);
  uint64_t fill = 0;
  Place place;
  if (is_contraction(lowering->graph, node)) {
    place_dot(lowering, lead);
  } else if (is_reduction(node->op)) {
    if (space_add_type(&context->space, &node_at(lowering, node->in[0])->type, &place)) {
      set_place(lowering, node->in[0], &place);
      for (int i = 0; i < place.rank; i++)
        if (reduced_axes(node) >> i & 1 && place.counts[i]) fill |= (uint64_t)1 << place.atoms[i][0];
    }
  } else if (space_add_type(&context->space, &node->type, &place)) {
    set_place(lowering, lead, &place);
  }
  spread_places(lowering, fill);
  for (size_t i = 0; i < lowering->closure.count; i++) {
    NodeId id = lowering->closure.list[i];
    if (!context->places[id].known && place_beside(lowering, id, lead)) spread_places(lowering, fill);
  }
}

// ---- expressions and stores

static void context_begin(Lowering *lowering, uint32_t group, Kernel *kernel) {
  ElementContext *context = &lowering->context;
  context->kernel = kernel;
  context->group = group;
  context->guard = 0;
  context->memo_count = 0;
  memset(context->memo_table, 0, context->memo_table_size * sizeof(uint32_t));
  space_init(&context->space);
  for (int i = 0; i < SPACE_MAX_ATOMS; i++) {
    context->axis_of_atom[i] = -1;
    for (int k = 0; k < ELEMENT_MAX_DEPTH; k++) context->bound_axis[k][i] = -1;
  }
  for (size_t i = 0; i < lowering->closure.count; i++)
    context->places[lowering->closure.list[i]].known = false;
  for (size_t i = 0; i < lowering->leaves.count; i++) context->places[lowering->leaves.list[i]].known = false;
}

static void context_end(Lowering *lowering) {
  for (int i = 0; i < lowering->context.kernel->buffer_count; i++)
    lowering->context.buffer_of_node[lowering->context.node_of_buffer[i]] = -1;
}

// One index per axis of a place, and the kernel's axes that it runs over.
static uint32_t place_indices(ElementContext *context, const Place *place, ExprId *index) {
  uint32_t axes = 0;
  for (int i = 0; i < place->rank; i++) {
    index[i] = place_index(context, place, i);
    for (int k = 0; k < place->counts[i]; k++) axes |= 1u << context->axis_of_atom[place->atoms[i][k]];
  }
  return axes;
}

// Likewise for a stored node, in a space of its own if it has no place.
static uint32_t store_index(Lowering *lowering, NodeId id, ExprId *index) {
  ElementContext *context = &lowering->context;
  const Type *type = &node_at(lowering, id)->type;
  Place place = context->places[id];
  uint32_t axes = 0;
  if (place_refresh(&context->space, &place) || space_add_type(&context->space, type, &place))
    return place_indices(context, &place, index);
  for (int i = 0; i < type->rank; i++) {
    int axis = kernel_axis(context->kernel, type->axes[i].label, type->axes[i].extent);
    index[i] = kernel_axis_value(context->kernel, axis);
    axes |= 1u << axis;
  }
  return axes;
}

// The kernel's buffer for what a node is stored in; `reads` is the input whose buffer it overwrites, or 0.
static int store_buffer(Lowering *lowering, NodeId id, NodeId overwritten) {
  ElementContext *context = &lowering->context;
  const Type *type = &node_at(lowering, id)->type;
  if (overwritten && context->buffer_of_node[overwritten] >= 0) {
    int buffer = context->buffer_of_node[overwritten];
    context->kernel->buffers[buffer].use = BUFFER_UPDATE;
    return buffer;
  }
  Extent extents[MAX_RANK];
  for (int i = 0; i < type->rank; i++) extents[i] = type->axes[i].extent;
  char name[16];
  snprintf(name, sizeof name, "y%d", context->kernel->store_count);
  int buffer = kernel_buffer(context->kernel, name, type->dtype, type->rank, extents, BUFFER_WRITE);
  context->node_of_buffer[buffer] = id;
  return buffer;
}

typedef struct Pending {
  NodeId node, overwritten;
  ExprId index[MAX_RANK], value;
  uint32_t axes;
  StoreMode mode;
} Pending;

static Pending store_scatter(Lowering *lowering, NodeId id) {
  ElementContext *context = &lowering->context;
  const Node *node = node_at(lowering, id);
  Pending store = {.node = id, .mode = STORE_ADD};
  Place place;
  ExprId at[MAX_RANK] = {0};
  space_add_type(&context->space, &node_at(lowering, node->in[1])->type, &place);
  store.axes = place_indices(context, &place, at);
  int batch = node->attributes.batch, indexed = node_at(lowering, node->in[0])->type.rank;
  for (int i = 0; i < node->type.rank; i++) store.index[i] = i < batch ? at[i] : at[i + indexed - batch - 1];
  store.index[batch] = kernel_cast(context->kernel, element(context, node->in[0], at), DTYPE_I64);
  store.value = element(context, node->in[1], at);
  return store;
}

// Overwrites a part of the state: y[.., start + i, ..] = v[.., i, ..].
static Pending store_update(Lowering *lowering, NodeId id) {
  ElementContext *context = &lowering->context;
  const Node *node = node_at(lowering, id);
  Pending store = {.node = id};
  Place place;
  ExprId at[MAX_RANK] = {0};
  space_add_type(&context->space, &node_at(lowering, node->in[1])->type, &place);
  store.axes = place_indices(context, &place, at);
  memcpy(store.index, at, sizeof at);
  int axis = node->attributes.axis;
  ExprId start = kernel_size(context->kernel, node->attributes.start);
  store.index[axis] = kernel_binary(context->kernel, SCALAR_ADD, at[axis], start);
  store.value = element(context, node->in[1], at);
  return store;
}

static NodeId overwritten_input(const Lowering *lowering, NodeId id) {
  int output = lowering->update_of[id];
  if (output < 0) return 0;
  return graph_find_input((Graph *)(uintptr_t)lowering->graph, lowering->graph->outputs[output].name)->node;
}

static void build_stores(Lowering *lowering, uint32_t group) {
  const NodeList *stored = &lowering->stored[group];
  ElementContext *context = &lowering->context;
  Pending *pending = ARENA_ARRAY(lowering->arena, Pending, stored->count);
  for (size_t i = 0; i < stored->count; i++) {
    NodeId id = stored->list[i];
    const Node *node = node_at(lowering, id);
    if (node->op == OP_SCATTER && !scatter_is_elementwise(lowering->graph, node)) {
      pending[i] = store_scatter(lowering, id);
    } else if (node->op == OP_UPDATE) {
      pending[i] = store_update(lowering, id);
    } else {
      pending[i] = (Pending){.node = id, .overwritten = overwritten_input(lowering, id)};
      pending[i].axes = store_index(lowering, id, pending[i].index);
      pending[i].value = element(context, id, pending[i].index);
    }
  }
  for (size_t i = 0; i < stored->count; i++) {
    Pending *store = &pending[i];
    int buffer = store_buffer(lowering, store->node, store->overwritten);
    kernel_store(context->kernel, buffer, store->index, store->value, store->axes, store->mode);
  }
}

// In place is only legal where each element is read at the very place that it is written.
static bool updates_fit(const Kernel *kernel) {
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (expr->op != SCALAR_LOAD || kernel->buffers[expr->buffer].use != BUFFER_UPDATE) continue;
    for (int i = 0; i < kernel->store_count; i++) {
      const Store *store = &kernel->stores[i];
      if (store->axes != kernel->stores[0].axes) return false;
      if (store->buffer == expr->buffer && memcmp(store->index, expr->index, sizeof store->index))
        return false;
    }
  }
  return true;
}

// ---- anchors

// A row's reductions bind the fastest axis of what they read: of its loads, one moves by one along a bound
// axis.
static bool binds_fastest(Kernel *kernel, ExprId reduction) {
  uint32_t axes = kernel->exprs[reduction].axes;
  int votes = 0;
  for (ExprId id = 1; id < reduction; id++) {
    const Expr *expr = &kernel->exprs[id];
    if (expr->op != SCALAR_LOAD || !(kernel_free_axes(kernel, id) & axes)) continue;
    bool bound = false, kept = false;
    for (int axis = 0; axis < kernel->axis_count; axis++) {
      if (!(kernel_free_axes(kernel, id) >> axis & 1)) continue;
      if (kernel_stride(kernel, expr->buffer, expr->index, axis) != 1) continue;
      if (axes >> axis & 1)
        bound = true;
      else
        kept = true;
    }
    votes += bound - kept;
  }
  return votes >= 0;
}

static Anchor find_anchor(Kernel *kernel) {
  bool *reached = arena_alloc(kernel->arena, kernel->expr_count);
  Anchor anchor = ANCHOR_MAP;
  kernel_reachable(kernel, reached);
  for (int i = 0; i < kernel->store_count; i++)
    if (kernel->stores[i].mode == STORE_ADD) return ANCHOR_SCATTER;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    if (!reached[id] || !kernel->exprs[id].axes) continue;
    if (kernel->exprs[id].op == SCALAR_DOT) return ANCHOR_DOT;
    if (anchor == ANCHOR_MAP) anchor = binds_fastest(kernel, id) ? ANCHOR_ROW : ANCHOR_COLUMN;
  }
  return anchor;
}

// ---- names and model lines

static void add_identifier(Text *text, const char *word, bool digits) {
  if (!*word) return;
  if (text->length) text_print(text, "_");
  for (; *word; word++) {
    bool letter = (*word | 32) >= 'a' && (*word | 32) <= 'z', digit = *word >= '0' && *word <= '9';
    if (*word == '.' && !digits && word[1] >= '0' && word[1] <= '9') { // ".12." of a layer
      const char *end = word + 1;
      while (*end >= '0' && *end <= '9') end++;
      if (!*end || *end == '.') {
        word = end - 1;
        continue;
      }
    }
    text_print(text, "%c", letter || digit ? *word : '_');
  }
}

// The node that a kernel is named after: its contraction, its last reduction, or what it stores last.
static NodeId main_node(const Lowering *lowering, uint32_t group) {
  const NodeList *stored = &lowering->stored[group];
  NodeId best = stored->list[stored->count - 1];
  for (size_t i = 0; i < lowering->closure.count; i++) {
    Op op = node_at(lowering, lowering->closure.list[i])->op;
    if (op == OP_DOT || is_reduction(op)) best = lowering->closure.list[i];
  }
  return best;
}

// "lm_blocks_0_attn_softmax"; without layer numbers for code that layers share.
static void kernel_name(const Lowering *lowering, uint32_t group, bool digits, Text *name) {
  const Node *node = node_at(lowering, main_node(lowering, group));
  const Origin *origin = &lowering->graph->origins[node->origin];
  add_identifier(name, origin->path ? origin->path : "", digits);
  const char *function = origin->function ? origin->function : "";
  if (strrchr(function, '.')) function = strrchr(function, '.') + 1;
  add_identifier(name, *function ? function : op_table[node->op].name, true);
  if (origin->backward) text_print(name, "_backward");
}

static uint64_t text_hash(const char *text) {
  uint64_t hash = 14695981039346656037u;
  while (*text) hash = (hash ^ (unsigned char)*text++) * 1099511628211u;
  return hash;
}

static bool name_taken(const Lowering *lowering, const char *name, size_t *at) {
  *at = text_hash(name) & (lowering->name_table_size - 1);
  for (; lowering->names[*at]; *at = (*at + 1) & (lowering->name_table_size - 1))
    if (!strcmp(lowering->names[*at], name)) return true;
  return false;
}

static const char *unique_name(Lowering *lowering, const char *wanted) {
  size_t at;
  const char *name = arena_copy(lowering->arena, wanted, strlen(wanted));
  if (*name >= '0' && *name <= '9') name = arena_print(lowering->arena, "k%s", name);
  const char *base = name;
  for (int suffix = 2; name_taken(lowering, name, &at); suffix++)
    name = arena_print(lowering->arena, "%s_%d", base, suffix);
  lowering->names[at] = name;
  return name;
}

static const char *place_of_span(const Lowering *lowering, Span span) {
  if (!span.source || !lowering->sources || span.source >= lowering->sources->count) return "";
  return arena_print(lowering->arena, "%s:%d", lowering->sources->list[span.source].path,
                     span_line(lowering->sources, span));
}

static const char *model_lines(const Lowering *lowering, Kernel *kernel) {
  Text text = {0};
  const char *seen[64];
  int count = 0;
  for (size_t i = 0; i < kernel->span_count && count < 64; i++) {
    const char *line = place_of_span(lowering, kernel->spans[i]);
    bool known = !*line;
    for (int k = 0; k < count && !known; k++) known = !strcmp(seen[k], line);
    if (known) continue;
    seen[count++] = line;
    text_print(&text, "%s%s", text.length ? ", " : "", line);
  }
  const char *lines = arena_copy(lowering->arena, text_string(&text), text.length);
  text_free(&text);
  return lines;
}

// ---- the program

static int add_buffer(Lowering *lowering, Buffer buffer) {
  Program *program = &lowering->out->program;
  size_t count = (size_t)program->buffer_count;
  buffer.first_launch = buffer.last_launch = -1;
  ARENA_PUSH(lowering->arena, program->buffers, count, lowering->buffer_capacity, buffer);
  program->buffer_count = (int)count;
  return program->buffer_count - 1;
}

static Buffer buffer_for(const Lowering *lowering, const char *name, BufferRole role, NodeId id) {
  const Node *node = node_at(lowering, id);
  Buffer buffer = {.name = name, .role = role, .dtype = node->type.dtype, .rank = node->type.rank};
  for (int i = 0; i < node->type.rank; i++) {
    buffer.extents[i] = node->type.axes[i].extent;
    buffer.labels[i] = node->type.axes[i].label;
  }
  buffer.origin = place_of_span(lowering, node->span);
  return buffer;
}

static const BufferRole input_roles[INPUT_ROLE_COUNT] = {[INPUT_DATA] = ROLE_DATA,
                                                         [INPUT_PARAM] = ROLE_PARAM,
                                                         [INPUT_STATE] = ROLE_STATE,
                                                         [INPUT_SCALAR] = ROLE_SCALAR};

static void add_inputs(Lowering *lowering) {
  for (size_t i = 0; i < lowering->graph->input_count; i++) {
    const Input *input = &lowering->graph->inputs[i];
    Buffer buffer = buffer_for(lowering, input->name, input_roles[input->role], input->node);
    buffer.trained = input->trained;
    buffer.initial_normal = input->initial.normal;
    buffer.initial_value = input->initial.value;
    buffer.initial_spread = input->initial.spread;
    lowering->buffer[input->node] = add_buffer(lowering, buffer);
  }
}

// May the group that computes the new value write it over the old one? All readers of the old come before.
static bool in_place(const Lowering *lowering, const Output *output) {
  NodeId input = graph_find_input((Graph *)(uintptr_t)lowering->graph, output->name)->node;
  const Node *node = node_at(lowering, output->node);
  uint32_t group = lowering->fusion->group[output->node];
  if (!group || lowering->buffer[output->node] >= 0 || node->op == OP_SCATTER) return false;
  return lowering->last_reader[input] <= (int)group;
}

// Buffers of what the groups store: an output's own, the state's that it overwrites, or a temporary.
static void place_outputs(Lowering *lowering) {
  const Graph *graph = lowering->graph;
  for (NodeId id = 1; id < graph->count; id++) // updates of states are always in place: verify.c
    if (graph->nodes[id].op == OP_UPDATE && lowering->fusion->group[id])
      lowering->buffer[id] = lowering->buffer[graph->nodes[id].in[0]];
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    if (!output->update || !in_place(lowering, output)) continue;
    lowering->update_of[output->node] = (int)i;
    lowering->buffer[output->node] =
        lowering->buffer[graph_find_input((Graph *)(uintptr_t)graph, output->name)->node];
  }
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    if (output->update || !lowering->fusion->group[output->node] || lowering->buffer[output->node] >= 0)
      continue;
    lowering->buffer[output->node] =
        add_buffer(lowering, buffer_for(lowering, output->name, ROLE_RESULT, output->node));
  }
}

static int buffer_of_stored(Lowering *lowering, NodeId id) {
  if (lowering->buffer[id] < 0) {
    const char *name = arena_print(lowering->arena, "t%u", id);
    lowering->buffer[id] = add_buffer(lowering, buffer_for(lowering, name, ROLE_TEMPORARY, id));
  }
  return lowering->buffer[id];
}

// ---- kernels that are equal share a row

static void kernel_table_add(Lowering *lowering, size_t row) {
  size_t at = lowering->kernel_hashes[row] & (lowering->kernel_table_size - 1);
  while (lowering->kernel_table[at]) at = (at + 1) & (lowering->kernel_table_size - 1);
  lowering->kernel_table[at] = (uint32_t)row + 1;
}

static int kernel_row(Lowering *lowering, Kernel *kernel, const char *shared_name) {
  Lowered *out = lowering->out;
  uint64_t hash = kernel_hash(kernel);
  size_t mask = lowering->kernel_table_size - 1;
  for (size_t at = hash & mask; lowering->kernel_table[at]; at = (at + 1) & mask) {
    size_t row = lowering->kernel_table[at] - 1;
    if (lowering->kernel_hashes[row] == hash && kernel_same_code(out->kernels[row], kernel)) return (int)row;
  }
  kernel->name = unique_name(lowering, shared_name);
  size_t hashes = out->kernel_count;
  ARENA_PUSH(lowering->arena, lowering->kernel_hashes, hashes, lowering->kernel_hash_capacity, hash);
  ARENA_PUSH(lowering->arena, out->kernels, out->kernel_count, lowering->kernel_capacity, kernel);
  kernel_table_add(lowering, out->kernel_count - 1);
  return (int)out->kernel_count - 1;
}

static void touch_buffer(Lowering *lowering, int buffer, int launch) {
  Buffer *of = &lowering->out->program.buffers[buffer];
  if (of->first_launch < 0) of->first_launch = launch;
  of->last_launch = launch;
}

// Appends the launch of a kernel; buffers: the program's, in the kernel's order.
static void add_launch(Lowering *lowering, Kernel *kernel, const char *name, const char *shared_name,
                       int *buffers) {
  Program *program = &lowering->out->program;
  Launch launch = {.buffers = buffers, .buffer_count = kernel->buffer_count};
  launch.kernel = arena_copy(lowering->arena, name, strlen(name));
  launch.lines = model_lines(lowering, kernel);
  launch.anchor = anchor_names[kernel->anchor];
  launch.flops = kernel_flops(kernel, lowering->symbols);
  launch.bytes = kernel_bytes(kernel, lowering->symbols);
  launch.code = kernel_row(lowering, kernel, shared_name);
  size_t count = (size_t)program->launch_count;
  ARENA_PUSH(lowering->arena, program->launches, count, lowering->launch_capacity, launch);
  program->launch_count = (int)count;
  for (int i = 0; i < kernel->buffer_count; i++)
    touch_buffer(lowering, buffers[i], program->launch_count - 1);
}

static Kernel *build_kernel(Lowering *lowering, uint32_t group) {
  Kernel *kernel = kernel_new(lowering->arena, "kernel");
  find_closure(lowering, group);
  context_begin(lowering, group, kernel);
  set_depths(lowering);
  set_places(lowering, group);
  build_stores(lowering, group);
  for (size_t i = 0; i < lowering->closure.count; i++) {
    Span span = node_at(lowering, lowering->closure.list[i])->span;
    if (!span.source) continue;
    ARENA_PUSH(lowering->arena, kernel->spans, kernel->span_count, kernel->span_capacity, span);
  }
  kernel->anchor = find_anchor(kernel);
  return kernel;
}

static void lower_group(Lowering *lowering, uint32_t group) {
  ElementContext *context = &lowering->context;
  Kernel *kernel = build_kernel(lowering, group);
  if (!updates_fit(kernel)) { // the old value is read elsewhere than where the new one goes: through a copy
    context_end(lowering);
    for (size_t i = 0; i < lowering->stored[group].count; i++) {
      NodeId id = lowering->stored[group].list[i];
      if (lowering->update_of[id] < 0) continue;
      lowering->update_of[id] = -1;
      lowering->buffer[id] = -1;
    }
    lowering->stamp[0] = 0;
    for (size_t i = 0; i < lowering->closure.count; i++) lowering->stamp[lowering->closure.list[i]] = 0;
    for (size_t i = 0; i < lowering->leaves.count; i++) lowering->stamp[lowering->leaves.list[i]] = 0;
    kernel = build_kernel(lowering, group);
  }
  int *buffers = ARENA_ARRAY(lowering->arena, int, kernel->buffer_count);
  for (int i = 0; i < kernel->buffer_count; i++)
    buffers[i] = buffer_of_stored(lowering, context->node_of_buffer[i]);
  for (int i = 0; i < kernel->store_count; i++)
    if (kernel->stores[i].mode == STORE_ADD)
      lowering->out->program.buffers[buffers[kernel->stores[i].buffer]].zeroed = true;
  context_end(lowering);
  Text name = {0}, shared = {0};
  kernel_name(lowering, group, true, &name);
  kernel_name(lowering, group, false, &shared);
  add_launch(lowering, kernel, text_string(&name), text_string(&shared), buffers);
  text_free(&name);
  text_free(&shared);
}

// ---- copies

static void add_copy(Lowering *lowering, NodeId id, int from, int to) {
  Kernel *kernel = kernel_new(lowering->arena, "copy");
  const Node *node = node_at(lowering, id);
  Extent extents[MAX_RANK];
  ExprId index[MAX_RANK] = {0};
  uint32_t axes = 0;
  for (int i = 0; i < node->type.rank; i++) {
    extents[i] = node->type.axes[i].extent;
    index[i] = kernel_axis_value(kernel, kernel_axis(kernel, node->type.axes[i].label, extents[i]));
    axes |= kernel_free_axes(kernel, index[i]);
  }
  int source = kernel_buffer(kernel, "x0", node->type.dtype, node->type.rank, extents, BUFFER_READ);
  int result = kernel_buffer(kernel, "y0", node->type.dtype, node->type.rank, extents, BUFFER_WRITE);
  kernel_store(kernel, result, index, kernel_load(kernel, source, index, 0), axes, STORE_SET);
  kernel->anchor = ANCHOR_MAP;
  if (node->span.source)
    ARENA_PUSH(lowering->arena, kernel->spans, kernel->span_count, kernel->span_capacity, node->span);
  int *buffers = ARENA_ARRAY(lowering->arena, int, 2);
  buffers[0] = from;
  buffers[1] = to;
  add_launch(lowering, kernel, "copy", "copy", buffers);
}

// What an update takes from an input, another update may overwrite: it is set aside first.
static void set_inputs_aside(Lowering *lowering, int *aside) {
  for (size_t i = 0; i < lowering->graph->output_count; i++) {
    const Output *output = &lowering->graph->outputs[i];
    aside[i] = -1;
    if (!output->update || node_at(lowering, output->node)->op != OP_INPUT) continue;
    const char *name = arena_print(lowering->arena, "old:%s", output->name);
    aside[i] = add_buffer(lowering, buffer_for(lowering, name, ROLE_TEMPORARY, output->node));
    add_copy(lowering, output->node, lowering->buffer[output->node], aside[i]);
  }
}

static void copy_outputs(Lowering *lowering) {
  const Graph *graph = lowering->graph;
  int *aside = ARENA_ARRAY(lowering->arena, int, graph->output_count + 1);
  for (size_t i = 0; i < graph->output_count; i++) { // results first: an update may overwrite what they show
    const Output *output = &graph->outputs[i];
    int from = lowering->buffer[output->node];
    const char *have = lowering->out->program.buffers[from].name;
    if (output->update ||
        (lowering->out->program.buffers[from].role == ROLE_RESULT && !strcmp(have, output->name)))
      continue;
    add_copy(lowering, output->node, from,
             add_buffer(lowering, buffer_for(lowering, output->name, ROLE_RESULT, output->node)));
  }
  set_inputs_aside(lowering, aside);
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    int from = aside[i] >= 0 ? aside[i] : lowering->buffer[output->node];
    if (!output->update) continue;
    int to = lowering->buffer[graph_find_input((Graph *)(uintptr_t)graph, output->name)->node];
    if (lowering->buffer[output->node] != to) add_copy(lowering, output->node, from, to);
  }
}

// ---- all

static void prepare(Lowering *lowering) {
  size_t count = lowering->graph->count;
  ElementContext *context = &lowering->context;
  *context = (ElementContext){.arena = lowering->arena, .graph = lowering->graph, .fusion = lowering->fusion};
  context->buffer_of_node = ARENA_ARRAY(lowering->arena, int, count);
  context->places = ARENA_ARRAY(lowering->arena, Place, count);
  context->depths = ARENA_ARRAY(lowering->arena, uint8_t, count);
  context->memo_table_size = 64;
  context->memo_table = ARENA_ARRAY(lowering->arena, uint32_t, context->memo_table_size);
  lowering->stored = ARENA_ARRAY(lowering->arena, NodeList, lowering->fusion->group_count + 1);
  lowering->stamp = ARENA_ARRAY(lowering->arena, uint32_t, count);
  lowering->buffer = ARENA_ARRAY(lowering->arena, int, count);
  lowering->last_reader = ARENA_ARRAY(lowering->arena, int, count);
  lowering->update_of = ARENA_ARRAY(lowering->arena, int, count);
  lowering->name_table_size = lowering->kernel_table_size = 64;
  while (lowering->name_table_size < 4 * (lowering->fusion->group_count + lowering->graph->output_count))
    lowering->name_table_size *= 2;
  lowering->kernel_table_size = lowering->name_table_size;
  lowering->names = ARENA_ARRAY(lowering->arena, const char *, lowering->name_table_size);
  lowering->kernel_table = ARENA_ARRAY(lowering->arena, uint32_t, lowering->kernel_table_size);
  for (NodeId id = 0; id < count; id++) {
    context->buffer_of_node[id] = lowering->buffer[id] = lowering->update_of[id] = -1;
    if (lowering->fusion->group[id]) {
      NodeList *list = &lowering->stored[lowering->fusion->group[id]];
      ARENA_PUSH(lowering->arena, list->list, list->count, list->capacity, id);
    }
  }
}

static void find_last_readers(Lowering *lowering) {
  for (uint32_t group = 1; group <= lowering->fusion->group_count; group++) {
    find_closure(lowering, group);
    for (size_t i = 0; i < lowering->leaves.count; i++)
      lowering->last_reader[lowering->leaves.list[i]] = (int)group;
  }
  memset(lowering->stamp, 0, lowering->graph->count * sizeof *lowering->stamp);
  for (size_t i = 0; i < lowering->graph->output_count;
       i++) // shown, or copied elsewhere, after the last group
    lowering->last_reader[lowering->graph->outputs[i].node] = INT_MAX;
}

static void fill_codes(Lowering *lowering) {
  Lowered *out = lowering->out;
  out->program.code_count = (int)out->kernel_count;
  out->program.codes = ARENA_ARRAY(lowering->arena, Code, out->kernel_count + 1);
  for (size_t i = 0; i < out->kernel_count; i++) out->program.codes[i].name = out->kernels[i]->name;
}

void lower(Arena *arena, const Graph *graph, const Fusion *fusion, const Sources *sources,
           const int64_t symbols[SYMBOL_COUNT], Lowered *lowered) {
  Lowering lowering = {
      .arena = arena, .graph = graph, .fusion = fusion, .sources = sources, .symbols = symbols};
  memset(lowered, 0, sizeof *lowered);
  lowering.out = lowered;
  lowered->program.name = graph->name;
  prepare(&lowering);
  find_last_readers(&lowering);
  add_inputs(&lowering);
  place_outputs(&lowering);
  for (uint32_t group = 1; group <= fusion->group_count; group++) lower_group(&lowering, group);
  copy_outputs(&lowering);
  fill_codes(&lowering);
}
