// The CPU as a device: ordinary memory, launches on a pool of threads. Also runs the target `ref`, whose code
// is the kernel's interpreter.
#include "runtime/device.h"
#include "runtime/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20, SLAB = 16 << 20 };

typedef struct Slab Slab;
struct Slab {
  unsigned char *memory;
  size_t used;
  int blocks; // not yet released
  Slab *next;
};

typedef struct CpuDevice {
  Device device;
  Slab *slabs; // the first is filled
  Threads *threads;
  void **scratch; // per worker
  size_t scratch_bytes;
  char name[120];
} CpuDevice;

// ---- memory -------------------------------------------------------------------------------------

// Blocks lie on huge pages where the system gives them, since each miss of the address cache delays what is streamed:
// those smaller than such a page share a slab. All is mapped, so that it is zeros without being written, and takes no
// memory before it is. In the 64 bytes before what was mapped: where the mapping begins, and how long it is.
typedef struct MapHeader {
  void *begin;
  size_t mapped;
} MapHeader;
enum { HEADER = 64 };

static void *map_block(size_t bytes) {
  size_t mapped;
  if (__builtin_add_overflow(bytes, (size_t)(HUGE_PAGE + HEADER), &mapped)) return NULL;
  char *begin = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (begin == MAP_FAILED) return NULL;
  char *block = begin + HEADER + (HUGE_PAGE - (uintptr_t)(begin + HEADER) % HUGE_PAGE) % HUGE_PAGE;
  // Whole pages only, so that a block takes what was asked for and no more.
  madvise(block, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
  *(MapHeader *)(block - HEADER) = (MapHeader){begin, mapped};
  return block;
}

static void unmap_block(void *block) {
  MapHeader header = *(MapHeader *)((char *)block - HEADER);
  munmap(header.begin, header.mapped);
}

static void *take_from_slab(CpuDevice *cpu, size_t bytes) {
  size_t need = (bytes + 63) / 64 * 64;
  Slab *slab = cpu->slabs;
  if (!slab || slab->used + need > SLAB) {
    slab = calloc(1, sizeof *slab);
    if (slab) slab->memory = map_block(SLAB);
    if (!slab || !slab->memory) {
      free(slab);
      return NULL;
    }
    slab->next = cpu->slabs;
    cpu->slabs = slab;
  }
  slab->used += need;
  slab->blocks++;
  return slab->memory + slab->used - need;
}

static void *cpu_allocate(Device *device, size_t bytes, Failure *failure) {
  void *memory =
      bytes >= HUGE_PAGE ? map_block(bytes) : take_from_slab((CpuDevice *)device, bytes ? bytes : 1);
  if (!memory) fail(failure, "out of memory: %zu bytes were asked for", bytes);
  return memory;
}

// A slab goes when its last block does; what was given back before is not given out again, so that all is zeros.
static void cpu_release(Device *device, void *memory) {
  CpuDevice *cpu = (CpuDevice *)device;
  unsigned char *block = memory;
  for (Slab **at = &cpu->slabs; *at; at = &(*at)->next) {
    Slab *slab = *at;
    if (block < slab->memory || block >= slab->memory + SLAB) continue;
    if (--slab->blocks) return;
    *at = slab->next;
    unmap_block(slab->memory);
    free(slab);
    return;
  }
  if (memory) unmap_block(memory);
}

static bool cpu_copy(Device *device, void *to, const void *from, size_t bytes, Failure *failure) {
  (void)device, (void)failure;
  if (to != from && bytes) memcpy(to, from, bytes);
  return true;
}

static bool cpu_zero(Device *device, void *memory, size_t bytes, Failure *failure) {
  (void)device, (void)failure;
  memset(memory, 0, bytes);
  return true;
}

// Every worker gets scratch memory for the most demanding kernel of the program.
static bool cpu_load(Device *device, const Program *program, void **loaded, Failure *failure) {
  CpuDevice *cpu = (CpuDevice *)device;
  size_t need = 64;
  *loaded = NULL;
  for (int i = 0; i < program->code_count; i++)
    if ((size_t)program->codes[i].scratch_bytes > need) need = (size_t)program->codes[i].scratch_bytes;
  if (need <= cpu->scratch_bytes) return true;
  for (int i = 0; i < threads_count(cpu->threads); i++) {
    cpu_release(device, cpu->scratch[i]);
    cpu->scratch[i] = cpu_allocate(device, need, failure);
    if (!cpu->scratch[i]) return false;
  }
  cpu->scratch_bytes = need;
  return true;
}

static void cpu_unload(Device *device, void *loaded) { (void)device, (void)loaded; }

typedef struct CpuTask {
  CpuDevice *cpu;
  const Code *code;
  void *const *buffers;
  const int64_t *symbols;
} CpuTask;

static void run_tasks(void *context, int worker, int64_t begin, int64_t end) {
  const CpuTask *task = context;
  task->code->entry(task->buffers, task->symbols, begin, end, task->cpu->scratch[worker]);
}

static bool cpu_launch(Device *device, void *loaded, const Program *program, const Launch *launch,
                       void *const *buffers, const int64_t symbols[SYMBOL_COUNT], Failure *failure) {
  (void)loaded;
  CpuDevice *cpu = (CpuDevice *)device;
  const Code *code = &program->codes[launch->code];
  if (code->interpret) {
    code->interpret(code->interpreted, buffers, symbols);
    return true;
  }
  if (!code->entry) return fail_internal(failure, "kernel `%s` has no code for the CPU", launch->kernel);
  CpuTask task = {cpu, code, buffers, symbols};
  int64_t tasks = work_count(&code->work, symbols);
  if (code_is_small(code, symbols))
    run_tasks(&task, 0, 0, tasks);
  else
    threads_run(cpu->threads, tasks, run_tasks, &task);
  return true;
}

static bool cpu_wait(Device *device, Failure *failure) {
  (void)device, (void)failure;
  return true;
}

static void cpu_close(Device *device) {
  CpuDevice *cpu = (CpuDevice *)device;
  for (int i = 0; i < device->threads; i++) cpu_release(device, cpu->scratch[i]);
  free(cpu->scratch);
  threads_close(cpu->threads);
  free(cpu);
}

static void read_processor_name(char *name, size_t size, int threads) {
  char line[256], model[80] = "this CPU";
  FILE *file = fopen("/proc/cpuinfo", "r");
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "model name : %79[^\n]", model) == 1) break;
  if (file) fclose(file);
  snprintf(name, size, "%d thread%s of %s", threads, threads == 1 ? "" : "s", model);
}

Device *device_cpu(int threads, Failure *failure) {
  if (threads == 0) threads = threads_available();
  if (threads < 1 || threads > 1024) {
    fail(failure, "the number of threads must be from 1 to 1024, found %d", threads);
    return NULL;
  }
  CpuDevice *cpu = calloc(1, sizeof *cpu);
  void **scratch = calloc((size_t)threads, sizeof *scratch);
  Threads *pool = threads_open(threads);
  if (!cpu || !scratch || !pool) {
    fail(failure, "%d threads can not be started", threads);
    free(cpu), free(scratch), threads_close(pool);
    return NULL;
  }
  *cpu = (CpuDevice){.threads = pool, .scratch = scratch};
  read_processor_name(cpu->name, sizeof cpu->name, threads);
  cpu->device = (Device){.name = cpu->name,
                         .host_memory = true,
                         .free_bytes = (size_t)sysconf(_SC_AVPHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE),
                         .threads = threads,
                         .allocate = cpu_allocate,
                         .release = cpu_release,
                         .upload = cpu_copy,
                         .download = cpu_copy,
                         .zero = cpu_zero,
                         .load = cpu_load,
                         .unload = cpu_unload,
                         .launch = cpu_launch,
                         .wait = cpu_wait,
                         .close = cpu_close};
  return &cpu->device;
}
