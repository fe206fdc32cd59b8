// What fusion makes of the shapes that models are made of: counts of kernels by anchor, bytes at the peak,
// and for each graph its values, fused and not. Where a count is not met, the reasons are printed.
#include "compiler/compile.h"
#include "tests/lowered.h"

#include <unistd.h>

typedef struct Counts {
  int map, row, column, dot, scatter;
} Counts;

static const char *const library[] = {"stdlib", "models"};

static bool write_model(const char *text, char *path) {
  strcpy(path, "/tmp/vlmc-test-XXXXXX");
  int file = mkstemp(path);
  bool written = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);
  if (file >= 0) close(file);
  return written;
}

static Counts count_kernels(const Program *program) {
  Counts counts = {0};
  int *const of[ANCHOR_COUNT] = {&counts.map, &counts.row, &counts.column, &counts.dot, &counts.scatter};
  for (int i = 0; i < program->launch_count; i++)
    for (int anchor = 0; anchor < ANCHOR_COUNT; anchor++)
      if (!strcmp(program->launches[i].anchor, anchor_names[anchor])) ++*of[anchor];
  return counts;
}

static void explain(const Unit *unit) {
  Text text = {0};
  fusion_print(unit->graph, unit->fusion, &text);
  fusion_explain(unit->graph, unit->fusion, compiler_sources(unit->compiler), unit->symbols, &text);
  printf("%s\n", text_string(&text));
  text_free(&text);
}

// NULL: could not be compiled, which is a failure of its own.
static const Unit *compile(const char *name, const CompileOptions *options, ProgramKind kind,
                           Compiler **compiler) {
  Text errors = {0};
  *compiler = compiler_open(options, &errors);
  CHECK(*compiler, "%s: %s", name, text_string(&errors));
  text_free(&errors);
  const Unit *unit = *compiler ? compiler_unit_until(*compiler, kind, "lower") : NULL;
  CHECK(unit || !*compiler, "%s: %s", name, *compiler ? compiler_errors(*compiler) : "");
  return unit;
}

static void check_counts(const char *name, const Unit *unit, Counts most) {
  Counts have = count_kernels(&unit->lowered.program);
  bool fine = have.map <= most.map && have.row <= most.row && have.column <= most.column &&
              have.dot <= most.dot && have.scatter <= most.scatter;
  CHECK(fine, "%s: %d map, %d row, %d column, %d dot, %d scatter kernels", name, have.map, have.row,
        have.column, have.dot, have.scatter);
  if (!fine) explain(unit);
}

// The plan of the arena is no worse than an eighth above what is alive at once.
static void check_arena(const char *name, const Unit *unit) {
  const Program *program = &unit->lowered.program;
  Arena *arena = arena_new();
  size_t peak = 0,
         planned = program_plan(program, unit->symbols, ARENA_ARRAY(arena, size_t, program->buffer_count));
  for (int launch = 0; launch < program->launch_count; launch++) {
    size_t alive = 0;
    for (int i = 0; i < program->buffer_count; i++) {
      const Buffer *buffer = &program->buffers[i];
      if (buffer->role == ROLE_TEMPORARY && buffer->first_launch <= launch && launch <= buffer->last_launch)
        alive += (buffer_bytes(buffer, unit->symbols) + 63) / 64 * 64;
    }
    if (alive > peak) peak = alive;
  }
  CHECK(planned <= peak + peak / 8, "%s: the arena takes %zu bytes for %zu", name, planned, peak);
  arena_free(arena);
}

// ---- parts of models

static const struct {
  const char *name, *text;
  ProgramKind kind;
  Counts most;
} parts[] = {
    {"softmax", "forward(x[B, T, 8]) = nn.softmax(x)", PROGRAM_FORWARD, {0, 1, 0, 0, 0}},
    {"softmax of a slow axis", // columns of maxima; exponentials, stored turned; rows of sums; shares
     "forward(x[B, T, 8]) = nn.softmax[T](x)",
     PROGRAM_FORWARD,
     {2, 1, 1, 0, 0}},
    {"log softmax", "forward(x[B, T, 8]) = nn.log_softmax(x)", PROGRAM_FORWARD, {0, 1, 0, 0, 0}},
    {"norm", "forward(x[B, T, 8]) = n: nn.LayerNorm()(x)", PROGRAM_FORWARD, {0, 1, 0, 0, 0}},
    {"root mean square norm", "forward(x[B, T, 8]) = n: nn.RMSNorm()(x)", PROGRAM_FORWARD, {0, 1, 0, 0, 0}},
    {"residual and norm", // the sum is stored by the norm's kernel
     "forward(x[B, T, 8], y[B, T, 8]) { z = x + y\n return z * sum(n: nn.LayerNorm()(z)) }",
     PROGRAM_FORWARD,
     {1, 2, 0, 0, 0}},
    {"linear", "forward(x[B, T, 8]) = f: nn.Linear(6)(x)", PROGRAM_FORWARD, {0, 0, 0, 1, 0}},
    {"linear, activation, residual",
     "forward(x[B, T, 8]) = x + nn.gelu(f: nn.Linear(8)(x))",
     PROGRAM_FORWARD,
     {0, 0, 0, 1, 0}},
    {"linear, scale, mask", // all in the product's kernel
     "forward(x[B, T, 8]) { y = f: nn.Linear(8)(x)\n z[b,t,i] = y[b,t,i] * 0.25 where i <= t\n return z }",
     PROGRAM_FORWARD,
     {0, 0, 0, 1, 0}},
    {"perceptron", "forward(x[B, T, 8]) = m: nn.MLP(6, hidden = 12)(x)", PROGRAM_FORWARD, {0, 0, 0, 2, 0}},
    {"gated perceptron",
     "forward(x[B, T, 8]) = m: nn.GatedMLP(6, hidden = 12)(x)",
     PROGRAM_FORWARD,
     {0, 0, 0, 3, 0}},
    {"attention", // q k v; scores; shares; mix; out
     "forward(x[B, T, 12]) = a: nn.Attention(3, causal = true)(x)",
     PROGRAM_FORWARD,
     {0, 1, 0, 4, 0}},
    {"grouped attention with rotary positions", // tables of sines and cosines, and q and k turned
     "forward(x[B, T, 24]) = a: nn.GroupedAttention(6, groups = 2)(x)",
     PROGRAM_FORWARD,
     {4, 1, 0, 6, 0}},
    {"block",
     "forward(x[B, T, 12]) = b: nn.Block(3, 24, causal = true)(x)",
     PROGRAM_FORWARD,
     {0, 3, 0, 6, 0}},
    {"cross entropy", // statistics and losses of the rows; their sum
     "forward(x[B, T, 8], ids: i32[B, T], w[B, T]) = nn.cross_entropy(x, ids, w)",
     PROGRAM_FORWARD,
     {0, 2, 0, 0, 0}},
    {"dropout", "forward(x[B, T, 8]) = nn.dropout(f: nn.Linear(8)(x))", PROGRAM_FORWARD, {0, 0, 0, 1, 0}},
    {"patches", // a convolution is a product over views
     "param w[5, 3, 4, 4] ~ normal(1)\n forward(p[B, 3, 8, 8]) { y[b, y*2 + x, o] = sum[c,i,j] p[b, c, y*4 + "
     "i, "
     "x*4 + j] * w[o, c, i, j]\n return y }",
     PROGRAM_FORWARD,
     {0, 0, 0, 1, 0}},
};

static void test_parts(void) {
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    char path[40], text[800];
    snprintf(text, sizeof text, "import nn\nmodel M() {\n %s\n}\n", parts[i].text);
    if (!write_model(text, path)) die("no temporary file");
    CompileOptions options = {
        .model = path, .target = "ref", .storage = DTYPE_F32, .library = library, .library_count = 2};
    Compiler *compiler;
    const Unit *unit = compile(parts[i].name, &options, parts[i].kind, &compiler);
    if (unit) {
      check_counts(parts[i].name, unit, parts[i].most);
      check_graph(unit->graph);
    }
    compiler_close(compiler);
    unlink(path);
  }
}

// ---- whole models, with all extents made small. Counts for L blocks, E of them encoders:
//   forward   9 a block, and the embedding where it is no row's
//   training  21 more a block: back through the products (two each), columns for the biases and norms'
//             weights, rows for the norms and shares, one map that puts the gradients of q, k and v side by side; for
//             each parameter the sum of its squares (two for a matrix) and its step

#define SMALL_TEXT "vocab=7", "context=9", "width=8", "depth=2", "heads=2"
#define SMALL_BOTH                                                                                           \
  "lm.vocab=7", "lm.context=9", "lm.width=8", "lm.depth=2", "lm.heads=2", "vision.image=8",                  \
      "vision.patch=4", "vision.width=8", "vision.depth=1", "vision.heads=2"

static const struct {
  const char *path;
  ProgramKind kind;
  const char *stage, *defines[12];
  Counts most;
} models[] = {
    {"models/gpt.vlm", PROGRAM_FORWARD, NULL, {SMALL_TEXT}, {0, 7, 0, 13, 0}},
    {"models/gpt.vlm", PROGRAM_LOSS, NULL, {SMALL_TEXT}, {0, 9, 0, 13, 0}},
    {"models/gpt.vlm", PROGRAM_TRAIN, NULL, {SMALL_TEXT}, {32, 49, 14, 39, 1}},
    {"models/gpt.vlm", PROGRAM_PREFILL, NULL, {SMALL_TEXT}, {2, 7, 0, 13, 0}},
    {"models/gpt.vlm", PROGRAM_DECODE, NULL, {SMALL_TEXT}, {2, 7, 0, 13, 0}},
    {"models/vit.vlm",
     PROGRAM_FORWARD,
     NULL,
     {"image=8", "patch=4", "width=8", "depth=2", "heads=2"},
     {1, 6, 0, 13, 0}},
    {"models/clip.vlm",
     PROGRAM_TRAIN,
     NULL,
     {"text.vocab=7", "text.context=9", "text.width=8", "text.depth=1", "text.heads=2", "vision.image=8",
      "vision.patch=4", "vision.width=8", "vision.depth=1", "vision.heads=2", "CLIP.shared=6"},
     {38, 66, 20, 48, 1}},
    {"models/vlm.vlm", PROGRAM_FORWARD, NULL, {SMALL_BOTH}, {0, 12, 0, 21, 0}},
    {"models/vlm.vlm", PROGRAM_TRAIN, "pretrain", {SMALL_BOTH}, {16, 34, 7, 43, 1}},
    {"models/vlm.vlm", PROGRAM_TRAIN, "sft", {SMALL_BOTH}, {32, 52, 15, 48, 2}},
    {"models/vlm.vlm", PROGRAM_PREFILL, NULL, {SMALL_BOTH}, {3, 12, 0, 21, 0}},
    {"models/vlm.vlm", PROGRAM_DECODE, NULL, {SMALL_BOTH}, {3, 9, 0, 13, 0}},
};

// The same number of kernels with activations in bf16, whose values are as close as they can be then.
// An activation is stored once, and narrow, also where a gradient towards a parameter reads it in f32.
static void check_narrow(const Program *program) {
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    bool activation = buffer->role == ROLE_TEMPORARY && buffer->rank >= 3 &&
                      !extent_is_constant(buffer->extents[0]) && buffer->dtype == DTYPE_F32;
    CHECK(!activation, "narrow: %s is stored in f32", buffer->name);
  }
}

// With bf16 the same kernels, and one for each matrix that is copied narrow: four a block and the table.
static void test_narrow(void) {
  static const char *const defines[] = {SMALL_TEXT};
  for (int training = 0; training < 2; training++) {
    Counts counts[2];
    for (int narrow = 0; narrow < 2; narrow++) {
      CompileOptions options = {.model = "models/gpt.vlm",
                                .target = "ref",
                                .storage = narrow ? DTYPE_BF16 : DTYPE_F32,
                                .defines = defines,
                                .define_count = sizeof defines / sizeof *defines,
                                .library = library,
                                .library_count = 2};
      Compiler *compiler;
      const Unit *unit = compile("narrow", &options, training ? PROGRAM_TRAIN : PROGRAM_FORWARD, &compiler);
      if (unit) counts[narrow] = count_kernels(&unit->lowered.program);
      if (unit && narrow && !training) check_rounded(unit->graph, 1, 0x1p-8);
      if (unit && narrow) counts[0].map += 9;
      if (unit && narrow) check_narrow(&unit->lowered.program);
      if (unit && narrow)
        CHECK(!memcmp(&counts[0], &counts[1], sizeof counts[0]),
              "narrow: %d map, %d row, %d column, %d dot instead of %d, %d, %d, %d", counts[1].map,
              counts[1].row, counts[1].column, counts[1].dot, counts[0].map, counts[0].row, counts[0].column,
              counts[0].dot);
      compiler_close(compiler);
    }
  }
}

static void test_models(void) {
  for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
    CompileOptions options = {.model = models[i].path,
                              .target = "ref",
                              .storage = DTYPE_F32,
                              .stage = models[i].stage,
                              .defines = models[i].defines,
                              .library = library,
                              .library_count = 2};
    while (options.define_count < 12 && models[i].defines[options.define_count]) options.define_count++;
    Compiler *compiler;
    char name[80];
    snprintf(name, sizeof name, "%s, %s %s", models[i].path, program_names[models[i].kind],
             models[i].stage ? models[i].stage : "");
    const Unit *unit = compile(name, &options, models[i].kind, &compiler);
    if (unit) {
      check_counts(name, unit, models[i].most);
      check_arena(name, unit);
      check_graph(unit->graph);
    }
    compiler_close(compiler);
  }
}

int main(void) {
  test_parts();
  test_models();
  test_narrow();
  return check_finish();
}
