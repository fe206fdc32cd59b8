// Lowering against the meaning of graphs: every operation, updates in place, and random graphs are lowered
// with and without fusion, executed by the kernel interpreter, and compared with graph_evaluate.
#include "tests/lowered.h"

// ---- graphs by hand

static Extent fixed(int64_t extent) { return extent_constant(extent); }

static Type type_of(DType dtype, int rank, const Extent *extents) {
  static const char *const labels[MAX_RANK] = {"a", "b", "c", "d", "e", "f", "g", "h"};
  Type type = {.dtype = dtype, .rank = rank};
  for (int i = 0; i < rank; i++) type.axes[i] = (Axis){labels[i], extents[i]};
  return type;
}

#define TYPE(dtype, ...)                                                                                     \
  type_of(dtype, (int)(sizeof((Extent[]){__VA_ARGS__}) / sizeof(Extent)), (Extent[]){__VA_ARGS__})
#define BATCH extent_symbol(SYMBOL_BATCH)
#define TIME  extent_symbol(SYMBOL_TIME)

static NodeId input(Graph *graph, const char *name, Type type) {
  return graph_input(graph, name, INPUT_DATA, type);
}

static void test_elementwise(Arena *arena) {
  for (int op = 0; op < OP_COUNT; op++) {
    if (!(op_table[op].properties & ELEMENTWISE) || op == OP_CAST || op == OP_SELECT) continue;
    Graph *graph = graph_new(arena, op_table[op].name);
    bool logic = op == OP_NOT || op == OP_AND || op == OP_OR;
    Type type = TYPE(logic ? DTYPE_BOOL : DTYPE_F32, BATCH, TIME, fixed(3));
    NodeId x = input(graph, "x", type), y = input(graph, "y", type);
    if (op == OP_LOG || op == OP_SQRT || op == OP_RSQRT || op == OP_POW)
      x = graph_binary(graph, OP_ADD, x, graph_constant(graph, 1.5, DTYPE_F32));
    if (op == OP_DIV || op == OP_MOD) y = graph_binary(graph, OP_ADD, y, graph_constant(graph, 2, DTYPE_F32));
    NodeId result =
        op_table[op].inputs == 1 ? graph_unary(graph, (Op)op, x) : graph_binary(graph, (Op)op, x, y);
    graph_output(graph, "result", result, false);
    check_graph(graph);
  }
}

static void test_casts(Arena *arena) {
  static const DType dtypes[] = {DTYPE_F32, DTYPE_I32, DTYPE_BOOL, DTYPE_BF16};
  for (int from = 0; from < 4; from++)
    for (int to = 0; to < 2; to++) {
      Graph *graph = graph_new(arena, "cast");
      NodeId x = input(graph, "x", TYPE(dtypes[from], fixed(7)));
      graph_output(graph, "result", graph_cast(graph, x, dtypes[to]), false);
      check_graph(graph);
    }
  Graph *graph = graph_new(arena, "select");
  NodeId x = input(graph, "x", TYPE(DTYPE_F32, TIME, fixed(3))),
         y = input(graph, "y", TYPE(DTYPE_F32, TIME, fixed(3)));
  graph_output(graph, "result", graph_select(graph, graph_binary(graph, OP_LESS, x, y), x, y), false);
  check_graph(graph);
}

static NodeId arrange(Graph *graph, NodeId x, int rank, const char *const *labels, const Extent *extents,
                      const int8_t *from) {
  Axis axes[MAX_RANK];
  for (int i = 0; i < rank; i++) axes[i] = (Axis){labels[i], extents[i]};
  return graph_arrange(graph, x, rank, axes, from);
}

static void test_views(Arena *arena) {
  Graph *graph = graph_new(arena, "views");
  NodeId x = input(graph, "x", TYPE(DTYPE_F32, BATCH, TIME, fixed(12)));
  NodeId turned = arrange(graph, x, 4, (const char *[]){"c", "n", "a", "b"},
                          (Extent[]){fixed(12), fixed(2), BATCH, TIME}, (int8_t[]){2, -1, 0, 1});
  graph_output(graph, "arrange", turned, false);
  Axis parts[3] = {{"p", fixed(2)}, {"q", fixed(3)}, {"r", fixed(2)}};
  NodeId split = graph_split(graph, x, 2, 3, parts);
  graph_output(graph, "split", split, false);
  graph_output(graph, "merge", graph_merge(graph, split, 3, 2, "m"), false);
  graph_output(graph, "merge time", graph_merge(graph, split, 1, 2, "m"), false);
  for (int start = -2; start < 2; start++) {
    char name[40];
    snprintf(name, sizeof name, "window%d", start);
    graph_output(graph, arena_print(arena, "%s", name),
                 graph_window(graph, x, 2, (Axis){"o", fixed(5)}, (Axis){"i", fixed(4)}, start, 2), false);
  }
  graph_output(graph, "slice", graph_slice(graph, x, 2, fixed(3), fixed(5)), false);
  graph_output(graph, "pad", graph_pad(graph, x, 2, fixed(3), fixed(20)), false);
  Extent longer;
  extent_add(TIME, fixed(2), &longer);
  NodeId padded = graph_pad(graph, x, 1, fixed(2), longer);
  graph_output(graph, "pad time", graph_unary(graph, OP_EXP, padded), false);
  graph_output(graph, "concat", graph_concat(graph, x, graph_unary(graph, OP_EXP, padded), 1), false);
  check_graph(graph);
}

static void test_reductions(Arena *arena) {
  Graph *graph = graph_new(arena, "reductions");
  NodeId x = input(graph, "x", TYPE(DTYPE_F32, BATCH, TIME, fixed(6)));
  for (uint32_t axes = 1; axes < 8; axes++) {
    graph_output(graph, arena_print(arena, "sum%u", axes), graph_reduce(graph, OP_SUM, x, axes), false);
    graph_output(graph, arena_print(arena, "redmax%u", axes), graph_reduce(graph, OP_REDMAX, x, axes), false);
  }
  check_graph(graph);
  for (int stride = 1; stride < 5; stride++) {
    Graph *fold = graph_new(arena, "fold");
    NodeId windows = input(fold, "x", TYPE(DTYPE_F32, TIME, fixed(4), fixed(6)));
    graph_output(fold, "few", graph_fold(fold, windows, 1, (Axis){"p", fixed(11)}, -1, stride), false);
    graph_output(fold, "many", graph_fold(fold, windows, 0, (Axis){"p", fixed(9)}, 1, stride), false);
    check_graph(fold);
  }
}

static void test_dot(Arena *arena) {
  Graph *graph = graph_new(arena, "dot");
  NodeId x = input(graph, "x", TYPE(DTYPE_F32, BATCH, TIME, fixed(4), fixed(3)));
  NodeId y = input(graph, "y", TYPE(DTYPE_F32, TIME, fixed(3), BATCH));
  NodeId w = input(graph, "w", TYPE(DTYPE_F32, fixed(5), fixed(12)));
  graph_output(graph, "batched", graph_dot(graph, x, y, 1, 1, (int8_t[]){0, 3}, (int8_t[]){2, 1}), false);
  graph_output(graph, "two", graph_dot(graph, x, y, 0, 2, (int8_t[]){1, 3}, (int8_t[]){0, 1}), false);
  graph_output(graph, "self", graph_dot(graph, x, x, 1, 2, (int8_t[]){0, 2, 3}, (int8_t[]){0, 2, 3}), false);
  graph_output(graph, "linear",
               graph_dot(graph, graph_merge(graph, x, 2, 2, "m"), w, 0, 1, (int8_t[]){2}, (int8_t[]){1}),
               false);
  graph_output(graph, "outer",
               graph_dot(graph, w, graph_reduce(graph, OP_SUM, x, 7), 0, 0, (int8_t[]){0}, (int8_t[]){0}),
               false);
  check_graph(graph);
}

static void test_indexing(Arena *arena) {
  Graph *graph = graph_new(arena, "indexing");
  NodeId table = input(graph, "table", TYPE(DTYPE_F32, fixed(3), fixed(4)));
  NodeId ids = input(graph, "ids", TYPE(DTYPE_I32, BATCH, TIME)); // 0 to 3: some are outside
  NodeId rows = graph_gather(graph, table, ids, 0);
  graph_output(graph, "gather", rows, false);
  graph_output(graph, "scatter",
               graph_scatter(graph, ids, graph_unary(graph, OP_EXP, rows), 0, (Axis){"n", fixed(3)}), false);
  NodeId wide = input(graph, "wide", TYPE(DTYPE_F32, BATCH, TIME, fixed(3)));
  graph_output(graph, "batched gather", graph_gather(graph, wide, ids, 2), false);
  NodeId picked = graph_reduce(graph, OP_SUM, wide, 4);
  graph_output(graph, "one-hot", graph_scatter(graph, ids, picked, 2, (Axis){"n", fixed(3)}), false);
  graph_output(graph, "batched scatter", graph_scatter(graph, ids, wide, 1, (Axis){"n", fixed(3)}), false);
  check_graph(graph);
}

static void test_sources(Arena *arena) {
  Graph *graph = graph_new(arena, "sources");
  NodeId counter = graph_input(graph, "counter", INPUT_SCALAR, (Type){.dtype = DTYPE_I32});
  graph_output(graph, "const", graph_constant(graph, 2.5, DTYPE_F32), false);
  Extent past_and_one;
  extent_add(extent_symbol(SYMBOL_PAST), fixed(1), &past_and_one);
  graph_output(graph, "size", graph_size(graph, past_and_one, DTYPE_F32), false);
  graph_output(graph, "iota", graph_iota(graph, (Axis){"t", TIME}, extent_symbol(SYMBOL_PAST), DTYPE_I32),
               false);
  graph_output(graph, "random", graph_random(graph, counter, TYPE(DTYPE_F32, BATCH, TIME)), false);
  graph_output(graph, "input", counter, false);
  check_graph(graph);
}

// States and parameters replaced in place, through copies where the old value is still needed, and swapped.
static void test_updates(Arena *arena) {
  Graph *graph = graph_new(arena, "updates");
  Type type = TYPE(DTYPE_F32, fixed(4), fixed(6));
  NodeId w = graph_input(graph, "w", INPUT_PARAM, type), m = graph_input(graph, "m", INPUT_STATE, type);
  NodeId a = graph_input(graph, "a", INPUT_STATE, type), b = graph_input(graph, "b", INPUT_STATE, type);
  NodeId c = graph_input(graph, "c", INPUT_STATE, type), d = graph_input(graph, "d", INPUT_STATE, type);
  NodeId half = graph_constant(graph, 0.5, DTYPE_F32);
  NodeId m2 = graph_binary(graph, OP_ADD, graph_binary(graph, OP_MUL, m, half), w);
  NodeId w2 = graph_binary(graph, OP_SUB, w, graph_binary(graph, OP_MUL, m2, half));
  graph_output(graph, "w", w2, true);
  graph_output(graph, "m", m2, true);
  graph_output(graph, "old w", w, false);
  graph_output(graph, "a", b, true);
  graph_output(graph, "b", a, true);
  int8_t swapped[2] = {1, 0}; // c := c + the same, its columns reversed by a pad and a slice
  NodeId moved = graph_slice(graph, graph_pad(graph, c, 1, fixed(1), fixed(7)), 1, fixed(0), fixed(6));
  graph_output(graph, "c", graph_binary(graph, OP_ADD, c, moved), true);
  graph_output(graph, "d", graph_unary(graph, OP_EXP, d), true);
  NodeId late = graph_dot(graph, d, w2, 0, 1, (int8_t[]){1}, (int8_t[]){1});
  graph_output(graph, "late", late, false);
  (void)swapped;
  check_graph(graph);
}

static void test_cache(Arena *arena) {
  Graph *graph = graph_new(arena, "cache");
  NodeId cache = graph_input(graph, "cache", INPUT_STATE, TYPE(DTYPE_F32, BATCH, fixed(9), fixed(4)));
  NodeId x = input(graph, "x", TYPE(DTYPE_F32, BATCH, TIME, fixed(4)));
  NodeId next = graph_update(graph, cache, graph_unary(graph, OP_EXP, x), 1, extent_symbol(SYMBOL_PAST));
  graph_output(graph, "cache", next, true);
  NodeId seen = graph_slice(graph, next, 1, fixed(0), extent_symbol(SYMBOL_SEEN));
  graph_output(graph, "score", graph_dot(graph, x, seen, 1, 1, (int8_t[]){0, 2}, (int8_t[]){0, 2}), false);
  check_graph(graph);
}

static void test_random(uint64_t first, uint64_t last) {
  for (uint64_t seed = first; seed < last; seed++) {
    Arena *arena = arena_new();
    Graph *graph = random_graph(arena, seed, 6 + (int)(seed % 60));
    int before = check_failed;
    check_seed(graph, seed);
    if (check_failed > before) printf("seed %lu\n", (unsigned long)seed);
    arena_free(arena);
    if (check_failed > 3) return;
  }
}

// Without arguments the whole test; with two, the random graphs of these seeds alone.
int main(int count, char **arguments) {
  if (count == 3) {
    test_random(strtoull(arguments[1], NULL, 10), strtoull(arguments[2], NULL, 10));
    return check_finish();
  }
  Arena *arena = arena_new();
  test_elementwise(arena);
  test_casts(arena);
  test_views(arena);
  test_reductions(arena);
  test_dot(arena);
  test_indexing(arena);
  test_sources(arena);
  test_updates(arena);
  test_cache(arena);
  test_random(1, 300);
  arena_free(arena);
  return check_finish();
}
