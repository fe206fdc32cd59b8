// Gradients against central differences in f64, operation by operation and element by element; what is frozen
// leaves no backward nodes.
#include "tests/graph_parts.h"
#include "tests/model_graph.h"
#include "tests/random_graph.h"

// Central differences with step h are off by h^2/6 * |f'''| + 2^-53 * |f| / h. With h = 1e-5 and the
// functions here (|f| and |f'''| below 1e3) that is under 2e-8 + 2e-8; a wrong rule is off by far more than
// 1e-6.
static const double step = 1e-5, tolerance = 1e-6;

static const int64_t symbols[SYMBOL_COUNT] = {0, 2, 3, 0, 3};

// ---- values ---------------------------------------------------------------------------------------------

static NodeId parameter(Graph *graph, const char *name, int rank, const int64_t *extents) {
  NodeId node = graph_input(graph, name, INPUT_PARAM, type_of(DTYPE_F64, rank, extents));
  graph_find_input(graph, name)->trained = true;
  return node;
}

static NodeId data(Graph *graph, const char *name, DType dtype, int rank, const int64_t *extents) {
  return graph_input(graph, name, INPUT_DATA, type_of(dtype, rank, extents));
}

static Tensor *make_values(const Graph *graph, Arena *arena, double low, double high) {
  Tensor *inputs = ARENA_ARRAY(arena, Tensor, graph->input_count + 1);
  for (size_t i = 0; i < graph->input_count; i++) {
    Tensor *tensor = &inputs[i];
    tensor->type = graph->nodes[graph->inputs[i].node].type;
    for (int j = 0; j < tensor->type.rank; j++)
      tensor->type.axes[j].extent = extent_constant(extent_value(tensor->type.axes[j].extent, symbols));
    int64_t count = type_elements(&tensor->type, symbols);
    bool whole = !dtype_is_float(tensor->type.dtype);
    tensor->data = ARENA_ARRAY(arena, double, count);
    for (int64_t j = 0; j < count; j++) tensor->data[j] = whole ? floor(uniform(-1, 6)) : uniform(low, high);
  }
  return inputs;
}

static Tensor evaluate_output(const Graph *graph, Arena *arena, const Tensor *inputs, const char *name) {
  Tensor *outputs = ARENA_ARRAY(arena, Tensor, graph->output_count + 1);
  graph_evaluate(graph, arena, symbols, inputs, outputs);
  for (size_t i = 0; i < graph->output_count; i++)
    if (!strcmp(graph->outputs[i].name, name)) return outputs[i];
  return (Tensor){0};
}

// ---- one check ------------------------------------------------------------------------------------------

static void check_parameter(const Graph *forward, const Graph *whole, Tensor *inputs, size_t input,
                            const char *what) {
  Arena *arena = arena_new();
  const char *name = arena_print(arena, "gradient:%s", forward->inputs[input].name);
  Tensor slope = evaluate_output(whole, arena, inputs, name);
  CHECK(slope.data != NULL, "%s: no %s", what, name);
  CHECK(!slope.data || type_equal(&slope.type, &inputs[input].type), "%s: type of %s", what, name);
  int64_t count = slope.data ? type_elements(&slope.type, symbols) : 0, wrong = 0;
  for (int64_t i = 0; i < count; i++) {
    double *value = &inputs[input].data[i], saved = *value;
    *value = saved + step;
    double above = evaluate_output(forward, arena, inputs, "loss").data[0];
    *value = saved - step;
    double below = evaluate_output(forward, arena, inputs, "loss").data[0];
    *value = saved;
    double expected = (above - below) / (2 * step), error = fabs(expected - slope.data[i]);
    if (error <= tolerance * fmax(1, fabs(expected))) continue;
    if (!wrong++)
      printf("%s: %s[%lld] is %.9g, expected %.9g\n", what, name, (long long)i, slope.data[i], expected);
  }
  CHECK(!wrong, "%s: %lld of %lld elements of %s", what, (long long)wrong, (long long)count, name);
  arena_free(arena);
}

// The loss is a sum of y's elements with random weights.
static void finish_loss(Graph *graph, NodeId y) {
  Type type = *graph_type(graph, y);
  NodeId weight = graph_input(graph, "weight", INPUT_DATA, type);
  NodeId product = graph_binary(graph, OP_MUL, y, weight);
  graph_output(graph, "loss", graph_reduce(graph, OP_SUM, product, (1u << type.rank) - 1), false);
}

// y's gradients towards all trained parameters, with values from low to high.
static void check_gradients(Graph *graph, NodeId y, const char *what, double low, double high) {
  finish_loss(graph, y);
  Graph *whole = gradient(graph);
  verify(whole, what);
  Tensor *inputs = make_values(graph, graph->arena, low, high);
  for (size_t i = 0; i < graph->input_count; i++)
    if (graph->inputs[i].trained) check_parameter(graph, whole, inputs, i, what);
}

static Graph *begin(Arena **arena) {
  *arena = arena_new();
  return graph_new(*arena, "test");
}

static size_t count_ops(const Graph *graph, Op op) {
  size_t count = 0;
  for (NodeId id = 1; id < graph->count; id++) count += graph->nodes[id].op == op;
  return count;
}

// ---- operations -----------------------------------------------------------------------------------------

static void test_unary(void) {
  static const struct {
    Op op;
    double low, high;
  } rows[] = {
      {OP_NEG, -2, 2},    {OP_ABS, -2, 2}, {OP_EXP, -2, 2}, {OP_LOG, 0.5, 3}, {OP_SQRT, 0.5, 3},
      {OP_RSQRT, 0.5, 3}, {OP_SIN, -3, 3}, {OP_COS, -3, 3}, {OP_TANH, -2, 2}, {OP_ERF, -2, 2},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Arena *arena;
    Graph *graph = begin(&arena);
    NodeId x = parameter(graph, "x", EXTENTS(5, 7));
    check_gradients(graph, graph_unary(graph, rows[i].op, x), op_table[rows[i].op].name, rows[i].low,
                    rows[i].high);
    arena_free(arena);
  }
}

static void test_binary(void) {
  static const Op ops[] = {OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MOD, OP_POW, OP_MIN, OP_MAX};
  for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
    Arena *arena;
    Graph *graph = begin(&arena);
    NodeId x = parameter(graph, "x", EXTENTS(3, 5)), y = parameter(graph, "y", EXTENTS(3, 5));
    check_gradients(graph, graph_binary(graph, ops[i], x, y), op_table[ops[i]].name, 0.5, 2.5);
    arena_free(arena);
    graph = begin(&arena);
    x = parameter(graph, "x", EXTENTS(3, 5)), y = parameter(graph, "y", 0, NULL);
    check_gradients(graph, graph_binary(graph, ops[i], x, y), "with a rank-0 operand", 0.5, 2.5);
    arena_free(arena);
  }
}

static void test_constant_powers(void) {
  static const double exponents[] = {0, 1, 2, 3, -1, 0.5, 1.7, -2};
  for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
    Arena *arena;
    Graph *graph = begin(&arena);
    NodeId x = parameter(graph, "x", EXTENTS(4)), n = graph_constant(graph, exponents[i], DTYPE_F64);
    NodeId y = graph_binary(graph, OP_ADD, graph_binary(graph, OP_POW, x, n), x);
    check_gradients(graph, y, "pow by a number", 0.5, 2.5);
    Graph *whole = gradient(graph);
    size_t powers = 0;
    for (NodeId id = (NodeId)graph->count; id < whole->count; id++) powers += whole->nodes[id].op == OP_POW;
    CHECK(powers == (exponents[i] == 1.7 || exponents[i] == -2), "x^%g", exponents[i]);
    arena_free(arena);
  }
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(5)), two = graph_constant(graph, 2, DTYPE_F64);
  check_gradients(graph, graph_binary(graph, OP_POW, x, two), "square of negative numbers", -2, 2);
  arena_free(arena);
}

static void test_select_and_casts(void) {
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(3, 4)), y = parameter(graph, "y", EXTENTS(3, 4));
  NodeId switches = data(graph, "switch", DTYPE_F64, EXTENTS(3, 4));
  NodeId condition = graph_binary(graph, OP_LESS, switches, graph_constant(graph, 0, DTYPE_F64));
  NodeId square = graph_binary(graph, OP_MUL, x, x);
  check_gradients(graph, graph_select(graph, condition, square, y), "select", -2, 2);
  arena_free(arena);

  graph = begin(&arena);
  x = parameter(graph, "x", EXTENTS(6));
  NodeId stopped = graph_unary(graph, OP_STOP, graph_binary(graph, OP_MUL, x, x));
  graph_output(graph, "loss", graph_reduce(graph, OP_SUM, graph_binary(graph, OP_MUL, x, stopped), 1), false);
  Graph *whole = gradient(graph);
  Tensor *inputs = make_values(graph, arena, -2, 2);
  Tensor slope = evaluate_output(whole, arena, inputs, "gradient:x");
  for (int i = 0; i < 6; i++) {
    double value = inputs[0].data[i];
    CHECK(fabs(slope.data[i] - value * value) < 1e-12, "stop: %g", slope.data[i]);
  }
  arena_free(arena);

  graph = begin(&arena);
  x = graph_input(graph, "x", INPUT_PARAM, type_of(DTYPE_F32, EXTENTS(3)));
  graph_find_input(graph, "x")->trained = true;
  NodeId wide = graph_cast(graph, x, DTYPE_F64);
  graph_output(graph, "loss", graph_reduce(graph, OP_SUM, graph_binary(graph, OP_MUL, wide, wide), 1), false);
  whole = gradient(graph);
  verify(whole, "cast");
  slope = evaluate_output(whole, arena, make_values(graph, arena, 1, 1), "gradient:x");
  CHECK(slope.type.dtype == DTYPE_F32 && slope.data[0] == 2, "cast: %g", slope.data[0]);
  arena_free(arena);
}

// What is equal shares the gradient evenly, as in PyTorch's maximum, minimum and amax.
static void test_ties(void) {
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(4)), y = parameter(graph, "y", EXTENTS(4));
  NodeId sum = graph_binary(graph, OP_ADD, graph_reduce(graph, OP_REDMAX, x, 1),
                            graph_reduce(graph, OP_SUM, graph_binary(graph, OP_MAX, x, y), 1));
  graph_output(graph, "loss", sum, false);
  Graph *whole = gradient(graph);
  double left[] = {1, 3, 3, 2}, right[] = {1, 2, 4, 2};
  Tensor *inputs = make_values(graph, arena, 0, 1);
  memcpy(inputs[0].data, left, sizeof left);
  memcpy(inputs[1].data, right, sizeof right);
  Tensor of_x = evaluate_output(whole, arena, inputs, "gradient:x");
  Tensor of_y = evaluate_output(whole, arena, inputs, "gradient:y");
  double expected_x[] = {0.5, 1.5, 0.5, 0.5}, expected_y[] = {0.5, 0, 1, 0.5};
  for (int i = 0; i < 4; i++) {
    CHECK(of_x.data[i] == expected_x[i], "x[%d]: %g", i, of_x.data[i]);
    CHECK(of_y.data[i] == expected_y[i], "y[%d]: %g", i, of_y.data[i]);
  }
  arena_free(arena);
}

// A view of x, squared, so that the gradient depends on the place.
static void check_view(Graph *graph, NodeId view, const char *what) {
  check_gradients(graph, graph_binary(graph, OP_MUL, view, view), what, -2, 2);
}

static void test_arrange(void) {
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(2, 3, 5));
  Axis axes[] = {axis("c", 5), axis("n", 3), axis("a", 2), axis("b", 3), axis("m", 2)};
  check_view(graph, graph_arrange(graph, x, 5, axes, (int8_t[]){2, -1, 0, 1, -1}), "arrange");
  arena_free(arena);
  graph = begin(&arena);
  x = parameter(graph, "x", 0, NULL);
  check_view(graph, graph_arrange(graph, x, 2, (Axis[]){axis("a", 2), axis("b", 3)}, (int8_t[]){-1, -1}),
             "spread");
  arena_free(arena);
}

static void test_split_merge(void) {
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(3, 12, 2));
  NodeId parts = graph_split(graph, x, 1, 3, (Axis[]){axis("p", 2), axis("q", 3), axis("r", 2)});
  check_view(graph, graph_merge(graph, parts, 2, 3, "qrc"), "split and merge");
  arena_free(arena);
}

static void test_windows(void) {
  static const struct {
    int64_t outer, inner, start, stride;
  } rows[] = {
      {7, 3, -1, 1}, {3, 3, 0, 2}, {5, 2, -3, 3}, {2, 2, 1, 3}, {4, 1, -2, 1},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Arena *arena;
    Graph *graph = begin(&arena);
    NodeId x = parameter(graph, "x", EXTENTS(2, 7, 3));
    NodeId window = graph_window(graph, x, 1, axis("o", rows[i].outer), axis("i", rows[i].inner),
                                 rows[i].start, rows[i].stride);
    check_view(graph, window, "window");
    arena_free(arena);
    graph = begin(&arena);
    x = parameter(graph, "x", EXTENTS(2, rows[i].outer, rows[i].inner, 3));
    check_view(graph, graph_fold(graph, x, 1, axis("p", 7), rows[i].start, rows[i].stride), "fold");
    arena_free(arena);
  }
}

static void test_pieces(void) {
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(3, 7));
  check_view(graph, graph_slice(graph, x, 1, extent_constant(2), extent_constant(4)), "slice");
  arena_free(arena);
  graph = begin(&arena);
  x = parameter(graph, "x", EXTENTS(3, 4));
  check_view(graph, graph_pad(graph, x, 1, extent_constant(2), extent_constant(9)), "pad");
  arena_free(arena);
  graph = begin(&arena);
  x = parameter(graph, "x", EXTENTS(3, 4));
  NodeId y = parameter(graph, "y", EXTENTS(3, 5));
  check_view(graph, graph_concat(graph, x, y, 1), "concat");
  arena_free(arena);
}

// Three neighbours, used in any order: their gradients are put side by side where they meet, not added.
static void test_neighbours(void) {
  static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (int i = 0; i < 6; i++) {
    Arena *arena;
    Graph *graph = begin(&arena);
    NodeId x = parameter(graph, "x", EXTENTS(2, 6, 3)), y = 0;
    for (int j = 0; j < 3; j++) {
      NodeId part = graph_slice(graph, x, 1, extent_constant(2 * orders[i][j]), extent_constant(2));
      part = graph_unary(graph, OP_SIN, part);
      y = y ? graph_binary(graph, OP_MUL, y, part) : part;
    }
    check_gradients(graph, y, "neighbouring slices", -2, 2);
    bool apart = orders[i][0] == 1; // going back, the outer two meet first
    CHECK(count_ops(gradient(graph), OP_CONCAT) == (apart ? 0 : 2), "order %d: %zu", i,
          count_ops(gradient(graph), OP_CONCAT));
    arena_free(arena);
  }
}

static void test_reductions(void) {
  static const Op ops[] = {OP_SUM, OP_REDMAX};
  static const uint32_t masks[] = {1, 2, 4, 5, 7};
  for (size_t i = 0; i < 2; i++)
    for (size_t j = 0; j < sizeof masks / sizeof *masks; j++) {
      Arena *arena;
      Graph *graph = begin(&arena);
      NodeId x = parameter(graph, "x", EXTENTS(3, 5, 4));
      check_view(graph, graph_reduce(graph, ops[i], x, masks[j]), op_table[ops[i]].name);
      arena_free(arena);
    }
}

// ---- contraction and indexing ---------------------------------------------------------------------------

typedef struct DotCase {
  int x_rank, y_rank, batch, contract;
  int64_t x[MAX_RANK], y[MAX_RANK];
  int8_t left[MAX_RANK], right[MAX_RANK];
} DotCase;

static const DotCase dot_cases[] = {
    {2, 2, 0, 1, {3, 5}, {4, 5}, {1}, {1}},                         // x w^T
    {2, 2, 0, 1, {3, 5}, {5, 4}, {1}, {0}},                         // x w
    {2, 2, 0, 1, {5, 3}, {5, 4}, {0}, {0}},                         // x^T w
    {3, 2, 0, 1, {2, 3, 5}, {4, 5}, {2}, {1}},                      // linear layer
    {4, 4, 2, 1, {2, 3, 2, 5}, {2, 4, 2, 5}, {0, 2, 3}, {0, 2, 3}}, // scores: batch axes are not leading
    {4, 4, 2, 1, {2, 2, 3, 4}, {2, 4, 2, 5}, {0, 1, 3}, {0, 2, 1}}, // mix
    {4, 4, 0, 3, {2, 3, 2, 5}, {7, 5, 3, 2}, {1, 2, 3}, {2, 3, 1}}, // several contracted, in another order
    {2, 1, 0, 1, {3, 5}, {5}, {1}, {0}},                            // matrix by vector
    {1, 2, 0, 1, {5}, {3, 5}, {0}, {1}},                            // vector by matrix
    {1, 1, 0, 1, {5}, {5}, {0}, {0}},                               // inner product
    {3, 2, 1, 1, {3, 2, 5}, {5, 2}, {1, 2}, {1, 0}},                // y has no axes of its own
    {2, 2, 1, 1, {2, 5}, {5, 2}, {0, 1}, {1, 0}},                   // neither has
};

static void check_dot(const DotCase *row) {
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", row->x_rank, row->x), y = parameter(graph, "y", row->y_rank, row->y);
  check_view(graph, graph_dot(graph, x, y, row->batch, row->contract, row->left, row->right), "dot");
  arena_free(arena);
}

static void test_dot(void) {
  for (size_t i = 0; i < sizeof dot_cases / sizeof *dot_cases; i++) check_dot(&dot_cases[i]);
  // A linear layer's gradients need no view to put their axes in order.
  Arena *arena;
  Graph *graph = begin(&arena);
  NodeId x = parameter(graph, "x", EXTENTS(2, 3, 5)), w = parameter(graph, "w", EXTENTS(4, 5));
  finish_loss(graph, graph_dot(graph, x, w, 0, 1, (int8_t[]){2}, (int8_t[]){1}));
  Graph *whole = gradient(graph);
  for (size_t i = 0; i < whole->output_count; i++)
    if (strcmp(whole->outputs[i].name, "loss"))
      CHECK(whole->nodes[whole->outputs[i].node].op == OP_DOT, "%s", whole->outputs[i].name);
  arena_free(arena);
}

static void test_gather(void) {
  Arena *arena;
  Graph *graph = begin(&arena); // rows with axes of their own: an embedding
  NodeId x = parameter(graph, "x", EXTENTS(5, 3)), index = data(graph, "index", DTYPE_I32, EXTENTS(2, 7));
  check_view(graph, graph_gather(graph, x, index, 0), "gather of rows");
  CHECK(count_ops(gradient(graph), OP_SCATTER) == 1, "rows are added up by a scatter");
  arena_free(arena);
  graph = begin(&arena); // one element per batch element: the target's logit
  x = parameter(graph, "x", EXTENTS(3, 4, 5)), index = data(graph, "index", DTYPE_I32, EXTENTS(3, 4));
  check_view(graph, graph_gather(graph, x, index, 2), "gather of one element");
  CHECK(count_ops(gradient(graph), OP_SCATTER) == 0, "no scatter where one element is picked");
  arena_free(arena);
  graph = begin(&arena); // one row per batch element
  x = parameter(graph, "x", EXTENTS(3, 5, 2)), index = data(graph, "index", DTYPE_I32, EXTENTS(3));
  check_view(graph, graph_gather(graph, x, index, 1), "gather of one row");
  arena_free(arena);
  graph = begin(&arena); // batch, several rows
  x = parameter(graph, "x", EXTENTS(3, 5, 2)), index = data(graph, "index", DTYPE_I32, EXTENTS(3, 4));
  check_view(graph, graph_gather(graph, x, index, 1), "gather of several rows");
  arena_free(arena);
  graph = begin(&arena); // a single element
  x = parameter(graph, "x", EXTENTS(5)), index = data(graph, "index", DTYPE_I32, 0, NULL);
  check_view(graph, graph_gather(graph, x, index, 0), "gather of a single element");
  arena_free(arena);
  graph = begin(&arena);
  x = parameter(graph, "x", EXTENTS(3, 4, 2)), index = data(graph, "index", DTYPE_I32, EXTENTS(3, 4));
  check_view(graph, graph_scatter(graph, index, x, 1, axis("n", 6)), "scatter");
  arena_free(arena);
}

// ---- shared values, run-time sizes, whole formulas ------------------------------------------------------

static void test_softmax_cross_entropy(void) {
  Arena *arena;
  Graph *graph = begin(&arena);
  Axis axes[] = {
      {"B", extent_symbol(SYMBOL_BATCH)}, {"T", extent_symbol(SYMBOL_TIME)}, axis("V", 5), axis("D", 4)};
  NodeId x = graph_input(graph, "x", INPUT_DATA, (Type){DTYPE_F64, 3, {axes[0], axes[1], axes[3]}});
  NodeId target = graph_input(graph, "target", INPUT_DATA, (Type){DTYPE_I32, 2, {axes[0], axes[1]}});
  NodeId w = parameter(graph, "w", EXTENTS(5, 4));
  NodeId logits = graph_dot(graph, x, w, 0, 1, (int8_t[]){2}, (int8_t[]){1});
  Axis wide[] = {axes[0], axes[1], axes[2]};
  NodeId largest = graph_reduce(graph, OP_REDMAX, logits, 4);
  NodeId shifted =
      graph_binary(graph, OP_SUB, logits, graph_arrange(graph, largest, 3, wide, (int8_t[]){0, 1, -1}));
  NodeId total = graph_reduce(graph, OP_SUM, graph_unary(graph, OP_EXP, shifted), 4);
  NodeId nll =
      graph_binary(graph, OP_SUB, graph_binary(graph, OP_ADD, graph_unary(graph, OP_LOG, total), largest),
                   graph_gather(graph, logits, target, 2));
  check_gradients(graph, nll, "cross entropy", -2, 2);
  arena_free(arena);
}

static void test_frozen(void) {
  for (int trained = 0; trained < 4; trained++) {
    Arena *arena;
    Graph *graph = begin(&arena);
    NodeId x = data(graph, "x", DTYPE_F64, EXTENTS(3, 5));
    NodeId first = parameter(graph, "first", EXTENTS(4, 5)),
           second = parameter(graph, "second", EXTENTS(6, 4));
    graph_find_input(graph, "first")->trained = trained & 1;
    graph_find_input(graph, "second")->trained = trained & 2;
    NodeId hidden =
        graph_unary(graph, OP_TANH, graph_dot(graph, x, first, 0, 1, (int8_t[]){1}, (int8_t[]){1}));
    finish_loss(graph, graph_dot(graph, hidden, second, 0, 1, (int8_t[]){1}, (int8_t[]){1}));
    Graph *whole = gradient(graph);
    verify(whole, "frozen");
    // Towards `first`: through the second dot, and to the weight. Towards `second`: to the weight alone.
    size_t expected = (trained & 1 ? 2 : 0) + (trained & 2 ? 1 : 0);
    CHECK(count_ops(whole, OP_DOT) == 2 + expected, "trained %d: %zu contractions", trained,
          count_ops(whole, OP_DOT));
    CHECK(whole->output_count == 1u + (trained & 1) + (trained >> 1), "trained %d", trained);
    if (!trained) CHECK(whole->count == graph->count, "nothing trained, nothing built");
    for (NodeId id = (NodeId)graph->count + 1; id < whole->count; id++)
      CHECK(whole->origins[whole->nodes[id].origin].backward, "node %u is not marked as backward", id);
    CHECK(graph->output_count == 1, "the forward graph is left as it was");
    arena_free(arena);
  }
}

// ---- model files ----------------------------------------------------------------------------------------

static const char model_text[] =
    "import nn, vit, gpt\n"
    "model M() {\n"
    "  vision = vit.ViT(image = 8, patch = 4, width = 8, depth = 1, heads = 2, hidden = 12)\n"
    "  lm = gpt.GPT(vocab = 7, context = 8, width = 8, depth = 2, heads = 2)\n"
    "  projection = nn.MLP(lm.width, hidden = 12)\n"
    "  forward(picture[B, 3, vision.image, vision.image], ids: i32[B, T]) -> logits[B, T, lm.vocab] {\n"
    "    words = lm.embed(ids)\n"
    "    x = splice(words, at = ids == \"<image>\", projection(vision(picture)))\n"
    "    return lm.decode(x + grouped: nn.GroupedAttention(4, 2)(x))\n"
    "  }\n"
    "  loss(picture, ids, answer[B, T]) = nn.cross_entropy(forward(picture, ids), next(ids), answer)\n"
    "}\n";

// The slope along a random direction of one parameter: all of its elements at once.
static void check_direction(const Graph *forward, const Graph *whole, Tensor *inputs, size_t input) {
  Arena *arena = arena_new();
  const char *name = arena_print(arena, "gradient:%s", forward->inputs[input].name);
  Tensor slope = evaluate_output(whole, arena, inputs, name), *values = &inputs[input];
  int64_t count = type_elements(&values->type, symbols);
  double *saved = values->data, *moved = ARENA_ARRAY(arena, double, count),
         *direction = ARENA_ARRAY(arena, double, count);
  double expected = 0, computed = 0;
  CHECK(slope.data != NULL, "no %s", name);
  for (int64_t i = 0; i < count && slope.data; i++) {
    direction[i] = uniform(-1, 1);
    computed += direction[i] * slope.data[i];
  }
  values->data = moved;
  for (int side = -1; side <= 1; side += 2) {
    for (int64_t i = 0; i < count; i++) moved[i] = saved[i] + side * step * direction[i];
    expected += side * evaluate_output(forward, arena, inputs, "loss").data[0] / (2 * step);
  }
  values->data = saved;
  CHECK(fabs(expected - computed) <= tolerance * fmax(1, fabs(expected)),
        "%s along a direction: %.9g, expected %.9g", name, computed, expected);
  arena_free(arena);
}

// All parameters of a whole vision-language model, each along a direction; with the vision frozen nothing of
// its backward pass is built.
static void test_model(void) {
  ModelText model;
  model_text_open(&model, model_text);
  Graph *forward = model_text_graph(&model, "loss");
  CHECK(forward, "%s", text_string(&model.diagnostics.text));
  if (forward) {
    forward = cse(simplify(forward));
    for (size_t i = 0; i < forward->input_count; i++)
      forward->inputs[i].trained = forward->inputs[i].role == INPUT_PARAM;
    Graph *whole = gradient(forward);
    verify(whole, "model");
    CHECK(count_ops(whole, OP_SCATTER) == 2, "scatters for tokens and pictures alone: %zu",
          count_ops(whole, OP_SCATTER));
    Tensor *inputs = make_values(forward, forward->arena, -0.5, 0.5);
    for (size_t i = 0; i < forward->input_count; i++) {
      if (strcmp(forward->inputs[i].name, "answer")) continue;
      for (int j = 0; j < 6; j++)
        inputs[i].data[j] = uniform(0.1, 1); // B x T; shares of a loss are not negative
    }
    for (size_t i = 0; i < forward->input_count; i++)
      if (forward->inputs[i].trained) check_direction(forward, whole, inputs, i);
    for (size_t i = 0; i < forward->input_count; i++)
      forward->inputs[i].trained = !strncmp(forward->inputs[i].name, "projection.", 11);
    whole = gradient(forward);
    for (NodeId id = (NodeId)forward->count; id < whole->count; id++) {
      const Origin *origin = &whole->origins[whole->nodes[id].origin];
      CHECK(strncmp(origin->path, "vision", 6), "a backward node of %s", origin->path);
    }
  }
  model_text_close(&model);
}

// ---- random graphs --------------------------------------------------------------------------------------

// The loss is the sum of all results that are floats.
static void add_loss(Graph *graph) {
  NodeId loss = graph_constant(graph, 0, DTYPE_F64);
  for (size_t i = 0; i < graph->output_count; i++) {
    const Type *type = graph_type(graph, graph->outputs[i].node);
    if (graph->outputs[i].update || type->dtype != DTYPE_F64) continue;
    NodeId sum = graph_reduce(graph, OP_SUM, graph->outputs[i].node, (1u << type->rank) - 1);
    loss = graph_binary(graph, OP_ADD, loss, sum);
  }
  graph_output(graph, "loss", loss, false);
}

// Values that are no multiples of anything, so that nothing is compared with its equal.
static Tensor *random_values(const Graph *graph, uint64_t seed) {
  Tensor *inputs = random_inputs(graph, graph->arena, seed, random_symbols);
  for (size_t i = 0; i < graph->input_count; i++)
    for (int64_t j = 0; j < type_elements(&inputs[i].type, NULL); j++)
      if (inputs[i].type.dtype == DTYPE_F64) inputs[i].data[j] += uniform(-0.1, 0.1);
  return inputs;
}

static double loss_of(const Graph *graph, const Tensor *inputs) {
  Arena *arena = arena_new();
  Tensor *outputs = ARENA_ARRAY(arena, Tensor, graph->output_count);
  graph_evaluate(graph, arena, random_symbols, inputs, outputs);
  double loss = outputs[graph->output_count - 1].data[0];
  arena_free(arena);
  return loss;
}

// The slope along a direction of input `at`; `bend`: how much the slopes to both sides differ.
static double measured_slope(const Graph *graph, Tensor *inputs, size_t at, const double *direction,
                             double *bend) {
  int64_t count = type_elements(&inputs[at].type, NULL);
  double *saved = inputs[at].data, *moved = ARENA_ARRAY(graph->arena, double, count), losses[3];
  inputs[at].data = moved;
  for (int side = -1; side <= 1; side++) {
    for (int64_t i = 0; i < count; i++) moved[i] = saved[i] + side * step * direction[i];
    losses[side + 1] = loss_of(graph, inputs);
  }
  inputs[at].data = saved;
  *bend = fabs(losses[0] + losses[2] - 2 * losses[1]) / step;
  return (losses[2] - losses[0]) / (2 * step);
}

static void check_random(uint64_t seed, int *checked) {
  Arena *arena = arena_new();
  Graph *graph = random_graph(arena, seed, 40);
  if (count_ops(graph, OP_UPDATE)) { // states are no path of gradients
    arena_free(arena);
    return;
  }
  for (NodeId id = 1; id < graph->count; id++) {
    Node *node = &graph->nodes[id];
    if (node->type.dtype == DTYPE_F32) node->type.dtype = DTYPE_F64;
    if (node->op == OP_STOP && dtype_is_float(node->type.dtype))
      node->op = OP_NEG; // a difference sees through stop
  }
  for (size_t i = 0; i < graph->input_count; i++) {
    Input *input = &graph->inputs[i];
    if (input->role == INPUT_DATA) input->role = INPUT_PARAM;
    input->trained = input->role == INPUT_PARAM && graph->nodes[input->node].type.dtype == DTYPE_F64;
  }
  add_loss(graph);
  Graph *whole = gradient(graph);
  verify(whole, "random graph");
  Tensor *inputs = random_values(graph, seed), *outputs = ARENA_ARRAY(arena, Tensor, whole->output_count);
  graph_evaluate(whole, arena, random_symbols, inputs, outputs);
  for (size_t i = graph->output_count; i < whole->output_count; i++) {
    size_t at =
        (size_t)(graph_find_input(graph, whole->outputs[i].name + strlen("gradient:")) - graph->inputs);
    int64_t count = type_elements(&outputs[i].type, NULL);
    double *direction = ARENA_ARRAY(arena, double, count), computed = 0, bend;
    for (int64_t j = 0; j < count; j++) {
      direction[j] = uniform(-1, 1);
      computed += direction[j] * outputs[i].data[j];
    }
    double expected = measured_slope(graph, inputs, at, direction, &bend);
    if (!(bend < 0.01 * fmax(1, fabs(expected))))
      continue; // a corner of abs, max or select lies within the step
    ++*checked;
    // Functions of functions bend more: h^2/6 * |f'''| with |f'''| up to 1e5.
    CHECK(fabs(expected - computed) <= 1e-5 * fmax(1, fabs(expected)), "seed %d: %s is %.9g, expected %.9g",
          (int)seed, whole->outputs[i].name, computed, expected);
  }
  arena_free(arena);
}

static void test_random(void) {
  int checked = 0;
  for (uint64_t seed = 1; seed <= 200; seed++) check_random(seed, &checked);
  CHECK(checked > 100, "%d gradients of random graphs", checked);
}

int main(void) {
  test_random();
  test_model();
  test_unary();
  test_binary();
  test_constant_powers();
  test_select_and_casts();
  test_ties();
  test_arrange();
  test_split_merge();
  test_windows();
  test_pieces();
  test_neighbours();
  test_reductions();
  test_dot();
  test_gather();
  test_softmax_cross_entropy();
  test_frozen();
  return check_finish();
}
