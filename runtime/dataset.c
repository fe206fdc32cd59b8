// DIR/<name>.jsonl, mapped; lines are found once and parsed when asked for.
#include "runtime/dataset.h"

#include <stdio.h>
#include <string.h>

#include "runtime/files.h"
#include "runtime/json.h"

typedef struct Line {
  size_t begin, length; // bytes in the file
  size_t number;        // 1-based
} Line;

struct Dataset {
  Arena *arena;
  const char *folder, *path;
  Mapping mapping;
  Line *lines;
  size_t count, capacity;
};

static bool is_blank(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (!strchr(" \t\r", text[i]) || !text[i]) return false;
  return true;
}

static bool find_lines(Dataset *dataset, Failure *failure) {
  const char *bytes = (const char *)dataset->mapping.bytes;
  size_t size = dataset->mapping.size, number = 1;
  size_t begin = size >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3) ? 3 : 0; // a byte order mark
  for (; begin < size; number++) {
    const char *end = memchr(bytes + begin, '\n', size - begin);
    size_t length = (end ? (size_t)(end - bytes) : size) - begin;
    if (length > DATASET_MAX_LINE)
      return fail(failure, "%s:%zu: has %zu bytes, more than the %d allowed in a line", dataset->path, number,
                  length, DATASET_MAX_LINE);
    if (!is_blank(bytes + begin, length))
      ARENA_PUSH(dataset->arena, dataset->lines, dataset->count, dataset->capacity,
                 ((Line){begin, length, number}));
    begin += length + 1;
  }
  return dataset->count > 0 || fail(failure, "%s: has no rows", dataset->path);
}

bool dataset_open(const char *folder, const char *name, Dataset **out, Failure *failure) {
  Arena *arena = arena_new();
  Dataset *dataset = ARENA_NEW(arena, Dataset);
  *dataset = (Dataset){.arena = arena,
                       .folder = arena_copy(arena, folder, strlen(folder)),
                       .path = arena_print(arena, "%s/%s.jsonl", folder, name)};
  *out = dataset;
  if (file_map(dataset->path, &dataset->mapping, failure) && find_lines(dataset, failure)) return true;
  dataset_close(dataset);
  *out = NULL;
  return false;
}

void dataset_close(Dataset *dataset) {
  if (!dataset) return;
  file_unmap(&dataset->mapping);
  arena_free(dataset->arena);
}

size_t dataset_count(const Dataset *dataset) { return dataset->count; }
const char *dataset_folder(const Dataset *dataset) { return dataset->folder; }
const char *dataset_path(const Dataset *dataset) { return dataset->path; }
size_t dataset_line(const Dataset *dataset, size_t index) { return dataset->lines[index].number; }

// A row being read from one line's JSON.
typedef struct Parsing {
  const char *place;
  Arena *arena;
  Failure *failure;
} Parsing;

// A member that must be a string; a copy of it.
static bool take_string(const Parsing *parsing, const json_t *object, const char *key, const char **out) {
  const char *text;
  if (!json_get_string(object, key, parsing->place, &text, parsing->failure)) return false;
  *out = arena_copy(parsing->arena, text, strlen(text));
  return true;
}

// Like take_string where the key is there; else *out stays NULL.
static bool take_optional(const Parsing *parsing, const json_t *object, const char *key, const char **out) {
  return !json_object_get(object, key) || take_string(parsing, object, key, out);
}

static bool check_keys(const Parsing *parsing, const json_t *object, const char *const *keys,
                       const char *expected) {
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)object, key, value) {
    bool known = false;
    for (const char *const *at = keys; *at; at++) known |= !strcmp(*at, key);
    if (!known)
      return fail(parsing->failure, "%s: unknown key \"%.60s\", expected %s", parsing->place, key, expected);
  }
  return true;
}

static bool check_image(const Parsing *parsing, const char *image) {
  if (!*image || strlen(image) > 4000)
    return fail(parsing->failure, "%s: \"image\" must be a path, found %zu bytes", parsing->place,
                strlen(image));
  if (*image == '/')
    return fail(parsing->failure, "%s: \"image\" must be relative to the data set's folder, found \"%.200s\"",
                parsing->place, image);
  for (const char *part = image;; part++) {
    if (!strncmp(part, "..", 2) && (!part[2] || part[2] == '/'))
      return fail(parsing->failure,
                  "%s: \"image\" may not lead out of the data set's folder, found \"%.200s\"", parsing->place,
                  image);
    part = strchr(part, '/');
    if (!part) break;
  }
  return true;
}

static bool take_turn(const Parsing *parsing, const json_t *object, Turn *turn) {
  return take_string(parsing, object, "prompt", &turn->prompt) &&
         take_string(parsing, object, "answer", &turn->answer);
}

static bool take_turns(const Parsing *parsing, const json_t *array, Row *row) {
  static const char *const keys[] = {"prompt", "answer", NULL};
  size_t count = json_array_size(array);
  if (!json_is_array(array) || !count)
    return fail(parsing->failure, "%s: \"turns\" must be an array of at least one turn, found %s",
                parsing->place, json_is_array(array) ? "none" : json_kind(array));
  row->turns = ARENA_ARRAY(parsing->arena, Turn, count);
  row->turn_count = (int)count;
  for (size_t i = 0; i < count; i++) {
    const json_t *turn = json_array_get(array, i);
    if (!json_is_object(turn))
      return fail(parsing->failure, "%s: turn %zu must be an object, found %s", parsing->place, i + 1,
                  json_kind(turn));
    if (!check_keys(parsing, turn, keys, "prompt and answer") || !take_turn(parsing, turn, &row->turns[i]))
      return false;
  }
  return true;
}

static bool take_row(const Parsing *parsing, const json_t *object, Row *row) {
  static const char *const keys[] = {"image", "caption", "text", "prompt", "answer", "turns", "kind", NULL};
  if (!json_is_object(object))
    return fail(parsing->failure, "%s: expected an object, found %s", parsing->place, json_kind(object));
  if (!check_keys(parsing, object, keys, "image, caption, text, prompt, answer, turns or kind")) return false;
  bool caption = json_object_get(object, "caption"), text = json_object_get(object, "text");
  bool turns = json_object_get(object, "turns");
  bool turn = json_object_get(object, "prompt") || json_object_get(object, "answer");
  if (caption + text + turns + turn != 1)
    return fail(parsing->failure,
                "%s: expected exactly one of \"caption\", \"text\", \"turns\", or \"prompt\" with \"answer\"",
                parsing->place);
  if (text && json_object_get(object, "image"))
    return fail(parsing->failure,
                "%s: a row of \"text\" has no \"image\"; a text about it is its \"caption\"", parsing->place);
  if (!take_optional(parsing, object, "image", &row->image) ||
      !take_optional(parsing, object, "caption", &row->caption) ||
      !take_optional(parsing, object, "text", &row->text) ||
      !take_optional(parsing, object, "kind", &row->kind))
    return false;
  if (row->image && !check_image(parsing, row->image)) return false;
  if (turns) return take_turns(parsing, json_object_get(object, "turns"), row);
  if (!turn) return true;
  row->turns = ARENA_NEW(parsing->arena, Turn);
  row->turn_count = 1;
  return take_turn(parsing, object, row->turns);
}

bool dataset_parse(const char *line, size_t length, const char *place, Arena *arena, Row *row,
                   Failure *failure) {
  *row = (Row){0};
  json_t *object = json_parse(line, length, place, failure);
  if (!object) return false;
  Parsing parsing = {place, arena, failure};
  bool good = take_row(&parsing, object, row);
  json_decref(object);
  return good;
}

bool dataset_row(const Dataset *dataset, size_t index, Arena *arena, Row *row, Failure *failure) {
  if (index >= dataset->count) die("row %zu of %zu", index, dataset->count);
  const Line *line = &dataset->lines[index];
  char place[600];
  snprintf(place, sizeof place, "%.550s:%zu", dataset->path, line->number);
  return dataset_parse((const char *)dataset->mapping.bytes + line->begin, line->length, place, arena, row,
                       failure);
}
