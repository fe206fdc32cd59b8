// f32 to the formats that we write, in files (the reverse of format.c's readers) and in memory (packing.h).
#include "runtime/weights/format.h"

#include <math.h>
#include <string.h>

static void store_u16(unsigned char *at, uint16_t bits) {
  at[0] = (unsigned char)bits;
  at[1] = (unsigned char)(bits >> 8);
}

// The element farthest from 0, the first of equals.
static float extreme(const float *values) {
  float found = 0;
  for (int i = 0; i < 32; i++)
    if (fabsf(values[i]) > fabsf(found)) found = values[i];
  return found;
}

// A quotient that is no number (the block held infinities or NaN) must not become an integer.
static int whole(float value, int lowest, int highest) {
  if (!(value > (float)lowest)) return lowest;
  return value > (float)highest ? highest : (int)value;
}

// scale = largest magnitude / 127; halves are rounded away from 0
static void write_q8_0(const float *values, unsigned char *out) {
  float scale = fabsf(extreme(values)) / 127, inverse = scale != 0 ? 1 / scale : 0;
  store_u16(out, f16_from_float(scale));
  for (int i = 0; i < 32; i++) out[2 + i] = (unsigned char)whole(roundf(values[i] * inverse), -128, 127);
}

// What q4_0 makes of a value in steps of 1 / inverse: 0 .. 15, halves rounded up.
static int four_bits(float value, float inverse) { return whole(value * inverse + 8.5f, 0, 15); }

// The same, of numbers whose quotients are known to be small, in whole numbers that become vectors; as many chains as
// a vector has.
static float square_error(const float *values, float scale) {
  float inverse = scale != 0 ? 1 / scale : 0, sums[8] = {0};
  for (int i = 0; i < 32; i += 8)
    for (int lane = 0; lane < 8; lane++) {
      int step = (int)(values[i + lane] * inverse + 8.5f);
      step = step < 0 ? 0 : step > 15 ? 15 : step;
      float difference = values[i + lane] - scale * (float)(step - 8);
      sums[lane] += difference * difference;
    }
  return (sums[0] + sums[1] + sums[2] + sums[3]) + (sums[4] + sums[5] + sums[6] + sums[7]);
}

static bool all_finite(const float *values) {
  for (int i = 0; i < 32; i++)
    if (!isfinite(values[i])) return false;
  return true;
}

// The scale under which the whole block is met best, of those that put the farthest element at one of these steps:
// -8 meets it exactly, as ggml's reference does; beyond -8 and 7 it is cut for the sake of the others.
static uint16_t best_scale(const float *values) {
  static const float steps[] = {-8,    -9.5f, -9, -8.75f, -8.5f, -8.25f, -7.75f, -7.5f, -7.25f, -7,
                                -6.5f, -6,    6,  6.5f,   6.75f, 7,      7.25f,  7.5f,  8,      8.5f};
  float farthest = extreme(values), least = 0;
  uint16_t best = f16_from_float(farthest / steps[0]);
  if (!all_finite(values)) return best;
  for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
    uint16_t scale = f16_from_float(farthest / steps[i]);
    float error = square_error(values, f16_to_float(scale));
    if (i == 0 || error < least) least = error, best = scale;
  }
  return best;
}

static void write_q4_0(const float *values, unsigned char *out) {
  uint16_t bits = best_scale(values);
  float scale = f16_to_float(bits), inverse = scale != 0 ? 1 / scale : 0;
  store_u16(out, bits);
  for (int i = 0; i < 16; i++)
    out[2 + i] = (unsigned char)(four_bits(values[i], inverse) | four_bits(values[i + 16], inverse) << 4);
}

bool weights_write_f32(WeightFormat format, const float *values, int64_t count, void *out) {
  int block = format_block_elements(format);
  unsigned char *bytes = out;
  if (count % block) return false;
  for (int64_t i = 0; i < count; i += block) {
    unsigned char *at = bytes + i / block * format_block_bytes(format);
    switch (format) {
    case WEIGHT_F32: memcpy(at, values + i, 4); break;
    case WEIGHT_F16: store_u16(at, f16_from_float(values[i])); break;
    case WEIGHT_BF16: store_u16(at, bf16_from_float(values[i])); break;
    case WEIGHT_Q8_0: write_q8_0(values + i, at); break;
    case WEIGHT_Q4_0: write_q4_0(values + i, at); break;
    default: return false;
    }
  }
  return true;
}

// ---- in memory ----------------------------------------------------------------------------------

// One block of the file's format taken apart. A scale that is no number, or a value that the scale knows
// nothing of (NaN, for it is never the farthest from 0), has no packed form.
static bool pack_block(Packing packing, const float *values, unsigned char *packed, uint16_t *scale) {
  WeightFormat format = packing == PACKING_Q8_0 ? WEIGHT_Q8_0 : WEIGHT_Q4_0;
  unsigned char block[34];
  if (!all_finite(values)) return false;
  weights_write_f32(format, values, 32, block);
  *scale = (uint16_t)(block[0] | block[1] << 8);
  for (int i = 0; i < packing_table[packing].stored; i++)
    packed[i] = packing == PACKING_Q8_0 ? block[2 + i] ^ 0x80 : block[2 + i]; // signed to 128 more
  return isfinite(f16_to_float(*scale));
}

bool weights_pack(Packing packing, const float *values, int64_t count, void *packed, uint16_t *scales) {
  const PackingInfo *info = &packing_table[packing];
  if (packing == PACKING_NONE || packing == PACKING_BF16)
    return weights_write_f32(packing == PACKING_NONE ? WEIGHT_F32 : WEIGHT_BF16, values, count, packed);
  if (count % info->block) return false;
  for (int64_t i = 0; i < count / info->block; i++)
    if (!pack_block(packing, values + i * info->block, (unsigned char *)packed + i * info->stored,
                    &scales[i]))
      return false;
  return true;
}
