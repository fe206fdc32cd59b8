// Published layouts: file -> store -> file is the identity to the byte; what does not fit is told in full;
// one block inside of another; the model's sizes read off the file.
#include "compiler/compile.h"
#include "runtime/checkpoint.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/weights/safetensors.h"

#include "check.h"

#include <unistd.h>

typedef struct Bench {
  Compiler *compiler;
  Device *device;
  TensorStore *store;
  Session *session;
  Arena *arena;
  char folder[40];
} Bench;

static bool bench_open(Bench *bench, const char *model, const char *const *defines, size_t count) {
  static const char *const library[] = {"stdlib", "models"};
  CompileOptions options = {.model = model,
                            .defines = defines,
                            .define_count = count,
                            .target = "ref",
                            .storage = DTYPE_F32,
                            .library = library,
                            .library_count = 2};
  Text errors = {0};
  Failure failure;
  *bench = (Bench){.arena = arena_new(), .folder = "/tmp/vlmc-test-XXXXXX"};
  bench->compiler = compiler_open(&options, &errors);
  const Program *program = bench->compiler ? compiler_program(bench->compiler, PROGRAM_FORWARD) : NULL;
  CHECK(program, "%s: %s%s", model, text_string(&errors),
        bench->compiler ? compiler_errors(bench->compiler) : "");
  text_free(&errors);
  if (!program || !mkdtemp(bench->folder)) return false;
  bench->device = device_cpu(1, &failure);
  bench->store = store_open(bench->device, 1);
  bench->session = session_open(program, bench->store, &failure);
  CHECK(bench->session, "%s", failure.message);
  return bench->session != NULL;
}

static void bench_close(Bench *bench) {
  char command[80];
  session_close(bench->session);
  store_close(bench->store);
  if (bench->device) bench->device->close(bench->device);
  compiler_close(bench->compiler);
  arena_free(bench->arena);
  snprintf(command, sizeof command, "rm -rf %s", bench->folder);
  if (system(command)) CHECK(false, "%s", command);
}

static const char *in_bench(Bench *bench, const char *name) {
  return arena_print(bench->arena, "%s/%s", bench->folder, name);
}

static const WeightMap *find_map(const Bench *bench, const char *part, const char *name) {
  const WeightMaps *maps = compiler_weights(bench->compiler);
  for (size_t i = 0; i < maps->count; i++)
    if (!strcmp(maps->list[i].part, part) && !strcmp(maps->list[i].name, name)) return &maps->list[i];
  CHECK(false, "no block %s.%s among %zu", part, name, maps->count);
  exit(1);
}

// ---- files --------------------------------------------------------------------------------------

typedef struct Published {
  SafetensorsTensor tensors[400];
  size_t count;
} Published;

static SafetensorsTensor *add(Bench *bench, Published *file, const char *name, int rank,
                              const int64_t *extents) {
  SafetensorsTensor *tensor = &file->tensors[file->count++];
  int64_t elements = 1;
  *tensor = (SafetensorsTensor){.name = name, .dtype = DTYPE_F32, .rank = rank};
  for (int i = 0; i < rank; i++) elements *= tensor->extents[i] = extents[i];
  uint32_t *bits = ARENA_ARRAY(bench->arena, uint32_t, elements);
  static uint32_t state = 5; // any bits: signalling NaN too must come through
  for (int64_t i = 0; i < elements; i++) bits[i] = state = state * 1664525 + 1013904223;
  tensor->data = bits;
  return tensor;
}

// All tensors of a block behind a prefix, with any bits.
static Published publish(Bench *bench, const WeightMap *map, const char *prefix) {
  Published file = {.count = 0};
  for (size_t i = 0; i < map->row_count; i++) {
    const MapRow *row = &map->rows[i];
    const char *name = arena_print(bench->arena, "%s%s", prefix, row->tensor);
    bool known = false;
    for (size_t j = 0; j < file.count; j++) known |= !strcmp(file.tensors[j].name, name);
    if (!known) add(bench, &file, name, row->tensor_rank, row->tensor_extents);
  }
  return file;
}

static const char *write_file(Bench *bench, const char *name, const Published *file) {
  const SafetensorsText metadata = {"format", "pt"};
  Failure failure = {0};
  const char *path = in_bench(bench, name);
  CHECK(safetensors_write(path, file->tensors, file->count, &metadata, 1, &failure), "%s", failure.message);
  return path;
}

static bool same_files(const char *left, const char *right) {
  FILE *a = fopen(left, "rb"), *b = fopen(right, "rb");
  int x = 0, y = 0;
  while (a && b && x == y && x != EOF) x = fgetc(a), y = fgetc(b);
  bool same = a && b && x == y;
  if (a) fclose(a);
  if (b) fclose(b);
  return same;
}

// Loads with the model's maps; what was reported is in `report`.
static bool load(Bench *bench, const char *path, const char *part, const char *allowed, Text *report,
                 Failure *failure) {
  PublishedOptions options = {.maps = compiler_weights(bench->compiler),
                              .allow_missing = &allowed,
                              .allow_count = allowed != NULL,
                              .report = report};
  *failure = (Failure){0};
  text_free(report);
  *report = (Text){0};
  return checkpoint_load(path, "", part, bench->store, &options, failure);
}

// ---- tests --------------------------------------------------------------------------------------

static const char *const gpt_sizes[] = {"vocab=11", "context=7", "width=12", "depth=3", "heads=2"};

static float value_of(const Bench *bench, const char *name, int64_t at) {
  const StoreTensor *tensor = store_find(bench->store, name);
  CHECK(tensor && tensor->loaded, "%s was not loaded", name);
  return tensor ? ((const float *)tensor->memory)[at] : 0;
}

static void check_same(const char *what, float a, const void *data, int64_t at) {
  CHECK(!memcmp(&a, (const float *)data + at, sizeof a), "%s", what);
}

static void test_gpt2(void) {
  Bench bench;
  Failure failure;
  Text report = {0};
  if (bench_open(&bench, "models/gpt.vlm", gpt_sizes, 5)) {
    const WeightMap *map = find_map(&bench, "", "gpt2");
    CHECK(!strcmp(map->repository, "openai-community/gpt2") && !map->partial, "the block itself");
    Published file = publish(&bench, map, "");
    CHECK(file.count == 2 + 2 + 3 * 12, "%zu tensors", file.count);
    const char *path = write_file(&bench, "published.safetensors", &file);
    CHECK(load(&bench, path, "", NULL, &report, &failure), "%s\n%s", failure.message, text_string(&report));
    const SafetensorsTensor *joined = NULL;
    for (size_t i = 0; i < file.count; i++)
      if (!strcmp(file.tensors[i].name, "h.1.attn.c_attn.weight")) joined = &file.tensors[i];
    CHECK(joined && joined->extents[0] == 12 && joined->extents[1] == 36, "[in, out]");
    for (int64_t o = 0; joined && o < 36; o += 5)
      for (int64_t i = 0; i < 12; i++)
        check_same("transposed", value_of(&bench, "blocks.1.attn.qkv.weight", o * 12 + i), joined->data,
                   i * 36 + o);
    const char *back = in_bench(&bench, "back.safetensors");
    CHECK(published_save(back, map, bench.store, &failure), "%s", failure.message);
    CHECK(same_files(path, back), "published -> ours -> published");
    // The same behind a prefix, as the reference library's class with a head writes it.
    Published longer = publish(&bench, map, "transformer.");
    path = write_file(&bench, "longer.safetensors", &longer);
    CHECK(load(&bench, path, "", NULL, &report, &failure), "%s\n%s", failure.message, text_string(&report));
    CHECK(strstr(text_string(&report), "gpt2") && strstr(text_string(&report), "transformer."), "%s",
          text_string(&report));
  }
  text_free(&report);
  bench_close(&bench);
}

static void test_clip(void) {
  static const char *const sizes[] = {"vision.image=12", "vision.patch=4", "vision.width=8", "vision.depth=2",
                                      "vision.heads=2",  "text.vocab=9",   "text.context=5", "text.width=8",
                                      "text.depth=1",    "text.heads=2",   "shared=6"};
  Bench bench;
  Failure failure;
  Text report = {0};
  if (bench_open(&bench, "models/clip.vlm", sizes, 11)) {
    const WeightMap *map = find_map(&bench, "vision", "clip");
    Published file = publish(&bench, map, "vision_tower.");
    int64_t extents[] = {3};
    add(&bench, &file, "language_model.norm.weight", 1, extents); // another part's
    const char *path = write_file(&bench, "whole.safetensors", &file);
    CHECK(load(&bench, path, "vision", NULL, &report, &failure), "%s\n%s", failure.message,
          text_string(&report));
    file.count--;
    for (size_t i = 0; i < file.count; i++)
      if (strstr(file.tensors[i].name, "layers.1.self_attn.v_proj.weight"))
        for (int64_t at = 0; at < 64; at++)
          check_same("stacked", value_of(&bench, "vision.blocks.1.attn.qkv.weight", 2 * 64 + at),
                     file.tensors[i].data, at);
    for (size_t i = 0; i < file.count; i++) file.tensors[i].name += strlen("vision_tower.");
    path = write_file(&bench, "published.safetensors", &file);
    const char *back = in_bench(&bench, "back.safetensors");
    CHECK(published_save(back, map, bench.store, &failure), "%s", failure.message);
    CHECK(same_files(path, back), "published -> ours -> published");
    CHECK(!load(&bench, path, "", NULL, &report, &failure) && strstr(failure.message, "--from vision="), "%s",
          failure.message);
    CHECK(!load(&bench, path, "text", NULL, &report, &failure) && strstr(failure.message, "`vision`"), "%s",
          failure.message);
  }
  text_free(&report);
  bench_close(&bench);
}

// A file whose names lack what the block says they may lack, with the layer and the norm that are not read.
static void check_omitted(const char *model, const char *const *sizes, size_t count, const char *part,
                          const char *block, const char *before) {
  Bench bench;
  Failure failure;
  Text report = {0};
  if (bench_open(&bench, model, sizes, count)) {
    Published file = publish(&bench, find_map(&bench, part, block), "");
    int64_t extents[] = {8};
    const char *whole = write_file(&bench, "whole.safetensors", &file);
    add(&bench, &file, "vision_model.post_layernorm.weight", 1, extents);
    for (size_t i = 0; i < file.count; i++)
      file.tensors[i].name =
          arena_print(bench.arena, "%s%s", before, strstr(file.tensors[i].name, "vision_model.") + 13);
    const char *path = write_file(&bench, "short.safetensors", &file),
               *back = in_bench(&bench, "back.safetensors");
    CHECK(load(&bench, path, part, NULL, &report, &failure), "%s\n%s", failure.message, text_string(&report));
    CHECK(published_save(back, find_map(&bench, part, block), bench.store, &failure), "%s", failure.message);
    CHECK(same_files(whole, back), "%s: written with what was left out", model);
  }
  text_free(&report);
  bench_close(&bench);
}

static void test_omitted(void) {
  static const char *const vit[] = {"image=12", "patch=4", "width=8", "depth=2", "heads=2", "feature=-2"};
  static const char *const clip[] = {"vision.image=12", "vision.patch=4", "vision.width=8", "vision.depth=2",
                                     "vision.heads=2",  "text.vocab=9",   "text.context=5", "text.width=8",
                                     "text.depth=1",    "text.heads=2",   "shared=6"};
  check_omitted("models/vit.vlm", vit, 6, "", "clip", "");
  check_omitted("models/siglip.vlm", vit, 6, "", "siglip", "");
  check_omitted("models/clip.vlm", clip, 11, "vision", "clip", "vision_tower.");
}

static void test_strict(void) {
  Bench bench;
  Failure failure;
  Text report = {0};
  if (bench_open(&bench, "models/gpt.vlm", gpt_sizes, 5)) {
    Published file = publish(&bench, find_map(&bench, "", "gpt2"), "");
    int64_t extents[] = {4, 4};
    add(&bench, &file, "h.1.attn.masked_bias", 2, extents);
    add(&bench, &file, "h.1.attn.other", 2, extents);
    for (size_t i = 0; i < file.count; i++) {
      if (!strcmp(file.tensors[i].name, "h.2.ln_1.bias")) file.tensors[i] = file.tensors[--file.count];
      if (!strcmp(file.tensors[i].name, "wpe.weight")) file.tensors[i].extents[0] = 6;
    }
    const char *path = write_file(&bench, "wrong.safetensors", &file);
    CHECK(!load(&bench, path, "", NULL, &report, &failure), "it is wrong in three ways");
    CHECK(strstr(failure.message, "1 missing, 1 mismatched, 1 unexpected") &&
              strstr(failure.message, "-D context=6"),
          "%s", failure.message);
    static const char *const told[] = {
        "missing    h.2.ln_1.bias [12] for `blocks.2.norm1.bias`, models/gpt.vlm:",
        "mismatched wpe.weight is F32[6, 12]; `position` wants [7, 12], models/gpt.vlm:",
        "unexpected h.1.attn.other [4, 4]: no line of block `gpt2` speaks of it, models/gpt.vlm:"};
    for (int i = 0; i < 3; i++)
      CHECK(strstr(text_string(&report), told[i]), "%s\nis not in\n%s", told[i], text_string(&report));
    for (size_t i = 0; i < bench.store->count; i++)
      CHECK(!bench.store->list[i]->loaded, "%s was loaded nevertheless", bench.store->list[i]->name);
    CHECK(!load(&bench, path, "", "*.bias", &report, &failure) &&
              strstr(failure.message, " 0 missing, 1 mism"),
          "%s", failure.message);
    CHECK(!load(&bench, path, "", "blocks.2.norm1.bia?", &report, &failure) &&
              strstr(failure.message, " 0 missing, 1 mism"),
          "by our own name: %s", failure.message);
    Published behind = publish(&bench, find_map(&bench, "", "gpt2"), "transformer.");
    for (size_t i = 0; i < behind.count; i++)
      if (!strcmp(behind.tensors[i].name, "transformer.h.2.ln_1.bias"))
        behind.tensors[i] = behind.tensors[--behind.count];
    path = write_file(&bench, "behind.safetensors", &behind);
    CHECK(!load(&bench, path, "", NULL, &report, &failure) &&
              strstr(text_string(&report), "missing    transformer.h.2.ln_1.bias [12]"),
          "%s", text_string(&report));
    CHECK(load(&bench, path, "", "transformer.h.2.*", &report, &failure),
          "by the name that the table shows: %s", failure.message);
    Published alien = {0};
    add(&bench, &alien, "who.knows", 2, extents);
    path = write_file(&bench, "alien.safetensors", &alien);
    CHECK(!load(&bench, path, "", NULL, &report, &failure) &&
              strstr(failure.message, "`gpt2` (models/gpt.vlm:"),
          "%s", failure.message);
  }
  text_free(&report);
  bench_close(&bench);
}

static SafetensorsTensor *find_tensor(Published *file, const char *name) {
  for (size_t i = 0; i < file->count; i++)
    if (!strcmp(file->tensors[i].name, name)) return &file->tensors[i];
  CHECK(false, "no tensor %s", name);
  exit(1);
}

// A head that the model has tied may be in the file a second time, but not as another one.
static void check_copy(const char *model, const char *const *sizes, size_t count, const char *prefix,
                       const char *embedding, const char *told) {
  Bench bench;
  Failure failure;
  Text report = {0};
  if (bench_open(&bench, model, sizes, count)) {
    Published file = publish(&bench, &compiler_weights(bench.compiler)->list[0], prefix);
    const SafetensorsTensor *token = find_tensor(&file, arena_print(bench.arena, "%s%s", prefix, embedding));
    SafetensorsTensor *head = add(&bench, &file, "lm_head.weight", 2, token->extents);
    const void *other = head->data;
    head->data = token->data;
    const char *path = write_file(&bench, "equal.safetensors", &file);
    CHECK(load(&bench, path, "", NULL, &report, &failure), "%s\n%s", failure.message, text_string(&report));
    head->data = other;
    path = write_file(&bench, "unequal.safetensors", &file);
    CHECK(!load(&bench, path, "", NULL, &report, &failure) && strstr(text_string(&report), told) &&
              strstr(failure.message, "1 that should be copies are not"),
          "%s\nis not in\n%s\n%s", told, failure.message, text_string(&report));
    head->extents[0]--; // the same bytes, but fewer
    head->data = token->data;
    path = write_file(&bench, "shorter.safetensors", &file);
    CHECK(!load(&bench, path, "", NULL, &report, &failure), "a copy of another shape");
  }
  text_free(&report);
  bench_close(&bench);
}

static void test_copies(void) {
  static const char *const sizes[] = {"vocab=401", "width=16", "depth=2", "heads=4", "groups=2", "hidden=12"};
  static const char *const open[] = {"vocab=401", "width=16",  "depth=2",   "heads=4",
                                     "groups=2",  "hidden=12", "tied=false"};
  check_copy("models/gpt.vlm", gpt_sizes, 5, "transformer.", "wte.weight",
             "unequal    lm_head.weight is no copy of transformer.wte.weight, and `token` can not be both, "
             "models/gpt.vlm:");
  check_copy(
      "models/llama.vlm", sizes, 6, "", "model.embed_tokens.weight",
      "unequal    lm_head.weight is no copy of model.embed_tokens.weight, and `token` can not be both, "
      "models/llama.vlm:");
  Bench bench;
  Failure failure;
  Text report = {0};
  if (bench_open(&bench, "models/llama.vlm", open, 7)) { // two parameters: any two tensors
    Published file = publish(&bench, find_map(&bench, "", "llama"), "");
    const char *path = write_file(&bench, "untied.safetensors", &file);
    CHECK(load(&bench, path, "", NULL, &report, &failure), "%s\n%s", failure.message, text_string(&report));
    CHECK(value_of(&bench, "head", 0) != value_of(&bench, "token", 0), "they were drawn apart");
  }
  text_free(&report);
  bench_close(&bench);
}

// A file of another size says which settings fit.
static void test_settings(void) {
  static const char *const sizes[] = {"vocab=13", "context=9", "width=8", "depth=5", "heads=2"};
  Bench small, large;
  Failure failure;
  Text report = {0};
  bool opened = bench_open(&small, "models/gpt.vlm", gpt_sizes, 5);
  if (bench_open(&large, "models/gpt.vlm", sizes, 5) && opened) {
    Published file = publish(&large, find_map(&large, "", "gpt2"), "");
    const char *path = write_file(&large, "large.safetensors", &file);
    CHECK(!load(&small, path, "", NULL, &report, &failure), "other sizes");
    for (int i = 0; i < 4; i++)
      CHECK(strstr(failure.message, arena_print(small.arena, "-D %s", sizes[i])), "-D %s is not in %s",
            sizes[i], failure.message);
  }
  text_free(&report);
  bench_close(&small);
  bench_close(&large);
}

// A file of another depth says so, whether the model reads all layers or leaves the last out.
static void test_depth(void) {
  static const struct {
    const char *model, *block, *depth, *feature, *hint;
    int layers; // of the file; the model has 5
  } cases[] = {{"models/vit.vlm", "clip", "depth=5", "feature=-1", NULL, 5},
               {"models/vit.vlm", "clip", "depth=5", "feature=-1", "-D depth=3", 3},
               {"models/vit.vlm", "clip", "depth=5", "feature=-1", "-D depth=6", 6},
               {"models/vit.vlm", "clip", "depth=5", "feature=-1", "-D depth=7", 7},
               {"models/vit.vlm", "clip", "depth=5", "feature=-2", NULL, 5},
               {"models/vit.vlm", "clip", "depth=5", "feature=-2", NULL, 4}, // without those of no use
               {"models/vit.vlm", "clip", "depth=5", "feature=-2", "-D depth=7", 7},
               {"models/vit.vlm", "mmproj", "depth=5", "feature=-2", "-D depth=4", 3},
               {"models/siglip.vlm", "siglip", "depth=5", "feature=-1", NULL, 5},
               {"models/siglip.vlm", "siglip", "depth=5", "feature=-1", "-D depth=2", 2},
               {"models/siglip.vlm", "siglip", "depth=5", "feature=-1", "-D depth=6", 6}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *sizes[] = {"image=12", "patch=4", "width=8", "heads=2", cases[i].depth, cases[i].feature};
    char depth[20];
    const char *others[] = {"image=12", "patch=4", "width=8", "heads=2", depth, "feature=-1"};
    Bench ours, theirs;
    Failure failure;
    Text report = {0};
    snprintf(depth, sizeof depth, "depth=%d", cases[i].layers);
    bool opened = bench_open(&ours, cases[i].model, sizes, 6);
    if (bench_open(&theirs, cases[i].model, others, 6) && opened) {
      Published file = publish(&theirs, find_map(&theirs, "", cases[i].block), "");
      const char *path = write_file(&theirs, "theirs.safetensors", &file);
      bool good = load(&ours, path, "", NULL, &report, &failure);
      CHECK(good == !cases[i].hint && (good || strstr(failure.message, cases[i].hint)),
            "%s of %d layers: %s\n%s", cases[i].block, cases[i].layers, failure.message,
            text_string(&report));
    }
    text_free(&report);
    bench_close(&ours);
    bench_close(&theirs);
  }
}

// All forms of lines at once: a part's block behind a prefix, pieces of unequal size, interleaved rows as
// rotary checkpoints have them, a single number of a longer tensor, conditions, ignored tensors.
static const char forms[] = "import nn\n"
                            "model Inner(width = 6) {\n"
                            "  param w[width, 4] ~ normal(1)\n"
                            "  param extra[width] = 0\n"
                            "  fn run(x[B, 4]) -> [B, width] {\n"
                            "    y[b,o] = sum[i] x[b,i] * w[o,i] + extra[o]\n"
                            "    return y\n"
                            "  }\n"
                            "  forward(x[B, 4]) = run(x)\n"
                            "  weights other if width != 6 { nothing = \"x\" }\n"
                            "  weights own {\n"
                            "    w[h*3 + i, c] = \"w\"[2*i + h, c] for h < 2, i < 3\n"
                            "    extra = \"extra\" if width == 6\n"
                            "    w = \"never\" if width == 7\n"
                            "    ignore \"*.inv_freq\", \"buffer\"\n"
                            "  }\n"
                            "}\n"
                            "model Outer() {\n"
                            "  inner = Inner()\n"
                            "  param scale[] = 1\n"
                            "  param qkv[5, 6] ~ normal(1)\n"
                            "  forward(x[B, 4]) -> [B, 5] {\n"
                            "    h = inner.run(x)\n"
                            "    y[b,o] = scale * sum[i] h[b,i] * qkv[o,i]\n"
                            "    return y\n"
                            "  }\n"
                            "  weights all \"a/b\" {\n"
                            "    inner = own(\"tower.\")\n"
                            "    scale = \"scale\"[0]\n"
                            "    qkv[o, i]     = \"q\"[i, 2 - o] for o < 3\n"
                            "    qkv[o + 3, i] = \"k\"[o, i]     for o < 2\n"
                            "  }\n"
                            "}\n";

static void test_forms(void) {
  Bench bench;
  Failure failure;
  Text report = {0};
  char path[] = "/tmp/vlmc-test-XXXXXX.vlm";
  int handle = mkstemps(path, 4);
  if (handle < 0 || write(handle, forms, sizeof forms - 1) != (ssize_t)sizeof forms - 1) exit(1);
  close(handle);
  if (bench_open(&bench, path, NULL, 0)) {
    const WeightMap *map = find_map(&bench, "", "all");
    CHECK(compiler_weights(bench.compiler)->count == 2, "a block whose condition does not hold is not there");
    Published file = publish(&bench, map, "");
    CHECK(file.count == 5 && !map->partial, "%zu tensors, %s", file.count, map->partial ? map->partial : "");
    int64_t extents[] = {2};
    add(&bench, &file, "tower.rotary.inv_freq", 1, extents);
    add(&bench, &file, "tower.buffer", 1, extents);
    const char *whole = write_file(&bench, "published.safetensors", &file);
    CHECK(load(&bench, whole, "", NULL, &report, &failure), "%s\n%s", failure.message, text_string(&report));
    const SafetensorsTensor *q = NULL, *w = NULL;
    for (size_t i = 0; i < file.count; i++) {
      if (!strcmp(file.tensors[i].name, "q")) q = &file.tensors[i];
      if (!strcmp(file.tensors[i].name, "tower.w")) w = &file.tensors[i];
    }
    CHECK(q && q->extents[0] == 6 && q->extents[1] == 3 && w, "shapes as the rows reach");
    for (int64_t o = 0; q && o < 3; o++)
      for (int64_t i = 0; i < 6; i++)
        check_same("q", value_of(&bench, "qkv", o * 6 + i), q->data, i * 3 + 2 - o);
    for (int64_t h = 0; w && h < 2; h++)
      for (int64_t i = 0; i < 3; i++)
        check_same("w", value_of(&bench, "inner.w", (h * 3 + i) * 4 + 1), w->data, (2 * i + h) * 4 + 1);
    file.count -= 2;
    whole = write_file(&bench, "published.safetensors", &file);
    const char *back = in_bench(&bench, "back.safetensors");
    CHECK(published_save(back, map, bench.store, &failure), "%s", failure.message);
    CHECK(same_files(whole, back), "published -> ours -> published");
  }
  unlink(path);
  text_free(&report);
  bench_close(&bench);
}

// map_copy against the definition, at odd sizes.
static void test_copy(void) {
  MapRow row = {.rank = 2,
                .tensor_rank = 3,
                .variable_count = 3,
                .extents = {8, 7},
                .tensor_extents = {5, 4, 9},
                .bounds = {3, 2, 4}};
  row.ours[0] = (MapIndex){1, {2, 1, 0}}, row.ours[1] = (MapIndex){6, {0, 0, -2}};
  row.theirs[0] = (MapIndex){1, {0, 0, 1}}, row.theirs[1] = (MapIndex){3, {0, -2, 0}};
  row.theirs[2] = (MapIndex){0, {4, 0, 0}};
  float from[5 * 4 * 9], to[8 * 7], back[5 * 4 * 9] = {0};
  for (int i = 0; i < 5 * 4 * 9; i++) from[i] = (float)(i + 1);
  memset(to, 0, sizeof to);
  map_copy_in(&row, from, to);
  map_copy_out(&row, to, back);
  int moved = 0;
  for (int i = 0; i < 8 * 7; i++) moved += to[i] != 0;
  CHECK(moved == 24, "%d elements moved", moved);
  for (int a = 0; a < 3; a++)
    for (int b = 0; b < 2; b++)
      for (int c = 0; c < 4; c++) {
        int ours = (1 + 2 * a + b) * 7 + 6 - 2 * c, theirs = ((1 + c) * 4 + 3 - 2 * b) * 9 + 4 * a;
        CHECK(to[ours] == from[theirs] && back[theirs] == from[theirs], "%d %d %d", a, b, c);
      }
  CHECK(!map_is_identity(&row), "no identity");
}

// GGUF as llama.cpp lays it out: metadata from the block, rotary rows back in pairs, and the way back.
static void check_gguf(Bench *bench, const char *part, const char *name, const char *const *keys,
                       size_t key_count) {
  Failure failure = {0};
  WeightFile file = {0};
  Text report = {0};
  GgufMetadata metadata = {0};
  const WeightMap *map = find_map(bench, part, name);
  Published published = publish(bench, map, "");
  const char *path = write_file(bench, "published.safetensors", &published),
             *gguf = in_bench(bench, "x.gguf");
  PublishedOptions options = {.maps = compiler_weights(bench->compiler), .report = &report};
  PublishedLayout layout = {map, "", published.count};
  CHECK(weights_open(path, &file, &failure) &&
            published_load(&file, &layout, &options, bench->store, &failure) == !strcmp(name, "gguf"),
        "%s", failure.message);
  weights_close(&file);
  file = (WeightFile){0};
  CHECK(published_save_gguf(gguf, map, WEIGHT_F32, &metadata, bench->store, NULL, &failure) &&
            weights_open(gguf, &file, &failure),
        "%s", failure.message);
  CHECK(file.gguf && file.count == published.count, "%zu tensors", file.count);
  for (size_t i = 0; i < key_count; i++) CHECK(gguf_find(file.gguf, keys[i]), "%s", keys[i]);
  for (size_t i = 0; i < published.count && !strcmp(name, "gguf"); i++) {
    const WeightTensor *tensor = weights_find(&file, published.tensors[i].name);
    CHECK(tensor && !memcmp(tensor->data, published.tensors[i].data, tensor->bytes), "%s",
          published.tensors[i].name);
  }
  gguf_metadata_free(&metadata);
  weights_close(&file);
  text_free(&report);
}

// Matrices in blocks: each tensor holds what the writer of formats makes of the published values.
static void check_stored(const WeightTensor *stored, const WeightTensor *published) {
  bool matrix = published->rank == 2, whole = published->extents[published->rank - 1] % 32 == 0;
  WeightFormat wanted = !matrix ? WEIGHT_F32 : whole ? WEIGHT_Q4_0 : WEIGHT_F16;
  unsigned char *bytes = malloc(stored->bytes + 1);
  CHECK(stored->format == wanted, "%s is stored in %s", stored->name, format_name(stored->format));
  CHECK(bytes && weights_write_f32(stored->format, published->data, published->elements, bytes) &&
            !memcmp(bytes, stored->data, stored->bytes),
        "%s holds other values", stored->name);
  free(bytes);
}

static void test_quantised(void) {
  static const char *const sizes[] = {"lm.vocab=9",     "lm.width=32",    "lm.depth=2",     "lm.heads=4",
                                      "lm.groups=2",    "lm.hidden=44",   "vision.image=8", "vision.patch=4",
                                      "vision.width=8", "vision.depth=3", "vision.heads=2"};
  Bench bench;
  Failure failure = {0};
  WeightFile file = {0};
  Text report = {0};
  GgufMetadata metadata = {0};
  if (bench_open(&bench, "models/llava.vlm", sizes, 11)) {
    const WeightMap *map = find_map(&bench, "lm", "gguf");
    Published published = publish(&bench, map, "");
    const char *path = write_file(&bench, "published.safetensors", &published),
               *gguf = in_bench(&bench, "x.gguf");
    PublishedOptions options = {.maps = compiler_weights(bench.compiler)};
    PublishedLayout layout = {map, "", published.count};
    CHECK(weights_open(path, &file, &failure) &&
              published_load(&file, &layout, &options, bench.store, &failure),
          "%s", failure.message);
    weights_close(&file);
    file = (WeightFile){0};
    CHECK(published_save_gguf(gguf, map, WEIGHT_Q4_0, &metadata, bench.store, &report, &failure) &&
              weights_open(gguf, &file, &failure),
          "%s", failure.message);
    CHECK(file.count == published.count, "%zu tensors", file.count);
    for (size_t i = 0; i < published.count && i < file.count; i++) {
      const WeightTensor *tensor = weights_find(&file, published.tensors[i].name);
      WeightTensor wanted = {.rank = published.tensors[i].rank, .data = published.tensors[i].data};
      memcpy(wanted.extents, published.tensors[i].extents, sizeof wanted.extents);
      if (tensor) wanted.elements = tensor->elements;
      if (tensor) check_stored(tensor, &wanted);
    }
    const GgufValue *type = gguf_find(file.gguf, "general.file_type");
    CHECK(type && gguf_number(type, 0) == 2, "the file says what it mostly holds");
    CHECK(strstr(text_string(&report), " tensors in Q4_0, 5 in F32, 2 in F16\n"), "%s", text_string(&report));
    weights_close(&file);
  }
  gguf_metadata_free(&metadata);
  text_free(&report);
  bench_close(&bench);
}

static void test_gguf(void) {
  static const char *const sizes[] = {"lm.vocab=9",     "lm.width=16",    "lm.depth=2",     "lm.heads=4",
                                      "lm.groups=2",    "lm.hidden=12",   "vision.image=8", "vision.patch=4",
                                      "vision.width=8", "vision.depth=3", "vision.heads=2"};
  static const char *const words[] = {"general.architecture", "llama.block_count", "llama.rope.freq_base",
                                      "llama.attention.layer_norm_rms_epsilon"};
  static const char *const pictures[] = {"general.architecture", "clip.projector_type",
                                         "clip.vision.image_mean", "clip.vision.feature_layer",
                                         "clip.use_gelu"};
  Bench bench;
  if (bench_open(&bench, "models/llava.vlm", sizes, 11)) {
    check_gguf(&bench, "lm", "gguf", words, 4);
    check_gguf(&bench, "", "mmproj", pictures, 5);
  }
  bench_close(&bench);
  if (bench_open(&bench, "tests/parity/seeing.vlm", NULL, 0)) check_gguf(&bench, "", "mmproj", pictures, 5);
  bench_close(&bench);
}

// A tokenizer trained here goes into a GGUF file and comes back with the same ids; a model with more tokens
// than it has rows beyond it.
static void test_tokenizer(void) {
  static const char *const specials[] = {"<|im_end|>", "<|im_start|>"};
  static const char text[] = "the cat sat on the mat, the cat and the hat: 12 cats\n  c\xc3\xa4t <|im_end|>";
  Failure failure = {0};
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  Tokenizer *tokenizer = NULL, *back = NULL;
  GgufMetadata metadata = {0};
  GgufWriter *writer;
  Gguf file = {0};
  char path[] = "/tmp/vlmc-test-XXXXXX";
  WeightTensor tensor = {.name = "x", .format = WEIGHT_F32, .rank = 1, .extents = {1}};
  float value = 1;
  int handle = mkstemp(path);
  if (handle >= 0) close(handle);
  tokenizer_trainer_add(trainer, text, sizeof text - 1);
  CHECK(tokenizer_trainer_finish(trainer, 270, specials, 2, &tokenizer, &failure), "%s", failure.message);
  CHECK(!tokenizer_note_gguf(tokenizer, 200, -1, 0, &metadata, &failure) && strstr(failure.message, "200"),
        "%s", failure.message);
  CHECK(tokenizer_note_gguf(tokenizer, 300, 1, 0, &metadata, &failure), "%s", failure.message);
  CHECK(gguf_create(path, &metadata, &tensor, 1, &writer, &failure) &&
            gguf_put_f32(writer, 0, &value, &failure) && gguf_finish(writer, &failure) &&
            gguf_open(path, &file, &failure),
        "%s", failure.message);
  const GgufValue *end = gguf_find(&file, "tokenizer.ggml.eos_token_id");
  CHECK(end && gguf_integer(end, 0) == 0, "generation stops");
  const GgufValue *begin = gguf_find(&file, "tokenizer.ggml.bos_token_id");
  CHECK(begin && gguf_integer(begin, 0) == 1, "the template's beginning");
  gguf_close(&file);
  CHECK(tokenizer_open(path, &back, &failure), "%s", failure.message);
  Ids wanted = {0}, found = {0};
  tokenizer_encode(tokenizer, text, sizeof text - 1, true, &wanted);
  if (back) tokenizer_encode(back, text, sizeof text - 1, true, &found);
  CHECK(wanted.count == found.count && !memcmp(wanted.list, found.list, wanted.count * sizeof *wanted.list),
        "%zu ids, %zu ids", wanted.count, found.count);
  ids_free(&wanted);
  ids_free(&found);
  gguf_metadata_free(&metadata);
  tokenizer_free(tokenizer);
  tokenizer_free(back);
  tokenizer_trainer_free(trainer);
  unlink(path);
}

int main(void) {
  test_tokenizer();
  test_gguf();
  test_quantised();
  test_copy();
  test_gpt2();
  test_clip();
  test_omitted();
  test_strict();
  test_copies();
  test_settings();
  test_depth();
  test_forms();
  return check_finish();
}
