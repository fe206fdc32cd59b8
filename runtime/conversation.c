// Template + row -> ids. Forms are parsed once; a row is written as plain text that is encoded wherever a
// special token or a picture interrupts it.
#include "runtime/conversation.h"

#include <string.h>

#include "runtime/form.h"

struct Conversation {
  const Tokenizer *tokenizer;
  const Template *form;
  Forms forms;
  int32_t image;
  int32_t *ends; // [form->end_count]
};

// ---- the template -------------------------------------------------------------------------------

int32_t conversation_token(const Tokenizer *tokenizer, const char *text) {
  Ids ids = {0};
  int32_t id = tokenizer_find(tokenizer, text);
  if (id < 0) tokenizer_encode(tokenizer, text, strlen(text), false, &ids);
  if (ids.count == 1) id = ids.list[0];
  ids_free(&ids);
  return id;
}

// The id of a special token that the template needs; -1 for NULL.
static bool find_special(const Conversation *conversation, const char *special, int32_t *id,
                         Failure *failure) {
  *id = special ? tokenizer_find(conversation->tokenizer, special) : -1;
  return !special || *id >= 0 ||
         fail(failure, "template: the tokenizer has no special token \"%.80s\"", special);
}

static const char *image_mark(const Template *form) {
  return form->image_mark ? form->image_mark : form->image_token;
}

// A picture's place in the forms, where another token stands there in the ids.
static bool is_place(const Template *form, const char *special) {
  return form->image_token && !strcmp(special, form->image_token) && strcmp(special, image_mark(form));
}

static bool find_specials(Conversation *conversation, Arena *arena, Failure *failure) {
  const Template *form = conversation->form;
  int32_t id;
  for (size_t i = 0; i < form->special_count; i++)
    if (!is_place(form, form->specials[i]) && !find_special(conversation, form->specials[i], &id, failure))
      return false;
  conversation->ends = ARENA_ARRAY(arena, int32_t, form->end_count);
  for (size_t i = 0; i < form->end_count; i++)
    if (!find_special(conversation, form->ends[i], &conversation->ends[i], failure)) return false;
  if (form->image_tokens > 0 && !form->image_token)
    return fail(failure, "template: the model reads pictures, but no image token is named");
  if (form->image_tokens > 0)
    conversation->image = conversation_token(conversation->tokenizer, image_mark(form));
  return form->image_tokens <= 0 || conversation->image >= 0 ||
         fail(failure, "template: the tokenizer has no token \"%.80s\"", image_mark(form));
}

// All of the tokenizer's special tokens, whether the template's `specials` list them or not.
static Spellings special_spellings(const Tokenizer *tokenizer, Arena *arena) {
  Spellings spellings = {0};
  for (int32_t id = 0; id < tokenizer_count(tokenizer); id++) {
    size_t length;
    const char *bytes = tokenizer_is_special(tokenizer, id) ? tokenizer_bytes(tokenizer, id, &length) : NULL;
    if (bytes && length) spellings_add(arena, &spellings, bytes, length);
  }
  return spellings;
}

bool conversation_new(Arena *arena, const Tokenizer *tokenizer, const Template *form, Conversation **out,
                      Failure *failure) {
  Conversation *conversation = ARENA_NEW(arena, Conversation);
  *conversation = (Conversation){.tokenizer = tokenizer, .form = form, .image = -1};
  *out = conversation;
  if (!find_specials(conversation, arena, failure)) return false;
  Spellings specials = special_spellings(tokenizer, arena);
  return forms_parse(arena, form, &specials, &conversation->forms, NULL, failure);
}

// ---- writing ------------------------------------------------------------------------------------

// A place in the text that is being gathered where what is supervised begins or ends.
typedef struct Borders {
  size_t *list, count, capacity;
} Borders;

typedef struct Writing {
  const Conversation *conversation;
  const char *system; // NULL: left out
  Text text;          // plain, since the last special token or picture
  Ids ids, scratch;
  size_t picture_end; // ids up to the last picture's last; 0: no picture
  size_t most;        // ids after which no more pictures are written: the sample is too long anyway
  Arena *arena;       // NULL: only ids are wanted
  bool supervised;    // what is written now
  Borders borders;    // in the text
  Borders spans;      // ids from begin to end, in pairs, are supervised
} Writing;

// How many of the text's ids, from `first` on, spell its first `length` bytes. A token across that place
// counts for what comes after it: whoever writes the token writes the rest.
static size_t ids_before(Writing *writing, size_t first, size_t length) {
  size_t same = 0;
  if (length == writing->text.length) return writing->ids.count - first;
  writing->scratch.count = 0;
  if (length)
    tokenizer_encode(writing->conversation->tokenizer, text_string(&writing->text), length, false,
                     &writing->scratch);
  while (same < writing->scratch.count && first + same < writing->ids.count &&
         writing->scratch.list[same] == writing->ids.list[first + same])
    same++;
  return same;
}

static void flush(Writing *writing) {
  size_t first = writing->ids.count;
  if (writing->text.length)
    tokenizer_encode(writing->conversation->tokenizer, text_string(&writing->text), writing->text.length,
                     false, &writing->ids);
  for (size_t i = 0; i < writing->borders.count; i++) {
    size_t at = first + ids_before(writing, first, writing->borders.list[i]);
    ARENA_PUSH(writing->arena, writing->spans.list, writing->spans.count, writing->spans.capacity, at);
  }
  writing->borders.count = 0;
  writing->text.length = 0;
}

static void supervise(Writing *writing, bool supervised) {
  if (!writing->arena || writing->supervised == supervised) return;
  writing->supervised = supervised;
  ARENA_PUSH(writing->arena, writing->borders.list, writing->borders.count, writing->borders.capacity,
             writing->text.length);
}

static void write_special(Writing *writing, int32_t id) {
  flush(writing);
  ids_add(&writing->ids, id);
  if (conversation_ends(writing->conversation, id)) supervise(writing, false);
}

static void write_string(Writing *writing, const char *string) {
  text_add(&writing->text, string, strlen(string));
}

static void write_pictures(Writing *writing, const Part *part, int count) {
  const Template *form = writing->conversation->form;
  for (int i = 0; i < count && form->image_tokens > 0 && writing->ids.count <= writing->most; i++) {
    flush(writing);
    for (int j = 0; j < form->image_tokens; j++) ids_add(&writing->ids, writing->conversation->image);
    writing->picture_end = writing->ids.count;
    text_add(&writing->text, part->text, part->length);
  }
}

// `turn` NULL: a form without parts of a turn.
static void write_part(Writing *writing, const Part *part, const Turn *turn) {
  const Tokenizer *tokenizer = writing->conversation->tokenizer;
  switch (part->kind) {
  case PART_TEXT: text_add(&writing->text, part->text, part->length); break;
  case PART_SPECIAL: {
    Ids id = {0};
    tokenizer_encode(tokenizer, part->text, part->length, true, &id);
    for (size_t i = 0; i < id.count; i++) write_special(writing, id.list[i]);
    ids_free(&id);
    break;
  }
  case PART_IMAGE: write_pictures(writing, part, turn->pictures); break;
  case PART_SYSTEM: write_string(writing, writing->system); break;
  case PART_PROMPT: write_string(writing, turn->prompt); break;
  case PART_ANSWER:
    supervise(writing, true);
    text_add(&writing->text, part->text, part->length);
    write_string(writing, turn->answer);
    break;
  case PART_KINDS: break;
  }
}

static void write_form(Writing *writing, const Form *form) {
  for (size_t i = 0; i < form->count; i++) write_part(writing, &form->parts[i], NULL);
}

static void write_system(Writing *writing, bool first) {
  if (first && writing->system) write_form(writing, &writing->conversation->forms.system);
}

// A turn or a caption; not `whole`: up to where its answer would begin.
static void write_turn(Writing *writing, const Form *form, const Turn *turn, bool first, bool whole) {
  if (!form->seen[PART_SYSTEM]) write_system(writing, first);
  for (size_t i = 0; i < form->count; i++) {
    if (form->parts[i].kind == PART_ANSWER && !whole) break;
    if (form->parts[i].kind == PART_SYSTEM)
      write_system(writing, first);
    else
      write_part(writing, &form->parts[i], turn);
  }
  supervise(writing, false);
}

static Writing writing_begin(const Conversation *conversation, const char *system, Arena *arena) {
  Writing writing = {.conversation = conversation, .arena = arena, .most = SIZE_MAX};
  if (!system) system = conversation->form->system_text;
  if (conversation->form->system && system && *system) writing.system = system;
  write_form(&writing, &conversation->forms.begin);
  return writing;
}

static void writing_end(Writing *writing) {
  supervise(writing, false);
  flush(writing);
  text_free(&writing->text);
  ids_free(&writing->scratch);
}

// ---- samples ------------------------------------------------------------------------------------

static bool finish(const Writing *writing, const char *place, size_t length, Arena *arena, Sample *sample,
                   Failure *failure) {
  if (writing->picture_end > length)
    return fail(failure, "%s: the picture ends at token %zu, but samples are cut at a length of %zu", place,
                writing->picture_end, length);
  size_t whole = writing->ids.count, count = whole < length ? whole : length;
  *sample =
      (Sample){ARENA_ARRAY(arena, int32_t, count), ARENA_ARRAY(arena, uint8_t, count), count, count < whole};
  if (count) memcpy(sample->ids, writing->ids.list, count * sizeof *sample->ids);
  const Borders *spans = &writing->spans;
  for (size_t i = 0; i + 1 < spans->count; i += 2)
    for (size_t at = spans->list[i]; at < spans->list[i + 1] && at < count; at++)
      if (at) sample->supervised[at - 1] = 1; // what is supervised is the target of the id before it
  return true;
}

static void write_text(Writing *writing, const char *text) {
  supervise(writing, true);
  write_string(writing, text);
  if (writing->conversation->form->end_count) write_special(writing, writing->conversation->ends[0]);
}

bool conversation_encode(const Conversation *conversation, const Row *row, const char *place, size_t length,
                         Arena *arena, Sample *sample, Failure *failure) {
  const Form *form = row->caption ? &conversation->forms.caption : &conversation->forms.turn;
  if (!row->text && !form->count)
    return fail(failure, "%s: the row has %s, but the model's template says nothing of how one reads", place,
                row->caption ? "a caption" : "turns");
  if (row->system && !conversation_takes_system(conversation))
    return fail(failure, "%s: the row has a system's text, but the model's template has no place for it",
                place);
  Turn caption = {"", row->caption, (int)row->image_count};
  Writing writing = writing_begin(conversation, row->system, arena);
  writing.most = length;
  if (row->text) write_text(&writing, row->text);
  if (row->caption) write_turn(&writing, form, &caption, false, true);
  for (int i = 0; i < row->turn_count; i++) write_turn(&writing, form, &row->turns[i], i == 0, true);
  writing_end(&writing);
  bool good = finish(&writing, place, length, arena, sample, failure);
  ids_free(&writing.ids);
  return good;
}

// ---- prompts ------------------------------------------------------------------------------------

static void give_ids(Writing *writing, Ids *ids) {
  writing_end(writing);
  for (size_t i = 0; i < writing->ids.count; i++) ids_add(ids, writing->ids.list[i]);
  ids_free(&writing->ids);
}

void conversation_prompt(const Conversation *conversation, const char *system, const Turn *turns,
                         int turn_count, Ids *ids) {
  Writing writing = writing_begin(conversation, system, NULL);
  for (int i = 0; i < turn_count; i++)
    write_turn(&writing, &conversation->forms.turn, &turns[i], i == 0, i + 1 < turn_count);
  give_ids(&writing, ids);
}

void conversation_caption_prompt(const Conversation *conversation, Ids *ids) {
  static const Turn none = {"", "", 1};
  Writing writing = writing_begin(conversation, NULL, NULL);
  write_turn(&writing, &conversation->forms.caption, &none, false, false);
  give_ids(&writing, ids);
}

static size_t find_answer(const Form *form) {
  size_t at = 0;
  while (at < form->count && form->parts[at].kind != PART_ANSWER) at++;
  return at;
}

size_t conversation_blanks(const Conversation *conversation, const char *generated) {
  const Form *form = &conversation->forms.turn;
  size_t answer = find_answer(form), blanks = 0;
  while (answer < form->count && blanks < form->parts[answer].length && generated[blanks] == ' ') blanks++;
  return blanks;
}

const char *conversation_answer(const Conversation *conversation, const char *generated, Arena *arena) {
  const Form *form = &conversation->forms.turn;
  size_t after = find_answer(form) + 1;
  generated += conversation_blanks(conversation, generated);
  size_t length = strlen(generated);
  const Part *tail = after < form->count && form->parts[after].kind == PART_TEXT ? &form->parts[after] : NULL;
  if (tail && tail->length <= length && !memcmp(generated + length - tail->length, tail->text, tail->length))
    length -= tail->length;
  return arena_copy(arena, generated, length);
}

// ---- training a tokenizer -----------------------------------------------------------------------

static void add_piece(TokenizerTrainer *trainer, Text *text) {
  if (text->length) tokenizer_trainer_add(trainer, text_string(text), text->length);
  text->length = 0;
}

static void add_string(Text *text, const char *string) {
  if (string) text_add(text, string, strlen(string));
}

// What a form and its parts spell, cut at special tokens and pictures.
static void add_form_texts(const Form *form, const char *system, const Turn *turn,
                           TokenizerTrainer *trainer) {
  Text text = {0};
  for (size_t i = 0; i < form->count; i++) {
    const Part *part = &form->parts[i];
    bool cuts = part->kind == PART_SPECIAL || part->kind == PART_IMAGE;
    if (cuts) add_piece(trainer, &text);
    if (part->kind == PART_SYSTEM) add_string(&text, system);
    if (part->kind == PART_PROMPT) add_string(&text, turn->prompt);
    if (part->kind == PART_TEXT || part->kind == PART_IMAGE || part->kind == PART_ANSWER)
      text_add(&text, part->text, part->length);
    if (part->kind == PART_ANSWER) add_string(&text, turn->answer);
  }
  add_piece(trainer, &text);
  text_free(&text);
}

void conversation_add_texts(const Template *form, const Row *row, TokenizerTrainer *trainer) {
  Arena *arena = arena_new();
  Spellings specials = {0};
  Forms forms;
  Failure failure; // a wrong form is reported when it is used
  for (size_t i = 0; i < form->special_count; i++)
    spellings_add(arena, &specials, form->specials[i], strlen(form->specials[i]));
  Turn whole = {"", row->caption, 0}, none = {"", "", 0};
  const char *said = row->system ? row->system : form->system_text;
  bool good = forms_parse(arena, form, &specials, &forms, NULL, &failure);
  if (row->text) tokenizer_trainer_add(trainer, row->text, strlen(row->text));
  if (good && row->caption) add_form_texts(&forms.caption, NULL, &whole, trainer);
  if (good && row->turn_count && said && *said) add_form_texts(&forms.system, said, &none, trainer);
  for (int i = 0; good && i < row->turn_count; i++)
    add_form_texts(&forms.turn, NULL, &row->turns[i], trainer);
  arena_free(arena);
}

bool conversation_ends(const Conversation *conversation, int32_t id) {
  for (size_t i = 0; i < conversation->form->end_count; i++)
    if (conversation->ends[i] == id) return true;
  return false;
}

bool conversation_takes_system(const Conversation *conversation) { return conversation->form->system; }
bool conversation_has_turns(const Conversation *conversation) { return conversation->forms.turn.count; }
int32_t conversation_image(const Conversation *conversation) { return conversation->image; }
int32_t conversation_padding(const Conversation *conversation) {
  return conversation->form->end_count ? conversation->ends[0] : 0;
}
