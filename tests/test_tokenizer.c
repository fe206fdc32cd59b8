// The tokenizer against published ids, against slow twins of its encoder and its trainer, and against bad
// files.
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/files.h"
#include "runtime/tokenizer/tokenizer.h"

static char *decode(const Tokenizer *tokenizer, const Ids *ids, bool specials, Arena *arena) {
  Text text = {0};
  Decoder decoder = {0};
  for (size_t i = 0; i < ids->count; i++)
    tokenizer_decode(tokenizer, &decoder, ids->list[i], specials, &text);
  tokenizer_decode_end(&decoder, &text);
  char *copy = arena_copy(arena, text_string(&text), text.length);
  text_free(&text);
  return copy;
}

// GPT-2: 46 texts with the ids that its own tokenizer gives.
static void test_gpt2(const char *data, Arena *arena) {
  const char *folder = arena_print(arena, "%s/tokenizers", data);
  Tokenizer *tokenizer;
  Failure failure;
  CHECK(tokenizer_read_gpt2(arena_print(arena, "%s/gpt2_vocab.json", folder),
                            arena_print(arena, "%s/gpt2_merges.txt", folder), &tokenizer, &failure),
        "%s", failure.message);
  if (!tokenizer) return;
  char *inputs, *outputs;
  size_t size;
  CHECK(file_read(arena_print(arena, "%s/ggml-vocab-gpt-2.gguf.inp", folder), 1 << 20, arena, &inputs, &size,
                  &failure) &&
            file_read(arena_print(arena, "%s/ggml-vocab-gpt-2.gguf.out", folder), 1 << 20, arena, &outputs,
                      &size, &failure),
        "%s", failure.message);
  int cases = 0;
  const char *mark = "\n__ggml_vocab_test__\n";
  for (char *end; (end = strstr(inputs, mark)); inputs = end + strlen(mark), cases++) {
    char *line = strsep(&outputs, "\n");
    Ids ids = {0};
    Text given = {0};
    tokenizer_encode(tokenizer, inputs, (size_t)(end - inputs), false, &ids);
    for (size_t i = 0; i < ids.count; i++) text_print(&given, " %d", ids.list[i]);
    CHECK(line && !strcmp(text_string(&given), line), "case %d: got%s, expected%s", cases,
          text_string(&given), line);
    char *back = decode(tokenizer, &ids, false, arena);
    CHECK(!strncmp(back, inputs, (size_t)(end - inputs)) && strlen(back) == (size_t)(end - inputs),
          "case %d: %s", cases, back);
    text_free(&given);
    ids_free(&ids);
  }
  CHECK(cases == 46, "%d cases", cases);
  CHECK(tokenizer_count(tokenizer) == 50257 && tokenizer_find(tokenizer, "<|endoftext|>") == 50256, "size");
  tokenizer_free(tokenizer);
}

// A tokenizer.json as the world has it: read, printed, read again, printed the same.
static void test_published_json(const char *data, Arena *arena) {
  Tokenizer *tokenizer, *again = NULL;
  Failure failure;
  CHECK(
      tokenizer_open(arena_print(arena, "%s/tokenizers/minimind_tokenizer.json", data), &tokenizer, &failure),
      "%s", failure.message);
  if (!tokenizer) return;
  CHECK(tokenizer_count(tokenizer) == 6400 && tokenizer_find(tokenizer, "<|im_start|>") == 1, "size");
  Text first = {0}, second = {0};
  tokenizer_print(tokenizer, &first);
  CHECK(tokenizer_parse(first.bytes, first.length, "printed", &again, &failure), "%s", failure.message);
  if (again) tokenizer_print(again, &second);
  CHECK(!strcmp(text_string(&first), text_string(&second)), "printing what was printed and read differs");
  const char *text = "<|im_start|>user\n描述这张图片<|im_end|>\n";
  Ids with = {0}, without = {0};
  tokenizer_encode(tokenizer, text, strlen(text), true, &with);
  tokenizer_encode(tokenizer, text, strlen(text), false, &without);
  CHECK(with.list[0] == 1 && without.list[0] != 1 && without.count > with.count, "special tokens");
  CHECK(!strcmp(decode(tokenizer, &without, false, arena), text), "user text is changed");
  CHECK(!strcmp(decode(tokenizer, &with, true, arena), text), "special tokens are not spelled");
  CHECK(!strcmp(decode(tokenizer, &with, false, arena), "user\n描述这张图片\n"), "special tokens are shown");
  ids_free(&with);
  ids_free(&without);
  text_free(&first);
  text_free(&second);
  tokenizer_free(tokenizer);
  tokenizer_free(again);
}

// Training.

static Tokenizer *train(const char *text, size_t length, size_t vocabulary) {
  static const char *const specials[] = {"<|end|>", "<image>"};
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  tokenizer_trainer_add(trainer, text, length);
  Tokenizer *tokenizer;
  Failure failure;
  CHECK(tokenizer_trainer_finish(trainer, vocabulary, specials, 2, &tokenizer, &failure), "%s",
        failure.message);
  tokenizer_trainer_free(trainer);
  return tokenizer;
}

// The slow twin: one word (letters only, so that nothing splits it), all pairs counted anew for every merge.
static int naive_train(const char *word, int32_t *ids, size_t *count, int vocabulary, int32_t merges[][2]) {
  *count = strlen(word);
  for (size_t i = 0; i < *count; i++) ids[i] = 2 + (unsigned char)word[i] - '!'; // spelled in this order
  int tokens = 258;
  for (; tokens < vocabulary; tokens++) {
    int best = 1;
    int32_t left = 0, right = 0;
    for (size_t i = 0; i + 1 < *count; i++) {
      int seen = 0;
      for (size_t j = 0; j + 1 < *count; j++) seen += ids[j] == ids[i] && ids[j + 1] == ids[i + 1];
      bool lower = ids[i] < left || (ids[i] == left && ids[i + 1] < right);
      if (seen > best || (seen == best && best > 1 && lower)) best = seen, left = ids[i], right = ids[i + 1];
    }
    if (best < 2) break;
    merges[tokens - 258][0] = left, merges[tokens - 258][1] = right;
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
      bool here = i + 1 < *count && ids[i] == left && ids[i + 1] == right;
      ids[kept++] = here ? tokens : ids[i];
      i += here;
    }
    *count = kept;
  }
  return tokens;
}

static void test_training_twin(void) {
  unsigned state = 7;
  for (int round = 0; round < 60; round++) {
    char word[200];
    size_t length = 2 + (size_t)round * 3, count;
    for (size_t i = 0; i < length; i++) {
      state = state * 1103515245 + 12345;
      word[i] = (char)('a' + (state >> 16) % (2 + (unsigned)round % 4));
    }
    word[length] = 0;
    int32_t ids[200], merges[64][2];
    int tokens = naive_train(word, ids, &count, 320, merges);
    Tokenizer *tokenizer = train(word, length, 320);
    CHECK(tokenizer_count(tokenizer) == tokens, "%s: %d tokens, expected %d", word,
          tokenizer_count(tokenizer), tokens);
    bool same = tokenizer_count(tokenizer) == tokens;
    for (int i = 258; same && i < tokens; i++) {
      char joined[400];
      size_t a, b, all;
      const char *left = tokenizer_bytes(tokenizer, merges[i - 258][0], &a);
      const char *right = tokenizer_bytes(tokenizer, merges[i - 258][1], &b);
      memcpy(joined, left, a);
      memcpy(joined + a, right, b);
      const char *token = tokenizer_bytes(tokenizer, i, &all);
      same = all == a + b && !memcmp(token, joined, all);
    }
    Ids given = {0};
    tokenizer_encode(tokenizer, word, length, false, &given);
    same = same && given.count == count && !memcmp(given.list, ids, count * sizeof *ids);
    CHECK(same, "%s: merges or encoding differ from the slow twin's", word);
    ids_free(&given);
    tokenizer_free(tokenizer);
  }
}

static void test_special_training(Arena *arena) {
  Tokenizer *tokenizer = train("hello hello", 11, 300);
  CHECK(tokenizer_find(tokenizer, "<|end|>") == 0 && tokenizer_find(tokenizer, "<image>") == 1,
        "ids of specials");
  CHECK(tokenizer_is_special(tokenizer, 1) && !tokenizer_is_special(tokenizer, 2), "specials");
  static const unsigned char bytes[] = {'a', 0xff, 0xe4, 0xb8, 0, 0x80, ' ', ' ', '\n', 0xe4, 0xb8, 0xad};
  Ids ids = {0};
  tokenizer_encode(tokenizer, (const char *)bytes, sizeof bytes, true, &ids);
  Text joined = {0}; // every byte string is what its tokens stand for
  for (size_t i = 0; i < ids.count; i++) {
    size_t length;
    const char *token = tokenizer_bytes(tokenizer, ids.list[i], &length);
    text_add(&joined, token, length);
  }
  CHECK(joined.length == sizeof bytes && !memcmp(joined.bytes, bytes, sizeof bytes), "bytes are lost");
  CHECK(!memcmp(decode(tokenizer, &ids, false, arena), "a\xef\xbf\xbd\xef\xbf\xbd\0", 8),
        "decoded to invalid UTF-8");
  ids.count = 0;
  tokenizer_encode(tokenizer, "", 0, true, &ids);
  CHECK(ids.count == 0, "an empty text has %zu tokens", ids.count);
  ids_free(&ids);
  text_free(&joined);
  tokenizer_free(tokenizer);

  Failure failure;
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  const char *twice[] = {"<a>", "<a>"}, *single[] = {"Ġ"}, *empty[] = {""}, *wrong[] = {"\xff\xff"};
  CHECK(!tokenizer_trainer_finish(trainer, 400, twice, 2, &tokenizer, &failure),
        "a special token named twice");
  CHECK(!tokenizer_trainer_finish(trainer, 400, single, 1, &tokenizer, &failure),
        "a special token like a byte");
  CHECK(!tokenizer_trainer_finish(trainer, 400, empty, 1, &tokenizer, &failure), "an empty special token");
  CHECK(!tokenizer_trainer_finish(trainer, 400, wrong, 1, &tokenizer, &failure),
        "a special token not in UTF-8");
  CHECK(!tokenizer_trainer_finish(trainer, 256, twice, 1, &tokenizer, &failure), "no room for the bytes");
  tokenizer_trainer_free(trainer);
}

// Characters come out whole, whatever tokens they are made of.
static void test_streaming(void) {
  Tokenizer *tokenizer = train("x", 1, 258);
  const char *text = "a中🦙é";
  Ids ids = {0};
  tokenizer_encode(tokenizer, text, strlen(text), false, &ids);
  CHECK(ids.count == strlen(text), "bytes are not tokens");
  Text out = {0};
  Decoder decoder = {0};
  static const size_t lengths[] = {1, 1, 1, 4, 4, 4, 4, 8, 8, 10}; // of the text after each byte
  for (size_t i = 0; i < ids.count; i++) {
    tokenizer_decode(tokenizer, &decoder, ids.list[i], false, &out);
    CHECK(out.length == lengths[i], "after %zu bytes there are %zu", i + 1, out.length);
  }
  tokenizer_decode_end(&decoder, &out);
  CHECK(!strcmp(out.bytes, text), "%s", out.bytes);
  static const struct {
    const char *bytes, *text;
  } broken[] = {{"\xe4\xb8", "\xef\xbf\xbd"},                             // ends early
                {"\xe4\xb8z", "\xef\xbf\xbdz"},                           // another character instead
                {"\xe4\xe4\xb8\xad", "\xef\xbf\xbd中"},                   // begins anew
                {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 // overlong
                {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, // half of a surrogate pair
                {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}};
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    ids.count = out.length = 0;
    tokenizer_encode(tokenizer, broken[i].bytes, strlen(broken[i].bytes), false, &ids);
    for (size_t t = 0; t < ids.count; t++) tokenizer_decode(tokenizer, &decoder, ids.list[t], false, &out);
    tokenizer_decode_end(&decoder, &out);
    CHECK(!strcmp(out.bytes, broken[i].text), "broken text %zu gave %s", i, out.bytes);
  }
  text_free(&out);
  ids_free(&ids);
  tokenizer_free(tokenizer);
}

// Real text: training takes a moment, is repeatable, comes back after saving, and encoding keeps every byte.
static void test_real_text(const char *data, Arena *arena) {
  static const char *const files[] = {"tinyshakespeare.txt", "chinese"};
  for (int i = 0; i < 2; i++) {
    char *text;
    size_t size;
    Failure failure;
    CHECK(
        file_read(arena_print(arena, "%s/text/%s", data, files[i]), 16 << 20, arena, &text, &size, &failure),
        "%s", failure.message);
    clock_t start = clock();
    Tokenizer *tokenizer = train(text, size, 4096);
    double training = (double)(clock() - start) / CLOCKS_PER_SEC;
    CHECK(tokenizer_count(tokenizer) == 4096, "%d tokens", tokenizer_count(tokenizer));
    Ids ids = {0}, again = {0};
    start = clock();
    tokenizer_encode(tokenizer, text, size, false, &ids);
    printf("%s: %zu bytes, trained in %.2f s, encoded in %.3f s as %zu tokens\n", files[i], size, training,
           (double)(clock() - start) / CLOCKS_PER_SEC, ids.count);
    CHECK(ids.count < size / 2 && !strcmp(decode(tokenizer, &ids, false, arena), text), "%s", files[i]);
    Tokenizer *second = train(text, size, 4096), *read = NULL;
    Text printed = {0}, other = {0};
    tokenizer_print(tokenizer, &printed);
    tokenizer_print(second, &other);
    CHECK(!strcmp(printed.bytes, other.bytes), "training twice gives two tokenizers");
    char path[] = "/tmp/vlmc-tokenizer-XXXXXX";
    close(mkstemp(path));
    CHECK(tokenizer_save(tokenizer, path, &failure) && tokenizer_open(path, &read, &failure), "%s",
          failure.message);
    unlink(path);
    if (read) tokenizer_encode(read, text, size, false, &again);
    CHECK(again.count == ids.count && !memcmp(again.list, ids.list, ids.count * 4),
          "saved and read, it differs");
    text_free(&printed);
    text_free(&other);
    ids_free(&ids);
    ids_free(&again);
    tokenizer_free(tokenizer);
    tokenizer_free(second);
    tokenizer_free(read);
  }
}

// Bad files. A good one is printed and one place of it replaced.
#define FOUR(x) x "," x "," x "," x
#define LOWER   FOUR(FOUR("{\"type\": \"Lowercase\"}"))
#define LONGER  "{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"aaaaaaaa\"}"
#define FIVE    "{\"SpecialToken\": {\"id\": \"A\"}}"
#define TOKENS  "\"special_tokens\": {\"A\": {\"ids\": [1, 1, 1, 1, 1]}}"
#define MERGE   "[\n        \"a\",\n        \"b\"\n      ]"
static void test_bad_files(void) {
  static const struct {
    const char *from, *to, *message;
  } changes[] = {
      {"\"type\": \"BPE\"", "\"type\": \"Unigram\"", "\"Unigram\"; only BPE"},
      {"\"dropout\": null", "\"dropout\": 0.1", "\"dropout\" set"},
      {"\"continuing_subword_prefix\": null", "\"continuing_subword_prefix\": \"##\"", "_prefix\" set"},
      {"\"normalizer\": null", "\"normalizer\": {\"type\": \"StripAccents\"}", "normalizer \"StripAccents\""},
      {"\"normalizer\": null", "\"normalizer\": {\"type\": \"Sequence\"}",
       "\"normalizers\" must be an array"},
      {"\"normalizer\": null", "\"normalizer\": []", "must be an object, found an array"},
      {"\"normalizer\": null",
       "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [" LOWER "," LOWER "]}",
       "\"normalizers\" has 32 steps, more than 16"},
      {"\"normalizer\": null",
       "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [" FOUR(LONGER) "]}",
       "more than 256 times"},
      {"\"decoder\": {", "\"decoder\": " LONGER ", \"x\": {", "longer than they are spelled"},
      {"\"post_processor\": null",
       "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [" FOUR(FIVE) "], " TOKENS "}",
       "adds more than 16 tokens"},
      {"\"type\": \"ByteLevel\"", "\"type\": \"BertPreTokenizer\"", "\"BertPreTokenizer\""},
      {"\"type\": \"ByteLevel\"", "\"type\": \"Split\"", "needs a pattern"},
      {"\"type\": \"ByteLevel\"", "\"type\": \"Metaspace\"", "needs a \"replacement\""},
      {"\"post_processor\": null", "\"post_processor\": {\"type\": \"X\"}", "post-processor \"X\""},
      {"\"post_processor\": null", "\"post_processor\": {\"type\": \"BertProcessing\"}", "does not exist"},
      {"\"unk_token\": null", "\"unk_token\": \"<none>\"", "unknown token \"<none>\""},
      {"\"id\": 1,", "\"id\": 0,", "another in \"vocab\""},
      {"\"id\": 1,", "\"id\": 4611686018427387904,", "must be an integer from 0 to"},
      {"\"id\": 1,", "\"id\": \"1\",", "\"id\" must be an integer"},
      {"\"A\": ", "\"A\": 1000", "must be an integer from 0 to"},
      {"\"A\": 34", "\"A\": 35", "have the same id"},
      {"\"A\": 34", "\"A\": -1", "must be an integer from 0 to"},
      {"\"A\": 34", "\"A\": null", "must be an integer from 0 to"},
      {"\"A\": 34", "\"\": 34", "has 0 bytes"},
      {"\"A\": 34", "\"B\": 34", "duplicate"},
      {MERGE, "\"a c\"", "needs the token \"ac\""},
      {MERGE, "\"a b c\"", "must be two tokens"},
      {MERGE, "\" ab\"", "has an empty side"},
      {MERGE, "[\"a\"]", "must be two tokens"},
      {MERGE, "[\"ab\", \"\"]", "has an empty side"},
      {MERGE, "[\"ab\", \"ab\"]", "needs the token \"abab\""},
      {MERGE, "7", "must be two tokens"},
      {MERGE, "\"a b\", \"a b\"", "merge 1 is the same as merge 0"},
      {"\"merges\"", "\"merger\"", "\"merges\" must be an array, found nothing"},
      {"\"model\"", "\"module\"", "\"model\" must be an object, found nothing"},
      {"{", "[{", "not valid JSON"},
  };
  Tokenizer *tokenizer = train("ababab", 6, 259), *other;
  Text good = {0};
  tokenizer_print(tokenizer, &good);
  Failure failure = {0};
  CHECK(tokenizer_parse(good.bytes, good.length, "t.json", &other, &failure), "%s", failure.message);
  tokenizer_free(other);
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    const char *at = strstr(good.bytes, changes[i].from);
    CHECK(at != NULL, "the file has no %s", changes[i].from);
    if (!at) continue;
    Text bad = {0};
    text_add(&bad, good.bytes, (size_t)(at - good.bytes));
    text_print(&bad, "%s%s", changes[i].to, at + strlen(changes[i].from));
    failure.message[0] = 0;
    bool read = tokenizer_parse(bad.bytes, bad.length, "t.json", &other, &failure);
    CHECK(!read && strstr(failure.message, changes[i].message) && !strncmp(failure.message, "t.json", 6),
          "%s -> %s: %s", changes[i].from, changes[i].to, failure.message);
    tokenizer_free(other);
    text_free(&bad);
  }
  text_free(&good);
  tokenizer_free(tokenizer);
}

// Files of the other formats, good ones from the fuzzer's corpus: cut short anywhere, and with one place
// changed, they end in one sentence that names the file.
static void test_bad_formats(Arena *arena) {
  static const struct {
    const char *file;
    size_t at; // what is changed there, to 0xff
    const char *message;
  } changes[] = {{"llama2c.bin", 9, "none of the tokenizers"},
                 {"llama2c.bin", 24, "goes beyond the file's end"},
                 {"pieces.model", 1, "is broken or goes beyond"},
                 {"pieces.model", 5, "not valid UTF-8"},
                 {"pieces.gguf", 4, "version"},
                 {"clip.txt.gz", 40, "gzip file is broken"},
                 {"clip.txt", 42, "not valid UTF-8"}};
  Tokenizer *tokenizer;
  Failure failure;
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    char *bytes;
    size_t size;
    bool read = file_read(arena_print(arena, "tests/fuzz/corpus/tokenizer/%s", changes[i].file), 1 << 20,
                          arena, &bytes, &size, &failure);
    CHECK(read, "%s", failure.message);
    if (!read) continue;
    CHECK(tokenizer_parse(bytes, size, "good", &tokenizer, &failure), "%s: %s", changes[i].file,
          failure.message);
    tokenizer_free(tokenizer);
    bytes[changes[i].at] = (char)0xff;
    bool good = tokenizer_parse(bytes, size, "t.bin", &tokenizer, &failure);
    CHECK(!good && !strncmp(failure.message, "t.bin: ", 7) && strstr(failure.message, changes[i].message),
          "%s, %zu: %s", changes[i].file, i, good ? "accepted" : failure.message);
    tokenizer_free(tokenizer);
    CHECK(!tokenizer_parse(bytes, 3, "t.bin", &tokenizer, &failure), "%s is accepted as three bytes",
          changes[i].file);
  }
}

// A list of steps: digits apart, then words, as StarCoder has them; and a pattern that would run for years.
static void test_steps(void) {
  Tokenizer *tokenizer = train("a1234 a1234", 11, 270), *other;
  Text json = {0};
  tokenizer_print(tokenizer, &json);
  static const char *const steps[] = {
      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":"
      "\"ByteLevel\"}]}",
      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a*)*b\"},"
      "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x*|(?=2)\"},"
      "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"};
  static const size_t expected[] = {71, 68, 71};
  static const char text[] = "a1234aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac";
  char *begin = strstr(strstr(json.bytes, "\"pre_tokenizer\""), "{"), *end = strchr(begin, '}') + 1;
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    Text changed = {0};
    Failure failure;
    text_add(&changed, json.bytes, (size_t)(begin - json.bytes));
    text_print(&changed, "%s%s", steps[i], end);
    CHECK(tokenizer_parse(changed.bytes, changed.length, "t.json", &other, &failure), "%s", failure.message);
    Ids ids = {0};
    if (other) tokenizer_encode(other, text, sizeof text - 1, false, &ids);
    CHECK(ids.count == expected[i], "steps %zu: %zu tokens", i, ids.count);
    ids_free(&ids);
    tokenizer_free(other);
    text_free(&changed);
  }
  text_free(&json);
  tokenizer_free(tokenizer);
}

int main(void) {
  Arena *arena = arena_new();
  const char *data = check_data();
  if (data) {
    test_gpt2(data, arena);
    test_published_json(data, arena);
    test_real_text(data, arena);
  } else {
    SKIP("published tokenizers and texts: no test data (set VLMC_TEST_DATA)");
  }
  test_training_twin();
  test_special_training(arena);
  test_streaming();
  test_bad_files();
  test_bad_formats(arena);
  test_steps();
  arena_free(arena);
  return check_finish();
}
