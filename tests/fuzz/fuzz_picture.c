// Fuzz target: any bytes as a picture's file or as an archive of pictures. What is accepted is whole.
#include <stdint.h>
#include <stdlib.h>

#include "runtime/picture.h"
#include "runtime/picture_parts.h"

static void try_archive(const uint8_t *bytes, size_t size) {
  Archive archive;
  Failure failure;
  if (!archive_parse(bytes, size, "fuzzed", &archive, &failure)) return;
  if (16 + (size_t)archive.count * archive.width * archive.height != size) abort();
}

static void try_prepare(const Picture *picture) {
  static const Preprocess recipes[] = {
      {.channels = 3, .height = 5, .width = 7, .resize = RESIZE_SHORTEST, .resample = RESAMPLE_BICUBIC},
      {.channels = 1, .height = 4, .width = 4, .resize = RESIZE_EXACT, .resample = RESAMPLE_BILINEAR},
      {.channels = 3,
       .height = 4,
       .width = 3,
       .pad_square = true,
       .resize = RESIZE_SHORTEST,
       .resize_height = 5,
       .resize_width = 5}};
  uint8_t out[3 * 5 * 7];
  Failure failure;
  for (int i = 0; i < 3; i++) picture_prepare(picture, &recipes[i], "fuzzed", out, &failure);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  Picture picture;
  Failure failure;
  if (picture_decode(bytes, size, "fuzzed", &picture, &failure)) {
    unsigned sum = 0;
    for (size_t i = 0; i < (size_t)picture.width * picture.height * picture.channels; i++)
      sum += picture.pixels[i];
    if (sum < (1u << 22))
      try_prepare(&picture); // small ones: resizing large ones takes long and shows no more
  }
  picture_free(&picture);
  try_archive(bytes, size);
  uint8_t *unpacked;
  size_t unpacked_size;
  if (size > 2 && bytes[0] == 0x1f && size < 4096 &&
      archive_unpack(bytes, size, "fuzzed", &unpacked, &unpacked_size, &failure)) {
    try_archive(unpacked, unpacked_size);
    free(unpacked);
  }
  return 0;
}
