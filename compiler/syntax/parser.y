// The grammar: tokens to syntax nodes. Actions only call the builders of build.h; ast.h's table tells which field
// holds what. After an error the parser goes on at the next line's end, or with the block of the same declaration.
%code requires {
#include "compiler/syntax/build.h"
}
%code {
#include "lexer.h"
#include <string.h>

int yylex(YYSTYPE *value, YYLTYPE *location, void *scanner);
static void yyerror(const YYLTYPE *location, void *scanner, Parser *parser, const char *message);

#define YYLLOC_DEFAULT(current, right, count)                                                                \
  do {                                                                                                       \
    if (count) (current) = span_join(YYRHSLOC(right, 1), YYRHSLOC(right, count));                            \
    else (current) = (Span){YYRHSLOC(right, 0).source, YYRHSLOC(right, 0).end, YYRHSLOC(right, 0).end};      \
  } while (0)

// A node: its kind, span, the list whose elements it takes (or NULL), and its fields.
#define NODE(kind_, span_, list_, ...) ast_make(parser, span_, (Ast){.kind = AST_##kind_, __VA_ARGS__}, list_)
#define LIST(span_, first_)            ast_add(parser, ast_list(parser, span_), first_)
}

%define api.pure full
%define api.location.type {Span}
%define parse.error custom
%define parse.lac full
%locations
%param {void *scanner}
%parse-param {Parser *parser}
%expect 0 // an ambiguous grammar would be read differently by people and by the parser: never raise this

%union {
  Ast *ast;
  const char *text;
  double number;
}

%token START_FILE START_EXPRESSION
%token YYEOF 0 "the end of the file"
%token END "the line's end"
%token IMPORT "import" FN "fn" LAYER "layer" MODEL "model" PRESET "preset" TEMPLATE "template" STAGE "stage"
%token WEIGHTS "weights" PREPROCESS "preprocess" PARAM "param" RETURN "return" REPEAT "repeat" AS "as"
%token WHERE "where" FOR "for" IN "in" WITH "with" IF "if" ELSE "else" AND "and" OR "or" NOT "not"
%token ARROW "->" DOTS ".." EQUAL "==" UNEQUAL "!=" LESS_EQUAL "<=" GREATER_EQUAL ">="
%token <text> NAME "a name" LABEL "a label" STRING "a text in quotes"
%token <text> REDUCE "a reduction" REDUCE_CALL "a reduction of ( )"
%token <number> NUMBER "a number" BOOL "true or false"

%type <ast> file declarations declaration imports function layer model preset template stage
%type <ast> parameters parameter_list parameter default result axes axis_list axis body block lines statement
%type <ast> assign targets target bounds bound bound_list for_bounds param repeat members member method weights
%type <ast> preprocess mappings mapping settings closed open called path word number factor names
%type <ast> expr condition conjunction negation comparison sum product head reduction unary power postfix primary
%type <ast> arguments argument_list argument items item_list item expressions expression_list
%type <text> as_name string_option

%%

start:
  START_FILE file                { parser->result = $file; }
| START_EXPRESSION expr          { parser->result = $expr; }
| START_EXPRESSION expr END      { parser->result = $expr; }
;

// ---- declarations

file:
  declarations                   { $$ = NODE(FILE, @$, $1); }
;
declarations:
  %empty                         { $$ = ast_list(parser, @$); }
| declarations END
| declarations declaration       { $$ = ast_add(parser, $1, $2); }
| declarations IMPORT imports    { $$ = ast_join(parser, $1, $3); }
| declarations IMPORT error      { $$ = $1; }
| declarations error             { $$ = $1; }
;
imports:
  NAME                           { $$ = LIST(@$, NODE(IMPORT, @1, NULL, .text = $1)); }
| imports ',' NAME               { $$ = ast_add(parser, $1, NODE(IMPORT, @3, NULL, .text = $3)); }
;
declaration: function | layer | model | preset | template | stage;

function:
  FN NAME parameters result body { $$ = NODE(FUNCTION, @$, $3, .text = $2, .b = $4, .c = $5); }
| FN error block                 { $$ = NULL; }
| FN error END                   { $$ = NULL; }
;
layer:
  LAYER NAME parameters parameters result block { $$ = NODE(LAYER, @$, $3, .text = $2, .b = $5, .c = $6, .d = $4); }
| LAYER error block              { $$ = NULL; }
| LAYER error END                { $$ = NULL; }
;
model:
  MODEL NAME parameters members  { $$ = NODE(MODEL, @$, $3, .text = $2, .c = $4); }
| MODEL error members            { $$ = NULL; }
| MODEL error END                { $$ = NULL; }
;
preset:
  PRESET NAME '{' settings '}'   { $$ = NODE(PRESET, @$, $4, .text = $2); }
| PRESET error END               { $$ = NULL; }
| PRESET error '{' settings '}'  { $$ = NULL; }
;
template:
  TEMPLATE NAME '{' settings '}' { $$ = NODE(TEMPLATE, @$, $4, .text = $2); }
| TEMPLATE error END             { $$ = NULL; }
| TEMPLATE error '{' settings '}' { $$ = NULL; }
;
stage:
  STAGE NAME '{' settings '}'    { $$ = NODE(STAGE, @$, $4, .text = $2); }
| STAGE error END                { $$ = NULL; }
| STAGE error '{' settings '}'   { $$ = NULL; }
;

parameters:
  '(' parameter_list ')'         { $$ = $2; }
| '(' parameter_list ',' ')'     { $$ = $2; }
| '(' ')'                        { $$ = ast_list(parser, @$); }
;
parameter_list:
  parameter                      { $$ = LIST(@$, $1); }
| parameter_list ',' parameter   { $$ = ast_add(parser, $1, $3); }
;
parameter:
  NAME default                   { $$ = NODE(PARAMETER, @$, NULL, .text = $1, .a = $2); }
| NAME axes default              { $$ = NODE(PARAMETER, @$, $2, .text = $1, .a = $3, .has_axes = true); }
| LABEL NAME default             { $$ = NODE(PARAMETER, @$, NULL, .text = $1, .dtype = $2, .a = $3); }
| LABEL NAME axes default        { $$ = NODE(PARAMETER, @$, $3, .text = $1, .dtype = $2, .a = $4, .has_axes = true); }
;
default:
  %empty                         { $$ = NULL; }
| '=' expr                       { $$ = $2; }
;
result:
  %empty                         { $$ = NULL; }
| ARROW axes                     { $$ = NODE(RESULT, @2, $2, .has_axes = true); }
| ARROW NAME axes                { $$ = NODE(RESULT, span_join(@2, @3), $3, .text = $2, .has_axes = true); }
;
axes:
  '[' axis_list ']'              { $$ = $2; }
| '[' axis_list ',' ']'          { $$ = $2; }
| '[' ']'                        { $$ = ast_list(parser, @$); }
;
axis_list:
  axis                           { $$ = LIST(@$, $1); }
| axis_list ',' axis             { $$ = ast_add(parser, $1, $3); }
;
axis:
  expr
| DOTS                           { $$ = NODE(DOTS, @$, NULL); }
;
body:
  '=' expr                       { $$ = $2; }
| block
;

// ---- statements

block:
  '{' lines '}'                  { $$ = NODE(BLOCK, @$, $2); }
| '{' lines statement '}'        { $$ = NODE(BLOCK, @$, ast_add(parser, $2, $3)); }
| '{' lines error '}'            { $$ = NODE(BLOCK, @$, $2); }
;
lines:
  %empty                         { $$ = ast_list(parser, @$); }
| lines END
| lines statement END            { $$ = ast_add(parser, $1, $2); }
| lines error END                { $$ = $1; yyerrok; }
;
statement:
  assign
| param
| repeat
| RETURN expr                    { $$ = NODE(RETURN, @$, NULL, .a = $2); }
;
assign:
  targets '=' expr for_bounds    { $$ = NODE(ASSIGN, @$, $1, .a = $3, .c = $4); }
| targets '=' expr WHERE expr for_bounds { $$ = NODE(ASSIGN, @$, $1, .a = $3, .b = $5, .c = $6); }
;
targets:
  target                         { $$ = LIST(@$, $1); }
| targets ',' target             { $$ = ast_add(parser, $1, $3); }
;
target:
  NAME                           { $$ = NODE(NAME, @$, NULL, .text = $1); }
| NAME '[' items ']'             { $$ = NODE(INDEX, @$, $3, .a = NODE(NAME, @1, NULL, .text = $1)); }
;
for_bounds:
  %empty                         { $$ = NULL; }
| FOR bounds                     { $$ = $2; }
;
bounds: bound_list;
bound_list:
  bound                          { $$ = LIST(@$, $1); }
| bound_list ',' bound           { $$ = ast_add(parser, $1, $3); }
;
bound:
  NAME '<' sum                   { $$ = NODE(BOUND, @$, NULL, .text = $1, .a = $3); }
;
param:
  PARAM NAME axes '=' expr       { $$ = NODE(PARAM, @$, $3, .text = $2, .a = $5, .has_axes = true); }
| PARAM NAME '=' expr            { $$ = NODE(PARAM, @$, NULL, .text = $2, .a = $4); }
| PARAM NAME axes '~' postfix    { $$ = NODE(PARAM, @$, $3, .text = $2, .d = $5, .has_axes = true); }
| PARAM NAME axes '=' condition IF condition { $$ = NODE(PARAM, @$, $3, .text = $2, .a = $5, .b = $7, .has_axes = true); }
| PARAM NAME axes '~' postfix IF expr { $$ = NODE(PARAM, @$, $3, .text = $2, .d = $5, .b = $7, .has_axes = true); }
;
repeat:
  REPEAT expr as_name block      { $$ = NODE(REPEAT, @$, NULL, .a = $2, .text = $3, .c = $4); }
| REPEAT error block             { $$ = NULL; }
;
as_name:
  %empty                         { $$ = NULL; }
| AS NAME                        { $$ = $2; }
;

// ---- members of a model

members:
  '{' member_lines '}'           { $$ = NODE(BLOCK, @$, $2); }
| '{' member_lines member '}'    { $$ = NODE(BLOCK, @$, ast_add(parser, $2, $3)); }
| '{' member_lines error '}'     { $$ = NODE(BLOCK, @$, $2); }
;
%type <ast> member_lines;
member_lines:
  %empty                         { $$ = ast_list(parser, @$); }
| member_lines END
| member_lines member END        { $$ = ast_add(parser, $1, $2); }
| member_lines error END         { $$ = $1; yyerrok; }
;
member: assign | param | function | method | weights | preprocess;
method:
  NAME parameters result body    { $$ = NODE(FUNCTION, @$, $2, .text = $1, .b = $3, .c = $4); }
| NAME '(' error block           { $$ = NULL; }
;
weights:
  WEIGHTS NAME string_option if_option '{' mappings '}' { $$ = NODE(WEIGHTS, @$, $6, .text = $2, .other = $3, .a = $4); }
;
string_option:
  %empty                         { $$ = NULL; }
| STRING
;
if_option:
  %empty                         { $$ = NULL; }
| IF expr                        { $$ = $2; }
;
mappings:
  mapping_lines
| mapping_lines mapping          { $$ = ast_add(parser, $1, $2); }
;
%type <ast> mapping_lines with_option if_option texts;
mapping_lines:
  %empty                         { $$ = ast_list(parser, @$); }
| mapping_lines END
| mapping_lines mapping END      { $$ = ast_add(parser, $1, $2); }
| mapping_lines error END        { $$ = $1; yyerrok; }
;
mapping:
  postfix '=' expr for_bounds    { $$ = NODE(MAPPING, @$, NULL, .a = $1, .b = $3, .c = $4); }
| postfix '=' condition IF condition { $$ = NODE(MAPPING, @$, NULL, .a = $1, .b = $3, .d = $5); }
| postfix '=' condition IF condition FOR bounds { $$ = NODE(MAPPING, @$, NULL, .a = $1, .b = $3, .c = $7, .d = $5); }
| NAME texts                     { $$ = NODE(SETTING, @$, $2, .text = $1); }
| FOR NAME IN expr with_option '{' mappings '}' { $$ = NODE(MAPFOR, @$, $7, .text = $2, .a = $4, .other = $5 ? $5->text : NULL); }
;
texts:
  STRING                         { $$ = LIST(@$, NODE(STRING, @1, NULL, .text = $1)); }
| texts ',' STRING               { $$ = ast_add(parser, $1, NODE(STRING, @3, NULL, .text = $3)); }
;
with_option:
  %empty                         { $$ = NULL; }
| WITH STRING                    { $$ = NODE(STRING, @2, NULL, .text = $2); }
;
preprocess:
  PREPROCESS NAME '{' settings '}' { $$ = NODE(PREPROCESS, @$, $4, .text = $2); }
;

// ---- settings: `closed` ones take no further name, `open` ones do

settings:
  closed
| closed open                    { $$ = ast_add(parser, $1, $2); }
| closed error
;
closed:
  %empty                         { $$ = ast_list(parser, @$); }
| closed END
| closed STRING                  { $$ = ast_add(parser, $1, NODE(SETTING, @2, LIST(@2, NODE(STRING, @2, NULL, .text = $2)), .text = "turn")); }
| closed open END                { $$ = ast_add(parser, $1, $2); }
| closed numbered                { $$ = ast_add(parser, $1, $2); }
| closed called                  { $$ = ast_add(parser, $1, $2); }
| closed error END               { $$ = $1; yyerrok; }
;
%type <ast> numbered;
open:
  NAME                           { $$ = NODE(SETTING, @$, NULL, .text = $1); }
| open word                      { $$ = ast_add(parser, $1, $2); }
| open ',' word                  { $$ = ast_add(parser, $1, $3); }
| numbered ',' word              { $$ = ast_add(parser, $1, $3); }
;
numbered:
  open number                    { $$ = ast_add(parser, $1, $2); }
| open ',' number                { $$ = ast_add(parser, $1, $3); }
| numbered number                { $$ = ast_add(parser, $1, $2); }
| numbered ',' number            { $$ = ast_add(parser, $1, $3); }
;
called:
  path '(' arguments ')'         { $$ = ast_called(parser, @$, $1, $3); }
;
path:
  NAME                           { $$ = NODE(NAME, @$, NULL, .text = $1); }
| path '.' NAME                  { $$ = NODE(MEMBER, @$, NULL, .a = $1, .text = $3); }
;
word:
  STRING                         { $$ = NODE(STRING, @$, NULL, .text = $1); }
| BOOL                           { $$ = NODE(BOOL, @$, NULL, .number = $1); }
| place
| word_product
;
%type <ast> place word_product number_product;
place:
  NAME                           { $$ = NODE(NAME, @$, NULL, .text = $1); }
| place '.' NAME                 { $$ = NODE(MEMBER, @$, NULL, .a = $1, .text = $3); }
| place '[' items ']'            { $$ = NODE(INDEX, @$, $3, .a = $1); }
| place '(' arguments ')'        { $$ = NODE(CALL, @$, $3, .a = $1); }
;
factor:
  place
| NUMBER                         { $$ = NODE(NUMBER, @$, NULL, .number = $1); }
;
word_product:
  place '*' factor               { $$ = ast_binary(parser, @$, "*", $1, $3); }
| place '/' factor               { $$ = ast_binary(parser, @$, "/", $1, $3); }
| word_product '*' factor        { $$ = ast_binary(parser, @$, "*", $1, $3); }
| word_product '/' factor        { $$ = ast_binary(parser, @$, "/", $1, $3); }
;
number:
  number_product
| '-' number_product             { $$ = NODE(UNARY, @$, NULL, .text = "-", .a = $2); }
;
number_product:
  NUMBER                         { $$ = NODE(NUMBER, @$, NULL, .number = $1); }
| number_product '*' factor      { $$ = ast_binary(parser, @$, "*", $1, $3); }
| number_product '/' factor      { $$ = ast_binary(parser, @$, "/", $1, $3); }
;

// ---- expressions, loosest first

expr:
  condition
| condition IF condition ELSE expr { $$ = NODE(CONDITION, @$, NULL, .a = $1, .b = $3, .c = $5); }
;
condition:
  conjunction
| condition OR conjunction       { $$ = ast_binary(parser, @$, "or", $1, $3); }
;
conjunction:
  negation
| conjunction AND negation       { $$ = ast_binary(parser, @$, "and", $1, $3); }
;
negation:
  comparison
| NOT negation                   { $$ = NODE(UNARY, @$, NULL, .text = "not", .a = $2); }
;
comparison:
  sum
| sum EQUAL sum                  { $$ = ast_binary(parser, @$, "==", $1, $3); }
| sum UNEQUAL sum                { $$ = ast_binary(parser, @$, "!=", $1, $3); }
| sum '<' sum                    { $$ = ast_binary(parser, @$, "<", $1, $3); }
| sum LESS_EQUAL sum             { $$ = ast_binary(parser, @$, "<=", $1, $3); }
| sum '>' sum                    { $$ = ast_binary(parser, @$, ">", $1, $3); }
| sum GREATER_EQUAL sum          { $$ = ast_binary(parser, @$, ">=", $1, $3); }
;
sum:
  product
| sum '+' product                { $$ = ast_binary(parser, @$, "+", $1, $3); }
| sum '-' product                { $$ = ast_binary(parser, @$, "-", $1, $3); }
;
product:
  head
| reduction
| head '*' reduction             { $$ = ast_binary(parser, @$, "*", $1, $3); }
| head '/' reduction             { $$ = ast_binary(parser, @$, "/", $1, $3); }
| head '%' reduction             { $$ = ast_binary(parser, @$, "%", $1, $3); }
;
reduction:
  REDUCE '[' names ']' product   { $$ = ast_reduce(parser, @$, $1, $3, $5, @5); }
| '-' reduction                  { $$ = NODE(UNARY, @$, NULL, .text = "-", .a = $2); }
;
head:
  unary
| head '*' unary                 { $$ = ast_binary(parser, @$, "*", $1, $3); }
| head '/' unary                 { $$ = ast_binary(parser, @$, "/", $1, $3); }
| head '%' unary                 { $$ = ast_binary(parser, @$, "%", $1, $3); }
;
unary:
  power
| '-' unary                      { $$ = NODE(UNARY, @$, NULL, .text = "-", .a = $2); }
;
power:
  postfix
| LABEL postfix                  { $$ = NODE(LABELLED, @$, NULL, .text = $1, .a = $2); }
| postfix '^' unary              { $$ = ast_binary(parser, @$, "^", $1, $3); }
;
postfix:
  primary
| postfix '(' arguments ')'      { $$ = NODE(CALL, @$, $3, .a = $1); }
| postfix '[' items ']'          { $$ = NODE(INDEX, @$, $3, .a = $1); }
| postfix '.' NAME               { $$ = NODE(MEMBER, @$, NULL, .a = $1, .text = $3); }
;
primary:
  NAME                           { $$ = NODE(NAME, @$, NULL, .text = $1); }
| NUMBER                         { $$ = NODE(NUMBER, @$, NULL, .number = $1); }
| STRING                         { $$ = NODE(STRING, @$, NULL, .text = $1); }
| BOOL                           { $$ = NODE(BOOL, @$, NULL, .number = $1); }
| '(' expr ')'                   { $$ = $2; }
| '[' expressions ']'            { $$ = NODE(LIST, @$, $2); }
| REDUCE_CALL '[' names ']' '(' expr ')' { $$ = NODE(REDUCE, @$, $3, .text = $1, .a = $6); }
;
names:
  NAME                           { $$ = LIST(@$, NODE(NAME, @1, NULL, .text = $1)); }
| names ',' NAME                 { $$ = ast_add(parser, $1, NODE(NAME, @3, NULL, .text = $3)); }
;
arguments:
  %empty                         { $$ = ast_list(parser, @$); }
| argument_list
| argument_list ','
;
argument_list:
  argument                       { $$ = LIST(@$, $1); }
| argument_list ',' argument     { $$ = ast_add(parser, $1, $3); }
;
argument:
  expr                           { $$ = NODE(ARG, @$, NULL, .a = $1); }
| NAME '=' expr                  { $$ = NODE(ARG, @$, NULL, .text = $1, .a = $3); }
;
items:
  item_list
| item_list ','
;
item_list:
  item                           { $$ = LIST(@$, $1); }
| item_list ',' item             { $$ = ast_add(parser, $1, $3); }
;
item:
  expr
| DOTS                           { $$ = NODE(DOTS, @$, NULL); }
| ':'                            { $$ = NODE(SLICE, @$, NULL); }
| expr ':'                       { $$ = NODE(SLICE, @$, NULL, .a = $1); }
| ':' expr                       { $$ = NODE(SLICE, @$, NULL, .b = $2); }
| expr ':' expr                  { $$ = NODE(SLICE, @$, NULL, .a = $1, .b = $3); }
;
expressions:
  %empty                         { $$ = ast_list(parser, @$); }
| expression_list
| expression_list ','
;
expression_list:
  expr                           { $$ = LIST(@$, $1); }
| expression_list ',' expr       { $$ = ast_add(parser, $1, $3); }
;

%%

static void yyerror(const YYLTYPE *location, void *scanner, Parser *parser, const char *message) {
  (void)scanner;
  if (!parser->too_deep) error_at(parser->diagnostics, *location, "%s", message);
}

// Whether a token's name is one of those in `list`, each followed by a blank.
static bool among(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list; (at = strstr(at, name)); at++)
    if ((at == list || at[-1] == ' ') && at[length] == ' ') return true;
  return false;
}

// Whether a token goes without saying: those that begin an expression are told as one, those that only carry on
// an expression that could end here are not told, nor is a label where a name is.
static bool is_implied(yysymbol_kind_t symbol, const char *name, bool begins, bool ends) {
  bool value = symbol >= YYSYMBOL_NAME && symbol <= YYSYMBOL_BOOL;
  if (begins && (value || among("not - ( [ ", name))) return true;
  return symbol == YYSYMBOL_LABEL || (ends && among("+ - * / % ^ == != < <= > >= and or if . [ ( ", name));
}

enum { MOST_TOLD = 10 };

static void tell_expected(const yypcontext_t *context, Text *text) {
  bool closes = yypcontext_token(context) == YYSYMBOL_YYEOF; // then only what closes is of use
  yysymbol_kind_t expected[YYNTOKENS];
  char told[MOST_TOLD][40];
  int count = yypcontext_expected_tokens(context, expected, YYNTOKENS), tellings = 0;
  bool begins = false, ends = false;
  for (int i = 0; i < count; i++) {
    begins |= expected[i] == YYSYMBOL_REDUCE_CALL;
    ends |= !strcmp(yysymbol_name(expected[i]), "'*'");
    if (!closes || strcmp(yysymbol_name(expected[i]), "'}'")) continue;
    text_print(text, "expected `}`");
    return;
  }
  if (begins) snprintf(told[tellings++], sizeof told[0], "an expression");
  for (int i = 0; i < count && tellings < MOST_TOLD; i++) {
    const char *spelled = yysymbol_name(expected[i]);
    char name[40];
    snprintf(name, sizeof name, "%.*s", *spelled == '\'' ? 1 : 39, *spelled == '\'' ? spelled + 1 : spelled);
    if (is_implied(expected[i], name, begins, ends)) continue;
    snprintf(told[tellings++], sizeof told[0], strchr(name, ' ') ? "%s" : "`%.30s`", name);
  }
  for (int i = 0; i < tellings; i++)
    text_print(text, "%s%s", !i ? "expected " : i + 1 < tellings ? ", " : " or ", told[i]);
}

static void tell_found(const Parser *parser, yysymbol_kind_t found, Span span, Text *text) {
  const Source *source = &parser->diagnostics->sources->list[parser->source];
  int length = span.end - span.begin < 40 ? (int)(span.end - span.begin) : 40;
  const char *before = text->length ? ", found" : "unexpected";
  if (found == YYSYMBOL_YYEOF) text_print(text, "%s the end of the file", before);
  else if (found == YYSYMBOL_END && source->text[span.begin] != ';') text_print(text, "%s the line's end", before);
  else text_print(text, "%s `%.*s`", before, length, source->text + span.begin);
}

// A word of the language that was expected and is much like the name that was found.
static void tell_closest(const Parser *parser, const yypcontext_t *context, Span span, Text *text) {
  const Source *source = &parser->diagnostics->sources->list[parser->source];
  yysymbol_kind_t expected[YYNTOKENS];
  char name[40];
  int count = yypcontext_expected_tokens(context, expected, YYNTOKENS);
  snprintf(name, sizeof name, "%.*s", (int)(span.end - span.begin), source->text + span.begin);
  Closest closest = closest_to(name);
  for (int i = 0; i < count; i++)
    if (expected[i] >= YYSYMBOL_IMPORT && expected[i] <= YYSYMBOL_NOT)
      closest_try(&closest, yysymbol_name(expected[i]));
  if (closest.name) text_print(text, "; is `%s` meant?", closest.name);
}

static int yyreport_syntax_error(const yypcontext_t *context, void *scanner, Parser *parser) {
  (void)scanner;
  Text text = {0};
  Span span = *yypcontext_location(context);
  yysymbol_kind_t found = yypcontext_token(context);
  if (parser->too_deep) return 0;
  tell_expected(context, &text);
  tell_found(parser, found, span, &text);
  if (found >= YYSYMBOL_IMPORT && found <= YYSYMBOL_NOT) text_print(&text, ", which is a word of the language");
  if (found == YYSYMBOL_NAME) tell_closest(parser, context, span, &text);
  error_at(parser->diagnostics, span, "%s", text_string(&text));
  if (found == YYSYMBOL_YYEOF && parser->open)
    note_at(parser->diagnostics, parser->opened[parser->open - 1], "this is not closed");
  text_free(&text);
  return 0;
}
