// The `weights` blocks of a model -> WeightMaps: every line about parameters that exist, with indices that
// fit.
#include "compiler/elaborate/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// Where a line stands: names are looked up in `scope`, paths are inside of `instance`, tensors' names begin
// with `prefix`.
typedef struct Place {
  Block *block;
  Scope *scope;
  Instance *instance;
  const char *prefix;
} Place;

static void read_lines(const Place *place, const Ast *block);

// ---- parameters ---------------------------------------------------------------------------------

static int by_name(const void *left, const void *right) {
  return strcmp(((const Parameter *)left)->name, ((const Parameter *)right)->name);
}

// The first parameter whose name is not before `name`.
static size_t lower_bound(const Block *block, const char *name) {
  size_t low = 0, high = block->parameter_count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (strcmp(block->parameters[middle].name, name) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// The parameters called `path` or inside of it: `.` sorts before all letters, so they stand together.
static size_t find_parameters(const Block *block, const char *path, size_t *first) {
  size_t length = strlen(path), end = *first = lower_bound(block, path);
  for (; end < block->parameter_count; end++) {
    const char *name = block->parameters[end].name;
    if (strncmp(name, path, length) || (name[length] && name[length] != '.')) break;
  }
  return end - *first;
}

// Axes that the configuration of an instance gives: param token[vocab, width] in `lm` has lm.vocab, lm.width.
static void note_settings(Block *block, Parameter *parameters, const Instance *instance) {
  for (size_t i = 0; i < instance->ast->c->count; i++) {
    const Ast *param = instance->ast->c->list[i];
    if (param->kind != AST_PARAM) continue;
    const char *name = join_path(block->elaborator, instance->path, param->text);
    size_t at = lower_bound(block, name);
    if (at == block->parameter_count || strcmp(parameters[at].name, name)) continue;
    for (size_t axis = 0; axis < param->count && axis < MAX_RANK; axis++)
      for (size_t j = 0; j < instance->ast->count; j++)
        if (param->list[axis]->kind == AST_NAME &&
            !strcmp(param->list[axis]->text, instance->ast->list[j]->text))
          parameters[at].settings[axis] =
              join_path(block->elaborator, instance->path, instance->ast->list[j]->text);
  }
  for (size_t i = 0; i < instance->scope->count; i++) {
    const Value *value = &instance->scope->bindings[i].value;
    if (value->kind == VALUE_INSTANCE && value->instance->ast->kind == AST_MODEL)
      note_settings(block, parameters, value->instance);
  }
}

static bool collect_parameters(Model *model, Block *block) {
  static const char *const functions[] = {"forward", "loss"}; // between them they have all parameters
  Parameter *list = NULL;
  size_t count = 0, capacity = 0, kept = 0;
  for (int i = 0; i < 2; i++) {
    const Graph *graph = model_has(model, functions[i]) ? model_graph(model, functions[i]) : NULL;
    if (!graph && model_has(model, functions[i])) return false;
    for (size_t j = 0; graph && j < graph->input_count; j++) {
      const Input *input = &graph->inputs[j];
      Parameter parameter = {.name = input->name, .type = graph_type(graph, input->node)};
      if (input->role == INPUT_PARAM) ARENA_PUSH(block->elaborator->arena, list, count, capacity, parameter);
    }
  }
  if (count) qsort(list, count, sizeof *list, by_name);
  for (size_t i = 0; i < count; i++)
    if (!kept || strcmp(list[kept - 1].name, list[i].name)) list[kept++] = list[i];
  block->parameters = list;
  block->parameter_count = kept;
  note_settings(block, list, model->root);
  return true;
}

// ---- names --------------------------------------------------------------------------------------

// blocks[l].attn.qkv.weight as "blocks.3.attn.qkv.weight". False: reported.
static bool read_path(const Place *place, const Ast *ast, Text *path) {
  Elaborator *elaborator = place->block->elaborator;
  Affine at;
  if (ast->kind == AST_NAME) {
    text_print(path, "%s", join_path(elaborator, place->instance->path, ast->text));
    return true;
  }
  if (ast->kind == AST_MEMBER) {
    if (!read_path(place, ast->a, path)) return false;
    text_print(path, ".%s", ast->text);
    return true;
  }
  if (ast->kind == AST_INDEX && ast->count == 1 &&
      affine_index(elaborator, place->scope, ast->list[0], &at) && !at.count) {
    if (!read_path(place, ast->a, path)) return false;
    text_print(path, ".%lld", (long long)at.offset);
    return true;
  }
  error_at(elaborator->diagnostics, ast->span,
           "on the left of a mapping stands a parameter or a layer, as in "
           "`blocks[l].norm1` or `blocks[l].up.weight[o, i]`");
  return false;
}

// blocks[l] goes on in the path, weight[o, i] names axes.
static bool names_axes(const Place *place, const Ast *ast) {
  Affine at;
  if (ast->kind != AST_INDEX) return false;
  return ast->count > 1 || !affine_index(place->block->elaborator, place->scope, ast->list[0], &at) ||
         at.count;
}

// A name in the file: the prefix before it, and in both "{l}" replaced by the variable of a loop around, or
// by another number of the model.
static const char *file_name(const Place *place, const Ast *at, const char *text) {
  Elaborator *elaborator = place->block->elaborator;
  Text name = {0};
  const char *result = NULL;
  text_print(&name, "%s", place->prefix);
  for (const char *open; (open = strchr(text, '{'));) {
    size_t length = strcspn(open + 1, "}");
    const char *variable = arena_copy(elaborator->arena, open + 1, length);
    const Value *found = open[1 + length] ? scope_find(place->scope, variable) : NULL;
    bool text_there = found && found->kind == VALUE_STRING;
    if (!text_there && (!found || found->kind != VALUE_NUMBER || found->extent.symbol ||
                        found->number != floor(found->number))) {
      error_at(elaborator->diagnostics, at->span, "`{%s}` stands for no variable of a `for` around",
               variable);
      text_free(&name);
      return NULL;
    }
    text_add(&name, text, (size_t)(open - text));
    if (text_there)
      text_print(&name, "%s", found->text);
    else
      text_print(&name, "%.0f", found->number);
    text = open + length + 2;
  }
  text_print(&name, "%s", text);
  result = arena_copy(elaborator->arena, text_string(&name), name.length);
  text_free(&name);
  return result;
}

// ---- a part as its own block says ---------------------------------------------------------------

static Instance *find_instance(Instance *instance, const char *path) {
  if (!strcmp(instance->path, path)) return instance;
  for (size_t i = 0; i < instance->scope->count; i++) {
    const Value *value = &instance->scope->bindings[i].value;
    if (value->kind != VALUE_INSTANCE || value->instance->ast->kind != AST_MODEL) continue;
    Instance *found = find_instance(value->instance, path);
    if (found) return found;
  }
  return NULL;
}

static bool holds(const Place *place, const Ast *condition) {
  bool truth = true;
  if (!condition) return true;
  Value value = evaluate(place->block->elaborator, place->scope, condition);
  return to_truth(place->block->elaborator, &value, condition->span, &truth) && truth;
}

// vision = clip("vision_tower."): the part's block `clip`, its names behind the prefix.
static void read_part(const Place *place, const Ast *line, const char *path) {
  Elaborator *elaborator = place->block->elaborator;
  const Ast *call = line->b;
  Instance *part = find_instance(elaborator->model->root, path);
  const char *prefix = "";
  bool texts = call->count <= 1 && (!call->count || call->list[0]->a->kind == AST_STRING);
  if (!texts) {
    error_at(elaborator->diagnostics, call->span,
             "`%s` takes what stands before its names in the file, in quotes", call->a->text);
    return;
  }
  prefix = file_name(place, call, call->count ? call->list[0]->a->text : "");
  if (!prefix) return;
  for (size_t i = 0; part && i < part->ast->c->count; i++) {
    const Ast *block = part->ast->c->list[i];
    Place inside = {place->block, part->scope, part, prefix};
    if (block->kind != AST_WEIGHTS || strcmp(block->text, call->a->text)) continue;
    if (holds(&inside, block->a)) read_lines(&inside, block);
    return;
  }
  error_at(elaborator->diagnostics, call->span, "`%s` is no block of weights of `%s`", call->a->text, path);
}

// ---- lines --------------------------------------------------------------------------------------

// stack("..", ".."), copy("..")
static bool is_call(const Ast *ast, const char *name) {
  if (ast->kind != AST_CALL || ast->a->kind != AST_NAME || strcmp(ast->a->text, name) || !ast->count)
    return false;
  for (size_t i = 0; i < ast->count; i++)
    if (ast->list[i]->a->kind != AST_STRING) return false;
  return true;
}

static bool is_stack(const Ast *ast) { return is_call(ast, "stack"); }

static bool is_copy(const Ast *ast) { return is_call(ast, "copy") && ast->count == 1; }

// The setting that alone is the line's condition, "lm.tied"; else NULL.
static const char *condition_setting(const Place *place, const Ast *line) {
  const Ast *condition = line->d, *model = place->instance->ast;
  for (size_t i = 0; condition && condition->kind == AST_NAME && i < model->count; i++)
    if (!strcmp(model->list[i]->text, condition->text))
      return join_path(place->block->elaborator, place->instance->path, condition->text);
  return NULL;
}

// The rows of one parameter; `rest` is what its name has after the path on the left.
static void read_parameter(const Place *place, const Ast *line, const Parameter *parameter,
                           const char *rest) {
  Elaborator *elaborator = place->block->elaborator;
  const Ast *right = line->b;
  bool named = is_stack(right) || is_copy(right);
  size_t pieces = named ? right->count : 1;
  for (size_t i = 0; i < pieces; i++) {
    const Ast *text = named ? right->list[i]->a : right->kind == AST_INDEX ? right->a : right;
    const char *name = file_name(place, text, text->text);
    if (!name) return;
    name = arena_print(elaborator->arena, "%s%s", name, rest);
    if (is_copy(right))
      row_copy(place->block, line, parameter, name, condition_setting(place, line));
    else if (is_stack(right))
      row_piece(place->block, line, parameter, name, i, pieces);
    else if (right->kind == AST_INDEX)
      row_equation(place->block, place->scope, line, names_axes(place, line->a) ? line->a : NULL, parameter,
                   name);
    else
      row_identity(place->block, line, parameter, name);
  }
}

// f32(x), else a whole number where it is one.
static bool note_number(Elaborator *elaborator, const Ast *at, const Value *value, bool real, double *number,
                        bool *whole) {
  *number = value->number;
  *whole = *whole && !real && value->number == floor(value->number) && fabs(value->number) < 1L << 31;
  if (value->kind == VALUE_NUMBER && !value->extent.symbol) return true;
  error_at(elaborator->diagnostics, at->span,
           "what a file says is a text, a number, true or false, or a list of numbers, found %s",
           value_kind_name(value));
  return false;
}

// "clip.vision.image_size" = image
static void read_note(const Place *place, const Ast *line) {
  Elaborator *elaborator = place->block->elaborator;
  WeightMap *map = place->block->map;
  const Ast *right = line->b;
  bool real = right->kind == AST_CALL && right->a->kind == AST_NAME && !strcmp(right->a->text, "f32") &&
              right->count == 1;
  Place bare = *place;
  bare.prefix = "";
  MapNote note = {.key = file_name(&bare, line->a, line->a->text), .count = 1};
  if (!note.key || !holds(place, line->d)) return;
  Value value = evaluate(elaborator, place->scope, real ? right->list[0]->a : right);
  if (value.kind == VALUE_ERROR) return;
  const Value *list = value.kind == VALUE_LIST ? value.list : &value;
  note.count = value.kind == VALUE_LIST ? value.count : 1;
  double *numbers = ARENA_ARRAY(elaborator->arena, double, note.count);
  note.numbers = numbers;
  note.text = value.text;
  bool whole = true;
  if (value.kind == VALUE_BOOL) numbers[0] = value.number;
  for (size_t i = 0; value.kind != VALUE_BOOL && value.kind != VALUE_STRING && i < note.count; i++)
    if (!note_number(elaborator, right, &list[i], real, &numbers[i], &whole)) return;
  note.kind = value.kind == VALUE_STRING ? NOTE_TEXT
              : value.kind == VALUE_BOOL ? NOTE_TRUTH
              : value.kind == VALUE_LIST ? (whole ? NOTE_WHOLES : NOTE_REALS)
                                         : (whole ? NOTE_WHOLE : NOTE_REAL);
  ARENA_PUSH(elaborator->arena, map->notes, map->note_count, map->note_capacity, note);
}

static void read_mapping(const Place *place, const Ast *line) {
  Elaborator *elaborator = place->block->elaborator;
  const Ast *right = line->b;
  bool axes = names_axes(place, line->a), equation = right->kind == AST_INDEX && right->a->kind == AST_STRING;
  bool part = right->kind == AST_CALL && right->a->kind == AST_NAME && strcmp(right->a->text, "stack") &&
              strcmp(right->a->text, "copy");
  Text path = {0};
  size_t first, count;
  int errors = elaborator->diagnostics->errors;
  if (!holds(place, line->d) || !read_path(place, axes ? line->a->a : line->a, &path)) {
    text_free(&path);
    return;
  }
  if (axes && !equation)
    error_at(elaborator->diagnostics, right->span,
             "expected a name in the file with its own indices, as in \"name\"[i, o]");
  else if (part)
    read_part(place, line, text_string(&path));
  else if (!equation && right->kind != AST_STRING && !is_stack(right) && !is_copy(right))
    error_at(elaborator->diagnostics, right->span,
             "the right side of a mapping is a name in the file in quotes, such a name with indices, "
             "stack(\"..\", \"..\"), copy(\"..\"), or a part's own block");
  else if (!(count = find_parameters(place->block, text_string(&path), &first)))
    error_at(elaborator->diagnostics, line->a->span, "the model has no parameter `%s`", text_string(&path));
  else
    for (size_t i = first; i < first + count && elaborator->diagnostics->errors == errors; i++)
      read_parameter(place, line, &place->block->parameters[i],
                     place->block->parameters[i].name + path.length);
  text_free(&path);
}

// ignore "GLOB", ..: of names behind the prefix; omit "TEXT", ..: of any part of a name.
static void read_setting(const Place *place, const Ast *line) {
  Elaborator *elaborator = place->block->elaborator;
  WeightMap *map = place->block->map;
  bool ignore = !strcmp(line->text, "ignore");
  Place bare = *place;
  if (!ignore) bare.prefix = "";
  if (!ignore && strcmp(line->text, "omit")) {
    error_at(elaborator->diagnostics, line->span, "`%s` is not a setting here; there are ignore and omit",
             line->text);
    return;
  }
  for (size_t i = 0; i < line->count; i++) {
    const char *text = file_name(&bare, line->list[i], line->list[i]->text);
    if (text && ignore)
      ARENA_PUSH(elaborator->arena, map->ignored, map->ignored_count, map->ignored_capacity, text);
    else if (text && *text)
      ARENA_PUSH(elaborator->arena, map->omitted, map->omitted_count, map->omitted_capacity, text);
  }
}

// How much more the sum is when `name` is one more; false: not to be seen at once.
static bool slope(const Ast *sum, const char *name, int sign, int *result) {
  if (sum->kind == AST_NAME) *result += strcmp(sum->text, name) ? 0 : sign;
  if (sum->kind == AST_NAME || sum->kind == AST_NUMBER) return true;
  return sum->kind == AST_BINARY && strchr("+-", *sum->text) && slope(sum->a, name, sign, result) &&
         slope(sum->b, name, *sum->text == '-' ? -sign : sign, result);
}

// The setting that `name` is, or grows with as `used = depth + 1 + feature` does with depth.
static const char *setting_of(const Place *place, const char *name) {
  const Ast *model = place->instance->ast, *sum = NULL;
  for (size_t i = 0; i < model->count; i++)
    if (!strcmp(model->list[i]->text, name)) return name;
  for (size_t i = 0; i < model->c->count; i++) {
    const Ast *member = model->c->list[i];
    if (member->kind == AST_ASSIGN && !strcmp(member->list[0]->text, name)) sum = member->a;
  }
  for (size_t i = 0; sum && i < model->count; i++) {
    int by = 0;
    if (slope(sum, model->list[i]->text, 1, &by) && by == 1) return model->list[i]->text;
  }
  return NULL;
}

// A loop over a setting of the configuration: the file's names can tell what it should be.
static void note_loop(const Place *place, const Ast *line, int64_t count) {
  Elaborator *elaborator = place->block->elaborator;
  const char *open = line->other ? strchr(line->other, '{') : NULL;
  size_t length = open ? strcspn(open + 1, "}") : 0;
  if (!open || line->a->kind != AST_NAME || strlen(line->text) != length ||
      strncmp(open + 1, line->text, length))
    return;
  const char *setting = setting_of(place, line->a->text);
  const Value *value = setting ? scope_find(place->instance->scope, setting) : NULL;
  if (!value || value->kind != VALUE_NUMBER || strchr(open + 1, '{')) return;
  MapLoop loop = {join_path(elaborator, place->instance->path, setting), .count = count};
  loop.value = (int64_t)value->number;
  loop.before =
      arena_print(elaborator->arena, "%s%.*s", place->prefix, (int)(open - line->other), line->other);
  loop.after = arena_copy(elaborator->arena, open + length + 2, strlen(open + length + 2));
  WeightMap *map = place->block->map;
  ARENA_PUSH(elaborator->arena, map->loops, map->loop_count, map->loop_capacity, loop);
}

static void read_loop(const Place *place, const Ast *line) {
  Elaborator *elaborator = place->block->elaborator;
  int errors = elaborator->diagnostics->errors;
  Value count = evaluate(elaborator, place->scope, line->a);
  Extent extent;
  if (!repeat_count(elaborator, &count, line->a->span, &extent)) return;
  note_loop(place, line, extent.offset);
  for (int64_t at = 0; at < extent.offset && elaborator->diagnostics->errors == errors; at++) {
    Scope *inside = scope_new(elaborator->arena, place->scope);
    scope_set(elaborator->arena, inside, line->text, value_number((double)at));
    Place step = {place->block, inside, place->instance, place->prefix};
    if (line->other) step.prefix = file_name(&step, line, line->other);
    if (step.prefix) read_lines(&step, line);
  }
}

static void read_lines(const Place *place, const Ast *block) {
  Elaborator *elaborator = place->block->elaborator;
  for (size_t i = 0; i < block->count; i++) {
    const Ast *line = block->list[i];
    if (place->block->steps++ >= MAX_MAP_STEPS) {
      if (place->block->steps == MAX_MAP_STEPS + 1)
        error_at(elaborator->diagnostics, line->span, "the block has more than %d lines, repetitions counted",
                 MAX_MAP_STEPS);
      return;
    }
    switch (line->kind) {
    case AST_MAPPING: line->a->kind == AST_STRING ? read_note(place, line) : read_mapping(place, line); break;
    case AST_SETTING: read_setting(place, line); break;
    default: read_loop(place, line);
    }
  }
}

// ---- blocks -------------------------------------------------------------------------------------

static bool known(const WeightMaps *maps, const char *part, const char *name) {
  for (size_t i = 0; i < maps->count; i++)
    if (!strcmp(maps->list[i].part, part) && !strcmp(maps->list[i].name, name)) return true;
  return false;
}

static void read_block(Block *block, Instance *instance, const Ast *ast, WeightMaps *maps) {
  Elaborator *elaborator = block->elaborator;
  const Sources *sources = elaborator->diagnostics->sources;
  Place place = {block, instance->scope, instance, ""};
  int errors = elaborator->diagnostics->errors;
  if (known(maps, instance->path, ast->text) || !holds(&place, ast->a)) return;
  WeightMap map = {.part = instance->path, .name = ast->text, .repository = ast->other};
  map.origin = arena_print(elaborator->arena, "%s:%d", sources->list[ast->span.source].path,
                           span_line(sources, ast->span));
  block->map = &map;
  block->lines = block->copy_lines = NULL, block->line_capacity = block->copy_line_capacity = 0;
  block->steps = 0;
  read_lines(&place, ast);
  if (elaborator->diagnostics->errors > errors) return;
  rows_finish(block);
  ARENA_PUSH(elaborator->arena, maps->list, maps->count, maps->capacity, map);
}

// Parts before what they are parts of: what is wrong in a part's block is told once, where it stands.
static void read_instance(Block *block, Instance *instance, WeightMaps *maps) {
  for (size_t i = 0; i < instance->scope->count; i++) {
    const Value *value = &instance->scope->bindings[i].value;
    if (value->kind == VALUE_INSTANCE && value->instance->ast->kind == AST_MODEL)
      read_instance(block, value->instance, maps);
  }
  for (size_t i = 0; i < instance->ast->c->count; i++)
    if (instance->ast->c->list[i]->kind == AST_WEIGHTS && !block->elaborator->diagnostics->errors)
      read_block(block, instance, instance->ast->c->list[i], maps);
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

bool model_weights(Model *model, WeightMaps *maps) {
  Elaborator *elaborator = &model->elaborator;
  *maps = (WeightMaps){0};
  if (!has_weights(model->root)) return true;
  int errors = elaborator->diagnostics->errors;
  Block block = {.elaborator = elaborator};
  if (collect_parameters(model, &block)) read_instance(&block, model->root, maps);
  return elaborator->diagnostics->errors == errors;
}
