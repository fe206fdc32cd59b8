// vlmc MODEL.vlm: the kernel table, or one form of the model (--emit).
#include "compiler/commands.h"

#include "runtime/files.h"
#include "runtime/plot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool choose_kind(Job *job, ProgramKind *kind) {
  const char *name = job->options->program;
  *kind = compiler_default_kind(job->compiler);
  if (!name) return true;
  for (int i = 0; i < PROGRAM_COUNT; i++) {
    if (strcmp(program_names[i], name)) continue;
    *kind = (ProgramKind)i;
    return true;
  }
  return fail(&job->failure, "--program is forward, loss, train, features, prefill or decode, found `%.40s`",
              name);
}

static bool write_text(Job *job, const char *path, const Text *text) {
  if (path) return file_replace(path, text_string(text), text->length, &job->failure);
  if (fwrite(text_string(text), 1, text->length, stdout) == text->length && !fflush(stdout)) return true;
  return fail(&job->failure, "standard output can not be written: %s", strerror(errno));
}

static bool wants_folder(const char *path) {
  struct stat status;
  size_t length = path ? strlen(path) : 0;
  return length && (path[length - 1] == '/' || (!stat(path, &status) && S_ISDIR(status.st_mode)));
}

static bool fail_empty(Job *job, const Unit *unit, const EmitForm *form) {
  if (!unit_reached(unit, form->pass))
    return fail(&job->failure, "--emit=%s shows what is there after `%s`, and --stop-after=%s ends before it",
                form->name, form->pass, job->options->stop_after);
  return fail(&job->failure, "%s holds %s: it has no form `%s`", job->options->model,
              compiler_model(job->compiler) ? "a model"
              : unit->graph                 ? "a graph"
                                            : "kernels",
              form->name);
}

// DIR/ means DIR/MODEL.EXTENSION.
static const char *output_file(Job *job, const EmitForm *form) {
  const char *output = job->options->output, *model = job->options->model;
  if (!wants_folder(output)) return output;
  const char *slash = strrchr(model, '/'), *name = slash ? slash + 1 : model, *dot = strrchr(name, '.');
  int length = (int)(dot && dot > name ? (size_t)(dot - name) : strlen(name));
  return arena_print(job->arena, "%s/%.*s.%s", output, length, name, form->extension);
}

static bool is_wanted(const Options *options, const Kernel *kernel) {
  return !options->kernel || strstr(kernel->name, options->kernel);
}

// Bytes of several kernels in one file would be readable by nothing, and on a terminal by nobody.
static bool can_hold_bytes(Job *job, const Unit *unit, const EmitForm *form) {
  size_t wanted = 0;
  for (size_t i = 0; i < unit->lowered.kernel_count; i++)
    wanted += is_wanted(job->options, unit->lowered.kernels[i]);
  if (wanted > 1)
    return fail(
        &job->failure,
        "--emit=%s makes a file of each of %zu kernels: -o DIR/ says where; --kernel=NAME chooses one",
        form->name, wanted);
  return job->options->output || !isatty(STDOUT_FILENO) ||
         fail(&job->failure, "--emit=%s makes bytes that a terminal can not show: -o FILE says where they go",
              form->name);
}

// One form of every kernel: into one text, or a file each in a folder.
static bool emit_kernels(Job *job, const Unit *unit, const EmitForm *form) {
  const char *output = job->options->output, *wanted = job->options->kernel;
  bool folder = wants_folder(output);
  if (form->binary && !folder && !can_hold_bytes(job, unit, form)) return false;
  bool good = !folder || folder_make(output, &job->failure);
  size_t written = 0;
  Text text = {0};
  for (size_t i = 0; good && i < unit->lowered.kernel_count; i++) {
    const char *name = unit->lowered.kernels[i]->name;
    if (!is_wanted(job->options, unit->lowered.kernels[i])) continue;
    if (!folder && text.length) text_print(&text, "\n");
    good = emit_kernel(unit, form, i, &text, &job->failure);
    written++;
    if (!good || !folder) continue;
    good = write_text(job, arena_print(job->arena, "%s/%s.%s", output, name, form->extension), &text);
    text_free(&text);
    text = (Text){0};
  }
  if (good && !unit->lowered.kernel_count) good = fail_empty(job, unit, form);
  if (good && wanted && !written) good = fail(&job->failure, "no kernel's name holds `%s`", wanted);
  if (good && !folder) good = write_text(job, output, &text);
  text_free(&text);
  return good;
}

static bool emit(Job *job, ProgramKind kind) {
  const EmitForm *form = emit_form(job->options->emit);
  Text text = {0};
  if (form && form->print && job->options->kernel)
    return fail(&job->failure, "--kernel chooses kernels, and --emit=%s shows none", form->name);
  if (!form) {
    emit_form_names(&text);
    fail(&job->failure, "--emit is one of %s; found `%.40s`", text_string(&text), job->options->emit);
    text_free(&text);
    return false;
  }
  const Unit *unit = compiler_unit_until(job->compiler, kind, form->pass);
  if (!unit) return job_report(job);
  if (!form->print) return emit_kernels(job, unit, form);
  if (unit_reached(unit, form->pass)) form->print(unit, &text);
  bool good = (text.length || fail_empty(job, unit, form)) &&
              (!wants_folder(job->options->output) || folder_make(job->options->output, &job->failure)) &&
              write_text(job, output_file(job, form), &text);
  text_free(&text);
  return good;
}

// What a training step's frozen part is, and whether it is worth to be kept.
static bool explain_features(Job *job) {
  const Unit *unit = compiler_unit_until(job->compiler, PROGRAM_TRAIN, "hoist");
  if (!unit) return job_report(job);
  if (!unit_reached(unit, "hoist"))
    return fail(&job->failure, "there is nothing to explain: --stop-after ends before `hoist`");
  return write_text(job, job->options->output, &unit->hoisted);
}

static bool explain(Job *job, ProgramKind kind) {
  Text text = {0};
  if (!strcmp(job->options->explain, "features")) return explain_features(job);
  if (strcmp(job->options->explain, "fusion"))
    return fail(&job->failure, "--explain knows fusion and features, found `%.40s`", job->options->explain);
  const Unit *unit = compiler_unit_until(job->compiler, kind, "fuse");
  if (!unit) return job_report(job);
  if (!unit->fusion)
    return fail(&job->failure, "there is nothing to explain: %s",
                unit_reached(unit, "fuse") ? "the file holds kernels, no graph"
                                           : "--stop-after ends before `fuse`");
  fusion_explain(unit->graph, unit->fusion, compiler_sources(job->compiler), unit->symbols, &text);
  bool good = write_text(job, job->options->output, &text);
  text_free(&text);
  return good;
}

static void say_where_it_runs(const Options *options) {
  Failure failure;
  if (strncmp(options->target, "cuda", 4)) return;
  Device *device = device_cuda(&failure);
  if (device)
    printf("device: %s\n", device->name), device->close(device);
  else
    printf("compiled, but there is no device to run on: %s\n", failure.message);
}

static bool table(Job *job, ProgramKind kind) {
  const Unit *unit = compiler_unit(job->compiler, kind);
  Text text = {0};
  if (!unit) return job_report(job);
  if (!unit->compiled) return true; // --stop-after
  kernel_table(unit, &text);
  bool good = write_text(job, job->options->output, &text);
  text_free(&text);
  if (good) say_where_it_runs(job->options);
  return good;
}

static bool profile(Job *job, ProgramKind kind) {
  const Options *options = job->options;
  Text text = {0};
  if (options->emit || options->explain)
    return fail(&job->failure, "--profile runs the program, --%s shows what it is made of: one at a time",
                options->emit ? "emit" : "explain");
  bool good = profile_program(job, kind, &text) && write_text(job, options->output, &text);
  text_free(&text);
  return good;
}

static bool compile(Job *job) {
  ProgramKind kind;
  const Options *options = job->options;
  if (!choose_kind(job, &kind)) return false;
  if (options->profile) return profile(job, kind);
  if (options->emit) return emit(job, kind);
  if (options->kernel)
    return fail(&job->failure, "--kernel chooses what --emit shows, as in --emit=kernels --kernel=%s",
                options->kernel);
  return options->explain ? explain(job, kind) : table(job, kind);
}

int run_compile(const Options *options) {
  Job job;
  bool good = job_open(&job, options) && compile(&job);
  return job_close(&job, good);
}

int run_draw(const Options *options) {
  Options copy = *options;
  copy.emit = "svg";
  return run_compile(&copy);
}

int run_plot(const Options *options) {
  Job job = {.arena = arena_new(), .options = options};
  Text svg = {0};
  bool good = plot_losses(options->more, (size_t)options->more_count, &svg, &job.failure) &&
              write_text(&job, options->output, &svg);
  text_free(&svg);
  return job_close(&job, good);
}
