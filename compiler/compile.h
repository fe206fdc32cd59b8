// The compiler from outside: a model file and options in, Programs out.
//
//   Compiler *compiler = compiler_open(&options, &diagnostics_text);
//   const Program *step = compiler_program(compiler, PROGRAM_TRAIN);
//
// pipeline.c holds the one list of passes. Everything a Compiler hands out lives until compiler_close.
#ifndef VLMC_COMPILER_COMPILE_H
#define VLMC_COMPILER_COMPILE_H

#include "compiler/elaborate/elaborate.h"
#include "compiler/emit/emit.h"
#include "compiler/lower/lower.h"
#include "runtime/program.h"

typedef enum ProgramKind {
  PROGRAM_FORWARD, // ids, picture -> logits of all positions
  PROGRAM_LOSS,    // a batch -> its loss, nothing trained
  PROGRAM_TRAIN,   // a batch -> its loss, and the step of the optimizer (or, where the stage accumulates, its
                   // share)
  PROGRAM_APPLY,   // the step of the optimizer from accumulated gradients
  PROGRAM_FEATURES, // pictures -> what the frozen part of a training step makes of them, where it is hoisted
  PROGRAM_PREFILL,  // a prompt -> the last position's logits, filling the key/value cache
  PROGRAM_DECODE,   // further tokens -> the last position's logits, from the cache
  PROGRAM_COUNT
} ProgramKind;
extern const char *const program_names[PROGRAM_COUNT];

typedef struct CompileOptions {
  const char *model;  // a model file, or the text of a graph or of kernels, told apart by their first word
  const char *preset; // NULL: the model's own defaults
  const char *preset_from;    // the file that asks for it, for messages; NULL: the command line
  const char *const *defines; // "vision.width=96"
  size_t define_count;
  const char *stage;          // NULL: the file's first
  const char *target;         // "cpu", "cuda", "cuda:sm_80", "ref", "c"
  DType storage;              // DTYPE_F32, or DTYPE_BF16 for activations between kernels
  Packing packing;            // how weights of contractions are held
  bool unfused;               // every operation a kernel of its own
  bool hoist;                 // what frozen parts make of a sample is no part of TRAIN, but of FEATURES
  int threads;                // to compile with; 0: one per core
  const char *cache;          // folder of compiled code; NULL: none
  int64_t batch, length;      // sizes that tables are computed for; 0: the stage's
  const char *const *library; // folders of the standard library and of models
  size_t library_count;
  // for looking inside
  const char *stop_after; // pass name
  const char *dump_after; // pass name or "all"
  bool time_passes;
} CompileOptions;

typedef struct Compiler Compiler;

// Reads the model file with all that it imports and settles its configuration. NULL: `errors` holds the
// messages, with places and carets, for the user.
Compiler *compiler_open(const CompileOptions *options, Text *errors);
void compiler_close(Compiler *compiler);
Sources *compiler_sources(Compiler *compiler);

// What the model file says of runs (elaborate.h); NULL with messages in compiler_errors where it is wrong.
Model *compiler_model(Compiler *compiler);                    // NULL: the input was a graph or kernels
const WeightMaps *compiler_weights(const Compiler *compiler); // layouts of published checkpoints
const Stage *compiler_stage(Compiler *compiler);
// Positions that the key/value cache of PREFILL and DECODE has: the model's own limit, else --length, else
// 2048.
int64_t compiler_capacity(Compiler *compiler);
const char *compiler_errors(const Compiler *compiler);
bool compiler_failed_internally(const Compiler *compiler);

// One way through the pipeline: what is there depends on how far it went (stop_after).
typedef struct Unit {
  Compiler *compiler;
  Arena *arena;
  ProgramKind kind;
  Graph *graph;           // NULL: the input was kernels
  Graph *before_backward; // as elaborated and simplified, for --emit=graph
  Graph *frozen;          // TRAIN: what was hoisted out of it; NULL: nothing
  Text hoisted;           // TRAIN: what that is, or why it is nothing; empty where it was not asked for
  bool altered;           // TRAIN: nothing, since pictures are altered at random
  Fusion *fusion;
  Lowered lowered; // kernels and program
  const Emitter *emitter;
  void *code; // the emitter's handle
  int64_t symbols[SYMBOL_COUNT];
  int64_t time_limit; // positions that the model has room for; 0: no limit of its own
  bool compiled;      // program.codes can run
  bool failed;        // in one of its passes, which has said why: none runs again
} Unit;

// Runs the passes for a kind of program, up to code. NULL: see compiler_errors.
const Unit *compiler_unit(Compiler *compiler, ProgramKind kind);
// The same up to and including a pass (`options.stop_after` stops it earlier); no code is made for "lower".
const Unit *compiler_unit_until(Compiler *compiler, ProgramKind kind, const char *pass);
bool unit_reached(const Unit *unit, const char *pass); // false: `options.stop_after` ended it before
const Program *compiler_program(Compiler *compiler, ProgramKind kind);
// The kind that a model file is mostly about: a training step where it has stages, else forward.
ProgramKind compiler_default_kind(Compiler *compiler);

void pipeline_list(Text *text); // --list-passes

// One form of a unit as text (or, for cubin, bytes) for --emit. Kernel forms (kernels, llvm, asm, c, cuda,
// ptx, cubin) are of one kernel, all others of the whole unit.
typedef struct EmitForm {
  const char *name, *extension;
  const char *pass;   // how far the pipeline must have run
  const char *target; // the emitter of a kernel form; NULL: no emitter is needed
  void (*print)(const Unit *unit,
                Text *text); // of the whole unit, nothing where it has no such form; NULL: of a kernel
  bool binary;               // no text: one kernel in a file, nothing for a terminal
} EmitForm;
const EmitForm *emit_form(const char *name); // NULL: none
void emit_form_names(Text *text);
bool emit_kernel(const Unit *unit, const EmitForm *form, size_t kernel, Text *text, Failure *failure);

// table.c: a row per distinct kernel: calls, model lines, anchor, bytes, FLOPs, and what the target knows of
// it.
void kernel_table(const Unit *unit, Text *text);

#endif
