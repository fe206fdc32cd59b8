// The command line: one table of flags, from which it is read and --help is printed.
#ifndef VLMC_COMPILER_OPTIONS_H
#define VLMC_COMPILER_OPTIONS_H

#include "runtime/base/arena.h"
#include "runtime/base/dtype.h"
#include "runtime/base/failure.h"
#include "runtime/base/text.h"

#include <stdint.h>

typedef enum Command {
  COMMAND_COMPILE, // no command word: a model file
  COMMAND_TRAIN,
  COMMAND_EVAL,
  COMMAND_CHAT,
  COMMAND_CHECK,
  COMMAND_DRAW,
  COMMAND_PLOT,
  COMMAND_TOKENIZER,
  COMMAND_EXPORT,
  COMMAND_COUNT
} Command;

enum { OPTIONS_MAX_LIST = 64 };

typedef struct Options {
  Command command;
  const char *model;                  // the first word that is no option
  const char *more[OPTIONS_MAX_LIST]; // plot, tokenizer: all such words
  int more_count;
  bool help, version, list_passes, list_ops;
  // compiling
  const char *target, *preset, *stage, *dtype, *program;
  const char *defines[OPTIONS_MAX_LIST];
  int define_count;
  const char *emit, *output, *stop_after, *dump_after, *explain, *kernel, *cache;
  bool time_passes, unfused;
  int cache_dtype;                   // FeatureCode
  int64_t batch, length, cache_size; // cache_size: bytes
  // running
  const char *data, *out, *weights, *split, *tokenizer, *sheet, *log, *as, *format, *weights_dtype;
  const char *from[OPTIONS_MAX_LIST];
  int from_count;
  const char *allow_missing[OPTIONS_MAX_LIST];
  int allow_count;
  bool resume, profile, quiet, plain;
  double save_every;
  double epochs; // 0: the stage's
  int64_t steps; // 0: by epochs
  int64_t seed;
  int threads; // 0: one per core
  const char *images[OPTIONS_MAX_LIST];
  int image_count;
  const char *prompt, *system;
  double temperature, top_p;
  int64_t top_k, max_tokens, limit;
  // tokenizer
  int64_t vocabulary;
  const char *specials[OPTIONS_MAX_LIST];
  int special_count;
} Options;

// False: a user's error, in `failure`.
bool options_read(int count, char **words, Options *options, Failure *failure);
void options_help(const Options *options, Text *text);

#endif
