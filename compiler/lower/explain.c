// What fusion decided, as text: --emit=fused (the graph by groups) and --explain=fusion (each value that
// stays in memory, its bytes and the reason). Input: graph and Fusion; output: text.
#include "compiler/lower/lower.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_node(const Graph *graph, NodeId id, Text *text) {
  const Node *node = &graph->nodes[id];
  text_print(text, "%%%u = %s", id, op_table[node->op].name);
  if (node->op == OP_INPUT) text_print(text, " %s", graph->inputs[node->attributes.input].name);
  if (node->op == OP_CONST) text_print(text, " "), text_number(text, node->attributes.number);
  for (int i = 0; i < op_table[node->op].inputs; i++) text_print(text, " %%%u", node->in[i]);
  text_print(text, ": ");
  type_print(text, &node->type);
}

typedef struct Printer {
  const Graph *graph;
  const Fusion *fusion;
  Text *text;
  uint32_t *stamp;
  size_t *first; // per group: where its nodes begin in `nodes`
  NodeId *nodes; // stored nodes by group
} Printer;

static bool elsewhere(const Printer *printer, uint32_t group, NodeId id) {
  uint32_t of = printer->fusion->group[id];
  return printer->graph->nodes[id].op == OP_INPUT || (of && of != group);
}

static void mark(Printer *printer, uint32_t group, NodeId id) {
  if (printer->stamp[id] == group || elsewhere(printer, group, id)) return;
  printer->stamp[id] = group;
  const Node *node = &printer->graph->nodes[id];
  for (int i = 0; i < op_table[node->op].inputs; i++) mark(printer, group, node->in[i]);
}

static void sort_by_group(Printer *printer) {
  const Fusion *fusion = printer->fusion;
  for (NodeId id = 1; id < printer->graph->count; id++)
    if (fusion->group[id] && fusion->inside[id] != id) printer->first[fusion->group[id] + 1]++;
  for (uint32_t i = 1; i <= fusion->group_count + 1; i++) printer->first[i] += printer->first[i - 1];
  size_t *next = calloc(fusion->group_count + 2, sizeof *next);
  if (!next) die("out of memory");
  memcpy(next, printer->first, (fusion->group_count + 1) * sizeof *next);
  for (NodeId id = 1; id < printer->graph->count; id++)
    if (fusion->group[id] && fusion->inside[id] != id) printer->nodes[next[fusion->group[id]]++] = id;
  free(next);
}

static void print_group(Printer *printer, uint32_t group) {
  NodeId last = 0, first = printer->graph->count;
  for (size_t i = printer->first[group]; i < printer->first[group + 1]; i++) {
    mark(printer, group, printer->nodes[i]);
    last = printer->nodes[i];
  }
  for (NodeId id = 1; id <= last; id++)
    if (printer->stamp[id] == group && id < first) first = id;
  text_print(printer->text, "group %u\n", group);
  for (NodeId id = first; id <= last; id++) {
    if (printer->stamp[id] != group) continue;
    text_print(printer->text, printer->fusion->group[id] ? "  store " : "  ");
    print_node(printer->graph, id, printer->text);
    if (printer->fusion->inside[id]) text_print(printer->text, " in %%%u", printer->fusion->inside[id]);
    text_print(printer->text, "\n");
  }
}

void fusion_print(const Graph *graph, const Fusion *fusion, Text *text) {
  Printer printer = {graph,
                     fusion,
                     text,
                     calloc(graph->count, sizeof(uint32_t)),
                     calloc(fusion->group_count + 3, sizeof(size_t)),
                     calloc(graph->count, sizeof(NodeId))};
  if (!printer.stamp || !printer.first || !printer.nodes) die("out of memory");
  text_print(text, "fused %s: %u groups of %zu nodes\n", graph->name, fusion->group_count, graph->count - 1);
  sort_by_group(&printer);
  for (uint32_t group = 1; group <= fusion->group_count; group++) print_group(&printer, group);
  free(printer.stamp);
  free(printer.first);
  free(printer.nodes);
}

void fusion_explain(const Graph *graph, const Fusion *fusion, const Sources *sources,
                    const int64_t symbols[SYMBOL_COUNT], Text *text) {
  double total = 0;
  text_print(text, "values that stay in memory:\n");
  for (NodeId id = 1; id < graph->count; id++) {
    if (!fusion->group[id] || fusion->inside[id] == id) continue;
    const Node *node = &graph->nodes[id];
    int64_t bytes = type_elements(&node->type, symbols) * (int64_t)dtype_bytes(node->type.dtype);
    total += (double)bytes;
    text_print(text, "  kernel %-4u %12" PRId64 " bytes  ", fusion->group[id], bytes);
    print_node(graph, id, text);
    if (sources && node->span.source && node->span.source < sources->count)
      text_print(text, "  %s:%d", sources->list[node->span.source].path, span_line(sources, node->span));
    text_print(text, "  (%s", reason_texts[fusion->reason[id]]);
    if (fusion->note[id]) text_print(text, "; its attention is not one kernel: %s", fusion->note[id]);
    text_print(text, ")\n");
  }
  text_print(text, "  in all %.0f bytes are written\n", total);
}
