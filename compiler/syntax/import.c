// Loads a file and, before it, all modules that it needs, each once.
#include "compiler/syntax/ast.h"

#include <string.h>
#include <unistd.h>

typedef struct Loader {
  Arena *arena;
  Diagnostics *diagnostics;
  const char *const *library;
  size_t library_count;
  Modules *modules;
  const char *open[64]; // paths being loaded, outermost first: a cycle leads back into them
  size_t open_count;
} Loader;

static const char *const always[] = {"prelude", "optim"};

static const char *module_name(Arena *arena, const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
  return arena_copy(arena, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

static const char *in_folder(Loader *loader, const char *folder, size_t length, const char *name) {
  const char *path = arena_print(loader->arena, "%.*s%s%s.vlm", (int)length, folder, length ? "/" : "", name);
  return access(path, F_OK) ? NULL : path;
}

static const char *in_library(Loader *loader, const char *name) {
  const char *found = NULL;
  for (size_t i = 0; i < loader->library_count && !found; i++)
    found = in_folder(loader, loader->library[i], strlen(loader->library[i]), name);
  return found;
}

static const char *find_module(Loader *loader, const char *importer, const char *name) {
  const char *slash = strrchr(importer, '/');
  const char *found = in_folder(loader, importer, slash ? (size_t)(slash - importer) : 0, name);
  return found ? found : in_library(loader, name);
}

static void report_missing(Loader *loader, const char *importer, const Ast *import) {
  Text places = {0};
  const char *slash = strrchr(importer, '/');
  text_print(&places, "%.*s", slash ? (int)(slash - importer) : 1, slash ? importer : ".");
  for (size_t i = 0; i < loader->library_count; i++) text_print(&places, ", %s", loader->library[i]);
  error_at(loader->diagnostics, import->span, "there is no module `%s` (%s.vlm) in %s", import->text,
           import->text, text_string(&places));
  text_free(&places);
}

static bool is_open(const Loader *loader, const char *path) {
  for (size_t i = 0; i < loader->open_count; i++)
    if (!strcmp(loader->open[i], path)) return true;
  return false;
}

static bool is_loaded(const Modules *modules, const char *path) {
  for (size_t i = 0; i < modules->count; i++)
    if (!strcmp(modules->list[i].path, path)) return true;
  return false;
}

static bool load(Loader *loader, const char *path, Span from);

static bool load_import(Loader *loader, const char *importer, Ast *import) {
  import->other = find_module(loader, importer, import->text);
  if (!import->other) return report_missing(loader, importer, import), false;
  if (is_open(loader, import->other)) {
    error_at(loader->diagnostics, import->span, "`%s` and this file import each other", import->text);
    return false;
  }
  return is_loaded(loader->modules, import->other) || load(loader, import->other, import->span);
}

static bool load(Loader *loader, const char *path, Span from) {
  uint32_t source;
  Failure failure;
  bool good = true;
  if (loader->open_count == sizeof loader->open / sizeof *loader->open) {
    error_at(loader->diagnostics, from, "imports are nested more than %zu deep", loader->open_count);
    return false;
  }
  if (!sources_read(loader->diagnostics->sources, path, &source, &failure)) {
    error_at(loader->diagnostics, from, "%s", failure.message);
    return false;
  }
  Ast *file = ast_parse(loader->arena, loader->diagnostics, source);
  if (!file) return false;
  loader->open[loader->open_count++] = path;
  for (size_t i = 0; i < file->count; i++)
    if (file->list[i]->kind == AST_IMPORT) good &= load_import(loader, path, file->list[i]);
  loader->open_count--;
  Modules *modules = loader->modules;
  Module module = {module_name(loader->arena, path), path, file};
  ARENA_PUSH(loader->arena, modules->list, modules->count, modules->capacity, module);
  return good;
}

bool ast_load(Arena *arena, Diagnostics *diagnostics, const char *path, const char *const *library,
              size_t library_count, Modules *modules) {
  Loader loader = {arena, diagnostics, library, library_count, modules, {0}, 0};
  *modules = (Modules){0};
  for (size_t i = 0; library_count && i < sizeof always / sizeof *always; i++) {
    const char *found = in_library(&loader, always[i]);
    if (!found) {
      error_at(diagnostics, (Span){0}, "the standard library is incomplete: there is no %s.vlm in %s",
               always[i], library[0]);
      return false;
    }
    if (!load(&loader, found, (Span){0})) return false;
  }
  return load(&loader, arena_copy(arena, path, strlen(path)), (Span){0});
}
