// Pixels -> what the model reads: channels, padding, resizing and cropping by the recipe, augmentation,
// floats.
#include <stdlib.h>
#include <string.h>

#include "runtime/counter.h"
#include "runtime/picture_parts.h"

// A copy with 1 or 3 channels; grey is ITU-R 601-2 luma in Pillow's fixed point. A grey picture stays grey
// here even where RGB is asked for, unless it will be surrounded by a colour: the three channels would be the
// same.
static Picture with_channels(const Picture *picture, const Preprocess *preprocess) {
  size_t pixels = (size_t)picture->width * (size_t)picture->height;
  bool coloured = preprocess->channels == 3 && (preprocess->pad_square || picture->channels == 3);
  int kept = coloured ? 3 : 1;
  Picture copy = {picture->width, picture->height, kept, malloc(pixels * (size_t)kept)};
  if (!copy.pixels) die("out of memory");
  const uint8_t *in = picture->pixels;
  if (kept == picture->channels)
    memcpy(copy.pixels, in, pixels * (size_t)kept);
  else if (coloured)
    for (size_t i = 0; i < 3 * pixels; i++) copy.pixels[i] = in[i / 3];
  else
    for (size_t i = 0; i < pixels; i++, in += 3)
      copy.pixels[i] = (uint8_t)((in[0] * 19595u + in[1] * 38470u + in[2] * 7471u + 0x8000) >> 16);
  return copy;
}

static void replace(Picture *picture, Picture by) {
  picture_free(picture);
  *picture = by;
}

// The picture in the middle of a square; what is odd goes to the right and below.
static bool pad_square(Picture *picture, const Preprocess *preprocess, const char *name, Failure *failure) {
  int side = picture->width > picture->height ? picture->width : picture->height;
  size_t channels = (size_t)picture->channels, row = (size_t)picture->width * channels;
  size_t left = (size_t)((side - picture->width) / 2), top = (size_t)((side - picture->height) / 2);
  Picture square;
  if (picture->width == picture->height) return true;
  if ((int64_t)side * side > PICTURE_MAX_PIXELS)
    return fail(failure, "%s: is %d x %d pixels, too narrow to be padded to a square", name, picture->width,
                picture->height);
  if (!picture_allocate(side, side, picture->channels, name, &square, failure)) return false;
  for (size_t i = 0; i < (size_t)side * (size_t)side; i++)
    memcpy(square.pixels + i * channels, preprocess->pad_colour, channels);
  for (size_t y = 0; y < (size_t)picture->height; y++)
    memcpy(square.pixels + ((top + y) * (size_t)side + left) * channels, picture->pixels + y * row, row);
  replace(picture, square);
  return true;
}

// The size with which both sides cover `height` x `width`, one exactly; the other is rounded down.
static void covering_size(const Picture *picture, int64_t *width, int64_t *height) {
  int64_t w = picture->width, h = picture->height;
  if (w * *height <= h * *width)
    *height = *width * h / w;
  else
    *width = *height * w / h;
}

static bool resize_by_recipe(Picture *picture, const Preprocess *preprocess, const char *name,
                             Failure *failure) {
  int64_t width = preprocess->resize_width ? preprocess->resize_width : preprocess->width;
  int64_t height = preprocess->resize_height ? preprocess->resize_height : preprocess->height;
  if (preprocess->resize == RESIZE_SHORTEST) covering_size(picture, &width, &height);
  if (picture->width == width && picture->height == height) return true;
  if (preprocess->resize == RESIZE_NONE)
    return fail(failure, "%s: is %d x %d pixels, but the model takes %d x %d and does not resize", name,
                picture->width, picture->height, (int)width, (int)height);
  if (width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE)
    return fail(failure, "%s: is %d x %d pixels, too narrow to be scaled to %d x %d", name, picture->width,
                picture->height, preprocess->width, preprocess->height);
  Picture resized;
  if (!picture_resize(picture, (int)width, (int)height, preprocess->resample, &resized, failure))
    return false;
  replace(picture, resized);
  return true;
}

// The middle of the picture, each pixel in as many channels as the recipe has.
static void crop(const Picture *picture, const Preprocess *preprocess, uint8_t *out) {
  int left = (picture->width - preprocess->width) / 2, top = (picture->height - preprocess->height) / 2;
  int channels = preprocess->channels;
  for (int y = 0; y < preprocess->height; y++) {
    const uint8_t *in = picture->pixels + ((size_t)(top + y) * (size_t)picture->width + (size_t)left) *
                                              (size_t)picture->channels;
    for (int x = 0; x < preprocess->width; x++, in += picture->channels)
      for (int c = 0; c < channels; c++) *out++ = in[picture->channels == 1 ? 0 : c];
  }
}

bool picture_prepare(const Picture *picture, const Preprocess *preprocess, const char *name, uint8_t *out,
                     Failure *failure) {
  Picture copy = with_channels(picture, preprocess);
  bool good = !preprocess->pad_square || pad_square(&copy, preprocess, name, failure);
  good = good && resize_by_recipe(&copy, preprocess, name, failure);
  if (good) crop(&copy, preprocess, out);
  picture_free(&copy);
  return good;
}

static int draw_shift(int shift, uint64_t bits) {
  return (int)counter_below(bits, 2 * (uint64_t)shift + 1) - shift;
}

Augmentation picture_augmentation(const Preprocess *preprocess, uint64_t seed, uint64_t epoch,
                                  uint64_t sample) {
  const uint64_t stream = 0x7069637475726500; // apart from the loader's other draws
  uint64_t key = counter_random(seed, stream, epoch, sample);
  int shift = preprocess->shift > 0 ? preprocess->shift : 0;
  return (Augmentation){.right = draw_shift(shift, counter_mix(key + 1)),
                        .down = draw_shift(shift, counter_mix(key + 2)),
                        .mirror = preprocess->mirror && (counter_mix(key + 3) >> 63)};
}

static float normalised(const Preprocess *preprocess, int channel, int byte) {
  return (float)((byte * preprocess->scale - preprocess->mean[channel]) / preprocess->std[channel]);
}

// One row of one channel: `row` holds `width` pixels, `channels` bytes apart, or is NULL where the shift
// uncovered all of it.
static void normalise_row(const uint8_t *row, int width, int channels, const Augmentation *augmentation,
                          const float value[256], float *out) {
  int right = augmentation->right, step = augmentation->mirror ? -channels : channels;
  int begin = right < 0 ? 0 : right, end = right < 0 ? width + right : width;
  if (!row || begin >= end) begin = end = width;
  for (int x = 0; x < begin; x++) out[x] = value[0];
  int at = (augmentation->mirror ? width - 1 - (begin - right) : begin - right) * channels;
  for (int x = begin; x < end; x++, at += step) out[x] = value[row[at]];
  for (int x = end; x < width; x++) out[x] = value[0];
}

void picture_normalise(const Preprocess *preprocess, const uint8_t *bytes, const Augmentation *augmentation,
                       float *out) {
  static const Augmentation none = {0};
  if (!augmentation) augmentation = &none;
  int channels = preprocess->channels, width = preprocess->width, height = preprocess->height;
  for (int c = 0; c < channels; c++) {
    float value[256]; // of each byte
    for (int byte = 0; byte < 256; byte++) value[byte] = normalised(preprocess, c, byte);
    for (int y = 0; y < height; y++, out += width) {
      int from = y - augmentation->down;
      bool inside = from >= 0 && from < height;
      const uint8_t *row = inside ? bytes + (size_t)from * (size_t)width * (size_t)channels + c : NULL;
      normalise_row(row, width, channels, augmentation, value, out);
    }
  }
}
