// What stands around the body of a kernel in C and CUDA: the comment above it, its parameters, and the helper
// functions that it calls. Input: the kernel and the body's text; output: text.
#include "compiler/emit/csource.h"

#include <string.h>

// ---- the comment --------------------------------------------------------------------------------

static void quantity(Text *out, double value, const char *unit) {
  static const char *const scales[] = {"", "K", "M", "G", "T"};
  int scale = 0;
  for (; value >= 1000 && scale < 4; scale++) value /= 1000;
  text_print(out, "%.4g %s%s", value, scales[scale], unit);
}

// The model's lines, each once, with their text.
static void model_lines(const CSource *c, const Sources *sources, Text *out) {
  KernelPlace places[KERNEL_MAX_PLACES];
  int count = kernel_places(c->kernel, sources, places);
  for (int i = 0; i < count; i++) {
    text_print(out, "//   ");
    kernel_place_print(&places[i], out);
    while (strchr(" \t\\", out->bytes[out->length - 1])) out->length--; // a backslash would go on
    text_print(out, "\n");
  }
}

static void buffers(CSource *c, BufferUse use, const char *verb, Text *out) {
  bool any = false;
  for (int i = 0; i < c->kernel->buffer_count; i++) {
    const KernelBuffer *buffer = &c->kernel->buffers[i];
    if (buffer->use != use) continue;
    text_print(out, any ? ", " : "// %s ", verb);
    text_print(out, "%s %s[", c->buffer_name[i], dtype_name(buffer->dtype));
    for (int k = 0; k < buffer->rank; k++) {
      if (k) text_print(out, ", ");
      extent_print(out, buffer->extents[k]);
    }
    text_print(out, "]");
    any = true;
  }
  if (any) text_print(out, "\n");
}

// FLOPs and bytes, and which of them a GPU or a CPU of today runs out of first (about 20 FLOPs a byte).
static void costs(const Kernel *kernel, const int64_t *symbols, Text *out) {
  double flops = kernel_flops(kernel, symbols), bytes = kernel_bytes(kernel, symbols);
  text_print(out, "// at");
  for (int i = 1; i < SYMBOL_COUNT; i++) text_print(out, " %s=%lld", symbol_names[i], (long long)symbols[i]);
  text_print(out, ": ");
  quantity(out, flops, "FLOP");
  text_print(out, ", ");
  quantity(out, bytes, "B");
  double intensity = bytes > 0 ? flops / bytes : 0;
  text_print(out, ", %.3g FLOP/B: bound by %s\n", intensity, intensity > 20 ? "arithmetic" : "memory");
}

void csource_comment(CSource *c, const EmitOptions *options, const char *schedule, Text *out) {
  text_print(out, "// %s (%s)\n", c->kernel->name, anchor_names[c->kernel->anchor]);
  if (options && options->sources) model_lines(c, options->sources, out);
  buffers(c, BUFFER_READ, "reads", out);
  buffers(c, BUFFER_WRITE, "writes", out);
  buffers(c, BUFFER_UPDATE, "updates", out);
  if (options && options->symbols) costs(c->kernel, options->symbols, out);
  if (schedule) text_print(out, "// %s\n", schedule);
}

// ---- parameters: the buffers in order, then the run-time sizes ----------------------------------

enum { LINE = 100 };

// One parameter, after a comma and perhaps on a new line.
static void parameter(Text *out, size_t *start, const char *text) {
  bool first = out->bytes[out->length - 1] == '(', full = out->length - *start + strlen(text) > LINE;
  text_print(out, "%s%s%s", first ? "" : ",", first ? "" : full ? "\n    " : " ", text);
  if (full) *start = out->length - strlen(text) - 4;
}

void csource_parameters(CSource *c, Text *out) {
  size_t start = out->length;
  while (start && out->bytes[start - 1] != '\n') start--;
  for (int i = 0; i < c->kernel->buffer_count; i++) {
    const KernelBuffer *buffer = &c->kernel->buffers[i];
    const char *text = arena_print(c->arena, "%s%s *%s %s", buffer->use == BUFFER_READ ? "const " : "",
                                   c->cuda ? dtype_cuda(buffer->dtype) : dtype_c(buffer->dtype),
                                   c->cuda ? "__restrict__" : "restrict", c->buffer_name[i]);
    parameter(out, &start, text);
  }
  for (int i = 1; i < SYMBOL_COUNT; i++)
    parameter(out, &start, arena_print(c->arena, "long long %s", symbol_names[i]));
}

// ---- helpers: where C and CUDA spell alike but for the words in front, one text serves both

typedef struct Helper {
  const char *name;
  const char *text; // `@` stands for the words in front of a function; `#` for what reads a float's bits
  const char *cuda; // CUDA text where it is another one
} Helper;

// Later ones may call earlier ones; a helper is written where the text after it calls it.
static const Helper helpers[] = {
    {"float_bits",
     "@unsigned float_bits(float value) {\n"
     "  unsigned bits;\n"
     "  memcpy(&bits, &value, 4);\n"
     "  return bits;\n"
     "}\n",
     "@unsigned float_bits(float value) { return __float_as_uint(value); }\n"},
    {"bits_float",
     "@float bits_float(unsigned bits) {\n"
     "  float value;\n"
     "  memcpy(&value, &bits, 4);\n"
     "  return value;\n"
     "}\n",
     "@float bits_float(unsigned bits) { return __uint_as_float(bits); }\n"},
    {"bf16_to_float",
     "@float bf16_to_float(unsigned short bits) { return bits_float((unsigned)bits << 16); }\n", NULL},
    {"bf16_from_float",
     "@unsigned short bf16_from_float(float value) { // to nearest, ties to even\n"
     "  const unsigned bits = float_bits(value);\n"
     "  if ((bits & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(bits >> 16 | 0x40u);\n"
     "  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);\n"
     "}\n",
     NULL},
    {"f16_to_float",
     "@float f16_to_float(unsigned short bits) {\n"
     "  const unsigned sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;\n"
     "  if (magnitude >= 0x0f800000u) return bits_float(sign | 0x70000000u | magnitude);\n"
     "  return bits_float(sign | float_bits(bits_float(magnitude) * 5.192296858534828e+33f));\n"
     "}\n",
     NULL},
    {"f16_from_float",
     "@unsigned short f16_from_float(float value) { // to nearest, ties to even\n"
     "  const unsigned bits = float_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & "
     "0x7fffffffu;\n"
     "  if (magnitude > 0x7f800000u) return (unsigned short)(sign | 0x7e00u);\n"
     "  if (magnitude >= 0x477ff000u) return (unsigned short)(sign | 0x7c00u);\n"
     "  if (magnitude < 0x38800000u) return (unsigned short)(sign | (unsigned)rintf(bits_float(magnitude) * "
     "16777216.0f));\n"
     "  return (unsigned short)(sign | ((magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> "
     "13));\n"
     "}\n",
     NULL},
    {"philox_uniform",
     "// Philox 4x32-10: the key is (counter, stream), four neighbouring indices share one block.\n"
     "@float philox_uniform(unsigned counter, unsigned stream, long long index) {\n"
     "  const unsigned long long block = (unsigned long long)index / 4;\n"
     "  unsigned w0 = (unsigned)block, w1 = (unsigned)(block >> 32), w2 = 0, w3 = 0;\n"
     "  for (int round = 0; round < 10; round++) {\n"
     "    const unsigned long long first = (unsigned long long)0xD2511F53u * w0;\n"
     "    const unsigned long long second = (unsigned long long)0xCD9E8D57u * w2;\n"
     "    w0 = (unsigned)(second >> 32) ^ w1 ^ counter, w1 = (unsigned)second;\n"
     "    w2 = (unsigned)(first >> 32) ^ w3 ^ stream, w3 = (unsigned)first;\n"
     "    counter += 0x9E3779B9u, stream += 0xBB67AE85u;\n"
     "  }\n"
     "  const unsigned word = (index & 2) ? ((index & 1) ? w3 : w2) : ((index & 1) ? w1 : w0);\n"
     "  return (float)(word >> 8) * 5.9604644775390625e-08f;\n"
     "}\n",
     NULL},
    {"max_float", "@float max_float(float x, float y) { return x > y || x != x ? x : y; } // NaN if one is\n",
     NULL},
    {"min_float", "@float min_float(float x, float y) { return x < y || x != x ? x : y; } // NaN if one is\n",
     NULL},
    {"max_whole", "@long long max_whole(long long x, long long y) { return x > y ? x : y; }\n", NULL},
    {"min_whole", "@long long min_whole(long long x, long long y) { return x < y ? x : y; }\n", NULL},
    {"mod_float", "@float mod_float(float x, float y) { return x - y * floorf(x / y); }\n", NULL},
    {"div_floor",
     "@long long div_floor(long long x, long long y) { return x / y - (x % y != 0 && (x < 0) != (y < 0)); "
     "}\n",
     NULL},
    {"mod_floor",
     "@long long mod_floor(long long x, long long y) {\n"
     "  const long long rest = x % y;\n"
     "  return rest != 0 && (x < 0) != (y < 0) ? rest + y : rest;\n"
     "}\n",
     NULL},
};
enum { HELPER_COUNT = sizeof helpers / sizeof *helpers };

bool csource_calls(const char *text, const char *name) {
  size_t length = strlen(name);
  for (const char *at = text; (at = strstr(at, name)); at += length)
    if (at[length] == '(') return true;
  return false;
}

void csource_helpers(const char *body, bool cuda, Text *out) {
  bool needed[HELPER_COUNT] = {false};
  for (int i = HELPER_COUNT; i-- > 0;) {
    needed[i] = csource_calls(body, helpers[i].name);
    for (int k = i + 1; k < HELPER_COUNT; k++)
      needed[i] = needed[i] || (needed[k] && csource_calls(helpers[k].text, helpers[i].name));
  }
  bool any = false;
  for (int i = 0; i < HELPER_COUNT; i++) {
    if (!needed[i]) continue;
    const char *text = cuda && helpers[i].cuda ? helpers[i].cuda : helpers[i].text;
    for (; *text; text++)
      if (*text == '@')
        text_print(out, cuda ? "static __device__ inline " : "static inline ");
      else
        text_add(out, text, 1);
    any = true;
  }
  if (any) text_print(out, "\n");
}
