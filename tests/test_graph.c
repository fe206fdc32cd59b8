// Graphs: a small one built and printed in full; print, read, print as the identity on random graphs; what
// each type rule, the reader and the verifier refuse; the value of each operation against numbers worked out
// by hand.
#include "compiler/graph/graph.h"
#include "runtime/base/philox.h"
#include "tests/check.h"
#include "tests/random_graph.h"

static Graph *small(Arena *arena) {
  Graph *graph = graph_new(arena, "loss");
  Extent b = extent_symbol(SYMBOL_BATCH), t = extent_symbol(SYMBOL_TIME);
  Type ids = {DTYPE_I32, 2, {{"B", b}, {"T", t}}};
  Type table = {DTYPE_F32, 2, {{"vocab", extent_constant(7)}, {"width", extent_constant(6)}}};
  NodeId index = graph_input(graph, "ids", INPUT_DATA, ids);
  NodeId token = graph_input(graph, "lm.token", INPUT_PARAM, table);
  graph_find_input(graph, "lm.token")->trained = true;
  graph_find_input(graph, "lm.token")->initial = (Initial){true, 0, 0.02};
  NodeId x = graph_gather(graph, token, index, 0);
  NodeId heads = graph_split(graph, x, 2, 2, (Axis[]){{"h", extent_constant(2)}, {"e", extent_constant(3)}});
  NodeId scaled = graph_binary(graph, OP_MUL, heads, graph_constant(graph, 0.5, DTYPE_F32));
  NodeId merged = graph_merge(graph, scaled, 2, 2, "h*e");
  NodeId logits = graph_dot(graph, merged, token, 0, 1, (int8_t[]){2}, (int8_t[]){1});
  graph_output(graph, "result", graph_reduce(graph, OP_SUM, logits, 5), false);
  return graph;
}

static void test_small(Arena *arena) {
  Graph *graph = small(arena);
  Text text = {0}, reason = {0};
  CHECK(graph_verify(graph, &reason), "%s", text_string(&reason));
  graph_print(graph, &text);
  const char *expected = "graph loss\n"
                         "%1 = input ids data: i32[B, T]\n"
                         "%2 = input lm.token param train normal=0.02: f32[vocab=7, width=6]\n"
                         "%3 = gather %2 %1 batch=0: f32[B, T, width=6]\n"
                         "%4 = split %3 axis=2 count=2: f32[B, T, h=2, e=3]\n"
                         "%5 = const value=0.5: f32[]\n"
                         "%6 = arrange %5 from=_,_,_,_: f32[B, T, h=2, e=3]\n"
                         "%7 = mul %4 %6: f32[B, T, h=2, e=3]\n"
                         "%8 = merge %7 axis=2 count=2: f32[B, T, \"h*e\"=6]\n"
                         "%9 = dot %8 %2 contract=2/1: f32[B, T, vocab=7]\n"
                         "%10 = sum %9 axes=0,2: f32[T]\n"
                         "output result result %10\n";
  CHECK(!strcmp(text_string(&text), expected), "%s", text_string(&text));
  text_free(&text);
  text_free(&reason);
}

// ---- reading
// ---------------------------------------------------------------------------------------------------------

typedef struct Reading {
  Arena *arena;
  Sources sources;
  Diagnostics diagnostics;
  Graph *graph;
} Reading;

static void read_text(Reading *reading, const char *text) {
  *reading = (Reading){.arena = arena_new()};
  sources_init(&reading->sources, reading->arena);
  reading->diagnostics.sources = &reading->sources;
  uint32_t source = sources_add(&reading->sources, "g", text, strlen(text));
  reading->graph = graph_read(reading->arena, &reading->diagnostics, source);
}

static void end_reading(Reading *reading) {
  text_free(&reading->diagnostics.text);
  arena_free(reading->arena);
}

static bool reads_back(const char *text) {
  Reading reading;
  Text again = {0};
  read_text(&reading, text);
  if (reading.graph) graph_print(reading.graph, &again);
  bool same = reading.graph && !strcmp(text, text_string(&again));
  CHECK(same, "%s\n%s\n%s", text_string(&reading.diagnostics.text), text, text_string(&again));
  text_free(&again);
  end_reading(&reading);
  return same;
}

static void test_identity(void) {
  bool good = true;
  for (uint64_t seed = 1000; good && seed < 1150; seed++) {
    Arena *arena = arena_new();
    Text text = {0};
    graph_print(random_graph(arena, seed, 60), &text);
    good = reads_back(text_string(&text));
    text_free(&text);
    arena_free(arena);
  }
  reads_back("graph \"odd names\"\n"
             "origin 1 \"\" nn.softmax call=3\n"
             "origin 2 lm.blocks.0 \"a \\\"b\\\" \\\\ \\x09\" call=4294967295 backward\n"
             "%1 = input \"token:<image>\" scalar: i32[]\n"
             "%2 = input 词表.weight param train normal=0.02: f32[\"2 x\"=3, B=2*B-1, T'=T+4] @1\n"
             "%3 = const value=-inf: f32[] @2\n"
             "%4 = const value=nan: f32[]\n"
             "%5 = const value=-0: f32[]\n"
             "%6 = size extent=-2*T+7: f32[]\n"
             "output \"gradient:a\" result %6\n"
             "output 词表.weight update %2\n");
}

// Lines behind "graph g" and these inputs; what the message says, with its line and column.
#define INPUTS                                                                                               \
  "graph g\n%1 = input x data: f32[B, n=3]\n%2 = input y data: f32[n=4]\n%3 = input i data: i32[B]\n"        \
  "%4 = input c data: bool[B, n=3]\n%5 = input s state: f32[n=4]\n%6 = input r scalar: i32[]\n"
static const struct {
  const char *lines, *message;
} refusals[] = {
    // types
    {"%7 = neg %4: bool[B, n=3]", "8:1: error: neg: it takes numbers, not bool"},
    {"%7 = exp %3: i32[B]", "8:1: error: exp: it takes floats, not i32"},
    {"%7 = not %1: f32[B, n=3]", "not: it takes bools, not f32"},
    {"%7 = add %1 %2: f32[B, n=3]", "add: operands have 2 and 1 axes"},
    {"%7 = add %1 %3: f32[B, n=3]", "add: operands are f32 and i32"},
    {"%7 = input z data: f32[B, n=4]\n%8 = mul %1 %7: f32[B, n=3]",
     "9:1: error: mul: axis 1 (n) is 3 here but axis 1 (n) is 4 there"},
    {"%7 = less %1 %1: f32[B, n=3]", "8:18: error: this line makes bool[B, n=3]"},
    {"%7 = select %1 %1 %1: f32[B, n=3]", "select: the condition is f32, not bool"},
    {"%7 = select %4 %1 %4: f32[B, n=3]", "select: operands are f32 and bool"},
    {"%7 = const value=1: f32[n=1]", "const: the result has 0 axes, not 1"},
    {"%7 = size extent=T: bool[]", "size: a size is a number, not a bool"},
    {"%7 = iota start=0: i32[n=3, m=4]", "iota: the result has 1 axes, not 2"},
    {"%7 = iota start=0: bool[n=3]", "iota: an index is a number, not a bool"},
    {"%7 = random %2 stream=0: f32[n=3]", "random: the counter is a whole number of rank 0"},
    {"%7 = random %6 stream=0: i32[n=3]", "random: random numbers are floats, not i32"},
    {"%7 = arrange %1 from=0,0: f32[B, n=3]", "arrange: axis 0 (B) appears twice"},
    {"%7 = arrange %1 from=0: f32[B]", "arrange: axis 1 (n) is missing"},
    {"%7 = arrange %1 from=0,2: f32[B, n=3]", "arrange: there is no axis 2 in 2 axes"},
    {"%7 = arrange %1 from=1,0: f32[n=3, b=2]", "8:27: error: this line makes f32[n=3, b=B]"},
    {"%7 = split %2 axis=0 count=2: f32[a=3, b=2]", "split: the parts hold 6 but axis 0 (n) has 4"},
    {"%7 = split %2 axis=0 count=1: f32[a=4]", "split: an axis is split into 1"},
    {"%7 = split %2 axis=1 count=2: f32[a=2, b=2]", "split: there is no axis 1 in 1 axes"},
    {"%7 = split %1 axis=0 count=2: f32[a=B, b=T, n=3]", "split: two of the axes have run-time sizes"},
    {"%7 = merge %1 axis=1 count=2: f32[B]", "merge: there is no axis 2 in 2 axes"},
    {"%7 = merge %1 axis=0 count=0: f32[B]", "merge: 0 axes are merged"},
    {"%7 = merge %1 axis=0 count=2: f32[m=3]", "this line makes f32[m=3*B]"},
    {"%7 = window %2 axis=0 start=T stride=1: f32[o=2, i=2]", "window: the start of a window is a constant"},
    {"%7 = window %2 axis=0 start=0 stride=0: f32[o=2, i=2]", "window: the stride is 0"},
    {"%7 = window %2 axis=0 start=0 stride=1: f32[o=2]", "window: the result has 2 axes, not 1"},
    {"%7 = fold %1 axis=1 start=0 stride=1: f32[B]", "fold: there is no axis 2 in 2 axes"},
    {"%7 = fold %4 axis=0 start=0 stride=1: bool[m=3]", "fold: it takes floats, not bool"},
    {"%7 = slice %2 axis=0 start=2: f32[n=3]", "slice: 3 elements from 2 on do not lie in an axis of 4"},
    {"%7 = slice %1 axis=0 start=0: f32[B=B+1, n=3]",
     "slice: B+1 elements from 0 on do not lie in an axis of B"},
    {"%7 = slice %2 axis=0 start=-1: f32[n=3]", "slice: 3 elements from -1 on do not lie in an axis of 4"},
    {"%7 = pad %2 axis=0 start=2: f32[n=5]", "pad: 4 elements from 2 on do not lie in an axis of 5"},
    {"%7 = concat %1 %2 axis=0: f32[B, n=3]", "concat: operands have 2 and 1 axes"},
    {"%7 = input z data: f32[T]\n%8 = input w data: f32[B]\n%9 = concat %7 %8 axis=0: f32[T]",
     "concat: the two extents along axis 0 (T) run with different run-time sizes"},
    {"%7 = sum %1 axes=2: f32[B]", "sum: it reduces axes 0x4 of 2 axes"},
    {"%7 = sum %4 axes=1: bool[B]", "sum: a sum of bool is not defined"},
    {"%7 = redmax %3 axes=0: i32[]", "redmax: a largest i32 is not defined"},
    {"%7 = dot %1 %2 contract=1/0: f32[B]", "dot: axis 1 (n) is 3 here but axis 0 (n) is 4 there"},
    {"%7 = dot %1 %1 pairs=0/0 contract=0/0: f32[B]", "dot: an axis is paired twice"},
    {"%7 = dot %3 %3 contract=0/0: i32[]", "dot: it takes floats, not i32"},
    {"%7 = gather %2 %2 batch=0: f32[n=4]", "gather: the index is f32, not a whole number"},
    {"%7 = gather %1 %3 batch=2: f32[B]", "gather: 2 batch axes in 2 and 1 axes"},
    {"%7 = gather %2 %3 batch=0: f32[n=4]", "8:28: error: this line makes f32[n=B]"},
    {"%7 = scatter %3 %2 batch=0 rows=5: f32[r=5]",
     "scatter: axis 0 (B) is B here but axis 0 (n) is 4 there"},
    {"%7 = scatter %3 %4 batch=0 rows=5: f32[r=5, n=3]", "scatter: it adds floats, not bool"},
    {"%7 = update %5 %2 axis=0 start=1: f32[n=4]", "update: 4 elements from 1 on do not lie in an axis of 4"},
    {"%7 = update %5 %1 axis=0 start=1: f32[n=4]", "update: state and value have 1 and 2 axes"},
    // text
    {"%7 = nothing %1: f32[B]", "8:6: error: `nothing` is not an operation"},
    {"%7 = neg %9: f32[B]", "8:10: error: no line before this one defines %9"},
    {"%1 = neg %1: f32[B]", "8:1: error: %1 is defined twice"},
    {"%7 = neg %1 f32[B, n=3]", "8:13: error: expected `:`, found `f`"},
    {"%7 = neg %1: f33[B, n=3]", "8:14: error: `f33` is not an element type"},
    {"%7 = neg %1: f32[B, B=3]", "two axes are labelled `B`"},
    {"%7 = neg %1: f32[B, n]", "expected `=`, found `]`"},
    {"%7 = neg %1: f32[B, n=Q]", "`Q` is not a run-time size"},
    {"%7 = neg %1: f32[B, n=99999999999999999999]", "this number is larger than 1099511627776"},
    {"%7 = neg %1: f32[B, n=3] @4", "8:27: error: there is no origin 4"},
    {"%7 = neg %1: f32[B, n=3] nonsense", "8:26: error: expected the line's end"},
    {"%7 = sum %1: f32[B]", "expected `axes=`"},
    {"%7 = sum %1 axes=9: f32[B]", "this number is larger than 7"},
    {"%7 = const value=x: f32[]", "expected a number"},
    {"%7 = input \"x", "this text does not end"},
    {"%7 = input \"\\q\" data: f32[]", "no such escape in a text"},
    {"%7 = input z weight: f32[]", "`weight` is not data, param, state, scalar or part"},
    {"%7 = input z param: f32[]", "expected `train`, `normal=` or `value=`"},
    {"%7 = input z data: f32[a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1]", "more than 8 axes"},
    {"%9999999 = neg %1: f32[B]", "this number is larger than 1048575"},
    {"output r result", "expected `%`, found the line's end"},
    {"output r maybe %1", "expected `result` or `update`"},
    {"origin 7 a b call=1", "expected origin 1 here"},
    {"nodes 3", "expected `%`, `origin` or `output`, found `nodes`"},
    {"%7 = input z data: f32[a=1000000000, b=1000000000]",
     "8:1: error: a tensor of more elements than any machine holds: f32[a=1000000000, b=1000000000]"},
    // the whole
    {"%7 = input x data: f32[]", "graph g: two inputs are named x"},
    {"output r result %1\noutput r result %2", "graph g: two outputs are named r"},
    {"output q update %1", "graph g: output q replaces no parameter or state"},
    {"output s update %1", "graph g: output s has another type than what it replaces"},
    {"%7 = update %2 %2 axis=0 start=0: f32[n=4]", "it overwrites %2, which is no state"},
    {"%7 = update %5 %2 axis=0 start=0: f32[n=4]", "it overwrites state s, but is not its next value"},
    {"%7 = update %5 %2 axis=0 start=0: f32[n=4]\n%8 = neg %5: f32[n=4]\noutput s update %7",
     "it overwrites %5, which is read elsewhere, too"},
};

static void test_refusals(void) {
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    Reading reading;
    Text text = {0};
    text_print(&text, "%s%s\n", INPUTS, refusals[i].lines);
    read_text(&reading, text_string(&text));
    const char *said = text_string(&reading.diagnostics.text);
    CHECK(!reading.graph && strstr(said, refusals[i].message), "%s\nsaid: %s", refusals[i].lines, said);
    CHECK(reading.diagnostics.errors == 1, "%d errors for %s", reading.diagnostics.errors, refusals[i].lines);
    text_free(&text);
    end_reading(&reading);
  }
  Reading reading;
  read_text(&reading, "# nothing\n");
  CHECK(strstr(text_string(&reading.diagnostics.text), "there is no graph here"), "empty");
  end_reading(&reading);
  read_text(&reading,
            INPUTS "%7 = exp %3: i32[B]\n%8 = exp %7: i32[B]\n%9 = exp %4: f32[B]\noutput r result %8\n");
  CHECK(reading.diagnostics.errors == 2, "what follows from an error is not reported:\n%s",
        text_string(&reading.diagnostics.text));
  end_reading(&reading);
}

// Cuts and flips of a good text are refused or read, but never more.
static void test_damage(void) {
  Arena *arena = arena_new();
  Text text = {0};
  graph_print(random_graph(arena, 5, 60), &text);
  RandomGraph random = {.state = 1};
  int refused = 0;
  for (int i = 0; i < 400; i++) {
    char *damaged = arena_copy(arena, text.bytes, text.length);
    if (i % 2)
      damaged[random_below(&random, (uint32_t)text.length)] = 0;
    else
      damaged[random_below(&random, (uint32_t)text.length)] =
          "%=: ,[]0123TB\n\"@_/"[random_below(&random, 19)];
    Reading reading;
    read_text(&reading, damaged);
    refused += !reading.graph;
    CHECK(!reading.graph == (reading.diagnostics.errors > 0), "no graph without an error");
    end_reading(&reading);
  }
  CHECK(refused > 100, "only %d of 400 damaged texts are refused", refused);
  text_free(&text);
  arena_free(arena);
}

// ---- values
// ----------------------------------------------------------------------------------------------------------

static const int64_t sizes[SYMBOL_COUNT] = {0, 2, 3, 1, 4};

// Lines, the elements of their inputs one after the other, and those of output r; B, T, P, S = 2, 3, 1, 4.
static const struct {
  const char *lines, *inputs, *expected;
} values[] = {
    {"%1 = const value=2.5: f32[]\noutput r result %1", "", "2.5"},
    {"%1 = size extent=2*T-1: i32[]\noutput r result %1", "", "5"},
    {"%1 = iota start=P: i32[T]\noutput r result %1", "", "1 2 3"},
    {"%1 = input x data: f32[n=3]\n%2 = neg %1: f32[n=3]\noutput r result %2", "1 -2 0.5", "-1 2 -0.5"},
    {"%1 = input x data: f32[n=3]\n%2 = abs %1: f32[n=3]\noutput r result %2", "1 -2 0.5", "1 2 0.5"},
    {"%1 = input x data: f32[n=2]\n%2 = exp %1: f32[n=2]\noutput r result %2", "0 1", "1 2.718281828459045"},
    {"%1 = input x data: f32[n=3]\n%2 = log %1: f32[n=3]\noutput r result %2", "1 2 0",
     "0 0.6931471805599453 -inf"},
    {"%1 = input x data: f32[n=2]\n%2 = sqrt %1: f32[n=2]\noutput r result %2", "9 -1", "3 nan"},
    {"%1 = input x data: f32[n=2]\n%2 = rsqrt %1: f32[n=2]\noutput r result %2", "16 0", "0.25 inf"},
    {"%1 = input x data: f32[n=2]\n%2 = sin %1: f32[n=2]\noutput r result %2", "0 1", "0 0.8414709848078965"},
    {"%1 = input x data: f32[n=2]\n%2 = cos %1: f32[n=2]\noutput r result %2", "0 1", "1 0.5403023058681398"},
    {"%1 = input x data: f32[n=2]\n%2 = tanh %1: f32[n=2]\noutput r result %2", "0 1",
     "0 0.7615941559557649"},
    {"%1 = input x data: f32[n=2]\n%2 = erf %1: f32[n=2]\noutput r result %2", "0 1", "0 0.8427007929497149"},
    {"%1 = input x data: f32[n=3]\n%2 = floor %1: f32[n=3]\noutput r result %2", "1.5 -1.5 2", "1 -2 2"},
    {"%1 = input x data: bool[n=2]\n%2 = not %1: bool[n=2]\noutput r result %2", "1 0", "0 1"},
    {"%1 = input x data: f32[n=5]\n%2 = cast %1: i32[n=5]\noutput r result %2", "1.9 -1.9 3e9 -3e9 nan",
     "1 -1 2147483647 -2147483648 0"},
    {"%1 = input x data: f32[n=3]\n%2 = cast %1: u8[n=3]\noutput r result %2", "-1 300 7.5", "0 255 7"},
    {"%1 = input x data: f32[n=3]\n%2 = cast %1: bool[n=3]\noutput r result %2", "0.5 0 -2", "1 0 1"},
    {"%1 = input x data: f32[n=2]\n%2 = stop %1: f32[n=2]\noutput r result %2", "3 4", "3 4"},
    {"%1 = input x data: f32[n=2]\n%2 = input y data: f32[n=2]\n%3 = add %1 %2: f32[n=2]\noutput r result %3",
     "1 2 10 20", "11 22"},
    {"%1 = input x data: f32[n=2]\n%2 = input y data: f32[n=2]\n%3 = sub %1 %2: f32[n=2]\noutput r result %3",
     "1 2 10 20", "-9 -18"},
    {"%1 = input x data: f32[n=2]\n%2 = input y data: f32[n=2]\n%3 = mul %1 %2: f32[n=2]\noutput r result %3",
     "1 2 10 20", "10 40"},
    {"%1 = input x data: f32[n=2]\n%2 = input y data: f32[n=2]\n%3 = div %1 %2: f32[n=2]\noutput r result %3",
     "1 -7 0 2", "inf -3.5"},
    {"%1 = input x data: i32[n=5]\n%2 = input y data: i32[n=5]\n%3 = div %1 %2: i32[n=5]\noutput r result %3",
     "7 -7 7 -7 5 2 2 -2 -2 0", "3 -4 -4 3 0"},
    {"%1 = input x data: i32[n=5]\n%2 = input y data: i32[n=5]\n%3 = mod %1 %2: i32[n=5]\noutput r result %3",
     "7 -7 7 -7 5 2 2 -2 -2 0", "1 1 -1 -1 0"},
    {"%1 = input x data: f32[n=2]\n%2 = input y data: f32[n=2]\n%3 = mod %1 %2: f32[n=2]\noutput r result %3",
     "5.5 -1 2 3", "1.5 2"},
    {"%1 = input x data: f32[n=2]\n%2 = input y data: f32[n=2]\n%3 = pow %1 %2: f32[n=2]\noutput r result %3",
     "2 9 10 0.5", "1024 3"},
    {"%1 = input x data: f32[n=3]\n%2 = input y data: f32[n=3]\n%3 = min %1 %2: f32[n=3]\noutput r result %3",
     "1 nan 2 3 1 nan", "1 nan nan"},
    {"%1 = input x data: f32[n=3]\n%2 = input y data: f32[n=3]\n%3 = max %1 %2: f32[n=3]\noutput r result %3",
     "1 nan 2 3 1 nan", "3 nan nan"},
    {"%1 = input x data: f32[n=3]\n%2 = input y data: f32[n=3]\n%3 = less %1 %2: bool[n=3]\noutput r result "
     "%3",
     "1 2 3 2 2 2", "1 0 0"},
    {"%1 = input x data: f32[n=3]\n%2 = input y data: f32[n=3]\n%3 = lesseq %1 %2: bool[n=3]\noutput r "
     "result %3",
     "1 2 3 2 2 2", "1 1 0"},
    {"%1 = input x data: f32[n=3]\n%2 = input y data: f32[n=3]\n%3 = equal %1 %2: bool[n=3]\noutput r result "
     "%3",
     "1 2 3 2 2 2", "0 1 0"},
    {"%1 = input x data: bool[n=4]\n%2 = input y data: bool[n=4]\n%3 = and %1 %2: bool[n=4]\noutput r result "
     "%3",
     "0 0 1 1 0 1 0 1", "0 0 0 1"},
    {"%1 = input x data: bool[n=4]\n%2 = input y data: bool[n=4]\n%3 = or %1 %2: bool[n=4]\noutput r result "
     "%3",
     "0 0 1 1 0 1 0 1", "0 1 1 1"},
    {"%1 = input c data: bool[n=2]\n%2 = input x data: f32[n=2]\n%3 = input y data: f32[n=2]\n"
     "%4 = select %1 %2 %3: f32[n=2]\noutput r result %4",
     "1 0 3 4 5 6", "3 6"},
    {"%1 = input x data: f32[B, T]\n%2 = arrange %1 from=1,_,0: f32[T, n=2, B]\noutput r result %2",
     "1 2 3 4 5 6", "1 4 1 4 2 5 2 5 3 6 3 6"},
    {"%1 = input x data: f32[n=6]\n%2 = split %1 axis=0 count=2: f32[a=2, b=3]\n%3 = arrange %2 from=1,0: "
     "f32[b=3, a=2]\n"
     "output r result %3",
     "1 2 3 4 5 6", "1 4 2 5 3 6"},
    {"%1 = input x data: f32[B, n=2]\n%2 = merge %1 axis=0 count=2: f32[m=2*B]\noutput r result %2",
     "1 2 3 4", "1 2 3 4"},
    {"%1 = input x data: f32[n=4]\n%2 = window %1 axis=0 start=-1 stride=2: f32[o=3, i=2]\noutput r result "
     "%2",
     "1 2 3 4", "0 1 2 3 4 0"},
    {"%1 = input x data: f32[B, n=4]\n%2 = slice %1 axis=1 start=P: f32[B, n=2]\noutput r result %2",
     "1 2 3 4 5 6 7 8", "2 3 6 7"},
    {"%1 = input x data: f32[n=2]\n%2 = pad %1 axis=0 start=1: f32[n=4]\noutput r result %2", "1 2",
     "0 1 2 0"},
    {"%1 = input x data: f32[a=2, n=1]\n%2 = input y data: f32[a=2, n=2]\n%3 = concat %1 %2 axis=1: f32[a=2, "
     "n=3]\n"
     "output r result %3",
     "1 2 3 4 5 6", "1 3 4 2 5 6"},
    {"%1 = input x data: f32[B, T, n=2]\n%2 = sum %1 axes=0,2: f32[T]\noutput r result %2",
     "1 2 3 4 5 6 7 8 9 10 11 12", "18 26 34"},
    {"%1 = input x data: f32[a=2, n=0]\n%2 = sum %1 axes=1: f32[a=2]\noutput r result %2", "", "0 0"},
    {"%1 = input x data: f32[B, T]\n%2 = redmax %1 axes=1: f32[B]\noutput r result %2", "1 7 3 -4 -5 nan",
     "7 nan"},
    {"%1 = input x data: f32[a=2, n=0]\n%2 = redmax %1 axes=1: f32[a=2]\noutput r result %2", "",
     "-inf -inf"},
    {"%1 = input x data: f32[o=3, i=2]\n%2 = fold %1 axis=0 start=-1 stride=1: f32[n=3]\noutput r result %2",
     "1 2 3 4 5 6", "5 9 6"},
    {"%1 = input x data: f32[a=2, n=3]\n%2 = input y data: f32[n=3, b=2]\n%3 = dot %1 %2 contract=1/0: "
     "f32[a=2, b=2]\n"
     "output r result %3",
     "1 2 3 4 5 6 1 0 0 1 1 1", "4 5 10 11"},
    {"%1 = input x data: f32[n=3, B]\n%2 = input y data: f32[B, n=3]\n%3 = dot %1 %2 pairs=1/0 contract=0/1: "
     "f32[B]\n"
     "output r result %3",
     "1 2 3 4 5 6 1 1 1 1 0 2", "9 14"},
    {"%1 = input x data: f32[a=2]\n%2 = input y data: f32[b=2]\n%3 = dot %1 %2: f32[a=2, b=2]\noutput r "
     "result %3",
     "1 2 3 4", "3 4 6 8"},
    {"%1 = input x data: f32[n=3, a=2]\n%2 = input i data: i32[k=4]\n%3 = gather %1 %2 batch=0: f32[k=4, "
     "a=2]\n"
     "output r result %3",
     "1 2 3 4 5 6 2 0 -1 3", "5 6 1 2 0 0 0 0"},
    {"%1 = input x data: f32[B, n=3]\n%2 = input i data: i32[B, k=2]\n%3 = gather %1 %2 batch=1: f32[B, "
     "k=2]\n"
     "output r result %3",
     "1 2 3 4 5 6 2 0 1 1", "3 1 5 5"},
    {"%1 = input i data: i32[k=4]\n%2 = input v data: f32[k=4, a=2]\n%3 = scatter %1 %2 batch=0 rows=3: "
     "f32[n=3, a=2]\n"
     "output r result %3",
     "2 0 2 -1 1 2 3 4 5 6 7 8", "3 4 0 0 6 8"},
    {"%1 = input i data: i32[B, k=2]\n%2 = input v data: f32[B, k=2]\n%3 = scatter %1 %2 batch=1 rows=2: "
     "f32[B, n=2]\n"
     "output r result %3",
     "0 0 1 5 1 2 3 4", "3 0 0 3"},
    {"%1 = input s state: f32[n=4]\n%2 = input v data: f32[n=2]\n%3 = update %1 %2 axis=0 start=P: f32[n=4]\n"
     "output s update %3\noutput r result %3",
     "1 2 3 4 8 9", "1 8 9 4"},
};

static Tensor *parse_inputs(const Graph *graph, Arena *arena, const char *numbers) {
  Tensor *inputs = ARENA_ARRAY(arena, Tensor, graph->input_count + 1);
  for (size_t i = 0; i < graph->input_count; i++) {
    inputs[i].type = *graph_type(graph, graph->inputs[i].node);
    for (int j = 0; j < inputs[i].type.rank; j++) {
      Extent *extent = &inputs[i].type.axes[j].extent;
      *extent = extent_constant(extent_value(*extent, sizes));
    }
    int64_t elements = type_elements(&inputs[i].type, sizes);
    inputs[i].data = ARENA_ARRAY(arena, double, elements);
    for (int64_t j = 0; j < elements; j++) {
      char *end;
      inputs[i].data[j] = strtod(numbers, &end);
      numbers = end;
    }
  }
  return inputs;
}

static void test_value(const char *lines, const char *numbers, const char *expected) {
  Reading reading;
  Text text = {0}, result = {0};
  text_print(&text, "graph g\n%s\n", lines);
  read_text(&reading, text_string(&text));
  CHECK(reading.graph, "%s", text_string(&reading.diagnostics.text));
  if (reading.graph) {
    Tensor outputs[2] = {0};
    graph_evaluate(reading.graph, reading.arena, sizes, parse_inputs(reading.graph, reading.arena, numbers),
                   outputs);
    const Tensor *r = &outputs[reading.graph->output_count - 1];
    for (int64_t i = 0; i < type_elements(&r->type, sizes); i++) {
      if (i) text_print(&result, " ");
      text_number(&result, r->data[i]);
    }
    CHECK(!strcmp(text_string(&result), expected), "%s: %s, expected %s", lines, text_string(&result),
          expected);
  }
  text_free(&text);
  text_free(&result);
  end_reading(&reading);
}

// The published vectors of Philox 4x32-10 (Random123's known answers), and what a draw makes of a block.
static void test_random(void) {
  static const struct {
    uint32_t counter[4], key[2], answer[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int i = 0; i < 3; i++) {
    uint32_t word[4];
    memcpy(word, known[i].counter, sizeof word);
    philox_block(word, known[i].key[0], known[i].key[1]);
    CHECK(!memcmp(word, known[i].answer, sizeof word), "vector %d", i);
  }
  Reading reading;
  read_text(
      &reading,
      "graph g\n%1 = input run scalar: i32[]\n%2 = random %1 stream=9: f32[B, n=3]\noutput r result %2\n");
  Tensor output;
  graph_evaluate(reading.graph, reading.arena, sizes, parse_inputs(reading.graph, reading.arena, "41"),
                 &output);
  for (uint32_t i = 0; i < 6;
       i++) { // key (run, stream), counter index / 4, word index % 4, its upper 24 bits
    uint32_t word[4] = {i / 4};
    philox_block(word, 41, 9);
    CHECK(output.data[i] == (word[i % 4] >> 8) / 16777216.0, "draw %u is %g", i, output.data[i]);
  }
  end_reading(&reading);
}

// A larger contraction over two pairs and a batch, against plain loops.
static void test_dot_loops(void) {
  Reading reading;
  read_text(&reading,
            "graph g\n%1 = input x data: f32[k=5, a=3, b=7, T]\n%2 = input y data: f32[T, k=5, n=2, b=7]\n"
            "%3 = dot %1 %2 pairs=2/3 contract=3/0,0/1: f32[b=7, a=3, n=2]\noutput r result %3\n");
  Tensor *in = random_inputs(reading.graph, reading.arena, 3, sizes), output;
  graph_evaluate(reading.graph, reading.arena, sizes, in, &output);
  int wrong = 0;
  for (int b = 0; b < 7; b++) {
    for (int a = 0; a < 3; a++) {
      for (int n = 0; n < 2; n++) {
        double sum = 0;
        for (int t = 0; t < 3; t++)
          for (int k = 0; k < 5; k++)
            sum += in[0].data[((k * 3 + a) * 7 + b) * 3 + t] * in[1].data[((t * 5 + k) * 2 + n) * 7 + b];
        wrong += sum != output.data[(b * 3 + a) * 2 + n];
      }
    }
  }
  CHECK(!wrong, "%d of 42 elements", wrong);
  end_reading(&reading);
}

// ---- sources of nodes
// ------------------------------------------------------------------------------------------------

// A graph copied into another one keeps its origins, inputs and draws, under other numbers.
static void test_copy(Arena *arena) {
  Graph *from = graph_new(arena, "from"), *to = graph_new(arena, "to");
  Origin origin = {"lm.norm", "nn.norm", 3, false};
  ARENA_PUSH(arena, from->origins, from->origin_count, from->origin_capacity,
             ((Origin){"other", "", 1, false}));
  ARENA_PUSH(arena, from->origins, from->origin_count, from->origin_capacity, origin);
  NodeId run = graph_input(from, "run", INPUT_SCALAR, (Type){.dtype = DTYPE_I32});
  from->origin = 2;
  from->streams = 7;
  NodeId draw = graph_random(from, run, (Type){.dtype = DTYPE_F32});
  NodeId run_copy = graph_copy_node(to, from, run, NULL), copy = graph_copy_node(to, from, draw, &run_copy);
  CHECK(to->input_count == 1 && !strcmp(to->inputs[0].name, "run"), "input");
  CHECK(!strcmp(to->origins[to->nodes[copy].origin].path, "lm.norm"), "origin %u", to->nodes[copy].origin);
  CHECK(to->nodes[copy].attributes.stream == 7 && to->streams == 8, "streams %u", to->streams);
  CHECK(to->origin == 0, "the origin of new nodes is as before");
}

static void test_labels(Arena *arena) {
  Extent one = extent_constant(1);
  Type type = {DTYPE_F32, 4, {{"T", one}, {"T", one}, {"T'", one}, {"T", one}}};
  type_make_labels_unique(arena, &type);
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < i; j++)
      CHECK(strcmp(type.axes[i].label, type.axes[j].label), "%s twice", type.axes[i].label);
  CHECK(!strcmp(type.axes[1].label, "T'"), "%s", type.axes[1].label);
}

int main(void) {
  Arena *arena = arena_new();
  test_small(arena);
  test_identity();
  test_refusals();
  test_damage();
  for (size_t i = 0; i < sizeof values / sizeof *values; i++)
    test_value(values[i].lines, values[i].inputs, values[i].expected);
  test_random();
  test_dot_loops();
  test_copy(arena);
  test_labels(arena);
  arena_free(arena);
  return check_finish();
}
