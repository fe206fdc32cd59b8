// vlmc export: weights in the layout of a block of the model file, under the names that others know them by.
#include "compiler/commands.h"

#include <stdio.h>
#include <string.h>

#include "runtime/conversation.h"
#include "runtime/jinja.h"

// The block called NAME, or PART.NAME; without a name the only one of the whole model.
static const WeightMap *choose_block(Job *job) {
  const WeightMaps *maps = compiler_weights(job->compiler);
  const char *wanted = job->options->as;
  const WeightMap *found = NULL;
  size_t fitting = 0;
  Text known = {0};
  for (size_t i = 0; i < maps->count; i++) {
    const WeightMap *map = &maps->list[i];
    const char *name = *map->part ? arena_print(job->arena, "%s.%s", map->part, map->name) : map->name;
    text_print(&known, "%s%s", known.length ? ", " : "", name);
    if (wanted ? strcmp(wanted, name) != 0 : *map->part != 0) continue;
    found = map;
    fitting++;
  }
  if (fitting != 1)
    fail(&job->failure, "--as names the layout to write, one of the model's blocks of weights: %s%s%.80s",
         known.length ? text_string(&known) : "it has none", wanted ? "; found " : "", wanted ? wanted : "");
  text_free(&known);
  return fitting == 1 ? found : NULL;
}

// A template whose special tokens the vocabulary lacks is of no use to whoever has the file: it is left out.
static bool note_template(Job *job, const Template *form, GgufMetadata *metadata) {
  if (!form || !form->turn) return true;
  Conversation *conversation;
  Failure unfit;
  if (!conversation_new(job->arena, job->tokenizer, form, &conversation, &unfit)) {
    fprintf(stderr, "written without a template: %s\n", unfit.message);
    return true;
  }
  Text jinja = {0};
  bool good = template_jinja(form, &jinja, &job->failure);
  if (good) gguf_add_string(metadata, "tokenizer.chat_template", text_string(&jinja));
  text_free(&jinja);
  return good;
}

// A language model's GGUF carries the tokenizer that lies beside the weights, and the template; other files
// have neither.
static bool note_tokenizer(Job *job, const WeightMap *map, GgufMetadata *metadata) {
  const Template *form = model_template(compiler_model(job->compiler));
  for (size_t i = 0; i < map->row_count; i++) {
    const MapRow *row = &map->rows[i];
    if (!job_is_token_table(job, row->parameter)) continue;
    if (!job_find_tokenizer(job, form, row->extents[0])) return false;
    int32_t begin = form && form->begin ? tokenizer_find(job->tokenizer, form->begin) : -1;
    int32_t end = form && form->end_count ? tokenizer_find(job->tokenizer, form->ends[0]) : -1;
    return tokenizer_note_gguf(job->tokenizer, row->extents[0], begin, end, metadata, &job->failure) &&
           note_template(job, form, metadata);
  }
  return true;
}

static bool write_gguf(Job *job, const WeightMap *map, WeightFormat matrices) {
  GgufMetadata metadata = {0};
  Text report = {0};
  bool good =
      note_tokenizer(job, map, &metadata) &&
      published_save_gguf(job->options->output, map, matrices, &metadata, job->store, &report, &job->failure);
  fputs(text_string(&report), stderr);
  text_free(&report);
  gguf_metadata_free(&metadata);
  return good;
}

// The formats that --weights-dtype may name.
static bool read_format(Job *job, WeightFormat *format) {
  static const struct {
    const char *name;
    WeightFormat format;
  } known[] = {{"f32", WEIGHT_F32},
               {"f16", WEIGHT_F16},
               {"bf16", WEIGHT_BF16},
               {"q8_0", WEIGHT_Q8_0},
               {"q4_0", WEIGHT_Q4_0}};
  const char *name = job->options->weights_dtype;
  *format = WEIGHT_F32;
  if (!name) return true;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    *format = known[i].format;
    if (!strcmp(name, known[i].name)) return true;
  }
  return fail(&job->failure, "--weights-dtype is f32, f16, bf16, q8_0 or q4_0, found `%.40s`", name);
}

// What the command line asks for, before anything is loaded.
static bool read_formats(Job *job, bool *gguf, WeightFormat *matrices) {
  const char *format = job->options->format ? job->options->format : "safetensors";
  *gguf = !strcmp(format, "gguf");
  if (!*gguf && strcmp(format, "safetensors"))
    return fail(&job->failure, "--format is safetensors or gguf, found `%.40s`", format);
  if (!read_format(job, matrices)) return false;
  return *gguf || *matrices == WEIGHT_F32 ||
         fail(&job->failure, "safetensors are written in f32; --weights-dtype %s needs --format gguf",
              job->options->weights_dtype);
}

static bool export_weights(Job *job) {
  const Options *options = job->options;
  if (!compiler_model(job->compiler)) return fail(&job->failure, "%s is not a model file", options->model);
  if (!options->weights && !options->from_count)
    return fail(&job->failure,
                "--weights is needed: a folder that `vlmc train` wrote, or a published checkpoint");
  if (!options->output) return fail(&job->failure, "-o is needed: the file to write");
  bool gguf = false;
  WeightFormat matrices = WEIGHT_F32;
  const WeightMap *map = choose_block(job);
  if (!map || !read_formats(job, &gguf, &matrices)) return false;
  const Program *program =
      compiler_program(job->compiler, PROGRAM_FORWARD); // says which parameters there are
  if (!program) return job_report(job);
  if (!job_open_device(job)) return false;
  Session *binding = session_open(program, job->store, &job->failure);
  bool good = binding && (!options->weights || job_load_weights(job)) && job_load_from(job) &&
              (gguf ? write_gguf(job, map, matrices)
                    : published_save(options->output, map, job->store, &job->failure));
  session_close(binding);
  return good;
}

int run_export(const Options *options) {
  Job job;
  Options own = *options;
  own.target = "ref"; // nothing is computed: no code is needed
  bool good = job_open(&job, &own) && export_weights(&job);
  return job_close(&job, good);
}
