// Template -> Jinja text: one line, so that no setting on blanks around blocks changes what it renders.
#include "runtime/jinja.h"

#include <string.h>

#include "runtime/form.h"

// 'TEXT' as a string of Jinja.
static void add_literal(Text *out, const char *text, size_t length) {
  text_print(out, "'");
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '\n')
      text_print(out, "\\n");
    else if (text[i] == '\t')
      text_print(out, "\\t");
    else
      text_print(out, text[i] == '\'' || text[i] == '\\' ? "\\%c" : "%c", text[i]);
  }
  text_print(out, "'");
}

static void add_string(Text *out, const char *text, size_t length) {
  if (!length) return;
  text_print(out, "{{ ");
  add_literal(out, text, length);
  text_print(out, " }}");
}

static void add_parts(Text *out, const Form *form, size_t from, size_t to, const Form *system, bool first);

// The system's form, in the first turn alone, and only where there is something to say.
static void add_system(Text *out, const Form *system) {
  if (!system->count) return;
  text_print(out, "{%% if loop.first and system %%}");
  add_parts(out, system, 0, system->count, NULL, false);
  text_print(out, "{%% endif %%}");
}

// Parts from..to of a turn, or of the system's form (`system` NULL). A picture's place is the content's.
static void add_parts(Text *out, const Form *form, size_t from, size_t to, const Form *system, bool first) {
  if (first && system && !form->seen[PART_SYSTEM]) add_system(out, system);
  for (size_t i = from; i < to; i++) {
    const Part *part = &form->parts[i];
    switch (part->kind) {
    case PART_TEXT:
    case PART_SPECIAL: add_string(out, part->text, part->length); break;
    case PART_IMAGE: break;
    case PART_SYSTEM:
      if (system)
        add_system(out, system);
      else
        text_print(out, "{{ system }}");
      break;
    case PART_PROMPT: text_print(out, "{{ message['content'] }}"); break;
    case PART_ANSWER:
      add_string(out, part->text, part->length); // the blanks before it
      text_print(out, "{{ message['content'] }}");
      break;
    case PART_KINDS: break;
    }
  }
}

// What the system's message says is `system`; `turns` are the messages after it.
static void add_beginning(Text *out, const Template *form) {
  const char *said = form->system && form->system_text ? form->system_text : "";
  text_print(out, "{%% if messages[0]['role'] == 'system' %%}");
  if (form->system)
    text_print(out, "{%% set system = messages[0]['content'] %%}");
  else
    text_print(out, "{{ raise_exception('this model has no place for a system message') }}");
  text_print(out, "{%% set turns = messages[1:] %%}{%% else %%}{%% set system = ");
  add_literal(out, said, strlen(said));
  text_print(out, " %%}{%% set turns = messages %%}{%% endif %%}");
  if (form->begin) add_string(out, form->begin, strlen(form->begin));
}

bool template_jinja(const Template *form, Text *out, Failure *failure) {
  const Spellings none = {0}; // special tokens are text here
  Arena *arena = arena_new();
  Forms forms;
  bool good = forms_parse(arena, form, &none, &forms, NULL, failure) &&
              (forms.turn.count || fail(failure, "template: it has no turn"));
  if (good) {
    const Form turn = forms.turn, system = forms.system;
    size_t answer = 0;
    while (turn.parts[answer].kind != PART_ANSWER) answer++;
    add_beginning(out, form);
    text_print(out, "{%% for message in turns %%}{%% if message['role'] == 'user' %%}");
    add_parts(out, &turn, 0, answer, &system, true);
    text_print(out, "{%% elif message['role'] == 'assistant' %%}");
    add_parts(out, &turn, answer, turn.count, &system, false);
    text_print(out, "{%% else %%}{{ raise_exception('a turn is of user or assistant') }}{%% endif %%}"
                    "{%% endfor %%}");
  }
  arena_free(arena);
  return good;
}
