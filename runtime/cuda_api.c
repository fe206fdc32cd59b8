// Opening CUDA's libraries. Input: the names under which they are found; output: tables of entry points, or a
// Failure that says what to install.
#include "runtime/cuda_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef struct Entry {
  const char *name;
  size_t offset; // of its pointer in the table
} Entry;

#define IN_driver(name) {#name, offsetof(CudaDriver, name)},
#define IN_nvrtc(name)
static const Entry driver_entries[] = {
#define CUDA_ENTRY(library, name, result, parameters) IN_##library(name)
#include "runtime/cuda_api.def"
#undef CUDA_ENTRY
};
#undef IN_driver
#undef IN_nvrtc
#define IN_driver(name)
#define IN_nvrtc(name) {#name, offsetof(CudaCompiler, name)},
static const Entry compiler_entries[] = {
#define CUDA_ENTRY(library, name, result, parameters) IN_##library(name)
#include "runtime/cuda_api.def"
#undef CUDA_ENTRY
};

static bool find_entries(void *library, const Entry *entries, size_t count, void *table, const char *what,
                         Failure *failure) {
  for (size_t i = 0; i < count; i++) {
    void *symbol = dlsym(library, entries[i].name);
    if (!symbol) return fail(failure, "%s is too old: it has no %s", what, entries[i].name);
    memcpy((char *)table + entries[i].offset, &symbol, sizeof symbol);
  }
  return true;
}

bool cuda_driver_open(CudaDriver *driver, Failure *failure) {
  *driver = (CudaDriver){.library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)};
  if (!driver->library)
    return fail(failure,
                "no CUDA driver on this machine (libcuda.so.1): install NVIDIA's driver "
                "(Debian: apt-get install nvidia-driver libcuda1, section non-free), or use --target cpu");
  if (find_entries(driver->library, driver_entries, sizeof driver_entries / sizeof *driver_entries, driver,
                   "the CUDA driver", failure))
    return true;
  cuda_driver_close(driver);
  return false;
}

void cuda_driver_close(CudaDriver *driver) {
  if (driver->library) dlclose(driver->library);
  driver->library = NULL;
}

// Debian's libraries are on the search path; NVIDIA's own packages put them beside the toolkit.
static void *open_compiler(void) {
  static const char *const names[] = {"libnvrtc.so",
                                      "libnvrtc.so.13",
                                      "libnvrtc.so.12",
                                      "/usr/local/cuda/lib64/libnvrtc.so",
                                      "/usr/local/cuda/lib64/libnvrtc.so.13",
                                      "/usr/local/cuda/lib64/libnvrtc.so.12",
                                      "/usr/local/cuda/targets/x86_64-linux/lib/libnvrtc.so"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (library) return library;
  }
  return NULL;
}

bool cuda_compiler_open(CudaCompiler *compiler, Failure *failure) {
  *compiler = (CudaCompiler){.library = open_compiler()};
  if (!compiler->library)
    return fail(failure,
                "target cuda needs NVRTC, CUDA's run-time compiler (libnvrtc.so), version 12 or newer; it "
                "needs no GPU\n  on Debian 13: apt-get install libnvrtc12 (section non-free); on Debian 12: "
                "cuda-nvrtc-12-4 from NVIDIA's repository");
  if (find_entries(compiler->library, compiler_entries, sizeof compiler_entries / sizeof *compiler_entries,
                   compiler, "NVRTC", failure))
    return true;
  cuda_compiler_close(compiler);
  return false;
}

void cuda_compiler_close(CudaCompiler *compiler) {
  if (compiler->library) dlclose(compiler->library);
  compiler->library = NULL;
}
