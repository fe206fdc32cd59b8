// How a published checkpoint lays out a model's parameters. The compiler fills a WeightMap per `weights`
// block of the model file; the runtime loads (load.c) and saves (save.c) published tensors by it. Plain data;
// all memory belongs to whoever filled it.
//
//   for v in bounds: parameter[ours(v)] = tensor[theirs(v)]   per row; both sides affine per axis, one to one
#ifndef VLMC_RUNTIME_WEIGHTS_MAP_H
#define VLMC_RUNTIME_WEIGHTS_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAP_MAX_RANK = 8, MAP_MAX_VARIABLES = 8 };

// offset + factors[0] * v0 + factors[1] * v1 + ..
typedef struct MapIndex {
  int64_t offset, factors[MAP_MAX_VARIABLES];
} MapIndex;

// Transposition, slices, stacking and interleaving are all rows; a parameter may have several, which cover it
// without overlap.
typedef struct MapRow {
  const char *parameter; // "blocks.3.attn.qkv.weight"
  const char *tensor;    // "h.3.attn.c_attn.weight"
  int rank, tensor_rank, variable_count;
  int64_t extents[MAP_MAX_RANK];                     // of the parameter
  int64_t tensor_extents[MAP_MAX_RANK];              // as far as all rows of the map reach
  int64_t bounds[MAP_MAX_VARIABLES];                 // at least 1
  MapIndex ours[MAP_MAX_RANK], theirs[MAP_MAX_RANK]; // within the extents for all values of the variables
  const char
      *settings[MAP_MAX_RANK]; // the configuration that sets this axis of the tensor, "lm.vocab", or NULL
  const char *origin;          // the model line that wants it, "models/gpt.vlm:34"
} MapRow;

// A tensor that some files have beside the one that a parameter is mapped to, with the same elements.
typedef struct MapCopy {
  const char *parameter; // "token"
  const char *tensor;    // "lm_head.weight"
  const char *of;        // "model.embed_tokens.weight"
  const char *setting;   // "lm.tied", which would have to be false for the two to differ; or NULL
  const char *origin;
} MapCopy;

// `for l in depth with "h.{l}"`: how many numbers the file has between `before` and `after` says what depth
// is. `for l in used` where `used = depth + 1 + feature`: it also does, one layer more or less.
typedef struct MapLoop {
  const char *setting, *before, *after; // "lm.depth", "h.", ""
  int64_t count, value;                 // of the loop, and of the setting
} MapLoop;

// What a written file says beside its tensors.
typedef struct MapNote {
  const char *key;
  enum { NOTE_TEXT, NOTE_TRUTH, NOTE_WHOLE, NOTE_REAL, NOTE_WHOLES, NOTE_REALS } kind;
  const char *text;
  const double *numbers; // `count` of them where the kind is no text
  size_t count;
} MapNote;

typedef struct WeightMap {
  const char *part;              // whose parameters these are: "vision", "" for the whole model
  const char *name, *repository; // "clip", "openai/clip-vit-base-patch16" or NULL
  const char *origin;            // of the block
  MapRow *rows;
  size_t row_count, row_capacity;
  const char **ignored; // globs of tensors that mean nothing to the model
  size_t ignored_count, ignored_capacity;
  const char **omitted; // what some files leave out of their names, "vision_model."
  size_t omitted_count, omitted_capacity;
  MapCopy *copies;
  size_t copy_count, copy_capacity;
  MapLoop *loops;
  size_t loop_count, loop_capacity;
  MapNote *notes;
  size_t note_count, note_capacity;
  const char *partial; // a tensor that the rows do not cover, so that none can be written; or NULL
} WeightMap;

typedef struct WeightMaps {
  WeightMap *list;
  size_t count, capacity;
} WeightMaps;

// Whether the row copies the whole tensor element by element in the same order.
bool map_is_identity(const MapRow *row);
// Both sides are whole and row-major.
void map_copy_in(const MapRow *row, const float *tensor, float *parameter);
void map_copy_out(const MapRow *row, const float *parameter, float *tensor);

// Rows in the order of their parameters' names (`by_tensor`: of their tensors'); equal names in the block's
// order.
const MapRow **map_sorted(const WeightMap *map, bool by_tensor); // free() it
// All rows of a name are list[*first] .. list[*first + result - 1].
size_t map_find(const MapRow *const *list, size_t count, bool by_tensor, const char *name, size_t *first);

bool map_glob(const char *pattern, const char *name); // `*` and `?`

#endif
