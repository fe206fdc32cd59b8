// The memory of a program as text: what the arena, parameters, states and data take, and who is in the arena
// at its peak, by model line. Input: a Program with lifetimes and the run's sizes; output: text.
#include "compiler/lower/lower.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct Line { // what the temporaries of one model line take at the peak
  const char *origin;
  size_t bytes;
  int buffers;
} Line;

static void print_bytes(Text *text, size_t bytes) {
  if (bytes >= (size_t)10 << 20)
    text_print(text, "%8.1f MiB", (double)bytes / (1 << 20));
  else if (bytes >= (size_t)10 << 10)
    text_print(text, "%8.1f KiB", (double)bytes / (1 << 10));
  else
    text_print(text, "%8zu B  ", bytes);
}

static bool alive(const Buffer *buffer, int launch) {
  return buffer->role == ROLE_TEMPORARY && buffer->first_launch <= launch && launch <= buffer->last_launch;
}

// The launch during which most bytes are alive; -1: nothing is.
static int find_peak(const Program *program, const int64_t *symbols, size_t *peak_bytes) {
  size_t *change = calloc((size_t)program->launch_count + 2, sizeof *change), bytes = 0;
  int peak = -1;
  if (!change) die("out of memory");
  *peak_bytes = 0;
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_TEMPORARY || buffer->first_launch < 0) continue;
    change[buffer->first_launch] += buffer_bytes(buffer, symbols);
    change[buffer->last_launch + 1] -= buffer_bytes(buffer, symbols); // wraps around, as the sum does
  }
  for (int i = 0; i < program->launch_count; i++) {
    bytes += change[i];
    if (bytes > *peak_bytes) *peak_bytes = bytes, peak = i;
  }
  free(change);
  return peak;
}

static int larger_first(const void *a, const void *b) {
  const Line *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
  return strcmp(x->origin, y->origin);
}

static int compare_origins(const void *a, const void *b) {
  return strcmp(((const Line *)a)->origin, ((const Line *)b)->origin);
}

static void print_peak(const Program *program, const int64_t *symbols, int peak, Text *text) {
  Line *lines = calloc((size_t)program->buffer_count + 1, sizeof *lines);
  size_t count = 0, merged = 0;
  if (!lines) die("out of memory");
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (!alive(buffer, peak)) continue;
    const char *origin = buffer->origin && *buffer->origin ? buffer->origin : "(no model line)";
    lines[count++] = (Line){origin, buffer_bytes(buffer, symbols), 1};
  }
  qsort(lines, count, sizeof *lines, compare_origins);
  for (size_t i = 0; i < count; i++) {
    if (merged && !strcmp(lines[merged - 1].origin, lines[i].origin)) {
      lines[merged - 1].bytes += lines[i].bytes;
      lines[merged - 1].buffers++;
    } else {
      lines[merged++] = lines[i];
    }
  }
  qsort(lines, merged, sizeof *lines, larger_first);
  for (size_t i = 0; i < merged; i++) {
    text_print(text, "  ");
    print_bytes(text, lines[i].bytes);
    text_print(text, "  %4d %-8s %s\n", lines[i].buffers, lines[i].buffers == 1 ? "buffer" : "buffers",
               lines[i].origin);
  }
  free(lines);
}

// Every thread has room for the most demanding kernel.
static size_t print_workspace(const Program *program, int threads, Text *text) {
  int64_t most = 0;
  for (int i = 0; i < program->code_count; i++)
    if (program->codes[i].scratch_bytes > most) most = program->codes[i].scratch_bytes;
  size_t bytes = (size_t)most * (size_t)threads;
  if (!bytes) return 0;
  text_print(text, "  ");
  print_bytes(text, bytes);
  text_print(text, "  %4d %-8s workspace\n", threads, threads == 1 ? "thread" : "threads");
  return bytes;
}

void memory_print(const Program *program, const int64_t symbols[SYMBOL_COUNT], int threads, Text *text) {
  static const char *const titles[ROLE_COUNT] = {"data",   "scalars", "parameters", "packed weights",
                                                 "states", "results", "arena"};
  size_t bytes[ROLE_COUNT] = {0}, total = 0, peak_bytes, *offsets;
  int counts[ROLE_COUNT] = {0};
  offsets = calloc((size_t)program->buffer_count + 1, sizeof *offsets);
  if (!offsets) die("out of memory");
  for (int i = 0; i < program->buffer_count; i++) {
    bytes[program->buffers[i].role] += buffer_bytes(&program->buffers[i], symbols);
    if (program->buffers[i].packing) continue; // its parts are counted
    counts[program->buffers[i].role]++;
  }
  bytes[ROLE_TEMPORARY] = program_plan(program, symbols, offsets);
  free(offsets);
  text_print(text, "memory of %s for", program->name);
  for (int i = 1; i < SYMBOL_COUNT; i++)
    if (symbols[i]) text_print(text, " %s = %" PRId64, symbol_names[i], symbols[i]);
  text_print(text, "\n");
  for (int role = 0; role < ROLE_COUNT; role++) {
    if (!counts[role]) continue;
    text_print(text, "  ");
    print_bytes(text, bytes[role]);
    text_print(text, "  %4d %-8s %s\n", counts[role], counts[role] == 1 ? "buffer" : "buffers", titles[role]);
    total += bytes[role];
  }
  total += print_workspace(program, threads, text);
  text_print(text, "  ");
  print_bytes(text, total);
  text_print(text, "                total\n");
  int peak = find_peak(program, symbols, &peak_bytes);
  if (peak < 0) return;
  text_print(text, "peak of the arena: ");
  print_bytes(text, peak_bytes);
  text_print(text, " alive in launch %d, %s\n", peak, program->launches[peak].kernel);
  print_peak(program, symbols, peak, text);
}
