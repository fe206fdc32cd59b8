// Parsing and printing: what is written reads back as the same tree, and what is wrong is reported at its
// place.
#include "compiler/syntax/ast.h"

#include "check.h"

#include <unistd.h>

typedef struct Session {
  Arena *arena;
  Sources sources;
  Diagnostics diagnostics;
} Session;

static void session_open(Session *session) {
  *session = (Session){.arena = arena_new()};
  sources_init(&session->sources, session->arena);
  session->diagnostics.sources = &session->sources;
}

static void session_close(Session *session) {
  text_free(&session->diagnostics.text);
  arena_free(session->arena);
}

static Ast *parse(Session *session, const char *text, size_t length) {
  uint32_t source = sources_add(&session->sources, "test.vlm", text, length);
  return ast_parse(session->arena, &session->diagnostics, source);
}

static bool text_equal(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

static bool ast_equal(const Ast *a, const Ast *b) {
  if (!a || !b) return a == b;
  if (a->kind != b->kind || !text_equal(a->text, b->text) || !text_equal(a->other, b->other) ||
      !text_equal(a->dtype, b->dtype) || a->number != b->number || a->has_axes != b->has_axes ||
      a->count != b->count)
    return false;
  if (!ast_equal(a->a, b->a) || !ast_equal(a->b, b->b) || !ast_equal(a->c, b->c) || !ast_equal(a->d, b->d))
    return false;
  for (size_t i = 0; i < a->count; i++)
    if (!ast_equal(a->list[i], b->list[i])) return false;
  return true;
}

static void check_round_trip(const char *name, const char *text, size_t length) {
  Session session;
  session_open(&session);
  Text printed = {0}, again = {0};
  Ast *first = parse(&session, text, length);
  CHECK(first, "%s: %s", name, text_string(&session.diagnostics.text));
  if (first) {
    ast_print(first, &printed);
    Ast *second = parse(&session, text_string(&printed), printed.length);
    CHECK(second, "%s, printed: %s", name, text_string(&session.diagnostics.text));
    CHECK(!second || ast_equal(first, second), "%s reads back otherwise:\n%s", name, text_string(&printed));
    if (second) ast_print(second, &again);
    CHECK(!strcmp(text_string(&printed), text_string(&again)), "%s prints otherwise:\n%s\n%s", name,
          text_string(&printed), text_string(&again));
  }
  text_free(&printed);
  text_free(&again);
  session_close(&session);
}

static void test_files(void) {
  static const char *const files[] = {
      "stdlib/prelude.vlm", "stdlib/nn.vlm",   "stdlib/optim.vlm",  "models/vit.vlm",   "models/gpt.vlm",
      "models/vlm.vlm",     "models/clip.vlm", "models/siglip.vlm", "models/llama.vlm", "models/llava.vlm",
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    Session session;
    session_open(&session);
    uint32_t source;
    Failure failure = {0};
    bool good = sources_read(&session.sources, files[i], &source, &failure);
    CHECK(good, "%s", failure.message);
    if (good)
      check_round_trip(files[i], session.sources.list[source].text, session.sources.list[source].length);
    session_close(&session);
  }
}

// Every construct, in forms that are easy to print wrongly.
static void test_constructs(void) {
  static const char *const texts[] = {
      "",
      "# only a comment",
      "import a, b, c\nimport d",
      "fn f() = 1",
      "fn f(x) = -x^2 + (-x)^2 - 2^-x^3 * (2^x)^3",
      "fn f(x) = a - (b - c) - d / (e / f) * g % h",
      "fn f(x) = a - b - c + (d + e)",
      "fn f(x) = not a and not (b or c) or d and (e or not f)",
      "fn f(x) = (a < b) == (c >= d) and a != b",
      "fn f(x) = a if b or c else d if e else f",
      "fn f(x) = (a if b else c) if (d if e else f) else g",
      "fn f(x) = sum[i] a[i] * b[i] / c + sum[D](x) * 2 - max[v, w](x)[b,t] - -sum[k] k",
      "fn f(x) = sum[i](sum[j] a * b) * c",
      "fn f(x) = (sum[i] a * b) * c",
      "fn f(x) = sum[i] a * sum[j] b * c",
      "fn f(x) = sum[i] -a * b",
      "fn f(x) = -sum[i] a * b",
      "fn f(x) = sum[i] ((a + b) * c) + sum[i] (a) - sum[i] (f(\")\") # )\n + a)",
      "fn f(x) = (sum[i] a)^2 + sum(x) + mean(x) + max(x, y)",
      "fn f(x) = mean[D](x^2) * weight",
      "fn f(x) = x + attn: nn.Attention(heads, causal = true)(norm1: LayerNorm()(x))",
      "fn f(x) = x[:, 1:, :n, a:b, .., -1, y*p + i, target[b,t]][0]",
      "fn f(x) = [1, [2, 3], []] [0]",
      "fn f(x) = \"tab\\t quote\\\" line\\n back\\\\ 描述这张图片 🙂\"",
      "fn f(x) = 0.1 + 1e-5 + 4E4 + 50257 + 1.5e300 + 0.000001",
      "fn f(x) = true == false",
      "fn f(a, b = 2, c[B, T], d: i32, e: i32[..] = 3, f[]) -> [] = 1",
      "fn f(x[.., D]) -> y[.., 2*D] {\n  return x\n}",
      "fn f(x) { a, b = x; c[i, j+1] = a[i] where i < j for i < n, j < 2*n\n\n\n return c }",
      "layer L() (x[.., I]) -> [.., O] { param w[O, I] ~ normal(0.02); param b[O] = 0 if bias or more\n"
      "  param s[] ~ nn.normal(1) if b == c; param t = 1\n  return x }",
      "layer L(a, b = a) (x, y) { repeat a as blocks { x = x }; repeat 3 { x = y }\n return x }",
      "model M(a = 1) { x = nn.L(a); param p[a] = 1\n forward(ids: i32[B, T]) = x(ids)\n fn g(x) { return x "
      "} }",
      "model M() { weights hub \"name/x\" { a.b[l].c[o, i] = \".x\"[i, o]; d = stack(\".a\", \".b\")\n"
      "  for l in depth with \"h.{l}\" { e = \".e\"; for m in 3 { f = \"f\" } } } }",
      "model M(a = 1) { weights hub if a == 1 or not a { ignore \"*.b\", \"c\"; d = \"d\" if a\n"
      "  e[2*i + j] = \"e\"[j, i] for i < 3, j < 2\n f[i] = \"f\"[i] if a == 2 for i < a + 1\n g = h(\"x.\") "
      "} }",
      "model M() { preprocess pixels { resize shortest image bicubic; scale 1/255\n mean 0.5 -0.5 1/2*a; "
      "crop centre n } }",
      "preset p { vision(image = 64, patch = 8) lm(vocab = 2*256)\n a.b(c = true) }",
      "template t { \"hello {prompt}\"\n specials \"a\" \"b\", \"c\"; picture \"<image>\" side*side }",
      "stage s { data captions\n freeze vision, lm.blocks[0:2], lm.blocks[-1]\n train everything\n"
      " adamw(rate = cosine(4e-4, floor = 0.1)) batch 16 epochs 4 }",
      "stage s { train f(x), 3, a b 4 c }",
      "fn f(x) =\n  x +\n  g(x,\n\n    1) and\n  y",
      "fn\tf( x )=x#comment\r\nfn g(x)\t{\r\n  return x\r\n}\r\n",
      "\xef\xbb\xbf"
      "fn f(x) = x # 注释，（中文）",
      "fn f(model_, layered, iffy, sum, max) = sum + max * model_.where_",
      "fn f(x) { y = model: L()(x)\n  return y }",
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_round_trip(texts[i], texts[i], strlen(texts[i]));
}

static void test_meaning(void) {
  Session session;
  session_open(&session);
  static const char text[] = "fn f(x) = -x^2 + sum[i] a[i] * b[i] / 2";
  Ast *file = parse(&session, text, sizeof text - 1);
  CHECK(file && file->count == 1 && file->list[0]->kind == AST_FUNCTION, "one function");
  const Ast *sum = file->list[0]->c;
  CHECK(sum->kind == AST_BINARY && !strcmp(sum->text, "+"), "a sum");
  CHECK(sum->a->kind == AST_UNARY && sum->a->a->kind == AST_BINARY, "the power binds before the sign");
  CHECK(sum->b->kind == AST_REDUCE && sum->b->a->kind == AST_BINARY && *sum->b->a->text == '/',
        "the whole product");
  CHECK(sum->span.begin == 10 && sum->span.end == sizeof text - 1, "the span");
  session_close(&session);

  session_open(&session);
  uint32_t source = sources_add(&session.sources, "-D", "4*(32+1)", 8);
  Ast *expression = ast_parse_expression(session.arena, &session.diagnostics, source, 0);
  CHECK(expression && expression->kind == AST_BINARY && expression->a->number == 4, "an expression alone");
  source = sources_add(&session.sources, "-D", "4 5", 3);
  CHECK(!ast_parse_expression(session.arena, &session.diagnostics, source, 0), "one expression only");
  session_close(&session);
}

// The whole text of all messages must hold `wanted`, and there are `count` errors.
static void check_errors(const char *text, size_t length, int count, const char *wanted) {
  Session session;
  session_open(&session);
  Ast *file = parse(&session, text, length);
  const char *said = text_string(&session.diagnostics.text);
  CHECK(!file && session.diagnostics.errors > 0, "`%s` was taken", text);
  CHECK(!count || session.diagnostics.errors == count, "`%s` gives %d errors, not %d:\n%s", text,
        session.diagnostics.errors, count, said);
  CHECK(strstr(said, wanted), "`%s`: expected `%s` in\n%s", text, wanted, said);
  session_close(&session);
}

static void test_errors(void) {
  static const struct {
    const char *text;
    int count;
    const char *wanted;
  } rows[] = {
      {"fn f(x) = x[2 3]", 1,
       "test.vlm:1:15: error: expected `,`, `]` or `:`, found `3`\n"
       "    1 | fn f(x) = x[2 3]\n"
       "      |               ^\n"},
      {"fn f(x) = ", 1, "1:11: error: expected an expression, found the end of the file"},
      {"fn f(x) {\n  y = 2 x\n  return y\n}", 1,
       "2:9: error: expected the line's end, `where`, `for` or `}`, found `x`"},
      {"fn f(x) {\n  y = (2 +\n  return y\n}", 1,
       "2:11: error: expected an expression, found the line's end"},
      {"fn f(x) {\n  y = g(2\n  return y\n}", 1, "expected `,` or `)`, found the line's end"},
      {"fn f(x) {\n  return x\n", 1, "3:1: error: expected `}`, found the end of the file"},
      {"fn f(x) {\n  return x\n", 1, "1:9: note: this is not closed"},
      {"fn f(x) {\n 1 = x\n y = @\n x + 1\n return x\n}", 3,
       "3:6: error: `@` is not a character of the language"},
      {"fn f(x) = x（1）", 2, "1:12: error: `（` is not a character"},
      {"fn f(x) = \"abc", 1, "1:11: error: this text has no closing quote on its line"},
      {"fn f(x) = \"a\\q\"", 1, "1:13: error: `\\q` is not an escape"},
      {"fn f(x) = 12abc", 1, "`12abc` is neither a number nor a name"},
      {"fn f(x) = 1e999", 1, "`1e999` is too large a number"},
      {"fn f(x) = a < b < c", 1, "1:17: error: "},
      {"layer L(a) {\n y = 2\n}\nfn f(x) = = x", 2, "4:11: error: expected an expression, found `=`"},
      {"layer layer() (x) { return x }", 1, "found `layer`, which is a word of the language"},
      {"model M() {\n forward(ids i32[B]) {\n  return ids\n }\n}\nfn f(x) = ]", 2, "2:14: error: "},
      {"x = 3\ny = 4\nfn f(x) = x", 1, "1:1: error: "},
      {"stage s { batch 16 epochs 4; = }\n", 1, "1:30: error: "},
      {"import\nimport a b\nfn f(x) = 2 +", 3, "2:10: error: "},
      {"}", 1, "1:1: error: "},
      {"fn f(x) = mean[D] (x - 1)^2", 1, "1:11: error: where does this mean end? Write mean[D](..)"},
      {"fn f(x) = sum[](x)", 1, "expected a name, found `]`"},
      {"fn f(x) = sum[i", 1, "the end of the file"},
      {"fn f(x) = \x01", 1, "1:11: error: byte 0x01"},
      {"fn f(x) = \xff", 1, "1:11: error: byte 0xff"},
      {"# \xed\xa0\x80", 1, "byte 0xed"},
      {"# \xc0\xaf", 1, "byte 0xc0"},
      {"# \xe6\x8f", 1, "byte 0xe6"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    check_errors(rows[i].text, strlen(rows[i].text), rows[i].count, rows[i].wanted);
  check_errors("fn f(x)\0 = x", 12, 1, "byte 0x00");
}

// `count` times `piece`, between `before` and `after`.
static void check_deep(const char *before, const char *piece, size_t count, const char *after,
                       const char *wanted) {
  Text text = {0};
  text_print(&text, "%s", before);
  for (size_t i = 0; i < count; i++) text_print(&text, "%s", piece);
  text_print(&text, "%s", after);
  if (wanted) {
    Session session;
    session_open(&session);
    CHECK(!parse(&session, text_string(&text), text.length), "%s x %zu was taken", piece, count);
    CHECK(strstr(text_string(&session.diagnostics.text), wanted), "%s x %zu: %.300s", piece, count,
          text_string(&session.diagnostics.text));
    session_close(&session);
  } else {
    check_round_trip(piece, text_string(&text), text.length);
  }
  text_free(&text);
}

static void test_depth(void) {
  check_deep("fn f(x) = x", " + x", 200, "", NULL);
  check_deep("fn f(x) = x", " + x", 100000, "", "nested more than 256 deep");
  check_deep("fn f(x) = ", "-", 100000, "x", "");
  check_deep("fn f(x) = ", "(", 250, "x", "found the end of the file");
  check_deep("fn f(x) = ", "(", 100000, "x", "more than 256 brackets are open");
  check_deep("fn f(x) = ", "[", 100000, "x", "more than 256 brackets are open");
  check_deep("fn f(x) ", "{ repeat 2 ", 100000, "", "more than 256 brackets are open");
  check_deep("fn f(x) = x", "(x)", 100000, "", "nested more than 256 deep");
  check_deep("fn f(x) = x", ".x", 100000, "", "nested more than 256 deep");
  check_deep("fn f(x) = x", "^x", 100000, "", "");
  check_deep("fn f(x) = ", "not ", 100000, "x", "");
  check_deep("fn f(x) = ", "a if b else ", 100000, "x", "");
  check_deep("fn f(x) = ", "sum[i] ", 100000, "x", "");
  check_deep("", "fn f(x) = x\n", 20000, "", NULL);
  check_deep("fn f(x) = [0", ", 1", 100000, "]", NULL);
  check_deep("fn f(x) = \"", "a", 1000000, "\"", NULL);
  check_deep("fn f(x) = x # ", "a", 1000000, "", NULL);
}

// Any bytes give a tree or messages, never a crash: mutations of a real text by a fixed generator.
static void test_hostile(void) {
  static const char text[] =
      "import nn\nmodel M(a = 4) {\n  param w[a, 2*a] ~ normal(0.02) if a > 2\n  x = nn.L(a)\n"
      "  forward(ids: i32[B, T]) -> y[B, T] {\n    y[b,t] = sum[i] w[b, i+1] * x[t, i]   where t < b for i < "
      "a\n"
      "    repeat a as blocks { y = n: x(y) }\n    return y if a else y[.., 1:]\n  }\n}\n"
      "stage s { train a.b[-1:], c; adamw(rate = cosine(1e-4)) batch 16 epochs 4 }\ntemplate t { \"x\\n\" "
      "}\n";
  uint32_t state = 12345;
  int taken = 0;
  for (int round = 0; round < 4000; round++) {
    char bytes[sizeof text];
    size_t length = sizeof text - 1;
    memcpy(bytes, text, sizeof text);
    for (int change = 0; change < 1 + round % 5; change++) {
      state = state * 1664525 + 1013904223;
      size_t at = (state >> 8) % length;
      if (round % 3 == 0)
        bytes[at] = (char)(state >> 24);
      else if (round % 3 == 1)
        memmove(bytes + at, bytes + at + 1, --length - at);
      else
        bytes[at] = "()[]{}=,;\n\":.# +-*^"[(state >> 24) % 19];
    }
    Session session;
    session_open(&session);
    taken += parse(&session, bytes, length) != NULL;
    session_close(&session);
  }
  CHECK(taken > 0 && taken < 4000, "%d of the mutated texts were taken", taken);
}

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  if (!file) return;
  fputs(text, file);
  fclose(file);
}

static void test_import(void) {
  char folder[] = "/tmp/vlmc-test-XXXXXX", path[200];
  if (!mkdtemp(folder)) {
    SKIP("no temporary folder");
    return;
  }
  static const struct {
    const char *name, *text;
  } files[] = {
      {"a.vlm", "import b, c\n"},     {"b.vlm", "import c\n"},
      {"c.vlm", "fn f(x) = x\n"},     {"d.vlm", "import e\n"},
      {"e.vlm", "import d\n"},        {"f.vlm", "import nothing, c\nimport g\n"},
      {"g.vlm", "fn f(x) = = x\n"},   {"prelude.vlm", "fn p(x) = x\n"},
      {"optim.vlm", "fn o(x) = x\n"},
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
    write_file(path, files[i].text);
  }
  const char *library[] = {folder};
  static const struct {
    const char *name;
    bool library;
    int count;
    const char *wanted;
  } rows[] = {
      {"a.vlm", false, 3, NULL},
      {"a.vlm", true, 5, NULL},
      {"d.vlm", false, 0, "1:8: error: `d` and this file import each other"},
      {"f.vlm", false, 0, "1:8: error: there is no module `nothing` (nothing.vlm) in "},
      {"f.vlm", false, 0, "g.vlm:1:11: error: expected an expression, found `=`"},
      {"none.vlm", false, 0, "No such file"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Session session;
    Modules modules;
    session_open(&session);
    snprintf(path, sizeof path, "%s/%s", folder, rows[i].name);
    bool good = ast_load(session.arena, &session.diagnostics, path, library, rows[i].library, &modules);
    const char *said = text_string(&session.diagnostics.text);
    CHECK(good == !rows[i].wanted, "%s: %s", rows[i].name, said);
    if (good) {
      CHECK((int)modules.count == rows[i].count, "%zu modules", modules.count);
      CHECK(!strcmp(modules.list[modules.count - 1].name, "a"), "the file asked for is last");
      CHECK(!strcmp(modules.list[modules.count - 2].name, "b"), "after what it needs");
    } else {
      CHECK(strstr(said, rows[i].wanted ? rows[i].wanted : ""), "expected `%s` in\n%s", rows[i].wanted, said);
    }
    session_close(&session);
  }
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
    unlink(path);
  }
  rmdir(folder);
}

int main(void) {
  test_files();
  test_constructs();
  test_meaning();
  test_errors();
  test_depth();
  test_hostile();
  test_import();
  return check_finish();
}
