// A data set: DIR/<name>.jsonl, one row a line, pictures beside it.
//
//   {"image": "images/7.png", "caption": "a red circle"}
//   {"image": "train-images-idx3-ubyte.gz#17", "prompt": "what is it?", "answer": "a bag"}
//   {"image": "7.png", "turns": [{"prompt": "...", "answer": "..."}, ...]}
//   {"text": "..."}
//
// "image" may be left out of the first three. "kind" (a word, for reports: "yes/no") may be added to any.
// Other keys are errors. An image's path is relative to DIR, and neither absolute nor does it contain "..".
#ifndef VLMC_RUNTIME_DATASET_H
#define VLMC_RUNTIME_DATASET_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

typedef struct Turn {
  const char *prompt, *answer;
} Turn;

// Exactly one of caption, text and turns is there.
typedef struct Row {
  const char *image; // relative to the data set's folder, perhaps with "#index"; NULL: none
  const char *caption;
  const char *text;
  Turn *turns;
  int turn_count;
  const char *kind; // NULL: none
} Row;

typedef struct Dataset Dataset;

enum { DATASET_MAX_LINE = 16 << 20 }; // bytes

// Maps DIR/<name>.jsonl and finds its lines (empty ones do not count). Fails when there is no row.
bool dataset_open(const char *folder, const char *name, Dataset **out, Failure *failure);
void dataset_close(Dataset *dataset); // accepts NULL
size_t dataset_count(const Dataset *dataset);
const char *dataset_folder(const Dataset *dataset);
const char *dataset_path(const Dataset *dataset); // DIR/<name>.jsonl

// Parses one row into `arena`; messages name file, line and what was expected. Safe from several threads.
bool dataset_row(const Dataset *dataset, size_t index, Arena *arena, Row *row, Failure *failure);
size_t dataset_line(const Dataset *dataset, size_t index); // 1-based line of a row in the file

// One line's text to a row; `place` is "file:line". dataset_row is this on the mapped file.
bool dataset_parse(const char *line, size_t length, const char *place, Arena *arena, Row *row,
                   Failure *failure);

#endif
