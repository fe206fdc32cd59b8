// --emit=svg and `vlmc draw`: the architecture as nested blocks, in the order in which data goes through
// them.
//
//   graph -> a tree of Boxes by the paths of layers ("vision.blocks.0.attn") -> folded: equal neighbours of a
//   repeat become one box with a count -> SVG
//
// A box shows its layer, its number of parameters and the shape it hands on. Blue is frozen, orange is
// trained.
#include "compiler/compile_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 620, MARGIN = 20, INDENT = 14, HEADER = 26, LEAF = 30, GAP = 12, ARROW_ROOM = 110 };

typedef struct Box Box;
struct Box {
  const char *name, *layer; // "attn", "Attention"; layer may be NULL
  Box *parent, **children;
  size_t count, capacity;
  int64_t trained, frozen; // parameters in it, those of its children included
  Type result;             // of its last node
  NodeId last;             // that node: boxes stand in this order
  Box *same;               // the box that this one was folded into, or NULL
  bool fed;                // data flows into it from the box before it
  bool has_result;
  int repeat, first;            // so many equal boxes, from this number
  int top, height, left, width; // pixels
};

typedef struct Drawing {
  Arena *arena;
  const Graph *graph;
  const Model *model; // NULL: the graph was read from text
  Box root;
  Box **box_of_node;
} Drawing;

// ---- the tree -----------------------------------------------------------------------------------

static Box *child_box(Drawing *drawing, Box *parent, const char *name, size_t length) {
  for (size_t i = 0; i < parent->count; i++)
    if (strlen(parent->children[i]->name) == length && !strncmp(parent->children[i]->name, name, length))
      return parent->children[i];
  Box *box = ARENA_NEW(drawing->arena, Box);
  box->name = arena_copy(drawing->arena, name, length);
  box->parent = parent;
  box->repeat = 1;
  ARENA_PUSH(drawing->arena, parent->children, parent->count, parent->capacity, box);
  return box;
}

static Box *box_at(Drawing *drawing, const char *path) {
  Box *box = &drawing->root;
  while (*path) {
    size_t length = strcspn(path, ".");
    box = child_box(drawing, box, path, length);
    path += length + (path[length] == '.');
  }
  return box;
}

static void count_parameter(Drawing *drawing, const Input *input) {
  static const int64_t none[SYMBOL_COUNT];
  const char *dot = strrchr(input->name, '.');
  const char *path = dot ? arena_copy(drawing->arena, input->name, (size_t)(dot - input->name)) : "";
  int64_t elements = type_elements(graph_type(drawing->graph, input->node), none);
  for (Box *box = box_at(drawing, path); box; box = box->parent)
    *(input->trained ? &box->trained : &box->frozen) += elements;
}

// What a node's layer hands on is the last that is computed in it; functions of the library at the top
// (cross_entropy, splice) get boxes of their own.
static void place_nodes(Drawing *drawing) {
  const Graph *graph = drawing->graph;
  drawing->box_of_node = ARENA_ARRAY(drawing->arena, Box *, graph->count);
  for (NodeId i = 1; i < graph->count; i++) {
    const Node *node = &graph->nodes[i];
    const Origin *origin = &graph->origins[node->origin];
    bool computes =
        node->op != OP_INPUT && node->op != OP_CONST && node->op != OP_SIZE && node->op != OP_IOTA;
    if (!computes) continue;
    bool own = !*origin->function || !strcmp(origin->function, graph->name) ||
               (drawing->model && model_has(drawing->model, origin->function));
    bool library = !*origin->path && !own;
    Box *box = box_at(drawing, library ? origin->function : origin->path);
    bool layer =
        origin->function[0] >= 'A' && origin->function[0] <= 'Z'; // functions begin with small letters
    if (!box->layer && layer) box->layer = origin->function;
    drawing->box_of_node[i] = box;
    for (; box; box = box->parent) box->result = node->type, box->has_result = true, box->last = i;
  }
  for (size_t i = 0; i < graph->input_count; i++)
    if (graph->inputs[i].role == INPUT_PARAM) count_parameter(drawing, &graph->inputs[i]);
}

// ---- folding ------------------------------------------------------------------------------------

static bool is_number(const char *name) { return *name && !name[strspn(name, "0123456789")]; }

static bool same_structure(const Box *a, const Box *b) {
  if (a->count != b->count || a->trained != b->trained || a->frozen != b->frozen) return false;
  for (size_t i = 0; i < a->count; i++)
    if (strcmp(a->children[i]->name, b->children[i]->name) || !same_structure(a->children[i], b->children[i]))
      return false;
  return true;
}

static int by_last(const void *left, const void *right) {
  NodeId a = (*(Box *const *)left)->last, b = (*(Box *const *)right)->last;
  return a < b ? -1 : a > b;
}

static void fold(Box *box) {
  size_t kept = 0;
  if (box->count) qsort(box->children, box->count, sizeof(Box *), by_last);
  for (size_t i = 0; i < box->count; i++) {
    Box *child = box->children[i], *last = kept ? box->children[kept - 1] : NULL;
    child->first = is_number(child->name) ? atoi(child->name) : 0;
    if (last && is_number(child->name) && is_number(last->name) && same_structure(last, child)) {
      last->repeat++;
      last->result = child->result;
      child->same = last;
      continue;
    }
    fold(child);
    box->children[kept++] = child;
  }
  box->count = kept;
}

// ---- layout and drawing -------------------------------------------------------------------------

static void lay_out(Box *box, int left, int top, int width) {
  int y = top + HEADER;
  box->left = left, box->top = top, box->width = width;
  for (size_t i = 0; i < box->count; i++) {
    lay_out(box->children[i], left + INDENT, y + (i ? GAP : 0), width - 2 * INDENT);
    y = box->children[i]->top + box->children[i]->height;
  }
  box->height = box->count ? y + INDENT - top : LEAF;
}

static void print_xml(Text *text, const char *string) {
  for (; *string; string++) {
    if (*string == '<')
      text_print(text, "&lt;");
    else if (*string == '&')
      text_print(text, "&amp;");
    else if (*string == '"')
      text_print(text, "&quot;");
    else
      text_print(text, "%c", *string);
  }
}

static void print_count(Text *text, int64_t count) {
  if (count >= 1000000)
    text_print(text, "%.1f M", (double)count / 1e6);
  else if (count >= 1000)
    text_print(text, "%.1f k", (double)count / 1e3);
  else
    text_print(text, "%" PRId64, count);
}

static const char *fill_of(const Box *box) {
  if (box->trained && box->frozen) return "#fbf6ea";
  if (box->trained) return "#fdd9a8";
  return box->frozen ? "#cfe3f7" : "#f2f2f2";
}

static void draw_title(const Box *box, Text *text) {
  Text title = {0};
  if (is_number(box->name) && box->repeat > 1)
    text_print(&title, "%d to %d", box->first, box->first + box->repeat - 1);
  else
    text_print(&title, "%s", box->name);
  text_print(text, "<text x=\"%d\" y=\"%d\" class=\"name\">", box->left + 8, box->top + 18);
  print_xml(text, text_string(&title));
  if (box->layer) {
    text_print(text, " <tspan class=\"layer\">");
    print_xml(text, box->layer);
    text_print(text, "</tspan>");
  }
  if (box->repeat > 1) text_print(text, " <tspan class=\"repeat\">\xc3\x97%d</tspan>", box->repeat);
  text_print(text, "</text>\n");
  text_free(&title);
}

static void draw_facts(const Box *box, Text *text) {
  Text shape = {0};
  int64_t parameters = (box->trained + box->frozen) * box->repeat;
  for (int i = 0; box->has_result && i < box->result.rank; i++) {
    text_print(&shape, "%s", i ? ", " : "[");
    extent_print(&shape, box->result.axes[i].extent);
    text_print(&shape, "%s", i + 1 == box->result.rank ? "]" : "");
  }
  text_print(text, "<text x=\"%d\" y=\"%d\" class=\"facts\">", box->left + box->width - 8, box->top + 18);
  if (parameters) {
    print_count(text, parameters);
    text_print(text, "%s  ",
               box->trained && box->frozen ? ", partly trained"
               : box->trained              ? ", trained"
                                           : ", frozen");
  }
  print_xml(text, text_string(&shape));
  text_print(text, "</text>\n");
  text_free(&shape);
}

static void draw_box(const Box *box, Text *text) {
  text_print(text, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"5\" fill=\"%s\"/>\n", box->left,
             box->top, box->width, box->height, fill_of(box));
  draw_title(box, text);
  draw_facts(box, text);
  for (size_t i = 0; i < box->count; i++) {
    const Box *child = box->children[i];
    if (child->fed || (i && box->parent)) { // inside of a layer also through its own arithmetic
      int x = child->left + child->width / 2;
      text_print(text, "<path d=\"M%d %d v%d\" class=\"flow\"/>\n", x, child->top - GAP, GAP - 3);
    }
    draw_box(child, text);
  }
}

static int rank_of(const Box *box) {
  for (size_t i = 0; i < box->parent->count; i++)
    if (box->parent->children[i] == box) return (int)i;
  return -1;
}

static int depth_of(const Box *box) {
  int depth = 0;
  for (; box->parent; box = box->parent) depth++;
  return depth;
}

static Box *kept(Box *box) { return box->same ? box->same : box; }

// The two boxes, side by side in one parent, between which a graph's edge runs. False: it stays inside of
// one.
static bool siblings(Box **from, Box **to) {
  Box *a = kept(*from), *b = kept(*to);
  int da = depth_of(a), db = depth_of(b);
  for (; da > db; da--) a = kept(a->parent);
  for (; db > da; db--) b = kept(b->parent);
  if (a == b) return false;
  while (a->parent != b->parent) {
    a = kept(a->parent), b = kept(b->parent);
    if (a == b) return false;
  }
  *from = a, *to = b;
  return a->parent != NULL;
}

// Data that skips a block, or comes back to one further up, runs in an arc on the right.
static void draw_arc(const Box *a, const Box *b, int steps, Text *text) {
  int x = a->left + a->width, bend = 24 + 14 * steps < ARROW_ROOM - 10 ? 24 + 14 * steps : ARROW_ROOM - 10;
  int start = steps < 0 ? a->top + HEADER / 2 : a->top + a->height / 2;
  if (steps < 0) bend = 40;
  text_print(text, "<path d=\"M%d %d C%d %d %d %d %d %d\" class=\"flow\"/>\n", x, start, x + bend, start,
             x + bend, b->top + HEADER / 2, x + 4, b->top + HEADER / 2);
}

// Finds what feeds what: neighbours get an arrow between them, other blocks of the top level an arc.
static void find_flows(Drawing *drawing, Text *arcs) {
  size_t tops = drawing->root.count;
  bool *seen = ARENA_ARRAY(drawing->arena, bool, tops *tops + 1);
  for (NodeId i = 1; i < drawing->graph->count; i++) {
    for (int j = 0; j < op_table[drawing->graph->nodes[i].op].inputs; j++) {
      Box *from = drawing->box_of_node[drawing->graph->nodes[i].in[j]], *to = drawing->box_of_node[i];
      if (!from || !to || !siblings(&from, &to)) continue;
      int a = rank_of(from), b = rank_of(to);
      if (b == a + 1) to->fed = true;
      if (b == a + 1 || a < 0 || b < 0 || from->parent != &drawing->root ||
          seen[(size_t)a * tops + (size_t)b])
        continue;
      seen[(size_t)a * tops + (size_t)b] = true;
      draw_arc(from, to, b - a, arcs);
    }
  }
}

static const char style[] =
    "<style>text{font-family:sans-serif;font-size:13px;fill:#222}.name{font-weight:bold}.layer{font-weight:"
    "normal;fill:#666}"
    ".repeat{fill:#b03a2e}.facts{text-anchor:end;font-size:12px;fill:#444}rect{stroke:#888;stroke-width:1}"
    ".flow{fill:none;stroke:#555;stroke-width:1.5;marker-end:url(#head)}</style>\n"
    "<defs><marker id=\"head\" viewBox=\"0 0 6 6\" refX=\"5\" refY=\"3\" markerWidth=\"6\" "
    "markerHeight=\"6\" orient=\"auto\">"
    "<path d=\"M0 0 L6 3 L0 6 z\" fill=\"#555\"/></marker></defs>\n";

void draw_svg(const Unit *unit, Text *text) {
  Drawing drawing = {.arena = arena_new(), .graph = unit->before_backward, .model = unit->compiler->model};
  Text arcs = {0};
  if (drawing.graph) {
    drawing.root.name = unit->compiler->model ? model_name(unit->compiler->model) : drawing.graph->name;
    drawing.root.repeat = 1;
    place_nodes(&drawing);
    fold(&drawing.root);
    lay_out(&drawing.root, MARGIN, MARGIN, WIDTH);
    int height = drawing.root.height + 2 * MARGIN + 24;
    text_print(
        text, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n",
        WIDTH + MARGIN + ARROW_ROOM, height, WIDTH + MARGIN + ARROW_ROOM, height);
    text_print(text, "%s<rect width=\"100%%\" height=\"100%%\" style=\"fill:#fff;stroke:none\"/>\n", style);
    find_flows(&drawing, &arcs);
    draw_box(&drawing.root, text);
    text_print(text, "%s", text_string(&arcs));
    text_free(&arcs);
    text_print(text,
               "<text x=\"%d\" y=\"%d\" class=\"layer\">blue: frozen \xc2\xb7 orange: trained \xc2\xb7 "
               "right: parameters, and the shape handed on</text>\n",
               MARGIN, height - MARGIN + 6);
    text_print(text, "</svg>\n");
  }
  arena_free(drawing.arena);
}
