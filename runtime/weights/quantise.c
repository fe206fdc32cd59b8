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

// scale = element of the largest magnitude / -8, so that this one is met exactly by 0
static void write_q4_0(const float *values, unsigned char *out) {
  float scale = extreme(values) / -8, inverse = scale != 0 ? 1 / scale : 0;
  int quants[32];
  store_u16(out, f16_from_float(scale));
  for (int i = 0; i < 32; i++) quants[i] = whole(values[i] * inverse + 8.5f, 0, 15);
  for (int i = 0; i < 16; i++) out[2 + i] = (unsigned char)(quants[i] | quants[i + 16] << 4);
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
  for (int i = 0; i < 32; i++)
    if (!isfinite(values[i])) return false;
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
