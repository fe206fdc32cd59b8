// Entries of one size on the disk, by the hash of what they were made from: a memory-mapped file for each thing that
// makes them (its key). Safe to share between runs, to interrupt, to cut and to damage: an entry counts only while
// its checksum is right, and its place is taken again when it is not.
//
//   DIR/<key, 32 hex digits>.features
//   header      64 bytes: "vlmfeat1" | key | bytes of an entry | bytes of a slot | checksum of these
//   slots, one after the other, of a whole number of 64 bytes:
//               64 bytes: name | checksum of name and entry | checksum of these two | zeros
//               the entry | zeros
//
// All files of the folder together are bounded: to add to one, those that were used least recently are removed (runs
// that have them open keep them till they end). A file grows only while its lock (flock) is held, by whole slots at
// its end or in place of bad ones; nothing that counts is ever written over.
#ifndef VLMC_RUNTIME_FEATURE_STORE_H
#define VLMC_RUNTIME_FEATURE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/failure.h"
#include "runtime/base/hash.h"

typedef struct FeatureStore FeatureStore;

// The folder is made where it is missing. Fails where no file can be read and written there; one that is damaged
// or of another form is replaced.
bool feature_store_open(const char *folder, Hash key, size_t entry_bytes, uint64_t limit, FeatureStore **out,
                        Failure *failure);
void feature_store_close(FeatureStore *store); // accepts NULL
const char *feature_store_path(const FeatureStore *store);
size_t
feature_store_count(const FeatureStore *store); // entries, those of other runs since the last `add` left out

// The entry of that name, its checksum compared the first time; NULL: none. Stays where it is until the next `add`.
const void *feature_store_find(FeatureStore *store, Hash name);

// Adds entries, but for those that another run has added meanwhile, as long as there is room: *added counts these and
// those. Less than `count` without a failure: the bound is reached, or the disk is full but for a twentieth.
bool feature_store_add(FeatureStore *store, const Hash *names, const void *entries, size_t count,
                       size_t *added, Failure *failure);

#endif
