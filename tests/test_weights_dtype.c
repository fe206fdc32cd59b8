// Weights in bf16, q8_0 and q4_0 at run time: quantising against its slow twin, the pass that makes the
// parts, programs that read them on every target.
#include "compiler/compile.h"
#include "compiler/graph/passes/passes.h"
#include "runtime/checkpoint.h"
#include "runtime/weights/format.h"
#include "tests/lowered.h"

// ---- quantising ---------------------------------------------------------------------------------

enum { BLOCK = 32, BLOCKS = 257 };

static float random_float(void) { return (float)(2 * random_unit() - 1); }

// The format's definition, in doubles, one element after the other.
static double unpack(Packing packing, const unsigned char *packed, const uint16_t *scales, int64_t i) {
  double scale = f16_to_float(scales[i / BLOCK]);
  int at = (int)(i % BLOCK);
  if (packing == PACKING_Q8_0) return (packed[i] - 128) * scale;
  int byte = packed[i / BLOCK * 16 + at % 16];
  return ((at < 16 ? byte % 16 : byte / 16) - 8) * scale;
}

// The squares of the errors of a block under the definition of ggml's reference quantisers.
static double twin(Packing packing, const float *block) {
  double extreme = 0, sum = 0;
  for (int i = 0; i < BLOCK; i++)
    if (fabs((double)block[i]) > fabs(extreme)) extreme = block[i];
  float step = (float)(packing == PACKING_Q8_0 ? fabs(extreme) / 127 : extreme / -8);
  double scale = (double)f16_to_float(f16_from_float(step));
  for (int i = 0; i < BLOCK; i++) {
    double quotient = step != 0 ? (double)block[i] / (double)step : 0;
    double whole = packing == PACKING_Q8_0 ? round(quotient) : fmin(15, floor(quotient + 8.5)) - 8;
    sum += pow(whole * scale - (double)block[i], 2);
  }
  return sum;
}

// Blocks by the twin: of q8_0 as good but for x * (1 / scale) in f32, which may fall to the other side of a half; of
// q4_0 at least as good, and better as a whole.
static void compare_blocks(Packing packing, const float *values, const unsigned char *packed,
                           const uint16_t *scales) {
  double all = 0, all_of_twin = 0;
  int wrong = 0;
  for (int64_t block = 0; block < BLOCKS; block++) {
    double expected = twin(packing, values + block * BLOCK), found = 0;
    for (int64_t i = block * BLOCK; i < (block + 1) * BLOCK; i++)
      found += pow(unpack(packing, packed, scales, i) - (double)values[i], 2);
    wrong += found > expected * 1.001;
    if (expected > 0) all += found / expected, all_of_twin++;
  }
  CHECK(!wrong && all > 0.7 * all_of_twin && all < (packing == PACKING_Q8_0 ? 1.001 : 0.95) * all_of_twin,
        "%s: %d blocks worse than the reference, %g of its errors", packing_table[packing].name, wrong,
        all / all_of_twin);
}

static void test_twin(Packing packing) {
  static float values[BLOCKS * BLOCK], back[BLOCKS * BLOCK];
  static unsigned char packed[BLOCKS * BLOCK], again[BLOCKS * BLOCK];
  static uint16_t scales[BLOCKS], scales_again[BLOCKS];
  int64_t count = BLOCKS * BLOCK, wrong = 0;
  for (int64_t i = 0; i < count; i++) // some blocks zero, some small, some with one large element
    values[i] = i / BLOCK % 7 == 3 ? 0 : random_float() * (float)pow(2, (double)(i / BLOCK % 29) - 10);
  values[5 * BLOCK + 31] = -6e4f;
  CHECK(weights_pack(packing, values, count, packed, scales), "%s", packing_table[packing].name);
  compare_blocks(packing, values, packed, scales);
  for (int64_t i = 0; i < count; i++) back[i] = (float)unpack(packing, packed, scales, i);
  CHECK(weights_pack(packing, back, count, again, scales_again), "%s again", packing_table[packing].name);
  for (int64_t i = 0; i < count; i++) wrong += unpack(packing, again, scales_again, i) != (double)back[i];
  CHECK(!wrong, "%s: %lld values changed by quantising them again", packing_table[packing].name,
        (long long)wrong);
}

// What a file holds comes out as it was: bytes of the file's format against the parts.
static void test_file(Packing packing, WeightFormat format) {
  float values[3 * BLOCK], read[3 * BLOCK];
  unsigned char file[3 * 34], packed[3 * BLOCK];
  uint16_t scales[3];
  for (int i = 0; i < 3 * BLOCK; i++) values[i] = random_float();
  weights_write_f32(format, values, 3 * BLOCK, file);
  WeightTensor tensor = {
      .format = format, .rank = 1, .extents = {3 * BLOCK}, .elements = 3 * BLOCK, .data = file};
  weights_read_f32(&tensor, 0, 3 * BLOCK, read);
  CHECK(weights_pack(packing, read, 3 * BLOCK, packed, scales), "%s", format_name(format));
  int wrong = 0, stored = packing_table[packing].stored, bytes = format_block_bytes(format);
  for (int block = 0; block < 3; block++) {
    wrong += scales[block] != (file[block * bytes] | file[block * bytes + 1] << 8);
    for (int i = 0; i < stored; i++)
      wrong +=
          (packed[block * stored + i] ^ (packing == PACKING_Q8_0 ? 0x80 : 0)) != file[block * bytes + 2 + i];
  }
  CHECK(!wrong, "%s: %d bytes of the file came out otherwise", format_name(format), wrong);
}

static void test_refused(Packing packing) {
  static const float bad[] = {INFINITY, -INFINITY, NAN, 1e30f};
  unsigned char packed[2 * BLOCK];
  uint16_t scales[2];
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    float values[2 * BLOCK] = {0};
    values[BLOCK + 7] = bad[i];
    CHECK(!weights_pack(packing, values, 2 * BLOCK, packed, scales), "%s takes %g",
          packing_table[packing].name, (double)bad[i]);
  }
  float values[2 * BLOCK] = {0};
  CHECK(!weights_pack(packing, values, 2 * BLOCK - 1, packed, scales), "part of a block");
  CHECK(weights_pack(packing, values, 0, packed, scales), "nothing at all");
}

static void test_rows(void) {
  static const struct {
    int rank;
    int64_t extents[4];
    int row;
  } rows[] = {{2, {5, 64}, 1},
              {2, {64, 172}, 0},
              {1, {31}, -1},
              {3, {7, 8, 4}, 1},
              {0, {0}, -1},
              {4, {3, 2, 16, 32}, 3},
              {4, {3, 2, 16, 31}, 1},
              {2, {32, 1}, 0},
              {2, {3, 0}, -1},
              {1, {32}, 0},
              {3, {1 << 30, 1 << 30, 33}, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int row = packing_row(PACKING_Q8_0, rows[i].rank, rows[i].extents);
    CHECK(row == rows[i].row, "row %zu begins at axis %d, not %d", i, row, rows[i].row);
  }
  CHECK(packing_row(PACKING_BF16, 2, rows[2].extents) == 2, "bf16 needs no row");
}

static void test_quantising(void) {
  Packing packing = PACKING_COUNT;
  bool scales;
  CHECK(packing_from_name("q4_0", &packing) && packing == PACKING_Q4_0, "q4_0");
  CHECK(packing_from_name("f32", &packing) && packing == PACKING_NONE, "f32");
  CHECK(!packing_from_name("q4_1", &packing), "q4_1 is only in files");
  CHECK(!strcmp(packing_whole("scales:a.b", &scales), "a.b") && scales, "scales");
  CHECK(!strcmp(packing_whole("values:a.b", &scales), "a.b") && !scales, "values");
  CHECK(!packing_whole("first:a.b", &scales), "no part");
  test_rows();
  for (packing = PACKING_Q8_0; packing < PACKING_COUNT; packing++) {
    test_twin(packing);
    test_refused(packing);
  }
  test_file(PACKING_Q8_0, WEIGHT_Q8_0);
  test_file(PACKING_Q4_0, WEIGHT_Q4_0);
}

// ---- the pass -----------------------------------------------------------------------------------

static Graph *read_graph(Arena *arena, const char *text) {
  Sources *sources = ARENA_NEW(arena, Sources);
  Diagnostics diagnostics = {.sources = sources};
  sources_init(sources, arena);
  Graph *graph = graph_read(arena, &diagnostics, sources_add(sources, "graph", text, strlen(text)));
  CHECK(graph, "%s", text_string(&diagnostics.text));
  text_free(&diagnostics.text);
  if (!graph) exit(check_finish());
  return graph;
}

static const char *print_graph(Arena *arena, const Graph *graph) {
  Text text = {0};
  graph_print(graph, &text);
  const char *copy = arena_copy(arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

static void check_legal(const Graph *graph) {
  Text reason = {0};
  CHECK(graph_verify(graph, &reason), "%s", text_string(&reason));
  text_free(&reason);
}

// One weight of a contraction, and what it becomes.
static const char before[] = "graph one\n"
                             "%1 = input x data: f32[B, d=64]\n"
                             "%2 = input w param normal=0.02: f32[o=3, d=64]\n"
                             "%3 = dot %1 %2 contract=1/1: f32[B, o=3]\n"
                             "output y result %3\n";
static const struct {
  Packing packing;
  const char *after;
} goldens[] = {
    {PACKING_BF16, "graph one\n"
                   "%1 = input x data: f32[B, d=64]\n"
                   "%2 = input w param bf16 normal=0.02: f32[o=3, d=64]\n"
                   "%3 = input \"values:w\" part: bf16[o=3, d=64]\n"
                   "%4 = cast %3: f32[o=3, d=64]\n"
                   "%5 = dot %1 %4 contract=1/1: f32[B, o=3]\n"
                   "output y result %5\n"},
    {PACKING_Q8_0, "graph one\n"
                   "%1 = input x data: f32[B, d=64]\n"
                   "%2 = input w param q8_0 normal=0.02: f32[o=3, d=64]\n"
                   "%3 = input \"values:w\" part: u8[o=3, block=2, value=32]\n"
                   "%4 = input \"scales:w\" part: f16[o=3, block=2]\n"
                   "%5 = cast %4: f32[o=3, block=2]\n"
                   "%6 = const value=128: f32[]\n"
                   "%7 = arrange %6 from=_,_: f32[o=3, block=2]\n"
                   "%8 = mul %5 %7: f32[o=3, block=2]\n"
                   "%9 = arrange %5 from=0,1,_: f32[o=3, block=2, value=32]\n"
                   "%10 = cast %3: f32[o=3, block=2, value=32]\n"
                   "%11 = mul %10 %9: f32[o=3, block=2, value=32]\n"
                   "%12 = arrange %8 from=0,1,_: f32[o=3, block=2, value=32]\n"
                   "%13 = sub %11 %12: f32[o=3, block=2, value=32]\n"
                   "%14 = merge %13 axis=1 count=2: f32[o=3, d=64]\n"
                   "%15 = dot %1 %14 contract=1/1: f32[B, o=3]\n"
                   "output y result %15\n"},
};

static void test_goldens(void) {
  for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
    Arena *arena = arena_new();
    Graph *graph = read_graph(arena, before), *packed = weights(graph, graph, goldens[i].packing);
    check_legal(packed);
    const char *found = print_graph(arena, packed);
    CHECK(!strcmp(found, goldens[i].after), "%s became\n%s", packing_table[goldens[i].packing].name, found);
    CHECK(!strcmp(print_graph(arena, read_graph(arena, found)), found), "it does not read back");
    CHECK(!strcmp(print_graph(arena, dead(packed)), found), "dead dropped something");
    arena_free(arena);
  }
}

// A table that is looked up and contracted; a weight whose blocks lie along two of its axes, contracted or
// not, or by a view; one without whole blocks, one that is trained, one that nothing contracts.
static const char several[] = "graph several\n"
                              "%1 = input ids data: i32[B, T]\n"
                              "%2 = input token param normal=0.02: f32[vocab=7, width=64]\n"
                              "%3 = gather %2 %1 batch=0: f32[B, T, width=64]\n"
                              "%4 = input gain param value=1: f32[width=64]\n"
                              "%5 = arrange %4 from=_,_,0: f32[B, T, width=64]\n"
                              "%6 = mul %3 %5: f32[B, T, width=64]\n"
                              "%7 = input up param normal=0.1: f32[width=64, hidden=3]\n"
                              "%8 = dot %6 %7 contract=2/0: f32[B, T, hidden=3]\n"
                              "%9 = dot %6 %2 contract=2/1: f32[B, T, vocab=7]\n"
                              "%10 = input odd param normal=0.1: f32[hidden=3, out=5]\n"
                              "%11 = dot %8 %10 contract=2/0: f32[B, T, out=5]\n"
                              "%12 = input filter param normal=0.1: f32[o=5, c=2, k=16]\n"
                              "%13 = arrange %12 from=1,2,0: f32[c=2, k=16, o=5]\n"
                              "%14 = split %6 axis=2 count=3: f32[B, T, s=2, c=2, k=16]\n"
                              "%15 = dot %14 %13 contract=3/0,4/1: f32[B, T, s=2, o=5]\n"
                              "%16 = input learned param train value=2: f32[width=64, o=32]\n"
                              "%17 = dot %6 %16 contract=2/0: f32[B, T, o=32]\n"
                              "output logits result %9\n"
                              "output odd result %11\n"
                              "output filtered result %15\n"
                              "output learned result %17\n";

static bool is_packed(Graph *graph, const char *name) { return graph_find_input(graph, name)->packing; }

// What a packed weight's parts stand for, element by element.
static double dequantised(const Tensor *values, const Tensor *scales, Packing packing, int64_t i) {
  if (packing == PACKING_BF16) return values->data[i];
  if (packing == PACKING_Q8_0) return (values->data[i] - 128) * scales->data[i / BLOCK];
  int at = (int)(i % BLOCK), byte = (int)values->data[i / BLOCK * 16 + at % 16];
  return ((at < 16 ? byte % 16 : byte / 16) - 8) * scales->data[i / BLOCK];
}

static const Tensor *find_tensor(Graph *graph, const Tensor *tensors, const char *what, const char *name) {
  char part[80];
  snprintf(part, sizeof part, "%s%s", what, name);
  const Input *input = graph_find_input(graph, part);
  return input ? &tensors[input - graph->inputs] : NULL;
}

// The packed graph of any parts against the graph before of the weights that these stand for.
static void compare_meaning(Arena *arena, Graph *graph, Graph *packed, Packing packing) {
  Tensor *parts = random_inputs(packed, arena, 3, symbols);
  Tensor *inputs = ARENA_ARRAY(arena, Tensor, graph->input_count);
  Tensor *expected = ARENA_ARRAY(arena, Tensor, graph->output_count);
  Tensor *found = ARENA_ARRAY(arena, Tensor, graph->output_count);
  for (size_t i = 0; i < graph->input_count; i++) {
    const char *name = graph->inputs[i].name;
    inputs[i] = *find_tensor(packed, parts, "", name);
    for (int64_t k = 0; is_packed(packed, name) && k < type_elements(&inputs[i].type, symbols); k++)
      inputs[i].data[k] = dequantised(find_tensor(packed, parts, "values:", name),
                                      find_tensor(packed, parts, "scales:", name),
                                      graph_find_input(packed, name)->packing, k);
  }
  graph_evaluate(graph, arena, symbols, inputs, expected);
  graph_evaluate(packed, arena, symbols, parts, found);
  for (size_t i = 0; i < graph->output_count; i++) {
    int64_t wrong = 0, count = type_elements(&expected[i].type, symbols);
    for (int64_t k = 0; k < count; k++)
      wrong += !(fabs(expected[i].data[k] - found[i].data[k]) <= 1e-9 * (1 + fabs(expected[i].data[k])));
    CHECK(!wrong, "%s, %s: %lld elements differ", packing_table[packing].name, graph->outputs[i].name,
          (long long)wrong);
  }
}

static void test_meaning(Packing packing) {
  Arena *arena = arena_new();
  Graph *graph = read_graph(arena, several), *packed = weights(graph, graph, packing);
  check_legal(packed);
  CHECK(is_packed(packed, "token") && is_packed(packed, "up") && is_packed(packed, "filter"), "%s",
        packing_table[packing].name);
  CHECK(graph_find_input(packed, "token")->packing == (packing == PACKING_Q4_0 ? PACKING_Q8_0 : packing),
        "a table that is looked up, under %s", packing_table[packing].name);
  CHECK(graph_find_input(packed, "filter")->packing == (packing == PACKING_Q4_0 ? PACKING_Q8_0 : packing),
        "what no further weight reads, under %s", packing_table[packing].name);
  CHECK(graph_find_input(packed, "up")->packing == packing, "what only a further weight reads, under %s",
        packing_table[packing].name);
  CHECK(!is_packed(packed, "gain") && !is_packed(packed, "learned"), "%s", packing_table[packing].name);
  CHECK(is_packed(packed, "odd") == (packing == PACKING_BF16), "%s", packing_table[packing].name);
  const char *text = print_graph(arena, packed);
  CHECK(!strcmp(print_graph(arena, read_graph(arena, text)), text), "it does not read back:\n%s", text);
  Graph *clean = dead(cse(simplify(packed)));
  check_legal(clean);
  compare_meaning(arena, graph, packed, packing);
  check_graph(clean);
  Text report = {0};
  weights_report(packed, graph, &report);
  CHECK(strstr(text_string(&report), "`learned`"), "%s", text_string(&report));
  CHECK(!strstr(text_string(&report), "`odd`") == (packing == PACKING_BF16), "%s", text_string(&report));
  text_free(&report);
  arena_free(arena);
}

// Dequantised weights are never in memory: no temporary has an element for each of a packed weight's, whoever
// reads it and however often.
static void test_memory(Packing packing) {
  Arena *arena = arena_new();
  Graph *graph = read_graph(arena, several);
  Graph *clean = dead(cse(simplify(weights(graph, graph, packing))));
  Lowered lowered;
  Fusion *fusion = fuse(clean, true);
  lower(arena, clean, fusion, NULL, symbols, &lowered);
  for (int i = 0; i < lowered.program.buffer_count; i++) {
    const Buffer *buffer = &lowered.program.buffers[i];
    bool constant = true;
    for (int k = 0; k < buffer->rank; k++) constant &= extent_is_constant(buffer->extents[k]);
    CHECK(buffer->role != ROLE_TEMPORARY || !constant, "%s: %s of %zu bytes is stored",
          packing_table[packing].name, buffer->name, buffer_bytes(buffer, symbols));
  }
  CHECK(lowered.program.launch_count == 6, "%s: %d launches, not one for x and each contraction",
        packing_table[packing].name, lowered.program.launch_count);
  arena_free(arena);
}

// Weights that are joined before they are contracted stay as they are.
static void test_joined(void) {
  Arena *arena = arena_new();
  Graph *graph = read_graph(arena, "graph joined\n"
                                   "%1 = input x data: f32[B, d=64]\n"
                                   "%2 = input left param normal=0.1: f32[d=64, o=3]\n"
                                   "%3 = input right param normal=0.1: f32[d=64, o=2]\n"
                                   "%4 = concat %2 %3 axis=1: f32[d=64, o=5]\n"
                                   "%5 = dot %1 %4 contract=1/0: f32[B, o=5]\n"
                                   "output y result %5\n");
  Graph *packed = weights(graph, graph, PACKING_Q8_0);
  CHECK(!strcmp(print_graph(arena, packed), print_graph(arena, graph)), "%s", print_graph(arena, packed));
  Text report = {0};
  weights_report(packed, graph, &report);
  CHECK(strstr(text_string(&report), "`right` stays f32[d=64, o=2]: it is joined"), "%s",
        text_string(&report));
  text_free(&report);
  arena_free(arena);
}

static const struct {
  const char *text, *reason;
} illegal[] = {
    {"%1 = input \"values:w\" part: u8[block=1, value=32]\noutput y result %1\n",
     "belongs to no packed weight"},
    {"%1 = input w param q8_0 value=0: f32[d=31]\n%2 = input x data: f32[B]\noutput y result %2\n",
     "can not be packed"},
    {"%1 = input w param q8_0 value=0: f32[d=32]\noutput y result %1\n", "is of a packed weight"},
    {"%1 = input w param q8_0 value=0: f32[d=32]\n%2 = neg %1: f32[d=32]\noutput y result %2\n",
     "which is packed"},
    {"%1 = input w param q8_0 value=0: f32[d=32]\n%2 = input \"values:w\" part: u8[block=1, value=16]\n"
     "output y result %2\n",
     "has not the type"},
    {"%1 = input w param q4_1 value=0: f32[d=32]\noutput y result %1\n", "expected `normal=`"},
};

static void test_illegal(void) {
  for (size_t i = 0; i < sizeof illegal / sizeof *illegal; i++) {
    Arena *arena = arena_new();
    Sources sources;
    Diagnostics diagnostics = {.sources = &sources};
    sources_init(&sources, arena);
    const char *text = arena_print(arena, "graph g\n%s", illegal[i].text);
    Graph *graph = graph_read(arena, &diagnostics, sources_add(&sources, "graph", text, strlen(text)));
    CHECK(!graph && strstr(text_string(&diagnostics.text), illegal[i].reason), "%s%s", illegal[i].text,
          text_string(&diagnostics.text));
    text_free(&diagnostics.text);
    arena_free(arena);
  }
}

// ---- programs -----------------------------------------------------------------------------------

typedef struct Running {
  Compiler *compiler;
  Device *device;
  TensorStore *store;
  Session *session;
} Running;

// A small Llama whose weights have blocks along one axis, along two, and none.
static bool open_model(Running *running, const char *target, Packing packing, uint64_t seed) {
  static const char *const library[] = {"stdlib", "models"};
  static const char *const defines[] = {"vocab=40", "width=36",  "heads=3",
                                        "groups=1", "hidden=96", "depth=2"};
  CompileOptions options = {.model = "models/llama.vlm",
                            .defines = defines,
                            .define_count = sizeof defines / sizeof *defines,
                            .target = target,
                            .storage = DTYPE_F32,
                            .packing = packing,
                            .library = library,
                            .library_count = 2};
  Text errors = {0};
  Failure failure = {0};
  *running = (Running){.compiler = compiler_open(&options, &errors), .device = device_cpu(1, &failure)};
  const Program *program = running->compiler ? compiler_program(running->compiler, PROGRAM_FORWARD) : NULL;
  if (running->device) running->store = store_open(running->device, seed);
  if (program && running->store) running->session = session_open(program, running->store, &failure);
  if (running->session) CHECK(store_start(running->store, &failure), "%s", failure.message);
  CHECK(running->session, "%s: %s%s%s", target, text_string(&errors),
        running->compiler ? compiler_errors(running->compiler) : "", failure.message);
  text_free(&errors);
  return running->session != NULL;
}

static void close_model(Running *running) {
  session_close(running->session);
  store_close(running->store);
  if (running->device) running->device->close(running->device);
  compiler_close(running->compiler);
}

enum { ROWS = 2, LENGTH = 5, LOGITS = ROWS * LENGTH * 40 };

static void run_model(Running *running, float *logits) {
  Failure failure = {0};
  int32_t ids[ROWS * LENGTH];
  for (int i = 0; i < ROWS * LENGTH; i++) ids[i] = i * 7 % 40;
  bool good = session_resize(running->session, ROWS, LENGTH, 0, &failure) &&
              session_set(running->session, "ids", ids, sizeof ids, &failure) &&
              session_run(running->session, &failure) &&
              session_get(running->session, "result", logits, LOGITS * sizeof *logits, &failure);
  CHECK(good, "%s", failure.message);
}

// Puts into an f32 store what a packed one holds; the f32 store's values must be those that were packed.
static int take_over(TensorStore *to, const TensorStore *from) {
  int packed = 0;
  for (size_t i = 0; i < from->count; i++) {
    const StoreTensor *tensor = from->list[i];
    StoreTensor *other = store_find(to, tensor->name);
    if (!tensor->packing || !other) continue;
    int64_t count = store_elements(tensor);
    unsigned char *values = malloc(tensor->packed_values->bytes);
    uint16_t *scales = calloc((size_t)count, sizeof *scales);
    bool good = weights_pack(tensor->packing, other->memory, count, values, scales) &&
                !memcmp(values, tensor->packed_values->memory, tensor->packed_values->bytes);
    if (tensor->scales) good = good && !memcmp(scales, tensor->scales->memory, tensor->scales->bytes);
    CHECK(good && !tensor->memory, "%s holds something else", tensor->name);
    for (int64_t k = 0; k < count; k++)
      ((float *)other->memory)[k] = tensor->packing == PACKING_BF16
                                        ? bf16_to_float(((uint16_t *)tensor->packed_values->memory)[k])
                                        : (float)unpack(tensor->packing, values, scales, k);
    free(values);
    free(scales);
    packed++;
  }
  return packed;
}

static void check_logits(const char *target, Packing packing, const float *found, const float *expected) {
  double difference = 0, norm = 0;
  for (int i = 0; i < LOGITS; i++) {
    difference += pow((double)found[i] - (double)expected[i], 2);
    norm += pow((double)expected[i], 2);
  }
  CHECK(norm > 0 && sqrt(difference / norm) < 1e-5, "%s in %s: %g", target, packing_table[packing].name,
        sqrt(difference / norm));
}

// No temporary is as large as a weight that is packed.
static void check_temporaries(Running *running, ProgramKind kind, Packing packing) {
  const Program *program = compiler_program(running->compiler, kind);
  static const int64_t sizes[SYMBOL_COUNT] = {0, 1, 3, 0, 3};
  const char *stored = NULL;
  for (int i = 0; program && i < program->buffer_count; i++)
    for (int k = 0; k < program->buffer_count; k++) {
      const Buffer *weight = &program->buffers[i], *other = &program->buffers[k];
      if (weight->packing && other->role == ROLE_TEMPORARY &&
          buffer_elements(other, sizes) >= buffer_elements(weight, sizes))
        stored = other->name;
    }
  CHECK(program && !stored, "%s, %s: %s is as large as a weight", program_names[kind],
        packing_table[packing].name, stored ? stored : "there is no program, and nothing");
}

// A packed program against the plain one of the weights that it holds.
static void test_programs(const char *target, Packing packing) {
  static float expected[LOGITS], found[LOGITS];
  Running plain, packed;
  if (open_model(&plain, "ref", PACKING_NONE, 3) && open_model(&packed, target, packing, 3)) {
    int count = take_over(plain.store, packed.store);
    CHECK(count == (packing == PACKING_BF16 ? 15 : 7), "%s: %d weights", packing_table[packing].name, count);
    run_model(&plain, expected);
    run_model(&packed, found);
    check_logits(target, packing, found, expected);
    for (ProgramKind kind = PROGRAM_FORWARD; kind <= PROGRAM_DECODE; kind++)
      if (kind == PROGRAM_FORWARD || kind >= PROGRAM_PREFILL) check_temporaries(&packed, kind, packing);
    close_model(&packed);
  }
  close_model(&plain);
}

// From a checkpoint of our own; one that holds what has no packed form is refused, and so is a program that
// holds the same weights in another way.
static void test_checkpoint(Packing packing) {
  char folder[] = "/tmp/vlmc-test-XXXXXX", command[80];
  Failure failure = {0};
  Progress progress = {0};
  Running plain, packed;
  if (!mkdtemp(folder)) return;
  if (open_model(&plain, "ref", PACKING_NONE, 3) && open_model(&packed, "ref", packing, 4)) {
    CHECK(checkpoint_save(folder, plain.store, &progress, &failure), "%s", failure.message);
    CHECK(checkpoint_load(folder, "", "", packed.store, NULL, &failure), "%s", failure.message);
    take_over(plain.store, packed.store);
    CHECK(!checkpoint_save(folder, packed.store, &progress, &failure) && failure.internal, "%s",
          failure.message);
    ((float *)store_find(plain.store, "token")->memory)[99] = INFINITY;
    CHECK(checkpoint_save(folder, plain.store, &progress, &failure), "%s", failure.message);
    bool loaded = checkpoint_load(folder, "", "", packed.store, NULL, &failure);
    CHECK(loaded == (packing == PACKING_BF16), "%s", packing_table[packing].name);
    CHECK(loaded || strstr(failure.message, "`token` holds infinities"), "%s", failure.message);
    Session *other = session_open(compiler_program(plain.compiler, PROGRAM_FORWARD), packed.store, &failure);
    CHECK(!other && strstr(failure.message, "another shape or type"), "%s", failure.message);
    session_close(other);
    close_model(&packed);
  }
  close_model(&plain);
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command)) CHECK(false, "%s", command);
}

int main(void) {
  test_quantising();
  test_goldens();
  for (Packing packing = PACKING_BF16; packing < PACKING_COUNT; packing++) {
    test_meaning(packing);
    test_memory(packing);
    test_programs("ref", packing);
    test_programs("cpu", packing);
    test_checkpoint(packing);
  }
  test_joined();
  test_illegal();
  return check_finish();
}
