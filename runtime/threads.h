// A pool of threads that run the tasks of one launch together. Workers spin briefly, then sleep; a launch waits for
// tasks that were begun, never for a worker that has begun none.
#ifndef VLMC_RUNTIME_THREADS_H
#define VLMC_RUNTIME_THREADS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Threads Threads;
// Does tasks [begin, end) as worker `worker` (0 is the caller).
typedef void TaskFunction(void *context, int worker, int64_t begin, int64_t end);

int threads_available(void); // one per core that this process may use
Threads *threads_open(int count); // count >= 1; NULL: threads can not be had
void threads_close(Threads *threads);
int threads_count(const Threads *threads);
// Runs tasks 0..tasks-1, each exactly once, in chunks that workers take as they come free; returns when all are
// done. What a task computes must not depend on who runs it: results are then the same for any thread count.
void threads_run(Threads *threads, int64_t tasks, TaskFunction *function, void *context);

#endif
