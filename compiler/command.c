// What the commands share: opening the compiler, device and store, finding tokenizers, loading checkpoints.
#include "compiler/commands.h"

#include "compiler/graph/passes/passes.h"
#include "runtime/conversation.h"
#include "runtime/dataset.h"
#include "runtime/files.h"
#include "runtime/weights/weights.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path) {
  struct stat status;
  return !stat(path, &status) && S_ISDIR(status.st_mode);
}

const char *library_folder(Arena *arena, Failure *failure) {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length < 0)
    return fail(failure, "the program can not find its own place (/proc is not mounted?)"), NULL;
  path[length] = 0;
  for (int up = 0; up < 2; up++) {
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
  }
  const char *installed = arena_print(arena, "%s/share/vlmc", path);
  if (is_folder(arena_print(arena, "%s/stdlib", installed))) return installed;
  if (is_folder(arena_print(arena, "%s/stdlib", path))) return arena_copy(arena, path, strlen(path));
  fail(failure, "the standard library is in neither %s/stdlib nor %s/stdlib", installed, path);
  return NULL;
}

// A folder below the current one by its relative path: messages and tables stay short.
static const char *seen_from_here(Arena *arena, const char *path) {
  char here[PATH_MAX];
  if (!getcwd(here, sizeof here)) return path;
  size_t length = strlen(here);
  bool below = !strncmp(path, here, length) && path[length] == '/';
  return below ? arena_copy(arena, path + length + 1, strlen(path + length + 1)) : path;
}

// The model as it was asked for; one that is not here may be among those that came with vlmc: models/gpt.vlm.
static const char *model_file(Arena *arena, const char *asked, const char *library) {
  const char *shipped = arena_print(arena, "%s/%s", library, asked);
  bool elsewhere = *asked != '/' && access(asked, F_OK) && file_exists(shipped);
  return elsewhere ? seen_from_here(arena, shipped) : asked;
}

static const char *cache_folder(Arena *arena, const char *asked) {
  const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (asked) return strcmp(asked, "none") ? asked : NULL;
  if (base && *base == '/') return arena_print(arena, "%s/vlmc", base);
  return home && *home == '/' ? arena_print(arena, "%s/.cache/vlmc", home) : NULL;
}

// A folder that holds a checkpoint, but not of a run of ours.
static bool is_published(Job *job, const char *folder) {
  static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                      "pytorch_model.bin", "pytorch_model.bin.index.json"};
  bool found = false;
  for (int i = 0; i < 4; i++) found |= file_exists(arena_print(job->arena, "%s/%s", folder, names[i]));
  return found && !file_exists(arena_print(job->arena, "%s/run.json", folder));
}

// What the folder of --weights says about its model, where the command line is silent.
static bool adopt_run(Job *job) {
  const Options *options = job->options;
  CompileOptions *compile = &job->compile;
  if (!options->weights || !is_folder(options->weights) || is_published(job, options->weights)) return true;
  if (!run_info_read(options->weights, job->arena, &job->info, &job->failure)) return false;
  if (!compile->stage) compile->stage = job->info.stage;
  if (!compile->preset && job->info.preset) {
    compile->preset = job->info.preset;
    compile->preset_from = arena_print(job->arena, "%s/run.json", options->weights);
  }
  size_t own = compile->define_count, run = (size_t)job->info.define_count;
  const char **defines = ARENA_ARRAY(job->arena, const char *, own + run);
  if (run) memcpy(defines, job->info.defines, run * sizeof *defines);
  if (own) memcpy(defines + run, compile->defines, own * sizeof *defines); // later ones win
  compile->defines = defines;
  compile->define_count = own + run;
  return true;
}

static bool read_packing(const Options *options, Packing *packing, Failure *failure) {
  const char *name = options->weights_dtype;
  if (!name || options->command == COMMAND_EXPORT || packing_from_name(name, packing)) return true;
  Closest closest = {.asked = name, .limit = 2}; // `q8` is near enough to q8_0
  for (int i = 0; i < PACKING_COUNT; i++) closest_try(&closest, packing_table[i].name);
  return fail(failure, "--weights-dtype is f32, bf16, q8_0 or q4_0, found `%.40s`%s%s%s", name,
              closest.name ? "; is " : "", closest.name ? closest.name : "", closest.name ? " meant?" : "");
}

static bool read_dtype(const char *name, DType *dtype, Failure *failure) {
  *dtype = DTYPE_F32;
  if (!name || !strcmp(name, "f32")) return true;
  *dtype = DTYPE_BF16;
  return !strcmp(name, "bf16") || fail(failure, "--dtype is f32 or bf16, found `%.40s`", name);
}

typedef struct From {
  const char *to, *path, *from; // [to=]path[:from]
} From;

static From read_from(Arena *arena, const char *text) {
  From from = {"", text, ""};
  const char *equals = strchr(text, '=');
  if (equals && !is_folder(text)) {
    from.to = arena_copy(arena, text, (size_t)(equals - text));
    from.path = equals + 1;
  }
  const char *colon = strrchr(from.path, ':');
  if (colon && !is_folder(from.path) && !file_exists(from.path)) {
    from.from = colon + 1;
    from.path = arena_copy(arena, from.path, (size_t)(colon - from.path));
  }
  return from;
}

static bool is_there(Job *job, const char *flag, const char *path) {
  return !path || !access(path, F_OK) || fail(&job->failure, "--%s %s: %s", flag, path, strerror(errno));
}

static bool is_weights(Job *job, const char *path) {
  WeightFile file;
  if (!weights_open(path, &file, &job->failure)) return false;
  weights_close(&file);
  return true;
}

// Before anything is compiled, trained or written: a wrong path is said at once, as the user wrote it.
static bool find_checkpoints(Job *job) {
  const Options *options = job->options;
  bool good = is_there(job, "weights", options->weights);
  if (good && options->weights && !is_folder(options->weights)) good = is_weights(job, options->weights);
  for (int i = 0; good && i < options->from_count; i++)
    good = is_there(job, "from", read_from(job->arena, options->from[i]).path);
  return good;
}

// Training is parted where features can be kept: there is a folder, and room in it.
static bool wants_hoisting(const Options *options, const char *cache) {
  if (options->command == COMMAND_TRAIN) return cache && options->cache_size > 0;
  bool program = options->program && !strcmp(options->program, program_names[PROGRAM_FEATURES]);
  return program || (options->explain && !strcmp(options->explain, "features"));
}

bool job_open(Job *job, const Options *options) {
  *job = (Job){.arena = arena_new(), .options = options};
  if (!options->model) return fail(&job->failure, "a model file is expected; `vlmc --help` says more");
  if (!find_checkpoints(job)) return false;
  const char *library = library_folder(job->arena, &job->failure);
  if (!library) return false;
  const char **folders = ARENA_ARRAY(job->arena, const char *, 2);
  folders[0] = seen_from_here(job->arena, arena_print(job->arena, "%s/stdlib", library));
  folders[1] = seen_from_here(job->arena, arena_print(job->arena, "%s/models", library));
  job->compile = (CompileOptions){.model = model_file(job->arena, options->model, library),
                                  .preset = options->preset,
                                  .defines = options->defines,
                                  .define_count = (size_t)options->define_count,
                                  .stage = options->stage,
                                  .target = options->target,
                                  .unfused = options->unfused,
                                  .hoist = wants_hoisting(options, cache_folder(job->arena, options->cache)),
                                  .threads = options->threads,
                                  .cache = cache_folder(job->arena, options->cache),
                                  .batch = options->batch,
                                  .length = options->length,
                                  .library = folders,
                                  .library_count = 2,
                                  .stop_after = options->stop_after,
                                  .dump_after = options->dump_after,
                                  .time_passes = options->time_passes};
  if (!read_dtype(options->dtype, &job->compile.storage, &job->failure) ||
      !read_packing(options, &job->compile.packing, &job->failure) || !adopt_run(job))
    return false;
  Text errors = {0};
  job->compiler = compiler_open(&job->compile, &errors);
  fputs(text_string(&errors), stderr);
  text_free(&errors);
  return job->compiler != NULL;
}

bool job_open_device(Job *job) {
  bool cuda = !strncmp(job->options->target, "cuda", 4);
  job->device = cuda ? device_cuda(&job->failure) : device_cpu(job->options->threads, &job->failure);
  if (!job->device) return false;
  job->store = store_open(job->device, (uint64_t)job->options->seed);
  return true;
}

bool job_report(const Job *job) {
  fputs(compiler_errors(job->compiler), stderr);
  return false;
}

int job_close(Job *job, bool good) {
  bool internal = job->failure.internal || (job->compiler && compiler_failed_internally(job->compiler));
  if (!good && job->failure.message[0])
    fprintf(stderr, "vlmc: %s: %s\n", job->failure.internal ? "internal error" : "error",
            job->failure.message);
  tokenizer_free(job->tokenizer);
  store_close(job->store);
  if (job->device) job->device->close(job->device);
  compiler_close(job->compiler);
  arena_free(job->arena);
  return good ? 0 : internal ? 2 : 1;
}

// ---- --weights, --from ------------------------------------------------------------

static bool load(Job *job, From from) {
  const Options *options = job->options;
  Text report = {0};
  PublishedOptions published = {.maps = compiler_weights(job->compiler),
                                .allow_missing = options->allow_missing,
                                .allow_count = (size_t)options->allow_count,
                                .report = &report};
  bool good = checkpoint_load(from.path, from.from, from.to, job->store, &published, &job->failure);
  if (!good || !options->quiet) fputs(text_string(&report), stderr);
  text_free(&report);
  return good;
}

bool job_load_weights(Job *job) { return load(job, (From){"", job->options->weights, ""}); }

bool job_load_from(Job *job) {
  for (int i = 0; i < job->options->from_count; i++)
    if (!load(job, read_from(job->arena, job->options->from[i]))) return false;
  return true;
}

// ---- tokenizer ----------------------------------------------------------------------------------

static bool add_dataset(Job *job, TokenizerTrainer *trainer, const Template *form, const char *name) {
  Dataset *dataset;
  if (!dataset_open(job->options->data, name, &dataset, &job->failure)) return false;
  bool good = true;
  for (size_t i = 0; good && i < dataset_count(dataset); i++) {
    Arena *arena = arena_new();
    Row row = {0};
    good = dataset_row(dataset, i, arena, &row, &job->failure);
    if (good) conversation_add_texts(form, &row, trainer);
    arena_free(arena);
  }
  dataset_close(dataset);
  return good;
}

// Rows that some stage of the model trains on: what a test split holds is not looked at.
static bool train_tokenizer(Job *job, const Template *form, const Stage *stage, int64_t vocabulary) {
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  bool good = add_dataset(job, trainer, form, stage->data) &&
              tokenizer_trainer_finish(trainer, (size_t)vocabulary, form->specials, form->special_count,
                                       &job->tokenizer, &job->failure);
  tokenizer_trainer_free(trainer);
  if (good)
    fprintf(stderr, "tokenizer: %d tokens, trained on %s\n", tokenizer_count(job->tokenizer),
            dataset_find(job->arena, job->options->data, stage->data));
  return good;
}

static bool reads_ids(const Graph *graph, NodeId index) {
  const Node *node = &graph->nodes[index];
  while (op_table[node->op].properties & VIEW) node = &graph->nodes[node->in[0]];
  return node->op == OP_INPUT && node->type.dtype == DTYPE_I32 &&
         graph->inputs[node->attributes.input].role == INPUT_DATA;
}

// The parameter in which the model looks up token ids (the shortest, if several). NULL: it reads no text.
static const Input *find_token_table(Job *job, int64_t *rows) {
  const Unit *unit = compiler_unit_until(job->compiler, PROGRAM_FORWARD, "canonical");
  const Graph *graph = unit ? unit->graph : NULL;
  const Input *table = NULL;
  *rows = 0;
  for (NodeId i = 1; graph && i < graph->count; i++) {
    const Node *node = &graph->nodes[i];
    if (node->op != OP_GATHER || graph->nodes[node->in[0]].op != OP_INPUT || !reads_ids(graph, node->in[1]))
      continue;
    int64_t found = graph_type(graph, node->in[0])->axes[node->attributes.batch].extent.offset;
    if (table && found >= *rows) continue;
    *rows = found;
    table = &graph->inputs[graph->nodes[node->in[0]].attributes.input];
  }
  return table;
}

bool job_is_token_table(Job *job, const char *parameter) {
  int64_t rows;
  const Input *table = find_token_table(job, &rows);
  return table && !strcmp(table->name, parameter);
}

int64_t job_vocabulary(Job *job) {
  int64_t rows;
  find_token_table(job, &rows);
  return rows;
}

// In the checkpoint's folder under one of the names that publishers use, or inside of the checkpoint.
static const char *tokenizer_beside(Job *job, const char *checkpoint) {
  static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json"};
  const char *slash = strrchr(checkpoint, '/'), *folder = checkpoint;
  if (!is_folder(checkpoint))
    folder = slash ? arena_copy(job->arena, checkpoint, (size_t)(slash - checkpoint) + 1) : ".";
  for (int i = 0; i < 3; i++) {
    const char *path = arena_print(job->arena, "%s/%s", folder, names[i]);
    if (file_exists(path)) return path;
  }
  return gguf_recognised(checkpoint) ? checkpoint : arena_print(job->arena, "%s/%s", folder, names[0]);
}

// The tokenizer of the --from that brings the table of tokens: ids mean the same only there.
static const char *tokenizer_of_from(Job *job) {
  int64_t rows;
  const Input *table = find_token_table(job, &rows);
  for (int i = 0; table && i < job->options->from_count; i++) {
    From from = read_from(job->arena, job->options->from[i]);
    const char *path = tokenizer_beside(job, from.path);
    size_t length = strlen(from.to);
    bool brings = !length || (!strncmp(table->name, from.to, length) && table->name[length] == '.');
    if (brings && file_exists(path)) return path;
  }
  return NULL;
}

bool job_find_tokenizer(Job *job, const Template *form, int64_t vocabulary) {
  const Options *options = job->options;
  const char *path = options->tokenizer;
  const char *own = options->weights ? options->weights : options->resume ? options->out : NULL;
  if (!path && own) path = tokenizer_beside(job, own);
  if (!path) path = tokenizer_of_from(job);
  if (path) return tokenizer_open(path, &job->tokenizer, &job->failure);
  const Stage *stage = compiler_stage(job->compiler);
  if (!form) return fail(&job->failure, "the model's file has no template, which a tokenizer needs");
  return stage ? train_tokenizer(job, form, stage, vocabulary) : job_report(job);
}

int64_t job_length(Job *job, const Stage *stage, ProgramKind kind) {
  const Unit *unit = compiler_unit_until(job->compiler, kind, "elaborate");
  int64_t limit = unit ? unit->time_limit : 0, asked = job->options->length ? job->options->length
                                                       : stage              ? stage->length
                                                                            : 0;
  if (limit && job->options->length > limit)
    fprintf(stderr, "vlmc: warning: --length %" PRId64 ": the model has room for %" PRId64 " positions\n",
            job->options->length, limit);
  return asked && (!limit || asked < limit) ? asked : limit;
}

bool job_has_model_and_weights(Job *job) {
  if (!compiler_model(job->compiler))
    return fail(&job->failure, "%s is not a model file", job->options->model);
  return job->options->weights ||
         fail(&job->failure,
              "--weights is needed: a folder that `vlmc train` wrote, or a published checkpoint");
}

void job_report_weights(Job *job, ProgramKind kind) {
  const Unit *unit = compiler_unit(job->compiler, kind);
  Text report = {0};
  if (!unit || !job->compile.packing || job->options->quiet) return;
  weights_report(unit->graph, unit->before_backward, &report);
  fputs(text_string(&report), stderr);
  text_free(&report);
}
