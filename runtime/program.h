// A Program: what the compiler hands to the runtime. Buffers with roles, launches in order, and code. Plain
// data; a process without the compiler could run it.
#ifndef VLMC_RUNTIME_PROGRAM_H
#define VLMC_RUNTIME_PROGRAM_H

#include "runtime/base/arena.h"
#include "runtime/base/dtype.h"
#include "runtime/base/extent.h"
#include "runtime/base/failure.h"
#include "runtime/base/packing.h"

enum { PROGRAM_MAX_RANK = 8 };

typedef enum BufferRole {
  ROLE_DATA,      // filled by the caller before each run
  ROLE_SCALAR,    // rank 0, filled by the caller before each run
  ROLE_PARAM,     // owned by the TensorStore (store.h), shared between programs by name
  ROLE_PART,      // likewise: values or scales of a packed parameter, "values:<parameter>"
  ROLE_STATE,     // likewise: optimizer moments, caches
  ROLE_RESULT,    // read by the caller after a run
  ROLE_TEMPORARY, // lives in the arena between its first and last launch
  ROLE_COUNT
} BufferRole;
extern const char *const role_names[ROLE_COUNT];

typedef struct Buffer {
  const char *name; // for PARAM and STATE: the name in checkpoints
  BufferRole role;
  DType dtype;
  int rank;
  Extent extents[PROGRAM_MAX_RANK];
  const char *labels[PROGRAM_MAX_RANK]; // axis names, for people
  bool trained;                         // PARAM
  Packing packing;                      // PARAM: no memory of its own, its parts have it; no launch reads it
  bool initial_normal;                  // PARAM: how it starts
  double initial_value, initial_spread;
  int first_launch, last_launch; // TEMPORARY: lifetime, inclusive
  bool zeroed;                   // must be zeros before first_launch (STORE_ADD)
  const char *origin;            // the model line that made it, "models/gpt.vlm:12"
} Buffer;

// How many pieces of work a launch has: the product over terms of ceil(extent / divisor). CPU: tasks that
// threads take; CUDA: blocks of the grid.
typedef struct WorkTerm {
  Extent extent;
  int64_t divisor;
} WorkTerm;
typedef struct Work {
  WorkTerm terms[8];
  int count;
} Work;
int64_t work_count(const Work *work, const int64_t symbols[SYMBOL_COUNT]);

// Code of one kernel on the CPU. Does tasks [begin, end); `scratch` is this thread's own, 64-byte aligned.
typedef void CpuEntry(void *const *buffers, const int64_t *symbols, int64_t begin, int64_t end,
                      void *scratch);

typedef struct Code {
  const char *name;
  Work work;
  CpuEntry *entry;       // CPU target
  int64_t scratch_bytes; // per thread
  double task_seconds;   // about, of one piece of work; 0: not known
  void *interpreted;     // target ref: the kernel itself, executed by `interpret`
  void (*interpret)(const void *kernel, void *const *buffers, const int64_t *symbols);
  // CUDA target: function kernel_<name> of the cubin; parameters: the buffers, then B, T, P, S as 64-bit numbers
  const void *cubin;
  size_t cubin_bytes;
  int block_threads, shared_bytes, registers, spill_bytes;
} Code;
// Is all of its work over before a second thread would have begun, by the estimate above?
bool code_is_small(const Code *code, const int64_t symbols[SYMBOL_COUNT]);

typedef struct Launch {
  int code;     // index into Program.codes: launches of equal kernels share it
  int *buffers; // indices into Program.buffers, in the kernel's order
  int buffer_count;
  const char *kernel; // name, unique in the program
  const char *lines;  // model lines it implements: "models/gpt.vlm:12, stdlib/nn.vlm:40"
  const char *anchor;
  // evaluated per run by the caller for tables: FLOPs and bytes are filled for the sizes given at compile
  // time
  double flops, bytes;
} Launch;

typedef struct Program {
  const char *name; // "train", "forward", "decode", ...
  const char *target;
  Buffer *buffers;
  int buffer_count;
  Launch *launches;
  int launch_count;
  Code *codes;
  int code_count;
  void *backend; // keeps the code alive; freed with the compiler's module
} Program;

int program_find(const Program *program, const char *name); // buffer's index, or -1
int64_t buffer_elements(const Buffer *buffer, const int64_t symbols[SYMBOL_COUNT]);
size_t buffer_bytes(const Buffer *buffer, const int64_t symbols[SYMBOL_COUNT]);

// Offsets of all temporaries in one arena for given sizes: greedy by size, first fit among those alive at the
// same time; 64-byte aligned. offsets[i] is only set for temporaries. Returns the arena's bytes.
size_t program_plan(const Program *program, const int64_t symbols[SYMBOL_COUNT], size_t *offsets);
// Replays the lifetimes: no two temporaries that are alive at once overlap, none is used outside of its life.
bool program_check_plan(const Program *program, const int64_t symbols[SYMBOL_COUNT], const size_t *offsets,
                        Failure *failure);

#endif
