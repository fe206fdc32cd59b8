// The syntax tree: what a model file says, as written. One node struct for all kinds; the table below is the
// grammar and tells which fields each kind uses. Statements and settings end at a line's end or at `;`;
// inside ( ) and [ ], and after an operator or a comma, a line's end does not count. `#` starts a comment.
//
//   text -> lexer.l, parser.y -> Ast (ast.c builds) -> elaborate
//
// clang-format off
// kind       grammar, and the fields
// FILE       { import | function | layer | model | preset | template | stage }           list
// IMPORT     "import" NAME {"," NAME}                     one node per name: text; other: its path, once found
// FUNCTION   ["fn"] NAME "(" [parameters] ")" ["->" result] ( "=" expr | block )
//            ("fn" may be left out inside of a model)     text; list: PARAMETER; b: RESULT or NULL; c: expr or BLOCK
// LAYER      "layer" NAME "(" [parameters] ")" "(" parameters ")" ["->" result] block
//                                                         text; list: config PARAMETERs; d: LIST of tensor
//                                                         PARAMETERs; b: RESULT or NULL; c: BLOCK
// MODEL      "model" NAME "(" [parameters] ")" "{" members "}"     text; list: PARAMETER; c: BLOCK of
//                                                         PARAM, ASSIGN, FUNCTION, WEIGHTS, PREPROCESS
// PARAMETER  NAME [":" DTYPE] ["[" axes "]"] ["=" expr]   text; dtype (text) or NULL; has_axes; list: axes;
//                                                         a: default or NULL
// RESULT     [NAME] "[" axes "]"                          text or NULL; list: axes
//            an axis is an expression, or DOTS
// BLOCK      "{" statements "}"                           list
// ASSIGN     target {"," target} "=" expr ["where" expr] ["for" NAME "<" sum {"," NAME "<" sum}]
//                                                         list: NAME or INDEX targets; a: value; b: where or
//                                                         NULL; c: LIST of BOUND or NULL
// BOUND      NAME "<" sum                                 text; a
// RETURN     "return" expr                                a
// REPEAT     "repeat" expr ["as" NAME] block              a: count; text: name or NULL; c: BLOCK
// PARAM      "param" NAME ["[" axes "]"] ( "=" expr | "~" call ) ["if" expr]
//                                                         text; list: axes; a: constant or NULL; d: CALL of the
//                                                         distribution or NULL; b: condition or NULL
// WEIGHTS    "weights" NAME [STRING] ["if" expr] "{" mappings "}"   text; other: string; a: condition or NULL;
//                                                         list: MAPPING, MAPFOR, SETTING (`ignore "*.bias"`)
// MAPPING    postfix "=" expr ["if" expr] ["for" NAME "<" sum {"," NAME "<" sum}]
//                                                         a (ours), b (the file's: STRING, INDEX of STRING, CALL);
//                                                         c: LIST of BOUND or NULL; d: condition or NULL
// MAPFOR     "for" NAME "in" expr ["with" STRING] "{" mappings "}"   text; a; other: string or NULL; list
// PREPROCESS "preprocess" NAME "{" settings "}"           text; list: SETTING
// SETTING    NAME {item [","]}                            text; list: items: names with what follows them, texts,
//                                                         numbers, products of these. After a number a name without
//                                                         a comma begins the next setting: `batch 16  epochs 4`
//            path "(" [args] ")"                          `adamw(rate = 1)`: one item CALL; text: the path
// PRESET     "preset" NAME "{" settings "}"               text; list: SETTING: `vision(image = 64)`, `sft(batch = 8)`
// TEMPLATE   "template" NAME "{" settings "}"             text; list: SETTING (`turn "..."`, `caption "..."`,
//                                                         `specials "<|end|>" "<image>"`, `end "<|im_end|>"`);
//                                                         a bare STRING is the setting `turn`
// STAGE      "stage" NAME "{" settings "}"                text; list: SETTING
//
// expressions, loosest first
// CONDITION  expr "if" expr "else" expr                   b ? a : c, decided at compile time
// BINARY     or; and; (not); == != < <= > >=, one; + -; * / %; (-); ^, right        text: operator; a, b
// UNARY      - not                                        text; a
// REDUCE     ("sum"|"max"|"mean") "[" NAME,.. "]" product          reaches to the end of the product:
//                                                         `sum[e] q[i,e] * k[j,e]`; refused: `sum[e] (a) * b`
//            ("sum"|"max"|"mean") "[" NAME,.. "]" "(" expr ")"     is a primary: `sum[D](x) + 1`, `max[v](x)[b,t]`;
//                                                         no blank before `(`
//                                                         text; list: NAMEs of axes; a
//            (`sum(x)` without axes is an ordinary CALL)
// LABELLED   NAME ":" postfix                             text; a: the layer's application. `:` follows the name
//                                                         at once; directly inside of [ ] it is a slice instead
// CALL       postfix "(" [args] ")"                       a: callee; list: ARG. `softmax[j](x)` is CALL of INDEX
// ARG        [NAME "="] expr                              text or NULL; a
// INDEX      postfix "[" items "]"                        a; list: expr, SLICE, DOTS
// SLICE      [expr] ":" [expr]                            a, b or NULL
// DOTS       ".."
// MEMBER     postfix "." NAME                             a; text
// LIST       "[" exprs "]"                                list
// NAME NUMBER STRING BOOL                                 text / number / text (\n \t \" \\ resolved) / number 0, 1
#ifndef VLMC_COMPILER_SYNTAX_AST_H
#define VLMC_COMPILER_SYNTAX_AST_H

#include "runtime/base/arena.h"
#include "runtime/base/diagnostics.h"

#define AST_KINDS(KIND)                                                                                      \
  KIND(FILE) KIND(IMPORT) KIND(FUNCTION) KIND(LAYER) KIND(MODEL) KIND(PARAMETER) KIND(RESULT) KIND(BLOCK)    \
  KIND(ASSIGN) KIND(BOUND) KIND(RETURN) KIND(REPEAT) KIND(PARAM) KIND(WEIGHTS) KIND(MAPPING) KIND(MAPFOR)    \
  KIND(PREPROCESS) KIND(SETTING) KIND(PRESET) KIND(TEMPLATE) KIND(STAGE) KIND(CONDITION) KIND(BINARY)        \
  KIND(UNARY) KIND(REDUCE) KIND(LABELLED) KIND(CALL) KIND(ARG) KIND(INDEX) KIND(SLICE) KIND(DOTS)            \
  KIND(MEMBER) KIND(LIST) KIND(NAME) KIND(NUMBER) KIND(STRING) KIND(BOOL)

// clang-format on

typedef enum AstKind {
#define KIND(name) AST_##name,
  AST_KINDS(KIND)
#undef KIND
      AST_KIND_COUNT
} AstKind;

typedef struct Ast Ast;
struct Ast {
  AstKind kind;
  Span span;
  const char *text, *other, *dtype;
  double number;
  bool has_axes;
  uint16_t depth; // of the nodes below, bounded
  Ast *a, *b, *c, *d;
  Ast **list;
  size_t count, capacity;
};

enum { AST_MAX_DEPTH = 256 }; // of brackets and of nodes: hostile input can not exhaust the stack

// ---- parse.c / parser.y / lexer.l: a FILE, or NULL when errors were reported (as many as can be found; the
// parser resynchronises at line ends).
Ast *ast_parse(Arena *arena, Diagnostics *diagnostics, uint32_t source);
// One expression from the command line (`-D vision.width=4*32`): text is a source of its own.
// The expression that stands in a source from byte `begin` on.
Ast *ast_parse_expression(Arena *arena, Diagnostics *diagnostics, uint32_t source, size_t begin);

// ---- print.c: the tree as source text again, canonically laid out; parse -> print -> parse is the identity.
void ast_print(const Ast *ast, Text *text);
const char *ast_kind_name(AstKind kind);

// ---- import.c: a file with all that it imports, each once, in order of first need. A module is found beside
// the importing file, then in the `library` folders (the standard library, the shipped models). Cycles and
// missing modules are reported at the import. Where there is a library, its modules `prelude` (names known
// everywhere) and `optim` (update rules of stages) are always loaded, first.
typedef struct Module {
  const char *name; // "gpt"
  const char *path;
  Ast *file;
} Module;
typedef struct Modules {
  Module *list; // imported ones first; the last is the file asked for
  size_t count, capacity;
} Modules;
bool ast_load(Arena *arena, Diagnostics *diagnostics, const char *path, const char *const *library,
              size_t library_count, Modules *modules);

// ---- unused.c: an error at each value that a body of the file sets and nothing reads.
void ast_check_unused(Diagnostics *diagnostics, const Ast *file);

#endif
