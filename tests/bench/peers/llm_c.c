// llm.c as a side of a comparison (side.h), its train_gpt2.c taken in whole: a training step of GPT-2 124M from random
// weights. Input: BATCH LENGTH; compiled with -I of a checkout of llm.c.
#define TESTING // its own main is left out
#include "train_gpt2.c"

#include "../side.h"

enum { PARAMETERS = 124475904, VOCABULARY = 50257 };

typedef struct Running {
  GPT2 model;
  int *inputs, *targets, batch, length, steps;
} Running;

// A checkpoint in its format, which it has to be started from.
static bool write_checkpoint(const char *path) {
  int header[256] = {20240326, 3, 1024, VOCABULARY, 12, 12, 768, 50304};
  static float values[4096];
  uint32_t state = 1;
  FILE *file = fopen(path, "wb");
  if (!file) return false;
  bool good = fwrite(header, sizeof header, 1, file) == 1;
  for (int left = PARAMETERS; good && left > 0; left -= 4096) {
    for (int i = 0; i < 4096; i++)
      values[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) / 209715200.0f - 0.04f;
    size_t count = left < 4096 ? (size_t)left : 4096;
    good = fwrite(values, sizeof *values, count, file) == count;
  }
  return !fclose(file) && good;
}

static void make_data(Running *running) {
  size_t positions = (size_t)running->batch * (size_t)running->length;
  running->inputs = calloc(positions, sizeof(int));
  running->targets = calloc(positions, sizeof(int));
  for (size_t i = 0; i < positions; i++) {
    running->inputs[i] = (int)(i * 7919 % VOCABULARY);
    running->targets[i] = (int)((i + 1) * 7919 % VOCABULARY);
  }
}

static bool step(void *context) {
  Running *running = context;
  GPT2 *model = &running->model;
  gpt2_forward(model, running->inputs, running->targets, (size_t)running->batch, (size_t)running->length);
  gpt2_zero_grad(model);
  gpt2_backward(model);
  gpt2_update(model, 1e-5f, 0.9f, 0.95f, 1e-8f, 0.1f, ++running->steps);
  return true;
}

int main(int count, char **words) {
  static Running running;
  char path[] = "/tmp/llm.c-XXXXXX";
  if (count != 3) return fprintf(stderr, "usage: llm_c BATCH LENGTH\n"), 1;
  running.batch = atoi(words[1]), running.length = atoi(words[2]);
  make_data(&running);
  int file = mkstemp(path), out = dup(1);
  bool good = file >= 0 && write_checkpoint(path) && freopen("/dev/null", "w", stdout);
  if (good) gpt2_build_from_checkpoint(&running.model, path);
  if (file >= 0) unlink(path);
  if (good) step(&running); // it talks while it opens, and in its first step
  fflush(stdout);
  dup2(out, 1);
  if (!good) return side_absent("its checkpoint can not be written to /tmp");
  return side_serve(NULL, step, &running);
}
