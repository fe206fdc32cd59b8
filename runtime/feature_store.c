// The file of entries: an index in memory over a mapping of the whole file.
#include "runtime/feature_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/base/arena.h"
#include "runtime/files.h"

enum { LINE = 64, DISK_SHARE = 20 }; // a twentieth of a disk is left to others
static const char magic[8] = {'v', 'l', 'm', 'f', 'e', 'a', 't', '1'};

typedef struct Header {
  char magic[8];
  Hash key;
  uint64_t entry_bytes, slot_bytes;
  Hash checksum;
  char rest[LINE - 8 - 16 - 16 - 16];
} Header;

typedef struct SlotHeader {
  Hash name, checksum, own; // own: of the first two, so that a wrong name is seen without its entry
  char rest[LINE - 48];
} SlotHeader;

typedef struct Known {
  Hash name;
  uint32_t slot;    // number + 1; 0: free place of the table
  uint8_t verified; // its checksum was right
} Known;

struct FeatureStore {
  Arena *arena;
  const char *folder, *path;
  Header header;
  uint64_t limit;
  int descriptor;
  unsigned char *bytes; // mapped
  size_t mapped;
  size_t slots; // of those looked at
  Known *known; // open hash table
  size_t known_room, known_count;
  uint32_t *bad; // slots whose entry does not count
  size_t bad_count, bad_capacity;
};

static bool same(Hash a, Hash b) { return a.words[0] == b.words[0] && a.words[1] == b.words[1]; }
static bool is_nothing(Hash a) { return !a.words[0] && !a.words[1]; }

static bool fail_path(Failure *failure, const char *doing, const char *path) {
  return fail(failure, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// ---- the index ----------------------------------------------------------------------------------

static Known *place_of(const FeatureStore *store, Hash name) {
  for (size_t at = name.words[0] & (store->known_room - 1);; at = (at + 1) & (store->known_room - 1)) {
    Known *known = &store->known[at];
    if (!known->slot || same(known->name, name)) return known;
  }
}

static void grow_index(FeatureStore *store) {
  Known *old = store->known;
  size_t room = store->known_room;
  store->known_room = room ? 2 * room : 1024;
  store->known = calloc(store->known_room, sizeof *store->known);
  if (!store->known) die("out of memory");
  for (size_t i = 0; i < room; i++)
    if (old[i].slot) *place_of(store, old[i].name) = old[i];
  free(old);
}

static void note_bad(FeatureStore *store, uint32_t slot) {
  ARENA_PUSH(store->arena, store->bad, store->bad_count, store->bad_capacity, slot);
}

static void note(FeatureStore *store, Hash name, uint32_t slot) {
  if (2 * store->known_count >= store->known_room) grow_index(store);
  Known *known = place_of(store, name);
  if (known->slot) {
    note_bad(store, slot); // a second of that name
    return;
  }
  *known = (Known){.name = name, .slot = slot + 1};
  store->known_count++;
}

static const unsigned char *slot_at(const FeatureStore *store, uint32_t slot) {
  return store->bytes + LINE + slot * store->header.slot_bytes;
}

static Hash checksum_of(const FeatureStore *store, Hash name, const void *entry) {
  Hash checksum = store->header.key;
  hash_add(&checksum, &name, sizeof name);
  hash_add(&checksum, entry, store->header.entry_bytes);
  return checksum;
}

static Hash own_checksum(const SlotHeader *header) {
  Hash own = {0};
  hash_add(&own, header, offsetof(SlotHeader, own));
  return own;
}

static bool read_name(const FeatureStore *store, uint32_t slot, SlotHeader *header) {
  memcpy(header, slot_at(store, slot), sizeof *header);
  return !is_nothing(header->name) && same(header->own, own_checksum(header));
}

static bool is_whole(const FeatureStore *store, uint32_t slot, Hash *name) {
  SlotHeader header;
  bool readable = read_name(store, slot, &header);
  *name = header.name;
  return readable && same(header.checksum, checksum_of(store, header.name, slot_at(store, slot) + LINE));
}

// Maps the file as long as it is now, and looks at the slots that have come to it.
static bool look(FeatureStore *store, Failure *failure) {
  struct stat status;
  if (fstat(store->descriptor, &status)) return fail_path(failure, "read it", store->path);
  if (status.st_size < LINE) return fail(failure, "%s: became shorter while it was used", store->path);
  size_t slots = ((size_t)status.st_size - LINE) / store->header.slot_bytes;
  size_t bytes = LINE + slots * store->header.slot_bytes;
  if (slots > UINT32_MAX - 1) return fail(failure, "%s: holds too many entries", store->path);
  if (bytes > store->mapped) {
    if (store->bytes) munmap(store->bytes, store->mapped);
    void *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, store->descriptor, 0);
    store->bytes = mapped == MAP_FAILED ? NULL : mapped;
    store->mapped = store->bytes ? bytes : 0;
    if (!store->bytes) return fail_path(failure, "map it", store->path);
  }
  for (; store->slots < slots; store->slots++) {
    SlotHeader header;
    if (read_name(store, (uint32_t)store->slots, &header))
      note(store, header.name, (uint32_t)store->slots);
    else
      note_bad(store, (uint32_t)store->slots);
  }
  return true;
}

// ---- opening ------------------------------------------------------------------------------------

static bool header_is(int descriptor, const Header *wanted) {
  Header found;
  return pread(descriptor, &found, sizeof found, 0) == sizeof found && !memcmp(&found, wanted, sizeof found);
}

// A file with nothing but its header takes the name at once: where `replace` is not set, only if none has it (but for
// file systems without hard links, where what another run has begun meanwhile may go).
static bool make_file(FeatureStore *store, bool replace, Failure *failure) {
  char *temporary = arena_print(store->arena, "%s.XXXXXX", store->path);
  int descriptor = mkostemp(temporary, O_CLOEXEC);
  if (descriptor < 0) return fail_path(failure, "write it", store->path);
  bool good = write(descriptor, &store->header, sizeof store->header) == sizeof store->header &&
              !fchmod(descriptor, 0644);
  if (good && replace) good = !rename(temporary, store->path);
  if (good && !replace)
    good = !link(temporary, store->path) || errno == EEXIST || !rename(temporary, store->path);
  if (!good) fail_path(failure, "write it", store->path);
  unlink(temporary); // after a rename, nothing has that name
  close(descriptor);
  return good;
}

// The file of the key, made where it is missing and replaced where its header is not ours.
static bool open_file(FeatureStore *store, Failure *failure) {
  for (int tries = 0; tries < 3; tries++) {
    store->descriptor = open(store->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (store->descriptor >= 0 && header_is(store->descriptor, &store->header)) {
      futimens(store->descriptor, NULL); // used just now; where that can not be noted, it seems older
      return true;
    }
    bool missing = store->descriptor < 0 && errno == ENOENT;
    if (store->descriptor < 0 && !missing) return fail_path(failure, "open it", store->path);
    if (store->descriptor >= 0) close(store->descriptor);
    store->descriptor = -1;
    if (!make_file(store, !missing, failure)) return false;
  }
  return fail(failure, "%s: cannot be made, another program writes over it", store->path);
}

bool feature_store_open(const char *folder, Hash key, size_t entry_bytes, uint64_t limit, FeatureStore **out,
                        Failure *failure) {
  *out = NULL;
  Arena *arena = arena_new();
  FeatureStore *store = ARENA_NEW(arena, FeatureStore);
  *store = (FeatureStore){.arena = arena, .limit = limit, .descriptor = -1};
  store->folder = arena_copy(arena, folder, strlen(folder));
  store->path =
      arena_print(arena, "%s/%016" PRIx64 "%016" PRIx64 ".features", folder, key.words[0], key.words[1]);
  Header *header = &store->header;
  memcpy(header->magic, magic, sizeof magic);
  header->key = key;
  header->entry_bytes = entry_bytes;
  header->slot_bytes = LINE + (entry_bytes + LINE - 1) / LINE * LINE;
  hash_add(&header->checksum, header, offsetof(Header, checksum));
  grow_index(store);
  if (folder_make(folder, failure) && open_file(store, failure) && look(store, failure)) {
    *out = store;
    return true;
  }
  feature_store_close(store);
  return false;
}

void feature_store_close(FeatureStore *store) {
  if (!store) return;
  if (store->bytes) munmap(store->bytes, store->mapped);
  if (store->descriptor >= 0) close(store->descriptor);
  free(store->known);
  arena_free(store->arena);
}

const char *feature_store_path(const FeatureStore *store) { return store->path; }
size_t feature_store_count(const FeatureStore *store) { return store->known_count; }

// ---- finding ------------------------------------------------------------------------------------

// Takes a name out of the table; those behind it move up, so that they are still found.
static void forget(FeatureStore *store, Known *known) {
  size_t mask = store->known_room - 1, hole = (size_t)(known - store->known);
  store->known[hole] = (Known){0};
  store->known_count--;
  for (size_t at = (hole + 1) & mask; store->known[at].slot; at = (at + 1) & mask) {
    Known moved = store->known[at];
    store->known[at] = (Known){0};
    *place_of(store, moved.name) = moved;
  }
}

const void *feature_store_find(FeatureStore *store, Hash name) {
  Known *known = place_of(store, name);
  if (!known->slot) return NULL;
  uint32_t slot = known->slot - 1;
  Hash found;
  if (!known->verified && (!is_whole(store, slot, &found) || !same(found, name))) {
    note_bad(store, slot);
    forget(store, known);
    return NULL;
  }
  known->verified = 1;
  return slot_at(store, slot) + LINE;
}

// ---- room ---------------------------------------------------------------------------------------

typedef struct Older {
  char *path;
  uint64_t bytes;
  struct timespec used;
} Older;

static bool is_before(struct timespec a, struct timespec b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

// The bytes of all files of features but our own, and the one that was used least recently.
static uint64_t others(const FeatureStore *store, Arena *scratch, Older *oldest) {
  uint64_t bytes = 0;
  struct stat own, status;
  DIR *folder = opendir(store->folder);
  *oldest = (Older){0};
  if (fstat(store->descriptor, &own)) own = (struct stat){0};
  for (struct dirent *entry; folder && (entry = readdir(folder));) {
    const char *ending = strrchr(entry->d_name, '.');
    if (!ending || strcmp(ending, ".features")) continue;
    char *path = arena_print(scratch, "%s/%s", store->folder, entry->d_name);
    if (lstat(path, &status) || !S_ISREG(status.st_mode) ||
        (status.st_ino == own.st_ino && status.st_dev == own.st_dev))
      continue;
    bytes += (uint64_t)status.st_size;
    if (!oldest->path || is_before(status.st_mtim, oldest->used))
      *oldest = (Older){path, (uint64_t)status.st_size, status.st_mtim};
  }
  if (folder) closedir(folder);
  return bytes;
}

static uint64_t free_on_disk(const FeatureStore *store) {
  struct statvfs disk;
  if (fstatvfs(store->descriptor, &disk)) return UINT64_MAX; // then writing will tell
  uint64_t unit = disk.f_frsize, left = disk.f_blocks / DISK_SHARE;
  return disk.f_bavail > left ? (disk.f_bavail - left) * unit : 0;
}

// How many slots there is room for, up to `wanted`, once files that were used longer ago have gone.
static size_t room_for(const FeatureStore *store, size_t wanted) {
  Arena *scratch = arena_new();
  uint64_t slot = store->header.slot_bytes, own = LINE + store->slots * slot, need = wanted * slot;
  for (;;) {
    Older oldest;
    uint64_t used = own + others(store, scratch, &oldest), disk = free_on_disk(store);
    uint64_t room = store->limit > used ? store->limit - used : 0;
    if (disk < room) room = disk;
    // Removing helps only where our own file would then fit as far as it is now.
    if (room >= need || !oldest.path || own + slot > store->limit || unlink(oldest.path)) {
      arena_free(scratch);
      return room < need ? (size_t)(room / slot) : wanted;
    }
  }
}

// ---- adding -------------------------------------------------------------------------------------

static bool write_all(const FeatureStore *store, uint64_t at, const char *bytes, size_t size,
                      Failure *failure) {
  for (size_t done = 0; done < size;) {
    ssize_t put = pwrite(store->descriptor, bytes + done, size - done, (off_t)(at + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_path(failure, "write it", store->path);
    done += (size_t)put;
  }
  return true;
}

static bool write_slot(const FeatureStore *store, uint32_t slot, Hash name, const void *entry, char *buffer,
                       Failure *failure) {
  SlotHeader header = {.name = name, .checksum = checksum_of(store, name, entry)};
  header.own = own_checksum(&header);
  memcpy(buffer, &header, sizeof header);
  memcpy(buffer + LINE, entry, store->header.entry_bytes);
  uint64_t at = LINE + slot * store->header.slot_bytes;
  return write_all(store, at, buffer, (size_t)store->header.slot_bytes, failure);
}

// A bad slot that is still bad: another run may have been writing it when we looked.
static bool take_bad(FeatureStore *store, uint32_t *slot) {
  while (store->bad_count) {
    Hash name;
    *slot = store->bad[--store->bad_count];
    if (!is_whole(store, *slot, &name)) return true;
    if (!place_of(store, name)->slot) note(store, name, *slot);
  }
  return false;
}

static bool add_locked(FeatureStore *store, const Hash *names, const char *entries, size_t count,
                       size_t *added, char *buffer, Failure *failure) {
  if (!look(store, failure)) return false;
  size_t room = room_for(store, count);
  size_t slots = store->slots; // they are looked at once all are written
  for (size_t i = 0; i < count; i++) {
    if (feature_store_find(store, names[i])) {
      ++*added;
      continue;
    }
    uint32_t slot;
    if (!take_bad(store, &slot)) {
      if (!room) continue;
      room--;
      slot = (uint32_t)slots++;
    }
    if (!write_slot(store, slot, names[i], entries + i * store->header.entry_bytes, buffer, failure))
      return false;
    if (slot < store->slots) note(store, names[i], slot);
    ++*added;
  }
  return look(store, failure);
}

bool feature_store_add(FeatureStore *store, const Hash *names, const void *entries, size_t count,
                       size_t *added, Failure *failure) {
  *added = 0;
  while (flock(store->descriptor, LOCK_EX))
    if (errno != EINTR) return fail_path(failure, "lock it", store->path);
  char *buffer = calloc(1, (size_t)store->header.slot_bytes);
  if (!buffer) die("out of memory");
  bool good = add_locked(store, names, entries, count, added, buffer, failure);
  free(buffer);
  flock(store->descriptor, LOCK_UN);
  return good;
}
