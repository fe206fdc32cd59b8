// Preprocessing as model files say it: recipes of published processors give the bytes and values of theirs.
#include <png.h>
#include <zlib.h>

#include "elaborate.h"
#include "runtime/picture.h"

#define CLIP_COLOURS "scale 1/255; mean 0.48145466 0.4578275 0.40821073; std 0.26862954 0.26130258 0.27577711"
static const struct {
  const char *name, *settings;
} recipes[] = {
    {"clip", "resize bicubic shortest 224; " CLIP_COLOURS},
    {"siglip", "resize bicubic exact 224; scale 1/255; mean 0.5; std 0.5"},
    {"siglip2", "resize bilinear exact 256; scale 1/255; mean 0.5; std 0.5"},
    {"llava", "pad square mean; resize bicubic shortest 336; crop centre 336; " CLIP_COLOURS},
    {"nanovlm", "resize bilinear exact 224; scale 1/255"},
    {"imagenet", "crop centre 224; resize bilinear shortest 256; " CLIP_COLOURS},
    {"wide", "resize exact 96 161; scale 1/255; mean 0.5; std 0.5"},
};
enum { RECIPE_COUNT = sizeof recipes / sizeof *recipes, MOST = 3 * 336 * 336 };

// Pseudo-random bytes; of four channels by way of a PNG, since a Picture holds no transparency.
static Picture noise(int channels, int width, int height) {
  size_t size = (size_t)width * height * channels;
  uint8_t *bytes = malloc(size);
  uint32_t state = 1;
  for (size_t i = 0; i < size; i++) {
    state = state * 1664525 + 1013904223;
    bytes[i] = (uint8_t)(state >> 24);
  }
  if (channels < 4) return (Picture){width, height, channels, bytes};
  png_image image = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)width,
                     .height = (png_uint_32)height,
                     .format = PNG_FORMAT_RGBA};
  png_alloc_size_t room = PNG_IMAGE_PNG_SIZE_MAX(image);
  void *file = malloc(room);
  Picture picture = {0};
  Failure failure;
  CHECK(png_image_write_to_memory(&image, file, &room, 0, bytes, 0, NULL) &&
            picture_decode(file, room, "noise", &picture, &failure),
        "a PNG with transparency");
  free(file);
  free(bytes);
  return picture;
}

static const Preprocess *find_recipe(const Preprocess *const *preprocess, const char *name) {
  for (int i = 0; i < RECIPE_COUNT; i++)
    if (!strcmp(recipes[i].name, name)) return preprocess[i];
  return NULL;
}

static void check_case(const Preprocess *preprocess, const char *name, Picture picture, uint32_t crc,
                       const double expected[3]) {
  static uint8_t bytes[MOST];
  static float values[MOST];
  size_t size = (size_t)preprocess->channels * preprocess->height * preprocess->width;
  Failure failure;
  bool good = picture_prepare(&picture, preprocess, name, bytes, &failure);
  CHECK(good, "%s", failure.message);
  if (good) {
    CHECK(crc32(0, bytes, (uInt)size) == crc, "%s: of %d x %d pixels other bytes come", name, picture.width,
          picture.height);
    picture_normalise(preprocess, bytes, NULL, values);
    size_t at[] = {0, size / 2, size - 1};
    for (int i = 0; i < 3; i++)
      CHECK(fabs(values[at[i]] - expected[i]) < 2e-6, "%s: of %d x %d pixels value %zu is %.8g, not %.8g",
            name, picture.width, picture.height, at[i], values[at[i]], expected[i]);
  }
  picture_free(&picture);
}

static void test_published(const Preprocess *const *preprocess) {
#define CASE(name, channels, width, height, crc, first, middle, last)                                        \
  check_case(find_recipe(preprocess, name), name, noise(channels, width, height), crc,                       \
             (double[]){first, middle, last});
#include "parity/processors.inc"
}

static void test_padding(const Preprocess *llava) {
  CHECK(llava->pad_square && llava->pad_colour[0] == 122 && llava->pad_colour[1] == 116 &&
            llava->pad_colour[2] == 104,
        "the mean's colour");
  Preprocess plain = {.channels = 3, .height = 4, .width = 4, .resize = RESIZE_NONE, .pad_square = true};
  plain.pad_colour[1] = 9;
  uint8_t grey[4] = {1, 2, 3, 4}, out[48];
  Picture line = {4, 1, 1, grey}, column = {1, 4, 1, grey};
  Failure failure;
  CHECK(picture_prepare(&line, &plain, "p", out, &failure) && out[4] == 9 && out[12] == 1 && out[23] == 4 &&
            out[25] == 9,
        "a line stands in the second row");
  CHECK(picture_prepare(&column, &plain, "p", out, &failure) && out[0] == 0 && out[1] == 9 && out[3] == 1 &&
            out[39] == 4,
        "a column stands in the second column");
  Picture narrow = {60000, 1, 1, calloc(60000, 1)};
  CHECK(!picture_prepare(&narrow, &plain, "n.png", out, &failure) &&
            strstr(failure.message, "n.png: is 60000 x 1 pixels, too narrow to be padded"),
        "%s", failure.message);
  picture_free(&narrow);
}

int main(void) {
  Session sessions[RECIPE_COUNT];
  const Preprocess *preprocess[RECIPE_COUNT];
  bool good = true;
  for (int i = 0; i < RECIPE_COUNT; i++) {
    char text[600];
    snprintf(text, sizeof text, "model M() {\n  forward(x[B, 3, 8, 8]) = x\n  preprocess x { %s }\n}\n",
             recipes[i].settings);
    good &= session_open_text(&sessions[i], text);
    preprocess[i] = good ? model_preprocess(sessions[i].model) : NULL;
    good &= preprocess[i] != NULL;
    CHECK(good, "%s: %s", recipes[i].name, session_said(&sessions[i]));
  }
  if (good) {
    test_published(preprocess);
    test_padding(find_recipe(preprocess, "llava"));
  }
  for (int i = 0; i < RECIPE_COUNT; i++) session_close(&sessions[i]);
  return check_finish();
}
