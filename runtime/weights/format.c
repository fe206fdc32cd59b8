// Element formats: the columns of format.def, sizes, and the slow readers that define what the bits mean.
#include "runtime/weights/format.h"

#include <math.h>
#include <string.h>

// ---- plain elements: `at` is the element, `i` is 0 ------------------------------------------------

typedef float ReadElement(const unsigned char *at, int i);

#define READ_PLAIN(name, type)                                                                               \
  static float read_##name(const unsigned char *at, int i) {                                                 \
    type value;                                                                                              \
    memcpy(&value, at + (size_t)i * sizeof value, sizeof value);                                             \
    return (float)value;                                                                                     \
  }
READ_PLAIN(u8, uint8_t)
READ_PLAIN(i8, int8_t)
READ_PLAIN(u16, uint16_t)
READ_PLAIN(i16, int16_t)
READ_PLAIN(u32, uint32_t)
READ_PLAIN(i32, int32_t)
READ_PLAIN(u64, uint64_t)
READ_PLAIN(i64, int64_t)
READ_PLAIN(f32, float)
READ_PLAIN(f64, double)

static uint16_t load_u16(const unsigned char *at) { return (uint16_t)(at[0] | at[1] << 8); }
static float load_f16(const unsigned char *at) { return f16_to_float(load_u16(at)); }
static float read_f16(const unsigned char *at, int i) { return load_f16(at + 2 * i); }
static float read_bf16(const unsigned char *at, int i) { return bf16_to_float(load_u16(at + 2 * i)); }

// One sign bit, four of exponent (bias 7), three of fraction; no infinities, all ones is NaN.
static float read_f8_e4m3(const unsigned char *at, int i) {
  int bits = at[i], exponent = bits >> 3 & 15, fraction = bits & 7;
  float sign = bits & 0x80 ? -1.0f : 1.0f;
  if (exponent == 15 && fraction == 7) return NAN;
  if (!exponent) return sign * ldexpf((float)fraction, -9);
  return sign * ldexpf((float)(8 + fraction), exponent - 10);
}

// The upper half of a binary16.
static float read_f8_e5m2(const unsigned char *at, int i) { return f16_to_float((uint16_t)(at[i] << 8)); }

// ---- blocks of 32: element i < 16 is the low half of byte i, element i >= 16 the high half of byte i - 16

static int nibble(const unsigned char *bytes, int i) { return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4; }

static int fifth_bit(const unsigned char *bits, int i) { return (bits[i / 8] >> i % 8 & 1) << 4; }

// f16 scale, nibbles
static float read_q4_0(const unsigned char *at, int i) {
  return (float)(nibble(at + 2, i) - 8) * load_f16(at);
}

// f16 scale, f16 minimum, nibbles
static float read_q4_1(const unsigned char *at, int i) {
  return (float)nibble(at + 4, i) * load_f16(at) + load_f16(at + 2);
}

// f16 scale, 32 fifth bits, nibbles
static float read_q5_0(const unsigned char *at, int i) {
  return (float)((nibble(at + 6, i) | fifth_bit(at + 2, i)) - 16) * load_f16(at);
}

// f16 scale, f16 minimum, 32 fifth bits, nibbles
static float read_q5_1(const unsigned char *at, int i) {
  return (float)(nibble(at + 8, i) | fifth_bit(at + 4, i)) * load_f16(at) + load_f16(at + 2);
}

// f16 scale, 32 signed bytes
static float read_q8_0(const unsigned char *at, int i) { return (float)(int8_t)at[2 + i] * load_f16(at); }

// ---- blocks of 256 = 8 groups of 32 with a scale and a minimum of 6 bits each
// ------------------------------

// Twelve bytes: the first four groups' in the low six bits of bytes 0..3 and 4..7; the others' low halves in
// bytes 8..11, their upper two bits on top of bytes 0..7.
static void group_scale(const unsigned char *packed, int group, int *scale, int *minimum) {
  if (group < 4) {
    *scale = packed[group] & 63;
    *minimum = packed[group + 4] & 63;
  } else {
    *scale = (packed[group + 4] & 15) | packed[group - 4] >> 6 << 4;
    *minimum = packed[group + 4] >> 4 | packed[group] >> 6 << 4;
  }
}

// Two groups share 32 bytes, the even one the low halves.
static int group_nibble(const unsigned char *bytes, int i) {
  int group = i / 32, byte = bytes[group / 2 * 32 + i % 32];
  return group % 2 ? byte >> 4 : byte & 15;
}

static float group_value(const unsigned char *at, int i, int quant) {
  int scale, minimum;
  group_scale(at + 4, i / 32, &scale, &minimum);
  return load_f16(at) * (float)scale * (float)quant - load_f16(at + 2) * (float)minimum;
}

// f16 scale of scales, f16 scale of minima, 12 bytes of both, 128 bytes of nibbles
static float read_q4_k(const unsigned char *at, int i) {
  return group_value(at, i, group_nibble(at + 16, i));
}

// The same with 32 bytes between, whose bit g of byte k is the fifth bit of element k of group g.
static float read_q5_k(const unsigned char *at, int i) {
  int fifth = at[16 + i % 32] >> i / 32 & 1;
  return group_value(at, i, group_nibble(at + 48, i) | fifth << 4);
}

// Two halves of 128 elements. 64 bytes per half hold the low four bits (bytes 0..63 low halves, then high
// halves), 32 bytes per half the upper two (four elements, 32 apart, share a byte); then 16 signed scales,
// one per 16 elements, and the f16 scale of scales.
static float read_q6_k(const unsigned char *at, int i) {
  int half = i / 128, within = i % 128, byte = at[half * 64 + within % 64];
  int low = within < 64 ? byte & 15 : byte >> 4;
  int high = at[128 + half * 32 + within % 32] >> within / 32 * 2 & 3;
  float scale = (float)(int8_t)at[192 + i / 16];
  return load_f16(at + 208) * scale * (float)((low | high << 4) - 32);
}

// ---- the table --------------------------------------------------------------------------------------------

static const struct {
  const char *name;
  int elements, bytes;
  DType dtype;
  int gguf;
  ReadElement *read;
} rows[WEIGHT_FORMAT_COUNT] = {
#define FORMAT(enumerator, name, elements, bytes, dtype, gguf, read)                                         \
  {name, elements, bytes, dtype, gguf, read},
#include "runtime/weights/format.def"
#undef FORMAT
};

const char *format_name(WeightFormat format) { return rows[format].name; }
int format_block_elements(WeightFormat format) { return rows[format].elements; }
int format_block_bytes(WeightFormat format) { return rows[format].bytes; }
DType format_dtype(WeightFormat format) { return rows[format].dtype; }
int format_gguf(WeightFormat format) { return rows[format].gguf; }

bool format_from_name(const char *name, WeightFormat *out) {
  for (int i = 0; i < WEIGHT_FORMAT_COUNT; i++)
    if (!strcmp(rows[i].name, name)) return *out = (WeightFormat)i, true;
  return false;
}

bool format_from_gguf(uint32_t number, WeightFormat *out) {
  for (int i = 0; i < WEIGHT_FORMAT_COUNT; i++)
    if (rows[i].gguf >= 0 && (uint32_t)rows[i].gguf == number) return *out = (WeightFormat)i, true;
  return false;
}

bool format_measure(WeightTensor *tensor, const char *place, Failure *failure) {
  int block = rows[tensor->format].elements;
  int64_t product = 1, innermost = tensor->rank ? tensor->extents[tensor->rank - 1] : 1;
  size_t bytes;
  bool fits = true, empty = false;
  for (int i = 0; i < tensor->rank; i++) {
    if (tensor->extents[i] < 0)
      return fail(failure, "%s: axis %d has an extent of %lld", place, i, (long long)tensor->extents[i]);
    empty = empty || tensor->extents[i] == 0;
    if (tensor->extents[i]) fits = fits && !__builtin_mul_overflow(product, tensor->extents[i], &product);
  }
  fits = fits && !__builtin_mul_overflow((size_t)product, (size_t)rows[tensor->format].bytes, &bytes) &&
         bytes <= INT64_MAX;
  if (!fits) return fail(failure, "%s: the product of its extents is too large", place);
  if (innermost % block)
    return fail(failure,
                "%s: its innermost axis has %lld elements, which is no multiple of the %d of a %s block",
                place, (long long)innermost, block, rows[tensor->format].name);
  tensor->elements = empty ? 0 : product;
  tensor->bytes = (size_t)(tensor->elements / block) * (size_t)rows[tensor->format].bytes;
  return true;
}

void weights_read_f32(const WeightTensor *tensor, int64_t first, int64_t count, float *out) {
  if (first < 0 || count < 0 || first > tensor->elements || count > tensor->elements - first)
    die("elements %lld and %lld more of %s", (long long)first, (long long)count, tensor->name);
  int block = rows[tensor->format].elements, bytes = rows[tensor->format].bytes;
  for (int64_t i = 0; i < count; i++) {
    int64_t at = first + i;
    out[i] = rows[tensor->format].read((const unsigned char *)tensor->data + at / block * bytes,
                                       (int)(at % block));
  }
}
