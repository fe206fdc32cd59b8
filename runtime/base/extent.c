// Arithmetic on extents.
#include "runtime/base/extent.h"

#include <inttypes.h>

const char *const symbol_names[SYMBOL_COUNT] = {"", "B", "T", "P", "S"};

Extent extent_constant(int64_t value) { return (Extent){SYMBOL_NONE, 0, value}; }
Extent extent_symbol(Symbol symbol) { return (Extent){symbol, 1, 0}; }
bool extent_is_constant(Extent extent) { return extent.symbol == SYMBOL_NONE; }

bool extent_equal(Extent a, Extent b) {
  return a.symbol == b.symbol && a.scale == b.scale && a.offset == b.offset;
}

static bool number_bounded(int64_t number) { return number >= -EXTENT_LARGEST && number <= EXTENT_LARGEST; }

bool extent_bounded(Extent extent) { return number_bounded(extent.scale) && number_bounded(extent.offset); }

bool extent_add(Extent a, Extent b, Extent *sum) {
  if ((a.symbol && b.symbol && a.symbol != b.symbol) || !extent_bounded(a) || !extent_bounded(b))
    return false;
  Extent result = {a.symbol ? a.symbol : b.symbol, a.scale + b.scale, a.offset + b.offset};
  if (!result.scale) result.symbol = SYMBOL_NONE;
  if (!extent_bounded(result)) return false;
  *sum = result;
  return true;
}

static bool multiply(int64_t a, int64_t b, int64_t *product) {
  return !__builtin_mul_overflow(a, b, product) && number_bounded(*product);
}

bool extent_multiply(Extent a, Extent b, Extent *product) {
  if ((a.symbol && b.symbol) || !extent_bounded(a) || !extent_bounded(b)) return false;
  Extent linear = a.symbol ? a : b, result = {.symbol = linear.symbol};
  int64_t factor = a.symbol ? b.offset : a.offset;
  if (!multiply(linear.scale, factor, &result.scale) || !multiply(linear.offset, factor, &result.offset))
    return false;
  if (!result.scale) result.symbol = SYMBOL_NONE;
  *product = result;
  return true;
}

bool extent_inside(Extent start, Extent extent, Extent whole) {
  Extent end, rest;
  if (extent_is_constant(start) && start.offset < 0) return false;
  if (!extent_add(start, extent, &end) ||
      !extent_add(whole, (Extent){end.symbol, -end.scale, -end.offset}, &rest))
    return true; // P, then T more: S is known when sizes are
  return !extent_is_constant(rest) || rest.offset >= 0;
}

int64_t extent_value(Extent extent, const int64_t symbols[SYMBOL_COUNT]) {
  return extent.offset + (extent.symbol ? extent.scale * symbols[extent.symbol] : 0);
}

void extent_print(Text *text, Extent extent) {
  if (!extent.symbol) {
    text_print(text, "%" PRId64, extent.offset);
    return;
  }
  if (extent.scale != 1) text_print(text, "%" PRId64 "*", extent.scale);
  text_print(text, "%s", symbol_names[extent.symbol]);
  if (extent.offset) text_print(text, "%+" PRId64, extent.offset);
}
