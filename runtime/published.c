// Files in published layouts -> the store: which block fits, what does not fit, and the elements moved.
#include "runtime/published.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PREFIXES = 16, MAX_SHOWN = 40, MAX_SETTINGS = 16 };

// ---- which block --------------------------------------------------------------------------------

// What tensors of the file have before a tensor of the block: "" and, say, "model.vision_tower.".
static size_t find_prefixes(const WeightFile *file, const WeightMap *map, Arena *arena,
                            const char *prefixes[MAX_PREFIXES]) {
  size_t count = 1;
  prefixes[0] = "";
  for (size_t anchor = 0; anchor < 4; anchor++) {
    const char *name = map->rows[anchor * (map->row_count - 1) / 3].tensor;
    size_t length = strlen(name);
    for (size_t i = 0; i < file->count && count < MAX_PREFIXES; i++) {
      const char *whole = file->tensors[i].name;
      size_t before = strlen(whole) < length ? 0 : strlen(whole) - length;
      bool known = !before || whole[before - 1] != '.' || strcmp(whole + before, name);
      for (size_t j = 1; j < count && !known; j++)
        known = strlen(prefixes[j]) == before && !strncmp(prefixes[j], whole, before);
      if (!known) prefixes[count++] = arena_copy(arena, whole, before);
    }
  }
  return count;
}

static size_t count_found(const WeightFile *file, const WeightMap *map, const MapRow *const *rows,
                          const char *prefix) {
  size_t found = 0;
  for (size_t i = 0; i < map->row_count; i++)
    if (!i || strcmp(rows[i]->tensor, rows[i - 1]->tensor))
      found += weights_find_joined(file, prefix, rows[i]->tensor) != NULL;
  return found;
}

static const char *omit(const WeightMap *map, const char *name, Arena *arena) {
  for (size_t i = 0; i < map->omitted_count; i++) {
    const char *at = strstr(name, map->omitted[i]);
    if (at) name = arena_print(arena, "%.*s%s", (int)(at - name), name, at + strlen(map->omitted[i]));
  }
  return name;
}

// The same block for files that leave out of names what it says they may.
static const WeightMap *shortened(const WeightMap *map, Arena *arena) {
  WeightMap *copy = ARENA_NEW(arena, WeightMap);
  *copy = *map;
  copy->rows = ARENA_ARRAY(arena, MapRow, map->row_count + 1);
  copy->copies = ARENA_ARRAY(arena, MapCopy, map->copy_count + 1);
  copy->loops = ARENA_ARRAY(arena, MapLoop, map->loop_count + 1);
  copy->ignored = ARENA_ARRAY(arena, const char *, map->ignored_count + 1);
  for (size_t i = 0; i < map->row_count; i++) {
    copy->rows[i] = map->rows[i];
    copy->rows[i].tensor = omit(map, map->rows[i].tensor, arena);
  }
  for (size_t i = 0; i < map->copy_count; i++) {
    copy->copies[i] = map->copies[i];
    copy->copies[i].tensor = omit(map, map->copies[i].tensor, arena);
    copy->copies[i].of = omit(map, map->copies[i].of, arena);
  }
  for (size_t i = 0; i < map->loop_count; i++) {
    copy->loops[i] = map->loops[i];
    copy->loops[i].before = omit(map, map->loops[i].before, arena);
  }
  for (size_t i = 0; i < map->ignored_count; i++) copy->ignored[i] = omit(map, map->ignored[i], arena);
  return copy;
}

static void try_map(const WeightFile *file, const WeightMap *map, Arena *arena, PublishedLayout *best) {
  const char *prefixes[MAX_PREFIXES];
  const MapRow **rows = map_sorted(map, true);
  size_t count = find_prefixes(file, map, arena, prefixes);
  for (size_t j = 0; j < count; j++) {
    size_t found = count_found(file, map, rows, prefixes[j]);
    // As many of a smaller block are a better fit.
    bool better =
        found > best->found || (found && found == best->found && map->row_count < best->map->row_count);
    if (better) *best = (PublishedLayout){map, prefixes[j], found};
  }
  free(rows);
}

PublishedLayout published_match(const WeightFile *file, const WeightMaps *maps, const char *part,
                                Arena *arena) {
  PublishedLayout best = {0};
  for (size_t i = 0; i < maps->count; i++) {
    const WeightMap *map = &maps->list[i];
    if ((part && strcmp(map->part, part)) || !map->row_count) continue;
    try_map(file, map, arena, &best);
    if (map->omitted_count) try_map(file, shortened(map, arena), arena, &best);
  }
  return best;
}

// ---- what does not fit --------------------------------------------------------------------------

typedef struct Fit {
  const WeightFile *file;
  const PublishedLayout *layout;
  const PublishedOptions *options;
  const TensorStore *store;
  const MapRow **by_tensor, **by_parameter;
  Text table;
  size_t missing, mismatched, unexpected, unequal;
  struct FitSetting { // the value that would fit
    const char *name;
    int64_t value;
  } settings[MAX_SETTINGS];
  int setting_count;
} Fit;

bool published_allows(const PublishedOptions *options, const char *name) {
  for (size_t i = 0; options && i < options->allow_count; i++)
    if (map_glob(options->allow_missing[i], name)) return true;
  return false;
}

static void print_shape(Text *text, const char *type, int rank, const int64_t *extents) {
  text_print(text, "%s[", type);
  for (int i = 0; i < rank; i++) text_print(text, "%s%" PRId64, i ? ", " : "", extents[i]);
  text_print(text, "]");
}

// A row of the table, as long as there are not too many of its kind.
static bool begin_row(Fit *fit, size_t *count, const char *kind) {
  ++*count;
  if (*count == MAX_SHOWN + 1) text_print(&fit->table, "  %-10s and more\n", kind);
  if (*count > MAX_SHOWN) return false;
  text_print(&fit->table, "  %-10s ", kind);
  return true;
}

static void add_setting(Fit *fit, const char *name, int64_t value) {
  for (int i = 0; i < fit->setting_count; i++)
    if (!strcmp(fit->settings[i].name, name)) return;
  if (fit->setting_count < MAX_SETTINGS)
    fit->settings[fit->setting_count++] = (struct FitSetting){name, value};
}

static bool shape_fits(const MapRow *row, const WeightTensor *found) {
  bool fits = found->rank == row->tensor_rank;
  for (int i = 0; fits && i < row->tensor_rank; i++) fits = found->extents[i] == row->tensor_extents[i];
  return fits;
}

static void check_shape(Fit *fit, const MapRow *row, const WeightTensor *found) {
  if (shape_fits(row, found)) return;
  for (int i = 0; i < row->tensor_rank && found->rank == row->tensor_rank; i++)
    if (row->settings[i] && found->extents[i] != row->tensor_extents[i])
      add_setting(fit, row->settings[i], found->extents[i]);
  if (!begin_row(fit, &fit->mismatched, "mismatched")) return;
  text_print(&fit->table, "%s is ", found->name);
  print_shape(&fit->table, format_name(found->format), found->rank, found->extents);
  text_print(&fit->table, "; `%s` wants ", row->parameter);
  print_shape(&fit->table, "", row->tensor_rank, row->tensor_extents);
  text_print(&fit->table, ", %s\n", row->origin);
}

static bool wanted(const Fit *fit, const MapRow *row) {
  const StoreTensor *tensor = store_find(fit->store, row->parameter);
  return tensor && tensor->role == ROLE_PARAM;
}

// By our name, by the block's, or by the file's own, prefix and all.
static bool may_be_missing(const Fit *fit, const MapRow *row) {
  Text whole = {0};
  text_print(&whole, "%s%s", fit->layout->prefix, row->tensor);
  bool may = published_allows(fit->options, row->parameter) || published_allows(fit->options, row->tensor) ||
             published_allows(fit->options, text_string(&whole));
  text_free(&whole);
  return may;
}

static void check_tensors(Fit *fit) {
  const WeightMap *map = fit->layout->map;
  const char *done = NULL;
  for (size_t i = 0; i < map->row_count; i++) {
    const MapRow *row = fit->by_tensor[i];
    if ((done && !strcmp(done, row->tensor)) || !wanted(fit, row)) continue;
    const WeightTensor *found = weights_find_joined(fit->file, fit->layout->prefix, row->tensor);
    done = row->tensor;
    if (found) {
      check_shape(fit, row, found);
    } else if (!may_be_missing(fit, row) && begin_row(fit, &fit->missing, "missing")) {
      text_print(&fit->table, "%s%s", fit->layout->prefix, row->tensor);
      print_shape(&fit->table, " ", row->tensor_rank, row->tensor_extents);
      text_print(&fit->table, " for `%s`, %s\n", row->parameter, row->origin);
    }
  }
}

static bool same_elements(const WeightTensor *a, const WeightTensor *b) {
  enum { CHUNK = 4096 };
  float left[CHUNK], right[CHUNK];
  bool same = a->rank == b->rank;
  for (int i = 0; same && i < a->rank; i++) same = a->extents[i] == b->extents[i];
  for (int64_t at = 0; same && at < a->elements; at += CHUNK) {
    int64_t count = a->elements - at < CHUNK ? a->elements - at : CHUNK;
    weights_read_f32(a, at, count, left);
    weights_read_f32(b, at, count, right);
    same = !memcmp(left, right, (size_t)count * sizeof *left);
  }
  return same;
}

// What the model has once, the file may have twice: then the two have to be the same.
static void check_copies(Fit *fit) {
  const WeightMap *map = fit->layout->map;
  for (size_t i = 0; i < map->copy_count; i++) {
    const MapCopy *copy = &map->copies[i];
    const WeightTensor *found = weights_find_joined(fit->file, fit->layout->prefix, copy->tensor),
                       *of = weights_find_joined(fit->file, fit->layout->prefix, copy->of);
    if (!found && !*map->part)
      found = weights_find_joined(fit->file, "", copy->tensor); // beside all the others
    if (!found || !of || same_elements(found, of) || !begin_row(fit, &fit->unequal, "unequal")) continue;
    text_print(&fit->table, "%s is no copy of %s, and `%s` can not be both, %s", found->name, of->name,
               copy->parameter, copy->origin);
    if (copy->setting) text_print(&fit->table, "; two parameters: -D %s=false", copy->setting);
    text_print(&fit->table, "\n");
  }
}

static bool is_copy(const WeightMap *map, const char *name) {
  for (size_t i = 0; i < map->copy_count; i++)
    if (!strcmp(map->copies[i].tensor, name)) return true;
  return false;
}

static bool in_part(const char *name, const char *part) {
  size_t length = strlen(part);
  return !length || (!strncmp(name, part, length) && name[length] == '.');
}

static void check_parameters(Fit *fit) {
  const WeightMap *map = fit->layout->map;
  for (size_t i = 0, first; i < fit->store->count; i++) {
    const StoreTensor *tensor = fit->store->list[i];
    if (tensor->role != ROLE_PARAM || !in_part(tensor->name, map->part) ||
        map_find(fit->by_parameter, map->row_count, false, tensor->name, &first) ||
        published_allows(fit->options, tensor->name) || !begin_row(fit, &fit->missing, "missing"))
      continue;
    text_print(&fit->table, "a line for `%s` in block `%s`, %s\n", tensor->name, map->name, map->origin);
  }
}

static void check_unexpected(Fit *fit) {
  const WeightMap *map = fit->layout->map;
  size_t length = strlen(fit->layout->prefix);
  for (size_t i = 0; i < fit->file->count; i++) {
    const WeightTensor *tensor = &fit->file->tensors[i];
    bool inside = !strncmp(tensor->name, fit->layout->prefix, length);
    const char *name = inside ? tensor->name + length : tensor->name;
    bool known = !inside && *map->part; // other parts of the file are others' business
    size_t first;
    if (inside && map_find(fit->by_tensor, map->row_count, true, name, &first)) known = true;
    known |= is_copy(map, name);
    for (size_t j = 0; j < map->ignored_count && !known; j++) known = map_glob(map->ignored[j], name);
    if (known || !begin_row(fit, &fit->unexpected, "unexpected")) continue;
    text_print(&fit->table, "%s", tensor->name);
    print_shape(&fit->table, " ", tensor->rank, tensor->extents);
    text_print(&fit->table, ": no line of block `%s` speaks of it, %s\n", map->name, map->origin);
  }
}

// Whether the layer after the last that the loop reads is one to be ignored.
static bool ignores_layer(const WeightMap *map, const MapLoop *loop) {
  char name[300];
  int length = snprintf(name, sizeof name, "%s%" PRId64 "%s.x", loop->before, loop->count, loop->after);
  for (size_t i = 0; i < map->ignored_count && length < (int)sizeof name; i++)
    if (map_glob(map->ignored[i], name)) return true;
  return false;
}

// How often the file repeats what a loop of the block repeats: "h.0." .. "h.11." are 12.
static void check_loops(Fit *fit) {
  for (size_t i = 0; i < fit->layout->map->loop_count; i++) {
    const MapLoop *loop = &fit->layout->map->loops[i];
    size_t prefix = strlen(fit->layout->prefix), before = strlen(loop->before);
    long most = 0;
    for (size_t j = 0; j < fit->file->count; j++) {
      const char *name = fit->file->tensors[j].name;
      if (strncmp(name, fit->layout->prefix, prefix) || strncmp(name + prefix, loop->before, before))
        continue;
      char *end;
      long number = strtol(name + prefix + before, &end, 10);
      bool named = end > name + prefix + before && !strncmp(end, loop->after, strlen(loop->after));
      if (named && number >= most && number < 1 << 20) most = number + 1;
    }
    // A file with all layers, of which the model leaves the last out.
    bool whole = ignores_layer(fit->layout->map, loop);
    if (!most || most == loop->count || (whole && most == loop->value)) continue;
    add_setting(fit, loop->setting, whole ? most : loop->value + most - loop->count);
    if (whole && begin_row(fit, &fit->mismatched, "mismatched"))
      text_print(&fit->table, "%s%s0 to %ld%s; `%s` is %" PRId64 ", %s\n", fit->layout->prefix, loop->before,
                 most - 1, loop->after, loop->setting, loop->value, fit->layout->map->origin);
  }
}

static bool fit_fails(Fit *fit, Failure *failure) {
  const WeightMap *map = fit->layout->map;
  Text settings = {0};
  for (int i = 0; i < fit->setting_count; i++)
    text_print(&settings, "%s-D %s=%" PRId64, i ? " " : "; its shapes say ", fit->settings[i].name,
               fit->settings[i].value);
  if (fit->options->report)
    text_print(fit->options->report, "%s, by block `%s`, %s:\n%s", fit->file->path, map->name, map->origin,
               text_string(&fit->table));
  if (fit->unequal) text_print(&settings, "; %zu that should be copies are not", fit->unequal);
  fail(failure, "%s does not fit block `%s` (%s): %zu missing, %zu mismatched, %zu unexpected%.400s",
       fit->file->path, map->name, map->origin, fit->missing, fit->mismatched, fit->unexpected,
       text_string(&settings));
  text_free(&settings);
  return false;
}

// ---- moving elements ----------------------------------------------------------------------------

static void read_floats(const WeightTensor *tensor, float *out) {
  if (tensor->format == WEIGHT_F32)
    memcpy(out, tensor->data, tensor->bytes);
  else
    weights_read_f32(tensor, 0, tensor->elements, out);
}

// One parameter from all of its pieces.
static bool load_rows(const Fit *fit, StoreTensor *tensor, const MapRow *const *rows, size_t count,
                      TensorStore *store, Failure *failure) {
  float *values = malloc((size_t)store_elements(tensor) * sizeof *values + 1);
  bool good = values != NULL;
  for (size_t i = 0; good && i < count; i++) {
    const WeightTensor *found = weights_find_joined(fit->file, fit->layout->prefix, rows[i]->tensor);
    if (map_is_identity(rows[i])) {
      read_floats(found, values);
      continue;
    }
    float *read = malloc((size_t)found->elements * sizeof *read + 1);
    good = read != NULL;
    if (good) read_floats(found, read), map_copy_in(rows[i], read, values);
    free(read);
  }
  if (!good) fail(failure, "out of memory for `%s`", tensor->name);
  good = good && store_write(store, tensor, values, failure);
  free(values);
  return good;
}

static bool same_extents(const StoreTensor *tensor, const MapRow *row) {
  bool same = tensor->rank == row->rank;
  for (int i = 0; same && i < row->rank; i++) same = tensor->extents[i] == row->extents[i];
  return same;
}

static bool load_parameter(const Fit *fit, StoreTensor *tensor, TensorStore *store, Failure *failure) {
  size_t first, count = map_find(fit->by_parameter, fit->layout->map->row_count, false, tensor->name, &first);
  const MapRow *const *rows = (const MapRow *const *)fit->by_parameter + first;
  for (size_t i = 0; i < count; i++) {
    if (!weights_find_joined(fit->file, fit->layout->prefix, rows[i]->tensor)) return true; // may be missing
    if (!same_extents(tensor, rows[i]))
      return fail_internal(failure, "`%s` has another shape than the model's block of weights says",
                           tensor->name);
  }
  if (!count) return true;
  tensor->loaded = true;
  return load_rows(fit, tensor, rows, count, store, failure);
}

bool published_load(const WeightFile *file, const PublishedLayout *layout, const PublishedOptions *options,
                    TensorStore *store, Failure *failure) {
  const WeightMap *map = layout->map;
  Fit fit = {.file = file, .layout = layout, .options = options, .store = store};
  fit.by_tensor = map_sorted(map, true);
  fit.by_parameter = map_sorted(map, false);
  check_tensors(&fit);
  check_parameters(&fit);
  check_unexpected(&fit);
  check_copies(&fit);
  check_loops(&fit);
  bool good = !(fit.missing + fit.mismatched + fit.unexpected + fit.unequal) || fit_fails(&fit, failure);
  for (size_t i = 0; good && i < store->count; i++)
    if (store->list[i]->role == ROLE_PARAM) good = load_parameter(&fit, store->list[i], store, failure);
  if (good && options->report)
    text_print(options->report, "%s: %zu tensors by block `%s`%s%s\n", file->path, layout->found, map->name,
               *layout->prefix ? " behind " : "", layout->prefix);
  text_free(&fit.table);
  free(fit.by_tensor);
  free(fit.by_parameter);
  return good;
}
