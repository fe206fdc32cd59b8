// Target cuda: kernels to CUDA C text and, through NVRTC, to code for one architecture. Works without a GPU.
// Input: kernels; output: codes with cubins, registers, spills; the text in its forms.
#include "compiler/emit/cache.h"
#include "compiler/emit/cuda_emit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64 };

static const char *architecture_of(const EmitOptions *options) {
  return options && options->architecture ? options->architecture : "sm_90a";
}

// "sm_" and two or three digits, perhaps a letter; NVRTC judges the rest.
static bool check_architecture(const char *name, Failure *failure) {
  size_t digits = !strncmp(name, "sm_", 3) ? strspn(name + 3, "0123456789") : 0;
  const char *rest = name + 3 + digits;
  if (digits >= 2 && digits <= 3 && (!*rest || ((*rest == 'a' || *rest == 'f') && !rest[1]))) return true;
  return fail(failure, "`%s` is not a CUDA architecture; write cuda:sm_80, cuda:sm_90a, ...", name);
}

// ---- many kernels, on several threads -----------------------------------------------------------

typedef struct Job {
  Kernel *const *kernels;
  const EmitOptions *options;
  const CudaCompiler *compiler;
  Code *codes;
  CudaObject *objects;
  Failure *failures; // one per kernel, so that the first in order is reported whoever met it first
  bool *failed;
  size_t count;
  atomic_size_t next;
} Job;

// From the cache or from NVRTC.
static bool object_of(const Job *job, const char *source, const char *name, CudaObject *object,
                      Failure *failure) {
  const char *folder = job->options ? job->options->cache : NULL,
             *architecture = architecture_of(job->options);
  if (!folder) return cuda_compile_text(job->compiler, source, name, architecture, false, object, failure);
  Text key = {0};
  int major = 0, minor = 0, about[3];
  job->compiler->nvrtcVersion(&major, &minor);
  text_print(&key, "nvrtc %d.%d %s\n%s", major, minor, architecture, source);
  bool found = cache_get(folder, "cubin", &key, about, sizeof about, &object->bytes, &object->count),
       made = false;
  if (found) {
    object->registers = about[0], object->spill_bytes = about[1], object->shared_bytes = about[2];
  } else {
    made = cuda_compile_text(job->compiler, source, name, architecture, false, object, failure);
  }
  if (made) {
    about[0] = object->registers, about[1] = object->spill_bytes, about[2] = object->shared_bytes;
    cache_put(folder, "cubin", &key, about, sizeof about, object->bytes, object->count);
  }
  text_free(&key);
  return found || made;
}

static void compile_one(Job *job, size_t i) {
  Text text = {0};
  CudaShape shape;
  CudaObject *object = &job->objects[i];
  Code *code = &job->codes[i];
  cuda_source(job->kernels[i], job->options, &text, &shape);
  job->failed[i] = !object_of(job, text_string(&text), job->kernels[i]->name, object, &job->failures[i]);
  text_free(&text);
  code->name = job->kernels[i]->name;
  code->work = shape.work;
  code->block_threads = shape.threads;
  code->cubin = object->bytes;
  code->cubin_bytes = object->count;
  code->registers = object->registers;
  code->spill_bytes = object->spill_bytes;
  code->shared_bytes = object->shared_bytes;
}

static void *compile_some(void *context) {
  Job *job = context;
  for (size_t i; (i = atomic_fetch_add(&job->next, 1)) < job->count;) compile_one(job, i);
  return NULL;
}

static void compile_all(Job *job, int threads) {
  pthread_t workers[MAX_THREADS];
  int started = 0;
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if ((size_t)threads > job->count) threads = (int)job->count;
  while (started + 1 < threads && !pthread_create(&workers[started], NULL, compile_some, job)) started++;
  compile_some(job); // this thread too, and alone if no other could be had
  for (int i = 0; i < started; i++) pthread_join(workers[i], NULL);
}

// ---- the emitter --------------------------------------------------------------------------------

typedef struct Handle {
  CudaObject *objects;
  size_t count;
} Handle;

static void release(void *opaque) {
  Handle *handle = opaque;
  if (!handle) return;
  for (size_t i = 0; i < handle->count; i++) free(handle->objects[i].bytes);
  free(handle->objects);
  free(handle);
}

static bool compile(Kernel *const *kernels, size_t count, const EmitOptions *options, Code *codes,
                    void **opaque, Failure *failure) {
  CudaCompiler compiler;
  if (!check_architecture(architecture_of(options), failure) || !cuda_compiler_open(&compiler, failure))
    return false;
  Arena *arena = arena_new();
  Handle *handle = calloc(1, sizeof *handle);
  if (handle) *handle = (Handle){calloc(count + 1, sizeof(CudaObject)), count};
  if (!handle || !handle->objects) die("out of memory");
  Job job = {.kernels = kernels,
             .options = options,
             .compiler = &compiler,
             .codes = codes,
             .objects = handle->objects,
             .count = count};
  job.failures = ARENA_ARRAY(arena, Failure, count + 1);
  job.failed = ARENA_ARRAY(arena, bool, count + 1);
  compile_all(&job, options ? options->threads : 1);
  bool fine = true;
  for (size_t i = 0; i < count && fine; i++)
    if (job.failed[i]) *failure = job.failures[i], fine = false;
  arena_free(arena);
  if (fine)
    *opaque = handle;
  else
    release(handle);
  return fine;
}

static bool text(Kernel *kernel, const char *form, const EmitOptions *options, Text *out, Failure *failure) {
  Text source = {0};
  CudaShape shape;
  bool cuda = !strcmp(form, "cuda"), ptx = !strcmp(form, "ptx"), cubin = !strcmp(form, "cubin"), fine = true;
  if (!cuda && !ptx && !cubin) return fail(failure, "target cuda has no form `%s`: cuda, ptx or cubin", form);
  cuda_source(kernel, options, &source, &shape);
  if (cuda) {
    text_add(out, source.bytes, source.length);
  } else {
    CudaCompiler compiler;
    CudaObject object = {0};
    const char *architecture = architecture_of(options);
    fine =
        check_architecture(architecture, failure) && cuda_compiler_open(&compiler, failure) &&
        cuda_compile_text(&compiler, text_string(&source), kernel->name, architecture, ptx, &object, failure);
    if (fine) text_add(out, object.bytes, object.count - (ptx && !object.bytes[object.count - 1]));
    free(object.bytes);
  }
  text_free(&source);
  return fine;
}

const Emitter emitter_cuda = {"cuda", compile, release, text};
