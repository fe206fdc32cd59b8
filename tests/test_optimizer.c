// The optimizer and gradient accumulation against naked loops, and the shape of what they leave.
#include "compiler/graph/passes/passes.h"
#include "tests/graph_parts.h"

static const int64_t symbols[SYMBOL_COUNT] = {0, 2, 3, 0, 3};

// first = b1 first + (1-b1) g;  second = b2 second + (1-b2) g^2
// parameter -= rate * (first / (1 - b1^step) / (sqrt(second / (1 - b2^step)) + epsilon) + decay * parameter)
static Graph *adamw(Arena *arena) {
  static const char *const names[] = {"parameter", "gradient", "first", "second",  "rate",
                                      "step",      "beta1",    "beta2", "epsilon", "decay"};
  enum { PARAMETER, GRADIENT, FIRST, SECOND, RATE, STEP, BETA1, BETA2, EPSILON, DECAY, COUNT };
  Graph *graph = graph_new(arena, "adamw");
  NodeId in[COUNT];
  for (int i = 0; i < COUNT; i++)
    in[i] = graph_input(graph, names[i], INPUT_SCALAR, (Type){.dtype = DTYPE_F32});
  NodeId one = graph_constant(graph, 1, DTYPE_F32), moments[2], corrected[2];
  NodeId square = graph_binary(graph, OP_MUL, in[GRADIENT], in[GRADIENT]);
  for (int i = 0; i < 2; i++) {
    NodeId beta = in[BETA1 + i], rest = graph_binary(graph, OP_SUB, one, beta);
    NodeId correction = graph_binary(graph, OP_SUB, one, graph_binary(graph, OP_POW, beta, in[STEP]));
    moments[i] = graph_binary(graph, OP_ADD, graph_binary(graph, OP_MUL, beta, in[FIRST + i]),
                              graph_binary(graph, OP_MUL, rest, i ? square : in[GRADIENT]));
    corrected[i] = graph_binary(graph, OP_DIV, moments[i], correction);
  }
  NodeId root = graph_binary(graph, OP_ADD, graph_unary(graph, OP_SQRT, corrected[1]), in[EPSILON]);
  NodeId change = graph_binary(graph, OP_ADD, graph_binary(graph, OP_DIV, corrected[0], root),
                               graph_binary(graph, OP_MUL, in[DECAY], in[PARAMETER]));
  graph_output(graph, "parameter",
               graph_binary(graph, OP_SUB, in[PARAMETER], graph_binary(graph, OP_MUL, in[RATE], change)),
               false);
  graph_output(graph, "first", moments[0], false);
  graph_output(graph, "second", moments[1], false);
  return graph;
}

enum { ROWS = 3, COLUMNS = 5, STEPS = 5 };
static const double rate = 0.01, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, decay = 0.1, clip = 0.7;

// loss = sum over rows of (x . w + b)^2, once per row of x.
static Graph *small_model(Arena *arena) {
  Graph *graph = graph_new(arena, "loss");
  NodeId x = graph_input(graph, "x", INPUT_DATA, type_of(DTYPE_F32, EXTENTS(4, COLUMNS)));
  NodeId w = graph_input(graph, "w", INPUT_PARAM, type_of(DTYPE_F32, EXTENTS(ROWS, COLUMNS)));
  NodeId b = graph_input(graph, "b", INPUT_PARAM, type_of(DTYPE_F32, EXTENTS(ROWS)));
  graph_find_input(graph, "w")->trained = graph_find_input(graph, "b")->trained = true;
  NodeId y = graph_dot(graph, x, w, 0, 1, (int8_t[]){1}, (int8_t[]){1});
  Axis axes[] = {axis("n", 4), axis("o", ROWS)};
  y = graph_binary(graph, OP_ADD, y, graph_arrange(graph, b, 2, axes, (int8_t[]){-1, 0}));
  graph_output(graph, "loss", graph_reduce(graph, OP_SUM, graph_binary(graph, OP_MUL, y, y), 3), false);
  return graph;
}

typedef struct Naked {
  double w[ROWS * COLUMNS], b[ROWS], first[ROWS * COLUMNS + ROWS], second[ROWS * COLUMNS + ROWS];
  double gradient[ROWS * COLUMNS + ROWS];
} Naked;

static void naked_gradient(Naked *model, const double *x, double scale) {
  for (int n = 0; n < 4; n++)
    for (int o = 0; o < ROWS; o++) {
      double y = model->b[o];
      for (int i = 0; i < COLUMNS; i++) y += x[n * COLUMNS + i] * model->w[o * COLUMNS + i];
      for (int i = 0; i < COLUMNS; i++)
        model->gradient[o * COLUMNS + i] += scale * 2 * y * x[n * COLUMNS + i];
      model->gradient[ROWS * COLUMNS + o] += scale * 2 * y;
    }
}

// Returns the norm before clipping.
static double naked_step(Naked *model, int number) {
  int count = ROWS * COLUMNS + ROWS;
  double squares = 0;
  for (int i = 0; i < count; i++) squares += model->gradient[i] * model->gradient[i];
  double norm = sqrt(squares), scale = fmin(1, clip / (norm + 1e-6));
  for (int i = 0; i < count; i++) {
    double g = model->gradient[i] * scale,
           *p = i < ROWS * COLUMNS ? &model->w[i] : &model->b[i - ROWS * COLUMNS];
    model->first[i] = beta1 * model->first[i] + (1 - beta1) * g;
    model->second[i] = beta2 * model->second[i] + (1 - beta2) * g * g;
    double first = model->first[i] / (1 - pow(beta1, number)),
           second = model->second[i] / (1 - pow(beta2, number));
    *p -= rate * (first / (sqrt(second) + epsilon) + (i < ROWS * COLUMNS ? decay : 0) * *p);
    model->gradient[i] = 0;
  }
  return norm;
}

// Values of parameters and states by name, kept between runs of several graphs.
typedef struct Store {
  Arena *arena;
  const char *names[32];
  Tensor tensors[32];
  int count;
} Store;

static Tensor *store_find(Store *store, const char *name, const Type *type) {
  for (int i = 0; i < store->count; i++)
    if (!strcmp(store->names[i], name)) return &store->tensors[i];
  store->names[store->count] = name;
  Tensor *tensor = &store->tensors[store->count++];
  tensor->type = *type;
  tensor->data = ARENA_ARRAY(store->arena, double, type_elements(type, symbols));
  return tensor;
}

static double store_run(Store *store, const Graph *graph, const char *result) {
  Tensor *inputs = ARENA_ARRAY(store->arena, Tensor, graph->input_count);
  Tensor *outputs = ARENA_ARRAY(store->arena, Tensor, graph->output_count);
  double value = NAN;
  for (size_t i = 0; i < graph->input_count; i++)
    inputs[i] = *store_find(store, graph->inputs[i].name, graph_type(graph, graph->inputs[i].node));
  graph_evaluate(graph, store->arena, symbols, inputs, outputs);
  for (size_t i = 0; i < graph->output_count; i++) {
    if (graph->outputs[i].update)
      *store_find(store, graph->outputs[i].name, &outputs[i].type) = outputs[i];
    else if (!strcmp(graph->outputs[i].name, result))
      value = outputs[i].data[0];
  }
  return value;
}

static void set_scalar(Store *store, const char *name, double value) {
  store_find(store, name, &(Type){.dtype = DTYPE_F32})->data[0] = value;
}

static double largest_difference(const double *x, const double *y, int count) {
  double largest = 0;
  for (int i = 0; i < count; i++) largest = fmax(largest, fabs(x[i] - y[i]));
  return largest;
}

static void test_adamw(int accumulate) {
  Arena *arena = arena_new();
  Graph *rule = adamw(arena), *backward = gradient(small_model(arena));
  Graph *micro = optimizer(backward, rule, (OptimizerOptions){clip, accumulate, false});
  Graph *apply =
      accumulate > 1 ? optimizer(backward, rule, (OptimizerOptions){clip, accumulate, true}) : NULL;
  verify(micro, "step");
  if (apply) verify(apply, "apply");
  Type weights = type_of(DTYPE_F32, EXTENTS(ROWS, COLUMNS)), biases = type_of(DTYPE_F32, EXTENTS(ROWS));
  Type rows = type_of(DTYPE_F32, EXTENTS(4, COLUMNS));
  Store store = {.arena = arena};
  Naked naked = {.w = {0}};
  Tensor *w = store_find(&store, "w", &weights), *b = store_find(&store, "b", &biases);
  Tensor *x = store_find(&store, "x", &rows);
  for (int i = 0; i < ROWS * COLUMNS; i++) w->data[i] = naked.w[i] = (float)uniform(-1, 1);
  for (int i = 0; i < ROWS; i++) b->data[i] = naked.b[i] = (float)uniform(-1, 1);
  set_scalar(&store, "rate", rate), set_scalar(&store, "beta1", beta1), set_scalar(&store, "beta2", beta2);
  set_scalar(&store, "epsilon", epsilon), set_scalar(&store, "decay", decay);
  for (int number = 1; number <= STEPS; number++) {
    double norm = 0;
    set_scalar(&store, "step", number);
    for (int i = 0; i < accumulate; i++) {
      for (int j = 0; j < 4 * COLUMNS; j++) x->data[j] = (float)uniform(-0.3, 0.3);
      naked_gradient(&naked, x->data, 1.0 / accumulate);
      norm = store_run(&store, micro, "gradient norm");
    }
    if (apply) norm = store_run(&store, apply, "gradient norm");
    double expected = naked_step(&naked, number);
    // The evaluator computes in f64, so only the order of sums differs.
    CHECK(fabs(norm - expected) < 1e-12 * expected, "step %d: norm %g, expected %g", number, norm, expected);
    CHECK(largest_difference(w->data, naked.w, ROWS * COLUMNS) < 1e-12, "step %d: weights", number);
    CHECK(largest_difference(b->data, naked.b, ROWS) < 1e-12, "step %d: biases", number);
  }
  arena_free(arena);
}

static void test_optimizer_shape(void) {
  Arena *arena = arena_new();
  Graph *rule = adamw(arena),
        *step_graph = optimizer(gradient(small_model(arena)), rule, (OptimizerOptions){1, 1, false});
  int ranked_powers = 0, powers = 0;
  for (NodeId id = 1; id < step_graph->count; id++) {
    if (step_graph->nodes[id].op != OP_POW) continue;
    powers++;
    ranked_powers += step_graph->nodes[id].type.rank > 0;
  }
  CHECK(powers <= 4 && ranked_powers == 0, "what no parameter enters is of rank 0: %d of %d are not",
        ranked_powers, powers);
  int updates = 0;
  for (size_t i = 0; i < step_graph->output_count; i++) {
    updates += step_graph->outputs[i].update;
    CHECK(strncmp(step_graph->outputs[i].name, "gradient:", 9), "gradients are used up");
  }
  CHECK(updates == 6, "%d updates", updates);
  CHECK(graph_find_input(step_graph, "first:w") && graph_find_input(step_graph, "second:b"), "states");
  CHECK(graph_find_input(step_graph, "rate")->role == INPUT_SCALAR, "scalars");
  arena_free(arena);
}

int main(void) {
  test_adamw(1);
  test_adamw(3);
  test_optimizer_shape();
  return check_finish();
}
