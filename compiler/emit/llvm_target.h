// From kernels to machine code of one CPU, without linking it. Internal to the LLVM backend.
#ifndef VLMC_COMPILER_EMIT_LLVM_TARGET_H
#define VLMC_COMPILER_EMIT_LLVM_TARGET_H

#include "compiler/emit/llvm_emit.h"

// What one thread compiles with.
typedef struct Target {
  LLVMTargetMachineRef machine;
  Machine facts;
} Target;

// The CPU's names by LLVM, owned by the caller's arena; NULL architecture: this machine.
void llvm_cpu_names(Arena *arena, const char *architecture, const char **cpu, const char **features);
bool llvm_target_open(Target *target, const char *cpu, const char *features, Failure *failure);
void llvm_target_close(Target *target);

// One kernel's object as bytes (malloc), with what its Code has to say.
typedef struct Object {
  char *bytes;
  size_t size;
  Work work;
  int64_t scratch_bytes;
} Object;
typedef enum Form { FORM_OBJECT, FORM_ASSEMBLY, FORM_IR } Form;
bool llvm_compile(Target *target, Kernel *kernel, Form form, Object *object, Failure *failure);
// The name of a kernel's function in its object.
char *llvm_symbol(Arena *arena, const Kernel *kernel);

#endif
