// C and CUDA text for expressions, loops and accesses. Input: expressions of a kernel, asked for by the files
// that know how the loops of an anchor look; output: lines of text in `body`. See csource.h.
#include "compiler/emit/csource.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { IN_PLACE = 90 }; // longest text of a value that is used once and stands where it is used

// ---- names --------------------------------------------------------------------------------------

// Words of both languages, what the columns of ops.def call, and the run-time sizes. Other functions may be
// hidden by a parameter of their name.
static const char *const reserved[] = {
    "auto",     "bool",    "break",     "case",     "char",   "class",   "const",  "continue",
    "default",  "delete",  "do",        "double",   "else",   "enum",    "extern", "float",
    "for",      "goto",    "if",        "inline",   "int",    "long",    "new",    "operator",
    "private",  "public",  "register",  "restrict", "return", "short",   "signed", "sizeof",
    "static",   "struct",  "switch",    "template", "this",   "typedef", "union",  "unsigned",
    "using",    "void",    "volatile",  "while",    "asm",    "true",    "false",  "namespace",
    "or",       "and",     "not",       "xor",      "fabsf",  "expf",    "logf",   "sqrtf",
    "rsqrtf",   "sinf",    "cosf",      "tanhf",    "erff",   "floorf",  "powf",   "blockIdx",
    "blockDim", "gridDim", "threadIdx", "INFINITY", "NAN",    "B",       "T",      "P",
    "S",
};

// Words of the loops that cuda*.c write around expressions.
static const char *const of_loops[] = {
    "slot",        "row",       "column",       "slice",     "slices",       "tile",   "tiles",
    "part",        "stage",     "down",         "across",    "thread",       "step",   "hits",
    "steps",       "first",     "hit",          "scan",      "place",        "ballot", "warp",
    "walker",      "left",      "right",        "sums",      "safe_row",     "at",     "lane",
    "block_slots", "first_row", "first_column", "row_tiles", "column_tiles",
};

static bool taken(const CSource *c, const char *name) {
  for (size_t i = 0; c->cuda && i < sizeof of_loops / sizeof *of_loops; i++)
    if (!strcmp(of_loops[i], name)) return true;
  if (c->cuda && (!strncmp(name, "left_", 5) || !strncmp(name, "right_", 6))) return true;
  for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
    if (!strcmp(reserved[i], name)) return true;
  for (size_t i = 0; i < c->name_count; i++)
    if (!strcmp(c->names[i], name)) return true;
  return false;
}

static const char *identifier(CSource *c, const char *base) {
  char *copy = arena_print(c->arena, "%s%s", isdigit((unsigned char)*base) ? "_" : "", base);
  for (char *at = copy; *at; at++)
    if (!isalnum((unsigned char)*at)) *at = '_';
  for (size_t end = strlen(copy); end > 1 && copy[end - 1] == '_'; end--) copy[end - 1] = 0; // "T'" is T
  return copy;
}

static const char *fresh(CSource *c, const char *base, int number) {
  const char *clean = identifier(c, base);
  const char *name = number ? arena_print(c->arena, "%s_%d", clean, number) : clean;
  while (taken(c, name)) name = arena_print(c->arena, "%s_%d", clean, ++number);
  ARENA_PUSH(c->arena, c->names, c->name_count, c->name_capacity, name);
  return name;
}

const char *csource_name(CSource *c, const char *base) { return fresh(c, base, 0); }
const char *csource_variable(CSource *c, const char *base) { return fresh(c, base, 1); }

// In small letters: large ones are run-time sizes.
const char *csource_axis(CSource *c, int axis) {
  if (c->axis_name[axis]) return c->axis_name[axis];
  char *copy = arena_copy(c->arena, c->kernel->axes[axis].name, strlen(c->kernel->axes[axis].name));
  for (char *at = copy; *at; at++) *at = (char)tolower((unsigned char)*at);
  return c->axis_name[axis] = csource_name(c, copy);
}

// ---- begin and end ------------------------------------------------------------------------------

static void count_uses(CSource *c) {
  const Kernel *kernel = c->kernel;
  for (ExprId id = 1; id < kernel->expr_count; id++) {
    if (!c->reached[id]) continue;
    for (int i = 0; i < 3; i++) c->uses[kernel->exprs[id].in[i]]++;
    for (int i = 0; i < KERNEL_MAX_RANK; i++) c->uses[kernel->exprs[id].index[i]]++;
  }
  for (int i = 0; i < kernel->store_count; i++) {
    c->uses[kernel->stores[i].value]++;
    for (int k = 0; k < KERNEL_MAX_RANK; k++) c->uses[kernel->stores[i].index[k]]++;
  }
}

void csource_begin(CSource *c, Arena *arena, Kernel *original, bool cuda) {
  Kernel *kernel = kernel_share(arena, original);
  *c = (CSource){.arena = arena, .kernel = kernel, .cuda = cuda, .indent = 1};
  c->reached = ARENA_ARRAY(arena, bool, kernel->expr_count);
  c->uses = ARENA_ARRAY(arena, uint32_t, kernel->expr_count);
  c->value = ARENA_ARRAY(arena, const char *, kernel->expr_count);
  c->visited = ARENA_ARRAY(arena, uint32_t, kernel->expr_count);
  kernel_reachable(kernel, c->reached);
  count_uses(c);
  c->function = csource_name(c, arena_print(arena, "kernel_%s", kernel->name));
  for (int i = 0; i < kernel->buffer_count; i++) c->buffer_name[i] = csource_name(c, kernel->buffers[i].name);
}

void csource_end(CSource *c) { text_free(&c->body); }

// ---- lines and scopes ---------------------------------------------------------------------------

static void write_line(CSource *c, const char *format, va_list arguments, const char *end) {
  char line[4000];
  int length = vsnprintf(line, sizeof line, format, arguments);
  if (length < 0 || (size_t)length >= sizeof line) die("a line of kernel %s is too long", c->kernel->name);
  text_print(&c->body, "%*s%s%s\n", 2 * c->indent, "", line, end);
}

void csource_line(CSource *c, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_line(c, format, arguments, "");
  va_end(arguments);
}

void csource_open(CSource *c, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  write_line(c, format, arguments, *format ? " {" : "{");
  va_end(arguments);
  ARENA_PUSH(c->arena, c->scopes, c->scope_count, c->scope_capacity, c->defined_count);
  c->indent++;
}

void csource_close(CSource *c) {
  size_t before = c->scopes[--c->scope_count];
  while (c->defined_count > before) c->value[c->defined[--c->defined_count]] = NULL;
  c->indent--;
  csource_line(c, "}");
}

void csource_set(CSource *c, ExprId id, const char *text) {
  c->value[id] = text;
  ARENA_PUSH(c->arena, c->defined, c->defined_count, c->defined_capacity, id);
}

// ---- types and constants ------------------------------------------------------------------------

const char *csource_type(const CSource *c, DType dtype) {
  switch (dtype) {
  case DTYPE_BOOL: return c->cuda ? "bool" : "int";
  case DTYPE_I32: return "int";
  case DTYPE_I64: return "long long";
  default: return "float";
  }
}

const char *csource_extent(CSource *c, Extent extent) {
  Text text = {0};
  if (!extent.symbol) text_print(&text, "%" PRId64, extent.offset);
  if (extent.symbol && extent.offset) text_print(&text, "(");
  if (extent.symbol && extent.scale != 1) text_print(&text, "%" PRId64 " * ", extent.scale);
  if (extent.symbol) text_print(&text, "%s", symbol_names[extent.symbol]);
  if (extent.symbol && extent.offset)
    text_print(&text, " %c %" PRId64 ")", extent.offset < 0 ? '-' : '+',
               extent.offset < 0 ? -extent.offset : extent.offset);
  const char *copy = arena_copy(c->arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

const char *csource_product(CSource *c, uint32_t axes) {
  const char *product = NULL;
  int64_t constant = 1;
  for (int i = 0; i < c->kernel->axis_count; i++) {
    if (!(axes >> i & 1)) continue;
    Extent extent = c->kernel->axes[i].extent;
    if (extent_is_constant(extent)) {
      constant *= extent.offset;
    } else {
      const char *text = csource_extent(c, extent);
      product = product ? arena_print(c->arena, "%s * %s", product, text) : text;
    }
  }
  if (!product) return arena_print(c->arena, "%" PRId64, constant);
  return constant == 1 ? product : arena_print(c->arena, "%s * %" PRId64, product, constant);
}

static const char *literal(CSource *c, const Expr *expr) {
  double number = expr->number;
  if (expr->dtype == DTYPE_BOOL) return number != 0 ? "1" : "0";
  if (expr->dtype != DTYPE_F32) return arena_print(c->arena, number < 0 ? "(%.0f)" : "%.0f", number);
  if (number != number) return "NAN";
  if (isinf(number)) return number < 0 ? "(-INFINITY)" : "INFINITY";
  char digits[32];
  for (int precision = 1; precision <= 9; precision++) {
    snprintf(digits, sizeof digits, "%.*g", precision, number);
    float back;
    if (sscanf(digits, "%f", &back) == 1 && back == (float)number) break;
  }
  bool plain = !strpbrk(digits, ".e");
  return arena_print(c->arena, *digits == '-' ? "(%s%sf)" : "%s%sf", digits, plain ? ".0" : "");
}

// Without parentheses around the whole: "(a + b)" is "a + b".
static const char *bare(CSource *c, const char *text) {
  size_t length = strlen(text);
  if (length < 2 || *text != '(' || text[length - 1] != ')') return text;
  int depth = 0;
  for (size_t i = 0; i + 1 < length; i++) {
    depth += (text[i] == '(') - (text[i] == ')');
    if (!depth) return text;
  }
  return arena_copy(c->arena, text + 1, length - 2);
}

// ---- accesses -----------------------------------------------------------------------------------

const char *csource_offset(CSource *c, int buffer, const ExprId *index) {
  const KernelBuffer *of = &c->kernel->buffers[buffer];
  const char *offset = NULL; // by Horner: ((i0 * e1 + i1) * e2 + i2)
  for (int i = 0; i < of->rank; i++) {
    const char *at = csource_value(c, index[i]);
    if (!strcmp(at, "0") && !offset) continue;
    if (!offset) {
      offset = at;
      continue;
    }
    const char *extent = csource_extent(c, of->extents[i]);
    bool simple = !strchr(offset, ' ');
    offset = arena_print(c->arena, simple ? "%s * %s" : "(%s) * %s", offset, extent);
    if (strcmp(at, "0")) offset = arena_print(c->arena, "%s + %s", offset, at);
  }
  if (!offset) return "0";
  return bare(c, offset);
}

const char *csource_element(CSource *c, int buffer, const char *element) {
  switch (c->kernel->buffers[buffer].dtype) {
  case DTYPE_BOOL: return arena_print(c->arena, "(%s != 0)", element);
  case DTYPE_U8: return arena_print(c->arena, "(int)%s", element);
  case DTYPE_BF16: return arena_print(c->arena, "bf16_to_float(%s)", element);
  case DTYPE_F16: return arena_print(c->arena, "f16_to_float(%s)", element);
  case DTYPE_F64: return arena_print(c->arena, "(float)%s", element);
  default: return element;
  }
}

const char *csource_load(CSource *c, int buffer, const char *offset) {
  return csource_element(c, buffer, arena_print(c->arena, "%s[%s]", c->buffer_name[buffer], offset));
}

const char *csource_stored(CSource *c, int buffer, const char *value) {
  switch (c->kernel->buffers[buffer].dtype) {
  case DTYPE_BOOL:
  case DTYPE_U8: return arena_print(c->arena, "(unsigned char)(%s)", value);
  case DTYPE_BF16: return arena_print(c->arena, "bf16_from_float(%s)", value);
  case DTYPE_F16: return arena_print(c->arena, "f16_from_float(%s)", value);
  default: return value;
  }
}

void csource_store(CSource *c, const Store *store, const char *value) {
  const char *name = c->buffer_name[store->buffer];
  if (store->mode == STORE_SET) {
    csource_line(c, "%s[%s] = %s;", name, csource_offset(c, store->buffer, store->index),
                 csource_stored(c, store->buffer, value));
    return;
  }
  Text inside = {0}; // an index outside of the buffer drops the value
  for (int i = 0; i < c->kernel->buffers[store->buffer].rank; i++) {
    ExprFacts facts = c->kernel->facts[store->index[i]];
    Extent extent = c->kernel->buffers[store->buffer].extents[i];
    const Expr *index = &c->kernel->exprs[store->index[i]];
    bool whole = index->op == SCALAR_AXIS && extent_equal(c->kernel->axes[index->axis].extent, extent);
    if (whole || (facts.low >= 0 && extent_is_constant(extent) && facts.high < extent.offset)) continue;
    const char *at = csource_value(c, store->index[i]);
    text_print(&inside, "%s0 <= %s && %s < %s", inside.length ? " && " : "", at, at,
               csource_extent(c, extent));
  }
  const char *offset = csource_offset(c, store->buffer, store->index);
  const char *sum = arena_print(c->arena, "%s + %s", csource_load(c, store->buffer, offset), value);
  csource_line(c, "%s%s%s%s[%s] = %s;", inside.length ? "if (" : "", text_string(&inside),
               inside.length ? ") " : "", name, offset, csource_stored(c, store->buffer, sum));
  text_free(&inside);
}

// ---- values -------------------------------------------------------------------------------------

static bool leaf(const Expr *expr) {
  return expr->op == SCALAR_CONST || expr->op == SCALAR_AXIS || expr->op == SCALAR_SIZE;
}

// Sums and products of leaves, used once: read better where they stand than with a name.
static bool cheap(const CSource *c, ExprId id) {
  const Expr *expr = &c->kernel->exprs[id];
  if (leaf(expr)) return true;
  bool simple = expr->op == SCALAR_ADD || expr->op == SCALAR_SUB || expr->op == SCALAR_MUL;
  return simple && expr->dtype == DTYPE_I64 && c->uses[id] <= 1 && cheap(c, expr->in[0]) &&
         cheap(c, expr->in[1]);
}

static bool whole(const CSource *c, ExprId id) {
  DType dtype = c->kernel->exprs[id].dtype;
  return dtype == DTYPE_I64 || dtype == DTYPE_I32;
}

// Fills in a column of ops.def: "(%1 + %2)".
static const char *fill(CSource *c, const char *rule, const Expr *expr) {
  Text text = {0};
  for (const char *at = rule; *at; at++) {
    if (*at == '%' && at[1] >= '1' && at[1] <= '3') {
      const char *operand = csource_value(c, expr->in[*++at - '1']);
      text_add(&text, operand, strlen(operand));
    } else {
      text_add(&text, at, 1);
    }
  }
  const char *copy = arena_copy(c->arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

static const char *call(CSource *c, const char *function, const Expr *expr) {
  const char *x = csource_value(c, expr->in[0]), *y = csource_value(c, expr->in[1]);
  return arena_print(c->arena, "%s(%s, %s)", function, x, y);
}

static const char *divide(CSource *c, const Expr *expr) {
  bool modulo = expr->op == SCALAR_MOD;
  if (expr->dtype == DTYPE_F32) return modulo ? call(c, "mod_float", expr) : fill(c, "(%1 / %2)", expr);
  bool positive = expr->dtype == DTYPE_I64 && c->kernel->facts[expr->in[0]].low >= 0 &&
                  c->kernel->facts[expr->in[1]].low >= 0;
  if (positive) return fill(c, modulo ? "(%1 % %2)" : "(%1 / %2)", expr);
  return call(c, modulo ? "mod_floor" : "div_floor", expr);
}

static const char *cast(CSource *c, const Expr *expr) {
  DType from = c->kernel->exprs[expr->in[0]].dtype;
  const char *x = csource_value(c, expr->in[0]);
  if (expr->dtype == DTYPE_BOOL) return arena_print(c->arena, "(%s != 0)", x);
  if (from == DTYPE_BOOL && expr->dtype == DTYPE_F32) return arena_print(c->arena, "(%s ? 1.0f : 0.0f)", x);
  return arena_print(c->arena, "(%s)%s", csource_type(c, expr->dtype), x);
}

static const char *load(CSource *c, const Expr *expr) {
  const char *guard = expr->in[0] ? csource_value(c, expr->in[0]) : NULL;
  const char *element = csource_load(c, expr->buffer, csource_offset(c, expr->buffer, expr->index));
  if (!guard) return element;
  return arena_print(c->arena, "%s ? %s : %s", guard, element, expr->dtype == DTYPE_F32 ? "0.0f" : "0");
}

static const char *spell(CSource *c, const Expr *expr) {
  const char *rule = c->cuda ? scalar_table[expr->op].cuda : scalar_table[expr->op].c;
  const Expr *second = &c->kernel->exprs[expr->in[1]];
  switch (expr->op) {
  case SCALAR_ADD:
    if (second->op == SCALAR_CONST && second->dtype == DTYPE_I64 && second->number < 0)
      return arena_print(c->arena, "(%s - %.0f)", csource_value(c, expr->in[0]), -second->number);
    return fill(c, rule, expr);
  case SCALAR_LOAD: return load(c, expr);
  case SCALAR_DIV:
  case SCALAR_MOD: return divide(c, expr);
  case SCALAR_CAST: return cast(c, expr);
  case SCALAR_MIN: return call(c, whole(c, expr->in[0]) ? "min_whole" : "min_float", expr);
  case SCALAR_MAX: return call(c, whole(c, expr->in[0]) ? "max_whole" : "max_float", expr);
  case SCALAR_ABS:
    if (whole(c, expr->in[0])) return fill(c, "(%1 < 0 ? -%1 : %1)", expr);
    return fill(c, rule, expr);
  case SCALAR_RANDOM:
    return arena_print(c->arena, "philox_uniform((unsigned)%s, %uu, %s)", csource_value(c, expr->in[0]),
                       expr->stream, csource_value(c, expr->in[1]));
  default: return fill(c, rule, expr);
  }
}

static void define(CSource *c, ExprId id, const char *text) {
  const Expr *expr = &c->kernel->exprs[id];
  const char *base =
      expr->op == SCALAR_LOAD ? c->kernel->buffers[expr->buffer].name : scalar_table[expr->op].name;
  const char *name = fresh(c, base, 1);
  csource_line(c, "const %s %s = %s;", csource_type(c, expr->dtype), name, bare(c, text));
  csource_set(c, id, name);
}

const char *csource_initial(const CSource *c, const Expr *reduction) {
  bool maximum = reduction->op == SCALAR_REDMAX;
  (void)c;
  if (reduction->dtype == DTYPE_F32) return maximum ? "-INFINITY" : "0.0f";
  return !maximum                        ? "0"
         : reduction->dtype == DTYPE_I32 ? "(-2147483647 - 1)"
                                         : "(-9223372036854775807ll - 1)";
}

const char *csource_accumulate(CSource *c, const Expr *reduction, const char *total, const char *value) {
  if (reduction->op != SCALAR_REDMAX) return arena_print(c->arena, "%s + %s", total, value);
  return arena_print(c->arena, "max_%s(%s, %s)", reduction->dtype == DTYPE_F32 ? "float" : "whole", total,
                     value);
}

// A reduction as loops of this thread.
static void reduce(CSource *c, ExprId id) {
  const Expr *expr = &c->kernel->exprs[id];
  csource_hoist(c, expr->in[0], expr->axes);
  csource_hoist(c, expr->in[1], expr->axes);
  const char *total = fresh(c, scalar_table[expr->op].name, 1);
  csource_line(c, "%s %s = %s;", csource_type(c, expr->dtype), total, csource_initial(c, expr));
  int loops = 0;
  uint32_t left = expr->axes;
  for (int axis = 0; axis < c->kernel->axis_count; axis++) {
    if (!(expr->axes >> axis & 1)) continue;
    csource_loop(c, axis);
    loops++;
    left &= ~(1u << axis);
    csource_hoist(c, expr->in[0], left);
    csource_hoist(c, expr->in[1], left);
  }
  const char *value = csource_value(c, expr->in[0]);
  if (expr->op == SCALAR_DOT) value = arena_print(c->arena, "%s * %s", value, csource_value(c, expr->in[1]));
  csource_line(c, "%s = %s;", total, csource_accumulate(c, expr, total, value));
  while (loops--) csource_close(c);
  for (int axis = 0; axis < c->kernel->axis_count; axis++)
    if (expr->axes >> axis & 1) c->axis_value[axis] = NULL;
  csource_set(c, id, total);
}

const char *csource_define(CSource *c, ExprId id) {
  const Expr *expr = &c->kernel->exprs[id];
  if (c->value[id]) return c->value[id];
  if (leaf(expr)) return csource_value(c, id);
  if (!expr->axes)
    define(c, id, spell(c, expr));
  else if (!c->reduce || !c->reduce(c, id))
    reduce(c, id);
  return c->value[id];
}

const char *csource_value(CSource *c, ExprId id) {
  const Expr *expr = &c->kernel->exprs[id];
  if (!id) return "0";
  if (c->value[id]) return c->value[id];
  switch (expr->op) {
  case SCALAR_CONST: return literal(c, expr);
  case SCALAR_SIZE: return csource_extent(c, expr->extent);
  case SCALAR_AXIS:
    if (!c->axis_value[expr->axis])
      die("kernel %s: axis %s has no value here", c->kernel->name, c->kernel->axes[expr->axis].name);
    return c->axis_value[expr->axis];
  default: break;
  }
  if (expr->axes || expr->op == SCALAR_LOAD) return csource_define(c, id);
  const char *text = spell(c, expr);
  if (c->uses[id] <= 1 && strlen(text) <= IN_PLACE) return text;
  define(c, id, text);
  return c->value[id];
}

static void hoist(CSource *c, ExprId id, uint32_t axes) {
  const Expr *expr = &c->kernel->exprs[id];
  if (!id || c->value[id] || cheap(c, id) || c->visited[id] == c->visit) return;
  if (!(kernel_free_axes(c->kernel, id) & axes)) {
    csource_define(c, id);
    return;
  }
  c->visited[id] = c->visit;
  for (int i = 0; i < 3; i++) hoist(c, expr->in[i], axes | expr->axes);
  for (int i = 0; i < KERNEL_MAX_RANK; i++) hoist(c, expr->index[i], axes);
}

void csource_hoist(CSource *c, ExprId id, uint32_t axes) {
  uint32_t before = c->visit; // a definition may hoist on its own account
  c->visit = ++c->last_visit;
  hoist(c, id, axes);
  c->visit = before;
}

// ---- loops and stores ---------------------------------------------------------------------------

void csource_loop(CSource *c, int axis) {
  const char *name = csource_axis(c, axis);
  csource_open(c, "for (long long %s = 0; %s < %s; %s++)", name, name,
               csource_extent(c, c->kernel->axes[axis].extent), name);
  c->axis_value[axis] = name;
}

void csource_stride(CSource *c, uint32_t axes, const char *base, const char *start, const char *step) {
  bool one = axes && !(axes & (axes - 1));
  int axis = one ? __builtin_ctz(axes) : 0;
  const char *name = one ? csource_axis(c, axis) : csource_name(c, base);
  csource_open(c, "for (long long %s = %s; %s < %s; %s += %s)", name, start, name, csource_product(c, axes),
               name, step);
  if (one)
    c->axis_value[axis] = name;
  else if (axes)
    csource_split(c, axes, name);
}

void csource_split(CSource *c, uint32_t axes, const char *linear) {
  for (int axis = c->kernel->axis_count; axis-- > 0;) {
    if (!(axes >> axis & 1)) continue;
    axes &= ~(1u << axis);
    const char *name = csource_axis(c, axis);
    const char *extent = csource_extent(c, c->kernel->axes[axis].extent);
    const char *value = axes ? arena_print(c->arena, "%s %% %s", linear, extent) : linear;
    csource_line(c, "const long long %s = %s;", name, value);
    c->axis_value[axis] = name;
    linear = arena_print(c->arena, "%s / %s", linear, extent);
    if (axes & (axes - 1)) { // more than one to go
      const char *rest = csource_name(c, "rest");
      csource_line(c, "const long long %s = %s;", rest, linear);
      linear = rest;
    }
  }
}

void csource_stores(CSource *c, uint32_t group) {
  const Kernel *kernel = c->kernel;
  const char *values[KERNEL_MAX_STORES];
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1) values[i] = csource_value(c, kernel->stores[i].value);
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1) csource_store(c, &kernel->stores[i], values[i]);
}

uint32_t csource_group(const Kernel *kernel, uint32_t among, uint32_t axes) {
  uint32_t group = 0;
  for (int i = 0; i < kernel->store_count; i++)
    if (among >> i & 1 && kernel->stores[i].axes == axes) group |= 1u << i;
  return group;
}

void csource_hoist_group(CSource *c, uint32_t group, uint32_t axes) {
  for (int i = 0; i < c->kernel->store_count; i++) {
    const Store *store = &c->kernel->stores[i];
    if (!(group >> i & 1)) continue;
    csource_hoist(c, store->value, axes);
    for (int k = 0; k < c->kernel->buffers[store->buffer].rank; k++) csource_hoist(c, store->index[k], axes);
  }
}
