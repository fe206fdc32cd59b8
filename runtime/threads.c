// The thread pool: one launch at a time, cut into chunks that threads take as they come free. A launch is over when its
// chunks are done, not when all workers have answered: one that the system lets wait holds nobody up.
#include "runtime/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
  SPINS =
      1000, // a launch follows the last one within microseconds: look that often before giving others the core,
  YIELDS = 100, // and that often before sleeping
  CHUNKS_PER_THREAD =
      8, // small enough that threads finish together, large enough that taking one costs nothing
};
#define CLOSED UINT32_MAX // in the place of a chunk's number: there is none to take

typedef struct Worker {
  Threads *threads;
  pthread_t thread;
  int index;
} Worker;

struct Threads {
  int count; // workers, the caller included
  Worker *workers;
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  atomic_int sleepers;
  atomic_bool closing;
  // The launch's number in the upper half, the next chunk to take in the lower: who takes a chunk by exchanging both
  // at once knows that the launch which he has read is still the one that he works for.
  atomic_uint_fast64_t next;
  atomic_int_fast64_t done; // chunks
  // the launch; written while `next` is CLOSED
  _Atomic(TaskFunction *) function;
  _Atomic(void *) context;
  atomic_int_fast64_t tasks, chunk;
};

static void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Spinning for an event that is near; under load whoever brings it may need this core.
static void wait_a_little(int *waited) {
  if (*waited < SPINS)
    pause_cpu();
  else
    sched_yield();
  ++*waited;
}

static uint32_t launch_number(Threads *threads) { return (uint32_t)(atomic_load(&threads->next) >> 32); }

// Does one chunk. False: there is none to take; `seen` is then the launch that has none.
static bool take_chunk(Threads *threads, int worker, uint32_t *seen) {
  for (;;) {
    uint_fast64_t next = atomic_load_explicit(&threads->next, memory_order_acquire);
    int64_t tasks = atomic_load_explicit(&threads->tasks, memory_order_relaxed),
            chunk = atomic_load_explicit(&threads->chunk, memory_order_relaxed);
    TaskFunction *function = atomic_load_explicit(&threads->function, memory_order_relaxed);
    void *context = atomic_load_explicit(&threads->context, memory_order_relaxed);
    atomic_thread_fence(
        memory_order_acquire); // had any of these been of a later launch, `next` is no longer the same
    uint32_t index = (uint32_t)next;
    *seen = (uint32_t)(next >> 32);
    if (index == CLOSED) return false;
    int64_t begin = (int64_t)index * chunk, end = begin + chunk < tasks ? begin + chunk : tasks;
    if (begin >= tasks) return false;
    if (!atomic_compare_exchange_weak(&threads->next, &next, next + 1)) continue;
    function(context, worker, begin, end);
    atomic_fetch_add_explicit(&threads->done, 1, memory_order_release);
    return true;
  }
}

static void wait_for_launch(Threads *threads, uint32_t seen) {
  for (int waited = 0; waited < SPINS + YIELDS;) {
    if (launch_number(threads) != seen) return;
    wait_a_little(&waited);
  }
  pthread_mutex_lock(&threads->mutex);
  atomic_fetch_add(&threads->sleepers, 1); // before the last look: start_launch looks the other way round
  while (launch_number(threads) == seen) pthread_cond_wait(&threads->wake, &threads->mutex);
  atomic_fetch_sub(&threads->sleepers, 1);
  pthread_mutex_unlock(&threads->mutex);
}

static void *worker_main(void *argument) {
  Worker *worker = argument;
  Threads *threads = worker->threads;
  for (uint32_t seen = 0; !atomic_load(&threads->closing);)
    if (!take_chunk(threads, worker->index, &seen)) wait_for_launch(threads, seen);
  return NULL;
}

static void start_launch(Threads *threads, int64_t tasks, int64_t chunk, TaskFunction *function,
                         void *context) {
  uint_fast64_t number = launch_number(threads);
  atomic_store(&threads->next, number << 32 | CLOSED);
  atomic_thread_fence(memory_order_release);
  atomic_store_explicit(&threads->tasks, tasks, memory_order_relaxed);
  atomic_store_explicit(&threads->chunk, chunk, memory_order_relaxed);
  atomic_store_explicit(&threads->function, function, memory_order_relaxed);
  atomic_store_explicit(&threads->context, context, memory_order_relaxed);
  atomic_store_explicit(&threads->done, 0, memory_order_relaxed);
  atomic_store(&threads->next, (number + 1) << 32);
  if (!atomic_load(&threads->sleepers)) return;
  pthread_mutex_lock(&threads->mutex);
  pthread_cond_broadcast(&threads->wake);
  pthread_mutex_unlock(&threads->mutex);
}

void threads_run(Threads *threads, int64_t tasks, TaskFunction *function, void *context) {
  if (tasks <= 1 || threads->count == 1) {
    if (tasks > 0) function(context, 0, 0, tasks);
    return;
  }
  int64_t pieces = (int64_t)threads->count * CHUNKS_PER_THREAD, chunk = tasks > pieces ? tasks / pieces : 1;
  int64_t chunks = (tasks + chunk - 1) / chunk;
  uint32_t seen;
  start_launch(threads, tasks, chunk, function, context);
  while (take_chunk(threads, 0, &seen)) {
  }
  for (int waited = 0; atomic_load_explicit(&threads->done, memory_order_acquire) < chunks;)
    wait_a_little(&waited);
}

int threads_available(void) {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed);
}

Threads *threads_open(int count) {
  Threads *threads = calloc(1, sizeof *threads);
  if (!threads) return NULL;
  threads->workers = calloc((size_t)count, sizeof *threads->workers);
  pthread_mutex_init(&threads->mutex, NULL);
  pthread_cond_init(&threads->wake, NULL);
  atomic_store(&threads->next, CLOSED);
  threads->count = 1;
  for (int i = 1; threads->workers && i < count; i++) {
    Worker *worker = &threads->workers[i];
    *worker = (Worker){.threads = threads, .index = i};
    if (pthread_create(&worker->thread, NULL, worker_main, worker)) break;
    threads->count++;
  }
  if (threads->workers && threads->count == count) return threads;
  threads_close(threads);
  return NULL;
}

void threads_close(Threads *threads) {
  if (!threads) return;
  atomic_store(&threads->closing, true);
  start_launch(threads, 0, 1, NULL, NULL);
  for (int i = 1; i < threads->count; i++) pthread_join(threads->workers[i].thread, NULL);
  pthread_cond_destroy(&threads->wake);
  pthread_mutex_destroy(&threads->mutex);
  free(threads->workers);
  free(threads);
}

int threads_count(const Threads *threads) { return threads->count; }
