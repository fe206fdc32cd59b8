// Runs the generated lexer and parser over a source: text -> FILE or expression.
#include "compiler/syntax/build.h"

#include "parser.h"
#include "lexer.h" // after parser.h, whose types it takes

#include <string.h>

// Offset of the first byte that is not UTF-8, or `length`. Overlong forms and surrogates are not.
static size_t first_not_utf8(const unsigned char *text, size_t length) {
  size_t i = 0;
  while (i < length) {
    unsigned char lead = text[i];
    size_t more = lead < 0x80                   ? 0
                  : lead >= 0xc2 && lead < 0xe0 ? 1
                  : (lead & 0xf0) == 0xe0       ? 2
                  : lead >= 0xf0 && lead < 0xf5 ? 3
                                                : 4;
    if (more == 4 || more >= length - i) return i;
    for (size_t j = 1; j <= more; j++)
      if ((text[i + j] & 0xc0) != 0x80) return i;
    bool bad = (lead == 0xe0 && text[i + 1] < 0xa0) || (lead == 0xed && text[i + 1] > 0x9f) ||
               (lead == 0xf0 && text[i + 1] < 0x90) || (lead == 0xf4 && text[i + 1] > 0x8f);
    if (bad) return i;
    i += more + 1;
  }
  return length;
}

static bool check_bytes(Diagnostics *diagnostics, uint32_t index) {
  const Source *source = &diagnostics->sources->list[index];
  const unsigned char *text = (const unsigned char *)source->text;
  size_t at = first_not_utf8(text, source->length);
  for (size_t i = 0; i < at; i++) {
    bool control = (text[i] < 32 && text[i] != '\t' && text[i] != '\n' && text[i] != '\r') || text[i] == 127;
    if (control) at = i;
  }
  if (at == source->length) return true;
  Span span = {index, (uint32_t)at, (uint32_t)at + 1};
  error_at(diagnostics, span, "byte 0x%02x does not belong into a text file (UTF-8)", text[at]);
  return false;
}

static Ast *parse(Arena *arena, Diagnostics *diagnostics, uint32_t source, size_t begin, int start) {
  Parser *parser = ARENA_NEW(arena, Parser);
  *parser = (Parser){.arena = arena, .diagnostics = diagnostics, .source = source, .start = start};
  const Source *text = &diagnostics->sources->list[source];
  int errors = diagnostics->errors;
  yyscan_t scanner;
  if (!check_bytes(diagnostics, source)) return NULL;
  if (!begin && text->length >= 3 && !memcmp(text->text, "\xef\xbb\xbf", 3)) begin = 3; // byte order mark
  parser->offset = begin;
  if (yylex_init_extra(parser, &scanner)) die("out of memory");
  yy_scan_bytes(text->text + begin, (int)(text->length - begin), scanner);
  int status = yyparse(scanner, parser);
  yylex_destroy(scanner);
  if (status && diagnostics->errors == errors) die("the parser failed without a message");
  return diagnostics->errors > errors ? NULL : parser->result;
}

Ast *ast_parse(Arena *arena, Diagnostics *diagnostics, uint32_t source) {
  return parse(arena, diagnostics, source, 0, START_FILE);
}

Ast *ast_parse_expression(Arena *arena, Diagnostics *diagnostics, uint32_t source, size_t begin) {
  return parse(arena, diagnostics, source, begin, START_EXPRESSION);
}
