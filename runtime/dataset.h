// A data set: DIR/<name>.jsonl, one row a line, pictures beside it.
//
//   {"image": "images/7.png", "caption": "a red circle"}
//   {"image": "train-images-idx3-ubyte.gz#17", "prompt": "what is it?", "answer": "a bag"}
//   {"image": ["7.png", "8.png"], "turns": [{"prompt": "...", "answer": "..."},
//                                           {"image": "9.png", "prompt": "...", "answer": "..."}, ...]}
//   {"text": "..."}
//
// "image" is one path or several; of a conversation's, the first turn shows those of the row, each turn its
// own. It may be left out of the first three. "kind" (a word, for reports: "yes/no") may be added to any,
// "system" (the system's text) to rows with turns. Other keys are errors. An image's path is relative to DIR,
// and neither absolute nor does it contain "..".
//
// Rows as LLaVA and minimind-v publish them are read as well, also from DIR/<name>.json, an array of them:
//
//   {"id": "7", "image": "7.jpg", "conversations": [{"from": "human", "value": "<image>\nwhat is it?"},
//                                                   {"from": "gpt", "value": "a bag"}, ...]}
//   {"image": "7.jpg", "conversations": [{"role": "system", "content": "..."},
//                                        {"role": "user", "content": "..."},
//                                        {"role": "assistant", "content": "..."}, ...]}
//
// "<image>" says in which turn a picture is shown, without it all are in the first; it goes from the text
// with the white space around the text, as LLaVA's own trainer has it: where pictures stand in a turn is the
// template's matter. "id" and "model" are not looked at.
#ifndef VLMC_RUNTIME_DATASET_H
#define VLMC_RUNTIME_DATASET_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

typedef struct Turn {
  const char *prompt, *answer;
  int pictures; // shown with the prompt: the next so many of the conversation's
} Turn;

// Exactly one of caption, text and turns is there.
typedef struct Row {
  const char **images; // in order; relative to the data set's folder, perhaps with "#index"
  size_t image_count;
  const char *system; // NULL: the template's
  const char *caption;
  const char *text;
  Turn *turns;
  int turn_count;
  const char *kind; // NULL: none
} Row;

typedef struct Dataset Dataset;

enum { DATASET_MAX_LINE = 16 << 20 }; // bytes

// DIR/<name>.jsonl; DIR/<name>.json where only that exists.
const char *dataset_find(Arena *arena, const char *folder, const char *name);
// Maps DIR/<name>.jsonl, or DIR/<name>.json where that is missing, and finds its rows (empty lines do not
// count). Fails when there is none.
bool dataset_open(const char *folder, const char *name, Dataset **out, Failure *failure);
void dataset_close(Dataset *dataset); // accepts NULL
size_t dataset_count(const Dataset *dataset);
const char *dataset_folder(const Dataset *dataset);
const char *dataset_path(const Dataset *dataset); // of the file

// Parses one row into `arena`; messages name file, line and what was expected. Safe from several threads.
bool dataset_row(const Dataset *dataset, size_t index, Arena *arena, Row *row, Failure *failure);
size_t dataset_line(const Dataset *dataset, size_t index); // 1-based line in the file where a row begins

// One line's text to a row; `place` is "file:line". dataset_row is this on the mapped file.
bool dataset_parse(const char *line, size_t length, const char *place, Arena *arena, Row *row,
                   Failure *failure);

#endif
