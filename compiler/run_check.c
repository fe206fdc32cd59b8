// vlmc check: what would go wrong in silence, shown before step one. Weights matched by name and shape, the
// first batch with its loss mask, picture tokens, the share that is supervised, and the loss that a model
// with these weights should start with beside the one it has.
#include "compiler/commands.h"

#include "runtime/feed.h"
#include "runtime/files.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { SHOWN_SAMPLES = 2, SHOWN_TOKENS = 160 };

typedef struct Check {
  Job *job;
  const Unit *unit;
  const Stage *stage;
  const Template *form;
  const Preprocess *preprocess;
  Dataset *dataset;
  Conversation *conversation;
  Loader *loader;
  Batch *batch;
  Session *session;
  Feed feed;
  int problems;
} Check;

static void verdict(Check *check, bool good, const char *text) {
  printf("%s  %s\n", good ? "good   " : "PROBLEM", text);
  check->problems += !good;
}

// ---- weights ------------------------------------------------------------------------------------

static void print_weights(Check *check) {
  const TensorStore *store = check->job->store;
  int64_t trained = 0, frozen = 0;
  size_t loaded = 0, count = 0;
  printf("weights\n");
  for (size_t i = 0; i < store->count; i++) {
    const StoreTensor *tensor = store->list[i];
    int64_t elements = 1;
    if (tensor->role != ROLE_PARAM) continue;
    char shape[80];
    int length = 0;
    for (int j = 0; j < tensor->rank; j++) {
      elements *= tensor->extents[j];
      length += snprintf(shape + length, sizeof shape - (size_t)length, "%s%" PRId64, j ? "x" : "",
                         tensor->extents[j]);
    }
    printf("  %-40s %-18s %-8s %s\n", tensor->name, length ? shape : "1",
           tensor->trained ? "trained" : "frozen", tensor->loaded ? "from a checkpoint" : "starts anew");
    *(tensor->trained ? &trained : &frozen) += elements;
    loaded += tensor->loaded, count++;
  }
  printf("  %" PRId64 " parameters trained, %" PRId64 " frozen; %zu of %zu tensors from a checkpoint\n",
         trained, frozen, loaded, count);
  verdict(check, trained > 0, "something is trained");
  bool frozen_anew = false;
  for (size_t i = 0; i < store->count; i++)
    frozen_anew |= store->list[i]->role == ROLE_PARAM && !store->list[i]->trained && !store->list[i]->loaded;
  verdict(check, !frozen_anew, "no frozen part is left at its random start");
}

// ---- the first batch ----------------------------------------------------------------------------

static void print_token(const Tokenizer *tokenizer, int32_t id, bool supervised, int repeated) {
  size_t length;
  const char *bytes = tokenizer_bytes(tokenizer, id, &length);
  printf("%s", supervised ? "[" : "");
  for (size_t i = 0; i < length; i++) {
    unsigned char byte = (unsigned char)bytes[i];
    if (byte == '\n')
      printf("\\n");
    else if (byte < 32 || byte == 127)
      printf("\\x%02x", byte);
    else
      putchar(byte);
  }
  if (repeated > 1) printf(" x%d", repeated);
  printf("%s", supervised ? "]" : "|");
}

// A sample token by token; what the loss looks at is in brackets. Runs of one token are told once.
static void print_sample(const Check *check, int row) {
  const Batch *batch = check->batch;
  const int32_t *ids = batch->ids + (size_t)row * (size_t)batch->length;
  const float *weight = batch->weight + (size_t)row * (size_t)batch->length;
  printf("  sample %d: ", row);
  for (int t = 0, shown = 0; t < batch->length && shown < SHOWN_TOKENS; shown++) {
    bool supervised = t && weight[t - 1] > 0;
    int end = t + 1;
    while (end < batch->length && ids[end] == ids[t] && (weight[end - 1] > 0) == supervised) end++;
    print_token(check->job->tokenizer, ids[t], supervised, end - t);
    t = end;
  }
  printf("\n");
}

static void check_pictures(Check *check) {
  const Batch *batch = check->batch;
  int32_t image = conversation_image(check->conversation);
  int wanted = check->form->image_tokens, wrong = 0, with = 0;
  char text[160];
  if (!check->feed.picture || !check->feed.ids || image < 0 || !wanted) return;
  for (int i = 0; i < batch->rows; i++) {
    int found = 0;
    for (int t = 0; t < batch->length; t++) found += batch->ids[i * batch->length + t] == image;
    int shown = 0;
    for (int p = 0; p < batch->pictures; p++) shown += batch->image[i * batch->pictures + p] >= 0;
    with += shown > 0;
    wrong += found != shown * wanted;
  }
  snprintf(text, sizeof text, "%d of %d samples have a picture; %d have another number of `%s` than %d%s",
           with, batch->rows, wrong, check->form->image_token, wanted,
           batch->pictures > 1 ? " per picture" : "");
  verdict(check, !wrong, text);
}

static void check_mask(Check *check) {
  const Batch *batch = check->batch;
  char text[160];
  if (!check->feed.ids) return;
  printf("first batch: %d samples of %d positions\n", batch->rows, batch->length);
  for (int i = 0; i < batch->rows && i < SHOWN_SAMPLES; i++) print_sample(check, i);
  int empty = 0;
  for (int i = 0; i < batch->rows; i++) {
    float sum = 0;
    for (int t = 0; t < batch->length; t++) sum += batch->weight[i * batch->length + t];
    empty += sum == 0;
  }
  snprintf(text, sizeof text, "%" PRId64 " of %d positions are supervised (%.1f %%); %d samples have none",
           batch->supervised, batch->rows * batch->length,
           100.0 * (double)batch->supervised / (batch->rows * (double)batch->length), empty);
  verdict(check, batch->supervised > 0 && !empty, text);
  check_pictures(check);
}

// Whether what the model knows of the language, its table of tokens, came from a checkpoint.
static bool knows_language(Check *check) {
  const TensorStore *store = check->job->store;
  bool knows = false;
  for (size_t i = 0; i < store->count; i++)
    knows |= store->list[i]->loaded && job_is_token_table(check->job, store->list[i]->name);
  return knows;
}

// A model that knows nothing gives every token the same probability: ln(vocabulary). Initial logits spread
// that a little, and weights that fit a checkpoint's names but not its meaning, a wrong mask or shifted
// targets move it far; one that has learned something is below.
static bool check_loss(Check *check, Failure *failure) {
  float loss;
  char text[200];
  bool good = feed_batch(check->session, &check->feed, check->batch, failure) &&
              session_run(check->session, failure) &&
              session_get(check->session, "loss", &loss, sizeof loss, failure);
  if (!good) return false;
  int64_t vocabulary = job_vocabulary(check->job);
  double blind = log((double)(vocabulary ? vocabulary : 1));
  bool language = vocabulary && check->feed.weight, knows = language && knows_language(check);
  if (!language)
    snprintf(text, sizeof text, "the first loss is %.4f", loss);
  else if (knows)
    snprintf(text, sizeof text, "the first loss is %.4f, expected below 1.25 ln(%" PRId64 ") = %.4f", loss,
             vocabulary, 1.25 * blind);
  else
    snprintf(text, sizeof text, "the first loss is %.4f, expected about ln(%" PRId64 ") = %.4f", loss,
             vocabulary, blind);
  bool fits = !language || (loss < 1.25 * blind && (knows || loss > 0.75 * blind));
  verdict(check, isfinite(loss) && fits, text);
  return true;
}

// ---- together -----------------------------------------------------------------------------------

static bool open_all(Check *check) {
  Job *job = check->job;
  Failure *failure = &job->failure;
  const Options *options = job->options;
  if (!options->data) return fail(failure, "--data is needed: the folder of the data set");
  check->stage = compiler_stage(job->compiler);
  if (!check->stage)
    return compiler_model(job->compiler) ? job_report(job)
                                         : fail(failure, "%s is not a model file", options->model);
  check->form = model_template(compiler_model(job->compiler));
  check->preprocess = model_preprocess(compiler_model(job->compiler));
  const Unit *train = compiler_unit_until(job->compiler, PROGRAM_TRAIN, "lower"); // says what is trained
  check->unit = train ? compiler_unit(job->compiler, PROGRAM_LOSS) : NULL;
  if (!check->unit || !check->unit->compiled) return job_report(job);
  if (!job_open_device(job)) return false;
  check->session = session_open(&check->unit->lowered.program, job->store, failure);
  if (!check->session || !feed_find(&check->unit->lowered.program, &check->feed, failure)) return false;
  for (int i = 0; i < train->lowered.program.buffer_count; i++) {
    const Buffer *buffer = &train->lowered.program.buffers[i];
    StoreTensor *tensor = buffer->role == ROLE_PARAM ? store_find(job->store, buffer->name) : NULL;
    if (tensor) tensor->trained |= buffer->trained;
  }
  if (options->weights ? !job_load_weights(job) : !job_load_from(job)) return false;
  if (check->form && !job_find_tokenizer(job, check->form, job_vocabulary(job))) return false;
  return !job->tokenizer || feed_tokens(check->session, job->tokenizer, failure);
}

static bool open_batch(Check *check) {
  Job *job = check->job;
  Failure *failure = &job->failure;
  if (check->feed.ids && !check->form)
    return fail(failure, "the model reads text, but its file has no template");
  if (!dataset_open(job->options->data, check->stage->data, &check->dataset, failure)) return false;
  if (check->feed.ids &&
      !conversation_new(job->arena, job->tokenizer, check->form, &check->conversation, failure))
    return false;
  LoaderOptions loader = {.dataset = check->dataset,
                          .conversation = check->conversation,
                          .preprocess = check->feed.picture ? check->preprocess : NULL,
                          .pictures = check->feed.picture_count,
                          .batch = check->stage->batch,
                          .length = (int)job_length(job, check->stage, PROGRAM_LOSS),
                          .training = true,
                          .seed = (uint64_t)job->options->seed};
  return loader_open(&loader, 0, &check->loader, failure) &&
         loader_next(check->loader, &check->batch, failure);
}

static bool run(Check *check) {
  if (!open_all(check)) return false;
  print_weights(check);
  if (!open_batch(check)) return false;
  check_mask(check);
  if (!check_loss(check, &check->job->failure)) return false;
  return !check->problems || fail(&check->job->failure, "%d problem%s, see above", check->problems,
                                  check->problems == 1 ? "" : "s");
}

int run_check(const Options *options) {
  Job job;
  Check check = {.job = &job};
  bool good = job_open(&job, options) && run(&check);
  if (check.loader && check.batch) loader_give_back(check.loader, check.batch);
  loader_close(check.loader);
  dataset_close(check.dataset);
  session_close(check.session);
  return job_close(&job, good);
}
