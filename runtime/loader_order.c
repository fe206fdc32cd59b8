// The order of samples: a function of (seed, step), without a state to keep or to save.
#include <stdlib.h>

#include "runtime/counter.h"
#include "runtime/loader_parts.h"

enum { WINDOW = 16 }; // batches among which samples are sorted by length

// A Feistel network over the least power of four that holds `count`; numbers outside are sent through again.
uint64_t order_permute(uint64_t seed, uint64_t epoch, uint64_t index, uint64_t count) {
  int half = 1;
  while ((uint64_t)1 << (2 * half) < count) half++;
  uint64_t mask = ((uint64_t)1 << half) - 1;
  do {
    uint64_t left = index >> half, right = index & mask;
    for (uint64_t round = 0; round < 6; round++) {
      uint64_t mixed = left ^ (counter_random(seed, epoch, round, right) & mask);
      left = right;
      right = mixed;
    }
    index = left << half | right;
  } while (index >= count);
  return index;
}

size_t order_replacement(uint64_t seed, uint64_t position, uint64_t attempt, size_t count) {
  const uint64_t stream = 0x7265706c61636500; // apart from the other draws
  return (size_t)counter_below(counter_random(seed, stream, position, attempt), count);
}

static size_t sample_at(const LoaderOptions *options, size_t count, uint64_t position) {
  return (size_t)order_permute(options->seed, position / count, position % count, count);
}

typedef struct Entry {
  uint64_t position;
  size_t sample;
  uint32_t length;
} Entry;

static int by_length(const void *a, const void *b) {
  const Entry *first = a, *second = b;
  if (first->length != second->length) return first->length < second->length ? -1 : 1;
  return (first->position > second->position) - (first->position < second->position);
}

// The samples of WINDOW batches sorted by length and cut into batches, which come in random order.
static void bucket_step(const LoaderOptions *options, const Samples *samples, uint64_t step, size_t *chosen,
                        uint64_t *positions) {
  size_t batch = (size_t)options->batch, entries = WINDOW * batch;
  uint64_t window = step / WINDOW, first = window * entries;
  Entry *sorted = malloc(entries * sizeof *sorted);
  if (!sorted) die("out of memory");
  for (size_t i = 0; i < entries; i++) {
    size_t sample = sample_at(options, samples->count, first + i);
    sorted[i] = (Entry){first + i, sample, samples->list[sample].length};
  }
  qsort(sorted, entries, sizeof *sorted, by_length);
  const uint64_t stream = 0x6275636b65740000;
  size_t from = (size_t)order_permute(options->seed ^ stream, window, step % WINDOW, WINDOW) * batch;
  for (size_t i = 0; i < batch; i++) {
    chosen[i] = sorted[from + i].sample;
    positions[i] = sorted[from + i].position;
  }
  free(sorted);
}

size_t order_step(const LoaderOptions *options, const Samples *samples, uint64_t step, size_t *chosen,
                  uint64_t *positions) {
  size_t batch = (size_t)options->batch;
  if (options->training && options->bucket) {
    bucket_step(options, samples, step, chosen, positions);
    return batch;
  }
  size_t count = 0;
  for (; count < batch; count++) {
    uint64_t position = step * batch + count;
    if (!options->training && position >= samples->count) break;
    chosen[count] = options->training ? sample_at(options, samples->count, position) : (size_t)position;
    positions[count] = position;
  }
  return count;
}
