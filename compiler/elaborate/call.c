// Calls: functions with their axes bound by name, layers with their parameters, models with their members.
#include "compiler/elaborate/value.h"

#include <string.h>

// ---- statements ---------------------------------------------------------------------------------

// Repetitions of repetitions, and calls of calls, end here and not in the machine's memory.
static bool spend_step(Elaborator *elaborator, Span span) {
  bool more = elaborator->steps < MAX_STEPS && (!elaborator->graph || elaborator->graph->count < MAX_STEPS);
  if (more) return elaborator->steps++, true;
  if (elaborator->steps <= MAX_STEPS)
    error_at(elaborator->diagnostics, span, "the model has more than %d calls, statements or operations",
             MAX_STEPS);
  elaborator->steps = MAX_STEPS + 1;
  return false;
}

bool repeat_count(Elaborator *elaborator, const Value *count, Span span, Extent *extent) {
  if (!to_extent(elaborator, count, span, extent)) return false;
  if (!extent->symbol && extent->offset <= MAX_REPEAT) return true;
  error_at(elaborator->diagnostics, span, "what is repeated needs a constant of at most %d", MAX_REPEAT);
  return false;
}

static bool execute_repeat(Elaborator *elaborator, Scope *scope, const Ast *repeat, Value *result) {
  Value count = evaluate(elaborator, scope, repeat->a);
  Extent extent;
  const char *path = elaborator->path;
  bool returned = false;

  if (!repeat_count(elaborator, &count, repeat->a->span, &extent)) return false;
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
    if (!spend_step(elaborator, statement->span)) return false;
    switch (statement->kind) {
    case AST_ASSIGN: execute_assign(elaborator, scope, statement); break;
    case AST_PARAM: execute_param(elaborator, scope, statement); break;

    case AST_RETURN:
      *result = evaluate(elaborator, scope, statement->a);
      elaborator->returned = statement->a->span;
      return true;
    case AST_REPEAT:
      if (execute_repeat(elaborator, scope, statement, result)) return true;
      break;
    default: error_at(elaborator->diagnostics, statement->span, "this does not stand in a function"); break;
    }
  }
  return false;
}

// ---- calling ------------------------------------------------------------------------------------

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

    Span span = function->c->kind == AST_BLOCK ? elaborator->returned : function->c->span;
    if (!to_tensor(elaborator, &result, DTYPE_F32, span)) return value_error();
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

  if (!spend_step(elaborator, at->span)) return false;
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

  if (axes && !arguments->count) {
    error_at(elaborator->diagnostics, call->span, "`%s` is called without its argument", ast->text);
    return value_error();
  }
  if (axes) {
    if (!to_tensor(elaborator, &before, DTYPE_F32, call->span)) return value_error();
    arguments->values[0] = before;
    if (!move_axes_last(elaborator, axes, &arguments->values[0])) return value_error();
  }
  Saved saved;
  const char *path = function->instance ? function->instance->path : elaborator->path;
  const Ast *site = function->instance ? NULL : elaborator->site;
  if (!enter(elaborator, call, ast->text, path, site, &saved)) return value_error();
  Value result = value_error();
  if (bind_arguments(elaborator, scope, ast, ast, arguments, call, NULL, &map))
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
  if (bind_arguments(elaborator, scope, ast, ast->d, arguments, call, NULL, &map))
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

// A layer is configured first, with what is known at compile time, and then applied.
static bool check_configuration(Elaborator *elaborator, const Ast *ast, const Arguments *arguments) {
  for (size_t i = 0; i < arguments->count; i++) {
    if (arguments->values[i].kind != VALUE_TENSOR) continue;
    error_at(elaborator->diagnostics, arguments->texts[i]->span,
             "`%s` is configured with what is known at compile time, found "
             "a tensor; to apply it: `%s(..)(x)`",
             ast->text, ast->text);
    return false;
  }
  return true;
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
  if (!check_configuration(elaborator, type->ast, &arguments) ||
      !bind_arguments(elaborator, instance->scope, type->ast, type->ast, &arguments, call, override, &map))
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
    error_at(elaborator->diagnostics, call->a->span, "`%s` is %s, which can not be called",
             source_text(elaborator, call->a), value_kind_name(&callee));
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

// ---- models -------------------------------------------------------------------------------------

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
