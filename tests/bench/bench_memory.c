// The memory that a training step takes, beside what --emit=memory says of it. Input: MODEL PRESET STAGE;
// output: one line, as here:
//
//   name  ours  said  ratio  reach  ok|short     (tab-separated; MiB; ratio: the smaller by the larger)
//
// Ours is what the system sees: how far this process grows in physical memory (VmHWM) from the moment when
// code and threads are ready, over allocation of parameters, states, data and arena and two whole steps.
// Nothing of the accounting is trusted; the loader and its batches made ahead are not part of it.
#include "compiler/compile.h"
#include "runtime/device.h"
#include "runtime/store.h"
#include "runtime/threads.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static double status_mib(const char *key) {
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  double kib = 0;
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, key, strlen(key))) kib = strtod(line + strlen(key), NULL);
  if (file) fclose(file);
  return kib / 1024;
}

// The peak begins anew at what is there now.
static void forget_peak(void) {
  int file = open("/proc/self/clear_refs", O_WRONLY);
  if (file < 0 || write(file, "5", 1) != 1) fprintf(stderr, "bench: the peak can not be reset\n");
  if (file >= 0) close(file);
}

// The line that ends in "total", as a user reads it.
static double said_mib(const Unit *unit) {
  Text text = {0};
  memory_print(&unit->lowered.program, unit->symbols, threads_available(), &text);
  const char *end = strstr(text_string(&text), "total\n"), *line = end;
  while (line && line > text.bytes && line[-1] != '\n') line--;
  char prefix[8] = "";
  double amount = 0;
  if (line && sscanf(line, "%lf %7s", &amount, prefix) == 2)
    amount *= !strcmp(prefix, "MiB") ? 1 : !strcmp(prefix, "KiB") ? 1.0 / 1024 : 1.0 / (1 << 20);
  text_free(&text);
  return amount;
}

// No token is the one that pictures replace.
static bool set_scalars(Session *session, Failure *failure) {
  const Program *program = session_program(session);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_SCALAR) continue;
    if (!session_set_scalar(session, buffer->name, buffer->dtype == DTYPE_I32 ? -1 : 1, failure))
      return false;
  }
  return true;
}

static bool run_steps(const Unit *unit, Device *device, Failure *failure) {
  const int64_t *symbols = unit->symbols;
  TensorStore *store = store_open(device, 0);
  Session *session = session_open(&unit->lowered.program, store, failure);
  bool good =
      session &&
      session_resize(session, symbols[SYMBOL_BATCH], symbols[SYMBOL_TIME], symbols[SYMBOL_PAST], failure) &&
      set_scalars(session, failure) && session_run(session, failure) && session_run(session, failure);
  session_close(session);
  store_close(store);
  return good;
}

int main(int count, char **words) {
  static const char *const library[] = {"stdlib", "models"};
  if (count != 4) return fprintf(stderr, "usage: bench_memory MODEL PRESET STAGE\n"), 1;
  CompileOptions options = {.model = words[1],
                            .preset = words[2],
                            .stage = words[3],
                            .target = "cpu",
                            .storage = DTYPE_F32,
                            .library = library,
                            .library_count = 2};
  Text errors = {0};
  Failure failure = {0};
  Compiler *compiler = compiler_open(&options, &errors);
  const Unit *unit = compiler ? compiler_unit(compiler, PROGRAM_TRAIN) : NULL;
  Device *device = unit ? device_cpu(0, &failure) : NULL;
  bool good = device != NULL;
  double before = 0;
  if (good) {
    malloc_trim(0); // memory that compiling gave back would be taken again unseen
    forget_peak();
    before = status_mib("VmHWM:");
    good = run_steps(unit, device, &failure);
  }
  if (good) {
    double ours = status_mib("VmHWM:") - before, said = said_mib(unit);
    double ratio = ours < said ? ours / said : said / ours;
    printf("memory of %s %s %s\t%.1f\t%.1f\t%.3f\t%.2f\t%s\n", words[1], words[2], words[3], ours, said,
           ratio, 0.98, ratio >= 0.98 ? "ok" : "short");
  } else {
    fprintf(stderr, "bench: %s%s%s\n", text_string(&errors), compiler ? compiler_errors(compiler) : "",
            failure.message);
  }
  if (device) device->close(device);
  compiler_close(compiler);
  text_free(&errors);
  return good ? 0 : 1;
}
