// One kernel per group of the Fusion: graph and fusion -> kernels, buffers and launches in order.
//
// Equal kernels share a row. New values of parameters and states are written in place where nothing reads the
// old value later, else they go through a temporary and a copy at the end.
#include "compiler/lower/lowering.h"

#include <limits.h>
#include <string.h>

// ---- the program --------------------------------------------------------------------------------

static int add_buffer(Lowering *lowering, Buffer buffer) {
  Program *program = &lowering->out->program;
  size_t count = (size_t)program->buffer_count;
  buffer.first_launch = buffer.last_launch = -1;
  ARENA_PUSH(lowering->arena, program->buffers, count, lowering->buffer_capacity, buffer);
  program->buffer_count = (int)count;
  return program->buffer_count - 1;
}

static Buffer buffer_for(Lowering *lowering, const char *name, BufferRole role, NodeId id) {
  const Node *node = lowering_node(lowering, id);
  Buffer buffer = {.name = name, .role = role, .dtype = node->type.dtype, .rank = node->type.rank};
  for (int i = 0; i < node->type.rank; i++) {
    buffer.extents[i] = node->type.axes[i].extent;
    buffer.labels[i] = node->type.axes[i].label;
  }
  buffer.origin = span_place(lowering, node->span);
  return buffer;
}

static const BufferRole input_roles[INPUT_ROLE_COUNT] = {[INPUT_DATA] = ROLE_DATA,
                                                         [INPUT_PARAM] = ROLE_PARAM,
                                                         [INPUT_PART] = ROLE_PART,
                                                         [INPUT_STATE] = ROLE_STATE,
                                                         [INPUT_SCALAR] = ROLE_SCALAR};

static void add_inputs(Lowering *lowering) {
  for (size_t i = 0; i < lowering->graph->input_count; i++) {
    const Input *input = &lowering->graph->inputs[i];
    Buffer buffer = buffer_for(lowering, input->name, input_roles[input->role], input->node);
    buffer.trained = input->trained;
    buffer.packing = input->packing;
    buffer.initial_normal = input->initial.normal;
    buffer.initial_value = input->initial.value;
    buffer.initial_spread = input->initial.spread;
    lowering->buffer[input->node] = add_buffer(lowering, buffer);
  }
}

// May the group that computes the new value write it over the old one? All readers of the old come before.
static bool in_place(const Lowering *lowering, const Output *output) {
  NodeId input = graph_find_input((Graph *)(uintptr_t)lowering->graph, output->name)->node;
  const Node *node = lowering_node(lowering, output->node);
  uint32_t group = lowering->fusion->group[output->node];
  if (!group || lowering->buffer[output->node] >= 0 || node->op == OP_SCATTER) return false;
  return lowering->last_reader[input] <= (int)group;
}

// Buffers of what the groups store: an output's own, the state's that it overwrites, or a temporary.
static void place_outputs(Lowering *lowering) {
  const Graph *graph = lowering->graph;
  for (NodeId id = 1; id < graph->count; id++) // updates of states are always in place: verify.c
    if (graph->nodes[id].op == OP_UPDATE && lowering->fusion->group[id])
      lowering->buffer[id] = lowering->buffer[graph->nodes[id].in[0]];
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    if (!output->update || !in_place(lowering, output)) continue;
    lowering->update_of[output->node] = (int)i;
    lowering->buffer[output->node] =
        lowering->buffer[graph_find_input((Graph *)(uintptr_t)graph, output->name)->node];
  }
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    if (output->update || !lowering->fusion->group[output->node] || lowering->buffer[output->node] >= 0)
      continue;
    lowering->buffer[output->node] =
        add_buffer(lowering, buffer_for(lowering, output->name, ROLE_RESULT, output->node));
  }
}

static int buffer_of_stored(Lowering *lowering, NodeId id) {
  if (lowering->buffer[id] < 0) {
    const char *name = arena_print(lowering->arena, "t%u", id);
    lowering->buffer[id] = add_buffer(lowering, buffer_for(lowering, name, ROLE_TEMPORARY, id));
  }
  return lowering->buffer[id];
}

// ---- kernels that are equal share a row ---------------------------------------------------------

static KernelRow *find_row(const Lowering *lowering, const Kernel *kernel, uint64_t hash) {
  size_t mask = lowering->kernel_table_size - 1;
  for (size_t at = hash & mask; lowering->kernel_table[at]; at = (at + 1) & mask) {
    KernelRow *known = &lowering->rows[lowering->kernel_table[at] - 1];
    if (known->hash == hash && kernel_same_code(known->kernel, kernel)) return known;
  }
  return NULL;
}

static KernelRow *add_row(Lowering *lowering, KernelRow row) {
  size_t mask = lowering->kernel_table_size - 1, at = row.hash & mask;
  while (lowering->kernel_table[at]) at = (at + 1) & mask;
  ARENA_PUSH(lowering->arena, lowering->rows, lowering->row_count, lowering->row_capacity, row);
  lowering->kernel_table[at] = (uint32_t)lowering->row_count;
  return &lowering->rows[lowering->row_count - 1];
}

// The row of the code for a kernel: known as it stands, or with its axes collapsed, or new.
static const KernelRow *kernel_row(Lowering *lowering, const Kernel *kernel, const char *shared_name) {
  Lowered *out = lowering->out;
  KernelRow *known = find_row(lowering, kernel, kernel_hash(kernel));
  if (known) return known;
  Kernel *copy = kernel_copy(kernel, lowering->arena), *collapsed = collapse(copy);
  KernelRow row = {copy, kernel_hash(copy), (int)out->kernel_count,
                   kernel_flops(collapsed, lowering->symbols), kernel_bytes(collapsed, lowering->symbols)};
  KernelRow shared = row;
  shared.kernel = collapsed;
  shared.hash = kernel_hash(collapsed);
  known = find_row(lowering, collapsed, shared.hash);
  if (known) {
    row.row = known->row;
  } else {
    collapsed->name = unique_name(lowering, &lowering->code_names, shared_name);
    ARENA_PUSH(lowering->arena, out->kernels, out->kernel_count, lowering->kernel_capacity, collapsed);
    if (collapsed != copy) add_row(lowering, shared);
  }
  return add_row(lowering, row);
}

static void touch_buffer(Lowering *lowering, int buffer, int launch) {
  Buffer *of = &lowering->out->program.buffers[buffer];
  if (of->first_launch < 0) of->first_launch = launch;
  of->last_launch = launch;
}

// Appends the launch of a kernel; buffers: the program's, in the kernel's order.
static void add_launch(Lowering *lowering, const Kernel *kernel, const char *name, const char *shared_name,
                       int *buffers) {
  Program *program = &lowering->out->program;
  Launch launch = {.buffers = buffers, .buffer_count = kernel->buffer_count};
  launch.kernel = unique_name(lowering, &lowering->launch_names, name);
  launch.lines = model_lines(lowering, kernel);
  launch.anchor = anchor_names[kernel->anchor];
  const KernelRow *row = kernel_row(lowering, kernel, shared_name);
  launch.code = row->row;
  launch.flops = row->flops;
  launch.bytes = row->bytes;
  size_t count = (size_t)program->launch_count;
  ARENA_PUSH(lowering->arena, program->launches, count, lowering->launch_capacity, launch);
  program->launch_count = (int)count;
  for (int i = 0; i < kernel->buffer_count; i++)
    touch_buffer(lowering, buffers[i], program->launch_count - 1);
}

static void lower_group(Lowering *lowering, uint32_t group) {
  ElementContext *context = &lowering->context;
  Arena *arena = arena_new(); // most kernels are known already and die here
  Kernel *kernel = build_kernel(lowering, group, arena);
  if (!updates_fit(kernel)) { // the old value is read elsewhere than where the new one goes: through a copy
    build_end(lowering);
    for (size_t i = 0; i < lowering->stored[group].count; i++) {
      NodeId id = lowering->stored[group].list[i];
      if (lowering->update_of[id] < 0) continue;
      lowering->update_of[id] = -1;
      lowering->buffer[id] = -1;
    }
    lowering->stamp[0] = 0;
    for (size_t i = 0; i < lowering->closure.count; i++) lowering->stamp[lowering->closure.list[i]] = 0;
    for (size_t i = 0; i < lowering->leaves.count; i++) lowering->stamp[lowering->leaves.list[i]] = 0;
    kernel = build_kernel(lowering, group, arena);
  }
  int *buffers = ARENA_ARRAY(lowering->arena, int, kernel->buffer_count);
  for (int i = 0; i < kernel->buffer_count; i++)
    buffers[i] = buffer_of_stored(lowering, context->node_of_buffer[i]);
  for (int i = 0; i < kernel->store_count; i++)
    if (kernel->stores[i].mode == STORE_ADD)
      lowering->out->program.buffers[buffers[kernel->stores[i].buffer]].zeroed = true;
  build_end(lowering);
  Text name = {0}, shared = {0};
  kernel_name(lowering, group, true, &name);
  kernel_name(lowering, group, false, &shared);
  add_launch(lowering, kernel, text_string(&name), text_string(&shared), buffers);
  text_free(&name);
  text_free(&shared);
  arena_free(arena);
}

// ---- copies -------------------------------------------------------------------------------------

static void add_copy(Lowering *lowering, NodeId id, int from, int to) {
  Kernel *kernel = kernel_new(lowering->arena, "copy");
  const Node *node = lowering_node(lowering, id);
  Extent extents[MAX_RANK];
  ExprId index[MAX_RANK] = {0};
  uint32_t axes = 0;
  for (int i = 0; i < node->type.rank; i++) {
    extents[i] = node->type.axes[i].extent;
    index[i] = kernel_axis_value(kernel, kernel_axis(kernel, node->type.axes[i].label, extents[i]));
    axes |= kernel_free_axes(kernel, index[i]);
  }
  int source = kernel_buffer(kernel, "x0", node->type.dtype, node->type.rank, extents, BUFFER_READ);
  int result = kernel_buffer(kernel, "y0", node->type.dtype, node->type.rank, extents, BUFFER_WRITE);
  kernel_store(kernel, result, index, kernel_load(kernel, source, index, 0), axes, STORE_SET);
  kernel->anchor = ANCHOR_MAP;
  if (node->span.source)
    ARENA_PUSH(lowering->arena, kernel->spans, kernel->span_count, kernel->span_capacity, node->span);
  int *buffers = ARENA_ARRAY(lowering->arena, int, 2);
  buffers[0] = from;
  buffers[1] = to;
  add_launch(lowering, kernel, "copy", "copy", buffers);
}

// What an update takes from an input, another update may overwrite: it is set aside first.
static void set_inputs_aside(Lowering *lowering, int *aside) {
  for (size_t i = 0; i < lowering->graph->output_count; i++) {
    const Output *output = &lowering->graph->outputs[i];
    aside[i] = -1;
    if (!output->update || lowering_node(lowering, output->node)->op != OP_INPUT) continue;
    const char *name = arena_print(lowering->arena, "old:%s", output->name);
    aside[i] = add_buffer(lowering, buffer_for(lowering, name, ROLE_TEMPORARY, output->node));
    add_copy(lowering, output->node, lowering->buffer[output->node], aside[i]);
  }
}

static void copy_outputs(Lowering *lowering) {
  const Graph *graph = lowering->graph;
  int *aside = ARENA_ARRAY(lowering->arena, int, graph->output_count + 1);
  for (size_t i = 0; i < graph->output_count; i++) { // results first: an update may overwrite what they show
    const Output *output = &graph->outputs[i];
    int from = lowering->buffer[output->node];
    const char *have = lowering->out->program.buffers[from].name;
    if (output->update ||
        (lowering->out->program.buffers[from].role == ROLE_RESULT && !strcmp(have, output->name)))
      continue;
    add_copy(lowering, output->node, from,
             add_buffer(lowering, buffer_for(lowering, output->name, ROLE_RESULT, output->node)));
  }
  set_inputs_aside(lowering, aside);
  for (size_t i = 0; i < graph->output_count; i++) {
    const Output *output = &graph->outputs[i];
    int from = aside[i] >= 0 ? aside[i] : lowering->buffer[output->node];
    if (!output->update) continue;
    int to = lowering->buffer[graph_find_input((Graph *)(uintptr_t)graph, output->name)->node];
    if (lowering->buffer[output->node] != to) add_copy(lowering, output->node, from, to);
  }
}

// ---- all ----------------------------------------------------------------------------------------

void lowering_prepare(Lowering *lowering) {
  size_t count = lowering->graph->count;
  ElementContext *context = &lowering->context;
  *context = (ElementContext){.arena = lowering->arena, .graph = lowering->graph, .fusion = lowering->fusion};
  context->buffer_of_node = ARENA_ARRAY(lowering->arena, int, count);
  context->places = ARENA_ARRAY(lowering->arena, Place, count);
  context->depths = ARENA_ARRAY(lowering->arena, uint8_t, count);
  context->memo_table_size = 64;
  context->memo_table = ARENA_ARRAY(lowering->arena, uint32_t, context->memo_table_size);
  lowering->stored = ARENA_ARRAY(lowering->arena, NodeList, lowering->fusion->group_count + 1);
  lowering->stamp = ARENA_ARRAY(lowering->arena, uint32_t, count);
  lowering->buffer = ARENA_ARRAY(lowering->arena, int, count);
  lowering->last_reader = ARENA_ARRAY(lowering->arena, int, count);
  lowering->update_of = ARENA_ARRAY(lowering->arena, int, count);
  size_t launches = lowering->fusion->group_count + 2 * lowering->graph->output_count;
  lowering->launch_names = names_for(lowering->arena, launches);
  lowering->code_names = names_for(lowering->arena, launches);
  lowering->places = ARENA_ARRAY(lowering->arena, SpanPlace, SPAN_PLACES);
  lowering->kernel_table_size = 64;
  while (lowering->kernel_table_size < 4 * launches) lowering->kernel_table_size *= 2;
  lowering->kernel_table = ARENA_ARRAY(lowering->arena, uint32_t, lowering->kernel_table_size);
  for (NodeId id = 0; id < count; id++) {
    context->buffer_of_node[id] = lowering->buffer[id] = lowering->update_of[id] = -1;
    if (lowering->fusion->group[id] && lowering->fusion->inside[id] != id) {
      NodeList *list = &lowering->stored[lowering->fusion->group[id]];
      ARENA_PUSH(lowering->arena, list->list, list->count, list->capacity, id);
    }
  }
}

static void find_last_readers(Lowering *lowering) {
  for (uint32_t group = 1; group <= lowering->fusion->group_count; group++) {
    find_closure(lowering, group);
    for (size_t i = 0; i < lowering->leaves.count; i++)
      lowering->last_reader[lowering->leaves.list[i]] = (int)group;
  }
  memset(lowering->stamp, 0, lowering->graph->count * sizeof *lowering->stamp);
  for (size_t i = 0; i < lowering->graph->output_count;
       i++) // shown, or copied elsewhere, after the last group
    lowering->last_reader[lowering->graph->outputs[i].node] = INT_MAX;
}

static void fill_codes(Lowering *lowering) {
  Lowered *out = lowering->out;
  out->program.code_count = (int)out->kernel_count;
  out->program.codes = ARENA_ARRAY(lowering->arena, Code, out->kernel_count + 1);
  for (size_t i = 0; i < out->kernel_count; i++) out->program.codes[i].name = out->kernels[i]->name;
}

void lower(Arena *arena, const Graph *graph, const Fusion *fusion, const Sources *sources,
           const int64_t symbols[SYMBOL_COUNT], Lowered *lowered) {
  Lowering lowering = {
      .arena = arena, .graph = graph, .fusion = fusion, .sources = sources, .symbols = symbols};
  memset(lowered, 0, sizeof *lowered);
  lowering.out = lowered;
  lowered->program.name = graph->name;
  lowering_prepare(&lowering);
  find_last_readers(&lowering);
  add_inputs(&lowering);
  place_outputs(&lowering);
  for (uint32_t group = 1; group <= fusion->group_count; group++) lower_group(&lowering, group);
  copy_outputs(&lowering);
  fill_codes(&lowering);
}
