// A run's folder:
//
//   run.json               model file, preset, defines, stage, seed: what was asked for (written first)
//   tokenizer.json         where the model reads text
//   model.safetensors      all parameters; its metadata holds the step, and names the optimizer's file
//   optimizer-N.safetensors the states after step N, for --resume
//   log.jsonl              a line per logged step
//
// A checkpoint becomes valid with one rename, that of model.safetensors: the optimizer's file of a step is
// written under a new name before it, and others removed after it. Whoever dies between leaves the last valid
// checkpoint whole.
#ifndef VLMC_RUNTIME_CHECKPOINT_H
#define VLMC_RUNTIME_CHECKPOINT_H

#include "runtime/published.h"

enum { RUN_MAX_DEFINES = 64 };

// What run.json says. Strings live in `arena`.
typedef struct RunInfo {
  const char *model, *preset, *stage, *dtype; // preset, stage: NULL: none
  const char *defines[RUN_MAX_DEFINES];
  int define_count;
  int64_t seed, length; // length 0: the stage's
  int64_t steps;        // 0: as many as the epochs have
  double epochs;        // 0: the stage's
} RunInfo;
bool run_info_write(const char *folder, const RunInfo *info, Failure *failure);
bool run_info_read(const char *folder, Arena *arena, RunInfo *info, Failure *failure);
// Fails where `now` would go on with other settings than the folder's run (`then`) began with, and says
// which. Steps and epochs are left to checkpoint_resume's Progress.total.
bool run_info_agrees(const char *folder, const RunInfo *then, const RunInfo *now, Failure *failure);

typedef struct Progress {
  int64_t step;   // optimizer steps done
  int64_t total;  // of the schedule
  double loss;    // running mean
  double seconds; // of training so far
} Progress;

bool checkpoint_save(const char *folder, TensorStore *store, const Progress *progress,
                     Failure *failure);
bool checkpoint_exists(const char *folder);

// Parameters of the store from a checkpoint: a run's folder, or a file. One of our own: those called `to` or
// `to.*` in the store take what is called `from` or `from.*` there; "" stands for all. Every such parameter
// of the store must be there in its shape; all that do not fit are named in one message. One that others
// published: by the block of the model's weights whose tensors it has (published.h). `options` NULL: only our
// own.
bool checkpoint_load(const char *path, const char *from, const char *to, TensorStore *store,
                     const PublishedOptions *options, Failure *failure);
// Parameters, states and progress of an interrupted run, to the bit.
bool checkpoint_resume(const char *folder, TensorStore *store, Progress *progress, Failure *failure);

#endif
