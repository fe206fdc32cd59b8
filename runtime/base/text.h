// A growing text: the one way in which the project builds strings, dumps and generated source.
#ifndef VLMC_BASE_TEXT_H
#define VLMC_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct Text {
  char *bytes; // always NUL-terminated once something was added; NULL while empty
  size_t length, capacity;
} Text;

void text_free(Text *text);
void text_add(Text *text, const char *bytes, size_t length);
void text_print(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *text_string(const Text *text); // "" while empty

// The number's shortest spelling that reads back to the same double ("10", "0.1", "1e-05", "-inf", "nan").
void text_number(Text *text, double value);

// How many letters to change, put in or leave out to make a of b; more than `limit` (small: it takes 3^limit
// tries) counts as limit + 1.
int text_distance(const char *a, const char *b, int limit);

// The name most like one that was asked for, of those tried; among equals the first.
typedef struct Closest {
  const char *asked;
  int limit;        // letters that may differ; afterwards one less than in what was found
  const char *name; // NULL: none is like it
} Closest;
Closest closest_to(const char *asked); // by at most 2 letters, in words of up to three by 1
void closest_try(Closest *closest, const char *name);

#endif
