// Bytes -> a decoder by what they begin with; turning by EXIF orientation.
#include "runtime/picture.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/text.h"
#include "runtime/picture_parts.h"

void picture_free(Picture *picture) {
  free(picture->pixels);
  *picture = (Picture){0};
}

bool picture_fits(int64_t width, int64_t height, const char *name, Failure *failure) {
  if (width < 1 || height < 1 || width > PICTURE_MAX_SIDE || height > PICTURE_MAX_SIDE)
    return fail(failure, "%s: is %lld x %lld pixels, expected sides of 1 to %d", name, (long long)width,
                (long long)height, PICTURE_MAX_SIDE);
  if (width * height > PICTURE_MAX_PIXELS)
    return fail(failure, "%s: has %lld pixels, more than the %d allowed", name, (long long)(width * height),
                PICTURE_MAX_PIXELS);
  return true;
}

bool picture_allocate(int64_t width, int64_t height, int channels, const char *name, Picture *out,
                      Failure *failure) {
  if (!picture_fits(width, height, name, failure)) return false;
  uint8_t *pixels = malloc((size_t)(width * height * channels));
  if (!pixels) die("out of memory");
  *out = (Picture){(int)width, (int)height, channels, pixels};
  return true;
}

static bool unknown(const uint8_t *bytes, size_t size, const char *name, Failure *failure) {
  Text first = {0};
  for (size_t i = 0; i < size && i < 8; i++) text_print(&first, " %02x", bytes[i]);
  bool packed = size > 1 && bytes[0] == 0x1f && bytes[1] == 0x8b;
  fail(failure, "%s: is not a PNG, JPEG or WebP picture (%s%s)%s", name,
       size ? "it begins with" : "it is empty", text_string(&first),
       packed ? "; one of an archive's pictures is named as `archive.gz#17`" : "");
  text_free(&first);
  return false;
}

bool picture_decode(const void *bytes, size_t size, const char *name, Picture *out, Failure *failure) {
  const uint8_t *start = bytes;
  *out = (Picture){0};
  bool good;
  if (size >= 8 && !memcmp(start, "\x89PNG\r\n\x1a\n", 8))
    good = picture_decode_png(start, size, name, out, failure);
  else if (size >= 3 && !memcmp(start, "\xff\xd8\xff", 3))
    good = picture_decode_jpeg(start, size, name, out, failure);
  else if (size >= 12 && !memcmp(start, "RIFF", 4) && !memcmp(start + 8, "WEBP", 4))
    good = picture_decode_webp(start, size, name, out, failure);
  else
    good = unknown(start, size, name, failure);
  if (!good) picture_free(out);
  return good;
}

// Where the pixel at (x, y) of the turned picture comes from, in the picture as stored (width x height).
static size_t source_pixel(int orientation, int x, int y, int width, int height) {
  int right = width - 1 - x, below = height - 1 - y;
  switch (orientation) {
  case 2: return (size_t)y * width + right;
  case 3: return (size_t)below * width + right;
  case 4: return (size_t)below * width + x;
  case 5: return (size_t)x * width + y;
  case 6: return (size_t)(height - 1 - x) * width + y;
  case 7: return (size_t)(height - 1 - x) * width + (width - 1 - y);
  case 8: return (size_t)x * width + (width - 1 - y);
  default: return (size_t)y * width + x;
  }
}

void picture_orient(Picture *picture, int orientation) {
  if (orientation < 2 || orientation > 8) return;
  int width = picture->width, height = picture->height, channels = picture->channels;
  Picture turned = {orientation < 5 ? width : height, orientation < 5 ? height : width, channels, NULL};
  turned.pixels = malloc((size_t)width * height * channels);
  if (!turned.pixels) die("out of memory");
  uint8_t *out = turned.pixels;
  for (int y = 0; y < turned.height; y++)
    for (int x = 0; x < turned.width; x++, out += channels)
      memcpy(out, picture->pixels + source_pixel(orientation, x, y, width, height) * channels,
             (size_t)channels);
  free(picture->pixels);
  *picture = turned;
}
