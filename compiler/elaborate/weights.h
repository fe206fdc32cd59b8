// What weights.c (the lines of `weights` blocks) and weights_row.c (their indices) share.
#ifndef VLMC_COMPILER_ELABORATE_WEIGHTS_H
#define VLMC_COMPILER_ELABORATE_WEIGHTS_H

#include "compiler/elaborate/value.h"

typedef struct Parameter { // of the model, from the graphs of its functions
  const char *name;
  const Type *type;
  const char *settings[MAX_RANK]; // what sets the axis from outside: "lm.vocab", or NULL
} Parameter;

// A block under way.
typedef struct Block {
  Elaborator *elaborator;
  const Parameter *parameters; // sorted by name
  size_t parameter_count;
  WeightMap *map;
  const Ast **lines; // of the map's rows
  size_t line_capacity;
  const Ast **copy_lines; // of its copies
  size_t copy_line_capacity;
  int64_t steps; // lines read so far, repetitions counted
} Block;

enum { MAX_MAP_STEPS = 1 << 16, MAX_PIECES = 1 << 12 };

// Rows of one line for one parameter. Reported where they are impossible.
void row_identity(Block *block, const Ast *line, const Parameter *parameter, const char *tensor);
void row_piece(Block *block, const Ast *line, const Parameter *parameter, const char *tensor, size_t piece,
               size_t pieces); // stack(..)
// weight[h*E + i, c] = "name"[2*i, c] for i < half
void row_equation(Block *block, Scope *scope, const Ast *line, const Ast *left, const Parameter *parameter,
                  const char *tensor);
// copy("name"): what the parameter is mapped to is known when all rows are there.
void row_copy(Block *block, const Ast *line, const Parameter *parameter, const char *tensor,
              const char *setting);
// All rows together: every parameter that the block speaks of is covered once; how far tensors reach.
void rows_finish(Block *block);

#endif
