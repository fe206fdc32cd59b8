// The emitter for this machine's CPU. Input: kernels; output: functions in memory. Threads compile kernels to
// objects, each with a context of its own; then ORC links all of them at once.
#include "compiler/emit/cache.h"
#include "compiler/emit/llvm_target.h"

#include <dlfcn.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_THREADS = 64 };

typedef struct Job {
  Kernel *const *kernels;
  size_t count;
  const EmitOptions *options;
  const char *cpu, *features;
  Object *objects;
  atomic_size_t next;
  atomic_bool failed;
  pthread_mutex_t lock; // of `failure`
  Failure *failure;
} Job;

static void job_failed(Job *job, const Failure *failure) {
  pthread_mutex_lock(&job->lock);
  if (!atomic_exchange(&job->failed, true)) *job->failure = *failure;
  pthread_mutex_unlock(&job->lock);
}

// ---- objects from the cache or from LLVM --------------------------------------------------------

// What an Object has to say besides its bytes, as the cache keeps it.
typedef struct About {
  Work work;
  int64_t scratch_bytes;
} About;

// Kernel, CPU, LLVM's version, and this build of the backend: its file's size and time of change.
static void cache_key(const Job *job, const Kernel *kernel, Text *key) {
  Dl_info info;
  struct stat status = {0};
  unsigned major, minor, patch;
  LLVMGetVersion(&major, &minor, &patch);
  if (dladdr((const void *)&cache_key, &info)) (void)!stat(info.dli_fname, &status);
  kernel_print(kernel, NULL, key);
  text_print(key, "\ncpu %s %s\nllvm %u.%u.%u build %lld %lld.%09ld", job->cpu, job->features, major, minor,
             patch, (long long)status.st_size, (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

static bool from_cache(const char *folder, const Text *key, Object *object) {
  About about = {0};
  if (!cache_get(folder, "object", key, &about, sizeof about, &object->bytes, &object->size)) return false;
  object->work = about.work;
  object->scratch_bytes = about.scratch_bytes;
  return true;
}

static void into_cache(const char *folder, const Text *key, const Object *object) {
  About about = {0};
  about.work = object->work;
  about.scratch_bytes = object->scratch_bytes;
  cache_put(folder, "object", key, &about, sizeof about, object->bytes, object->size);
}

static bool compile_one(Job *job, size_t i, Target *target, bool *opened, Failure *failure) {
  const char *cache = job->options->cache;
  Object *object = &job->objects[i];
  Text key = {0};
  if (cache) cache_key(job, job->kernels[i], &key);
  bool found = cache && from_cache(cache, &key, object), made = false;
  if (!found && !*opened) *opened = llvm_target_open(target, job->cpu, job->features, failure);
  if (!found && *opened) made = llvm_compile(target, job->kernels[i], FORM_OBJECT, object, failure);
  if (made && cache) into_cache(cache, &key, object);
  text_free(&key);
  return found || made;
}

static void *worker(void *context) {
  Job *job = context;
  Target target = {0};
  bool opened = false;
  Failure failure;
  for (size_t i; !atomic_load(&job->failed) && (i = atomic_fetch_add(&job->next, 1)) < job->count;)
    if (!compile_one(job, i, &target, &opened, &failure)) job_failed(job, &failure);
  llvm_target_close(&target);
  return NULL;
}

static bool compile_all(Job *job, int threads) {
  pthread_t others[MOST_THREADS];
  int started = 0;
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  if ((size_t)threads > job->count) threads = (int)job->count;
  while (started < threads - 1 && !pthread_create(&others[started], NULL, worker, job)) started++;
  worker(job);
  for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
  return !atomic_load(&job->failed);
}

// ---- linking ------------------------------------------------------------------------------------

static bool orc_failed(LLVMErrorRef error, Failure *failure) {
  if (!error) return false;
  char *text = LLVMGetErrorMessage(error);
  fail_internal(failure, "LLVM can not link: %s", text);
  LLVMDisposeErrorMessage(text);
  return true;
}

static bool link_all(const Job *job, LLVMOrcLLJITRef jit, Arena *arena, Code *codes, Failure *failure) {
  LLVMOrcJITDylibRef library = LLVMOrcLLJITGetMainJITDylib(jit);
  LLVMOrcDefinitionGeneratorRef process;
  char prefix = LLVMOrcLLJITGetGlobalPrefix(jit);
  if (orc_failed(LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&process, prefix, NULL, NULL), failure))
    return false;
  LLVMOrcJITDylibAddGenerator(library, process); // memset and its like
  for (size_t i = 0; i < job->count; i++) {
    const Object *object = &job->objects[i];
    LLVMMemoryBufferRef buffer =
        LLVMCreateMemoryBufferWithMemoryRangeCopy(object->bytes, object->size, job->kernels[i]->name);
    if (orc_failed(LLVMOrcLLJITAddObjectFile(jit, library, buffer), failure)) return false;
  }
  for (size_t i = 0; i < job->count; i++) {
    LLVMOrcExecutorAddress address;
    if (orc_failed(LLVMOrcLLJITLookup(jit, &address, llvm_symbol(arena, job->kernels[i])), failure))
      return false;
    codes[i].name = job->kernels[i]->name;
    codes[i].work = job->objects[i].work;
    codes[i].scratch_bytes = job->objects[i].scratch_bytes;
    codes[i].entry = (CpuEntry *)(uintptr_t)address; // NOLINT: code comes as a number
  }
  return true;
}

static void start_llvm(void) {
  LLVMInitializeNativeTarget();
  LLVMInitializeNativeAsmPrinter();
  LLVMInitializeNativeAsmParser();
  // Rewriting loop counters takes a fifth of all compile time, and addresses here are already base + index.
  static const char *const arguments[] = {"vlmc", "-disable-lsr"};
  LLVMParseCommandLineOptions(2, arguments, NULL); // what a later LLVM does not know is ignored
}

static void release(void *handle) {
  if (!handle) return;
  LLVMErrorRef error = LLVMOrcDisposeLLJIT(handle);
  if (error) LLVMConsumeError(error);
}

static bool compile(Kernel *const *kernels, size_t count, const EmitOptions *options, Code *codes,
                    void **handle, Failure *failure) {
  Arena *arena = arena_new();
  LLVMOrcLLJITRef jit = NULL;
  start_llvm();
  Job job = {.kernels = kernels, .count = count, .options = options, .failure = failure};
  llvm_cpu_names(arena, options->architecture, &job.cpu, &job.features);
  job.objects = ARENA_ARRAY(arena, Object, count ? count : 1);
  pthread_mutex_init(&job.lock, NULL);
  bool ok = compile_all(&job, options->threads) && !orc_failed(LLVMOrcCreateLLJIT(&jit, NULL), failure) &&
            link_all(&job, jit, arena, codes, failure);
  if (!ok) release(jit);
  *handle = ok ? jit : NULL;
  pthread_mutex_destroy(&job.lock);
  for (size_t i = 0; i < count; i++) free(job.objects[i].bytes);
  arena_free(arena);
  return ok;
}

static bool text(Kernel *kernel, const char *form, const EmitOptions *options, Text *out, Failure *failure) {
  bool ir = !strcmp(form, "llvm");
  if (!ir && strcmp(form, "asm")) return fail(failure, "target cpu has no form `%s`: llvm or asm", form);
  Arena *arena = arena_new();
  Target target = {0};
  Object object = {0};
  const char *cpu, *features;
  start_llvm();
  llvm_cpu_names(arena, options->architecture, &cpu, &features);
  bool ok = llvm_target_open(&target, cpu, features, failure) &&
            llvm_compile(&target, kernel, ir ? FORM_IR : FORM_ASSEMBLY, &object, failure);
  if (ok) text_add(out, object.bytes, object.size);
  free(object.bytes);
  llvm_target_close(&target);
  arena_free(arena);
  return ok;
}

extern const Emitter emitter_llvm;
const Emitter emitter_llvm = {"cpu", compile, release, text};
