// The machine as a side of a comparison (side.h): a step is the work that a model's step needs at least, done by
// loops that do nothing else. Input: `compute GFLOP THREADS` or `read MB THREADS`, THREADS 0 for all cores.
#include "runtime/device.h"
#include "runtime/machine.h"
#include "tests/bench/side.h"

#include <string.h>

typedef struct Load {
  Threads *threads;
  double gflop;
  void *memory;
  size_t bytes;
} Load;

static bool step(void *context) {
  Load *load = context;
  if (load->memory) return machine_read(load->threads, load->memory, load->bytes) > 0;
  return machine_compute(load->threads, load->gflop, false) > 0;
}

int main(int count, char **words) {
  double amount = count == 4 ? atof(words[2]) : 0;
  bool reads = count == 4 && !strcmp(words[1], "read");
  if (amount <= 0 || (!reads && strcmp(words[1], "compute")))
    return fprintf(stderr, "usage: machine compute GFLOP THREADS | read MB THREADS\n"), 1;
  int threads = atoi(words[3]);
  Load load = {.threads = threads_open(threads > 0 ? threads : threads_available()), .gflop = amount};
  if (!load.threads) return side_absent("threads can not be had");
  if (!reads && machine_compute(load.threads, 1e-6, false) == 0)
    return side_absent("the peak of this kind of processor is not known");
  Failure failure = {0};
  Device *device = device_cpu(1, &failure);
  if (reads) {
    load.bytes = (size_t)(amount * 1e6);
    load.memory = device ? device->allocate(device, load.bytes, &failure) : NULL;
    if (!load.memory) return side_absent(failure.message);
    memset(load.memory, 1, load.bytes); // pages that nobody wrote are all the same one, in the cache
  }
  int status = side_serve(NULL, step, &load);
  if (load.memory) device->release(device, load.memory);
  if (device) device->close(device);
  threads_close(load.threads);
  return status;
}
