// The tree as source text, canonically laid out: a dump that parses back to the same tree.
#include "compiler/syntax/ast.h"

#include <string.h>

static void expression(Text *text, const Ast *ast, int outer);
static void line(Text *text, const Ast *ast, int depth);

// How tightly an expression binds; operands that bind less get parentheses.
enum { CONDITION = 1, OR, AND, NOT, COMPARISON, SUM, PRODUCT, REDUCTION, NEGATIVE, POWER, POSTFIX };

static int binary_level(const char *op) {
  if (!strcmp(op, "or")) return OR;
  if (!strcmp(op, "and")) return AND;
  if (strchr("+-", *op)) return SUM;
  if (strchr("*/%", *op)) return PRODUCT;
  return *op == '^' ? POWER : COMPARISON;
}

// `sum[e] x * y` is a product that nothing can follow; one whose text would begin with `(` is written
// sum[e](..).
static bool opens_with_bracket(const Ast *ast) {
  Text text = {0};
  expression(&text, ast, PRODUCT);
  bool opens = *text_string(&text) == '(';
  text_free(&text);
  return opens;
}

static bool ends_in_reduction(const Ast *ast) {
  switch (ast->kind) {
  case AST_REDUCE: return true;
  case AST_UNARY: return *ast->text == '-' && ends_in_reduction(ast->a);
  case AST_BINARY: return binary_level(ast->text) == PRODUCT && ends_in_reduction(ast->b);
  default: return false;
  }
}

static int level(const Ast *ast) {
  switch (ast->kind) {
  case AST_CONDITION: return CONDITION;
  case AST_BINARY: return binary_level(ast->text);
  case AST_UNARY: return *ast->text == 'n' ? NOT : ends_in_reduction(ast->a) ? REDUCTION : NEGATIVE;
  case AST_REDUCE: return REDUCTION;
  case AST_LABELLED: return POWER;
  default: return POSTFIX;
  }
}

static void list(Text *text, const char *open, Ast *const *items, size_t count, const char *close) {
  text_print(text, "%s", open);
  for (size_t i = 0; i < count; i++) {
    if (i) text_print(text, ", ");
    expression(text, items[i], CONDITION);
  }
  text_print(text, "%s", close);
}

static void string(Text *text, const char *value) {
  static const char escapes[] = "\nn\tt\"\"\\\\";
  text_print(text, "\"");
  for (; *value; value++) {
    size_t at = 0;
    while (escapes[at] && escapes[at] != *value) at += 2;
    if (escapes[at])
      text_print(text, "\\%c", escapes[at + 1]);
    else
      text_add(text, value, 1);
  }
  text_print(text, "\"");
}

static void binary(Text *text, const Ast *ast) {
  int own = binary_level(ast->text);
  if (own == POWER) {
    expression(text, ast->a, POSTFIX);
    text_print(text, "^");
    expression(text, ast->b, NEGATIVE);
    return;
  }
  bool tight = *ast->text == '*' || *ast->text == '/' || *ast->text == '%';
  bool reduction = tight && level(ast->b) == REDUCTION; // may stand last in a product, without parentheses
  expression(text, ast->a, own == COMPARISON ? SUM : tight && ends_in_reduction(ast->a) ? POSTFIX : own);
  text_print(text, " %s ", ast->text);
  expression(text, ast->b, reduction ? REDUCTION : own == COMPARISON ? SUM : tight ? NEGATIVE : own + 1);
}

static void reduce(Text *text, const Ast *ast) {
  text_print(text, "%s", ast->text);
  list(text, "[", ast->list, ast->count, "]");
  if (level(ast->a) < PRODUCT || opens_with_bracket(ast->a)) {
    text_print(text, "(");
    expression(text, ast->a, CONDITION);
    text_print(text, ")");
    return;
  }
  text_print(text, " ");
  expression(text, ast->a, PRODUCT);
}

static void inside(Text *text, const Ast *ast) {
  switch (ast->kind) {
  case AST_CONDITION:
    expression(text, ast->a, OR);
    text_print(text, " if ");
    expression(text, ast->b, OR);
    text_print(text, " else ");
    expression(text, ast->c, CONDITION);
    break;
  case AST_BINARY: binary(text, ast); break;
  case AST_UNARY:
    text_print(text, *ast->text == 'n' ? "not " : "-");
    expression(text, ast->a, *ast->text == 'n' ? NOT : level(ast->a) == REDUCTION ? REDUCTION : NEGATIVE);
    break;
  case AST_REDUCE: reduce(text, ast); break;
  case AST_LABELLED:
    text_print(text, "%s: ", ast->text);
    expression(text, ast->a, POSTFIX);
    break;
  case AST_CALL:
    expression(text, ast->a, POSTFIX);
    list(text, "(", ast->list, ast->count, ")");
    break;
  case AST_ARG:
    if (ast->text) text_print(text, "%s = ", ast->text);
    expression(text, ast->a, CONDITION);
    break;
  case AST_INDEX:
    expression(text, ast->a, POSTFIX);
    list(text, "[", ast->list, ast->count, "]");
    break;
  case AST_SLICE:
    if (ast->a) expression(text, ast->a, CONDITION);
    text_print(text, ":");
    if (ast->b) expression(text, ast->b, CONDITION);
    break;
  case AST_DOTS: text_print(text, ".."); break;
  case AST_MEMBER:
    expression(text, ast->a, POSTFIX);
    text_print(text, ".%s", ast->text);
    break;
  case AST_LIST: list(text, "[", ast->list, ast->count, "]"); break;
  case AST_NAME: text_print(text, "%s", ast->text); break;
  case AST_NUMBER: text_number(text, ast->number); break;
  case AST_STRING: string(text, ast->text); break;
  case AST_BOOL: text_print(text, ast->number != 0 ? "true" : "false"); break;
  default: die("%s is not an expression", ast_kind_name(ast->kind));
  }
}

static void expression(Text *text, const Ast *ast, int outer) {
  bool brackets = level(ast) < outer;
  if (brackets) text_print(text, "(");
  inside(text, ast);
  if (brackets) text_print(text, ")");
}

// ---- statements and declarations ----------------------------------------------------------------

static void indent(Text *text, int depth) { text_print(text, "%*s", 2 * depth, ""); }

static void block(Text *text, const Ast *ast, int depth) {
  text_print(text, " {\n");
  for (size_t i = 0; i < ast->count; i++) line(text, ast->list[i], depth + 1);
  indent(text, depth);
  text_print(text, "}");
}

static void parameter(Text *text, const Ast *ast) {
  text_print(text, "%s", ast->text);
  if (ast->dtype) text_print(text, ": %s", ast->dtype);
  if (ast->has_axes) list(text, "[", ast->list, ast->count, "]");
  if (!ast->a) return;
  text_print(text, " = ");
  expression(text, ast->a, CONDITION);
}

static void parameters(Text *text, Ast *const *items, size_t count) {
  text_print(text, "(");
  for (size_t i = 0; i < count; i++) {
    if (i) text_print(text, ", ");
    parameter(text, items[i]);
  }
  text_print(text, ")");
}

static void result(Text *text, const Ast *ast) {
  if (!ast) return;
  text_print(text, " -> %s", ast->text ? ast->text : "");
  list(text, "[", ast->list, ast->count, "]");
}

static void function(Text *text, const Ast *ast, int depth) {
  if (ast->kind == AST_FUNCTION)
    text_print(text, "fn ");
  else
    text_print(text, ast->kind == AST_LAYER ? "layer " : "model ");
  text_print(text, "%s", ast->text);
  parameters(text, ast->list, ast->count);
  if (ast->d) text_print(text, " "), parameters(text, ast->d->list, ast->d->count);
  result(text, ast->b);
  if (ast->c->kind == AST_BLOCK) {
    block(text, ast->c, depth);
  } else {
    text_print(text, " = ");
    expression(text, ast->c, CONDITION);
  }
}

static void print_bounds(Text *text, const Ast *bounds) {
  for (size_t i = 0; bounds && i < bounds->count; i++) {
    text_print(text, "%s%s < ", i ? ", " : " for ", bounds->list[i]->text);
    expression(text, bounds->list[i]->a, SUM);
  }
}

static void assign(Text *text, const Ast *ast) {
  list(text, "", ast->list, ast->count, " = ");
  expression(text, ast->a, CONDITION);
  if (ast->b) {
    text_print(text, " where ");
    expression(text, ast->b, CONDITION);
  }
  print_bounds(text, ast->c);
}

static void param(Text *text, const Ast *ast) {
  text_print(text, "param %s", ast->text);
  if (ast->has_axes) list(text, "[", ast->list, ast->count, "]");
  text_print(text, ast->a ? " = " : " ~ ");
  expression(text, ast->a ? ast->a : ast->d, ast->a && ast->b ? OR : ast->a ? CONDITION : POSTFIX);
  if (!ast->b) return;
  text_print(text, " if ");
  expression(text, ast->b, ast->a ? OR : CONDITION);
}

static void setting(Text *text, const Ast *ast) {
  bool called = ast->count == 1 && ast->list[0]->kind == AST_CALL;
  if (called) { // the setting's text is the callee's: `adamw(..)`; an item that is a call stays an item
    Text callee = {0};
    expression(&callee, ast->list[0]->a, POSTFIX);
    called = !strcmp(text_string(&callee), ast->text);
    text_free(&callee);
  }
  if (!called) text_print(text, "%s%s", ast->text, ast->count ? " " : "");
  for (size_t i = 0; i < ast->count; i++) {
    if (i) text_print(text, ", ");
    expression(text, ast->list[i], CONDITION);
  }
}

static void named_block(Text *text, const char *word, const Ast *ast, int depth) {
  text_print(text, "%s %s", word, ast->text);
  block(text, ast, depth);
}

static void weights(Text *text, const Ast *ast, int depth) {
  text_print(text, "weights %s", ast->text);
  if (ast->other) text_print(text, " "), string(text, ast->other);
  if (ast->a) text_print(text, " if "), expression(text, ast->a, CONDITION);
  block(text, ast, depth);
}

static void mapping(Text *text, const Ast *ast) {
  expression(text, ast->a, POSTFIX);
  text_print(text, " = ");
  expression(text, ast->b, ast->d ? OR : CONDITION);
  if (ast->d) text_print(text, " if "), expression(text, ast->d, OR);
  print_bounds(text, ast->c);
}

static void mapfor(Text *text, const Ast *ast, int depth) {
  text_print(text, "for %s in ", ast->text);
  expression(text, ast->a, CONDITION);
  if (ast->other) text_print(text, " with "), string(text, ast->other);
  block(text, ast, depth);
}

static void line(Text *text, const Ast *ast, int depth) {
  indent(text, depth);
  switch (ast->kind) {
  case AST_IMPORT: text_print(text, "import %s", ast->text); break;
  case AST_FUNCTION:
  case AST_LAYER:
  case AST_MODEL: function(text, ast, depth); break;
  case AST_ASSIGN: assign(text, ast); break;
  case AST_RETURN:
    text_print(text, "return ");
    expression(text, ast->a, CONDITION);
    break;
  case AST_REPEAT:
    text_print(text, "repeat ");
    expression(text, ast->a, CONDITION);
    if (ast->text) text_print(text, " as %s", ast->text);
    block(text, ast->c, depth);
    break;
  case AST_PARAM: param(text, ast); break;
  case AST_WEIGHTS: weights(text, ast, depth); break;
  case AST_PREPROCESS: named_block(text, "preprocess", ast, depth); break;
  case AST_PRESET: named_block(text, "preset", ast, depth); break;
  case AST_TEMPLATE: named_block(text, "template", ast, depth); break;
  case AST_STAGE: named_block(text, "stage", ast, depth); break;
  case AST_MAPPING: mapping(text, ast); break;
  case AST_MAPFOR: mapfor(text, ast, depth); break;
  case AST_SETTING: setting(text, ast); break;
  default: die("%s is not a line of a file", ast_kind_name(ast->kind));
  }
  text_print(text, "\n");
}

void ast_print(const Ast *ast, Text *text) {
  if (ast->kind != AST_FILE) {
    expression(text, ast, CONDITION);
    return;
  }
  for (size_t i = 0; i < ast->count; i++) {
    bool import = ast->list[i]->kind == AST_IMPORT;
    if (i && !(import && ast->list[i - 1]->kind == AST_IMPORT)) text_print(text, "\n");
    line(text, ast->list[i], 0);
  }
}
