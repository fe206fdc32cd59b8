// Names of kernels and the model lines that they implement: from the origins and spans of their nodes.
#include "compiler/lower/lowering.h"

#include <string.h>

static void add_identifier(Text *text, const char *word, bool digits) {
  if (!*word) return;
  if (text->length) text_add(text, "_", 1);
  for (; *word; word++) {
    bool letter = (*word | 32) >= 'a' && (*word | 32) <= 'z', digit = *word >= '0' && *word <= '9';
    if (*word == '.' && !digits && word[1] >= '0' && word[1] <= '9') { // ".12." of a layer
      const char *end = word + 1;
      while (*end >= '0' && *end <= '9') end++;
      if (!*end || *end == '.') {
        word = end - 1;
        continue;
      }
    }
    text_add(text, letter || digit ? word : "_", 1);
  }
}

// The node that a kernel is named after: its contraction, its last reduction, or what it stores last.
static NodeId main_node(const Lowering *lowering, uint32_t group) {
  const NodeList *stored = &lowering->stored[group];
  NodeId best = stored->list[stored->count - 1];
  for (size_t i = 0; i < lowering->closure.count; i++) {
    Op op = lowering_node(lowering, lowering->closure.list[i])->op;
    if (op == OP_DOT || is_reduction(op)) best = lowering->closure.list[i];
  }
  return best;
}

// "lm_blocks_0_attn_softmax"; without layer numbers for code that layers share.
void kernel_name(const Lowering *lowering, uint32_t group, bool digits, Text *name) {
  const Node *node = lowering_node(lowering, main_node(lowering, group));
  const Origin *origin = &lowering->graph->origins[node->origin];
  add_identifier(name, origin->path ? origin->path : "", digits);
  const char *function = origin->function ? origin->function : "";
  if (strrchr(function, '.')) function = strrchr(function, '.') + 1;
  add_identifier(name, *function ? function : op_table[node->op].name, true);
  if (origin->backward) text_print(name, "_backward");
}

static uint64_t text_hash(const char *text) {
  uint64_t hash = 14695981039346656037u;
  while (*text) hash = (hash ^ (unsigned char)*text++) * 1099511628211u;
  return hash;
}

NameTable names_for(Arena *arena, size_t count) {
  NameTable table = {.size = 64};
  while (table.size < 4 * count) table.size *= 2;
  table.names = ARENA_ARRAY(arena, const char *, table.size);
  return table;
}

static bool name_taken(const NameTable *table, const char *name, size_t *at) {
  *at = text_hash(name) & (table->size - 1);
  for (; table->names[*at]; *at = (*at + 1) & (table->size - 1))
    if (!strcmp(table->names[*at], name)) return true;
  return false;
}

const char *unique_name(Lowering *lowering, NameTable *table, const char *wanted) {
  size_t at;
  const char *name = arena_copy(lowering->arena, wanted, strlen(wanted));
  if (*name >= '0' && *name <= '9') name = arena_print(lowering->arena, "k%s", name);
  const char *base = name;
  for (int suffix = 2; name_taken(table, name, &at); suffix++)
    name = arena_print(lowering->arena, "%s_%d", base, suffix);
  table->names[at] = name;
  return name;
}

// The same few spans stand on many nodes, and finding a line means reading the file up to it.
const char *span_place(Lowering *lowering, Span span) {
  if (!span.source || !lowering->sources || span.source >= lowering->sources->count) return "";
  SpanPlace *known = &lowering->places[(span.source * 31 + span.begin * 7) % SPAN_PLACES];
  if (known->text && known->span.source == span.source && known->span.begin == span.begin) return known->text;
  known->span = span;
  known->text = arena_print(lowering->arena, "%s:%d", lowering->sources->list[span.source].path,
                            span_line(lowering->sources, span));
  return known->text;
}

const char *model_lines(Lowering *lowering, const Kernel *kernel) {
  Text text = {0};
  const char *seen[KERNEL_MAX_PLACES];
  int count = 0;
  for (size_t i = 0; i < kernel->span_count && count < KERNEL_MAX_PLACES; i++) {
    const char *line = span_place(lowering, kernel->spans[i]);
    bool known = !*line;
    for (int k = 0; k < count && !known; k++) known = !strcmp(seen[k], line);
    if (known) continue;
    seen[count++] = line;
    text_print(&text, "%s%s", text.length ? ", " : "", line);
  }
  const char *lines = arena_copy(lowering->arena, text_string(&text), text.length);
  text_free(&text);
  return lines;
}
