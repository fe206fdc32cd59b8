// The `weights` blocks of a model: every mapping must be about parameters that exist, with indices that fit.
#include "compiler/elaborate/value.h"

#include <string.h>

typedef struct Check {
  Elaborator *elaborator;
  const Graph *graphs[2]; // of `forward` and `loss`: between them all parameters
  const Instance *instance;
} Check;

// Calls `visit` for every parameter called `path` or inside of it; their number.
static size_t visit_parameters(const Check *check, const char *path, const Ast *mapping,
                               void (*visit)(const Check *, const Input *, const Type *, const Ast *)) {
  size_t length = strlen(path), found = 0;
  for (int i = 0; i < 2; i++) {
    const Graph *graph = check->graphs[i];
    for (size_t j = 0; graph && !found && j < graph->input_count; j++) {
      const Input *input = &graph->inputs[j];
      char after = strncmp(input->name, path, length) ? 'x' : input->name[length];
      if (input->role == INPUT_PARAM && (!after || after == '.')) found++;
    }
    for (size_t j = 0; graph && found && visit && j < graph->input_count; j++) {
      const Input *input = &graph->inputs[j];
      char after = strncmp(input->name, path, length) ? 'x' : input->name[length];
      if (input->role == INPUT_PARAM && (!after || after == '.'))
        visit(check, input, graph_type(graph, input->node), mapping);
    }
    if (found) return found;
  }
  return 0;
}

// blocks[l].attn.qkv.weight as "blocks.3.attn.qkv.weight". False: reported, or the last index names axes.
static bool mapping_path(const Check *check, Scope *scope, const Ast *ast, Text *path) {
  Elaborator *elaborator = check->elaborator;
  Affine at;
  if (ast->kind == AST_NAME) {
    text_print(path, "%s", ast->text);
    return true;
  }
  if (ast->kind == AST_MEMBER) {
    if (!mapping_path(check, scope, ast->a, path)) return false;
    text_print(path, ".%s", ast->text);
    return true;
  }
  if (ast->kind == AST_INDEX && ast->count == 1 && affine_index(elaborator, scope, ast->list[0], &at) &&
      !at.count) {
    if (!mapping_path(check, scope, ast->a, path)) return false;
    text_print(path, ".%lld", (long long)at.offset);
    return true;
  }
  error_at(elaborator->diagnostics, ast->span,
           "on the left of a mapping stands a parameter or a layer, as in "
           "`blocks[l].norm1` or `blocks[l].up.weight[o, i]`");
  return false;
}

static bool names_axes(const Check *check, Scope *scope, const Ast *ast) {
  Affine at;
  if (ast->kind != AST_INDEX) return false;
  return ast->count > 1 || !affine_index(check->elaborator, scope, ast->list[0], &at) || at.count;
}

static bool has_name(const Ast *index, const char *name) {
  for (size_t i = 0; i < index->count; i++)
    if (index->list[i]->kind == AST_NAME && !strcmp(index->list[i]->text, name)) return true;
  return false;
}

// weight[o, i] = "..."[i, o]: as many indices as axes, the same ones on both sides.
static void check_equation(const Check *check, const Input *input, const Type *type, const Ast *mapping) {
  Diagnostics *diagnostics = check->elaborator->diagnostics;
  const Ast *left = mapping->a, *right = mapping->b;
  if (left->count != (size_t)type->rank) {
    Text shape = {0};
    type_print(&shape, type);
    error_at(diagnostics, left->span, "%zu indices for `%s`, which is %s", left->count, input->name,
             text_string(&shape));
    text_free(&shape);
    return;
  }
  if (right->kind != AST_INDEX || right->a->kind != AST_STRING || right->count != left->count) {
    error_at(diagnostics, right->span,
             "expected a name in the file with the same %zu indices, as in \"name\"[i, o]", left->count);
    return;
  }
  for (size_t i = 0; i < left->count; i++) {
    const Ast *item = right->list[i];
    if (item->kind == AST_NAME && has_name(left, item->text)) continue;
    error_at(diagnostics, item->span, "`%s` is not an index of the left side",
             source_text(check->elaborator, item));
    return;
  }
}

static void check_stack(const Check *check, const Input *input, const Type *type, const Ast *mapping) {
  size_t parts = mapping->b->count;
  if (type->rank && type->axes[0].extent.offset % (int64_t)parts == 0) return;
  error_at(check->elaborator->diagnostics, mapping->b->span,
           "%zu equal parts do not make up the first axis of `%s`, %lld", parts, input->name,
           (long long)(type->rank ? type->axes[0].extent.offset : 1));
}

static bool is_stack(const Ast *ast) {
  if (ast->kind != AST_CALL || ast->a->kind != AST_NAME || strcmp(ast->a->text, "stack") || !ast->count)
    return false;
  for (size_t i = 0; i < ast->count; i++)
    if (ast->list[i]->a->kind != AST_STRING) return false;
  return true;
}

// "{l}" in a name of the file must be the variable of a loop around.
static void check_placeholders(const Check *check, Scope *scope, const Ast *at, const char *text) {
  for (const char *open = text ? strchr(text, '{') : NULL; open; open = strchr(open + 1, '{')) {
    size_t length = strcspn(open + 1, "}");
    const char *name = arena_copy(check->elaborator->arena, open + 1, length);
    Value *found = open[1 + length] ? scope_find(scope, name) : NULL;
    if (found && found->kind == VALUE_NUMBER) continue;
    error_at(check->elaborator->diagnostics, at->span, "`{%s}` stands for no variable of a `for` around",
             name);
  }
}

static void check_mapping(const Check *check, Scope *scope, const Ast *mapping) {
  Elaborator *elaborator = check->elaborator;
  const Ast *right = mapping->b, *name = right->kind == AST_INDEX ? right->a : right;
  bool axes = names_axes(check, scope, mapping->a);
  Text path = {0};
  if (*check->instance->path) text_print(&path, "%s.", check->instance->path);
  if (!mapping_path(check, scope, axes ? mapping->a->a : mapping->a, &path)) {
    text_free(&path);
    return;
  }
  if (!axes && right->kind != AST_STRING && !is_stack(right))
    error_at(elaborator->diagnostics, right->span,
             "the right side of a mapping is a name in the file in quotes, such a "
             "name with indices, or stack(\"..\", \"..\")");
  else if (!visit_parameters(check, text_string(&path), mapping,
                             axes              ? check_equation
                             : is_stack(right) ? check_stack
                                               : NULL))
    error_at(elaborator->diagnostics, mapping->a->span, "the model has no parameter `%s`",
             text_string(&path));
  if (name->kind == AST_STRING) check_placeholders(check, scope, name, name->text);
  text_free(&path);
}

static void check_mappings(const Check *check, Scope *scope, const Ast *block) {

  Elaborator *elaborator = check->elaborator;
  for (size_t i = 0; i < block->count; i++) {
    const Ast *mapping = block->list[i];
    int errors = elaborator->diagnostics->errors;
    if (mapping->kind == AST_MAPPING) {
      check_mapping(check, scope, mapping);
      continue;
    }
    Value count = evaluate(elaborator, scope, mapping->a);
    Extent extent;
    if (!repeat_count(elaborator, &count, mapping->a->span, &extent)) continue;
    for (int64_t at = 0; at < extent.offset && elaborator->diagnostics->errors == errors; at++) {
      Scope *inside = scope_new(elaborator->arena, scope);
      scope_set(elaborator->arena, inside, mapping->text, value_number((double)at));
      check_placeholders(check, inside, mapping, mapping->other);
      check_mappings(check, inside, mapping);
    }
  }
}

static void check_instance(Check *check, const Instance *instance) {
  for (size_t i = 0; i < instance->ast->c->count; i++) {
    check->instance = instance;
    if (instance->ast->c->list[i]->kind == AST_WEIGHTS)
      check_mappings(check, instance->scope, instance->ast->c->list[i]);
  }
  for (size_t i = 0; i < instance->scope->count; i++) {
    const Value *value = &instance->scope->bindings[i].value;
    if (value->kind == VALUE_INSTANCE && value->instance->ast->kind == AST_MODEL)
      check_instance(check, value->instance);
  }
}

static bool has_weights(const Instance *instance) {
  for (size_t i = 0; i < instance->ast->c->count; i++)
    if (instance->ast->c->list[i]->kind == AST_WEIGHTS) return true;
  for (size_t i = 0; i < instance->scope->count; i++) {
    const Value *value = &instance->scope->bindings[i].value;
    if (value->kind == VALUE_INSTANCE && value->instance->ast->kind == AST_MODEL &&
        has_weights(value->instance))
      return true;
  }
  return false;
}

bool model_check_weights(Model *model) {
  Elaborator *elaborator = &model->elaborator;
  if (!has_weights(model->root)) return true;
  static const char *const functions[] = {"forward", "loss"};
  int errors = elaborator->diagnostics->errors;
  Check check = {.elaborator = elaborator};
  for (int i = 0; i < 2; i++)
    if (model_has(model, functions[i])) check.graphs[i] = model_graph(model, functions[i]);
  if (elaborator->diagnostics->errors == errors) check_instance(&check, model->root);
  return elaborator->diagnostics->errors == errors;
}
