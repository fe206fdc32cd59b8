// Fuzz target: any bytes as the text of kernels. What is accepted is legal, prints in a form that is accepted
// and prints the same, and can be asked for its FLOPs, bytes and C text.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/opened.h"

#include "compiler/emit/emit.h"

static bool read_fuzzed_kernels(Opened *opened, const char *text, size_t size, Kernel ***kernels,
                                size_t *count) {
  int before = opened->diagnostics.errors;
  uint32_t source = sources_add(&opened->sources, "fuzzed", text, size);
  bool good = kernel_read(opened->arena, &opened->diagnostics, source, kernels, count);
  if (good != (opened->diagnostics.errors == before)) abort(); // refused without a word, or accepted with one
  return good;
}

static void print_kernel_list(const Opened *opened, Kernel *const *kernels, size_t count, Text *text) {
  for (size_t i = 0; i < count; i++) kernel_print(kernels[i], &opened->sources, text);
}

static void check_fuzzed_kernel(const Opened *opened, Kernel *kernel) {
  static const int64_t symbols[SYMBOL_COUNT] = {0, 2, 3, 4, 7};
  const EmitOptions options = {.threads = 1, .sources = &opened->sources, .symbols = symbols};
  Text reason = {0}, code = {0};
  Failure failure;
  if (!kernel_verify(kernel, &reason)) die("illegal kernel: %s", text_string(&reason));
  if (!(kernel_flops(kernel, symbols) >= 0) || !(kernel_bytes(kernel, symbols) >= 0)) abort();
  emitter_c.text(kernel, "c", &options, &code, &failure);
  text_free(&reason);
  text_free(&code);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Opened *opened = opened_new();
  Kernel **kernels, **again;
  size_t count, again_count;
  if (!memchr(bytes, 0, size) && read_fuzzed_kernels(opened, (const char *)bytes, size, &kernels, &count)) {
    Text once = {0}, twice = {0};
    print_kernel_list(opened, kernels, count, &once);
    if (!read_fuzzed_kernels(opened, text_string(&once), once.length, &again, &again_count))
      die("what was printed is refused: %s", text_string(&opened->diagnostics.text));
    print_kernel_list(opened, again, again_count, &twice);
    if (strcmp(text_string(&once), text_string(&twice))) abort();
    for (size_t i = 0; i < count; i++) check_fuzzed_kernel(opened, kernels[i]);
    text_free(&once);
    text_free(&twice);
  }
  opened_free(opened);
  return 0;
}
