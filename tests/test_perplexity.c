// Perplexity of texts against its definition: the logits of `forward`, window by window, in doubles; texts shorter
// and longer than a window, of no token and of one; with tokens before every text and without.
#include "compiler/compile.h"
#include "runtime/perplexity.h"

#include "check.h"

typedef struct Bench {
  Compiler *compiler;
  Device *device;
  TensorStore *store;
  Session *loss, *forward;
} Bench;

enum { VOCABULARY = 300 };

static bool bench_open(Bench *bench) {
  static const char *const library[] = {"stdlib", "models"};
  static const char *const defines[] = {"vocab=300", "width=12",  "heads=3",
                                        "groups=1",  "hidden=20", "depth=1"};
  CompileOptions options = {.model = "models/llama.vlm",
                            .defines = defines,
                            .define_count = sizeof defines / sizeof *defines,
                            .target = "cpu",
                            .storage = DTYPE_F32,
                            .library = library,
                            .library_count = 2};
  Text errors = {0};
  Failure failure = {0};
  *bench = (Bench){.compiler = compiler_open(&options, &errors), .device = device_cpu(1, &failure)};
  const Program *loss = bench->compiler ? compiler_program(bench->compiler, PROGRAM_LOSS) : NULL;
  const Program *forward = loss ? compiler_program(bench->compiler, PROGRAM_FORWARD) : NULL;
  if (bench->device) bench->store = store_open(bench->device, 5);
  if (forward && bench->store) {
    bench->loss = session_open(loss, bench->store, &failure);
    bench->forward = session_open(forward, bench->store, &failure);
  }
  CHECK(bench->forward, "%s%s%s", text_string(&errors),
        bench->compiler ? compiler_errors(bench->compiler) : "", failure.message);
  text_free(&errors);
  return bench->loss && bench->forward;
}

static void bench_close(Bench *bench) {
  session_close(bench->loss);
  session_close(bench->forward);
  store_close(bench->store);
  if (bench->device) bench->device->close(bench->device);
  compiler_close(bench->compiler);
}

// -ln p of ids[first ... count) after those before them.
static double surprise(const Bench *bench, const int32_t *ids, int64_t count, int64_t first) {
  static float logits[64 * VOCABULARY];
  Failure failure = {0};
  double total = 0;
  bool good =
      session_resize(bench->forward, 1, count, 0, &failure) &&
      session_set(bench->forward, "ids", ids, (size_t)count * sizeof *ids, &failure) &&
      session_run(bench->forward, &failure) &&
      session_get(bench->forward, "result", logits, (size_t)count * VOCABULARY * sizeof *logits, &failure);
  CHECK(good, "%s", failure.message);
  for (int64_t t = first; t < count; t++) {
    const float *row = logits + (t - 1) * VOCABULARY;
    double sum = 0;
    for (int i = 0; i < VOCABULARY; i++) sum += exp((double)row[i]);
    total += log(sum) - (double)row[ids[t]];
  }
  return total;
}

static Perplexity expected(const Bench *bench, const Tokenizer *tokenizer, const char *text, int64_t window) {
  Perplexity sum = {0};
  Ids all = {0};
  const int32_t *before;
  int64_t lead = (int64_t)tokenizer_before(tokenizer, &before);
  tokenizer_encode(tokenizer, text, strlen(text), false, &all);
  for (int64_t at = 0; at < (int64_t)all.count;) {
    int32_t ids[64];
    int64_t count = 0;
    for (int64_t i = 0; i < lead; i++) ids[count++] = before[i];
    if (!lead && at) ids[count++] = all.list[at - 1];
    int64_t first = count ? count : 1;
    while (count < window && at < (int64_t)all.count) ids[count++] = all.list[at++];
    if (count > first) sum.nats += surprise(bench, ids, count, first), sum.tokens += count - first;
  }
  ids_free(&all);
  return sum;
}

static void check_text(const Bench *bench, const Tokenizer *tokenizer, const char *text, int64_t window) {
  PerplexityOptions options = {.session = bench->loss, .tokenizer = tokenizer, .window = window};
  Perplexity want = expected(bench, tokenizer, text, window), have = {0};
  Failure failure = {0};
  CHECK(perplexity_add(&options, text, strlen(text), &have, &failure), "%s", failure.message);
  CHECK(have.tokens == want.tokens && fabs(have.nats - want.nats) <= 1e-5 * (1 + want.nats),
        "`%.20s` by %lld: %.9g over %lld tokens, not %.9g over %lld", text, (long long)window, have.nats,
        (long long)have.tokens, want.nats, (long long)want.tokens);
}

static void check_texts(const Bench *bench, const Tokenizer *tokenizer) {
  char text[1500];
  for (size_t i = 0; i < sizeof text - 1; i++) text[i] = "the cat sat; \n"[i * i * 7 % 14];
  text[sizeof text - 1] = 0;
  static const int64_t windows[] = {2, 3, 7, 64};
  for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
    check_text(bench, tokenizer, text, windows[i]);
    check_text(bench, tokenizer, text + 1490, windows[i]);
    check_text(bench, tokenizer, "t", windows[i]);
    check_text(bench, tokenizer, "", windows[i]);
  }
  Perplexity sum = {0};
  Failure failure = {0};
  PerplexityOptions options = {.session = bench->loss, .tokenizer = tokenizer, .window = 1};
  CHECK(!perplexity_add(&options, text, 10, &sum, &failure) && strstr(failure.message, "no room for a token"),
        "%s", failure.message);
  options.window = 10, options.limit = 3;
  CHECK(perplexity_add(&options, text, strlen(text), &sum, &failure), "%s", failure.message);
  CHECK(sum.tokens >= 27 && sum.tokens <= 30, "three windows of ten: %lld tokens", (long long)sum.tokens);
}

// 256 bytes; where `start`, its file says that <s> stands before every text.
static Tokenizer *make_tokenizer(bool start) {
  static const char *const specials[] = {"<s>"};
  static const char processor[] = "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
                                  "\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                                  "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_"
                                  "tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[0],"
                                  "\"tokens\":[\"<s>\"]}}}";
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  Tokenizer *tokenizer = NULL, *with = NULL;
  Failure failure = {0};
  Text json = {0}, changed = {0};
  CHECK(tokenizer_trainer_finish(trainer, 257, specials, 1, &tokenizer, &failure), "%s", failure.message);
  tokenizer_trainer_free(trainer);
  if (!start || !tokenizer) return tokenizer;
  tokenizer_print(tokenizer, &json);
  const char *all = text_string(&json), *at = strstr(all, "\"post_processor\"");
  const char *end = at ? strstr(at, ",") : NULL; // "post_processor": null,
  CHECK(end, "%.300s", all);
  if (end) text_print(&changed, "%.*s%s%s", (int)(at - all), all, processor, end);
  CHECK(end && tokenizer_parse(text_string(&changed), changed.length, "tokenizer.json", &with, &failure),
        "%s", failure.message);
  text_free(&json);
  text_free(&changed);
  tokenizer_free(tokenizer);
  return with;
}

int main(void) {
  Bench bench;
  bool good = bench_open(&bench);
  for (int start = 0; good && start < 2; start++) {
    const int32_t *before;
    Tokenizer *tokenizer = make_tokenizer(start);
    if (!tokenizer) continue;
    CHECK(tokenizer_before(tokenizer, &before) == (size_t)start, "tokens before a text");
    check_texts(&bench, tokenizer);
    tokenizer_free(tokenizer);
  }
  bench_close(&bench);
  return check_finish();
}
