// Pictures: published suites decoded to the right pixels or refused, resizing as Pillow does it, the recipe.
#include <stdio.h>

#include <jpeglib.h>
#include <unistd.h>
#include <webp/encode.h>
#include <zlib.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/files.h"
#include "runtime/picture.h"

static char folder[] = "/tmp/vlmc-picture-XXXXXX";

static Picture noise(int channels, int width, int height) {
  Picture picture = {width, height, channels, malloc((size_t)width * height * channels)};
  uint32_t state = 1;
  for (int i = 0; i < width * height * channels; i++) {
    state = state * 1664525 + 1013904223;
    picture.pixels[i] = (uint8_t)(state >> 24);
  }
  return picture;
}

static uint64_t hash(const uint8_t *bytes, size_t size) {
  uint64_t value = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size; i++) value = (value ^ bytes[i]) * 0x100000001b3u;
  return value;
}

// The published suites.

static bool unpack(const char *archive, Arena *arena) {
  return system(arena_print(arena, "tar -xf %s -C %s", archive, folder)) == 0;
}

// One line of parity/pictures.txt: "file width height crc32" or "file refused".
static void check_file(const char *line, Arena *arena) {
  char name[200], crc[20] = "";
  int width = 0, height = 0;
  if (sscanf(line, "%199s %d %d %19s", name, &width, &height, crc) < 1) return;
  const char *path = arena_print(arena, "%s/%s", folder, name);
  Picture picture;
  Failure failure = {0};
  bool good = picture_read(path, &picture, &failure);
  if (!width) {
    CHECK(!good && !strncmp(failure.message, path, strlen(path)) &&
              (strstr(failure.message, "damaged ") || strstr(failure.message, "is not a PNG, JPEG or WebP") ||
               strstr(failure.message, " pixels")),
          "%s must be refused: %s", name, good ? "was read" : failure.message);
  } else {
    CHECK(good && picture.width == width && picture.height == height && picture.channels == 3, "%s: %s", name,
          good ? "another size" : failure.message);
    size_t size = good ? (size_t)picture.width * picture.height * picture.channels : 0;
    CHECK(crc32(0, picture.pixels, (uInt)size) == strtoul(crc, NULL, 16), "%s: other pixels than Pillow's",
          name);
  }
  picture_free(&picture);
}

static void test_table(Arena *arena) {
  char line[300];
  int files = 0;
  FILE *table = fopen("tests/parity/pictures.txt", "r");
  CHECK(table != NULL, "tests/parity/pictures.txt is missing");
  for (; table && fgets(line, sizeof line, table);)
    if (*line != '#') check_file(line, arena), files++;
  if (table) fclose(table);
  CHECK(files > 300, "%d files", files);
}

static void test_original_jpeg(Arena *arena) {
  Picture picture;
  Failure failure;
  char *ppm;
  size_t size;
  CHECK(picture_read(arena_print(arena, "%s/testimages/testorig.jpg", folder), &picture, &failure), "%s",
        failure.message);
  CHECK(file_read(arena_print(arena, "%s/testimages/testorig.ppm", folder), 1 << 22, arena, &ppm, &size,
                  &failure),
        "%s", failure.message);
  size_t pixels = (size_t)picture.width * picture.height * 3;
  int most = size > pixels ? 0 : 255;
  for (size_t i = 0; i < pixels && size > pixels; i++) {
    int difference = abs(picture.pixels[i] - (uint8_t)ppm[size - pixels + i]);
    most = difference > most ? difference : most;
  }
  CHECK(most <= 3, "testorig.jpg: a sample differs by %d", most);
  picture_free(&picture);
  CHECK(!picture_read(arena_print(arena, "%s/testimages/monkey12.jpg", folder), &picture, &failure) &&
            strstr(failure.message, "precision 12"),
        "%s", failure.message);
}

static void test_suites(const char *data, Arena *arena) {
  if (!unpack(arena_print(arena, "%s/pngsuite/pngsuite.tar.xz", data), arena) ||
      !unpack(arena_print(arena, "%s/jpeg/jpeg-decoder-tests.tar", data), arena) ||
      !unpack(arena_print(arena, "%s/jpeg/libjpeg-turbo-testimages.tar", data), arena)) {
    SKIP("picture suites: cannot be unpacked from %s", data);
    return;
  }
  test_table(arena);
  test_original_jpeg(arena);
}

// What we make ourselves.

static bool same_pixels(const Picture *a, const Picture *b) {
  return a->width == b->width && a->height == b->height && a->channels == b->channels &&
         !memcmp(a->pixels, b->pixels, (size_t)a->width * a->height * a->channels);
}

// Cut at any byte, a picture is refused.
static void check_truncated(const char *bytes, size_t size, const char *what) {
  int accepted = 0;
  for (size_t cut = 0; cut < size; cut += size < 600 ? 1 : size / 300) {
    char *part = malloc(cut + 1);
    memcpy(part, bytes, cut);
    Picture picture;
    Failure failure;
    accepted += picture_decode(part, cut, "cut", &picture, &failure);
    picture_free(&picture);
    free(part);
  }
  CHECK(accepted == 0, "%d shortened %s pictures were accepted", accepted, what);
}

static void test_png_and_webp(Arena *arena) {
  Failure failure;
  const char *path = arena_print(arena, "%s/own.png", folder);
  for (int channels = 1; channels <= 3; channels += 2) {
    Picture picture = noise(channels, 13, 7), read, decoded;
    CHECK(picture_write_png(path, &picture, &failure), "%s", failure.message);
    CHECK(picture_read(path, &read, &failure) && read.channels == 3, "%s", failure.message);
    for (int i = 0; i < 13 * 7 * 3; i++)
      CHECK(read.pixels[i] == picture.pixels[channels == 3 ? i : i / 3], "sample %d of a written PNG", i);
    char *bytes;
    size_t size;
    CHECK(file_read(path, 1 << 20, arena, &bytes, &size, &failure), "%s", failure.message);
    check_truncated(bytes, size, "PNG");
    uint8_t *webp;
    size = WebPEncodeLosslessRGB(read.pixels, 13, 7, 13 * 3, &webp);
    CHECK(picture_decode(webp, size, "w", &decoded, &failure) && same_pixels(&decoded, &read), "%s",
          failure.message);
    check_truncated((char *)webp, size, "WebP");
    WebPFree(webp);
    picture_free(&picture);
    picture_free(&read);
    picture_free(&decoded);
  }
}

// A 32 x 16 grey JPEG whose left upper corner is white, with an EXIF segment saying `orientation`.
static size_t encode_jpeg(int orientation, unsigned char **bytes) {
  struct jpeg_compress_struct jpeg;
  struct jpeg_error_mgr errors;
  unsigned long size = 0;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  *bytes = NULL;
  jpeg_mem_dest(&jpeg, bytes, &size);
  jpeg.image_width = 32, jpeg.image_height = 16, jpeg.input_components = 1,
  jpeg.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  unsigned char exif[] = "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x01\0\0\0\0\0\0";
  exif[25] = (unsigned char)orientation;
  jpeg_write_marker(&jpeg, JPEG_APP0 + 1, exif, sizeof exif - 1);
  for (int y = 0; y < 16; y++) {
    unsigned char row[32] = {0}, *rows[] = {row};
    if (y < 8) memset(row, 255, 8);
    jpeg_write_scanlines(&jpeg, rows, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  return size;
}

static void test_orientation(void) {
  // Where the white corner is after each orientation: right?, below?
  static const bool right[] = {0, 0, 1, 1, 0, 0, 1, 1, 0}, below[] = {0, 0, 0, 1, 1, 0, 0, 1, 1};
  for (int orientation = 0; orientation <= 9; orientation++) {
    unsigned char *bytes;
    size_t size = encode_jpeg(orientation, &bytes);
    Picture picture;
    Failure failure;
    CHECK(picture_decode(bytes, size, "o", &picture, &failure), "%s", failure.message);
    bool turned = orientation >= 5 && orientation <= 8;
    CHECK(picture.width == (turned ? 16 : 32) && picture.height == (turned ? 32 : 16), "%d: %d x %d",
          orientation, picture.width, picture.height);
    int known = orientation <= 8 ? orientation : 0;
    int x = right[known] ? picture.width - 4 : 4, y = below[known] ? picture.height - 4 : 4;
    CHECK(picture.pixels[(y * picture.width + x) * 3] > 200, "orientation %d: the corner is elsewhere",
          orientation);
    picture_free(&picture);
    if (orientation == 1) check_truncated((char *)bytes, size, "JPEG");
    free(bytes);
  }
}

static void test_refused(void) {
  Picture picture;
  Failure failure;
  CHECK(!picture_decode("GIF89a..", 8, "a.gif", &picture, &failure) &&
            strstr(failure.message, "a.gif: is not a PNG, JPEG or WebP picture (it begins with 47 49 46"),
        "%s", failure.message);
  CHECK(!picture_decode("", 0, "e", &picture, &failure) && strstr(failure.message, "it is empty"), "%s",
        failure.message);
  // A PNG that claims 65500 x 65500 pixels: its header's checksum is right.
  unsigned char huge[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xdc\0\0\xff\xdc\x08\2\0\0\0\0\0\0\0";
  uint32_t sum = (uint32_t)crc32(0, huge + 12, 17);
  for (int i = 0; i < 4; i++) huge[29 + i] = (unsigned char)(sum >> (24 - 8 * i));
  unsigned char more[] = "\0\0\0\0IDAT\x35\xaf\x06\x1e";
  unsigned char whole[33 + 12];
  memcpy(whole, huge, 33);
  memcpy(whole + 33, more, 12);
  CHECK(!picture_decode(whole, sizeof whole, "huge.png", &picture, &failure) &&
            strstr(failure.message, "more than the"),
        "%s", failure.message);
  whole[16] = 0x7f;
  CHECK(!picture_decode(whole, sizeof whole, "huge.png", &picture, &failure) &&
            strstr(failure.message, "huge.png: is 2130771932 x 65500 pixels, expected sides of 1 to 65500"),
        "%s", failure.message);
  CHECK(!picture_read("/nowhere/x.png", &picture, &failure) && strstr(failure.message, "/nowhere/x.png"),
        "%s", failure.message);
}

static void test_archives(Arena *arena) {
  unsigned char idx[16 + 3 * 6] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 3};
  for (int i = 0; i < 18; i++) idx[16 + i] = (unsigned char)(i * 10);
  Failure failure;
  CHECK(file_replace(arena_print(arena, "%s/a.idx", folder), idx, sizeof idx, &failure), "%s",
        failure.message);
  gzFile gz = gzopen(arena_print(arena, "%s/a.gz", folder), "wb");
  gzwrite(gz, idx, sizeof idx);
  gzclose(gz);
  PictureFolder *pictures = picture_folder_open(folder);
  static const char *const names[] = {"a.idx#2", "a.gz#2"};
  Picture picture;
  for (int i = 0; i < 2; i++) {
    CHECK(picture_folder_read(pictures, names[i], &picture, &failure), "%s", failure.message);
    CHECK(picture.width == 3 && picture.height == 2 && picture.channels == 1 && picture.pixels[5] == 170,
          "%s", names[i]);
    picture_free(&picture);
  }
  CHECK(!picture_folder_read(pictures, "a.gz#3", &picture, &failure) &&
            strstr(failure.message, "only 3 pictures"),
        "%s", failure.message);
  static const struct {
    const char *name;
    size_t size;
    int at;
    unsigned char byte;
    const char *message;
  } bad[] = {{"short#0", sizeof idx - 1, 0, 0, "do not make its 17 bytes"},
             {"long#0", sizeof idx, 7, 2, "do not make"},
             {"magic#0", sizeof idx, 3, 1, "is not an IDX archive"},
             {"empty#0", 0, 0, 0, "is not an IDX archive"},
             {"zero#0", sizeof idx, 11, 0, "3 x 0 pixels"},
             {"wide#0", sizeof idx, 12, 1, "pixels"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    unsigned char copy[sizeof idx];
    memcpy(copy, idx, sizeof idx);
    copy[bad[i].at] = bad[i].byte;
    const char *path = arena_print(arena, "%s/%.*s", folder, (int)strcspn(bad[i].name, "#"), bad[i].name);
    CHECK(file_replace(path, copy, bad[i].size, &failure), "%s", failure.message);
    for (int again = 0; again < 2; again++) // the second time from what is remembered
      CHECK(!picture_folder_read(pictures, bad[i].name, &picture, &failure) &&
                strstr(failure.message, bad[i].message),
            "%s: %s", bad[i].name, failure.message);
  }
  char *bytes;
  size_t size;
  CHECK(file_read(arena_print(arena, "%s/a.gz", folder), 1000, arena, &bytes, &size, &failure) &&
            file_replace(arena_print(arena, "%s/cut.gz", folder), bytes, size - 9, &failure),
        "%s", failure.message);
  CHECK(!picture_folder_read(pictures, "cut.gz#0", &picture, &failure) &&
            strstr(failure.message, "ends early"),
        "%s", failure.message);
  picture_folder_close(pictures);

  const char *fashion = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz#9999";
  if (!file_exists("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")) {
    SKIP("Fashion-MNIST: the package dataset-fashion-mnist is not installed");
    return;
  }
  CHECK(picture_read(fashion, &picture, &failure) && picture.width == 28, "%s", failure.message);
  picture_free(&picture);
}

// Resizing and the recipe.

static void test_resize(void) {
#define CASE(channels, width, height, new_width, new_height, resample, expected)                             \
  {                                                                                                          \
    Picture picture = noise(channels, width, height), resized;                                               \
    Failure failure;                                                                                         \
    CHECK(picture_resize(&picture, new_width, new_height, resample, &resized, &failure) &&                   \
              hash(resized.pixels, (size_t)new_width * new_height * channels) == expected,                   \
          "%d x %d x %d to %d x %d, %s, differs from Pillow", width, height, channels, new_width,            \
          new_height, #resample);                                                                            \
    picture_free(&picture);                                                                                  \
    picture_free(&resized);                                                                                  \
  }
#define LUMA(expected)                                                                                       \
  {                                                                                                          \
    Picture picture = noise(3, 16, 16);                                                                      \
    Preprocess grey = {.channels = 1, .height = 16, .width = 16, .scale = 1, .std = {1, 1, 1}};              \
    uint8_t out[256];                                                                                        \
    Failure failure;                                                                                         \
    CHECK(picture_prepare(&picture, &grey, "p", out, &failure) && hash(out, 256) == expected,                \
          "grey differs");                                                                                   \
    picture_free(&picture);                                                                                  \
  }
#include "parity/pillow_resize.inc"
}

// The size and the part that RESIZE_SHORTEST keeps, read off a picture that is a ramp along one axis.
static void test_shortest(void) {
  for (int tall = 0; tall <= 1; tall++) {
    int width = tall ? 20 : 60, height = tall ? 60 : 20;
    Picture picture = {width, height, 1, malloc((size_t)width * height)};
    for (int i = 0; i < width * height; i++)
      picture.pixels[i] = (uint8_t)(4 * (tall ? i / width : i % width));
    Preprocess recipe = {
        .channels = 3, .height = 10, .width = 10, .resize = RESIZE_SHORTEST, .resample = RESAMPLE_BICUBIC};
    uint8_t out[300];
    Failure failure;
    CHECK(picture_prepare(&picture, &recipe, "p", out, &failure), "%s", failure.message);
    int first = out[0], last = out[299]; // of 30 the 10 in the middle: pixels 20 to 40 of 60
    CHECK(abs(first - 82) <= 1 && abs(last - 154) <= 1, "kept %d to %d", first, last);
    recipe.resize = RESIZE_NONE;
    CHECK(!picture_prepare(&picture, &recipe, "p.png", out, &failure) && strstr(failure.message, "p.png: is"),
          "%s", failure.message);
    picture_free(&picture);
  }
  Picture line = noise(1, 60000, 1);
  Preprocess recipe = {.channels = 1, .height = 224, .width = 224, .resize = RESIZE_SHORTEST};
  static uint8_t out[224 * 224];
  Failure failure;
  CHECK(!picture_prepare(&line, &recipe, "line.png", out, &failure) && strstr(failure.message, "too narrow"),
        "%s", failure.message);
  picture_free(&line);
}

static void test_normalise(void) {
  Preprocess recipe = {.channels = 2,
                       .height = 3,
                       .width = 4,
                       .scale = 1 / 255.0,
                       .mean = {0.5, 0.25},
                       .std = {0.5, 2},
                       .shift = 2,
                       .mirror = true};
  Picture picture = noise(2, 4, 3);
  float plain[24], changed[24];
  picture_normalise(&recipe, picture.pixels, NULL, plain);
  bool good = true;
  for (int c = 0; c < 2; c++)
    for (int i = 0; i < 12; i++)
      good &= plain[c * 12 + i] ==
              (float)((picture.pixels[i * 2 + c] * recipe.scale - recipe.mean[c]) / recipe.std[c]);
  CHECK(good, "the plain picture");
  Augmentation augmentation = {.right = 1, .down = -2, .mirror = true};
  picture_normalise(&recipe, picture.pixels, &augmentation, changed);
  float outside = (float)((0 * recipe.scale - 0.25) / 2);
  for (int y = 0; y < 3; y++)
    for (int x = 0; x < 4; x++) { // mirrored, then one to the right and two up
      bool inside = y + 2 < 3 && x >= 1;
      float expected = inside ? plain[12 + (y + 2) * 4 + (3 - (x - 1))] : outside;
      CHECK(changed[12 + y * 4 + x] == expected, "at %d, %d", x, y);
    }
  static const Augmentation far[] = {{.right = 9}, {.right = -9, .mirror = true}, {.down = 4}, {.down = -3}};
  for (int i = 0; i < 4; i++) {
    picture_normalise(&recipe, picture.pixels, &far[i], changed);
    for (int at = 12; at < 24; at++) CHECK(changed[at] == outside, "shifted out of sight, at %d", at);
  }
  int mirrored = 0, shifts[5] = {0};
  for (uint64_t i = 0; i < 1000; i++) {
    Augmentation drawn = picture_augmentation(&recipe, 1, 2, i),
                 again = picture_augmentation(&recipe, 1, 2, i);
    CHECK(drawn.right == again.right && drawn.down == again.down && drawn.mirror == again.mirror,
          "drawn twice");
    CHECK(abs(drawn.right) <= 2 && abs(drawn.down) <= 2, "shifted by %d, %d", drawn.right, drawn.down);
    mirrored += drawn.mirror;
    shifts[drawn.right + 2]++;
  }
  CHECK(mirrored > 430 && mirrored < 570, "%d of 1000 are mirrored", mirrored);
  for (int i = 0; i < 5; i++)
    CHECK(shifts[i] > 150 && shifts[i] < 250, "%d of 1000 are shifted by %d", shifts[i], i - 2);
  picture_free(&picture);
}

int main(void) {
  if (!mkdtemp(folder)) return 2;
  Arena *arena = arena_new();
  const char *data = check_data();
  if (data)
    test_suites(data, arena);
  else
    SKIP("PNG and JPEG suites: no test data (set VLMC_TEST_DATA)");
  test_png_and_webp(arena);
  test_orientation();
  test_refused();
  test_archives(arena);
  test_resize();
  test_shortest();
  test_normalise();
  if (system(arena_print(arena, "rm -r %s", folder))) return 2;
  arena_free(arena);
  return check_finish();
}
