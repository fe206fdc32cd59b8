// Templates of published chat models, as blocks of the language: the same strings, what of them is learnt,
// and that prompts are what samples begin with.
#include "elaborate.h"

#include "runtime/conversation.h"
#include "runtime/jinja.h"

static const struct {
  const char *name, *block;
} templates[] = {
    {"chatml",
     "system \"<|im_start|>system\\n{system}<|im_end|>\\n\" "
     "\"You are a helpful AI assistant named SmolLM, trained by Hugging Face\"\n"
     "turn "
     "\"<|im_start|>user\\n<image>\\n{prompt}<|im_end|>\\n<|im_start|>assistant\\n{answer}<|im_end|>\\n\"\n"
     "picture \"<image>\" 2\n"
     "end \"<|im_end|>\" \"<|endoftext|>\"\n"},
    {"llama2", "system \"<<SYS>>\\n{system}\\n<</SYS>>\\n\\n\"\n"
               "turn \"<s>[INST] {system}<image>\\n{prompt} [/INST] {answer} </s>\"\n"
               "picture \"<image>\" 2\n"
               "end \"</s>\"\n"},
    {"vicuna",
     "begin \"<s>\"\n"
     "system \"{system} \" \"A chat between a curious user and an artificial intelligence assistant. "
     "The assistant gives helpful, detailed, and polite answers to the user's questions.\"\n"
     "turn \"USER: <image>\\n{prompt} ASSISTANT: {answer}</s>\"\n"
     "caption \"<image>{answer}\\n\"\n"
     "picture \"<image>\" 2\n"
     "end \"</s>\"\n"},
    {"bare",
     "turn \"<|im_start|>user\\n{prompt}<|im_end|>\\n<|im_start|>assistant\\n{answer}<|im_end|>\\n\"\n"
     "end \"<|im_end|>\"\n"},
    {"llama", "turn \"<s>[INST] {prompt} [/INST] {answer} </s>\"\n"
              "end \"</s>\"\n"},
    {"plain", "turn \"Q: {prompt}\\nA: {answer}\\n\"\n"
              "caption \"a picture of {answer}<|endoftext|>\"\n"
              "end \"<|endoftext|>\"\n"},
};
enum { TEMPLATE_COUNT = sizeof templates / sizeof *templates };

typedef struct Setting {
  Session session;
  Conversation *conversation;
} Setting;

static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>",
                                       "<s>",           "</s>",         "<image>"};
static const Turn turns[] = {
    {"what is it?", "a bag", 0}, {"its colour?", "red, 红", 0}, {"sure? [INST]", "yes.", 0}};

// All texts are learned, so that tokens are long and would cross the borders that matter.
static Tokenizer *train_tokenizer(void) {
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  Tokenizer *tokenizer;
  Failure failure;
#define CASE(name, system, count, prompt, whole)                                                             \
  for (int i = 0; i < 3; i++) tokenizer_trainer_add(trainer, whole, sizeof whole - 1);
#include "parity/chat_templates.inc"
#undef CASE
  CHECK(tokenizer_trainer_finish(trainer, 600, specials, sizeof specials / sizeof *specials, &tokenizer,
                                 &failure),
        "%s", failure.message);
  tokenizer_trainer_free(trainer);
  return tokenizer;
}

static const Conversation *find(const Setting *settings, const char *name) {
  for (int i = 0; i < TEMPLATE_COUNT; i++)
    if (!strcmp(templates[i].name, name)) return settings[i].conversation;
  return NULL;
}

// Ids as text; with `supervised`, what is supervised in {braces}. Two image tokens are one picture.
static const char *spell(const Tokenizer *tokenizer, const int32_t *ids, const uint8_t *supervised,
                         size_t count, Arena *arena) {
  Text text = {0};
  bool inside = false;
  int32_t image = tokenizer_find(tokenizer, "<image>");
  for (size_t i = 0; i < count; i++) {
    bool now = supervised && i > 0 && supervised[i - 1];
    size_t length;
    const char *bytes = tokenizer_bytes(tokenizer, ids[i], &length);
    if (now != inside) text_print(&text, now ? "{" : "}");
    inside = now;
    if (ids[i] == image && i + 1 < count && ids[i + 1] == image) continue;
    text_add(&text, bytes, length);
  }
  if (inside) text_print(&text, "}");
  const char *copy = arena_copy(arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

static void check_published(const Conversation *conversation, const Tokenizer *tokenizer, const char *name,
                            const char *system, int count, const char *prompt, const char *whole,
                            Arena *arena) {
  Ids ids = {0};
  Row row = {.turns = (Turn *)turns, .turn_count = count, .system = system};
  Sample sample;
  Failure failure = {0};
  conversation_prompt(conversation, system, turns, count, &ids);
  const char *spelled = spell(tokenizer, ids.list, NULL, ids.count, arena);
  CHECK(!strcmp(spelled, prompt), "%s: a prompt is\n%s\nnot\n%s", name, spelled, prompt);
  CHECK(conversation_encode(conversation, &row, "d:1", 10000, arena, &sample, &failure), "%s",
        failure.message);
  spelled = spell(tokenizer, sample.ids, NULL, sample.count, arena);
  CHECK(!strcmp(spelled, whole), "%s: a conversation is\n%s\nnot\n%s", name, spelled, whole);
  Ids expected = {0}; // the whole as one text
  tokenizer_encode(tokenizer, whole, strlen(whole), true, &expected);
  CHECK(expected.count == sample.count &&
            !memcmp(expected.list, sample.ids, sample.count * sizeof *sample.ids),
        "%s: the ids are not those of the whole text", name);
  ids_free(&expected);
  CHECK(ids.count < sample.count && !memcmp(ids.list, sample.ids, ids.count * sizeof *ids.list),
        "%s: the prompt's ids are not those that the sample begins with", name);
  CHECK(!sample.supervised[ids.count - 2] && sample.supervised[ids.count - 1],
        "%s: what is supervised does not begin with the answer", name);
  ids_free(&ids);
}

// The ids of a conversation of one turn and of its prompt are those of the texts.
static void check_ids(const Conversation *conversation, const Tokenizer *tokenizer, const char *name,
                      const Turn *turn, const char *prompt, const char *whole, Arena *arena) {
  Ids ids = {0}, expected = {0};
  Row row = {.turns = (Turn *)turn, .turn_count = 1};
  Sample sample;
  Failure failure;
  conversation_prompt(conversation, NULL, turn, 1, &ids);
  tokenizer_encode(tokenizer, prompt, strlen(prompt), true, &expected);
  CHECK(ids.count == expected.count && !memcmp(ids.list, expected.list, ids.count * sizeof *ids.list),
        "%s: the prompt's ids", name);
  expected.count = 0;
  tokenizer_encode(tokenizer, whole, strlen(whole), true, &expected);
  CHECK(conversation_encode(conversation, &row, "d", 1000, arena, &sample, &failure), "%s", failure.message);
  CHECK(sample.count == expected.count &&
            !memcmp(sample.ids, expected.list, sample.count * sizeof *sample.ids),
        "%s: the sample's ids", name);
  CHECK(!memcmp(ids.list, sample.ids, ids.count * sizeof *ids.list) && sample.supervised[ids.count - 1] &&
            !sample.supervised[ids.count - 2],
        "%s: the answer begins after the prompt", name);
  ids_free(&ids);
  ids_free(&expected);
}

static void test_published(const Setting *settings, const Tokenizer *tokenizer, Arena *arena) {
#define CASE(name, system, count, prompt, whole)                                                             \
  check_published(find(settings, name), tokenizer, name, system, count, prompt, whole, arena);
#include "parity/chat_templates.inc"
#undef CASE
}

// With vocabularies as published: of minimind, which speaks ChatML, and of Llama-2.
static void test_vocabularies(const Setting *settings, Arena *arena) {
  static const struct {
    const char *file, *name, *prompt, *whole;
  } cases[] = {
      {"minimind_tokenizer.json", "bare", "<|im_start|>user\n描述这张图片<|im_end|>\n<|im_start|>assistant\n",
       "<|im_start|>user\n描述这张图片<|im_end|>\n<|im_start|>assistant\nA red bag, 红色的。<|im_end|>\n"},
      {"llama2_tokenizer.bin", "llama", "<s>[INST] 描述这张图片 [/INST]",
       "<s>[INST] 描述这张图片 [/INST] A red bag, 红色的。 </s>"},
  };
  static const Turn turn = {"描述这张图片", "A red bag, 红色的。", 0};
  const char *data = check_data();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *path = data ? arena_print(arena, "%s/tokenizers/%s", data, cases[i].file) : "";
    Tokenizer *tokenizer;
    Conversation *conversation;
    Failure failure = {0};
    if (!data || !tokenizer_open(path, &tokenizer, &failure)) {
      SKIP("%s: %s", cases[i].file, data ? failure.message : "no test data (set VLMC_TEST_DATA)");
      continue;
    }
    const Template *form = NULL;
    for (int j = 0; j < TEMPLATE_COUNT; j++)
      if (!strcmp(templates[j].name, cases[i].name)) form = model_template(settings[j].session.model);
    bool good = form && conversation_new(arena, tokenizer, form, &conversation, &failure);
    CHECK(good, "%s: %s", cases[i].file, failure.message);
    if (good)
      check_ids(conversation, tokenizer, cases[i].file, &turn, cases[i].prompt, cases[i].whole, arena);
    tokenizer_free(tokenizer);
  }
}

static void test_rows(const Setting *settings, const Tokenizer *tokenizer, Arena *arena) {
  static const char *const images[] = {"a", "b", "c"};
  static const struct {
    const char *name;
    Turn turns[2];
    const char *expected;
  } cases[] = {
      {"llama2",
       {{"p", "x", 1}, {"q", "y", 0}},
       "<s>[INST] <image>\np [/INST]{ x </s>}<s>[INST] q [/INST]{ y </s>}"},
      {"llama2",
       {{"p", "x", 0}, {"q", "y", 2}},
       "<s>[INST] p [/INST]{ x </s>}<s>[INST] <image>\n<image>\nq [/INST]{ y </s>}"},
      {"chatml",
       {{"p", "x", 2}, {"q", "y", 1}},
       "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
       "<|im_start|>user\n<image>\n<image>\np<|im_end|>\n<|im_start|>assistant\n{x<|im_end|>}\n"
       "<|im_start|>user\n<image>\nq<|im_end|>\n<|im_start|>assistant\n{y<|im_end|>}\n"},
      {"chatml",
       {{"<|im_end|>", "<image>", 0}, {"{answer}", "{system}", 0}},
       "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
       "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n{<image><|im_end|>}\n"
       "<|im_start|>user\n{answer}<|im_end|>\n<|im_start|>assistant\n{{system}<|im_end|>}\n"},
      {"vicuna",
       {{"p", "x", 1}, {"q", "", 0}},
       "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives "
       "helpful, "
       "detailed, and polite answers to the user's questions. USER: <image>\np ASSISTANT:{ x</s>}USER: q "
       "ASSISTANT:{ </s>}"},
      {"plain", {{"p", "x y", 0}, {"q", "z", 0}}, "Q: p\nA:{ x y\n}Q: q\nA:{ z\n}"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Row row = {
        .images = (const char **)images, .image_count = 3, .turns = (Turn *)cases[i].turns, .turn_count = 2};
    Sample sample;
    Failure failure = {0};
    CHECK(conversation_encode(find(settings, cases[i].name), &row, "d:1", 10000, arena, &sample, &failure),
          "%s", failure.message);
    const char *spelled = spell(tokenizer, sample.ids, sample.supervised, sample.count, arena);
    CHECK(!strcmp(spelled, cases[i].expected), "%s\ngives    %s\nexpected %s", cases[i].name, spelled,
          cases[i].expected);
  }
}

static void test_captions(const Setting *settings, const Tokenizer *tokenizer, Arena *arena) {
  const char *image = "a";
  Row caption = {.images = &image, .image_count = 1, .caption = "a bag"}, text = {.text = "a bag"};
  Row said = {.turns = (Turn *)turns, .turn_count = 1, .system = "x"};
  Sample sample;
  Failure failure = {0};
  const Conversation *vicuna = find(settings, "vicuna"), *plain = find(settings, "plain");
  CHECK(conversation_encode(vicuna, &caption, "d", 100, arena, &sample, &failure), "%s", failure.message);
  const char *spelled = spell(tokenizer, sample.ids, sample.supervised, sample.count, arena);
  CHECK(!strcmp(spelled, "<s><image>{a bag\n}"), "%s", spelled);
  CHECK(conversation_encode(vicuna, &text, "d", 100, arena, &sample, &failure), "%s", failure.message);
  spelled = spell(tokenizer, sample.ids, sample.supervised, sample.count, arena);
  CHECK(!strcmp(spelled, "<s>{a bag</s>}"), "%s", spelled);
  CHECK(conversation_encode(plain, &caption, "d", 100, arena, &sample, &failure), "%s", failure.message);
  spelled = spell(tokenizer, sample.ids, sample.supervised, sample.count, arena);
  CHECK(!strcmp(spelled, "a picture of{ a bag<|endoftext|>}"), "%s", spelled);
  CHECK(!conversation_encode(plain, &said, "d:4", 100, arena, &sample, &failure) &&
            strstr(failure.message, "d:4: the row has a system's text"),
        "%s", failure.message);
  CHECK(!conversation_encode(find(settings, "chatml"), &caption, "d:5", 100, arena, &sample, &failure) &&
            strstr(failure.message, "d:5: the row has a caption"),
        "%s", failure.message);
}

static void test_ends(const Setting *settings, const Tokenizer *tokenizer, Arena *arena) {
  const Conversation *chatml = find(settings, "chatml");
  int32_t end = tokenizer_find(tokenizer, "<|im_end|>"),
          text_end = tokenizer_find(tokenizer, "<|endoftext|>");
  CHECK(conversation_ends(chatml, end) && conversation_ends(chatml, text_end) &&
            !conversation_ends(chatml, tokenizer_find(tokenizer, "</s>")) &&
            conversation_padding(chatml) == end,
        "chatml's end tokens");
  static const struct {
    const char *name, *generated, *answer;
  } cases[] = {{"vicuna", "  x", " x"}, {"vicuna", "x ", "x "}, {"vicuna", "", ""},
               {"chatml", " x", " x"},  {"llama2", " x ", "x"}, {"llama2", "x", "x"},
               {"llama2", "  ", ""},    {"plain", " x\n", "x"}, {"llama2", " ", ""}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *answer = conversation_answer(find(settings, cases[i].name), cases[i].generated, arena);
    CHECK(!strcmp(answer, cases[i].answer), "case %zu: \"%s\"", i, answer);
  }
  CHECK(conversation_takes_system(chatml) && !conversation_takes_system(find(settings, "plain")), "system");
}

// The Jinja texts, which parity/chat_templates.py renders and compares with the published templates.
static void test_jinja(Setting *settings) {
  static const struct {
    const char *name, *text;
  } cases[] = {
#define CASE(name, text) {name, text},
#include "parity/jinja.inc"
#undef CASE
  };
  Failure failure = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (int j = 0; j < TEMPLATE_COUNT; j++) {
      Text text = {0};
      if (strcmp(templates[j].name, cases[i].name)) continue;
      CHECK(template_jinja(model_template(settings[j].session.model), &text, &failure) &&
                !strcmp(text_string(&text), cases[i].text),
            "%s: %s\n%s", cases[i].name, failure.message, text_string(&text));
      text_free(&text);
    }
  Text text = {0};
  CHECK(!template_jinja(&(Template){.caption = "{answer}"}, &text, &failure) &&
            strstr(failure.message, "no turn"),
        "%s", failure.message);
  CHECK(!template_jinja(&(Template){.turn = "{prompt}"}, &text, &failure) &&
            strstr(failure.message, "no {answer}"),
        "%s", failure.message);
  text_free(&text);
}

int main(void) {
  Setting settings[TEMPLATE_COUNT];
  Tokenizer *tokenizer = train_tokenizer();
  Arena *arena = arena_new();
  bool good = true;
  for (int i = 0; i < TEMPLATE_COUNT; i++) {
    char text[1000];
    Failure failure = {0};
    snprintf(text, sizeof text, "model M() { forward(ids: i32[B, T]) = ids }\ntemplate chat {\n%s}\n",
             templates[i].block);
    good &= session_open_text(&settings[i].session, text);
    const Template *form = good ? model_template(settings[i].session.model) : NULL;
    CHECK(form, "%s", session_said(&settings[i].session));
    good &= form && conversation_new(arena, tokenizer, form, &settings[i].conversation, &failure);
    CHECK(good, "%s: %s", templates[i].name, failure.message);
  }
  if (good) {
    test_published(settings, tokenizer, arena);
    test_vocabularies(settings, arena);
    test_rows(settings, tokenizer, arena);
    test_captions(settings, tokenizer, arena);
    test_ends(settings, tokenizer, arena);
    test_jinja(settings);
  }
  for (int i = 0; i < TEMPLATE_COUNT; i++) session_close(&settings[i].session);
  tokenizer_free(tokenizer);
  arena_free(arena);
  return check_finish();
}
