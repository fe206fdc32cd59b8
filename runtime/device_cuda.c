// A GPU as a device, through CUDA's driver library, which is opened here and not linked. Everything goes
// through one stream in order; uploads return when the source may be reused, downloads when the data is
// there, launches at once.
#include "runtime/cuda_api.h"
#include "runtime/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The driver's numbers that are used below.
enum {
  CUDA_OUT_OF_MEMORY = 2,
  CUDA_NO_DEVICE = 100,
  CUDA_NO_BINARY = 209,
  CUDA_UNSUPPORTED_BINARY = 222,
  CUDA_MISMATCH = 803, // the library is newer than the kernel module
  CAPABILITY_MAJOR = 75,
  CAPABILITY_MINOR = 76,
  STREAM_NON_BLOCKING = 1,
};
enum { MAX_PARAMETERS = 64, MIN_DRIVER = 12000 };

typedef struct CudaDevice {
  Device device;
  CudaDriver driver;
  void *context, *stream;
  int ordinal, capability; // 90 for sm_90
  char name[300];
} CudaDevice;

typedef struct CudaModules { // by code of the program
  void **modules, **functions;
  int count;
} CudaModules;

static const char *error_text(const CudaDriver *driver, int error) {
  const char *text = NULL;
  return driver->cuGetErrorString(error, &text) || !text ? "unknown error" : text;
}

static bool check(const CudaDevice *cuda, int error, const char *doing, Failure *failure) {
  if (!error) return true;
  return fail(failure, "%s: %s failed: %s (CUDA error %d)", cuda->device.name, doing,
              error_text(&cuda->driver, error), error);
}

// Any thread may call; the context belongs to the calling one from here on.
static bool enter(const CudaDevice *cuda, Failure *failure) {
  return check(cuda, cuda->driver.cuCtxSetCurrent(cuda->context), "entering the context", failure);
}

// ---- memory -------------------------------------------------------------------------------------

static bool cuda_zero(Device *device, void *memory, size_t bytes, Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  if (!bytes) return true;
  return enter(cuda, failure) &&
         check(cuda, cuda->driver.cuMemsetD8Async((uintptr_t)memory, 0, bytes, cuda->stream),
               "clearing memory", failure);
}

static void cuda_release(Device *device, void *memory) {
  CudaDevice *cuda = (CudaDevice *)device;
  Failure ignored;
  if (memory && enter(cuda, &ignored)) cuda->driver.cuMemFree_v2((uintptr_t)memory);
}

static void *cuda_allocate(Device *device, size_t bytes, Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  uint64_t memory = 0;
  if (!enter(cuda, failure)) return NULL;
  int error = cuda->driver.cuMemAlloc_v2(&memory, bytes ? bytes : 1);
  if (error == CUDA_OUT_OF_MEMORY) {
    size_t left = 0, total = 0;
    cuda->driver.cuMemGetInfo_v2(&left, &total);
    fail(failure, "%s is out of memory: %zu bytes were asked for, %zu of %zu are left", device->name, bytes,
         left, total);
    return NULL;
  }
  if (!check(cuda, error, "allocating memory", failure)) return NULL;
  if (cuda_zero(device, (void *)(uintptr_t)memory, bytes, failure)) return (void *)(uintptr_t)memory;
  cuda->driver.cuMemFree_v2(memory);
  return NULL;
}

static bool cuda_wait(Device *device, Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  return enter(cuda, failure) &&
         check(cuda, cuda->driver.cuStreamSynchronize(cuda->stream), "running the kernels", failure);
}

// From ordinary (pageable) memory the driver has taken its copy when the call returns.
static bool cuda_upload(Device *device, void *to, const void *from, size_t bytes, Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  if (!bytes) return true;
  return enter(cuda, failure) &&
         check(cuda, cuda->driver.cuMemcpyHtoDAsync_v2((uintptr_t)to, from, bytes, cuda->stream),
               "copying to the GPU", failure);
}

static bool cuda_download(Device *device, void *to, const void *from, size_t bytes, Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  if (bytes && !(enter(cuda, failure) &&
                 check(cuda, cuda->driver.cuMemcpyDtoHAsync_v2(to, (uintptr_t)from, bytes, cuda->stream),
                       "copying from the GPU", failure)))
    return false;
  return cuda_wait(device, failure);
}

// ---- code ---------------------------------------------------------------------------------------

static void cuda_unload(Device *device, void *loaded) {
  CudaDevice *cuda = (CudaDevice *)device;
  CudaModules *modules = loaded;
  Failure ignored;
  if (!modules) return;
  if (cuda_wait(device, &ignored))
    for (int i = 0; i < modules->count; i++)
      if (modules->modules[i]) cuda->driver.cuModuleUnload(modules->modules[i]);
  free(modules->modules);
  free(modules->functions);
  free(modules);
}

static bool load_code(CudaDevice *cuda, const Code *code, void **module, void **function, Failure *failure) {
  char symbol[600];
  if (!code->cubin) return fail_internal(failure, "kernel `%s` has no code for the GPU", code->name);
  int error = cuda->driver.cuModuleLoadData(module, code->cubin);
  if (error == CUDA_NO_BINARY)
    return fail(failure, "the code is for another GPU than %s; compile with --target cuda:sm_%d%s",
                cuda->device.name, cuda->capability, cuda->capability == 90 ? "a" : "");
  if (error == CUDA_UNSUPPORTED_BINARY)
    return fail(failure,
                "the GPU's driver is older than the NVRTC that made the code; install a newer driver");
  if (!check(cuda, error, "loading a kernel", failure)) return false;
  snprintf(symbol, sizeof symbol, "kernel_%s", code->name);
  error = cuda->driver.cuModuleGetFunction(function, *module, symbol);
  return !error || fail_internal(failure, "the cubin of kernel `%s` has no function %s", code->name, symbol);
}

static bool cuda_load(Device *device, const Program *program, void **loaded, Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  CudaModules *modules = calloc(1, sizeof *modules);
  *loaded = NULL;
  if (modules) {
    modules->count = program->code_count;
    modules->modules = calloc((size_t)program->code_count + 1, sizeof(void *));
    modules->functions = calloc((size_t)program->code_count + 1, sizeof(void *));
  }
  if (!modules || !modules->modules || !modules->functions) die("out of memory");
  bool fine = enter(cuda, failure);
  for (int i = 0; fine && i < program->code_count; i++)
    fine = load_code(cuda, &program->codes[i], &modules->modules[i], &modules->functions[i], failure);
  if (fine)
    *loaded = modules;
  else
    cuda_unload(device, modules);
  return fine;
}

// The kernels count axes in 32 bits.
static bool check_sizes(const int64_t *symbols, Failure *failure) {
  for (int i = 1; i < SYMBOL_COUNT; i++)
    if (symbols[i] < 0 || symbols[i] > 1 << 24)
      return fail(failure, "size %s = %lld is too large for the GPU's kernels (at most 2^24)",
                  symbol_names[i], (long long)symbols[i]);
  return true;
}

static bool cuda_launch(Device *device, void *loaded, const Program *program, const Launch *launch,
                        void *const *buffers, const int64_t symbols[SYMBOL_COUNT], Failure *failure) {
  CudaDevice *cuda = (CudaDevice *)device;
  const CudaModules *modules = loaded;
  const Code *code = &program->codes[launch->code];
  int64_t values[MAX_PARAMETERS], blocks = work_count(&code->work, symbols);
  void *parameters[MAX_PARAMETERS];
  int count = launch->buffer_count + SYMBOL_COUNT - 1;
  if (count > MAX_PARAMETERS)
    return fail_internal(failure, "kernel `%s` has too many buffers", launch->kernel);
  if (!check_sizes(symbols, failure) || !enter(cuda, failure)) return false;
  if (blocks < 1) blocks = 1;                 // a sum of nothing is still written
  if (blocks > INT32_MAX) blocks = INT32_MAX; // the blocks stride over the rest
  for (int i = 0; i < launch->buffer_count; i++) values[i] = (int64_t)(uintptr_t)buffers[i];
  for (int i = 1; i < SYMBOL_COUNT; i++) values[launch->buffer_count + i - 1] = symbols[i];
  for (int i = 0; i < count; i++) parameters[i] = &values[i];
  int error =
      cuda->driver.cuLaunchKernel(modules->functions[launch->code], (unsigned)blocks, 1, 1,
                                  (unsigned)code->block_threads, 1, 1, 0, cuda->stream, parameters, NULL);
  return !error || fail(failure, "%s: kernel `%s` can not be launched: %s (CUDA error %d)", device->name,
                        launch->kernel, error_text(&cuda->driver, error), error);
}

// ---- opening and closing ------------------------------------------------------------------------

static void cuda_close(Device *device) {
  CudaDevice *cuda = (CudaDevice *)device;
  Failure ignored;
  if (cuda->stream && enter(cuda, &ignored)) {
    cuda->driver.cuStreamSynchronize(cuda->stream);
    cuda->driver.cuStreamDestroy_v2(cuda->stream);
  }
  if (cuda->context) cuda->driver.cuDevicePrimaryCtxRelease_v2(cuda->ordinal);
  cuda_driver_close(&cuda->driver);
  free(cuda);
}

static bool find_gpu(CudaDevice *cuda, Failure *failure) {
  const CudaDriver *driver = &cuda->driver;
  int count = 0, version = 0, error = driver->cuInit(0);
  if (error == CUDA_MISMATCH)
    return fail(failure,
                "the CUDA driver library and the kernel's NVIDIA module differ in version; reboot after "
                "installing a driver");
  if (!error) error = driver->cuDeviceGetCount(&count);
  if (error == CUDA_NO_DEVICE || (!error && !count))
    return fail(failure, "there is a CUDA driver but no NVIDIA GPU on this machine; use --target cpu");
  if (error) return fail(failure, "the CUDA driver does not start: %s", error_text(driver, error));
  if (driver->cuDriverGetVersion(&version) || version < MIN_DRIVER)
    return fail(failure, "the CUDA driver is for version %d.%d; 12.0 or newer is needed", version / 1000,
                version % 1000 / 10);
  error = driver->cuDeviceGet(&cuda->ordinal, 0);
  return !error || fail(failure, "the first GPU can not be used: %s", error_text(driver, error));
}

static bool open_gpu(CudaDevice *cuda, Failure *failure) {
  const CudaDriver *driver = &cuda->driver;
  int major = 0, minor = 0;
  char model[200] = "GPU";
  size_t total = 0;
  driver->cuDeviceGetName(model, sizeof model - 1, cuda->ordinal);
  driver->cuDeviceGetAttribute(&major, CAPABILITY_MAJOR, cuda->ordinal);
  driver->cuDeviceGetAttribute(&minor, CAPABILITY_MINOR, cuda->ordinal);
  cuda->capability = major * 10 + minor;
  snprintf(cuda->name, sizeof cuda->name, "%s (sm_%d)", model, cuda->capability);
  return check(cuda, driver->cuDevicePrimaryCtxRetain(&cuda->context, cuda->ordinal), "making a context",
               failure) &&
         enter(cuda, failure) &&
         check(cuda, driver->cuStreamCreate(&cuda->stream, STREAM_NON_BLOCKING), "making a stream",
               failure) &&
         check(cuda, driver->cuMemGetInfo_v2(&cuda->device.free_bytes, &total), "asking for free memory",
               failure);
}

Device *device_cuda(Failure *failure) {
  CudaDevice *cuda = calloc(1, sizeof *cuda);
  if (!cuda) die("out of memory");
  cuda->device = (Device){.name = cuda->name,
                          .host_memory = false,
                          .allocate = cuda_allocate,
                          .release = cuda_release,
                          .upload = cuda_upload,
                          .download = cuda_download,
                          .zero = cuda_zero,
                          .load = cuda_load,
                          .unload = cuda_unload,
                          .launch = cuda_launch,
                          .wait = cuda_wait,
                          .close = cuda_close};
  if (cuda_driver_open(&cuda->driver, failure)) {
    if (find_gpu(cuda, failure) && open_gpu(cuda, failure)) return &cuda->device;
    cuda_close(&cuda->device);
    return NULL;
  }
  free(cuda);
  return NULL;
}
