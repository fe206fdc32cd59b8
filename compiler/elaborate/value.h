// What an expression of the language evaluates to, and where names are looked up. Internal to this folder.
#ifndef VLMC_COMPILER_ELABORATE_VALUE_H
#define VLMC_COMPILER_ELABORATE_VALUE_H

#include "compiler/elaborate/elaborate.h"

typedef struct Value Value;
typedef struct Scope Scope;
typedef struct Instance Instance;

typedef enum ValueKind {
  VALUE_ERROR,  // something was reported; poisons what uses it, silently
  VALUE_NUMBER, // known at compile time, or a run-time size (extent.symbol)
  VALUE_BOOL,   // known at compile time
  VALUE_STRING,
  VALUE_TENSOR,   // a node of the graph, its axes named by labels and, where an equation made it, by aliases
  VALUE_INDEX,    // an index variable of the equation around
  VALUE_LAZY,     // an equation some of whose indices have no extent of their own: evaluated where indexed
  VALUE_PARAM,    // a model's parameter, not yet in the current graph
  VALUE_FUNCTION, // a function of a module or a method of an instance
  VALUE_BUILTIN,
  VALUE_TYPE,     // a layer or a model, to be configured
  VALUE_INSTANCE, // a configured layer or model
  VALUE_MODULE,
  VALUE_LIST
} ValueKind;

struct Elaborator;
typedef Value Builtin(struct Elaborator *elaborator, Scope *scope, const Ast *call, const Value *arguments,
                      size_t count);

struct Value {
  ValueKind kind;
  double number;     // NUMBER, BOOL
  Extent extent;     // NUMBER: a run-time size, where it has a symbol; INDEX
  bool known;        // INDEX: its extent is known
  const char *text;  // STRING; INDEX: its name; PARAM: its path; LAZY: the index without an extent
  const char *label; // INDEX: the label of the axis that it was first seen on, or NULL
  Span first;        // INDEX: where
  NodeId node;       // TENSOR
  int rank;          // TENSOR
  const char *labels[MAX_RANK];
  const char *aliases[MAX_RANK]; // or NULL
  int parts;          // TENSOR made by split: 1 + the axis that a list of names takes apart; else 0
  const Ast *ast;     // LAZY: the assignment; PARAM, FUNCTION, TYPE: the declaration
  Scope *scope;       // LAZY, FUNCTION, TYPE, MODULE, PARAM: where its names are looked up
  Instance *instance; // INSTANCE; FUNCTION: self
  Builtin *builtin;   // BUILTIN
  const Value *list;  // LIST
  size_t count;       // LIST; BUILTIN: how many arguments are values
};

typedef struct Binding {
  const char *name;
  Value value;
} Binding;

struct Scope {
  Scope *parent;
  Binding *bindings;
  size_t count, capacity;
  bool equation;      // index variables live here: tensors may form outer products
  bool poisoned;      // an equation that reads something for which an error was reported
  Instance *instance; // the model whose configuration and parameters these names are, or NULL
};

struct Instance {
  const Ast *ast;   // MODEL or LAYER
  Scope *scope;     // configuration; a model's members
  const char *path; // "vision", "" at the root; a layer's: NULL until it is applied under a label
};

typedef struct Elaborator {
  Arena *arena;
  Diagnostics *diagnostics;
  Model *model;
  Graph *graph;      // being built; NULL while only configuration is evaluated
  const char *path;  // parameters made now get this prefix
  uint32_t calls;    // function calls so far, for origins
  int depth;         // of function calls, bounded
  uint32_t steps;    // calls and statements so far, bounded
  struct ParamSite { // which layer application made a parameter: two different ones must not share a path
    const char *name;
    const Ast *site;
  } * sites;
  size_t site_count, site_capacity;
  const Ast *site;   // the layer application being elaborated
  const Ast *shared; // the last of them reported for a parameter that is another's
  Span returned;     // the expression of the last `return`
  struct Memo {      // what equations under way have evaluated to find their extents
    const Ast *ast;
    const Scope *scope;
    Value value;
  } * memos;
  size_t memo_count, memo_capacity;
} Elaborator;

enum { MAX_CALL_DEPTH = 64, MAX_ARGUMENTS = 24, MAX_REPEAT = 1000, MAX_STEPS = 1 << 19 };

// ---- scope.c ------------------------------------------------------------------------------------
Scope *scope_new(Arena *arena, Scope *parent);
void scope_set(Arena *arena, Scope *scope, const char *name, Value value);      // replaces in the same scope
Value *scope_find(Scope *scope, const char *name);                              // outwards; NULL: none
const char *scope_closest(const Scope *scope, const char *name, bool outwards); // most alike, or NULL
bool scope_in_equation(const Scope *scope);
Value value_error(void);
Value value_number(double number);
Value value_size(Extent extent);
Value value_bool(bool truth);
Value value_string(const char *text);
Value value_tensor(const Elaborator *elaborator, NodeId node, const char *const *labels);
const char *value_kind_name(const Value *value); // "a tensor", "a number", for messages
void value_describe(const Elaborator *elaborator, const Value *value,
                    Text *text); // "x[B, T, D]" without the x

// ---- expression.c -------------------------------------------------------------------------------
Value evaluate(Elaborator *elaborator, Scope *scope, const Ast *ast);
// The value as a tensor: numbers become constants of `dtype`, index variables their iota, parameters inputs.
bool to_tensor(Elaborator *elaborator, Value *value, DType dtype, Span span);
bool to_extent(Elaborator *elaborator, const Value *value, Span span,
               Extent *extent); // reported when not whole
bool to_truth(Elaborator *elaborator, const Value *value, Span span, bool *truth);
Value apply_binary(Elaborator *elaborator, Scope *scope, const Ast *at, const char *op, Value x, Value y);
Value apply_unary(Elaborator *elaborator, const Ast *at, Op op, Value x);
Value apply_select(Elaborator *elaborator, Scope *scope, const Ast *at, Value condition, Value x, Value y);
const char *source_text(Elaborator *elaborator, const Ast *ast); // the expression as the user wrote it
const char *axis_label(Elaborator *elaborator, const Ast *axis);
const char *axis_text(Elaborator *elaborator, const char *label,
                      Extent extent);                                  // "D=768", "768", for messages
const char *number_text(Elaborator *elaborator, double number);        // with every digit
const char *place_text(Elaborator *elaborator, Span place, Span from); // "line 12", "stdlib/nn.vlm:12"

// ---- tensor.c: tensors by the names of their axes -----------------------------------------------
int tensor_axis(const Value *tensor, const char *name); // by alias, then by label; -1: none
// Both over the same axes, by name. False: reported.
bool tensor_join(Elaborator *elaborator, Scope *scope, Span span, Value *x, Value *y);
// Axes in the given order of labels, all of which it must have, or gets repeated with the given extents.
Value tensor_arrange(Elaborator *elaborator, const Value *tensor, int rank, const char *const *labels,
                     const Extent *extents);
Value tensor_drop(Elaborator *elaborator, const Value *tensor, int axis); // an axis of extent 1
Value tensor_reduce(Elaborator *elaborator, const Value *tensor, Op op, uint32_t axes);
Value tensor_cast(Elaborator *elaborator, const Value *tensor, DType dtype);
Extent tensor_extent(const Elaborator *elaborator, const Value *tensor, int axis);
DType tensor_dtype(const Elaborator *elaborator, const Value *tensor);

// ---- index.c: x[b, t+1, y*patch + i, target[b,t], 1:, ..] ---------------------------------------
Value evaluate_index(Elaborator *elaborator, Scope *scope, const Ast *ast);
// c1*v1 + c2*v2 + .. + offset over index variables. False: not of this form (nothing is reported).
typedef struct Affine {
  int count;
  Value *variables[4];
  int64_t factors[4];
  int64_t offset;
} Affine;
bool affine_index(Elaborator *elaborator, Scope *scope, const Ast *item, Affine *affine);
bool add_product(int64_t *sum, int64_t a, int64_t b); // sum += a * b; false: too large

void report_indices(Elaborator *elaborator, const Ast *ast, const Value *tensor, size_t items); // too many
// What is indexed, evaluated once per equation; `scope` is the equation's own.
Value evaluate_base(Elaborator *elaborator, Scope *scope, const Ast *ast);

// ---- equation.c: statements and reductions over index variables ---------------------------------
void execute_assign(Elaborator *elaborator, Scope *scope, const Ast *assign);
Value evaluate_reduce(Elaborator *elaborator, Scope *scope, const Ast *reduce);
Value evaluate_lazy(Elaborator *elaborator, Scope *scope, const Ast *index, const Value *lazy);

// ---- bind.c: arguments to parameters ------------------------------------------------------------
typedef struct LabelMap {
  const char *inside[32], *outside[32];
  int count;
  const char *prefix;   // "lm", or NULL
  const Scope *members; // whose names get the prefix
  const Ast *function;  // being called
} LabelMap;

void map_label(LabelMap *map, const char *inside, const char *outside);
void labels_outside(Elaborator *elaborator, const LabelMap *map, Value *value);
// Binds the declared axes of a tensor and renames its axes to them.
bool match_axes(Elaborator *elaborator, Scope *scope, const Ast *declared, Value *value, Span span,
                LabelMap *map);

typedef struct Arguments {
  Value values[MAX_ARGUMENTS];
  const Ast *texts[MAX_ARGUMENTS];
  const char *names[MAX_ARGUMENTS]; // or NULL
  bool used[MAX_ARGUMENTS];
  size_t count;
} Arguments;
// The first `values` are evaluated, the rest are names.
bool evaluate_arguments(Elaborator *elaborator, Scope *scope, const Ast *call, size_t values,
                        Arguments *arguments);
// All declared parameters from the arguments, then overrides (of the configuration at a path, or NULL), then
// defaults.
bool bind_arguments(Elaborator *elaborator, Scope *scope, const Ast *callee, const Ast *parameters,
                    Arguments *arguments, const Ast *at, const char *override, LabelMap *map);

// ---- parameter.c --------------------------------------------------------------------------------
const char *join_path(Elaborator *elaborator, const char *path, const char *name);
void execute_param(Elaborator *elaborator, Scope *scope, const Ast *param);
Value parameter_value(Elaborator *elaborator, Scope *scope, const Ast *param, const char *path);

// ---- call.c: functions, layers, models ----------------------------------------------------------
Value evaluate_call(Elaborator *elaborator, Scope *scope, const Ast *call);
Value evaluate_labelled(Elaborator *elaborator, Scope *scope, const Ast *labelled);
bool repeat_count(Elaborator *elaborator, const Value *count, Span span,
                  Extent *extent); // at most MAX_REPEAT
// Runs statements; true when `return` was met.
bool execute_block(Elaborator *elaborator, Scope *scope, const Ast *block, Value *result);
// Positional arguments, at most MAX_ARGUMENTS.
Value call_function(Elaborator *elaborator, const Ast *at, const Value *function, const Value *values,
                    size_t count);
Instance *instance_new(Elaborator *elaborator, Scope *scope, const Ast *ast, const char *path);

// ---- builtin.c ----------------------------------------------------------------------------------
extern const struct BuiltinRow {
  const char *name;
  Builtin *builtin;
  size_t evaluated; // arguments from this one on are names of axes, not values
} builtin_rows[];
extern const size_t builtin_row_count;

// ---- model.c ------------------------------------------------------------------------------------
struct Model {
  Elaborator elaborator;
  const Modules *modules;
  const ModelOptions *options;
  Scope *builtins;
  Scope **module_scopes; // as modules->list
  Instance *root;
  const Ast *file; // of the root model
};
// Overrides of a configuration by preset and command line; false: none.
bool model_override(Elaborator *elaborator, const char *path, const char *name, Value *value);

#endif
