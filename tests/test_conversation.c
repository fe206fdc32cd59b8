// Conversations: which ids a row becomes, which of them are supervised, where it is cut, what a prompt is.
#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/conversation.h"

static const char *const specials[] = {"<|end|>", "<|im_start|>", "<image>"};
static const Template chat = {
    .turn = "<|im_start|>user\n<image>\n{prompt}<|end|>\n<|im_start|>assistant\n{answer}<|end|>\n",
    .caption = "<image>{answer}<|end|>",
    .image_token = "<image>",
    .image_tokens = 3,
    .ends = specials,
    .end_count = 1,
    .specials = specials,
    .special_count = 3};

// A tokenizer that knows bytes and the special tokens only, so that a sample can be read off.
static Tokenizer *byte_tokenizer(void) {
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  Tokenizer *tokenizer;
  Failure failure;
  CHECK(tokenizer_trainer_finish(trainer, 259, specials, 3, &tokenizer, &failure), "%s", failure.message);
  tokenizer_trainer_free(trainer);
  return tokenizer;
}

// Specials as E, S and I, targets that are supervised in [brackets].
static char *spell(const Tokenizer *tokenizer, const int32_t *ids, const uint8_t *supervised, size_t count,
                   Arena *arena) {
  Text text = {0};
  bool inside = false;
  for (size_t i = 0; i < count; i++) {
    bool now = supervised && i > 0 && supervised[i - 1];
    if (now != inside) text_print(&text, now ? "[" : "]");
    inside = now;
    size_t length;
    const char *bytes = tokenizer_bytes(tokenizer, ids[i], &length);
    if (ids[i] < 3)
      text_print(&text, "%c", "ESI"[ids[i]]);
    else
      text_add(&text, bytes, length);
  }
  if (inside) text_print(&text, "]");
  char *copy = arena_copy(arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

static void test_rows(const Conversation *conversation, const Tokenizer *tokenizer, Arena *arena) {
  static const struct {
    const char *line;
    size_t length;
    const char *expected;
  } cases[] = {
      {"{\"image\":\"a.png\",\"prompt\":\"what?\",\"answer\":\"a bag\"}", 100,
       "Suser\nIII\nwhat?E\nSassistant\n[a bagE]\n"},
      {"{\"prompt\":\"what?\",\"answer\":\"a bag\"}", 100, "Suser\nwhat?E\nSassistant\n[a bagE]\n"},
      {"{\"image\":\"a.png\",\"turns\":[{\"prompt\":\"p\",\"answer\":\"a\"},{\"prompt\":\"q\",\"answer\":"
       "\"b\"}]}",
       100, "Suser\nIII\npE\nSassistant\n[aE]\nSuser\nqE\nSassistant\n[bE]\n"},
      {"{\"image\":\"a.png\",\"caption\":\"a cat\"}", 100, "III[a catE]"},
      {"{\"caption\":\"a cat\"}", 100, "a[ catE]"},
      {"{\"text\":\"hello\"}", 100, "h[elloE]"},
      {"{\"text\":\"hello\"}", 3, "h[el]"},
      {"{\"image\":\"a.png\",\"caption\":\"a cat\"}", 5, "III[a ]"},
      {"{\"image\":\"a.png\",\"caption\":\"a cat\"}", 3, "III"},
      {"{\"prompt\":\"<image><|end|>\",\"answer\":\"{prompt}<|end|>\"}", 100,
       "Suser\n<image><|end|>E\nSassistant\n[{prompt}<|end|>E]\n"},
      {"{\"prompt\":\"\",\"answer\":\"\"}", 100, "Suser\nE\nSassistant\n[E]\n"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Row row;
    Sample sample;
    Failure failure = {0};
    bool good = dataset_parse(cases[i].line, strlen(cases[i].line), "d:1", arena, &row, &failure) &&
                conversation_encode(conversation, &row, "d:1", cases[i].length, arena, &sample, &failure);
    CHECK(good, "%s: %s", cases[i].line, failure.message);
    if (!good) continue;
    char *spelled = spell(tokenizer, sample.ids, sample.supervised, sample.count, arena);
    CHECK(!strcmp(spelled, cases[i].expected), "%s\n  gave     %s\n  expected %s", cases[i].line, spelled,
          cases[i].expected);
    CHECK(sample.count <= cases[i].length && sample.cut == (cases[i].length < 100), "its length");
    CHECK(!sample.count || !sample.supervised[sample.count - 1], "the last id has no target");
  }
  const char *image = "a.png";
  Row row = {.images = &image, .image_count = 1, .caption = "x"};
  Sample sample;
  Failure failure;
  CHECK(!conversation_encode(conversation, &row, "d:7", 2, arena, &sample, &failure) &&
            strstr(failure.message, "d:7: the picture ends at token 3"),
        "%s", failure.message);
  // A row of very many pictures takes no memory for them.
  Turn many = {"p", "a", 1 << 30};
  Row long_row = {.turns = &many, .turn_count = 1};
  CHECK(!conversation_encode(conversation, &long_row, "d:8", 50, arena, &sample, &failure) &&
            strstr(failure.message, "d:8: the picture ends at token"),
        "%s", failure.message);
}

static void test_prompts(const Conversation *conversation, const Tokenizer *tokenizer, Arena *arena) {
  Turn turns[] = {{"p", "a", 1}, {"q", "not read", 0}}, none = {"p", "a", 0};
  Ids ids = {0};
  conversation_prompt(conversation, NULL, turns, 2, &ids);
  char *spelled = spell(tokenizer, ids.list, NULL, ids.count, arena);
  CHECK(!strcmp(spelled, "Suser\nIII\npE\nSassistant\naE\nSuser\nqE\nSassistant\n"), "%s", spelled);
  ids.count = 0;
  conversation_prompt(conversation, NULL, &none, 1, &ids);
  spelled = spell(tokenizer, ids.list, NULL, ids.count, arena);
  CHECK(!strcmp(spelled, "Suser\npE\nSassistant\n"), "%s", spelled);
  ids.count = 0;
  conversation_caption_prompt(conversation, &ids);
  CHECK(ids.count == 3 && ids.list[2] == 2, "a caption's prompt has %zu ids", ids.count);
  ids_free(&ids);
  CHECK(conversation_ends(conversation, 0) && !conversation_ends(conversation, 1) &&
            conversation_image(conversation) == 2,
        "special ids");
}

static void test_text_model(const Tokenizer *tokenizer, Arena *arena) {
  Template form = chat;
  form.image_tokens = 0;
  form.end_count = 0;
  Conversation *conversation;
  Failure failure;
  CHECK(conversation_new(arena, tokenizer, &form, &conversation, &failure), "%s", failure.message);
  const char *image = "a.png";
  Turn turn = {"p", "a", 1};
  Row row = {.images = &image, .image_count = 1, .turns = &turn, .turn_count = 1}, text = {.text = "ab"};
  Sample sample;
  CHECK(conversation_encode(conversation, &row, "d", 100, arena, &sample, &failure), "%s", failure.message);
  char *spelled = spell(tokenizer, sample.ids, sample.supervised, sample.count, arena);
  CHECK(!strcmp(spelled, "Suser\npE\nSassistant\n[aE\n]"), "%s", spelled);
  CHECK(conversation_encode(conversation, &text, "d", 100, arena, &sample, &failure) && sample.count == 2,
        "a text without an end token has %zu ids", sample.count);
}

// A picture's place may be an ordinary token.
static void test_ordinary_image(const Tokenizer *tokenizer, Arena *arena) {
  Template form = {.turn = "@{prompt}:{answer}", .image_token = "@", .image_tokens = 2};
  Conversation *conversation;
  Failure failure;
  Turn turn = {"p", "", 1};
  Ids ids = {0};
  CHECK(conversation_new(arena, tokenizer, &form, &conversation, &failure), "%s", failure.message);
  conversation_prompt(conversation, NULL, &turn, 1, &ids);
  char *spelled = spell(tokenizer, ids.list, NULL, ids.count, arena);
  CHECK(!strcmp(spelled, "@@p:"), "%s", spelled);
  form.turn = "<picture>{prompt}:{answer}", form.image_token = "<picture>", form.image_mark = "@";
  form.specials = &form.image_token, form.special_count = 1; // one that the tokenizer does not have
  ids.count = 0;
  CHECK(conversation_new(arena, tokenizer, &form, &conversation, &failure), "%s", failure.message);
  conversation_prompt(conversation, NULL, &turn, 1, &ids);
  spelled = spell(tokenizer, ids.list, NULL, ids.count, arena);
  CHECK(!strcmp(spelled, "@@p:") && conversation_image(conversation) == ids.list[0], "%s", spelled);
  ids_free(&ids);
  form.image_mark = NULL, form.special_count = 0;
  form.turn = "@@{prompt}:{answer}", form.image_token = "@@";
  CHECK(!conversation_new(arena, tokenizer, &form, &conversation, &failure) &&
            strstr(failure.message, "the tokenizer has no token \"@@\""),
        "%s", failure.message);
}

static void test_bad_templates(const Tokenizer *tokenizer, Arena *arena) {
  static const struct {
    const char *turn, *caption, *end, *message;
  } cases[] = {
      {"<image>{prompt}", NULL, NULL, "no {answer}"},
      {"<image>{answer}{answer}", NULL, NULL, "\"{answer}\" stands in it twice"},
      {"<image><image>{answer}", NULL, NULL, "\"<image>\" stands in it twice"},
      {"<image>{answer}{prompt}", NULL, NULL, "\"{prompt}\" stands behind {answer}"},
      {"<image>{promt}{answer}", NULL, NULL, "it has no {prompt}"},
      {"{prompt}{answer}", NULL, NULL, "it has no <image>"},
      {NULL, "<image>{prompt}{answer}", NULL, "captions: \"{prompt}\" has no place in it"},
      {NULL, NULL, NULL, "neither a turn nor a caption"},
      {"{system}<image>{prompt}{answer}", NULL, NULL, "a turn has {system}, but no `system`"},
      {"{system}<image>{system}{answer}", NULL, NULL, "\"{system}\" stands in it twice"},
      {"<image>{answer}", NULL, "<|stop|>", "no special token \"<|stop|>\""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Template form = chat;
    form.turn = cases[i].turn, form.caption = cases[i].caption;
    if (cases[i].end) form.ends = &cases[i].end;
    Conversation *conversation;
    Failure failure = {0};
    CHECK(!conversation_new(arena, tokenizer, &form, &conversation, &failure) &&
              strstr(failure.message, cases[i].message),
          "case %zu: %s", i, failure.message);
  }
  Template form = {.turn = "{prompt}{answer}"};
  Conversation *conversation;
  Failure failure;
  Row row = {.caption = "x"};
  Sample sample;
  CHECK(conversation_new(arena, tokenizer, &form, &conversation, &failure), "%s", failure.message);
  CHECK(!conversation_encode(conversation, &row, "d:3", 9, arena, &sample, &failure) &&
            strstr(failure.message, "d:3: the row has a caption"),
        "%s", failure.message);
}

// The template's own words are learned with the rows': "assistant\n" takes few tokens.
static void test_training_texts(void) {
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  Turn turn = {"what is it?", "a bag", 0};
  Row row = {.turns = &turn, .turn_count = 1};
  for (int i = 0; i < 3; i++) conversation_add_texts(&chat, &row, trainer);
  Tokenizer *tokenizer;
  Failure failure;
  CHECK(tokenizer_trainer_finish(trainer, 400, specials, 3, &tokenizer, &failure), "%s", failure.message);
  Ids ids = {0};
  tokenizer_encode(tokenizer, "assistant\n", 10, true, &ids);
  CHECK(ids.count == 2, "%zu tokens", ids.count);
  ids.count = 0;
  tokenizer_encode(tokenizer, "<image>{answer}", 15, false, &ids);
  CHECK(ids.count > 10, "stand-ins were learned: %zu tokens", ids.count);
  ids_free(&ids);
  tokenizer_free(tokenizer);
  tokenizer_trainer_free(trainer);
}

int main(void) {
  Arena *arena = arena_new();
  Tokenizer *tokenizer = byte_tokenizer();
  Conversation *conversation;
  Failure failure;
  bool good = conversation_new(arena, tokenizer, &chat, &conversation, &failure);
  CHECK(good, "%s", failure.message);
  if (good) {
    test_rows(conversation, tokenizer, arena);
    test_prompts(conversation, tokenizer, arena);
    test_text_model(tokenizer, arena);
    test_ordinary_image(tokenizer, arena);
    test_bad_templates(tokenizer, arena);
  }
  test_training_texts();
  tokenizer_free(tokenizer);
  arena_free(arena);
  return check_finish();
}
