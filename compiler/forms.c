// --emit: the forms in which a unit can be looked at.
#include "compiler/compile_internal.h"

#include "runtime/threads.h"

#include <string.h>

static void print_ast(const Unit *unit, Text *text) {
  const Modules *modules = &unit->compiler->modules;
  if (modules->count) ast_print(modules->list[modules->count - 1].file, text);
}

static void print_graph(const Unit *unit, Text *text) {
  if (unit->before_backward) graph_print(unit->before_backward, text);
}

static void print_grad(const Unit *unit, Text *text) {
  if (unit->graph) graph_print(unit->graph, text);
}

static void print_fused(const Unit *unit, Text *text) {
  if (unit->fusion) fusion_print(unit->graph, unit->fusion, text);
}

void print_kernels(const Unit *unit, Text *text) {
  for (size_t i = 0; i < unit->lowered.kernel_count; i++) {
    if (i) text_print(text, "\n");
    kernel_print(unit->lowered.kernels[i], &unit->compiler->sources, text);
  }
}

static void print_memory(const Unit *unit, Text *text) {
  int threads = unit->compiler->options.threads;
  if (unit->lowered.program.buffer_count)
    memory_print(&unit->lowered.program, unit->symbols, threads ? threads : threads_available(), text);
}

static const EmitForm forms[] = {
    {"ast", "ast.vlm", "elaborate", NULL, print_ast, false},
    {"graph", "graph", "canonical", NULL, print_graph, false},
    {"grad", "grad.graph", "dead", NULL, print_grad, false},
    {"fused", "fused", "fuse", NULL, print_fused, false},
    {"kernels", "kernels", "lower", NULL, NULL, false},
    {"memory", "memory.txt", "emit", NULL, print_memory, false},
    {"llvm", "ll", "lower", "cpu", NULL, false},
    {"asm", "s", "lower", "cpu", NULL, false},
    {"c", "c", "lower", "c", NULL, false},
    {"cuda", "cu", "lower", "cuda", NULL, false},
    {"ptx", "ptx", "lower", "cuda", NULL, false},
    {"cubin", "cubin", "lower", "cuda", NULL, true},
    {"dot", "dot", "canonical", NULL, draw_dot, false},
    {"svg", "svg", "canonical", NULL, draw_svg, false},
};
enum { FORM_COUNT = sizeof forms / sizeof *forms };

const EmitForm *emit_form(const char *name) {
  for (int i = 0; i < FORM_COUNT; i++)
    if (!strcmp(forms[i].name, name)) return &forms[i];
  return NULL;
}

void emit_form_names(Text *text) {
  for (int i = 0; i < FORM_COUNT; i++) text_print(text, "%s%s", i ? ", " : "", forms[i].name);
}

// A kernel form may be asked for under another target ("--emit=llvm" beside --target cuda): its own emitter
// is used then, with the architecture of --target only where that is the same one.
bool emit_kernel(const Unit *unit, const EmitForm *form, size_t kernel, Text *text, Failure *failure) {
  const CompileOptions *options = &unit->compiler->options;
  const Sources *sources = &unit->compiler->sources;
  if (!form->target) return kernel_print(unit->lowered.kernels[kernel], sources, text), true;
  const Emitter *emitter = emit_find(form->target, failure);
  if (!emitter) return false;
  size_t length = strlen(form->target);
  bool same = !strncmp(options->target, form->target, length) && options->target[length] == ':';
  EmitOptions emit = {.architecture = same ? options->target + length + 1 : NULL,
                      .threads = options->threads,
                      .sources = sources,
                      .symbols = unit->symbols};
  return emitter->text(unit->lowered.kernels[kernel], form->name, &emit, text, failure);
}
