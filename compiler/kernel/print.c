// Kernels as text, in the form that read.c reads back. Input: a kernel and the sources of its model lines;
// output: its text, with expressions numbered from 1 in order of use and whole-number index arithmetic
// written out where it stands.
#include "compiler/kernel/kernel.h"

#include <string.h>

enum { INLINE_LIMIT = 12 }; // longer index expressions get a line of their own

typedef struct Printer {
  const Kernel *kernel;
  Text *text;
  bool *reached;
  uint32_t *number; // by expression: its line, 0: written in place
  uint32_t *length; // of what is written in place, in leaves
} Printer;

static bool spelled_in_place(const Expr *expr) {
  if (expr->dtype != DTYPE_I64) return false;
  switch (expr->op) {
  case SCALAR_CONST:
  case SCALAR_AXIS:
  case SCALAR_SIZE:
  case SCALAR_NEG:
  case SCALAR_ADD:
  case SCALAR_SUB:
  case SCALAR_MUL:
  case SCALAR_DIV:
  case SCALAR_MOD: return true;
  default: return false;
  }
}

static void print_axis(Printer *printer, int axis) {
  text_print(printer->text, "%s", printer->kernel->axes[axis].name);
}

static void print_buffer(Printer *printer, int buffer) {
  text_print(printer->text, "%s", printer->kernel->buffers[buffer].name);
}

static void print_operand(Printer *printer, ExprId id, bool nested);

static void print_pair(Printer *printer, const Expr *expr, const char *before, const char *between,
                       bool closed) {
  text_print(printer->text, "%s", before);
  print_operand(printer, expr->in[0], true);
  text_print(printer->text, "%s", between);
  print_operand(printer, expr->in[1], true);
  if (closed) text_print(printer->text, ")");
}

static void print_whole(Printer *printer, const Expr *expr, bool nested) {
  Text *text = printer->text;
  switch (expr->op) {
  case SCALAR_CONST: text_number(text, expr->number); return;
  case SCALAR_AXIS: print_axis(printer, expr->axis); return;
  case SCALAR_SIZE:
    text_print(text, "size(");
    extent_print(text, expr->extent);
    text_print(text, ")");
    return;
  case SCALAR_NEG:
    text_print(text, "neg(");
    print_operand(printer, expr->in[0], false);
    text_print(text, ")");
    return;
  case SCALAR_DIV: print_pair(printer, expr, "div(", ", ", true); return;
  case SCALAR_MOD: print_pair(printer, expr, "mod(", ", ", true); return;
  default:
    print_pair(printer, expr, nested ? "(" : "",
               expr->op == SCALAR_ADD   ? " + "
               : expr->op == SCALAR_SUB ? " - "
                                        : " * ",
               nested);
  }
}

static void print_operand(Printer *printer, ExprId id, bool nested) {
  if (printer->number[id])
    text_print(printer->text, "%%%u", printer->number[id]);
  else
    print_whole(printer, &printer->kernel->exprs[id], nested);
}

static void print_index(Printer *printer, int buffer, const ExprId *index) {
  text_print(printer->text, " [");
  for (int i = 0; i < printer->kernel->buffers[buffer].rank; i++) {
    if (i) text_print(printer->text, ", ");
    print_operand(printer, index[i], false);
  }
  text_print(printer->text, "]");
}

static void print_axes(Printer *printer, uint32_t axes) {
  if (axes) text_print(printer->text, " over");
  for (int i = 0; i < printer->kernel->axis_count; i++)
    if (axes >> i & 1) {
      text_print(printer->text, " ");
      print_axis(printer, i);
    }
}

static void print_line(Printer *printer, ExprId id) {
  const Expr *expr = &printer->kernel->exprs[id];
  Text *text = printer->text;
  text_print(text, "%%%u = ", printer->number[id]);
  if (spelled_in_place(expr)) {
    text_print(text, "index ");
    print_whole(printer, expr, false);
    text_print(text, "\n");
    return;
  }
  text_print(text, "%s", scalar_table[expr->op].name);
  if (expr->op == SCALAR_CONST) {
    text_print(text, " ");
    text_number(text, expr->number);
  } else if (expr->op == SCALAR_LOAD) {
    text_print(text, " ");
    print_buffer(printer, expr->buffer);
    print_index(printer, expr->buffer, expr->index);
    if (expr->in[0]) text_print(text, " if %%%u", printer->number[expr->in[0]]);
  } else {
    if (expr->op == SCALAR_RANDOM) text_print(text, " stream %u", expr->stream);
    for (int i = 0; i < scalar_table[expr->op].operands; i++) {
      text_print(text, " ");
      print_operand(printer, expr->in[i], true);
    }
    print_axes(printer, expr->axes);
  }
  text_print(text, " : %s\n", dtype_name(expr->dtype));
}

static void print_places(const Kernel *kernel, const Sources *sources, Text *text) {
  KernelPlace places[KERNEL_MAX_PLACES];
  int count = sources ? kernel_places(kernel, sources, places) : 0;
  for (int i = 0; i < count; i++) {
    text_print(text, "from ");
    kernel_place_print(&places[i], text);
    text_print(text, "\n");
  }
}

static void print_head(Printer *printer, const Sources *sources) {
  static const char *const uses[] = {"read", "write", "update"};
  const Kernel *kernel = printer->kernel;
  Text *text = printer->text;
  text_print(text, "kernel %s %s\n", kernel->name, anchor_names[kernel->anchor]);
  print_places(kernel, sources, text);
  if (kernel->axis_count) text_print(text, "axes");
  for (int i = 0; i < kernel->axis_count; i++) {
    text_print(text, " ");
    print_axis(printer, i);
    text_print(text, "=");
    extent_print(text, kernel->axes[i].extent);
  }
  if (kernel->axis_count) text_print(text, "\n");
  for (int i = 0; i < kernel->buffer_count; i++) {
    const KernelBuffer *buffer = &kernel->buffers[i];
    text_print(text, "buffer ");
    print_buffer(printer, i);
    text_print(text, " %s[", dtype_name(buffer->dtype));
    for (int k = 0; k < buffer->rank; k++) {
      if (k) text_print(text, ", ");
      extent_print(text, buffer->extents[k]);
    }
    text_print(text, "] %s\n", uses[buffer->use]);
  }
}

// Numbers the expressions that get a line.
static void number_lines(Printer *printer) {
  uint32_t last = 0;
  for (ExprId id = 1; id < printer->kernel->expr_count; id++) {
    if (!printer->reached[id]) continue;
    const Expr *expr = &printer->kernel->exprs[id];
    printer->length[id] = 1;
    if (spelled_in_place(expr)) {
      printer->length[id] += printer->length[expr->in[0]] + printer->length[expr->in[1]];
      if (printer->length[id] <= INLINE_LIMIT) continue;
      printer->length[id] = 1;
    }
    printer->number[id] = ++last;
  }
}

void kernel_print(const Kernel *kernel, const Sources *sources, Text *text) {
  Arena *arena = arena_new();
  Printer printer = {.kernel = kernel, .text = text};
  printer.reached = ARENA_ARRAY(arena, bool, kernel->expr_count);
  printer.number = ARENA_ARRAY(arena, uint32_t, kernel->expr_count);
  printer.length = ARENA_ARRAY(arena, uint32_t, kernel->expr_count);
  kernel_reachable(kernel, printer.reached);
  number_lines(&printer);
  print_head(&printer, sources);
  for (ExprId id = 1; id < kernel->expr_count; id++)
    if (printer.number[id]) print_line(&printer, id);
  for (int i = 0; i < kernel->store_count; i++) {
    const Store *store = &kernel->stores[i];
    text_print(text, "store ");
    print_buffer(&printer, store->buffer);
    print_index(&printer, store->buffer, store->index);
    text_print(text, " %s ", store->mode == STORE_ADD ? "+=" : "=");
    print_operand(&printer, store->value, true);
    print_axes(&printer, store->axes);
    text_print(text, "\n");
  }
  arena_free(arena);
}
