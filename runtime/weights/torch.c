// torch.save's files to tensors: storages first, then the state is walked and every view checked against its
// storage.
#include "runtime/weights/torch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/weights/pickle.h"
#include "runtime/weights/zip.h"

typedef struct Storage { // some bytes of the file, under the key that tensors use
  const char *key;
  const unsigned char *data;
  size_t bytes;
  bool aligned; // `data` was made fit for any element
} Storage;

typedef struct Reader {
  const char *path;
  Arena *scratch; // dies when the tensors are made
  WeightTable *table;
  Pickle pickle;
  Storage *storages; // by key
  size_t storage_count;
  size_t copied, limit; // bytes of views that were copied, and how many there may be: the file's size
  size_t visits;
  char name[TORCH_MAX_NAME + 1]; // of what is being looked at
  Failure *failure;
} Reader;

// "FloatStorage" in `torch`, and the dtypes of tensors that name one themselves.
static const struct {
  const char *storage, *dtype;
  WeightFormat format;
} types[] = {
    {"torch FloatStorage", "torch float32", WEIGHT_F32},
    {"torch DoubleStorage", "torch float64", WEIGHT_F64},
    {"torch HalfStorage", "torch float16", WEIGHT_F16},
    {"torch BFloat16Storage", "torch bfloat16", WEIGHT_BF16},
    {"torch LongStorage", "torch int64", WEIGHT_I64},
    {"torch IntStorage", "torch int32", WEIGHT_I32},
    {"torch ShortStorage", "torch int16", WEIGHT_I16},
    {"torch CharStorage", "torch int8", WEIGHT_I8},
    {"torch ByteStorage", "torch uint8", WEIGHT_U8},
    {"torch BoolStorage", "torch bool", WEIGHT_BOOL},
    {"torch.storage UntypedStorage", "", WEIGHT_U8},
    {"", "torch uint16", WEIGHT_U16},
    {"", "torch uint32", WEIGHT_U32},
    {"", "torch uint64", WEIGHT_U64},
    {"", "torch float8_e4m3fn", WEIGHT_F8_E4M3},
    {"", "torch float8_e5m2", WEIGHT_F8_E5M2},
};

static bool find_format(const PickleValue *global, bool dtype, WeightFormat *format) {
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (pickle_is(global, PICKLE_GLOBAL, dtype ? types[i].dtype : types[i].storage))
      return *format = types[i].format, true;
  return false;
}

// ---- storages -----------------------------------------------------------------------------------

// What a persistent value says: ("storage", class, key, device, elements, ...).
typedef struct StorageId {
  WeightFormat format;
  const char *key;
  int64_t elements;
} StorageId;

static bool read_storage_id(Reader *reader, const PickleValue *value, StorageId *id) {
  const PickleValue *tuple = value->kind == PICKLE_PERSISTENT ? value->items[0] : value;
  if (value->kind != PICKLE_PERSISTENT || tuple->kind != PICKLE_TUPLE || tuple->count < 5 ||
      !pickle_is(tuple->items[0], PICKLE_TEXT, "storage") || tuple->items[2]->kind != PICKLE_TEXT ||
      tuple->items[2]->length > TORCH_MAX_NAME || tuple->items[4]->kind != PICKLE_INTEGER ||
      tuple->items[4]->integer < 0)
    return fail(reader->failure, "%s: tensor \"%.200s\" does not refer to a storage", reader->path,
                reader->name);
  if (!find_format(tuple->items[1], false, &id->format))
    return fail(reader->failure, "%s: tensor \"%.200s\" has elements of %.*s, which are not known here",
                reader->path, reader->name, (int)tuple->items[1]->length,
                tuple->items[1]->text ? tuple->items[1]->text : "");
  if (tuple->count > 5 && tuple->items[5]->kind != PICKLE_NONE)
    return fail(reader->failure,
                "%s: tensor \"%.200s\" is a view of a part of a storage, as PyTorch before 0.4 wrote them",
                reader->path, reader->name);
  id->key = arena_copy(reader->scratch, tuple->items[2]->text, tuple->items[2]->length);
  id->elements = tuple->items[4]->integer;
  return true;
}

static int by_key(const void *a, const void *b) {
  return strcmp(((const Storage *)a)->key, ((const Storage *)b)->key);
}

static Storage *find_storage(Reader *reader, const char *key) {
  Storage wanted = {.key = key};
  return bsearch(&wanted, reader->storages, reader->storage_count, sizeof wanted, by_key);
}

// The storage that `value` names, with its bytes fit for `format`.
static Storage *use_storage(Reader *reader, const PickleValue *value, StorageId *id) {
  if (!read_storage_id(reader, value, id)) return NULL;
  Storage *storage = find_storage(reader, id->key);
  size_t element = (size_t)format_block_bytes(id->format);
  if (!storage || (uint64_t)id->elements > storage->bytes / element) {
    fail(reader->failure,
         "%s: tensor \"%.200s\" lies in storage \"%.60s\" of %lld elements, which the file does not have",
         reader->path, reader->name, id->key, (long long)id->elements);
    return NULL;
  }
  if (!storage->aligned) { // storages do not overlap: all copies are no larger than the file
    storage->data = table_align(reader->table->arena, WEIGHT_F64, storage->data, storage->bytes);
    storage->aligned = true;
  }
  return storage;
}

// ---- tensors ------------------------------------------------------------------------------------

typedef struct View {
  WeightTensor tensor;
  int64_t offset, strides[WEIGHTS_MAX_RANK]; // in elements
} View;

static bool read_integers(Reader *reader, const PickleValue *tuple, const char *what, int64_t *out,
                          int *count) {
  bool good = (tuple->kind == PICKLE_TUPLE || tuple->kind == PICKLE_LIST) && tuple->count <= WEIGHTS_MAX_RANK;
  for (size_t i = 0; good && i < tuple->count; i++) {
    good = tuple->items[i]->kind == PICKLE_INTEGER && tuple->items[i]->integer >= 0;
    out[i] = tuple->items[i]->integer;
  }
  *count = good ? (int)tuple->count : 0;
  return good || fail(reader->failure,
                      "%s: tensor \"%.200s\": its %s are no list of at most %d integers of at least 0",
                      reader->path, reader->name, what, WEIGHTS_MAX_RANK);
}

// Whether its elements lie one after the other. A stride along an axis of one element says nothing.
static bool contiguous(const View *view) {
  int64_t expected = 1;
  for (int axis = view->tensor.rank - 1; axis >= 0; axis--) {
    if (view->tensor.extents[axis] != 1 && view->strides[axis] != expected) return false;
    expected *= view->tensor.extents[axis];
  }
  return true;
}

// The last element that the view reaches is one of the storage's `available`.
static bool check_reach(Reader *reader, const View *view, int64_t available) {
  int64_t last = view->offset, step;
  bool fits = true;
  for (int axis = 0; axis < view->tensor.rank; axis++)
    fits = fits && !__builtin_mul_overflow(view->tensor.extents[axis] - 1, view->strides[axis], &step) &&
           !__builtin_add_overflow(last, step, &last);
  return (fits && last < available) ||
         fail(reader->failure, "%s: tensor \"%.200s\" reaches beyond the %lld elements of its storage",
              reader->path, reader->name, (long long)available);
}

// The elements in order, for a view that skips or turns them.
static bool copy_view(Reader *reader, View *view, const unsigned char *from) {
  WeightTensor *tensor = &view->tensor;
  size_t element = (size_t)format_block_bytes(tensor->format);
  if (tensor->bytes > reader->limit - reader->copied)
    return fail(reader->failure,
                "%s: tensor \"%.200s\": views that have to be copied take more memory than the file has",
                reader->path, reader->name);
  reader->copied += tensor->bytes;
  unsigned char *to = arena_alloc(reader->table->arena, tensor->bytes);
  for (int64_t i = 0; i < tensor->elements; i++) {
    int64_t rest = i, at = 0;
    for (int axis = tensor->rank - 1; axis >= 0; axis--) {
      at += rest % tensor->extents[axis] * view->strides[axis];
      rest /= tensor->extents[axis];
    }
    memcpy(to + (size_t)i * element, from + (size_t)at * element, element);
  }
  tensor->data = to;
  return true;
}

// (storage, offset, extents, strides, ...); with a dtype of its own as the seventh, the storage is of bytes.
static bool add_tensor(Reader *reader, const PickleValue *arguments, bool own_dtype) {
  View view = {.tensor = {.path = reader->path}};
  WeightTensor *tensor = &view.tensor;
  StorageId id;
  int strides;
  char place[800];
  if (arguments->kind != PICKLE_TUPLE || arguments->count < (own_dtype ? 7 : 4) ||
      arguments->items[1]->kind != PICKLE_INTEGER || arguments->items[1]->integer < 0)
    return fail(reader->failure, "%s: tensor \"%.200s\" is not described as PyTorch does it", reader->path,
                reader->name);
  Storage *storage = use_storage(reader, arguments->items[0], &id);
  if (!storage || !read_integers(reader, arguments->items[2], "extents", tensor->extents, &tensor->rank) ||
      !read_integers(reader, arguments->items[3], "strides", view.strides, &strides))
    return false;
  tensor->format = id.format;
  if (own_dtype && !find_format(arguments->items[6], true, &tensor->format))
    return fail(reader->failure, "%s: tensor \"%.200s\" has elements of a type that is not known here",
                reader->path, reader->name);
  if (strides != tensor->rank)
    return fail(reader->failure, "%s: tensor \"%.200s\" has %d extents, but %d strides", reader->path,
                reader->name, tensor->rank, strides);
  snprintf(place, sizeof place, "%.250s: tensor \"%s\"", reader->path, reader->name);
  if (!format_measure(tensor, place, reader->failure)) return false;
  size_t element = (size_t)format_block_bytes(tensor->format);
  size_t known = (size_t)id.elements * (size_t)format_block_bytes(id.format);
  view.offset = arguments->items[1]->integer;
  tensor->data = storage->data;
  if (tensor->elements) {
    if (!check_reach(reader, &view, (int64_t)(known / element))) return false;
    tensor->data = storage->data + (size_t)view.offset * element;
    if (!contiguous(&view) && !copy_view(reader, &view, tensor->data)) return false;
  }
  tensor->name = arena_copy(reader->table->arena, reader->name, strlen(reader->name));
  ARENA_PUSH(reader->table->arena, reader->table->tensors, reader->table->count, reader->table->capacity,
             *tensor);
  return true;
}

// ---- the state ----------------------------------------------------------------------------------

// Appends to the name of what is being looked at; what it was ends at `length`.
static bool extend_name(Reader *reader, size_t length, const char *text, size_t bytes) {
  size_t dot = length ? 1 : 0;
  if (memchr(text, 0, bytes))
    return fail(reader->failure, "%s: a name in \"%.200s\" has NUL bytes", reader->path, reader->name);
  if (length + dot + bytes > TORCH_MAX_NAME)
    return fail(reader->failure, "%s: a name in \"%.200s\" is longer than %d bytes", reader->path,
                reader->name, TORCH_MAX_NAME);
  if (dot) reader->name[length] = '.';
  memcpy(reader->name + length + dot, text, bytes);
  reader->name[length + dot + bytes] = 0;
  return true;
}

static bool visit(Reader *reader, const PickleValue *value, int depth);

static bool visit_named(Reader *reader, const PickleValue *value, const char *text, size_t bytes, int depth) {
  size_t length = strlen(reader->name);
  if (value->kind < PICKLE_TUPLE || value->kind == PICKLE_GLOBAL) return true; // no tensor in it
  bool good = extend_name(reader, length, text, bytes) && visit(reader, value, depth + 1);
  reader->name[length] = 0;
  return good;
}

static bool visit_items(Reader *reader, const PickleValue *value, int depth) {
  bool dict = value->kind == PICKLE_DICT;
  for (size_t i = 0; i < value->count; i += dict ? 2 : 1) {
    const PickleValue *key = dict ? value->items[i] : NULL, *item = value->items[dict ? i + 1 : i];
    char number[24];
    bool named = key && key->kind == PICKLE_TEXT;
    if (key && !named && key->kind != PICKLE_INTEGER) continue; // a key that is no name
    snprintf(number, sizeof number, "%lld", key ? (long long)key->integer : (long long)i);
    if (!visit_named(reader, item, named ? key->text : number, named ? key->length : strlen(number), depth))
      return false;
  }
  return true;
}

static bool visit_object(Reader *reader, const PickleValue *value, int depth) {
  const PickleValue *callee = value->items[0], *arguments = value->items[1];
  if (pickle_is(callee, PICKLE_GLOBAL, "torch._utils _rebuild_tensor_v2") ||
      pickle_is(callee, PICKLE_GLOBAL, "torch._utils _rebuild_tensor"))
    return add_tensor(reader, arguments, false);
  if (pickle_is(callee, PICKLE_GLOBAL, "torch._utils _rebuild_tensor_v3"))
    return add_tensor(reader, arguments, true);
  bool parameter = pickle_is(callee, PICKLE_GLOBAL, "torch._utils _rebuild_parameter") ||
                   pickle_is(callee, PICKLE_GLOBAL, "torch._utils _rebuild_parameter_with_state");
  if (parameter && arguments->kind == PICKLE_TUPLE && arguments->count)
    return visit(reader, arguments->items[0], depth + 1); // a tensor that is trained
  if (callee->kind == PICKLE_GLOBAL && !strncmp(callee->text, "torch._utils _rebuild", 21))
    return fail(reader->failure, "%s: \"%.200s\" is a kind of tensor that is not known here: `%.100s`",
                reader->path, reader->name, callee->text);
  return true;
}

static bool visit(Reader *reader, const PickleValue *value, int depth) {
  // Values may be shared, and may contain themselves; a tree has no more ways into it than values.
  if (depth > TORCH_MAX_DEPTH || ++reader->visits > 4 * reader->pickle.values)
    return fail(reader->failure, "%s: \"%.200s\" lies too deep, or in itself", reader->path, reader->name);
  if (value->kind == PICKLE_OBJECT) return visit_object(reader, value, depth);
  if (value->kind == PICKLE_DICT || value->kind == PICKLE_LIST || value->kind == PICKLE_TUPLE)
    return visit_items(reader, value, depth);
  return true;
}

static bool visit_state(Reader *reader) {
  const PickleValue *root = reader->pickle.root, *inner = pickle_get(root, "state_dict");
  if (root->kind == PICKLE_OBJECT && root->items[0]->kind == PICKLE_GLOBAL &&
      strncmp(root->items[0]->text, "torch._utils _rebuild", 21))
    return fail(reader->failure, "%s: holds an object of class `%.200s`; save its state_dict() instead",
                reader->path, root->items[0]->text);
  if (!visit(reader, inner && inner->kind == PICKLE_DICT ? inner : root, 0)) return false;
  return reader->table->count || fail(reader->failure, "%s: holds no tensors", reader->path);
}

// ---- containers ---------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *ending) {
  size_t length = strlen(text), tail = strlen(ending);
  return length >= tail && !strcmp(text + length - tail, ending);
}

static bool read_zip(Reader *reader, const unsigned char *bytes, size_t size) {
  Zip zip;
  const ZipEntry *state = NULL;
  if (!zip_read(bytes, size, reader->path, reader->scratch, &zip, reader->failure)) return false;
  for (size_t i = 0; i < zip.count; i++) {
    if (!ends_with(zip.entries[i].name, "/data.pkl")) continue;
    if (state) return fail(reader->failure, "%s: has more than one data.pkl in it", reader->path);
    state = &zip.entries[i];
  }
  if (!state)
    return fail(reader->failure, "%s: is a zip archive without the data.pkl of PyTorch", reader->path);
  int prefix = (int)(strlen(state->name) - strlen("data.pkl"));
  const ZipEntry *order = zip_find(&zip, arena_print(reader->scratch, "%.*sbyteorder", prefix, state->name));
  if (order && (order->size != 6 || memcmp(order->data, "little", 6)))
    return fail(reader->failure, "%s: its numbers are not little endian", reader->path);
  const char *folder = arena_print(reader->scratch, "%.*sdata/", prefix, state->name);
  reader->storages = ARENA_ARRAY(reader->scratch, Storage, zip.count + 1);
  for (size_t i = 0; i < zip.count; i++) { // entries are sorted, so storages are
    const ZipEntry *entry = &zip.entries[i];
    if (!strncmp(entry->name, folder, strlen(folder)))
      reader->storages[reader->storage_count++] =
          (Storage){entry->name + strlen(folder), entry->data, entry->size, false};
  }
  size_t at = 0;
  return pickle_read(state->data, state->size, &at, reader->path, reader->scratch, &reader->pickle,
                     reader->failure) &&
         visit_state(reader);
}

static const unsigned char magic[15] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                        0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

static int by_id(const void *a, const void *b) {
  return strcmp(((const StorageId *)a)->key, ((const StorageId *)b)->key);
}

// What the state says of all storages, by key; NULL and a failure where it says nonsense.
static StorageId *read_ids(Reader *reader) {
  const Pickle *state = &reader->pickle;
  StorageId *ids = ARENA_ARRAY(reader->scratch, StorageId, state->persistent_count + 1);
  for (size_t i = 0; i < state->persistent_count; i++)
    if (!read_storage_id(reader, state->persistents[i], &ids[i])) return NULL;
  qsort(ids, state->persistent_count, sizeof *ids, by_id);
  return ids;
}

// The size of a storage is told in its elements, and what those are by the tensors that lie in it.
static bool read_storages(Reader *reader, const unsigned char *bytes, size_t size, size_t at,
                          const PickleValue *keys) {
  const Pickle *state = &reader->pickle;
  StorageId *ids = read_ids(reader);
  if (!ids) return false;
  if (keys->kind != PICKLE_LIST || keys->count > state->persistent_count)
    return fail(reader->failure, "%s: its list of storages is damaged", reader->path);
  reader->storages = ARENA_ARRAY(reader->scratch, Storage, keys->count + 1);
  for (size_t i = 0; i < keys->count; i++) {
    if (keys->items[i]->kind != PICKLE_TEXT || keys->items[i]->length > TORCH_MAX_NAME)
      return fail(reader->failure, "%s: its list of storages is damaged", reader->path);
    StorageId wanted = {.key = arena_copy(reader->scratch, keys->items[i]->text, keys->items[i]->length)};
    const StorageId *id = bsearch(&wanted, ids, state->persistent_count, sizeof *ids, by_id);
    if (!id)
      return fail(reader->failure, "%s: storage \"%.60s\" is there, but no tensor lies in it", reader->path,
                  wanted.key);
    size_t element = (size_t)format_block_bytes(id->format);
    if (size - at < 8 || load_u64(bytes + at) > (size - at - 8) / element)
      return fail(reader->failure, "%s: storage \"%.60s\" at byte %zu is not all there", reader->path,
                  id->key, at);
    size_t length = (size_t)load_u64(bytes + at) * element;
    reader->storages[reader->storage_count++] = (Storage){id->key, bytes + at + 8, length, false};
    at += 8 + length;
  }
  qsort(reader->storages, reader->storage_count, sizeof *reader->storages, by_key);
  return true;
}

static bool read_stream(Reader *reader, const unsigned char *bytes, size_t size) {
  size_t at = sizeof magic;
  Pickle protocol, machine, keys;
  Arena *arena = reader->scratch;
  if (size < sizeof magic || memcmp(bytes, magic, sizeof magic))
    return fail(reader->failure, "%s: is a pickle, but none that torch.save wrote", reader->path);
  if (!pickle_read(bytes, size, &at, reader->path, arena, &protocol, reader->failure) ||
      !pickle_read(bytes, size, &at, reader->path, arena, &machine, reader->failure) ||
      !pickle_read(bytes, size, &at, reader->path, arena, &reader->pickle, reader->failure) ||
      !pickle_read(bytes, size, &at, reader->path, arena, &keys, reader->failure))
    return false;
  const PickleValue *little = pickle_get(machine.root, "little_endian");
  if (protocol.root->kind != PICKLE_INTEGER || protocol.root->integer != 1001 || !little ||
      little->integer != 1)
    return fail(reader->failure, "%s: its numbers are not little endian, or it is of an unknown version",
                reader->path);
  return read_storages(reader, bytes, size, at, keys.root) && visit_state(reader);
}

bool torch_begins(const unsigned char *bytes, size_t size) {
  return size >= 4 && (!memcmp(bytes, "PK\3\4", 4) || (bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5));
}

bool torch_read(const unsigned char *bytes, size_t size, const char *path, WeightTable *table,
                Failure *failure) {
  Reader reader = {.path = path, .scratch = arena_new(), .table = table, .limit = size, .failure = failure};
  bool good = bytes[0] == 'P' ? read_zip(&reader, bytes, size) : read_stream(&reader, bytes, size);
  arena_free(reader.scratch);
  return good;
}
