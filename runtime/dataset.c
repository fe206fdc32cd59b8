// DIR/<name>.jsonl or DIR/<name>.json, mapped; rows are found once and parsed when asked for.
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

static bool check_length(const Dataset *dataset, size_t length, size_t number, Failure *failure) {
  return length <= DATASET_MAX_LINE ||
         fail(failure, "%s:%zu: has %zu bytes, more than the %d allowed in a row", dataset->path, number,
              length, DATASET_MAX_LINE);
}

// The byte behind the value that begins at `at`; brackets and strings are followed, the rest is left to the
// parser.
static size_t skip_value(const char *bytes, size_t size, size_t at) {
  size_t depth = 0;
  for (bool quoted = false; at < size; at++) {
    char byte = bytes[at];
    if (quoted) {
      at += byte == '\\';
      quoted = byte != '"';
    } else if (byte == '"') {
      quoted = true;
    } else if (byte == '{' || byte == '[') {
      depth++;
    } else if (byte == '}' || byte == ']') {
      if (!depth) break;
      depth--;
    } else if (byte == ',' && !depth) {
      break;
    }
  }
  return at < size ? at : size;
}

// The elements of the one array that the file is.
static bool find_elements(Dataset *dataset, Failure *failure) {
  const char *bytes = (const char *)dataset->mapping.bytes;
  size_t size = dataset->mapping.size, number = 1, at = 0;
  while (at < size && strchr(" \t\r\n", bytes[at]) && bytes[at]) number += bytes[at++] == '\n';
  if (at == size || bytes[at] != '[')
    return fail(failure, "%s:%zu: expected an array of rows", dataset->path, number);
  for (char byte = ','; byte == ',';) {
    at++;
    while (at < size && strchr(" \t\r\n", bytes[at]) && bytes[at]) number += bytes[at++] == '\n';
    size_t end = skip_value(bytes, size, at);
    if (!check_length(dataset, end - at, number, failure)) return false;
    if (end == size) return fail(failure, "%s:%zu: the array does not end", dataset->path, number);
    byte = bytes[end];
    if (end > at || byte == ',' || dataset->count)
      ARENA_PUSH(dataset->arena, dataset->lines, dataset->count, dataset->capacity,
                 ((Line){at, end - at, number}));
    for (; at < end; at++) number += bytes[at] == '\n';
    if (byte != ',' && byte != ']')
      return fail(failure, "%s:%zu: expected `,` or `]` after a row", dataset->path, number);
  }
  for (at++; at < size; at++)
    if (!strchr(" \t\r\n", bytes[at]) || !bytes[at])
      return fail(failure, "%s: something stands behind the array of rows", dataset->path);
  return dataset->count > 0 || fail(failure, "%s: has no rows", dataset->path);
}

static bool find_lines(Dataset *dataset, Failure *failure) {
  const char *bytes = (const char *)dataset->mapping.bytes;
  size_t size = dataset->mapping.size, number = 1;
  size_t begin = size >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3) ? 3 : 0; // a byte order mark
  for (; begin < size; number++) {
    const char *end = memchr(bytes + begin, '\n', size - begin);
    size_t length = (end ? (size_t)(end - bytes) : size) - begin;
    if (!check_length(dataset, length, number, failure)) return false;
    if (!is_blank(bytes + begin, length))
      ARENA_PUSH(dataset->arena, dataset->lines, dataset->count, dataset->capacity,
                 ((Line){begin, length, number}));
    begin += length + 1;
  }
  return dataset->count > 0 || fail(failure, "%s: has no rows", dataset->path);
}

const char *dataset_find(Arena *arena, const char *folder, const char *name) {
  const char *lines = arena_print(arena, "%s/%s.jsonl", folder, name),
             *array = arena_print(arena, "%s/%s.json", folder, name);
  return !file_exists(lines) && file_exists(array) ? array : lines;
}

bool dataset_open(const char *folder, const char *name, Dataset **out, Failure *failure) {
  Arena *arena = arena_new();
  Dataset *dataset = ARENA_NEW(arena, Dataset);
  *dataset = (Dataset){.arena = arena,
                       .folder = arena_copy(arena, folder, strlen(folder)),
                       .path = dataset_find(arena, folder, name)};
  *out = dataset;
  bool is_array = !strcmp(strrchr(dataset->path, '.'), ".json");
  if (file_map(dataset->path, &dataset->mapping, failure) &&
      (is_array ? find_elements(dataset, failure) : find_lines(dataset, failure)))
    return true;
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

// "image": a path, or several, added to the row's.
static bool take_images(const Parsing *parsing, const json_t *object, Row *row) {
  const json_t *value = json_object_get(object, "image");
  size_t count = json_is_array(value) ? json_array_size(value) : value ? 1 : 0;
  if (!count) return !value || fail(parsing->failure, "%s: \"image\" names no picture", parsing->place);
  const char **images = ARENA_ARRAY(parsing->arena, const char *, row->image_count + count);
  for (size_t i = 0; i < row->image_count; i++) images[i] = row->images[i];
  for (size_t i = 0; i < count; i++) {
    const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
    const char *image = json_string_value(item);
    if (!image)
      return fail(parsing->failure, "%s: \"image\" must be a string or an array of strings, found %s",
                  parsing->place, json_kind(item));
    if (!check_image(parsing, image)) return false;
    images[row->image_count++] = arena_copy(parsing->arena, image, strlen(image));
  }
  row->images = images;
  return true;
}

// ---- our own turns ------------------------------------------------------------------------------

static bool take_turn(const Parsing *parsing, const json_t *object, Turn *turn) {
  return take_string(parsing, object, "prompt", &turn->prompt) &&
         take_string(parsing, object, "answer", &turn->answer);
}

// The pictures of the row itself are there already: they are the first turn's.
static bool take_turns(const Parsing *parsing, const json_t *array, Row *row) {
  static const char *const keys[] = {"image", "prompt", "answer", NULL};
  size_t count = json_array_size(array), shown = 0;
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
    if (!check_keys(parsing, turn, keys, "image, prompt and answer") ||
        !take_turn(parsing, turn, &row->turns[i]) || !take_images(parsing, turn, row))
      return false;
    row->turns[i].pictures = (int)(row->image_count - shown);
    shown = row->image_count;
  }
  return true;
}

// ---- turns as published -------------------------------------------------------------------------

typedef enum Speaker { SPEAKER_SYSTEM, SPEAKER_USER, SPEAKER_MODEL, SPEAKER_UNKNOWN } Speaker;

static Speaker speaker_of(const char *name) {
  static const struct {
    const char *name;
    Speaker speaker;
  } known[] = {{"system", SPEAKER_SYSTEM},
               {"human", SPEAKER_USER},
               {"user", SPEAKER_USER},
               {"gpt", SPEAKER_MODEL},
               {"assistant", SPEAKER_MODEL}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(known[i].name, name)) return known[i].speaker;
  return SPEAKER_UNKNOWN;
}

// A user's text without the marks of its pictures, and how many they are.
static const char *take_marks(const Parsing *parsing, const char *text, int *marks) {
  static const char mark[] = "<image>";
  static const char white[] = " \t\r\n";
  char *copy = arena_copy(parsing->arena, text, strlen(text)), *to = copy;
  *marks = 0;
  for (const char *at = copy; *at;) {
    bool found = !strncmp(at, mark, sizeof mark - 1);
    *marks += found;
    if (found)
      at += sizeof mark - 1;
    else
      *to++ = *at++;
  }
  *to = 0;
  if (!*marks) return copy;
  while (to > copy && strchr(white, to[-1])) *--to = 0;
  return copy + strspn(copy, white);
}

// One message; *asked says whether a prompt waits for its answer.
static bool take_message(const Parsing *parsing, const json_t *message, size_t number, bool *asked,
                         Row *row) {
  const char *name, *text;
  bool roles = json_object_get(message, "role") || json_object_get(message, "content");
  if (!json_is_object(message))
    return fail(parsing->failure, "%s: message %zu must be an object, found %s", parsing->place, number,
                json_kind(message));
  if (!take_string(parsing, message, roles ? "role" : "from", &name) ||
      !take_string(parsing, message, roles ? "content" : "value", &text))
    return false;
  Speaker speaker = speaker_of(name);
  if (speaker == SPEAKER_UNKNOWN)
    return fail(parsing->failure,
                "%s: message %zu is from \"%.60s\", expected system, human or user, gpt or assistant",
                parsing->place, number, name);
  if (speaker == SPEAKER_SYSTEM && number == 1) {
    row->system = text;
    return true;
  }
  if (speaker != (*asked ? SPEAKER_MODEL : SPEAKER_USER))
    return fail(parsing->failure, "%s: message %zu is from \"%.60s\", expected one from the %s",
                parsing->place, number, name, *asked ? "model" : "user");
  Turn *turn = &row->turns[row->turn_count];
  if (*asked)
    turn->answer = text, row->turn_count++;
  else
    turn->prompt = take_marks(parsing, text, &turn->pictures);
  *asked = !*asked;
  return true;
}

static bool take_conversations(const Parsing *parsing, const json_t *array, Row *row) {
  size_t count = json_array_size(array), marks = 0;
  bool asked = false;
  if (!json_is_array(array) || !count)
    return fail(parsing->failure, "%s: \"conversations\" must be an array of messages, found %s",
                parsing->place, json_is_array(array) ? "none" : json_kind(array));
  row->turns = ARENA_ARRAY(parsing->arena, Turn, count / 2 + 1);
  for (size_t i = 0; i < count; i++)
    if (!take_message(parsing, json_array_get(array, i), i + 1, &asked, row)) return false;
  if (asked || !row->turn_count)
    return fail(parsing->failure, "%s: the last message of \"conversations\" must be the model's",
                parsing->place);
  for (int i = 0; i < row->turn_count; i++) marks += (size_t)row->turns[i].pictures;
  if (!marks) row->turns->pictures = (int)row->image_count;
  return !marks || marks == row->image_count ||
         fail(parsing->failure, "%s: <image> stands %zu times in the conversation, but \"image\" names %zu",
              parsing->place, marks, row->image_count);
}

// ---- rows ---------------------------------------------------------------------------------------

static bool check_form(const Parsing *parsing, const json_t *object) {
  static const char *const own[] = {"image", "caption", "text",   "prompt", "answer",
                                    "turns", "kind",    "system", NULL};
  static const char *const published[] = {"id", "model", "image", "conversations", "kind", NULL};
  if (json_object_get(object, "conversations"))
    return check_keys(parsing, object, published, "id, image, conversations or kind");
  if (!check_keys(parsing, object, own, "image, caption, text, prompt, answer, turns, system or kind"))
    return false;
  bool caption = json_object_get(object, "caption"), text = json_object_get(object, "text");
  bool turns = json_object_get(object, "turns");
  bool turn = json_object_get(object, "prompt") || json_object_get(object, "answer");
  if (caption + text + turns + turn != 1)
    return fail(parsing->failure,
                "%s: expected exactly one of \"caption\", \"text\", \"turns\", \"conversations\", or "
                "\"prompt\" with \"answer\"",
                parsing->place);
  if (text && json_object_get(object, "image"))
    return fail(parsing->failure,
                "%s: a row of \"text\" has no \"image\"; a text about it is its \"caption\"", parsing->place);
  return turns || turn || !json_object_get(object, "system") ||
         fail(parsing->failure, "%s: a \"system\" belongs to \"turns\" or a \"prompt\"", parsing->place);
}

static bool take_row(const Parsing *parsing, const json_t *object, Row *row) {
  if (!json_is_object(object))
    return fail(parsing->failure, "%s: expected an object, found %s", parsing->place, json_kind(object));
  if (!check_form(parsing, object) || !take_images(parsing, object, row) ||
      !take_optional(parsing, object, "caption", &row->caption) ||
      !take_optional(parsing, object, "text", &row->text) ||
      !take_optional(parsing, object, "system", &row->system) ||
      !take_optional(parsing, object, "kind", &row->kind))
    return false;
  const json_t *conversations = json_object_get(object, "conversations"),
               *turns = json_object_get(object, "turns");
  if (conversations) return take_conversations(parsing, conversations, row);
  if (turns) return take_turns(parsing, turns, row);
  if (row->caption || row->text) return true;
  row->turns = ARENA_NEW(parsing->arena, Turn);
  row->turn_count = 1;
  row->turns->pictures = (int)row->image_count;
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
