// The shipped models as their folder has them: every file of models/, with the presets and stages that stand
// in it. Tests that speak of all models go over these, so that a new one is not forgotten. Run from the
// project's folder.
#ifndef VLMC_TESTS_SHIPPED_H
#define VLMC_TESTS_SHIPPED_H

#include "compiler/syntax/ast.h"
#include "tests/check.h"

#include <glob.h>

typedef struct Shipped {
  const char *path;     // "models/gpt.vlm"
  const char **presets; // the first is NULL: the model's own defaults
  const char **stages;
  size_t preset_count, stage_count;
} Shipped;

static const char *const shipped_library[] = {"stdlib", "models"};

static inline Shipped shipped_read(Arena *arena, const char *path) {
  Shipped it = {.path = arena_print(arena, "%s", path)};
  Sources sources;
  Modules modules = {0};
  sources_init(&sources, arena);
  Diagnostics diagnostics = {.sources = &sources};
  bool loaded = ast_load(arena, &diagnostics, it.path, shipped_library, 2, &modules);
  CHECK(loaded, "%s", text_string(&diagnostics.text));
  text_free(&diagnostics.text);
  const Ast *file = loaded ? modules.list[modules.count - 1].file : NULL;
  size_t count = file ? file->count : 0;
  it.presets = ARENA_ARRAY(arena, const char *, count + 1);
  it.stages = ARENA_ARRAY(arena, const char *, count + 1);
  it.presets[it.preset_count++] = NULL;
  for (size_t i = 0; i < count; i++) {
    if (file->list[i]->kind == AST_PRESET) it.presets[it.preset_count++] = file->list[i]->text;
    if (file->list[i]->kind == AST_STAGE) it.stages[it.stage_count++] = file->list[i]->text;
  }
  return it;
}

static inline size_t shipped_models(Arena *arena, Shipped **models) {
  glob_t found;
  bool any = glob("models/*.vlm", 0, NULL, &found) == 0;
  CHECK(any, "no models/*.vlm: is this the project's folder?");
  size_t count = any ? found.gl_pathc : 0;
  *models = ARENA_ARRAY(arena, Shipped, count + 1);
  for (size_t i = 0; i < count; i++) (*models)[i] = shipped_read(arena, found.gl_pathv[i]);
  if (any) globfree(&found);
  return count;
}

#endif
