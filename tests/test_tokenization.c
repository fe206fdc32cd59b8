// Tokenizers against what published libraries make of the same texts: the conformance strings of every
// vocabulary, tests/parity/tokenization.json, and the trainer's file.
#include <jansson.h>

#include "check.h"
#include "runtime/files.h"
#include "runtime/tokenizer/parts.h"

static uint32_t checksum(const char *bytes, size_t length) { // FNV-1a
  uint32_t value = 0x811c9dc5;
  for (size_t i = 0; i < length; i++) value = (value ^ (unsigned char)bytes[i]) * 0x01000193;
  return value;
}

static void decode(const Tokenizer *tokenizer, const Ids *ids, Text *out) {
  Decoder decoder = {0};
  out->length = 0;
  text_add(out, "", 0);
  for (size_t i = 0; i < ids->count; i++) tokenizer_decode(tokenizer, &decoder, ids->list[i], true, out);
  tokenizer_decode_end(&decoder, out);
}

static void spell_ids(const Ids *ids, const char *between, Text *out) {
  out->length = 0;
  text_add(out, "", 0);
  for (size_t i = 0; i < ids->count; i++) text_print(out, "%s%d", i ? between : "", ids->list[i]);
}

// The texts of llama.cpp's vocabulary tests: each is followed by the same mark.
static const char mark[] = "\n__ggml_vocab_test__\n";

static char *read_inputs(const char *data, Arena *arena) {
  char *inputs = "";
  size_t size;
  Failure failure;
  CHECK(file_read(arena_print(arena, "%s/tokenizers/ggml-vocab-gpt-2.gguf.inp", data), 1 << 20, arena,
                  &inputs, &size, &failure),
        "%s", failure.message);
  return inputs;
}

static void test_conformance(const char *data, const char *file, const char *expected, Arena *arena) {
  Tokenizer *tokenizer;
  Failure failure;
  char *inputs = read_inputs(data, arena), *outputs;
  size_t size;
  CHECK(tokenizer_open(arena_print(arena, "%s/tokenizers/%s", data, file), &tokenizer, &failure) &&
            file_read(arena_print(arena, "%s/tokenizers/%s", data, expected), 1 << 20, arena, &outputs, &size,
                      &failure),
        "%s", failure.message);
  if (!tokenizer) return;
  int cases = 0;
  Text given = {0};
  Ids ids = {0};
  for (char *end; (end = strstr(inputs, mark)); inputs = end + strlen(mark), cases++) {
    char *line = strsep(&outputs, "\n");
    size_t length = (size_t)(end - inputs);
    ids.count = 0;
    tokenizer_encode(tokenizer, inputs, length, false, &ids);
    spell_ids(&ids, " ", &given);
    while (line && *line == ' ') line++;
    CHECK(line && !strcmp(text_string(&given), line), "%s %d: got %s, expected %s", file, cases,
          text_string(&given), line);
    decode(tokenizer, &ids, &given);
    CHECK(given.length == length && !memcmp(text_string(&given), inputs, length), "%s %d: decoded to %s",
          file, cases, text_string(&given));
  }
  CHECK(cases == 46, "%s: %d cases", file, cases);
  text_free(&given);
  ids_free(&ids);
  tokenizer_free(tokenizer);
}

// A vocabulary of the test data as tokenizer.json; kept while cases ask for the same one.
typedef struct Base {
  const char *name;
  json_t *root;
} Base;

static const json_t *open_base(const char *data, const char *name, Base *base, Arena *arena) {
  Tokenizer *tokenizer;
  Failure failure;
  Text text = {0};
  if (base->name && !strcmp(base->name, name)) return base->root;
  json_decref(base->root);
  *base = (Base){.name = name};
  CHECK(tokenizer_open(arena_print(arena, "%s/%s", data, name), &tokenizer, &failure), "%s", failure.message);
  if (!tokenizer) return NULL;
  tokenizer_print(tokenizer, &text);
  base->root = json_loadb(text.bytes, text.length, 0, NULL);
  text_free(&text);
  tokenizer_free(tokenizer);
  return base->root;
}

// The base with members replaced.
static Tokenizer *changed_tokenizer(const char *data, const json_t *test, Base *base, Arena *arena) {
  const char *name = json_string_value(json_object_get(test, "base")), *key;
  json_t *changes = json_object_get(test, "changes"), *part;
  Tokenizer *tokenizer = NULL;
  Failure failure = {0};
  json_t *root = json_copy((json_t *)open_base(data, name, base, arena));
  json_object_set_new(root, "model", json_copy(json_object_get(root, "model")));
  json_object_foreach(changes, key, part) {
    if (strcmp(key, "model"))
      json_object_set(root, key, part);
    else
      json_object_update(json_object_get(root, key), part);
  }
  char *json = json_dumps(root, JSON_COMPACT);
  CHECK(json && tokenizer_parse(json, strlen(json), name, &tokenizer, &failure), "%s", failure.message);
  free(json);
  json_decref(root);
  return tokenizer;
}

// Whether the last `digits` of a text's checksum are the golden ones.
static bool fits(const json_t *test, const char *key, size_t index, size_t digits, const Text *given) {
  const char *all = json_string_value(json_object_get(test, key));
  char whole[9];
  snprintf(whole, sizeof whole, "%08x", checksum(text_string(given), given->length));
  return all && strlen(all) >= (index + 1) * digits &&
         !memcmp(all + index * digits, whole + 8 - digits, digits);
}

static void test_text(const Tokenizer *tokenizer, const json_t *test, const char *text, size_t length,
                      size_t index) {
  const char *name = json_string_value(json_object_get(test, "name"));
  const char *base = json_string_value(json_object_get(test, "base"));
  Ids ids = {0};
  Text given = {0};
  tokenizer_encode(tokenizer, text, length, json_is_true(json_object_get(test, "specials")), &ids);
  spell_ids(&ids, " ", &given);
  CHECK(fits(test, "ids", index, 4, &given), "%s on %s, `%.60s`: got %.200s", name, base, text,
        text_string(&given));
  decode(tokenizer, &ids, &given);
  if (*json_string_value(json_object_get(test, "decoded")))
    CHECK(fits(test, "decoded", index, 2, &given), "%s on %s, `%.60s`: decoded to %.200s", name, base, text,
          text_string(&given));
  ids_free(&ids);
  text_free(&given);
}

static void test_case(const char *data, const json_t *test, const json_t *texts, char *inputs, Base *base,
                      Arena *arena) {
  Tokenizer *tokenizer = changed_tokenizer(data, test, base, arena);
  size_t index = 0, i;
  const json_t *text;
  if (!tokenizer) return;
  for (char *end; (end = strstr(inputs, mark)); inputs = end + strlen(mark))
    test_text(tokenizer, test, inputs, (size_t)(end - inputs), index++);
  json_array_foreach(texts, i, text) {
    test_text(tokenizer, test, json_string_value(text), json_string_length(text), index++);
  }
  CHECK(index > 250, "%zu texts", index);
  tokenizer_free(tokenizer);
}

// Words cut at spaces before merging, and the slow twin: all of a text merged as one.
static void test_spaces(const char *data, const json_t *texts, Arena *arena) {
  static const char *const files[] = {"tokenizers/llama2_tokenizer.bin", "stories260K/tok512.bin"};
  for (int f = 0; f < 2; f++) {
    Tokenizer *tokenizer;
    Failure failure;
    size_t i;
    const json_t *text;
    CHECK(tokenizer_open(arena_print(arena, "%s/%s", data, files[f]), &tokenizer, &failure), "%s",
          failure.message);
    if (!tokenizer) continue;
    CHECK(tokenizer->split_spaces, "%s is not cut at spaces", files[f]);
    json_array_foreach(texts, i, text) {
      Ids fast = {0}, slow = {0};
      tokenizer->split_spaces = true;
      tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), false, &fast);
      tokenizer->split_spaces = false;
      tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), false, &slow);
      CHECK(fast.count == slow.count &&
                (!fast.count || !memcmp(fast.list, slow.list, fast.count * sizeof *fast.list)),
            "%s: `%.60s` differs when it is cut at spaces", files[f], json_string_value(text));
      ids_free(&fast);
      ids_free(&slow);
    }
    tokenizer_free(tokenizer);
  }
}

// Training: the file that Hugging Face's trainer writes for the same texts.

static Tokenizer *finish_training(TokenizerTrainer *trainer, const json_t *specials, size_t vocabulary) {
  const char *names[8];
  size_t count = json_array_size(specials);
  Tokenizer *tokenizer;
  Failure failure;
  for (size_t i = 0; i < count && i < 8; i++) names[i] = json_string_value(json_array_get(specials, i));
  CHECK(tokenizer_trainer_finish(trainer, vocabulary, names, count, &tokenizer, &failure), "%s",
        failure.message);
  tokenizer_trainer_free(trainer);
  return tokenizer;
}

static void check_file(const Tokenizer *tokenizer, const json_t *expected, const char *what) {
  Text text = {0};
  tokenizer_print(tokenizer, &text);
  uint32_t wanted = (uint32_t)strtoul(json_string_value(json_object_get(expected, "file")), NULL, 16);
  CHECK(checksum(text.bytes, text.length) == wanted, "the tokenizer trained on %s is not the library's",
        what);
  text_free(&text);
}

static void test_training(const json_t *trained, const json_t *texts, char *inputs) {
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  const json_t *merges = json_object_get(trained, "merges"), *text;
  size_t i;
  for (char *end; (end = strstr(inputs, mark)); inputs = end + strlen(mark))
    tokenizer_trainer_add(trainer, inputs, (size_t)(end - inputs));
  json_array_foreach(texts, i, text) {
    tokenizer_trainer_add(trainer, json_string_value(text), json_string_length(text));
  }
  size_t size = (size_t)json_integer_value(json_object_get(trained, "vocabulary"));
  Tokenizer *tokenizer = finish_training(trainer, json_object_get(trained, "specials"), size);
  CHECK(tokenizer->merge_count == json_array_size(merges), "%zu merges", tokenizer->merge_count);
  for (i = 0; i < tokenizer->merge_count && i < json_array_size(merges); i++) {
    Text line = {0};
    text_print(&line, "%s %s", tokenizer->tokens[tokenizer->merges[i].left].text,
               tokenizer->tokens[tokenizer->merges[i].right].text);
    CHECK(!strcmp(line.bytes, json_string_value(json_array_get(merges, i))), "merge %zu is %s", i,
          line.bytes);
    text_free(&line);
  }
  check_file(tokenizer, trained, "the texts");
  tokenizer_free(tokenizer);
}

static void test_large_training(const char *data, const json_t *trained, Arena *arena) {
  const char *name;
  json_t *expected;
  json_object_foreach(json_object_get(trained, "large"), name, expected) {
    TokenizerTrainer *trainer = tokenizer_trainer_new();
    char *text;
    size_t size, vocabulary = (size_t)json_integer_value(json_object_get(expected, "vocabulary"));
    Failure failure;
    bool read =
        file_read(arena_print(arena, "%s/text/%s", data, name), 16 << 20, arena, &text, &size, &failure);
    CHECK(read, "%s", failure.message);
    if (read) tokenizer_trainer_add(trainer, text, size);
    Tokenizer *tokenizer = finish_training(trainer, json_object_get(trained, "specials"), vocabulary);
    check_file(tokenizer, expected, name);
    tokenizer_free(tokenizer);
  }
}

int main(void) {
  static const char *const vocabularies[][2] = {
      {"gpt2_vocab.json", "ggml-vocab-gpt-2.gguf.out"},
      {"ggml-vocab-gpt-2.gguf", "ggml-vocab-gpt-2.gguf.out"},
      {"ggml-vocab-starcoder.gguf", "ggml-vocab-starcoder.gguf.out"},
      {"ggml-vocab-deepseek-coder.gguf", "ggml-vocab-deepseek-coder.gguf.out"},
      {"ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-spm.gguf.out"},
      {"llama2_tokenizer.bin", "ggml-vocab-llama-spm.gguf.out"}};
  const char *data = check_data();
  Arena *arena = arena_new();
  json_t *golden = json_load_file("tests/parity/tokenization.json", 0, NULL),
         *texts = json_object_get(golden, "texts");
  const json_t *cases = json_object_get(golden, "cases"), *trained = json_object_get(golden, "trained"),
               *test;
  Base base = {0};
  size_t i;
  CHECK(golden != NULL, "tests/parity/tokenization.json can not be read");
  if (data && golden) {
    char *inputs = read_inputs(data, arena);
    for (i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++)
      test_conformance(data, vocabularies[i][0], vocabularies[i][1], arena);
    json_array_foreach(cases, i, test) { test_case(data, test, texts, inputs, &base, arena); }
    test_spaces(data, texts, arena);
    test_training(trained, texts, inputs);
    test_large_training(data, trained, arena);
  } else {
    SKIP("published tokenizers: no test data (set VLMC_TEST_DATA)");
  }
  json_decref(base.root);
  json_decref(golden);
  arena_free(arena);
  return check_finish();
}
