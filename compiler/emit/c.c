// Target c: a kernel as plain C to read, serial loops with everything at the outermost place where it is
// known. Input: a kernel; output: the text of one function `void kernel_NAME(buffers..., long long B, T, P,
// S)`.
#include "compiler/emit/csource.h"

#include <string.h>

// The loops of some stores: first over the axes that all of them have, where what they share is computed
// once, then the stores that have no more axes, then the rest, in parts of equal axes.
static void nest(CSource *c, uint32_t group, uint32_t bound) {
  const Kernel *kernel = c->kernel;
  uint32_t common = UINT32_MAX, all = 0;
  for (int i = 0; i < kernel->store_count; i++)
    if (group >> i & 1) common &= kernel->stores[i].axes, all |= kernel->stores[i].axes;
  common &= ~bound;
  int loops = 0;
  for (int axis = 0; axis < kernel->axis_count; axis++) {
    if (!(common >> axis & 1)) continue;
    csource_hoist_group(c, group, all & ~bound);
    csource_loop(c, axis);
    bound |= 1u << axis;
    loops++;
  }
  csource_hoist_group(c, group, all & ~bound);
  uint32_t here = csource_group(kernel, group, bound);
  csource_stores(c, here);
  for (group &= ~here; group;) {
    uint32_t equal = csource_group(kernel, group, kernel->stores[__builtin_ctz(group)].axes);
    group &= ~equal;
    nest(c, equal, bound);
  }
  while (loops--) csource_close(c);
}

static bool text(Kernel *kernel, const char *form, const EmitOptions *options, Text *out, Failure *failure) {
  if (strcmp(form, "c")) return fail(failure, "target c has no form `%s`, only `c`", form);
  Arena *arena = arena_new();
  CSource c;
  csource_begin(&c, arena, kernel, false);
  bool adds = kernel->anchor == ANCHOR_SCATTER; // in the order of the axes, one store after another
  for (int i = 0; adds && i < kernel->store_count; i++) nest(&c, 1u << i, 0);
  if (!adds) nest(&c, (1u << kernel->store_count) - 1, 0);
  csource_comment(&c, options, NULL, out);
  text_print(out, "#include <math.h>\n#include <string.h>\n\n");
  csource_helpers(text_string(&c.body), false, out);
  text_print(out, "void %s(", c.function);
  csource_parameters(&c, out);
  text_print(out, ") {\n  (void)B, (void)T, (void)P, (void)S;\n%s}\n", text_string(&c.body));
  csource_end(&c);
  arena_free(arena);
  return true;
}

static bool compile(Kernel *const *kernels, size_t count, const EmitOptions *options, Code *codes,
                    void **handle, Failure *failure) {
  (void)kernels, (void)count, (void)options, (void)codes, (void)handle;
  return fail(failure, "target c is for reading (--emit=c); to run, choose cpu, cuda or ref");
}

static void release(void *handle) { (void)handle; }

const Emitter emitter_c = {"c", compile, release, text};
