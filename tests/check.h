// The whole test framework: count what holds, say what does not, end with the line that the suite adds up.
#ifndef VLMC_TESTS_CHECK_H
#define VLMC_TESTS_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_passed, check_failed, check_skipped;

#define CHECK(condition, ...)                                                                                \
  do {                                                                                                       \
    if (condition) {                                                                                         \
      check_passed++;                                                                                        \
    } else {                                                                                                 \
      check_failed++;                                                                                        \
      printf("%s:%d: FAILED %s: ", __FILE__, __LINE__, #condition);                                          \
      printf(__VA_ARGS__);                                                                                   \
      printf("\n");                                                                                          \
    }                                                                                                        \
  } while (0)

#define SKIP(...)                                                                                            \
  do {                                                                                                       \
    check_skipped++;                                                                                         \
    printf("skipped: ");                                                                                     \
    printf(__VA_ARGS__);                                                                                     \
    printf("\n");                                                                                            \
  } while (0)

// Call last in main: prints the closing line; the exit status says whether all held.
static inline int check_finish(void) {
  printf("%d passed, %d failed, %d skipped\n", check_passed, check_failed, check_skipped);
  return check_failed ? 1 : 0;
}

// Folder of real data for tests, or NULL: $VLMC_TEST_DATA, else ../shared/data where it exists.
static inline const char *check_data(void) {
  const char *folder = getenv("VLMC_TEST_DATA");
  if (folder) return folder;
  FILE *probe = fopen("../shared/data/text/NOTE.txt", "r");
  if (!probe) return NULL;
  fclose(probe);
  return "../shared/data";
}

#endif
