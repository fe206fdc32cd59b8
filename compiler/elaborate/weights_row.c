// Rows of a WeightMap: an equation between a parameter's indices and a tensor's, and what all rows of a block
// cover together.
#include "compiler/elaborate/weights.h"

#include <stdlib.h>
#include <string.h>

static void add_row(Block *block, const Ast *line, const MapRow *row) {
  Elaborator *elaborator = block->elaborator;
  WeightMap *map = block->map;
  size_t count = map->row_count;
  ARENA_PUSH(elaborator->arena, map->rows, map->row_count, map->row_capacity, *row);
  ARENA_PUSH(elaborator->arena, block->lines, count, block->line_capacity, line);
}

// Whatever a row maps: names, extents, where it stands.
static MapRow begin_row(const Block *block, const Ast *line, const Parameter *parameter, const char *tensor) {
  const Sources *sources = block->elaborator->diagnostics->sources;
  MapRow row = {.parameter = parameter->name, .tensor = tensor, .rank = parameter->type->rank};
  for (int i = 0; i < row.rank; i++) row.extents[i] = parameter->type->axes[i].extent.offset;
  row.origin = arena_print(block->elaborator->arena, "%s:%d", sources->list[line->span.source].path,
                           span_line(sources, line->span));
  return row;
}

static MapRow whole_row(const Block *block, const Ast *line, const Parameter *parameter, const char *tensor) {
  MapRow row = begin_row(block, line, parameter, tensor);
  row.tensor_rank = row.variable_count = row.rank;
  for (int i = 0; i < row.rank; i++) {
    row.bounds[i] = row.extents[i];
    row.ours[i].factors[i] = row.theirs[i].factors[i] = 1;
    row.settings[i] = parameter->settings[i];
  }
  return row;
}

void row_identity(Block *block, const Ast *line, const Parameter *parameter, const char *tensor) {
  MapRow row = whole_row(block, line, parameter, tensor);
  add_row(block, line, &row);
}

void row_piece(Block *block, const Ast *line, const Parameter *parameter, const char *tensor, size_t piece,
               size_t pieces) {
  MapRow row = whole_row(block, line, parameter, tensor);
  if (!row.rank || row.extents[0] % (int64_t)pieces) {
    if (!piece)
      error_at(block->elaborator->diagnostics, line->b->span,
               "%zu equal parts do not make up the first axis of `%s`, %lld", pieces, parameter->name,
               (long long)(row.rank ? row.extents[0] : 1));
    return;
  }
  row.bounds[0] = row.extents[0] / (int64_t)pieces;
  row.ours[0].offset = (int64_t)piece * row.bounds[0];
  row.settings[0] = NULL;
  add_row(block, line, &row);
}

// ---- equations ----------------------------------------------------------------------------------

// Names of the left side that stand for no number are its indices.
static void declare(Elaborator *elaborator, Scope *scope, const Ast *ast) {
  if (!ast) return;
  if (ast->kind == AST_NAME) {
    const Value *found = scope_find(scope, ast->text);
    if (!found || (found->kind != VALUE_NUMBER && found->kind != VALUE_INDEX))
      scope_set(elaborator->arena, scope, ast->text, (Value){.kind = VALUE_INDEX, .text = ast->text});
  } else if (ast->kind == AST_BINARY || ast->kind == AST_UNARY) {
    declare(elaborator, scope, ast->a);
    declare(elaborator, scope, ast->b);
  }
}

static bool declare_bounds(Elaborator *elaborator, Scope *scope, const Ast *bounds) {
  for (size_t i = 0; bounds && i < bounds->count; i++) {
    const Ast *bound = bounds->list[i];
    Value value = evaluate(elaborator, scope->parent, bound->a);
    Value index = {.kind = VALUE_INDEX, .text = bound->text, .known = true};
    if (!to_extent(elaborator, &value, bound->span, &index.extent)) return false;
    if (!extent_is_constant(index.extent) || index.extent.offset < 1) {
      error_at(elaborator->diagnostics, bound->span, "an index runs over at least 1 element, known here");
      return false;
    }
    scope_set(elaborator->arena, scope, bound->text, index);
  }
  return true;
}

// The affine form of one index by the row's variables, which are the bindings of `scope`.
static bool read_index(Block *block, Scope *scope, const Ast *item, MapIndex *index) {
  Elaborator *elaborator = block->elaborator;
  Affine affine;
  if (!affine_index(elaborator, scope, item, &affine)) {
    if (item->kind == AST_NAME)
      error_at(elaborator->diagnostics, item->span, "`%s` is not an index of the left side", item->text);
    else
      error_at(elaborator->diagnostics, item->span,
               "an index here is a sum of the left side's indices with constant factors, as in `2*i + 1`");
    return false;
  }
  *index = (MapIndex){.offset = affine.offset};
  for (int i = 0; i < affine.count; i++)
    for (size_t v = 0; v < scope->count; v++)
      if (affine.variables[i] == &scope->bindings[v].value) index->factors[v] = affine.factors[i];
  return true;
}

// An index that stands alone on the left runs over the whole axis, where no `for` says otherwise.
static bool find_bounds(Block *block, Scope *scope, const Ast *left, MapRow *row) {
  for (size_t v = 0; v < scope->count; v++) {
    const Value *variable = &scope->bindings[v].value;
    row->bounds[v] = variable->known ? variable->extent.offset : 0;
    for (int i = 0; i < row->rank && !variable->known; i++) {
      const MapIndex *index = &row->ours[i];
      bool alone = index->factors[v] == 1 && !index->offset;
      for (size_t u = 0; u < scope->count; u++) alone &= u == v || !index->factors[u];
      if (alone) row->bounds[v] = row->extents[i];
    }
    if (row->bounds[v]) continue;
    error_at(block->elaborator->diagnostics, left->span,
             "nothing says how far index `%s` runs; add `for %s < ...`", variable->text, variable->text);
    return false;
  }
  return true;
}

// Least and largest value of an index. False: beyond all tensors.
static bool index_range(const MapRow *row, const MapIndex *index, int64_t *least, int64_t *largest) {
  *least = *largest = index->offset;
  for (int v = 0; v < row->variable_count; v++)
    if (!add_product(index->factors[v] < 0 ? least : largest, index->factors[v], row->bounds[v] - 1))
      return false;
  return *least >= 0 && *largest < EXTENT_LARGEST;
}

// Whether different values of its variables give an index different values: each factor reaches beyond what
// all smaller ones give together.
static bool index_is_unique(const MapRow *row, const MapIndex *index) {
  bool done[MAP_MAX_VARIABLES] = {0};
  int64_t reach = 0;
  for (;;) {
    int least = -1;
    for (int v = 0; v < row->variable_count; v++)
      if (index->factors[v] && row->bounds[v] > 1 && !done[v] &&
          (least < 0 || llabs(index->factors[v]) < llabs(index->factors[least])))
        least = v;
    if (least < 0) return true;
    if (llabs(index->factors[least]) <= reach) return false;
    done[least] = true;
    if (!add_product(&reach, llabs(index->factors[least]), row->bounds[least] - 1)) return false;
  }
}

// One to one: every variable stands in one index of the side, whose value tells its variables apart.
static bool side_is_unique(Block *block, const Scope *scope, const Ast *at, const MapRow *row,
                           const MapIndex *side, int rank) {
  for (int v = 0; v < row->variable_count; v++) {
    int times = 0;
    for (int i = 0; i < rank; i++) times += side[i].factors[v] != 0;
    if (times == 1 || row->bounds[v] == 1) continue;
    error_at(block->elaborator->diagnostics, at->span,
             "index `%s` stands %s on this side: a mapping is one to one", scope->bindings[v].name,
             times ? "twice" : "nowhere");
    return false;
  }
  for (int i = 0; i < rank; i++) {
    if (index_is_unique(row, &side[i])) continue;
    error_at(block->elaborator->diagnostics, at->span,
             "two elements would have the same place on this side: a mapping is one to one");
    return false;
  }
  return true;
}

static bool check_side(Block *block, const Ast *at, const MapRow *row, const MapIndex *side, int rank,
                       const int64_t *extents) {
  for (int i = 0; i < rank; i++) {
    int64_t least, largest;
    bool inside = index_range(row, &side[i], &least, &largest);
    if (inside && (!extents || largest < extents[i])) continue;
    if (!inside || !extents)
      error_at(block->elaborator->diagnostics, at->span, "index %d reaches outside of every tensor", i + 1);
    else
      error_at(block->elaborator->diagnostics, at->span,
               "index %d reaches %lld, but the axis has %lld elements", i + 1, (long long)largest,
               (long long)extents[i]);
    return false;
  }
  return true;
}

// A published axis that is one of ours as it is has that one's setting.
static void copy_settings(const Parameter *parameter, MapRow *row) {
  for (int i = 0; i < row->rank; i++)
    for (int j = 0; j < row->tensor_rank; j++)
      for (int v = 0; v < row->variable_count; v++) {
        MapIndex alone = {.factors = {0}};
        alone.factors[v] = 1;
        if (!memcmp(&row->ours[i], &alone, sizeof alone) && !memcmp(&row->theirs[j], &alone, sizeof alone))
          row->settings[j] = parameter->settings[i];
      }
}

static bool read_equation(Block *block, Scope *scope, const Ast *line, const Ast *left,
                          const Parameter *parameter, MapRow *row) {
  Diagnostics *diagnostics = block->elaborator->diagnostics;
  const Ast *right = line->b;
  size_t count = left ? left->count : 0;
  if (count != (size_t)row->rank) {
    Text shape = {0};
    type_print(&shape, parameter->type);
    error_at(diagnostics, line->a->span, "%zu indices for `%s`, which is %s", count, parameter->name,
             text_string(&shape));
    text_free(&shape);
    return false;
  }
  if (!declare_bounds(block->elaborator, scope, line->c)) return false;
  for (size_t i = 0; i < count; i++) declare(block->elaborator, scope, left->list[i]);
  if (scope->count > MAP_MAX_VARIABLES || right->count > MAP_MAX_RANK) {
    error_at(diagnostics, line->span, "a mapping has at most %d indices", MAP_MAX_RANK);
    return false;
  }
  row->variable_count = (int)scope->count;
  row->tensor_rank = (int)right->count;
  for (size_t i = 0; i < count; i++)
    if (!read_index(block, scope, left->list[i], &row->ours[i])) return false;
  for (size_t i = 0; i < right->count; i++)
    if (!read_index(block, scope, right->list[i], &row->theirs[i])) return false;
  return find_bounds(block, scope, line->a, row) &&
         check_side(block, line->a, row, row->ours, row->rank, row->extents) &&
         check_side(block, right, row, row->theirs, row->tensor_rank, NULL) &&
         side_is_unique(block, scope, line->a, row, row->ours, row->rank) &&
         side_is_unique(block, scope, right, row, row->theirs, row->tensor_rank);
}

void row_equation(Block *block, Scope *scope, const Ast *line, const Ast *left, const Parameter *parameter,
                  const char *tensor) {
  MapRow row = begin_row(block, line, parameter, tensor);
  Scope *inside = scope_new(block->elaborator->arena, scope);
  if (!read_equation(block, inside, line, left, parameter, &row)) return;
  copy_settings(parameter, &row);
  add_row(block, line, &row);
}

void row_copy(Block *block, const Ast *line, const Parameter *parameter, const char *tensor,
              const char *setting) {
  Arena *arena = block->elaborator->arena;
  WeightMap *map = block->map;
  size_t count = map->copy_count;
  MapRow row = begin_row(block, line, parameter, tensor);
  MapCopy copy = {row.parameter, tensor, NULL, setting, row.origin};
  ARENA_PUSH(arena, map->copies, map->copy_count, map->copy_capacity, copy);
  ARENA_PUSH(arena, block->copy_lines, count, block->copy_line_capacity, line);
}

// ---- all rows of a block ------------------------------------------------------------------------

static int64_t row_elements(const MapRow *row) {
  int64_t count = 1;
  for (int v = 0; v < row->variable_count; v++) count *= row->bounds[v];
  return count;
}

// Whether the boxes around what two rows touch on a side have an element in common.
static bool overlap(const MapRow *a, const MapRow *b, bool tensors) {
  for (int i = 0; i < (tensors ? a->tensor_rank : a->rank); i++) {
    int64_t a_least, a_largest, b_least, b_largest;
    index_range(a, tensors ? &a->theirs[i] : &a->ours[i], &a_least, &a_largest);
    index_range(b, tensors ? &b->theirs[i] : &b->ours[i], &b_least, &b_largest);
    if (a_largest < b_least || b_largest < a_least) return false;
  }
  return true;
}

static const Ast *line_of(const Block *block, const MapRow *row) {
  return block->lines[row - block->map->rows];
}

// Rows of one parameter: its pieces, which are all of it.
static void finish_parameter(Block *block, const MapRow *const *rows, size_t count) {
  Diagnostics *diagnostics = block->elaborator->diagnostics;
  int64_t whole = 1, mapped = 0;
  for (int i = 0; i < rows[0]->rank; i++) whole *= rows[0]->extents[i];
  for (size_t i = 0; i < count; i++) {
    mapped += row_elements(rows[i]);
    for (size_t j = 0; j < i; j++) {
      if (!overlap(rows[i], rows[j], false)) continue;
      error_at(diagnostics, line_of(block, rows[i])->span, "`%s` is mapped twice", rows[i]->parameter);
      note_at(diagnostics, line_of(block, rows[j])->span, "the first time");
      return;
    }
  }
  if (mapped != whole)
    error_at(diagnostics, line_of(block, rows[count - 1])->span,
             "%lld of the %lld elements of `%s` are mapped", (long long)mapped, (long long)whole,
             rows[0]->parameter);
}

// Rows of one tensor: it reaches as far as they do.
static void finish_tensor(Block *block, const MapRow *const *rows, size_t count) {
  int64_t extents[MAP_MAX_RANK] = {0}, whole = 1, mapped = 0;
  bool apart = true;
  for (size_t i = 0; i < count; i++) {
    const MapRow *row = rows[i];
    if (row->tensor_rank != rows[0]->tensor_rank) {
      error_at(block->elaborator->diagnostics, line_of(block, row)->span,
               "`%s` has %d axes here, and %d elsewhere", row->tensor, row->tensor_rank,
               rows[0]->tensor_rank);
      return;
    }
    for (int axis = 0; axis < row->tensor_rank; axis++) {
      int64_t least, largest;
      index_range(row, &row->theirs[axis], &least, &largest);
      if (largest + 1 > extents[axis]) extents[axis] = largest + 1;
    }
    mapped += row_elements(row);
    for (size_t j = 0; j < i; j++) apart &= !overlap(row, rows[j], true);
  }
  for (int axis = 0; axis < rows[0]->tensor_rank; axis++)
    if (__builtin_mul_overflow(whole, extents[axis], &whole)) whole = -1, axis = rows[0]->tensor_rank;
  for (size_t i = 0; i < count; i++)
    memcpy(block->map->rows[rows[i] - block->map->rows].tensor_extents, extents, sizeof extents);
  if (!apart || mapped != whole) block->map->partial = rows[0]->tensor;
}

// What each copy is a copy of: the one tensor that its parameter is mapped to.
static void finish_copies(Block *block, const MapRow *const *by_parameter) {
  const WeightMap *map = block->map;
  for (size_t i = 0, first; i < map->copy_count; i++) {
    MapCopy *copy = &map->copies[i];
    size_t count = map_find(by_parameter, map->row_count, false, copy->parameter, &first);
    if (count == 1)
      copy->of = by_parameter[first]->tensor;
    else
      error_at(block->elaborator->diagnostics, block->copy_lines[i]->span,
               "`%s` is mapped to %zu tensors; a copy is one of the only tensor that another line says",
               copy->parameter, count);
  }
}

void rows_finish(Block *block) {
  const WeightMap *map = block->map;
  for (int side = 0; side < 2; side++) {
    const MapRow **rows = map_sorted(map, side);
    for (size_t i = 0, count; i < map->row_count; i += count) {
      size_t first;
      count = map_find(rows, map->row_count, side, side ? rows[i]->tensor : rows[i]->parameter, &first);
      if (count > MAX_PIECES)
        error_at(block->elaborator->diagnostics, line_of(block, rows[i])->span,
                 "`%s` has more than %d pieces", side ? rows[i]->tensor : rows[i]->parameter, MAX_PIECES);
      else if (side)
        finish_tensor(block, rows + i, count);
      else
        finish_parameter(block, rows + i, count);
    }
    if (!side) finish_copies(block, rows);
    free(rows);
  }
}
