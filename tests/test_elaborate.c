// The shipped models: every function and preset becomes a sound graph with the parameters, axes, stages,
// template and preprocessing that the file speaks of.
#include "elaborate.h"

#include <time.h>

static void check_sound(Session *session, const Graph *graph, const char *name) {
  Text reason = {0};
  CHECK(graph, "%s: %s", name, session_said(session));
  if (graph) CHECK(graph_verify(graph, &reason), "%s: %s", name, text_string(&reason));
  for (size_t i = 1; graph && i < graph->count; i++)
    if (!graph->nodes[i].span.source) {
      CHECK(false, "%s: node %zu has no place", name, i);
      break;
    }
  text_free(&reason);
}

static void test_models(void) {
  static const char *const models[] = {"vit", "siglip", "gpt",     "llama",      "clip",
                                       "vlm", "llava",  "nanovlm", "minimind2v", "minimind3v"};
  static const char *const presets[] = {NULL, "tiny"};
  for (size_t i = 0; i < sizeof models / sizeof *models; i++)
    for (size_t j = 0; j < 2; j++) {
      Session session;
      char path[100];
      snprintf(path, sizeof path, "models/%s.vlm", models[i]);
      bool good = session_open(&session, path, presets[j], NULL, 0);
      CHECK(good, "%s: %s", path, session_said(&session));
      if (good) {
        check_sound(&session, model_graph(session.model, "forward"), path);
        if (model_has(session.model, "loss")) {
          Graph *loss = model_graph(session.model, "loss");
          check_sound(&session, loss, path);
          CHECK(loss->output_count == 1 && !strcmp(loss->outputs[0].name, "loss"), "one loss");
          CHECK(graph_type(loss, loss->outputs[0].node)->rank == 0, "the loss is a number");
        }
        WeightMaps maps;
        CHECK(model_weights(session.model, &maps), "%s: %s", path, session_said(&session));
        const char *const *stages;
        size_t count = model_stage_names(session.model, &stages);
        for (size_t k = 0; k < count; k++)
          CHECK(model_stage(session.model, stages[k]), "%s, %s: %s", path, stages[k], session_said(&session));
        CHECK(!session.diagnostics.errors, "%s", session_said(&session));
      }
      session_close(&session);
    }
}

// Names, shapes and starts of all parameters of a small GPT: what checkpoints hold.
static void test_parameters(void) {
  static const char wanted[] = "ids: i32[B, T]\n"
                               "token: f32[vocab=512, width=128] normal 0.02\n"
                               "position: f32[context=128, width=128] normal 0.02\n"
                               "blocks.0.norm1.weight: f32[D=128] 1\n"
                               "blocks.0.norm1.bias: f32[D=128] 0\n"
                               "blocks.0.attn.qkv.weight: f32[width=384, I=128] normal 0.051031\n"
                               "blocks.0.attn.qkv.bias: f32[width=384] 0\n"
                               "blocks.0.attn.out.weight: f32[width=128, I=128] normal 0.051031\n"
                               "blocks.0.attn.out.bias: f32[width=128] 0\n"
                               "blocks.0.norm2.weight: f32[D=128] 1\n"
                               "blocks.0.norm2.bias: f32[D=128] 0\n"
                               "blocks.0.up.weight: f32[width=512, I=128] normal 0.051031\n"
                               "blocks.0.up.bias: f32[width=512] 0\n"
                               "blocks.0.down.weight: f32[width=128, I=512] normal 0.0255155\n"
                               "blocks.0.down.bias: f32[width=128] 0\n"
                               "norm.weight: f32[D=128] 1\n"
                               "norm.bias: f32[D=128] 0\n"
                               "result: f32[B, T, vocab=512]\n";
  Session session;
  const char *defines[] = {"depth=3-2"};
  Text text = {0};
  Graph *graph = NULL;
  if (session_open(&session, "models/gpt.vlm", "tiny", defines, 1))
    graph = model_graph(session.model, "forward");
  CHECK(graph, "%s", session_said(&session));
  for (size_t i = 0; graph && i < graph->input_count; i++) {
    const Input *input = &graph->inputs[i];
    text_print(&text, "%s: ", input->name);
    type_print(&text, graph_type(graph, input->node));
    if (input->role == INPUT_PARAM)
      text_print(&text, input->initial.normal ? " normal %g" : " %g",
                 input->initial.normal ? input->initial.spread : input->initial.value);
    text_print(&text, "\n");
  }
  if (graph) {
    text_print(&text, "result: ");
    type_print(&text, graph_type(graph, graph->outputs[0].node));
    text_print(&text, "\n");
  }
  CHECK(!strcmp(text_string(&text), wanted), "the inputs are\n%s", text_string(&text));
  text_free(&text);
  session_close(&session);
}

static int64_t parameter_count(const Graph *graph, const char *prefix, bool trained_only) {
  int64_t sum = 0, symbols[SYMBOL_COUNT] = {0};
  for (size_t i = 0; i < graph->input_count; i++) {
    const Input *input = &graph->inputs[i];
    if (input->role != INPUT_PARAM || strncmp(input->name, prefix, strlen(prefix))) continue;
    if (!trained_only || input->trained) sum += type_elements(graph_type(graph, input->node), symbols);
  }
  return sum;
}

// Presets of published models have the parameters that the reference implementations have.
static void test_published_sizes(void) {
  static const struct {
    const char *model, *preset;
    int64_t parameters;
  } rows[] = {
      {"gpt", "small", 124439808},
      {"gpt", "medium", 354823168},
      {"gpt", "large", 774030080},
      {"gpt", "xl", 1557611200},
      {"llama", "smollm2_135m", 134515008},
      {"llama", "smollm2_360m", 361821120},
      {"llama", "qwen2_0_5b", 494032768},
      {"llama", "qwen2_5_1_5b", 1543714304},
      {"llama", "qwen3_0_6b", 596049920},
      {"llama", "minimind2", 104030976},
      {"llama", "minimind2_small", 25829888},
      {"llama", "minimind3", 63912192},
      {"llama", "stories260k", 260032},
      {"vit", "b16", 85797888},
      {"vit", "b32", 87454464},
      {"vit", "l14", 303177728},
      {"vit", "l14_336", 303505408},
      {"siglip", "b16_224", 85797120},
      {"siglip", "b16_512", 86433024},
      {"siglip", "so400m", 412987248},
      {"siglip", "siglip2_b32_256", 87465216},
      {"nanovlm", "nanovlm_222m", 222081600},
      {"nanovlm", "nanovlm_450m", 450614400},
      {"minimind2v", "base", 190419456},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Session session;
    char path[100];
    snprintf(path, sizeof path, "models/%s.vlm", rows[i].model);
    bool good = session_open(&session, path, rows[i].preset, NULL, 0);
    Graph *graph = good ? model_graph(session.model, "forward") : NULL;
    WeightMaps maps;
    CHECK(graph && model_weights(session.model, &maps), "%s: %s", path, session_said(&session));
    int64_t count = graph ? parameter_count(graph, "", false) : 0;
    CHECK(count == rows[i].parameters, "%s, %s: %lld parameters", path, rows[i].preset, (long long)count);
    session_close(&session);
  }
}

// Full size: the published numbers of parameters.
static void test_sizes(void) {
  Session session;
  Graph *graph = NULL;
  if (session_open(&session, "models/vlm.vlm", NULL, NULL, 0)) graph = model_graph(session.model, "loss");
  CHECK(graph, "%s", session_said(&session));
  if (graph) {
    CHECK(parameter_count(graph, "lm.", false) == 124439808, "GPT-2: %lld",
          (long long)parameter_count(graph, "lm.", false));
    int64_t vision = 85798656 + 2 * 768 - 768 - 2 * 768; // ViT-B/16's body, with a norm before and none after
    CHECK(parameter_count(graph, "vision.", false) == vision, "ViT-B/16: %lld",
          (long long)parameter_count(graph, "vision.", false));
    CHECK(parameter_count(graph, "projection.", false) == 768 * 768 + 768, "projection");
  }
  session_close(&session);
}

static void test_stages(void) {
  Session session;
  const char *defines[] = {"pretrain.batch=3", "sft.rate=1e-5", "vision.depth=2"};
  bool good = session_open(&session, "models/vlm.vlm", "tiny", defines, 3);
  CHECK(good, "%s", session_said(&session));
  if (good) {
    const Stage *pretrain = model_stage(session.model, "pretrain"), *sft = model_stage(session.model, "sft");
    CHECK(pretrain && sft, "%s", session_said(&session));
    CHECK(!strcmp(pretrain->data, "captions") && pretrain->rate == 4e-4 && pretrain->floor == 0.1,
          "pretrain");
    CHECK(pretrain->schedule == SCHEDULE_COSINE && pretrain->clip == 1 && pretrain->epochs == 4, "pretrain");
    CHECK(pretrain->batch == 3 && sft->rate == 1e-5 && sft->batch == 8, "set from the command line");
    Graph *graph = model_graph(session.model, "loss");
    CHECK(graph && model_select(session.model, "pretrain", graph), "%s", session_said(&session));
    CHECK(!parameter_count(graph, "vision.", true), "the encoder is frozen");
    CHECK(parameter_count(graph, "vision.blocks.1.", false) &&
              !parameter_count(graph, "vision.blocks.2.", false),
          "depth 2");
    CHECK(parameter_count(graph, "projection.", true) == parameter_count(graph, "projection.", false),
          "the projection is not");
    CHECK(parameter_count(graph, "lm.", true) == parameter_count(graph, "lm.blocks.3.", false),
          "nor is the last block");
    CHECK(model_select(session.model, "sft", graph), "%s", session_said(&session));
    CHECK(parameter_count(graph, "lm.", true) == parameter_count(graph, "lm.", false),
          "all of the language model");
    CHECK(!model_stage(session.model, "none"), "no such stage");
    CHECK(strstr(session_said(&session), "there is no stage `none`; this file has: pretrain, sft"), "%s",
          session_said(&session));
  }
  session_close(&session);
}

// Selectors: ranges, negative indices, nothing and everything; what is frozen stays so.
static void test_selectors(void) {
  static const struct {
    const char *settings;
    int64_t trained; // each block has 12 parameters, the head 3
  } rows[] = {
      {"train everything", 51},
      {"freeze everything", 0},
      {"freeze nothing", 51},
      {"train blocks[1:3]", 24},
      {"train blocks[:-1]", 36},
      {"train blocks[-2:], head", 27},
      {"train blocks[0], blocks[-1]", 24},
      {"freeze blocks", 3},
      {"train blocks[0]; freeze blocks[0].weight", 4},
      {"train head.bias", 3},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Session session;
    char text[500];
    snprintf(
        text, sizeof text,
        "layer Bias() (x[.., D]) -> [.., D] { param weight[8] = 1; param bias[D] = 0\n return x + bias + "
        "sum(weight) }\n"
        "model M() { loss(x[B, 4]) {\n repeat 4 as blocks { x = Pair()(x) }\n  x = head: Three()(x)\n return "
        "sum(x) } }\n"
        "layer Pair() (x[.., D]) { param weight[8] = 1; param bias[D] = 0\n return x + bias + sum(weight) }\n"
        "layer Three() (x[.., D]) { param bias[3] = 0\n return x + sum(bias) }\n"
        "stage s { data d\n %s }\n",
        rows[i].settings);
    bool good = session_open_text(&session, text);
    Graph *graph = good ? model_graph(session.model, "loss") : NULL;
    CHECK(graph && model_select(session.model, "s", graph), "%s: %s", rows[i].settings,
          session_said(&session));
    if (graph)
      CHECK(parameter_count(graph, "", true) == rows[i].trained, "`%s` trains %lld", rows[i].settings,
            (long long)parameter_count(graph, "", true));
    session_close(&session);
  }
}

static void test_recipe(void) {
  Session session;
  bool good = session_open(&session, "models/vlm.vlm", "tiny", NULL, 0);
  CHECK(good, "%s", session_said(&session));
  if (good) {
    const Template *template = model_template(session.model);
    const Preprocess *preprocess = model_preprocess(session.model);
    CHECK(template && preprocess, "%s", session_said(&session));
    CHECK(template->image_tokens == 64 && !strcmp(template->image_token, "<image>"), "%d",
          template->image_tokens);
    CHECK(template->special_count == 3 && !strcmp(template->specials[0], "<|im_end|>"), "specials");
    CHECK(template->end_count == 1 && !strcmp(template->ends[0], "<|im_end|>") &&
              strstr(template->turn, "{prompt}") && template->caption,
          "texts");
    CHECK(preprocess->channels == 3 && preprocess->height == 64 && preprocess->width == 64, "size");
    CHECK(preprocess->resize == RESIZE_SHORTEST && preprocess->resample == RESAMPLE_BICUBIC, "resize");
    CHECK(preprocess->scale == 1.0 / 255 && preprocess->mean[2] == 0.40821073 &&
              preprocess->std[0] == 0.26862954,
          "colours");
    CHECK(!strcmp(model_name(session.model), "VLM"), "%s", model_name(session.model));
  }
  session_close(&session);
}

// What published models read, by preset: the template's texts are settings like any other.
static void test_template_preset(void) {
  static const struct {
    const char *preset, *mark, *end;
  } rows[] = {{"nanovlm_222m", "<file_sep>", "{answer}<|endoftext|>"},
              {"nanovlm_450m", "<file_sep>", "{answer}<|im_end|>"},
              {"tiny", "<|image|>", "{answer}<|im_end|>\n"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Session session;
    bool good = session_open(&session, "models/nanovlm.vlm", rows[i].preset, NULL, 0);
    const Template *template = good ? model_template(session.model) : NULL;
    const Preprocess *preprocess = good ? model_preprocess(session.model) : NULL;
    CHECK(template && preprocess, "%s", session_said(&session));
    if (template && preprocess) {
      CHECK(!strcmp(template->image_mark, rows[i].mark) && strstr(template->turn, rows[i].end), "%s: %s, %s",
            rows[i].preset, template->image_mark, template->turn);
      CHECK(preprocess->resize == RESIZE_EXACT && preprocess->resample == RESAMPLE_BILINEAR &&
                !preprocess->mean[0] && preprocess->std[0] == 1,
            "pixels from 0 to 1");
    }
    session_close(&session);
  }
}

// What a published model is told where nobody says otherwise.
static void test_system_preset(void) {
  static const struct {
    const char *preset, *said;
  } rows[] = {{NULL, "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
              {"smollm2_360m", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
              {"qwen2_5_1_5b", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
              {"qwen3_0_6b", ""},
              {"minimind2_small", "You are a helpful assistant"},
              {"tiny", ""}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Session session;
    bool good = session_open(&session, "models/llama.vlm", rows[i].preset, NULL, 0);
    const Template *template = good ? model_template(session.model) : NULL;
    CHECK(template && !strcmp(template->system_text, rows[i].said), "%s: %s", rows[i].said,
          template ? template->system_text : session_said(&session));
    session_close(&session);
  }
}

// A word of a setting may come from the configuration.
static void test_preprocess_word(void) {
  static const Resample wanted[] = {RESAMPLE_BICUBIC, RESAMPLE_BILINEAR};
  for (int i = 0; i < 2; i++) {
    Session session;
    bool good = session_open(&session, "models/siglip.vlm", i ? "siglip2_b16_256" : "b16_224", NULL, 0);
    const Preprocess *preprocess = good ? model_preprocess(session.model) : NULL;
    CHECK(preprocess && preprocess->resample == wanted[i] && preprocess->resize == RESIZE_EXACT, "%s",
          session_said(&session));
    session_close(&session);
  }
}

// A define that names nothing, and a model beside its own parts in another folder.
static void test_defines(void) {
  Session session;
  const char *defines[] = {"vision.widht=3"};
  CHECK(!session_open(&session, "models/vlm.vlm", NULL, defines, 1), "taken");
  CHECK(strstr(session_said(&session), "nothing is called `vision.widht` in VLM"), "%s",
        session_said(&session));
  session_close(&session);
  bool good =
      session_open_text(&session, "import vit, nn\nmodel My() { eye = vit.ViT(image = 32, depth = 1)\n"
                                  "  forward(p[B, 3, 32, 32]) = head: nn.Linear(10)(eye(p)) }");
  Graph *graph = good ? model_graph(session.model, "forward") : NULL;
  check_sound(&session, graph, "a model elsewhere that imports shipped ones");
  session_close(&session);
}

// Every model with an encoder takes its features from the last block but one, in each of its layouts of
// weights.
static void test_feature(void) {
  static const struct {
    const char *model, *define, *last, *beyond;
  } rows[] = {
      {"vit", "feature=-2", "blocks.2.", "blocks.3."},
      {"siglip", "feature=-2", "blocks.2.", "blocks.3."},
      {"clip", "vision.feature=-2", "vision.blocks.2.", "vision.blocks.3."},
      {"vlm", "vision.feature=-2", "vision.blocks.2.", "vision.blocks.3."},
      {"llava", "vision.feature=-2", "vision.blocks.1.", "vision.blocks.2."}, // of 3 blocks
      {"nanovlm", "vision.feature=-2", "vision.blocks.2.", "vision.blocks.3."},
      {"minimind2v", "vision.feature=-2", "vision.blocks.2.", "vision.blocks.3."},
      {"minimind3v", "vision.feature=-2", "vision.blocks.2.", "vision.blocks.3."},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    Session session;
    char path[100];
    snprintf(path, sizeof path, "models/%s.vlm", rows[i].model);
    bool good = session_open(&session, path, "tiny", &rows[i].define, 1);
    Graph *graph = good ? model_graph(session.model, "forward") : NULL;
    WeightMaps maps;
    CHECK(graph && model_weights(session.model, &maps), "%s: %s", path, session_said(&session));
    if (graph)
      CHECK(parameter_count(graph, rows[i].last, false) && !parameter_count(graph, rows[i].beyond, false),
            "%s", path);
    session_close(&session);
  }
}

// An error inside of the library is shown with the call that led there.
static void test_library_error(void) {
  Session session;
  bool good =
      session_open_text(&session, "import nn\nmodel M() { forward(x[B, T, 12]) = a: nn.Attention(5)(x) }");
  CHECK(good && !model_graph(session.model, "forward"), "taken");
  CHECK(strstr(session_said(&session), "stdlib/nn.vlm:") &&
            strstr(session_said(&session), ":2:39: note: in this call of `Attention`"),
        "%s", session_said(&session));
  session_close(&session);
}

// Elaborating the whole training graph of GPT-2 is a matter of milliseconds.
static void test_cost(void) {
  Session session;
  bool good = session_open(&session, "models/gpt.vlm", NULL, NULL, 0);
  CHECK(good, "%s", session_said(&session));
  clock_t start = clock();
  Graph *graph = good ? model_graph(session.model, "loss") : NULL;
  double milliseconds = (double)(clock() - start) * 1000 / CLOCKS_PER_SEC;
  CHECK(graph && graph->count < 3000, "%zu nodes", graph ? graph->count : 0);
  CHECK(milliseconds < 300, "%.1f ms of CPU time",
        milliseconds); // some 2 ms; sanitizers take many times that
  session_close(&session);
}

int main(void) {
  test_models();
  test_parameters();
  test_sizes();
  test_published_sizes();
  test_stages();
  test_selectors();
  test_recipe();
  test_template_preset();
  test_system_preset();
  test_preprocess_word();
  test_defines();
  test_feature();
  test_library_error();
  test_cost();
  return check_finish();
}
