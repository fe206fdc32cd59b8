// Messages with the user's line and a caret under the place.
#include "runtime/base/diagnostics.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static size_t line_start(const Source *source, size_t offset) {
  while (offset && source->text[offset - 1] != '\n') offset--;
  return offset;
}

// The source line, then a caret and tildes under the part of the span that lies on it.
static void show_line(Text *text, const Source *source, Span span, int line) {
  size_t begin = span.begin < source->length ? span.begin : source->length;
  size_t start = line_start(source, begin), stop = start + strcspn(source->text + start, "\n");
  text_print(text, "%5d | %.*s\n      | ", line, (int)(stop - start), source->text + start);
  for (size_t i = start; i < begin; i++) {
    if (source->text[i] == '\t')
      text_print(text, "\t");
    else if ((source->text[i] & 0xc0) != 0x80)
      text_print(text, " ");
  }
  text_print(text, "^");
  for (size_t i = begin + 1; i < span.end && i < stop; i++)
    if ((source->text[i] & 0xc0) != 0x80) text_print(text, "~");
  text_print(text, "\n");
}

static void report(Diagnostics *diagnostics, Span span, const char *kind, const char *format,
                   va_list arguments) {
  if (diagnostics->errors > DIAGNOSTICS_MAX_ERRORS) return;
  Text *text = &diagnostics->text;
  char message[2000];
  vsnprintf(message, sizeof message, format, arguments);
  if (!span.source || span.source >= diagnostics->sources->count) {
    text_print(text, "vlmc: %s: %s\n", kind, message);
    return;
  }
  const Source *source = &diagnostics->sources->list[span.source];
  int line, column;
  span_locate(diagnostics->sources, span, &line, &column);
  size_t start = text->length;
  text_print(text, "%s:%d:%d: %s: %s\n", source->path, line, column, kind, message);
  if (strstr(text_string(text), text->bytes + start) != text->bytes + start) { // said before
    text->bytes[text->length = start] = 0;
    return;
  }
  show_line(text, source, span, line);
}

void error_at(Diagnostics *diagnostics, Span span, const char *format, ...) {
  diagnostics->errors++;
  va_list arguments;
  va_start(arguments, format);
  report(diagnostics, span, "error", format, arguments);
  va_end(arguments);
}

void note_at(Diagnostics *diagnostics, Span span, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  report(diagnostics, span, "note", format, arguments);
  va_end(arguments);
}
