// Names and the values they stand for.
#include "compiler/elaborate/value.h"

#include <string.h>

Scope *scope_new(Arena *arena, Scope *parent) {
  Scope *scope = ARENA_NEW(arena, Scope);
  scope->parent = parent;
  return scope;
}

void scope_set(Arena *arena, Scope *scope, const char *name, Value value) {
  for (size_t i = 0; i < scope->count; i++) {
    if (!strcmp(scope->bindings[i].name, name)) {
      scope->bindings[i].value = value;
      return;
    }
  }
  ARENA_PUSH(arena, scope->bindings, scope->count, scope->capacity, ((Binding){name, value}));
}

Value *scope_find(Scope *scope, const char *name) {
  for (; scope; scope = scope->parent)
    for (size_t i = 0; i < scope->count; i++)
      if (!strcmp(scope->bindings[i].name, name)) return &scope->bindings[i].value;
  return NULL;
}

const char *scope_closest(const Scope *scope, const char *name, bool outwards) {
  Closest closest = closest_to(name);
  for (; scope; scope = outwards ? scope->parent : NULL)
    for (size_t i = 0; i < scope->count; i++) closest_try(&closest, scope->bindings[i].name);
  return closest.name;
}

bool scope_in_equation(const Scope *scope) {
  for (; scope; scope = scope->parent)
    if (scope->equation) return true;
  return false;
}

Value value_error(void) { return (Value){.kind = VALUE_ERROR}; }

Value value_number(double number) { return (Value){.kind = VALUE_NUMBER, .number = number}; }

Value value_size(Extent extent) {
  return (Value){.kind = VALUE_NUMBER, .number = (double)extent.offset, .extent = extent};
}

Value value_bool(bool truth) { return (Value){.kind = VALUE_BOOL, .number = truth}; }

Value value_string(const char *text) { return (Value){.kind = VALUE_STRING, .text = text}; }

Value value_tensor(const Elaborator *elaborator, NodeId node, const char *const *labels) {
  Value value = {.kind = VALUE_TENSOR, .node = node};
  value.rank = graph_type(elaborator->graph, node)->rank;
  for (int i = 0; i < value.rank; i++) value.labels[i] = labels[i];
  return value;
}

const char *value_kind_name(const Value *value) {
  static const char *const names[] = {
      [VALUE_ERROR] = "an error",     [VALUE_NUMBER] = "a number",   [VALUE_BOOL] = "true or false",
      [VALUE_STRING] = "a text",      [VALUE_TENSOR] = "a tensor",   [VALUE_INDEX] = "an index",
      [VALUE_LAZY] = "an equation",   [VALUE_PARAM] = "a parameter", [VALUE_FUNCTION] = "a function",
      [VALUE_BUILTIN] = "a function", [VALUE_TYPE] = "a layer type", [VALUE_INSTANCE] = "a layer",
      [VALUE_MODULE] = "a module",    [VALUE_LIST] = "a list",
  };
  return names[value->kind];
}

void value_describe(const Elaborator *elaborator, const Value *value, Text *text) {
  if (value->kind != VALUE_TENSOR) {
    text_print(text, "%s", value_kind_name(value));
    return;
  }
  const Type *type = graph_type(elaborator->graph, value->node);
  text_print(text, "%s[", dtype_name(type->dtype));
  for (int i = 0; i < type->rank; i++) {
    Text extent = {0};
    extent_print(&extent, type->axes[i].extent);
    text_print(text, "%s%s", i ? ", " : "", value->labels[i]);
    if (strcmp(text_string(&extent), value->labels[i])) text_print(text, "=%s", text_string(&extent));
    text_free(&extent);
  }
  text_print(text, "]");
}
