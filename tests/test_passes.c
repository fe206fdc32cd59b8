// Passes keep what graphs mean: random graphs, each evaluated before and after, at two sets of run-time
// sizes; the verifier after each; and each rule of simplify on the smallest graph that shows it.
#include "compiler/graph/passes/passes.h"
#include "tests/check.h"
#include "tests/random_graph.h"

static const int64_t other_symbols[SYMBOL_COUNT] = {0, 1, 3, 5, 8};

static Graph *pass_specialise(Graph *graph) {
  int64_t symbols[SYMBOL_COUNT] = {0, random_symbols[SYMBOL_BATCH], -1, -1, -1};
  return specialise(graph, symbols);
}
static Graph *pass_all(Graph *graph) { return dead(cse(simplify(graph))); }
static Graph *pass_associate(Graph *graph) { return pass_all(associate(pass_all(graph))); }
static Graph *pass_all_twice(Graph *graph) { return pass_all(pass_all(graph)); }

static const struct {
  const char *name;
  Graph *(*run)(Graph *);
} passes[] = {{"dead", dead},
              {"cse", cse},
              {"simplify", simplify},
              {"specialise", pass_specialise},
              {"associate", pass_associate},
              {"all", pass_all},
              {"all twice", pass_all_twice}};
enum { PASS_COUNT = sizeof passes / sizeof *passes };

// The inputs of `graph` out of those of the graph that it was made from.
static Tensor *inputs_by_name(const Graph *graph, const Graph *before, const Tensor *inputs, Arena *arena) {
  Tensor *chosen = ARENA_ARRAY(arena, Tensor, graph->input_count + 1);
  for (size_t i = 0; i < graph->input_count; i++)
    for (size_t j = 0; j < before->input_count; j++)
      if (!strcmp(graph->inputs[i].name, before->inputs[j].name)) chosen[i] = inputs[j];
  return chosen;
}

static bool near(double a, double b) {
  return a == b || (a != a && b != b) || fabs(a - b) <= 1e-9 * (1 + fabs(a));
}

// How many elements of the outputs differ.
static int differences(const Graph *before, const Tensor *a, const Graph *after, const Tensor *b,
                       const int64_t *symbols) {
  int count = before->output_count != after->output_count;
  for (size_t i = 0; i < before->output_count && !count; i++) {
    if (!type_equal(&a[i].type, &b[i].type) || strcmp(before->outputs[i].name, after->outputs[i].name))
      count++;
    for (int64_t j = 0; !count && j < type_elements(&a[i].type, symbols); j++)
      count += !near(a[i].data[j], b[i].data[j]);
  }
  return count;
}

static bool compare(const Graph *before, const Graph *after, uint64_t seed, const int64_t *symbols) {
  Arena *arena = arena_new();
  Tensor *inputs = random_inputs(before, arena, seed, symbols);
  Tensor *a = ARENA_ARRAY(arena, Tensor, before->output_count + 1);
  Tensor *b = ARENA_ARRAY(arena, Tensor, before->output_count + 1);
  graph_evaluate(before, arena, symbols, inputs, a);
  graph_evaluate(after, arena, symbols, inputs_by_name(after, before, inputs, arena), b);
  bool good = !differences(before, a, after, b, symbols);
  arena_free(arena);
  return good;
}

static void show(const Graph *before, const Graph *after) {
  Text text = {0};
  graph_print(before, &text);
  text_print(&text, "---- became\n");
  graph_print(after, &text);
  printf("%s", text_string(&text));
  text_free(&text);
}

static void test_random(int seeds, uint32_t *seen) {
  int wrong = 0;
  for (int seed = 0; seed < seeds && wrong < 3; seed++) {
    Arena *arena = arena_new();
    Graph *graph = random_graph(arena, (uint64_t)seed, 10 + seed % 50);
    Text reason = {0};
    CHECK(graph_verify(graph, &reason), "seed %d: %s", seed, text_string(&reason));
    for (NodeId id = 1; id < graph->count; id++) seen[graph->nodes[id].op]++;
    for (int i = 0; i < PASS_COUNT; i++) {
      Graph *after = passes[i].run(graph);
      bool sound = graph_verify(after, &reason);
      CHECK(sound, "seed %d, %s: %s", seed, passes[i].name, text_string(&reason));
      bool same = compare(graph, after, (uint64_t)seed, random_symbols) &&
                  (passes[i].run == pass_specialise || compare(graph, after, (uint64_t)seed, other_symbols));
      CHECK(same, "seed %d: %s changes the result", seed, passes[i].name);
      if (!sound || !same) wrong++, show(graph, after);
    }
    text_free(&reason);
    arena_free(arena);
  }
}

static void test_coverage(const uint32_t *seen) {
  for (int op = 0; op < OP_COUNT; op++)
    CHECK(seen[op] >= 5, "%s appears only %u times", op_table[op].name, seen[op]);
}

// ---- rules
// -----------------------------------------------------------------------------------------------------------

// The graph before and after simplify, cse and dead, both as text; inputs x: f32[B, n=3], y: f32[3], i:
// i32[3], c: bool[3]
static const struct {
  const char *name, *before, *after;
} rules[] = {
    {"numbers fold",
     "%9 = const value=2: f32[]\n%10 = const value=3: f32[]\n%11 = mul %9 %10: f32[]\noutput r result %11\n",
     "%1 = const value=6: f32[]\noutput r result %1\n"},
    {"x * 1",
     "%9 = const value=1: f32[]\n%10 = arrange %9 from=_: f32[n=3]\n%11 = mul %2 %10: f32[n=3]\noutput r "
     "result %11\n",
     "%1 = input y param value=0: f32[n=3]\noutput r result %1\n"},
    {"0 * x of floats stays",
     "%9 = const value=0: f32[]\n%10 = arrange %9 from=_: f32[n=3]\n%11 = mul %2 %10: f32[n=3]\noutput r "
     "result %11\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = const value=0: f32[]\n%3 = arrange %2 from=_: f32[n=3]\n"
     "%4 = mul %1 %3: f32[n=3]\noutput r result %4\n"},
    {"x + (-y)", "%9 = neg %2: f32[n=3]\n%10 = add %2 %9: f32[n=3]\noutput r result %10\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = sub %1 %1: f32[n=3]\noutput r result %2\n"},
    {"signs move outwards",
     "%9 = neg %1: f32[B, n=3]\n%10 = sum %9 axes=0: f32[n=3]\n%11 = mul %10 %2: f32[n=3]\n"
     "%12 = arrange %11 from=_,0: f32[B, n=3]\n%13 = add %1 %12: f32[B, n=3]\noutput r result %13\n",
     "%1 = input x data: f32[B, n=3]\n%2 = input y param value=0: f32[n=3]\n%3 = sum %1 axes=0: f32[n=3]\n"
     "%4 = mul %3 %2: f32[n=3]\n%5 = arrange %4 from=_,0: f32[B, n=3]\n%6 = sub %1 %5: f32[B, n=3]\n"
     "output r result %6\n"},
    {"x / 8",
     "%9 = const value=8: f32[]\n%10 = arrange %9 from=_: f32[n=3]\n%11 = div %2 %10: f32[n=3]\noutput r "
     "result %11\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = const value=0.125: f32[]\n%3 = arrange %2 from=_: f32[n=3]\n"
     "%4 = mul %1 %3: f32[n=3]\noutput r result %4\n"},
    {"rows are computed once",
     "%9 = arrange %2 from=_,0: f32[B, n=3]\n%10 = exp %9: f32[B, n=3]\noutput r result %10\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = exp %1: f32[n=3]\n%3 = arrange %2 from=_,0: f32[B, n=3]\n"
     "output r result %3\n"},
    {"arrange of arrange",
     "%9 = arrange %1 from=1,0: f32[n=3, B]\n%10 = arrange %9 from=1,0: f32[B, n=3]\noutput r result %10\n",
     "%1 = input x data: f32[B, n=3]\noutput r result %1\n"},
    {"sum over what was repeated",
     "%9 = arrange %2 from=_,0: f32[B, n=3]\n%10 = sum %9 axes=0: f32[n=3]\noutput r result %10\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = size extent=B: f32[]\n%3 = arrange %2 from=_: f32[n=3]\n"
     "%4 = mul %1 %3: f32[n=3]\noutput r result %4\n"},
    {"sum of sum", "%9 = sum %1 axes=1: f32[B]\n%10 = sum %9 axes=0: f32[]\noutput r result %10\n",
     "%1 = input x data: f32[B, n=3]\n%2 = sum %1 axes=0,1: f32[]\noutput r result %2\n"},
    {"sum over one",
     "%9 = slice %1 axis=1 start=1: f32[B, n=1]\n%10 = sum %9 axes=1: f32[B]\noutput r result %10\n",
     "%1 = input x data: f32[B, n=3]\n%2 = slice %1 axis=1 start=1: f32[B, n=1]\n%3 = merge %2 axis=0 "
     "count=2: f32[B]\n"
     "output r result %3\n"},
    {"split of merge",
     "%9 = merge %1 axis=0 count=2: f32[m=3*B]\n%10 = split %9 axis=0 count=2: f32[B, n=3]\noutput r result "
     "%10\n",
     "%1 = input x data: f32[B, n=3]\noutput r result %1\n"},
    {"slice of slice",
     "%9 = slice %2 axis=0 start=1: f32[n=2]\n%10 = slice %9 axis=0 start=1: f32[n=1]\noutput r result %10\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = slice %1 axis=0 start=2: f32[n=1]\noutput r result %2\n"},
    {"select of a constant",
     "%9 = const value=1: bool[]\n%10 = arrange %9 from=_: bool[n=3]\n%11 = neg %2: f32[n=3]\n"
     "%12 = select %10 %11 %2: f32[n=3]\noutput r result %12\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = neg %1: f32[n=3]\noutput r result %2\n"},
    {"casts that lose nothing",
     "%9 = cast %3: i64[n=3]\n%10 = cast %9: f32[n=3]\n%11 = cast %10: i32[n=3]\noutput r result %11\n",
     "%1 = input i data: i32[n=3]\n%2 = cast %1: f32[n=3]\n%3 = cast %2: i32[n=3]\noutput r result %3\n"},
    {"not not", "%9 = not %4: bool[n=3]\n%10 = not %9: bool[n=3]\noutput r result %10\n",
     "%1 = input c data: bool[n=3]\noutput r result %1\n"},
    {"x ^ 2",
     "%9 = const value=2: f32[]\n%10 = arrange %9 from=_: f32[n=3]\n%11 = pow %2 %10: f32[n=3]\noutput r "
     "result %11\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = mul %1 %1: f32[n=3]\noutput r result %2\n"},
    {"commutative operands are the same",
     "%9 = exp %2: f32[n=3]\n%10 = mul %9 %2: f32[n=3]\n%11 = mul %2 %9: f32[n=3]\n%12 = div %10 %11: "
     "f32[n=3]\n"
     "output r result %12\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = exp %1: f32[n=3]\n%3 = mul %2 %1: f32[n=3]\n%4 = div %3 %3: "
     "f32[n=3]\n"
     "output r result %4\n"},
    {"a replaced parameter stays",
     "%9 = const value=1: f32[]\n%10 = arrange %9 from=_: f32[n=3]\noutput y update %10\n",
     "%1 = input y param value=0: f32[n=3]\n%2 = const value=1: f32[]\n%3 = arrange %2 from=_: f32[n=3]\n"
     "output y update %3\n"},
};

// NULL: it does not read, which counts as a failure.
static Graph *read_named(Arena *arena, const char *name, const char *text) {
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  Graph *graph = graph_read(arena, &diagnostics, sources_add(&sources, name, text, strlen(text)));
  CHECK(graph, "%s: %s", name, text_string(&diagnostics.text));
  text_free(&diagnostics.text);
  return graph;
}

static void test_rule(const char *name, const char *before, const char *expected) {
  Arena *arena = arena_new();
  Graph *graph = read_named(
      arena, name,
      arena_print(arena,
                  "graph rule\n%%1 = input x data: f32[B, n=3]\n%%2 = input y param value=0: f32[n=3]\n"
                  "%%3 = input i data: i32[n=3]\n%%4 = input c data: bool[n=3]\n%s",
                  before));
  if (graph) {
    Graph *after = pass_all(graph);
    Text result = {0}, wanted = {0};
    text_print(&wanted, "graph rule\n%s", expected);
    graph_print(after, &result);
    CHECK(!strcmp(text_string(&result), text_string(&wanted)), "%s:\n%s", name, text_string(&result));
    CHECK(compare(graph, after, 1, random_symbols), "%s changes the result", name);
    text_free(&result);
    text_free(&wanted);
  }
  arena_free(arena);
}

// Contractions y, v to o and a, v to x, in several orders of axes; how many are left when a sum of x and y is
// wanted beside o.
static const struct {
  const char *name, *text;
  int contractions;
} sums[] = {
    {"of a product with what is contracted",
     "%4 = dot %1 %2 pairs=0/0 contract=2/1: f32[B, i=3, e=4]\n%5 = dot %3 %2 pairs=0/0 contract=2/2: f32[B, "
     "i=3, j=5]\n"
     "%6 = mul %5 %1: f32[B, i=3, j=5]\n%7 = sum %6 axes=2: f32[B, i=3]\noutput s result %7\noutput o result "
     "%4\n",
     1},
    {"with the operands the other way round, divided, and turned",
     "%4 = dot %2 %1 pairs=0/0 contract=1/2: f32[B, e=4, i=3]\n%5 = dot %2 %3 pairs=0/0 contract=2/2: f32[B, "
     "j=5, i=3]\n"
     "%6 = arrange %5 from=0,2,1: f32[B, i=3, j=5]\n%7 = sum %1 axes=2: f32[B, i=3]\n"
     "%8 = arrange %7 from=0,1,_: f32[B, i=3, j=5]\n%9 = div %6 %8: f32[B, i=3, j=5]\n"
     "%10 = mul %1 %9: f32[B, i=3, j=5]\n%11 = sum %10 axes=2: f32[B, i=3]\n"
     "%12 = arrange %11 from=0,1,_: f32[B, i=3, j=5]\n%13 = sub %9 %12: f32[B, i=3, j=5]\n"
     "%14 = mul %1 %8: f32[B, i=3, j=5]\n%15 = mul %13 %14: f32[B, i=3, j=5]\n"
     "output s result %15\noutput o result %4\n",
     2},
    {"of a product with another one",
     "%4 = dot %1 %2 pairs=0/0 contract=2/1: f32[B, i=3, e=4]\n%5 = dot %3 %2 pairs=0/0 contract=2/2: f32[B, "
     "i=3, j=5]\n"
     "%6 = exp %1: f32[B, i=3, j=5]\n%7 = mul %5 %6: f32[B, i=3, j=5]\n%8 = sum %7 axes=2: f32[B, i=3]\n"
     "output s result %8\noutput o result %4\n",
     2},
    {"over rows instead of what is contracted",
     "%4 = dot %1 %2 pairs=0/0 contract=2/1: f32[B, i=3, e=4]\n%5 = dot %3 %2 pairs=0/0 contract=2/2: f32[B, "
     "i=3, j=5]\n"
     "%6 = mul %5 %1: f32[B, i=3, j=5]\n%7 = sum %6 axes=1: f32[B, j=5]\noutput s result %7\noutput o result "
     "%4\n",
     2},
};

static void test_sums(void) {
  for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
    Arena *arena = arena_new();
    Graph *graph = read_named(
        arena, sums[i].name,
        arena_print(arena,
                    "graph sums\n%%1 = input y data: f32[B, i=3, j=5]\n%%2 = input v data: f32[B, j=5, "
                    "e=4]\n%%3 = input a data: f32[B, i=3, e=4]\n%s",
                    sums[i].text));
    Graph *after = graph ? pass_associate(graph) : NULL;
    int contractions = 0;
    for (NodeId id = 1; after && id < after->count; id++) contractions += after->nodes[id].op == OP_DOT;
    CHECK(!after || contractions == sums[i].contractions, "a sum %s: %d contractions", sums[i].name,
          contractions);
    CHECK(!after || compare(graph, after, 1, random_symbols), "a sum %s changes the result", sums[i].name);
    arena_free(arena);
  }
}

int main(void) {
  uint32_t seen[OP_COUNT] = {0};
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
    test_rule(rules[i].name, rules[i].before, rules[i].after);
  test_sums();
  test_random(400, seen);
  test_coverage(seen);
  return check_finish();
}
