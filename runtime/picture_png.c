// PNG -> RGB and back, by libpng. Its errors come by longjmp; what must outlive one is in a struct.
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/text.h"
#include "runtime/files.h"
#include "runtime/picture_parts.h"

typedef struct Job {
  const uint8_t *bytes; // what is left of the file
  size_t size;
  char error[200];
  png_structp png;
  png_infop info;
  png_bytep *rows;
  Text written;
} Job;

static void on_error(png_structp png, png_const_charp message) {
  Job *job = png_get_error_ptr(png);
  snprintf(job->error, sizeof job->error, "%s", message);
  png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void read_bytes(png_structp png, png_bytep out, size_t count) {
  Job *job = png_get_io_ptr(png);
  if (count > job->size) png_error(png, "the file ends early");
  memcpy(out, job->bytes, count);
  job->bytes += count;
  job->size -= count;
}

// Everything becomes 8-bit RGB: palettes looked up, greys spread and tripled, low bytes and alpha dropped.
static void ask_for_rgb(Job *job) {
  png_set_expand(job->png);
  png_set_strip_16(job->png);
  png_set_strip_alpha(job->png);
  png_set_gray_to_rgb(job->png);
  png_set_interlace_handling(job->png);
  png_read_update_info(job->png, job->info);
}

// In a function of its own, so that no local variable lives over the longjmp.
static bool decode(Job *job, const char *name, Picture *out, Failure *failure) {
  if (setjmp(png_jmpbuf(job->png))) return fail(failure, "%s: damaged PNG: %s", name, job->error);
  png_set_read_fn(job->png, job, read_bytes);
  png_set_user_limits(job->png, PICTURE_MAX_SIDE, PICTURE_MAX_SIDE);
  png_set_chunk_malloc_max(job->png, 16 << 20);
  png_set_chunk_cache_max(job->png, 100);
  png_read_info(job->png, job->info);
  png_uint_32 width = png_get_image_width(job->png, job->info),
              height = png_get_image_height(job->png, job->info);
  if (!picture_allocate(width, height, 3, name, out, failure)) return false;
  ask_for_rgb(job);
  if (png_get_rowbytes(job->png, job->info) != (size_t)width * 3)
    png_error(job->png, "unexpected size of a row");
  job->rows = malloc(height * sizeof *job->rows);
  if (!job->rows) die("out of memory");
  for (png_uint_32 y = 0; y < height; y++) job->rows[y] = out->pixels + (size_t)y * width * 3;
  png_read_image(job->png, job->rows);
  png_read_end(job->png, NULL);
  return true;
}

bool picture_decode_png(const uint8_t *bytes, size_t size, const char *name, Picture *out, Failure *failure) {
  Job job = {.bytes = bytes, .size = size};
  // The library refuses such sizes as well, but does not say which they are.
  if (size >= 24 && !memcmp(bytes + 12, "IHDR", 4) &&
      !picture_fits(png_get_uint_32(bytes + 16), png_get_uint_32(bytes + 20), name, failure))
    return false;
  job.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
  job.info = job.png ? png_create_info_struct(job.png) : NULL;
  if (!job.info) die("libpng does not start (%s)", job.error);
  bool good = decode(&job, name, out, failure);
  png_destroy_read_struct(&job.png, &job.info, NULL);
  free(job.rows);
  return good;
}

static void write_bytes(png_structp png, png_bytep bytes, size_t count) {
  Job *job = png_get_io_ptr(png);
  text_add(&job->written, (const char *)bytes, count);
}

static void flush_bytes(png_structp png) { (void)png; }

static bool encode(Job *job, const Picture *picture) {
  if (setjmp(png_jmpbuf(job->png))) return false;
  png_set_write_fn(job->png, job, write_bytes, flush_bytes);
  png_set_IHDR(job->png, job->info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8,
               picture->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(job->png, job->info);
  size_t stride = (size_t)picture->width * (size_t)picture->channels;
  for (int y = 0; y < picture->height; y++) png_write_row(job->png, picture->pixels + (size_t)y * stride);
  png_write_end(job->png, NULL);
  return true;
}

bool picture_write_png(const char *path, const Picture *picture, Failure *failure) {
  Job job = {0};
  job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning);
  job.info = job.png ? png_create_info_struct(job.png) : NULL;
  if (!job.info) die("libpng does not start (%s)", job.error);
  if (!encode(&job, picture)) die("libpng does not write a picture: %s", job.error);
  png_destroy_write_struct(&job.png, &job.info);
  bool good = file_replace(path, job.written.bytes, job.written.length, failure);
  text_free(&job.written);
  return good;
}
