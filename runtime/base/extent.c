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

bool extent_add(Extent a, Extent b, Extent *sum) {
  if (a.symbol && b.symbol && a.symbol != b.symbol) return false;
  sum->symbol = a.symbol ? a.symbol : b.symbol;
  sum->scale = a.scale + b.scale;
  sum->offset = a.offset + b.offset;
  if (!sum->scale) sum->symbol = SYMBOL_NONE;
  return true;
}

bool extent_multiply(Extent a, Extent b, Extent *product) {
  if (a.symbol && b.symbol) return false;
  Extent linear = a.symbol ? a : b;
  int64_t factor = a.symbol ? b.offset : a.offset;
  *product = (Extent){linear.symbol, linear.scale * factor, linear.offset * factor};
  if (!product->scale) product->symbol = SYMBOL_NONE;
  return true;
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
