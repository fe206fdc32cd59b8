// Reads kernels from the text form that print.c writes; expressions are taken as they stand, unsimplified.
// Input: a source text; output: verified kernels, or errors at the place where the text goes wrong. `#`
// starts a comment. The grammar, one line per construct:
//
//   kernel NAME ANCHOR
//   from FILE:LINE (two blanks, the line's text)?            the rest of the line as it is; the file need not exist
//   axes NAME=EXTENT ...                                     EXTENT: 128, T, 2*T+1
//   buffer NAME DTYPE[EXTENT, ...] read|write|update
//   %N = const NUMBER : DTYPE
//   %N = load NAME [INDEX, ...] (if %N)? : DTYPE
//   %N = random stream NUMBER ATOM ATOM : f32
//   %N = OPERATION ATOM ... (over AXIS ...)? : DTYPE
//   %N = index INDEX
//   store NAME [INDEX, ...] (=|+=) ATOM (over AXIS ...)?
//   INDEX = ATOM ((+|-|*) ATOM)?
//   ATOM  = NUMBER | AXIS | size(EXTENT) | %N | neg(INDEX) | div(INDEX, INDEX) | mod(INDEX, INDEX) | (INDEX)
#include "compiler/kernel/kernel.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_WORD = 256, MAX_LINES = 1 << 16, MAX_PATH = 4096 };

typedef struct Reader {
  Arena *arena;
  Diagnostics *diagnostics;
  uint32_t source;
  const char *text;
  size_t at, end;
  bool failed; // of this kernel; the rest of it is skipped
  int depth;
  Kernel *kernel;
  ExprId *lines; // by printed number
  size_t line_count, line_capacity;
  char word[MAX_WORD];
} Reader;

// ---- characters and words -----------------------------------------------------------------------

static bool complain(Reader *reader, size_t begin, const char *expected) {
  if (!reader->failed) {
    size_t end = reader->at > begin ? reader->at : begin + 1;
    error_at(reader->diagnostics, (Span){reader->source, (uint32_t)begin, (uint32_t)end}, "expected %s",
             expected);
  }
  reader->failed = true;
  return false;
}

static void skip_blanks(Reader *reader) {
  while (reader->at < reader->end && (reader->text[reader->at] == ' ' || reader->text[reader->at] == '\t'))
    reader->at++;
}

static void skip_line(Reader *reader) {
  while (reader->at < reader->end && reader->text[reader->at] != '\n') reader->at++;
  if (reader->at < reader->end) reader->at++;
}

// To the first word of the next line that holds something.
static bool next_line(Reader *reader) {
  while (reader->at < reader->end) {
    skip_blanks(reader);
    char c = reader->at < reader->end ? reader->text[reader->at] : 0;
    if (c != '\n' && c != '#' && c != '\r' && c) return true;
    if (reader->at < reader->end) skip_line(reader);
  }
  return false;
}

static bool peek(Reader *reader, char c) {
  skip_blanks(reader);
  return reader->at < reader->end && reader->text[reader->at] == c;
}

static bool accept(Reader *reader, char c) {
  if (!peek(reader, c)) return false;
  reader->at++;
  return true;
}

static bool expect(Reader *reader, char c) {
  char expected[4] = {'`', c, '`', 0};
  return accept(reader, c) || complain(reader, reader->at, expected);
}

static bool word_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '\'' || c == '.'; }

// Reads a word into reader->word without judging it; empty where there is none.
static const char *word(Reader *reader) {
  size_t length = 0;
  skip_blanks(reader);
  while (reader->at < reader->end && word_char(reader->text[reader->at]) && length + 1 < MAX_WORD)
    reader->word[length++] = reader->text[reader->at++];
  reader->word[length] = 0;
  return reader->word;
}

static bool name(Reader *reader) {
  size_t begin = reader->at;
  return *word(reader) || complain(reader, begin, "a name");
}

static bool accept_word(Reader *reader, const char *wanted) {
  size_t before = reader->at;
  if (!strcmp(word(reader), wanted)) return true;
  reader->at = before;
  return false;
}

static bool end_of_line(Reader *reader) {
  skip_blanks(reader);
  char c = reader->at < reader->end ? reader->text[reader->at] : '\n';
  if (c == '\n' || c == '#' || c == '\r') return skip_line(reader), true;
  return complain(reader, reader->at, "the end of the line");
}

static bool whole_number(Reader *reader, int64_t limit, int64_t *out) {
  skip_blanks(reader);
  size_t begin = reader->at;
  bool negative = reader->at < reader->end && reader->text[reader->at] == '-';
  if (negative) reader->at++;
  int64_t value = 0;
  int digits = 0;
  for (; reader->at < reader->end && isdigit((unsigned char)reader->text[reader->at]); digits++) {
    value = value * 10 + (reader->text[reader->at++] - '0');
    if (value > limit) return complain(reader, begin, "a smaller number");
  }
  *out = negative ? -value : value;
  return digits || complain(reader, begin, "a whole number");
}

static bool number(Reader *reader, double *out) {
  skip_blanks(reader);
  char copy[64], *stop;
  size_t length = 0;
  while (reader->at + length < reader->end && length + 1 < sizeof copy &&
         strchr("+-.0123456789abcdefinxy", reader->text[reader->at + length]))
    copy[length] = reader->text[reader->at + length], length++;
  copy[length] = 0;
  *out = strtod(copy, &stop);
  if (stop == copy) return complain(reader, reader->at, "a number");
  reader->at += (size_t)(stop - copy);
  return true;
}

// ---- extents, axes, buffers ---------------------------------------------------------------------

static bool extent(Reader *reader, Extent *out) {
  int64_t limit = (int64_t)1 << 40;
  *out = (Extent){0};
  size_t begin = reader->at;
  int64_t scale = 1;
  if (peek(reader, '-') || (reader->at < reader->end && isdigit((unsigned char)reader->text[reader->at]))) {
    if (!whole_number(reader, limit, &scale)) return false;
    if (!accept(reader, '*')) return *out = extent_constant(scale), true;
  }
  if (!name(reader)) return false;
  for (int symbol = 1; symbol < SYMBOL_COUNT; symbol++)
    if (!strcmp(reader->word, symbol_names[symbol])) *out = (Extent){symbol, scale, 0};
  if (!out->symbol) return complain(reader, begin, "an extent: a number, B, T, P or S");
  if (reader->at < reader->end && reader->text[reader->at] == '+')
    reader->at++;
  else if (reader->at >= reader->end || reader->text[reader->at] != '-')
    return true;
  return whole_number(reader, limit, &out->offset);
}

static int find_axis(const Reader *reader, const char *name) {
  for (int i = 0; i < reader->kernel->axis_count; i++)
    if (!strcmp(reader->kernel->axes[i].name, name)) return i;
  return -1;
}

static bool axes_line(Reader *reader) {
  while (!peek(reader, '\n') && reader->at < reader->end) {
    size_t begin = reader->at;
    Extent length;
    if (reader->kernel->axis_count == KERNEL_MAX_AXES) return complain(reader, begin, "at most 32 axes");
    if (!name(reader)) return false;
    if (find_axis(reader, reader->word) >= 0)
      return complain(reader, begin, "a name that is not yet an axis");
    char *copy = arena_copy(reader->arena, reader->word, strlen(reader->word));
    if (!expect(reader, '=') || !extent(reader, &length)) return false;
    kernel_axis(reader->kernel, copy, length);
  }
  return end_of_line(reader);
}

static bool dtype(Reader *reader, DType *out) {
  size_t begin = reader->at;
  if (!name(reader)) return false;
  return dtype_from_name(reader->word, out) || complain(reader, begin, "a type: f32, i32, bool, ...");
}

static int find_buffer(const Reader *reader, const char *name) {
  for (int i = 0; i < reader->kernel->buffer_count; i++)
    if (!strcmp(reader->kernel->buffers[i].name, name)) return i;
  return -1;
}

static bool buffer_line(Reader *reader) {
  size_t begin = reader->at;
  KernelBuffer buffer = {0};
  if (reader->kernel->buffer_count == KERNEL_MAX_BUFFERS)
    return complain(reader, begin, "at most 24 buffers");
  if (!name(reader)) return false;
  if (find_buffer(reader, reader->word) >= 0)
    return complain(reader, begin, "a name that is not yet a buffer");
  buffer.name = arena_copy(reader->arena, reader->word, strlen(reader->word));
  if (!dtype(reader, &buffer.dtype) || !expect(reader, '[')) return false;
  while (!accept(reader, ']')) {
    if (buffer.rank && !expect(reader, ',')) return false;
    if (buffer.rank == KERNEL_MAX_RANK) return complain(reader, reader->at, "at most 8 axes");
    if (!extent(reader, &buffer.extents[buffer.rank++])) return false;
  }
  if (accept_word(reader, "read"))
    buffer.use = BUFFER_READ;
  else if (accept_word(reader, "write"))
    buffer.use = BUFFER_WRITE;
  else if (accept_word(reader, "update"))
    buffer.use = BUFFER_UPDATE;
  else
    return complain(reader, reader->at, "`read`, `write` or `update`");
  kernel_buffer(reader->kernel, buffer.name, buffer.dtype, buffer.rank, buffer.extents, buffer.use);
  return end_of_line(reader);
}

// ---- model lines --------------------------------------------------------------------------------

// Where in a line the path ends: before `:DIGITS` and two blanks or nothing. `length`: it does so nowhere.
static size_t path_end(const char *line, size_t length) {
  for (size_t i = 0; i < length; i++) {
    size_t digits = 0;
    while (line[i] == ':' && i + 1 + digits < length && isdigit((unsigned char)line[i + 1 + digits]))
      digits++;
    size_t after = i + 1 + digits;
    if (digits && (after == length || (after + 1 < length && line[after] == ' ' && line[after + 1] == ' ')))
      return i;
  }
  return length;
}

static bool odd_path(const char *path, size_t length) {
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)path[i] < ' ' || path[i] == 127 || (i && path[i] == ' ' && path[i - 1] == ' '))
      return true;
  return !length || length > MAX_PATH;
}

static bool from_line(Reader *reader) {
  skip_blanks(reader);
  size_t begin = reader->at, stop = begin;
  const char *line = reader->text + begin;
  while (stop < reader->end && reader->text[stop] != '\n') stop++;
  while (stop > begin && strchr(" \t\r", reader->text[stop - 1])) stop--;
  size_t length = path_end(line, stop - begin);
  int64_t number;
  if (reader->kernel->span_count == KERNEL_MAX_PLACES)
    return complain(reader, begin, "at most 64 model lines of a kernel");
  reader->at = begin + length;
  if (reader->at == stop)
    return complain(reader, begin, "FILE:LINE, then nothing or two blanks and the line's text");
  if (odd_path(line, length))
    return complain(reader, begin, "the name of a file, of at most 4096 bytes, in plain text");
  reader->at++;
  size_t digits = reader->at;
  if (!whole_number(reader, SOURCE_MAX_BYTES, &number)) return false;
  if (number < 1) return complain(reader, digits, "the number of a line, from 1");
  skip_blanks(reader);
  size_t text = stop - reader->at;
  uint32_t source = sources_add_line(reader->diagnostics->sources, line, length, (int)number,
                                     reader->text + reader->at, text);
  Kernel *kernel = reader->kernel;
  ARENA_PUSH(reader->arena, kernel->spans, kernel->span_count, kernel->span_capacity,
             ((Span){source, 0, (uint32_t)text}));
  skip_line(reader);
  return true;
}

// ---- expressions --------------------------------------------------------------------------------

static bool line_number(Reader *reader, ExprId *out) {
  int64_t number;
  size_t begin = reader->at;
  if (!expect(reader, '%') || !whole_number(reader, MAX_LINES, &number)) return false;
  if (number < 1 || (size_t)number >= reader->line_count + 1 || !reader->line_count)
    return complain(reader, begin, "an expression from a line above");
  *out = reader->lines[number - 1];
  return true;
}

static bool index_expression(Reader *reader, ExprId *out);

static bool call(Reader *reader, ScalarOp op, ExprId *out) {
  Expr expr = {.op = op, .dtype = DTYPE_I64};
  if (!expect(reader, '(') || !index_expression(reader, &expr.in[0])) return false;
  if (op != SCALAR_NEG && (!expect(reader, ',') || !index_expression(reader, &expr.in[1]))) return false;
  *out = kernel_intern(reader->kernel, expr);
  return expect(reader, ')');
}

static bool named_atom(Reader *reader, ExprId *out) {
  size_t begin = reader->at;
  if (!name(reader)) return complain(reader, begin, "an axis or an expression");
  if (reader->at < reader->end && reader->text[reader->at] == '(') {
    Expr expr = {.op = SCALAR_SIZE, .dtype = DTYPE_I64};
    if (!strcmp(reader->word, "neg")) return call(reader, SCALAR_NEG, out);
    if (!strcmp(reader->word, "div")) return call(reader, SCALAR_DIV, out);
    if (!strcmp(reader->word, "mod")) return call(reader, SCALAR_MOD, out);
    if (strcmp(reader->word, "size")) return complain(reader, begin, "neg, div, mod or size");
    if (!expect(reader, '(') || !extent(reader, &expr.extent) || !expect(reader, ')')) return false;
    *out = kernel_intern(reader->kernel, expr);
    return true;
  }
  int axis = find_axis(reader, reader->word);
  if (axis < 0) return complain(reader, begin, "the name of an axis");
  *out = kernel_intern(reader->kernel, (Expr){.op = SCALAR_AXIS, .dtype = DTYPE_I64, .axis = axis});
  return true;
}

static bool atom(Reader *reader, ExprId *out) {
  if (peek(reader, '%')) return line_number(reader, out);
  if (peek(reader, '-') || (reader->at < reader->end && isdigit((unsigned char)reader->text[reader->at]))) {
    double value;
    if (!number(reader, &value)) return false;
    *out = kernel_number(reader->kernel, value, DTYPE_I64);
    return true;
  }
  if (!accept(reader, '(')) return named_atom(reader, out);
  return index_expression(reader, out) && expect(reader, ')');
}

static bool index_expression(Reader *reader, ExprId *out) {
  if (reader->depth == MAX_DEPTH) return complain(reader, reader->at, "fewer parentheses");
  reader->depth++;
  Expr expr = {.op = SCALAR_COUNT, .dtype = DTYPE_I64};
  bool fine = atom(reader, &expr.in[0]);
  if (accept(reader, '+'))
    expr.op = SCALAR_ADD;
  else if (accept(reader, '-'))
    expr.op = SCALAR_SUB;
  else if (accept(reader, '*'))
    expr.op = SCALAR_MUL;
  if (fine && expr.op != SCALAR_COUNT) {
    fine = atom(reader, &expr.in[1]);
    if (fine) expr.in[0] = kernel_intern(reader->kernel, expr);
  }
  *out = expr.in[0];
  reader->depth--;
  return fine;
}

static bool access(Reader *reader, int *buffer, ExprId *index) {
  size_t begin = reader->at;
  if (!name(reader)) return false;
  *buffer = find_buffer(reader, reader->word);
  if (*buffer < 0) return complain(reader, begin, "the name of a buffer");
  if (!expect(reader, '[')) return false;
  int rank = reader->kernel->buffers[*buffer].rank;
  for (int i = 0; i < rank; i++) {
    if (i && !expect(reader, ',')) return false;
    if (!index_expression(reader, &index[i])) return false;
  }
  return expect(reader, ']');
}

static bool over(Reader *reader, uint32_t *axes) {
  if (!accept_word(reader, "over")) return true;
  for (skip_blanks(reader); reader->at < reader->end && word_char(reader->text[reader->at]);
       skip_blanks(reader)) {
    size_t begin = reader->at;
    int axis = find_axis(reader, word(reader));
    if (axis < 0) return complain(reader, begin, "the name of an axis");
    *axes |= 1u << axis;
  }
  return *axes || complain(reader, reader->at, "the names of axes");
}

static bool operation(Reader *reader, Expr *expr) {
  size_t begin = reader->at;
  if (!name(reader)) return false;
  expr->op = SCALAR_COUNT;
  for (int op = 0; op < SCALAR_COUNT; op++)
    if (!strcmp(scalar_table[op].name, reader->word)) expr->op = (ScalarOp)op;
  int64_t stream = 0;
  switch (expr->op) {
  case SCALAR_AXIS:
  case SCALAR_SIZE:
  case SCALAR_COUNT: return complain(reader, begin, "an operation");
  case SCALAR_CONST: return number(reader, &expr->number);
  case SCALAR_LOAD:
    if (!access(reader, &expr->buffer, expr->index)) return false;
    return !accept_word(reader, "if") || line_number(reader, &expr->in[0]);
  case SCALAR_RANDOM:
    if (!accept_word(reader, "stream")) return complain(reader, reader->at, "`stream`");
    if (!whole_number(reader, UINT32_MAX, &stream) || stream < 0) return complain(reader, begin, "a stream");
    expr->stream = (uint32_t)stream;
    break;
  default: break;
  }
  for (int i = 0; i < scalar_table[expr->op].operands; i++)
    if (!atom(reader, &expr->in[i])) return false;
  return over(reader, &expr->axes);
}

static bool expression_line(Reader *reader) {
  Expr expr = {0};
  int64_t number;
  size_t begin = reader->at;
  if (!expect(reader, '%') || !whole_number(reader, MAX_LINES, &number)) return false;
  if ((size_t)number != reader->line_count + 1) return complain(reader, begin, "the next number in order");
  if (!expect(reader, '=')) return false;
  ExprId id;
  if (accept_word(reader, "index")) {
    if (!index_expression(reader, &id)) return false;
  } else {
    if (!operation(reader, &expr) || !expect(reader, ':') || !dtype(reader, &expr.dtype)) return false;
    if (expr.op == SCALAR_CONST) expr.number = scalar_round(expr.dtype, expr.number);
    id = kernel_intern(reader->kernel, expr);
  }
  ARENA_PUSH(reader->arena, reader->lines, reader->line_count, reader->line_capacity, id);
  return end_of_line(reader);
}

static bool store_line(Reader *reader) {
  Store store = {0};
  if (reader->kernel->store_count == KERNEL_MAX_STORES)
    return complain(reader, reader->at, "at most 12 stores");
  if (!access(reader, &store.buffer, store.index)) return false;
  if (accept(reader, '+')) store.mode = STORE_ADD;
  if (!expect(reader, '=') || !atom(reader, &store.value) || !over(reader, &store.axes)) return false;
  kernel_store(reader->kernel, store.buffer, store.index, store.value, store.axes, store.mode);
  return end_of_line(reader);
}

// ---- kernels ------------------------------------------------------------------------------------

static bool head_line(Reader *reader) {
  if (!accept_word(reader, "kernel")) return complain(reader, reader->at, "`kernel`");
  if (!name(reader)) return false;
  reader->kernel = kernel_new(reader->arena, reader->word);
  reader->lines = NULL;
  reader->line_count = reader->line_capacity = 0;
  size_t begin = reader->at;
  word(reader);
  for (int anchor = 0; anchor < ANCHOR_COUNT; anchor++)
    if (!strcmp(anchor_names[anchor], reader->word)) {
      reader->kernel->anchor = (Anchor)anchor;
      return end_of_line(reader);
    }
  return complain(reader, begin, "an anchor: map, row, column, dot, scatter or attention");
}

static bool body_line(Reader *reader) {
  if (peek(reader, '%')) return expression_line(reader);
  if (accept_word(reader, "from")) return from_line(reader);
  if (accept_word(reader, "axes")) return axes_line(reader);
  if (accept_word(reader, "buffer")) return buffer_line(reader);
  if (accept_word(reader, "store")) return store_line(reader);
  return complain(reader, reader->at, "`from`, `axes`, `buffer`, an expression or `store`");
}

static bool at_head(Reader *reader) {
  size_t before = reader->at;
  bool found = accept_word(reader, "kernel");
  reader->at = before;
  return found;
}

static bool read_kernel(Reader *reader) {
  size_t begin = reader->at;
  reader->failed = false;
  reader->depth = 0;
  bool fine = head_line(reader);
  size_t end = reader->at;
  while (fine && next_line(reader) && !at_head(reader)) fine = body_line(reader);
  if (!fine) { // on to the next kernel, so that one run shows more than one error
    skip_line(reader);
    while (next_line(reader) && !at_head(reader)) skip_line(reader);
    return false;
  }
  Text reason = {0};
  if (!kernel_verify(reader->kernel, &reason)) {
    error_at(reader->diagnostics, (Span){reader->source, (uint32_t)begin, (uint32_t)end}, "%s",
             text_string(&reason));
    fine = false;
  }
  text_free(&reason);
  return fine;
}

bool kernel_read(Arena *arena, Diagnostics *diagnostics, uint32_t source, Kernel ***kernels, size_t *count) {
  const Source *text = &diagnostics->sources->list[source];
  Reader reader = {
      .arena = arena, .diagnostics = diagnostics, .source = source, .text = text->text, .end = text->length};
  size_t capacity = 0;
  int errors = diagnostics->errors;
  *kernels = NULL;
  *count = 0;
  while (diagnostics->errors - errors <= DIAGNOSTICS_MAX_ERRORS &&
         next_line(&reader)) // later ones are not shown
    if (read_kernel(&reader)) ARENA_PUSH(arena, *kernels, *count, capacity, reader.kernel);
  return diagnostics->errors == errors;
}
