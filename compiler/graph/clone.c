// A graph -> a graph of its own with the same nodes, inputs, outputs and origins under the same numbers.
#include "compiler/graph/graph.h"

#include <string.h>

static void *copy_of(Arena *arena, const void *array, size_t bytes) {
  void *copy = arena_alloc(arena, bytes);
  if (bytes) memcpy(copy, array, bytes);
  return copy;
}

Graph *graph_clone(const Graph *graph) {
  Graph *copy = ARENA_NEW(graph->arena, Graph);
  *copy = *graph;
  copy->nodes = copy_of(graph->arena, graph->nodes, sizeof *graph->nodes * graph->count);
  copy->inputs = copy_of(graph->arena, graph->inputs, sizeof *graph->inputs * graph->input_count);
  copy->outputs = copy_of(graph->arena, graph->outputs, sizeof *graph->outputs * graph->output_count);
  copy->origins = copy_of(graph->arena, graph->origins, sizeof *graph->origins * graph->origin_count);
  copy->capacity = copy->count; // full: the next one appended makes them grow
  copy->input_capacity = copy->input_count;
  copy->output_capacity = copy->output_count;
  copy->origin_capacity = copy->origin_count;
  return copy;
}
