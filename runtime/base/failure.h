// How a runtime function says what went wrong: it returns false and fills a Failure with one sentence
// that names the file, the place in it and the reason. The caller decides who hears it. Compiler code that
// has a span of model source uses diagnostics.h instead.
#ifndef VLMC_BASE_FAILURE_H
#define VLMC_BASE_FAILURE_H

#include <stdbool.h>

typedef struct Failure {
  bool internal;       // our own fault (exit 2) rather than the user's or the input's (exit 1)
  char message[1000];
} Failure;

// Both return false, so that `return fail(failure, "...")` reads as it acts.
bool fail(Failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool fail_internal(Failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));

// A broken invariant of our own: prints "vlmc: internal error: ..." and exits with 2.
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
