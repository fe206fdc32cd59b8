// Attention as one kernel: which attentions become one and why others do not, the kernel's meaning against the
// graph's, and the machine code against the kernel's meaning: at odd sizes, rows with nothing to look at, grouped
// heads, NaN and infinities, for this machine and for an older one.
#include "compiler/compile.h"
#include "tests/lowered.h"
#include "tests/sample_kernels.h"

#include <unistd.h>

static const char *const library[] = {"stdlib", "models"};
static const int64_t likely[SYMBOL_COUNT] = {0, 8, 128, 0, 128}; // enough rows to pay

#define PROJECTIONS "q, k, v = split(qkv: nn.Linear(36)(x), [3, 2, 6])\n" // each [B, T, 2, 6]
#define SCORES      "score[b,h,i,j] = sum[e] q[b,i,h,e] * k[b,j,h,e] / sqrt(6)"
#define MIX         "mix[b,i,h,e] = sum[j] nn.softmax[j](score)[b,h,i,j] * v[b,j,h,e]\n return merge(mix, h, e)"

typedef struct Case {
  const char *name, *text;
  const char *why; // NULL: one kernel
  int trained;     // kernels of attention in a training step; 0: it is not trained
  int narrow;      // likewise with activations in bf16
} Case;

static const Case cases[] = {
    {"causal", "forward(x[B, T, 12]) = a: nn.Attention(3, causal = true)(x)", NULL, 0, 0},
    {"both ways", "forward(x[B, T, 40]) = a: nn.Attention(2)(x)", NULL, 0, 0},
    {"one head of a width that is no multiple", "forward(x[B, T, 33]) = a: nn.Attention(1, causal = true)(x)",
     NULL, 0, 0},
    {"grouped", "forward(x[B, T, 24]) = a: nn.GroupedAttention(6, groups = 2)(x)", NULL, 0, 0},
    {"with a normalised q and k",
     "forward(x[B, T, 24]) = a: nn.GroupedAttention(4, groups = 2, norms = true, bias = true)(x)", NULL, 0,
     0},
    {"soft cap and slope",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n"
     "capped[b,h,i,j] = 5 * tanh(score[b,h,i,j] / 5) - 0.1 * (i - j) where j <= i\n"
     "mix[b,i,h,e] = sum[j] nn.softmax[j](capped)[b,h,i,j] * v[b,j,h,e]\n return merge(mix, h, e)\n}",
     NULL, 0, 0},
    {"a window", "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES " where j <= i and i < j + 5\n" MIX "\n}",
     NULL, 0, 0},
    {"only what comes later", "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES " where i < j\n" MIX "\n}", NULL,
     0, 0},
    {"documents",
     "forward(x[B, T, 12], of: i32[B, T]) {\n" PROJECTIONS SCORES " where j <= i and of[b,i] == of[b,j]\n" MIX
     "\n}",
     NULL, 0, 0},
    {"scaled shares",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n"
     "mix[b,i,h,e] = sum[j] nn.softmax[j](score)[b,h,i,j] * 0.5 / 3 * v[b,j,h,e]\n return merge(mix, h, "
     "e)\n}",
     NULL, 0, 0},
    {"other lengths and a wider value",
     "forward(x[B, T, 5], y[B, 37, 5]) {\n q = q: nn.Linear(6)(x)\n k = k: nn.Linear(6)(y)\n v = v: "
     "nn.Linear(19)(y)\n score[b,i,j] = sum[e] q[b,i,e] * k[b,j,e]\n"
     "mix[b,i,e] = sum[j] nn.softmax[j](score)[b,i,j] * v[b,j,e]\n return mix\n}",
     NULL, 0, 0},
    {"activation and residual after it",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n"
     "mix[b,i,h,e] = sum[j] nn.softmax[j](score)[b,h,i,j] * v[b,j,h,e]\n merged = merge(mix, h, e)\n "
     "y[b,i,d] = x[b,i,d] + nn.gelu(merged)[b,i,d]\n return y\n}",
     NULL, 0, 0},
    {"trained, causal", "forward(x[B, T, 12]) = a: nn.Attention(2, causal = true)(x)", NULL, 2, 3},
    {"trained, both ways", "forward(x[B, T, 20]) = a: nn.Attention(1)(x)", NULL, 2, 3},
    {"trained in groups", "forward(x[B, T, 24]) = a: nn.GroupedAttention(6, groups = 2)(x)", NULL, 4, 4},
    {"trained with a cap",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n"
     "capped[b,h,i,j] = 5 * tanh(score[b,h,i,j] / 5) where i - 9 < j and j <= i\n"
     "mix[b,i,h,e] = sum[j] nn.softmax[j](capped)[b,h,i,j] * v[b,j,h,e]\n return merge(mix, h, e)\n}",
     NULL, 2, 3},
    {"shares without the largest taken away",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n e = exp(score * 0.01)\n share = e / sum[j](e)\n"
     "mix[b,i,h,e] = sum[j] share[b,h,i,j] * v[b,j,h,e]\n return merge(mix, h, e)\n}",
     "nothing is said", 0, 0},
    {"shares that are squared",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n"
     "mix[b,i,h,e] = sum[j] nn.softmax[j](score)[b,h,i,j]^2 * v[b,j,h,e]\n return merge(mix, h, e)\n}",
     "a weight holds a sum or maximum beside its softmax", 0, 0},
    {"scores that others read, too",
     "forward(x[B, T, 12]) {\n" PROJECTIONS SCORES "\n"
     "mix[b,i,h,e] = sum[j] nn.softmax[j](score)[b,h,i,j] * v[b,j,h,e]\n return merge(mix, h, e) + "
     "sum(score)\n}",
     "others need it, too", 0, 0},
    {"heads that are too wide", "forward(x[B, T, 300]) = a: nn.Attention(1)(x)", "values are too wide", 0, 0},
};
enum { CASES = sizeof cases / sizeof *cases };

static Compiler *open_case(const Case *of, char *path, DType storage, const Unit **unit) {
  Text text = {0}, errors = {0};
  text_print(&text, "import nn\nmodel M() {\n%s\n", of->text);
  const char *width = strstr(of->text, "x[B, T, ");
  if (of->trained)
    text_print(
        &text,
        "loss(x[B, T, %d]) = sum(forward(x)^2)\n}\nstage s { data text adamw(rate = 1e-2) batch 2 epochs 1 ",
        atoi(width + 8));
  text_print(&text, "}\n");
  strcpy(path, "/tmp/vlmc-test-XXXXXX");
  int file = mkstemp(path);
  bool written = file >= 0 && write(file, text_string(&text), text.length) == (ssize_t)text.length;
  if (file >= 0) close(file);
  CompileOptions options = {
      .model = path, .target = "ref", .storage = storage, .library = library, .library_count = 2};
  Compiler *compiler = written ? compiler_open(&options, &errors) : NULL;
  *unit =
      compiler ? compiler_unit_until(compiler, of->trained ? PROGRAM_TRAIN : PROGRAM_FORWARD, "dead") : NULL;
  CHECK(*unit, "%s: %s", of->name, compiler ? compiler_errors(compiler) : text_string(&errors));
  text_free(&text);
  text_free(&errors);
  unlink(path);
  return compiler;
}

static int attentions(const Lowered *lowered, Kernel **list) {
  int count = 0;
  for (size_t i = 0; i < lowered->kernel_count; i++)
    if (lowered->kernels[i]->anchor == ANCHOR_ATTENTION) list[count++] = lowered->kernels[i];
  return count;
}

// ---- the kernel's meaning against the graph's

// Parameters and moments after a step: gradients are sums that cancel, so that their error goes by their largest.
static void compare_step(const Case *of, const Graph *graph, const Lowered *lowered, const Memory *memory,
                         const Tensor *outputs, double rounding) {
  for (size_t i = 0; i < graph->output_count; i++) {
    const char *name = graph->outputs[i].name;
    if (strncmp(name, "first:", 6)) continue;
    int buffer = program_find(&lowered->program, name);
    double worst = 0, largest = 1;
    for (int64_t k = 0; k < type_elements(&outputs[i].type, symbols); k++) {
      double ours = dtype_load(DTYPE_F32, memory->buffers[buffer], k), meant = outputs[i].data[k];
      largest = fmax(largest, fabs(meant));
      worst = fmax(worst, ours == ours ? fabs(ours - meant) : INFINITY);
    }
    CHECK(worst <= 64 * rounding * largest, "%s: %s is wrong by %g, the largest being %g", of->name, name,
          worst, largest);
  }
}

static void check_meaning(const Case *of, Arena *arena, const Graph *graph, const Lowered *lowered,
                          double rounding) {
  Tensor *inputs = random_inputs(graph, arena, 3, symbols);
  settle_inputs(graph, inputs);
  Tensor *outputs = ARENA_ARRAY(arena, Tensor, graph->output_count + 1);
  graph_evaluate(graph, arena, symbols, inputs, outputs);
  double **moved = sensitivity(arena, graph, inputs, outputs, rounding);
  check_kernels(graph, lowered, "attention");
  Memory memory = memory_open(&lowered->program, symbols, arena);
  for (size_t i = 0; i < graph->input_count; i++) {
    int buffer = program_find(&lowered->program, graph->inputs[i].name);
    for (int64_t k = 0; k < type_elements(&inputs[i].type, symbols); k++)
      dtype_store(inputs[i].type.dtype, memory.buffers[buffer], k, inputs[i].data[k]);
  }
  execute(lowered, symbols, &memory);
  if (of->trained)
    compare_step(of, graph, lowered, &memory, outputs, rounding);
  else
    compare(graph, lowered, &memory, outputs, moved, "attention");
}

static void check_text(const Kernel *kernel) {
  Text text = {0}, again = {0};
  Arena *arena = arena_new();
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  kernel_print(kernel, NULL, &text);
  Kernel **kernels;
  size_t count = 0;
  uint32_t source = sources_add(&sources, "kernels", text_string(&text), text.length);
  bool legal = kernel_read(arena, &diagnostics, source, &kernels, &count) && count == 1;
  if (legal) kernel_print(kernels[0], NULL, &again);
  CHECK(legal && !strcmp(text_string(&text), text_string(&again)), "kernel %s: %s", kernel->name,
        text_string(&diagnostics.text));
  text_free(&text);
  text_free(&again);
  text_free(&diagnostics.text);
  arena_free(arena);
}

// ---- machine code against the kernel's meaning

static void run_code(const Code *code, void *const *buffers, const int64_t *sizes, int64_t parts) {
  int64_t tasks = work_count(&code->work, sizes);
  void *scratch = aligned_alloc(64, (size_t)(code->scratch_bytes + 63) / 64 * 64 + 64);
  memset(scratch, 0xFF, (size_t)code->scratch_bytes); // NaN
  for (int64_t part = parts; part-- > 0;)
    code->entry(buffers, sizes, tasks * part / parts, tasks * (part + 1) / parts, scratch);
  free(scratch);
}

// NaN and an infinity where all rows see them: at the first position of what is read.
static void spoil(const Kernel *kernel, SampleData *data, int how) {
  static const float special[] = {NAN, INFINITY, -INFINITY, 1e30f};
  for (int i = 0; i < kernel->buffer_count; i++)
    if (kernel->buffers[i].use == BUFFER_READ && dtype_is_float(kernel->buffers[i].dtype) &&
        data->elements[i])
      dtype_store(kernel->buffers[i].dtype, data->buffers[i], how % data->elements[i], special[how % 4]);
}

static void compare_code(const char *name, const Kernel *kernel, const Code *code, const int64_t *sizes,
                         int spoilt) {
  SampleData expected = sample_data(kernel, sizes, 1), got = sample_data(kernel, sizes, 1),
             again = sample_data(kernel, sizes, 1);
  if (spoilt) spoil(kernel, &expected, spoilt), spoil(kernel, &got, spoilt), spoil(kernel, &again, spoilt);
  kernel_interpret(kernel, expected.buffers, sizes);
  run_code(code, got.buffers, sizes, 1);
  run_code(code, again.buffers, sizes, 5);
  double error = sample_error(kernel, &expected, &got), apart = sample_error(kernel, &got, &again);
  Attention attention;
  kernel_attention(kernel, &attention);
  // gradients are of any "largest" and "sum" here
  double bound = (attention.share ? 4 : 64) * sample_tolerance(kernel);
  CHECK(error <= bound && apart == 0, "%s%s, B=%d T=%d: error %g, bound %g; in parts it differs by %g", name,
        spoilt ? ", spoilt" : "", (int)sizes[SYMBOL_BATCH], (int)sizes[SYMBOL_TIME], error, bound, apart);
  sample_data_free(&expected);
  sample_data_free(&got);
  sample_data_free(&again);
}

static void test_code(const Emitter *emitter, const char *architecture, Kernel **kernels, const char **names,
                      size_t count) {
  static const int64_t sizes[][2] = {{1, 1},  {2, 3},   {1, 16}, {1, 47}, {1, 48},
                                     {1, 70}, {1, 200}, {2, 0},  {0, 5}};
  Arena *arena = arena_new();
  Code *codes = ARENA_ARRAY(arena, Code, count + 1);
  Failure failure;
  void *handle = NULL;
  EmitOptions options = {.architecture = architecture, .threads = 2};
  bool compiled = emitter->compile(kernels, count, &options, codes, &handle, &failure);
  CHECK(compiled, "%s", compiled ? "" : failure.message);
  for (size_t i = 0; compiled && i < count; i++) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      int64_t of[SYMBOL_COUNT] = {0, sizes[s][0], sizes[s][1], 0, sizes[s][1]};
      int64_t longest = architecture ? 48 : i % 5 ? 70 : 200; // the interpreter takes its time
      if (sizes[s][1] > longest) continue;
      compare_code(names[i], kernels[i], &codes[i], of, 0);
    }
    for (int how = 1; how <= 4; how++)
      compare_code(names[i], kernels[i], &codes[i], (int64_t[SYMBOL_COUNT]){0, 1, 21, 0, 21}, how);
  }
  if (compiled) emitter->release(handle);
  arena_free(arena);
}

// ---- all

static const char *note_of(const Graph *graph, const Fusion *fusion) {
  for (NodeId id = 1; id < graph->count; id++)
    if (fusion->note[id]) return fusion->note[id];
  return "nothing is said";
}

int main(void) {
  enum { MOST = 4 * CASES };
  Arena *arena = arena_new();
  Kernel *kernels[MOST];
  const char *names[MOST];
  Compiler *compilers[MOST];
  size_t count = 0;
  for (int narrow = 0; narrow < 2; narrow++)
    for (int i = 0; i < CASES; i++) {
      char path[40];
      const Unit *unit;
      Compiler *compiler = open_case(&cases[i], path, narrow ? DTYPE_BF16 : DTYPE_F32, &unit);
      compilers[narrow * CASES + i] = compiler;
      if (!unit) continue;
      Lowered *lowered = ARENA_NEW(arena, Lowered);
      Fusion *fusion = fuse(unit->graph, true);
      fuse_attention(unit->graph, fusion, likely);
      lower(arena, unit->graph, fusion, NULL, likely, lowered);
      Kernel *found[8];
      int have = attentions(lowered, found);
      int wanted = narrow ? cases[i].narrow : cases[i].trained;
      CHECK(have == (wanted ? wanted : !cases[i].why), "%s: %d kernels of attention: %s", cases[i].name, have,
            note_of(unit->graph, fusion));
      CHECK(!cases[i].why || !strcmp(cases[i].why, note_of(unit->graph, fusion)), "%s: %s", cases[i].name,
            note_of(unit->graph, fusion));
      check_meaning(&cases[i], arena, unit->graph, lowered, narrow ? 0x1p-8 : 0x1p-23);
      for (int k = 0; k < have; k++) {
        check_text(found[k]);
        found[k]->name = arena_print(arena, "attention_%zu", count);
        names[count] = cases[i].name;
        kernels[count++] = found[k];
      }
    }
  Failure failure;
  const Emitter *emitter = emit_find("cpu", &failure);
  if (emitter) {
    test_code(emitter, NULL, kernels, names, count);
    test_code(emitter, "haswell", kernels, names, count);
  } else {
    SKIP("no LLVM: %s", failure.message);
  }
  for (int i = 0; i < 2 * CASES; i++)
    if (compilers[i]) compiler_close(compilers[i]);
  arena_free(arena);
  return check_finish();
}
