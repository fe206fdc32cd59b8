// Kernels of every anchor and of the kinds that models lead to, made by the builders at sizes that no tile
// divides, with data for their buffers: what the tests of the interpreter and of every backend run.
//
//   for each sample: Kernel *kernel = sample->make(arena, width);
//   SampleData expected, got; ... kernel_interpret(...), backend(...), sample_error(...)
#ifndef VLMC_TESTS_SAMPLE_KERNELS_H
#define VLMC_TESTS_SAMPLE_KERNELS_H

#include "compiler/kernel/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- short spellings of the builders (k: the kernel)

static inline ExprId sample_f(Kernel *k, double value) { return kernel_number(k, value, DTYPE_F32); }
static inline ExprId sample_i(Kernel *k, double value) { return kernel_number(k, value, DTYPE_I64); }
static inline ExprId sample_add(Kernel *k, ExprId x, ExprId y) { return kernel_binary(k, SCALAR_ADD, x, y); }
static inline ExprId sample_sub(Kernel *k, ExprId x, ExprId y) { return kernel_binary(k, SCALAR_SUB, x, y); }
static inline ExprId sample_mul(Kernel *k, ExprId x, ExprId y) { return kernel_binary(k, SCALAR_MUL, x, y); }
static inline ExprId sample_div(Kernel *k, ExprId x, ExprId y) { return kernel_binary(k, SCALAR_DIV, x, y); }
static inline int sample_axis(Kernel *k, const char *name, int length) {
  return kernel_axis(k, name, extent_constant(length));
}
static inline int sample_batch(Kernel *k) { return kernel_axis(k, "b", extent_symbol(SYMBOL_BATCH)); }
static inline int sample_time(Kernel *k) { return kernel_axis(k, "t", extent_symbol(SYMBOL_TIME)); }
static inline ExprId sample_at(Kernel *k, int axis) { return kernel_axis_value(k, axis); }

// A buffer whose extents are those of the named axes, in order (-1 ends the list).
static inline int sample_buffer(Kernel *k, const char *name, DType dtype, BufferUse use, const int *axes) {
  Extent extents[KERNEL_MAX_RANK];
  int rank = 0;
  for (; axes[rank] >= 0; rank++) extents[rank] = k->axes[axes[rank]].extent;
  return kernel_buffer(k, name, dtype, rank, extents, use);
}
static inline ExprId sample_load(Kernel *k, int buffer, const int *axes) {
  ExprId index[KERNEL_MAX_RANK] = {0};
  for (int i = 0; axes[i] >= 0; i++) index[i] = sample_at(k, axes[i]);
  return kernel_load(k, buffer, index, 0);
}
static inline void sample_store(Kernel *k, int buffer, const int *axes, ExprId value) {
  ExprId index[KERNEL_MAX_RANK] = {0};
  uint32_t mask = 0;
  for (int i = 0; axes[i] >= 0; i++) {
    index[i] = sample_at(k, axes[i]);
    mask |= 1u << axes[i];
  }
  kernel_store(k, buffer, index, value, mask, STORE_SET);
}
#define SAMPLE_AXES(...)         ((const int[]){__VA_ARGS__, -1})
#define SAMPLE_SCALAR            ((const int[]){-1})
#define SAMPLE_IN(k, name, ...)  sample_buffer(k, name, DTYPE_F32, BUFFER_READ, SAMPLE_AXES(__VA_ARGS__))
#define SAMPLE_OUT(k, name, ...) sample_buffer(k, name, DTYPE_F32, BUFFER_WRITE, SAMPLE_AXES(__VA_ARGS__))

// 0.5 x (1 + tanh(0.79788456 (x + 0.044715 x^3)))
static inline ExprId sample_gelu(Kernel *k, ExprId x) {
  ExprId cube = sample_mul(k, sample_mul(k, x, x), x);
  ExprId inner =
      sample_mul(k, sample_add(k, x, sample_mul(k, cube, sample_f(k, 0.044715))), sample_f(k, 0.79788456));
  ExprId factor = sample_add(k, kernel_unary(k, SCALAR_TANH, inner), sample_f(k, 1));
  return sample_mul(k, sample_mul(k, x, sample_f(k, 0.5)), factor);
}

// ---- maps

static inline Kernel *sample_bias_gelu(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "bias_gelu");
  int b = sample_batch(k), t = sample_time(k), d = sample_axis(k, "d", width);
  int x = SAMPLE_IN(k, "x", b, t, d), bias = SAMPLE_IN(k, "bias", d), y = SAMPLE_OUT(k, "y", b, t, d);
  ExprId sum = sample_add(k, sample_load(k, x, SAMPLE_AXES(b, t, d)), sample_load(k, bias, SAMPLE_AXES(d)));
  sample_store(k, y, SAMPLE_AXES(b, t, d), sample_gelu(k, sum));
  return k;
}

// y[b, d, t] = x[b, t, d]: reads or writes with a stride
static inline Kernel *sample_transpose(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "transpose");
  int b = sample_batch(k), d = sample_axis(k, "d", width), t = sample_time(k);
  int x = SAMPLE_IN(k, "x", b, t, d), y = SAMPLE_OUT(k, "y", b, d, t);
  sample_store(k, y, SAMPLE_AXES(b, d, t), sample_load(k, x, SAMPLE_AXES(b, t, d)));
  return k;
}

// bf16 and f16 in memory, f32 between; every elementwise operation once
static inline Kernel *sample_elementwise(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "elementwise");
  int b = sample_batch(k), d = sample_axis(k, "d", width);
  int x = sample_buffer(k, "x", DTYPE_BF16, BUFFER_READ, SAMPLE_AXES(b, d));
  int z = sample_buffer(k, "z", DTYPE_F16, BUFFER_READ, SAMPLE_AXES(d));
  int pixel = sample_buffer(k, "pixel", DTYPE_U8, BUFFER_READ, SAMPLE_AXES(b, d));
  int y = sample_buffer(k, "y", DTYPE_BF16, BUFFER_WRITE, SAMPLE_AXES(b, d));
  int half = sample_buffer(k, "half", DTYPE_F16, BUFFER_WRITE, SAMPLE_AXES(b, d));
  int flag = sample_buffer(k, "flag", DTYPE_BOOL, BUFFER_WRITE, SAMPLE_AXES(b, d));
  int whole = sample_buffer(k, "whole", DTYPE_I32, BUFFER_WRITE, SAMPLE_AXES(b, d));
  ExprId vx = sample_load(k, x, SAMPLE_AXES(b, d)), vz = sample_load(k, z, SAMPLE_AXES(d));
  ExprId number = sample_load(k, pixel, SAMPLE_AXES(b, d));
  ExprId positive = sample_add(k, kernel_unary(k, SCALAR_ABS, vx), sample_f(k, 0.25));
  ExprId total = kernel_unary(k, SCALAR_EXP, vx);
  static const ScalarOp of_positive[] = {SCALAR_LOG, SCALAR_SQRT, SCALAR_RSQRT};
  for (int i = 0; i < 3; i++) total = sample_add(k, total, kernel_unary(k, of_positive[i], positive));
  static const ScalarOp of_any[] = {SCALAR_NEG, SCALAR_SIN, SCALAR_COS, SCALAR_TANH, SCALAR_ERF};
  for (int i = 0; i < 5; i++) total = sample_add(k, total, kernel_unary(k, of_any[i], vz));
  ExprId floor = kernel_unary(k, SCALAR_FLOOR, sample_mul(k, vx, sample_f(k, 7)));
  total = sample_add(k, total, kernel_binary(k, SCALAR_POW, positive, vz));
  total = sample_add(k, total, sample_div(k, kernel_binary(k, SCALAR_MOD, vx, sample_f(k, 0.37)), positive));
  total = sample_add(k, total, kernel_binary(k, SCALAR_MIN, vx, vz));
  total = sample_add(k, total, kernel_binary(k, SCALAR_MAX, vx, sample_f(k, 0)));
  sample_store(k, y, SAMPLE_AXES(b, d), total);
  sample_store(k, half, SAMPLE_AXES(b, d), sample_add(k, floor, kernel_cast(k, number, DTYPE_F32)));
  ExprId both = kernel_binary(k, SCALAR_AND, kernel_binary(k, SCALAR_LESS, vx, vz),
                              kernel_unary(k, SCALAR_NOT, kernel_binary(k, SCALAR_EQUAL, vx, vz)));
  ExprId either = kernel_binary(k, SCALAR_OR, both, kernel_binary(k, SCALAR_LESSEQ, sample_f(k, 0.5), vx));
  sample_store(k, flag, SAMPLE_AXES(b, d), either);
  ExprId seven = kernel_number(k, 7, DTYPE_I32), three = kernel_number(k, 3, DTYPE_I32);
  ExprId shifted = sample_sub(k, number, kernel_number(k, 100, DTYPE_I32));
  ExprId mixed = sample_add(k, sample_div(k, shifted, seven), kernel_binary(k, SCALAR_MOD, shifted, three));
  sample_store(k, whole, SAMPLE_AXES(b, d), sample_add(k, mixed, kernel_cast(k, floor, DTYPE_I32)));
  return k;
}

static inline Kernel *sample_embedding(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "embedding");
  int v = sample_axis(k, "v", 11);
  int b = sample_batch(k), t = sample_time(k), d = sample_axis(k, "d", width);
  int table = SAMPLE_IN(k, "table", v, d), position = SAMPLE_IN(k, "position", t, d);
  int ids = sample_buffer(k, "ids", DTYPE_I32, BUFFER_READ, SAMPLE_AXES(b, t));
  int y = SAMPLE_OUT(k, "y", b, t, d);
  ExprId row = kernel_cast(k, sample_load(k, ids, SAMPLE_AXES(b, t)), DTYPE_I64);
  ExprId value = kernel_load(k, table, (ExprId[]){row, sample_at(k, d)}, 0);
  sample_store(k, y, SAMPLE_AXES(b, t, d), sample_add(k, value, sample_load(k, position, SAMPLE_AXES(t, d))));
  return k;
}

// AdamW: three buffers read and written at once, sizes and rates as scalars
static inline Kernel *sample_adamw(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "adamw");
  int n = sample_axis(k, "n", 3), d = sample_axis(k, "d", width);
  int rate = sample_buffer(k, "positive_rate", DTYPE_F32, BUFFER_READ, SAMPLE_SCALAR);
  int gradient = SAMPLE_IN(k, "gradient", n, d);
  int w = sample_buffer(k, "w", DTYPE_F32, BUFFER_UPDATE, SAMPLE_AXES(n, d));
  int m = sample_buffer(k, "m", DTYPE_F32, BUFFER_UPDATE, SAMPLE_AXES(n, d));
  int v = sample_buffer(k, "positive_v", DTYPE_F32, BUFFER_UPDATE, SAMPLE_AXES(n, d));
  const int *at = SAMPLE_AXES(n, d);
  ExprId g = sample_load(k, gradient, at), lr = sample_load(k, rate, SAMPLE_SCALAR),
         old = sample_load(k, w, at);
  ExprId new_m = sample_add(k, sample_mul(k, sample_load(k, m, at), sample_f(k, 0.9)),
                            sample_mul(k, g, sample_f(k, 0.1)));
  ExprId new_v = sample_add(k, sample_mul(k, sample_load(k, v, at), sample_f(k, 0.999)),
                            sample_mul(k, sample_mul(k, g, g), sample_f(k, 0.001)));
  ExprId step = sample_div(k, new_m, sample_add(k, kernel_unary(k, SCALAR_SQRT, new_v), sample_f(k, 1e-8)));
  step = sample_add(k, step, sample_mul(k, old, sample_f(k, 0.1)));
  sample_store(k, m, at, new_m);
  sample_store(k, v, at, new_v);
  sample_store(k, w, at, sample_sub(k, old, sample_mul(k, lr, step)));
  return k;
}

// y[b, t, d] = cls[d] at t = 0, else x[b, t - 1, d]; plus position: guarded loads
static inline Kernel *sample_concat(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "concat");
  int b = sample_batch(k), u = sample_axis(k, "u", 4), t = sample_axis(k, "t", 5),
      d = sample_axis(k, "d", width);
  int cls = SAMPLE_IN(k, "cls", d), x = SAMPLE_IN(k, "x", b, u, d), position = SAMPLE_IN(k, "position", t, d);
  int y = SAMPLE_OUT(k, "y", b, t, d);
  ExprId first = kernel_binary(k, SCALAR_LESS, sample_at(k, t), sample_i(k, 1));
  ExprId head = kernel_load(k, cls, (ExprId[]){sample_at(k, d)}, first);
  ExprId index[] = {sample_at(k, b), sample_sub(k, sample_at(k, t), sample_i(k, 1)), sample_at(k, d)};
  ExprId rest = kernel_load(k, x, index, kernel_unary(k, SCALAR_NOT, first));
  ExprId value =
      sample_add(k, kernel_select(k, first, head, rest), sample_load(k, position, SAMPLE_AXES(t, d)));
  sample_store(k, y, SAMPLE_AXES(b, t, d), value);
  return k;
}

static inline Kernel *sample_dropout(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "dropout");
  int b = sample_batch(k), t = sample_time(k), d = sample_axis(k, "d", width);
  int counter = sample_buffer(k, "counter", DTYPE_I32, BUFFER_READ, SAMPLE_SCALAR);
  int x = SAMPLE_IN(k, "x", b, t, d), y = SAMPLE_OUT(k, "y", b, t, d);
  ExprId row =
      sample_add(k, sample_mul(k, sample_at(k, b), kernel_size(k, k->axes[t].extent)), sample_at(k, t));
  ExprId linear = sample_add(k, sample_mul(k, row, sample_i(k, width)), sample_at(k, d));
  ExprId random = kernel_random(k, sample_load(k, counter, SAMPLE_SCALAR), linear, 7);
  ExprId kept = sample_mul(k, sample_load(k, x, SAMPLE_AXES(b, t, d)), sample_f(k, 1 / 0.9));
  ExprId drop = kernel_binary(k, SCALAR_LESS, random, sample_f(k, 0.1));
  sample_store(k, y, SAMPLE_AXES(b, t, d), kernel_select(k, drop, sample_f(k, 0), kept));
  return k;
}

// Rotary embedding by halves: reads x[.., h, d] and x[.., h, (d + width) mod 2 width]
static inline Kernel *sample_rotary(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "rotary");
  int b = sample_batch(k), t = sample_time(k), h = sample_axis(k, "h", 3), d = sample_axis(k, "d", 2 * width);
  int x = SAMPLE_IN(k, "x", b, t, h, d), y = SAMPLE_OUT(k, "y", b, t, h, d);
  ExprId vd = sample_at(k, d), half = sample_i(k, width);
  ExprId upper = kernel_binary(k, SCALAR_LESSEQ, half, vd);
  ExprId other = kernel_binary(k, SCALAR_MOD, sample_add(k, vd, half), sample_i(k, 2 * width));
  ExprId pair = kernel_cast(k, kernel_binary(k, SCALAR_MOD, vd, half), DTYPE_F32);
  ExprId frequency = kernel_unary(k, SCALAR_EXP, sample_mul(k, pair, sample_f(k, -9.2 / width)));
  ExprId position = sample_add(k, kernel_size(k, extent_symbol(SYMBOL_PAST)), sample_at(k, t));
  ExprId angle = sample_mul(k, kernel_cast(k, position, DTYPE_F32), frequency);
  ExprId turned = kernel_load(k, x, (ExprId[]){sample_at(k, b), sample_at(k, t), sample_at(k, h), other}, 0);
  turned = kernel_select(k, upper, turned, kernel_unary(k, SCALAR_NEG, turned));
  ExprId value = sample_add(
      k, sample_mul(k, sample_load(k, x, SAMPLE_AXES(b, t, h, d)), kernel_unary(k, SCALAR_COS, angle)),
      sample_mul(k, turned, kernel_unary(k, SCALAR_SIN, angle)));
  sample_store(k, y, SAMPLE_AXES(b, t, h, d), value);
  return k;
}

// ---- rows

// Keeps mean and 1 / deviation for the backward pass: stores over different axes.
static inline Kernel *sample_layer_norm(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "layer_norm");
  k->anchor = ANCHOR_ROW;
  int b = sample_batch(k), t = sample_time(k), d = sample_axis(k, "d", width), e = sample_axis(k, "e", width);
  int x = SAMPLE_IN(k, "x", b, t, d), scale = SAMPLE_IN(k, "scale", d), shift = SAMPLE_IN(k, "shift", d);
  int y = SAMPLE_OUT(k, "y", b, t, d), mean = SAMPLE_OUT(k, "mean", b, t),
      inverse = SAMPLE_OUT(k, "inverse", b, t);
  ExprId across = sample_load(k, x, SAMPLE_AXES(b, t, e));
  ExprId average = sample_mul(k, kernel_reduce(k, SCALAR_SUM, across, 1u << e), sample_f(k, 1.0 / width));
  ExprId centred = sample_sub(k, across, average);
  ExprId square = kernel_reduce(k, SCALAR_SUM, sample_mul(k, centred, centred), 1u << e);
  ExprId variance = sample_mul(k, square, sample_f(k, 1.0 / width));
  ExprId factor = kernel_unary(k, SCALAR_RSQRT, sample_add(k, variance, sample_f(k, 1e-5)));
  ExprId normal = sample_mul(k, sample_sub(k, sample_load(k, x, SAMPLE_AXES(b, t, d)), average), factor);
  ExprId value = sample_add(k, sample_mul(k, normal, sample_load(k, scale, SAMPLE_AXES(d))),
                            sample_load(k, shift, SAMPLE_AXES(d)));
  sample_store(k, y, SAMPLE_AXES(b, t, d), value);
  sample_store(k, mean, SAMPLE_AXES(b, t), average);
  sample_store(k, inverse, SAMPLE_AXES(b, t), factor);
  return k;
}

// Softmax over seen positions s <= past + t
static inline Kernel *sample_softmax(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "softmax");
  (void)width;
  k->anchor = ANCHOR_ROW;
  Extent seen = extent_symbol(SYMBOL_SEEN);
  int b = sample_batch(k), h = sample_axis(k, "h", 3), t = sample_time(k);
  int s = kernel_axis(k, "s", seen), r = kernel_axis(k, "r", seen);
  int x = SAMPLE_IN(k, "x", b, h, t, s), y = SAMPLE_OUT(k, "y", b, h, t, s);
  ExprId last = sample_add(k, kernel_size(k, extent_symbol(SYMBOL_PAST)), sample_at(k, t));
  ExprId masked[2];
  for (int i = 0; i < 2; i++) {
    int axis = i ? s : r;
    ExprId score = sample_mul(k, sample_load(k, x, SAMPLE_AXES(b, h, t, axis)), sample_f(k, 0.125));
    ExprId allowed = kernel_binary(k, SCALAR_LESSEQ, sample_at(k, axis), last);
    masked[i] = kernel_select(k, allowed, score, sample_f(k, -INFINITY));
  }
  ExprId top = kernel_reduce(k, SCALAR_REDMAX, masked[0], 1u << r);
  ExprId power = kernel_unary(k, SCALAR_EXP, sample_sub(k, masked[0], top));
  ExprId total = kernel_reduce(k, SCALAR_SUM, power, 1u << r);
  sample_store(k, y, SAMPLE_AXES(b, h, t, s),
               sample_div(k, kernel_unary(k, SCALAR_EXP, sample_sub(k, masked[1], top)), total));
  return k;
}

// Loss and gradient of one row of logits; the target is read at a data-dependent place of the row.
static inline Kernel *sample_cross_entropy(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "cross_entropy");
  k->anchor = ANCHOR_ROW;
  int b = sample_batch(k), t = sample_time(k), v = sample_axis(k, "v", width + 11),
      u = sample_axis(k, "u", width + 11);
  int logits = SAMPLE_IN(k, "logits", b, t, v), weight = SAMPLE_IN(k, "weight", b, t);
  int target = sample_buffer(k, "target", DTYPE_I32, BUFFER_READ, SAMPLE_AXES(b, t));
  int loss = SAMPLE_OUT(k, "loss", b, t), gradient = SAMPLE_OUT(k, "gradient", b, t, v);
  ExprId across = sample_load(k, logits, SAMPLE_AXES(b, t, u));
  ExprId top = kernel_reduce(k, SCALAR_REDMAX, across, 1u << u);
  ExprId total =
      kernel_reduce(k, SCALAR_SUM, kernel_unary(k, SCALAR_EXP, sample_sub(k, across, top)), 1u << u);
  ExprId wanted = kernel_cast(k, sample_load(k, target, SAMPLE_AXES(b, t)), DTYPE_I64);
  ExprId logit = kernel_load(k, logits, (ExprId[]){sample_at(k, b), sample_at(k, t), wanted}, 0);
  ExprId mask = sample_load(k, weight, SAMPLE_AXES(b, t));
  ExprId value = sample_sub(k, sample_add(k, kernel_unary(k, SCALAR_LOG, total), top), logit);
  sample_store(k, loss, SAMPLE_AXES(b, t), sample_mul(k, value, mask));
  ExprId share = sample_div(
      k, kernel_unary(k, SCALAR_EXP, sample_sub(k, sample_load(k, logits, SAMPLE_AXES(b, t, v)), top)),
      total);
  ExprId hit = kernel_cast(k, kernel_binary(k, SCALAR_EQUAL, sample_at(k, v), wanted), DTYPE_F32);
  sample_store(k, gradient, SAMPLE_AXES(b, t, v), sample_mul(k, sample_sub(k, share, hit), mask));
  return k;
}

// One number out of everything: a squared norm and the largest magnitude; stores without axes.
static inline Kernel *sample_norm(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "norm");
  k->anchor = ANCHOR_ROW;
  int n = sample_axis(k, "n", 37), d = sample_axis(k, "d", width);
  int x = SAMPLE_IN(k, "x", n, d);
  int square = sample_buffer(k, "square", DTYPE_F32, BUFFER_WRITE, SAMPLE_SCALAR);
  int top = sample_buffer(k, "top", DTYPE_F32, BUFFER_WRITE, SAMPLE_SCALAR);
  ExprId value = sample_load(k, x, SAMPLE_AXES(n, d));
  uint32_t axes = 1u << n | 1u << d;
  sample_store(k, square, SAMPLE_SCALAR, kernel_reduce(k, SCALAR_SUM, sample_mul(k, value, value), axes));
  sample_store(k, top, SAMPLE_SCALAR,
               kernel_reduce(k, SCALAR_REDMAX, kernel_unary(k, SCALAR_ABS, value), axes));
  return k;
}

// ---- columns

static inline Kernel *sample_bias_gradient(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "bias_gradient");
  k->anchor = ANCHOR_COLUMN;
  int d = sample_axis(k, "d", width), b = sample_batch(k), t = sample_time(k);
  int dy = SAMPLE_IN(k, "dy", b, t, d), db = SAMPLE_OUT(k, "db", d);
  sample_store(k, db, SAMPLE_AXES(d),
               kernel_reduce(k, SCALAR_SUM, sample_load(k, dy, SAMPLE_AXES(b, t, d)), 1u << b | 1u << t));
  return k;
}

// Two results of one sweep: the gradients of a norm's scale and shift
static inline Kernel *sample_norm_gradient(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "norm_gradient");
  k->anchor = ANCHOR_COLUMN;
  int d = sample_axis(k, "d", width), b = sample_batch(k), t = sample_time(k);
  int dy = SAMPLE_IN(k, "dy", b, t, d), x = SAMPLE_IN(k, "x", b, t, d);
  int mean = SAMPLE_IN(k, "mean", b, t), inverse = SAMPLE_IN(k, "inverse", b, t);
  int dscale = SAMPLE_OUT(k, "dscale", d), dshift = SAMPLE_OUT(k, "dshift", d);
  ExprId gradient = sample_load(k, dy, SAMPLE_AXES(b, t, d));
  ExprId normal =
      sample_sub(k, sample_load(k, x, SAMPLE_AXES(b, t, d)), sample_load(k, mean, SAMPLE_AXES(b, t)));
  normal = sample_mul(k, normal, sample_load(k, inverse, SAMPLE_AXES(b, t)));
  uint32_t axes = 1u << b | 1u << t;
  sample_store(k, dscale, SAMPLE_AXES(d),
               kernel_reduce(k, SCALAR_SUM, sample_mul(k, gradient, normal), axes));
  sample_store(k, dshift, SAMPLE_AXES(d), kernel_reduce(k, SCALAR_SUM, gradient, axes));
  return k;
}

// The mean over time, kept along batch and width
static inline Kernel *sample_mean_pool(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "mean_pool");
  k->anchor = ANCHOR_COLUMN;
  int b = sample_batch(k), d = sample_axis(k, "d", width), t = sample_time(k);
  int x = SAMPLE_IN(k, "x", b, t, d), y = SAMPLE_OUT(k, "y", b, d);
  ExprId total = kernel_reduce(k, SCALAR_SUM, sample_load(k, x, SAMPLE_AXES(b, t, d)), 1u << t);
  sample_store(k, y, SAMPLE_AXES(b, d),
               sample_div(k, total, kernel_cast(k, kernel_size(k, k->axes[t].extent), DTYPE_F32)));
  return k;
}

// ---- contractions

// y[b, t, n] = gelu(x[b, t, k] w[n, k] + bias[n]) + residual[b, t, n]
static inline Kernel *sample_gemm_gelu(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "gemm_gelu");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), t = sample_time(k), n = sample_axis(k, "n", width + 3),
      c = sample_axis(k, "k", width);
  int x = SAMPLE_IN(k, "x", b, t, c), w = SAMPLE_IN(k, "w", n, c), bias = SAMPLE_IN(k, "bias", n);
  int residual = SAMPLE_IN(k, "residual", b, t, n), y = SAMPLE_OUT(k, "y", b, t, n);
  ExprId dot =
      kernel_dot(k, sample_load(k, x, SAMPLE_AXES(b, t, c)), sample_load(k, w, SAMPLE_AXES(n, c)), 1u << c);
  ExprId value = sample_gelu(k, sample_add(k, dot, sample_load(k, bias, SAMPLE_AXES(n))));
  sample_store(k, y, SAMPLE_AXES(b, t, n),
               sample_add(k, value, sample_load(k, residual, SAMPLE_AXES(b, t, n))));
  return k;
}

// y[b, t, n] = ((x[b, t, k] - mean[b, t]) inverse[b, t] scale[k]) w[k, n]: a norm before the contraction
static inline Kernel *sample_gemm_norm(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "gemm_norm");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), t = sample_time(k), n = sample_axis(k, "n", width + 3),
      c = sample_axis(k, "k", width);
  int x = SAMPLE_IN(k, "x", b, t, c), w = SAMPLE_IN(k, "w", c, n), scale = SAMPLE_IN(k, "scale", c);
  int mean = SAMPLE_IN(k, "mean", b, t), inverse = SAMPLE_IN(k, "inverse", b, t),
      y = SAMPLE_OUT(k, "y", b, t, n);
  ExprId normal =
      sample_sub(k, sample_load(k, x, SAMPLE_AXES(b, t, c)), sample_load(k, mean, SAMPLE_AXES(b, t)));
  normal = sample_mul(k, normal, sample_load(k, inverse, SAMPLE_AXES(b, t)));
  normal = sample_mul(k, normal, sample_load(k, scale, SAMPLE_AXES(c)));
  sample_store(k, y, SAMPLE_AXES(b, t, n),
               kernel_dot(k, normal, sample_load(k, w, SAMPLE_AXES(c, n)), 1u << c));
  return k;
}

// y[b, t, n] = x[b, t, 32 k + v] (w[n, k, v] - 128) scale[n, k]: weights in blocks of bytes, three of them
static inline Kernel *sample_gemm_q8_0(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "gemm_q8_0");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), t = sample_time(k), n = sample_axis(k, "n", width + 3);
  int c = sample_axis(k, "k", 3), v = sample_axis(k, "v", 32);
  Extent extents[] = {k->axes[b].extent, k->axes[t].extent, extent_constant(96)};
  int x = kernel_buffer(k, "x", DTYPE_F32, 3, extents, BUFFER_READ), y = SAMPLE_OUT(k, "y", b, t, n);
  int w = sample_buffer(k, "w", DTYPE_U8, BUFFER_READ, SAMPLE_AXES(n, c, v));
  int scale = sample_buffer(k, "scale", DTYPE_F16, BUFFER_READ, SAMPLE_AXES(n, c));
  ExprId row = sample_add(k, sample_at(k, v), sample_mul(k, sample_at(k, c), sample_i(k, 32)));
  ExprId left = kernel_load(k, x, (ExprId[]){sample_at(k, b), sample_at(k, t), row}, 0);
  ExprId value = kernel_cast(k, sample_load(k, w, SAMPLE_AXES(n, c, v)), DTYPE_F32);
  value = sample_mul(k, sample_sub(k, value, sample_f(k, 128)), sample_load(k, scale, SAMPLE_AXES(n, c)));
  sample_store(k, y, SAMPLE_AXES(b, t, n), kernel_dot(k, left, value, 1u << c | 1u << v));
  return k;
}

// y[b, t, n] = x[b, t, 32 k + 16 h + v] (half h of w[n, k, v] - 8) scale[n, k]: two weights in a byte
static inline Kernel *sample_gemm_q4_0(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "gemm_q4_0");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), t = sample_time(k), n = sample_axis(k, "n", width + 3);
  int c = sample_axis(k, "k", 3), h = sample_axis(k, "h", 2), v = sample_axis(k, "v", 16);
  Extent extents[] = {k->axes[b].extent, k->axes[t].extent, extent_constant(96)};
  int x = kernel_buffer(k, "x", DTYPE_F32, 3, extents, BUFFER_READ), y = SAMPLE_OUT(k, "y", b, t, n);
  int w = sample_buffer(k, "w", DTYPE_U8, BUFFER_READ, SAMPLE_AXES(n, c, v));
  int scale = sample_buffer(k, "scale", DTYPE_F16, BUFFER_READ, SAMPLE_AXES(n, c));
  ExprId row = sample_add(k, sample_at(k, h), sample_mul(k, sample_at(k, c), sample_i(k, 2)));
  row = sample_add(k, sample_at(k, v), sample_mul(k, row, sample_i(k, 16)));
  ExprId left = kernel_load(k, x, (ExprId[]){sample_at(k, b), sample_at(k, t), row}, 0);
  ExprId byte = kernel_cast(k, sample_load(k, w, SAMPLE_AXES(n, c, v)), DTYPE_F32);
  ExprId high = kernel_unary(k, SCALAR_FLOOR, sample_mul(k, byte, sample_f(k, 0.0625)));
  ExprId low = sample_sub(k, byte, sample_mul(k, high, sample_f(k, 16)));
  ExprId first = kernel_binary(k, SCALAR_EQUAL, kernel_cast(k, sample_at(k, h), DTYPE_I32),
                               kernel_number(k, 0, DTYPE_I32));
  ExprId value = sample_sub(k, kernel_select(k, first, low, high), sample_f(k, 8));
  value = sample_mul(k, value, sample_load(k, scale, SAMPLE_AXES(n, c)));
  sample_store(k, y, SAMPLE_AXES(b, t, n), kernel_dot(k, left, value, 1u << c | 1u << h | 1u << v));
  return k;
}

// score[b, h, t, s] = q[b, t, h, d] k[b, s, h, d] / sqrt(width)
static inline Kernel *sample_attention_scores(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "attention_scores");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), h = sample_axis(k, "h", 3), t = sample_time(k);
  int s = kernel_axis(k, "s", extent_symbol(SYMBOL_SEEN)), d = sample_axis(k, "d", width);
  int q = SAMPLE_IN(k, "q", b, t, h, d), key = SAMPLE_IN(k, "key", b, s, h, d),
      y = SAMPLE_OUT(k, "score", b, h, t, s);
  ExprId dot = kernel_dot(k, sample_load(k, q, SAMPLE_AXES(b, t, h, d)),
                          sample_load(k, key, SAMPLE_AXES(b, s, h, d)), 1u << d);
  sample_store(k, y, SAMPLE_AXES(b, h, t, s), sample_mul(k, dot, sample_f(k, 1 / sqrt(width))));
  return k;
}

// y[b, t, h width + d] = share[b, h, t, s] value[b, s, h, d]
static inline Kernel *sample_attention_values(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "attention_values");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), h = sample_axis(k, "h", 3), t = sample_time(k);
  int d = sample_axis(k, "d", width), s = kernel_axis(k, "s", extent_symbol(SYMBOL_SEEN));
  int share = SAMPLE_IN(k, "share", b, h, t, s), value = SAMPLE_IN(k, "value", b, s, h, d);
  Extent extents[] = {k->axes[b].extent, k->axes[t].extent, extent_constant(3 * width)};
  int y = kernel_buffer(k, "y", DTYPE_F32, 3, extents, BUFFER_WRITE);
  ExprId dot = kernel_dot(k, sample_load(k, share, SAMPLE_AXES(b, h, t, s)),
                          sample_load(k, value, SAMPLE_AXES(b, s, h, d)), 1u << s);
  ExprId column = sample_add(k, sample_mul(k, sample_at(k, h), sample_i(k, width)), sample_at(k, d));
  kernel_store(k, y, (ExprId[]){sample_at(k, b), sample_at(k, t), column}, dot,
               1u << b | 1u << h | 1u << t | 1u << d, STORE_SET);
  return k;
}

// dw[n, k] = dy[b, t, n] x[b, t, k]: contracts over two run-time sizes
static inline Kernel *sample_weight_gradient(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "weight_gradient");
  k->anchor = ANCHOR_DOT;
  int n = sample_axis(k, "n", width + 3), c = sample_axis(k, "k", width), b = sample_batch(k),
      t = sample_time(k);
  int dy = SAMPLE_IN(k, "dy", b, t, n), x = SAMPLE_IN(k, "x", b, t, c), dw = SAMPLE_OUT(k, "dw", n, c);
  ExprId dot = kernel_dot(k, sample_load(k, dy, SAMPLE_AXES(b, t, n)),
                          sample_load(k, x, SAMPLE_AXES(b, t, c)), 1u << b | 1u << t);
  sample_store(k, dw, SAMPLE_AXES(n, c), dot);
  return k;
}

// grid[b, 3 y + x, d] = pixels[b, c, 4 y + i, 4 x + j] patches[d, c, i, j]: windows of a picture
static inline Kernel *sample_patches(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "patches");
  k->anchor = ANCHOR_DOT;
  int b = sample_batch(k), y = sample_axis(k, "y", 3), x = sample_axis(k, "x", 3),
      d = sample_axis(k, "d", width);
  int c = sample_axis(k, "c", 3), i = sample_axis(k, "i", 4), j = sample_axis(k, "j", 4);
  Extent picture[] = {k->axes[b].extent, extent_constant(3), extent_constant(12), extent_constant(12)};
  int pixels = kernel_buffer(k, "pixels", DTYPE_F32, 4, picture, BUFFER_READ);
  int patches = SAMPLE_IN(k, "patches", d, c, i, j);
  Extent extents[] = {k->axes[b].extent, extent_constant(9), extent_constant(width)};
  int grid = kernel_buffer(k, "grid", DTYPE_F32, 3, extents, BUFFER_WRITE);
  ExprId four = sample_i(k, 4), vy = sample_at(k, y), vx = sample_at(k, x);
  ExprId at[] = {sample_at(k, b), sample_at(k, c), sample_add(k, sample_mul(k, vy, four), sample_at(k, i)),
                 sample_add(k, sample_mul(k, vx, four), sample_at(k, j))};
  uint32_t contract = 1u << c | 1u << i | 1u << j;
  ExprId dot = kernel_dot(k, kernel_load(k, pixels, at, 0), sample_load(k, patches, SAMPLE_AXES(d, c, i, j)),
                          contract);
  ExprId cell = sample_add(k, sample_mul(k, vy, sample_i(k, 3)), vx);
  kernel_store(k, grid, (ExprId[]){sample_at(k, b), cell, sample_at(k, d)}, dot,
               1u << b | 1u << y | 1u << x | 1u << d, STORE_SET);
  return k;
}

// ---- scatter

static inline Kernel *sample_embedding_gradient(Arena *arena, int width) {
  Kernel *k = kernel_new(arena, "embedding_gradient");
  k->anchor = ANCHOR_SCATTER;
  int v = sample_axis(k, "v", 11);
  int b = sample_batch(k), t = sample_time(k), d = sample_axis(k, "d", width);
  int ids =
      sample_buffer(k, "wide_ids", DTYPE_I32, BUFFER_READ, SAMPLE_AXES(b, t)); // some are outside: dropped
  int dy = SAMPLE_IN(k, "dy", b, t, d);
  int table = sample_buffer(k, "table", DTYPE_F32, BUFFER_UPDATE, SAMPLE_AXES(v, d));
  ExprId row = kernel_cast(k, sample_load(k, ids, SAMPLE_AXES(b, t)), DTYPE_I64);
  kernel_store(k, table, (ExprId[]){row, sample_at(k, d)}, sample_load(k, dy, SAMPLE_AXES(b, t, d)),
               1u << b | 1u << t | 1u << d, STORE_ADD);
  return k;
}

typedef struct Sample {
  const char *name;
  Kernel *(*make)(Arena *arena, int width);
} Sample;

static const Sample samples[] = {
    {"bias_gelu", sample_bias_gelu},
    {"transpose", sample_transpose},
    {"elementwise", sample_elementwise},
    {"embedding", sample_embedding},
    {"adamw", sample_adamw},
    {"concat", sample_concat},
    {"dropout", sample_dropout},
    {"rotary", sample_rotary},
    {"layer_norm", sample_layer_norm},
    {"softmax", sample_softmax},
    {"cross_entropy", sample_cross_entropy},
    {"norm", sample_norm},
    {"bias_gradient", sample_bias_gradient},
    {"norm_gradient", sample_norm_gradient},
    {"mean_pool", sample_mean_pool},
    {"gemm_gelu", sample_gemm_gelu},
    {"gemm_norm", sample_gemm_norm},
    {"gemm_q8_0", sample_gemm_q8_0},
    {"gemm_q4_0", sample_gemm_q4_0},
    {"attention_scores", sample_attention_scores},
    {"attention_values", sample_attention_values},
    {"weight_gradient", sample_weight_gradient},
    {"patches", sample_patches},
    {"embedding_gradient", sample_embedding_gradient},
};
enum { SAMPLE_COUNT = sizeof samples / sizeof *samples };

// ---- data for a kernel's buffers

enum {
  SAMPLE_FENCE = 64,
  SAMPLE_FENCE_BYTE = 0xA5
}; // bytes before and after each buffer that nobody may write

typedef struct SampleData {
  int count;
  void *buffers[KERNEL_MAX_BUFFERS];
  size_t bytes[KERNEL_MAX_BUFFERS];
  int64_t elements[KERNEL_MAX_BUFFERS];
} SampleData;

// Inputs are reproducible numbers: floats in [-1, 1) (in [0, 1) where the buffer is called positive_*), whole
// numbers in [0, 11) (wide_*: [-2, 13)), bytes in [0, 200). What is only written starts as 0xFF: NaN.
static inline SampleData sample_data(const Kernel *kernel, const int64_t *symbols, unsigned seed) {
  SampleData data = {.count = kernel->buffer_count};
  for (int i = 0; i < kernel->buffer_count; i++) {
    const KernelBuffer *buffer = &kernel->buffers[i];
    int64_t count = 1;
    for (int r = 0; r < buffer->rank; r++) count *= extent_value(buffer->extents[r], symbols);
    data.elements[i] = count;
    data.bytes[i] = (size_t)count * dtype_bytes(buffer->dtype);
    size_t whole = (data.bytes[i] + 2 * SAMPLE_FENCE + 63) / 64 * 64;
    unsigned char *memory = aligned_alloc(64, whole);
    memset(memory, SAMPLE_FENCE_BYTE, whole);
    data.buffers[i] = memory + SAMPLE_FENCE;
    memset(data.buffers[i], 0xFF, data.bytes[i]);
    bool adds = false;
    for (int s = 0; s < kernel->store_count; s++)
      adds = adds || (kernel->stores[s].buffer == i && kernel->stores[s].mode == STORE_ADD);
    if (adds) memset(data.buffers[i], 0, data.bytes[i]);
    if (adds || buffer->use == BUFFER_WRITE) continue;
    bool positive = !strncmp(buffer->name, "positive", 8), wide = !strncmp(buffer->name, "wide", 4);
    for (int64_t e = 0; e < count; e++) {
      seed = seed * 1664525u + 1013904223u;
      double unit = (double)(seed >> 8) / 16777216.0;
      double value = positive ? unit : 2 * unit - 1;
      if (buffer->dtype == DTYPE_I32 || buffer->dtype == DTYPE_I64)
        value = wide ? floor(unit * 15) - 2 : floor(unit * 11);
      if (buffer->dtype == DTYPE_U8) value = floor(unit * 200);
      if (buffer->dtype == DTYPE_BOOL) value = unit < 0.5;
      dtype_store(buffer->dtype, data.buffers[i], e, value);
    }
  }
  return data;
}

static inline void sample_data_free(SampleData *data) {
  for (int i = 0; i < data->count; i++) free((unsigned char *)data->buffers[i] - SAMPLE_FENCE);
  data->count = 0;
}

// The largest |got - expected| / (1 + |expected|) over all buffers; infinite where a NaN meets a number or a
// fence was overwritten. What is only read must not have changed.
static inline double sample_error(const Kernel *kernel, const SampleData *expected, const SampleData *got) {
  double worst = 0;
  for (int i = 0; i < kernel->buffer_count; i++) {
    const unsigned char *start = (const unsigned char *)got->buffers[i] - SAMPLE_FENCE;
    for (int f = 0; f < SAMPLE_FENCE; f++)
      if (start[f] != SAMPLE_FENCE_BYTE ||
          start[SAMPLE_FENCE + got->bytes[i] + (size_t)f] != SAMPLE_FENCE_BYTE)
        return INFINITY;
    for (int64_t e = 0; e < got->elements[i]; e++) {
      double a = dtype_load(kernel->buffers[i].dtype, expected->buffers[i], e);
      double b = dtype_load(kernel->buffers[i].dtype, got->buffers[i], e);
      if (a == b || (a != a && b != b)) continue;
      double error = fabs(b - a) / (1 + fabs(a));
      if (!(error <= worst)) worst = error == error ? error : INFINITY;
    }
  }
  return worst;
}

// The tolerance that fits what a kernel stores: one unit in the last place of its coarsest result, or 2e-6; a sum
// over bytes has terms a hundred times as large as others.
static inline double sample_tolerance(const Kernel *kernel) {
  double tolerance = 4e-6;
  for (int i = 0; i < kernel->store_count; i++) {
    DType dtype = kernel->buffers[kernel->stores[i].buffer].dtype;
    if (dtype == DTYPE_F16 && tolerance < 0x1p-10) tolerance = 0x1p-10;
    if (dtype == DTYPE_BF16) tolerance = 0x1p-7;
  }
  for (int i = 0; i < kernel->buffer_count && kernel->anchor == ANCHOR_DOT; i++)
    if (kernel->buffers[i].dtype == DTYPE_U8) return 100 * tolerance;
  return tolerance;
}

#endif
