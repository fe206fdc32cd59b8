// Target ref: every launch is executed by the interpreter of kernels. Slow, and the definition that the other
// targets are compared with. Input: kernels; output: codes that hold them.
#include "compiler/emit/emit.h"

#include <string.h>

static void interpret(const void *kernel, void *const *buffers, const int64_t *symbols) {
  kernel_interpret(kernel, buffers, symbols);
}

static bool compile(Kernel *const *kernels, size_t count, const EmitOptions *options, Code *codes,
                    void **handle, Failure *failure) {
  (void)options, (void)failure;
  for (size_t i = 0; i < count; i++) {
    codes[i].name = kernels[i]->name;
    codes[i].work = (Work){.count = 0}; // one piece: the interpreter does it all
    codes[i].interpreted = kernels[i];
    codes[i].interpret = interpret;
  }
  *handle = NULL;
  return true;
}

static void release(void *handle) { (void)handle; }

static bool text(Kernel *kernel, const char *form, const EmitOptions *options, Text *out, Failure *failure) {
  if (strcmp(form, "kernels")) return fail(failure, "target ref has no form `%s`, only `kernels`", form);
  kernel_print(kernel, options ? options->sources : NULL, out);
  return true;
}

const Emitter emitter_ref = {"ref", compile, release, text};
