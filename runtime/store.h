// The store: parameters and states by name, on one device, shared by all programs that use them. And a
// Session: a program bound to a store, ready to run. A packed parameter (base/packing.h) is there by its
// name, without memory; its parts are tensors of their own, which are written through it.
#ifndef VLMC_RUNTIME_STORE_H
#define VLMC_RUNTIME_STORE_H

#include "runtime/device.h"

typedef struct StoreTensor {
  const char *name;
  BufferRole role; // ROLE_PARAM, ROLE_PART or ROLE_STATE
  DType dtype;
  int rank;
  int64_t extents[PROGRAM_MAX_RANK]; // of the allocation; grows with the symbols (batch) it depends on
  void *memory;                      // on the device
  size_t bytes;
  Packing packing;                            // of a parameter; NONE: it has memory
  struct StoreTensor *packed_values, *scales; // its parts; `scales` NULL: the format has none
  bool initial_normal;                        // of a parameter: how it starts
  double initial_value, initial_spread;
  bool started; // has a value: from a file, or its initial one
  bool trained; // by any program seen so far
  bool loaded;  // its value came from a file
} StoreTensor;

typedef struct TensorStore {
  Arena *arena;
  Device *device;
  uint64_t seed; // of initial values: each parameter's depend on the seed and its name alone
  StoreTensor **list;
  size_t count, capacity;
} TensorStore;

TensorStore *store_open(Device *device, uint64_t seed);
void store_close(TensorStore *store);
StoreTensor *store_find(const TensorStore *store, const char *name); // NULL: none
int64_t store_elements(const StoreTensor *tensor);
// Sets a tensor of floats, all elements of it, in whatever form it is held. Fails where it is packed and its
// blocks can not hold what is no finite number.
bool store_write(TensorStore *store, StoreTensor *tensor, const float *values, Failure *failure);

// Gives every parameter that has no value yet its initial one. A session does so before it runs: what a checkpoint
// brings is so never computed. Whoever looks at tensors that no session ran on calls it first.
bool store_start(TensorStore *store, Failure *failure);

typedef struct Session Session;
// Binds: parameters and states that the store does not hold yet are added to it. Fails where a name is there with another shape, or where the device has too little memory.
Session *session_open(const Program *program, TensorStore *store, Failure *failure);
void session_close(Session *session);
// Sets the run-time sizes, plans and allocates the arena for them. Data and results keep no values over it.
bool session_resize(Session *session, int64_t batch, int64_t time, int64_t past, Failure *failure);
// Data and scalars by the buffer's name; `bytes` must be the buffer's for the current sizes. A name that the
// program does not have is ignored where `optional`, else it is an internal failure.
bool session_set(Session *session, const char *name, const void *from, size_t bytes, Failure *failure);
bool session_set_scalar(Session *session, const char *name, double value,
                        Failure *failure); // absent: ignored
bool session_run(Session *session, Failure *failure);
bool session_get(Session *session, const char *name, void *to, size_t bytes, Failure *failure);
size_t session_result_bytes(const Session *session, const char *name); // 0: no such result
const Program *session_program(const Session *session);

// What the runs since `session_profile(session, true)` took.
typedef struct ProfiledSizes {
  int64_t symbols[SYMBOL_COUNT];
  int64_t runs;
} ProfiledSizes;
typedef struct SessionProfile {
  int64_t runs;
  double whole;         // seconds of all runs, from their beginnings to their ends
  double *seconds;      // per launch, of all runs; a buffer that must be zeros before belongs to it
  ProfiledSizes *sizes; // that they ran with
  size_t size_count, size_capacity;
} SessionProfile;
void session_profile(Session *session, bool on);
const SessionProfile *session_profiled(const Session *session); // NULL: off

#endif
