// Weight files: every format opened by its content, values equal to the reference, and what must be refused.
#include <dirent.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/files.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/weights.h"

static char folder[] = "/tmp/vlmc-weights-XXXXXX";

static const char *in_folder(Arena *arena, const char *name) {
  return arena_print(arena, "%s/%s", folder, name);
}

static bool refuses(const char *path, const char *reason) {
  WeightFile file;
  Failure failure = {0};
  if (weights_open(path, &file, &failure)) return weights_close(&file), false;
  if (strstr(failure.message, reason)) return true;
  printf("%s\n  lacks: %s\n", failure.message, reason);
  return false;
}

static bool write_text(const char *path, const char *text) {
  Failure failure;
  return file_replace(path, text, strlen(text), &failure);
}

// ---- safetensors, whole and in shards -------------------------------------------------------------

static void write_shard(const char *path, const char *first, const char *second) {
  float values[6] = {1, -2, 3.5f, 4, 5, 6};
  uint16_t halves[2] = {0x3f80, 0xc000}; // 1, -2 in bf16
  SafetensorsTensor tensors[] = {
      {.name = first, .dtype = DTYPE_F32, .rank = 2, .extents = {2, 3}, .data = values},
      {.name = second, .dtype = DTYPE_BF16, .rank = 1, .extents = {2}, .data = halves}};
  SafetensorsText metadata = {"step", "7"};
  Failure failure;
  CHECK(safetensors_write(path, tensors, 2, &metadata, 1, &failure), "%s", failure.message);
}

static void test_safetensors(Arena *arena) {
  const char *path = in_folder(arena, "named.gguf"); // the name says nothing
  write_shard(path, "a", "b");
  WeightFile file;
  Failure failure;
  CHECK(weights_open(path, &file, &failure), "%s", failure.message);
  CHECK(file.count == 2 && !strcmp(file.kind, "safetensors") && !file.gguf, "%s", file.kind);
  const WeightTensor *a = weights_find(&file, "a"), *b = weights_find(&file, "b");
  CHECK(a && a->format == WEIGHT_F32 && a->rank == 2 && a->extents[1] == 3 && a->elements == 6 &&
            a->bytes == 24,
        "a");
  CHECK(b && b->format == WEIGHT_BF16 && b->elements == 2 && !weights_find(&file, "c"), "b");
  float read[6];
  weights_read_f32(a, 1, 2, read);
  CHECK(read[0] == -2 && read[1] == 3.5f, "a");
  weights_read_f32(b, 0, 2, read);
  CHECK(read[0] == 1 && read[1] == -2, "b");
  CHECK(!strcmp(weights_metadata(&file, "step"), "7") && !weights_metadata(&file, "none"), "metadata");
  weights_close(&file);
  weights_close(&file);
}

static void test_index(Arena *arena) {
  const char *index = in_folder(arena, "model.safetensors.index.json");
  write_shard(in_folder(arena, "one.safetensors"), "a", "b");
  write_shard(in_folder(arena, "two.safetensors"), "c", "d");
  write_text(index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"a\": \"one.safetensors\",\n"
                    "\"b\": \"one.safetensors\", \"c\": \"two.safetensors\", \"d\": \"two.safetensors\"}}");
  WeightFile file;
  Failure failure;
  CHECK(weights_open(folder, &file, &failure), "%s", failure.message);
  CHECK(file.count == 4 && !strcmp(file.kind, "safetensors") && !strcmp(file.path, index), "%zu", file.count);
  const WeightTensor *d = weights_find(&file, "d");
  CHECK(d && strstr(d->path, "/two.safetensors") && d->format == WEIGHT_BF16, "d");
  CHECK(!strcmp(weights_metadata(&file, "step"), "7"), "metadata of a shard");
  weights_close(&file);
}

static void test_bad_index(Arena *arena) {
  static const struct {
    const char *text, *reason;
  } bad[] = {
      {"{\"weight_map\": {\"a\": \"../one.safetensors\"}}", "no file beside it"},
      {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "no file beside it"},
      {"{\"weight_map\": {\"a\": \"..\"}}", "no file beside it"},
      {"{\"weight_map\": {\"a\": \"\"}}", "no file beside it"},
      {"{\"weight_map\": {\"a\": 1}}", "must be a string, found an integer"},
      {"{\"weight_map\": {\"a\": \"bad.json\"}}", "is JSON, where a file of weights was expected"}, // itself
      {"{\"weight_map\": {\"a\": \"absent\"}}", "No such file"},
      {"{\"weight_map\": {\"x\": \"one.safetensors\"}}", "but no shard has it"},
      {"{\"weight_map\": {\"a\": \"two.safetensors\", \"c\": \"one.safetensors\"}}",
       "but it is in another shard"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\", \"b\": \"named.gguf\"}}", "two tensors are called"},
      {"{\"weight_map\": {\"a\": \"a\", \"a\": \"b\"}}", "duplicate"},
      {"{\"weight_map\": {}}", "is empty"},
      {"{\"weight_map\": []}", "must be an object"},
      {"{}", "\"weight_map\" must be an object, found nothing"},
      {"{", "not valid JSON"},
  };
  const char *path = in_folder(arena, "bad.json");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    write_text(path, bad[i].text);
    CHECK(refuses(path, bad[i].reason), "%s", bad[i].text);
  }
}

static void test_unknown(Arena *arena) {
  const char *path = in_folder(arena, "unknown");
  write_text(path, "");
  CHECK(refuses(path, "is empty"), "empty");
  write_text(path, "\x7f"
                   "ELF");
  CHECK(refuses(path, "first bytes: 7f 45 4c 46"), "text");
  CHECK(folder_make(in_folder(arena, "none"), &(Failure){0}), "folder");
  CHECK(refuses(in_folder(arena, "none"), "holds neither"), "an empty folder");
  CHECK(refuses(in_folder(arena, "absent"), "No such file"), "absent");
}

// ---- llama2.c ---------------------------------------------------------------------------------------

static void test_stories(Arena *arena) {
  if (!check_data()) {
    SKIP("no data for tests: llama2.c");
    return;
  }
  WeightFile file;
  Failure failure;
  const char *path = arena_print(arena, "%s/stories260K/stories260K.bin", check_data());
  CHECK(weights_open(path, &file, &failure), "%s", failure.message);
  CHECK(!strcmp(file.kind, "llama2.c") && file.count == 1 + 9 * 5 + 3, "%zu tensors", file.count);
  const WeightTensor *wk = weights_find(&file, "layers.4.attention.wk.weight"),
                     *w2 = weights_find(&file, "layers.0.feed_forward.w2.weight");
  CHECK(wk && wk->extents[0] == 32 && wk->extents[1] == 64, "wk");
  CHECK(w2 && w2->extents[0] == 64 && w2->extents[1] == 172 && !weights_find(&file, "output.weight"), "w2");
  float norm[64], table[4];
  weights_read_f32(weights_find(&file, "norm.weight"), 0, 64, norm);
  for (int i = 0; i < 64; i++) CHECK(norm[i] > 0.1f && norm[i] < 20, "norm %d: %g", i, (double)norm[i]);
  weights_read_f32(weights_find(&file, "freqs_cos"), 4, 4, table); // position 1: cos of 10000^(-2i/8)
  for (int i = 0; i < 4; i++)
    CHECK(fabs((double)table[i] - cos(pow(10000, -i / 4.0))) < 1e-6, "freqs_cos %d: %g", i, (double)table[i]);
  weights_close(&file);
}

static void test_llama2c(Arena *arena) {
  const char *path = in_folder(arena, "llama2c");
  enum { FLOATS = 6 * 4 + 4 + 4 * 4 * 4 + 4 + 3 * 4 * 8 + 4 + 5 + 5 + 6 * 4 };
  int32_t words[7 + FLOATS + 1] = {4, 8, 1, 2, 2, -6, 5};
  float *values = (float *)(words + 7);
  for (int i = 0; i < FLOATS; i++) values[i] = (float)i;
  WeightFile file;
  Failure failure;
  CHECK(weights_parse((unsigned char *)words, 28 + 4 * FLOATS, path, &file, &failure), "%s", failure.message);
  const WeightTensor *output = weights_find(&file, "output.weight");
  float last;
  if (output) weights_read_f32(output, 23, 1, &last);
  CHECK(output && output->extents[0] == 6 && last == FLOATS - 1, "the classifier's own weights");
  weights_close(&file);
  CHECK(!weights_parse((unsigned char *)words, 28 + 4 * FLOATS - 4, path, &file, &failure) &&
            strstr(failure.message, "which has"),
        "%s", failure.message);
  CHECK(!weights_parse((unsigned char *)words, 28 + 4 * FLOATS + 4, path, &file, &failure), "longer");
  words[2] = 4096, words[0] = words[3] = words[4] = 1 << 19, words[1] = 1 << 22; // 2^60 bytes
  words[0] = 1 << 20;
  CHECK(!weights_parse((unsigned char *)words, 28 + 4 * FLOATS, path, &file, &failure) &&
            strstr(failure.message, "which has"),
        "%s", failure.message);
  uint32_t newer[64] = {0x616b3432, 2};
  CHECK(!weights_parse((unsigned char *)newer, sizeof newer, path, &file, &failure) &&
            strstr(failure.message, "version 2"),
        "%s", failure.message);
}

// ---- GGUF -------------------------------------------------------------------------------------------

static void test_vocabularies(Arena *arena) {
  const char *data = check_data();
  DIR *directory = data ? opendir(arena_print(arena, "%s/tokenizers", data)) : NULL;
  int found = 0;
  if (!directory) SKIP("no data for tests: GGUF vocabularies");
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    const char *ending = strrchr(entry->d_name, '.');
    if (!ending || strcmp(ending, ".gguf")) continue;
    Gguf file;
    Failure failure;
    GgufString model;
    const GgufString *tokens;
    const GgufValue *kinds;
    size_t count = 0;
    bool good = gguf_open(arena_print(arena, "%s/tokenizers/%s", data, entry->d_name), &file, &failure);
    CHECK(good, "%s", failure.message);
    if (!good) continue;
    CHECK(gguf_get_string(&file, "tokenizer.ggml.model", &model, &failure) && model.length >= 4, "%s",
          failure.message);
    CHECK(gguf_get_strings(&file, "tokenizer.ggml.tokens", &tokens, &count, &failure) && count > 30000, "%s",
          failure.message);
    CHECK(gguf_get_numbers(&file, "tokenizer.ggml.token_type", &kinds, &failure) && kinds->count == count,
          "%s", failure.message);
    found++;
    gguf_close(&file);
  }
  if (directory) {
    CHECK(found > 0, "no vocabularies");
    closedir(directory);
  }
}

// The file was written by the reference library: values.X are quantised values, expected.X what it reads from
// them.
static void test_formats(void) {
  static const struct {
    const char *name;
    WeightFormat format;
    int64_t rows, columns;
  } wanted[] = {{"Q4_0", WEIGHT_Q4_0, 4, 96}, {"Q4_1", WEIGHT_Q4_1, 4, 96},  {"Q5_0", WEIGHT_Q5_0, 4, 96},
                {"Q5_1", WEIGHT_Q5_1, 4, 96}, {"Q8_0", WEIGHT_Q8_0, 4, 96},  {"F16", WEIGHT_F16, 4, 96},
                {"BF16", WEIGHT_BF16, 4, 96}, {"Q4_K", WEIGHT_Q4_K, 2, 256}, {"Q5_K", WEIGHT_Q5_K, 2, 256},
                {"Q6_K", WEIGHT_Q6_K, 2, 256}};
  WeightFile file;
  Failure failure;
  CHECK(weights_open("tests/fuzz/corpus/gguf/formats.gguf", &file, &failure), "%s", failure.message);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    char name[40];
    float values[512], expected[512], one;
    snprintf(name, sizeof name, "values.%s", wanted[i].name);
    const WeightTensor *tensor = weights_find(&file, name);
    snprintf(name, sizeof name, "expected.%s", wanted[i].name);
    const WeightTensor *reference = weights_find(&file, name);
    bool same = tensor && reference && tensor->format == wanted[i].format && tensor->rank == 2 &&
                tensor->extents[0] == wanted[i].rows && tensor->extents[1] == wanted[i].columns;
    CHECK(same, "%s", name);
    if (!same) continue;
    int64_t count = tensor->elements;
    weights_read_f32(tensor, 0, count, values);
    weights_read_f32(reference, 0, count, expected);
    for (int64_t k = 0; k < count; k++)
      CHECK(values[k] == expected[k], "%s %d: %.9g, expected %.9g", name, (int)k, (double)values[k],
            (double)expected[k]);
    weights_read_f32(tensor, 37, 1, &one); // from within a block
    CHECK(one == values[37], "%s from the middle", name);
  }
  weights_close(&file);
}

static double square_error(WeightFormat format, const void *data, const float *values, int count) {
  WeightTensor tensor = {.format = format, .rank = 1, .extents = {count}, .elements = count, .data = data};
  float read[4 * 96];
  double sum = 0;
  weights_read_f32(&tensor, 0, count, read);
  for (int i = 0; i < count; i++) sum += pow((double)read[i] - (double)values[i], 2);
  return sum;
}

// What our quantisers write is, to the bit, what the reference wrote; of q4_0, where we look for the best scale, nearer.
static void test_quantisers(void) {
  static const WeightFormat formats[] = {WEIGHT_Q8_0, WEIGHT_F16, WEIGHT_BF16};
  WeightFile file;
  Failure failure;
  CHECK(weights_open("tests/fuzz/corpus/gguf/formats.gguf", &file, &failure), "%s", failure.message);
  float values[4 * 96];
  weights_read_f32(weights_find(&file, "values"), 0, 4 * 96, values);
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    char name[40];
    unsigned char written[2 * 4 * 96];
    snprintf(name, sizeof name, "values.%s", format_name(formats[i]));
    const WeightTensor *tensor = weights_find(&file, name);
    CHECK(weights_write_f32(formats[i], values, 4 * 96, written), "%s", name);
    for (size_t b = 0; b < tensor->bytes; b++)
      CHECK(written[b] == ((const unsigned char *)tensor->data)[b], "%s: byte %zu", name, b);
  }
  unsigned char four_bits[4 * 96], block[34];
  CHECK(weights_write_f32(WEIGHT_Q4_0, values, 4 * 96, four_bits), "q4_0");
  double ours = square_error(WEIGHT_Q4_0, four_bits, values, 4 * 96);
  double reference = square_error(WEIGHT_Q4_0, weights_find(&file, "values.Q4_0")->data, values, 4 * 96);
  CHECK(ours < reference * 0.95, "q4_0: squares of errors %g, the reference's %g", ours, reference);
  float odd[32] = {INFINITY, NAN, -INFINITY};
  CHECK(weights_write_f32(WEIGHT_Q8_0, odd, 32, block) && weights_write_f32(WEIGHT_Q4_0, odd, 32, block),
        "no numbers");
  CHECK(!weights_write_f32(WEIGHT_Q4_0, odd, 31, block) &&
            !weights_write_f32(WEIGHT_Q4_K, values, 256, block),
        "refused");
  weights_close(&file);
}

static void test_metadata(void) {
  Gguf file;
  Failure failure;
  CHECK(gguf_open("tests/fuzz/corpus/gguf/formats.gguf", &file, &failure), "%s", failure.message);
  GgufString text;
  int64_t integer;
  double number;
  bool flag;
  size_t count;
  const GgufString *strings;
  const GgufValue *numbers;
  CHECK(gguf_get_string(&file, "test.text", &text, &failure) && text.length == 10 &&
            !memcmp(text.bytes, "na\xc3\xafve \xe4\xb8\xad", 10),
        "text");
  CHECK(gguf_get_integer(&file, "test.u32", &integer, &failure) && integer == 7, "u32");
  CHECK(gguf_get_integer(&file, "test.i8", &integer, &failure) && integer == -3, "i8");
  CHECK(gguf_get_integer(&file, "test.i16", &integer, &failure) && integer == -300, "i16");
  CHECK(gguf_get_integer(&file, "test.i64", &integer, &failure) && integer == -((int64_t)1 << 40), "i64");
  CHECK(gguf_get_number(&file, "test.u64", &number, &failure) && number == 0x1p63, "u64");
  CHECK(gguf_get_number(&file, "test.f32", &number, &failure) && number == 0.25, "f32");
  CHECK(gguf_get_number(&file, "test.f64", &number, &failure) && number == 1e300, "f64");
  CHECK(gguf_get_bool(&file, "test.bool", &flag, &failure) && flag, "bool");
  CHECK(gguf_get_strings(&file, "test.strings", &strings, &count, &failure) && count == 3 &&
            !strings[1].length && strings[2].length == 4,
        "strings");
  CHECK(gguf_get_numbers(&file, "test.ints", &numbers, &failure) && numbers->count == 3 &&
            gguf_integer(numbers, 1) == -2,
        "ints");
  CHECK(gguf_get_numbers(&file, "test.floats", &numbers, &failure) && gguf_number(numbers, 1) == -1.5,
        "floats");
  CHECK(!gguf_get_integer(&file, "test.f32", &integer, &failure) &&
            strstr(failure.message, "must be an integer, found f32"),
        "%s", failure.message);
  CHECK(!gguf_get_string(&file, "test.strings", &text, &failure) &&
            strstr(failure.message, "found an array of string"),
        "%s", failure.message);
  CHECK(!gguf_get_bool(&file, "none", &flag, &failure) &&
            strstr(failure.message, "\"none\" must be a bool, found nothing"),
        "%s", failure.message);
  gguf_close(&file);
}

static void test_gguf_writing(Arena *arena) {
  const char *path = in_folder(arena, "written");
  GgufMetadata metadata = {0};
  GgufString words[] = {{"a", 1}, {"", 0}, {"b\0c", 3}};
  gguf_add_string(&metadata, "general.architecture", "test");
  gguf_add_u32(&metadata, "u32", 4000000000u);
  gguf_add_f32(&metadata, "f32", -0.5f);
  gguf_add_bool(&metadata, "bool", true);
  gguf_add_strings(&metadata, "words", words, 3);
  gguf_add_i32s(&metadata, "i32s", (int32_t[]){-1, 5}, 2);
  gguf_add_f32s(&metadata, "f32s", (float[]){1.5f}, 1);
  WeightTensor tensors[] = {{.name = "odd", .format = WEIGHT_F32, .rank = 1, .extents = {3}},
                            {.name = "half", .format = WEIGHT_F16, .rank = 3, .extents = {1, 2, 3}},
                            {.name = "brain", .format = WEIGHT_BF16, .rank = 0},
                            {.name = "q8", .format = WEIGHT_Q8_0, .rank = 2, .extents = {2, 32}},
                            {.name = "q4", .format = WEIGHT_Q4_0, .rank = 2, .extents = {1, 64}},
                            {.name = "none", .format = WEIGHT_Q4_0, .rank = 2, .extents = {0, 32}}};
  float values[64];
  for (int i = 0; i < 64; i++) values[i] = (float)(i - 20) / 16;
  GgufWriter *writer;
  Failure failure;
  CHECK(gguf_create(path, &metadata, tensors, 6, &writer, &failure), "%s", failure.message);
  for (size_t i = 6; i--;) // in any order
    CHECK(i ? gguf_put_f32(writer, i, values, &failure) : gguf_put(writer, i, values, &failure), "%s",
          failure.message);
  CHECK(gguf_finish(writer, &failure), "%s", failure.message);
  WeightFile file;
  CHECK(weights_open(path, &file, &failure), "%s", failure.message);
  if (!file.gguf) return;
  CHECK(file.gguf->version == 3 && file.count == 6 && file.gguf->value_count == 7, "%zu", file.count);
  const GgufValue *kept = gguf_find(file.gguf, "words");
  CHECK(kept && kept->count == 3 && kept->strings[2].length == 3 &&
            !memcmp(kept->strings[2].bytes, "b\0c", 3),
        "words");
  CHECK(gguf_integer(gguf_find(file.gguf, "u32"), 0) == 4000000000, "u32");
  for (size_t i = 0; i < 6; i++) {
    const WeightTensor *tensor = weights_find(&file, tensors[i].name);
    CHECK(tensor && tensor->format == tensors[i].format && tensor->rank == tensors[i].rank &&
              !memcmp(tensor->extents, tensors[i].extents, sizeof tensor->extents),
          "%s", tensors[i].name);
    float read[64];
    weights_read_f32(tensor, 0, tensor->elements, read);
    for (int64_t k = 0; k < tensor->elements; k++)
      CHECK(fabsf(read[k] - values[k]) <= (tensor->format == WEIGHT_Q4_0 ? 0.2f : 0.012f), "%s %d",
            tensor->name, (int)k);
  }
  weights_close(&file);
  CHECK(gguf_create(path, &metadata, tensors, 1, &writer, &failure), "%s", failure.message);
  gguf_abandon(writer);
  CHECK(weights_open(path, &file, &failure) && file.count == 6, "an abandoned writer changed the file");
  weights_close(&file);
  tensors[0] = (WeightTensor){.name = "bad", .format = WEIGHT_Q8_0, .rank = 1, .extents = {33}};
  CHECK(!gguf_create(path, &metadata, tensors, 1, &writer, &failure) &&
            strstr(failure.message, "no multiple of the 32"),
        "%s", failure.message);
  tensors[0] = (WeightTensor){.name = "bad", .format = WEIGHT_U8, .rank = 1, .extents = {33}};
  CHECK(!gguf_create(path, &metadata, tensors, 1, &writer, &failure), "U8");
  gguf_metadata_free(&metadata);
}

// Builds lies: integers of any size, and texts with their length before them.
static void put(Text *text, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) text_add(text, &(char){(char)(value >> 8 * i)}, 1);
}

static void put_string(Text *text, const char *string) {
  put(text, strlen(string), 8);
  text_add(text, string, strlen(string));
}

static void put_head(Text *text, uint64_t version, uint64_t tensors, uint64_t values) {
  text_add(text, "GGUF", 4);
  put(text, version, 4);
  put(text, tensors, 8);
  put(text, values, 8);
}

static void put_tensor(Text *text, const char *name, uint64_t extent, uint64_t format, uint64_t offset) {
  put_string(text, name);
  put(text, 1, 4);
  put(text, extent, 8);
  put(text, format, 4);
  put(text, offset, 8);
}

// In a block of exactly its size; frees the text.
static void lie(Text *text, const char *reason) {
  unsigned char *bytes = malloc(text->length + 1);
  memcpy(bytes, text->bytes, text->length);
  WeightFile file;
  Failure failure = {0};
  bool good = weights_parse(bytes, text->length, "f.weights", &file, &failure);
  if (good) weights_close(&file);
  CHECK(!good && strstr(failure.message, reason) && strstr(failure.message, "f.weights"),
        "expected: %s\n  gave: %s", reason, good ? "no failure" : failure.message);
  free(bytes);
  text_free(text);
}

static void test_gguf_lies(void) {
  static const struct {
    uint64_t extent, format, offset, other; // of two tensors; `other` is the second one's offset
    const char *reason;
  } lies[] = {
      {(uint64_t)1 << 60, 0, 0, 64, "which are not within"},
      {(uint64_t)1 << 62, 0, 0, 64, "product of its extents is too large"},
      {UINT64_MAX, 0, 0, 64, "is too large"},
      {8, 99, 0, 64, "is in format 99"},
      {8, 8, 0, 64, "no multiple of the 32 of a Q8_0 block"},
      {8, 0, 1, 64, "no multiple of the alignment 32"},
      {8, 0, UINT64_MAX - 31, 64, "which are not within"},
      {16, 0, 0, 32, "\"a\" and \"b\" overlap"},
      {24, 0, 0, 64, "\"a\" and \"b\" overlap"},
  };
  for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    Text text = {0};
    put_head(&text, 3, 2, 0);
    put_tensor(&text, "a", lies[i].extent, lies[i].format, lies[i].offset);
    put_tensor(&text, "b", 8, 0, lies[i].other);
    put(&text, 0, 8);
    while (text.length < 32 * 4 + 96) put(&text, 0, 1);
    lie(&text, lies[i].reason);
  }
  Text text = {0};
  put_head(&text, 3, (uint64_t)1 << 60, 0);
  lie(&text, "the number of tensors at byte 8 is 1152921504606846976, more than fit");
  put_head(&text, 3, 0, (uint64_t)1 << 40);
  lie(&text, "the number of metadata at byte 16");
  put_head(&text, 1, 0, 0);
  lie(&text, "is GGUF version 1, expected 2 or 3");
  put_head(&text, 3 << 24, 0, 0);
  lie(&text, "a big-endian file?");
  put_head(&text, 3, 0, 1);
  put_string(&text, "k");
  put(&text, GGUF_ARRAY, 4), put(&text, GGUF_STRING, 4), put(&text, (uint64_t)1 << 59, 8);
  lie(&text, "the length of metadata \"k\" at byte 41 is");
  put_head(&text, 3, 0, 1);
  put_string(&text, "k");
  put(&text, GGUF_ARRAY, 4), put(&text, GGUF_ARRAY, 4), put(&text, 0, 8);
  lie(&text, "an array of arrays");
  put_head(&text, 3, 0, 1);
  put_string(&text, "k");
  put(&text, 13, 4), put(&text, 0, 8);
  lie(&text, "has type 13");
  put_head(&text, 3, 0, 1);
  put_string(&text, "k");
  put(&text, GGUF_STRING, 4), put(&text, UINT64_MAX, 8);
  lie(&text, "takes 18446744073709551615 bytes, but only 0 follow");
  put_head(&text, 3, 0, 2);
  for (int i = 0; i < 2; i++) put_string(&text, "k"), put(&text, GGUF_U32, 4), put(&text, 1, 4);
  lie(&text, "metadata \"k\" is there twice");
  put_head(&text, 3, 0, 1);
  put_string(&text, "general.alignment"), put(&text, GGUF_U32, 4), put(&text, 24, 4);
  lie(&text, "no power of two");
  put_head(&text, 3, 0, 1);
  put_string(&text, "split.count"), put(&text, GGUF_U16, 4), put(&text, 3, 2);
  lie(&text, "one of 3 parts");
  put_head(&text, 3, 2, 0);
  for (int i = 0; i < 2; i++) put_tensor(&text, "a", 0, 0, 0);
  lie(&text, "two tensors are called \"a\"");
  put_head(&text, 3, 1, 0);
  put_string(&text, ""), put(&text, 0, 4), put(&text, 0, 8), put(&text, 0, 8);
  lie(&text, "a tensor's name at byte 24 is empty");
  put_head(&text, 3, 1, 0);
  put_string(&text, "a"), put(&text, 5, 4), put(&text, 0, 8), put(&text, 0, 8);
  lie(&text, "has 5 axes, more than 4");
}

// ---- PyTorch: files that torch.save wrote, and pickles that it would not write --------------------------

static void check_values(const WeightFile *file, const char *name, WeightFormat format, int rank,
                         const int64_t *extents, const float *expected) {
  const WeightTensor *tensor = weights_find(file, name);
  float values[16];
  bool same = tensor && tensor->format == format && tensor->rank == rank && tensor->elements <= 16 &&
              (uintptr_t)tensor->data % (size_t)format_block_bytes(format) == 0;
  for (int i = 0; same && i < rank; i++) same = tensor->extents[i] == extents[i];
  CHECK(same, "%s: %s", file->path, name);
  if (!same) return;
  weights_read_f32(tensor, 0, tensor->elements, values);
  for (int64_t i = 0; i < tensor->elements; i++)
    CHECK(values[i] == expected[i], "%s: %s %d: %g", file->path, name, (int)i, (double)values[i]);
}

static void check_state(const char *path) {
  WeightFile file;
  Failure failure;
  bool good = weights_open(path, &file, &failure);
  CHECK(good, "%s", failure.message);
  if (!good) return;
  CHECK(!strcmp(file.kind, "PyTorch") && file.count == 13, "%zu tensors", file.count);
  float a[12], turned[12], skipped[6];
  for (int i = 0; i < 12; i++) a[i] = (float)i / 4, turned[i] = (float)(i / 3 + i % 3 * 4) / 4;
  for (int i = 0; i < 6; i++) skipped[i] = (float)(i * 2) / 4;
  check_values(&file, "a", WEIGHT_F32, 2, (int64_t[]){3, 4}, a);
  check_values(&file, "tied", WEIGHT_F32, 2, (int64_t[]){3, 4}, a);
  check_values(&file, "a_t", WEIGHT_F32, 2, (int64_t[]){4, 3}, turned);
  check_values(&file, "row", WEIGHT_F32, 1, (int64_t[]){4}, a + 4);
  check_values(&file, "step2", WEIGHT_F32, 2, (int64_t[]){3, 2}, skipped);
  check_values(&file, "b", WEIGHT_BF16, 1, (int64_t[]){3}, (float[]){1, -2.5f, 3});
  check_values(&file, "h", WEIGHT_F16, 2, (int64_t[]){2, 1}, (float[]){0.5f, 65504});
  check_values(&file, "i", WEIGHT_I64, 1, (int64_t[]){2}, (float[]){-5, 0x1p40f});
  check_values(&file, "scalar", WEIGHT_F32, 0, NULL, (float[]){7.25f});
  check_values(&file, "empty", WEIGHT_F32, 2, (int64_t[]){0, 3}, NULL);
  check_values(&file, "flag", WEIGHT_BOOL, 1, (int64_t[]){3}, (float[]){1, 0, 1});
  check_values(&file, "wide", WEIGHT_F32, 1, (int64_t[]){3}, (float[]){2, 2, 2});
  check_values(&file, "d", WEIGHT_F64, 1, (int64_t[]){1}, (float[]){0.1f});
  weights_close(&file);
}

static void test_torch(void) {
  WeightFile file;
  Failure failure;
  check_state("tests/fuzz/corpus/torch/state.pth");
  check_state("tests/fuzz/corpus/torch/legacy.pth");
  check_state("tests/fuzz/corpus/torch/p4.pth");
  CHECK(weights_open("tests/fuzz/corpus/torch/nested.pth", &file, &failure), "%s", failure.message);
  check_values(&file, "model.w", WEIGHT_F32, 1, (int64_t[]){2}, (float[]){3.999f - 4e-5f, 4.999f - 5e-5f});
  CHECK(weights_find(&file, "p") && weights_find(&file, "optimizer.state.0.exp_avg") && file.count == 5,
        "%zu", file.count);
  weights_close(&file);
  CHECK(weights_open("tests/fuzz/corpus/torch/wrapped.pth", &file, &failure), "%s", failure.message);
  CHECK(weights_find(&file, "w") && file.count == 1, "what is under state_dict stands for the whole");
  weights_close(&file);
  CHECK(weights_open("tests/fuzz/corpus/torch/v3.pth", &file, &failure), "%s", failure.message);
  check_values(&file, "x", WEIGHT_F8_E4M3, 1, (int64_t[]){1}, (float[]){1.5f});
  check_values(&file, "u", WEIGHT_U32, 1, (int64_t[]){1}, (float[]){7});
  weights_close(&file);
  CHECK(weights_open("tests/fuzz/corpus/torch/lone.pth", &file, &failure) && weights_find(&file, ""), "%s",
        failure.message);
  weights_close(&file);
  CHECK(refuses("tests/fuzz/corpus/torch/module.pth",
                "holds an object of class `__main__ M`; save its state_dict()"),
        "module");
}

// Shards of PyTorch's; the files lie beside the index under any name.
static void test_torch_index(Arena *arena) {
  static const char *const names[] = {"wrapped.pth", "v3.pth"};
  const char *index = in_folder(arena, "torch/pytorch_model.bin.index.json");
  Failure failure;
  CHECK(folder_make(in_folder(arena, "torch"), &failure), "%s", failure.message);
  for (int i = 0; i < 2; i++) {
    char *bytes;
    size_t size;
    CHECK(file_read(arena_print(arena, "tests/fuzz/corpus/torch/%s", names[i]), 1 << 16, arena, &bytes, &size,
                    &failure) &&
              file_replace(arena_print(arena, "%s/torch/%s", folder, names[i]), bytes, size, &failure),
          "%s", failure.message);
  }
  write_text(index, "{\"weight_map\": {\"w\": \"wrapped.pth\", \"x\": \"v3.pth\", \"u\": \"v3.pth\"}}");
  WeightFile file;
  CHECK(weights_open(in_folder(arena, "torch"), &file, &failure), "%s", failure.message);
  CHECK(file.count == 3 && !strcmp(file.kind, "PyTorch") && strstr(weights_find(&file, "u")->path, "v3.pth"),
        "%zu", file.count);
  weights_close(&file);
  write_shard(in_folder(arena, "torch/other"), "a", "b");
  write_text(index, "{\"weight_map\": {\"w\": \"wrapped.pth\", \"a\": \"other\"}}");
  CHECK(refuses(index, "is a PyTorch file among shards that are safetensors"), "mixed");
}

static void put_entry(Text *zip, Text *directory, const char *name, const char *bytes, size_t size,
                      unsigned method) {
  size_t at = zip->length;
  for (int central = 0; central < 2; central++) {
    Text *text = central ? directory : zip;
    text_add(text, central ? "PK\1\2\0\0" : "PK\3\4", central ? 6 : 4);
    put(text, 0, 2), put(text, 0, 2), put(text, method, 2), put(text, 0, 8);
    put(text, size, 4), put(text, size, 4), put(text, strlen(name), 2), put(text, 0, 2);
    if (central) put(text, 0, 8), put(text, 0, 2), put(text, at, 4);
    text_add(text, name, strlen(name));
  }
  text_add(zip, bytes, size);
}

// An archive of a pickle and 16 bytes of storage "0".
static Text archive(const char *pickle, size_t size, unsigned method) {
  Text zip = {0}, directory = {0};
  put_entry(&zip, &directory, "m/data.pkl", pickle, size, method);
  put_entry(&zip, &directory, "m/data/0", "0123456789abcdef", 16, 0);
  size_t at = zip.length;
  text_add(&zip, directory.bytes, directory.length);
  text_add(&zip, "PK\5\6\0\0\0\0", 8);
  put(&zip, 2, 2), put(&zip, 2, 2), put(&zip, directory.length, 4), put(&zip, at, 4), put(&zip, 0, 2);
  text_free(&directory);
  return zip;
}

#define PICKLE_LIE(pickle, reason)                                                                           \
  do {                                                                                                       \
    Text zip_ = archive(pickle, sizeof(pickle) - 1, 0);                                                      \
    lie(&zip_, reason);                                                                                      \
  } while (0)

// {"a": a tensor of class STORAGE with OFFSET, EXTENTS and STRIDES}, in pickle's instructions
#define TENSOR(storage, offset, extents, strides)                                                            \
  "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n" storage "\nX\1\0\0\0"                      \
  "0X\3\0\0\0cpuK\4tQ" offset extents strides "\x89}tR"
#define STATE(storage, offset, extents, strides)                                                             \
  "\x80\2}X\1\0\0\0"                                                                                         \
  "a" TENSOR(storage, offset, extents, strides) "s."

static void test_torch_lies(void) {
  Text whole = archive(STATE("FloatStorage", "K\0", "K\4\x85", "K\1\x85"),
                       sizeof(STATE("FloatStorage", "K\0", "K\4\x85", "K\1\x85")) - 1, 0);
  WeightFile file;
  Failure failure = {0};
  CHECK(weights_parse((unsigned char *)whole.bytes, whole.length, "f", &file, &failure), "%s",
        failure.message);
  CHECK(weights_find(&file, "a"), "the frame of the lies below");
  weights_close(&file);
  for (size_t cut = 0; cut < whole.length; cut++)
    CHECK(!weights_parse((unsigned char *)whole.bytes, cut, "f", &file, &failure), "cut at %zu", cut);
  text_free(&whole);
  PICKLE_LIE(STATE("FloatStorage", "K\1", "K\4\x85", "K\1\x85"), "reaches beyond the 4 elements");
  PICKLE_LIE(STATE("FloatStorage", "K\0", "K\2\x85", "J\xff\xff\xff\x7f\x85"),
             "reaches beyond the 4 elements");
  PICKLE_LIE(STATE("FloatStorage", "K\0", "\x8a\x08\0\0\0\0\0\0\0\x10\x85", "K\0\x85"),
             "more memory than the file has"); // 2^60
  PICKLE_LIE(STATE("FloatStorage", "K\0", "\x8a\x08\0\0\0\0\0\0\0\x10\x85", "K\1\x85"), "reaches beyond");
  PICKLE_LIE(STATE("FloatStorage", "K\0", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "K\0\x85"),
             "too large");
  PICKLE_LIE(STATE("FloatStorage", "\x8a\x01\xff", "K\1\x85", "K\1\x85"), "not described as PyTorch does");
  PICKLE_LIE(STATE("FloatStorage", "K\0", "\x8a\x01\xff\x85", "K\1\x85"), "extents are no list");
  PICKLE_LIE(STATE("FloatStorage", "K\0", "K\4\x85", ")"), "1 extents, but 0 strides");
  PICKLE_LIE(STATE("DoubleStorage", "K\0", "K\1\x85", "K\1\x85"), "4 elements, which the file does not have");
  PICKLE_LIE(STATE("QInt8Storage", "K\0", "K\1\x85", "K\1\x85"), "torch QInt8Storage, which are not known");
  PICKLE_LIE("\x80\2cos\nsystem\nX\4\0\0\0trueR.", "holds an object of class `os system`");
  PICKLE_LIE("\x80\2}X\1\0\0\0"
             "acos\nsystem\nX\4\0\0\0true\x85Rs.",
             "holds no tensors"); // never called
  PICKLE_LIE("\x80\2]q\0h\0a.", "lies too deep, or in itself");
  PICKLE_LIE("\x80\2h\0.", "recalls a value that it did not store");
  PICKLE_LIE("\x80\2]r\xff\xff\xff\xff.", "numbers a value too high");
  PICKLE_LIE("\x80\2.", "takes more from the stack");
  PICKLE_LIE("\x80\2t.", "has no mark");
  PICKLE_LIE("\x80\2]", "ends within an instruction");
  PICKLE_LIE("\x80\2X\xff\xff\xff\x7f"
             "a.",
             "ends within an instruction");
  PICKLE_LIE("\x80\2i.", "an instruction that saved tensors do not need");
  PICKLE_LIE("\x80\1.", "protocol other than 2 to 5");
  PICKLE_LIE("\x80\2(K\1u.", "adds items to what does not take them");
  Text packed = archive("x", 1, 8);
  lie(&packed, "\"m/data.pkl\" in it is compressed");
  Text other = {0}; // a pickle of something else
  text_add(&other, "\x80\4K\1.", 5);
  lie(&other, "none that torch.save wrote");
}

// Streams that put one value in ever more places: marks, copies on the stack.
static void test_endless_pickle(const char *repeated) {
  enum { REPEATED = (1 << 24) + 64 };
  Text pickle = {0};
  text_add(&pickle, "\x80\2]q\0", 5);
  for (int i = 0; i < REPEATED; i++) text_add(&pickle, repeated, strlen(repeated));
  Text zip = archive(pickle.bytes, pickle.length, 0);
  text_free(&pickle);
  lie(&zip, "puts values in too many places");
}

int main(void) {
  if (!mkdtemp(folder)) return 2;
  Arena *arena = arena_new();
  test_safetensors(arena);
  test_index(arena);
  test_bad_index(arena);
  test_unknown(arena);
  test_stories(arena);
  test_llama2c(arena);
  test_vocabularies(arena);
  test_formats();
  test_quantisers();
  test_metadata();
  test_gguf_writing(arena);
  test_gguf_lies();
  test_torch();
  test_torch_index(arena);
  test_torch_lies();
  test_endless_pickle("(");
  test_endless_pickle("2");
  arena_free(arena);
  char command[200];
  snprintf(command, sizeof command, "rm -r %s", folder);
  if (system(command)) return 2;
  return check_finish();
}
