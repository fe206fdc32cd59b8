// A graph after `gradient` -> the training step: gradients clipped by their global norm, the optimizer's rule
// applied to every trained parameter in place. The outputs "gradient:<parameter>" are used up; the result
// "gradient norm" (before clipping) is added. passes.h says how a step is parted when gradients are
// accumulated.
#include "compiler/graph/passes/passes.h"

#include <string.h>

// Axes and values of one parameter's update.
typedef struct Update {
  const char *name; // of the parameter
  NodeId parameter, gradient;
  Type type;
} Update;

typedef struct Updates {
  Update *list;
  size_t count, capacity;
} Updates;

enum { PREFIX = sizeof "gradient:" - 1 };
static bool is_gradient(const Output *output) { return !strncmp(output->name, "gradient:", PREFIX); }

// The pairs of parameter and gradient, whose outputs are taken off the graph.
static Updates take_gradients(Graph *graph) {
  Updates updates = {0};
  size_t kept = 0;
  for (size_t i = 0; i < graph->output_count; i++) {
    Output output = graph->outputs[i];
    if (!is_gradient(&output)) {
      graph->outputs[kept++] = output;
      continue;
    }
    Update update = {.name = output.name + PREFIX, .gradient = output.node};
    update.parameter = graph_find_input(graph, update.name)->node;
    update.type = *graph_type(graph, update.parameter);
    ARENA_PUSH(graph->arena, updates.list, updates.count, updates.capacity, update);
  }
  graph->output_count = kept;
  return updates;
}

static NodeId find_or_add(Graph *graph, const char *name, InputRole role, Type type) {
  const Input *input = graph_find_input(graph, name);
  return input ? input->node : graph_input(graph, name, role, type);
}

static NodeId number_like(Graph *graph, double value, NodeId model) {
  return graph_like(graph, graph_constant(graph, value, graph_type(graph, model)->dtype), model);
}

// ---- norm and clipping --------------------------------------------------------------------------

// Sum of squares in two steps, over all axes but the first and then over that: the first step has as many
// independent rows as the parameter, and the order of all sums is fixed. The `stop` between them keeps them
// two.
static NodeId squares(Graph *graph, NodeId x) {
  int rank = graph_type(graph, x)->rank;
  NodeId sum = graph_binary(graph, OP_MUL, x, x);
  if (rank > 1) sum = graph_unary(graph, OP_STOP, graph_reduce(graph, OP_SUM, sum, ((1u << rank) - 1) & ~1u));
  return rank ? graph_reduce(graph, OP_SUM, sum, 1) : sum;
}

static NodeId global_norm(Graph *graph, const Updates *updates) {
  NodeId total = graph_constant(graph, 0, DTYPE_F32);
  for (size_t i = 0; i < updates->count; i++) {
    NodeId sum = graph_cast(graph, squares(graph, updates->list[i].gradient), DTYPE_F32);
    total = i ? graph_binary(graph, OP_ADD, total, sum) : sum;
  }
  return graph_unary(graph, OP_SQRT, total);
}

// Scales by clip / norm where the norm is larger than that; 1e-6 keeps the quotient finite.
static void clip_gradients(Graph *graph, const Updates *updates, double clip) {
  NodeId norm = global_norm(graph, updates);
  graph_output(graph, "gradient norm", norm, false);
  if (clip <= 0) return;
  NodeId above = graph_binary(graph, OP_ADD, norm, graph_constant(graph, 1e-6, DTYPE_F32));
  NodeId ratio = graph_binary(graph, OP_DIV, graph_constant(graph, clip, DTYPE_F32), above);
  NodeId scale = graph_binary(graph, OP_MIN, ratio, graph_constant(graph, 1, DTYPE_F32));
  for (size_t i = 0; i < updates->count; i++) {
    NodeId *gradient = &updates->list[i].gradient;
    NodeId factor = graph_cast(graph, scale, graph_type(graph, *gradient)->dtype);
    *gradient = graph_binary(graph, OP_MUL, *gradient, factor);
  }
}

// ---- the rule -----------------------------------------------------------------------------------

// The rule's values of rank 0 that no parameter enters are built once and shared: with decay (parameters of
// two and more axes) and with decay 0 (biases and norms).
typedef struct Rule {
  const Graph *rule;
  Graph *graph;
  bool *varying;     // per node of the rule: depends on parameter, gradient or a state
  NodeId *shared[2]; // per node of the rule: without decay, with it
} Rule;

static const Output *find_output(const Graph *graph, const char *name) {
  for (size_t i = 0; i < graph->output_count; i++)
    if (!strcmp(graph->outputs[i].name, name)) return &graph->outputs[i];
  return NULL;
}

// A state is what the rule takes and returns under one name.
static bool is_state(const Graph *rule, const char *name) {
  return strcmp(name, "parameter") && find_output(rule, name);
}

static void find_varying(Rule *rule) {
  const Graph *from = rule->rule;
  for (NodeId id = 1; id < from->count; id++) {
    const Node *node = &from->nodes[id];
    if (node->op == OP_INPUT) {
      const char *name = from->inputs[node->attributes.input].name;
      rule->varying[id] = !strcmp(name, "parameter") || !strcmp(name, "gradient") || is_state(from, name);
    }
    for (int i = 0; i < op_table[node->op].inputs; i++) rule->varying[id] |= rule->varying[node->in[i]];
  }
}

static NodeId copy_renamed(Graph *graph, const Graph *from, NodeId id, const NodeId *names) {
  NodeId inputs[MAX_INPUTS] = {0};
  for (int i = 0; i < op_table[from->nodes[id].op].inputs; i++) inputs[i] = names[from->nodes[id].in[i]];
  return graph_copy_node(graph, from, id, inputs);
}

static void build_shared(Rule *rule, bool decay) {
  const Graph *from = rule->rule;
  NodeId *shared = rule->shared[decay];
  for (NodeId id = 1; id < from->count; id++) {
    const Node *node = &from->nodes[id];
    if (rule->varying[id]) continue;
    const char *name = node->op == OP_INPUT ? from->inputs[node->attributes.input].name : "";
    if (!*name)
      shared[id] = copy_renamed(rule->graph, from, id, shared);
    else if (!decay && !strcmp(name, "decay"))
      shared[id] = graph_constant(rule->graph, 0, node->type.dtype);
    else
      shared[id] = find_or_add(rule->graph, name, INPUT_SCALAR, node->type);
  }
}

static Rule rule_new(Graph *graph, const Graph *rule) {
  Rule built = {rule, graph, ARENA_ARRAY(graph->arena, bool, rule->count), {0}};
  find_varying(&built);
  for (int decay = 0; decay < 2; decay++) {
    built.shared[decay] = ARENA_ARRAY(graph->arena, NodeId, rule->count);
    build_shared(&built, decay);
  }
  return built;
}

// A rule's input over a parameter's axes: the states are made here.
static NodeId varying_input(const Rule *rule, const Update *update, const char *name) {
  if (!strcmp(name, "parameter")) return update->parameter;
  if (!strcmp(name, "gradient")) return update->gradient;
  Type type = update->type;
  type.dtype = DTYPE_F32;
  return graph_input(rule->graph, arena_print(rule->graph->arena, "%s:%s", name, update->name), INPUT_STATE,
                     type);
}

static NodeId spread(Graph *graph, NodeId x, const Update *update) {
  return graph_type(graph, x)->rank ? x : graph_like(graph, x, update->parameter);
}

// One operation of the rule, elementwise over the parameter's axes.
static NodeId varying_node(const Rule *rule, const Update *update, NodeId id, const NodeId *values) {
  const Node *node = &rule->rule->nodes[id];
  NodeId inputs[MAX_INPUTS] = {0};
  if (!(op_table[node->op].properties & ELEMENTWISE))
    die("the optimizer's rule may not hold `%s`", op_table[node->op].name);
  for (int i = 0; i < op_table[node->op].inputs; i++)
    inputs[i] = spread(rule->graph, values[node->in[i]], update);
  return graph_copy_node(rule->graph, rule->rule, id, inputs);
}

static void apply_rule(const Rule *rule, const Update *update) {
  const Graph *from = rule->rule;
  Graph *graph = rule->graph;
  NodeId *values = ARENA_ARRAY(graph->arena, NodeId, from->count);
  const NodeId *shared = rule->shared[update->type.rank > 1];
  for (NodeId id = 1; id < from->count; id++) {
    const Node *node = &from->nodes[id];
    if (!rule->varying[id])
      values[id] = shared[id];
    else if (node->op == OP_INPUT)
      values[id] = varying_input(rule, update, from->inputs[node->attributes.input].name);
    else
      values[id] = varying_node(rule, update, id, values);
  }
  for (size_t i = 0; i < from->output_count; i++) {
    const char *name = from->outputs[i].name;
    bool parameter = !strcmp(name, "parameter");
    NodeId value = values[from->outputs[i].node];
    value = graph_cast(graph, spread(graph, value, update), parameter ? update->type.dtype : DTYPE_F32);
    const char *replaced = parameter ? update->name : arena_print(graph->arena, "%s:%s", name, update->name);
    graph_output(graph, replaced, value, true);
  }
}

// All nodes of one parameter's update are one call of the rule.
static void begin_call(Graph *graph, const char *path, const char *function, uint32_t *call) {
  Origin origin = {path, function, ++*call, false};
  ARENA_PUSH(graph->arena, graph->origins, graph->origin_count, graph->origin_capacity, origin);
  graph->origin = (uint32_t)graph->origin_count - 1;
}

static void apply_updates(Graph *graph, const Graph *rule, const Updates *updates, double clip) {
  uint32_t calls = 0;
  for (size_t i = 0; i < graph->origin_count; i++)
    if (graph->origins[i].call > calls) calls = graph->origins[i].call;
  begin_call(graph, "", "clip", &calls);
  clip_gradients(graph, updates, clip);
  begin_call(graph, "", rule->name, &calls);
  Rule built = rule_new(graph, rule);
  for (size_t i = 0; i < updates->count; i++) {
    begin_call(graph, updates->list[i].name, rule->name, &calls);
    graph->span = graph->nodes[updates->list[i].parameter].span;
    apply_rule(&built, &updates->list[i]);
  }
  graph->span = (Span){0};
  graph->origin = 0;
}

// ---- accumulation -------------------------------------------------------------------------------

static NodeId accumulated(Graph *graph, const Update *update) {
  Type type = update->type;
  type.dtype = DTYPE_F32;
  return graph_input(graph, arena_print(graph->arena, "accumulated:%s", update->name), INPUT_STATE, type);
}

static void add_up(Graph *graph, const Updates *updates) {
  for (size_t i = 0; i < updates->count; i++) {
    const Update *update = &updates->list[i];
    NodeId sum = accumulated(graph, update);
    NodeId gradient = graph_cast(graph, update->gradient, DTYPE_F32);
    graph_output(graph, arena_print(graph->arena, "accumulated:%s", update->name),
                 graph_binary(graph, OP_ADD, sum, gradient), true);
  }
}

// A graph of its own with the trained parameters and the mean of what was accumulated; clears the sums.
static Graph *begin_apply(const Graph *graph, Updates *updates, int accumulate) {
  Graph *apply = graph_new(graph->arena, "apply");
  for (size_t i = 0; i < updates->count; i++) {
    Update *update = &updates->list[i];
    const Input *old = &graph->inputs[graph->nodes[update->parameter].attributes.input];
    apply->span = graph->nodes[update->parameter].span;
    update->parameter = graph_input(apply, old->name, INPUT_PARAM, update->type);
    Input *input = graph_find_input(apply, old->name);
    input->trained = old->trained, input->initial = old->initial;
    NodeId sum = accumulated(apply, update);
    graph_output(apply, arena_print(apply->arena, "accumulated:%s", update->name), number_like(apply, 0, sum),
                 true);
    NodeId mean = graph_binary(apply, OP_MUL, sum, graph_constant(apply, 1.0 / accumulate, DTYPE_F32));
    update->gradient = graph_cast(apply, mean, update->type.dtype);
  }
  return apply;
}

Graph *optimizer(Graph *before, const Graph *rule, OptimizerOptions options) {
  Graph *graph = graph_clone(before);
  Updates updates = take_gradients(graph);
  if (options.accumulate > 1 && !options.apply) {
    add_up(graph, &updates);
    return graph;
  }
  if (options.accumulate > 1) graph = begin_apply(graph, &updates, options.accumulate);
  apply_updates(graph, rule, &updates, options.clip);
  return graph;
}
