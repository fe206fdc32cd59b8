// A template's form, "...{prompt}...{answer}...", as a list of parts: what of it is text, what a special
// token, and where the parts of a conversation stand.
#ifndef VLMC_RUNTIME_FORM_H
#define VLMC_RUNTIME_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"

typedef enum PartKind {
  PART_TEXT,
  PART_SPECIAL,
  PART_IMAGE,  // its text: the line break or blank straight after it, which goes with it
  PART_SYSTEM, // {system}
  PART_PROMPT, // {prompt}
  PART_ANSWER, // {answer}; its text: the blanks straight before it, which the model writes too
  PART_KINDS
} PartKind;

typedef struct Part {
  PartKind kind;
  const char *text; // inside of the form's own
  size_t length;
} Part;

typedef struct Form {
  Part *parts;
  size_t count, capacity;
  int seen[PART_KINDS]; // parts of each kind
} Form;

// Spellings of special tokens.
typedef struct Spellings {
  const char **list;
  size_t *lengths;
  size_t count, capacity;
} Spellings;
void spellings_add(Arena *arena, Spellings *spellings, const char *text, size_t length);

// How often each part may, and must, stand in a form.
typedef struct FormRules {
  const char *name; // for messages
  bool image, system, prompt, answer, needs_answer, needs_system;
} FormRules;

// `text` (NULL: an empty form) has to outlive the form. `image`: the spelling of a picture's place, or NULL.
bool form_parse(Arena *arena, const char *text, const Spellings *specials, const char *image,
                const FormRules *rules, Form *form, Failure *failure);

#endif
