// Values that a body sets and nothing reads: a misspelt name takes what was computed out of the model in silence.
// Input: the tree of a file; output: an error at each such target. Goes through a body from its end, with the
// names that are read later.
#include "compiler/syntax/ast.h"

#include <string.h>

typedef struct Live {
  Arena *arena;
  Diagnostics *diagnostics;
  const char **list; // names that are read below; one may stand here several times
  size_t count, capacity;
  const Ast **unused; // targets, the last one first
  size_t unused_count, unused_capacity;
} Live;

static bool is_live(const Live *live, const char *name) {
  for (size_t i = 0; i < live->count; i++)
    if (!strcmp(live->list[i], name)) return true;
  return false;
}

static void forget(Live *live, const char *name) {
  size_t kept = 0;
  for (size_t i = 0; i < live->count; i++)
    if (strcmp(live->list[i], name)) live->list[kept++] = live->list[i];
  live->count = kept;
}

static const Ast *target_name(const Ast *target) { return target->kind == AST_INDEX ? target->a : target; }

// Every name in a tree, whatever it stands for, but those that assignments set.
static void read_names(Live *live, const Ast *ast) {
  if (!ast) return;
  if (ast->kind == AST_NAME) ARENA_PUSH(live->arena, live->list, live->count, live->capacity, ast->text);
  read_names(live, ast->a);
  read_names(live, ast->b);
  read_names(live, ast->c);
  read_names(live, ast->d);
  for (size_t i = 0; i < ast->count; i++) {
    const Ast *child = ast->list[i];
    if (ast->kind != AST_ASSIGN) read_names(live, child);
    for (size_t j = 0; ast->kind == AST_ASSIGN && child->kind == AST_INDEX && j < child->count; j++)
      read_names(live, child->list[j]);
  }
}

// `q, k, v = ..` is fine where one of them is read. y[..] = .. may set a piece: others of it stay wanted.
static void leave_assignment(Live *live, const Ast *assign) {
  bool any = false;
  for (size_t i = 0; i < assign->count; i++) any |= is_live(live, target_name(assign->list[i])->text);
  if (!any) ARENA_PUSH(live->arena, live->unused, live->unused_count, live->unused_capacity, assign->list[0]);
  for (size_t i = 0; i < assign->count; i++)
    if (assign->list[i]->kind == AST_NAME) forget(live, assign->list[i]->text);
  read_names(live, assign);
}

static void leave_block(Live *live, const Ast *block) {
  for (size_t i = block->count; i-- > 0;) {
    const Ast *statement = block->list[i];
    if (statement->kind == AST_ASSIGN) {
      leave_assignment(live, statement);
    } else if (statement->kind == AST_REPEAT) { // what its next round reads is read later, too
      read_names(live, statement->c);
      leave_block(live, statement->c);
      read_names(live, statement); // there may be no round at all: nothing is forgotten
    } else {
      read_names(live, statement);
    }
  }
}

// In order of the text.
static void report(Live *live) {
  for (size_t i = live->unused_count; i-- > 0;)
    error_at(live->diagnostics, live->unused[i]->span, "`%s` is set here, and nothing reads it",
             target_name(live->unused[i])->text);
  live->unused_count = 0;
}

static void check(Live *live, const Ast *ast) {
  if (!ast) return;
  bool has_body = ast->kind == AST_FUNCTION || ast->kind == AST_LAYER;
  if (has_body && ast->c && ast->c->kind == AST_BLOCK) {
    live->count = 0;
    read_names(live, ast->b);
    leave_block(live, ast->c);
    report(live);
  }
  if (ast->kind == AST_MODEL) check(live, ast->c);
  for (size_t i = 0; (ast->kind == AST_FILE || ast->kind == AST_BLOCK) && i < ast->count; i++)
    check(live, ast->list[i]);
}

void ast_check_unused(Diagnostics *diagnostics, const Ast *file) {
  Live live = {.arena = arena_new(), .diagnostics = diagnostics};
  check(&live, file);
  arena_free(live.arena);
}
