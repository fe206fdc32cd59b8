// Kernels on a GPU, where this machine has one, beside the interpreter: what the simulator runs on the CPU, for tests.
#ifndef VLMC_TESTS_CUDA_DEVICE_H
#define VLMC_TESTS_CUDA_DEVICE_H

#include "compiler/emit/cuda_emit.h"
#include "runtime/device.h"
#include "tests/check.h"
#include "tests/sample_kernels.h"

typedef struct Gpu {
  Device *device;
  char architecture[16];
} Gpu;

// False: there is none, and `what` counts as skipped, for the reason that the driver gives.
static inline bool gpu_open(Gpu *gpu, const char *what) {
  Failure failure = {0};
  gpu->device = device_cuda(&failure);
  if (!gpu->device) {
    CHECK(failure.message[0] && !failure.internal, "no GPU, and no reason for it");
    SKIP("%s on a GPU: %s", what, failure.message);
    return false;
  }
  const char *capability = strstr(gpu->device->name, "(sm_");
  snprintf(gpu->architecture, sizeof gpu->architecture, "sm_%d", capability ? atoi(capability + 4) : 0);
  return true;
}

static inline void gpu_close(Gpu *gpu) { gpu->device->close(gpu->device); }

// One kernel: upload all buffers, launch, download all.
static inline bool gpu_run(Device *device, const Kernel *kernel, Code *code, SampleData *data,
                           const int64_t *symbols, Failure *failure) {
  void *memory[KERNEL_MAX_BUFFERS] = {0}, *loaded = NULL;
  Launch launch = {.code = 0, .buffer_count = kernel->buffer_count, .kernel = kernel->name};
  Program program = {.codes = code, .code_count = 1, .launches = &launch, .launch_count = 1};
  bool fine = device->load(device, &program, &loaded, failure);
  for (int i = 0; fine && i < kernel->buffer_count; i++) {
    memory[i] = device->allocate(device, data->bytes[i], failure);
    fine = memory[i] && device->upload(device, memory[i], data->buffers[i], data->bytes[i], failure);
  }
  fine = fine && device->launch(device, loaded, &program, &launch, memory, symbols, failure);
  for (int i = 0; i < kernel->buffer_count; i++) {
    fine = fine && device->download(device, data->buffers[i], memory[i], data->bytes[i], failure);
    device->release(device, memory[i]);
  }
  device->unload(device, loaded);
  return fine;
}

// `likely`: sizes that the schedule is chosen for, or NULL; `sizes`: those that it runs at.
static inline void gpu_check(const Gpu *gpu, Kernel *kernel, const int64_t *likely,
                             const int64_t (*sizes)[SYMBOL_COUNT], int count, double slack) {
  Code code = {0};
  Failure failure = {0};
  void *handle = NULL;
  EmitOptions options = {.architecture = gpu->architecture, .threads = 1, .symbols = likely};
  bool compiled = emitter_cuda.compile(&kernel, 1, &options, &code, &handle, &failure);
  CHECK(compiled, "%s", failure.message);
  for (int s = 0; compiled && s < count; s++) {
    SampleData expected = sample_data(kernel, sizes[s], 9), got = sample_data(kernel, sizes[s], 9);
    kernel_interpret(kernel, expected.buffers, sizes[s]);
    CHECK(gpu_run(gpu->device, kernel, &code, &got, sizes[s], &failure), "%s", failure.message);
    double error = sample_error(kernel, &expected, &got);
    CHECK(error <= slack * sample_tolerance(kernel), "%s on the GPU at B=%d T=%d P=%d: error %g",
          kernel->name, (int)sizes[s][1], (int)sizes[s][2], (int)sizes[s][3], error);
    sample_data_free(&expected);
    sample_data_free(&got);
  }
  if (compiled) emitter_cuda.release(handle);
}

#endif
