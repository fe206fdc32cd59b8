// A template's forms, "...{prompt}...{answer}...", as lists of parts: what of one is text, what a special
// token, and where the parts of a conversation stand.
#ifndef VLMC_RUNTIME_FORM_H
#define VLMC_RUNTIME_FORM_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/arena.h"
#include "runtime/base/failure.h"
#include "runtime/recipe.h"

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

// Those that a template does not have are empty.
typedef struct Forms {
  Form begin, system, turn, caption;
} Forms;

// Where a template is wrong, for whoever has the model file at hand.
typedef struct FormFault {
  const char *setting; // "turn"; NULL: the template as a whole
  const char *at;      // inside of that setting's text; NULL: all of it
  size_t length;
} FormFault;

// The template has to outlive the forms. `fault` may be NULL.
bool forms_parse(Arena *arena, const Template *template, const Spellings *specials, Forms *forms,
                 FormFault *fault, Failure *failure);

#endif
