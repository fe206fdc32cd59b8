// Which emitter serves a target. Input: "cpu", "cuda", "cuda:sm_80", "ref", "c"; output: the emitter, or what
// to install. LLVM lives in a library of its own that is opened on the first use, so that nothing else waits
// for it.
#include "compiler/emit/emit.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// Where the library may lie, relative to the running program: in the build folder, in that of the tests, and
// as `make install` puts it.
static const char *const places[] = {"/vlmc-llvm.so", "/../vlmc-llvm.so", "/../lib/vlmc/vlmc-llvm.so"};

static bool program_folder(char *folder, size_t size) {
  ssize_t length = readlink("/proc/self/exe", folder, size - 1);
  if (length <= 0) return false;
  folder[length] = 0;
  char *slash = strrchr(folder, '/');
  if (slash) *slash = 0;
  return slash != NULL;
}

// NULL: none of them is there; dlerror says what is wrong with the one that is.
static void *open_first(const char *folder) {
  char path[4096];
  for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
    snprintf(path, sizeof path, "%s%s", folder, places[i]);
    if (!access(path, F_OK)) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  return NULL;
}

static const Emitter *find_llvm(Failure *failure) {
  char folder[2048] = "";
  dlerror(); // of others
  void *library = program_folder(folder, sizeof folder) ? open_first(folder) : NULL;
  const Emitter *emitter = library ? dlsym(library, "emitter_llvm") : NULL;
  if (emitter) return emitter;
  const char *reason = dlerror();
  char nowhere[2200];
  snprintf(nowhere, sizeof nowhere, "it is neither beside %s/vlmc nor in ../lib/vlmc", folder);
  fail(failure,
       "target cpu needs LLVM 19, and vlmc-llvm.so can not be used: %s\n"
       "  on Debian: apt-get install llvm-19-dev, then make (libllvm19 is enough to run what was built)",
       reason    ? reason
       : library ? "it holds no emitter"
                 : nowhere);
  return NULL;
}

const Emitter *emit_find(const char *target, Failure *failure) {
  size_t length = strcspn(target, ":");
  bool cuda = length == 4 && !strncmp(target, "cuda", 4);
  if (target[length] && !cuda) {
    fail(failure, "target `%.*s` has no architectures to choose from: `%s`", (int)length, target, target);
    return NULL;
  }
  if (cuda) return &emitter_cuda;
  if (!strcmp(target, "cpu")) return find_llvm(failure);
  if (!strcmp(target, "ref")) return &emitter_ref;
  if (!strcmp(target, "c")) return &emitter_c;
  fail(failure, "there is no target `%s`: cpu, cuda, cuda:ARCHITECTURE or ref", target);
  return NULL;
}

bool emit_takes_attention(const char *target) { return !strcmp(target, "cpu"); }
