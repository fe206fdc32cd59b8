// Values: functions of the standard library and forms of equations against naked loops in double.
#include "elaborate.h"

#include <math.h>

// ---- references, shapes in comments

static void softmax_rows(double *y, const double *x, int rows, int n) { // y, x: [rows, n]
  for (int r = 0; r < rows; r++) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) top = fmax(top, x[r * n + i]);
    for (int i = 0; i < n; i++) sum += y[r * n + i] = exp(x[r * n + i] - top);
    for (int i = 0; i < n; i++) y[r * n + i] /= sum;
  }
}

static void linear(double *y, const double *x, const double *weight, const double *bias, int rows, int in,
                   int out) {
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < out; o++) {
      double sum = bias ? bias[o] : 0;
      for (int i = 0; i < in; i++) sum += x[r * in + i] * weight[o * in + i]; // weight: [out, in]
      y[r * out + o] = sum;
    }
}

// q: [B, T, H, E] at stride q_stride per position, k and v with G heads; y: [B, T, H*E]. window 0: all
// before.
static void attention(double *y, const double *q, const double *k, const double *v, int q_stride,
                      int k_stride, int B, int T, int H, int G, int E, bool causal, int window,
                      bool rectified) {
  double *p = malloc(sizeof(double) * (size_t)T);
  for (int b = 0; b < B; b++)
    for (int h = 0; h < H; h++)
      for (int i = 0; i < T; i++) {
        int g = h / (H / G);
        for (int j = 0; j < T; j++) {
          bool seen = (!causal || j <= i) && (!window || i - j < window);
          p[j] = 0;
          for (int e = 0; e < E; e++)
            p[j] += q[(b * T + i) * q_stride + h * E + e] * k[(b * T + j) * k_stride + g * E + e];
          p[j] = rectified ? (seen ? fmax(p[j] / sqrt(E), 0) / (i + 1) : 0)
                 : seen    ? p[j] / sqrt(E)
                           : -INFINITY;
        }
        if (!rectified) softmax_rows(p, p, 1, T);
        for (int e = 0; e < E; e++) {
          double sum = 0;
          for (int j = 0; j < T; j++) sum += p[j] * v[(b * T + j) * k_stride + g * E + e];
          y[((b * T + i) * H + h) * E + e] = sum;
        }
      }
  free(p);
}

static void rotate(double *y, const double *x, int B, int T, int H, int E, double base) { // [B, T, H, E]
  for (int r = 0; r < B * T * H; r++)
    for (int i = 0; i < E / 2; i++) {
      int t = r / H % T;
      double angle = t / pow(base, i / (E / 2.0)), a = x[r * E + i], b = x[r * E + i + E / 2];
      y[r * E + i] = a * cos(angle) - b * sin(angle);
      y[r * E + i + E / 2] = b * cos(angle) + a * sin(angle);
    }
}

static double log_sum(const double *x, int n, int stride) {
  double top = -INFINITY, sum = 0;
  for (int i = 0; i < n; i++) top = fmax(top, x[i * stride]);
  for (int i = 0; i < n; i++) sum += exp(x[i * stride] - top);
  return top + log(sum);
}

// ---- elementwise functions, norms, softmax

static double erf_gelu(double x) { return 0.5 * x * (1 + erf(x / sqrt(2))); }
static double tanh_gelu(double x) {
  return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}
static double quick_gelu(double x) { return x / (1 + exp(-1.702 * x)); }
static double silu(double x) { return x / (1 + exp(-x)); }
static double relu(double x) { return x > 0 ? x : 0; }

static void test_activations(void) {
  static const struct {
    const char *name;
    double (*reference)(double);
  } rows[] = {{"gelu", erf_gelu},
              {"gelu_tanh", tanh_gelu},
              {"quick_gelu", quick_gelu},
              {"silu", silu},
              {"relu", relu}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[200];
    Run run;
    snprintf(text, sizeof text, "import nn\nmodel M() { forward(x[B, T, 7]) = nn.%s(x) }", rows[i].name);
    if (!run_open(&run, text, "forward", 2, 3, 1)) continue;
    double *x = run_input(&run, "x"), wanted[42];
    for (int j = 0; j < 42; j++) wanted[j] = rows[i].reference(x[j]);
    check_values(rows[i].name, run_evaluate(&run), wanted, 42);
    run_close(&run);
  }
}

static void test_softmax(void) {
  Run run;
  double wanted[2 * 3 * 7], turned[2 * 3 * 7], y[2 * 3 * 7];
  if (!run_open(&run, "import nn\nmodel M() { forward(x[B, T, 7]) = nn.softmax(x) }", "forward", 2, 3, 1))
    return;
  softmax_rows(wanted, run_input(&run, "x"), 6, 7);
  check_values("softmax", run_evaluate(&run), wanted, 42);
  run_close(&run);

  if (!run_open(&run, "import nn\nmodel M() { forward(x[B, T, 7]) = nn.softmax[T](x) }", "forward", 2, 3, 1))
    return;
  double *x = run_input(&run, "x");
  for (int i = 0; i < 42; i++) turned[(i / 21 * 7 + i % 7) * 3 + i / 7 % 3] = x[i];
  softmax_rows(y, turned, 14, 3);
  for (int i = 0; i < 42; i++) wanted[i] = y[(i / 21 * 7 + i % 7) * 3 + i / 7 % 3];
  check_values("softmax over a middle axis", run_evaluate(&run), wanted, 42);
  run_close(&run);
}

static void test_norms(void) {
  Run run;
  double wanted[42];
  for (int kind = 0; kind < 2; kind++) {
    const char *text = kind ? "import nn\nmodel M() { forward(x[B, T, 7]) = n: nn.RMSNorm()(x) }"
                            : "import nn\nmodel M() { forward(x[B, T, 7]) = n: nn.LayerNorm()(x) }";
    if (!run_open(&run, text, "forward", 2, 3, 1)) continue;
    double *x = run_input(&run, "x"), *weight = run_input(&run, "n.weight"),
           *bias = kind ? NULL : run_input(&run, "n.bias");
    for (int r = 0; r < 6; r++) {
      double mean = 0, square = 0;
      for (int i = 0; i < 7 && !kind; i++) mean += x[r * 7 + i] / 7;
      for (int i = 0; i < 7; i++) square += (x[r * 7 + i] - mean) * (x[r * 7 + i] - mean) / 7;
      for (int i = 0; i < 7; i++)
        wanted[r * 7 + i] = (x[r * 7 + i] - mean) / sqrt(square + 1e-5) * weight[i] + (bias ? bias[i] : 0);
    }
    check_values(kind ? "RMSNorm" : "LayerNorm", run_evaluate(&run), wanted, 42);
    run_close(&run);
  }
}

static void test_linear(void) {
  Run run;
  double wanted[2 * 3 * 5];
  if (run_open(&run, "import nn\nmodel M() { fc = nn.Linear(5)\n forward(x[B, T, 7]) = fc(x) }", "forward", 2,
               3, 1)) {
    linear(wanted, run_input(&run, "x"), run_input(&run, "fc.weight"), run_input(&run, "fc.bias"), 6, 7, 5);
    check_values("Linear", run_evaluate(&run), wanted, 30);
    run_close(&run);
  }
  // Labels of the axes under `..` that the layer uses for things of its own must not be mixed up with those.
  if (run_open(&run,
               "import nn\nmodel M(width = 5, o = 3) {\n  forward(x[width, o, 7]) = fc: nn.Linear(5)(x) }",
               "forward", 2, 3, 1)) {
    double many[15 * 5];
    linear(many, run_input(&run, "x"), run_input(&run, "fc.weight"), run_input(&run, "fc.bias"), 15, 7, 5);
    check_values("Linear over axes called like its own", run_evaluate(&run), many, 75);
    run_close(&run);
  }
}

// ---- attention

static void test_attention(void) {
  enum { B = 2, T = 5, H = 3, E = 4, D = H * E };
  for (int causal = 0; causal < 2; causal++) {
    Run run;
    char text[200];
    snprintf(text, sizeof text,
             "import nn\nmodel M() { forward(x[B, T, 12]) = a: nn.Attention(3, causal = %s)(x) }",
             causal ? "true" : "false");
    if (!run_open(&run, text, "forward", B, T, 1)) continue;
    double qkv[B * T * 3 * D], mix[B * T * D], wanted[B * T * D];
    linear(qkv, run_input(&run, "x"), run_input(&run, "a.qkv.weight"), run_input(&run, "a.qkv.bias"), B * T,
           D, 3 * D);
    attention(mix, qkv, qkv + D, qkv + 2 * D, 3 * D, 3 * D, B, T, H, H, E, causal, 0, false);
    linear(wanted, mix, run_input(&run, "a.out.weight"), run_input(&run, "a.out.bias"), B * T, D, D);
    check_values(causal ? "Attention, causal" : "Attention", run_evaluate(&run), wanted, B * T * D);
    run_close(&run);
  }
}

static void normalise(double *x, const double *weight, int rows, int width) { // x: [rows, width], in place
  for (int r = 0; r < rows; r++) {
    double square = 0;
    for (int i = 0; i < width; i++) square += x[r * width + i] * x[r * width + i] / width;
    for (int i = 0; i < width; i++) x[r * width + i] *= weight[i] / sqrt(square + 1e-5);
  }
}

// Plain; then heads wider than their share of the model, with biases and with norms of queries and keys.
static void test_grouped(void) {
  enum { B = 2, T = 5, H = 6, G = 2, D = 24, MOST = 6 };
  for (int full = 0; full < 2; full++) {
    int E = full ? 6 : D / H;
    Run run;
    char text[200];
    snprintf(text, sizeof text,
             "import nn\nmodel M() { forward(x[B, T, 24]) = a: nn.GroupedAttention(6, groups = 2, base = "
             "100%s)(x) }",
             full ? ", size = 6, bias = true, norms = true" : "");
    if (!run_open(&run, text, "forward", B, T, 1)) continue;
    double q[B * T * H * MOST], k[B * T * G * MOST], v[B * T * G * MOST], rq[B * T * H * MOST],
        rk[B * T * G * MOST], mix[B * T * H * MOST], wanted[B * T * D];
    double *x = run_input(&run, "x");
    linear(q, x, run_input(&run, "a.q.weight"), full ? run_input(&run, "a.q.bias") : NULL, B * T, D, H * E);
    linear(k, x, run_input(&run, "a.k.weight"), full ? run_input(&run, "a.k.bias") : NULL, B * T, D, G * E);
    linear(v, x, run_input(&run, "a.v.weight"), full ? run_input(&run, "a.v.bias") : NULL, B * T, D, G * E);
    if (full) normalise(q, run_input(&run, "a.qnorm.weight"), B * T * H, E);
    if (full) normalise(k, run_input(&run, "a.knorm.weight"), B * T * G, E);
    rotate(rq, q, B, T, H, E, 100);
    rotate(rk, k, B, T, G, E, 100);
    attention(mix, rq, rk, v, H * E, G * E, B, T, H, G, E, true, 0, false);
    linear(wanted, mix, run_input(&run, "a.out.weight"), NULL, B * T, H * E, D);
    check_values("GroupedAttention", run_evaluate(&run), wanted, B * T * D);
    run_close(&run);
  }
}

// A grid of 6 x 6 tokens, 3 x 3 of them as one.
static void test_pixel_shuffle(void) {
  enum { B = 2, SIDE = 6, BY = 3, FEW = SIDE / BY, D = 5 };
  Run run;
  double wanted[B * SIDE * SIDE * D];
  if (!run_open(&run, "import nn\nmodel M() { forward(x[B, 36, 5]) = nn.pixel_shuffle(x, 6, 3) }", "forward",
                B, 1, 1))
    return;
  const double *x = run_input(&run, "x");
  double *y = wanted;
  for (int b = 0; b < B; b++)
    for (int n = 0; n < FEW * FEW; n++)
      for (int p = 0; p < BY * BY; p++)
        for (int d = 0; d < D; d++) {
          int row = n / FEW * BY + p / BY, column = n % FEW * BY + p % BY;
          *y++ = x[((b * SIDE + row) * SIDE + column) * D + d];
        }
  check_values("pixel_shuffle", run_evaluate(&run), wanted, B * SIDE * SIDE * D);
  run_close(&run);
}

// What a user may make of attention: a sliding window, and relu in place of softmax.
static void test_edited_attention(void) {
  enum { B = 2, T = 5, H = 3, E = 4, D = H * E };
  static const char head[] =
      "import nn\nmodel M(heads = 3, window = 2) { forward(x[B, T, 12]) {\n  D = 12; E = D / heads\n"
      "  q, k, v = split(qkv: nn.Linear(3*D)(x), [3, heads, E])\n";
  static const char *const bodies[] = {
      "  score[b,h,i,j] = sum[e] q[b,i,h,e] * k[b,j,h,e] / sqrt(E)   where j <= i and i - j < window\n"
      "  mix[b,i,h,e]   = sum[j] nn.softmax[j](score)[b,h,i,j] * v[b,j,h,e]\n",
      "  score[b,h,i,j] = sum[e] q[b,i,h,e] * k[b,j,h,e] / sqrt(E)\n"
      "  share[b,h,i,j] = select(j <= i, max(score[b,h,i,j], 0) / (i + 1), 0)\n"
      "  mix[b,i,h,e]   = sum[j] share[b,h,i,j] * v[b,j,h,e]\n",
  };
  for (int edit = 0; edit < 2; edit++) {
    Run run;
    char text[1000];
    snprintf(text, sizeof text, "%s%s  return merge(mix, h, e)\n} }", head, bodies[edit]);
    if (!run_open(&run, text, "forward", B, T, 1)) continue;
    double qkv[B * T * 3 * D], wanted[B * T * D];
    linear(qkv, run_input(&run, "x"), run_input(&run, "qkv.weight"), run_input(&run, "qkv.bias"), B * T, D,
           3 * D);
    attention(wanted, qkv, qkv + D, qkv + 2 * D, 3 * D, 3 * D, B, T, H, H, E, true, edit ? 0 : 2, edit);
    check_values(edit ? "relu attention" : "sliding window", run_evaluate(&run), wanted, B * T * D);
    run_close(&run);
  }
}

// ---- losses

static void test_cross_entropy(void) {
  enum { B = 3, T = 4, V = 6 };
  Run run;
  if (!run_open(&run,
                "import nn\nmodel M() { loss(x[B, T, 6], ids: i32[B, T], w[B, T]) = nn.cross_entropy(x, "
                "next(ids), w) }",
                "loss", B, T, V))
    return;
  double *x = run_input(&run, "x"), *ids = run_input(&run, "ids"), *w = run_input(&run, "w"), sum = 0,
         weights = 0;
  for (int i = 0; i < B * T; i++) w[i] = i % 3 ? fabs(w[i]) : 0;
  for (int b = 0; b < B; b++)
    for (int t = 0; t < T; t++) {
      int target = t + 1 < T ? (int)ids[b * T + t + 1] : 0;
      const double *row = x + (b * T + t) * V;
      sum += w[b * T + t] * (log_sum(row, V, 1) - row[target]);
      weights += w[b * T + t];
    }
  double wanted = sum / weights;
  check_values("cross_entropy", run_evaluate(&run), &wanted, 1);
  memset(w, 0, sizeof(double) * B * T);
  wanted = 0;
  check_values("cross_entropy of nothing", run_evaluate(&run), &wanted, 1);
  run_close(&run);
}

static void test_contrastive(void) {
  enum { B = 5, T = 2, D = 3 };
  Run run;
  static const char text[] = "import nn\nmodel M() { loss(x[B, 3], y[B, 3], ids: i32[B, T]) {\n"
                             "  score[i,j] = sum[d] nn.unit(x)[i,d] * nn.unit(y)[j,d] * 7\n"
                             "  different[i,j] = sum[t] i32(ids[i,t] != ids[j,t])\n"
                             "  return nn.contrastive(score, different == 0) } }";
  if (!run_open(&run, text, "loss", B, T, 2)) return;
  double *x = run_input(&run, "x"), *y = run_input(&run, "y"), *ids = run_input(&run, "ids"), score[B * B],
         wanted = 0;
  int same[B * B], equal = 0;
  for (int i = 0; i < B; i++)
    for (int j = 0; j < B; j++) {
      double dot = 0, xx = 1e-12, yy = 1e-12;
      for (int d = 0; d < D; d++)
        dot += x[i * D + d] * y[j * D + d], xx += x[i * D + d] * x[i * D + d],
            yy += y[j * D + d] * y[j * D + d];
      score[i * B + j] = 7 * dot / sqrt(xx) / sqrt(yy);
      same[i * B + j] = !memcmp(ids + i * T, ids + j * T, sizeof(double) * T);
      equal += same[i * B + j];
    }
  CHECK(equal > B, "some captions are equal");
  for (int i = 0; i < B; i++) {
    double row = 0, column = 0;
    int count = 0;
    for (int j = 0; j < B; j++) count += same[i * B + j];
    for (int j = 0; j < B; j++) {
      if (!same[i * B + j]) continue;
      row += (log_sum(score + i * B, B, 1) - score[i * B + j]) / count;
      column += (log_sum(score + i, B, B) - score[j * B + i]) / count;
    }
    wanted += (row + column) / (2 * B);
  }
  check_values("contrastive", run_evaluate(&run), &wanted, 1);
  run_close(&run);
}

// ---- pictures and words

static void test_patches(void) {
  enum { B = 2, C = 3, S = 2, P = 4, W = 5, I = S * P };
  Run run;
  static const char text[] =
      "model M(side = 2, patch = 4) { param patches[5, 3, patch, patch] ~ normal(1)\n"
      "  forward(pixels[B, 3, 8, 8]) {\n"
      "    grid[b, y*side + x, d] = sum[c,i,j] pixels[b, c, y*patch + i, x*patch + j] * patches[d, c, i, j]\n"
      "    return grid } }";
  if (!run_open(&run, text, "forward", B, 1, 1)) return;
  double *pixels = run_input(&run, "pixels"), *patches = run_input(&run, "patches"), wanted[B * S * S * W];
  for (int b = 0; b < B; b++)
    for (int y = 0; y < S; y++)
      for (int x = 0; x < S; x++)
        for (int d = 0; d < W; d++) {
          double sum = 0;
          for (int c = 0; c < C; c++)
            for (int i = 0; i < P; i++)
              for (int j = 0; j < P; j++)
                sum += pixels[((b * C + c) * I + y * P + i) * I + x * P + j] *
                       patches[((d * C + c) * P + i) * P + j];
          wanted[((b * S + y) * S + x) * W + d] = sum;
        }
  check_values("patches", run_evaluate(&run), wanted, B * S * S * W);
  run_close(&run);
}

static void test_splice(void) {
  enum { B = 2, T = 6, N = 2, D = 3 };
  Run run;
  if (!run_open(&run,
                "model M() { forward(words[B, T, 3], seen[B, 2, 3], ids: i32[B, T]) = splice(words, at = ids "
                "== \"<image>\", seen) }",
                "forward", B, T, 2))
    return;
  static const double ids[B * T] = {1, 7, 7, 2, 3, 7,
                                    7, 2, 7, 2, 2, 1}; // 7 marks; the third mark of row 0 has no token
  double *words = run_input(&run, "words"), *seen = run_input(&run, "seen"), wanted[B * T * D];
  memcpy(run_input(&run, "ids"), ids, sizeof ids);
  *run_input(&run, "token:<image>") = 7;
  for (int b = 0; b < B; b++)
    for (int t = 0, k = 0; t < T; t++, k += ids[b * T + t - 1] == 7)
      for (int d = 0; d < D; d++)
        wanted[(b * T + t) * D + d] = ids[b * T + t] != 7 ? words[(b * T + t) * D + d]
                                      : k < N             ? seen[(b * N + k) * D + d]
                                                          : 0;
  check_values("splice", run_evaluate(&run), wanted, B * T * D);
  run_close(&run);
}

// ---- forms of equations: `body` computes y from x[B, 4, 6]; `reference` gives one element

typedef double Element(const double *x, const int *at); // x: [2, 4, 6]
static double x_at(const double *x, int b, int i, int j) {
  return b < 0 || b > 1 || i < 0 || i > 3 || j < 0 || j > 5 ? 0 : x[(b * 4 + i) * 6 + j];
}
static double shifted(const double *x, const int *at) { return x_at(x, at[0], at[1] + 1, at[2] - 2); }
static double strided(const double *x, const int *at) { return x_at(x, at[0], at[1], 2 * at[2] + 1); }
static double turned(const double *x, const int *at) { return x_at(x, at[0], at[2], at[1]); }
static double convolved(const double *x, const int *at) {
  return x_at(x, at[0], at[1], at[2] - 1) + 2 * x_at(x, at[0], at[1], at[2]) +
         3 * x_at(x, at[0], at[1], at[2] + 1);
}
static double masked(const double *x, const int *at) {
  return at[1] <= at[2] ? x_at(x, at[0], at[1], at[2]) : -INFINITY;
}
static double numbered(const double *x, const int *at) {
  return x_at(x, at[0], at[1], at[2]) * (at[1] % 3) + at[2] / 2.0 - (double)at[1] * at[1];
}
static double repeated(const double *x, const int *at) { return x_at(x, at[0], at[1], 3); }
static double joined(const double *x, const int *at) {
  return at[1] < 4 ? x_at(x, at[0], at[1], at[2]) : -x_at(x, at[0], at[1] - 4, at[2]);
}
static double merged(const double *x, const int *at) { return x_at(x, at[0], at[1] % 4, at[1] / 4); }
static double largest(const double *x, const int *at) {
  double most = -INFINITY;
  for (int i = 0; i < 4; i++) most = fmax(most, x_at(x, at[0], i, at[1]));
  return most;
}
static double averaged(const double *x, const int *at) {
  double sum = 0;
  for (int i = 0; i < 24; i++) sum += x[at[0] * 24 + i];
  return x_at(x, at[0], at[1], at[2]) - sum / 24;
}
static double tail(const double *x, const int *at) { return x_at(x, at[0], at[1] + 1, at[2] + 4); }
static double quotient(const double *x, const int *at) {
  double sum = 0;
  for (int j = 0; j < 6; j++) sum += x_at(x, at[0], at[1], j) / (2 + x_at(x, at[0], at[1], j)) * 3;
  return sum / 5;
}
static double counted(const double *x, const int *at) {
  int count = 0;
  for (int j = 0; j < 6; j++) count += x_at(x, at[0], at[1], j) > 0 && !(j == 2);
  return count;
}
static double picked(const double *x, const int *at) { return x_at(x, at[0], (at[1] * 2) % 4, at[2]); }
static double outer(const double *x, const int *at) {
  return x_at(x, at[0], at[1], 0) * x_at(x, at[0], at[2], 1);
}

static void test_equations(void) {
  static const struct {
    const char *name, *body;
    Element *reference;
    int extents[3];
  } rows[] = {
      {"shifted", "y[b,i,j] = x[b, i+1, j-2] for i < 4, j < 6", shifted, {2, 4, 6}},
      {"strided", "y[b,i,j] = x[b, i, 2*j + 1] for j < 3", strided, {2, 4, 3}},
      {"strided, said twice", "y[b,i,j] = x[b, i, j + i + j - i + 1] for j < 3", strided, {2, 4, 3}},
      {"strided, size found", "y[b,i,j] = x[b, i, 2*j + 1]", strided, {2, 4, 3}},
      {"turned", "y[b,i,j] = x[b,j,i]", turned, {2, 6, 4}},
      {"convolved", "y[b,i,j] = sum[k] x[b, i, j + k - 1] * (k + 1) for j < 6, k < 3", convolved, {2, 4, 6}},
      {"masked", "y[b,i,j] = x[b,i,j] where i <= j", masked, {2, 4, 6}},
      {"numbered", "y[b,i,j] = x[b,i,j] * (i % 3) + j / 2 - i^2", numbered, {2, 4, 6}},
      {"repeated", "y[b,i,j] = x[b,i,3] for j < 5", repeated, {2, 4, 5}},
      {"joined", "y[b,i,j] = x[b,i,j]; y[b,i + 4,j] = -x[b,i,j]", joined, {2, 8, 6}},
      {"concatenated", "y = concat[4](x, -x)", joined, {2, 8, 6}},
      {"merged", "y[b, j*4 + i] = x[b,i,j]", merged, {2, 24, 1}},
      {"largest", "y[b,j] = max[i] x[b,i,j]", largest, {2, 6, 1}},
      {"averaged", "a[b] = mean[i,j] x[b,i,j]; y[b,i,j] = x[b,i,j] - a[b]", averaged, {2, 4, 6}},
      {"sliced", "y = x[:, 1:, -2:]", tail, {2, 3, 2}},
      {"one taken", "y[b,i,j] = x[b,i,-3] for j < 5", repeated, {2, 4, 5}},
      {"quotient", "y[b,i] = sum[j] x[b,i,j] / (2 + x[b,i,j]) * 3 / 5", quotient, {2, 4, 1}},
      {"counted", "y[b,i] = sum[j](f32(x[b,i,j] > 0 and not (j == 2)))", counted, {2, 4, 1}},
      {"picked", "y[b,i,j] = x[b, 2*i % 4, j] for i < 4", picked, {2, 4, 6}},
      {"outer", "y[b,i,j] = x[b,i,0] * x[b,j,1]", outer, {2, 4, 4}},
  };
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    Run run;
    char text[500];
    const int *extents = rows[r].extents;
    snprintf(text, sizeof text, "model M() {\n  forward(x[B, 4, 6]) {\n    %s\n    return y } }",
             rows[r].body);
    if (run_open(&run, text, "forward", 2, 1, 1)) {
      double *x = run_input(&run, "x"), wanted[2 * 24 * 6];
      int count = extents[0] * extents[1] * extents[2];
      for (int i = 0; i < count; i++) {
        int at[3] = {i / extents[2] / extents[1], i / extents[2] % extents[1], i % extents[2]};
        wanted[i] = rows[r].reference(x, at);
      }
      const Tensor *y = run_evaluate(&run);
      for (int i = 0; i < count; i++)
        if (isinf(wanted[i]) && isinf(y->data[i])) wanted[i] = y->data[i] = 0;
      check_values(rows[r].name, y, wanted, count);
    }
    run_close(&run);
  }
}

// ---- the optimizer's rule

static void test_adamw(void) {
  static const char *const results[] = {"parameter", "first", "second"};
  Session session;
  bool good = session_open_text(&session, "model M() { forward(x[B, T]) = x }");
  Graph *graph = good ? model_function(session.model, "optim.adamw", results, 3) : NULL;
  CHECK(graph && graph->output_count == 3, "%s", session_said(&session));
  if (graph) {
    const double p = 0.3, g = -0.2, m = 0.05, v = 0.01, rate = 1e-3, step = 3, b1 = 0.9, b2 = 0.999,
                 eps = 1e-8, decay = 0.1;
    const struct {
      const char *name;
      double value;
    } given[] = {{"parameter", p}, {"gradient", g}, {"first", m},  {"second", v},    {"rate", rate},
                 {"step", step},   {"beta1", b1},   {"beta2", b2}, {"epsilon", eps}, {"decay", decay}};
    Tensor inputs[10] = {0}, outputs[3] = {0};
    double values[10];
    CHECK(graph->input_count == 10, "%zu inputs", graph->input_count);
    for (size_t i = 0; i < 10; i++)
      for (size_t j = 0; j < 10; j++)
        if (!strcmp(graph->inputs[i].name, given[j].name)) {
          values[i] = given[j].value;
          inputs[i] = (Tensor){*graph_type(graph, graph->inputs[i].node), &values[i]};
        }
    int64_t symbols[SYMBOL_COUNT] = {0};
    graph_evaluate(graph, session.arena, symbols, inputs, outputs);
    double first = b1 * m + (1 - b1) * g, second = b2 * v + (1 - b2) * g * g;
    double wanted =
        p - rate * (first / (1 - pow(b1, step)) / (sqrt(second / (1 - pow(b2, step))) + eps) + decay * p);
    check_values("adamw's parameter", &outputs[0], &wanted, 1);
    check_values("adamw's first moment", &outputs[1], &first, 1);
    check_values("adamw's second moment", &outputs[2], &second, 1);
  }
  session_close(&session);
}

static void test_dropout(void) {
  static const char text[] =
      "import nn\nmodel M() { forward(x[B, T]) = nn.dropout(x, 0.25)\n  loss(x) = sum(forward(x)) }";
  for (int training = 0; training < 2; training++) {
    Run run;
    if (!run_open(&run, text, training ? "loss" : "forward", 2, 3, 1)) continue;
    bool random = false;
    for (size_t i = 1; i < run.graph->count; i++) random |= run.graph->nodes[i].op == OP_RANDOM;
    CHECK(random == training, "dropout acts in training and only there");
    run_close(&run);
  }
}

int main(void) {
  test_activations();
  test_softmax();
  test_norms();
  test_linear();
  test_attention();
  test_grouped();
  test_pixel_shuffle();
  test_edited_attention();
  test_cross_entropy();
  test_contrastive();
  test_patches();
  test_splice();
  test_equations();
  test_adamw();
  test_dropout();
  return check_finish();
}
