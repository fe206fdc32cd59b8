// vlmc eval and vlmc chat: both generate from a trained model (eval of a text does not: run_text.c).
#include "compiler/commands.h"

#include "runtime/chat.h"
#include "runtime/evaluate.h"
#include "runtime/files.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void profile(Job *job, const Generator *generator) {
  if (!job->options->profile) return;
  job_profile(job, PROGRAM_PREFILL, generator_session(generator, false));
  job_profile(job, PROGRAM_DECODE, generator_session(generator, true));
}

// Weights, tokenizer and the two derived programs.
static bool open_generator(Job *job, Generator **generator) {
  Model *model = compiler_model(job->compiler);
  if (!job_has_model_and_weights(job)) return false;
  const Program *prefill = compiler_program(job->compiler, PROGRAM_PREFILL);
  const Program *decode = prefill ? compiler_program(job->compiler, PROGRAM_DECODE) : NULL;
  if (!decode) return job_report(job);
  job_report_weights(job, PROGRAM_PREFILL);
  if (!job_open_device(job) || !job_find_tokenizer(job, model_template(model), 0)) return false;
  if (!generator_open(prefill, decode, job->store, job->tokenizer, compiler_capacity(job->compiler),
                      generator, &job->failure))
    return false;
  session_profile(generator_session(*generator, false), job->options->profile);
  session_profile(generator_session(*generator, true), job->options->profile);
  return job_load_weights(job);
}

static bool open_template(Job *job, const Template **form, const Preprocess **preprocess) {
  Model *model = compiler_model(job->compiler);
  int errors = (int)strlen(compiler_errors(job->compiler));
  *form = model ? model_template(model) : NULL;
  *preprocess = model ? model_preprocess(model) : NULL;
  if ((int)strlen(compiler_errors(job->compiler)) > errors) return job_report(job);
  return *form || !model ||
         fail(&job->failure, "%s has no template that says how a conversation reads", job->options->model);
}

// What takes minutes to answer should not be lost to a misspelt folder.
static bool can_write(Job *job, const char *flag, const char *path) {
  const char *slash = path ? strrchr(path, '/') : NULL;
  const char *folder = !slash          ? "."
                       : slash == path ? "/"
                                       : arena_copy(job->arena, path, (size_t)(slash - path));
  return !path || !access(folder, W_OK | X_OK) ||
         fail(&job->failure, "--%s %s: %s", flag, path, strerror(errno));
}

static bool evaluate(Job *job, volatile sig_atomic_t *stop) {
  const Options *options = job->options;
  Generator *generator = NULL;
  EvaluateOptions evaluate = {.data = options->data,
                              .split = options->split,
                              .max_tokens = options->max_tokens,
                              .limit = options->limit,
                              .sheet = options->sheet,
                              .log = options->log,
                              .progress = options->quiet ? NULL : stderr,
                              .stop = stop};
  EvaluateResult result;
  Text report = {0};
  if (!can_write(job, "log", options->log) || !can_write(job, "sheet", options->sheet)) return false;
  if (!open_template(job, &evaluate.form, &evaluate.preprocess)) return false;
  bool good = open_generator(job, &generator);
  evaluate.generator = generator;
  evaluate.tokenizer = job->tokenizer;
  const Stage *stage = good ? compiler_stage(job->compiler) : NULL;
  const char *training = stage ? dataset_find(job->arena, options->data, stage->data) : NULL;
  if (training && file_exists(training)) evaluate.training = stage->data;
  good = good && evaluate_run(&evaluate, &result, &report, &job->failure);
  if (good) {
    fputs(text_string(&report), stdout);
    if (result.skipped)
      printf("%" PRId64 " rows skipped: their pictures could not be read\n", result.skipped);
    printf("%.1f s, %.0f answers/s\n", result.seconds, (double)result.rows / result.seconds);
    printf("accuracy %.2f %% (%" PRId64 "/%" PRId64 ")\n",
           result.rows ? 100.0 * (double)result.right / (double)result.rows : 0.0, result.right, result.rows);
    profile(job, generator);
  }
  text_free(&report);
  generator_close(generator);
  return good;
}

static bool chat(Job *job, volatile sig_atomic_t *stop) {
  const Options *options = job->options;
  Generator *generator = NULL;
  ChatOptions chat = {
      .sampler = {options->temperature, options->top_k, options->top_p, (uint64_t)options->seed},
      .max_tokens = options->max_tokens,
      .images = options->images,
      .image_count = options->image_count,
      .system = options->system,
      .prompt = options->prompt,
      .in = stdin,
      .out = stdout,
      .messages = stderr,
      .stop = stop};
  if (!options->plain && !open_template(job, &chat.form, &chat.preprocess)) return false;
  bool good = open_generator(job, &generator);
  chat.generator = generator;
  chat.tokenizer = job->tokenizer;
  good = good && chat_run(&chat, &job->failure);
  if (good) profile(job, generator);
  generator_close(generator);
  return good;
}

int run_eval(const Options *options, volatile sig_atomic_t *stop) {
  Job job;
  bool text = false, good = job_open(&job, options) && job_data_is_text(&job, &text);
  good = good && (text ? eval_text(&job, stop) : evaluate(&job, stop));
  return job_close(&job, good);
}

int run_chat(const Options *options, volatile sig_atomic_t *stop) {
  Job job;
  bool good = job_open(&job, options) && chat(&job, stop);
  return job_close(&job, good);
}
