// Is a graph what graph.h says? graph -> true, or the reason why not. Runs after every pass in tests.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/graph/graph.h"
#include "runtime/base/failure.h"

bool graph_check_sizes(const Graph *graph, Diagnostics *diagnostics) {
  int errors = diagnostics->errors;
  for (NodeId id = 1; id < graph->count; id++) {
    const Type *type = &graph->nodes[id].type;
    double elements = 1;
    for (int i = 0; i < type->rank; i++) // run-time sizes count as 1
      elements *= fabs((double)type->axes[i].extent.offset) + fabs((double)type->axes[i].extent.scale);
    if (elements < (double)EXTENT_LARGEST) continue;
    Text text = {0};
    type_print(&text, type);
    error_at(diagnostics, graph->nodes[id].span, "a tensor of more elements than any machine holds: %s",
             text_string(&text));
    text_free(&text);
  }
  return diagnostics->errors == errors;
}

#define REFUSE(...) return text_print(reason, __VA_ARGS__), false

static bool check_operands(const Graph *graph, NodeId id, Text *reason) {
  const Node *node = &graph->nodes[id];
  if (node->op >= OP_COUNT) REFUSE("no such operation");
  for (int i = 0; i < MAX_INPUTS; i++) {
    bool wanted = i < op_table[node->op].inputs;
    if (!wanted && node->in[i]) REFUSE("it takes %d operands and has more", op_table[node->op].inputs);
    if (wanted && (!node->in[i] || node->in[i] >= id))
      REFUSE("operand %%%u does not stand before it", node->in[i]);
  }
  if (node->origin >= graph->origin_count) REFUSE("there is no origin %u", node->origin);
  return true;
}

static bool check_type(const Graph *graph, NodeId id, Text *reason) {
  const Node *node = &graph->nodes[id];
  Type type;
  if (node->type.dtype >= DTYPE_COUNT) REFUSE("no such dtype");
  if (!infer_type(graph, node->op, node->in, &node->attributes, &node->type, &type, reason)) return false;
  if (!type_equal(&type, &node->type)) {
    text_print(reason, "its type is ");
    type_print(reason, &node->type);
    text_print(reason, " but should be ");
    type_print(reason, &type);
    return false;
  }
  for (int i = 0; i < type.rank; i++)
    for (int j = 0; j < i; j++)
      if (!strcmp(node->type.axes[i].label, node->type.axes[j].label))
        REFUSE("two axes are labelled %s", node->type.axes[i].label);
  return true;
}

static bool check_part(const Graph *graph, const Input *input, Text *reason) {
  bool scales;
  const char *name = packing_whole(input->name, &scales);
  const Input *whole = name ? graph_find_input((Graph *)(uintptr_t)graph, name) : NULL;
  Type type;
  if (!whole || !whole->packing) REFUSE("part %s belongs to no packed weight", input->name);
  if (!type_of_part(&graph->nodes[whole->node].type, whole->packing, scales, &type) ||
      !type_equal(&type, &graph->nodes[input->node].type))
    REFUSE("part %s has not the type that %s of %s has", input->name, packing_table[whole->packing].name,
           name);
  return true;
}

// A packed weight has no values of its own that anything could read or replace.
static bool check_packed(const Graph *graph, const Input *input, Text *reason) {
  Type type;
  if (input->role != INPUT_PARAM || input->trained || graph->nodes[input->node].type.dtype != DTYPE_F32 ||
      input->packing >= PACKING_COUNT ||
      !type_of_part(&graph->nodes[input->node].type, input->packing, false, &type))
    REFUSE("input %s can not be packed", input->name);
  for (NodeId id = input->node + 1; id < graph->count; id++)
    for (int i = 0; i < op_table[graph->nodes[id].op].inputs; i++)
      if (graph->nodes[id].in[i] == input->node) REFUSE("%%%u reads %s, which is packed", id, input->name);
  for (size_t i = 0; i < graph->output_count; i++)
    if (graph->outputs[i].node == input->node ||
        (graph->outputs[i].update && !strcmp(graph->outputs[i].name, input->name)))
      REFUSE("output %s is of a packed weight", graph->outputs[i].name);
  return true;
}

static bool check_input(const Graph *graph, const Input *input, size_t index, Text *reason) {
  if (!input->name || !*input->name) REFUSE("input %zu has no name", index);
  if (!input->node || input->node >= graph->count || graph->nodes[input->node].op != OP_INPUT ||
      graph->nodes[input->node].attributes.input != index)
    REFUSE("input %s is not at its node", input->name);
  if (input->role >= INPUT_ROLE_COUNT) REFUSE("input %s has no such role", input->name);
  if (input->role == INPUT_SCALAR && graph->nodes[input->node].type.rank)
    REFUSE("scalar %s has axes", input->name);
  if (input->trained && input->role != INPUT_PARAM)
    REFUSE("input %s is trained but no parameter", input->name);
  if (input->role == INPUT_PART && !check_part(graph, input, reason)) return false;
  return !input->packing || check_packed(graph, input, reason);
}

static bool check_output(const Graph *graph, const Output *output, Text *reason) {
  if (!output->name || !*output->name) REFUSE("an output has no name");
  if (!output->node || output->node >= graph->count) REFUSE("output %s is not a node", output->name);
  if (!output->update) return true;
  const Input *input = graph_find_input((Graph *)(uintptr_t)graph, output->name);
  if (!input || (input->role != INPUT_PARAM && input->role != INPUT_STATE))
    REFUSE("output %s replaces no parameter or state", output->name);
  if (!type_equal(&graph->nodes[input->node].type, &graph->nodes[output->node].type))
    REFUSE("output %s has another type than what it replaces", output->name);
  return true;
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Sorts the names in place.
static bool check_unique(const char **names, size_t count, const char *what, Text *reason) {
  if (count) qsort(names, count, sizeof *names, compare_names);
  for (size_t i = 1; i < count; i++)
    if (!strcmp(names[i - 1], names[i])) REFUSE("two %s are named %s", what, names[i]);
  return true;
}

static bool check_names(const Graph *graph, Text *reason) {
  size_t most = graph->input_count + graph->output_count, count = 0;
  const char **names = calloc(most + 1, sizeof *names);
  if (!names) die("out of memory");
  for (size_t i = 0; i < graph->input_count; i++) names[count++] = graph->inputs[i].name;
  bool good = check_unique(names, count, "inputs", reason);
  for (int update = 0; good && update < 2; update++) {
    count = 0;
    for (size_t i = 0; i < graph->output_count; i++)
      if (graph->outputs[i].update == update) names[count++] = graph->outputs[i].name;
    good = check_unique(names, count, "outputs", reason);
  }
  free(names);
  return good;
}

// An update overwrites its state, so nothing else may read the old value, and the new one must be kept: it is
// the state's next value, or updated once more.
static bool check_update(const Graph *graph, NodeId id, const uint32_t *readers, const uint8_t *kept,
                         Text *reason) {
  NodeId old = graph->nodes[id].in[0];
  const Node *state = &graph->nodes[old];
  bool held = state->op == OP_UPDATE ||
              (state->op == OP_INPUT && graph->inputs[state->attributes.input].role == INPUT_STATE);
  if (!held) REFUSE("it overwrites %%%u, which is no state", old);
  if (readers[old] > 1 || kept[old]) REFUSE("it overwrites %%%u, which is read elsewhere, too", old);
  while (state->op == OP_UPDATE) state = &graph->nodes[state->in[0]];
  const char *name = graph->inputs[state->attributes.input].name;
  if (kept[id]) {
    for (size_t i = 0; i < graph->output_count; i++)
      if (graph->outputs[i].node == id && graph->outputs[i].update && !strcmp(graph->outputs[i].name, name))
        return true;
  }
  for (NodeId later = id + 1; later < graph->count; later++)
    if (graph->nodes[later].op == OP_UPDATE && graph->nodes[later].in[0] == id) return true;
  REFUSE("it overwrites state %s, but is not its next value", name);
}

static bool check_updates(const Graph *graph, NodeId *at, Text *reason) {
  uint32_t *readers = calloc(graph->count, sizeof *readers);
  uint8_t *kept = calloc(graph->count, 1);
  bool good = true;
  if (!readers || !kept) die("out of memory");
  for (NodeId id = 1; id < graph->count; id++)
    for (int i = 0; i < op_table[graph->nodes[id].op].inputs; i++) readers[graph->nodes[id].in[i]]++;
  for (size_t i = 0; i < graph->output_count; i++) kept[graph->outputs[i].node] = 1;
  for (NodeId id = 1; good && id < graph->count; id++) {
    if (graph->nodes[id].op != OP_UPDATE) continue;
    *at = id;
    good = check_update(graph, id, readers, kept, reason);
  }
  free(readers);
  free(kept);
  return good;
}

// The order of the checks matters: each may rely on what those before it found.
static bool check_graph(const Graph *graph, NodeId *at, Text *reason) {
  uint32_t inputs = 0;
  for (NodeId id = 1; id < graph->count; id++) {
    *at = id;
    if (!check_operands(graph, id, reason) || !check_type(graph, id, reason)) return false;
    inputs += graph->nodes[id].op == OP_INPUT;
  }
  *at = 0;
  if (inputs != graph->input_count) REFUSE("%u input nodes for %zu inputs", inputs, graph->input_count);
  for (size_t i = 0; i < graph->input_count; i++)
    if (!check_input(graph, &graph->inputs[i], i, reason)) return false;
  for (size_t i = 0; i < graph->output_count; i++)
    if (!check_output(graph, &graph->outputs[i], reason)) return false;
  return check_names(graph, reason) && check_updates(graph, at, reason);
}

bool graph_verify(const Graph *graph, Text *reason) {
  NodeId at = 0;
  Text inner = {0};
  bool good = check_graph(graph, &at, &inner);
  if (!good && at)
    text_print(reason, "graph %s, %%%u = %s: %s", graph->name, at,
               graph->nodes[at].op < OP_COUNT ? op_table[graph->nodes[at].op].name : "?",
               text_string(&inner));
  else if (!good)
    text_print(reason, "graph %s: %s", graph->name, text_string(&inner));
  text_free(&inner);
  return good;
}
