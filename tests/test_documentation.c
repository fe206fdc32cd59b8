// Every example of docs/language.md compiles: fences marked `vlm` to sound graphs of all the model's
// functions, fences marked `vlm error` to the errors that their comments say, and no others.
#include "elaborate.h"

// All that can be asked of a model.
static void compile(Session *session) {
  Model *model = session->model;
  WeightMaps maps;
  if (!model || !model_weights(model, &maps)) return;
  static const char *const functions[] = {"forward", "loss"};
  for (int i = 0; i < 2; i++) {
    Graph *graph = model_has(model, functions[i]) ? model_graph(model, functions[i]) : NULL;
    Text reason = {0};
    CHECK(!graph || graph_verify(graph, &reason), "%s", text_string(&reason));
    text_free(&reason);
  }
  const char *const *stages;
  size_t count = model_stage_names(model, &stages);
  for (size_t i = 0; i < count; i++) {
    Graph *graph = model_graph(model, "loss");
    if (model_stage(model, stages[i]) && graph) model_select(model, stages[i], graph);
  }
  model_template(model);
  model_preprocess(model);
}

static void check_example(const char *text, bool wrong, int line) {
  Session session;
  session_open_text(&session, text);
  compile(&session);
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
  session_close(&session);
}

int main(void) {
  FILE *file = fopen("docs/language.md", "r");
  char row[1000];
  int line = 0, start = 0, examples = 0;
  bool wrong = false;
  Text text = {0};
  CHECK(file, "docs/language.md is missing");
  while (file && fgets(row, sizeof row, file)) {
    line++;
    if (!start && !strncmp(row, "```vlm", 6)) {
      start = line, wrong = strstr(row, "error") != NULL;
    } else if (start && !strncmp(row, "```", 3)) {
      check_example(text_string(&text), wrong, start);
      text_free(&text);
      start = 0, examples++;
    } else if (start) {
      text_print(&text, "%s", row);
    }
  }
  if (file) fclose(file);
  CHECK(examples >= 20 && !start, "%d examples", examples);
  return check_finish();
}
