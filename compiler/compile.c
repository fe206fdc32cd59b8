// The compiler from outside, and the passes that need the model: model file -> Units.
#include "compiler/compile_internal.h"

#include "compiler/graph/passes/passes.h"
#include "runtime/threads.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

const char *const program_names[PROGRAM_COUNT] = {"forward",  "loss",    "train", "apply",
                                                  "features", "prefill", "decode"};

enum {
  DEFAULT_LENGTH = 128,   // positions that tables are computed for where nothing else says
  DEFAULT_CAPACITY = 2048 // positions of the key/value cache where neither model nor user says
};

// ---- opening ------------------------------------------------------------------------------------

static bool starts_with_word(const char *text, const char *word) {
  while (isspace((unsigned char)*text) || *text == '#') {
    if (*text == '#')
      text += strcspn(text, "\n");
    else
      text++;
  }
  size_t length = strlen(word);
  return !strncmp(text, word, length) && text[length] == ' ';
}

static bool open_text(Compiler *compiler, uint32_t source, const char *text) {
  if (starts_with_word(text, "graph")) {
    compiler->graph = graph_read(compiler->arena, &compiler->diagnostics, source);
    return compiler->graph != NULL;
  }
  return kernel_read(compiler->arena, &compiler->diagnostics, source, &compiler->kernels,
                     &compiler->kernel_count);
}

static bool read_defines(Compiler *compiler) {
  const CompileOptions *options = &compiler->options;
  Define *defines = ARENA_ARRAY(compiler->arena, Define, options->define_count + 1);
  for (size_t i = 0; i < options->define_count; i++) {
    const char *text = options->defines[i], *equals = strchr(text, '=');
    if (!equals || equals == text) {
      text_print(&compiler->diagnostics.text,
                 "vlmc: error: -D takes PATH=VALUE, as in -D vision.width=96, found `%.80s`\n", text);
      compiler->diagnostics.errors++;
      return false;
    }
    const char *shown = arena_print(compiler->arena, "-D %s", text);
    uint32_t source = sources_add(&compiler->sources, "command line", shown, strlen(shown));
    size_t value = (size_t)(equals - text) + 4;
    defines[i].span = (Span){source, 3, (uint32_t)value - 1};
    defines[i].path = arena_copy(compiler->arena, text, (size_t)(equals - text));
    defines[i].value = ast_parse_expression(compiler->arena, &compiler->diagnostics, source, value);
    if (!defines[i].value) return false;
  }
  compiler->model_options =
      (ModelOptions){options->preset, options->preset_from, defines, options->define_count};
  return true;
}

// Whatever is compiled, the whole file is read: what it says of runs, conversations and pictures too.
static bool check_recipes(Compiler *compiler) {
  const char *const *stages;
  size_t count = model_stage_names(compiler->model, &stages);
  for (size_t i = 0; i < count; i++) model_stage(compiler->model, stages[i]);
  model_template(compiler->model);
  model_preprocess(compiler->model);
  return !compiler->diagnostics.errors;
}

static bool open_model(Compiler *compiler) {
  const CompileOptions *options = &compiler->options;
  if (!read_defines(compiler)) return false;
  if (!ast_load(compiler->arena, &compiler->diagnostics, options->model, options->library,
                options->library_count, &compiler->modules))
    return false;
  compiler->model =
      model_open(compiler->arena, &compiler->diagnostics, &compiler->modules, &compiler->model_options);
  return compiler->model && model_weights(compiler->model, &compiler->weights) && check_recipes(compiler);
}

// A pass that the command line names and the pipeline has not, or NULL.
static const char *unknown_pass(const CompileOptions *options) {
  const char *stop = options->stop_after, *dump = options->dump_after;
  if (stop && pipeline_find(stop) < 0) return stop;
  return dump && strcmp(dump, "all") && pipeline_find(dump) < 0 ? dump : NULL;
}

Compiler *compiler_open(const CompileOptions *options, Text *errors) {
  Arena *arena = arena_new();
  Compiler *compiler = ARENA_NEW(arena, Compiler);
  compiler->arena = arena;
  compiler->options = *options;
  sources_init(&compiler->sources, arena);
  compiler->diagnostics.sources = &compiler->sources;
  uint32_t source;
  Failure failure;
  const char *unknown = unknown_pass(options);
  if (unknown) {
    text_print(errors, "vlmc: error: there is no pass `%.40s`; `vlmc --list-passes` lists them\n", unknown);
    compiler_close(compiler);
    return NULL;
  }
  bool good = sources_read(&compiler->sources, options->model, &source, &failure);
  if (!good) {
    text_print(errors, "vlmc: error: %s\n", failure.message);
  } else {
    const char *text = compiler->sources.list[source].text;
    bool dump = starts_with_word(text, "graph") || starts_with_word(text, "kernel");
    good = dump ? open_text(compiler, source, text) : open_model(compiler);
    text_print(errors, "%s", text_string(&compiler->diagnostics.text));
  }
  if (good) return compiler;
  compiler_close(compiler);
  return NULL;
}

void compiler_close(Compiler *compiler) {
  if (!compiler) return;
  for (int i = 0; i < PROGRAM_COUNT; i++) {
    Unit *unit = &compiler->units[i];
    if (unit->code) unit->emitter->release(unit->code);
    text_free(&unit->hoisted);
    arena_free(unit->arena);
  }
  text_free(&compiler->diagnostics.text);
  arena_free(compiler->arena);
}

Sources *compiler_sources(Compiler *compiler) { return &compiler->sources; }
Model *compiler_model(Compiler *compiler) { return compiler->model; }
const WeightMaps *compiler_weights(const Compiler *compiler) { return &compiler->weights; }
const char *compiler_errors(const Compiler *compiler) { return text_string(&compiler->diagnostics.text); }
bool compiler_failed_internally(const Compiler *compiler) { return compiler->internal; }

const Stage *compiler_stage(Compiler *compiler) {
  const char *const *names;
  const char *name = compiler->options.stage;
  if (!compiler->model) return NULL;
  if (!name && model_stage_names(compiler->model, &names)) name = names[0];
  return model_stage(compiler->model, name);
}

ProgramKind compiler_default_kind(Compiler *compiler) {
  const char *const *names;
  if (!compiler->model) return PROGRAM_FORWARD;
  return model_stage_names(compiler->model, &names) ? PROGRAM_TRAIN : PROGRAM_FORWARD;
}

// ---- units --------------------------------------------------------------------------------------

// A command line that compiles the same again, up to where it failed.
static void print_replay(const Unit *unit, Text *text) {
  const CompileOptions *options = &unit->compiler->options;
  text_print(text, "  to replay: vlmc %s", options->model);
  if (options->preset) text_print(text, " --preset %s", options->preset);
  if (options->stage) text_print(text, " --stage %s", options->stage);
  for (size_t i = 0; i < options->define_count; i++) text_print(text, " -D '%s'", options->defines[i]);
  if (options->storage == DTYPE_BF16) text_print(text, " --dtype bf16");
  if (options->packing) text_print(text, " --weights-dtype %s", packing_table[options->packing].name);
  if (options->unfused) text_print(text, " --unfused");
  text_print(text, " --program %s --target %s --stop-after=emit --dump-after=all\n",
             program_names[unit->kind == PROGRAM_APPLY ? PROGRAM_TRAIN : unit->kind], options->target);
}

void unit_internal_error(Unit *unit, const char *format, ...) {
  Compiler *compiler = unit->compiler;
  va_list arguments;
  char message[800];
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  text_print(&compiler->diagnostics.text, "vlmc: internal error: %s\n", message);
  print_replay(unit, &compiler->diagnostics.text);
  compiler->diagnostics.errors++;
  compiler->internal = true;
}

// Positions that the model has room for: the shortest fixed axis of which it reads the first T.
static int64_t time_limit(const Graph *graph) {
  int64_t limit = 0;
  for (NodeId i = 1; i < graph->count; i++) {
    const Node *node = &graph->nodes[i];
    if (node->op != OP_SLICE) continue;
    Extent from = graph->nodes[node->in[0]].type.axes[node->attributes.axis].extent;
    Extent to = node->type.axes[node->attributes.axis].extent;
    bool reads_time = to.symbol == SYMBOL_TIME && to.scale == 1 && extent_is_constant(from);
    if (!reads_time) continue;
    int64_t room = from.offset - to.offset;
    if (!limit || room < limit) limit = room;
  }
  return limit;
}

static void choose_sizes(Unit *unit) {
  const CompileOptions *options = &unit->compiler->options;
  const Stage *stage = NULL;
  const char *const *names;
  if (unit->compiler->model && model_stage_names(unit->compiler->model, &names))
    stage = compiler_stage(unit->compiler);
  bool decode = unit->kind == PROGRAM_DECODE, derived = decode || unit->kind == PROGRAM_PREFILL;
  int64_t batch = options->batch ? options->batch : stage && !derived ? stage->batch : 1;
  int64_t length = options->length          ? options->length
                   : stage && stage->length ? stage->length
                                            : DEFAULT_LENGTH;
  if (unit->time_limit && length > unit->time_limit) length = unit->time_limit;
  unit->symbols[SYMBOL_BATCH] = batch;
  unit->symbols[SYMBOL_TIME] = decode ? 1 : length;
  unit->symbols[SYMBOL_PAST] = decode ? length - 1 : 0;
  unit->symbols[SYMBOL_SEEN] = length;
}

// Kernels read from text are a program without buffers: each is launched once, for tables.
static void adopt_kernels(Unit *unit) {
  const Compiler *compiler = unit->compiler;
  Program *program = &unit->lowered.program;
  choose_sizes(unit);
  unit->lowered.kernels = compiler->kernels;
  unit->lowered.kernel_count = compiler->kernel_count;
  program->name = program_names[unit->kind];
  program->target = compiler->options.target;
  program->launch_count = program->code_count = (int)compiler->kernel_count;
  program->codes = ARENA_ARRAY(unit->arena, Code, compiler->kernel_count);
  program->launches = ARENA_ARRAY(unit->arena, Launch, compiler->kernel_count);
  for (size_t i = 0; i < compiler->kernel_count; i++) {
    const Kernel *kernel = compiler->kernels[i];
    Text lines = {0};
    kernel_lines(kernel, &compiler->sources, &lines);
    program->codes[i].name = kernel->name;
    program->launches[i] = (Launch){.code = (int)i,
                                    .kernel = kernel->name,
                                    .lines = arena_copy(unit->arena, text_string(&lines), lines.length),
                                    .anchor = anchor_names[kernel->anchor],
                                    .flops = kernel_flops(kernel, unit->symbols),
                                    .bytes = kernel_bytes(kernel, unit->symbols)};
    text_free(&lines);
  }
}

// Once the model is right otherwise: what is wrong is often why a value is not read.
static bool all_is_used(Compiler *compiler) {
  int errors = compiler->diagnostics.errors;
  for (size_t i = 0; i < compiler->modules.count; i++)
    ast_check_unused(&compiler->diagnostics, compiler->modules.list[i].file);
  return compiler->diagnostics.errors == errors;
}

// The other side of a training step, which has been through all passes of graphs.
static bool adopt_frozen(Unit *unit) {
  Compiler *compiler = unit->compiler;
  const Unit *train = compiler_unit_until(compiler, PROGRAM_TRAIN, "hoist");
  if (!train) return false;
  unit->graph = train->frozen;
  if (unit->graph) {
    choose_sizes(unit);
    return true;
  }
  text_print(&compiler->diagnostics.text, "vlmc: error: there is no program of features: %s",
             unit_reached(train, "hoist") ? text_string(&train->hoisted)
                                          : "--stop-after ends before `hoist`\n");
  compiler->diagnostics.errors++;
  return false;
}

// A feature's byte comes from memory or a disk in 0.1 to 1 ns, in which a core does about so many operations.
static const double LEAST_WORK = 64;

// Pictures that are altered at random are others each time: nothing of them can be kept.
bool unit_hoist(Unit *unit) {
  Compiler *compiler = unit->compiler;
  const Preprocess *preprocess = compiler->model ? model_preprocess(compiler->model) : NULL;
  if (!compiler->options.hoist) return true;
  Graph *rest = hoist(unit->graph, LEAST_WORK, &unit->frozen, &unit->hoisted);
  unit->altered = unit->frozen && preprocess && (preprocess->shift || preprocess->mirror);
  if (unit->altered) {
    text_print(&unit->hoisted,
               "no features are kept: each time a picture is shown it is altered at random (`%s`)\n",
               preprocess->mirror ? "mirror" : "shift");
    unit->frozen = NULL;
    return true;
  }
  unit->graph = rest;
  return rest != NULL;
}

bool unit_elaborate(Unit *unit) {
  Compiler *compiler = unit->compiler;
  if (unit->kind == PROGRAM_FEATURES) return adopt_frozen(unit);
  if (compiler->kernels) {
    adopt_kernels(unit);
    return true;
  }
  if (compiler->graph) {
    unit->graph = compiler->graph;
  } else {
    bool train = unit->kind == PROGRAM_TRAIN || unit->kind == PROGRAM_APPLY,
         loss = train || unit->kind == PROGRAM_LOSS;
    unit->graph = model_graph(compiler->model, loss ? "loss" : "forward");
    if (unit->graph && !all_is_used(compiler)) return false;
    if (unit->graph && train) {
      const Stage *stage = compiler_stage(compiler);
      if (!stage || !model_select(compiler->model, stage->name, unit->graph)) return false;
    }
  }
  if (!unit->graph) return false;
  unit->time_limit = time_limit(unit->graph);
  choose_sizes(unit);
  return true;
}

int64_t compiler_capacity(Compiler *compiler) {
  const Unit *unit = compiler_unit_until(compiler, PROGRAM_PREFILL, "elaborate");
  int64_t limit = unit ? unit->time_limit : 0, asked = compiler->options.length;
  if (asked && (!limit || asked < limit)) return asked;
  return limit ? limit : DEFAULT_CAPACITY;
}

bool unit_derive(Unit *unit) {
  Compiler *compiler = unit->compiler;
  DeriveKind kind = unit->kind == PROGRAM_PREFILL ? DERIVE_PREFILL : DERIVE_DECODE;
  unit->graph = derive(unit->graph, kind, compiler_capacity(compiler), true, &compiler->diagnostics);
  return unit->graph != NULL;
}

bool unit_optimizer(Unit *unit) {
  static const char *const results[] = {"parameter", "first", "second"};
  Compiler *compiler = unit->compiler;
  if (!compiler->model) return true; // a graph read from text has what it has
  const Stage *stage = compiler_stage(compiler);
  const Graph *rule = stage ? model_function(compiler->model, "optim.adamw", results, 3) : NULL;
  if (!rule) return false;
  unit->graph = optimizer(unit->graph, rule,
                          (OptimizerOptions){stage->clip, stage->accumulate, unit->kind == PROGRAM_APPLY});
  return unit->graph != NULL;
}

bool unit_verify_kernels(Unit *unit) {
  for (size_t i = 0; i < unit->lowered.kernel_count; i++) {
    Text reason = {0};
    if (kernel_verify(unit->lowered.kernels[i], &reason)) continue;
    unit_internal_error(unit, "kernel `%s` is illegal: %s", unit->lowered.kernels[i]->name,
                        text_string(&reason));
    text_free(&reason);
    return false;
  }
  return true;
}

static EmitOptions emit_options(const Unit *unit) {
  const CompileOptions *options = &unit->compiler->options;
  const char *colon = strchr(options->target, ':');
  return (EmitOptions){.architecture = colon ? colon + 1 : NULL,
                       .threads = options->threads ? options->threads : threads_available(),
                       .cache = options->cache,
                       .sources = &unit->compiler->sources,
                       .symbols = unit->symbols};
}

// What a piece of work takes at the likely sizes, roughly: by that a device tells launches that are not worth other
// threads, and only these need it right.
static void estimate_tasks(const Unit *unit, Program *program) {
  const double rate = 5e10; // FLOPs and bytes per second of one thread
  for (int i = 0; i < program->launch_count; i++) {
    const Launch *launch = &program->launches[i];
    Code *code = &program->codes[launch->code];
    int64_t tasks = work_count(&code->work, unit->symbols);
    if (tasks > 0) code->task_seconds = (launch->flops + launch->bytes) / rate / (double)tasks;
  }
}

bool unit_emit(Unit *unit) {
  Compiler *compiler = unit->compiler;
  Program *program = &unit->lowered.program;
  Failure failure = {0};
  EmitOptions options = emit_options(unit);
  unit->emitter = emit_find(compiler->options.target, &failure);
  unit->compiled = unit->emitter && unit->emitter->compile(unit->lowered.kernels, unit->lowered.kernel_count,
                                                           &options, program->codes, &unit->code, &failure);
  program->backend = unit->code;
  if (unit->compiled) estimate_tasks(unit, program);
  if (unit->compiled) return true;
  if (failure.internal)
    unit_internal_error(unit, "%s", failure.message);
  else {
    text_print(&compiler->diagnostics.text, "vlmc: error: %s\n", failure.message);
    compiler->diagnostics.errors++;
  }
  return false;
}

const Unit *compiler_unit_until(Compiler *compiler, ProgramKind kind, const char *pass) {
  Unit *unit = &compiler->units[kind];
  if (!unit->arena) {
    unit->arena = arena_new();
    unit->compiler = compiler;
    unit->kind = kind;
  }
  int last = pipeline_find(pass);
  if (last < 0) die("there is no pass `%s`", pass);
  return pipeline_run(unit, &compiler->done[kind], last) ? unit : NULL;
}

const Unit *compiler_unit(Compiler *compiler, ProgramKind kind) {
  return compiler_unit_until(compiler, kind, "emit");
}

bool unit_reached(const Unit *unit, const char *pass) {
  return unit->compiler->done[unit->kind] > pipeline_find(pass);
}

const Program *compiler_program(Compiler *compiler, ProgramKind kind) {
  const Unit *unit = compiler_unit(compiler, kind);
  return unit && unit->compiled ? &unit->lowered.program : NULL;
}
