// Calls: functions with their axes bound by name, layers with their parameters, models with their members.
//
// Labels cross a call like this: inside, an axis is known by the name the parameter gives it (x[.., D]); on
// return a label that came from an argument's axis gets the argument's label back, one that came from a
// configuration value gets the name or the text that the caller gave for it, and a name of another model's
// configuration is prefixed by that model's name.
#include "compiler/elaborate/value.h"

#include <string.h>

typedef struct LabelMap {
  const char *inside[32], *outside[32];
  int count;
  const char *prefix;   // "lm", or NULL
  const Scope *members; // whose names get the prefix
  const Ast *function;  // being called
} LabelMap;

static void map_label(LabelMap *map, const char *inside, const char *outside) {
  for (int i = 0; i < map->count; i++)
    if (!strcmp(map->inside[i], inside)) return;
  if (map->count == 32) return;
  map->inside[map->count] = inside;
  map->outside[map->count++] = outside;
}

static const char *label_outside(Elaborator *elaborator, const LabelMap *map, const char *label) {
  for (int i = 0; i < map->count; i++)
    if (!strcmp(map->inside[i], label)) return map->outside[i];
  for (size_t i = 0; map->prefix && i < map->members->count; i++)
    if (!strcmp(map->members->bindings[i].name, label))
      return arena_print(elaborator->arena, "%s.%s", map->prefix, label);
  return label;
}

static void labels_outside(Elaborator *elaborator, const LabelMap *map, Value *value) {
  for (int i = 0; i < value->rank; i++) {
    value->labels[i] = label_outside(elaborator, map, value->labels[i]);
    value->aliases[i] = NULL;
    for (int j = 0; j < i; j++)
      if (!strcmp(value->labels[i], value->labels[j]))
        value->labels[i] = arena_print(elaborator->arena, "%s'", value->labels[i]);
  }
}

// ---- matching declared axes
// ------------------------------------------------------------------------------------

static bool report_rank(Elaborator *elaborator, const Ast *declared, Span span, const Value *value) {
  Text text = {0};
  value_describe(elaborator, value, &text);
  error_at(elaborator->diagnostics, span, "`%s` takes %zu axes, found %s",
           declared->text ? declared->text : "the result", declared->count, text_string(&text));
  note_at(elaborator->diagnostics, declared->span, "declared here");
  text_free(&text);
  return false;
}

// One axis against its declaration: a new name is bound, anything else must be equal.
static bool match_axis(Elaborator *elaborator, Scope *scope, const Ast *item, Extent extent, Span span,
                       const char *what) {
  Value *found = item->kind == AST_NAME ? scope_find(scope, item->text) : NULL;
  if (item->kind == AST_NAME && (!found || found->kind != VALUE_NUMBER)) {
    scope_set(elaborator->arena, scope, item->text, value_size(extent));
    return true;
  }
  Value value = found ? *found : evaluate(elaborator, scope, item);
  Extent expected;
  if (!to_extent(elaborator, &value, item->span, &expected)) return false;
  if (extent_equal(expected, extent)) return true;
  Text here = {0}, there = {0};
  extent_print(&here, expected);
  extent_print(&there, extent);
  error_at(elaborator->diagnostics, span, "axis %s of %s is %s but %s is expected",
           source_text(elaborator, item), what, text_string(&there), text_string(&here));
  note_at(elaborator->diagnostics, item->span, "expected here");
  text_free(&here);
  text_free(&there);
  return false;
}

static bool mentions_name(const Ast *ast, const char *name) {
  if (!ast) return false;
  if (ast->text && ast->kind != AST_STRING && !strcmp(ast->text, name)) return true;
  if (mentions_name(ast->a, name) || mentions_name(ast->b, name) || mentions_name(ast->c, name) ||
      mentions_name(ast->d, name))
    return true;
  for (size_t i = 0; i < ast->count; i++)
    if (mentions_name(ast->list[i], name)) return true;
  return false;
}

// Axes under `..` keep the caller's labels, unless the function uses such a name for something of its own.
static void keep_label(Elaborator *elaborator, LabelMap *map, const char **label) {
  const char *inside = *label;
  if (!map) return;
  while (mentions_name(map->function, inside)) inside = arena_print(elaborator->arena, "%s'", inside);
  if (inside != *label) map_label(map, inside, *label);
  *label = inside;
}

// Binds the declared axes of a tensor and renames its axes to them.
static bool match_axes(Elaborator *elaborator, Scope *scope, const Ast *declared, Value *value, Span span,
                       LabelMap *map) {
  size_t fixed = declared->count;
  for (size_t i = 0; i < declared->count; i++) fixed -= declared->list[i]->kind == AST_DOTS;
  bool dots = fixed < declared->count;
  if (dots ? (size_t)value->rank < fixed : (size_t)value->rank != fixed)
    return report_rank(elaborator, declared, span, value);
  const char *what = declared->text ? declared->text : "the result";
  int axis = 0;
  for (size_t i = 0; i < declared->count; i++) {
    const Ast *item = declared->list[i];
    if (item->kind == AST_DOTS) {
      for (int kept = value->rank - (int)fixed; kept > 0; kept--)
        keep_label(elaborator, map, &value->labels[axis++]);
      continue;
    }
    Extent extent = tensor_extent(elaborator, value, axis);
    if (!match_axis(elaborator, scope, item, extent, span, what)) return false;
    const char *label = axis_label(elaborator, item);
    if (map) map_label(map, label, value->labels[axis]);
    value->labels[axis++] = label;
  }
  for (int i = 0; i < value->rank; i++) {
    value->aliases[i] = NULL;
    for (int j = 0; j < i; j++) {
      if (strcmp(value->labels[i], value->labels[j])) continue;
      const char *primed = arena_print(elaborator->arena, "%s'", value->labels[i]);
      if (map) map_label(map, primed, label_outside(elaborator, map, value->labels[i]));
      value->labels[i] = primed;
    }
  }
  return true;
}

static bool bind_argument(Elaborator *elaborator, Scope *scope, const Ast *parameter, Value value,
                          const Ast *text, Span span, LabelMap *map) {
  if (value.kind == VALUE_ERROR) return false;
  if (parameter->has_axes || parameter->dtype) {
    DType dtype = DTYPE_F32;
    if (parameter->dtype && !dtype_from_name(parameter->dtype, &dtype)) {
      error_at(elaborator->diagnostics, parameter->span, "`%s` is not an element type", parameter->dtype);
      return false;
    }
    if (!to_tensor(elaborator, &value, dtype, span)) return false;
    if (parameter->dtype && tensor_dtype(elaborator, &value) != dtype) {
      error_at(elaborator->diagnostics, span, "`%s` is %s, found %s", parameter->text, parameter->dtype,
               dtype_name(tensor_dtype(elaborator, &value)));
      return false;
    }
    value.parts = 0;
    if (parameter->has_axes && !match_axes(elaborator, scope, parameter, &value, span, map)) return false;
  } else if (value.kind == VALUE_NUMBER && text && map) {
    map_label(map, parameter->text, axis_label(elaborator, text));
  }
  scope_set(elaborator->arena, scope, parameter->text, value);
  return true;
}

// ---- arguments
// -------------------------------------------------------------------------------------------------

typedef struct Arguments {
  Value values[MAX_ARGUMENTS];
  const Ast *texts[MAX_ARGUMENTS];
  const char *names[MAX_ARGUMENTS]; // or NULL
  bool used[MAX_ARGUMENTS];
  size_t count;
} Arguments;

static bool evaluate_arguments(Elaborator *elaborator, Scope *scope, const Ast *call, size_t values,
                               Arguments *arguments) {
  bool good = true;
  arguments->count = 0;
  if (call->count > MAX_ARGUMENTS) {
    error_at(elaborator->diagnostics, call->span, "more than %d arguments", MAX_ARGUMENTS);
    return false;
  }
  for (size_t i = 0; i < call->count; i++) {
    size_t at = arguments->count++;
    arguments->values[at] = at < values ? evaluate(elaborator, scope, call->list[i]->a) : value_error();
    arguments->texts[at] = call->list[i]->a;
    arguments->names[at] = call->list[i]->text;
    arguments->used[at] = false;
    good &= at >= values || arguments->values[at].kind != VALUE_ERROR;
  }
  return good;
}

static int find_argument(const Arguments *arguments, const char *name, size_t position) {
  for (size_t i = 0; i < arguments->count; i++)
    if (arguments->names[i] && !strcmp(arguments->names[i], name)) return (int)i;
  return position < arguments->count && !arguments->names[position] ? (int)position : -1;
}

// All declared parameters from the arguments, then overrides, then defaults.
static bool bind_arguments(Elaborator *elaborator, Scope *scope, Ast *const *parameters, size_t count,
                           Arguments *arguments, const Ast *at, const char *override, LabelMap *map) {
  for (size_t i = 0; i < count; i++) {
    const Ast *parameter = parameters[i];
    int found = find_argument(arguments, parameter->text, i);
    Value value;
    const Ast *text = found >= 0 ? arguments->texts[found] : NULL;
    if (found >= 0) arguments->used[found] = true;
    if (override && model_override(elaborator, override, parameter->text, &value)) {
    } else if (found >= 0) {
      value = arguments->values[found];
    } else if (parameter->a) {
      value = evaluate(elaborator, scope, parameter->a);
    } else {
      error_at(elaborator->diagnostics, at->span, "the argument `%s` is missing", parameter->text);
      note_at(elaborator->diagnostics, parameter->span, "declared here");
      return false;
    }
    if (!bind_argument(elaborator, scope, parameter, value, text, text ? text->span : at->span, map))
      return false;
  }
  for (size_t i = 0; i < arguments->count; i++) {
    if (arguments->used[i]) continue;
    if (arguments->names[i])
      error_at(elaborator->diagnostics, arguments->texts[i]->span, "there is no parameter `%s`",
               arguments->names[i]);
    else
      error_at(elaborator->diagnostics, arguments->texts[i]->span, "expected %zu arguments, found more",
               count);
    return false;
  }
  return true;
}

// ---- parameters
// --------------------------------------------------------------------------------------------------

static const char *join_path(Elaborator *elaborator, const char *path, const char *name) {
  if (!path || !*path) return name;
  return *name ? arena_print(elaborator->arena, "%s.%s", path, name) : path;
}

static bool check_site(Elaborator *elaborator, const char *name, const Ast *param, const Ast *site) {
  for (size_t i = 0; i < elaborator->site_count; i++) {
    if (strcmp(elaborator->sites[i].name, name)) continue;
    if (elaborator->sites[i].site == site) return true;
    error_at(elaborator->diagnostics, site->span,
             "two layers would share the parameter `%s`; give one a name, as in "
             "`name: Layer()(x)`",
             name);
    note_at(elaborator->diagnostics, param->span, "the parameter is declared here");
    return false;
  }
  struct ParamSite entry = {name, site};
  ARENA_PUSH(elaborator->arena, elaborator->sites, elaborator->site_count, elaborator->site_capacity, entry);
  return true;
}

static bool initial_value(Elaborator *elaborator, Scope *scope, const Ast *param, Initial *initial) {
  if (!param->d) {
    Value value = param->a ? evaluate(elaborator, scope, param->a) : value_number(0);
    if (value.kind != VALUE_NUMBER) {
      error_at(elaborator->diagnostics, param->span,
               "a parameter starts as a constant number or `~ normal(deviation)`");
      return false;
    }
    *initial = (Initial){false, value.number, 0};
    return true;
  }
  Value spread = value_error();
  bool normal = param->d->kind == AST_CALL && param->d->a->kind == AST_NAME &&
                !strcmp(param->d->a->text, "normal") && param->d->count == 1;
  if (normal) spread = evaluate(elaborator, scope, param->d->list[0]->a);
  if (!normal || spread.kind != VALUE_NUMBER || spread.number < 0) {
    error_at(elaborator->diagnostics, param->d->span, "expected `normal(deviation)` with a constant");
    return false;
  }
  *initial = (Initial){true, 0, spread.number};
  return true;
}

static bool parameter_type(Elaborator *elaborator, Scope *scope, const Ast *param, Type *type) {
  *type = (Type){.dtype = DTYPE_F32, .rank = (int)param->count};
  if (param->count > MAX_RANK) {
    error_at(elaborator->diagnostics, param->span, "more than %d axes", MAX_RANK);
    return false;
  }
  for (size_t i = 0; i < param->count; i++) {
    Value value = evaluate(elaborator, scope, param->list[i]);
    if (!to_extent(elaborator, &value, param->list[i]->span, &type->axes[i].extent)) return false;
    if (!extent_is_constant(type->axes[i].extent) || type->axes[i].extent.offset < 1) {
      error_at(elaborator->diagnostics, param->list[i]->span,
               "a parameter's axis has a fixed size of at least 1");
      return false;
    }
    type->axes[i].label = axis_label(elaborator, param->list[i]);
  }
  type_make_labels_unique(elaborator->arena, type);
  return true;
}

Value parameter_value(Elaborator *elaborator, Scope *scope, const Ast *param, const char *path) {
  Graph *graph = elaborator->graph;
  Type type;
  Initial initial;
  if (!graph) {
    error_at(elaborator->diagnostics, param->span, "a parameter has no value at compile time");
    return value_error();
  }
  if (!parameter_type(elaborator, scope, param, &type)) return value_error();
  const Ast *site = elaborator->site && param != elaborator->site ? elaborator->site : param;
  if (!check_site(elaborator, path, param, site)) return value_error();
  Input *input = graph_find_input(graph, path);
  NodeId node = input ? input->node : 0;
  if (!input) {
    if (!initial_value(elaborator, scope, param, &initial)) return value_error();
    graph->span = param->span;
    node = graph_input(graph, path, INPUT_PARAM, type);
    graph_find_input(graph, path)->initial = initial;
  }
  const char *labels[MAX_RANK];
  for (int i = 0; i < type.rank; i++) labels[i] = type.axes[i].label;
  return value_tensor(elaborator, node, labels);
}

static void execute_param(Elaborator *elaborator, Scope *scope, const Ast *param) {
  bool on = true;
  if (param->b) {
    Value condition = evaluate(elaborator, scope, param->b);
    if (!to_truth(elaborator, &condition, param->b->span, &on)) return;
  }
  Value value = value_number(0); // a parameter that is switched off is 0
  if (on)
    value = parameter_value(elaborator, scope, param, join_path(elaborator, elaborator->path, param->text));
  scope_set(elaborator->arena, scope, param->text, value);
}

// ---- statements
// --------------------------------------------------------------------------------------------------

static bool execute_repeat(Elaborator *elaborator, Scope *scope, const Ast *repeat, Value *result) {
  Value count = evaluate(elaborator, scope, repeat->a);
  Extent extent;
  const char *path = elaborator->path;
  bool returned = false;
  if (!to_extent(elaborator, &count, repeat->a->span, &extent)) return false;
  if (extent.symbol || extent.offset > 1000) {
    error_at(elaborator->diagnostics, repeat->a->span, "repeat needs a constant of at most 1000");
    return false;
  }
  int errors = elaborator->diagnostics->errors;
  for (int64_t i = 0; i < extent.offset && !returned && elaborator->diagnostics->errors == errors; i++) {
    const char *step = repeat->text ? arena_print(elaborator->arena, "%s.%d", repeat->text, (int)i)
                                    : arena_print(elaborator->arena, "%d", (int)i);
    elaborator->path = join_path(elaborator, path, step);
    returned = execute_block(elaborator, scope, repeat->c, result);
  }
  elaborator->path = path;
  return returned;
}

bool execute_block(Elaborator *elaborator, Scope *scope, const Ast *block, Value *result) {
  for (size_t i = 0; i < block->count; i++) {
    const Ast *statement = block->list[i];
    switch (statement->kind) {
    case AST_ASSIGN: execute_assign(elaborator, scope, statement); break;
    case AST_PARAM: execute_param(elaborator, scope, statement); break;
    case AST_RETURN: *result = evaluate(elaborator, scope, statement->a); return true;
    case AST_REPEAT:
      if (execute_repeat(elaborator, scope, statement, result)) return true;
      break;
    default: error_at(elaborator->diagnostics, statement->span, "this does not stand in a function"); break;
    }
  }
  return false;
}

// ---- calling
// -----------------------------------------------------------------------------------------------------

// An error in the library is the caller's more often than not: show the call that led out of the user's file.
static void note_call(Elaborator *elaborator, const Ast *function, const Ast *at) {
  if (at->span.source != function->span.source)
    note_at(elaborator->diagnostics, at->span, "in this call of `%s`", function->text);
}

static Value run_body(Elaborator *elaborator, Scope *scope, const Ast *function, const Ast *at,
                      LabelMap *map) {
  Value result = value_error();
  int errors = elaborator->diagnostics->errors;
  if (function->c->kind != AST_BLOCK) {
    result = evaluate(elaborator, scope, function->c);
  } else if (!execute_block(elaborator, scope, function->c, &result)) {
    if (elaborator->diagnostics->errors == errors)
      error_at(elaborator->diagnostics, function->span, "`%s` ends without `return`", function->text);
    else
      note_call(elaborator, function, at);
    return value_error();
  }
  if (elaborator->diagnostics->errors > errors) {
    note_call(elaborator, function, at);
    return value_error();
  }
  if (function->b && result.kind != VALUE_LIST) {
    Ast declared = *function->b;
    if (!to_tensor(elaborator, &result, DTYPE_F32, function->span)) return value_error();
    declared.text = NULL;
    if (!match_axes(elaborator, scope, &declared, &result, function->b->span, NULL)) {
      note_at(elaborator->diagnostics, at->span, "in this call of `%s`", function->text);
      return value_error();
    }
  }
  if (result.kind == VALUE_TENSOR) labels_outside(elaborator, map, &result);
  return result;
}

typedef struct Saved {
  const char *path;
  const Ast *site;
  uint32_t origin;
} Saved;

static bool enter(Elaborator *elaborator, const Ast *at, const char *function, const char *path,
                  const Ast *site, Saved *saved) {
  if (++elaborator->depth > MAX_CALL_DEPTH) {
    elaborator->depth--;
    error_at(elaborator->diagnostics, at->span, "calls are nested more than %d deep (does `%s` call itself?)",
             MAX_CALL_DEPTH, function);
    return false;
  }
  Graph *graph = elaborator->graph;
  *saved = (Saved){elaborator->path, elaborator->site, graph ? graph->origin : 0};
  elaborator->path = path;
  elaborator->site = site;
  if (graph) {
    Origin origin = {path ? path : "", function, ++elaborator->calls, false};
    ARENA_PUSH(graph->arena, graph->origins, graph->origin_count, graph->origin_capacity, origin);
    graph->origin = (uint32_t)graph->origin_count - 1;
  }
  return true;
}

static void leave(Elaborator *elaborator, const Saved *saved) {
  elaborator->depth--;
  elaborator->path = saved->path;
  elaborator->site = saved->site;
  if (elaborator->graph) elaborator->graph->origin = saved->origin;
}

// softmax[j](x): the named axes of the first tensor go last, where the function's declaration expects them.
static bool move_axes_last(Elaborator *elaborator, const Ast *axes, Value *value) {
  const char *labels[MAX_RANK];
  uint32_t moved = 0;
  int rank = 0;
  for (size_t i = 0; i < axes->count; i++) {
    int axis = axes->list[i]->kind == AST_NAME ? tensor_axis(value, axes->list[i]->text) : -1;
    if (axis < 0) {
      Text text = {0};
      value_describe(elaborator, value, &text);
      error_at(elaborator->diagnostics, axes->list[i]->span, "`%s` is not an axis of %s",
               source_text(elaborator, axes->list[i]), text_string(&text));
      text_free(&text);
      return false;
    }
    moved |= 1u << axis;
  }
  for (int i = 0; i < value->rank; i++)
    if (!(moved >> i & 1)) labels[rank++] = value->labels[i];
  for (size_t i = 0; i < axes->count; i++)
    labels[rank++] = value->labels[tensor_axis(value, axes->list[i]->text)];
  *value = tensor_arrange(elaborator, value, rank, labels, NULL);
  return true;
}

// The result back in the order of axes (and with the aliases) that the argument had.
static Value restore_order(Elaborator *elaborator, const Value *before, Value result) {
  if (result.kind != VALUE_TENSOR || result.rank != before->rank) return result;
  for (int i = 0; i < before->rank; i++)
    if (tensor_axis(&result, before->labels[i]) < 0) return result;
  result = tensor_arrange(elaborator, &result, before->rank, before->labels, NULL);
  memcpy(result.aliases, before->aliases, sizeof result.aliases);
  return result;
}

static Value apply_function(Elaborator *elaborator, const Ast *call, const Value *function,
                            Arguments *arguments, const Ast *axes, const char *prefix) {
  const Ast *ast = function->ast;
  Scope *scope = scope_new(elaborator->arena, function->scope);
  LabelMap map = {.count = 0,
                  .prefix = prefix,
                  .members = function->instance ? function->instance->scope : NULL,
                  .function = ast};
  if (!map.members) map.prefix = NULL;
  Value before = arguments->count ? arguments->values[0] : value_error();
  if (axes && (before.kind != VALUE_TENSOR || !move_axes_last(elaborator, axes, &arguments->values[0]))) {
    if (before.kind != VALUE_TENSOR)
      error_at(elaborator->diagnostics, call->span, "axes are given for a function of a tensor");
    return value_error();
  }
  Saved saved;
  const char *path = function->instance ? function->instance->path : elaborator->path;
  const Ast *site = function->instance ? NULL : elaborator->site;
  if (!enter(elaborator, call, ast->text, path, site, &saved)) return value_error();
  Value result = value_error();
  if (bind_arguments(elaborator, scope, ast->list, ast->count, arguments, call, NULL, &map))
    result = run_body(elaborator, scope, ast, call, &map);
  leave(elaborator, &saved);
  return axes ? restore_order(elaborator, &before, result) : result;
}

static Value apply_layer(Elaborator *elaborator, const Ast *call, Instance *layer, Arguments *arguments,
                         const char *path) {
  const Ast *ast = layer->ast;
  Scope *scope = scope_new(elaborator->arena, layer->scope);
  LabelMap map = {.function = ast};
  for (size_t i = 0; i < layer->scope->count; i++) { // configuration: by the caller's own words for it
    const Value *value = &layer->scope->bindings[i].value;
    if (value->kind == VALUE_NUMBER && value->label)
      map_label(&map, layer->scope->bindings[i].name, value->label);
  }
  if (!elaborator->graph) {
    error_at(elaborator->diagnostics, call->span, "layers are applied in functions");
    return value_error();
  }
  Saved saved;
  const Ast *site = layer->path ? layer->ast : call;
  if (!enter(elaborator, call, ast->text, path, site, &saved)) return value_error();
  Value result = value_error();
  if (bind_arguments(elaborator, scope, ast->d->list, ast->d->count, arguments, call, NULL, &map))
    result = run_body(elaborator, scope, ast, call, &map);
  leave(elaborator, &saved);
  return result;
}

static Value apply_instance(Elaborator *elaborator, Scope *scope, const Ast *call, Instance *instance,
                            const char *label) {
  Arguments arguments;
  if (!evaluate_arguments(elaborator, scope, call, MAX_ARGUMENTS, &arguments)) return value_error();
  if (instance->ast->kind == AST_LAYER) {
    const char *path =
        instance->path ? instance->path : join_path(elaborator, elaborator->path, label ? label : "");
    return apply_layer(elaborator, call, instance, &arguments, path);
  }
  Value *forward = NULL;
  for (size_t i = 0; i < instance->scope->count; i++)
    if (!strcmp(instance->scope->bindings[i].name, "forward")) forward = &instance->scope->bindings[i].value;
  if (!forward || forward->kind != VALUE_FUNCTION) {
    error_at(elaborator->diagnostics, call->span, "model `%s` has no `forward`", instance->ast->text);
    return value_error();
  }
  return apply_function(elaborator, call, forward, &arguments, NULL, source_text(elaborator, call->a));
}

static Value configure(Elaborator *elaborator, Scope *scope, const Ast *call, const Value *type) {
  Arguments arguments;
  if (!evaluate_arguments(elaborator, scope, call, MAX_ARGUMENTS, &arguments)) return value_error();
  Instance *instance = ARENA_NEW(elaborator->arena, Instance);
  bool model = type->ast->kind == AST_MODEL;
  instance->ast = type->ast;
  instance->scope = scope_new(elaborator->arena, type->scope);
  instance->scope->instance = instance;
  LabelMap map = {.count = 0};
  const char *override = elaborator->graph ? NULL : elaborator->path;
  if (!bind_arguments(elaborator, instance->scope, type->ast->list, type->ast->count, &arguments, call,
                      override, &map))
    return value_error();
  for (size_t i = 0; i < instance->scope->count; i++) {
    Binding *binding = &instance->scope->bindings[i];
    for (int j = 0; j < map.count; j++)
      if (!strcmp(map.inside[j], binding->name)) binding->value.label = map.outside[j];
  }
  if (model) {
    instance->path = elaborator->path;
    instance = instance_new(elaborator, instance->scope, type->ast, instance->path);
  }
  return instance ? (Value){.kind = VALUE_INSTANCE, .instance = instance} : value_error();
}

static Value call_with_label(Elaborator *elaborator, Scope *scope, const Ast *call, const char *label) {
  const Ast *axes = call->a->kind == AST_INDEX ? call->a : NULL;
  Value callee = evaluate(elaborator, scope, axes ? axes->a : call->a);
  if (axes && callee.kind != VALUE_FUNCTION && callee.kind != VALUE_BUILTIN && callee.kind != VALUE_ERROR) {
    callee = evaluate(elaborator, scope, axes);
    axes = NULL;
  }
  if (elaborator->graph) elaborator->graph->span = call->span;
  Arguments arguments;
  switch (callee.kind) {
  case VALUE_ERROR: return callee;
  case VALUE_TYPE: return configure(elaborator, scope, call, &callee);
  case VALUE_INSTANCE: return apply_instance(elaborator, scope, call, callee.instance, label);
  case VALUE_BUILTIN:
    if (!evaluate_arguments(elaborator, scope, call, callee.count, &arguments)) return value_error();
    if (elaborator->graph) elaborator->graph->span = call->span;
    return callee.builtin(elaborator, scope, call, arguments.values, arguments.count);
  case VALUE_FUNCTION:
    if (!evaluate_arguments(elaborator, scope, call, MAX_ARGUMENTS, &arguments)) return value_error();
    return apply_function(elaborator, call, &callee, &arguments, axes,
                          call->a->kind == AST_MEMBER ? source_text(elaborator, call->a->a) : NULL);
  default:
    error_at(elaborator->diagnostics, call->a->span, "%s can not be called", value_kind_name(&callee));
    return value_error();
  }
}

Value evaluate_call(Elaborator *elaborator, Scope *scope, const Ast *call) {
  return call_with_label(elaborator, scope, call, NULL);
}

Value evaluate_labelled(Elaborator *elaborator, Scope *scope, const Ast *labelled) {
  if (labelled->a->kind != AST_CALL) {
    error_at(elaborator->diagnostics, labelled->span,
             "a name before `:` is given to a layer that is applied, as in "
             "`%s: Layer()(x)`",
             labelled->text);
    return value_error();
  }
  return call_with_label(elaborator, scope, labelled->a, labelled->text);
}

// ---- models
// ------------------------------------------------------------------------------------------------------

static Value member_value(Elaborator *elaborator, Instance *instance, const Ast *member) {
  const char *saved = elaborator->path;
  elaborator->path = join_path(elaborator, instance->path, member->list[0]->text);
  Value value = evaluate(elaborator, instance->scope, member->a);
  if (value.kind == VALUE_INSTANCE && !value.instance->path) value.instance->path = elaborator->path;
  elaborator->path = saved;
  return value;
}

// A model with its configuration bound in `scope`: constants, sub-models, parameters and functions become
// members.
Instance *instance_new(Elaborator *elaborator, Scope *scope, const Ast *ast, const char *path) {
  Instance *instance = ARENA_NEW(elaborator->arena, Instance);
  Arena *arena = elaborator->arena;
  int errors = elaborator->diagnostics->errors;
  *instance = (Instance){ast, scope, path};
  scope->instance = instance;
  for (size_t i = 0; i < ast->c->count; i++) {
    const Ast *member = ast->c->list[i];
    if (member->kind == AST_ASSIGN && member->count == 1 && member->list[0]->kind == AST_NAME) {
      scope_set(arena, scope, member->list[0]->text, member_value(elaborator, instance, member));
    } else if (member->kind == AST_ASSIGN) {
      error_at(elaborator->diagnostics, member->span, "a model's member is `name = ...`");
    } else if (member->kind == AST_FUNCTION) {
      Value function = {.kind = VALUE_FUNCTION, .ast = member, .scope = scope, .instance = instance};
      scope_set(arena, scope, member->text, function);
    } else if (member->kind == AST_PARAM) {
      bool on = true;
      Value condition = member->b ? evaluate(elaborator, scope, member->b) : value_bool(true);
      if (!to_truth(elaborator, &condition, member->span, &on)) continue;
      Value param = {.kind = VALUE_PARAM, .ast = member, .scope = scope};
      param.text = join_path(elaborator, path, member->text);
      scope_set(arena, scope, member->text, on ? param : value_number(0));
    }
  }
  return elaborator->diagnostics->errors > errors ? NULL : instance;
}

Value call_function(Elaborator *elaborator, const Ast *at, const Value *function, const Value *values,
                    size_t count) {
  Arguments arguments = {.count = count};
  for (size_t i = 0; i < count; i++) {
    arguments.values[i] = values[i];
    arguments.texts[i] = NULL;
  }
  return apply_function(elaborator, at, function, &arguments, NULL, NULL);
}
