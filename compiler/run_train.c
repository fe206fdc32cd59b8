// vlmc train: one stage of a model file over a data set.
#include "compiler/commands.h"

#include "runtime/files.h"
#include "runtime/trainer.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static bool need(Failure *failure, const char *value, const char *flag, const char *what) {
  return value || fail(failure, "--%s is needed: %s", flag, what);
}

// What was asked for. A run that goes on is as long as it began, where the command line is silent.
static bool find_settings(Job *job, const Stage *stage) {
  const Options *options = job->options;
  RunInfo *info = &job->info, then;
  *info = (RunInfo){.model = options->model,
                    .preset = options->preset,
                    .stage = stage->name,
                    .dtype = options->dtype,
                    .define_count = options->define_count,
                    .seed = options->seed,
                    .length = options->length,
                    .steps = options->steps,
                    .epochs = options->epochs};
  for (int i = 0; i < options->define_count; i++) info->defines[i] = options->defines[i];
  if (file_exists(options->out))
    return fail(&job->failure, "--out %s is a file, and a folder is needed", options->out);
  if (!options->resume) {
    return !checkpoint_exists(options->out) ||
           fail(&job->failure, "%s already holds a checkpoint; go on with --resume, or name another --out",
                options->out);
  }
  if (!checkpoint_exists(options->out))
    return fail(&job->failure, "%s holds no checkpoint to resume from", options->out);
  if (!run_info_read(options->out, job->arena, &then, &job->failure) ||
      !run_info_agrees(options->out, &then, info, &job->failure))
    return false;
  if (!info->steps && info->epochs <= 0) info->steps = then.steps, info->epochs = then.epochs;
  return true;
}

static bool begin_folder(Job *job) {
  const char *folder = job->options->out;
  return job->options->resume ||
         (folder_make(folder, &job->failure) && run_info_write(folder, &job->info, &job->failure));
}

static void print_result(Job *job, const TrainerResult *result) {
  if (job->options->profile) {
    job_profile(job, PROGRAM_TRAIN, result->session);
    job_profile(job, PROGRAM_APPLY, result->apply);
    if (result->features) job_profile(job, PROGRAM_FEATURES, features_session(result->features));
  }
  if (result->bad_pictures) printf("%zu pictures could not be read and were skipped\n", result->bad_pictures);
  printf("%s: %s after step %" PRId64 " of %" PRId64 ", loss %.4f, %.1f s, in %s\n", job->options->model,
         result->stopped ? "stopped" : "done", result->progress.step, result->progress.total,
         result->progress.loss, result->progress.seconds, job->options->out);
  if (result->stopped) printf("the same command with --resume goes on\n");
}

// The frozen part of the step, where it was hoisted: its text tells one model's features from another's.
static bool find_features(Job *job, const Unit *unit, FeatureOptions *features) {
  const Options *options = job->options;
  if (unit->altered && !options->quiet)
    fprintf(stderr, "features: none are kept, each time a picture is shown it is altered at random\n");
  if (!unit->frozen) return true;
  Text meaning = {0};
  graph_print(unit->frozen, &meaning);
  *features = (FeatureOptions){.program = compiler_program(job->compiler, PROGRAM_FEATURES),
                               .meaning = arena_copy(job->arena, text_string(&meaning), meaning.length),
                               .folder = arena_print(job->arena, "%s/features", job->compile.cache),
                               .limit = options->cache_size,
                               .code = (FeatureCode)options->cache_dtype};
  text_free(&meaning);
  return features->program || job_report(job);
}

// Parameters of all programs come into the store, with their initial values, and then those of --from.
static bool load_parameters(Job *job, const TrainerOptions *trainer) {
  const Program *frozen = trainer->features ? trainer->features->program : NULL;
  Session *first = frozen ? session_open(frozen, job->store, &job->failure) : NULL;
  Session *step = !frozen || first ? session_open(trainer->program, job->store, &job->failure) : NULL;
  bool good = step && (trainer->resume || job_load_from(job));
  session_close(step);
  session_close(first);
  return good;
}

static bool train(Job *job, volatile sig_atomic_t *stop) {
  const Options *options = job->options;
  if (!need(&job->failure, options->data, "data", "the folder of the data set")) return false;
  if (!need(&job->failure, options->out, "out", "the folder for checkpoint and log")) return false;
  const Stage *stage = compiler_stage(job->compiler);
  Model *model = compiler_model(job->compiler);
  if (!stage) return model ? job_report(job) : fail(&job->failure, "%s is not a model file", options->model);
  const Template *form = model_template(model);
  const Preprocess *preprocess = model_preprocess(model);
  const Unit *unit = compiler_unit(job->compiler, PROGRAM_TRAIN);
  const Program *apply =
      stage->accumulate > 1 && unit ? compiler_program(job->compiler, PROGRAM_APPLY) : NULL;
  if (!unit || !unit->compiled || (stage->accumulate > 1 && !apply)) return job_report(job);
  FeatureOptions features = {0};
  if (!find_features(job, unit, &features)) return false;
  // What --data and --from name is looked at first: a wrong path leaves no folder behind.
  const char *rows = dataset_find(job->arena, options->data, stage->data);
  if (!file_exists(rows))
    return fail(&job->failure, "%s: there is no such file; stage `%s` reads it", rows, stage->name);
  if (!find_settings(job, stage)) return false;
  if (!job_open_device(job) || (form && !job_find_tokenizer(job, form, job_vocabulary(job)))) return false;
  if (!begin_folder(job)) return false;
  TrainerResult result = {0};
  TrainerOptions trainer = {.program = &unit->lowered.program,
                            .apply = apply,
                            .features = features.program ? &features : NULL,
                            .store = job->store,
                            .stage = stage,
                            .preprocess = preprocess,
                            .form = form,
                            .tokenizer = job->tokenizer,
                            .data = options->data,
                            .out = options->out,
                            .length = job_length(job, stage, PROGRAM_TRAIN),
                            .epochs = job->info.epochs > 0 ? job->info.epochs : stage->epochs,
                            .steps = job->info.steps,
                            .seed = (uint64_t)options->seed,
                            .resume = options->resume,
                            .save_every = options->save_every,
                            .progress = options->quiet ? NULL : stderr,
                            .stop = stop,
                            .profile = options->profile};
  bool good = load_parameters(job, &trainer);
  const char *tokenizer = arena_print(job->arena, "%s/tokenizer.json", options->out);
  if (good && job->tokenizer && !options->resume)
    good = tokenizer_save(job->tokenizer, tokenizer, &job->failure);
  good = good && trainer_run(&trainer, &result, &job->failure);
  if (good) print_result(job, &result);
  session_close(result.session);
  session_close(result.apply);
  features_close(result.features);
  return good;
}

int run_train(const Options *options, volatile sig_atomic_t *stop) {
  Job job;
  bool good = job_open(&job, options) && train(&job, stop);
  return job_close(&job, good);
}
