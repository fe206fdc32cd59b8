// Pictures by name: single files, and IDX archives ("archive#index"), which are unpacked once and shared.
//
//   IDX: 00 00 08 03 | count | height | width (32 bits each, big endian) | count * height * width bytes
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "runtime/base/arena.h"
#include "runtime/files.h"
#include "runtime/picture_parts.h"

static uint32_t big_endian(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

bool archive_parse(const uint8_t *bytes, size_t size, const char *name, Archive *archive, Failure *failure) {
  if (size < 16 || big_endian(bytes) != 0x00000803)
    return fail(failure, "%s: is not an IDX archive of pictures (it must begin with 00 00 08 03)", name);
  *archive = (Archive){bytes, size, big_endian(bytes + 4), big_endian(bytes + 8), big_endian(bytes + 12)};
  uint64_t pixels = (uint64_t)archive->height * archive->width;
  if (!pixels || archive->height > PICTURE_MAX_SIDE || archive->width > PICTURE_MAX_SIDE ||
      pixels > PICTURE_MAX_PIXELS)
    return fail(failure, "%s: its pictures are said to be %u x %u pixels", name, archive->width,
                archive->height);
  if (archive->count != (size - 16) / pixels || (size - 16) % pixels)
    return fail(failure, "%s: %u pictures of %u x %u pixels do not make its %zu bytes", name, archive->count,
                archive->width, archive->height, size - 16);
  return true;
}

// Inflates into *unpacked, growing it; the caller frees it in any case.
static bool inflate_all(z_stream *stream, uint8_t **unpacked, size_t *size, const char *name,
                        Failure *failure) {
  size_t capacity = 0;
  *unpacked = NULL;
  *size = 0;
  for (int status = Z_OK; status != Z_STREAM_END;) {
    if (*size == capacity) {
      capacity = capacity ? capacity * 2 : 1 << 20;
      if (capacity > PICTURE_MAX_FILE)
        return fail(failure, "%s: unpacks to more than the %d bytes allowed", name, PICTURE_MAX_FILE);
      *unpacked = realloc(*unpacked, capacity);
      if (!*unpacked) die("out of memory");
    }
    stream->next_out = *unpacked + *size;
    stream->avail_out = (uInt)(capacity - *size);
    status = inflate(stream, Z_NO_FLUSH);
    *size = capacity - stream->avail_out;
    if (status == Z_BUF_ERROR) return fail(failure, "%s: damaged gzip file: it ends early", name);
    if (status != Z_OK && status != Z_STREAM_END)
      return fail(failure, "%s: damaged gzip file: %s", name, stream->msg ? stream->msg : "wrong data");
  }
  return true;
}

bool archive_unpack(const uint8_t *bytes, size_t size, const char *name, uint8_t **unpacked,
                    size_t *unpacked_size, Failure *failure) {
  z_stream stream = {.next_in = (Bytef *)bytes, .avail_in = (uInt)size};
  if (size > UINT32_MAX) return fail(failure, "%s: is too large", name);
  if (inflateInit2(&stream, 15 + 16) != Z_OK) die("zlib does not start");
  bool good = inflate_all(&stream, unpacked, unpacked_size, name, failure);
  inflateEnd(&stream);
  if (good) return true;
  free(*unpacked);
  *unpacked = NULL;
  return false;
}

// One archive that was asked for: open, or known to be bad.
typedef struct Opened {
  struct Opened *next;
  const char *path;
  Mapping mapping;   // of a plain archive
  uint8_t *unpacked; // of a gzip one
  Archive archive;
  bool good;
  Failure failure; // why it is not
} Opened;

struct PictureFolder {
  Arena *arena;
  const char *path;
  pthread_mutex_t lock; // over the list
  Opened *archives;
};

PictureFolder *picture_folder_open(const char *path) {
  Arena *arena = arena_new();
  PictureFolder *folder = ARENA_NEW(arena, PictureFolder);
  folder->arena = arena;
  folder->path = arena_copy(arena, path, strlen(path));
  pthread_mutex_init(&folder->lock, NULL);
  return folder;
}

void picture_folder_close(PictureFolder *folder) {
  if (!folder) return;
  for (Opened *opened = folder->archives; opened; opened = opened->next) {
    file_unmap(&opened->mapping);
    free(opened->unpacked);
  }
  pthread_mutex_destroy(&folder->lock);
  arena_free(folder->arena);
}

static bool open_archive(Opened *opened) {
  Failure *failure = &opened->failure;
  Mapping *mapping = &opened->mapping;
  if (!file_map(opened->path, mapping, failure)) return false;
  if (mapping->size < 2 || mapping->bytes[0] != 0x1f || mapping->bytes[1] != 0x8b)
    return archive_parse(mapping->bytes, mapping->size, opened->path, &opened->archive, failure);
  size_t size = 0;
  bool good =
      archive_unpack(mapping->bytes, mapping->size, opened->path, &opened->unpacked, &size, failure) &&
      archive_parse(opened->unpacked, size, opened->path, &opened->archive, failure);
  file_unmap(mapping);
  return good;
}

// The archive of that path, opened by whoever comes first; others wait for it.
static const Opened *find_archive(PictureFolder *folder, const char *path) {
  pthread_mutex_lock(&folder->lock);
  Opened *opened = folder->archives;
  while (opened && strcmp(opened->path, path)) opened = opened->next;
  if (!opened) {
    opened = ARENA_NEW(folder->arena, Opened);
    opened->path = arena_copy(folder->arena, path, strlen(path));
    opened->good = open_archive(opened);
    opened->next = folder->archives;
    folder->archives = opened;
  }
  pthread_mutex_unlock(&folder->lock);
  return opened;
}

// "archive#17" -> the length of "archive" and 17; false for other names.
static bool split_index(const char *path, size_t *length, uint64_t *index) {
  const char *mark = strrchr(path, '#');
  if (!mark || !mark[1] || strlen(mark + 1) > 12 || strspn(mark + 1, "0123456789") != strlen(mark + 1))
    return false;
  *length = (size_t)(mark - path);
  *index = strtoull(mark + 1, NULL, 10);
  return true;
}

static bool take(const Opened *opened, uint64_t index, Picture *out, Failure *failure) {
  if (!opened->good) {
    *failure = opened->failure;
    return false;
  }
  const Archive *archive = &opened->archive;
  if (index >= archive->count)
    return fail(failure, "%s#%llu: the archive has only %u pictures", opened->path, (unsigned long long)index,
                archive->count);
  size_t pixels = (size_t)archive->width * archive->height;
  if (!picture_allocate(archive->width, archive->height, 1, opened->path, out, failure)) return false;
  memcpy(out->pixels, archive->bytes + 16 + index * pixels, pixels);
  return true;
}

static bool read_file(const char *path, Picture *out, Failure *failure) {
  Arena *arena = arena_new();
  char *bytes;
  size_t size;
  bool good = file_read(path, PICTURE_MAX_FILE, arena, &bytes, &size, failure) &&
              picture_decode(bytes, size, path, out, failure);
  arena_free(arena);
  return good;
}

static char *path_in(Arena *arena, const PictureFolder *folder, const char *image) {
  return *folder->path ? arena_print(arena, "%s/%s", folder->path, image)
                       : arena_copy(arena, image, strlen(image));
}

bool picture_folder_hash(PictureFolder *folder, const char *image, Hash *hash) {
  Arena *arena = arena_new();
  char *path = path_in(arena, folder, image);
  Picture picture = {0};
  Mapping mapping;
  Failure ignored;
  size_t length;
  uint64_t index;
  bool good;
  if (split_index(path, &length, &index)) {
    path[length] = 0;
    good = take(find_archive(folder, path), index, &picture, &ignored);
    int size[] = {picture.width, picture.height};
    hash_add(hash, size, sizeof size);
    if (good) hash_add(hash, picture.pixels, (size_t)picture.width * (size_t)picture.height);
    picture_free(&picture);
  } else {
    good = file_map(path, &mapping, &ignored);
    if (good) hash_add(hash, mapping.bytes, mapping.size);
    file_unmap(&mapping);
  }
  arena_free(arena);
  return good;
}

bool picture_folder_read(PictureFolder *folder, const char *image, Picture *out, Failure *failure) {
  *out = (Picture){0};
  Arena *arena = arena_new();
  char *path = path_in(arena, folder, image);
  size_t length;
  uint64_t index;
  bool good;
  if (split_index(path, &length, &index)) {
    path[length] = 0;
    good = take(find_archive(folder, path), index, out, failure);
  } else {
    good = read_file(path, out, failure);
  }
  arena_free(arena);
  return good;
}

bool picture_read(const char *path, Picture *out, Failure *failure) {
  PictureFolder *folder = picture_folder_open("");
  bool good = picture_folder_read(folder, path, out, failure);
  picture_folder_close(folder);
  return good;
}
