// Stages, template and preprocessing as plain data for the runtime, and which parameters a stage trains.
#include "compiler/elaborate/value.h"
#include "runtime/form.h"

#include <stdlib.h>
#include <string.h>

// ---- settings -----------------------------------------------------------------------------------

static bool setting_number(Elaborator *elaborator, Scope *scope, const Ast *item, double *number) {
  Value value = evaluate(elaborator, scope, item);
  if (value.kind == VALUE_ERROR) return false;
  if (value.kind == VALUE_NUMBER && !value.extent.symbol) return *number = value.number, true;
  error_at(elaborator->diagnostics, item->span, "expected a number, found %s", value_kind_name(&value));
  return false;
}

// A whole number of at most `most`, or an error.
static void read_whole(Elaborator *elaborator, Scope *scope, const Ast *item, int most, int *whole) {
  double number;
  if (!setting_number(elaborator, scope, item, &number)) return;
  if (number >= 0 && number <= most && number == (int)number)
    *whole = (int)number;
  else
    error_at(elaborator->diagnostics, item->span, "expected a whole number from 0 to %d, found %s", most,
             number_text(elaborator, number));
}

static bool item_is(const Ast *item, const char *word) {
  return item->kind == AST_NAME && !strcmp(item->text, word);
}

static bool unknown_setting(Elaborator *elaborator, const Ast *setting, const char *known) {
  error_at(elaborator->diagnostics, setting->span, "`%s` is not a setting here; there are %s", setting->text,
           known);
  return false;
}

static const Ast *find_declaration(const Model *model, AstKind kind, const char *name) {
  for (size_t i = 0; i < model->file->count; i++) {
    const Ast *ast = model->file->list[i];
    if (ast->kind == kind && (!name || !strcmp(ast->text, name))) return ast;
  }
  return NULL;
}

static Scope *file_scope(const Model *model) { return model->root->scope; }

// ---- stages -------------------------------------------------------------------------------------

// cosine(4e-4, floor = 0.1, warmup = 0.02), linear(..), or a constant
static void read_rate(Elaborator *elaborator, Scope *scope, const Ast *ast, Stage *stage) {
  if (ast->kind != AST_CALL) {
    setting_number(elaborator, scope, ast, &stage->rate);
    return;
  }
  if (item_is(ast->a, "cosine"))
    stage->schedule = SCHEDULE_COSINE;
  else if (item_is(ast->a, "linear"))
    stage->schedule = SCHEDULE_LINEAR;
  else
    error_at(elaborator->diagnostics, ast->span, "a rate is a number, cosine(..) or linear(..)");
  for (size_t i = 0; i < ast->count; i++) {
    const char *name = ast->list[i]->text;
    double *field = !name || !strcmp(name, "rate") ? &stage->rate
                    : !strcmp(name, "floor")       ? &stage->floor
                    : !strcmp(name, "warmup")      ? &stage->warmup
                                                   : NULL;
    if (field)
      setting_number(elaborator, scope, ast->list[i]->a, field);
    else
      error_at(elaborator->diagnostics, ast->list[i]->span, "a schedule has rate, floor and warmup, not `%s`",
               name);
  }
}

static void read_number(Elaborator *elaborator, Scope *scope, const Ast *at, const Ast *value,
                        const char *name, Stage *stage) {
  static const char known[] = "data, freeze, train, adamw, batch, accumulate, length, epochs, rate, floor, "
                              "warmup, beta1, beta2, epsilon, "
                              "decay, clip";
  double number;
  double *reals[] = {&stage->epochs, &stage->rate,    &stage->floor,        &stage->warmup, &stage->beta1,
                     &stage->beta2,  &stage->epsilon, &stage->weight_decay, &stage->clip};
  static const char *const real_names[] = {"epochs", "rate",    "floor", "warmup", "beta1",
                                           "beta2",  "epsilon", "decay", "clip"};
  int *wholes[] = {&stage->batch, &stage->accumulate, &stage->length};
  static const char *const whole_names[] = {"batch", "accumulate", "length"};
  if (!strcmp(name, "rate") && value->kind == AST_CALL) {
    read_rate(elaborator, scope, value, stage);
    return;
  }
  for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
    if (strcmp(name, real_names[i])) continue;
    if (!setting_number(elaborator, scope, value, &number)) return;
    if (number < 0) error_at(elaborator->diagnostics, value->span, "`%s` is not negative", name);
    *reals[i] = number;
    return;
  }
  for (size_t i = 0; i < 3; i++) {
    if (strcmp(name, whole_names[i])) continue;
    if (!setting_number(elaborator, scope, value, &number)) return;
    if (number < 1 || number > 1 << 20 || number != (int)number)
      error_at(elaborator->diagnostics, value->span, "`%s` is a whole number of at least 1", name);
    *wholes[i] = (int)number;
    return;
  }
  error_at(elaborator->diagnostics, at->span, "`%s` is not a setting of a stage; there are %s", name, known);
}

static void read_setting(Elaborator *elaborator, Scope *scope, const Ast *setting, Stage *stage) {
  const char *name = setting->text;
  const Ast *first = setting->count ? setting->list[0] : NULL;
  if (!strcmp(name, "freeze") || !strcmp(name, "train")) return; // model_select reads them
  if (!first) {
    error_at(elaborator->diagnostics, setting->span, "`%s` needs a value", name);
  } else if (!strcmp(name, "data")) {
    stage->data = first->text;
    if (first->kind != AST_NAME && first->kind != AST_STRING)
      error_at(elaborator->diagnostics, first->span, "data is the name of a file, without .jsonl");
  } else if (!strcmp(name, "adamw")) {
    for (size_t i = 0; first->kind == AST_CALL && i < first->count; i++)
      read_number(elaborator, scope, first->list[i], first->list[i]->a,
                  first->list[i]->text ? first->list[i]->text : "rate", stage);
  } else {
    read_number(elaborator, scope, setting, first, name, stage);
  }
}

static void stage_overrides(Model *model, Scope *scope, Stage *stage) {
  Elaborator *elaborator = &model->elaborator;
  const Ast *preset =
      model->options->preset ? find_declaration(model, AST_PRESET, model->options->preset) : NULL;
  for (size_t i = 0; preset && i < preset->count; i++) {
    const Ast *setting = preset->list[i];
    if (strcmp(setting->text, stage->name) || setting->count != 1 || setting->list[0]->kind != AST_CALL)
      continue;
    const Ast *call = setting->list[0];
    for (size_t j = 0; j < call->count; j++)
      read_number(elaborator, scope, call->list[j], call->list[j]->a,
                  call->list[j]->text ? call->list[j]->text : "", stage);
  }
  size_t length = strlen(stage->name);
  for (size_t i = 0; i < model->options->define_count; i++) {
    const Define *define = &model->options->defines[i];
    if (!strncmp(define->path, stage->name, length) && define->path[length] == '.')
      read_number(elaborator, scope, define->value, define->value, define->path + length + 1, stage);
  }
}

const Stage *model_stage(Model *model, const char *name) {
  Elaborator *elaborator = &model->elaborator;
  const Ast *ast = find_declaration(model, AST_STAGE, name);
  int errors = elaborator->diagnostics->errors;
  if (!ast) {
    Text known = {0};
    const char *const *names;
    size_t count = model_stage_names(model, &names);
    for (size_t i = 0; i < count; i++) text_print(&known, "%s%s", i ? ", " : "", names[i]);
    if (count)
      error_at(elaborator->diagnostics, model->file->span, "there is no stage `%s`; this file has: %s", name,
               text_string(&known));
    else
      error_at(elaborator->diagnostics, model->file->span, "the file has no stage, which says how to train");
    text_free(&known);
    return NULL;
  }
  Stage *stage = ARENA_NEW(elaborator->arena, Stage);
  *stage = (Stage){.name = ast->text,
                   .rate = 1e-3,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .epsilon = 1e-8,
                   .weight_decay = 0.01,
                   .batch = 1,
                   .accumulate = 1,
                   .epochs = 1};
  for (size_t i = 0; i < ast->count; i++) read_setting(elaborator, file_scope(model), ast->list[i], stage);
  stage_overrides(model, file_scope(model), stage);
  if (!stage->data) error_at(elaborator->diagnostics, ast->span, "stage `%s` names no data", ast->text);
  return elaborator->diagnostics->errors > errors ? NULL : stage;
}

size_t model_stage_names(const Model *model, const char *const **names) {
  const char **list = ARENA_ARRAY(model->elaborator.arena, const char *, model->file->count + 1);
  size_t count = 0;
  for (size_t i = 0; i < model->file->count; i++)
    if (model->file->list[i]->kind == AST_STAGE) list[count++] = model->file->list[i]->text;
  *names = list;
  return count;
}

// ---- which parameters a stage trains ------------------------------------------------------------

// How many entries the list at `path` has: 1 + the largest N of a parameter "path.N....".
static long list_length(const Graph *graph, const char *path) {
  size_t length = strlen(path);
  long most = 0;
  for (size_t i = 0; i < graph->input_count; i++) {
    const char *name = graph->inputs[i].name;
    if (strncmp(name, path, length) || name[length] != '.') continue;
    long at = strtol(name + length + 1, NULL, 10) + 1;
    if (at > most) most = at;
  }
  return most;
}

static bool list_bound(Elaborator *elaborator, Scope *scope, const Ast *ast, long count, long otherwise,
                       long *bound) {
  double number = (double)otherwise;
  if (ast && !setting_number(elaborator, scope, ast, &number)) return false;
  *bound = number < 0 ? (long)number + count : (long)number;
  return true;
}

static size_t mark(Graph *graph, const char *path, bool trained) {
  size_t length = strlen(path), marked = 0;
  for (size_t i = 0; i < graph->input_count; i++) {
    Input *input = &graph->inputs[i];
    bool inside = !length || (!strncmp(input->name, path, length) &&
                              (!input->name[length] || input->name[length] == '.'));
    if (input->role != INPUT_PARAM || !inside) continue;
    input->trained = trained;
    marked++;
  }
  return marked;
}

typedef struct Paths {
  const char **list;
  size_t count, capacity;
} Paths;

static bool expand(Model *model, const Ast *item, const Graph *graph, Paths *paths);

// blocks[-1], blocks[1:3]: the entries of every list that the part before the index names.
static bool expand_index(Model *model, const Ast *item, const Graph *graph, Paths *paths) {
  Elaborator *elaborator = &model->elaborator;
  Scope *scope = file_scope(model);
  const Ast *at = item->list[0];
  bool slice = at->kind == AST_SLICE;
  Paths before = {0};
  if (!expand(model, item->a, graph, &before)) return false;
  for (size_t i = 0; i < before.count; i++) {
    long count = list_length(graph, before.list[i]), begin, end;
    if (!list_bound(elaborator, scope, slice ? at->a : at, count, 0, &begin)) return false;
    end = begin + 1;
    if (slice && !list_bound(elaborator, scope, at->b, count, count, &end)) return false;
    for (long entry = begin < 0 ? 0 : begin; entry < end && entry < count; entry++) {
      const char *path = arena_print(elaborator->arena, "%s.%ld", before.list[i], entry);
      ARENA_PUSH(elaborator->arena, paths->list, paths->count, paths->capacity, path);
    }
  }
  return true;
}

// All paths that a selector names: vision, lm.blocks[-1], lm.blocks[-2:].attn
static bool expand(Model *model, const Ast *item, const Graph *graph, Paths *paths) {
  Elaborator *elaborator = &model->elaborator;
  if (item->kind == AST_INDEX && item->count == 1) return expand_index(model, item, graph, paths);
  if (item->kind == AST_MEMBER) {
    if (!expand(model, item->a, graph, paths)) return false;
    for (size_t i = 0; i < paths->count; i++)
      paths->list[i] = arena_print(elaborator->arena, "%s.%s", paths->list[i], item->text);
    return true;
  }
  if (item->kind == AST_NAME) {
    ARENA_PUSH(elaborator->arena, paths->list, paths->count, paths->capacity, item->text);
    return true;
  }
  error_at(elaborator->diagnostics, item->span,
           "expected a part, as in `vision`, `lm.blocks[-1]`, `lm.blocks[0:2].attn`, "
           "`everything` or `nothing`");
  return false;
}

static bool mark_selector(Model *model, const Ast *item, Graph *graph, bool trained) {
  Elaborator *elaborator = &model->elaborator;
  size_t marked = 0;
  Paths paths = {0};
  if (item_is(item, "nothing")) return true;
  if (item_is(item, "everything")) {
    marked = mark(graph, "", trained);
  } else {
    if (!expand(model, item, graph, &paths)) return false;
    for (size_t i = 0; i < paths.count; i++) marked += mark(graph, paths.list[i], trained);
  }
  if (marked) return true;
  error_at(elaborator->diagnostics, item->span, "no parameter is called `%s`", source_text(elaborator, item));
  return false;
}

bool model_select(Model *model, const char *name, Graph *graph) {
  const Ast *stage = find_declaration(model, AST_STAGE, name);
  bool good = true, train = false;
  for (size_t i = 0; stage && i < stage->count; i++) train |= !strcmp(stage->list[i]->text, "train");
  mark(graph, "", !train);
  for (int frozen = 0; frozen < 2; frozen++) { // what is frozen stays so, whatever `train` says
    for (size_t i = 0; stage && i < stage->count; i++) {
      const Ast *setting = stage->list[i];
      if (strcmp(setting->text, frozen ? "freeze" : "train")) continue;
      for (size_t j = 0; j < setting->count; j++)
        good &= mark_selector(model, setting->list[j], graph, !frozen);
    }
  }
  return good;
}

// ---- template -----------------------------------------------------------------------------------

// A text in quotes, or a name of the configuration that is one.
static const char *setting_string(Elaborator *elaborator, Scope *scope, const Ast *setting, size_t at) {
  const Ast *item = at < setting->count ? setting->list[at] : NULL;
  if (item && item->kind == AST_STRING) return item->text;
  Value value = item && item->kind == AST_NAME ? evaluate(elaborator, scope, item) : value_bool(false);
  if (value.kind == VALUE_STRING) return value.text;
  if (value.kind == VALUE_ERROR) return NULL;
  error_at(elaborator->diagnostics, setting->span, "`%s` takes a text in quotes", setting->text);
  return NULL;
}

static const char *only_string(Elaborator *elaborator, Scope *scope, const Ast *setting, size_t most) {
  if (setting->count > most)
    error_at(elaborator->diagnostics, setting->list[most]->span, "`%s` takes no more than %zu", setting->text,
             most);
  return setting_string(elaborator, scope, setting, 0);
}

static const char *const *setting_strings(Elaborator *elaborator, Scope *scope, const Ast *setting,
                                          size_t *count) {
  const char **strings = ARENA_ARRAY(elaborator->arena, const char *, setting->count + 1);
  for (size_t i = 0; i < setting->count; i++) strings[i] = setting_string(elaborator, scope, setting, i);
  if (!setting->count) setting_string(elaborator, scope, setting, 0);
  *count = setting->count;
  return strings;
}

static void read_template(Elaborator *elaborator, Scope *scope, const Ast *setting, Template *template) {
  const char *name = setting->text;
  if (!strcmp(name, "turn")) {
    template->turn = only_string(elaborator, scope, setting, 1);
  } else if (!strcmp(name, "caption")) {
    template->caption = only_string(elaborator, scope, setting, 1);
  } else if (!strcmp(name, "begin")) {
    template->begin = only_string(elaborator, scope, setting, 1);
  } else if (!strcmp(name, "system")) {
    template->system = only_string(elaborator, scope, setting, 2);
    if (setting->count > 1) template->system_text = setting_string(elaborator, scope, setting, 1);
  } else if (!strcmp(name, "end")) {
    template->ends = setting_strings(elaborator, scope, setting, &template->end_count);
  } else if (!strcmp(name, "picture")) {
    template->image_token = only_string(elaborator, scope, setting, 3);
    if (setting->count > 1) read_whole(elaborator, scope, setting->list[1], 1 << 20, &template->image_tokens);
    if (setting->count == 3) template->image_mark = setting_string(elaborator, scope, setting, 2);
  } else if (!strcmp(name, "specials")) {
    template->specials = setting_strings(elaborator, scope, setting, &template->special_count);
  } else {
    unknown_setting(elaborator, setting, "begin, system, turn, caption, end, picture and specials");
  }
}

// Where the fault stands in the file: in a text in quotes to the character, else the whole item.
static Span fault_span(const Elaborator *elaborator, const Ast *item, const FormFault *fault) {
  Span span = item->span;
  const char *source = elaborator->diagnostics->sources->list[span.source].text;
  if (item->kind != AST_STRING || !fault->at) return span;
  size_t first = (size_t)(fault->at - item->text), end = first + fault->length;
  uint32_t at = span.begin + 1; // after the quote
  for (size_t i = 0; i < end; i++) {
    if (i == first) span.begin = at;
    at += source[at] == '\\' ? 2 : 1; // an escape is one character
  }
  span.end = at;
  return span;
}

static void check_forms(Elaborator *elaborator, const Ast *ast, const Template *template) {
  const Spellings none = {0}; // which tokens are special is not known before there is a tokenizer
  Forms forms;
  FormFault fault;
  Failure failure = {0};
  if (forms_parse(elaborator->arena, template, &none, &forms, &fault, &failure)) return;
  Span span = ast->span;
  for (size_t i = 0; fault.setting && i < ast->count; i++)
    if (!strcmp(ast->list[i]->text, fault.setting))
      span = fault_span(elaborator, ast->list[i]->list[0], &fault);
  error_at(elaborator->diagnostics, span, "%s", failure.message);
}

const Template *model_template(Model *model) {
  Elaborator *elaborator = &model->elaborator;
  const Ast *ast = find_declaration(model, AST_TEMPLATE, NULL);
  int errors = elaborator->diagnostics->errors;
  if (!ast) return NULL;
  Template *template = ARENA_NEW(elaborator->arena, Template);
  template->image_token = "<image>";
  for (size_t i = 0; i < ast->count; i++)
    read_template(elaborator, file_scope(model), ast->list[i], template);
  if (elaborator->diagnostics->errors == errors) check_forms(elaborator, ast, template);
  return elaborator->diagnostics->errors > errors ? NULL : template;
}

// ---- preprocessing ------------------------------------------------------------------------------

enum { PICTURE_SIDE = 4096 }; // pixels

static const Ast *find_preprocess(Instance *instance, Instance **owner) {
  for (size_t i = 0; i < instance->ast->c->count; i++) {
    if (instance->ast->c->list[i]->kind != AST_PREPROCESS) continue;
    *owner = instance;
    return instance->ast->c->list[i];
  }
  for (size_t i = 0; i < instance->scope->count; i++) {
    const Value *value = &instance->scope->bindings[i].value;
    if (value->kind != VALUE_INSTANCE || value->instance->ast->kind != AST_MODEL) continue;
    const Ast *found = find_preprocess(value->instance, owner);
    if (found) return found;
  }
  return NULL;
}

static void read_triple(Elaborator *elaborator, Scope *scope, const Ast *setting, double *triple) {
  if (setting->count != 1 && setting->count != 3)
    error_at(elaborator->diagnostics, setting->span, "`%s` takes one number, or one per channel",
             setting->text);
  for (size_t i = 0; i < 3 && setting->count; i++)
    setting_number(elaborator, scope, setting->list[setting->count == 3 ? i : 0], &triple[i]);
}

// HEIGHT [WIDTH], one after the other: a single number is both.
static void read_size(Elaborator *elaborator, Scope *scope, const Ast *item, int *height, int *width) {
  int size = 0;
  read_whole(elaborator, scope, item, PICTURE_SIDE, &size);
  if (!*height) *height = size;
  *width = size;
}

// resize shortest|exact|none HEIGHT [WIDTH] [bicubic|bilinear]; a word may also be a text that a name stands
// for.
static void read_resize(Elaborator *elaborator, Scope *scope, const Ast *setting, Preprocess *preprocess) {
  preprocess->resize_height = preprocess->resize_width = 0;
  for (size_t i = 0; i < setting->count; i++) {
    const Ast *item = setting->list[i];
    const Value *named = item->kind == AST_NAME ? scope_find(scope, item->text) : NULL;
    Ast word = {.kind = AST_NAME, .text = named && named->kind == VALUE_STRING ? named->text : NULL};
    if (word.text) item = &word;
    if (item_is(item, "shortest"))
      preprocess->resize = RESIZE_SHORTEST;
    else if (item_is(item, "exact"))
      preprocess->resize = RESIZE_EXACT;
    else if (item_is(item, "none"))
      preprocess->resize = RESIZE_NONE;
    else if (item_is(item, "bicubic"))
      preprocess->resample = RESAMPLE_BICUBIC;
    else if (item_is(item, "bilinear"))
      preprocess->resample = RESAMPLE_BILINEAR;
    else
      read_size(elaborator, scope, item, &preprocess->resize_height, &preprocess->resize_width);
  }
}

// crop centre HEIGHT [WIDTH]
static void read_crop(Elaborator *elaborator, Scope *scope, const Ast *setting, Preprocess *preprocess) {
  if (setting->count < 2 || setting->count > 3 || !item_is(setting->list[0], "centre"))
    error_at(elaborator->diagnostics, setting->span,
             "`crop` takes `centre` and a size, as in `crop centre 224`");
  for (size_t i = 1; i < setting->count; i++)
    read_size(elaborator, scope, setting->list[i], &preprocess->height, &preprocess->width);
}

// pad square mean|GREY|RED GREEN BLUE. Where `mean` stands, *by_mean: the colour is known when all is read.
static void read_pad(Elaborator *elaborator, Scope *scope, const Ast *setting, Preprocess *preprocess,
                     bool *by_mean) {
  *by_mean = setting->count == 2 && item_is(setting->list[1], "mean");
  preprocess->pad_square = setting->count && item_is(setting->list[0], "square");
  if (!preprocess->pad_square || (setting->count != 2 && setting->count != 4))
    error_at(elaborator->diagnostics, setting->span,
             "`pad` takes `square` and a colour: `mean`, one byte, or three");
  for (size_t i = 1; i < setting->count && i < 4 && !*by_mean && preprocess->pad_square; i++) {
    int byte = 0;
    read_whole(elaborator, scope, setting->list[i], 255, &byte);
    for (size_t c = i - 1; c < 3; c++) preprocess->pad_colour[c] = (uint8_t)byte; // one byte: all channels
  }
}

static void read_preprocess(Elaborator *elaborator, Scope *scope, const Ast *setting, Preprocess *preprocess,
                            bool *pad_by_mean) {
  const char *name = setting->text;
  const Ast *first = setting->count ? setting->list[0] : NULL;
  int mirror = 0;
  if (!first) {
    error_at(elaborator->diagnostics, setting->span, "`%s` needs a value", name);
  } else if (!strcmp(name, "resize")) {
    read_resize(elaborator, scope, setting, preprocess);
  } else if (!strcmp(name, "mean")) {
    read_triple(elaborator, scope, setting, preprocess->mean);
  } else if (!strcmp(name, "std")) {
    read_triple(elaborator, scope, setting, preprocess->std);
  } else if (!strcmp(name, "scale")) {
    setting_number(elaborator, scope, first, &preprocess->scale);
  } else if (!strcmp(name, "mirror")) {
    read_whole(elaborator, scope, first, 1, &mirror);
    preprocess->mirror = mirror;
  } else if (!strcmp(name, "crop")) {
    read_crop(elaborator, scope, setting, preprocess);
  } else if (!strcmp(name, "pad")) {
    read_pad(elaborator, scope, setting, preprocess, pad_by_mean);
  } else if (!strcmp(name, "shift")) {
    read_whole(elaborator, scope, first, PICTURE_SIDE, &preprocess->shift);
  } else if (!strcmp(name, "channels")) {
    read_whole(elaborator, scope, first, 3, &preprocess->channels);
  } else {
    unknown_setting(elaborator, setting, "channels, pad, resize, crop, scale, mean, std, shift and mirror");
  }
}

// The byte that normalises to about 0, rounded down (as published processors have it).
static uint8_t mean_byte(const Preprocess *preprocess, int channel) {
  double byte = preprocess->mean[channel] / preprocess->scale + 1e-6; // 0.2 / (1/255) is 51
  return (uint8_t)(byte > 0 ? byte < 255 ? byte : 255 : 0);
}

// What is cropped is the resized picture's size where no crop is asked for, and inside of it where one is.
static void check_sizes(Elaborator *elaborator, const Ast *ast, Preprocess *preprocess) {
  if (!preprocess->height) preprocess->height = preprocess->resize_height;
  if (!preprocess->width) preprocess->width = preprocess->resize_width;
  if (!preprocess->resize_height) preprocess->resize_height = preprocess->height;
  if (!preprocess->resize_width) preprocess->resize_width = preprocess->width;
  if (preprocess->height < 1 || preprocess->width < 1 ||
      (preprocess->channels != 1 && preprocess->channels != 3))
    error_at(elaborator->diagnostics, ast->span,
             "preprocessing needs a size of 1 to 4096 and 1 or 3 channels");
  else if (preprocess->height > preprocess->resize_height || preprocess->width > preprocess->resize_width)
    error_at(elaborator->diagnostics, ast->span,
             "the crop of %d x %d does not lie inside of the %d x %d that are resized to", preprocess->height,
             preprocess->width, preprocess->resize_height, preprocess->resize_width);
}

const Preprocess *model_preprocess(Model *model) {
  Elaborator *elaborator = &model->elaborator;
  Instance *owner = NULL;
  const Ast *ast = find_preprocess(model->root, &owner);
  int errors = elaborator->diagnostics->errors;
  if (!ast) return NULL;
  Preprocess *preprocess = ARENA_NEW(elaborator->arena, Preprocess);
  *preprocess = (Preprocess){.channels = 3,
                             .scale = 1.0 / 255,
                             .std = {1, 1, 1},
                             .resize = RESIZE_EXACT,
                             .resample = RESAMPLE_BICUBIC};
  bool pad_by_mean = false;
  for (size_t i = 0; i < ast->count; i++)
    read_preprocess(elaborator, owner->scope, ast->list[i], preprocess, &pad_by_mean);
  for (int c = 0; c < 3 && pad_by_mean; c++) preprocess->pad_colour[c] = mean_byte(preprocess, c);
  check_sizes(elaborator, ast, preprocess);
  return elaborator->diagnostics->errors > errors ? NULL : preprocess;
}
