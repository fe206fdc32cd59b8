// Parameters in the layouts that others publish: a file of tensors under the names of a model's `weights`
// block, read into the store, and written from it.
#ifndef VLMC_RUNTIME_PUBLISHED_H
#define VLMC_RUNTIME_PUBLISHED_H

#include "runtime/base/text.h"
#include "runtime/store.h"
#include "runtime/weights/map.h"
#include "runtime/weights/weights.h"

// How files that others wrote are read.
typedef struct PublishedOptions {
  const WeightMaps *maps;           // the model's
  const char *const *allow_missing; // globs of names, ours or the file's
  size_t allow_count;
  Text *report; // gets a line on what was loaded, or the table of what does not fit; NULL: neither
} PublishedOptions;

// A block that names tensors of a file, all of which may stand behind one more prefix ("transformer.").
typedef struct PublishedLayout {
  const WeightMap *map; // NULL: no block names any
  const char *prefix;
  size_t found; // tensors of the block that the file has
} PublishedLayout;

// The block of `part` (NULL: of any) with the most tensors in the file. Strings live in `arena`.
PublishedLayout published_match(const WeightFile *file, const WeightMaps *maps, const char *part,
                                Arena *arena);

// Every parameter of the block's part that the store holds gets its value. Fails, with the store as it was,
// where a tensor is missing, has another shape, or is there without a line in the block.
bool published_load(const WeightFile *file, const PublishedLayout *layout, const PublishedOptions *options,
                    TensorStore *store, Failure *failure);

bool published_allows(const PublishedOptions *options, const char *name); // to be missing

// Writes the block's tensors, from a store that has all of their parameters, in f32, as safetensors.
bool published_save(const char *path, const WeightMap *map, TensorStore *store, Failure *failure);
// The same as GGUF, whose metadata gets what the block notes. Matrices are written in `matrices` (F32, F16,
// BF16, Q8_0 or Q4_0), as llama.cpp has them: two axes, no table of positions; rows that are no whole number
// of blocks in F16. The rest is F32. `report` (NULL: none) gets a line on how many tensors are in which
// format.
bool published_save_gguf(const char *path, const WeightMap *map, WeightFormat matrices,
                         GgufMetadata *metadata, TensorStore *store, Text *report, Failure *failure);

#endif
