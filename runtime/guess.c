// Training rows -> the commonest answer by prompt, through sorting.
#include "runtime/guess.h"

#include <stdlib.h>
#include <string.h>

struct Guesser {
  Arena *arena;
  Turn *best; // sorted by prompt, one entry each
  size_t count;
};

static int by_turn(const void *left, const void *right) {
  const Turn *a = left, *b = right;
  int order = strcmp(a->prompt, b->prompt);
  return order ? order : strcmp(a->answer, b->answer);
}

static int by_prompt(const void *left, const void *right) {
  return strcmp(((const Turn *)left)->prompt, ((const Turn *)right)->prompt);
}

// From turns sorted by prompt and answer: per prompt the answer of the longest stretch (the first of equals).
static void keep_commonest(Guesser *guesser, const Turn *turns, size_t count) {
  size_t longest = 0;
  for (size_t i = 0; i < count;) {
    size_t end = i;
    while (end < count && !by_turn(&turns[i], &turns[end])) end++;
    bool fresh = !guesser->count || by_prompt(&guesser->best[guesser->count - 1], &turns[i]);
    if (fresh)
      guesser->best[guesser->count++] = turns[i], longest = end - i;
    else if (end - i > longest)
      guesser->best[guesser->count - 1] = turns[i], longest = end - i;
    i = end;
  }
}

bool guesser_open(const char *folder, const char *name, Guesser **out, Failure *failure) {
  Arena *arena = arena_new();
  Guesser *guesser = ARENA_NEW(arena, Guesser);
  Dataset *dataset = NULL;
  Turn *turns = NULL;
  size_t count = 0, capacity = 0;
  guesser->arena = arena;
  bool good = dataset_open(folder, name, &dataset, failure);
  for (size_t i = 0; good && i < dataset_count(dataset); i++) {
    Row row = {0};
    good = dataset_row(dataset, i, arena, &row, failure);
    for (int j = 0; good && j < row.turn_count; j++) ARENA_PUSH(arena, turns, count, capacity, row.turns[j]);
  }
  dataset_close(dataset);
  *out = good ? guesser : NULL;
  if (!good) {
    arena_free(arena);
    return false;
  }
  if (count) qsort(turns, count, sizeof *turns, by_turn);
  guesser->best = ARENA_ARRAY(arena, Turn, count + 1);
  keep_commonest(guesser, turns, count);
  return true;
}

const char *guesser_answer(const Guesser *guesser, const char *prompt) {
  Turn key = {.prompt = prompt};
  const Turn *found = bsearch(&key, guesser->best, guesser->count, sizeof key, by_prompt);
  return found ? found->answer : NULL;
}

void guesser_close(Guesser *guesser) {
  if (guesser) arena_free(guesser->arena);
}
