// Shared by the picture files only: one decoder per format, and what they have in common.
#ifndef VLMC_RUNTIME_PICTURE_PARTS_H
#define VLMC_RUNTIME_PICTURE_PARTS_H

#include "runtime/picture.h"

// Fails, `name` first, on sizes that no picture may have.
bool picture_fits(int64_t width, int64_t height, const char *name, Failure *failure);
// Pixels for a picture of these sizes, uninitialised; fails where they do not fit.
bool picture_allocate(int64_t width, int64_t height, int channels, const char *name, Picture *out,
                      Failure *failure);

// Each takes a whole file in memory and fills a zeroed Picture; on failure it may hold pixels, to be freed.
bool picture_decode_png(const uint8_t *bytes, size_t size, const char *name, Picture *out, Failure *failure);
bool picture_decode_jpeg(const uint8_t *bytes, size_t size, const char *name, Picture *out, Failure *failure);
bool picture_decode_webp(const uint8_t *bytes, size_t size, const char *name, Picture *out, Failure *failure);

// The picture turned by an EXIF orientation, 1 to 8.
void picture_orient(Picture *picture, int orientation);

// An IDX archive of grey pictures. `bytes` is the unpacked file.
typedef struct Archive {
  const uint8_t *bytes;
  size_t size;
  uint32_t count, height, width;
} Archive;
bool archive_parse(const uint8_t *bytes, size_t size, const char *name, Archive *archive, Failure *failure);
// gzip -> *unpacked on the C heap; fails when it unpacks to more than PICTURE_MAX_FILE bytes.
bool archive_unpack(const uint8_t *bytes, size_t size, const char *name, uint8_t **unpacked,
                    size_t *unpacked_size, Failure *failure);

#endif
