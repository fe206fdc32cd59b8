// Trained parameters: their types, how they start, and the paths they are known by.
#include "compiler/elaborate/value.h"

#include <string.h>

const char *join_path(Elaborator *elaborator, const char *path, const char *name) {
  if (!path || !*path) return name;
  return *name ? arena_print(elaborator->arena, "%s.%s", path, name) : path;
}

static bool check_site(Elaborator *elaborator, const char *name, const Ast *site) {
  for (size_t i = 0; i < elaborator->site_count; i++) {
    if (strcmp(elaborator->sites[i].name, name)) continue;
    if (elaborator->sites[i].site == site) return true;

    if (elaborator->shared == site) return false; // its next parameter
    elaborator->shared = site;
    error_at(elaborator->diagnostics, site->span,
             "two layers would share the parameter `%s`; give one a name, as in "
             "`name: Layer()(x)`",
             name);
    note_at(elaborator->diagnostics, elaborator->sites[i].site->span, "the other one");
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
      Text size = {0};
      extent_print(&size, type->axes[i].extent);
      error_at(elaborator->diagnostics, param->list[i]->span,
               "a parameter's axis has a fixed size of at least 1, found %s", text_string(&size));
      text_free(&size);
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

  if (++elaborator->depth > MAX_CALL_DEPTH) {
    elaborator->depth--;
    error_at(elaborator->diagnostics, param->span, "the axes of parameter `%s` need the parameter itself",
             param->text);
    return value_error();
  }
  bool typed = parameter_type(elaborator, scope, param, &type);
  elaborator->depth--;
  if (!typed) return value_error();
  const Ast *site = elaborator->site && param != elaborator->site ? elaborator->site : param;
  if (!check_site(elaborator, path, site)) return value_error();
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

void execute_param(Elaborator *elaborator, Scope *scope, const Ast *param) {
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
