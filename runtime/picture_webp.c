// WebP -> RGB by libwebp.
#include <webp/decode.h>

#include "runtime/picture_parts.h"

bool picture_decode_webp(const uint8_t *bytes, size_t size, const char *name, Picture *out,
                         Failure *failure) {
  WebPBitstreamFeatures features;
  VP8StatusCode status = WebPGetFeatures(bytes, size, &features);
  if (status != VP8_STATUS_OK)
    return fail(failure, "%s: damaged WebP: %s", name,
                status == VP8_STATUS_NOT_ENOUGH_DATA ? "the file ends early" : "its header is wrong");
  if (features.has_animation) return fail(failure, "%s: is an animated WebP; expected a still picture", name);
  if (!picture_allocate(features.width, features.height, 3, name, out, failure)) return false;
  size_t stride = (size_t)out->width * 3;
  if (WebPDecodeRGBInto(bytes, size, out->pixels, stride * (size_t)out->height, (int)stride)) return true;
  return fail(failure, "%s: damaged WebP: its pixels cannot be decoded", name);
}
