// Every file of tests/errors is wrong where it says so: `# error: TEXT` on a line means that an error is
// reported on this line, with a caret, whose message holds TEXT; and no other errors are reported.
#include "compiler/elaborate/elaborate.h"

#include "check.h"

#include <dirent.h>

typedef struct Session {
  Arena *arena;
  Sources sources;
  Diagnostics diagnostics;
  Modules modules;
} Session;

// The rest of the line after `mark`, trailing blanks dropped; NULL: the line does not hold it.
static const char *directive(Arena *arena, const char *line, const char *mark) {
  size_t length = strcspn(line, "\n");
  const char *found = strstr(line, mark);
  if (!found || found >= line + length) return NULL;
  found += strlen(mark);
  size_t rest = (size_t)(line + length - found);
  while (rest && found[rest - 1] == ' ') rest--;
  return arena_copy(arena, found, rest);
}

static void compile(Session *session, const char *path, const char *preset) {
  static const char *const library[] = {"stdlib", "models"};
  ModelOptions options = {.preset = preset};
  if (!ast_load(session->arena, &session->diagnostics, path, library, 2, &session->modules)) return;
  Model *model = model_open(session->arena, &session->diagnostics, &session->modules, &options);
  WeightMaps maps;
  if (!model || !model_weights(model, &maps)) return;
  if (model_has(model, "forward")) model_graph(model, "forward");
  const char *const *stages;
  size_t count = model_stage_names(model, &stages);
  for (size_t i = 0; i < count; i++) {
    model_stage(model, stages[i]);
    Graph *graph = model_graph(model, "loss");
    if (graph) model_select(model, stages[i], graph);
  }
  model_template(model);
  model_preprocess(model);
  for (size_t i = 0; !session->diagnostics.errors && i < session->modules.count; i++)
    ast_check_unused(&session->diagnostics, session->modules.list[i].file);
}

// Whether `said` has an error at the line, followed by the source line and a caret, that holds `wanted`.
static bool has_error(Arena *arena, const char *said, const char *path, int line, const char *wanted) {
  const char *head = arena_print(arena, "%s:%d:", path, line);
  for (const char *at = said; (at = strstr(at, head)); at++) {
    const char *message = directive(arena, at, ": error: ");
    if (!message || !strstr(message, wanted)) continue;
    const char *shown = strchr(at, '\n'), *caret = shown ? strchr(shown + 1, '\n') : NULL;
    if (caret && directive(arena, caret + 1, "| ") && memchr(caret + 1, '^', strcspn(caret + 1, "\n")))
      return true;
  }
  return false;
}

static void check_file(const char *path, bool print) {
  Session session = {.arena = arena_new()};
  sources_init(&session.sources, session.arena);
  session.diagnostics.sources = &session.sources;
  uint32_t source;
  Failure failure;
  if (!sources_read(&session.sources, path, &source, &failure)) {
    CHECK(false, "%s", failure.message);
    arena_free(session.arena);
    return;
  }
  const char *text = session.sources.list[source].text, *preset = NULL;
  if (!strncmp(text, "# preset: ", 10)) preset = directive(session.arena, text, "# preset: ");
  compile(&session, path, preset);
  const char *said = text_string(&session.diagnostics.text);
  if (print) printf("%s", said);
  int expected = 0, number = 1;
  for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n', number++) {
    const char *wanted = directive(session.arena, line, "# error: ");
    if (!wanted) continue;
    expected++;
    CHECK(has_error(session.arena, said, path, number, wanted), "%s:%d: expected `%s` in\n%s", path, number,
          wanted, said);
  }
  CHECK(expected > 0 && session.diagnostics.errors == expected, "%s: %d errors, not %d:\n%s", path,
        session.diagnostics.errors, expected, said);
  text_free(&session.diagnostics.text);
  arena_free(session.arena);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int main(int count, char **arguments) {
  DIR *folder = opendir("tests/errors");
  char *paths[500];
  size_t files = 0;
  for (struct dirent *entry; folder && (entry = readdir(folder)) && files < 500;) {
    if (!strstr(entry->d_name, ".vlm")) continue;
    paths[files] = malloc(strlen(entry->d_name) + 20);
    sprintf(paths[files++], "tests/errors/%s", entry->d_name);
  }
  if (folder) closedir(folder);
  qsort(paths, files, sizeof *paths, by_name);
  CHECK(files >= 45, "%zu files in tests/errors", files);
  for (size_t i = 0; i < files; i++) {
    if (count < 2 || strstr(paths[i], arguments[1])) check_file(paths[i], count > 1);
    free(paths[i]);
  }
  return check_finish();
}
