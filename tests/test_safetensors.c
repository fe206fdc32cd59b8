// Files and safetensors: round trips, atomic replacement, and every lie a header can tell.
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/files.h"
#include "runtime/weights/safetensors.h"

static char folder[] = "/tmp/vlmc-safetensors-XXXXXX";

static const char *in_folder(Arena *arena, const char *name) {
  return arena_print(arena, "%s/%s", folder, name);
}

static void test_files(Arena *arena) {
  Failure failure;
  const char *path = in_folder(arena, "a/b/c");
  CHECK(folder_make(path, &failure), "%s", failure.message);
  CHECK(folder_make(path, &failure), "%s", failure.message);
  char *bytes;
  size_t size;
  CHECK(!file_read(path, 100, arena, &bytes, &size, &failure) && strstr(failure.message, "found a folder"),
        "%s", failure.message);
  const char *file = in_folder(arena, "a/b/c/text");
  CHECK(!folder_make(arena_print(arena, "%s/below", "/dev/null"), &failure), "a folder under a device");
  CHECK(!file_read(file, 100, arena, &bytes, &size, &failure) && strstr(failure.message, "No such file"),
        "%s", failure.message);
  CHECK(file_replace(file, "first", 5, &failure), "%s", failure.message);
  CHECK(file_replace(file, "second", 6, &failure), "%s", failure.message);
  CHECK(file_read(file, 6, arena, &bytes, &size, &failure) && size == 6 && !strcmp(bytes, "second"), "read");
  CHECK(!file_read(file, 5, arena, &bytes, &size, &failure) && strstr(failure.message, "more than the 5"),
        "%s", failure.message);
  Replacement replacement;
  CHECK(replacement_begin(&replacement, file, &failure) &&
            replacement_write(&replacement, 0, "x", 1, &failure),
        "begin");
  replacement_abandon(&replacement);
  Mapping mapping;
  CHECK(file_map(file, &mapping, &failure) && mapping.size == 6 && !memcmp(mapping.bytes, "second", 6),
        "an abandoned replacement changed the file");
  file_unmap(&mapping);
  CHECK(file_replace(file, "", 0, &failure) && file_map(file, &mapping, &failure) && mapping.size == 0,
        "empty");
  file_unmap(&mapping);
  CHECK(!file_replace(in_folder(arena, "nowhere/file"), "", 0, &failure), "replaced a file of no folder");
}

static void test_round_trip(Arena *arena) {
  float weights[6] = {1, -2, 3.5f, 4, 5, 6};
  uint8_t odd[3] = {7, 8, 9};
  int64_t steps = 1234567890123;
  uint16_t halves[5] = {1, 2, 3, 4, 5};
  SafetensorsTensor tensors[] = {
      {.name = "odd", .dtype = DTYPE_U8, .rank = 1, .extents = {3}, .data = odd},
      {.name = "blocks.0.\"w\"", .dtype = DTYPE_F32, .rank = 2, .extents = {2, 3}, .data = weights},
      {.name = "none", .dtype = DTYPE_F32, .rank = 2, .extents = {0, 3}, .data = weights},
      {.name = "step", .dtype = DTYPE_I64, .rank = 0, .data = &steps},
      {.name = "half", .dtype = DTYPE_BF16, .rank = 1, .extents = {5}, .data = halves},
  };
  SafetensorsText metadata[] = {{"format", "vlmc"}, {"line", "a\nb\t\"c\" 中"}};
  const char *path = in_folder(arena, "model.safetensors");
  Failure failure;
  CHECK(safetensors_write(path, tensors, 5, metadata, 2, &failure), "%s", failure.message);
  Safetensors file;
  CHECK(safetensors_open(path, &file, &failure), "%s", failure.message);
  CHECK(file.count == 5 && file.metadata_count == 2, "%zu tensors", file.count);
  CHECK(!strcmp(safetensors_metadata(&file, "line"), metadata[1].value), "metadata");
  for (int i = 0; i < 5; i++) {
    const SafetensorsTensor *tensor = safetensors_find(&file, tensors[i].name);
    CHECK(tensor && tensor->dtype == tensors[i].dtype && tensor->rank == tensors[i].rank &&
              !memcmp(tensor->data, tensors[i].data, tensor->bytes),
          "%s", tensors[i].name);
    CHECK(tensor && (uintptr_t)tensor->data % dtype_bytes(tensor->dtype) == 0, "%s is not aligned",
          tensors[i].name);
  }
  CHECK(!safetensors_find(&file, "other") && !safetensors_metadata(&file, "other"),
        "found what is not there");
  safetensors_close(&file);

  SafetensorsWriter *writer; // leaving in the middle keeps the old file
  CHECK(safetensors_create(path, tensors, 1, NULL, 0, &writer, &failure), "%s", failure.message);
  CHECK(safetensors_put(writer, 0, odd, &failure), "%s", failure.message);
  safetensors_abandon(writer);
  CHECK(safetensors_open(path, &file, &failure) && file.count == 5, "an abandoned writer changed the file");
  safetensors_close(&file);
  CHECK(safetensors_write(path, NULL, 0, NULL, 0, &failure) && safetensors_open(path, &file, &failure) &&
            file.count == 0,
        "no tensors");
  safetensors_close(&file);
}

// Builds a file of `header` and `data_bytes` zero bytes in a block of its exact size, and parses it.
static bool parse(const char *header, size_t said, size_t data_bytes, Safetensors *file, Failure *failure) {
  size_t length = strlen(header), size = 8 + length + data_bytes;
  unsigned char *bytes = calloc(1, size);
  for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)said >> 8 * i);
  memcpy(bytes + 8, header, length);
  bool good = safetensors_parse(bytes, size, "f.safetensors", file, failure);
  if (good) safetensors_close(file);
  free(bytes);
  return good;
}

static void test_lies(void) {
  static const struct {
    const char *header;
    size_t data_bytes;
    const char *message;
  } lies[] = {
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "not within the 7 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "1 bytes at its end"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "shape takes 12 bytes"},
      {"{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "\"F33\", which is not known"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "at least 0"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "must be an integer"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
       "too large"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,0]}}", 0, "too large"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "9 axes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "not within"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "not within"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, "two integers"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8, "\"shape\" must be an array"},
      {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "\"shape\" must be an array, found nothing"},
      {"{\"a\":[]}", 0, "must be an object"},
      {"[]", 0, "header must be an object"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
       "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
       7, "\"a\" and \"b\" overlap"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
       "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5,9]}}",
       9, "1 bytes before tensor \"b\""},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
       "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
       2, "duplicate"},
      {"{\"__metadata__\":{\"k\":1}}", 0, "must be a string"},
      {"{\"__metadata__\":[]}", 0, "\"__metadata__\" must be an object"},
      {"{\"a\\u0000b\":{}}", 0, "not valid JSON"},
      {"{", 0, "not valid JSON"},
  };
  Safetensors file;
  Failure failure;
  for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    failure.message[0] = 0;
    bool good = parse(lies[i].header, strlen(lies[i].header), lies[i].data_bytes, &file, &failure);
    CHECK(!good && strstr(failure.message, lies[i].message) && strstr(failure.message, "f.safetensors"),
          "%s\n  gave: %s", lies[i].header, failure.message);
  }
  CHECK(!parse("{}", 3, 0, &file, &failure) && strstr(failure.message, "only 2 follow"), "%s",
        failure.message);
  CHECK(!parse("{}", (size_t)1 << 63, 0, &file, &failure) && strstr(failure.message, "allowed"), "%s",
        failure.message);
  CHECK(!safetensors_parse((const unsigned char *)"1234567", 7, "f", &file, &failure), "seven bytes");
}

// A file whose tensors lie badly aligned is read all the same; a foreign type is listed.
static void test_odd_alignment(void) {
  const char header[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                        "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]},"
                        "\"c\":{\"dtype\":\"I16\",\"shape\":[],\"data_offsets\":[5,7]}}";
  size_t length = sizeof header - 1;
  unsigned char bytes[400] = {(unsigned char)length};
  memcpy(bytes + 8, header, length);
  float value = 2.5f;
  memcpy(bytes + 8 + length + 1, &value, 4);
  Safetensors file;
  Failure failure;
  CHECK(safetensors_parse(bytes, 8 + length + 7, "f", &file, &failure), "%s", failure.message);
  const SafetensorsTensor *b = safetensors_find(&file, "b"), *c = safetensors_find(&file, "c");
  CHECK(b && *(const float *)b->data == 2.5f, "b");
  CHECK(c && c->dtype == DTYPE_COUNT && !strcmp(c->spelling, "I16"), "c");
  safetensors_close(&file);
}

// Cut at any byte, a file is refused.
static void test_truncated(Arena *arena) {
  float weights[4] = {1, 2, 3, 4};
  SafetensorsTensor tensor = {.name = "w", .dtype = DTYPE_F32, .rank = 1, .extents = {4}, .data = weights};
  const char *path = in_folder(arena, "whole.safetensors");
  Failure failure;
  CHECK(safetensors_write(path, &tensor, 1, NULL, 0, &failure), "%s", failure.message);
  char *bytes;
  size_t size;
  CHECK(file_read(path, 1000, arena, &bytes, &size, &failure), "%s", failure.message);
  int accepted = 0;
  for (size_t cut = 0; cut < size; cut++) {
    unsigned char *part = malloc(cut + 1);
    memcpy(part, bytes, cut);
    Safetensors file;
    if (safetensors_parse(part, cut, "cut", &file, &failure)) accepted++, safetensors_close(&file);
    free(part);
  }
  CHECK(accepted == 0, "%d shortened files were accepted", accepted);
}

int main(void) {
  if (!mkdtemp(folder)) return 2;
  Arena *arena = arena_new();
  test_files(arena);
  test_round_trip(arena);
  test_lies();
  test_odd_alignment();
  test_truncated(arena);
  if (system(arena_print(arena, "rm -r %s", folder))) return 2;
  arena_free(arena);
  return check_finish();
}
