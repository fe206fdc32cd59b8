// A program bound to a store: memory for its data, results and temporaries, and one run after the other.
#include "runtime/store_internal.h"

#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

struct Session {
  Arena *arena;
  const Program *program;
  TensorStore *store;
  void *loaded; // the device's
  int64_t symbols[SYMBOL_COUNT];
  bool sized;
  StoreTensor **bound; // per buffer: PARAM, PART, STATE
  void **memory;       // per buffer
  size_t *room;        // per buffer: bytes allocated (DATA, SCALAR, RESULT)
  size_t *offsets;     // per buffer: TEMPORARY
  char *temporaries;   // the arena on the device
  size_t temporary_room, temporary_bytes;
  void ***arguments; // per launch
  Arena *profiling;  // NULL: no profile
  SessionProfile profile;
};

static bool is_own(const Buffer *buffer) {
  return buffer->role == ROLE_DATA || buffer->role == ROLE_SCALAR || buffer->role == ROLE_RESULT;
}

static bool resize_own(Session *session, int i, Failure *failure) {
  Device *device = session->store->device;
  size_t bytes = buffer_bytes(&session->program->buffers[i], session->symbols);
  if (session->memory[i] && bytes <= session->room[i]) return true;
  device->release(device, session->memory[i]);
  session->memory[i] = device->allocate(device, bytes, failure);
  session->room[i] = session->memory[i] ? bytes : 0;
  return session->memory[i] != NULL;
}

// Scalars, which have no run-time size, can be set from the start.
static bool bind_buffers(Session *session, Failure *failure) {
  const Program *program = session->program;
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role == ROLE_SCALAR && !resize_own(session, i, failure)) return false;
    if (buffer->role != ROLE_PARAM && buffer->role != ROLE_PART && buffer->role != ROLE_STATE) continue;
    session->bound[i] = store_bind(session->store, buffer, failure);
    if (!session->bound[i]) return false;
  }
  for (int i = 0; i < program->buffer_count; i++)
    if (session->bound[i]) store_join(session->store, session->bound[i]);
  return true;
}

Session *session_open(const Program *program, TensorStore *store, Failure *failure) {
  Arena *arena = arena_new();
  Session *session = ARENA_NEW(arena, Session);
  int count = program->buffer_count;
  *session = (Session){.arena = arena, .program = program, .store = store};
  session->bound = ARENA_ARRAY(arena, StoreTensor *, count);
  session->memory = ARENA_ARRAY(arena, void *, count);
  session->room = ARENA_ARRAY(arena, size_t, count);
  session->offsets = ARENA_ARRAY(arena, size_t, count);
  session->arguments = ARENA_ARRAY(arena, void **, program->launch_count);
  for (int i = 0; i < program->launch_count; i++)
    session->arguments[i] = ARENA_ARRAY(arena, void *, program->launches[i].buffer_count);
  if (bind_buffers(session, failure) &&
      store->device->load(store->device, program, &session->loaded, failure))
    return session;
  session_close(session);
  return NULL;
}

void session_close(Session *session) {
  if (!session) return;
  Device *device = session->store->device;
  for (int i = 0; i < session->program->buffer_count; i++)
    if (is_own(&session->program->buffers[i])) device->release(device, session->memory[i]);
  device->release(device, session->temporaries);
  device->unload(device, session->loaded);
  arena_free(session->profiling);
  arena_free(session->arena);
}

// ---- sizes --------------------------------------------------------------------------------------

static bool resize_temporaries(Session *session, Failure *failure) {
  Device *device = session->store->device;
  session->temporary_bytes = program_plan(session->program, session->symbols, session->offsets);
  if (session->temporary_bytes <= session->temporary_room) return true;
  device->release(device, session->temporaries);
  session->temporaries = device->allocate(device, session->temporary_bytes, failure);
  session->temporary_room = session->temporaries ? session->temporary_bytes : 0;
  return session->temporaries != NULL;
}

static void bind_arguments(Session *session) {
  const Program *program = session->program;
  for (int i = 0; i < program->buffer_count; i++) {
    if (session->bound[i]) session->memory[i] = session->bound[i]->memory;
    if (program->buffers[i].role == ROLE_TEMPORARY)
      session->memory[i] = session->temporaries + session->offsets[i];
  }
  for (int i = 0; i < program->launch_count; i++)
    for (int j = 0; j < program->launches[i].buffer_count; j++)
      session->arguments[i][j] = session->memory[program->launches[i].buffers[j]];
}

bool session_resize(Session *session, int64_t batch, int64_t time, int64_t past, Failure *failure) {
  const Program *program = session->program;
  int64_t symbols[SYMBOL_COUNT] = {0, batch, time, past, past + time};
  // A state may have moved since (another session let it grow), so its address is asked for again each time.
  bool same = session->sized && !memcmp(symbols, session->symbols, sizeof symbols);
  memcpy(session->symbols, symbols, sizeof symbols);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (session->bound[i] && !store_resize(session->store, session->bound[i], buffer, symbols, failure))
      return false;
    if (!same && is_own(buffer) && !resize_own(session, i, failure)) return false;
  }
  session->sized = same || resize_temporaries(session, failure);
  if (session->sized) bind_arguments(session);
  return session->sized;
}

// ---- running ------------------------------------------------------------------------------------

static bool find_own(const Session *session, const char *name, BufferRole role, int *found) {
  for (int i = 0; i < session->program->buffer_count; i++) {
    const Buffer *buffer = &session->program->buffers[i];
    if (buffer->role != role || strcmp(buffer->name, name)) continue;
    *found = i;
    return true;
  }
  return false;
}

bool session_set(Session *session, const char *name, const void *from, size_t bytes, Failure *failure) {
  Device *device = session->store->device;
  int i;
  if (!find_own(session, name, ROLE_DATA, &i))
    return fail_internal(failure, "program `%s` takes no `%s`", session->program->name, name);
  size_t expected = buffer_bytes(&session->program->buffers[i], session->symbols);
  if (bytes != expected)
    return fail_internal(failure, "`%s` takes %zu bytes, found %zu", name, expected, bytes);
  return device->upload(device, session->memory[i], from, bytes, failure);
}

bool session_set_scalar(Session *session, const char *name, double value, Failure *failure) {
  Device *device = session->store->device;
  char bytes[8];
  int i;
  if (!find_own(session, name, ROLE_SCALAR, &i)) return true;
  const Buffer *buffer = &session->program->buffers[i];
  dtype_store(buffer->dtype, bytes, 0, value);
  return device->upload(device, session->memory[i], bytes, dtype_bytes(buffer->dtype), failure);
}

static bool zero_before(Session *session, int launch, Failure *failure) {
  Device *device = session->store->device;
  const Launch *row = &session->program->launches[launch];
  for (int j = 0; j < row->buffer_count; j++) {
    const Buffer *buffer = &session->program->buffers[row->buffers[j]];
    if (!buffer->zeroed || buffer->first_launch != launch) continue;
    if (!device->zero(device, session->arguments[launch][j], buffer_bytes(buffer, session->symbols), failure))
      return false;
  }
  return true;
}

static bool run_launch(Session *session, int i, Failure *failure) {
  Device *device = session->store->device;
  const Program *program = session->program;
  double start = session->profiling ? clock_now() : 0;
  if (!zero_before(session, i, failure) ||
      !device->launch(device, session->loaded, program, &program->launches[i], session->arguments[i],
                      session->symbols, failure))
    return false;
  if (!session->profiling) return true;
  if (!device->wait(device, failure)) return false;
  session->profile.seconds[i] += clock_now() - start;
  return true;
}

static void count_run(Session *session, double seconds) {
  SessionProfile *profile = &session->profile;
  size_t i = profile->size_count;
  while (i-- > 0 && memcmp(profile->sizes[i].symbols, session->symbols, sizeof session->symbols)) {
  }
  if (i >= profile->size_count) {
    ProfiledSizes sizes = {.runs = 0};
    memcpy(sizes.symbols, session->symbols, sizeof sizes.symbols);
    i = profile->size_count;
    ARENA_PUSH(session->profiling, profile->sizes, profile->size_count, profile->size_capacity, sizes);
  }
  profile->sizes[i].runs++;
  profile->runs++;
  profile->whole += seconds;
}

bool session_run(Session *session, Failure *failure) {
  if (!store_start(session->store, failure)) return false;
  double start = session->profiling ? clock_now() : 0;
  for (int i = 0; i < session->program->launch_count; i++)
    if (!run_launch(session, i, failure)) return false;
  if (session->profiling) count_run(session, clock_now() - start);
  return true;
}

bool session_get(Session *session, const char *name, void *to, size_t bytes, Failure *failure) {
  Device *device = session->store->device;
  int i;
  if (!find_own(session, name, ROLE_RESULT, &i))
    return fail_internal(failure, "program `%s` has no result `%s`", session->program->name, name);
  size_t expected = buffer_bytes(&session->program->buffers[i], session->symbols);
  if (bytes != expected)
    return fail_internal(failure, "`%s` has %zu bytes, %zu were asked for", name, expected, bytes);
  return device->download(device, to, session->memory[i], bytes, failure);
}

size_t session_result_bytes(const Session *session, const char *name) {
  int i;
  if (!find_own(session, name, ROLE_RESULT, &i)) return 0;
  return buffer_bytes(&session->program->buffers[i], session->symbols);
}

const Program *session_program(const Session *session) { return session->program; }

void session_profile(Session *session, bool on) {
  arena_free(session->profiling);
  session->profiling = on ? arena_new() : NULL;
  session->profile = (SessionProfile){0};
  if (on) session->profile.seconds = ARENA_ARRAY(session->profiling, double, session->program->launch_count);
}

const SessionProfile *session_profiled(const Session *session) {
  return session->profiling ? &session->profile : NULL;
}
