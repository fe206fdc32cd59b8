// Failures and the one function that ends the program on a broken invariant.
#include "runtime/base/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void fill(Failure *failure, bool internal, const char *format, va_list arguments) {
  failure->internal = internal;
  vsnprintf(failure->message, sizeof failure->message, format, arguments);
}

bool fail(Failure *failure, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fill(failure, false, format, arguments);
  va_end(arguments);
  return false;
}

bool fail_internal(Failure *failure, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fill(failure, true, format, arguments);
  va_end(arguments);
  return false;
}

_Noreturn void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("vlmc: internal error: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(2);
}
