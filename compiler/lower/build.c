// One kernel: a group of nodes -> their places in one iteration space, the expressions of what it stores, its
// anchor.
#include "compiler/lower/lowering.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- closures -----------------------------------------------------------------------------------

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
  for (int i = 0; i < op_table[lowering_node(lowering, id)->op].inputs; i++)
    collect(lowering, group, lowering_node(lowering, id)->in[i]);
}

void find_closure(Lowering *lowering, uint32_t group) {
  lowering->closure.count = lowering->leaves.count = 0;
  const NodeList *stored = &lowering->stored[group];
  for (size_t i = 0; i < stored->count; i++) {
    NodeId id = stored->list[i];
    const Node *node = lowering_node(lowering, id);
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

// ---- places -------------------------------------------------------------------------------------

static void set_depths(Lowering *lowering) {
  uint8_t *depths = lowering->context.depths;
  for (size_t i = 0; i < lowering->leaves.count; i++) depths[lowering->leaves.list[i]] = 0;
  for (size_t i = 0; i < lowering->closure.count; i++) {
    NodeId id = lowering->closure.list[i];
    const Node *node = lowering_node(lowering, id);
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
  for (int k = 0; k < op_table[lowering_node(lowering, id)->op].inputs; k++) {
    Place operand;
    if (place_of_operand(&context->space, context->graph, id, place, k, &operand))
      settle(lowering, lowering_node(lowering, id)->in[k], &operand, depth + 1);
  }
}

static void set_place(Lowering *lowering, NodeId id, const Place *place) {
  if (place->known && !lowering->context.places[id].known) lowering->context.places[id] = *place;
}

// The contraction's result gives the space; contracted pairs add to it. `chained`: its operands are made of
// contractions, and what else is stored of them has its place in the same space.
static bool place_dot(Lowering *lowering, NodeId id, bool chained) {
  ElementContext *context = &lowering->context;
  const Node *node = lowering_node(lowering, id);
  const Attributes *attributes = &node->attributes;
  const int8_t *pairs[2] = {attributes->left, attributes->right};
  Place *result = &context->places[id];
  if (!space_add_type(&context->space, &node->type, result)) return false;
  const Type *x = &lowering_node(lowering, node->in[0])->type;
  for (int i = 0; i < attributes->contract; i++) {
    context->contract[i] = (Place){.known = true};
    if (!space_add_axis(&context->space, x->axes[attributes->left[attributes->batch + i]],
                        &context->contract[i]))
      return result->known = false;
  }
  for (int k = 0, free_axis = attributes->batch; k < 2; k++) {
    const Type *type = &lowering_node(lowering, node->in[k])->type;
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
    bool loaded = element_is_loaded(context->graph, context->fusion, context->group, node->in[k]);
    if (chained && !loaded) set_place(lowering, node->in[k], &operand);
  }
  return true;
}

// The operand of a reduction whose result has a place: reduced axes take the atoms of `bound`, in order.
static bool place_of_reduced(Lowering *lowering, NodeId id, uint64_t bound, Place *operand) {
  const Node *node = lowering_node(lowering, id);
  Space *space = &lowering->context.space;
  Place result = lowering->context.places[id];
  const Type *type = &lowering_node(lowering, node->in[0])->type;
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
  const Type *type = &lowering_node(lowering, id)->type, *as = &lowering_node(lowering, lead)->type;
  if (!is_reduction(lowering_node(lowering, id)->op) || !result.known || type->rank != as->rank) return false;
  for (int i = 0; i < type->rank; i++)
    if (!extent_equal(type->axes[i].extent, as->axes[i].extent)) return false;
  context->places[id] = result;
  return true;
}

// Contractions of the group that no other one of it contracts again.
enum { MOST_TOPS = 4 };
static int find_tops(const Lowering *lowering, NodeId tops[MOST_TOPS]) {
  const NodeList *closure = &lowering->closure;
  bool *below = ARENA_ARRAY(lowering->context.kernel->arena, bool, lowering->graph->count);
  int count = 0;
  for (size_t i = closure->count; i-- > 0;) {
    NodeId id = closure->list[i];
    bool contraction = is_contraction(lowering->graph, lowering_node(lowering, id));
    if (contraction && !below[id] && count < MOST_TOPS) tops[count++] = id;
    for (int k = 0; k < op_table[lowering_node(lowering, id)->op].inputs; k++)
      below[lowering_node(lowering, id)->in[k]] |= contraction || below[id];
  }
  return count;
}

static bool is_contracted_atom(const ElementContext *context, const Place *place, int axis, int *which) {
  const Node *lead = &context->graph->nodes[context->lead];
  for (*which = 0; *which < lead->attributes.contract; ++*which) {
    const Place *of = &context->contract[*which];
    if (of->counts[0] && of->counts[0] == place->counts[axis] && of->atoms[0][0] == place->atoms[axis][0])
      return true;
  }
  return false;
}

// The place of a contraction beside the lead, from that of an operand which both are made of. What it contracts may be
// what the lead does (`order`: which of its pairs), or an axis of the lead's result, and it keeps what the lead
// contracts: then that axis is a new one here. Columns are the lead's where their extents agree.
static bool place_top(Lowering *lowering, NodeId id, int8_t order[MAX_RANK], bool *turned, Place *result) {
  ElementContext *context = &lowering->context;
  const Node *node = lowering_node(lowering, id), *lead = lowering_node(lowering, context->lead);
  const Attributes *attributes = &node->attributes;
  const int8_t *pairs[2] = {attributes->left, attributes->right};
  int k = context->places[node->in[0]].known ? 0 : 1, shared = 0, which;
  Place weight = context->places[node->in[k]];
  if (!place_refresh(&context->space, &weight)) return false;
  for (int i = 0; i < attributes->contract; i++) {
    bool same = is_contracted_atom(context, &weight, pairs[k][attributes->batch + i], &which);
    if (same) order[i] = (int8_t)which;
    shared += same;
  }
  *turned = shared == 0;
  if (shared && (shared != attributes->contract || shared != lead->attributes.contract)) return false;
  *result = (Place){.known = true, .rank = 0};
  for (int side = -1; side < 2; side++) { // batch, free of x, free of y
    const Type *type = &lowering_node(lowering, node->in[side < 0 ? k : side])->type;
    uint32_t paired = 0;
    for (int i = 0; i < attributes->batch + attributes->contract && side >= 0; i++)
      paired |= 1u << pairs[side][i];
    for (int i = 0; i < (side < 0 ? attributes->batch : type->rank); i++) {
      int axis = side < 0 ? pairs[k][i] : i, to = result->rank;
      const Axis *own = &node->type.axes[to];
      if (side >= 0 && paired >> i & 1) continue;
      bool of_weight = side < 0 || side == k;
      if (of_weight && !is_contracted_atom(context, &weight, axis, &which)) {
        result->counts[to] = weight.counts[axis];
        memcpy(result->atoms[to], weight.atoms[axis], AXIS_MAX_ATOMS);
        result->rank++;
      } else if (!of_weight && !*turned &&
                 extent_equal(own->extent, lead->type.axes[lead->type.rank - 1].extent)) {
        const Place *columns = &context->places[context->lead];
        result->counts[to] = columns->counts[columns->rank - 1];
        memcpy(result->atoms[to], columns->atoms[columns->rank - 1], AXIS_MAX_ATOMS);
        result->rank++;
      } else if (!space_add_axis(&context->space, *own, result)) {
        return false;
      }
    }
  }
  return true;
}

// Results beside the lead. Returns how many are turned.
static int place_tops(Lowering *lowering, const NodeId *tops, int count) {
  ElementContext *context = &lowering->context;
  int turns = 0;
  for (int i = 0; i < count; i++) {
    bool turned;
    int8_t order[MAX_RANK];
    Place place;
    if (tops[i] == context->lead || !place_top(lowering, tops[i], order, &turned, &place)) continue;
    context->places[tops[i]] = place;
    turns += turned;
    if (turned || context->second) continue;
    context->second = tops[i];
    memcpy(context->second_order, order, sizeof order);
  }
  return turns;
}

// From the lead's place to those of all nodes around it, up and down until nothing changes.
static void spread_places(Lowering *lowering, uint64_t fill) {
  ElementContext *context = &lowering->context;
  const NodeList *closure = &lowering->closure;
  for (int round = 0; round < 4; round++) {
    for (size_t i = 0; i < closure->count; i++) {
      NodeId id = closure->list[i];
      const Node *node = lowering_node(lowering, id);
      for (int k = 0; k < op_table[node->op].inputs && !context->places[id].known; k++) {
        Place place;
        const Place *operand = &context->places[node->in[k]];
        if (operand->known && place_of_result(&context->space, context->graph, id, k, operand, fill, &place))
          set_place(lowering, id, &place);
      }
    }
    for (size_t i = closure->count; i-- > 0;) {
      NodeId id = closure->list[i];
      const Node *node = lowering_node(lowering, id);
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

// The node that gives a group its space: its last contraction, else its first reduction, else what it stores
// first.
static NodeId find_lead(const Lowering *lowering, uint32_t group, int *contractions) {
  NodeId reduction = 0, contraction = 0;
  *contractions = 0;
  for (size_t i = 0; i < lowering->closure.count; i++) {
    NodeId id = lowering->closure.list[i];
    if (is_contraction(lowering->graph, lowering_node(lowering, id))) {
      contraction = id;
      ++*contractions;
    }
    if (is_reduction(lowering_node(lowering, id)->op) && !reduction) reduction = id;
  }
  return contraction ? contraction : reduction ? reduction : lowering->stored[group].list[0];
}

static void forget_places(Lowering *lowering) {
  ElementContext *context = &lowering->context;
  space_init(&context->space);
  for (size_t i = 0; i < lowering->closure.count; i++)
    context->places[lowering->closure.list[i]].known = false;
  for (size_t i = 0; i < lowering->leaves.count; i++) context->places[lowering->leaves.list[i]].known = false;
}

// Several contractions: the last one leads, unless two others go the other way round.
static void place_contractions(Lowering *lowering, NodeId lead) {
  ElementContext *context = &lowering->context;
  NodeId tops[MOST_TOPS];
  int count = find_tops(lowering, tops);
  for (int attempt = 0; attempt < 2; attempt++) {
    forget_places(lowering);
    context->lead = lead;
    context->second = 0;
    place_dot(lowering, lead, true);
    spread_places(lowering, 0);
    if (count == 1 || place_tops(lowering, tops, count) < 2) return;
    lead = tops[0] == lead ? tops[1] : tops[0];
  }
}

static void set_places(Lowering *lowering, uint32_t group) {
  ElementContext *context = &lowering->context;
  int contractions;
  NodeId lead = find_lead(lowering, group, &contractions);
  const Node *node = lowering_node(lowering, lead);
  uint64_t fill = 0;
  Place place;
  if (contractions > 1) {
    place_contractions(lowering, lead);
  } else if (contractions) {
    context->lead = lead;
    place_dot(lowering, lead, false);
  } else if (is_reduction(node->op)) {
    if (space_add_type(&context->space, &lowering_node(lowering, node->in[0])->type, &place)) {
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

// ---- expressions and stores ---------------------------------------------------------------------

static void context_begin(Lowering *lowering, uint32_t group, Kernel *kernel) {
  ElementContext *context = &lowering->context;
  context->kernel = kernel;
  context->group = group;
  context->guard = 0;
  context->lead = context->second = 0;
  context->memo_count = 0;
  memset(context->memo_table, 0, context->memo_table_size * sizeof(uint32_t));
  for (int i = 0; i < SPACE_MAX_ATOMS; i++) {
    context->axis_of_atom[i] = -1;
    for (int k = 0; k < ELEMENT_MAX_DEPTH; k++) context->bound_axis[k][i] = -1;
  }
  forget_places(lowering);
}

void build_end(Lowering *lowering) {
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
  const Type *type = &lowering_node(lowering, id)->type;
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

// The kernel's buffer for what a node is stored in; `overwritten`: the node whose memory it takes, or 0.
static int store_buffer(Lowering *lowering, NodeId id, NodeId overwritten) {
  ElementContext *context = &lowering->context;
  const Type *type = &lowering_node(lowering, id)->type;
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
  const Node *node = lowering_node(lowering, id);
  Pending store = {.node = id, .mode = STORE_ADD};
  Place place;
  ExprId at[MAX_RANK] = {0};
  space_add_type(&context->space, &lowering_node(lowering, node->in[1])->type, &place);
  store.axes = place_indices(context, &place, at);
  int batch = node->attributes.batch, indexed = lowering_node(lowering, node->in[0])->type.rank;
  for (int i = 0; i < node->type.rank; i++) store.index[i] = i < batch ? at[i] : at[i + indexed - batch - 1];
  store.index[batch] = kernel_cast(context->kernel, element(context, node->in[0], at), DTYPE_I64);
  store.value = element(context, node->in[1], at);
  return store;
}

// Overwrites a part of the state: y[.., start + i, ..] = v[.., i, ..].
// Several updates of one group are of values of the same extents, and run over the same `place`.
static Pending store_update(Lowering *lowering, NodeId id, Place *place) {
  ElementContext *context = &lowering->context;
  const Node *node = lowering_node(lowering, id);
  Pending store = {.node = id};
  ExprId at[MAX_RANK] = {0};
  if (!place->known) space_add_type(&context->space, &lowering_node(lowering, node->in[1])->type, place);
  store.axes = place_indices(context, place, at);
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

// A temporary of the same shape that a map reads for the last time, each element where it stores one: the new
// value takes its memory. 0: there is none.
static NodeId find_spent(const Lowering *lowering, uint32_t group, const Pending *store) {
  const ElementContext *context = &lowering->context;
  const Kernel *kernel = context->kernel;
  const Type *type = &lowering_node(lowering, store->node)->type;
  for (int i = 0; i < kernel->buffer_count; i++) {
    NodeId id = context->node_of_buffer[i];
    int buffer = lowering->buffer[id];
    bool spent = kernel->buffers[i].use == BUFFER_READ && buffer >= 0 &&
                 lowering->last_reader[id] == (int)group &&
                 lowering->out->program.buffers[buffer].role == ROLE_TEMPORARY;
    if (!spent || !type_equal(type, &lowering_node(lowering, id)->type)) continue;
    for (ExprId load = 1; load < kernel->expr_count && spent; load++) {
      const Expr *expr = &kernel->exprs[load];
      spent = expr->op != SCALAR_LOAD || expr->buffer != i ||
              !memcmp(expr->index, store->index, sizeof expr->index);
    }
    if (spent) return id;
  }
  return 0;
}

// Only maps: contractions and rows may keep sums in what they write.
static void reuse_spent(Lowering *lowering, uint32_t group, Pending *pending, size_t count) {
  const Kernel *kernel = lowering->context.kernel;
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (kernel->exprs[id].axes) return;
  for (size_t i = 0; i < count; i++)
    if (pending[i].mode != STORE_SET || pending[i].overwritten || pending[i].axes != pending[0].axes) return;
  for (size_t i = 0; i < count; i++) {
    bool temporary = lowering->buffer[pending[i].node] < 0 && !lowering->fusion->inside[pending[i].node];
    NodeId spent = temporary ? find_spent(lowering, group, &pending[i]) : 0;
    for (size_t k = 0; k < i && spent; k++)
      if (pending[k].overwritten == spent) spent = 0;
    pending[i].overwritten = spent;
    if (spent) lowering->buffer[pending[i].node] = lowering->buffer[spent];
  }
}

// Where the part of a concatenation begins in it.
static bool part_start(const Lowering *lowering, NodeId whole, NodeId part, Extent *start) {
  const Node *node = lowering_node(lowering, whole);
  if (whole == part) return true;
  if (node->op != OP_CONCAT || (lowering->fusion->group[whole] && lowering->fusion->inside[whole] != whole))
    return false;
  if (part_start(lowering, node->in[0], part, start)) return true;
  Extent first = lowering_node(lowering, node->in[0])->type.axes[node->attributes.axis].extent,
         second = *start;
  if (!extent_add(second, first, &second) || !part_start(lowering, node->in[1], part, &second)) return false;
  *start = second;
  return true;
}

static void store_inside(Lowering *lowering, NodeId whole, Pending *store) {
  Kernel *kernel = lowering->context.kernel;
  int axis = lowering_node(lowering, whole)->attributes.axis;
  Extent start = extent_constant(0);
  if (!part_start(lowering, whole, store->node, &start)) die("%%%u is no part of %%%u", store->node, whole);
  store->index[axis] = kernel_binary(kernel, SCALAR_ADD, store->index[axis], kernel_size(kernel, start));
  store->node = whole;
}

static void build_stores(Lowering *lowering, uint32_t group) {
  const NodeList *stored = &lowering->stored[group];
  ElementContext *context = &lowering->context;
  Pending *pending = ARENA_ARRAY(context->kernel->arena, Pending, stored->count);
  Place updated = {.known = false};
  for (size_t i = 0; i < stored->count; i++) {
    NodeId id = stored->list[i];
    const Node *node = lowering_node(lowering, id);
    if (node->op == OP_SCATTER && !scatter_is_elementwise(lowering->graph, node)) {
      pending[i] = store_scatter(lowering, id);
    } else if (node->op == OP_UPDATE) {
      pending[i] = store_update(lowering, id, &updated);
    } else {
      pending[i] = (Pending){.node = id, .overwritten = overwritten_input(lowering, id)};
      pending[i].axes = store_index(lowering, id, pending[i].index);
      pending[i].value = element(context, id, pending[i].index);
      if (lowering->fusion->inside[id]) store_inside(lowering, lowering->fusion->inside[id], &pending[i]);
    }
  }
  reuse_spent(lowering, group, pending, stored->count);
  for (size_t i = 0; i < stored->count; i++) {
    Pending *store = &pending[i];
    int buffer = store_buffer(lowering, store->node, store->overwritten);
    kernel_store(context->kernel, buffer, store->index, store->value, store->axes, store->mode);
  }
}

// In place is only legal where each element is read at the very place that it is written.
bool updates_fit(const Kernel *kernel) {
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

// ---- anchors ------------------------------------------------------------------------------------

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
  Attention attention;
  if (!kernel_attention(kernel, &attention)) return ANCHOR_ATTENTION;
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

// ---- all of it ----------------------------------------------------------------------------------

Kernel *build_kernel(Lowering *lowering, uint32_t group, Arena *arena) {
  Kernel *kernel = kernel_new(arena, "kernel");
  find_closure(lowering, group);
  context_begin(lowering, group, kernel);
  set_depths(lowering);
  set_places(lowering, group);
  build_stores(lowering, group);
  for (size_t i = 0; i < lowering->closure.count; i++) {
    Span span = lowering_node(lowering, lowering->closure.list[i])->span;
    if (!span.source) continue;
    ARENA_PUSH(arena, kernel->spans, kernel->span_count, kernel->span_capacity, span);
  }
  kernel->anchor = find_anchor(kernel);
  return kernel;
}
