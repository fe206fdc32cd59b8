// Narrow activations: what is stored narrow and what stays f32, in a whole training step and in decoding; and
// that nothing but the storage changes (the evaluator rounds nothing, so both graphs must give the same).
#include "tests/model_graph.h"
#include "tests/random_graph.h"

static const char model_text[] =
    "import nn, vit, gpt\n"
    "model M() {\n"
    "  vision = vit.ViT(image = 8, patch = 4, width = 8, depth = 1, heads = 2, hidden = 12)\n"
    "  lm = gpt.GPT(vocab = 7, context = 8, width = 8, depth = 2, heads = 2)\n"
    "  projection = nn.Linear(lm.width)\n"
    "  forward(picture[B, 3, vision.image, vision.image], ids: i32[B, T]) -> logits[B, T, lm.vocab] {\n"
    "    words = lm.embed(ids)\n"
    "    x = splice(words, at = ids == \"<image>\", projection(vision(picture)))\n"
    "    return lm.decode(x + grouped: nn.GroupedAttention(4, 2)(x))\n"
    "  }\n"
    "  loss(picture, ids, answer[B, T]) = nn.cross_entropy(forward(picture, ids), next(ids), answer)\n"
    "}\n";

static const int64_t symbols[SYMBOL_COUNT] = {0, 2, 3, 2, 5};

static bool has_run_time_axis(const Type *type) {
  for (int i = 0; i < type->rank; i++)
    if (!extent_is_constant(type->axes[i].extent)) return true;
  return false;
}

static Tensor make_value(Arena *arena, const Graph *graph, const Input *input, uint32_t *seed) {
  Tensor tensor = {.type = graph->nodes[input->node].type};
  for (int i = 0; i < tensor.type.rank; i++)
    tensor.type.axes[i].extent = extent_constant(extent_value(tensor.type.axes[i].extent, symbols));
  int64_t count = type_elements(&tensor.type, symbols);
  tensor.data = ARENA_ARRAY(arena, double, count);
  for (int64_t i = 0; i < count; i++) {
    *seed = *seed * 1664525u + 1013904223u;
    double value = (double)(*seed >> 8) / (double)(1 << 24);
    tensor.data[i] = dtype_is_float(tensor.type.dtype) ? value : floor(7 * value);
  }
  return tensor;
}

static Tensor *run(Arena *arena, const Graph *graph) {
  Tensor *inputs = ARENA_ARRAY(arena, Tensor, graph->input_count);
  Tensor *outputs = ARENA_ARRAY(arena, Tensor, graph->output_count);
  uint32_t seed = 7;
  for (size_t i = 0; i < graph->input_count; i++)
    inputs[i] = make_value(arena, graph, &graph->inputs[i], &seed);
  graph_evaluate(graph, arena, symbols, inputs, outputs);
  return outputs;
}

static void check_same(const Graph *before, const Graph *after, const char *what) {
  Arena *arena = arena_new();
  Tensor *expected = run(arena, before), *found = run(arena, after);
  CHECK(before->output_count == after->output_count, "%s: outputs", what);
  for (size_t i = 0; i < before->output_count; i++) {
    int64_t count = type_elements(&expected[i].type, symbols), wrong = 0;
    for (int64_t j = 0; j < count; j++) wrong += !(expected[i].data[j] == found[i].data[j]);
    CHECK(!wrong && !strcmp(before->outputs[i].name, after->outputs[i].name),
          "%s: %lld elements of %s differ", what, (long long)wrong, before->outputs[i].name);
  }
  arena_free(arena);
}

// What the type of each kind of node must be.
static void check_node(const Graph *graph, NodeId id, const char *what) {
  const Node *node = &graph->nodes[id];
  DType dtype = node->type.dtype;
  switch (node->op) {
  case OP_DOT:
    CHECK((dtype == DTYPE_BF16) == has_run_time_axis(&node->type), "%s: contraction %%%u is %s", what, id,
          dtype_name(dtype));
    for (int i = 0; i < 2 && dtype == DTYPE_F32; i++) {
      const Node *operand = &graph->nodes[node->in[i]];
      CHECK(operand->op == OP_CAST && graph->nodes[operand->in[0]].type.dtype == DTYPE_BF16,
            "%s: contraction %%%u does not read bf16", what, id);
    }
    return;
  case OP_SUM:
  case OP_REDMAX:
    CHECK(dtype == DTYPE_F32 || dtype == DTYPE_I32, "%s: %%%u is %s", what, id, dtype_name(dtype));
    return;
  case OP_SCATTER: CHECK(dtype == DTYPE_F32, "%s: %%%u is %s", what, id, dtype_name(dtype)); return;
  case OP_RSQRT: CHECK(dtype == DTYPE_F32, "%s: statistic %%%u is %s", what, id, dtype_name(dtype)); return;
  case OP_TANH: CHECK(dtype == DTYPE_BF16, "%s: activation %%%u is %s", what, id, dtype_name(dtype)); return;
  default: return;
  }
}

static void check_graph(const Graph *before, const char *what) {
  Text reason = {0};
  Graph *graph = precision(cse(simplify((Graph *)(uintptr_t)before)), DTYPE_BF16);
  CHECK(graph_verify(graph, &reason), "%s: %s", what, text_string(&reason));
  text_free(&reason);
  for (NodeId id = 1; id < graph->count; id++) check_node(graph, id, what);
  for (size_t i = 0; i < graph->input_count; i++) {
    const Type *type = graph_type(graph, graph->inputs[i].node);
    bool narrow = graph->inputs[i].role == INPUT_STATE && has_run_time_axis(type);
    if (!dtype_is_float(type->dtype)) continue;
    CHECK(type->dtype == (narrow ? DTYPE_BF16 : DTYPE_F32), "%s: %s is %s", what, graph->inputs[i].name,
          dtype_name(type->dtype));
  }
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    if (!output->update)
      CHECK(graph_type(graph, output->node)->dtype == DTYPE_F32, "%s: result %s", what, output->name);
  }
  check_same(before, graph, what);
  check_same(before, cse(simplify(graph)), what);
}

// A maximum's gradient compares with the maximum, which must still be found.
static void test_maximum(void) {
  Arena *arena = arena_new();
  Graph *graph = graph_new(arena, "loss");
  Axis batch = {"B", extent_symbol(SYMBOL_BATCH)}, in = {"I", extent_constant(3)},
       out = {"O", extent_constant(5)};
  NodeId x = graph_input(graph, "x", INPUT_DATA, (Type){DTYPE_F32, 2, {batch, in}});
  NodeId w = graph_input(graph, "w", INPUT_PARAM, (Type){DTYPE_F32, 2, {out, in}});
  graph_find_input(graph, "w")->trained = true;
  NodeId y = graph_dot(graph, x, w, 0, 1, (int8_t[]){1}, (int8_t[]){1});
  graph_output(graph, "loss", graph_reduce(graph, OP_SUM, graph_reduce(graph, OP_REDMAX, y, 2), 1), false);
  Graph *narrow = precision(gradient(graph), DTYPE_BF16);
  for (NodeId id = 1; id < narrow->count; id++)
    if (narrow->nodes[id].op == OP_EQUAL)
      CHECK(graph_type(narrow, narrow->nodes[id].in[0])->dtype == DTYPE_F32 &&
                narrow->nodes[narrow->nodes[id].in[0]].op == OP_DOT,
            "what is compared keeps its bits");
  check_same(gradient(graph), narrow, "maximum");
  arena_free(arena);
}

// Random graphs keep their values; those of states with a run-time axis are stored narrow.
static void test_random(void) {
  for (uint64_t seed = 1; seed <= 200; seed++) {
    Arena *arena = arena_new();
    Text reason = {0};
    Graph *graph = random_graph(arena, seed, 40), *narrow = precision(graph, DTYPE_BF16);
    CHECK(graph_verify(narrow, &reason), "seed %d: %s", (int)seed, text_string(&reason));
    text_free(&reason);
    Tensor *inputs = random_inputs(graph, arena, seed, random_symbols);
    Tensor *before = ARENA_ARRAY(arena, Tensor, graph->output_count + 1);
    Tensor *after = ARENA_ARRAY(arena, Tensor, graph->output_count + 1);
    graph_evaluate(graph, arena, random_symbols, inputs, before);
    graph_evaluate(narrow, arena, random_symbols, inputs, after);
    for (size_t i = 0; i < graph->output_count; i++) {
      size_t bytes = sizeof(double) * (size_t)type_elements(&before[i].type, NULL);
      CHECK(!memcmp(before[i].data, after[i].data, bytes), "seed %d: %s", (int)seed, graph->outputs[i].name);
    }
    arena_free(arena);
  }
}

int main(void) {
  test_random();
  static const char *const results[] = {"parameter", "first", "second"};
  ModelText model;
  model_text_open(&model, model_text);
  Graph *loss = model.model ? model_graph(model.model, "loss") : NULL;
  Graph *forward = model.model ? model_graph(model.model, "forward") : NULL;
  const Graph *rule = model.model ? model_function(model.model, "optim.adamw", results, 3) : NULL;
  CHECK(loss && forward && rule, "%s", text_string(&model.diagnostics.text));
  if (loss && forward && rule) {
    for (size_t i = 0; i < loss->input_count; i++)
      loss->inputs[i].trained = loss->inputs[i].role == INPUT_PARAM;
    check_graph(forward, "forward");
    check_graph(optimizer(gradient(loss), rule, (OptimizerOptions){.clip = 1, .accumulate = 1}), "step");
    check_graph(derive(forward, DERIVE_PREFILL, 8, true, &model.diagnostics), "prefill");
    check_graph(derive(forward, DERIVE_DECODE, 8, true, &model.diagnostics), "decode");
  }
  model_text_close(&model);
  test_maximum();
  return check_finish();
}
