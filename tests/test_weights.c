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
  arena_free(arena);
  char command[200];
  snprintf(command, sizeof command, "rm -r %s", folder);
  if (system(command)) return 2;
  return check_finish();
}
