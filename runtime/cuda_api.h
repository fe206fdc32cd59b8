// CUDA's driver and its run-time compiler, opened when first asked for. A machine without them is a normal
// machine: opening says what is missing and which package has it. No header of CUDA is needed.
#ifndef VLMC_RUNTIME_CUDA_API_H
#define VLMC_RUNTIME_CUDA_API_H

#include "runtime/base/failure.h"

#include <stddef.h>
#include <stdint.h>

#define IN_driver(name, result, parameters) result(*name) parameters;
#define IN_nvrtc(name, result, parameters)

typedef struct CudaDriver {
  void *library;
#define CUDA_ENTRY(library, name, result, parameters) IN_##library(name, result, parameters)
#include "runtime/cuda_api.def"
#undef CUDA_ENTRY
} CudaDriver;

#undef IN_driver
#undef IN_nvrtc
#define IN_driver(name, result, parameters)
#define IN_nvrtc(name, result, parameters) result(*name) parameters;

typedef struct CudaCompiler {
  void *library;
#define CUDA_ENTRY(library, name, result, parameters) IN_##library(name, result, parameters)
#include "runtime/cuda_api.def"
#undef CUDA_ENTRY
} CudaCompiler;

#undef IN_driver
#undef IN_nvrtc

bool cuda_driver_open(CudaDriver *driver, Failure *failure);
bool cuda_compiler_open(CudaCompiler *compiler, Failure *failure);
void cuda_driver_close(CudaDriver *driver); // the library only, nothing made with it
void cuda_compiler_close(CudaCompiler *compiler);

#endif
