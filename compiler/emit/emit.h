// Emitters: kernels to code. An emitter only spells; it never asks which model operation it is emitting.
#ifndef VLMC_COMPILER_EMIT_EMIT_H
#define VLMC_COMPILER_EMIT_EMIT_H

#include "compiler/kernel/kernel.h"
#include "runtime/program.h"

typedef struct EmitOptions {
  const char *architecture; // cuda: "sm_90a"; cpu: NULL for the host's, else an LLVM CPU name ("haswell")
  int threads;              // threads to compile with
  const char *cache;        // folder of compiled objects, NULL: none
  const Sources *sources;   // names the model lines in comments, NULL: none
  const int64_t *symbols;   // likely sizes, for schedules, FLOPs and bytes in comments; NULL: none
} EmitOptions;

typedef struct Emitter {
  const char *name; // "cpu", "cuda", "ref", "c"
  // Compiles kernels[i] into codes[i] (name, work, entry...). The code lives until `release(*handle)`.
  bool (*compile)(Kernel *const *kernels, size_t count, const EmitOptions *options, Code *codes,
                  void **handle, Failure *failure);
  void (*release)(void *handle);
  // One form of a kernel as text: cpu: "llvm", "asm"; cuda: "cuda", "ptx", "cubin" (bytes); c: "c".
  bool (*text)(Kernel *kernel, const char *form, const EmitOptions *options, Text *out, Failure *failure);
} Emitter;

// emit.c: NULL and a message naming what to install where the target can not be had on this machine.
// "cpu" opens vlmc-llvm.so (beside the binary or in ../lib/vlmc) with dlopen and takes its symbol `emitter_llvm`.
const Emitter *emit_find(const char *target, Failure *failure);
// Does the target have a fast way for ANCHOR_ATTENTION? Else it is better given as three kernels.
bool emit_takes_attention(const char *target);

extern const Emitter emitter_ref;  // ref.c: wraps kernel/interpret.c
extern const Emitter emitter_c;    // c.c: text only
extern const Emitter emitter_cuda; // cuda.c

#endif
