// Weights in bf16, q8_0 and q4_0 at run time: quantising against its slow twin, the pass that makes the
// parts, programs that read them on every target.
#include "runtime/weights/format.h"

#include "check.h"

#include <stdint.h>

// ---- quantising ---------------------------------------------------------------------------------

enum { BLOCK = 32, BLOCKS = 257 };

static uint32_t state = 1;
static float random_float(void) { // in [-1, 1)
  state = state * 1664525 + 1013904223;
  return (float)(state >> 8) / (float)(1 << 23) - 1;
}

// The format's definition, in doubles, one element after the other.
static double unpack(Packing packing, const unsigned char *packed, const uint16_t *scales, int64_t i) {
  double scale = f16_to_float(scales[i / BLOCK]);
  int at = (int)(i % BLOCK);
  if (packing == PACKING_Q8_0) return (packed[i] - 128) * scale;
  int byte = packed[i / BLOCK * 16 + at % 16];
  return ((at < 16 ? byte % 16 : byte / 16) - 8) * scale;
}

// The whole numbers that stand for a block, by the definition of ggml's reference quantisers, and its scale.
static double twin(Packing packing, const float *block, int *whole) {
  double extreme = 0;
  for (int i = 0; i < BLOCK; i++)
    if (fabs((double)block[i]) > fabs(extreme)) extreme = block[i];
  float scale = (float)(packing == PACKING_Q8_0 ? fabs(extreme) / 127 : extreme / -8);
  for (int i = 0; i < BLOCK; i++) {
    double quotient = scale != 0 ? (double)block[i] / (double)scale : 0;
    whole[i] = (int)(packing == PACKING_Q8_0 ? round(quotient) : fmin(15, floor(quotient + 8.5)) - 8);
  }
  return (double)f16_to_float(f16_from_float(scale));
}

static void test_twin(Packing packing) {
  static float values[BLOCKS * BLOCK], back[BLOCKS * BLOCK];
  static unsigned char packed[BLOCKS * BLOCK], again[BLOCKS * BLOCK];
  static uint16_t scales[BLOCKS], scales_again[BLOCKS];
  int64_t count = BLOCKS * BLOCK, ties = 0, wrong = 0;
  for (int64_t i = 0; i < count; i++) // some blocks zero, some tiny, some with one large element
    values[i] = i / BLOCK % 7 == 3 ? 0 : random_float() * (float)pow(2, (double)(i / BLOCK % 29) - 20);
  values[5 * BLOCK + 31] = -6e4f;
  CHECK(weights_pack(packing, values, count, packed, scales), "%s", packing_table[packing].name);
  for (int64_t block = 0; block < BLOCKS; block++) {
    int whole[BLOCK];
    double scale = twin(packing, values + block * BLOCK, whole);
    for (int i = 0; i < BLOCK; i++) {
      double found = unpack(packing, packed, scales, block * BLOCK + i),
             step = fabs(found - whole[i] * scale);
      ties += step != 0; // x * (1 / scale) in f32 may fall to the other side of a half
      wrong += step > fabs(scale) * 1.0001;
    }
  }
  CHECK(!wrong && ties < count / 1000, "%s: %lld wrong, %lld to the other side", packing_table[packing].name,
        (long long)wrong, (long long)ties);
  for (int64_t i = 0; i < count; i++) back[i] = (float)unpack(packing, packed, scales, i);
  CHECK(weights_pack(packing, back, count, again, scales_again), "%s again", packing_table[packing].name);
  wrong = 0;
  for (int64_t i = 0; i < count; i++) wrong += unpack(packing, again, scales_again, i) != (double)back[i];
  CHECK(!wrong, "%s: %lld values changed by quantising them again", packing_table[packing].name,
        (long long)wrong);
}

// What a file holds comes out as it was: bytes of the file's format against the parts.
static void test_file(Packing packing, WeightFormat format) {
  float values[3 * BLOCK], read[3 * BLOCK];
  unsigned char file[3 * 34], packed[3 * BLOCK];
  uint16_t scales[3];
  for (int i = 0; i < 3 * BLOCK; i++) values[i] = random_float();
  weights_write_f32(format, values, 3 * BLOCK, file);
  WeightTensor tensor = {
      .format = format, .rank = 1, .extents = {3 * BLOCK}, .elements = 3 * BLOCK, .data = file};
  weights_read_f32(&tensor, 0, 3 * BLOCK, read);
  CHECK(weights_pack(packing, read, 3 * BLOCK, packed, scales), "%s", format_name(format));
  int wrong = 0, stored = packing_table[packing].stored, bytes = format_block_bytes(format);
  for (int block = 0; block < 3; block++) {
    wrong += scales[block] != (file[block * bytes] | file[block * bytes + 1] << 8);
    for (int i = 0; i < stored; i++)
      wrong +=
          (packed[block * stored + i] ^ (packing == PACKING_Q8_0 ? 0x80 : 0)) != file[block * bytes + 2 + i];
  }
  CHECK(!wrong, "%s: %d bytes of the file came out otherwise", format_name(format), wrong);
}

static void test_refused(Packing packing) {
  static const float bad[] = {INFINITY, -INFINITY, NAN, 1e30f};
  unsigned char packed[2 * BLOCK];
  uint16_t scales[2];
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    float values[2 * BLOCK] = {0};
    values[BLOCK + 7] = bad[i];
    CHECK(!weights_pack(packing, values, 2 * BLOCK, packed, scales), "%s takes %g",
          packing_table[packing].name, (double)bad[i]);
  }
  float values[2 * BLOCK] = {0};
  CHECK(!weights_pack(packing, values, 2 * BLOCK - 1, packed, scales), "part of a block");
  CHECK(weights_pack(packing, values, 0, packed, scales), "nothing at all");
}

static void test_rows(void) {
  static const struct {
    int rank;
    int64_t extents[4];
    int row;
  } rows[] = {{2, {5, 64}, 1},
              {2, {64, 172}, 0},
              {1, {31}, -1},
              {3, {7, 8, 4}, 1},
              {0, {0}, -1},
              {4, {3, 2, 16, 32}, 3},
              {4, {3, 2, 16, 31}, 1},
              {2, {32, 1}, 0},
              {2, {3, 0}, -1},
              {1, {32}, 0},
              {3, {1 << 30, 1 << 30, 33}, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int row = packing_row(PACKING_Q8_0, rows[i].rank, rows[i].extents);
    CHECK(row == rows[i].row, "row %zu begins at axis %d, not %d", i, row, rows[i].row);
  }
  CHECK(packing_row(PACKING_BF16, 2, rows[2].extents) == 2, "bf16 needs no row");
}

static void test_quantising(void) {
  Packing packing = PACKING_COUNT;
  bool scales;
  CHECK(packing_from_name("q4_0", &packing) && packing == PACKING_Q4_0, "q4_0");
  CHECK(packing_from_name("f32", &packing) && packing == PACKING_NONE, "f32");
  CHECK(!packing_from_name("q4_1", &packing), "q4_1 is only in files");
  CHECK(!strcmp(packing_whole("scales:a.b", &scales), "a.b") && scales, "scales");
  CHECK(!strcmp(packing_whole("values:a.b", &scales), "a.b") && !scales, "values");
  CHECK(!packing_whole("first:a.b", &scales), "no part");
  test_rows();
  for (packing = PACKING_Q8_0; packing < PACKING_COUNT; packing++) {
    test_twin(packing);
    test_refused(packing);
  }
  test_file(PACKING_Q8_0, WEIGHT_Q8_0);
  test_file(PACKING_Q4_0, WEIGHT_Q4_0);
}

int main(void) {
  test_quantising();
  return check_finish();
}
