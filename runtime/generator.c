// Prefill and decode over one static cache.
#include "runtime/generator.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct Generator {
  Session *prefill, *decode;
  Feed feed, decode_feed;
  int64_t capacity, past, batch;
  int32_t vocabulary;
  float *logits; // [batch, vocabulary]
  size_t room;   // bytes
};

// The result is [B, vocabulary], perhaps with an axis of one position between.
static bool find_vocabulary(const Program *program, int32_t *vocabulary, Failure *failure) {
  int at = program_find(program, "result");
  const Buffer *buffer = at < 0 ? NULL : &program->buffers[at];
  if (!buffer || buffer->rank < 2 || !extent_is_constant(buffer->extents[buffer->rank - 1]) ||
      buffer->dtype != DTYPE_F32)
    return fail(failure,
                "the model's `forward` does not give logits [B, T, vocabulary]: it can not generate text");
  *vocabulary = (int32_t)buffer->extents[buffer->rank - 1].offset;
  return true;
}

bool generator_open(const Program *prefill, const Program *decode, TensorStore *store,
                    const Tokenizer *tokenizer, int64_t capacity, Generator **out, Failure *failure) {
  Generator *generator = calloc(1, sizeof *generator);
  *out = NULL;
  if (!generator) return fail(failure, "out of memory");
  generator->capacity = capacity;
  bool good = feed_find(prefill, &generator->feed, failure) &&
              feed_find(decode, &generator->decode_feed, failure) &&
              find_vocabulary(prefill, &generator->vocabulary, failure);
  if (good && !generator->feed.ids) good = fail(failure, "the model reads no text: it can not generate any");
  if (good && tokenizer_count(tokenizer) > generator->vocabulary)
    good = fail(failure, "the tokenizer has %d tokens, the model's vocabulary %d", tokenizer_count(tokenizer),
                generator->vocabulary);
  if (good) good = (generator->prefill = session_open(prefill, store, failure)) != NULL;
  if (good) good = (generator->decode = session_open(decode, store, failure)) != NULL;
  good = good && feed_tokens(generator->prefill, tokenizer, failure) &&
         feed_tokens(generator->decode, tokenizer, failure);
  if (good)
    *out = generator;
  else
    generator_close(generator);
  return good;
}

void generator_close(Generator *generator) {
  if (!generator) return;
  session_close(generator->prefill);
  session_close(generator->decode);
  free(generator->logits);
  free(generator);
}

int32_t generator_vocabulary(const Generator *generator) { return generator->vocabulary; }
int64_t generator_room(const Generator *generator) { return generator->capacity - generator->past; }
const Feed *generator_feed(const Generator *generator) { return &generator->feed; }
Session *generator_session(const Generator *generator, bool decode) {
  return decode ? generator->decode : generator->prefill;
}
const float *generator_logits(const Generator *generator) { return generator->logits; }

static bool run(Generator *generator, Session *session, const Feed *feed, int64_t count, const int32_t *ids,
                const float *picture, Failure *failure) {
  int64_t batch = generator->batch;
  size_t bytes = (size_t)batch * (size_t)generator->vocabulary * sizeof(float);
  if (generator->past + count > generator->capacity)
    return fail(failure,
                "the model has room for %" PRId64 " positions (pictures count too), %" PRId64 " are needed",
                generator->capacity, generator->past + count);
  if (bytes > generator->room) {
    free(generator->logits);
    generator->logits = malloc(bytes);
    generator->room = generator->logits ? bytes : 0;
    if (!generator->logits) return fail(failure, "out of memory for %zu bytes of logits", bytes);
  }
  if (!session_resize(session, batch, count, generator->past, failure)) return false;
  if (!session_set(session, feed->ids, ids, (size_t)(batch * count) * sizeof *ids, failure)) return false;
  size_t pixels = (size_t)(batch * feed->picture_elements) * sizeof *picture;
  if (feed->picture && !session_set(session, feed->picture, picture, pixels, failure)) return false;
  if (!session_run(session, failure)) return false;
  generator->past += count;
  return session_get(session, "result", generator->logits, bytes, failure);
}

bool generator_prefill(Generator *generator, int64_t batch, int64_t count, const int32_t *ids,
                       const float *picture, Failure *failure) {
  generator->batch = batch;
  generator->past = 0;
  // The cache grows to the batch before either session looks at it.
  if (!session_resize(generator->decode, batch, 1, 0, failure)) return false;
  return run(generator, generator->prefill, &generator->feed, count, ids, picture, failure);
}

bool generator_decode(Generator *generator, int64_t count, const int32_t *ids, Failure *failure) {
  return run(generator, generator->decode, &generator->decode_feed, count, ids, NULL, failure);
}
