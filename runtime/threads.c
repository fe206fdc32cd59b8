// The thread pool: one launch at a time, tasks handed out by an atomic counter.
#include "runtime/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
  SPINS = 4000, // a launch follows the last one within microseconds: look that often before sleeping
  CHUNKS_PER_THREAD =
      8, // small enough that threads finish together, large enough that taking one costs nothing
};

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
  atomic_uint generation; // counts launches; a worker that sees it change has work
  atomic_int working;     // workers not yet done with this launch
  atomic_bool closing;
  // the launch
  TaskFunction *function;
  void *context;
  int64_t tasks, chunk;
  atomic_llong next;
};

static void pause_cpu(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void take_chunks(Threads *threads, int worker) {
  for (;;) {
    int64_t begin = atomic_fetch_add_explicit(&threads->next, threads->chunk, memory_order_relaxed);
    if (begin >= threads->tasks) return;
    int64_t end = begin + threads->chunk < threads->tasks ? begin + threads->chunk : threads->tasks;
    threads->function(threads->context, worker, begin, end);
  }
}

static void wait_for_launch(Threads *threads, unsigned seen) {
  for (int i = 0; i < SPINS; i++) {
    if (atomic_load_explicit(&threads->generation, memory_order_acquire) != seen) return;
    pause_cpu();
  }
  pthread_mutex_lock(&threads->mutex);
  while (atomic_load(&threads->generation) == seen) pthread_cond_wait(&threads->wake, &threads->mutex);
  pthread_mutex_unlock(&threads->mutex);
}

static void *worker_main(void *argument) {
  Worker *worker = argument;
  Threads *threads = worker->threads;
  for (unsigned seen = 0;; seen++) {
    wait_for_launch(threads, seen);
    if (atomic_load(&threads->closing)) return NULL;
    take_chunks(threads, worker->index);
    atomic_fetch_sub_explicit(&threads->working, 1, memory_order_release);
  }
}

static void start_launch(Threads *threads) {
  pthread_mutex_lock(&threads->mutex);
  atomic_fetch_add_explicit(&threads->generation, 1, memory_order_release);
  pthread_cond_broadcast(&threads->wake);
  pthread_mutex_unlock(&threads->mutex);
}

void threads_run(Threads *threads, int64_t tasks, TaskFunction *function, void *context) {
  if (tasks <= 1 || threads->count == 1) {
    if (tasks > 0) function(context, 0, 0, tasks);
    return;
  }
  int64_t pieces = (int64_t)threads->count * CHUNKS_PER_THREAD;
  threads->function = function;
  threads->context = context;
  threads->tasks = tasks;
  threads->chunk = tasks > pieces ? tasks / pieces : 1;
  atomic_store_explicit(&threads->next, 0, memory_order_relaxed);
  atomic_store_explicit(&threads->working, threads->count - 1, memory_order_relaxed);
  start_launch(threads);
  take_chunks(threads, 0);
  while (atomic_load_explicit(&threads->working, memory_order_acquire) > 0) pause_cpu();
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
  start_launch(threads);
  for (int i = 1; i < threads->count; i++) pthread_join(threads->workers[i].thread, NULL);
  pthread_cond_destroy(&threads->wake);
  pthread_mutex_destroy(&threads->mutex);
  free(threads->workers);
  free(threads);
}

int threads_count(const Threads *threads) { return threads->count; }
