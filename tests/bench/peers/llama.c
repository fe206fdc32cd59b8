// llama.cpp as a side of a comparison (side.h). Input: decode|prefill|vit MODEL.gguf THREADS [MMPROJ.gguf]; a step is,
// of decode, one further token, each line beginning anew behind the same 64; of prefill, a prompt of 512 tokens; of vit,
// a picture of 224 x 224 encoded.
#include "../side.h"

#include "llama.h"
#include "mtmd.h"

#include <string.h>

enum { DECODED_BEFORE = 64, PROMPT = 512, SIDE = 224 };

typedef struct Running {
  struct llama_context *context;
  mtmd_context *vision;
  const mtmd_input_chunk *picture;
  llama_token tokens[PROMPT];
} Running;

static void silent(enum ggml_log_level level, const char *text, void *context) {
  (void)context;
  if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static bool eat(Running *running, int count) {
  struct llama_batch batch = llama_batch_get_one(running->tokens, count);
  return !llama_decode(running->context, batch) && llama_get_logits_ith(running->context, -1);
}

static void forget(Running *running) { llama_memory_clear(llama_get_memory(running->context), true); }

static bool begin_decode(void *context) {
  forget(context);
  return eat(context, DECODED_BEFORE);
}

static bool decode(void *context) { return eat(context, 1); }

static bool prefill(void *context) {
  forget(context);
  return eat(context, PROMPT);
}

static bool encode(void *context) {
  Running *running = context;
  return !mtmd_encode_chunk(running->vision, running->picture) && mtmd_get_output_embd(running->vision);
}

// NULL where it can not be had.
static const mtmd_input_chunk *open_picture(Running *running) {
  static unsigned char pixels[SIDE * SIDE * 3];
  uint32_t state = 1;
  for (size_t i = 0; i < sizeof pixels; i++)
    pixels[i] = (unsigned char)((state = state * 1664525u + 1013904223u) >> 24);
  const mtmd_bitmap *bitmap = mtmd_bitmap_init(SIDE, SIDE, pixels);
  struct mtmd_input_part part = {.bitmap = bitmap};
  const struct mtmd_input_part *parts[] = {&part};
  mtmd_input_chunks *chunks = mtmd_input_chunks_init();
  if (mtmd_tokenize_from_parts(running->vision, chunks, parts, 1, false)) return NULL;
  for (size_t i = 0; i < mtmd_input_chunks_size(chunks); i++) {
    const mtmd_input_chunk *chunk = mtmd_input_chunks_get(chunks, i);
    if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE) return chunk;
  }
  return NULL;
}

static int serve_vision(Running *running, struct llama_model *model, const char *file, int threads) {
  struct mtmd_context_params parameters = mtmd_context_params_default();
  parameters.use_gpu = false, parameters.n_threads = threads, parameters.print_timings = false;
  running->vision = mtmd_init_from_file(file, model, parameters);
  running->picture = running->vision ? open_picture(running) : NULL;
  return running->picture ? side_serve(NULL, encode, running)
                          : side_absent("llama.cpp does not take the vision encoder");
}

int main(int count, char **words) {
  if (count < 4)
    return fprintf(stderr, "usage: llama decode|prefill|vit MODEL.gguf THREADS [MMPROJ.gguf]\n"), 1;
  static Running running;
  int threads = atoi(words[3]);
  llama_log_set(silent, NULL);
  mtmd_log_set(silent, NULL);
  ggml_backend_load_all();
  struct llama_model_params of_model = llama_model_default_params();
  of_model.n_gpu_layers = 0;
  struct llama_model *model = llama_model_load_from_file(words[2], of_model);
  if (!model) return side_absent("llama.cpp does not read the model");
  if (!strcmp(words[1], "vit") && count == 5) return serve_vision(&running, model, words[4], threads);
  struct llama_context_params parameters = llama_context_default_params();
  parameters.n_ctx = 1024, parameters.n_batch = parameters.n_ubatch = PROMPT;
  parameters.n_threads = parameters.n_threads_batch = threads;
  running.context = llama_init_from_model(model, parameters);
  if (!running.context) return side_absent("llama.cpp makes no context");
  for (int i = 0; i < PROMPT; i++) running.tokens[i] = 1 + i * 7 % 499;
  if (!strcmp(words[1], "prefill")) return side_serve(NULL, prefill, &running);
  return side_serve(begin_decode, decode, &running);
}
