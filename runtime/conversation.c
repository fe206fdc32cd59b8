// Template + row -> ids. A template's form ("...{prompt}...{answer}...") is cut into parts once; its texts
// are encoded once; rows only fill in what is theirs.
#include "runtime/conversation.h"

#include <string.h>

typedef enum PartKind { PART_TEXT, PART_IMAGE, PART_PROMPT, PART_ANSWER } PartKind;

typedef struct Part {
  PartKind kind;
  Ids ids;        // PART_TEXT; the list is the arena's
  Ids without;    // PART_TEXT after PART_IMAGE: without its leading line break
  bool answering; // it is {answer} or comes after it
} Part;

typedef struct Form {
  Part *parts;
  size_t count, capacity;
} Form;

struct Conversation {
  Arena *arena;
  const Tokenizer *tokenizer;
  const Template *form;
  Form turn, caption; // caption.count = 0: none
  int32_t image, end;
};

static Ids encode_fixed(const Conversation *conversation, const char *text, size_t length) {
  Ids ids = {0};
  tokenizer_encode(conversation->tokenizer, text, length, true, &ids);
  Ids kept = {.list = ARENA_ARRAY(conversation->arena, int32_t, ids.count), .count = ids.count};
  if (ids.count) memcpy(kept.list, ids.list, ids.count * sizeof *ids.list);
  ids_free(&ids);
  return kept;
}

static void add_text(Conversation *conversation, Form *form, const char *text, size_t length,
                     bool answering) {
  if (!length) return;
  Part part = {.kind = PART_TEXT, .answering = answering};
  part.ids = part.without = encode_fixed(conversation, text, length);
  if (form->count && form->parts[form->count - 1].kind == PART_IMAGE && *text == '\n')
    part.without = encode_fixed(conversation, text + 1, length - 1);
  ARENA_PUSH(conversation->arena, form->parts, form->count, form->capacity, part);
}

// What stands for a part at `text`, and how long that is.
static bool part_at(const Conversation *conversation, const char *text, PartKind *kind, size_t *length) {
  const char *image = conversation->form->image_token;
  const char *spellings[] = {
      [PART_IMAGE] = image && *image ? image : NULL, [PART_PROMPT] = "{prompt}", [PART_ANSWER] = "{answer}"};
  for (*kind = PART_IMAGE; *kind <= PART_ANSWER; ++*kind) {
    if (!spellings[*kind]) continue;
    *length = strlen(spellings[*kind]);
    if (!strncmp(text, spellings[*kind], *length)) return true;
  }
  return false;
}

static bool parse_form(Conversation *conversation, const char *text, const char *name, Form *form,
                       Failure *failure) {
  int seen[PART_ANSWER + 1] = {0};
  const char *done = text;
  for (const char *at = text; *at;) {
    PartKind kind;
    size_t length;
    if (!part_at(conversation, at, &kind, &length)) {
      at++;
      continue;
    }
    add_text(conversation, form, done, (size_t)(at - done), seen[PART_ANSWER]);
    if (seen[kind]++) return fail(failure, "%s: \"%.*s\" stands in it twice", name, (int)length, at);
    if (seen[PART_ANSWER] && kind != PART_ANSWER)
      return fail(failure, "%s: \"%.*s\" stands behind {answer}", name, (int)length, at);
    Part part = {.kind = kind, .answering = kind == PART_ANSWER};
    ARENA_PUSH(conversation->arena, form->parts, form->count, form->capacity, part);
    done = at += length;
  }
  add_text(conversation, form, done, strlen(done), seen[PART_ANSWER]);
  if (!seen[PART_ANSWER]) return fail(failure, "%s: it has no {answer}", name);
  if (conversation->form->image_tokens > 0 && !seen[PART_IMAGE])
    return fail(failure, "%s: the model reads pictures, but it has no %s", name,
                conversation->form->image_token);
  return true;
}

// The id of a special token that the template needs; -1 for NULL.
static bool find_special(const Conversation *conversation, const char *special, int32_t *id,
                         Failure *failure) {
  *id = special ? tokenizer_find(conversation->tokenizer, special) : -1;
  return !special || *id >= 0 ||
         fail(failure, "template: the tokenizer has no special token \"%.80s\"", special);
}

bool conversation_new(Arena *arena, const Tokenizer *tokenizer, const Template *form, Conversation **out,
                      Failure *failure) {
  Conversation *conversation = ARENA_NEW(arena, Conversation);
  *conversation = (Conversation){.arena = arena, .tokenizer = tokenizer, .form = form, .image = -1};
  *out = conversation;
  int32_t id;
  for (size_t i = 0; i < form->special_count; i++)
    if (!find_special(conversation, form->specials[i], &id, failure)) return false;
  if (form->image_tokens > 0 && !form->image_token)
    return fail(failure, "template: the model reads pictures, but no image token is named");
  if (form->image_tokens > 0 && !find_special(conversation, form->image_token, &conversation->image, failure))
    return false;
  if (!find_special(conversation, form->end_token, &conversation->end, failure)) return false;
  if (!form->turn && !form->caption) return fail(failure, "template: it has neither a turn nor a caption");
  if (form->turn && !parse_form(conversation, form->turn, "template", &conversation->turn, failure))
    return false;
  if (!form->caption) return true;
  if (!parse_form(conversation, form->caption, "template of captions", &conversation->caption, failure))
    return false;
  for (size_t i = 0; i < conversation->caption.count; i++)
    if (conversation->caption.parts[i].kind == PART_PROMPT)
      return fail(failure, "template of captions: it has a {prompt}, and captions have none");
  return true;
}

// A sample under construction.
typedef struct Writing {
  Ids ids;
  size_t *supervised; // ids from begin to end, in pairs, are supervised
  size_t span_count, span_capacity;
  size_t picture_end; // ids up to the picture's last; 0: no picture
} Writing;

static void add_ids(Ids *ids, const Ids *more) {
  for (size_t i = 0; i < more->count; i++) ids_add(ids, more->list[i]);
}

static void add_part(const Conversation *conversation, const Part *part, const Turn *turn, bool picture,
                     Writing *writing) {
  const char *user = part->kind == PART_PROMPT   ? turn->prompt
                     : part->kind == PART_ANSWER ? turn->answer
                                                 : NULL;
  if (user) {
    tokenizer_encode(conversation->tokenizer, user, strlen(user), false, &writing->ids);
  } else if (part->kind == PART_TEXT) {
    add_ids(&writing->ids, picture ? &part->ids : &part->without);
  } else if (picture) {
    for (int i = 0; i < conversation->form->image_tokens; i++) ids_add(&writing->ids, conversation->image);
    writing->picture_end = writing->ids.count;
  }
}

static void add_turn(const Conversation *conversation, const Form *form, const Turn *turn, bool picture,
                     Arena *arena, Writing *writing) {
  size_t begin = 0;
  for (size_t i = 0; i < form->count; i++) {
    if (form->parts[i].kind == PART_ANSWER) begin = writing->ids.count;
    add_part(conversation, &form->parts[i], turn, picture, writing);
  }
  ARENA_PUSH(arena, writing->supervised, writing->span_count, writing->span_capacity, begin);
  ARENA_PUSH(arena, writing->supervised, writing->span_count, writing->span_capacity, writing->ids.count);
}

static bool finish(const Writing *writing, const char *place, size_t length, Arena *arena, Sample *sample,
                   Failure *failure) {
  if (writing->picture_end > length)
    return fail(failure, "%s: the picture ends at token %zu, but samples are cut at a length of %zu", place,
                writing->picture_end, length);
  size_t whole = writing->ids.count, count = whole < length ? whole : length;
  *sample =
      (Sample){ARENA_ARRAY(arena, int32_t, count), ARENA_ARRAY(arena, uint8_t, count), count, count < whole};
  if (count) memcpy(sample->ids, writing->ids.list, count * sizeof *sample->ids);
  for (size_t i = 0; i < writing->span_count; i += 2)
    for (size_t at = writing->supervised[i]; at < writing->supervised[i + 1] && at < count; at++)
      if (at) sample->supervised[at - 1] = 1; // what is supervised is the target of the id before it
  return true;
}

static void write_text(const Conversation *conversation, const char *text, Arena *arena, Writing *writing) {
  tokenizer_encode(conversation->tokenizer, text, strlen(text), false, &writing->ids);
  if (conversation->end >= 0) ids_add(&writing->ids, conversation->end);
  ARENA_PUSH(arena, writing->supervised, writing->span_count, writing->span_capacity, (size_t)0);
  ARENA_PUSH(arena, writing->supervised, writing->span_count, writing->span_capacity, writing->ids.count);
}

bool conversation_encode(const Conversation *conversation, const Row *row, const char *place, size_t length,
                         Arena *arena, Sample *sample, Failure *failure) {
  const Form *form = row->caption ? &conversation->caption : &conversation->turn;
  if (!row->text && !form->count)
    return fail(failure, "%s: the row has %s, but the model's template says nothing of how one reads", place,
                row->caption ? "a caption" : "turns");
  bool picture = row->image && conversation->form->image_tokens > 0;
  Turn caption = {"", row->caption};
  Writing writing = {0};
  if (row->text)
    write_text(conversation, row->text, arena, &writing);
  else if (row->caption)
    add_turn(conversation, form, &caption, picture, arena, &writing);
  for (int i = 0; i < row->turn_count; i++)
    add_turn(conversation, form, &row->turns[i], picture && i == 0, arena, &writing);
  bool good = finish(&writing, place, length, arena, sample, failure);
  ids_free(&writing.ids);
  return good;
}

static void prompt_of_form(const Conversation *conversation, const Form *form, const Turn *turn, bool picture,
                           bool whole, Ids *ids) {
  Writing writing = {.ids = *ids};
  for (size_t i = 0; i < form->count && (whole || !form->parts[i].answering); i++)
    add_part(conversation, &form->parts[i], turn, picture, &writing);
  *ids = writing.ids;
}

void conversation_prompt(const Conversation *conversation, const Turn *turns, int turn_count, bool picture,
                         Ids *ids) {
  picture = picture && conversation->form->image_tokens > 0;
  for (int i = 0; i < turn_count; i++)
    prompt_of_form(conversation, &conversation->turn, &turns[i], picture && i == 0, i + 1 < turn_count, ids);
}

void conversation_caption_prompt(const Conversation *conversation, Ids *ids) {
  static const Turn none = {"", ""};
  prompt_of_form(conversation, &conversation->caption, &none, conversation->form->image_tokens > 0, false,
                 ids);
}

// How long the special token or stand-in is that `text` begins with; 0: none.
static size_t mark_length(const Template *form, const char *text) {
  const char *fixed[] = {"{prompt}", "{answer}", form->image_token};
  size_t longest = 0;
  for (size_t i = 0; i < 3 + form->special_count; i++) {
    const char *mark = i < 3 ? fixed[i] : form->specials[i - 3];
    size_t length = mark ? strlen(mark) : 0;
    if (length > longest && !strncmp(text, mark, length)) longest = length;
  }
  return longest;
}

static void add_form_texts(const Template *form, const char *text, TokenizerTrainer *trainer) {
  while (text && *text) {
    size_t plain = 0;
    while (text[plain] && !mark_length(form, text + plain)) plain++;
    if (plain) tokenizer_trainer_add(trainer, text, plain);
    text += plain;
    text += *text ? mark_length(form, text) : 0;
  }
}

void conversation_add_texts(const Template *form, const Row *row, TokenizerTrainer *trainer) {
  if (row->text) tokenizer_trainer_add(trainer, row->text, strlen(row->text));
  if (row->caption) {
    add_form_texts(form, form->caption, trainer);
    tokenizer_trainer_add(trainer, row->caption, strlen(row->caption));
  }
  for (int i = 0; i < row->turn_count; i++) {
    add_form_texts(form, form->turn, trainer);
    tokenizer_trainer_add(trainer, row->turns[i].prompt, strlen(row->turns[i].prompt));
    tokenizer_trainer_add(trainer, row->turns[i].answer, strlen(row->turns[i].answer));
  }
}

int32_t conversation_end(const Conversation *conversation) { return conversation->end; }
int32_t conversation_image(const Conversation *conversation) { return conversation->image; }
int32_t conversation_padding(const Conversation *conversation) {
  return conversation->end >= 0 ? conversation->end : 0;
}
