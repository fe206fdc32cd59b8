// Saving and loading what a run has learned.
#include "runtime/checkpoint.h"

#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/weights/safetensors.h"
#include "runtime/weights/weights.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RUN_JSON_LIMIT = 1 << 20 };

static const char *in_folder(Arena *arena, const char *folder, const char *name) {
  return arena_print(arena, "%s/%s", folder, name);
}

// ---- run.json -----------------------------------------------------------------------------------

static void print_member(Text *text, const char *key, const char *value) {
  if (!value) return;
  text_print(text, "  \"%s\": ", key);
  json_quote(text, value);
  text_print(text, ",\n");
}

bool run_info_write(const char *folder, const RunInfo *info, Failure *failure) {
  Arena *arena = arena_new();
  Text text = {0};
  text_print(&text, "{\n");
  print_member(&text, "model", info->model);
  print_member(&text, "preset", info->preset);
  print_member(&text, "stage", info->stage);
  print_member(&text, "dtype", info->dtype);
  text_print(&text, "  \"defines\": [");
  for (int i = 0; i < info->define_count; i++) {
    if (i) text_print(&text, ", ");
    json_quote(&text, info->defines[i]);
  }
  text_print(&text, "],\n  \"length\": %" PRId64 ",\n  \"seed\": %" PRId64, info->length, info->seed);
  if (info->steps) text_print(&text, ",\n  \"steps\": %" PRId64, info->steps);
  if (info->epochs > 0) text_print(&text, ",\n  \"epochs\": %.17g", info->epochs);
  text_print(&text, "\n}\n");
  bool good = file_replace(in_folder(arena, folder, "run.json"), text_string(&text), text.length, failure);
  text_free(&text);
  arena_free(arena);
  return good;
}

// Steps and epochs are there where the command line named them.
static bool read_how_long(const json_t *root, const char *path, RunInfo *info, Failure *failure) {
  json_int_t steps = 0;
  if (json_object_get(root, "steps") && !json_get_integer(root, "steps", path, &steps, failure)) return false;
  info->steps = steps;
  return !json_object_get(root, "epochs") || json_get_number(root, "epochs", path, &info->epochs, failure);
}

static const char *optional_string(Arena *arena, const json_t *root, const char *key) {
  const char *value = json_string_value(json_object_get(root, key));
  return value ? arena_copy(arena, value, strlen(value)) : NULL;
}

bool run_info_read(const char *folder, Arena *arena, RunInfo *info, Failure *failure) {
  const char *path = in_folder(arena, folder, "run.json");
  *info = (RunInfo){0};
  json_t *root = json_read(path, RUN_JSON_LIMIT, failure), *defines;
  json_int_t seed, length;
  if (!root) return false;
  bool good = json_get_array(root, "defines", path, &defines, failure) &&
              json_get_integer(root, "length", path, &length, failure) &&
              json_get_integer(root, "seed", path, &seed, failure) &&
              read_how_long(root, path, info, failure);
  if (good && json_array_size(defines) > RUN_MAX_DEFINES)
    good = fail(failure, "%s: more than %d defines", path, RUN_MAX_DEFINES);
  if (good) {
    info->model = optional_string(arena, root, "model");
    info->preset = optional_string(arena, root, "preset");
    info->stage = optional_string(arena, root, "stage");
    info->dtype = optional_string(arena, root, "dtype");
    info->seed = seed;
    info->length = length;
    for (size_t i = 0; good && i < json_array_size(defines); i++) {
      const char *define = json_string_value(json_array_get(defines, i));
      if (!define)
        good = fail(failure, "%s: a define is a text, found %s", path, json_kind(json_array_get(defines, i)));
      else
        info->defines[info->define_count++] = arena_copy(arena, define, strlen(define));
    }
  }
  json_decref(root);
  return good;
}

static const char *or_none(const char *text) { return text ? text : "(not given)"; }

static bool same_text(const char *folder, const char *what, const char *then, const char *now,
                      Failure *failure) {
  if (!strcmp(or_none(then), or_none(now))) return true;
  return fail(failure, "%s: its run began with %s %s, this is %s; --resume goes on with the same settings",
              folder, what, or_none(then), or_none(now));
}

static bool same_number(const char *folder, const char *what, int64_t then, int64_t now, Failure *failure) {
  char before[32], after[32];
  snprintf(before, sizeof before, "%" PRId64, then);
  snprintf(after, sizeof after, "%" PRId64, now);
  return same_text(folder, what, before, after, failure);
}

bool run_info_agrees(const char *folder, const RunInfo *then, const RunInfo *now, Failure *failure) {
  bool good = same_text(folder, "--preset", then->preset, now->preset, failure) &&
              same_text(folder, "--stage", then->stage, now->stage, failure) &&
              same_text(folder, "--dtype", then->dtype, now->dtype, failure) &&
              same_number(folder, "--seed", then->seed, now->seed, failure) &&
              same_number(folder, "--length", then->length, now->length, failure);
  for (int i = 0; good && (i < then->define_count || i < now->define_count); i++)
    good = same_text(folder, "-D", i < then->define_count ? then->defines[i] : NULL,
                     i < now->define_count ? now->defines[i] : NULL, failure);
  return good;
}

// ---- writing ------------------------------------------------------------------------------------

static bool write_role(const char *path, const TensorStore *store, BufferRole role,
                       const SafetensorsText *metadata, size_t metadata_count, Failure *failure) {
  Arena *arena = arena_new();
  SafetensorsTensor *tensors = ARENA_ARRAY(arena, SafetensorsTensor, store->count + 1);
  StoreTensor **sources = ARENA_ARRAY(arena, StoreTensor *, store->count + 1);
  size_t count = 0;
  for (size_t i = 0; i < store->count; i++) {
    StoreTensor *tensor = store->list[i];
    if (tensor->role != role) continue;
    sources[count] = tensor;
    tensors[count] = (SafetensorsTensor){.name = tensor->name, .dtype = tensor->dtype, .rank = tensor->rank};
    memcpy(tensors[count++].extents, tensor->extents, sizeof tensor->extents);
  }
  SafetensorsWriter *writer;
  bool good = safetensors_create(path, tensors, count, metadata, metadata_count, &writer, failure),
       opened = good;
  for (size_t i = 0; good && i < count; i++) {
    Device *device = store->device;
    if (sources[i]->packing) {
      safetensors_abandon(writer);
      good = fail_internal(failure, "`%s` is packed: what it was is not there to be saved", sources[i]->name);
      break;
    }
    void *copy = device->host_memory ? sources[i]->memory : malloc(sources[i]->bytes + 1);
    good = copy || fail(failure, "out of memory while writing `%s`", sources[i]->name);
    if (good && !device->host_memory)
      good = device->download(device, copy, sources[i]->memory, sources[i]->bytes, failure);
    if (!good)
      safetensors_abandon(writer);
    else
      good = safetensors_put(writer, i, copy, failure);
    if (!device->host_memory) free(copy);
  }
  good = opened && good && safetensors_finish(writer, failure);
  arena_free(arena);
  return good;
}

// What is left of saves that were cut short, and the optimizer's file of the step before.
static void remove_leftovers(const char *folder, const char *kept) {
  Arena *arena = arena_new();
  DIR *directory = opendir(folder);
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    const char *name = entry->d_name, *ending = strrchr(name, '.');
    bool cut_short = ending && !strcmp(ending, ".temporary") && strstr(name, ".safetensors.");
    bool older =
        !strncmp(name, "optimizer-", 10) && ending && !strcmp(ending, ".safetensors") && strcmp(name, kept);
    if (cut_short || older) unlink(in_folder(arena, folder, name));
  }
  if (directory) closedir(directory);
  arena_free(arena);
}

bool checkpoint_save(const char *folder, TensorStore *store, const Progress *progress, Failure *failure) {
  Arena *arena = arena_new();
  const char *model = in_folder(arena, folder, "model.safetensors");
  const char *name = arena_print(arena, "optimizer-%" PRId64 ".safetensors", progress->step);
  const SafetensorsText metadata[] = {
      {"format", "vlmc"},
      {"optimizer", name},
      {"step", arena_print(arena, "%" PRId64, progress->step)},
      {"total", arena_print(arena, "%" PRId64, progress->total)},
      {"loss", arena_print(arena, "%a", progress->loss)},
      {"seconds", arena_print(arena, "%a", progress->seconds)},
  };
  bool good = store_start(store, failure) &&
              write_role(in_folder(arena, folder, name), store, ROLE_STATE, NULL, 0, failure) &&
              write_role(model, store, ROLE_PARAM, metadata, sizeof metadata / sizeof *metadata, failure);
  if (good) remove_leftovers(folder, name);
  arena_free(arena);
  return good;
}

bool checkpoint_exists(const char *folder) {
  Arena *arena = arena_new();
  bool exists = file_exists(in_folder(arena, folder, "model.safetensors"));
  arena_free(arena);
  return exists;
}

// ---- reading ------------------------------------------------------------------------------------

// The rest of `name` after the part `part`: "lm.token" and "lm" give "token". NULL: not in that part.
static const char *inside_part(const char *name, const char *part) {
  size_t length = strlen(part);
  if (!length) return name;
  if (strncmp(name, part, length)) return NULL;
  if (!name[length]) return name + length;
  return name[length] == '.' ? name + length + 1 : NULL;
}

static bool shape_fits(const StoreTensor *tensor, const WeightTensor *found) {
  bool same = format_dtype(found->format) == tensor->dtype && found->rank == tensor->rank;
  for (int i = 0; same && i < tensor->rank; i++) same = found->extents[i] == tensor->extents[i];
  return same;
}

static void print_shape(Text *text, const char *dtype, int rank, const int64_t *extents) {
  text_print(text, "%s[", dtype);
  for (int i = 0; i < rank; i++) text_print(text, "%s%" PRId64, i ? ", " : "", extents[i]);
  text_print(text, "]");
}

// One parameter or state from the file; what does not fit is added to `misfits`.
static bool load_tensor(TensorStore *store, StoreTensor *tensor, const WeightFile *file, const char *name,
                        Text *misfits, Failure *failure) {
  const WeightTensor *found = weights_find(file, name);
  if (found && shape_fits(tensor, found)) {
    tensor->loaded = tensor->started = true;
    if (tensor->packing) return store_write(store, tensor, found->data, failure);
    return store->device->upload(store->device, tensor->memory, found->data, tensor->bytes, failure);
  }
  text_print(misfits, "\n  %s: ", name);
  print_shape(misfits, dtype_safetensors(tensor->dtype), tensor->rank, tensor->extents);
  text_print(misfits, " is wanted, ");
  if (found)
    print_shape(misfits, format_name(found->format), found->rank, found->extents);
  else
    text_print(misfits, "nothing");
  text_print(misfits, " is there");
  return true;
}

// The first of them, in whole lines, and how many more there are.
static bool report_misfits(const char *path, Text *misfits, Failure *failure) {
  enum { ROOM = 700 };
  const char *all = text_string(misfits), *end = all + misfits->length;
  if (!misfits->length) return text_free(misfits), true;
  int more = 0;
  for (const char *line = all; (line = strchr(line + 1, '\n'));)
    if (line - all > ROOM && !more++) end = line;
  Text rest = {0};
  if (more) text_print(&rest, "\n  and %d more: another preset or size?", more);
  fail(failure, "%s does not fit the model:%.*s%s", path, (int)(end - all), all, text_string(&rest));
  text_free(&rest);
  text_free(misfits);
  return false;
}

// Lists what the part `from` of the file holds and the model has no place for.
static void report_unused(const WeightFile *file, const char *from, const char *to, const TensorStore *store,
                          Text *report) {
  Arena *arena = arena_new();
  for (size_t i = 0; i < file->count; i++) {
    const char *name = file->tensors[i].name, *rest = inside_part(name, from);
    if (!rest) continue;
    const char *wanted = !*to ? rest : !*rest ? to : arena_print(arena, "%s.%s", to, rest);
    if (!store_find(store, wanted))
      text_print(report, "%s: %s is there, nothing of the model wants it\n", file->path, name);
  }
  arena_free(arena);
}

// What a parameter of the store is called in one of our own files; NULL: it is not asked for.
static const char *own_name(const StoreTensor *tensor, const char *from, const char *to, Arena *arena) {
  const char *rest = tensor->role == ROLE_PARAM ? inside_part(tensor->name, to) : NULL;
  return !rest ? NULL : !*from ? rest : !*rest ? from : arena_print(arena, "%s.%s", from, rest);
}

static bool load_own(const WeightFile *file, const char *from, const char *to, TensorStore *store,
                     const PublishedOptions *options, Failure *failure) {
  Arena *arena = arena_new();
  Text misfits = {0};
  size_t matched = 0;
  bool good = true;
  for (size_t i = 0; good && i < store->count; i++) {
    StoreTensor *tensor = store->list[i];
    const char *source = own_name(tensor, from, to, arena);
    if (!source) continue;
    matched++;
    if (published_allows(options, tensor->name) && !weights_find(file, source)) continue;
    good = load_tensor(store, tensor, file, source, &misfits, failure);
  }
  if (good && !matched) good = fail(failure, "no parameter of the model is called `%s`", to);
  if (good)
    good = report_misfits(file->path, &misfits, failure);
  else
    text_free(&misfits);
  if (good && options && options->report) report_unused(file, from, to, store, options->report);
  arena_free(arena);
  return good;
}

static size_t count_own(const WeightFile *file, const char *from, const char *to, const TensorStore *store,
                        Arena *arena) {
  size_t found = 0;
  for (size_t i = 0; i < store->count; i++) {
    const char *name = own_name(store->list[i], from, to, arena);
    found += name && weights_find(file, name);
  }
  return found;
}

// Neither our own names nor those of a block are there.
static bool fail_unknown(const WeightFile *file, const char *to, const PublishedOptions *options,
                         Arena *arena, Failure *failure) {
  PublishedLayout other = published_match(file, options->maps, NULL, arena);
  Text known = {0};
  for (size_t i = 0; i < options->maps->count; i++) {
    const WeightMap *map = &options->maps->list[i];
    if (strcmp(map->part, to)) continue;
    text_print(&known, "%s`%s` (%s)", known.length ? ", " : "", map->name, map->origin);
  }
  if (other.map)
    fail(failure,
         "%s holds weights of `%s` (block `%s`, %s), and `%s` is asked for; --from %s=%s loads that part",
         file->path, other.map->part, other.map->name, other.map->origin, *to ? to : "the whole model",
         other.map->part, file->path);
  else
    fail(failure,
         "%s has neither the names of the model's own parameters nor those of a block of weights; %s%.600s",
         file->path, known.length ? "there are " : "there is no block", text_string(&known));
  text_free(&known);
  return false;
}

bool checkpoint_load(const char *path, const char *from, const char *to, TensorStore *store,
                     const PublishedOptions *options, Failure *failure) {
  Arena *arena = arena_new();
  WeightFile file = {0};
  bool good = weights_open(path, &file, failure);
  const char *format = good ? weights_metadata(&file, "format") : NULL;
  bool own =
      *from || (format && !strcmp(format, "vlmc")) || !options || !options->maps || !options->maps->count;
  if (good && !own) {
    size_t found = count_own(&file, from, to, store, arena);
    PublishedLayout layout = published_match(&file, options->maps, to, arena);
    own = found && found >= layout.found;
    if (!own && layout.map) good = published_load(&file, &layout, options, store, failure);
    if (!own && !layout.map) good = fail_unknown(&file, to, options, arena, failure);
  }
  if (good && own) good = load_own(&file, from, to, store, options, failure);
  weights_close(&file);
  arena_free(arena);
  return good;
}

static bool read_progress(const WeightFile *file, Progress *progress, Failure *failure) {
  const char *step = weights_metadata(file, "step"), *total = weights_metadata(file, "total");
  const char *loss = weights_metadata(file, "loss"), *seconds = weights_metadata(file, "seconds");
  if (!step || !total || !loss || !seconds)
    return fail(failure, "%s: its metadata does not say how far the run was", file->path);
  *progress = (Progress){strtoll(step, NULL, 10), strtoll(total, NULL, 10), strtod(loss, NULL),
                         strtod(seconds, NULL)};
  if (progress->step < 0 || progress->total < progress->step)
    return fail(failure, "%s: step `%.40s` of `%.40s` makes no sense", file->path, step, total);
  return true;
}

bool checkpoint_resume(const char *folder, TensorStore *store, Progress *progress, Failure *failure) {
  Arena *arena = arena_new();
  WeightFile model = {0}, states = {0};
  Text misfits = {0};
  bool good = weights_open(in_folder(arena, folder, "model.safetensors"), &model, failure) &&
              read_progress(&model, progress, failure);
  const char *name = good ? weights_metadata(&model, "optimizer") : NULL;
  if (good && (!name || strchr(name, '/')))
    good = fail(failure, "%s: its metadata names no optimizer file", model.path);
  good = good && weights_open(in_folder(arena, folder, name), &states, failure);
  for (size_t i = 0; good && i < store->count; i++) {
    StoreTensor *tensor = store->list[i];
    const WeightFile *file = tensor->role == ROLE_PARAM ? &model : &states;
    good = load_tensor(store, tensor, file, tensor->name, &misfits, failure);
  }
  if (good)
    good = report_misfits(folder, &misfits, failure);
  else
    text_free(&misfits);
  weights_close(&states);
  weights_close(&model);
  arena_free(arena);
  return good;
}
