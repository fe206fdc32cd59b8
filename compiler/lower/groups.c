// The graph of groups: dependencies, reachability, merging. A level per group, larger than those of all
// groups that it depends on, keeps walks short.
#include "compiler/lower/groups.h"

#include "runtime/base/failure.h"

#include <string.h>

uint32_t group_new(Fusing *fusing, GroupKind kind) {
  Group *group = ARENA_NEW(fusing->arena, Group);
  group->kind = kind;
  space_init(&group->space);
  if (!fusing->group_count) // the first one is nobody's
    ARENA_PUSH(fusing->arena, fusing->groups, fusing->group_count, fusing->group_capacity, group);
  ARENA_PUSH(fusing->arena, fusing->groups, fusing->group_count, fusing->group_capacity, group);
  return (uint32_t)fusing->group_count - 1;
}

uint32_t group_find(const Fusing *fusing, uint32_t group) {
  while (fusing->groups[group]->into) group = fusing->groups[group]->into;
  return group;
}

Group *group_at(Fusing *fusing, uint32_t group) { return fusing->groups[group_find(fusing, group)]; }

static void push(Fusing *fusing, GroupList *list, uint32_t group) {
  ARENA_PUSH(fusing->arena, list->list, list->count, list->capacity, group);
}

// Raises the levels of all that depend on a group above its own. No circle is ever closed, so this ends.
static void raise_readers(Fusing *fusing, uint32_t id) {
  Group *group = fusing->groups[id];
  for (size_t i = 0; i < group->readers.count; i++) {
    uint32_t reader = group_find(fusing, group->readers.list[i]);
    if (reader == id || fusing->groups[reader]->level > group->level) continue;
    fusing->groups[reader]->level = group->level + 1;
    raise_readers(fusing, reader);
  }
}

void group_depend(Fusing *fusing, uint32_t group, uint32_t on) {
  group = group_find(fusing, group);
  on = group_find(fusing, on);
  if (group == on) return;
  Group *of = fusing->groups[group];
  for (size_t i = 0; i < of->inputs.count; i++)
    if (of->inputs.list[i] == on) return;
  push(fusing, &of->inputs, on);
  push(fusing, &fusing->groups[on]->readers, group);
  if (of->level > fusing->groups[on]->level) return;
  of->level = fusing->groups[on]->level + 1;
  raise_readers(fusing, group);
}

static bool reaches(Fusing *fusing, uint32_t id, uint32_t target) {
  Group *group = fusing->groups[id];
  if (id == target) return true;
  if (group->stamp == fusing->stamp || group->level <= fusing->groups[target]->level) return false;
  group->stamp = fusing->stamp;
  for (size_t i = 0; i < group->inputs.count; i++)
    if (reaches(fusing, group_find(fusing, group->inputs.list[i]), target)) return true;
  return false;
}

bool group_depends(Fusing *fusing, uint32_t group, uint32_t on) {
  group = group_find(fusing, group);
  on = group_find(fusing, on);
  fusing->stamp++;
  return group != on && reaches(fusing, group, on);
}

bool groups_independent(Fusing *fusing, uint32_t a, uint32_t b) {
  a = group_find(fusing, a);
  b = group_find(fusing, b);
  return a != b && !group_depends(fusing, a, b) && !group_depends(fusing, b, a);
}

void groups_merge(Fusing *fusing, uint32_t into, uint32_t from) {
  Group *to = fusing->groups[into], *of = fusing->groups[from];
  of->into = into;
  for (size_t i = 0; i < of->inputs.count; i++)
    if (group_find(fusing, of->inputs.list[i]) != into) push(fusing, &to->inputs, of->inputs.list[i]);
  for (size_t i = 0; i < of->readers.count; i++)
    if (group_find(fusing, of->readers.list[i]) != into) push(fusing, &to->readers, of->readers.list[i]);
  if (to->level < of->level) to->level = of->level;
  raise_readers(fusing, into);
}

void homes_add(const Fusing *fusing, Homes *homes, uint32_t group) {
  group = group_find(fusing, group);
  for (int i = 0; i < homes->count; i++) {
    homes->list[i] = group_find(fusing, homes->list[i]);
    if (homes->list[i] == group) return;
  }
  if (homes->count == MAX_SOURCES)
    homes->many = true;
  else
    homes->list[homes->count++] = group;
}

void homes_add_node(const Fusing *fusing, Homes *homes, NodeId id) {
  if (fusing->home[id]) {
    homes_add(fusing, homes, fusing->home[id]);
    return;
  }
  for (int i = 0; i < fusing->homes[id].count; i++) homes_add(fusing, homes, fusing->homes[id].list[i]);
  homes->many = homes->many || fusing->homes[id].many;
}
