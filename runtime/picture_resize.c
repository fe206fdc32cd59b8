// Resampling as Pillow does it, to the byte: per output pixel a run of weights (the filter widened by the
// scale when shrinking), rounded to fixed point; one axis after the other, bytes in between.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/picture_parts.h"

enum { PRECISION_BITS = 32 - 8 - 2 };

// Weights of one axis: output i is the sum over j < count[i] of weights[i * most + j] * input[first[i] + j].
typedef struct Weights {
  int most;
  int *first, *count;
  int32_t *weights;
} Weights;

static double bilinear(double x) {
  x = fabs(x);
  return x < 1 ? 1 - x : 0;
}

static double bicubic(double x) { // Catmull-Rom: a = -1/2
  const double a = -0.5;
  x = fabs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

static void *checked_malloc(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (!memory) die("out of memory");
  return memory;
}

// Weights of output `i`: normalised in double, rounded away from zero at halves.
static void weigh(Weights *weights, int i, int from, double scale, double reach, Resample resample,
                  double *exact) {
  double widened = scale > 1 ? scale : 1, centre = (i + 0.5) * scale, sum = 0;
  int first = (int)(centre - reach + 0.5), end = (int)(centre + reach + 0.5);
  if (first < 0) first = 0;
  if (end > from) end = from;
  weights->first[i] = first;
  weights->count[i] = end - first;
  for (int j = 0; j < end - first; j++) {
    double x = (j + first - centre + 0.5) * (1.0 / widened);
    exact[j] = resample == RESAMPLE_BICUBIC ? bicubic(x) : bilinear(x);
    sum += exact[j];
  }
  for (int j = 0; j < end - first; j++) {
    double scaled = (sum != 0 ? exact[j] / sum : exact[j]) * (1 << PRECISION_BITS);
    weights->weights[(size_t)i * weights->most + j] = (int32_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
  }
}

static Weights weights_new(int from, int to, Resample resample) {
  double scale = (double)from / to, widened = scale > 1 ? scale : 1;
  double reach = (resample == RESAMPLE_BICUBIC ? 2.0 : 1.0) * widened;
  Weights weights = {.most = (int)ceil(reach) * 2 + 1};
  weights.first = checked_malloc(to, sizeof *weights.first);
  weights.count = checked_malloc(to, sizeof *weights.count);
  weights.weights = checked_malloc((size_t)to * weights.most, sizeof *weights.weights);
  double *exact = checked_malloc(weights.most, sizeof *exact);
  for (int i = 0; i < to; i++) weigh(&weights, i, from, scale, reach, resample, exact);
  free(exact);
  return weights;
}

static void weights_free(Weights *weights) {
  free(weights->first);
  free(weights->count);
  free(weights->weights);
}

static uint8_t to_byte(int32_t sum) {
  sum >>= PRECISION_BITS;
  return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

// One output: `in` is the first input's byte, the next is `step` bytes on.
static uint8_t weighted_sum(const uint8_t *in, size_t step, const int32_t *weights, int count) {
  int32_t sum = 1 << (PRECISION_BITS - 1);
  for (int j = 0; j < count; j++) sum += in[(size_t)j * step] * weights[j];
  return to_byte(sum);
}

static void resize_rows(const Picture *in, Picture *out, Resample resample) {
  Weights weights = weights_new(in->width, out->width, resample);
  size_t channels = (size_t)in->channels;
  for (int y = 0; y < out->height; y++) {
    const uint8_t *from = in->pixels + (size_t)y * (size_t)in->width * channels;
    uint8_t *to = out->pixels + (size_t)y * (size_t)out->width * channels;
    for (int x = 0; x < out->width; x++)
      for (size_t c = 0; c < channels; c++)
        *to++ = weighted_sum(from + (size_t)weights.first[x] * channels + c, channels,
                             weights.weights + (size_t)x * weights.most, weights.count[x]);
  }
  weights_free(&weights);
}

static void resize_columns(const Picture *in, Picture *out, Resample resample) {
  Weights weights = weights_new(in->height, out->height, resample);
  size_t row = (size_t)in->width * (size_t)in->channels;
  for (int y = 0; y < out->height; y++)
    for (size_t x = 0; x < row; x++)
      out->pixels[(size_t)y * row + x] =
          weighted_sum(in->pixels + (size_t)weights.first[y] * row + x, row,
                       weights.weights + (size_t)y * weights.most, weights.count[y]);
  weights_free(&weights);
}

// Which axis comes first shows in the last bit. Since version 13 Pillow shortens columns first where many
// more rows than columns go; before, and else, rows come first.
static bool columns_first(const Picture *picture, int width, int height) {
  int rows_less = picture->height - height, columns_less = picture->width - width;
  return rows_less > 0 && rows_less > 2 * columns_less;
}

static void resize_axis(const Picture *in, bool columns, Resample resample, Picture *out) {
  if (in->width == out->width && in->height == out->height)
    memcpy(out->pixels, in->pixels, (size_t)in->width * (size_t)in->height * (size_t)in->channels);
  else if (columns)
    resize_columns(in, out, resample);
  else
    resize_rows(in, out, resample);
}

bool picture_resize(const Picture *picture, int width, int height, Resample resample, Picture *out,
                    Failure *failure) {
  Picture between = {0};
  bool columns = columns_first(picture, width, height);
  *out = (Picture){0};
  if (!picture_allocate(columns ? picture->width : width, columns ? height : picture->height,
                        picture->channels, "a picture being resized", &between, failure))
    return false;
  bool good = picture_allocate(width, height, picture->channels, "the resized picture", out, failure);
  if (good) {
    resize_axis(picture, columns, resample, &between);
    resize_axis(&between, !columns, resample, out);
  }
  picture_free(&between);
  return good;
}
