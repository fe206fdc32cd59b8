// Builders of syntax nodes, called by the grammar's actions.
#include "compiler/syntax/build.h"

#include <string.h>

const char *ast_kind_name(AstKind kind) {
  static const char *const names[AST_KIND_COUNT] = {
#define KIND(name) #name,
      AST_KINDS(KIND)
#undef KIND
  };
  return names[kind];
}

static void deepen(Parser *parser, Ast *node, const Ast *child) {
  if (!child || child->depth < node->depth) return;
  if (child->depth < AST_MAX_DEPTH) {
    node->depth = (uint16_t)(child->depth + 1);
    return;
  }
  node->depth = AST_MAX_DEPTH;
  if (!parser->too_deep) error_at(parser->diagnostics, node->span, "nested more than %d deep", AST_MAX_DEPTH);
  parser->too_deep = true;
}

Ast *ast_make(Parser *parser, Span span, Ast fields, const Ast *list) {
  Ast *node = ARENA_NEW(parser->arena, Ast);
  *node = fields;
  node->span = span;
  const Ast *children[] = {node->a, node->b, node->c, node->d};
  for (int i = 0; i < 4; i++) deepen(parser, node, children[i]);
  if (!list) return node;
  node->list = list->list, node->count = list->count, node->capacity = list->capacity;
  for (size_t i = 0; i < node->count; i++) deepen(parser, node, node->list[i]);
  return node;
}

Ast *ast_list(Parser *parser, Span span) { return ast_make(parser, span, (Ast){.kind = AST_LIST}, NULL); }

Ast *ast_add(Parser *parser, Ast *list, Ast *element) {
  if (!element) return list;
  ARENA_PUSH(parser->arena, list->list, list->count, list->capacity, element);
  list->span = span_join(list->span, element->span);
  deepen(parser, list, element);
  return list;
}

Ast *ast_join(Parser *parser, Ast *list, const Ast *more) {
  for (size_t i = 0; i < more->count; i++) ast_add(parser, list, more->list[i]);
  return list;
}

Ast *ast_binary(Parser *parser, Span span, const char *op, Ast *a, Ast *b) {
  return ast_make(parser, span, (Ast){.kind = AST_BINARY, .text = op, .a = a, .b = b}, NULL);
}

// Offset of the bracket that closes the one at `open`, or `end`. Texts in quotes are passed over.
static size_t closing(const char *text, size_t open, size_t end) {
  int depth = 0;
  for (size_t i = open; i < end; i++) {
    if (text[i] == '"')
      for (i++; i < end && text[i] != '"'; i++) i += text[i] == '\\';
    else if (text[i] == '#')
      i += strcspn(text + i, "\n");
    else if (text[i] == '(')
      depth++;
    else if (text[i] == ')' && --depth == 0)
      return i;
  }
  return end;
}

Ast *ast_reduce(Parser *parser, Span span, const char *text, const Ast *names, Ast *product, Span place) {
  const char *source = parser->diagnostics->sources->list[parser->source].text;
  if (source[place.begin] == '(' && closing(source, place.begin, place.end) + 1 < place.end) {
    const char *axis = names->list[0]->text;
    error_at(parser->diagnostics, span,
             "where does this %s end? Write %s[%s](..) for the bracket alone, %s[%s] ((..) * ..) "
             "for the whole product",
             text, text, axis, text, axis);
  }
  return ast_make(parser, span, (Ast){.kind = AST_REDUCE, .text = text, .a = product}, names);
}

Ast *ast_called(Parser *parser, Span span, Ast *path, const Ast *arguments) {
  Ast *call = ast_make(parser, span, (Ast){.kind = AST_CALL, .a = path}, arguments);
  Text text = {0};
  ast_print(path, &text);
  const char *name = arena_copy(parser->arena, text_string(&text), text.length);
  text_free(&text);
  Ast *items = ast_add(parser, ast_list(parser, span), call);
  return ast_make(parser, span, (Ast){.kind = AST_SETTING, .text = name}, items);
}

const char *ast_unquote(Parser *parser, Span span, const char *token, size_t length) {
  char *text = arena_alloc(parser->arena, length);
  size_t used = 0;
  for (size_t i = 1; i + 1 < length; i++) {
    if (token[i] != '\\') {
      text[used++] = token[i];
      continue;
    }
    static const char escapes[] = "n\nt\t\"\"\\\\";
    size_t at = 0;
    i++;
    while (escapes[at] && escapes[at] != token[i]) at += 2;
    if (!escapes[at]) {
      Span place = {span.source, span.begin + (uint32_t)i - 1, span.begin + (uint32_t)i + 1};
      error_at(parser->diagnostics, place, "`\\%c` is not an escape; there are \\n \\t \\\" \\\\", token[i]);
      return NULL;
    }
    text[used++] = escapes[at + 1];
  }
  return text;
}
