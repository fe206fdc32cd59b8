// JSON as the readers of the runtime want it: strict (no duplicate keys, nothing after the value, UTF-8),
// with failures that name file, line and what was expected. Parsing and printing themselves are jansson's.
#ifndef VLMC_RUNTIME_JSON_H
#define VLMC_RUNTIME_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "runtime/base/failure.h"
#include "runtime/base/text.h"

// Parses `size` bytes. `place` ("runs/a/run.json", "data/captions.jsonl:17") starts every message. NULL on
// failure; else the caller owns one reference (json_decref).
json_t *json_parse(const char *bytes, size_t size, const char *place, Failure *failure);
json_t *json_read(const char *path, size_t limit, Failure *failure); // a file of at most `limit` bytes

// The member `key` of `object` in the type asked for; failing when it is absent or of another type. Strings
// are borrowed from `object`.
bool json_get_string(const json_t *object, const char *key, const char *place, const char **out,
                     Failure *failure);
bool json_get_integer(const json_t *object, const char *key, const char *place, json_int_t *out,
                      Failure *failure);
bool json_get_number(const json_t *object, const char *key, const char *place, double *out, Failure *failure);
bool json_get_object(const json_t *object, const char *key, const char *place, json_t **out,
                     Failure *failure);
bool json_get_array(const json_t *object, const char *key, const char *place, json_t **out, Failure *failure);

const char *json_kind(const json_t *value); // "a string", "an object", ... or "nothing" for NULL

// Appends `text` (NUL-terminated UTF-8) as a JSON string with its quotes.
void json_quote(Text *out, const char *text);

#endif
