// Files through POSIX calls: bounded reading, read-only mapping, atomic replacement.
#include "runtime/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail_path(Failure *failure, const char *doing, const char *path) {
  return fail(failure, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// Opens a regular file and tells its size; without O_NONBLOCK a named pipe would wait for a writer for ever.
static bool open_regular(const char *path, int *descriptor, size_t *size, Failure *failure) {
  int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (opened < 0) return fail_path(failure, "open it", path);
  struct stat status;
  if (fstat(opened, &status) != 0) {
    fail_path(failure, "read it", path);
  } else if (!S_ISREG(status.st_mode)) {
    fail(failure, "%s: expected a file, found %s", path, S_ISDIR(status.st_mode) ? "a folder" : "a device");
  } else {
    *descriptor = opened;
    *size = (size_t)status.st_size;
    return true;
  }
  close(opened);
  return false;
}

// Reads until `size` bytes are there; a file that shrinks meanwhile is a failure.
static bool read_fully(int descriptor, char *bytes, size_t size, const char *path, Failure *failure) {
  for (size_t done = 0; done < size;) {
    ssize_t got = read(descriptor, bytes + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_path(failure, "read it", path);
    if (got == 0) return fail(failure, "%s: it became shorter while it was read", path);
    done += (size_t)got;
  }
  return true;
}

bool file_read(const char *path, size_t limit, Arena *arena, char **bytes, size_t *size, Failure *failure) {
  int descriptor;
  if (!open_regular(path, &descriptor, size, failure)) return false;
  bool good =
      *size <= limit || fail(failure, "%s: has %zu bytes, more than the %zu allowed", path, *size, limit);
  if (good) {
    *bytes = arena_alloc(arena, *size + 1);
    good = read_fully(descriptor, *bytes, *size, path, failure);
  }
  close(descriptor);
  return good;
}

bool file_exists(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool file_map(const char *path, Mapping *mapping, Failure *failure) {
  *mapping = (Mapping){0};
  int descriptor;
  size_t size;
  if (!open_regular(path, &descriptor, &size, failure)) return false;
  if (size == 0) { // cannot be mapped
    mapping->bytes = (const unsigned char *)"";
  } else {
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (bytes == MAP_FAILED)
      fail_path(failure, "map it", path);
    else
      *mapping = (Mapping){.bytes = bytes, .size = size};
  }
  close(descriptor);
  return mapping->bytes != NULL;
}

void file_unmap(Mapping *mapping) {
  if (mapping->size) munmap((void *)mapping->bytes, mapping->size);
  *mapping = (Mapping){0};
}

static char *print_path(const char *format, const char *a, int b) {
  size_t size = strlen(a) + 40;
  char *text = malloc(size);
  if (!text) die("out of memory");
  snprintf(text, size, format, a, b);
  return text;
}

void replacement_abandon(Replacement *replacement) {
  if (!replacement->path) return;
  if (replacement->descriptor >= 0) close(replacement->descriptor);
  unlink(replacement->temporary);
  free(replacement->path);
  free(replacement->temporary);
  *replacement = (Replacement){0};
}

// A link stays a link: what it names is replaced.
static char *follow_links(const char *path) {
  struct stat status;
  bool link = lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
  char *real = link ? realpath(path, NULL) : NULL;
  return real ? real : print_path("%s", path, 0);
}

bool replacement_begin(Replacement *replacement, const char *path, Failure *failure) {
  struct stat status;
  *replacement = (Replacement){.path = follow_links(path)};
  replacement->temporary = print_path("%s.%d.temporary", replacement->path, (int)getpid());
  if (stat(path, &status) == 0 && !S_ISREG(status.st_mode))
    replacement->descriptor = -1, errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
  else
    replacement->descriptor = open(replacement->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (replacement->descriptor >= 0) return true;
  fail_path(failure, "write it", path);
  free(replacement->path);
  free(replacement->temporary);
  *replacement = (Replacement){0};
  return false;
}

bool replacement_write(Replacement *replacement, size_t offset, const void *bytes, size_t size,
                       Failure *failure) {
  for (size_t done = 0; done < size;) {
    ssize_t put =
        pwrite(replacement->descriptor, (const char *)bytes + done, size - done, (off_t)(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_path(failure, "write it", replacement->path);
    done += (size_t)put;
  }
  return true;
}

// The new name is on the disk only when its folder is.
static bool sync_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  char *folder = !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
  if (!folder) die("out of memory");
  int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(folder);
  if (descriptor < 0) return false;
  bool good =
      fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS; // some file systems know no such thing
  close(descriptor);
  return good;
}

bool replacement_commit(Replacement *replacement, Failure *failure) {
  bool good = fsync(replacement->descriptor) == 0;
  good = close(replacement->descriptor) == 0 && good;
  replacement->descriptor = -1;
  good = good && rename(replacement->temporary, replacement->path) == 0 && sync_folder(replacement->path);
  if (!good) fail_path(failure, "write it", replacement->path);
  replacement_abandon(replacement);
  return good;
}

// Devices and pipes (/dev/stdout, /dev/null) are written to; a rename would take their name away.
static bool write_stream(const char *path, const void *bytes, size_t size, Failure *failure) {
  int descriptor = open(path, O_WRONLY | O_CLOEXEC);
  bool good = descriptor >= 0;
  for (size_t done = 0; good && done < size;) {
    ssize_t put = write(descriptor, (const char *)bytes + done, size - done);
    if (put < 0 && errno == EINTR) continue;
    good = put >= 0;
    done += good ? (size_t)put : 0;
  }
  if (!good) fail_path(failure, "write it", path);
  if (descriptor >= 0) close(descriptor);
  return good;
}

bool file_replace(const char *path, const void *bytes, size_t size, Failure *failure) {
  struct stat status;
  if (stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode))
    return write_stream(path, bytes, size, failure);
  Replacement replacement;
  if (!replacement_begin(&replacement, path, failure)) return false;
  if (replacement_write(&replacement, 0, bytes, size, failure))
    return replacement_commit(&replacement, failure);
  replacement_abandon(&replacement);
  return false;
}

bool folder_make(const char *path, Failure *failure) {
  char *above = print_path("%s", path, 0);
  bool good = true;
  for (char *slash = above + 1; good && *above; slash++) {
    if (*slash != '/' && *slash) continue;
    char kept = *slash;
    *slash = 0;
    struct stat status;
    good =
        mkdir(above, 0777) == 0 || (errno == EEXIST && stat(above, &status) == 0 && S_ISDIR(status.st_mode));
    if (!good) fail_path(failure, "make this folder", above);
    if (!kept) break;
    *slash = kept;
  }
  free(above);
  return good;
}
