// A text and a session of `loss` -> its tokens' surprise, window by window.
#include "runtime/perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POSITIONS = 1024 }; // computed at once, as far as windows of one length go

typedef struct Reading {
  const PerplexityOptions *options;
  Feed feed;
  Ids text;
  const int32_t *before; // every window begins with them
  int64_t before_count;
  int64_t at, windows; // tokens and windows read so far
  Batch batch;
  int64_t room; // rows
} Reading;

static bool open_reading(Reading *reading, const char *text, size_t length, Failure *failure) {
  const PerplexityOptions *options = reading->options;
  if (!feed_find(session_program(options->session), &reading->feed, failure)) return false;
  if (!reading->feed.ids || !reading->feed.weight)
    return fail(
        failure,
        "the model's `loss` is not that of a text: it takes no ids, i32[B, T], with weights, f32[B, T]");
  reading->before_count = (int64_t)tokenizer_before(options->tokenizer, &reading->before);
  if (options->window < 2 || options->window <= reading->before_count)
    return fail(failure, "a window of %" PRId64 " positions has no room for a token to predict",
                options->window);
  tokenizer_encode(options->tokenizer, text, length, false, &reading->text);
  reading->room = options->window < POSITIONS ? POSITIONS / options->window : 1;
  size_t positions = (size_t)(reading->room * options->window);
  reading->batch.ids = malloc(positions * sizeof(int32_t));
  reading->batch.weight = malloc(positions * sizeof(float));
  reading->batch.picture =
      calloc((size_t)(reading->room * reading->feed.picture_elements) + 1, sizeof(float));
  return (reading->batch.ids && reading->batch.weight && reading->batch.picture) ||
         fail(failure, "out of memory for windows of %" PRId64 " positions", options->window);
}

static void close_reading(Reading *reading) {
  free(reading->batch.ids);
  free(reading->batch.weight);
  free(reading->batch.picture);
  ids_free(&reading->text);
}

// The tokens before the next window's own ones.
static int64_t lead_count(const Reading *reading) {
  return reading->before_count ? reading->before_count : reading->at > 0;
}

static int64_t next_length(const Reading *reading) {
  int64_t left = (int64_t)reading->text.count - reading->at, lead = lead_count(reading);
  return left > reading->options->window - lead ? reading->options->window : lead + left;
}

// The next window as the next row.
static void take_window(Reading *reading) {
  Batch *batch = &reading->batch;
  int64_t lead = lead_count(reading), own = batch->length - lead;
  int32_t *ids = batch->ids + (int64_t)batch->rows * batch->length;
  float *weight = batch->weight + (int64_t)batch->rows * batch->length;
  const int32_t *before = reading->before_count ? reading->before : reading->text.list + reading->at - 1;
  if (lead) memcpy(ids, before, (size_t)lead * sizeof *ids);
  memcpy(ids + lead, reading->text.list + reading->at, (size_t)own * sizeof *ids);
  for (int64_t t = 0; t < batch->length; t++) weight[t] = t + 1 >= lead && t + 1 < batch->length;
  batch->supervised += lead ? own : own - 1;
  reading->at += own;
  reading->windows++;
  batch->rows++;
}

static bool take_batch(Reading *reading) {
  Batch *batch = &reading->batch;
  int64_t limit = reading->options->limit;
  batch->rows = 0;
  batch->supervised = 0;
  batch->length = (int)next_length(reading);
  while (reading->at < (int64_t)reading->text.count && batch->rows < reading->room &&
         (!limit || reading->windows < limit) && next_length(reading) == batch->length)
    take_window(reading);
  return batch->rows > 0;
}

static void show(const Reading *reading, const Perplexity *sum) {
  FILE *out = reading->options->progress;
  if (!out || !isatty(fileno(out))) return;
  fprintf(out, "\reval  %" PRId64 "/%zu tokens  perplexity %.3f\033[K", reading->at, reading->text.count,
          exp(sum->nats / (double)sum->tokens));
  fflush(out);
}

bool perplexity_add(const PerplexityOptions *options, const char *text, size_t length, Perplexity *sum,
                    Failure *failure) {
  Reading reading = {.options = options};
  bool good = open_reading(&reading, text, length, failure);
  while (good && !(options->stop && *options->stop) && take_batch(&reading)) {
    float loss; // the mean over what is supervised
    if (!reading.batch.supervised) continue;
    good = feed_batch(options->session, &reading.feed, &reading.batch, failure) &&
           session_run(options->session, failure) &&
           session_get(options->session, "loss", &loss, sizeof loss, failure);
    if (!good) break;
    sum->nats += (double)loss * (double)reading.batch.supervised;
    sum->tokens += reading.batch.supervised;
    show(&reading, sum);
  }
  if (options->progress && isatty(fileno(options->progress))) fputs("\r\033[K", options->progress);
  close_reading(&reading);
  return good;
}
