// Pictures: files -> pixels -> the floats a model reads. Formats are told by content, never by name: PNG,
// JPEG (baseline, progressive, arithmetic where the library has it; grey, YCbCr, RGB, CMYK, YCCK), WebP, and
// IDX archives of grey pictures (the MNIST family, plain or gzip), addressed as
// "train-images-idx3-ubyte.gz#17".
//
// As Pillow does in convert("RGB"): transparency is dropped (not laid over a colour), 16-bit samples keep
// their high byte, CMYK is multiplied out. Unlike it, a JPEG's EXIF orientation is applied.
#ifndef VLMC_RUNTIME_PICTURE_H
#define VLMC_RUNTIME_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/failure.h"
#include "runtime/base/hash.h"
#include "runtime/recipe.h"

enum {
  PICTURE_MAX_PIXELS = 64 << 20,
  PICTURE_MAX_SIDE = 65500,
  PICTURE_MAX_FILE = 512 << 20 // bytes of a picture's file; an archive may hold this much when unpacked
};

typedef struct Picture {
  int width, height, channels; // channels: 1 (grey) or 3 (RGB)
  uint8_t *pixels;             // [height, width, channels], on the C heap
} Picture;
void picture_free(Picture *picture); // accepts a zeroed one

// Checks sizes before it allocates. A damaged or short file is a failure that starts with `name`, never a
// half-decoded picture.
bool picture_decode(const void *bytes, size_t size, const char *name, Picture *out, Failure *failure);
bool picture_read(const char *path, Picture *out, Failure *failure); // "path" or "archive#index"

// Pictures of one folder. An archive is unpacked once and shared. Safe from several threads.
typedef struct PictureFolder PictureFolder;
PictureFolder *picture_folder_open(const char *path);
void picture_folder_close(PictureFolder *folder); // accepts NULL
// Adds the bytes of a picture's file, or of its place in an archive, to `hash`. False: they can not be read.
bool picture_folder_hash(PictureFolder *folder, const char *image, Hash *hash);
bool picture_folder_read(PictureFolder *folder, const char *image, Picture *out, Failure *failure);

// Resampling, byte for byte what Pillow's Image.resize gives (fixed point, antialiased, one axis at a time).
bool picture_resize(const Picture *picture, int width, int height, Resample resample, Picture *out,
                    Failure *failure);

// Convert, pad, resize and crop by the recipe: out[height, width, channels] bytes, recipe's sizes. Fails when
// RESIZE_NONE meets another size, or when a picture is too narrow to be padded or scaled.
bool picture_prepare(const Picture *picture, const Preprocess *preprocess, const char *name, uint8_t *out,
                     Failure *failure);

// Training's changes to one picture. Drawn from (seed, epoch, sample) alone, so that any thread at any time
// draws the same.
typedef struct Augmentation {
  int right, down; // pixels the content moves
  bool mirror;     // applied first
} Augmentation;
Augmentation picture_augmentation(const Preprocess *preprocess, uint64_t seed, uint64_t epoch,
                                  uint64_t sample);

// bytes[height, width, channels] -> out[channels, height, width] = (byte * scale - mean[c]) / std[c].
// What the shift uncovers counts as zero bytes. `augmentation` NULL: none.
void picture_normalise(const Preprocess *preprocess, const uint8_t *bytes, const Augmentation *augmentation,
                       float *out);

bool picture_write_png(const char *path, const Picture *picture, Failure *failure); // atomically

#endif
