// Extents: how long an axis is. Either a constant, or linear in one run-time size (batch, length, past):
// value = scale * symbol + offset. Products and sums that leave this form are refused by the front end.
#ifndef VLMC_BASE_EXTENT_H
#define VLMC_BASE_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/text.h"

// A run-time size, by its index in the program's table of symbols. The table starts with these; they are
// the same in every graph and kernel, so that an extent can be carried from one to the other unchanged.
typedef enum Symbol {
  SYMBOL_NONE = 0, // the extent is the constant `offset`
  SYMBOL_BATCH,    // B: samples in this run
  SYMBOL_TIME,     // T: positions computed in this run
  SYMBOL_PAST,     // P: positions already in the key/value cache
  SYMBOL_SEEN,     // S: P + T, all positions that a new one may look at
  SYMBOL_COUNT
} Symbol;

typedef struct Extent {
  int32_t symbol; // enum Symbol
  int64_t scale;  // 0 where symbol is SYMBOL_NONE
  int64_t offset;
} Extent;

// No tensor comes near: what is larger is a mistake, and arithmetic on smaller ones does not overflow.
#define EXTENT_LARGEST ((int64_t)1 << 40)

extern const char *const symbol_names[SYMBOL_COUNT]; // "", "B", "T", "P", "S", "S"

Extent extent_constant(int64_t value);
Extent extent_symbol(Symbol symbol);
bool extent_is_constant(Extent extent);
bool extent_equal(Extent a, Extent b);
bool extent_bounded(Extent extent); // scale and offset within EXTENT_LARGEST either way
// False: two different symbols, or out of bounds. The result is one even where an operand was out of bounds.
bool extent_add(Extent a, Extent b, Extent *sum);
bool extent_multiply(Extent a, Extent b, Extent *product); // false: neither is constant, or out of bounds
// Can [start, start + extent) lie in an axis of `whole` elements? False only where no run-time sizes allow it.
bool extent_inside(Extent start, Extent extent, Extent whole);
int64_t extent_value(Extent extent, const int64_t symbols[SYMBOL_COUNT]);
void extent_print(Text *text, Extent extent); // "768", "T", "T+1", "2*B"

#endif
