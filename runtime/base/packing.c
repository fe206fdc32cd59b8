// Formats of weights in memory: the table, names, and which axes blocks run along.
#include "runtime/base/packing.h"

#include <string.h>

const PackingInfo packing_table[PACKING_COUNT] = {
    [PACKING_NONE] = {"f32", DTYPE_F32, 1, 1},
    [PACKING_BF16] = {"bf16", DTYPE_BF16, 1, 1},
    [PACKING_Q8_0] = {"q8_0", DTYPE_U8, 32, 32},
    [PACKING_Q4_0] = {"q4_0", DTYPE_U8, 32, 16},
};

bool packing_from_name(const char *name, Packing *out) {
  for (int i = 0; i < PACKING_COUNT; i++)
    if (!strcmp(packing_table[i].name, name)) return *out = (Packing)i, true;
  return false;
}

const char *packing_whole(const char *part, bool *scales) {
  *scales = !strncmp(part, "scales:", 7);
  return *scales || !strncmp(part, "values:", 7) ? part + 7 : NULL;
}

int packing_row(Packing packing, int rank, const int64_t *extents) {
  int64_t rest = 1; // of the row's elements, modulo the block
  int block = packing_table[packing].block;
  if (block == 1) return rank;
  for (int first = rank; first-- > 0;) {
    if (extents[first] <= 0) return -1;
    rest = rest * (extents[first] % block) % block;
    if (!rest) return first;
  }
  return -1;
}
