// Texts of a template -> the parts of its forms, checked.
#include "runtime/form.h"

#include <stdint.h>
#include <string.h>

void spellings_add(Arena *arena, Spellings *spellings, const char *text, size_t length) {
  if (spellings->count == spellings->capacity) {
    size_t capacity = spellings->capacity ? 2 * spellings->capacity : 16;
    const char **list = ARENA_ARRAY(arena, const char *, capacity);
    size_t *lengths = ARENA_ARRAY(arena, size_t, capacity);
    for (size_t i = 0; i < spellings->count; i++)
      list[i] = spellings->list[i], lengths[i] = spellings->lengths[i];
    *spellings = (Spellings){list, lengths, spellings->count, capacity};
  }
  spellings->list[spellings->count] = text;
  spellings->lengths[spellings->count++] = length;
}

// The special token that `text` begins with, the longest of them.
static size_t special_at(const Spellings *specials, const char *text) {
  size_t longest = 0;
  for (size_t i = 0; i < specials->count; i++)
    if (specials->lengths[i] > longest && !strncmp(text, specials->list[i], specials->lengths[i]))
      longest = specials->lengths[i];
  return longest;
}

// What other than plain text stands at `text`; a length of 0: nothing.
static Part part_at(const Spellings *specials, const char *image, const char *text) {
  const char *places[PART_KINDS] = {[PART_IMAGE] = image && *image ? image : NULL,
                                    [PART_SYSTEM] = "{system}",
                                    [PART_PROMPT] = "{prompt}",
                                    [PART_ANSWER] = "{answer}"};
  for (PartKind kind = PART_IMAGE; kind < PART_KINDS; kind++)
    if (places[kind] && !strncmp(text, places[kind], strlen(places[kind])))
      return (Part){kind, text, strlen(places[kind])};
  return (Part){PART_SPECIAL, text, special_at(specials, text)};
}

static void add_part(Arena *arena, Form *form, Part part) {
  form->seen[part.kind]++;
  ARENA_PUSH(arena, form->parts, form->count, form->capacity, part);
}

// Plain text before what comes next. Blanks before an answer are the answer's; returns how many.
static size_t add_text(Arena *arena, Form *form, const char *text, size_t length, bool before_answer) {
  size_t blanks = 0;
  while (before_answer && blanks < length && text[length - 1 - blanks] == ' ') blanks++;
  if (length > blanks) add_part(arena, form, (Part){PART_TEXT, text, length - blanks});
  return blanks;
}

// How often each part may, and must, stand in a form.
typedef struct FormRules {
  const char *name; // for messages
  bool image, system, prompt, answer, needs_answer, needs_system, needs_prompt;
} FormRules;

static bool check_part(const Form *form, const Part *part, const FormRules *rules, Failure *failure) {
  const bool allowed[PART_KINDS] = {[PART_TEXT] = true,
                                    [PART_SPECIAL] = true,
                                    [PART_IMAGE] = rules->image,
                                    [PART_SYSTEM] = rules->system,
                                    [PART_PROMPT] = rules->prompt,
                                    [PART_ANSWER] = rules->answer};
  bool place = part->kind >= PART_IMAGE;
  int length = (int)part->length;
  if (!allowed[part->kind])
    return fail(failure, "%s: \"%.*s\" has no place in it", rules->name, length, part->text);
  if (place && form->seen[part->kind])
    return fail(failure, "%s: \"%.*s\" stands in it twice", rules->name, length, part->text);
  return !place || !form->seen[PART_ANSWER] ||
         fail(failure, "%s: \"%.*s\" stands behind {answer}", rules->name, length, part->text);
}

static bool form_parse(Arena *arena, const char *text, const Spellings *specials, const char *image,
                       const FormRules *rules, Form *form, FormFault *fault, Failure *failure) {
  *form = (Form){0};
  if (!text) return true;
  const char *done = text, *at = text;
  while (*at) {
    Part part = part_at(specials, image, at);
    if (!part.length) {
      at++;
      continue;
    }
    if (!check_part(form, &part, rules, failure)) {
      fault->at = part.text, fault->length = part.length;
      return false;
    }
    size_t blanks = add_text(arena, form, done, (size_t)(at - done), part.kind == PART_ANSWER);
    done = at += part.length;
    if (part.kind == PART_IMAGE) { // what separates it from what follows
      part.text = at;
      part.length = *at == '\n' || *at == ' ';
      done = at += part.length;
    } else if (part.kind == PART_ANSWER) {
      part.text -= blanks;
      part.length = blanks;
    }
    add_part(arena, form, part);
  }
  add_text(arena, form, done, strlen(done), false);
  if (rules->needs_answer && !form->seen[PART_ANSWER])
    return fail(failure, "%s: it has no {answer}", rules->name);
  if (rules->needs_prompt && !form->seen[PART_PROMPT])
    return fail(failure, "%s: it has no {prompt}", rules->name);
  return !rules->needs_system || form->seen[PART_SYSTEM] ||
         fail(failure, "%s: it has no {system}", rules->name);
}

// ---- a template ---------------------------------------------------------------------------------

static const FormRules begin_rules = {.name = "template: begin"};
static const FormRules system_rules = {.name = "template: system", .system = true, .needs_system = true};
static const FormRules turn_rules = {.name = "template",
                                     .image = true,
                                     .system = true,
                                     .prompt = true,
                                     .answer = true,
                                     .needs_answer = true,
                                     .needs_prompt = true};
static const FormRules caption_rules = {
    .name = "template of captions", .image = true, .answer = true, .needs_answer = true};

bool forms_parse(Arena *arena, const Template *template, const Spellings *specials, Forms *forms,
                 FormFault *fault, Failure *failure) {
  const struct {
    const char *setting, *text;
    const FormRules *rules;
    Form *form;
  } list[] = {{"begin", template->begin, &begin_rules, &forms->begin},
              {"system", template->system, &system_rules, &forms->system},
              {"turn", template->turn, &turn_rules, &forms->turn},
              {"caption", template->caption, &caption_rules, &forms->caption}};
  FormFault unread;
  if (!fault) fault = &unread;
  *fault = (FormFault){0};
  if (!template->turn && !template->caption)
    return fail(failure, "template: it has neither a turn nor a caption");
  for (int i = 0; i < 4; i++) {
    const char *image = template->image_token, *name = list[i].rules->name;
    fault->setting = list[i].setting;
    if (!form_parse(arena, list[i].text, specials, image, list[i].rules, list[i].form, fault, failure))
      return false;
    bool pictures = template->image_tokens > 0 && list[i].rules->image && list[i].form->count;
    if (pictures && !list[i].form->seen[PART_IMAGE])
      return fail(failure, "%s: the model reads pictures, but it has no %s", name, image);
  }
  fault->setting = "turn";
  return !forms->turn.seen[PART_SYSTEM] || template->system ||
         fail(failure, "template: a turn has {system}, but no `system` says how it reads");
}
