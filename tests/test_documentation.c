// docs/language.md tells the truth. Fences marked `vlm` compile to sound graphs of all the model's functions,
// and these are evaluated; `# [1, 2] -> [3]` behind a function is what it makes of these numbers. Fences
// marked `vlm error` give the errors that their comments say, and no others. No word of the language,
// function of the compiler, setting or kind of syntax is without an example.
#include "elaborate.h"

#include "compiler/elaborate/value.h"

#include <ctype.h>

// What the examples hold: their code without comments and texts, and which kinds of syntax they use.
typedef struct Shown {
  Text code;
  bool kinds[AST_KIND_COUNT];
} Shown;

// ---- compiling ----------------------------------------------------------------------------------

static const char *const functions[] = {"forward", "loss"};

// Pictures come out of the preprocessing in the shape that the model takes.
static void check_pictures(const Graph *graph, const Preprocess *preprocess, int line) {
  if (!graph || !preprocess) return;
  const Type *type = graph_type(graph, graph->inputs[0].node);
  int64_t wanted[] = {preprocess->channels, preprocess->height, preprocess->width},
          symbols[SYMBOL_COUNT] = {0};
  for (int i = 0; i < 3 && type->rank > 3; i++)
    CHECK(extent_value(type->axes[type->rank - 3 + i].extent, symbols) == wanted[i],
          "example at line %d: prepared pictures have %lld along axis %d", line, (long long)wanted[i], i);
}

// All that can be asked of a model.
static void compile(Session *session, int line) {
  Model *model = session->model;
  WeightMaps maps;
  if (!model || !model_weights(model, &maps)) return;
  for (int i = 0; i < 2; i++) {
    Graph *graph = model_has(model, functions[i]) ? model_graph(model, functions[i]) : NULL;
    Text reason = {0};
    CHECK(!graph || graph_verify(graph, &reason), "%s", text_string(&reason));
    text_free(&reason);
    if (!i) check_pictures(graph, model_preprocess(model), line);
  }
  const char *const *stages;
  size_t count = model_stage_names(model, &stages);
  for (size_t i = 0; i < count; i++) {
    Graph *graph = model_graph(model, "loss");
    if (model_stage(model, stages[i]) && graph) model_select(model, stages[i], graph);
  }
  model_template(model);
}

static void collect_kinds(const Ast *ast, Shown *shown) {
  if (!ast) return;
  shown->kinds[ast->kind] = true;
  const Ast *parts[] = {ast->a, ast->b, ast->c, ast->d};
  for (int i = 0; i < 4; i++) collect_kinds(parts[i], shown);
  for (size_t i = 0; i < ast->count; i++) collect_kinds(ast->list[i], shown);
}

static void check_messages(const char *text, bool wrong, int line, Shown *shown) {
  Session session;
  session_open_text(&session, text);
  compile(&session, line);
  int expected = 0;
  for (const char *at = text; (at = strstr(at, "# error: ")); at += strcspn(at, "\n")) {
    char wanted[300];
    snprintf(wanted, sizeof wanted, "%.*s", (int)strcspn(at + 9, "\n"), at + 9);
    CHECK(strstr(session_said(&session), wanted), "example at line %d: expected `%s` in\n%s", line, wanted,
          session_said(&session));
    expected++;
  }
  CHECK((expected > 0) == wrong && session.diagnostics.errors == expected, "example at line %d:\n%s", line,
        session_said(&session));
  if (!wrong && session.modules.count)
    collect_kinds(session.modules.list[session.modules.count - 1].file, shown);
  session_close(&session);
}

// ---- running ------------------------------------------------------------------------------------

// The numbers of "[[1, 2], [3]]"; *text comes to stand behind the last bracket.
static int read_numbers(const char **text, double *numbers, int most) {
  int depth = 0, count = 0;
  const char *at = *text;
  do {
    char *end;
    double number = strtod(at, &end);
    if (end == at || count == most) {
      depth += *at == '[' ? 1 : *at == ']' ? -1 : 0;
      at++;
    } else {
      numbers[count++] = number;
      at = end;
    }
  } while (depth && *at && *at != '\n');
  *text = at;
  return count;
}

// Parameters that start as a constant are that; the function's own inputs are the lists before the arrow.
// False: with the sizes of this run the lists do not fit.
static bool fill(Run *run, const char **text) {
  for (size_t i = 0; i < run->graph->input_count; i++) {
    const Input *input = &run->graph->inputs[i];
    int64_t symbols[SYMBOL_COUNT] = {0}, count = type_elements(&run->inputs[i].type, symbols);
    double numbers[64];
    for (int64_t j = 0; j < count && input->role == INPUT_PARAM && !input->initial.normal; j++)
      run->inputs[i].data[j] = input->initial.value;
    if (input->role != INPUT_DATA) continue;
    *text += strspn(*text, " ,");
    if (**text != '[' || read_numbers(text, numbers, 64) != count) return false;
    memcpy(run->inputs[i].data, numbers, (size_t)count * sizeof *numbers);
  }
  return true;
}

// `at` stands at the `[` of "# [1, 2] -> [3]". Its T is the one with which the lists fit.
static void check_values_said(const char *example, const char *function, const char *at, int line) {
  double wanted[64];
  bool fits = false;
  for (int time = 1; time <= 8 && !fits; time++) {
    Run run = {0};
    const char *text = at;
    if (!session_open_text(&run.session, example) || !run_begin(&run, function, 1, time, 4)) return;
    fits = fill(&run, &text);
    const char *result = strstr(text, "-> ");
    if (fits && result) {
      result += 3;
      const Tensor *tensor = run_evaluate(&run);
      int64_t symbols[SYMBOL_COUNT] = {0}, count = type_elements(&tensor->type, symbols);
      bool same = read_numbers(&result, wanted, 64) == count;
      for (int64_t i = 0; i < count; i++) {
        same = same && fabs(tensor->data[i] - wanted[i]) <= 6e-6; // as rounded to five digits
        if (!same) printf("%s: element %d is %.6g\n", function, (int)i, tensor->data[i]);
      }
      CHECK(same, "example at line %d: `%s` gives something else", line, function);
    }
    run_close(&run);
  }
  CHECK(fits, "example at line %d: no T fits what `%s` is given", line, function);
}

// Every "# [..] -> [..]", with the name of the function on whose line it stands.
static int check_results(const char *example, int line) {
  int count = 0;
  for (const char *at = example; (at = strstr(at, "# [")); at += strcspn(at, "\n")) {
    const char *arrow = strstr(at, "] -> ["), *start = at;
    if (!arrow || arrow > at + strcspn(at, "\n")) continue;
    while (start > example && start[-1] != '\n') start--;
    start += strspn(start, " ");
    if (!strncmp(start, "fn ", 3)) start += 3;
    char function[40];
    snprintf(function, sizeof function, "%.*s", (int)strcspn(start, "( "), start);
    check_values_said(example, function, at + 2, line);
    count++;
  }
  return count;
}

// Evaluates `forward` and `loss` over small inputs, by the example's preset where it has one.
static void evaluate_functions(const char *example, int line) {
  char preset[40] = "";
  const char *found = strstr(example, "\npreset ");
  if (found) snprintf(preset, sizeof preset, "%.*s", (int)strcspn(found + 8, " "), found + 8);
  for (int i = 0; i < 2; i++) {
    Run run = {0};
    if (session_open_preset(&run.session, example, *preset ? preset : NULL) &&
        model_has(run.session.model, functions[i]) && run_begin(&run, functions[i], 2, 4, 3)) {
      const Tensor *tensor = run_evaluate(&run);
      int64_t symbols[SYMBOL_COUNT] = {0}, count = type_elements(&tensor->type, symbols), bad = 0;
      for (int64_t j = 0; j < count; j++) bad += isnan(tensor->data[j]) != 0;
      CHECK(count && !bad, "example at line %d: `%s` gives %lld numbers, %lld of them none", line,
            functions[i], (long long)count, (long long)bad);
    }
    CHECK(!run.session.diagnostics.errors, "example at line %d: %s", line, session_said(&run.session));
    run_close(&run);
  }
}

// ---- what has to be shown -----------------------------------------------------------------------

// A comment goes to the line's end; a text keeps its quotes.
static void collect_code(const char *text, Text *code) {
  bool quoted = false;
  for (; *text; text++) {
    if (*text == '\\' && quoted)
      text++;
    else if (*text == '#' && !quoted)
      text += strcspn(text, "\n"), text_print(code, "\n");
    else if (*text == '"' || !quoted)
      text_print(code, "%c", *text);
    if (*text == '"') quoted = !quoted;
    if (!*text) return;
  }
}

static bool is_name(char c) { return isalnum((unsigned char)c) || c == '_'; }

// Whether `word` stands there, not inside of a longer one; `next`: what has to follow it, or 0.
static bool is_shown(const char *code, const char *word, char next) {
  size_t length = strlen(word);
  for (const char *at = code; (at = strstr(at, word)); at++) {
    bool begins = !is_name(*word) || at == code || !is_name(at[-1]);
    bool ends = next ? at[length] == next : !is_name(word[length - 1]) || !is_name(at[length]);
    if (begins && ends) return true;
  }
  return false;
}

// The rules of the scanner that are plain words (`model {`) or signs (`"->" GIVE`), and its class of single
// signs.
static void check_scanner(const char *code) {
  FILE *file = fopen("compiler/syntax/lexer.l", "r");
  char row[300];
  int words = 0, signs = 0;
  CHECK(file, "compiler/syntax/lexer.l is missing");
  while (file && fgets(row, sizeof row, file)) {
    size_t length = strcspn(row, " ");
    bool rule = strstr(row, "GIVE(") && length > 1;
    bool word = rule && strspn(row, "abcdefghijklmnopqrstuvwxyz") == length;
    bool sign = rule && *row == '"' && row[length - 1] == '"' && !strstr(row, "\"|\"");
    const char *set = "[-+*/%^<>=,.:~]";
    if (word || sign) {
      char text[40];
      snprintf(text, sizeof text, "%.*s", (int)length - (sign ? 2 : 0), row + sign);
      CHECK(is_shown(code, text, 0), "`%s` has no example", text);
      words += word, signs += sign;
    } else if (!strncmp(row, set, strlen(set))) {
      for (const char *at = set + 1; *at != ']'; at++) {
        CHECK(strchr(code, *at), "`%c` has no example", *at);
        signs++;
      }
    }
  }
  if (file) fclose(file);
  CHECK(words >= 20 && signs >= 15, "%d words, %d signs", words, signs);
}

// "`x` is not a setting here; there are a, b and c": each of them.
static void check_settings(const char *code, const char *message) {
  int count = 0;
  for (const char *at = message; (at = strstr(at, "there are ")); at += strcspn(at, "\n")) {
    char list[300], *word = list;
    snprintf(list, sizeof list, "%.*s", (int)strcspn(at + 10, "\n"), at + 10);
    for (word = strtok(list, ", "); word; word = strtok(NULL, ", ")) {
      if (!strcmp(word, "and")) continue;
      CHECK(is_shown(code, word, 0), "the setting `%s` has no example", word);
      count++;
    }
  }
  CHECK(count >= 30, "%d settings in\n%s", count, message);
}

static void check_complete(const Shown *shown) {
  static const char wrong[] =
      "model M() { forward(x[B, 3, 8, 8]) = x\n preprocess x { channels 3; none 1 } }\n"
      "template t { none \"\" }\nstage s { data d; none 1 }\n";
  static const char *const words[] = {"pi",     "training", "everything", "nothing",  "cosine",
                                      "linear", "square",   "centre",     "shortest", "bilinear",
                                      "exact",  "bicubic",  "none"};
  const char *code = text_string(&shown->code);
  check_scanner(code);
  for (size_t i = 0; i < builtin_row_count; i++)
    CHECK(is_shown(code, builtin_rows[i].name, '('), "the function `%s` has no example",
          builtin_rows[i].name);
  CHECK(is_shown(code, "concat", '['), "concat along a named axis has no example");
  for (size_t i = 0; i < sizeof words / sizeof *words; i++)
    CHECK(is_shown(code, words[i], 0), "`%s` has no example", words[i]);
  for (int i = 0; i < AST_KIND_COUNT; i++)
    CHECK(shown->kinds[i], "no example has syntax of the kind %s", ast_kind_name((AstKind)i));
  Session session;
  if (session_open_text(&session, wrong)) {
    model_template(session.model), model_preprocess(session.model), model_stage(session.model, "s");
    check_settings(code, session_said(&session));
  }
  session_close(&session);
}

// Every function and layer of the library is named.
static void check_library(const char *document) {
  FILE *file = fopen("stdlib/nn.vlm", "r");
  char row[300], name[40];
  while (file && fgets(row, sizeof row, file))
    if (sscanf(row, "fn %39[A-Za-z_]", name) == 1 || sscanf(row, "layer %39[A-Za-z_]", name) == 1)
      CHECK(is_shown(document, name, 0), "`nn.%s` is not told of", name);
  if (file) fclose(file);
}

static int check_example(const char *text, bool wrong, int line, Shown *shown) {
  check_messages(text, wrong, line, shown);
  if (wrong) return 0;
  evaluate_functions(text, line);
  collect_code(text, &shown->code);
  return check_results(text, line);
}

int main(void) {
  FILE *file = fopen("docs/language.md", "r");
  char row[1000];
  int line = 0, start = 0, examples = 0, results = 0;
  bool wrong = false;
  Text text = {0}, document = {0};
  Shown shown = {0};
  CHECK(file, "docs/language.md is missing");
  while (file && fgets(row, sizeof row, file)) {
    line++;
    text_print(&document, "%s", row);
    if (!start && !strncmp(row, "```vlm", 6)) {
      start = line, wrong = strstr(row, "error") != NULL;
    } else if (start && !strncmp(row, "```", 3)) {
      results += check_example(text_string(&text), wrong, start, &shown);
      text_free(&text);
      start = 0, examples++;
    } else if (start) {
      text_print(&text, "%s", row);
    }
  }
  if (file) fclose(file);
  CHECK(examples >= 20 && results >= 20 && !start, "%d examples, %d results", examples, results);
  check_complete(&shown);
  check_library(text_string(&document));
  text_free(&shown.code);
  text_free(&document);
  return check_finish();
}
