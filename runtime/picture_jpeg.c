// JPEG -> RGB by libjpeg-turbo, turned by its EXIF orientation. The library's errors come by longjmp.
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "runtime/picture_parts.h"

enum { MAX_SCANS = 100, EXIF_MARKER = JPEG_APP0 + 1 };

typedef struct Job {
  struct jpeg_error_mgr errors; // first, so that the library's pointer to it is one to us
  struct jpeg_progress_mgr progress;
  struct jpeg_decompress_struct jpeg;
  jmp_buf out;
  uint8_t *row; // of CMYK
} Job;

static void on_error(j_common_ptr jpeg) { longjmp(((Job *)jpeg->err)->out, 1); }

// Of the library's warnings these are harmless; after any other it would go on with made-up pixels.
static bool is_harmless(int code) {
  return code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_TOO_MUCH_DATA ||
         code == JWRN_JFIF_MAJOR || code == JWRN_BOGUS_PROGRESSION;
}

static void on_message(j_common_ptr jpeg, int level) {
  if (level < 0 && !is_harmless(jpeg->err->msg_code)) on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg) {
  Job *job = (Job *)jpeg->err;
  if (job->jpeg.input_scan_number > MAX_SCANS) ERREXIT(jpeg, JERR_CANT_SUSPEND);
}

static unsigned read_number(const uint8_t *bytes, int count, bool big) {
  unsigned value = 0;
  for (int i = 0; i < count; i++) value = value << 8 | bytes[big ? i : count - 1 - i];
  return value;
}

// The orientation in an APP1 segment: "Exif\0\0", a TIFF header, and in its first directory the tag 0x0112.
static int read_orientation(const uint8_t *bytes, size_t size) {
  if (size < 14 || memcmp(bytes, "Exif\0\0", 6)) return 1;
  const uint8_t *tiff = bytes + 6;
  size -= 6;
  bool big = tiff[0] == 'M';
  if (memcmp(tiff, big ? "MM\0*" : "II*\0", 4)) return 1;
  size_t at = read_number(tiff + 4, 4, big);
  if (at > size || size - at < 2) return 1;
  unsigned entries = read_number(tiff + at, 2, big);
  at += 2;
  for (unsigned i = 0; i < entries && size - at >= 12; i++, at += 12)
    if (read_number(tiff + at, 2, big) == 0x0112 && read_number(tiff + at + 2, 2, big) == 3)
      return (int)read_number(tiff + at + 8, 2, big);
  return 1;
}

static int orientation_of(const struct jpeg_decompress_struct *jpeg) {
  for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker; marker = marker->next) {
    int orientation = marker->marker == EXIF_MARKER ? read_orientation(marker->data, marker->data_length) : 1;
    if (orientation > 1 && orientation <= 8) return orientation;
  }
  return 1;
}

static uint8_t product(unsigned a, unsigned b) { // a * b / 255, rounded
  unsigned scaled = a * b + 128;
  return (uint8_t)((scaled + (scaled >> 8)) >> 8);
}

// Inks as Adobe stores them, inverted: 255 is none.
static void cmyk_to_rgb(const uint8_t *in, uint8_t *out, int width) {
  for (int x = 0; x < width; x++, in += 4, out += 3)
    for (int c = 0; c < 3; c++) out[c] = (uint8_t)(in[3] - product(255u - in[c], in[3]));
}

static void read_rows(Job *job, Picture *out) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  bool inks = jpeg->out_color_space == JCS_CMYK;
  if (inks && !(job->row = malloc((size_t)out->width * 4))) die("out of memory");
  while (jpeg->output_scanline < jpeg->output_height) {
    uint8_t *row = out->pixels + (size_t)jpeg->output_scanline * (size_t)out->width * 3;
    jpeg_read_scanlines(jpeg, inks ? &job->row : &row, 1);
    if (inks) cmyk_to_rgb(job->row, row, out->width);
  }
  jpeg_finish_decompress(jpeg);
}

// In a function of its own, so that no local variable lives over the longjmp.
static bool decode(Job *job, const uint8_t *bytes, size_t size, const char *name, Picture *out,
                   Failure *failure) {
  struct jpeg_decompress_struct *jpeg = &job->jpeg;
  if (setjmp(job->out)) {
    char reason[JMSG_LENGTH_MAX];
    if (jpeg->input_scan_number > MAX_SCANS)
      snprintf(reason, sizeof reason, "more than %d scans", MAX_SCANS);
    else
      job->errors.format_message((j_common_ptr)jpeg, reason);
    return fail(failure, "%s: damaged JPEG, or of a kind that is not supported: %s", name, reason);
  }
  jpeg_create_decompress(jpeg);
  jpeg->progress = &job->progress;
  jpeg_mem_src(jpeg, bytes, size);
  jpeg_save_markers(jpeg, EXIF_MARKER, 0xffff);
  jpeg_read_header(jpeg, TRUE);
  if (!picture_allocate(jpeg->image_width, jpeg->image_height, 3, name, out, failure)) return false;
  bool inks = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
  jpeg->out_color_space = inks ? JCS_CMYK : JCS_RGB;
  jpeg_start_decompress(jpeg);
  int orientation = orientation_of(jpeg); // before the library drops its markers
  read_rows(job, out);
  picture_orient(out, orientation);
  return true;
}

bool picture_decode_jpeg(const uint8_t *bytes, size_t size, const char *name, Picture *out,
                         Failure *failure) {
  Job job = {.progress.progress_monitor = on_progress};
  job.jpeg.err = jpeg_std_error(&job.errors);
  job.errors.error_exit = on_error;
  job.errors.emit_message = on_message;
  bool good = decode(&job, bytes, size, name, out, failure);
  jpeg_destroy_decompress(&job.jpeg);
  free(job.row);
  return good;
}
