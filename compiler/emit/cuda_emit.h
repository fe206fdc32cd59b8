// Internal header of the CUDA backend: kernels to CUDA C text, text to cubin.
//
//   kernel -> cuda_source.c   comment, parameters, helpers, and which anchor's file writes the body:
//          -> cuda_map.c      a thread per element, or per four of them with 16-byte accesses
//          -> cuda_team.c     reductions that threads do together: a warp, a block, a column of a block
//          -> cuda_row.c      a team per row
//          -> cuda_column.c   a team per column, 32 columns side by side
//          -> cuda_dot.c      tiles through shared memory, 8x8 results in each thread's registers
//          -> cuda_scatter.c  a block per destination row
//          -> cuda_nvrtc.c    text to cubin; registers and spills
//          -> cuda.c          the Emitter: threads that compile
//
// The text has no includes. Launches are one-dimensional; every body strides over its work by gridDim.x, so
// that any grid computes the whole: Code.work only says how many blocks are worth having.
#ifndef VLMC_COMPILER_EMIT_CUDA_EMIT_H
#define VLMC_COMPILER_EMIT_CUDA_EMIT_H

#include "compiler/emit/csource.h"
#include "runtime/cuda_api.h"

// Threads that do one reduction together; cuda_team.c
typedef struct Team {
  const char *rank, *size; // of this thread in its team, and threads of a team: C text
  const char *name; // "warp": warp_sum and warp_max give every thread of the team the total of their values
  bool online;      // there is NAME_online, for a maximum with the sum of exponentials above it
  uint32_t axes;    // whose values all threads of a team share
  bool active;      // the text stands where all threads of the team come by
} Team;

typedef struct CudaKernel {
  CSource c;
  Work work;
  int threads;          // of a block
  const char *schedule; // one line of words for the comment
  const int64_t
      *likely; // run-time sizes that the schedule is chosen for; NULL: not known. Any sizes compute right
  Team team;
} CudaKernel;

// ---- cuda_source.c ------------------------------------------------------------------------------
typedef struct CudaShape {
  Work work;
  int threads;
} CudaShape;
// The function alone, and the helpers that such texts call: tests put many kernels into one file.
void cuda_function(Kernel *kernel, const EmitOptions *options, Text *out, CudaShape *shape);
void cuda_helpers(const char *functions, Text *out);
void cuda_source(Kernel *kernel, const EmitOptions *options, Text *out, CudaShape *shape); // both

// Steps of a product of axes at the likely sizes; -1: not known.
int64_t cuda_steps(const CudaKernel *k, uint32_t axes);
// Blocks for the product of these axes, `each` steps of it to a block.
void cuda_work(Work *work, const Kernel *kernel, uint32_t axes, int64_t each);

// ---- anchors ------------------------------------------------------------------------------------
void cuda_map(CudaKernel *k);
void cuda_row(CudaKernel *k);
bool cuda_column(CudaKernel *k); // false: not of the form that it serves
bool cuda_dot(CudaKernel *k);    // likewise
void cuda_scatter(CudaKernel *k);

// ---- cuda_team.c: lets csource write reductions by the team -------------------------------------
void cuda_team_begin(CudaKernel *k, Team team);

// ---- cuda_nvrtc.c: false with `failure`: an architecture that NVRTC does not know, or text that it refuses
// (internal, with the numbered text and the log).
typedef struct CudaObject {
  char *bytes; // malloc; cubin, or ptx text
  size_t count;
  int registers, spill_bytes, shared_bytes;
} CudaObject;
bool cuda_compile_text(const CudaCompiler *compiler, const char *source, const char *name,
                       const char *architecture, bool ptx, CudaObject *object, Failure *failure);

#endif
