// Strict JSON through jansson, with failures in our form.
#include "runtime/json.h"

#include <string.h>

#include "runtime/files.h"

json_t *json_parse(const char *bytes, size_t size, const char *place, Failure *failure) {
  json_error_t error;
  json_t *root = json_loadb(bytes, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
  if (root) return root;
  if (error.line > 1 || memchr(bytes, '\n', size)) // several lines: say which
    fail(failure, "%s: not valid JSON at line %d, column %d: %s", place, error.line, error.column,
         error.text);
  else
    fail(failure, "%s: not valid JSON at column %d: %s", place, error.column, error.text);
  return NULL;
}

json_t *json_read(const char *path, size_t limit, Failure *failure) {
  Arena *arena = arena_new();
  char *bytes;
  size_t size;
  json_t *root = NULL;
  if (file_read(path, limit, arena, &bytes, &size, failure)) root = json_parse(bytes, size, path, failure);
  arena_free(arena);
  return root;
}

const char *json_kind(const json_t *value) {
  if (!value) return "nothing";
  switch (json_typeof(value)) {
  case JSON_OBJECT: return "an object";
  case JSON_ARRAY: return "an array";
  case JSON_STRING: return "a string";
  case JSON_INTEGER: return "an integer";
  case JSON_REAL: return "a number";
  case JSON_TRUE:
  case JSON_FALSE: return "true or false";
  case JSON_NULL: return "null";
  }
  return "something else";
}

static bool expected(Failure *failure, const char *place, const char *key, const char *what,
                     const json_t *found) {
  return fail(failure, "%s: \"%s\" must be %s, found %s", place, key, what, json_kind(found));
}

bool json_get_string(const json_t *object, const char *key, const char *place, const char **out,
                     Failure *failure) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_string(value)) return expected(failure, place, key, "a string", value);
  *out = json_string_value(value);
  return true;
}

bool json_get_integer(const json_t *object, const char *key, const char *place, json_int_t *out,
                      Failure *failure) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_integer(value)) return expected(failure, place, key, "an integer", value);
  *out = json_integer_value(value);
  return true;
}

bool json_get_number(const json_t *object, const char *key, const char *place, double *out,
                     Failure *failure) {
  const json_t *value = json_object_get(object, key);
  if (!json_is_number(value)) return expected(failure, place, key, "a number", value);
  *out = json_number_value(value);
  return true;
}

bool json_get_object(const json_t *object, const char *key, const char *place, json_t **out,
                     Failure *failure) {
  *out = json_object_get(object, key);
  return json_is_object(*out) || expected(failure, place, key, "an object", *out);
}

bool json_get_array(const json_t *object, const char *key, const char *place, json_t **out,
                    Failure *failure) {
  *out = json_object_get(object, key);
  return json_is_array(*out) || expected(failure, place, key, "an array", *out);
}

void json_quote(Text *out, const char *text) {
  text_add(out, "\"", 1);
  for (; *text; text++) {
    unsigned char byte = (unsigned char)*text;
    if (byte == '"' || byte == '\\')
      text_print(out, "\\%c", byte);
    else if (byte == '\n')
      text_add(out, "\\n", 2);
    else if (byte < 32 || byte == 127)
      text_print(out, "\\u%04x", byte);
    else
      text_add(out, text, 1);
  }
  text_add(out, "\"", 1);
}
