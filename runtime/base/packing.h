// How a program holds weights that were f32: as they are, rounded to bf16, or in blocks of 32 along their
// last axes with a scale of each block's own. A packed weight has no memory; its parts have: values, and
// scales where the format has any.
//
//   bf16   each element rounded to bf16
//   q8_0   x = (v - 128) * scale      v: a byte per element; scale: f16 per block
//   q4_0   x = (n - 8) * scale        n: four bits per element; byte i of 16 has element i in its low half,
//                                     element 16 + i in its high half
//
// Values and scales are those of the formats of the same names in GGUF files, laid down apart.
#ifndef VLMC_BASE_PACKING_H
#define VLMC_BASE_PACKING_H

#include "runtime/base/dtype.h"

typedef enum Packing { PACKING_NONE, PACKING_BF16, PACKING_Q8_0, PACKING_Q4_0, PACKING_COUNT } Packing;

typedef struct PackingInfo {
  const char *name;
  DType values; // element type of the part `values`
  int block;    // weights of a block; 1: no blocks and no scales
  int stored;   // elements of `values` per block
} PackingInfo;
extern const PackingInfo packing_table[PACKING_COUNT];

bool packing_from_name(const char *name, Packing *out); // "f32" is PACKING_NONE; false: no such format
// The name of the weight that a part belongs to, or NULL where the name is no part's: "values:W", "scales:W".
const char *packing_whole(const char *part, bool *scales);
// The first of the last axes that make up a row, the fewest that hold a whole number of blocks (`rank`: none
// are needed); -1: not even all of them do.
int packing_row(Packing packing, int rank, const int64_t *extents);

#endif
