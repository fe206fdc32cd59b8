// A training step -> a program of what its frozen part makes of each sample (pictures -> features), and the step
// with those features as inputs. Needs a graph with its updates (after `optimizer`), sizes still symbols; keeps all
// values, bit for bit where kernels do.
//
//   fixed    parameters that are not trained, constants, and what is computed from these alone: both programs
//            compute it where they need it
//   sample   computed from fixed values and from inputs [B, constant...], each sample by itself: one axis holds the
//            samples, row-major, and no operation mixes them. The last of these values that the rest reads are the
//            frontier, and become "feature:0", "feature:1", ...
//   rest     everything else: what depends on trained parameters, random numbers, run-time scalars, or lengths
//
// A frontier moves back over views and widening casts, so that what is kept is as small as what was computed. It is
// only worth keeping where contractions are saved by it, and enough of them for its bytes: those come from a disk.
#include "compiler/graph/passes/passes.h"

#include "compiler/graph/passes/causal.h"

#include <inttypes.h>
#include <string.h>

typedef enum Kind { KIND_REST, KIND_FIXED, KIND_SAMPLE } Kind;

typedef struct Value {
  Kind kind;
  int axis;     // SAMPLE: that of the samples
  bool heavy;   // SAMPLE: a contraction is behind it
  bool stored;  // is a feature
  bool written; // INPUT: an output replaces it
} Value;

typedef struct Hoisting {
  const Graph *graph;
  Value *values;
  NodeId *features; // in order
  size_t feature_count, feature_capacity;
  double work, bytes; // of one sample
  bool per_sample;    // some input is
} Hoisting;

static bool holds_samples(Extent extent) { return extent.symbol == SYMBOL_BATCH; }

// ---- what each value depends on -----------------------------------------------------------------

static bool is_per_sample(const Type *type) {
  if (type->rank < 2 || !extent_equal(type->axes[0].extent, extent_symbol(SYMBOL_BATCH))) return false;
  for (int i = 1; i < type->rank; i++)
    if (!extent_is_constant(type->axes[i].extent)) return false;
  return true;
}

static Kind kind_of_input(const Graph *graph, const Node *node, bool written) {
  const Input *input = &graph->inputs[node->attributes.input];
  if (input->role == INPUT_DATA) return is_per_sample(&node->type) ? KIND_SAMPLE : KIND_REST;
  bool weight = input->role == INPUT_PARAM || input->role == INPUT_PART;
  return weight && !input->trained && !written ? KIND_FIXED : KIND_REST;
}

// Merging the samples' axis with what stands behind it, or taking it apart again: a sample has several rows.
static int moved_rows(const Graph *graph, const Node *node, int axis) {
  const Attributes *at = &node->attributes;
  bool split = node->op == OP_SPLIT;
  const Type *many = split ? &node->type : graph_type(graph, node->in[0]);
  if ((!split && node->op != OP_MERGE) || at->axis != axis || !holds_samples(many->axes[axis].extent))
    return -1;
  for (int i = 1; i < at->count; i++)
    if (!extent_is_constant(many->axes[axis + i].extent)) return -1;
  return axis;
}

// Where an axis of samples of input `i` is in the result; -1: samples are mixed, moved or counted.
static int follow(const Graph *graph, NodeId id, int input, int axis) {
  const Node *node = &graph->nodes[id];
  int8_t to[MAX_RANK];
  axis_map(graph, id, input, to);
  if (to[axis] < 0) return moved_rows(graph, node, axis);
  Extent before = graph_type(graph, node->in[input])->axes[axis].extent;
  return extent_equal(before, node->type.axes[to[axis]].extent) ? to[axis] : -1;
}

// Every axis of samples of every input has to become the same one of the result, which has no other.
static Value combine(const Hoisting *hoisting, NodeId id) {
  const Graph *graph = hoisting->graph;
  const Node *node = &graph->nodes[id];
  Value value = {.kind = KIND_FIXED, .axis = -1};
  for (int i = 0; i < op_table[node->op].inputs; i++) {
    const Value *of = &hoisting->values[node->in[i]];
    const Type *type = graph_type(graph, node->in[i]);
    if (of->kind == KIND_REST) return (Value){0};
    if (of->kind == KIND_SAMPLE) value.kind = KIND_SAMPLE;
    value.heavy |= of->heavy;
    for (int a = 0; a < type->rank; a++) {
      if (!holds_samples(type->axes[a].extent)) continue;
      int to = follow(graph, id, i, a);
      if (to < 0 || (value.axis >= 0 && value.axis != to)) return (Value){0};
      value.axis = to;
    }
  }
  for (int a = 0; a < node->type.rank; a++) {
    Extent extent = node->type.axes[a].extent;
    bool fits = extent_is_constant(extent) || (holds_samples(extent) && !extent.offset);
    bool other = holds_samples(extent) && value.kind == KIND_SAMPLE && a != value.axis;
    if (!fits || other) return (Value){0};
  }
  value.heavy |= node->op == OP_DOT && value.kind == KIND_SAMPLE;
  return value;
}

static Value judge(const Hoisting *hoisting, NodeId id) {
  const Graph *graph = hoisting->graph;
  const Node *node = &graph->nodes[id];
  switch (node->op) {
  case OP_INPUT:
    return (Value){.kind = kind_of_input(graph, node, hoisting->values[id].written),
                   .written = hoisting->values[id].written};
  case OP_RANDOM:
  case OP_UPDATE: return (Value){0};
  case OP_SIZE: return (Value){.kind = extent_is_constant(node->attributes.extent) ? KIND_FIXED : KIND_REST};
  case OP_IOTA: {
    bool fixed = extent_is_constant(node->attributes.start) && extent_is_constant(node->type.axes[0].extent);
    return (Value){.kind = fixed ? KIND_FIXED : KIND_REST};
  }
  default: return combine(hoisting, id);
  }
}

static void judge_all(Hoisting *hoisting) {
  const Graph *graph = hoisting->graph;
  for (size_t i = 0; i < graph->output_count; i++)
    for (size_t j = 0; graph->outputs[i].update && j < graph->input_count; j++)
      if (!strcmp(graph->inputs[j].name, graph->outputs[i].name))
        hoisting->values[graph->inputs[j].node].written = true;
  for (NodeId id = 1; id < graph->count; id++) {
    hoisting->values[id] = judge(hoisting, id);
    hoisting->per_sample |= graph->nodes[id].op == OP_INPUT && hoisting->values[id].kind == KIND_SAMPLE;
  }
}

// ---- the frontier -------------------------------------------------------------------------------

static const int64_t one_sample[SYMBOL_COUNT] = {[SYMBOL_BATCH] = 1};

static double bytes_of(const Graph *graph, NodeId id) {
  const Type *type = graph_type(graph, id);
  return (double)type_elements(type, one_sample) * (double)dtype_bytes(type->dtype);
}

// What the value is a view of, or was widened from, as long as that is no larger.
static NodeId step_back(const Hoisting *hoisting, NodeId id) {
  const Graph *graph = hoisting->graph;
  for (;;) {
    const Node *node = &graph->nodes[id];
    bool follows = (op_table[node->op].properties & VIEW && node->op != OP_CONCAT) || node->op == OP_CAST;
    if (!follows || !hoisting->values[node->in[0]].heavy ||
        bytes_of(graph, node->in[0]) > bytes_of(graph, id))
      return id;
    id = node->in[0];
  }
}

static void read_by_rest(Hoisting *hoisting, NodeId id) {
  if (!hoisting->values[id].heavy) return; // computed again, from the sample itself
  NodeId kept = step_back(hoisting, id);
  if (hoisting->values[kept].stored) return;
  hoisting->values[kept].stored = true;
  ARENA_PUSH(hoisting->graph->arena, hoisting->features, hoisting->feature_count, hoisting->feature_capacity,
             kept);
  hoisting->bytes += bytes_of(hoisting->graph, kept);
}

static void find_frontier(Hoisting *hoisting) {
  const Graph *graph = hoisting->graph;
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    for (int i = 0; i < op_table[node->op].inputs && hoisting->values[id].kind == KIND_REST; i++)
      if (hoisting->values[node->in[i]].kind == KIND_SAMPLE) read_by_rest(hoisting, node->in[i]);
  }
  for (size_t i = 0; i < graph->output_count; i++)
    if (hoisting->values[graph->outputs[i].node].kind == KIND_SAMPLE)
      read_by_rest(hoisting, graph->outputs[i].node);
}

static double work_of(const Graph *graph) {
  double work = 0;
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    if (node->op != OP_DOT) continue;
    double terms = 2 * (double)type_elements(&node->type, one_sample);
    const Type *left = graph_type(graph, node->in[0]);
    for (int i = 0; i < node->attributes.contract; i++)
      terms *= (double)extent_value(left->axes[node->attributes.left[node->attributes.batch + i]].extent,
                                    one_sample);
    work += terms;
  }
  return work;
}

// ---- the two programs ---------------------------------------------------------------------------

// A value whose samples' axis is the first, or the reverse: the axes of a feature back where they were.
static NodeId samples_first(Graph *graph, NodeId id, const Type *given, int axis, bool back) {
  if (!axis) return id;
  Type type = *given;
  int8_t from[MAX_RANK];
  for (int i = 0; i < type.rank; i++) {
    int before = back ? (i == axis ? 0 : i < axis ? i + 1 : i) : !i ? axis : i <= axis ? i - 1 : i;
    from[i] = (int8_t)before;
    if (!back) type.axes[i] = given->axes[before];
  }
  return graph_arrange(graph, id, type.rank, type.axes, from);
}

static void copy(Graph *to, const Graph *from, NodeId id, NodeId *renamed) {
  NodeId inputs[MAX_INPUTS];
  for (int i = 0; i < MAX_INPUTS; i++) inputs[i] = renamed[from->nodes[id].in[i]];
  renamed[id] = graph_copy_node(to, from, id, inputs);
}

static const char *feature_name(Arena *arena, size_t index) {
  return arena_print(arena, "feature:%zu", index);
}

static Graph *frozen_program(const Hoisting *hoisting) {
  const Graph *graph = hoisting->graph;
  NodeId *renamed = ARENA_ARRAY(graph->arena, NodeId, graph->count);
  Graph *frozen = graph_new_like(graph);
  frozen->name = "features";
  for (NodeId id = 1; id < graph->count; id++)
    if (hoisting->values[id].kind != KIND_REST) copy(frozen, graph, id, renamed);
  for (size_t i = 0; i < hoisting->feature_count; i++) {
    NodeId of = hoisting->features[i];
    NodeId first =
        samples_first(frozen, renamed[of], graph_type(graph, of), hoisting->values[of].axis, false);
    graph_output(frozen, feature_name(graph->arena, i), first, false);
  }
  return dead(frozen);
}

static Graph *remaining_program(const Hoisting *hoisting, const Graph *frozen) {
  const Graph *graph = hoisting->graph;
  NodeId *renamed = ARENA_ARRAY(graph->arena, NodeId, graph->count);
  Graph *rest = graph_new_like(graph);
  for (NodeId id = 1; id < graph->count; id++) {
    if (!hoisting->values[id].stored) {
      copy(rest, graph, id, renamed);
      continue;
    }
    size_t index = 0;
    while (hoisting->features[index] != id) index++;
    rest->span = graph->nodes[id].span, rest->origin = graph->nodes[id].origin;
    NodeId feature = graph_input(rest, feature_name(graph->arena, index), INPUT_DATA,
                                 *graph_type(frozen, frozen->outputs[index].node));
    renamed[id] = samples_first(rest, feature, graph_type(graph, id), hoisting->values[id].axis, true);
  }
  graph_copy_outputs(rest, graph, renamed);
  return dead(rest);
}

static void report(const Hoisting *hoisting, const Graph *frozen, Text *text) {
  text_print(text,
             "%zu of the step's %zu operations depend on a sample and on frozen parameters alone;\n"
             "their contractions are %.4g GFLOP a sample, and %.0f bytes are kept of each:\n",
             frozen->count - 1, hoisting->graph->count - 1, hoisting->work / 1e9, hoisting->bytes);
  for (size_t i = 0; i < frozen->output_count; i++) {
    const Node *node = &frozen->nodes[frozen->outputs[i].node];
    text_print(text, "  %s  %s ", frozen->outputs[i].name, op_table[node->op].name);
    type_print(text, &node->type);
    text_print(text, "  %s\n", frozen->origins[node->origin].path);
  }
}

Graph *hoist(Graph *graph, double least_work, Graph **frozen, Text *explanation) {
  Hoisting hoisting = {.graph = graph, .values = ARENA_ARRAY(graph->arena, Value, graph->count)};
  *frozen = NULL;
  judge_all(&hoisting);
  find_frontier(&hoisting);
  if (!hoisting.feature_count) {
    text_print(explanation, "no features are kept: %s\n",
               hoisting.per_sample ? "no contraction depends on a sample and on frozen parameters alone"
                                   : "no input is a sample by itself, as a picture is");
    return graph;
  }
  Graph *program = frozen_program(&hoisting);
  hoisting.work = work_of(program);
  report(&hoisting, program, explanation);
  if (hoisting.work < least_work * hoisting.bytes) {
    text_print(explanation,
               "no features are kept: %.3g operations saved for each of their bytes, and %g are worth it\n",
               hoisting.work / hoisting.bytes, least_work);
    return graph;
  }
  *frozen = program;
  return remaining_program(&hoisting, program);
}
