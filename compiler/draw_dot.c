// --emit=dot: the graph for graphviz, one node per operation, clustered by the layer it came from.
#include "compiler/compile_internal.h"

#include <string.h>

static void print_escaped(Text *text, const char *label) {
  for (; *label; label++) text_print(text, "%s%c", *label == '"' || *label == '\\' ? "\\" : "", *label);
}

static void print_node(const Graph *graph, NodeId id, Text *text) {
  const Node *node = &graph->nodes[id];
  Text label = {0};
  if (node->op == OP_INPUT)
    text_print(&label, "%s", graph->inputs[node->attributes.input].name);
  else if (node->op == OP_CONST)
    text_number(&label, node->attributes.number);
  else
    text_print(&label, "%s", op_table[node->op].name);
  text_print(text, "    n%u [label=\"", id);
  print_escaped(text, text_string(&label));
  text_print(text, "\\n");
  text_free(&label);
  type_print(&label, &node->type);
  print_escaped(text, text_string(&label));
  text_free(&label);
  text_print(text, "\"%s];\n", node->op == OP_INPUT ? ", shape=oval" : "");
}

void draw_dot(const Unit *unit, Text *text) {
  const Graph *graph = unit->before_backward;
  if (!graph) return;
  text_print(text, "digraph \"%s\" {\n  node [shape=box, fontname=\"sans-serif\", fontsize=10];\n",
             graph->name);
  for (size_t origin = 0; origin < graph->origin_count; origin++) {
    const Origin *place = &graph->origins[origin];
    bool open = false;
    for (NodeId i = 1; i < graph->count; i++) {
      if (graph->nodes[i].origin != origin) continue;
      if (!open) {
        text_print(text, "  subgraph \"cluster_%zu\" {\n    label=\"", origin);
        print_escaped(text, place->path);
        text_print(text, " ");
        print_escaped(text, place->function);
        text_print(text, "\";\n");
      }
      open = true;
      print_node(graph, i, text);
    }
    if (open) text_print(text, "  }\n");
  }
  for (NodeId i = 1; i < graph->count; i++)
    for (int j = 0; j < op_table[graph->nodes[i].op].inputs; j++)
      text_print(text, "  n%u -> n%u;\n", graph->nodes[i].in[j], i);
  text_print(text, "}\n");
}
