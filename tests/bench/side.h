// One side of a comparison, as rounds.c drives it: what a measured program says and hears. Input, on standard
// input: lines of a number N. Output: `ready`, and then for each line the median milliseconds of N steps; or, in
// place of `ready`, `absent REASON` where it can not be measured here. Plain C of its own, so that programs around
// other people's libraries include it as well. The scripts in peers/ do the same in side.py.
#ifndef VLMC_BENCH_SIDE_H
#define VLMC_BENCH_SIDE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SIDE_MOST_STEPS = 1000 };

static inline int side_by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static inline double side_median(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, side_by_size);
  return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static inline double side_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline int side_absent(const char *reason) {
  printf("absent %s\n", reason);
  return 0;
}

// `begin` may be NULL: it runs once per line, before the steps, unmeasured. Returns the exit status.
static inline int side_serve(bool (*begin)(void *context), bool (*step)(void *context), void *context) {
  char line[64];
  double times[SIDE_MOST_STEPS];
  printf("ready\n");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    int count = atoi(line);
    if (count < 1 || count > SIDE_MOST_STEPS || (begin && !begin(context))) return 1;
    for (int i = 0; i < count; i++) {
      double start = side_clock();
      if (!step(context)) return 1;
      times[i] = 1e3 * (side_clock() - start);
    }
    printf("%.6f\n", side_median(times, count));
    fflush(stdout);
  }
  return 0;
}

#endif
