// The loader: what batches hold, that step N is the same however it is reached, and what bad pictures do.
#include <unistd.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/base/clock.h"
#include "runtime/files.h"
#include "runtime/loader.h"
#include "runtime/loader_parts.h"

enum { PICTURES = 60, SIDE = 28 };

static char folder[] = "/tmp/vlmc-loader-XXXXXX";
static const char *const specials[] = {"<|end|>", "<image>"};
static const Template form = {.turn = "<image>\n{prompt}:{answer}<|end|>",
                              .image_token = "<image>",
                              .image_tokens = 3,
                              .ends = specials,
                              .end_count = 1,
                              .specials = specials,
                              .special_count = 2};
static const Preprocess recipe = {.channels = 1,
                                  .height = SIDE,
                                  .width = SIDE,
                                  .scale = 1 / 255.0,
                                  .std = {1, 1, 1},
                                  .shift = 2,
                                  .mirror = true};

// Picture i is all bytes i; answers have 1 to 20 letters.
static void write_data(Arena *arena) {
  Failure failure;
  size_t size = 16 + (size_t)PICTURES * SIDE * SIDE;
  unsigned char *idx = arena_alloc(arena, size);
  memcpy(idx, (unsigned char[16]){0, 0, 8, 3, 0, 0, 0, PICTURES, 0, 0, 0, SIDE, 0, 0, 0, SIDE}, 16);
  for (int i = 0; i < PICTURES; i++) memset(idx + 16 + i * SIDE * SIDE, i + 1, SIDE * SIDE);
  CHECK(file_replace(arena_print(arena, "%s/p.idx", folder), idx, size, &failure), "%s", failure.message);
  const char *texts = "{\"text\":\"abcdefghij\"}\n{\"text\":\"\"}";
  const char *several =
      "{\"image\":[\"p.idx#3\",\"p.idx#5\"],\"prompt\":\"q\",\"answer\":\"a\"}\n"
      "{\"prompt\":\"q\",\"answer\":\"a\"}\n"
      "{\"turns\":[{\"prompt\":\"q\",\"answer\":\"a\"},{\"image\":\"p.idx#7\",\"prompt\":\"q\","
      "\"answer\":\"a\"}]}\n";
  Text rows = {0}, bad = {0}, worse = {0};
  for (int i = 0; i < PICTURES; i++) {
    const char *answer = "abcdefghijklmnopqrst";
    text_print(&rows, "{\"image\":\"p.idx#%d\",\"prompt\":\"q\",\"answer\":\"%.*s\"}\n", i, i % 20 + 1,
               answer);
    text_print(&bad, "{\"image\":\"p.idx#%d\",\"prompt\":\"q\",\"answer\":\"x\"}\n", i % 3 ? i : i + 1000);
    text_print(&worse, "{\"image\":\"p.idx#%d\",\"prompt\":\"q\",\"answer\":\"x\"}\n", i % 3 ? i + 1000 : i);
  }
  text_print(&rows, "{\"prompt\":\"no picture\",\"answer\":\"x\"}\n");
  CHECK(file_replace(arena_print(arena, "%s/rows.jsonl", folder), rows.bytes, rows.length, &failure) &&
            file_replace(arena_print(arena, "%s/bad.jsonl", folder), bad.bytes, bad.length, &failure) &&
            file_replace(arena_print(arena, "%s/worse.jsonl", folder), worse.bytes, worse.length, &failure) &&
            file_replace(arena_print(arena, "%s/text.jsonl", folder), texts, strlen(texts), &failure) &&
            file_replace(arena_print(arena, "%s/several.jsonl", folder), several, strlen(several), &failure),
        "%s", failure.message);
  text_free(&rows);
  text_free(&bad);
  text_free(&worse);
}

typedef struct Set {
  Dataset *dataset;
  LoaderOptions options;
} Set;

static Set open_set(const char *name, const Conversation *conversation) {
  Set set = {0};
  Failure failure;
  CHECK(dataset_open(folder, name, &set.dataset, &failure), "%s", failure.message);
  set.options = (LoaderOptions){.dataset = set.dataset,
                                .conversation = conversation,
                                .preprocess = &recipe,
                                .batch = 7,
                                .length = 100,
                                .seed = 5,
                                .training = true};
  return set;
}

static Loader *open_loader(const LoaderOptions *options, uint64_t step) {
  Loader *loader;
  Failure failure;
  CHECK(loader_open(options, step, &loader, &failure), "%s", failure.message);
  return loader;
}

static Batch *next(Loader *loader) {
  Batch *batch;
  Failure failure;
  CHECK(loader_next(loader, &batch, &failure), "%s", failure.message);
  return batch;
}

static uint64_t hash(uint64_t value, const void *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) value = (value ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
  return value;
}

static uint64_t hash_batch(const Batch *batch) {
  size_t rows = (size_t)batch->rows, positions = rows * (size_t)batch->length;
  uint64_t value = hash(batch->step, &batch->length, sizeof batch->length);
  if (batch->ids) value = hash(hash(value, batch->ids, positions * 4), batch->weight, positions * 4);
  if (batch->picture) value = hash(value, batch->picture, rows * SIDE * SIDE * 4);
  return hash(hash(value, batch->row, rows * sizeof *batch->row), batch->image, rows * 4);
}

static void test_permutation(void) {
  static const uint64_t counts[] = {1, 2, 3, 4, 5, 16, 17, 1000, 4097};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    unsigned char *seen = calloc(counts[i], 1);
    uint64_t moved = 0, missing = 0;
    for (uint64_t at = 0; at < counts[i]; at++) {
      uint64_t to = order_permute(9, i, at, counts[i]);
      moved += to != at;
      if (to < counts[i]) seen[to] = 1;
    }
    for (uint64_t at = 0; at < counts[i]; at++) missing += !seen[at];
    CHECK(!missing && (counts[i] < 16 || moved > counts[i] * 3 / 4), "%llu: %llu missing, %llu moved",
          (unsigned long long)counts[i], (unsigned long long)missing, (unsigned long long)moved);
    free(seen);
  }
}

// Everything in order: what is in a batch, position by position.
static void test_in_order(const Conversation *conversation, Arena *arena) {
  Set set = open_set("rows", conversation);
  set.options.training = false;
  Loader *loader = open_loader(&set.options, 0);
  CHECK(loader_samples(loader) == PICTURES + 1 && loader_pictures(loader) == PICTURES, "samples");
  LoaderSummary summary = loader_summary(loader);
  CHECK(summary.longest == 3 + 1 + 1 + 1 + 20 + 1 && summary.cut == 0, "longest %zu", summary.longest);
  size_t row = 0;
  uint64_t supervised = 0;
  for (Batch *batch; (batch = next(loader)); loader_give_back(loader, batch)) {
    CHECK(batch->rows == (row + 7 <= PICTURES + 1 ? 7 : 5) && batch->length % 8 == 0, "%d x %d", batch->rows,
          batch->length);
    int longest = 0;
    supervised += (uint64_t)batch->supervised;
    for (int i = 0; i < batch->rows; i++, row++) {
      Row parsed;
      Sample sample;
      Failure failure;
      CHECK(batch->row[i] == row && batch->image[i] == (row < PICTURES ? (int)row : -1), "row %zu",
            batch->row[i]);
      CHECK(dataset_row(set.dataset, row, arena, &parsed, &failure) &&
                conversation_encode(conversation, &parsed, "", 100, arena, &sample, &failure),
            "%s", failure.message);
      longest = (int)sample.count > longest ? (int)sample.count : longest;
      bool same = true;
      for (int t = 0; t < batch->length; t++) {
        bool inside = t < (int)sample.count;
        int at = i * batch->length + t;
        same &= batch->ids[at] == (inside ? sample.ids[t] : 0) &&
                batch->weight[at] == (inside ? sample.supervised[t] : 0);
      }
      CHECK(same, "ids or weights of row %zu", row);
      const float *picture = batch->picture + (size_t)i * SIDE * SIDE;
      float expected = row < PICTURES ? (float)((double)(row + 1) * recipe.scale) : 0;
      CHECK(picture[0] == expected && picture[SIDE * SIDE - 1] == expected, "the picture of row %zu", row);
    }
    CHECK(batch->length - longest < 8, "%d positions for %d", batch->length, longest);
  }
  CHECK(row == PICTURES + 1 && supervised == summary.supervised, "%zu rows", row);
  loader_close(loader);
  dataset_close(set.dataset);
}

// Step N is the same unbroken and resumed, by one thread or three, with pictures cached or not.
static void test_resume(const Conversation *conversation) {
  enum { STEPS = 40 };
  for (int bucket = 0; bucket <= 1; bucket++) {
    Set set = open_set("rows", conversation);
    set.options.bucket = bucket;
    uint64_t hashes[STEPS];
    int seen[PICTURES + 1] = {0};
    Loader *loader = open_loader(&set.options, 0);
    for (int step = 0; step < STEPS; step++) {
      Batch *batch = next(loader);
      hashes[step] = hash_batch(batch);
      CHECK(batch->step == (uint64_t)step && batch->rows == 7, "step %llu", (unsigned long long)batch->step);
      for (int i = 0; i < 7 && step * 7 + i < PICTURES + 1; i++) seen[batch->row[i]]++;
      loader_give_back(loader, batch);
    }
    int once = 0;
    for (int i = 0; i < PICTURES + 1; i++) once += seen[i] == 1;
    CHECK(bucket || once == PICTURES + 1, "in the first epoch %d of %d rows come once", once, PICTURES + 1);
    CHECK(loader_steps(loader, 2) == 18 && loader_steps(loader, 0.1) == 1, "steps");
    loader_close(loader);
    static const struct {
      int threads, ahead;
      size_t cache;
      uint64_t from;
    } ways[] = {{3, 8, 0, 0}, {1, 1, 1, 13}, {3, 2, 1, 31}};
    for (int way = 0; way < 3; way++) {
      LoaderOptions options = set.options;
      options.threads = ways[way].threads, options.ahead = ways[way].ahead,
      options.cache_bytes = ways[way].cache;
      loader = open_loader(&options, ways[way].from);
      int different = 0;
      for (uint64_t step = ways[way].from; step < STEPS; step++) {
        Batch *batch = next(loader);
        different += hash_batch(batch) != hashes[step];
        loader_give_back(loader, batch);
      }
      CHECK(different == 0, "bucket %d, way %d: %d batches differ", bucket, way, different);
      loader_close(loader);
    }
    set.options.seed++;
    loader = open_loader(&set.options, 0);
    CHECK(hash_batch(next(loader)) != hashes[0], "another seed gives the same batch");
    loader_close(loader); // with a batch held
    dataset_close(set.dataset);
  }
}

static void count_message(void *context, const char *message) {
  *(int *)context += strstr(message, "only 60 pictures") != NULL;
}

static void test_bad_pictures(const Conversation *conversation) {
  for (int training = 0; training <= 1; training++) {
    Set set = open_set("bad", conversation);
    set.options.training = training;
    Loader *loader = open_loader(&set.options, 0);
    int rows = 0, wrong = 0, messages = 0;
    for (int step = 0; step < 50; step++) {
      Batch *batch = next(loader);
      if (!batch) break;
      rows += batch->rows;
      for (int i = 0; i < batch->rows; i++) wrong += batch->row[i] % 3 == 0;
      loader_give_back(loader, batch);
    }
    CHECK(rows == (training ? 350 : 40) && !wrong, "%d rows, %d of them bad", rows, wrong);
    size_t bad = loader_bad_pictures(loader, count_message, &messages);
    CHECK(bad == 20 && messages == 20, "%zu bad pictures, %d messages", bad, messages);
    CHECK(loader_bad_pictures(loader, count_message, &messages) == 20 && messages == 20, "reported twice");
    loader_close(loader);
    dataset_close(set.dataset);
    set = open_set("worse", conversation);
    set.options.training = training;
    loader = open_loader(&set.options, 0);
    Failure failure = {0};
    Batch *batch = NULL;
    bool good = true;
    for (int step = 0; step < 50 && good; step++) {
      good = loader_next(loader, &batch, &failure);
      if (batch)
        loader_give_back(loader, batch);
      else
        break;
    }
    CHECK(!good && strstr(failure.message, "pictures cannot be read"), "%s", failure.message);
    loader_close(loader);
    dataset_close(set.dataset);
  }
}

// A long text in pieces that lose no target; a model of text alone.
static void test_texts(const Conversation *conversation, const Tokenizer *tokenizer) {
  Set set = open_set("text", conversation);
  set.options.preprocess = NULL, set.options.length = 4, set.options.training = false,
  set.options.multiple = 1;
  Loader *loader = open_loader(&set.options, 0);
  Batch *batch = next(loader);
  CHECK(batch->rows == 4 && batch->length == 4 && !batch->picture && batch->supervised == 10,
        "%d x %d, %d targets", batch->rows, batch->length, (int)batch->supervised);
  static const char text[] = "abcddefgghijj";
  for (int i = 0; i < 13; i++) {
    size_t size;
    CHECK(*tokenizer_bytes(tokenizer, batch->ids[i], &size) == text[i] &&
              batch->weight[i] == (i % 4 < 3 && i < 13),
          "position %d", i);
  }
  CHECK(batch->ids[13] == 0 && batch->weight[12] == 1 && batch->weight[13] == 0, "the end");
  loader_give_back(loader, batch);
  CHECK(next(loader) == NULL, "more than there is");
  loader_close(loader);
  Failure failure;
  set.options.batch = 0;
  CHECK(!loader_open(&set.options, 0, &loader, &failure), "a batch of none");
  dataset_close(set.dataset);
}

// Up to two pictures a sample, in one turn or several.
static void test_several_pictures(const Conversation *conversation) {
  static const int expected[3][2] = {{3, 5}, {-1, -1}, {7, -1}};
  Set set = open_set("several", conversation);
  set.options.training = false;
  set.options.pictures = 2;
  Loader *loader = open_loader(&set.options, 0);
  Batch *batch = next(loader);
  int32_t image = conversation_image(conversation);
  CHECK(batch && batch->rows == 3 && batch->pictures == 2 && loader_pictures(loader) == 3, "rows");
  for (int i = 0; batch && i < batch->rows; i++) {
    int places = 0, shown = 0;
    for (int t = 0; t < batch->length; t++) places += batch->ids[i * batch->length + t] == image;
    for (int p = 0; p < 2; p++) {
      const float *picture = batch->picture + (size_t)(i * 2 + p) * SIDE * SIDE;
      float byte = expected[i][p] < 0 ? 0 : (float)((double)(expected[i][p] + 1) * recipe.scale);
      CHECK(picture[0] == byte && picture[SIDE * SIDE - 1] == byte, "row %d, picture %d", i, p);
      CHECK((batch->image[i * 2 + p] >= 0) == (expected[i][p] >= 0), "its number");
      shown += expected[i][p] >= 0;
    }
    CHECK(places == shown * form.image_tokens, "row %d has %d places", i, places);
  }
  if (batch) loader_give_back(loader, batch);
  loader_close(loader);
  Failure failure;
  set.options.pictures = 0;
  CHECK(!loader_open(&set.options, 0, &loader, &failure) &&
            strstr(failure.message, "several.jsonl:1: the row shows 2 pictures, but the model looks at 1"),
        "%s", failure.message);
  dataset_close(set.dataset);
}

static void measure(const Conversation *conversation) {
  Set set = open_set("rows", conversation);
  set.options.batch = 64;
  Loader *loader = open_loader(&set.options, 0);
  enum { STEPS = 300 };
  double begin = clock_now();
  for (int step = 0; step < STEPS; step++) loader_give_back(loader, next(loader));
  printf("%.0f pictures of 28 x 28 a second, by one thread\n", STEPS * 64 / (clock_now() - begin));
  loader_close(loader);
  dataset_close(set.dataset);
}

int main(void) {
  if (!mkdtemp(folder)) return 2;
  Arena *arena = arena_new();
  write_data(arena);
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  Tokenizer *tokenizer;
  Conversation *conversation;
  Failure failure;
  CHECK(tokenizer_trainer_finish(trainer, 258, specials, 2, &tokenizer, &failure) &&
            conversation_new(arena, tokenizer, &form, &conversation, &failure),
        "%s", failure.message);
  test_permutation();
  test_in_order(conversation, arena);
  test_resume(conversation);
  test_bad_pictures(conversation);
  test_texts(conversation, tokenizer);
  test_several_pictures(conversation);
  measure(conversation);
  tokenizer_trainer_free(trainer);
  tokenizer_free(tokenizer);
  if (system(arena_print(arena, "rm -r %s", folder))) return 2;
  arena_free(arena);
  return check_finish();
}
