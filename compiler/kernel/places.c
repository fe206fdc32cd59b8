// The model lines that a kernel implements. Input: a kernel's spans and the sources; output: each line once,
// as tables, comments and the text form show it.
#include "compiler/kernel/kernel.h"

#include <string.h>

enum { SHOWN_BYTES = 200 }; // of a line

static bool is_blank(char c) { return c && strchr(" \t\r\v\f", c); }

// The text of the line that a span begins in, without the blanks around it.
static void find_text(const Source *source, size_t begin, KernelPlace *place) {
  if (begin > source->length) begin = source->length;
  while (begin && source->text[begin - 1] != '\n') begin--;
  while (is_blank(source->text[begin])) begin++;
  size_t length = strcspn(source->text + begin, "\n");
  if (length > SHOWN_BYTES)
    for (length = SHOWN_BYTES; length && (source->text[begin + length] & 0xc0) == 0x80;) length--;
  while (length && is_blank(source->text[begin + length - 1])) length--;
  place->text = source->text + begin;
  place->length = length;
}

int kernel_places(const Kernel *kernel, const Sources *sources, KernelPlace places[KERNEL_MAX_PLACES]) {
  int count = 0;
  for (size_t i = 0; i < kernel->span_count && count < KERNEL_MAX_PLACES; i++) {
    Span span = kernel->spans[i];
    if (!span.source || span.source >= sources->count) continue;
    const Source *source = &sources->list[span.source];
    KernelPlace place = {.path = source->path, .line = span_line(sources, span)};
    bool known = false;
    for (int k = 0; k < count && !known; k++)
      known = places[k].line == place.line && !strcmp(places[k].path, place.path);
    if (known) continue;
    find_text(source, span.begin, &place);
    places[count++] = place;
  }
  return count;
}

// A path may hold any bytes, but a place is one line of text and ends its path at two blanks: what would
// break that is shown as a question mark.
static void print_path(const char *path, Text *text) {
  char before = ' ';
  for (; *path; before = *path++) {
    bool odd = (unsigned char)*path < ' ' || *path == 127 || (*path == ' ' && before == ' ');
    text_add(text, odd ? "?" : path, 1);
  }
}

void kernel_place_print(const KernelPlace *place, Text *text) {
  print_path(place->path, text);
  text_print(text, place->length ? ":%d  " : ":%d", place->line);
  for (size_t i = 0; i < place->length; i++) {
    char c = place->text[i];
    bool odd = ((unsigned char)c < ' ' && c != '\t') || c == 127;
    text_add(text, odd ? "?" : &c, 1);
  }
}

void kernel_lines(const Kernel *kernel, const Sources *sources, Text *text) {
  KernelPlace places[KERNEL_MAX_PLACES];
  int count = kernel_places(kernel, sources, places);
  for (int i = 0; i < count; i++) text_print(text, "%s%s:%d", i ? ", " : "", places[i].path, places[i].line);
}
