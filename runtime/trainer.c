// The training loop: data set + compiled step -> parameters, log, checkpoints.
#include "runtime/trainer.h"

#include "runtime/base/clock.h"
#include "runtime/files.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static const double SHOW_EVERY = 0.5;  // seconds between progress lines
static const double LOSS_SHARE = 0.02; // of a step's loss in the running mean; more in the beginning

typedef struct Trainer {
  const TrainerOptions *options;
  Arena *arena;
  Dataset *dataset;
  Loader *loader;
  Session *session, *apply;
  Features *features; // NULL: none
  Feed feed;
  FILE *log;
  Progress progress;
  double started, saved, shown; // seconds of the monotonic clock
  double before;                // seconds of training in earlier runs
  int64_t samples, first_step;
  double loss, norm, rate;
} Trainer;

double schedule_rate(const Stage *stage, int64_t step, int64_t total) {
  double warmup = stage->warmup < 1 ? stage->warmup * (double)total : stage->warmup;
  if ((double)step < warmup) return stage->rate * fmin(1, ((double)step + 1) / warmup);
  double left = (double)total - warmup, share = left > 0 ? fmin(1, ((double)step - warmup) / left) : 1;
  switch (stage->schedule) {
  case SCHEDULE_COSINE:
    return stage->rate * (stage->floor + (1 - stage->floor) * 0.5 * (1 + cos(M_PI * share)));
  case SCHEDULE_LINEAR: return stage->rate * (stage->floor + (1 - stage->floor) * (1 - share));
  case SCHEDULE_CONSTANT: break;
  }
  return stage->rate;
}

// ---- opening ------------------------------------------------------------------------------------

static bool open_loader(Trainer *trainer, Failure *failure) {
  const TrainerOptions *options = trainer->options;
  const Stage *stage = options->stage;
  Conversation *conversation = NULL;
  if (!dataset_open(options->data, stage->data, &trainer->dataset, failure)) return false;
  if (trainer->feed.ids && !options->tokenizer)
    return fail(failure, "the model reads text, but there is no tokenizer");
  if (trainer->feed.ids && !options->form)
    return fail(failure,
                "the model reads text, but its file has no template that says how rows of data become text");
  const Feed *eyes = trainer->features ? features_feed(trainer->features) : &trainer->feed;
  if (eyes->picture && !options->preprocess)
    return fail(failure, "the model reads pictures, but no part of it has a `preprocess` block");
  if (trainer->feed.ids &&
      !conversation_new(trainer->arena, options->tokenizer, options->form, &conversation, failure))
    return false;
  LoaderOptions loader = {.dataset = trainer->dataset,
                          .conversation = conversation,
                          .preprocess = eyes->picture ? options->preprocess : NULL,
                          .pictures = eyes->picture_count,
                          .batch = stage->batch,
                          .length = (int)options->length,
                          .training = true,
                          .seed = options->seed};
  return loader_open(&loader, (uint64_t)(trainer->progress.step * stage->accumulate), &trainer->loader,
                     failure);
}

// A run over samples that are cut before their answers would learn nothing, and look well.
static bool check_samples(const Trainer *trainer, Failure *failure) {
  const TrainerOptions *options = trainer->options;
  LoaderSummary summary = loader_summary(trainer->loader);
  if (!trainer->feed.weight) return true;
  if (summary.silent == summary.samples)
    return fail(failure,
                "%s: none of its %zu samples has a target within %" PRId64
                " positions: there is nothing to learn",
                dataset_path(trainer->dataset), summary.samples, options->length);
  if (summary.cut && options->progress)
    fprintf(options->progress,
            "%zu of %zu samples are longer than %" PRId64
            " positions and were cut, %zu of them before their answer\n",
            summary.cut, summary.samples, options->length, summary.silent);
  return true;
}

// Lines after step `step` were written by a run that died before it could save: those steps are done anew.
static bool cut_log(const char *path, int64_t step, Failure *failure) {
  FILE *log = fopen(path, "r");
  char line[512];
  long good = 0;
  int64_t found;
  while (log && fgets(line, sizeof line, log) && strchr(line, '\n') &&
         sscanf(line, "{\"step\": %" SCNd64, &found) == 1 && found <= step)
    good = ftell(log);
  if (!log) return true;
  fclose(log);
  return truncate(path, good) == 0 || fail(failure, "%s can not be shortened to the checkpoint's step", path);
}

// Batches that do not all fit one another's sizes: as many at once as use the machine well.
static bool fill_features(Trainer *trainer, Failure *failure) {
  enum { AT_ONCE = 16 };
  const TrainerOptions *options = trainer->options;
  int64_t batch = options->stage->batch, accumulate = options->stage->accumulate;
  if (!trainer->features) return true;
  FeatureFilling filling = {.loader = trainer->loader,
                            .preprocess = options->preprocess,
                            .at_once = (int)(batch > AT_ONCE ? batch : AT_ONCE),
                            .first = (uint64_t)(trainer->progress.step * accumulate),
                            .last = (uint64_t)(trainer->progress.total * accumulate),
                            .pictures_unneeded = !trainer->feed.picture,
                            .progress = options->progress,
                            .stop = options->stop};
  return features_fill(trainer->features, &filling, failure);
}

static bool open_run(Trainer *trainer, Failure *failure) {
  const TrainerOptions *options = trainer->options;
  if (options->features && !features_open(options->features, options->store, &trainer->features, failure))
    return false;
  trainer->session = session_open(options->program, options->store, failure);
  if (options->apply && !(trainer->apply = session_open(options->apply, options->store, failure)))
    return false;
  if (!trainer->session || !feed_find(options->program, &trainer->feed, failure)) return false;
  if (options->tokenizer && !feed_tokens(trainer->session, options->tokenizer, failure)) return false;
  if (options->resume && !checkpoint_resume(options->out, options->store, &trainer->progress, failure))
    return false;
  trainer->first_step = trainer->progress.step;
  trainer->before = trainer->progress.seconds;
  if (!open_loader(trainer, failure) || !check_samples(trainer, failure)) return false;
  uint64_t batches = loader_steps(trainer->loader, options->epochs);
  int64_t by_epochs = ((int64_t)batches + options->stage->accumulate - 1) / options->stage->accumulate;
  int64_t total = options->steps ? options->steps : by_epochs;
  if (options->resume && trainer->progress.total != total)
    return fail(failure,
                "%s: the run there has %" PRId64 " steps, this one %" PRId64
                "; --resume goes on with the same settings, and --from %s into another --out trains further",
                options->out, trainer->progress.total, total, options->out);
  trainer->progress.total = total;
  if (!fill_features(trainer, failure)) return false;
  const char *path = arena_print(trainer->arena, "%s/log.jsonl", options->out);
  if (options->resume && !cut_log(path, trainer->progress.step, failure)) return false;
  trainer->log = fopen(path, options->resume ? "a" : "w");
  if (!trainer->log) return fail(failure, "%s can not be written", path);
  setvbuf(trainer->log, NULL, _IOLBF, 0); // a run can be followed by its log
  return true;
}

// ---- one step -----------------------------------------------------------------------------------

static bool set_scalars(Trainer *trainer, Session *session, Failure *failure) {
  const Stage *stage = trainer->options->stage;
  trainer->rate = schedule_rate(stage, trainer->progress.step, trainer->progress.total);
  const struct {
    const char *name;
    double value;
  } scalars[] = {
      {"rate", trainer->rate},     {"step", (double)trainer->progress.step + 1},
      {"beta1", stage->beta1},     {"beta2", stage->beta2},
      {"epsilon", stage->epsilon}, {"decay", stage->weight_decay},
  };
  for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
    if (!session_set_scalar(session, scalars[i].name, scalars[i].value, failure)) return false;
  return true;
}

static bool read_result(Session *session, const char *name, double *value, Failure *failure) {
  float single = 0;
  if (!session_result_bytes(session, name)) return true;
  if (!session_get(session, name, &single, sizeof single, failure)) return false;
  *value = single;
  return true;
}

static bool run_batch(Trainer *trainer, int64_t micro, Failure *failure) {
  Batch *batch;
  if (!loader_next(trainer->loader, &batch, failure)) return false;
  bool good = feed_batch(trainer->session, &trainer->feed, batch, failure) &&
              (!trainer->features || features_set(trainer->features, trainer->session, batch, failure)) &&
              session_set_scalar(trainer->session, "run", (double)micro, failure) &&
              session_run(trainer->session, failure);
  trainer->samples += batch->rows;
  loader_give_back(trainer->loader, batch);
  return good;
}

// The step's second program, where gradients of several batches were gathered.
static bool apply(Trainer *trainer, Failure *failure) {
  return !trainer->apply ||
         (session_resize(trainer->apply, 1, 1, 0, failure) && session_run(trainer->apply, failure));
}

static bool run_step(Trainer *trainer, Failure *failure) {
  int64_t accumulate = trainer->options->stage->accumulate;
  Session *last = trainer->apply ? trainer->apply : trainer->session;
  double loss = 0;
  if (!set_scalars(trainer, last, failure)) return false;
  for (int64_t i = 0; i < accumulate; i++) {
    double one = 0;
    if (!run_batch(trainer, trainer->progress.step * accumulate + i, failure)) return false;
    if (!read_result(trainer->session, "loss", &one, failure)) return false;
    loss += one / (double)accumulate;
  }
  if (!apply(trainer, failure) || !read_result(last, "gradient norm", &trainer->norm, failure)) return false;
  trainer->loss = loss;
  if (!isfinite(loss) || !isfinite(trainer->norm))
    return fail(failure,
                "the loss is %g and its gradient's norm %g at step %" PRId64
                " (learning rate %.3g); the last checkpoint in %s is from before it",
                loss, trainer->norm, trainer->progress.step + 1, trainer->rate, trainer->options->out);
  Progress *progress = &trainer->progress;
  progress->step++;
  progress->loss += fmax(LOSS_SHARE, 2 / ((double)progress->step + 1)) * (loss - progress->loss);
  return true;
}

// ---- telling ------------------------------------------------------------------------------------

static void write_log(Trainer *trainer) {
  const Progress *progress = &trainer->progress;
  fprintf(trainer->log,
          "{\"step\": %" PRId64
          ", \"loss\": %.6g, \"mean\": %.6g, \"rate\": %.6g, \"norm\": %.6g, \"seconds\": %.3f}\n",
          progress->step, trainer->loss, progress->loss, trainer->rate, trainer->norm, progress->seconds);
}

static void show(Trainer *trainer, double time) {
  FILE *out = trainer->options->progress;
  const Progress *progress = &trainer->progress;
  int64_t done = progress->step - trainer->first_step;
  double seconds = time - trainer->started,
         left = done ? seconds / (double)done * (double)(progress->total - progress->step) : 0;
  if (!out) return;
  bool terminal = isatty(fileno(out));
  fprintf(out, "%s%s  step %" PRId64 "/%" PRId64 "  loss %.4f  rate %.2e  %.0f samples/s  %d:%02d left%s",
          terminal ? "\r" : "", trainer->options->stage->name, progress->step, progress->total,
          progress->loss, trainer->rate, (double)trainer->samples / fmax(seconds, 1e-9), (int)left / 60,
          (int)left % 60, terminal ? "\033[K" : "\n");
  fflush(out);
}

static void report_bad_picture(void *context, const char *message) {
  FILE *out = context;
  if (out) fprintf(out, "%svlmc: warning: skipped: %s\n", isatty(fileno(out)) ? "\r\033[K" : "", message);
}

static bool save(Trainer *trainer, Failure *failure) {
  fflush(trainer->log);
  return checkpoint_save(trainer->options->out, trainer->options->store, &trainer->progress, failure);
}

// Lines for logs that are not a terminal come less often than the terminal's one line is renewed.
static bool tell(Trainer *trainer, Failure *failure) {
  FILE *out = trainer->options->progress;
  double time = clock_now(), every = out && isatty(fileno(out)) ? SHOW_EVERY : 20 * SHOW_EVERY;
  trainer->progress.seconds = trainer->before + time - trainer->started;
  write_log(trainer);
  if (time - trainer->shown >= every) {
    loader_bad_pictures(trainer->loader, report_bad_picture, out);
    show(trainer, time);
    trainer->shown = time;
  }
  if (time - trainer->saved < trainer->options->save_every) return true;
  trainer->saved = time;
  return save(trainer, failure);
}

static bool loop(Trainer *trainer, Failure *failure) {
  const volatile sig_atomic_t *stop = trainer->options->stop;
  trainer->started = trainer->saved = trainer->shown = clock_now();
  while (trainer->progress.step < trainer->progress.total && !(stop && *stop)) {
    if (!run_step(trainer, failure)) return false;
    if (trainer->progress.step == trainer->first_step + 1 && trainer->options->profile) {
      session_profile(trainer->session, true); // the first step also touches fresh memory
      if (trainer->apply) session_profile(trainer->apply, true);
      if (trainer->features) session_profile(features_session(trainer->features), true);
    }
    if (!tell(trainer, failure)) return false;
  }
  show(trainer, clock_now());
  if (trainer->options->progress && isatty(fileno(trainer->options->progress)))
    fputc('\n', trainer->options->progress);
  return save(trainer, failure);
}

bool trainer_run(const TrainerOptions *options, TrainerResult *result, Failure *failure) {
  Trainer trainer = {.options = options, .arena = arena_new()};
  bool good = open_run(&trainer, failure) && loop(&trainer, failure);
  result->progress = trainer.progress;
  result->stopped = trainer.progress.step < trainer.progress.total;
  result->bad_pictures =
      trainer.loader ? loader_bad_pictures(trainer.loader, report_bad_picture, options->progress) : 0;
  result->session = trainer.session;
  result->apply = trainer.apply;
  result->features = trainer.features;
  if (trainer.log && fclose(trainer.log) && good)
    good = fail(failure, "%s/log.jsonl can not be written", options->out);
  loader_close(trainer.loader);
  dataset_close(trainer.dataset);
  arena_free(trainer.arena);
  return good;
}
