// llama2.c's files, version 0: seven i32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size,
// seq_len; vocab_size negative where the classifier has weights of its own), then f32 without names or gaps.
// The order is fixed, so that the header alone says what lies where; the names given here are those of Meta's
// checkpoints, from which such files are made:
//
//   tok_embeddings.weight [vocab, dim]
//   layers.{i}.attention_norm.weight [dim], .attention.wq.weight [dim, dim], .attention.wk.weight and
//   .attention.wv.weight [kv_heads * head, dim], .attention.wo.weight [dim, dim], .ffn_norm.weight [dim],
//   .feed_forward.w1.weight [hidden, dim], .feed_forward.w2.weight [dim, hidden],
//   .feed_forward.w3.weight [hidden, dim]
//   norm.weight [dim]
//   freqs_cos, freqs_sin [seq_len, head / 2]   rotary tables
//   output.weight [vocab, dim]                 absent where it is tok_embeddings.weight
//
// In the file the layers' tensors of one kind lie together. Heads' pairs for the rotation are neighbours.
#include <string.h>

#include "runtime/weights/parts.h"

enum { HEADER_BYTES = 28, VERSIONED_MAGIC = 0x616b3432 };

typedef struct Shape {
  int64_t dim, hidden, layers, heads, kv_heads, vocab, length;
  bool own_output;
} Shape;

static Shape read_shape(const unsigned char *bytes) {
  int64_t fields[7];
  for (int i = 0; i < 7; i++) fields[i] = (int32_t)load_u32(bytes + 4 * i);
  return (Shape){fields[0], fields[1],    fields[2],
                 fields[3], fields[4],    fields[5] < 0 ? -fields[5] : fields[5],
                 fields[6], fields[5] < 0};
}

static bool in_range(int64_t value, int64_t highest) { return value > 0 && value <= highest; }

static bool sensible(const Shape *shape) {
  return in_range(shape->dim, 1 << 20) && in_range(shape->hidden, 1 << 22) &&
         in_range(shape->layers, 1 << 12) && in_range(shape->heads, shape->dim) &&
         in_range(shape->kv_heads, shape->heads) && in_range(shape->vocab, 1 << 24) &&
         in_range(shape->length, 1 << 24) && shape->dim % shape->heads == 0 &&
         shape->heads % shape->kv_heads == 0 && shape->dim / shape->heads % 2 == 0;
}

static bool versioned(const unsigned char *bytes, size_t size) {
  return size >= 8 && load_u32(bytes) == VERSIONED_MAGIC;
}

bool llama2c_begins(const unsigned char *bytes, size_t size) {
  if (versioned(bytes, size)) return true;
  if (size < HEADER_BYTES) return false;
  Shape shape = read_shape(bytes);
  return sensible(&shape);
}

// What is left of the file, from which tensors are taken in its order.
typedef struct Rest {
  const unsigned char *at;
  size_t floats; // left
  size_t wanted; // by all so far, whether or not they were there
  const char *path;
  WeightTable *table;
} Rest;

// [rows, columns], or [rows] where columns is 0.
static void take(Rest *rest, const char *name, int64_t rows, int64_t columns) {
  size_t floats = (size_t)rows * (size_t)(columns ? columns : 1); // at most 2^24 * 2^20
  rest->wanted += floats;
  if (rest->wanted > rest->floats) return; // the caller says so
  WeightTensor tensor = {.name = name,
                         .path = rest->path,
                         .format = WEIGHT_F32,
                         .rank = columns ? 2 : 1,
                         .extents = {rows, columns},
                         .elements = (int64_t)floats,
                         .bytes = 4 * floats};
  tensor.data = table_align(rest->table->arena, WEIGHT_F32, rest->at, tensor.bytes);
  rest->at += tensor.bytes;
  ARENA_PUSH(rest->table->arena, rest->table->tensors, rest->table->count, rest->table->capacity, tensor);
}

static void take_layers(Rest *rest, const Shape *shape, const char *kind, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < shape->layers; i++)
    take(rest, arena_print(rest->table->arena, "layers.%lld.%s.weight", (long long)i, kind), rows, columns);
}

static void take_all(Rest *rest, const Shape *shape) {
  int64_t dim = shape->dim, hidden = shape->hidden, head = dim / shape->heads, kv = shape->kv_heads * head;
  take(rest, "tok_embeddings.weight", shape->vocab, dim);
  take_layers(rest, shape, "attention_norm", dim, 0);
  take_layers(rest, shape, "attention.wq", dim, dim);
  take_layers(rest, shape, "attention.wk", kv, dim);
  take_layers(rest, shape, "attention.wv", kv, dim);
  take_layers(rest, shape, "attention.wo", dim, dim);
  take_layers(rest, shape, "ffn_norm", dim, 0);
  take_layers(rest, shape, "feed_forward.w1", hidden, dim);
  take_layers(rest, shape, "feed_forward.w2", dim, hidden);
  take_layers(rest, shape, "feed_forward.w3", hidden, dim);
  take(rest, "norm.weight", dim, 0);
  take(rest, "freqs_cos", shape->length, head / 2);
  take(rest, "freqs_sin", shape->length, head / 2);
  if (shape->own_output) take(rest, "output.weight", shape->vocab, dim);
}

bool llama2c_read(const unsigned char *bytes, size_t size, const char *path, WeightTable *table,
                  Failure *failure) {
  if (versioned(bytes, size))
    return fail(
        failure,
        "%s: is a llama2.c file of version %u; only version 0 (seven integers, then f32) is known here", path,
        load_u32(bytes + 4));
  Shape shape = read_shape(bytes);
  Rest rest = {bytes + HEADER_BYTES, (size - HEADER_BYTES) / 4, 0, path, table};
  take_all(&rest, &shape);
  if (4 * rest.wanted == size - HEADER_BYTES) return true;
  return fail(failure,
              "%s: its header is that of a llama2.c file (dim %lld, %lld layers, vocabulary %lld), which has "
              "%zu bytes, "
              "found %zu; or it is of another format",
              path, (long long)shape.dim, (long long)shape.layers, (long long)shape.vocab,
              HEADER_BYTES + 4 * rest.wanted, size);
}
