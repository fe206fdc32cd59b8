// Fuzz target: any bytes as lines of a data set, parsed and turned into ids by a template.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/conversation.h"

static void check_sample(const Conversation *conversation, const Row *row, size_t length, Arena *arena) {
  Sample sample;
  Failure failure;
  if (!conversation_encode(conversation, row, "fuzzed", length, arena, &sample, &failure)) return;
  if (sample.count > length) abort();
  if (sample.count && sample.supervised[sample.count - 1]) abort();
  if (row->image_count != 1) return;
  for (size_t i = 0; i < sample.count; i++) // no picture is cut: its last token is there
    if (sample.ids[i] == 1 && i + 1 == sample.count && (i < 2 || sample.ids[i - 2] != 1)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char *const specials[] = {"<|end|>", "<image>"};
  static const Template form = {.system = "{system}\n",
                                .turn = "<image>\n{prompt}: {answer}<|end|>\n",
                                .caption = "<image>{answer}<|end|>",
                                .image_token = "<image>",
                                .image_tokens = 3,
                                .ends = specials,
                                .end_count = 1,
                                .specials = specials,
                                .special_count = 2};
  Arena *arena = arena_new();
  Failure failure;
  Tokenizer *tokenizer;
  Conversation *conversation;
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  if (!tokenizer_trainer_finish(trainer, 258, specials, 2, &tokenizer, &failure) ||
      !conversation_new(arena, tokenizer, &form, &conversation, &failure))
    abort();
  const char *text = (const char *)bytes, *end = text + size;
  for (const char *stop; text < end; text = stop + 1) {
    stop = memchr(text, '\n', (size_t)(end - text));
    if (!stop) stop = end;
    Row row;
    if (!dataset_parse(text, (size_t)(stop - text), "fuzzed", arena, &row, &failure)) continue;
    if (!!row.caption + !!row.text + !!row.turn_count != 1) abort();
    check_sample(conversation, &row, 8, arena);
    check_sample(conversation, &row, 1000, arena);
  }
  tokenizer_trainer_free(trainer);
  tokenizer_free(tokenizer);
  arena_free(arena);
  return 0;
}
