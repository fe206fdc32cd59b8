// Opening weights: what the bytes begin with chooses the reader; the tensors of all parts become one table.
#include "runtime/weights/weights.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/files.h"
#include "runtime/weights/parts.h"
#include "runtime/weights/safetensors.h"

typedef struct WeightPart { // one file: the whole, or a shard
  const char *path;
  Mapping mapping;
  Safetensors safetensors; // zeroed where it is of another kind, and so below
  Gguf gguf;
} WeightPart;

struct WeightStorage {
  WeightTable table; // its arena holds all that is not a part's own
  WeightPart *parts;
  size_t part_count;
  WeightTensor **by_name;
};

// ---- readers by kind ----------------------------------------------------------------------------

typedef bool ReadPart(const unsigned char *bytes, size_t size, WeightPart *part, WeightTable *table,
                      Failure *failure);

static bool safetensors_begins(const unsigned char *bytes, size_t size) {
  return size > 8 && bytes[8] == '{' && !memcmp(bytes + 4, "\0\0\0\0", 4); // a header of less than 4 GiB
}

static bool read_safetensors(const unsigned char *bytes, size_t size, WeightPart *part, WeightTable *table,
                             Failure *failure) {
  Safetensors *file = &part->safetensors;
  if (!safetensors_parse(bytes, size, part->path, file, failure)) return false;
  for (size_t i = 0; i < file->count; i++) {
    const SafetensorsTensor *from = &file->tensors[i];
    WeightTensor tensor = {.name = from->name, .path = part->path, .rank = from->rank, .data = from->data};
    memcpy(tensor.extents, from->extents, sizeof tensor.extents);
    if (!format_from_name(from->spelling, &tensor.format) || !format_measure(&tensor, from->name, failure))
      die("%s: what was checked is no tensor: %s", part->path, from->name);
    ARENA_PUSH(table->arena, table->tensors, table->count, table->capacity, tensor);
  }
  return true;
}

static bool gguf_begins(const unsigned char *bytes, size_t size) {
  return size >= 4 && !memcmp(bytes, "GGUF", 4);
}

static bool read_gguf(const unsigned char *bytes, size_t size, WeightPart *part, WeightTable *table,
                      Failure *failure) {
  Gguf *file = &part->gguf;
  if (!gguf_parse(bytes, size, part->path, file, failure)) return false;
  const GgufValue *split = gguf_find(file, "split.count");
  if (split && !split->array && split->type != GGUF_STRING && gguf_integer(split, 0) > 1)
    return fail(failure, "%s: is one of %lld parts of a split GGUF file; merge them first", part->path,
                (long long)gguf_integer(split, 0));
  for (size_t i = 0; i < file->count; i++)
    ARENA_PUSH(table->arena, table->tensors, table->count, table->capacity, file->tensors[i]);
  return true;
}

static bool read_llama2c(const unsigned char *bytes, size_t size, WeightPart *part, WeightTable *table,
                         Failure *failure) {
  return llama2c_read(bytes, size, part->path, table, failure);
}

static bool read_torch(const unsigned char *bytes, size_t size, WeightPart *part, WeightTable *table,
                       Failure *failure) {
  return torch_read(bytes, size, part->path, table, failure);
}

// No two of them begin alike.
static const struct {
  const char *name;
  bool (*begins)(const unsigned char *bytes, size_t size);
  ReadPart *read;
} kinds[] = {
    {"safetensors", safetensors_begins, read_safetensors},
    {"GGUF", gguf_begins, read_gguf},
    {"PyTorch", torch_begins, read_torch},
    {"llama2.c", llama2c_begins, read_llama2c},
};

static bool index_begins(const unsigned char *bytes, size_t size) {
  size_t at = 0;
  while (at < size && bytes[at] && strchr(" \t\r\n", bytes[at])) at++;
  return at < size && bytes[at] == '{';
}

// One part into the table. `file->kind` is set by the first; others must be of the same.
static bool read_part(WeightFile *file, WeightPart *part, Failure *failure) {
  const unsigned char *bytes = part->mapping.bytes;
  size_t size = part->mapping.size;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (!kinds[i].begins(bytes, size)) continue;
    if (file->kind && strcmp(file->kind, kinds[i].name))
      return fail(failure, "%s: is a %s file among shards that are %s", part->path, kinds[i].name,
                  file->kind);
    file->kind = kinds[i].name;
    return kinds[i].read(bytes, size, part, &file->storage->table, failure);
  }
  if (index_begins(bytes, size))
    return fail(failure, "%s: is JSON, where a file of weights was expected", part->path);
  if (!size) return fail(failure, "%s: is empty", part->path);
  char first[3 * 8 + 1] = "";
  for (size_t i = 0; i < 8 && i < size; i++) snprintf(first + 3 * i, 4, " %02x", bytes[i]);
  return fail(failure, "%s: is no safetensors, GGUF, PyTorch or llama2.c file (its first bytes:%s)",
              part->path, first);
}

// ---- shards -------------------------------------------------------------------------------------

static WeightPart *add_parts(WeightFile *file, size_t count) {
  struct WeightStorage *storage = file->storage;
  storage->parts = ARENA_ARRAY(storage->table.arena, WeightPart, count);
  storage->part_count = count;
  return storage->parts;
}

static bool open_shards(WeightFile *file, const WeightIndex *index, Failure *failure) {
  Arena *arena = file->storage->table.arena;
  const char *slash = strrchr(file->path, '/');
  int folder = slash ? (int)(slash + 1 - file->path) : 0;
  WeightPart *parts = add_parts(file, index->shard_count);
  for (size_t i = 0; i < index->shard_count; i++) {
    parts[i].path = arena_print(arena, "%.*s%s", folder, file->path, index->shards[i]);
    if (!file_map(parts[i].path, &parts[i].mapping, failure) || !read_part(file, &parts[i], failure))
      return false;
  }
  return true;
}

// Every tensor is in the shard where the index says.
static bool check_index(const WeightFile *file, const WeightIndex *index, Failure *failure) {
  for (size_t i = 0; i < index->count; i++) {
    const WeightIndexEntry *entry = &index->entries[i];
    const WeightTensor *tensor = weights_find(file, entry->tensor);
    if (!tensor || tensor->path != file->storage->parts[entry->shard].path)
      return fail(failure, "%s: says that tensor \"%.120s\" is in \"%.120s\", %s", file->path, entry->tensor,
                  index->shards[entry->shard], tensor ? "but it is in another shard" : "but no shard has it");
  }
  return true;
}

// ---- the whole ----------------------------------------------------------------------------------

static void start(WeightFile *file, const char *path) {
  Arena *arena = arena_new();
  *file = (WeightFile){.path = arena_copy(arena, path, strlen(path))};
  file->storage = ARENA_NEW(arena, struct WeightStorage);
  file->storage->table.arena = arena;
}

static bool finish(WeightFile *file, Failure *failure) {
  WeightTable *table = &file->storage->table;
  file->tensors = table->tensors;
  file->count = table->count;
  if (file->storage->part_count == 1 && file->storage->parts[0].gguf.storage)
    file->gguf = &file->storage->parts[0].gguf;
  file->storage->by_name = table_by_name(table->tensors, table->count, file->path, table->arena, failure);
  return file->storage->by_name != NULL;
}

bool weights_parse(const unsigned char *bytes, size_t size, const char *name, WeightFile *file,
                   Failure *failure) {
  start(file, name);
  WeightPart part = {.path = file->path, .mapping = {bytes, size}}, *kept = add_parts(file, 1);
  *kept = part;
  bool good = read_part(file, kept, failure) && finish(file, failure);
  kept->mapping = (Mapping){0}; // the caller's, not ours to unmap
  if (!good) weights_close(file);
  return good;
}

// The file that a folder stands for.
static bool find_in_folder(WeightFile *file, Failure *failure) {
  static const char *const names[] = {"model.safetensors.index.json", "model.safetensors",
                                      "pytorch_model.bin.index.json", "pytorch_model.bin"};
  struct stat status;
  if (stat(file->path, &status) || !S_ISDIR(status.st_mode)) return true;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const char *path = arena_print(file->storage->table.arena, "%s/%s", file->path, names[i]);
    if (!file_exists(path)) continue;
    file->path = path;
    return true;
  }
  return fail(failure,
              "%s: holds neither model.safetensors nor pytorch_model.bin, nor an index of one; name the file",
              file->path);
}

static bool open_file(WeightFile *file, Failure *failure) {
  Mapping mapping;
  if (!find_in_folder(file, failure) || !file_map(file->path, &mapping, failure)) return false;
  if (!index_begins(mapping.bytes, mapping.size)) {
    WeightPart *part = add_parts(file, 1);
    *part = (WeightPart){.path = file->path, .mapping = mapping};
    return read_part(file, part, failure) && finish(file, failure);
  }
  WeightIndex index;
  bool good =
      index_parse(mapping.bytes, mapping.size, file->path, file->storage->table.arena, &index, failure);
  file_unmap(&mapping);
  return good && open_shards(file, &index, failure) && finish(file, failure) &&
         check_index(file, &index, failure);
}

bool weights_open(const char *path, WeightFile *file, Failure *failure) {
  start(file, path);
  if (open_file(file, failure)) return true;
  weights_close(file);
  return false;
}

void weights_close(WeightFile *file) {
  if (!file->storage) return;
  for (size_t i = 0; i < file->storage->part_count; i++) {
    WeightPart *part = &file->storage->parts[i];
    safetensors_close(&part->safetensors);
    gguf_close(&part->gguf);
    file_unmap(&part->mapping);
  }
  arena_free(file->storage->table.arena);
  *file = (WeightFile){0};
}

const WeightTensor *weights_find(const WeightFile *file, const char *name) {
  return weights_find_joined(file, "", name);
}

const WeightTensor *weights_find_joined(const WeightFile *file, const char *prefix, const char *name) {
  return table_find(file->storage->by_name, file->count, prefix, name);
}

const char *weights_metadata(const WeightFile *file, const char *key) {
  for (size_t i = 0; i < file->storage->part_count; i++) {
    const Safetensors *part = &file->storage->parts[i].safetensors;
    const char *value = part->storage ? safetensors_metadata(part, key) : NULL;
    if (value) return value;
  }
  return NULL;
}
