// Weights of contractions packed: a graph over f32 parameters -> the same graph over their parts, from which
// each element is computed where it is read. Needs: what is trained is marked, and its updates are there.
// Keeps: spans and origins; results up to the rounding of the weights.
//
//   bf16   W[r.., i] = v[r.., i]                                       v: bf16
//   q8_0   W[r.., k*32 + i] = (v[r.., k, i] - 128) * s[r.., k]         v: u8, s: f16
//   q4_0   W[r.., k*32 + h*16 + i] = (n - 8) * s[r.., k]   n: low (h = 0) or high half of v[r.., k, i]
//
// The last axis of W on the left may be several of W's axes in one.
#include "compiler/graph/passes/passes.h"

#include <inttypes.h>
#include <string.h>

// ---- which --------------------------------------------------------------------------------------

// Who reads a node: contractions, as it stands or by views; contractions, by views of which one joins it to others, so
// that they would choose among many for each element; whoever looks up rows. BEYOND: more reads what is made of it than
// element-wise operations on the way to a further weight's contraction.
enum {
  CONTRACTED = 1,
  CONTRACTED_JOINED = 2,
  LOOKED_UP = 4,
  BEYOND = 8,
  ANY_CONTRACTION = CONTRACTED | CONTRACTED_JOINED
};

static bool is_weight(const Graph *graph, NodeId id) {
  const Node *node = &graph->nodes[id];
  while (op_table[node->op].properties & VIEW && node->op != OP_CONCAT) node = &graph->nodes[node->in[0]];
  return node->op == OP_INPUT && graph->inputs[node->attributes.input].role == INPUT_PARAM;
}

// How operand i is read, where `how` the node itself is read is known.
static uint8_t read_as(const Graph *graph, const Node *node, int i, uint8_t how) {
  uint8_t properties = op_table[node->op].properties;
  if (node->op == OP_CONCAT && how & CONTRACTED) return how ^ ANY_CONTRACTION;
  if (properties & VIEW) return how;
  if (properties & ELEMENTWISE) return how & BEYOND;
  if (node->op == OP_GATHER && i == 0) return LOOKED_UP | BEYOND;
  if (node->op != OP_DOT || !node->attributes.contract) return BEYOND;
  if (is_weight(graph, node->in[i])) return CONTRACTED | (how & BEYOND);
  return is_weight(graph, node->in[!i]) ? CONTRACTED : CONTRACTED | BEYOND;
}

static uint8_t *find_readers(const Graph *graph, Arena *arena) {
  uint8_t *readers = ARENA_ARRAY(arena, uint8_t, graph->count);
  for (size_t i = 0; i < graph->output_count; i++) readers[graph->outputs[i].node] = BEYOND;
  for (NodeId id = (NodeId)graph->count; id-- > 1;) {
    const Node *node = &graph->nodes[id];
    for (int i = 0; i < op_table[node->op].inputs; i++)
      readers[node->in[i]] |= read_as(graph, node, i, readers[id]);
  }
  return readers;
}

// Who reads the parameter; 0: nobody of these, or it is none.
static int readers_of(const Graph *source, const uint8_t *readers, const Input *input) {
  const Input *same = graph_find_input((Graph *)(uintptr_t)source, input->name);
  bool parameter = input->role == INPUT_PARAM && same && graph_type(source, same->node)->dtype == DTYPE_F32;
  return parameter ? readers[same->node] : 0;
}

// Four bits are enough within a block, where a further weight adds up what an activation made of the results, and the
// errors with it. What attention compares, what later blocks add to, and the table of the tokens need eight.
static Packing packing_for(Packing asked, int readers) {
  return asked == PACKING_Q4_0 && readers & (LOOKED_UP | BEYOND) ? PACKING_Q8_0 : asked;
}

// ---- what is read in its place ------------------------------------------------------------------

typedef struct Weight {
  Graph *graph;
  const Node *node; // the parameter's, in the graph before
  const char *name;
  Type values, scales;
  int row; // first axis of the row that blocks lie along
} Weight;

static NodeId part(const Weight *weight, const char *what, const Type *type) {
  return graph_input(weight->graph, arena_print(weight->graph->arena, "%s:%s", what, weight->name),
                     INPUT_PART, *type);
}

static NodeId with_number(Graph *graph, Op op, NodeId x, double number) {
  return graph_binary(graph, op, x, graph_constant(graph, number, DTYPE_F32));
}

// x over the axes of the value: its last one is the last of them where it `ends` there, else what x lacks is
// new.
static NodeId spread(const Weight *weight, NodeId x, const Axis *axes, int rank, bool ends) {
  int8_t from[MAX_RANK];
  for (int i = 0; i < MAX_RANK; i++)
    from[i] = (int8_t)(i <= weight->row ? i : ends && i == rank - 1 ? weight->row + 1 : -1);
  return graph_arrange(weight->graph, x, rank, axes, from);
}

// The whole numbers of q4_0, [r.., k, half, i]: both halves of each byte.
static NodeId halves(const Weight *weight, NodeId values, const Axis *axes, int rank) {
  Graph *graph = weight->graph;
  NodeId bytes = graph_cast(graph, values, DTYPE_I32), sixteen = graph_constant(graph, 16, DTYPE_I32);
  NodeId high = graph_binary(graph, OP_DIV, bytes, sixteen),
         low = graph_binary(graph, OP_MOD, bytes, sixteen);
  int8_t from[MAX_RANK];
  for (int i = 0; i < MAX_RANK; i++) from[i] = i == rank - 2 ? 0 : -1;
  NodeId half = graph_iota(graph, axes[rank - 2], extent_constant(0), DTYPE_I32);
  NodeId first = graph_binary(graph, OP_EQUAL, half, graph_constant(graph, 0, DTYPE_I32));
  return graph_select(graph, graph_arrange(graph, first, rank, axes, from),
                      spread(weight, low, axes, rank, true), spread(weight, high, axes, rank, true));
}

// From [r.., blocks..] to the parameter's own axes.
static NodeId as_parameter(const Weight *weight, NodeId x) {
  const Type *type = &weight->node->type;
  int merged = graph_type(weight->graph, x)->rank - weight->row, own = type->rank - weight->row;
  x = graph_merge(weight->graph, x, weight->row, merged, own == 1 ? type->axes[weight->row].label : "row");
  return graph_split(weight->graph, x, weight->row, own, type->axes + weight->row);
}

// Scale and offset as one product and one sum, v * s - 128 * s: machines have that as one operation, and 128 * s,
// which is exact, is the same for a whole block.
static NodeId dequantise(Weight *weight, Packing packing) {
  Graph *graph = weight->graph;
  NodeId value = part(weight, "values", &weight->values);
  if (packing == PACKING_BF16) return graph_cast(graph, value, DTYPE_F32);
  NodeId scale = graph_cast(graph, part(weight, "scales", &weight->scales), DTYPE_F32);
  Axis axes[MAX_RANK];
  int rank = weight->row + 2;
  memcpy(axes, weight->values.axes, sizeof axes);
  if (packing == PACKING_Q4_0) {
    axes[rank] = axes[rank - 1];
    axes[rank - 1] = (Axis){"half", extent_constant(2)};
    value = halves(weight, value, axes, ++rank);
  }
  NodeId offset = with_number(graph, OP_MUL, scale, packing == PACKING_Q8_0 ? 128 : 8);
  value = graph_binary(graph, OP_MUL, graph_cast(graph, value, DTYPE_F32),
                       spread(weight, scale, axes, rank, false));
  value = graph_binary(graph, OP_SUB, value, spread(weight, offset, axes, rank, false));
  return as_parameter(weight, value);
}

// 0: it stays as it is.
static NodeId pack(Graph *to, const Graph *from, const Input *input, Packing packing) {
  const Node *node = &from->nodes[input->node];
  Weight weight = {.graph = to, .node = node, .name = input->name};
  if (!type_of_part(&node->type, packing, false, &weight.values)) return 0;
  if (packing != PACKING_BF16) type_of_part(&node->type, packing, true, &weight.scales);
  weight.row = weight.scales.rank - 1;
  NodeId whole = graph_copy_node(to, from, input->node, NULL);
  to->inputs[to->nodes[whole].attributes.input].packing = packing;
  to->span = node->span;
  to->origin = node->origin;
  return dequantise(&weight, packing);
}

Graph *weights(Graph *graph, const Graph *source, Packing packing) {
  Arena *scratch = arena_new();
  Graph *result = graph_new_like(graph);
  uint8_t *readers = find_readers(source, scratch);
  NodeId *renamed = ARENA_ARRAY(scratch, NodeId, graph->count);
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    NodeId inputs[MAX_INPUTS];
    const Input *input = node->op == OP_INPUT ? &graph->inputs[node->attributes.input] : NULL;
    for (int i = 0; i < MAX_INPUTS; i++) inputs[i] = renamed[node->in[i]];
    int how = input && !input->packing && !input->trained ? readers_of(source, readers, input) : 0;
    if ((how & ANY_CONTRACTION) == CONTRACTED)
      renamed[id] = pack(result, graph, input, packing_for(packing, how));
    if (!renamed[id]) renamed[id] = graph_copy_node(result, graph, id, inputs);
  }
  graph_copy_outputs(result, graph, renamed);
  arena_free(scratch);
  return result;
}

// ---- what became of them ------------------------------------------------------------------------

static double bytes_of(const Type *type) {
  static const int64_t none[SYMBOL_COUNT] = {0};
  return (double)type_elements(type, none) * (double)dtype_bytes(type->dtype);
}

static const char *why_left(const Input *input, int readers) {
  if (input->trained) return "it is trained";
  if (readers & CONTRACTED_JOINED) return "it is joined to others before the contraction";
  return "its last axes hold no whole number of blocks";
}

static void print_counts(const int counts[PACKING_COUNT], Text *text) {
  const char *separator = "";
  for (int packing = PACKING_COUNT; packing-- > 1;) {
    if (!counts[packing]) continue;
    text_print(text, "%s%d in %s", separator, counts[packing], packing_table[packing].name);
    separator = ", ";
  }
  if (!*separator) text_print(text, "none packed");
}

void weights_report(const Graph *graph, const Graph *source, Text *text) {
  Arena *scratch = arena_new();
  uint8_t *readers = find_readers(source, scratch);
  double packed = 0, before = 0;
  int counts[PACKING_COUNT] = {0};
  Text left = {0};
  for (size_t i = 0; i < graph->input_count; i++) {
    const Input *input = &graph->inputs[i];
    const Type *type = graph_type(graph, input->node);
    int how = readers_of(source, readers, input);
    if (input->role == INPUT_PART) packed += bytes_of(type);
    if (input->packing) before += bytes_of(type), counts[input->packing]++;
    if (!(how & ANY_CONTRACTION) || input->packing) continue;
    text_print(&left, "  `%s` stays ", input->name);
    type_print(&left, type);
    text_print(&left, ": %s\n", why_left(input, how));
  }
  text_print(text, "weights of contractions: ");
  print_counts(counts, text);
  text_print(text, ", %.1f MiB instead of %.1f\n%s", packed / (1 << 20), before / (1 << 20),
             text_string(&left));
  text_free(&left);
  arena_free(scratch);
}
