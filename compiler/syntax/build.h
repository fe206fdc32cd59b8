// What lexer.l and parser.y share: the state of one parse, and the builders that grammar actions call.
#ifndef VLMC_COMPILER_SYNTAX_BUILD_H
#define VLMC_COMPILER_SYNTAX_BUILD_H

#include "compiler/syntax/ast.h"

typedef struct Parser {
  Arena *arena;
  Diagnostics *diagnostics;
  uint32_t source;
  size_t offset;   // of the next token
  int start;       // token that selects the grammar's start, given to it first; then 0
  int last;        // token before
  bool line_ended; // a line's end inside of brackets was passed over: the last one at `line_end`
  size_t line_end;
  char brackets[AST_MAX_DEPTH]; // open ones: '(' '[' '{'
  Span opened[AST_MAX_DEPTH];   // where
  size_t open;
  bool too_deep; // reported
  Ast *result;
} Parser;

// A node of the given fields over `span`; `list` (may be NULL) is a LIST whose elements become the node's.
Ast *ast_make(Parser *parser, Span span, Ast fields, const Ast *list);
Ast *ast_list(Parser *parser, Span span);                  // an empty LIST
Ast *ast_add(Parser *parser, Ast *list, Ast *element);     // the list
Ast *ast_join(Parser *parser, Ast *list, const Ast *more); // all of `more` added
Ast *ast_binary(Parser *parser, Span span, const char *op, Ast *a, Ast *b);

// `sum[i] product`. Reported: a product that begins with a bracket and goes on after it, which people read
// both ways.
Ast *ast_reduce(Parser *parser, Span span, const char *text, const Ast *names, Ast *product, Span place);
Ast *ast_called(Parser *parser, Span span, Ast *path, const Ast *arguments); // a SETTING `path(arguments)`
// The text of a string token, quotes included: its escapes resolved; NULL: an unknown escape, reported.
const char *ast_unquote(Parser *parser, Span span, const char *token, size_t length);

#endif
