// The incremental graph against the whole one: prefill of some positions and then further ones, few or one at
// a time, give what `forward` gives over all of them. Models that look ahead are refused at the model's line.
#include "compiler/compile.h"
#include "tests/graph_parts.h"
#include "tests/model_graph.h"
#include "tests/random_graph.h"
#include "tests/shipped.h"

// Both graphs do the same sums in f64 in another order, over some hundred terms of size 1: errors of 1e-13.
static const double tolerance = 1e-10;

enum { BATCH = 2, LENGTH = 9, CAPACITY = 12, WIDTH = 6, HEADS = 2, PER_HEAD = 3, VOCAB = 7, CONTEXT = 16 };
enum { PICTURE = 4, PICTURE_TOKENS = 3, PICTURE_ID = 6 };

// ---- building models ------------------------------------------------------------------------------------

static const Axis axis_b = {"B", {SYMBOL_BATCH, 1, 0}}, axis_t = {"T", {SYMBOL_TIME, 1, 0}};

static NodeId parameter(Graph *graph, int rank, const Axis *axes) {
  Type type = {.dtype = DTYPE_F64, .rank = rank};
  char name[32];
  snprintf(name, sizeof name, "p%zu", graph->input_count);
  for (int i = 0; i < rank; i++) type.axes[i] = axes[i];
  return graph_input(graph, name, INPUT_PARAM, type);
}
#define PARAMETER(graph, ...)                                                                                \
  parameter(graph, (int)(sizeof((Axis[]){__VA_ARGS__}) / sizeof(Axis)), (Axis[]){__VA_ARGS__})

static NodeId ids_input(Graph *graph) {
  return graph_input(graph, "ids", INPUT_DATA, (Type){DTYPE_I32, 2, {axis_b, axis_t}});
}

static NodeId embed(Graph *graph, NodeId ids) {
  NodeId token = PARAMETER(graph, axis("V", VOCAB), axis("D", WIDTH));
  return graph_gather(graph, token, ids, 0);
}

static NodeId spread(Graph *graph, NodeId x, NodeId model, const int8_t *from) {
  const Type *type = graph_type(graph, model);
  return graph_arrange(graph, x, type->rank, type->axes, from);
}

// x[B, T, D] + position[t, D]
static NodeId add_positions(Graph *graph, NodeId x) {
  NodeId table = PARAMETER(graph, axis("C", CONTEXT), axis("D", WIDTH));
  NodeId first = graph_slice(graph, table, 0, extent_constant(0), axis_t.extent);
  return graph_binary(graph, OP_ADD, x, spread(graph, first, x, (int8_t[]){-1, 0, 1}));
}

static NodeId logits(Graph *graph, NodeId x) {
  NodeId head = PARAMETER(graph, axis("V", VOCAB), axis("D", WIDTH));
  return graph_dot(graph, x, head, 0, 1, (int8_t[]){2}, (int8_t[]){1});
}

// x[B, T, D] -> [B, T, H, E]
static NodeId heads_of(Graph *graph, NodeId x) {
  NodeId weight = PARAMETER(graph, axis("D", WIDTH), axis("H", HEADS), axis("E", PER_HEAD));
  return graph_dot(graph, x, weight, 0, 1, (int8_t[]){2}, (int8_t[]){0});
}

// The index along axis `at` of a score [B, H, i, j], in the dtype.
static NodeId index_like(Graph *graph, NodeId score, int at, DType dtype) {
  int8_t from[] = {-1, -1, -1, -1};
  from[at] = 0;
  NodeId iota = graph_iota(graph, axis_t, extent_constant(0), DTYPE_I32);
  return spread(graph, graph_cast(graph, iota, dtype), score, from);
}

typedef enum Mask { CAUSAL, SLIDING, DISTANCE, ROTARY, STRICT, LINEAR, NONE, AHEAD, BLIND, MASK_COUNT } Mask;
static const char *const mask_names[] = {"causal",  "sliding window", "distance bias",
                                         "rotary",  "strict",         "linear",
                                         "no mask", "looks ahead",    "large negative number"};

// y[b,t,h,e] = x[b,t,h,e] * cos(t * (e+1)) -- not a rotation, but it depends on place and position alike
static NodeId turn(Graph *graph, NodeId x) {
  NodeId t =
      spread(graph, graph_cast(graph, graph_iota(graph, axis_t, extent_constant(0), DTYPE_I32), DTYPE_F64), x,
             (int8_t[]){-1, 0, -1, -1});
  NodeId e = spread(graph, graph_iota(graph, axis("E", PER_HEAD), extent_constant(1), DTYPE_F64), x,
                    (int8_t[]){-1, -1, -1, 0});
  return graph_binary(graph, OP_MUL, x, graph_unary(graph, OP_COS, graph_binary(graph, OP_MUL, t, e)));
}

static NodeId masked(Graph *graph, NodeId score, Mask mask) {
  NodeId i = index_like(graph, score, 2, DTYPE_I32), j = index_like(graph, score, 3, DTYPE_I32);
  NodeId condition = graph_binary(graph, OP_LESSEQ, j, i),
         otherwise = graph_constant(graph, -INFINITY, DTYPE_F64);
  if (mask == NONE) return score;
  if (mask == AHEAD)
    condition = graph_binary(graph, OP_LESSEQ, j,
                             graph_binary(graph, OP_ADD, i, graph_constant(graph, 1, DTYPE_I32)));
  if (mask == BLIND) otherwise = graph_constant(graph, -1e9, DTYPE_F64);
  if (mask == SLIDING) {
    NodeId begin = graph_binary(graph, OP_SUB, i, graph_constant(graph, 3, DTYPE_I32));
    condition = graph_binary(graph, OP_AND, graph_binary(graph, OP_LESS, begin, j), condition);
  }
  if (mask == STRICT) { // j < i, or both are the first
    NodeId zero = graph_constant(graph, 0, DTYPE_I32);
    NodeId first = graph_binary(graph, OP_AND, graph_binary(graph, OP_LESSEQ, i, zero), condition);
    condition = graph_binary(graph, OP_OR, graph_binary(graph, OP_LESS, j, i), first);
  }
  if (mask == DISTANCE) {
    NodeId distance = graph_cast(graph, graph_binary(graph, OP_SUB, i, j), DTYPE_F64);
    NodeId slope = spread(graph, PARAMETER(graph, axis("H", HEADS)), score, (int8_t[]){-1, 0, -1, -1});
    score = graph_binary(graph, OP_SUB, score, graph_binary(graph, OP_MUL, slope, distance));
  }
  return graph_select(graph, condition, score, otherwise);
}

static NodeId over_last(Graph *graph, Op op, NodeId x) {
  return spread(graph, graph_reduce(graph, op, x, 8), x, (int8_t[]){0, 1, 2, -1});
}

static NodeId weights_of(Graph *graph, NodeId score, Mask mask) {
  if (mask == LINEAR) {
    NodeId i = index_like(graph, score, 2, DTYPE_I32), j = index_like(graph, score, 3, DTYPE_I32);
    NodeId seen = graph_cast(graph, graph_binary(graph, OP_LESSEQ, j, i), DTYPE_F64);
    return graph_binary(graph, OP_MUL, score, seen);
  }
  score = masked(graph, score, mask);
  NodeId e =
      graph_unary(graph, OP_EXP, graph_binary(graph, OP_SUB, score, over_last(graph, OP_REDMAX, score)));
  return graph_binary(graph, OP_DIV, e, over_last(graph, OP_SUM, e));
}

static NodeId attention(Graph *graph, NodeId x, Mask mask) {
  NodeId q = heads_of(graph, x), k = heads_of(graph, x), v = heads_of(graph, x);
  if (mask == ROTARY) q = turn(graph, q), k = turn(graph, k);
  NodeId score = graph_dot(graph, q, k, 2, 1, (int8_t[]){0, 2, 3}, (int8_t[]){0, 2, 3});
  NodeId weight = weights_of(graph, score, mask);
  NodeId mix = graph_dot(graph, weight, v, 2, 1, (int8_t[]){0, 1, 3}, (int8_t[]){0, 2, 1}); // [B, H, T, E]
  NodeId out = PARAMETER(graph, axis("H", HEADS), axis("E", PER_HEAD), axis("D", WIDTH));
  return graph_binary(graph, OP_ADD, x, graph_dot(graph, mix, out, 0, 2, (int8_t[]){1, 3}, (int8_t[]){0, 1}));
}

static NodeId feed_forward(Graph *graph, NodeId x) {
  NodeId weight = PARAMETER(graph, axis("D2", WIDTH), axis("D", WIDTH));
  return graph_binary(
      graph, OP_ADD, x,
      graph_unary(graph, OP_TANH, graph_dot(graph, x, weight, 0, 1, (int8_t[]){2}, (int8_t[]){1})));
}

static Graph *gpt(Arena *arena, Mask mask) {
  Graph *graph = graph_new(arena, "forward");
  NodeId x = add_positions(graph, embed(graph, ids_input(graph)));
  for (int layer = 0; layer < 2; layer++) x = feed_forward(graph, attention(graph, x, mask));
  graph_output(graph, "result", logits(graph, x), false);
  return graph;
}

// ---- running --------------------------------------------------------------------------------------------

typedef struct World {
  Arena *arena;
  const char *names[64];
  Tensor tensors[64];
  int count;
} World;

static Tensor *find(World *world, const char *name) {
  for (int i = 0; i < world->count; i++)
    if (!strcmp(world->names[i], name)) return &world->tensors[i];
  return NULL;
}

// Values by the input's name; states start as zeros.
static Tensor *get(World *world, const Graph *graph, const Input *input, const int64_t *symbols) {
  Tensor *found = find(world, input->name);
  if (found) return found;
  Type type = *graph_type(graph, input->node);
  for (int i = 0; i < type.rank; i++)
    type.axes[i].extent = extent_constant(extent_value(type.axes[i].extent, symbols));
  int64_t count = type_elements(&type, symbols);
  Tensor *tensor = &world->tensors[world->count];
  world->names[world->count++] = input->name;
  *tensor = (Tensor){type, ARENA_ARRAY(world->arena, double, count + 1)};
  for (int64_t i = 0; i < count && input->role != INPUT_STATE; i++)
    tensor->data[i] = dtype_is_float(type.dtype) ? uniform(-1, 1) : floor(uniform(0, VOCAB));
  return tensor;
}

// ids[:, begin .. begin + count]
static Tensor part_of(World *world, const Tensor *ids, int64_t begin, int64_t count) {
  Tensor part = {ids->type, ARENA_ARRAY(world->arena, double, BATCH *count)};
  part.type.axes[1].extent = extent_constant(count);
  for (int64_t b = 0; b < BATCH; b++)
    for (int64_t t = 0; t < count; t++) part.data[b * count + t] = ids->data[b * LENGTH + begin + t];
  return part;
}

// Runs positions past .. past + count.
static Tensor run(World *world, const Graph *graph, int64_t past, int64_t count) {
  int64_t whole[SYMBOL_COUNT] = {0, BATCH, LENGTH, 0, LENGTH},
          symbols[SYMBOL_COUNT] = {0, BATCH, count, past, past + count};
  Tensor *inputs = ARENA_ARRAY(world->arena, Tensor, graph->input_count + 1);
  Tensor *outputs = ARENA_ARRAY(world->arena, Tensor, graph->output_count + 1), result = {0};
  for (size_t i = 0; i < graph->input_count; i++) {
    inputs[i] = *get(world, graph, &graph->inputs[i], whole);
    if (!strcmp(graph->inputs[i].name, "ids")) inputs[i] = part_of(world, &inputs[i], past, count);
  }
  graph_evaluate(graph, world->arena, symbols, inputs, outputs);
  for (size_t i = 0; i < graph->output_count; i++) {
    if (graph->outputs[i].update)
      *find(world, graph->outputs[i].name) = outputs[i];
    else
      result = outputs[i];
  }
  return result;
}

// ---- comparing ------------------------------------------------------------------------------------------

static double difference(const Tensor *whole, const Tensor *part, int64_t past, int64_t count) {
  double largest = 0;
  int64_t row = type_elements(&whole->type, NULL) / BATCH / LENGTH;
  for (int64_t b = 0; b < BATCH; b++)
    for (int64_t t = 0; t < count; t++)
      for (int64_t i = 0; i < row; i++) {
        double x = whole->data[(b * LENGTH + past + t) * row + i], y = part->data[(b * count + t) * row + i];
        largest = fabs(x - y) <= largest ? largest : fabs(x - y); // a NaN shows
      }
  return largest;
}

// `prompt` positions by prefill, then `step` at a time.
static void check_run(World *world, const Graph *prefill, const Graph *decode, const Tensor *whole,
                      int64_t prompt, int64_t step, bool last_only, const char *what) {
  for (int i = 0; i < world->count; i++) // states of earlier runs must not matter
    if (!strncmp(world->names[i], "cache:", 6) || !strncmp(world->names[i], "kept:", 5))
      for (int64_t j = 0; j < type_elements(&world->tensors[i].type, NULL); j++)
        world->tensors[i].data[j] = 77;
  for (int64_t past = 0, count = prompt; past + count <= LENGTH;
       past += count, count = past ? step : prompt) {
    Tensor part = run(world, past ? decode : prefill, past, count);
    double off =
        last_only ? difference(whole, &part, past + count - 1, 1) : difference(whole, &part, past, count);
    CHECK(off < tolerance, "%s: %lld positions after %lld are off by %g", what, (long long)count,
          (long long)past, off);
  }
}

static int count_states(const Graph *graph, const char *prefix) {
  int count = 0;
  for (size_t i = 0; i < graph->input_count; i++)
    count += !strncmp(graph->inputs[i].name, prefix, strlen(prefix));
  return count;
}

static void check_model(Graph *forward, const char *what, int caches, int kept) {
  Sources sources;
  sources_init(&sources, forward->arena);
  Diagnostics diagnostics = {.sources = &sources};
  World world = {.arena = forward->arena};
  Tensor whole = run(&world, forward, 0, LENGTH);
  for (int last_only = 0; last_only < 2; last_only++) {
    Graph *prefill = derive(forward, DERIVE_PREFILL, CAPACITY, last_only, &diagnostics);
    Graph *decode = derive(forward, DERIVE_DECODE, CAPACITY, last_only, &diagnostics);
    CHECK(prefill && decode, "%s: %s", what, text_string(&diagnostics.text));
    if (!prefill || !decode || !verify(prefill, what) || !verify(decode, what)) break;
    CHECK(count_states(decode, "cache:") == caches, "%s: %d caches", what, count_states(decode, "cache:"));
    CHECK(count_states(decode, "kept:") == kept, "%s: %d kept", what, count_states(decode, "kept:"));
    CHECK(count_states(prefill, "cache:") == caches && count_states(prefill, "kept:") == kept, "%s: prefill",
          what);
    check_run(&world, prefill, decode, &whole, 4, 1, last_only, what);
    check_run(&world, prefill, decode, &whole, 1, 1, last_only, what);
    check_run(&world, prefill, decode, &whole, 3, 2, last_only, what);
    check_run(&world, prefill, decode, &whole, LENGTH, 1, last_only, what);
  }
  text_free(&diagnostics.text);
}

static void test_attentions(void) {
  for (int mask = CAUSAL; mask <= LINEAR; mask++) {
    Arena *arena = arena_new();
    check_model(gpt(arena, (Mask)mask), mask_names[mask], 4, 0); // keys and values of two layers
    arena_free(arena);
  }
}

// ---- other ways to look back ----------------------------------------------------------------------------

static Graph *begin(Arena **arena, NodeId *x) {
  *arena = arena_new();
  Graph *graph = graph_new(*arena, "forward");
  *x = embed(graph, ids_input(graph));
  return graph;
}

static void finish(Arena *arena, Graph *graph, NodeId x, const char *what, int caches, int kept) {
  graph_output(graph, "result", logits(graph, x), false);
  check_model(graph, what, caches, kept);
  arena_free(arena);
}

static void test_shift(void) {
  Arena *arena;
  NodeId x;
  Graph *graph = begin(&arena, &x); // x[b, t-1, d]: a window of one, then its axis of 1 dropped
  NodeId window = graph_window(graph, x, 1, axis_t, axis("one", 1), -1, 1);
  NodeId before = graph_merge(graph, window, 1, 2, "T");
  finish(arena, graph, graph_binary(graph, OP_ADD, graph_unary(graph, OP_TANH, x), before), "shift", 1, 0);

  graph = begin(&arena, &x); // a causal convolution over 3 positions
  window = graph_window(graph, x, 1, axis_t, axis("K", 3), -2, 1);
  NodeId weight = PARAMETER(graph, axis("K", 3), axis("D", WIDTH), axis("D2", WIDTH));
  NodeId mixed = graph_dot(graph, window, weight, 0, 2, (int8_t[]){2, 3}, (int8_t[]){0, 1});
  finish(arena, graph, graph_binary(graph, OP_ADD, x, mixed), "convolution", 1, 0);

  graph = begin(&arena, &x); // all but the first, then moved back: slice and pad
  Extent shorter = {SYMBOL_TIME, 1, -1};
  NodeId later = graph_slice(graph, graph_unary(graph, OP_TANH, x), 1, extent_constant(1), shorter);
  before = graph_pad(graph, graph_unary(graph, OP_SIN, later), 1, extent_constant(1), axis_t.extent);
  finish(arena, graph, graph_binary(graph, OP_ADD, x, before), "slice and pad", 1, 0);

  graph = begin(&arena, &x); // everyone sees the first position
  NodeId first = graph_slice(graph, x, 1, extent_constant(0), extent_constant(1));
  first = graph_merge(graph, first, 0, 2, "B");
  finish(arena, graph, graph_binary(graph, OP_ADD, x, spread(graph, first, x, (int8_t[]){0, -1, 1})), "first",
         1, 0);
}

// Keys shared by several heads are cached once.
static void test_shared_keys(void) {
  Arena *arena;
  NodeId x;
  Graph *graph = begin(&arena, &x);
  x = add_positions(graph, x);
  NodeId q = heads_of(graph, x), kw = PARAMETER(graph, axis("D", WIDTH), axis("E", PER_HEAD));
  NodeId k = graph_dot(graph, x, kw, 0, 1, (int8_t[]){2}, (int8_t[]){0}); // [B, T, E]
  NodeId repeated = spread(graph, k, q, (int8_t[]){0, 1, -1, 2});
  NodeId score = graph_dot(graph, q, repeated, 2, 1, (int8_t[]){0, 2, 3}, (int8_t[]){0, 2, 3});
  NodeId weight = weights_of(graph, score, CAUSAL);
  NodeId mix = graph_dot(graph, weight, repeated, 2, 1, (int8_t[]){0, 1, 3}, (int8_t[]){0, 2, 1});
  NodeId out = PARAMETER(graph, axis("H", HEADS), axis("E", PER_HEAD), axis("D", WIDTH));
  x = graph_dot(graph, mix, out, 0, 2, (int8_t[]){1, 3}, (int8_t[]){0, 1});
  finish(arena, graph, x, "shared keys", 1, 0);
}

// Picture features take the places of a token: count[b,t] = sum[j] (ids[b,j] is the token and j <= t).
static void test_picture(void) {
  Arena *arena = arena_new();
  Graph *graph = graph_new(arena, "forward");
  Axis places = axis("N", PICTURE_TOKENS);
  NodeId picture =
      graph_input(graph, "picture", INPUT_DATA, (Type){DTYPE_F64, 3, {axis_b, places, axis("P", PICTURE)}});
  NodeId ids = ids_input(graph), words = embed(graph, ids);
  NodeId encoder = PARAMETER(graph, axis("P", PICTURE), axis("D", WIDTH));
  NodeId seen =
      graph_unary(graph, OP_TANH, graph_dot(graph, picture, encoder, 0, 1, (int8_t[]){2}, (int8_t[]){0}));
  NodeId at = graph_binary(graph, OP_EQUAL, ids, graph_constant(graph, PICTURE_ID, DTYPE_I32));
  Axis square[] = {axis_b, axis_t, {"j", axis_t.extent}};
  NodeId iota = graph_iota(graph, axis_t, extent_constant(0), DTYPE_I32);
  NodeId i = graph_arrange(graph, iota, 3, square, (int8_t[]){-1, 0, -1});
  NodeId j = graph_arrange(graph, iota, 3, square, (int8_t[]){-1, -1, 0});
  NodeId counted = graph_binary(graph, OP_AND, graph_arrange(graph, at, 3, square, (int8_t[]){0, -1, 1}),
                                graph_binary(graph, OP_LESSEQ, j, i));
  NodeId count = graph_reduce(graph, OP_SUM, graph_cast(graph, counted, DTYPE_I32), 4);
  NodeId row = graph_binary(graph, OP_SUB, count, graph_constant(graph, 1, DTYPE_I32));
  NodeId picked = graph_gather(graph, seen, row, 1);
  NodeId x = graph_select(graph, spread(graph, at, picked, (int8_t[]){0, 1, -1}), picked, words);
  x = attention(graph, x, CAUSAL);
  graph_output(graph, "result", logits(graph, x), false);
  check_model(graph, "picture", 3, 1); // where pictures were, keys, values; the features
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  Graph *decode = derive(graph, DERIVE_DECODE, CAPACITY, true, &diagnostics);
  CHECK(!graph_find_input(decode, "picture"), "decode does not read the picture");
  for (NodeId id = 1; id < decode->count; id++)
    CHECK(decode->nodes[id].op != OP_TANH, "decode does not encode the picture");
  arena_free(arena);
}

// The last position alone: after the last attention nothing is computed for the others.
static void test_last_only(void) {
  Arena *arena = arena_new();
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  Graph *prefill = derive(gpt(arena, CAUSAL), DERIVE_PREFILL, CAPACITY, true, &diagnostics);
  int wide = 0, narrow = 0;
  for (NodeId id = 1; id < prefill->count; id++) {
    const Type *type = graph_type(prefill, id);
    if (prefill->nodes[id].op != OP_TANH) continue;
    wide += extent_equal(type->axes[1].extent, extent_symbol(SYMBOL_TIME));
    narrow += extent_equal(type->axes[1].extent, extent_constant(1));
  }
  CHECK(wide == 1 && narrow == 1, "%d feed-forward layers over all positions, %d over the last", wide,
        narrow);
  arena_free(arena);
}

// ---- refused --------------------------------------------------------------------------------------------

static void check_refused(Graph *graph, const char *what, const char *message) {
  Sources sources;
  Diagnostics diagnostics = {.sources = &sources};
  sources_init(&sources, graph->arena);
  uint32_t source = sources_add(&sources, "model.vlm", "first line\nsecond line\n", 23);
  for (NodeId id = 1; id < graph->count; id++) graph->nodes[id].span = (Span){source, 11, 17};
  Graph *derived = derive(graph, DERIVE_DECODE, CAPACITY, false, &diagnostics);
  CHECK(!derived && diagnostics.errors > 0, "%s is refused", what);
  const char *text = text_string(&diagnostics.text);
  CHECK(strstr(text, message) && strstr(text, "model.vlm:2:1"), "%s: %s", what, text);
  text_free(&diagnostics.text);
}

static void test_refused(void) {
  for (int mask = NONE; mask < MASK_COUNT; mask++) {
    Arena *arena = arena_new();
    check_refused(gpt(arena, (Mask)mask), mask_names[mask], "runs over all positions, later ones included");
    arena_free(arena);
  }
  Arena *arena;
  NodeId x;
  Graph *graph = begin(&arena, &x); // x[b, t+1, d]
  NodeId window = graph_window(graph, x, 1, axis_t, axis("one", 1), 1, 1);
  graph_output(graph, "result", logits(graph, graph_merge(graph, window, 1, 2, "T")), false);
  check_refused(graph, "next position", "looks at later positions");
  arena_free(arena);

  graph = begin(&arena, &x); // relative to the length
  NodeId size = graph_size(graph, axis_t.extent, DTYPE_F64);
  graph_output(graph, "result", logits(graph, graph_binary(graph, OP_DIV, x, size)), false);
  check_refused(graph, "length", "depends on the number of positions");
  arena_free(arena);

  graph = begin(&arena, &x); // positions picked by data
  NodeId ids = graph_find_input(graph, "ids")->node;
  graph_output(graph, "result", logits(graph, graph_gather(graph, x, ids, 1)), false);
  check_refused(graph, "picked", "picks positions by data");
  arena_free(arena);

  graph = begin(&arena, &x); // the mean over all positions
  graph_output(graph, "result", graph_reduce(graph, OP_SUM, x, 2), false);
  check_refused(graph, "pooled", "runs over all positions");
  arena_free(arena);

  graph = begin(&arena, &x); // the last position alone
  NodeId last = graph_slice(graph, x, 1, (Extent){SYMBOL_TIME, 1, -1}, extent_constant(1));
  graph_output(graph, "result", last, false);
  check_refused(graph, "last", "single axis of length T");
  arena_free(arena);

  graph = begin(&arena, &x);
  NodeId run = graph_input(graph, "run", INPUT_SCALAR, (Type){.dtype = DTYPE_I32});
  x = graph_binary(graph, OP_MUL, x, graph_random(graph, run, *graph_type(graph, x)));
  graph_output(graph, "result", logits(graph, x), false);
  check_refused(graph, "random", "draws random numbers");
  arena_free(arena);
}

// ---- model files ----------------------------------------------------------------------------------------

static const char gpt_text[] = "import gpt\n"
                               "model M() {\n"
                               "  lm = gpt.GPT(vocab = 7, context = 16, width = 8, depth = 2, heads = 2)\n"
                               "  forward(ids: i32[B, T]) = lm.forward(ids)\n"
                               "}\n";

static const char vlm_text[] =
    "import nn, vit, gpt\n"
    "model M() {\n"
    "  vision = vit.ViT(image = 8, patch = 4, width = 8, depth = 1, heads = 2, hidden = 12)\n"
    "  lm = gpt.GPT(vocab = 7, context = 16, width = 8, depth = 2, heads = 2)\n"
    "  projection = nn.Linear(lm.width)\n"
    "  forward(picture[B, 3, vision.image, vision.image], ids: i32[B, T]) -> logits[B, T, lm.vocab] {\n"
    "    seen = projection(vision(picture))\n"
    "    words = lm.embed(ids)\n"
    "    return lm.decode(splice(words, at = ids == \"<image>\", seen))\n"
    "  }\n"
    "}\n";

// An edited attention: rotary positions, a window of 3 positions, a bias that falls with the distance, heads
// in groups, and a block that also looks at the position before.
static const char edited_text[] = "import nn\n"
                                  "layer Near(heads, groups) (x[B, T, D]) -> [B, T, D] {\n"
                                  "  param slope[heads] ~ normal(0.5)\n"
                                  "  E = D / heads\n"
                                  "  q, k, v = split(qkv: nn.Linear(3 * D)(x), [3, heads, E])\n"
                                  "  q = nn.rope(q)\n"
                                  "  k = nn.rope(k)\n"
                                  "  score[b,h,i,j] = sum[e] q[b,i,h,e] * k[b,j,h,e] / sqrt(E) - slope[h] * "
                                  "(i - j)   where j <= i and i < j + 3\n"
                                  "  mix[b,i,h,e] = sum[j] nn.softmax[j](score)[b,h,i,j] * v[b,j,h,e]\n"
                                  "  return out: nn.Linear(D)(merge(mix, h, e))\n"
                                  "}\n"
                                  "model M(width = 8, vocab = 7) {\n"
                                  "  param token[vocab, width] ~ normal(0.5)\n"
                                  "  forward(ids: i32[B, T]) -> logits[B, T, vocab] {\n"
                                  "    x = token[ids]\n"
                                  "    x = x + near: Near(2, 1)(norm: nn.RMSNorm()(x))\n"
                                  "    y[b,t,d] = x[b,t,d] + 0.5 * x[b,t-1,d]\n"
                                  "    y = y + far: nn.GroupedAttention(4, 2)(y)\n"
                                  "    logits[b,t,v] = sum[d] y[b,t,d] * token[v,d]\n"
                                  "    return logits\n"
                                  "  }\n"
                                  "}\n";

static const char ahead_text[] = "import nn\n"
                                 "model M(width = 8, vocab = 7) {\n"
                                 "  param token[vocab, width] ~ normal(0.5)\n"
                                 "  forward(ids: i32[B, T]) -> logits[B, T, vocab] {\n"
                                 "    x = nn.Block(2, 12)(token[ids])\n"
                                 "    logits[b,t,v] = sum[d] x[b,t,d] * token[v,d]\n"
                                 "    return logits\n"
                                 "  }\n"
                                 "}\n";

static void check_text(const char *text, const char *what, int caches, int kept) {
  ModelText model;
  model_text_open(&model, text);
  Graph *forward = model_text_graph(&model, "forward");
  CHECK(forward, "%s: %s", what, text_string(&model.diagnostics.text));
  if (forward) check_model(cse(simplify(forward)), what, caches, kept);
  model_text_close(&model);
}

static void test_models(void) {
  check_text(gpt_text, "gpt", 4, 0);
  check_text(vlm_text, "vlm", 5, 1);
  check_text(edited_text, "edited", 5, 0);
  ModelText model;
  model_text_open(&model, ahead_text);
  Graph *forward = model_text_graph(&model, "forward");
  if (forward) {
    CHECK(!derive(forward, DERIVE_PREFILL, CAPACITY, true, &model.diagnostics), "not causal");
    const char *text = text_string(&model.diagnostics.text);
    CHECK(strstr(text, "stdlib/nn.vlm:") && strstr(text, "later ones included"), "%s", text);
    CHECK(model.diagnostics.errors <= 3, "%d messages: %s", model.diagnostics.errors, text);
  }
  CHECK(forward, "%s", text_string(&model.diagnostics.text));
  model_text_close(&model);
}

// ---- the shipped models ---------------------------------------------------------------------------------

#define SMALL_LM    "lm.width=8", "lm.depth=2", "lm.heads=2", "lm.vocab=7"
#define SMALL_LLAMA "lm.groups=1", "lm.hidden=12"
#define SMALL_VISION                                                                                         \
  "vision.image=8", "vision.patch=4", "vision.width=8", "vision.heads=2", "vision.hidden=12"

typedef struct Row {
  const char *path;
  int caches, kept; // states of prefill and decode; -1: the model writes no text and is refused
  const char *defines[16];
} Row;

// Keys and values of two layers; with pictures, where these were, and their features.
static const Row rows[] = {
    {"models/clip.vlm", -1, -1, {NULL}},
    {"models/gpt.vlm", 4, 0, {"width=8", "depth=2", "heads=2", "vocab=7", "context=16"}},
    {"models/llama.vlm", 4, 0, {"width=8", "depth=2", "heads=2", "vocab=7", "groups=1", "hidden=12"}},
    {"models/llama.vlm", 4, 0, {"width=8", "depth=2", "heads=2", "vocab=7", "hidden=12", "bias=true"}},
    {"models/llama.vlm", 4, 0, {"width=8", "depth=2", "size=6", "vocab=7", "norms=true", "tied=false"}},
    {"models/llava.vlm", 5, 1, {SMALL_LM, SMALL_LLAMA, SMALL_VISION, "vision.depth=2"}},
    {"models/minimind2v.vlm", 5, 1, {SMALL_LM, SMALL_LLAMA, SMALL_VISION, "vision.depth=1"}},
    {"models/minimind3v.vlm", 5, 1, {SMALL_LM, SMALL_LLAMA, SMALL_VISION, "vision.depth=1"}},
    {"models/nanovlm.vlm", 5, 1, {SMALL_LM, SMALL_LLAMA, SMALL_VISION, "vision.depth=1"}},
    {"models/siglip.vlm", -1, -1, {NULL}},
    {"models/vit.vlm", -1, -1, {NULL}},
    {"models/vlm.vlm", 5, 1, {SMALL_LM, SMALL_VISION, "vision.depth=1", "lm.context=16"}},
};
enum { ROWS = sizeof rows / sizeof *rows };

// The whole graph as the compiler has it before `derive`, in f64.
static Graph *whole_graph(Compiler *compiler) {
  const Unit *unit = compiler_unit_until(compiler, PROGRAM_FORWARD, "canonical");
  for (NodeId id = 1; unit && id < unit->graph->count; id++)
    if (unit->graph->nodes[id].type.dtype == DTYPE_F32) unit->graph->nodes[id].type.dtype = DTYPE_F64;
  return unit ? unit->graph : NULL;
}

static void check_row(const Row *row) {
  CompileOptions options = {.model = row->path,
                            .preset = "tiny",
                            .defines = row->defines,
                            .target = "ref",
                            .library = shipped_library,
                            .library_count = 2};
  Text errors = {0};
  while (row->defines[options.define_count]) options.define_count++;
  Compiler *compiler = compiler_open(&options, &errors);
  Graph *forward = compiler ? whole_graph(compiler) : NULL;
  CHECK(forward, "%s: %s%s", row->path, text_string(&errors), compiler ? compiler_errors(compiler) : "");
  if (forward && row->caches >= 0)
    check_model(forward, row->path, row->caches, row->kept);
  else if (forward)
    for (int again = 0; again < 2; again++) // and once more: a pass that failed does not run again
      CHECK(!compiler_unit_until(compiler, PROGRAM_PREFILL, "derive"), "%s writes text", row->path);
  text_free(&errors);
  compiler_close(compiler);
}

static void test_shipped(void) {
  Arena *arena = arena_new();
  Shipped *models;
  size_t count = shipped_models(arena, &models);
  for (size_t i = 0; i < count; i++) {
    bool found = false;
    for (int k = 0; k < ROWS; k++) found = found || !strcmp(models[i].path, rows[k].path);
    CHECK(found, "%s has no row here", models[i].path);
  }
  for (int i = 0; i < ROWS; i++) check_row(&rows[i]);
  arena_free(arena);
}

// ---- random graphs --------------------------------------------------------------------------------------

enum { RANDOM_LENGTH = 5 }; // T of random_symbols
static const int64_t row_symbols[SYMBOL_COUNT] = {0, 3, RANDOM_LENGTH, 0, RANDOM_LENGTH};

// x[.., begin .. begin + count, ..]
static Tensor slice_of(Arena *arena, const Tensor *x, int axis, int64_t begin, int64_t count) {
  Tensor part = {x->type, NULL};
  int64_t inner = 1, outer = 1, whole = x->type.axes[axis].extent.offset;
  for (int i = 0; i < x->type.rank; i++)
    *(i < axis ? &outer : &inner) *= i == axis ? 1 : x->type.axes[i].extent.offset;
  part.type.axes[axis].extent = extent_constant(count);
  part.data = ARENA_ARRAY(arena, double, outer *count *inner + 1);
  for (int64_t i = 0; i < outer; i++)
    memcpy(part.data + i * count * inner, x->data + (i * whole + begin) * inner,
           sizeof(double) * (size_t)(count * inner));
  return part;
}

static int time_axis(const Type *type) {
  for (int i = 0; i < type->rank; i++)
    if (type->axes[i].extent.symbol == SYMBOL_TIME) return i;
  return -1;
}

static bool same_values(const Tensor *x, const Tensor *y) {
  for (int64_t i = 0; i < type_elements(&x->type, NULL); i++) {
    double a = x->data[i], b = y->data[i];
    if (a != b && !(isnan(a) && isnan(b)) && !(fabs(a - b) <= tolerance * fmax(1, fabs(a)))) return false;
  }
  return true;
}

// The inputs of one run: data with an axis of time piece by piece, states from `world`.
static Tensor *piece(World *world, const Graph *graph, const Graph *forward, const Tensor *values,
                     int64_t past, int64_t count) {
  Tensor *inputs = ARENA_ARRAY(world->arena, Tensor, graph->input_count + 1);
  for (size_t i = 0; i < graph->input_count; i++) {
    const Input *input = &graph->inputs[i];
    const Type *type = graph_type(graph, input->node);
    if (input->role == INPUT_STATE) inputs[i] = *get(world, graph, input, row_symbols);
    for (size_t j = 0; j < forward->input_count; j++) {
      if (strcmp(forward->inputs[j].name, input->name)) continue;
      int axis = time_axis(type);
      inputs[i] = axis < 0 ? values[j] : slice_of(world->arena, &values[j], axis, past, count);
    }
  }
  return inputs;
}

// `forward` has one result, with an axis of time.
static bool check_random(const Graph *forward, const Graph *prefill, const Graph *decode, uint64_t seed) {
  World world = {.arena = arena_new()};
  Tensor *values = random_inputs(forward, world.arena, seed, row_symbols), whole;
  int axis = time_axis(graph_type(forward, forward->outputs[0].node));
  bool good = true;
  graph_evaluate(forward, world.arena, row_symbols, values, &whole);
  for (int64_t past = 0, count = 2; past < RANDOM_LENGTH; past += count, count = past == 2 ? 1 : 2) {
    const Graph *graph = past ? decode : prefill;
    int64_t now[SYMBOL_COUNT] = {0, row_symbols[SYMBOL_BATCH], count, past, past + count};
    Tensor *outputs = ARENA_ARRAY(world.arena, Tensor, graph->output_count);
    graph_evaluate(graph, world.arena, now, piece(&world, graph, forward, values, past, count), outputs);
    for (size_t i = 0; i < graph->output_count; i++) {
      if (graph->outputs[i].update) {
        *find(&world, graph->outputs[i].name) = outputs[i];
        continue;
      }
      int64_t length = outputs[i].type.axes[axis].extent.offset; // count, or the last alone
      Tensor expected = slice_of(world.arena, &whole, axis, past + count - length, length);
      good &= same_values(&expected, &outputs[i]);
    }
  }
  arena_free(world.arena);
  return good;
}

// Whatever is derived is right; what can not be is refused with a message.
static void test_random(void) {
  int derived = 0, refused = 0;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    Arena *arena = arena_new();
    Sources sources;
    sources_init(&sources, arena);
    Graph *graph = random_graph(arena, seed, 30);
    for (NodeId id = (NodeId)graph->count - 1; id > 0 && id + 12 > graph->count; id--) {
      Diagnostics diagnostics = {.sources = &sources};
      Output result = {"result", id, false};
      Graph forward = *graph;
      forward.outputs = &result, forward.output_count = 1;
      if (time_axis(graph_type(graph, id)) < 0) continue;
      Graph *prefill = derive(&forward, DERIVE_PREFILL, RANDOM_CAPACITY, seed & 1, &diagnostics);
      Graph *decode = derive(&forward, DERIVE_DECODE, RANDOM_CAPACITY, seed & 1, &diagnostics);
      CHECK(!prefill == !decode && (prefill || diagnostics.errors), "seed %d, node %u", (int)seed, id);
      derived += prefill != NULL, refused += !prefill;
      if (prefill && decode && verify(prefill, "random prefill") && verify(decode, "random decode"))
        CHECK(check_random(&forward, prefill, decode, seed), "seed %d, node %u", (int)seed, id);
      text_free(&diagnostics.text);
    }
    arena_free(arena);
  }
  CHECK(derived > 100 && refused > 100, "%d derived, %d refused", derived, refused);
}

// ---- random masks ---------------------------------------------------------------------------------------

static int below(int limit) { return (int)uniform(0, limit); }

// a * i + b * j + c, compared with 0 or with another; conditions joined and denied.
static NodeId random_mask(Graph *graph, NodeId score, int depth) {
  static const Op comparisons[] = {OP_LESS, OP_LESSEQ, OP_EQUAL};
  if (depth && below(2)) {
    NodeId x = random_mask(graph, score, depth - 1), y = random_mask(graph, score, depth - 1);
    return graph_binary(graph, below(2) ? OP_AND : OP_OR, x, y);
  }
  NodeId sides[2];
  for (int i = 0; i < 2; i++) {
    sides[i] = graph_constant(graph, below(5) - 2, DTYPE_I32);
    for (int at = 2; at < 4; at++) {
      NodeId factor = graph_constant(graph, below(4) ? below(2) : below(5) - 2, DTYPE_I32);
      NodeId term = graph_binary(graph, OP_MUL, index_like(graph, score, at, DTYPE_I32), factor);
      sides[i] = graph_binary(graph, below(2) ? OP_ADD : OP_SUB, term, sides[i]);
    }
  }
  NodeId condition = graph_binary(graph, comparisons[below(3)], sides[0], sides[1]);
  return below(4) ? condition : graph_unary(graph, OP_NOT, condition);
}

// x[b, t + distance, d]
static NodeId shifted(Graph *graph, NodeId x, int distance) {
  NodeId window = graph_window(graph, x, 1, axis_t, axis("one", 1), distance, 1);
  return distance ? graph_merge(graph, window, 1, 2, "T") : x;
}

static Graph *random_masked(Arena *arena) {
  static const double others[] = {0, -INFINITY, 1};
  Graph *graph = graph_new(arena, "forward");
  NodeId x = graph_input(graph, "x", INPUT_DATA, (Type){DTYPE_F64, 3, {axis_b, axis_t, axis("D", 2)}});
  NodeId k = shifted(graph, x, below(4) ? 0 : below(3) - 1),
         v = shifted(graph, x, below(4) ? 0 : below(3) - 1);
  NodeId plain = graph_dot(graph, x, k, 1, 1, (int8_t[]){0, 2}, (int8_t[]){0, 2});
  Axis axes[] = {axis_b, axis("H", 1), axis_t, {"j", axis_t.extent}};
  NodeId score = graph_arrange(graph, plain, 4, axes, (int8_t[]){0, -1, 1, 2});
  double value = others[below(3)];
  NodeId mask = random_mask(graph, score, 2), other = graph_constant(graph, value, DTYPE_F64);
  NodeId weight =
      below(3) ? graph_select(graph, mask, score, other) : graph_select(graph, mask, other, score);
  bool finite = isfinite(value);
  if (below(2)) weight = graph_unary(graph, OP_EXP, weight), finite = true;
  if (finite && !below(4)) // not 0 * -inf: values are taken to be finite
    weight = graph_binary(graph, OP_MUL, weight, graph_cast(graph, random_mask(graph, score, 1), DTYPE_F64));
  NodeId mix = !below(3) ? graph_reduce(graph, below(2) ? OP_SUM : OP_REDMAX, weight, 8)
                         : graph_dot(graph, weight, v, 1, 1, (int8_t[]){0, 3}, (int8_t[]){0, 1});
  int rank = graph_type(graph, mix)->rank; // [B, H, T] or [B, H, T, D]
  NodeId result = graph_reduce(graph, OP_SUM, mix, rank == 4 ? 8 | 2 : 2);
  graph_output(graph, "result", shifted(graph, result, below(4) ? 0 : -1), false);
  return graph;
}

static void test_random_masks(void) {
  int derived = 0, refused = 0;
  for (int round = 0; round < 1500; round++) {
    Arena *arena = arena_new();
    Sources sources;
    sources_init(&sources, arena);
    Diagnostics diagnostics = {.sources = &sources};
    Graph *forward = random_masked(arena);
    Graph *prefill = derive(forward, DERIVE_PREFILL, RANDOM_CAPACITY, round & 1, &diagnostics);
    Graph *decode = derive(forward, DERIVE_DECODE, RANDOM_CAPACITY, round & 1, &diagnostics);
    derived += prefill != NULL, refused += !prefill;
    if (prefill && decode)
      CHECK(check_random(forward, prefill, decode, (uint64_t)round), "mask of round %d", round);
    text_free(&diagnostics.text);
    arena_free(arena);
  }
  CHECK(derived > 30 && refused > 30, "%d derived, %d refused", derived, refused);
}

int main(void) {
  test_random_masks();
  test_random();
  test_models();
  test_shipped();
  test_attentions();
  test_shift();
  test_shared_keys();
  test_picture();
  test_last_only();
  test_refused();
  return check_finish();
}
