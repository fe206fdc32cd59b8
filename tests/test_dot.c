// Contractions on the CPU against the interpreter: every order of axes that models lead to, expressions
// before and after, at sizes that no tile divides, for this machine and for an older one. The bound on the
// error is that of a sum in any order: terms * epsilon * sum |x| |y|, from a second kernel that computes that
// sum.
#include "tests/check.h"
#include "tests/sample_kernels.h"

#include "compiler/emit/emit.h"
#include "runtime/base/failure.h"

#include <stdlib.h>

// ---- kernels from equations: "btk,nk->btn", a letter per axis in the order of memory
// b, t, s are run-time sizes; h = 3, i = 4, j = 5, c = 32, d = 16, e = 2; others as the case says.

typedef enum Before {
  PLAIN,
  GELU,
  SCALED,
  GUARDED,
  NARROW,
  HALF,
  GATHERED,
  NORMED,
  EIGHT_BITS,
  FOUR_BITS,
  BEFORE_COUNT
} Before;
typedef enum After { AS_IT_IS, BIAS_GELU, MASK, TWO_STORES, UPDATE, AFTER_COUNT } After;

typedef struct Case {
  const char *equation;
  int k, n, m; // lengths of the axes of these names
  Before before;
  After after;
} Case;

typedef struct Build {
  Kernel *kernel;
  int axes[128]; // by letter; -1: none
  bool absolute;
  const Case *of;
} Build;

static int axis_of(Build *build, char letter) {
  int *axis = &build->axes[(int)letter];
  const Case *of = build->of;
  char name[2] = {letter, 0};
  if (*axis >= 0) return *axis;
  Extent extent = extent_constant(letter == 'h'   ? 3
                                  : letter == 'i' ? 4
                                  : letter == 'j' ? 5
                                  : letter == 'c' ? 32
                                  : letter == 'd' ? 16
                                  : letter == 'e' ? 2
                                  : letter == 'k' ? of->k
                                  : letter == 'n' ? of->n
                                                  : of->m);
  if (letter == 'b') extent = extent_symbol(SYMBOL_BATCH);
  if (letter == 't') extent = extent_symbol(SYMBOL_TIME);
  if (letter == 's') extent = extent_symbol(SYMBOL_SEEN);
  return *axis = kernel_axis(build->kernel, name, extent);
}

static int list_axes(Build *build, const char *letters, size_t count, int *axes) {
  for (size_t i = 0; i < count; i++) axes[i] = axis_of(build, letters[i]);
  axes[count] = -1;
  return (int)count;
}

// Where the row in front comes from a table of whole numbers: the first axis, of the length of that table.
static ExprId gathered(Build *build, int buffer, const int *axes) {
  Kernel *k = build->kernel;
  ExprId index[KERNEL_MAX_RANK] = {0};
  int ids = sample_buffer(k, "ids", DTYPE_I32, BUFFER_READ, (int[]){axes[0], -1});
  for (int i = 0; axes[i] >= 0; i++) index[i] = sample_at(k, axes[i]);
  ExprId id = kernel_cast(k, sample_load(k, ids, (int[]){axes[0], -1}), DTYPE_I64);
  ExprId size = kernel_size(k, k->axes[axes[0]].extent);
  index[0] = kernel_binary(k, SCALAR_MOD, id, size);
  return kernel_load(k, buffer, index, 0);
}

// Divided by 1 + the sum of squares along the last axis: a reduction inside of the contraction.
static ExprId normed(Build *build, int buffer, const int *axes, ExprId value) {
  Kernel *k = build->kernel;
  ExprId index[KERNEL_MAX_RANK] = {0};
  int last = 0;
  for (int i = 0; axes[i] >= 0; i++) index[i] = sample_at(k, axes[i]), last = i;
  int along = kernel_axis(k, "along", k->axes[axes[last]].extent);
  index[last] = sample_at(k, along);
  ExprId other = kernel_load(k, buffer, index, 0);
  ExprId sum = kernel_reduce(k, SCALAR_SUM, sample_mul(k, other, other), 1u << along);
  return sample_div(k, value, sample_add(k, sample_f(k, 1), sum));
}

// Weights in blocks along the last axis, or the last two: v * s - 128 * s, v a byte and s of its block; or v one half
// of a byte, the low one first, and v * s - 8 * s.
static ExprId packed(Build *build, const int *axes, int count) {
  Kernel *k = build->kernel;
  bool four = build->of->before == FOUR_BITS;
  int stored[KERNEL_MAX_RANK + 1], blocks[KERNEL_MAX_RANK + 1], ends = count - (four ? 2 : 1);
  for (int i = 0; i <= ends; i++) stored[i] = blocks[i] = axes[i];
  stored[ends] = axes[count - 1];
  stored[ends + 1] = blocks[ends] = -1;
  ExprId bytes = sample_load(k, sample_buffer(k, "w", DTYPE_U8, BUFFER_READ, stored), stored), value = bytes;
  if (four) {
    ExprId sixteen = kernel_number(k, 16, DTYPE_I32);
    ExprId first = kernel_binary(k, SCALAR_EQUAL, sample_at(k, axes[ends]), sample_i(k, 0));
    value = kernel_select(k, first, kernel_binary(k, SCALAR_MOD, bytes, sixteen),
                          kernel_binary(k, SCALAR_DIV, bytes, sixteen));
  }
  ExprId scale = sample_load(k, sample_buffer(k, "q", DTYPE_F16, BUFFER_READ, blocks), blocks);
  value = sample_mul(k, kernel_cast(k, value, DTYPE_F32), scale);
  return kernel_binary(k, SCALAR_SUB, value, sample_mul(k, scale, sample_f(k, four ? 8 : 128)));
}

static ExprId operand(Build *build, bool left, const char *letters, size_t count) {
  Kernel *k = build->kernel;
  Before before = build->of->before;
  int axes[KERNEL_MAX_RANK + 1];
  list_axes(build, letters, count, axes);
  if ((before == EIGHT_BITS || before == FOUR_BITS) && !left) {
    ExprId value = packed(build, axes, (int)count);
    return build->absolute ? kernel_unary(k, SCALAR_ABS, value) : value;
  }
  DType dtype = before == NARROW ? DTYPE_BF16 : before == HALF && !left ? DTYPE_F16 : DTYPE_F32;
  int buffer = sample_buffer(k, left ? "x" : "w", dtype, BUFFER_READ, axes);
  ExprId value = sample_load(k, buffer, axes);
  if (before == NORMED && left) value = normed(build, buffer, axes, value);
  if (before == GATHERED && left) value = gathered(build, buffer, axes);
  if (before == GELU && left) value = sample_gelu(k, value);
  if (before == SCALED) {
    int last = axes[count - 1],
        scale = sample_buffer(k, left ? "p" : "q", DTYPE_F32, BUFFER_READ, (int[]){last, -1});
    value = sample_mul(k, value, sample_load(k, scale, (int[]){last, -1}));
  }
  if (before == GUARDED) { // nothing is read from the second half on of the first axis, or at 2 of the last
    ExprId index[KERNEL_MAX_RANK] = {0};
    for (size_t i = 0; i < count; i++) index[i] = sample_at(k, axes[i]);
    ExprId half = sample_div(k, kernel_size(k, k->axes[axes[0]].extent), sample_i(k, 2));
    ExprId early = kernel_binary(k, SCALAR_LESSEQ, index[0], half);
    ExprId two = kernel_binary(k, SCALAR_EQUAL, index[count - 1], sample_i(k, 2));
    ExprId guard = kernel_binary(k, SCALAR_AND, early, kernel_unary(k, SCALAR_NOT, two));
    value = kernel_load(k, buffer, index, guard);
  }
  return build->absolute ? kernel_unary(k, SCALAR_ABS, value) : value;
}

static void finish(Build *build, ExprId dot, const int *axes) {
  Kernel *k = build->kernel;
  After after = build->absolute ? AS_IT_IS : build->of->after;
  int last = axes[0];
  for (int i = 0; axes[i] >= 0; i++) last = axes[i];
  int y = sample_buffer(k, "y", DTYPE_F32, build->of->after == UPDATE ? BUFFER_UPDATE : BUFFER_WRITE, axes);
  ExprId value = dot;
  if (after == BIAS_GELU) {
    int bias = sample_buffer(k, "bias", DTYPE_F32, BUFFER_READ, (int[]){last, -1});
    int residual = sample_buffer(k, "residual", DTYPE_F32, BUFFER_READ, axes);
    value = sample_gelu(k, sample_add(k, dot, sample_load(k, bias, (int[]){last, -1})));
    value = sample_add(k, value, sample_load(k, residual, axes));
  }
  if (after == MASK) {
    ExprId inside = kernel_binary(k, SCALAR_LESSEQ, sample_at(k, last), sample_at(k, axes[0]));
    value = kernel_select(k, inside, dot, sample_f(k, -INFINITY));
  }
  if (after == UPDATE) value = sample_add(k, sample_load(k, y, axes), dot);
  sample_store(k, y, axes, value);
  if (after == TWO_STORES) {
    int z = sample_buffer(k, "z", DTYPE_BF16, BUFFER_WRITE, axes);
    sample_store(k, z, axes, sample_add(k, sample_mul(k, dot, sample_f(k, 0.5)), sample_f(k, 1)));
  }
}

static Kernel *make_kernel(Arena *arena, const Case *of, int number, bool absolute) {
  char name[32];
  snprintf(name, sizeof name, "dot_%d%s", number, absolute ? "_absolute" : "");
  Build build = {
      .kernel = kernel_new(arena, arena_copy(arena, name, strlen(name))), .absolute = absolute, .of = of};
  for (int i = 0; i < 128; i++) build.axes[i] = -1;
  build.kernel->anchor = ANCHOR_DOT;
  const char *comma = strchr(of->equation, ','), *arrow = strstr(of->equation, "->");
  int axes[KERNEL_MAX_RANK + 1];
  list_axes(&build, arrow + 2, strlen(arrow + 2), axes);
  ExprId left = operand(&build, true, of->equation, (size_t)(comma - of->equation));
  ExprId right = operand(&build, false, comma + 1, (size_t)(arrow - comma - 1));
  uint32_t contract = 0;
  for (const char *letter = of->equation; letter < comma; letter++)
    if (!strchr(arrow + 2, *letter)) contract |= 1u << axis_of(&build, *letter);
  finish(&build, kernel_dot(build.kernel, left, right, contract), axes);
  return build.kernel;
}

// ---- running and comparing

static int64_t terms(const Kernel *kernel, const int64_t *symbols) {
  int64_t count = 1;
  DotAxes axes = kernel_dot_axes(kernel);
  for (int i = 0; i < kernel->axis_count; i++)
    if (axes.contract >> i & 1) count *= extent_value(kernel->axes[i].extent, symbols);
  return count;
}

// All tasks, in `parts` calls, with a fence behind the scratch memory; false: it was touched.
static bool run_code(const Code *code, void *const *buffers, const int64_t *symbols, int64_t parts) {
  int64_t tasks = work_count(&code->work, symbols);
  size_t bytes = (size_t)(code->scratch_bytes + 63) / 64 * 64;
  unsigned char *scratch = aligned_alloc(64, bytes + 64);
  memset(scratch, 0xFF, bytes); // NaN: what was not written may be read, but never counts
  memset(scratch + bytes, SAMPLE_FENCE_BYTE, 64);
  for (int64_t part = parts; part-- > 0;)
    code->entry(buffers, symbols, tasks * part / parts, tasks * (part + 1) / parts, scratch);
  bool whole = true;
  for (int i = 0; i < 64; i++) whole = whole && scratch[bytes + (size_t)i] == SAMPLE_FENCE_BYTE;
  free(scratch);
  return whole;
}

static int find_buffer(const Kernel *kernel, const char *name) {
  for (int i = 0; i < kernel->buffer_count; i++)
    if (!strcmp(kernel->buffers[i].name, name)) return i;
  return -1;
}

static bool fences_hold(const SampleData *data) {
  for (int i = 0; i < data->count; i++) {
    const unsigned char *start = (const unsigned char *)data->buffers[i] - SAMPLE_FENCE;
    for (int f = 0; f < SAMPLE_FENCE; f++)
      if (start[f] != SAMPLE_FENCE_BYTE ||
          start[SAMPLE_FENCE + data->bytes[i] + (size_t)f] != SAMPLE_FENCE_BYTE)
        return false;
  }
  return true;
}

static bool same_bits(const SampleData *a, const SampleData *b) {
  for (int i = 0; i < a->count; i++)
    if (a->bytes[i] && memcmp(a->buffers[i], b->buffers[i], a->bytes[i])) return false;
  return true;
}

typedef struct Compare {
  const Case *of;
  Kernel *kernel, *absolute;
  const Code *code;
  const char *machine;
} Compare;

// Elements of all results: the worst error as a multiple of its bound.
static double worst_error(const Compare *compare, const SampleData *expected, const SampleData *got,
                          const float *absolute, int64_t count) {
  const Kernel *kernel = compare->kernel;
  double worst = 0;
  for (int i = 0; i < kernel->buffer_count; i++) {
    DType dtype = kernel->buffers[i].dtype;
    bool result = kernel->buffers[i].use != BUFFER_READ;
    for (int64_t e = 0; e < got->elements[i]; e++) {
      double a = dtype_load(dtype, expected->buffers[i], e), b = dtype_load(dtype, got->buffers[i], e);
      if (a == b || (a != a && b != b)) continue;
      if (!result) return INFINITY;
      // gelu's slope is at most 1.13; its own error and that of the last rounding come on top
      double bound = 1.2 * (double)(count + 64) * 0x1p-24 * absolute[e] + 2e-6 * (1 + fabs(a));
      if (dtype == DTYPE_BF16) bound += 0x1p-8 * fabs(a);
      double error = fabs(b - a) / bound;
      if (!(error <= worst)) worst = error == error ? error : INFINITY;
    }
  }
  return worst;
}

// Some values that arithmetic passes on: a NaN, an infinity.
static void spoil(const Kernel *kernel, SampleData *data) {
  int x = find_buffer(kernel, "x");
  if (data->elements[x] < 3) return;
  dtype_store(kernel->buffers[x].dtype, data->buffers[x], data->elements[x] / 2, NAN);
  dtype_store(kernel->buffers[x].dtype, data->buffers[x], data->elements[x] - 1, INFINITY);
}

static void compare_sizes(const Compare *compare, int64_t batch, int64_t time, int64_t past, bool spoiled) {
  const Kernel *kernel = compare->kernel;
  int64_t symbols[SYMBOL_COUNT] = {0, batch, time, past, time + past};
  SampleData expected = sample_data(kernel, symbols, 1), got = sample_data(kernel, symbols, 1),
             again = sample_data(kernel, symbols, 1), absolute = sample_data(compare->absolute, symbols, 1);
  if (spoiled) spoil(kernel, &expected), spoil(kernel, &got), spoil(kernel, &again);
  for (int i = 0; i < kernel->buffer_count; i++) { // the second kernel's inputs are the first one's
    int twin = find_buffer(compare->absolute, kernel->buffers[i].name);
    if (twin >= 0 && kernel->buffers[i].use == BUFFER_READ)
      memcpy(absolute.buffers[twin], expected.buffers[i], expected.bytes[i]);
  }
  kernel_interpret(kernel, expected.buffers, symbols);
  kernel_interpret(compare->absolute, absolute.buffers, symbols);
  bool whole = run_code(compare->code, got.buffers, symbols, 1);
  whole = run_code(compare->code, again.buffers, symbols, 7) && whole;
  const float *sums = absolute.buffers[find_buffer(compare->absolute, "y")];
  double error = worst_error(compare, &expected, &got, sums, terms(kernel, symbols));
  const Case *of = compare->of;
  CHECK(error <= 1 && whole && fences_hold(&got) && same_bits(&got, &again),
        "%s k=%d n=%d m=%d before %d after %d on %s, B=%d T=%d P=%d%s: error %g times its bound, fences %d "
        "%d, same "
        "in parts %d",
        of->equation, of->k, of->n, of->m, (int)of->before, (int)of->after, compare->machine, (int)batch,
        (int)time, (int)past, spoiled ? " with NaN" : "", error, whole, fences_hold(&got),
        same_bits(&got, &again));
  sample_data_free(&expected), sample_data_free(&got), sample_data_free(&again), sample_data_free(&absolute);
}

// ---- cases

static const Case cases[] = {
    // the four orders of a matrix product, and the result the other way round
    {"tk,nk->tn", 65, 61, 0, PLAIN, AS_IT_IS},
    {"tk,kn->tn", 65, 61, 0, PLAIN, BIAS_GELU},
    {"kt,nk->tn", 31, 50, 0, PLAIN, TWO_STORES},
    {"kt,kn->tn", 17, 49, 0, PLAIN, UPDATE},
    {"tk,nk->nt", 24, 33, 0, PLAIN, MASK},
    {"tk,kn->nt", 19, 47, 0, PLAIN, BIAS_GELU},
    // one of everything
    {"tk,nk->tn", 1, 64, 0, PLAIN, AS_IT_IS},
    {"tk,nk->tn", 48, 1, 0, PLAIN, BIAS_GELU},
    {"tk,kn->tn", 1, 1, 0, PLAIN, AS_IT_IS},
    {"k,nk->n", 129, 53, 0, PLAIN, BIAS_GELU},
    {"k,kn->n", 37, 97, 0, PLAIN, AS_IT_IS},
    {"tk,k->t", 45, 0, 0, PLAIN, AS_IT_IS},
    {"bk,bk->b", 33, 0, 0, PLAIN, AS_IT_IS},
    {"tk,mk->tm", 40, 0, 10, NARROW, AS_IT_IS},
    // linear layers: forward, to the input, to the weights
    {"btk,nk->btn", 40, 67, 0, PLAIN, BIAS_GELU},
    {"btn,nk->btk", 70, 23, 0, PLAIN, UPDATE},
    {"btn,btk->nk", 29, 53, 0, PLAIN, AS_IT_IS},
    {"btk,nhk->bnth", 20, 7, 0, PLAIN, BIAS_GELU},
    {"btk,nhk->btnh", 20, 23, 0, PLAIN, AS_IT_IS},
    {"btk,hnk->bhtn", 21, 18, 0, GELU, TWO_STORES},
    // attention: scores, mixes, and their gradients
    {"bthk,bshk->bhts", 24, 0, 0, PLAIN, MASK},
    {"bhts,bshk->bthk", 24, 0, 0, PLAIN, AS_IT_IS},
    {"bhts,bthk->bshk", 16, 0, 0, GUARDED, AS_IT_IS},
    {"bhts,bshk->bthk", 13, 0, 0, NARROW, TWO_STORES},
    // windows, blocks of several axes
    {"bkij,nkij->bn", 3, 37, 0, PLAIN, BIAS_GELU},
    {"bikj,nkij->bn", 3, 37, 0, GUARDED, AS_IT_IS},
    {"tij,jim->tm", 0, 0, 51, GELU, BIAS_GELU},
    {"itj,mji->mt", 0, 0, 19, SCALED, MASK},
    {"ktbm,ktn->bmn", 5, 27, 7, PLAIN, AS_IT_IS},
    // every expression before
    {"tk,nk->tn", 34, 35, 0, GELU, AS_IT_IS},
    {"tk,kn->tn", 34, 35, 0, SCALED, BIAS_GELU},
    {"tk,nk->tn", 34, 35, 0, GUARDED, AS_IT_IS},
    {"tk,nk->tn", 34, 35, 0, NARROW, BIAS_GELU},
    {"tk,nk->tn", 34, 35, 0, HALF, AS_IT_IS},
    {"tk,nk->tn", 34, 35, 0, GATHERED, AS_IT_IS},
    {"tk,nk->tn", 34, 35, 0, NORMED, AS_IT_IS},
    {"kt,kn->tn", 34, 35, 0, NORMED, AS_IT_IS},
    {"kt,kn->tn", 34, 35, 0, GELU, UPDATE},
    {"kt,nk->tn", 34, 35, 0, NARROW, AS_IT_IS},
    // packed weights: blocks as long as a register and not, one row and several, of a known number and not
    {"tkc,nkc->tn", 5, 61, 0, EIGHT_BITS, BIAS_GELU},
    {"btkc,nkc->btn", 1, 7, 0, EIGHT_BITS, AS_IT_IS},
    {"kc,nkc->n", 67, 45, 0, EIGHT_BITS, UPDATE},
    {"tki,nki->tn", 9, 18, 0, EIGHT_BITS, AS_IT_IS},
    {"ki,nhki->nh", 131, 10, 0, EIGHT_BITS, MASK},
    {"tkj,nkj->tn", 9, 18, 0, EIGHT_BITS, AS_IT_IS},
    {"tked,nked->tn", 5, 61, 0, FOUR_BITS, AS_IT_IS},
    {"btked,nked->btn", 1, 35, 0, FOUR_BITS, BIAS_GELU},
    {"ked,nked->n", 60, 37, 0, FOUR_BITS, AS_IT_IS},
    {"kei,nkei->n", 33, 13, 0, FOUR_BITS, UPDATE},
    // pairs of bf16: even and odd lengths, known and not, along one axis and several, each operand in each order
    {"tk,nk->tn", 64, 61, 0, NARROW, BIAS_GELU},
    {"tk,nk->tn", 65, 50, 0, NARROW, AS_IT_IS},
    {"tk,kn->tn", 30, 67, 0, NARROW, UPDATE},
    {"tk,kn->tn", 31, 49, 0, NARROW, AS_IT_IS},
    {"tk,tn->kn", 61, 53, 0, NARROW, AS_IT_IS},
    {"btk,btn->kn", 29, 50, 0, NARROW, AS_IT_IS},
    {"bthk,bshk->bhts", 24, 0, 0, NARROW, MASK},
    {"bhts,bthk->bshk", 16, 0, 0, NARROW, AS_IT_IS},
    {"bhtk,nhk->btn", 6, 37, 0, NARROW, AS_IT_IS},
    {"bhtk,nhk->btn", 5, 37, 0, NARROW, AS_IT_IS},
    {"tk,nk->tn", 3202, 7, 0, NARROW, BIAS_GELU},
    {"kt,kn->tn", 1031, 9, 0, NARROW, UPDATE},
    {"nk,tk->tn", 1602, 37, 0, NARROW, AS_IT_IS},
    // more than one block of the contraction, more than one strip of columns
    {"tk,nk->tn", 1601, 7, 0, PLAIN, BIAS_GELU},
    {"kt,kn->tn", 1030, 9, 0, GELU, UPDATE},
    {"k,nk->n", 3203, 19, 0, PLAIN, AS_IT_IS},
    {"nk,tk->tn", 1601, 37, 0, GELU, BIAS_GELU},
    {"tk,nk->tn", 1601, 13, 0, SCALED, AS_IT_IS},
    {"k,nk->n", 777, 19, 0, SCALED, UPDATE},
    {"kt,kn->tn", 515, 560, 0, PLAIN, AS_IT_IS},
    {"k,nk->n", 1601, 790, 0, PLAIN, AS_IT_IS},
    {"k,kn->n", 37, 1003, 0, PLAIN, BIAS_GELU},
    {"tk,kn->tn", 37, 1003, 0, PLAIN, AS_IT_IS},
};
enum { CASES = sizeof cases / sizeof *cases };

// Every `stride`-th case. (Without the F16C instructions LLVM converts f16 by calls that not every system
// has.)
static void test_cases(const Emitter *emitter, const char *architecture, int stride, const char *only) {
  static const int64_t sizes[][3] = {{1, 1, 0},   {2, 3, 2}, {1, 8, 5}, {3, 13, 0},
                                     {2, 37, 11}, {0, 5, 0}, {5, 0, 0}};
  Arena *arena = arena_new();
  Kernel *kernels[CASES], *absolute[CASES];
  const Case *chosen[CASES];
  Code codes[CASES] = {{0}};
  Failure failure;
  void *handle = NULL;
  size_t count = 0;
  for (int i = 0; i < CASES; i += stride) {
    if ((only && !strstr(cases[i].equation, only)) || (stride > 1 && cases[i].before == HALF)) continue;
    kernels[count] = make_kernel(arena, &cases[i], i, false);
    absolute[count] = make_kernel(arena, &cases[i], i, true);
    chosen[count++] = &cases[i];
  }
  EmitOptions options = {.architecture = architecture, .threads = 2};
  bool compiled = emitter->compile(kernels, count, &options, codes, &handle, &failure);
  CHECK(compiled, "%s", compiled ? "" : failure.message);
  for (size_t i = 0; compiled && i < count; i++) {
    bool large = chosen[i]->k > 500;
    Compare compare = {chosen[i], kernels[i], absolute[i], &codes[i],
                       architecture ? architecture : "this machine"};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      if (large && (s == 3 || s == 4)) continue; // the interpreter takes its time
      compare_sizes(&compare, sizes[s][0], sizes[s][1], sizes[s][2], false);
    }
    if (chosen[i]->before != GATHERED) compare_sizes(&compare, 2, 11, 1, true);
  }
  if (compiled) emitter->release(handle);
  arena_free(arena);
}

// ---- large enough for every block: against three loops

static void reference(const SampleData *data, const char *equation, int64_t t_count, int n_count, int k_count,
                      double *sums, double *absolute) {
  const float *x = data->buffers[0], *w = data->buffers[1];
  bool across = equation[0] == 'k', right_across = equation[3] == 'k';
  for (int64_t t = 0; t < t_count; t++)
    for (int k = 0; k < k_count; k++) {
      double left = across ? x[k * t_count + t] : x[t * k_count + k];
      for (int n = 0; n < n_count; n++) {
        double product = left * (right_across ? w[k * n_count + n] : w[n * k_count + k]);
        sums[t * n_count + n] += product;
        absolute[t * n_count + n] += fabs(product);
      }
    }
}

static void test_large(const Emitter *emitter) {
  static const Case large[] = {{"tk,nk->tn", 1540, 100, 0, PLAIN, AS_IT_IS},
                               {"kt,kn->tn", 520, 490, 0, PLAIN, AS_IT_IS}};
  static const int64_t rows[] = {1900, 1000};
  for (int i = 0; i < 2; i++) {
    Arena *arena = arena_new();
    const Case *of = &large[i];
    Kernel *kernel = make_kernel(arena, of, i, false);
    int64_t symbols[SYMBOL_COUNT] = {0, 1, rows[i], 0, rows[i]};
    Code code = {0};
    Failure failure;
    void *handle = NULL;
    EmitOptions options = {.threads = 1};
    bool compiled = emitter->compile(&kernel, 1, &options, &code, &handle, &failure);
    CHECK(compiled, "%s", compiled ? "" : failure.message);
    if (compiled) {
      int y = find_buffer(kernel, "y"), x = find_buffer(kernel, "x"), w = find_buffer(kernel, "w");
      SampleData data = sample_data(kernel, symbols, 7);
      SampleData ordered = {.buffers = {data.buffers[x], data.buffers[w]}};
      double *sums = calloc((size_t)data.elements[y], sizeof *sums), worst = 0;
      double *absolute = calloc((size_t)data.elements[y], sizeof *absolute);
      reference(&ordered, of->equation, rows[i], of->n, of->k, sums, absolute);
      CHECK(run_code(&code, data.buffers, symbols, 1), "%s: scratch memory overrun", of->equation);
      for (int64_t e = 0; e < data.elements[y]; e++) {
        double error = fabs(((float *)data.buffers[y])[e] - sums[e]) / ((of->k + 2) * 0x1p-24 * absolute[e]);
        if (!(error <= worst)) worst = error;
      }
      CHECK(worst <= 1, "%s with %d rows: error %g times its bound", of->equation, (int)rows[i], worst);
      CHECK(fences_hold(&data), "%s: fences", of->equation);
      free(sums), free(absolute), sample_data_free(&data);
      emitter->release(handle);
    }
    arena_free(arena);
  }
}

int main(int argc, char **argv) {
  Failure failure;
  const Emitter *emitter = emit_find("cpu", &failure);
  if (!emitter) {
    SKIP("%s", failure.message);
    return check_finish();
  }
  const char *only = argc > 1 ? argv[1] : NULL;
  test_cases(emitter, NULL, 1, only);
  test_cases(emitter, "haswell", 1, only);
  test_cases(emitter, "x86-64", 3, only);
  if (!only) test_large(emitter);
  return check_finish();
}
