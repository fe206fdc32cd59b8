// A device: memory and launches. Twins: device_cpu.c (threads of this machine), device_cuda.c (the driver API,
// opened at run time). Launches of one device run in order; the CPU's are done on return, a GPU's by `wait`.
#ifndef VLMC_RUNTIME_DEVICE_H
#define VLMC_RUNTIME_DEVICE_H

#include "runtime/program.h"

typedef struct Device Device;
struct Device {
  const char *name;   // "2 threads of AMD EPYC", "NVIDIA H200"
  bool host_memory;   // its memory is ordinary memory: upload and download are plain copies
  size_t free_bytes;  // what it can give at the time of opening; 0: not known
  int threads;        // CPU
  // Zeroed memory, 64-byte aligned (GPU: 256). NULL: out of memory, `failure` says how much was asked for and had.
  void *(*allocate)(Device *device, size_t bytes, Failure *failure);
  void (*release)(Device *device, void *memory); // accepts NULL
  bool (*upload)(Device *device, void *to, const void *from, size_t bytes, Failure *failure);
  bool (*download)(Device *device, void *to, const void *from, size_t bytes, Failure *failure); // waits
  bool (*zero)(Device *device, void *memory, size_t bytes, Failure *failure);
  // Makes a program's code ready (GPU: loads its cubins into `*loaded`); the CPU's code needs nothing.
  bool (*load)(Device *device, const Program *program, void **loaded, Failure *failure);
  void (*unload)(Device *device, void *loaded);
  // One launch with its buffers in the kernel's order.
  bool (*launch)(Device *device, void *loaded, const Program *program, const Launch *launch, void *const *buffers,
                 const int64_t symbols[SYMBOL_COUNT], Failure *failure);
  bool (*wait)(Device *device, Failure *failure);
  void (*close)(Device *device);
};

Device *device_cpu(int threads, Failure *failure); // 0: one per core that this process may use
Device *device_cuda(Failure *failure);             // NULL: no driver, no GPU, too old a driver: what to do about it

#endif
