// Python's pickle, as far as saved tensors need it: a stream of instructions for a stack machine becomes a
// tree of plain values. Nothing is ever called: what a pickle asks to be built from a class or function stays
// an OBJECT that names it. Values point into the stream, and may refer to themselves.
#ifndef VLMC_WEIGHTS_PICKLE_H
#define VLMC_WEIGHTS_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

typedef enum PickleKind {
  PICKLE_NONE,
  PICKLE_INTEGER, // also booleans
  PICKLE_NUMBER,
  PICKLE_TEXT, // also bytes, and integers of more than 8 bytes
  PICKLE_TUPLE,
  PICKLE_LIST,       // also sets
  PICKLE_DICT,       // items: key, value, key, value, ...
  PICKLE_GLOBAL,     // a class or function: its module and name as text, "torch FloatStorage"
  PICKLE_PERSISTENT, // items: the one value by which it is known outside
  PICKLE_OBJECT,     // items: what would be called, its arguments (a tuple)
} PickleKind;

typedef struct PickleValue {
  PickleKind kind;
  int64_t integer;
  const char *text; // not NUL-terminated
  size_t length;
  struct PickleValue **items;
  size_t count, capacity;
} PickleValue;

typedef struct Pickle {
  PickleValue *root;
  size_t values;             // how many there are
  PickleValue **persistents; // all of them, in the order of the stream
  size_t persistent_count, persistent_capacity;
} Pickle;

// Reads the pickle that begins at `*at` and moves `*at` behind it.
bool pickle_read(const unsigned char *bytes, size_t size, size_t *at, const char *path, Arena *arena,
                 Pickle *pickle, Failure *failure);

bool pickle_is(const PickleValue *value, PickleKind kind, const char *text); // and with this text
PickleValue *pickle_get(const PickleValue *dict, const char *key);           // NULL: none, or no dict

#endif
