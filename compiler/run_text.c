// vlmc eval of a text: weights, tokenizer and the model's loss -> perplexity. The text is a file, or the rows
// {"text": ...} of a split.
#include "compiler/commands.h"

#include "runtime/dataset.h"
#include "runtime/files.h"
#include "runtime/perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_WINDOW = 512 }; // positions, where neither --length nor the model says less

bool job_data_is_text(Job *job, bool *is_text) {
  const char *data = job->options->data;
  Dataset *dataset;
  Row row = {0};
  if (!data)
    return fail(&job->failure, "--data is needed: the folder of the data set, or the file of a text");
  if (!job_has_model_and_weights(job)) return false;
  *is_text = file_exists(data);
  if (*is_text) return true;
  if (!dataset_open(data, job->options->split, &dataset, &job->failure)) return false;
  bool good = dataset_row(dataset, 0, job->arena, &row, &job->failure);
  *is_text = row.text != NULL;
  dataset_close(dataset);
  return good;
}

static bool check_options(Job *job) {
  const Options *options = job->options;
  const char *flag = options->sheet ? "sheet" : options->log ? "log" : NULL;
  return !flag ||
         fail(&job->failure, "--%s shows answers to questions, and %s is a text", flag, options->data);
}

// A session of the loss, weights loaded.
static bool open_loss(Job *job, Session **session) {
  const Program *program = compiler_program(job->compiler, PROGRAM_LOSS);
  if (!program) return job_report(job);
  job_report_weights(job, PROGRAM_LOSS);
  if (!job_open_device(job) || !job_find_tokenizer(job, model_template(compiler_model(job->compiler)), 0))
    return false;
  int64_t vocabulary = job_vocabulary(job);
  if (tokenizer_count(job->tokenizer) > vocabulary)
    return fail(&job->failure, "the tokenizer has %d tokens, the model's table of them %" PRId64 " rows",
                tokenizer_count(job->tokenizer), vocabulary);
  *session = session_open(program, job->store, &job->failure);
  return *session && feed_tokens(*session, job->tokenizer, &job->failure) && job_load_weights(job);
}

static bool read_file(Job *job, PerplexityOptions *options, Perplexity *sum) {
  Mapping file = {0};
  options->limit = job->options->limit;
  bool good = file_map(job->options->data, &file, &job->failure) &&
              perplexity_add(options, (const char *)file.bytes, file.size, sum, &job->failure);
  file_unmap(&file);
  return good;
}

static bool read_row(Job *job, const Dataset *dataset, size_t index, const PerplexityOptions *options,
                     Perplexity *sum) {
  Arena *arena = arena_new();
  Row row = {0};
  bool good = dataset_row(dataset, index, arena, &row, &job->failure);
  if (good && !row.text)
    good = fail(&job->failure, "%s:%zu: the rows before are texts, this is none; a split is either",
                dataset_path(dataset), dataset_line(dataset, index));
  good = good && perplexity_add(options, row.text, strlen(row.text), sum, &job->failure);
  arena_free(arena);
  return good;
}

static bool read_rows(Job *job, const PerplexityOptions *options, Perplexity *sum) {
  Dataset *dataset;
  if (!dataset_open(job->options->data, job->options->split, &dataset, &job->failure)) return false;
  size_t count = dataset_count(dataset), limit = (size_t)job->options->limit;
  bool good = true;
  for (size_t i = 0; good && i < (limit && limit < count ? limit : count) && !*options->stop; i++)
    good = read_row(job, dataset, i, options, sum);
  dataset_close(dataset);
  return good;
}

bool eval_text(Job *job, const volatile sig_atomic_t *stop) {
  const Options *options = job->options;
  Session *session = NULL;
  Perplexity sum = {0};
  if (!check_options(job)) return false;
  const Unit *unit = compiler_unit_until(job->compiler, PROGRAM_LOSS, "elaborate");
  if (!unit) return job_report(job);
  int64_t window = options->length ? options->length : DEFAULT_WINDOW;
  if (unit->time_limit && unit->time_limit < window) window = unit->time_limit;
  bool good = open_loss(job, &session);
  if (good) session_profile(session, options->profile);
  PerplexityOptions perplexity = {.session = session,
                                  .tokenizer = job->tokenizer,
                                  .window = window,
                                  .progress = options->quiet ? NULL : stderr,
                                  .stop = stop};
  if (good && file_exists(options->data))
    good = read_file(job, &perplexity, &sum);
  else
    good = good && read_rows(job, &perplexity, &sum);
  if (good && !sum.tokens) good = fail(&job->failure, "%s has no token to predict", options->data);
  if (good)
    printf("perplexity %.4f (%" PRId64 " tokens, windows of %" PRId64 ")\n",
           exp(sum.nats / (double)sum.tokens), sum.tokens, window);
  if (good) job_profile(job, PROGRAM_LOSS, session);
  session_close(session);
  return good;
}
