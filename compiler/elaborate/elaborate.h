// From the syntax tree to graphs: evaluates what is known at compile time (configuration, presets, layers,
// loops over depth) and appends the rest, tensor by tensor, to a graph. Shape rules live in the graph; here
// live names: axes are matched by name, parameters get their paths, and every message shows the user's line.
#ifndef VLMC_COMPILER_ELABORATE_ELABORATE_H
#define VLMC_COMPILER_ELABORATE_ELABORATE_H

#include "compiler/graph/graph.h"
#include "compiler/syntax/ast.h"
#include "runtime/recipe.h"
#include "runtime/weights/map.h"

// A setting from the command line: `-D vision.width=96`, `-D sft.epochs=2`.
typedef struct Define {
  const char *path;
  Span span;        // of the path
  const Ast *value; // an expression of constants
} Define;

typedef struct ModelOptions {
  const char *preset;      // NULL: the model's own defaults
  const char *preset_from; // the file that asks for it, for messages; NULL: the command line
  const Define *defines;
  size_t define_count;
} ModelOptions;

typedef struct Model Model;

// The last model of the last module, with its configuration settled. NULL when errors were reported.
Model *model_open(Arena *arena, Diagnostics *diagnostics, const Modules *modules,
                  const ModelOptions *options);

// A fresh graph of one of the model's functions ("forward", "loss"): its tensor parameters are data inputs,
// B and T are run-time sizes, the result is the output "result" ("loss" for `loss`). NULL: errors reported.
Graph *model_graph(Model *model, const char *function);
bool model_has(const Model *model, const char *function);

// A library function "optim.adamw" over rank-0 values as a graph: one scalar input per parameter, and an
// output per element of the list it returns, named by `results`.
Graph *model_function(Model *model, const char *function, const char *const *results, size_t result_count);

// Marks the parameters of `graph` that the stage trains. False: a selector matches nothing (reported).
bool model_select(Model *model, const char *stage, Graph *graph);

// The `weights` blocks of the model and of its parts, parts first. False: one speaks of parameters that do
// not exist, or has indices that do not fit (reported).
bool model_weights(Model *model, WeightMaps *maps);

// What the file says of a run. model_stage: NULL and reported where the name is unknown. Template and
// preprocessing: NULL where the model has none.
const Stage *model_stage(Model *model, const char *name);
size_t model_stage_names(const Model *model, const char *const **names);
const Template *model_template(Model *model);
const Preprocess *model_preprocess(Model *model);
const char *model_name(const Model *model);

#endif
