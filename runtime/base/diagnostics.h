// Messages about model source, in the form
//
//   models/gpt.vlm:12:7: error: axis `D` is 768 here but 3072 there
//     12 |   x = x + y
//        |       ^~~~~
//   models/gpt.vlm:9:3: note: it got 3072 here
//
// A user's error is reported and work goes on, up to 20, so that one run shows them all; whoever asked for
// the work then checks `errors` and stops with exit status 1.
#ifndef VLMC_BASE_DIAGNOSTICS_H
#define VLMC_BASE_DIAGNOSTICS_H

#include "runtime/base/source.h"
#include "runtime/base/text.h"

typedef struct Diagnostics {
  Sources *sources;
  int errors;
  Text text; // everything reported so far, printed by the caller of the compiler (or compared by a test)
} Diagnostics;

enum { DIAGNOSTICS_MAX_ERRORS = 20 }; // later ones are counted, not shown

void error_at(Diagnostics *diagnostics, Span span, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Belongs to the error before it.
void note_at(Diagnostics *diagnostics, Span span, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
