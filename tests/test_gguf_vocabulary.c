// Vocabularies written into GGUF files: read back they give the same ids, say of themselves what their source
// said, and are refused where GGUF has no form for them.
#include <jansson.h>
#include <unistd.h>

#include "check.h"
#include "runtime/files.h"
#include "runtime/tokenizer/parts.h"
#include "runtime/weights/gguf.h"

typedef struct Folder {
  Arena *arena;
  const char *data;
  char path[40]; // of the file that is written
} Folder;

// tokenizer -> GGUF with one tensor -> tokenizer. NULL: a failure, checked by the caller.
static Tokenizer *write_and_read(Folder *folder, const Tokenizer *tokenizer, int32_t begin, int32_t end,
                                 Failure *failure) {
  GgufMetadata metadata = {0};
  GgufWriter *writer;
  Tokenizer *back = NULL;
  WeightTensor tensor = {.name = "x", .format = WEIGHT_F32, .rank = 1, .extents = {1}};
  float value = 1;
  int64_t more = tokenizer_count(tokenizer) + 3;
  bool good = tokenizer_note_gguf(tokenizer, more, begin, end, &metadata, failure) &&
              gguf_create(folder->path, &metadata, &tensor, 1, &writer, failure) &&
              gguf_put_f32(writer, 0, &value, failure) && gguf_finish(writer, failure) &&
              tokenizer_open(folder->path, &back, failure);
  gguf_metadata_free(&metadata);
  return good ? back : NULL;
}

static void same_ids(const Tokenizer *wanted, const Tokenizer *found, const char *text, size_t length,
                     const char *what) {
  Ids first = {0}, second = {0};
  for (int specials = 0; specials < 2; specials++) {
    first.count = second.count = 0;
    tokenizer_encode(wanted, text, length, specials, &first);
    tokenizer_encode(found, text, length, specials, &second);
    CHECK(first.count == second.count &&
              (!first.count || !memcmp(first.list, second.list, first.count * sizeof *first.list)),
          "%s: `%.60s`: %zu ids, read back %zu", what, text, first.count, second.count);
  }
  ids_free(&first);
  ids_free(&second);
}

static void same_on_all(Folder *folder, const Tokenizer *wanted, const Tokenizer *found, const json_t *texts,
                        const char *what) {
  static const char mark[] = "\n__ggml_vocab_test__\n";
  const char *path = arena_print(folder->arena, "%s/tokenizers/ggml-vocab-gpt-2.gguf.inp", folder->data);
  char *inputs;
  size_t size, i;
  const json_t *text;
  Failure failure;
  int cases = 0;
  if (!file_read(path, 1 << 20, folder->arena, &inputs, &size, &failure)) {
    CHECK(false, "%s", failure.message);
    return;
  }
  for (char *end; (end = strstr(inputs, mark)); inputs = end + strlen(mark), cases++)
    same_ids(wanted, found, inputs, (size_t)(end - inputs), what);
  CHECK(cases == 46, "%d strings", cases);
  json_array_foreach(texts, i, text) {
    same_ids(wanted, found, json_string_value(text), json_string_length(text), what);
  }
}

// As tokenizer.json, where scores are lost. `plain`: as others write it, every merge with a rank of its own.
static Tokenizer *through_json(const Tokenizer *tokenizer, bool plain) {
  Text text = {0};
  Failure failure;
  Tokenizer *back = NULL;
  tokenizer_print(tokenizer, &text);
  json_t *root = json_loadb(text.bytes, text.length, 0, NULL);
  if (plain) json_object_del(json_object_get(root, "model"), "ranks");
  char *json = json_dumps(root, JSON_COMPACT);
  CHECK(tokenizer_parse(json, strlen(json), "x.json", &back, &failure), "%s", failure.message);
  free(json);
  json_decref(root);
  text_free(&text);
  return back;
}

static void test_ids(Folder *folder, const json_t *texts, const char *name) {
  Tokenizer *tokenizer;
  Failure failure;
  const char *path = arena_print(folder->arena, "%s/%s", folder->data, name);
  CHECK(tokenizer_open(path, &tokenizer, &failure), "%s", failure.message);
  for (int form = 0; tokenizer && form < 3; form++) { // from the file; from JSON with and without ranks
    Tokenizer *source = form ? through_json(tokenizer, form == 2) : NULL;
    Tokenizer *back = write_and_read(folder, source ? source : tokenizer, -1, -1, &failure);
    CHECK(back, "%s, form %d: %s", name, form, failure.message);
    if (back) same_on_all(folder, tokenizer, back, texts, name);
    tokenizer_free(source);
    tokenizer_free(back);
  }
  tokenizer_free(tokenizer);
}

// Written a second time, a file says the same of its vocabulary.
static void test_fixed_point(Folder *folder, const char *name) {
  Tokenizer *tokenizer, *back = NULL;
  GgufMetadata first = {0}, second = {0};
  Failure failure;
  const char *path = arena_print(folder->arena, "%s/%s", folder->data, name);
  bool good = tokenizer_open(path, &tokenizer, &failure);
  int64_t count = good ? tokenizer_count(tokenizer) + 3 : 0;
  good = good && (back = write_and_read(folder, tokenizer, -1, -1, &failure)) &&
         tokenizer_note_gguf(tokenizer, count, -1, -1, &first, &failure) &&
         tokenizer_note_gguf(back, count, -1, -1, &second, &failure);
  CHECK(good && first.bytes.length == second.bytes.length &&
            !memcmp(first.bytes.bytes, second.bytes.bytes, first.bytes.length),
        "%s: %s", name, good ? "differs" : failure.message);
  gguf_metadata_free(&first);
  gguf_metadata_free(&second);
  tokenizer_free(tokenizer);
  tokenizer_free(back);
}

// ---- what the source said -----------------------------------------------------------------------

static void check_string(const Gguf *file, const char *key, const char *wanted) {
  GgufString text = {0};
  Failure failure;
  CHECK(gguf_get_string(file, key, &text, &failure) && text.length == strlen(wanted) &&
            !memcmp(text.bytes, wanted, text.length),
        "%s: %.*s, not %s", key, (int)text.length, text.bytes ? text.bytes : "", wanted);
}

static void check_number(const Gguf *file, const char *key, int64_t wanted) { // -1: is not there
  const GgufValue *value = gguf_find(file, key);
  CHECK(value ? gguf_integer(value, 0) == wanted : wanted == -1, "%s: %lld, not %lld", key,
        value ? (long long)gguf_integer(value, 0) : -1, (long long)wanted);
}

// A byte-level file of llama.cpp's own kind of splitting, with tokens named that no text gets.
static void test_source(Folder *folder) {
  GgufMetadata metadata = {0};
  GgufWriter *writer;
  Tokenizer *tokenizer = NULL;
  Gguf file = {0};
  Failure failure = {0};
  WeightTensor tensor = {.name = "x", .format = WEIGHT_F32, .rank = 1, .extents = {1}};
  static const GgufString tokens[] = {{"<a>", 3}, {"<b>", 3}, {"x", 1}, {"y", 1}, {"xy", 2}},
                          merges[] = {{"x y", 3}};
  static const int32_t types[] = {3, 3, 1, 1, 1};
  float value = 1;
  gguf_add_string(&metadata, "tokenizer.ggml.model", "gpt2");
  gguf_add_string(&metadata, "tokenizer.ggml.pre", "smollm");
  gguf_add_strings(&metadata, "tokenizer.ggml.tokens", tokens, 5);
  gguf_add_i32s(&metadata, "tokenizer.ggml.token_type", types, 5);
  gguf_add_strings(&metadata, "tokenizer.ggml.merges", merges, 1);
  gguf_add_u32(&metadata, "tokenizer.ggml.bos_token_id", 1);
  gguf_add_u32(&metadata, "tokenizer.ggml.eos_token_id", 0);
  gguf_add_u32(&metadata, "tokenizer.ggml.padding_token_id", 2);
  gguf_add_u32(&metadata, "tokenizer.ggml.eot_token_id", UINT32_MAX); // none
  gguf_add_bool(&metadata, "tokenizer.ggml.add_eos_token", true);
  CHECK(gguf_create(folder->path, &metadata, &tensor, 1, &writer, &failure) &&
            gguf_put_f32(writer, 0, &value, &failure) && gguf_finish(writer, &failure) &&
            tokenizer_open(folder->path, &tokenizer, &failure),
        "%s", failure.message);
  gguf_metadata_free(&metadata);
  Tokenizer *run = tokenizer ? through_json(tokenizer, false) : NULL; // as a run keeps it
  Tokenizer *back = run ? write_and_read(folder, run, -1, 1, &failure) : NULL;
  CHECK(back && gguf_open(folder->path, &file, &failure), "%s", failure.message);
  check_string(&file, "tokenizer.ggml.pre", "smollm");
  check_number(&file, "tokenizer.ggml.bos_token_id", 1);
  check_number(&file, "tokenizer.ggml.eos_token_id",
               0); // what ends every text, whatever the model's template says
  check_number(&file, "tokenizer.ggml.padding_token_id", 2);
  check_number(&file, "tokenizer.ggml.eot_token_id", -1);
  check_number(&file, "tokenizer.ggml.add_bos_token", 0);
  check_number(&file, "tokenizer.ggml.add_eos_token", 1);
  gguf_close(&file);
  tokenizer_free(tokenizer);
  tokenizer_free(run);
  tokenizer_free(back);
}

static void test_llama_keys(Folder *folder) {
  Tokenizer *tokenizer = NULL, *back = NULL;
  Gguf file = {0};
  Failure failure;
  const char *path = arena_print(folder->arena, "%s/stories260K/tok512.bin", folder->data);
  CHECK(tokenizer_open(path, &tokenizer, &failure) &&
            (back = write_and_read(folder, tokenizer, -1, -1, &failure)) &&
            gguf_open(folder->path, &file, &failure),
        "%s", failure.message);
  CHECK(back && tokenizer_end(back) == 2, "the end that is named");
  check_string(&file, "tokenizer.ggml.model", "llama");
  check_number(&file, "tokenizer.ggml.bos_token_id", 1);
  check_number(&file, "tokenizer.ggml.eos_token_id", 2);
  check_number(&file, "tokenizer.ggml.unknown_token_id", 0);
  check_number(&file, "tokenizer.ggml.add_bos_token", 1);
  check_number(&file, "tokenizer.ggml.add_space_prefix", 1);
  const GgufValue *types = gguf_find(&file, "tokenizer.ggml.token_type");
  static const int64_t wanted[] = {2, 3, 3, 6};
  for (size_t i = 0; types && i < 4; i++) CHECK(gguf_integer(types, i) == wanted[i], "type of token %zu", i);
  CHECK(types && gguf_integer(types, 258) == 6 && gguf_integer(types, 259) == 1 &&
            gguf_integer(types, types->count - 1) == 5,
        "types of bytes, pieces and rows that have no token");
  gguf_close(&file);
  tokenizer_free(tokenizer);
  tokenizer_free(back);
}

// ---- what GGUF has no form for ------------------------------------------------------------------

// A small vocabulary of SentencePiece's kind as tokenizer.json; bytes from `first_byte` on.
static Tokenizer *small(int first_byte, const char *merges, const char *steps) {
  Text text = {0};
  Tokenizer *tokenizer = NULL;
  Failure failure;
  int id = 5;
  text_print(&text,
             "{%s,\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"fuse_unk\":true,\"merges\":%s,"
             "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"aba\":3,\"ba\":4",
             steps, merges);
  for (int byte = first_byte; byte < 256; byte++) text_print(&text, ",\"<0x%02X>\":%d", (unsigned)byte, id++);
  text_print(&text, "}}}");
  CHECK(tokenizer_parse(text.bytes, text.length, "small.json", &tokenizer, &failure), "%s", failure.message);
  text_free(&text);
  return tokenizer;
}

static void test_refusals(Folder *folder) {
  static const char bare[] =
      "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}";
  static const char metaspace[] = "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"▁\","
                                  "\"prepend_scheme\":\"first\",\"split\":false}";
  static const char single[] = // many spaces are one, as in tokenizer.model where it is not told otherwise
      "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":"
      "{\"Regex\":\" {2,}\"},\"content\":\" \"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
      "\"content\":\"▁\"}]}";
  static const char twice[] =
      "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"},"
      "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}},"
      "{\"SpecialToken\":{\"id\":\"a\"}}],\"special_tokens\":{\"a\":{\"ids\":[0]}}}";
  static const struct {
    int first_byte;
    const char *merges, *steps, *wanted; // NULL: written
  } cases[] = {
      {0, "[\"b a\",\"a b\",\"a ba\",\"ab a\"]", bare, NULL},
      {0, "[\"b a\",\"a ba\",\"ab a\",\"a b\"]", bare, NULL},
      {1, "[\"b a\",\"a b\",\"a ba\",\"ab a\"]", bare, "a token for each byte"},
      {0, "[\"b a\",\"a b\",\"a ba\"]", bare, "are not those that scores"},          // ab a makes aba as well
      {0, "[\"a ba\",\"b a\",\"a b\",\"ab a\"]", bare, "are not those that scores"}, // aba first and last
      {0, "[\"b a\",\"a b\",\"a ba\",\"ab a\"]", metaspace, "prepares text otherwise"},
      {0, "[\"b a\",\"a b\",\"a ba\",\"ab a\"]", single, "prepares text otherwise"},
      {0, "[\"b a\",\"a b\",\"a ba\",\"ab a\"]", twice, "puts 2 tokens before every text"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Failure failure = {0};
    Tokenizer *tokenizer = small(cases[i].first_byte, cases[i].merges, cases[i].steps);
    Tokenizer *back = tokenizer ? write_and_read(folder, tokenizer, -1, -1, &failure) : NULL;
    if (cases[i].wanted)
      CHECK(!back && strstr(failure.message, cases[i].wanted), "case %zu: %s", i, failure.message);
    else
      CHECK(back, "case %zu: %s", i, failure.message);
    if (back) same_ids(tokenizer, back, "abab aba bab", 12, "small");
    tokenizer_free(tokenizer);
    tokenizer_free(back);
  }
}

int main(void) {
  static const char *const files[] = {"tokenizers/ggml-vocab-llama-spm.gguf",
                                      "tokenizers/llama2_tokenizer.bin", "stories260K/tok512.bin",
                                      "tokenizers/ggml-vocab-starcoder.gguf", "tokenizers/gpt2_vocab.json"};
  Folder folder = {arena_new(), check_data(), "/tmp/vlmc-test-XXXXXX"};
  json_t *golden = json_load_file("tests/parity/tokenization.json", 0, NULL);
  int handle = mkstemp(folder.path);
  if (handle >= 0) close(handle);
  test_source(&folder);
  test_refusals(&folder);
  for (size_t i = 0; folder.data && i < sizeof files / sizeof *files; i++) {
    test_ids(&folder, json_object_get(golden, "texts"), files[i]);
    test_fixed_point(&folder, files[i]);
  }
  if (folder.data)
    test_llama_keys(&folder);
  else
    SKIP("published vocabularies: no test data (set VLMC_TEST_DATA)");
  json_decref(golden);
  unlink(folder.path);
  arena_free(folder.arena);
  return check_finish();
}
