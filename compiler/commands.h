// The commands: options in, exit status out (0 good, 1 user's error, 2 our own). One file each,
// run_<command>.c; command.c holds what they share.
#ifndef VLMC_COMPILER_COMMANDS_H
#define VLMC_COMPILER_COMMANDS_H

#include "compiler/compile.h"
#include "compiler/options.h"
#include "runtime/checkpoint.h"
#include "runtime/store.h"
#include "runtime/tokenizer/tokenizer.h"

#include <signal.h>

int run_compile(const Options *options);
int run_draw(const Options *options);
int run_plot(const Options *options);
int run_tokenizer(const Options *options);
int run_train(const Options *options, volatile sig_atomic_t *stop);
int run_eval(const Options *options, volatile sig_atomic_t *stop);
int run_chat(const Options *options, volatile sig_atomic_t *stop);
int run_check(const Options *options);
int run_export(const Options *options);

// ---- command.c ----------------------------------------------------------------------------------

// A command on its way: whatever was opened is closed by command_close.
typedef struct Job {
  Arena *arena;
  const Options *options;
  RunInfo info; // of --weights, where given; of the run that trains
  CompileOptions compile;
  Compiler *compiler;
  Device *device;
  TensorStore *store;
  Tokenizer *tokenizer;
  Failure failure;
} Job;

// Finds the library and opens the compiler. What --weights says of its model (preset, defines, dtype) holds
// where the command line says nothing. False: printed.
bool job_open(Job *job, const Options *options);
bool job_open_device(Job *job);     // and a store on it
int job_close(Job *job, bool good); // prints the failure; returns the exit status
bool job_report(const Job *job);    // prints the compiler's messages; always false

// Installed: PREFIX/share/vlmc beside PREFIX/bin; built: the folder above build/.
const char *library_folder(Arena *arena, Failure *failure);
// The whole model from --weights, and every --from in order: [PART=]PATH[:PART]. Files that others published
// are read by the model's blocks of weights, with a report on stderr.
bool job_load_weights(Job *job);
bool job_load_from(Job *job);
// The stage's tokenizer: --tokenizer, else the run's own, else that of the --from which brings the model's
// table of tokens, else trained on the stage's rows, with as many tokens as the model's vocabulary.
bool job_find_tokenizer(Job *job, const Template *form, int64_t vocabulary);
// Rows of the table in which the model looks up token ids (the smallest, if several); 0: it reads no text.
int64_t job_vocabulary(Job *job);
bool job_is_token_table(Job *job, const char *parameter);
// Positions that a sample may have: --length, the stage's, the model's room; 0 where none of them says.
int64_t job_length(Job *job, const Stage *stage, ProgramKind kind);
bool job_has_model_and_weights(Job *job); // else fails: eval and chat need a model file and --weights
// What --weights-dtype made of the weights, on stderr.
void job_report_weights(Job *job, ProgramKind kind);
// Is --data a text, rather than a folder of questions: a file, or a folder whose split begins with a text?
bool job_data_is_text(Job *job, bool *is_text);
bool eval_text(Job *job, const volatile sig_atomic_t *stop); // run_text.c: vlmc eval of such data

// ---- profile.c ----------------------------------------------------------------------------------

// The table of --profile for what a session ran, on standard output; nothing where it ran nothing or is NULL.
void job_profile(Job *job, ProgramKind kind, const Session *session);
// Runs the program on random weights and inputs of the sizes that were asked for, then its table as text.
bool profile_program(Job *job, ProgramKind kind, Text *text);

#endif
