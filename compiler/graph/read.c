// A graph from its text: the form of print.c -> Graph, or errors at the user's line. Lines may be edited:
// nodes may have any numbers, as long as each stands before its uses; the type behind a line must be what the
// line makes.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/graph/attributes.h"
#include "compiler/graph/graph.h"

enum { MAX_NUMBER = 1 << 20, MAX_NAMED = 1 << 14 };

typedef struct Reader {
  Arena *arena;
  Diagnostics *diagnostics;
  uint32_t source;
  const char *text;
  size_t at, end, line_end; // the place, the text's end, the current line's end
  size_t token;             // where what was read last begins
  Graph *graph;
  NodeId *numbers; // node by the number in the text
  uint8_t *known;  // by number: 0 no such line, 1 there is one (NodeId 0: with errors)
} Reader;

// Reports at the text read last.
#define REFUSE(...) return error_at(reader->diagnostics, span_from(reader, reader->token), __VA_ARGS__), false

static Span span_from(const Reader *reader, size_t begin) {
  size_t end = reader->at > begin ? reader->at : begin + 1;
  return (Span){reader->source, (uint32_t)begin, (uint32_t)end};
}

// ---- tokens -------------------------------------------------------------------------------------

static char peek(Reader *reader) {
  while (reader->at < reader->line_end &&
         (reader->text[reader->at] == ' ' || reader->text[reader->at] == '\t'))
    reader->at++;
  reader->token = reader->at;
  return reader->at < reader->line_end ? reader->text[reader->at] : 0;
}

static bool accept(Reader *reader, char wanted) {
  if (peek(reader) != wanted) return false;
  reader->at++;
  return true;
}

static bool expect(Reader *reader, char wanted) {
  if (accept(reader, wanted)) return true;
  if (reader->at < reader->line_end) REFUSE("expected `%c`, found `%c`", wanted, reader->text[reader->at]);
  REFUSE("expected `%c`, found the line's end", wanted);
}

static bool word_byte(char byte, bool first) {
  if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' || (byte & 0x80))
    return true;
  return !first && ((byte >= '0' && byte <= '9') || byte == '.' || byte == '\'');
}

static int hexadecimal(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static bool read_escape(Reader *reader, char *byte) {
  if (reader->at >= reader->line_end) REFUSE("this text does not end");
  *byte = reader->text[reader->at++];
  if (*byte == '"' || *byte == '\\') return true;
  int high = -1, low = -1;
  if (*byte == 'x' && reader->at + 2 <= reader->line_end) {
    high = hexadecimal(reader->text[reader->at]);
    low = hexadecimal(reader->text[reader->at + 1]);
    reader->at += 2;
  }
  if (high < 0 || low < 0 || !(high | low)) REFUSE("no such escape in a text");
  *byte = (char)(high << 4 | low);
  return true;
}

static bool read_quoted(Reader *reader, const char **word) {
  size_t length = 0, begin = reader->at++;
  char *copy = arena_alloc(reader->arena, reader->line_end - begin + 1);
  while (reader->at < reader->line_end && reader->text[reader->at] != '"') {
    char byte = reader->text[reader->at++];
    if (byte == '\\' && !read_escape(reader, &byte)) return false;
    copy[length++] = byte;
  }
  if (reader->at == reader->line_end) REFUSE("this text does not end");
  reader->at++;
  *word = copy;
  return true;
}

static bool read_word(Reader *reader, const char *what, const char **word) {
  char first = peek(reader);
  if (first == '"') return read_quoted(reader, word);
  if (!first || !word_byte(first, true)) REFUSE("expected %s", what);
  while (reader->at < reader->line_end && word_byte(reader->text[reader->at], false)) reader->at++;
  *word = arena_copy(reader->arena, reader->text + reader->token, reader->at - reader->token);
  return true;
}

// A whole number of at most `most` in size, with a sign only where `most` is given as a signed range.
static bool read_whole(Reader *reader, bool sign, int64_t most, int64_t *value) {
  bool negative = false;
  peek(reader);
  if (sign && (accept(reader, '-') || accept(reader, '+'))) negative = reader->text[reader->at - 1] == '-';
  size_t digits = reader->at;
  *value = 0;
  while (reader->at < reader->line_end && reader->text[reader->at] >= '0' &&
         reader->text[reader->at] <= '9') {
    *value = *value * 10 + (reader->text[reader->at++] - '0');
    if (*value > most) REFUSE("this number is larger than %" PRId64, most);
  }
  if (reader->at == digits) REFUSE("expected a whole number");
  if (negative) *value = -*value;
  return true;
}

static bool read_int(Reader *reader, int most, int *value) {
  int64_t wide;
  if (!read_whole(reader, false, most, &wide)) return false;
  *value = (int)wide;
  return true;
}

static bool read_number(Reader *reader, double *value) {
  char spelling[64];
  size_t length = 0;
  peek(reader);
  while (reader->at < reader->line_end && length < sizeof spelling - 1 && reader->text[reader->at] &&
         strchr("0123456789+-.einfa", reader->text[reader->at]))
    spelling[length++] = reader->text[reader->at++];
  spelling[length] = 0;
  char *end;
  *value = strtod(spelling, &end);
  if (!length || *end) REFUSE("expected a number");
  return true;
}

static bool find_symbol(const char *word, Symbol *symbol) {
  for (int i = 1; i < SYMBOL_COUNT; i++)
    if (!strcmp(word, symbol_names[i])) return *symbol = (Symbol)i, true;
  return false;
}

// 768, T, T+1, 2*B-3
static bool read_extent(Reader *reader, Extent *extent) {
  const int64_t most = EXTENT_LARGEST;
  int64_t factor = 1;
  const char *word;
  Symbol symbol;
  char first = peek(reader);
  if ((first >= '0' && first <= '9') || first == '-') {
    if (!read_whole(reader, true, most, &factor)) return false;
    *extent = extent_constant(factor);
    if (!accept(reader, '*')) return true;
  }
  if (!read_word(reader, "an extent, such as 768 or T+1", &word)) return false;
  if (!find_symbol(word, &symbol)) REFUSE("`%s` is not a run-time size; those are B, T, P and S", word);
  *extent = (Extent){factor ? symbol : SYMBOL_NONE, factor, 0};
  char sign = peek(reader);
  return (sign != '+' && sign != '-') || read_whole(reader, true, most, &extent->offset);
}

// ---- types --------------------------------------------------------------------------------------

static bool read_axis(Reader *reader, Type *type) {
  Axis axis;
  Symbol symbol;
  if (type->rank == MAX_RANK) REFUSE("more than %d axes", MAX_RANK);
  if (!read_word(reader, "an axis", &axis.label)) return false;
  for (int i = 0; i < type->rank; i++)
    if (!strcmp(axis.label, type->axes[i].label)) REFUSE("two axes are labelled `%s`", axis.label);
  if (find_symbol(axis.label, &symbol))
    axis.extent = extent_symbol(symbol);
  else
    symbol = SYMBOL_NONE;
  if (peek(reader) == '=' || !symbol) {
    if (!expect(reader, '=') || !read_extent(reader, &axis.extent)) return false;
  }
  type->axes[type->rank++] = axis;
  return true;
}

static bool read_type(Reader *reader, Type *type) {
  const char *name;
  *type = (Type){0};
  if (!read_word(reader, "an element type", &name)) return false;
  if (!dtype_from_name(name, &type->dtype)) REFUSE("`%s` is not an element type", name);
  if (!expect(reader, '[')) return false;
  if (accept(reader, ']')) return true;
  do {
    if (!read_axis(reader, type)) return false;
  } while (accept(reader, ','));
  return expect(reader, ']');
}

// ---- attributes ---------------------------------------------------------------------------------

static bool read_mask(Reader *reader, uint32_t *axes) {
  int axis;
  do {
    if (!read_int(reader, MAX_RANK - 1, &axis)) return false;
    *axes |= 1u << axis;
  } while (accept(reader, ','));
  return true;
}

static bool read_from(Reader *reader, int8_t *from) {
  int axis, rank = 0;
  do {
    if (rank == MAX_RANK) REFUSE("more than %d axes", MAX_RANK);
    if (accept(reader, '_'))
      axis = -1;
    else if (!read_int(reader, MAX_RANK - 1, &axis))
      return false;
    from[rank++] = (int8_t)axis;
  } while (accept(reader, ','));
  return true;
}

// Appended behind the `before` pairs already there.
static bool read_pairs(Reader *reader, Attributes *attributes, int before, int *count) {
  int left, right;
  *count = 0;
  do {
    if (before + *count == MAX_RANK) REFUSE("more than %d pairs of axes", MAX_RANK);
    if (!read_int(reader, MAX_RANK - 1, &left) || !expect(reader, '/') ||
        !read_int(reader, MAX_RANK - 1, &right))
      return false;
    attributes->left[before + *count] = (int8_t)left;
    attributes->right[before + *count] = (int8_t)right;
    ++*count;
  } while (accept(reader, ','));
  return true;
}

static bool read_stream(Reader *reader, Attributes *attributes) {
  int64_t stream;
  if (!read_whole(reader, false, MAX_NUMBER, &stream)) return false;
  attributes->stream = (uint32_t)stream;
  return true;
}

static bool read_field(Reader *reader, Field field, Attributes *attributes) {
  switch (field) {
  case FIELD_VALUE: return read_number(reader, &attributes->number);
  case FIELD_EXTENT:
  case FIELD_ROWS: return read_extent(reader, &attributes->extent);
  case FIELD_AXIS: return read_int(reader, MAX_RANK, &attributes->axis);
  case FIELD_START: return read_extent(reader, &attributes->start);
  case FIELD_STRIDE: return read_whole(reader, true, INT32_MAX, &attributes->stride);
  case FIELD_COUNT: return read_int(reader, MAX_RANK, &attributes->count);
  case FIELD_AXES: return read_mask(reader, &attributes->axes);
  case FIELD_FROM: return read_from(reader, attributes->from);
  case FIELD_BATCH: return read_int(reader, MAX_RANK, &attributes->batch);
  case FIELD_PAIRS: return read_pairs(reader, attributes, 0, &attributes->batch);
  case FIELD_CONTRACT: return read_pairs(reader, attributes, attributes->batch, &attributes->contract);
  case FIELD_STREAM: return read_stream(reader, attributes);
  case FIELD_INPUT:
  case FIELD_END: break;
  }
  return false;
}

// In the order in which they are printed.
static bool read_fields(Reader *reader, Op op, Attributes *attributes) {
  for (unsigned field = 1; field < FIELD_INPUT; field <<= 1) {
    if (!(op_fields[op] & field)) continue;
    const char *wanted = field_name((Field)field);
    bool optional = field == FIELD_PAIRS || field == FIELD_CONTRACT;
    peek(reader);
    size_t length = strlen(wanted);
    bool here = reader->line_end - reader->at > length &&
                !memcmp(reader->text + reader->at, wanted, length) &&
                reader->text[reader->at + length] == '=';
    if (!here && optional) continue;
    if (!here) REFUSE("expected `%s=`", wanted);
    reader->at += length + 1;
    if (!read_field(reader, (Field)field, attributes)) return false;
  }
  return true;
}

// ---- lines --------------------------------------------------------------------------------------

// A use of %N. *poisoned: its line had errors, which were reported there.
static bool read_operand(Reader *reader, NodeId *node, bool *poisoned) {
  int number;
  size_t begin = (peek(reader), reader->at);
  if (!expect(reader, '%') || !read_int(reader, MAX_NUMBER - 1, &number)) return false;
  reader->token = begin;
  if (!reader->known[number]) REFUSE("no line before this one defines %%%d", number);
  *node = reader->numbers[number];
  *poisoned |= !*node;
  return true;
}

static bool read_input(Reader *reader, Input *input) {
  const char *word;
  *input = (Input){.role = INPUT_ROLE_COUNT};
  if (reader->graph->input_count == MAX_NAMED) REFUSE("more than %d inputs", MAX_NAMED);
  if (!read_word(reader, "the input's name", &input->name) || !read_word(reader, "its role", &word))
    return false;
  for (int i = 0; i < INPUT_ROLE_COUNT; i++)
    if (!strcmp(word, input_role_names[i])) input->role = (InputRole)i;
  if (input->role == INPUT_ROLE_COUNT) REFUSE("`%s` is not data, param, state, scalar or part", word);
  if (input->role != INPUT_PARAM) return true;
  if (!read_word(reader, "`train`, `normal=` or `value=`", &word)) return false;
  input->trained = !strcmp(word, "train");
  if ((input->trained || (packing_from_name(word, &input->packing) && input->packing)) &&
      !read_word(reader, "`normal=` or `value=`", &word))
    return false;
  input->initial.normal = !strcmp(word, "normal");
  if (!input->initial.normal && strcmp(word, "value")) REFUSE("expected `normal=` or `value=`");
  return expect(reader, '=') &&
         read_number(reader, input->initial.normal ? &input->initial.spread : &input->initial.value);
}

// Does the line make what it says?
static bool check_type(Reader *reader, const Node *node, size_t line, size_t type_begin) {
  Text reason = {0};
  Type type;
  bool good = infer_type(reader->graph, node->op, node->in, &node->attributes, &node->type, &type, &reason);
  if (!good) {
    Span span = {reader->source, (uint32_t)line, (uint32_t)type_begin};
    error_at(reader->diagnostics, span, "%s: %s", op_table[node->op].name, text_string(&reason));
  } else if (!type_equal(&type, &node->type)) {
    type_print(&reason, &type);
    error_at(reader->diagnostics, span_from(reader, type_begin), "this line makes %s", text_string(&reason));
    good = false;
  }
  text_free(&reason);
  return good;
}

static bool read_origin_use(Reader *reader, uint32_t *origin) {
  int number;
  if (!accept(reader, '@')) return *origin = 0, true;
  if (!read_int(reader, MAX_NUMBER, &number)) return false;
  if ((size_t)number >= reader->graph->origin_count) REFUSE("there is no origin %d", number);
  *origin = (uint32_t)number;
  return true;
}

static bool expect_end(Reader *reader) {
  char byte = peek(reader);
  if (!byte || byte == '#') return true;
  reader->at = reader->line_end;
  REFUSE("expected the line's end");
}

static bool find_op(const char *name, Op *op) {
  for (int i = 0; i < OP_COUNT; i++)
    if (!strcmp(op_table[i].name, name)) return *op = (Op)i, true;
  return false;
}

static void append(Reader *reader, int number, const Node *node, const Input *input) {
  Graph *graph = reader->graph;
  graph->span = node->span;
  graph->origin = node->origin;
  if (node->op == OP_INPUT) {
    reader->numbers[number] = graph_input(graph, input->name, input->role, node->type);
    graph->inputs[graph->input_count - 1].trained = input->trained;
    graph->inputs[graph->input_count - 1].initial = input->initial;
    graph->inputs[graph->input_count - 1].packing = input->packing;
  } else {
    reader->numbers[number] = graph_append(graph, node->op, node->in, node->attributes, &node->type);
  }
  if (node->op == OP_RANDOM && graph->streams <= node->attributes.stream)
    graph->streams = node->attributes.stream + 1;
}

// %7 = mul %4 %6: f32[B, T] @2
static bool read_node(Reader *reader) {
  size_t line = reader->at;
  const char *name;
  int number;
  Node node = {0};
  Input input = {0};
  bool poisoned = false;
  if (!expect(reader, '%') || !read_int(reader, MAX_NUMBER - 1, &number)) return false;
  reader->token = line;
  if (reader->known[number]) REFUSE("%%%d is defined twice", number);
  reader->known[number] = 1;
  if (!expect(reader, '=') || !read_word(reader, "an operation", &name)) return false;
  if (!find_op(name, &node.op)) REFUSE("`%s` is not an operation", name);
  for (int i = 0; i < op_table[node.op].inputs; i++)
    if (!read_operand(reader, &node.in[i], &poisoned)) return false;
  if (node.op == OP_INPUT && !read_input(reader, &input)) return false;
  if (!read_fields(reader, node.op, &node.attributes) || !expect(reader, ':')) return false;
  size_t type_begin = (peek(reader), reader->at), type_end;
  if (!read_type(reader, &node.type)) return false;
  type_end = reader->at;
  if (!read_origin_use(reader, &node.origin) || !expect_end(reader) || poisoned) return false;
  node.span = (Span){reader->source, (uint32_t)line, (uint32_t)type_end};
  reader->at = type_end;
  if (!check_type(reader, &node, line, type_begin)) return false;
  append(reader, number, &node, &input);
  return true;
}

// origin 1 "lm.blocks.0.attn" nn.softmax call=3 backward
static bool read_origin(Reader *reader) {
  Graph *graph = reader->graph;
  Origin origin = {0};
  const char *word;
  int number;
  int64_t call;
  if (!read_int(reader, MAX_NUMBER, &number)) return false;
  if ((size_t)number != graph->origin_count) REFUSE("expected origin %zu here", graph->origin_count);
  if (!read_word(reader, "the path", &origin.path) || !read_word(reader, "the function", &origin.function) ||
      !read_word(reader, "`call=`", &word))
    return false;
  if (strcmp(word, "call")) REFUSE("expected `call=`");
  if (!expect(reader, '=') || !read_whole(reader, false, UINT32_MAX, &call)) return false;
  origin.call = (uint32_t)call;
  char next = peek(reader);
  if (next && next != '#') {
    if (!read_word(reader, "`backward`", &word)) return false;
    if (strcmp(word, "backward")) REFUSE("expected `backward`");
    origin.backward = true;
  }
  if (!expect_end(reader)) return false;
  ARENA_PUSH(graph->arena, graph->origins, graph->origin_count, graph->origin_capacity, origin);
  return true;
}

// output loss result %9
static bool read_output(Reader *reader) {
  const char *name, *kind;
  NodeId node;
  bool poisoned = false;
  if (reader->graph->output_count == MAX_NAMED) REFUSE("more than %d outputs", MAX_NAMED);
  if (!read_word(reader, "the output's name", &name) || !read_word(reader, "`result` or `update`", &kind))
    return false;
  bool update = !strcmp(kind, "update");
  if (!update && strcmp(kind, "result")) REFUSE("expected `result` or `update`");
  if (!read_operand(reader, &node, &poisoned) || !expect_end(reader) || poisoned) return false;
  graph_output(reader->graph, name, node, update);
  return true;
}

static bool read_header(Reader *reader) {
  const char *word, *name;
  if (!read_word(reader, "`graph`", &word)) return false;
  if (strcmp(word, "graph")) REFUSE("expected `graph`");
  if (!read_word(reader, "the graph's name", &name) || !expect_end(reader)) return false;
  reader->graph = graph_new(reader->arena, name);
  return true;
}

static void read_line(Reader *reader) {
  const char *word;
  char first = peek(reader);
  if (!first || first == '#') return;
  if (!reader->graph) {
    if (!read_header(reader)) reader->graph = graph_new(reader->arena, "");
    return;
  }
  if (first == '%') {
    read_node(reader);
    return;
  }
  if (!read_word(reader, "`%`, `origin` or `output`", &word)) return;
  if (!strcmp(word, "origin"))
    read_origin(reader);
  else if (!strcmp(word, "output"))
    read_output(reader);
  else
    error_at(reader->diagnostics, span_from(reader, reader->token),
             "expected `%%`, `origin` or `output`, found `%s`", word);
}

Graph *graph_read(Arena *arena, Diagnostics *diagnostics, uint32_t source) {
  const Source *text = &diagnostics->sources->list[source];
  int errors = diagnostics->errors;
  Arena *scratch = arena_new();
  Reader reader = {
      .arena = arena, .diagnostics = diagnostics, .source = source, .text = text->text, .end = text->length};
  reader.numbers = ARENA_ARRAY(scratch, NodeId, MAX_NUMBER);
  reader.known = ARENA_ARRAY(scratch, uint8_t, MAX_NUMBER);
  while (reader.at < reader.end && diagnostics->errors - errors <= DIAGNOSTICS_MAX_ERRORS) {
    const char *stop = memchr(reader.text + reader.at, '\n', reader.end - reader.at);
    reader.line_end = stop ? (size_t)(stop - reader.text) : reader.end;
    size_t next = reader.line_end + 1;
    read_line(&reader);
    reader.at = next;
  }
  if (!reader.graph) error_at(diagnostics, (Span){source, 0, 1}, "there is no graph here");
  Text reason = {0};
  if (diagnostics->errors == errors && graph_check_sizes(reader.graph, diagnostics) &&
      !graph_verify(reader.graph, &reason))
    error_at(diagnostics, (Span){source, 0, 1}, "%s", text_string(&reason));
  text_free(&reason);
  arena_free(scratch);
  if (diagnostics->errors > errors) return NULL;
  reader.graph->span = (Span){0};
  reader.graph->origin = 0;
  return reader.graph;
}
