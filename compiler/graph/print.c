// A graph as text: graph -> lines that read.c reads back. See graph.h for the form; besides:
//
//   origin 1 "lm.blocks.0.attn" nn.softmax call=3 backward       where nodes come from; used as @1 behind a type
//   %4 = exp %3: f32[B, T, width=128] @1
//   %2 = input lm.token param train normal=0.02: f32[..]          how a parameter starts: spread, or value=1
//   %5 = input lm.head param q8_0 normal=0.02: f32[..]            a packed weight, read by its parts alone
//
// Names and labels that are no plain words stand in quotes.
#include <inttypes.h>
#include <string.h>

#include "compiler/graph/attributes.h"
#include "compiler/graph/graph.h"

static bool plain(const char *word) {
  for (const char *at = word; *at; at++) {
    bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || *at == '_' || (*at & 0x80);
    bool other = (*at >= '0' && *at <= '9') || *at == '.' || *at == '\'';
    if (!letter && !(other && at != word)) return false;
  }
  return *word;
}

static void print_word(Text *text, const char *word) {
  if (plain(word)) {
    text_print(text, "%s", word);
    return;
  }
  text_print(text, "\"");
  for (const char *at = word; *at; at++) {
    if (*at == '"' || *at == '\\')
      text_print(text, "\\%c", *at);
    else if ((unsigned char)*at < ' ')
      text_print(text, "\\x%02x", *at);
    else
      text_add(text, at, 1);
  }
  text_print(text, "\"");
}

void type_print(Text *text, const Type *type) {
  text_print(text, "%s[", dtype_name(type->dtype));
  for (int i = 0; i < type->rank; i++) {
    const Axis *axis = &type->axes[i];
    if (i) text_print(text, ", ");
    print_word(text, axis->label ? axis->label : "?");
    int symbol = axis->extent.symbol;
    if (symbol && extent_equal(axis->extent, extent_symbol((Symbol)symbol)) && axis->label &&
        !strcmp(axis->label, symbol_names[symbol]))
      continue;
    text_print(text, "=");
    extent_print(text, axis->extent);
  }
  text_print(text, "]");
}

// ---- attributes ---------------------------------------------------------------------------------

static void print_mask(Text *text, uint32_t axes) {
  const char *separator = "";
  for (int i = 0; axes >> i; i++) {
    if (!(axes >> i & 1)) continue;
    text_print(text, "%s%d", separator, i);
    separator = ",";
  }
}

static void print_from(Text *text, const Node *node) {
  for (int i = 0; i < node->type.rank; i++) {
    if (i) text_print(text, ",");
    if (node->attributes.from[i] < 0)
      text_print(text, "_");
    else
      text_print(text, "%d", node->attributes.from[i]);
  }
}

static void print_pairs(Text *text, const Attributes *attributes, int begin, int end) {
  for (int i = begin; i < end; i++)
    text_print(text, "%s%d/%d", i > begin ? "," : "", attributes->left[i], attributes->right[i]);
}

static void print_field(Text *text, const Node *node, Field field) {
  const Attributes *attributes = &node->attributes;
  if ((field == FIELD_PAIRS && !attributes->batch) || (field == FIELD_CONTRACT && !attributes->contract))
    return;
  text_print(text, " %s=", field_name(field));
  switch (field) {
  case FIELD_VALUE: text_number(text, attributes->number); break;
  case FIELD_EXTENT:
  case FIELD_ROWS: extent_print(text, attributes->extent); break;
  case FIELD_AXIS: text_print(text, "%d", attributes->axis); break;
  case FIELD_START: extent_print(text, attributes->start); break;
  case FIELD_STRIDE: text_print(text, "%" PRId64, attributes->stride); break;
  case FIELD_COUNT: text_print(text, "%d", attributes->count); break;
  case FIELD_AXES: print_mask(text, attributes->axes); break;
  case FIELD_FROM: print_from(text, node); break;
  case FIELD_BATCH: text_print(text, "%d", attributes->batch); break;
  case FIELD_PAIRS: print_pairs(text, attributes, 0, attributes->batch); break;
  case FIELD_CONTRACT:
    print_pairs(text, attributes, attributes->batch, attributes->batch + attributes->contract);
    break;
  case FIELD_STREAM: text_print(text, "%u", attributes->stream); break;
  case FIELD_INPUT:
  case FIELD_END: break;
  }
}

// ---- lines --------------------------------------------------------------------------------------

const char *const input_role_names[INPUT_ROLE_COUNT] = {[INPUT_DATA] = "data",
                                                        [INPUT_PARAM] = "param",
                                                        [INPUT_STATE] = "state",
                                                        [INPUT_SCALAR] = "scalar",
                                                        [INPUT_PART] = "part"};

static void print_input(Text *text, const Input *input) {
  text_print(text, " ");
  print_word(text, input->name);
  text_print(text, " %s", input_role_names[input->role]);
  if (input->trained) text_print(text, " train");
  if (input->packing) text_print(text, " %s", packing_table[input->packing].name);
  if (input->role != INPUT_PARAM) return;
  text_print(text, input->initial.normal ? " normal=" : " value=");
  text_number(text, input->initial.normal ? input->initial.spread : input->initial.value);
}

static void print_node(const Graph *graph, Text *text, NodeId id) {
  const Node *node = &graph->nodes[id];
  text_print(text, "%%%u = %s", id, op_table[node->op].name);
  for (int i = 0; i < op_table[node->op].inputs; i++) text_print(text, " %%%u", node->in[i]);
  if (node->op == OP_INPUT) print_input(text, &graph->inputs[node->attributes.input]);
  for (unsigned field = 1; field < FIELD_INPUT; field <<= 1)
    if (op_fields[node->op] & field) print_field(text, node, (Field)field);
  text_print(text, ": ");
  type_print(text, &node->type);
  if (node->origin) text_print(text, " @%u", node->origin);
  text_print(text, "\n");
}

static void print_origin(Text *text, const Origin *origin, size_t index) {
  text_print(text, "origin %zu ", index);
  print_word(text, origin->path);
  text_print(text, " ");
  print_word(text, origin->function);
  text_print(text, " call=%u%s\n", origin->call, origin->backward ? " backward" : "");
}

void graph_print(const Graph *graph, Text *text) {
  text_print(text, "graph ");
  print_word(text, graph->name);
  text_print(text, "\n");
  for (size_t i = 1; i < graph->origin_count; i++) print_origin(text, &graph->origins[i], i);
  for (NodeId id = 1; id < graph->count; id++) print_node(graph, text, id);
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    text_print(text, "output ");
    print_word(text, output->name);
    text_print(text, " %s %%%u\n", output->update ? "update" : "result", output->node);
  }
}
