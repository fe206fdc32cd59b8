// What the files of the driver (compile.c, pipeline.c, forms.c, table.c) share.
#ifndef VLMC_COMPILER_COMPILE_INTERNAL_H
#define VLMC_COMPILER_COMPILE_INTERNAL_H

#include "compiler/compile.h"

#include <stdio.h>

struct Compiler {
  Arena *arena;
  CompileOptions options;
  Sources sources;
  Diagnostics diagnostics;
  Modules modules;
  ModelOptions model_options;
  Model *model;       // NULL: the input was a graph or kernels
  WeightMaps weights; // of the model
  Graph *graph;       // read from text
  Kernel **kernels;   // read from text
  size_t kernel_count;
  bool internal; // the last failure is our own fault
  Unit units[PROGRAM_COUNT];
  int done[PROGRAM_COUNT]; // passes already run
};

// pipeline.c
int pipeline_find(const char *name); // -1: none
// Runs passes *done .. last, counting *done up. False: reported in the compiler's diagnostics.
bool pipeline_run(Unit *unit, int *done, int last);

// compile.c: passes that need the model
bool unit_elaborate(Unit *unit);
bool unit_optimizer(Unit *unit);
bool unit_derive(Unit *unit);
bool unit_hoist(Unit *unit);
bool unit_verify_kernels(Unit *unit);
bool unit_emit(Unit *unit);
void unit_internal_error(Unit *unit, const char *format, ...) __attribute__((format(printf, 2, 3)));

// forms.c
void print_kernels(const Unit *unit, Text *text);

// draw_dot.c: the graph for graphviz. draw_svg.c: the architecture as blocks, with shapes and what is frozen.
void draw_dot(const Unit *unit, Text *text);
void draw_svg(const Unit *unit, Text *text);

#endif
