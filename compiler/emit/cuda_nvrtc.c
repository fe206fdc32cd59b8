// CUDA C text to machine code. Input: text and an architecture ("sm_90a"); output: a cubin (or PTX), with the
// registers, spilled bytes and shared memory that the assembler reports.
#include "compiler/emit/cuda_emit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *program_log(const CudaCompiler *compiler, void *program) {
  size_t size = 0;
  if (compiler->nvrtcGetProgramLogSize(program, &size) || size > 1 << 24) size = 0;
  char *log = calloc(size + 1, 1);
  if (log && size) compiler->nvrtcGetProgramLog(program, log);
  return log;
}

// "Used 12 registers, used 1 barriers, 1024 bytes smem"; "0 bytes spill stores, 0 bytes spill loads"
static void read_log(const char *log, CudaObject *object) {
  int stores = 0, loads = 0;
  const char *used = strstr(log, "Used "), *spills = strstr(log, "bytes stack frame, ");
  if (used) sscanf(used, "Used %d registers", &object->registers);
  if (spills)
    sscanf(spills, "bytes stack frame, %d bytes spill stores, %d bytes spill loads", &stores, &loads);
  object->spill_bytes = stores + loads;
  const char *shared = used ? strstr(used, " bytes smem") : NULL;
  if (!shared) return;
  while (shared > used && shared[-1] >= '0' && shared[-1] <= '9') shared--;
  object->shared_bytes = atoi(shared);
}

// NVRTC refused the text: our fault. The text goes with the message, numbered, since nobody else has it.
static bool refused(const char *source, const char *name, const char *log, Failure *failure) {
  Text numbered = {0};
  int line = 1;
  for (const char *at = source; *at; line++) {
    size_t length = strcspn(at, "\n");
    text_print(&numbered, "%4d  %.*s\n", line, (int)length, at);
    at += length + (at[length] == '\n');
  }
  fprintf(stderr, "%s%s\n", text_string(&numbered), log ? log : "");
  text_free(&numbered);
  return fail_internal(failure, "NVRTC refuses the text of kernel %s (above): %.600s", name, log ? log : "");
}

static bool take(const CudaCompiler *compiler, void *program, bool ptx, CudaObject *object,
                 Failure *failure) {
  size_t size = 0;
  int error = ptx ? compiler->nvrtcGetPTXSize(program, &size) : compiler->nvrtcGetCUBINSize(program, &size);
  if (error || !size)
    return fail_internal(failure, "NVRTC gave no code: %s", compiler->nvrtcGetErrorString(error));
  object->bytes = malloc(size);
  if (!object->bytes) return fail(failure, "out of memory (%zu bytes of code)", size);
  error =
      ptx ? compiler->nvrtcGetPTX(program, object->bytes) : compiler->nvrtcGetCUBIN(program, object->bytes);
  object->count = size;
  return !error || fail_internal(failure, "NVRTC gave no code: %s", compiler->nvrtcGetErrorString(error));
}

bool cuda_compile_text(const CudaCompiler *compiler, const char *source, const char *name,
                       const char *architecture, bool ptx, CudaObject *object, Failure *failure) {
  char target[64], file[256];
  void *program = NULL;
  *object = (CudaObject){0};
  // A virtual architecture stops at PTX, which then runs on every later GPU.
  snprintf(target, sizeof target, "--gpu-architecture=%s_%s", ptx ? "compute" : "sm", architecture + 3);
  snprintf(file, sizeof file, "%s.cu", name);
  const char *options[] = {target, "--ptxas-options=-v"};
  int error = compiler->nvrtcCreateProgram(&program, source, file, 0, NULL, NULL);
  if (error) return fail_internal(failure, "NVRTC: %s", compiler->nvrtcGetErrorString(error));
  error = compiler->nvrtcCompileProgram(program, ptx ? 1 : 2, options);
  char *log = program_log(compiler, program);
  bool fine;
  if (error && log && strstr(log, "gpu-architecture"))
    fine = fail(failure, "this NVRTC does not know the architecture %s: %.300s", architecture, log);
  else if (error)
    fine = refused(source, name, log, failure);
  else
    fine = take(compiler, program, ptx, object, failure);
  if (fine && log) read_log(log, object);
  if (!fine) {
    free(object->bytes);
    object->bytes = NULL;
  }
  free(log);
  compiler->nvrtcDestroyProgram(&program);
  return fine;
}
