// Opening a model, and a graph of one of its functions.
#include "compiler/elaborate/value.h"

#include <string.h>

static bool is_declaration(const Ast *ast) {
  return ast->kind == AST_FUNCTION || ast->kind == AST_LAYER || ast->kind == AST_MODEL;
}

static void report_twice(Diagnostics *diagnostics, const Ast *first, const Ast *second) {
  error_at(diagnostics, second->span, "`%s` is declared twice", second->text);
  note_at(diagnostics, first->span, "the first time");
}

static void check_unique(Diagnostics *diagnostics, Ast *const *list, size_t count) {
  for (size_t i = 0; i < count; i++) {
    bool named = list[i]->kind == AST_PARAMETER || list[i]->kind == AST_PARAM || is_declaration(list[i]);
    for (size_t j = 0; named && j < i; j++) {
      if (list[j]->kind != list[i]->kind && !(is_declaration(list[j]) && is_declaration(list[i]))) continue;
      if (strcmp(list[j]->text, list[i]->text)) continue;
      report_twice(diagnostics, list[j], list[i]);
      break;
    }
    if (!is_declaration(list[i])) continue;
    check_unique(diagnostics, list[i]->list, list[i]->count);
    if (list[i]->d) check_unique(diagnostics, list[i]->d->list, list[i]->d->count);
    if (list[i]->kind == AST_MODEL) check_unique(diagnostics, list[i]->c->list, list[i]->c->count);
  }
}

// A scope per module: its declarations, and the modules that it imports. Around it is the prelude's, where
// there is one (it is loaded before all others).
static void open_modules(Model *model) {
  Arena *arena = model->elaborator.arena;
  const Modules *modules = model->modules;
  model->builtins = scope_new(arena, NULL);
  for (size_t i = 0; i < builtin_row_count; i++)
    scope_set(arena, model->builtins, builtin_rows[i].name,
              (Value){.kind = VALUE_BUILTIN,
                      .builtin = builtin_rows[i].builtin,
                      .count = builtin_rows[i].evaluated});
  scope_set(arena, model->builtins, "pi", value_number(3.14159265358979323846));
  scope_set(arena, model->builtins, "training", value_bool(false)); // true in `loss`; see model_graph
  model->module_scopes = ARENA_ARRAY(arena, Scope *, modules->count);
  for (size_t i = 0; i < modules->count; i++) {
    Scope *around =
        i && !strcmp(modules->list[0].name, "prelude") ? model->module_scopes[0] : model->builtins;
    Scope *scope = model->module_scopes[i] = scope_new(arena, around);
    const Ast *file = modules->list[i].file;
    check_unique(model->elaborator.diagnostics, file->list, file->count);
    for (size_t j = 0; j < file->count; j++) {
      const Ast *ast = file->list[j];
      if (ast->kind == AST_IMPORT) {
        for (size_t k = 0; k < i; k++)
          if (ast->other && !strcmp(modules->list[k].path, ast->other))
            scope_set(arena, scope, ast->text,
                      (Value){.kind = VALUE_MODULE, .scope = model->module_scopes[k]});
      } else if (is_declaration(ast)) {
        bool function = ast->kind == AST_FUNCTION;
        scope_set(arena, scope, ast->text,
                  (Value){.kind = function ? VALUE_FUNCTION : VALUE_TYPE, .ast = ast, .scope = scope});
      }
    }
  }
}

static bool path_equal(const char *path, const char *name, const char *whole) {
  size_t length = strlen(path);
  if (!length) return !strcmp(name, whole);
  return !strncmp(whole, path, length) && whole[length] == '.' && !strcmp(whole + length + 1, name);
}

static bool preset_override(Elaborator *elaborator, const Ast *preset, const char *path, const char *name,
                            Value *value) {
  Model *model = elaborator->model;
  for (size_t i = 0; i < preset->count; i++) {
    const Ast *setting = preset->list[i];
    const Ast *call = setting->count == 1 && setting->list[0]->kind == AST_CALL ? setting->list[0] : NULL;

    if (!call) continue; // reported by check_settings

    const char *target = source_text(elaborator, call->a);
    bool here = !strcmp(target, path) || (!*path && !strcmp(target, model_name(model)));
    for (size_t j = 0; here && j < call->count; j++) {
      if (!call->list[j]->text || strcmp(call->list[j]->text, name)) continue;
      *value = evaluate(elaborator, model->module_scopes[model->modules->count - 1], call->list[j]->a);
      return true;
    }
  }
  return false;
}

bool model_override(Elaborator *elaborator, const char *path, const char *name, Value *value) {
  Model *model = elaborator->model;
  if (!path) return false;
  for (size_t i = model->options->define_count; i-- > 0;) {
    const Define *define = &model->options->defines[i];
    bool root = !*path && path_equal(model_name(model), name, define->path); // GPT.width as well as width
    if (!root && !path_equal(path, name, define->path)) continue;
    *value = evaluate(elaborator, model->module_scopes[model->modules->count - 1], define->value);
    return true;
  }
  if (!model->options->preset) return false;
  for (size_t i = 0; i < model->file->count; i++) {
    const Ast *ast = model->file->list[i];
    if (ast->kind == AST_PRESET && !strcmp(ast->text, model->options->preset) &&
        preset_override(elaborator, ast, path, name, value))
      return true;
  }
  return false;
}

static bool check_preset(Model *model) {
  const char *wanted = model->options->preset, *from = model->options->preset_from;
  if (!wanted) return true;
  Text known = {0};
  bool found = false;
  for (size_t i = 0; i < model->file->count; i++) {
    const Ast *ast = model->file->list[i];
    if (ast->kind != AST_PRESET) continue;
    found |= !strcmp(ast->text, wanted);
    text_print(&known, "%s%s", known.length ? ", " : "", ast->text);
  }
  if (!found)
    error_at(model->elaborator.diagnostics, model->root->ast->span,
             "there is no preset `%s`%s%s; this file has: %s", wanted,
             from ? ", which is what was asked for in " : "", from ? from : "",
             known.length ? text_string(&known) : "none");
  text_free(&known);
  return found;
}

// The part at a path ("", "vision", the model's own name); NULL: none.
static Instance *find_part(Model *model, const char *path) {
  Instance *instance = model->root;
  if (!strcmp(path, model_name(model))) return instance;
  while (*path) {
    size_t length = strcspn(path, ".");
    Instance *next = NULL;
    for (size_t i = 0; i < instance->scope->count; i++) {
      const Binding *binding = &instance->scope->bindings[i];
      if (binding->value.kind == VALUE_INSTANCE && strlen(binding->name) == length &&
          !strncmp(binding->name, path, length))
        next = binding->value.instance;
    }
    if (!next) return NULL;
    instance = next;
    path += length + (path[length] == '.');
  }
  return instance;
}

static const Ast *find_stage(Model *model, const char *name) {
  for (size_t i = 0; i < model->file->count; i++)
    if (model->file->list[i]->kind == AST_STAGE && !strcmp(model->file->list[i]->text, name))
      return model->file->list[i];
  return NULL;
}

static bool names_parameter(const Ast *declaration, const char *name) {
  for (size_t i = 0; i < declaration->count; i++)
    if (!strcmp(declaration->list[i]->text, name)) return true;
  return false;
}

static bool known_name(Model *model, const char *path, const char *name) {
  if (find_stage(model, path)) return true; // its settings are checked when it is read
  const Instance *instance = find_part(model, path);
  return instance && names_parameter(instance->ast, name);
}

static void check_preset_setting(Model *model, const Ast *setting) {
  Elaborator *elaborator = &model->elaborator;
  const Ast *call = setting->count == 1 && setting->list[0]->kind == AST_CALL ? setting->list[0] : NULL;
  if (!call || strcmp(source_text(elaborator, call->a), setting->text)) {
    error_at(elaborator->diagnostics, setting->span, "a preset sets values as `part(name = value)`");
    return;
  }
  if (!find_part(model, setting->text) && !find_stage(model, setting->text)) {
    error_at(elaborator->diagnostics, setting->span,
             "`%s` is neither the model, nor a part of it, nor a stage", setting->text);
    return;
  }
  for (size_t i = 0; i < call->count; i++) {
    const char *name = call->list[i]->text;
    if (!name)
      error_at(elaborator->diagnostics, call->list[i]->span,
               "a preset sets values by name, as `name = value`");
    else if (!known_name(model, setting->text, name))
      error_at(elaborator->diagnostics, call->list[i]->span, "`%s` has no parameter `%s`", setting->text,
               name);
  }
}

// The setting of the part at `path` whose name is most like `name`; NULL: none is like it.
static const char *closest_setting(Model *model, const char *path, const char *name) {
  const Instance *instance = find_part(model, path);
  Closest closest = closest_to(name);
  for (size_t i = 0; instance && i < instance->ast->count; i++)
    closest_try(&closest, instance->ast->list[i]->text);
  return closest.name;
}

static void refuse_define(Model *model, const Define *define, const char *target, const char *name) {
  const char *closest = closest_setting(model, target, name), *in = model_name(model);
  Diagnostics *diagnostics = model->elaborator.diagnostics;
  if (closest)
    error_at(diagnostics, define->span, "nothing is called `%s` in %s; is `%s%s%s` meant?", define->path, in,
             target, *target ? "." : "", closest);
  else
    error_at(diagnostics, define->span, "nothing is called `%s` in %s", define->path, in);
}

// Every setting of a preset and of the command line must be about something that exists.
static void check_settings(Model *model) {
  Elaborator *elaborator = &model->elaborator;
  for (size_t i = 0; i < model->file->count; i++) {
    const Ast *preset = model->file->list[i];
    if (preset->kind != AST_PRESET) continue;
    for (size_t j = 0; j < preset->count; j++) check_preset_setting(model, preset->list[j]);
  }
  for (size_t i = 0; i < model->options->define_count; i++) {
    const char *path = model->options->defines[i].path, *dot = strrchr(path, '.');
    const char *target = dot ? arena_copy(elaborator->arena, path, (size_t)(dot - path)) : "";
    const char *name = dot ? dot + 1 : path;
    if (!known_name(model, target, name)) refuse_define(model, &model->options->defines[i], target, name);
  }
}

Model *model_open(Arena *arena, Diagnostics *diagnostics, const Modules *modules,
                  const ModelOptions *options) {
  Model *model = ARENA_NEW(arena, Model);
  int errors = diagnostics->errors;
  model->elaborator = (Elaborator){.arena = arena, .diagnostics = diagnostics, .model = model, .path = ""};
  model->modules = modules;
  model->options = options;
  model->file = modules->list[modules->count - 1].file;
  const Ast *root = NULL;
  for (size_t i = 0; i < model->file->count; i++)
    if (model->file->list[i]->kind == AST_MODEL) root = model->file->list[i];
  if (!root) {
    error_at(diagnostics, model->file->span, "%s declares no model", modules->list[modules->count - 1].path);
    return NULL;
  }
  model->root = ARENA_NEW(arena, Instance);
  model->root->ast = root;
  open_modules(model);
  if (!check_preset(model)) return NULL;
  Scope *scope = scope_new(arena, model->module_scopes[modules->count - 1]);
  for (size_t i = 0; i < root->count; i++) {
    Value value = value_error();
    const Ast *parameter = root->list[i];
    if (!model_override(&model->elaborator, "", parameter->text, &value)) {
      if (parameter->a)
        value = evaluate(&model->elaborator, scope, parameter->a);
      else
        error_at(diagnostics, parameter->span, "the model's `%s` has no default and no preset sets it",
                 parameter->text);
    }
    scope_set(arena, scope, parameter->text, value);
  }
  if (diagnostics->errors > errors) return NULL;
  Instance *instance = instance_new(&model->elaborator, scope, root, "");
  if (!instance) return NULL;
  model->root = instance;
  check_settings(model);
  return diagnostics->errors > errors ? NULL : model;
}

const char *model_name(const Model *model) { return model->root->ast->text; }

static Value *root_member(const Model *model, const char *name) {
  for (size_t i = 0; i < model->root->scope->count; i++)
    if (!strcmp(model->root->scope->bindings[i].name, name)) return &model->root->scope->bindings[i].value;
  return NULL;
}

bool model_has(const Model *model, const char *function) {
  const Value *found = root_member(model, function);
  return found && found->kind == VALUE_FUNCTION;
}

// ---- graphs -------------------------------------------------------------------------------------

// A parameter without axes takes those of the same name in `forward`: loss(picture, ids) repeats nothing.
static const Ast *declared_parameter(Model *model, const Ast *parameter) {
  const Value *forward = root_member(model, "forward");
  if (parameter->has_axes || parameter->dtype || !forward || forward->kind != VALUE_FUNCTION)
    return parameter;
  for (size_t i = 0; i < forward->ast->count; i++)
    if (!strcmp(forward->ast->list[i]->text, parameter->text)) return forward->ast->list[i];
  return parameter;
}

static bool input_extent(Elaborator *elaborator, Scope *scope, const Ast *axis, Extent *extent) {
  Value *found = axis->kind == AST_NAME ? scope_find(scope, axis->text) : NULL;
  if (axis->kind == AST_NAME && (!found || found->kind != VALUE_NUMBER)) {
    bool batch = !strcmp(axis->text, "B"), time = !strcmp(axis->text, "T");
    *extent = extent_symbol(batch ? SYMBOL_BATCH : SYMBOL_TIME);
    if (batch || time) return true;
    error_at(elaborator->diagnostics, axis->span,
             "`%s` has no size; only B (samples) and T (positions) are known at run time", axis->text);
    return false;
  }
  if (axis->kind == AST_DOTS) {
    error_at(elaborator->diagnostics, axis->span, "a model's input names all its axes");
    return false;
  }
  Value value = evaluate(elaborator, scope, axis);
  return to_extent(elaborator, &value, axis->span, extent);
}

static Value data_input(Model *model, const Ast *parameter) {
  Elaborator *elaborator = &model->elaborator;
  const Ast *declared = declared_parameter(model, parameter);
  Type type = {.dtype = DTYPE_F32, .rank = (int)declared->count};
  const char *labels[MAX_RANK];

  if (declared->count > MAX_RANK) {
    error_at(elaborator->diagnostics, parameter->span, "more than %d axes", MAX_RANK);
    return value_error();
  }
  if (!declared->has_axes) {
    error_at(elaborator->diagnostics, parameter->span, "the input `%s` needs its axes, as in `%s[B, T]`",
             parameter->text, parameter->text);
    return value_error();
  }
  if (declared->dtype && !dtype_from_name(declared->dtype, &type.dtype)) {
    error_at(elaborator->diagnostics, declared->span, "`%s` is not an element type", declared->dtype);
    return value_error();
  }
  for (size_t i = 0; i < declared->count; i++) {
    if (!input_extent(elaborator, model->root->scope, declared->list[i], &type.axes[i].extent))
      return value_error();
    type.axes[i].label = axis_label(elaborator, declared->list[i]);
  }
  type_make_labels_unique(elaborator->arena, &type);
  for (int i = 0; i < type.rank; i++) labels[i] = type.axes[i].label;
  elaborator->graph->span = parameter->span;
  NodeId node = graph_input(elaborator->graph, parameter->text, INPUT_DATA, type);
  return value_tensor(elaborator, node, labels);
}

Graph *model_graph(Model *model, const char *function) {
  Elaborator *elaborator = &model->elaborator;
  Value *found = root_member(model, function);
  int errors = elaborator->diagnostics->errors;
  if (!found || found->kind != VALUE_FUNCTION) {
    error_at(elaborator->diagnostics, model->root->ast->span, "model `%s` has no function `%s`",
             model_name(model), function);
    return NULL;
  }
  Value method = *found, arguments[MAX_ARGUMENTS];
  Graph *graph = elaborator->graph = graph_new(elaborator->arena, function);
  scope_set(elaborator->arena, model->builtins, "training", value_bool(!strcmp(function, "loss")));

  elaborator->site_count = elaborator->steps = 0;
  elaborator->path = "";
  size_t count = method.ast->count < MAX_ARGUMENTS ? method.ast->count : MAX_ARGUMENTS;
  for (size_t i = 0; i < count; i++) arguments[i] = data_input(model, method.ast->list[i]);
  Value result = value_error();
  if (elaborator->diagnostics->errors == errors)
    result = call_function(elaborator, method.ast, &method, arguments, count);

  Span span = method.ast->c->kind == AST_BLOCK ? elaborator->returned : method.ast->c->span;
  if (elaborator->diagnostics->errors == errors && to_tensor(elaborator, &result, DTYPE_F32, span))
    graph_output(graph, !strcmp(function, "loss") ? "loss" : "result", result.node, false);

  elaborator->graph = NULL;
  if (elaborator->diagnostics->errors == errors && !graph->output_count)
    die("`%s` gave no value and no message", function);
  if (elaborator->diagnostics->errors == errors) graph_check_sizes(graph, elaborator->diagnostics);
  return elaborator->diagnostics->errors > errors ? NULL : graph;
}

Graph *model_function(Model *model, const char *function, const char *const *results, size_t result_count) {
  Elaborator *elaborator = &model->elaborator;
  const char *dot = strchr(function, '.');
  int errors = elaborator->diagnostics->errors;
  Value *found = NULL;
  for (size_t i = 0; dot && i < model->modules->count; i++)
    if (!strncmp(model->modules->list[i].name, function, (size_t)(dot - function)) &&
        !model->modules->list[i].name[dot - function])
      found = scope_find(model->module_scopes[i], dot + 1);
  if (!found || found->kind != VALUE_FUNCTION) {
    error_at(elaborator->diagnostics, model->file->span, "the library has no function `%s`", function);
    return NULL;
  }
  Value callee = *found, arguments[MAX_ARGUMENTS];
  Graph *graph = elaborator->graph = graph_new(elaborator->arena, dot + 1);
  size_t count = callee.ast->count < MAX_ARGUMENTS ? callee.ast->count : MAX_ARGUMENTS;
  for (size_t i = 0; i < count; i++) {
    graph->span = callee.ast->list[i]->span;
    NodeId node = graph_input(graph, callee.ast->list[i]->text, INPUT_SCALAR, (Type){.dtype = DTYPE_F32});
    arguments[i] = value_tensor(elaborator, node, NULL);
  }
  Value result = call_function(elaborator, callee.ast, &callee, arguments, count);
  bool fits = result.kind == VALUE_LIST && result.count == result_count;
  if (!fits && elaborator->diagnostics->errors == errors)
    error_at(elaborator->diagnostics, callee.ast->span, "`%s` must return a list of %zu", function,
             result_count);
  for (size_t i = 0; fits && i < result_count; i++) {
    Value value = result.list[i];
    if (to_tensor(elaborator, &value, DTYPE_F32, callee.ast->span))
      graph_output(graph, results[i], value.node, false);
  }
  elaborator->graph = NULL;
  return elaborator->diagnostics->errors > errors ? NULL : graph;
}
