// A growing text on the C heap.
#include "runtime/base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_free(Text *text) {
  free(text->bytes);
  *text = (Text){0};
}

static void reserve(Text *text, size_t more) {
  size_t wanted = text->length + more + 1;
  if (wanted <= text->capacity) return;
  size_t capacity = text->capacity * 2 > wanted ? text->capacity * 2 : wanted + 64;
  char *bytes = realloc(text->bytes, capacity);
  if (!bytes) {
    fprintf(stderr, "vlmc: out of memory (%zu bytes)\n", capacity);
    exit(2);
  }
  text->bytes = bytes;
  text->capacity = capacity;
}

void text_add(Text *text, const char *bytes, size_t length) {
  reserve(text, length);
  if (length) memcpy(text->bytes + text->length, bytes, length);
  text->length += length;
  text->bytes[text->length] = 0;
}

void text_print(Text *text, const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  reserve(text, (size_t)length);
  vsnprintf(text->bytes + text->length, (size_t)length + 1, format, again);
  va_end(again);
  text->length += (size_t)length;
}

const char *text_string(const Text *text) { return text->bytes ? text->bytes : ""; }

void text_number(Text *text, double value) {
  char spelling[40];
  if (isnan(value)) {
    text_print(text, "nan");
    return;
  }
  if (value == trunc(value) && fabs(value) < 1e15) { // 10, not 1e+01
    text_print(text, "%.0f", value);
    return;
  }
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(spelling, sizeof spelling, "%.*g", digits, value);
    if (strtod(spelling, NULL) == value) break;
  }
  text_print(text, "%s", spelling);
}

int text_distance(const char *a, const char *b, int limit) {
  if (*a && *a == *b) return text_distance(a + 1, b + 1, limit);
  if (!*a && !*b) return 0;
  if (!limit) return 1;
  int least = limit;
  int tries[] = {*a && *b ? text_distance(a + 1, b + 1, limit - 1) : least,
                 *a ? text_distance(a + 1, b, limit - 1) : least,
                 *b ? text_distance(a, b + 1, limit - 1) : least};
  for (int i = 0; i < 3; i++)
    if (tries[i] < least) least = tries[i];
  return least + 1;
}

Closest closest_to(const char *asked) {
  return (Closest){.asked = asked, .limit = strlen(asked) > 3 ? 2 : 1};
}

void closest_try(Closest *closest, const char *name) {
  if (closest->limit < 0) return; // the very name was there
  int changes = text_distance(closest->asked, name, closest->limit);
  if (changes > closest->limit) return;
  closest->limit = changes - 1;
  closest->name = name;
}
