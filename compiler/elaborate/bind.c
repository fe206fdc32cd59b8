// Arguments to parameters: axes are matched with their declarations, configuration takes overrides and
// defaults.
//
// Labels cross a call like this: inside, an axis is known by the name the parameter gives it (x[.., D]); on
// return a label that came from an argument's axis gets the argument's label back, one that came from a
// configuration value gets the name or the text that the caller gave for it, and a name of another model's
// configuration is prefixed by that model's name.
#include "compiler/elaborate/value.h"

#include <string.h>

void map_label(LabelMap *map, const char *inside, const char *outside) {
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

void labels_outside(Elaborator *elaborator, const LabelMap *map, Value *value) {
  for (int i = 0; i < value->rank; i++) {
    value->labels[i] = label_outside(elaborator, map, value->labels[i]);
    value->aliases[i] = NULL;
    for (int j = 0; j < i; j++)
      if (!strcmp(value->labels[i], value->labels[j]))
        value->labels[i] = arena_print(elaborator->arena, "%s'", value->labels[i]);
  }
}

// ---- matching declared axes ---------------------------------------------------------------------

static void declared_text(Elaborator *elaborator, const Ast *declared, Text *text) {
  text_print(text, "%s[", declared->text ? declared->text : "");
  for (size_t i = 0; i < declared->count; i++)
    text_print(text, "%s%s", i ? ", " : "", source_text(elaborator, declared->list[i]));
  text_print(text, "]");
}

static const char *axis_name(Elaborator *elaborator, const Ast *item, int axis) {
  if (item->kind == AST_NAME) return item->text;
  return arena_print(elaborator->arena, "axis %d", axis + 1);
}

static bool report_rank(Elaborator *elaborator, const Ast *declared, Span span, const Value *value) {

  Text shape = {0}, wanted = {0};
  value_describe(elaborator, value, &shape);
  declared_text(elaborator, declared, &wanted);
  error_at(elaborator->diagnostics, span, "expected %s, found %s: not as many axes", text_string(&wanted),
           text_string(&shape));
  note_at(elaborator->diagnostics, declared->span, "declared here");
  text_free(&shape);
  text_free(&wanted);
  return false;
}

// One axis against its declaration: a new name is bound, anything else must be equal.

static bool match_axis(Elaborator *elaborator, Scope *scope, const Ast *declared, const Ast *item,
                       const Value *value, int axis, Span span) {
  Extent extent = tensor_extent(elaborator, value, axis);
  Value *found = item->kind == AST_NAME ? scope_find(scope, item->text) : NULL;
  if (item->kind == AST_NAME && (!found || found->kind != VALUE_NUMBER)) {
    scope_set(elaborator->arena, scope, item->text, value_size(extent));
    return true;
  }

  Value given = found ? *found : evaluate(elaborator, scope, item);
  Extent expected;
  if (!to_extent(elaborator, &given, item->span, &expected)) return false;
  if (extent_equal(expected, extent)) return true;

  Text shape = {0}, wanted = {0};
  value_describe(elaborator, value, &shape);
  declared_text(elaborator, declared, &wanted);
  error_at(elaborator->diagnostics, span, "expected %s, found %s: %s is %s, not %s", text_string(&wanted),
           text_string(&shape), axis_name(elaborator, item, axis), axis_text(elaborator, NULL, extent),
           axis_text(elaborator, NULL, expected));
  note_at(elaborator->diagnostics, item->span, "declared here");
  text_free(&shape);
  text_free(&wanted);
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
bool match_axes(Elaborator *elaborator, Scope *scope, const Ast *declared, Value *value, Span span,
                LabelMap *map) {
  size_t fixed = declared->count;
  for (size_t i = 0; i < declared->count; i++) fixed -= declared->list[i]->kind == AST_DOTS;
  bool dots = fixed < declared->count;
  if (dots ? (size_t)value->rank < fixed : (size_t)value->rank != fixed)
    return report_rank(elaborator, declared, span, value);
  const Value before = *value; // for messages
  int axis = 0;
  for (size_t i = 0; i < declared->count; i++) {
    const Ast *item = declared->list[i];
    if (item->kind == AST_DOTS) {
      for (int kept = value->rank - (int)fixed; kept > 0; kept--)
        keep_label(elaborator, map, &value->labels[axis++]);
      continue;
    }

    if (!match_axis(elaborator, scope, declared, item, &before, axis, span)) return false;
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
      error_at(elaborator->diagnostics, span, "`%s` takes %s, found %s", parameter->text, parameter->dtype,
               dtype_name(tensor_dtype(elaborator, &value)));
      note_at(elaborator->diagnostics, parameter->span, "declared here");
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

// ---- arguments ----------------------------------------------------------------------------------

bool evaluate_arguments(Elaborator *elaborator, Scope *scope, const Ast *call, size_t values,
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

static void report_unused(Elaborator *elaborator, const Ast *callee, const Ast *parameters,
                          const Arguments *arguments, size_t unused) {
  Span span = arguments->texts[unused]->span;
  Text known = {0};
  for (size_t i = 0; i < parameters->count; i++)
    text_print(&known, "%s%s", i ? ", " : "", parameters->list[i]->text);
  if (arguments->names[unused])
    error_at(elaborator->diagnostics, span, "`%s` has no parameter `%s`; it has: %s", callee->text,
             arguments->names[unused], known.length ? text_string(&known) : "none");
  else
    error_at(elaborator->diagnostics, span, "`%s` takes %zu argument%s (%s), found %zu", callee->text,
             parameters->count, parameters->count == 1 ? "" : "s", text_string(&known), arguments->count);
  text_free(&known);
}

bool bind_arguments(Elaborator *elaborator, Scope *scope, const Ast *callee, const Ast *parameters,
                    Arguments *arguments, const Ast *at, const char *override, LabelMap *map) {
  for (size_t i = 0; i < parameters->count; i++) {
    const Ast *parameter = parameters->list[i];
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
      error_at(elaborator->diagnostics, at->span, "`%s` is called without its argument `%s`", callee->text,
               parameter->text);
      note_at(elaborator->diagnostics, parameter->span, "declared here");
      return false;
    }
    if (!bind_argument(elaborator, scope, parameter, value, text, text ? text->span : at->span, map))
      return false;
  }

  for (size_t i = 0; i < arguments->count; i++) {
    if (arguments->used[i]) continue;
    report_unused(elaborator, callee, parameters, arguments, i);
    return false;
  }
  return true;
}
