// Kernels: building and simplification, verifier, text form, analysis, and the interpreter against naked
// loops.
#include "compiler/emit/emit.h"
#include "compiler/kernel/kernel.h"
#include "runtime/base/philox.h"
#include "runtime/program.h"
#include "tests/check.h"
#include "tests/sample_kernels.h"

static void test_indices(Arena *arena) {
  Kernel *k = kernel_new(arena, "indices");
  int h = kernel_axis(k, "h", extent_constant(5)), d = kernel_axis(k, "d", extent_constant(12));
  int t = kernel_axis(k, "t", extent_symbol(SYMBOL_TIME));
  ExprId vh = kernel_axis_value(k, h), vd = kernel_axis_value(k, d), vt = kernel_axis_value(k, t);
  ExprId c12 = kernel_number(k, 12, DTYPE_I64), c6 = kernel_number(k, 6, DTYPE_I64);
  ExprId flat = kernel_binary(k, SCALAR_ADD, kernel_binary(k, SCALAR_MUL, vh, c12), vd);
  CHECK(kernel_binary(k, SCALAR_DIV, flat, c12) == vh, "12h+d div 12");
  CHECK(kernel_binary(k, SCALAR_MOD, flat, c12) == vd, "12h+d mod 12");
  ExprId sixth = kernel_binary(k, SCALAR_DIV, flat, c6);
  ExprId want = kernel_binary(k, SCALAR_ADD, kernel_binary(k, SCALAR_MUL, vh, kernel_number(k, 2, DTYPE_I64)),
                              kernel_binary(k, SCALAR_DIV, vd, c6));
  CHECK(sixth == want, "12h+d div 6 is 2h + d div 6");
  ExprId size = kernel_size(k, extent_symbol(SYMBOL_TIME));
  ExprId time = kernel_binary(k, SCALAR_ADD, kernel_binary(k, SCALAR_MUL, vh, size), vt);
  CHECK(kernel_binary(k, SCALAR_DIV, time, size) == vh, "T*h+t div T");
  CHECK(kernel_binary(k, SCALAR_MOD, time, size) == vt, "T*h+t mod T");
  ExprId inside = kernel_binary(k, SCALAR_LESS, vt, size);
  CHECK(k->exprs[inside].op == SCALAR_CONST && k->exprs[inside].number == 1, "t < T always");
  inside = kernel_binary(k, SCALAR_LESS, vd, c12);
  CHECK(k->exprs[inside].op == SCALAR_CONST && k->exprs[inside].number == 1, "d < 12 always");
  ExprId x = kernel_number(k, 0.5, DTYPE_F32);
  CHECK(kernel_binary(k, SCALAR_MUL, x, kernel_number(k, 1, DTYPE_F32)) == x, "x*1");
  CHECK(kernel_binary(k, SCALAR_ADD, kernel_number(k, 0, DTYPE_F32), x) == x, "0+x");
}

// Random index expressions: what the builders make of them has the value of what was asked for.
static ExprId random_index(Kernel *k, Kernel *plain, unsigned *seed, int depth, ExprId *raw) {
  *seed = *seed * 1664525u + 1013904223u;
  unsigned pick = *seed >> 20;
  if (!depth || pick % 5 == 0) {
    int axis = (int)(pick / 5 % 3);
    *raw = kernel_intern(plain, (Expr){.op = SCALAR_AXIS, .dtype = DTYPE_I64, .axis = axis});
    return kernel_axis_value(k, axis);
  }
  static const ScalarOp ops[] = {SCALAR_ADD, SCALAR_MUL, SCALAR_DIV, SCALAR_MOD, SCALAR_SUB};
  ScalarOp op = ops[pick % 5];
  ExprId raw_x, raw_y, x = random_index(k, plain, seed, depth - 1, &raw_x), y;
  if (op == SCALAR_ADD || op == SCALAR_SUB) {
    y = random_index(k, plain, seed, depth - 1, &raw_y);
  } else {
    static const double numbers[] = {1, 2, 3, 4, 6, 12};
    double number = numbers[pick / 7 % 6];
    y = kernel_number(k, number, DTYPE_I64);
    raw_y = kernel_number(plain, number, DTYPE_I64);
  }
  *raw = kernel_intern(plain, (Expr){.op = op, .dtype = DTYPE_I64, .in = {raw_x, raw_y}});
  return kernel_binary(k, op, x, y);
}

static void test_random_indices(void) {
  int64_t symbols[SYMBOL_COUNT] = {0, 1, 1, 1, 1};
  int different = 0;
  for (unsigned seed = 1; seed <= 300; seed++) {
    Arena *arena = arena_new();
    int64_t results[2][24];
    Kernel *kernels[2];
    for (int i = 0; i < 2; i++) {
      Kernel *k = kernels[i] = kernel_new(arena, "random");
      static const int lengths[] = {4, 3, 2};
      Extent extents[3];
      for (int a = 0; a < 3; a++) kernel_axis(k, "a", extents[a] = extent_constant(lengths[a]));
      kernel_buffer(k, "out", DTYPE_I64, 3, extents, BUFFER_WRITE);
    }
    unsigned state = seed * 7919;
    ExprId value[2];
    value[0] = random_index(kernels[0], kernels[1], &state, 4, &value[1]);
    for (int i = 0; i < 2; i++) {
      Kernel *k = kernels[i];
      ExprId index[3];
      for (int a = 0; a < 3; a++) index[a] = kernel_axis_value(k, a);
      kernel_store(k, 0, index, value[i], 7, STORE_SET);
      kernel_interpret(k, (void *[]){results[i]}, symbols);
    }
    different += memcmp(results[0], results[1], sizeof results[0]) != 0;
    arena_free(arena);
  }
  CHECK(!different, "%d of 300 index expressions changed their value", different);
}

static void test_philox(void) { // the known answers of the authors' own test: counter and key zero
  uint32_t word[4] = {0};
  philox_block(word, 0, 0);
  CHECK(word[0] == 0x6627e8d5 && word[1] == 0xe169c58d && word[2] == 0xbc57ac4c && word[3] == 0x9b00dbd8,
        "%08x %08x %08x %08x", word[0], word[1], word[2], word[3]);
}

static void test_plan(void) {
  Buffer buffers[40] = {0};
  Program program = {.name = "p", .buffers = buffers, .buffer_count = 40};
  int64_t symbols[SYMBOL_COUNT] = {0, 3, 5, 7, 12};
  size_t offsets[40], sum = 0;
  unsigned seed = 1;
  for (int i = 0; i < 40; i++) {
    seed = seed * 1664525u + 1013904223u;
    buffers[i] = (Buffer){.name = "t",
                          .role = ROLE_TEMPORARY,
                          .dtype = DTYPE_F32,
                          .rank = 2,
                          .extents = {extent_symbol(SYMBOL_TIME), extent_constant(seed >> 24)},
                          .first_launch = (int)(seed >> 10 & 31)};
    buffers[i].last_launch = buffers[i].first_launch + (int)(seed >> 16 & 7);
    sum += buffer_bytes(&buffers[i], symbols);
  }
  Failure failure = {0};
  size_t bytes = program_plan(&program, symbols, offsets);
  CHECK(program_check_plan(&program, symbols, offsets, &failure), "%s", failure.message);
  CHECK(bytes < sum, "the plan reuses nothing: %zu of %zu", bytes, sum);
  for (int i = 0; i < 40; i++) offsets[i] = 0;
  CHECK(!program_check_plan(&program, symbols, offsets, &failure), "overlaps are not seen");
}

static const char *const layer_norm = "kernel layernorm_1 row\n"
                                      "axes b=B t=T d=6 e=6\n"
                                      "buffer x f32[B, T, 6] read\n"
                                      "buffer y f32[B, T, 6] write\n"
                                      "%1 = load x [b, t, d] : f32\n"
                                      "%2 = load x [b, t, e] : f32\n"
                                      "%3 = sum %2 over e : f32\n"
                                      "%4 = const 6 : f32\n"
                                      "%5 = div %3 %4 : f32\n"
                                      "%6 = sub %1 %5 : f32\n"
                                      "store y [b, t, d] = %6 over b t d\n";

static void test_text(Arena *arena) {
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  uint32_t source = sources_add(&sources, "k.kernel", layer_norm, strlen(layer_norm));
  Kernel **kernels;
  size_t count;
  bool fine = kernel_read(arena, &diagnostics, source, &kernels, &count);
  CHECK(fine && count == 1, "%s", text_string(&diagnostics.text));
  if (fine) {
    Text text = {0};
    kernel_print(kernels[0], &sources, &text);
    CHECK(!strcmp(text_string(&text), layer_norm), "prints\n%s", text_string(&text));
    text_free(&text);
    float x[12] = {1, 2, 3, 4, 5, 9, 0, 0, 0, 0, 0, 6}, y[12];
    int64_t symbols[SYMBOL_COUNT] = {0, 1, 2, 0, 2};
    kernel_interpret(kernels[0], (void *[]){x, y}, symbols);
    CHECK(y[0] == -3 && y[5] == 5 && y[6] == -1 && y[11] == 5, "%g %g %g %g", y[0], y[5], y[6], y[11]);
    CHECK(kernel_flops(kernels[0], symbols) == 12 + 2 + 12, "%g", kernel_flops(kernels[0], symbols));
    CHECK(kernel_bytes(kernels[0], symbols) == 96, "%g", kernel_bytes(kernels[0], symbols));
    CHECK(kernel_stride(kernels[0], 0, kernels[0]->exprs[1].index, 2) <= 1, "stride");
  }
  text_free(&diagnostics.text);
}

// Every sample is well formed, prints and reads back as itself, and means the same when read back.
static void test_samples(void) {
  int64_t symbols[SYMBOL_COUNT] = {0, 2, 5, 4, 9};
  for (int i = 0; i < SAMPLE_COUNT; i++) {
    Arena *arena = arena_new();
    Kernel *kernel = samples[i].make(arena, 7);
    Text reason = {0}, first = {0}, second = {0};
    CHECK(kernel_verify(kernel, &reason), "%s", text_string(&reason));
    kernel_print(kernel, NULL, &first);
    Sources sources;
    sources_init(&sources, arena);
    Diagnostics diagnostics = {.sources = &sources};
    uint32_t source = sources_add(&sources, samples[i].name, text_string(&first), first.length);
    Kernel **kernels;
    size_t count;
    if (kernel_read(arena, &diagnostics, source, &kernels, &count) && count == 1) {
      kernel_print(kernels[0], &sources, &second);
      CHECK(!strcmp(text_string(&first), text_string(&second)), "%s prints\n%s then\n%s", samples[i].name,
            text_string(&first), text_string(&second));
      CHECK(kernel_same_code(kernel, kernels[0]) && kernel_hash(kernel) == kernel_hash(kernels[0]), "hash");
      SampleData a = sample_data(kernel, symbols, 1), b = sample_data(kernel, symbols, 1);
      kernel_interpret(kernel, a.buffers, symbols);
      kernel_interpret(kernels[0], b.buffers, symbols);
      CHECK(sample_error(kernel, &a, &b) == 0, "%s read back means something else", samples[i].name);
      for (int s = 0; s < kernel->store_count; s++) { // all of the results were written
        int buffer = kernel->stores[s].buffer;
        for (int64_t e = 0; e < a.elements[buffer]; e++)
          if (isnan(dtype_load(kernel->buffers[buffer].dtype, a.buffers[buffer], e))) check_failed++;
      }
      sample_data_free(&a);
      sample_data_free(&b);
    } else {
      CHECK(false, "%s", text_string(&diagnostics.text));
    }
    text_free(&reason);
    text_free(&first);
    text_free(&second);
    text_free(&diagnostics.text);
    arena_free(arena);
  }
}

// ---- model lines --------------------------------------------------------------------------------

// Files that are not there, a path with blanks and colons, no text, text with what else starts a comment or
// ends one.
static const char *const with_places = "kernel k map\n"
                                       "from models/gpt.vlm:12  x = x + y  # \"both\"\n"
                                       "from my model: v2:1.vlm:16777216\n"
                                       "from models/gpt.vlm:3  a:4  b\\\n"
                                       "axes a=3\n"
                                       "buffer y f32[3] write\n"
                                       "%1 = const 1 : f32\n"
                                       "store y [a] = %1 over a\n";

static void test_places(Arena *arena) {
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  Kernel **kernels;
  size_t count;
  uint32_t source = sources_add(&sources, "k.kernel", with_places, strlen(with_places));
  bool fine = kernel_read(arena, &diagnostics, source, &kernels, &count);
  CHECK(fine && count == 1, "%s", text_string(&diagnostics.text));
  if (!fine) return text_free(&diagnostics.text);
  Text text = {0}, lines = {0}, code = {0};
  kernel_print(kernels[0], &sources, &text);
  CHECK(!strcmp(text_string(&text), with_places), "prints\n%s", text_string(&text));
  kernel_lines(kernels[0], &sources, &lines);
  CHECK(!strcmp(text_string(&lines), "models/gpt.vlm:12, my model: v2:1.vlm:16777216, models/gpt.vlm:3"),
        "%s", text_string(&lines));
  EmitOptions options = {.threads = 1, .sources = &sources};
  Failure failure = {0};
  CHECK(emitter_c.text(kernels[0], "c", &options, &code, &failure), "%s", failure.message);
  CHECK(strstr(text_string(&code), "// k (map)\n"
                                   "//   models/gpt.vlm:12  x = x + y  # \"both\"\n"
                                   "//   my model: v2:1.vlm:16777216\n"
                                   "//   models/gpt.vlm:3  a:4  b\n"),
        "%s", text_string(&code));
  error_at(&diagnostics, kernels[0]->spans[0], "here"); // such a place can be shown as any other
  CHECK(!strcmp(text_string(&diagnostics.text), "models/gpt.vlm:12:1: error: here\n"
                                                "   12 | x = x + y  # \"both\"\n"
                                                "      | ^~~~~~~~~~~~~~~~~~~\n"),
        "%s", text_string(&diagnostics.text));
  text_free(&text);
  text_free(&lines);
  text_free(&code);
  text_free(&diagnostics.text);
}

// Paths and lines of any bytes, and more lines than are shown: what is printed reads back and prints the
// same.
static void test_odd_places(Arena *arena) {
  Sources sources;
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  Text model = {0}, once = {0}, twice = {0};
  for (int i = 0; i < 70; i++)
    text_print(&model, i % 7 == 3 ? "\n" : i % 7 == 5 ? " \t\x01\r x\ry \v\r\n" : "\tline %d\t  of it \n", i);
  for (int i = 0; i < 300; i++) text_print(&model, "\xc3\xa4");
  uint32_t first = sources_add(&sources, " a\nb   c:0  d:99999999999.vlm", text_string(&model), model.length);
  uint32_t source = sources_add(&sources, "k.kernel", with_places, strlen(with_places));
  Kernel **kernels;
  size_t count;
  CHECK(kernel_read(arena, &diagnostics, source, &kernels, &count), "%s", text_string(&diagnostics.text));
  Kernel *kernel = kernels[0];
  kernel->span_count = 0;
  for (uint32_t at = (uint32_t)model.length + 9; at;
       at--) // the long last line first; the end is beyond the text
    ARENA_PUSH(arena, kernel->spans, kernel->span_count, kernel->span_capacity, ((Span){first, at, at + 1}));
  kernel_print(kernel, &sources, &once);
  KernelPlace places[KERNEL_MAX_PLACES];
  CHECK(kernel_places(kernel, &sources, places) == KERNEL_MAX_PLACES, "the number of lines");
  CHECK(places[0].line == 71 && places[0].length == 200, "line %d, %zu bytes", places[0].line,
        places[0].length);
  source = sources_add(&sources, "printed", text_string(&once), once.length);
  bool fine = kernel_read(arena, &diagnostics, source, &kernels, &count) && count == 1;
  CHECK(fine, "%s", text_string(&diagnostics.text));
  if (fine) kernel_print(kernels[0], &sources, &twice);
  CHECK(!strcmp(text_string(&once), text_string(&twice)), "%s then\n%s", text_string(&once),
        text_string(&twice));
  text_free(&model);
  text_free(&once);
  text_free(&twice);
  text_free(&diagnostics.text);
}

// More lines than a kernel may have; a name longer than any.
static void test_too_many_places(Arena *arena) {
  for (int wrong = 0; wrong < 2; wrong++) {
    Sources sources;
    sources_init(&sources, arena);
    Diagnostics diagnostics = {.sources = &sources};
    Text text = {0};
    Kernel **kernels;
    size_t count;
    text_print(&text, "kernel k map\n");
    for (int i = 0; !wrong && i < 65; i++) text_print(&text, "from a.vlm:%d\n", i + 1);
    if (wrong) text_print(&text, "from ");
    for (int i = 0; wrong && i < 5000; i++) text_print(&text, "a");
    if (wrong) text_print(&text, ":1\n");
    uint32_t source = sources_add(&sources, "k.kernel", text_string(&text), text.length);
    CHECK(!kernel_read(arena, &diagnostics, source, &kernels, &count), "accepted");
    const char *message = wrong ? "k.kernel:2:6: error: expected the name of a file, of at most 4096 bytes"
                                : "k.kernel:66:6: error: expected at most 64 model lines";
    CHECK(!strncmp(text_string(&diagnostics.text), message, strlen(message)), "%.200s",
          text_string(&diagnostics.text));
    text_free(&text);
    text_free(&diagnostics.text);
  }
}

static const char *const bad_kernels[][2] = {
    {"kernel k map\nfrom\n", "k.kernel:2:5: error: expected FILE:LINE"},
    {"kernel k map\nfrom a.vlm\n", "k.kernel:2:6: error: expected FILE:LINE"},
    {"kernel k map\nfrom a.vlm:\n", "k.kernel:2:6: error: expected FILE:LINE"},
    {"kernel k map\nfrom a.vlm:12 x = y\n", "k.kernel:2:6: error: expected FILE:LINE"},
    {"kernel k map\nfrom a.vlm:-3\n", "k.kernel:2:6: error: expected FILE:LINE"},
    {"kernel k map\nfrom :3\n", "k.kernel:2:6: error: expected the name of a file"},
    {"kernel k map\nfrom a\tb:3\n", "k.kernel:2:6: error: expected the name of a file"},
    {"kernel k map\nfrom a.vlm:0  x\n", "k.kernel:2:12: error: expected the number of a line, from 1"},
    {"kernel k map\nfrom a.vlm:99999999999999999999  x\n", "k.kernel:2:12: error: expected a smaller number"},
    {"kernel k map\naxes a=\n", "k.kernel:2:8: error: expected a name"},
    {"kernel k blob\n", "an anchor"},
    {"kernel k map\nbuffer y f32[3] write\nstore z [0] = 1\n", "the name of a buffer"},
    {"kernel k map\naxes a=3\nbuffer y f32[3] write\n%1 = const 1 : f32\nstore y [a] = %1\n",
     "does not run over"},
    {"kernel k map\naxes a=3\nbuffer y f32[3] write\n%1 = const 1 : i32\nstore y [a] = %1 over a\n", "type"},
    {"kernel k map\naxes a=3\nbuffer y f32[3] write\n%1 = load y [a] : f32\nstore y [a] = %1 over a\n",
     "only written"},
    {"kernel k map\naxes a=3\nbuffer y f32[3] write\n%2 = const 1 : f32\n", "the next number"},
    {"kernel k map\naxes a=3\nbuffer y f32[3] write\n%1 = neg %7 : f32\n", "a line above"},
    {"kernel k map\naxes a=3\nbuffer y f32[3] write\n%1 = frob %1 : f32\n", "an operation"},
    {"kernel k map\naxes a=3 b=3\nbuffer x f32[3] read\nbuffer y f32[3] write\n%1 = load x [b] : f32\n"
     "%2 = sum %1 over b : f32\nstore y [a] = %2 over a\n",
     "does not fit what the kernel does"},
    {"kernel k row\naxes a=3\nbuffer x f32[3] read\nbuffer y f32[3] write\n%1 = load x [a] : f32\n"
     "%2 = sum %1 over a : f32\nstore y [a] = %2 over a\n",
     "a store runs over"},
    {"kernel k map\naxes a=3\nbuffer u f32[3] update\nbuffer y f32[3] write\n%1 = load u [mod((a + 1), 3)] : "
     "f32\n"
     "store u [a] = %1 over a\n",
     "elsewhere than where it is stored"},
    {"kernel k map\naxes a=3\nbuffer i i64[3] read\nbuffer y f32[3] write\n%1 = load i [a] : i64\n%2 = const "
     "1 : f32\n"
     "store y [%1] = %2 over a\n",
     "depends on data"},
};

static void test_bad_text(Arena *arena) {
  for (size_t i = 0; i < sizeof bad_kernels / sizeof *bad_kernels; i++) {
    Sources sources;
    sources_init(&sources, arena);
    Diagnostics diagnostics = {.sources = &sources};
    uint32_t source = sources_add(&sources, "k.kernel", bad_kernels[i][0], strlen(bad_kernels[i][0]));
    Kernel **kernels;
    size_t count;
    bool fine = kernel_read(arena, &diagnostics, source, &kernels, &count);
    CHECK(!fine && strstr(text_string(&diagnostics.text), bad_kernels[i][1]), "%zu: wanted '%s', got %s", i,
          bad_kernels[i][1], text_string(&diagnostics.text));
    text_free(&diagnostics.text);
  }
}

int main(void) {
  Arena *arena = arena_new();
  test_indices(arena);
  test_random_indices();
  test_philox();
  test_plan();
  test_text(arena);
  test_bad_text(arena);
  test_places(arena);
  test_odd_places(arena);
  test_too_many_places(arena);
  test_samples();
  arena_free(arena);
  return check_finish();
}
