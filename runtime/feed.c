// Data inputs of a program by their type.
#include "runtime/feed.h"

#include <string.h>

static bool is_symbol(const Buffer *buffer, int axis, Symbol symbol) {
  return buffer->extents[axis].symbol == (int)symbol && buffer->extents[axis].scale == 1 &&
         !buffer->extents[axis].offset;
}

static bool claim(const char **slot, const Buffer *buffer, const char *what, Failure *failure) {
  if (*slot)
    return fail(failure, "the model takes two inputs of %s, `%s` and `%s`; it can be fed only one", what,
                *slot, buffer->name);
  *slot = buffer->name;
  return true;
}

static bool find_input(const Buffer *buffer, Feed *feed, Failure *failure) {
  bool by_time = buffer->rank == 2 && is_symbol(buffer, 0, SYMBOL_BATCH) && is_symbol(buffer, 1, SYMBOL_TIME);
  if (by_time && buffer->dtype == DTYPE_I32)
    return claim(&feed->ids, buffer, "token ids, i32[B, T]", failure);
  if (by_time && buffer->dtype == DTYPE_F32)
    return claim(&feed->weight, buffer, "loss weights, f32[B, T]", failure);
  bool pictures = buffer->rank == 4 || buffer->rank == 5;
  if (pictures && is_symbol(buffer, 0, SYMBOL_BATCH) && buffer->dtype == DTYPE_F32) {
    feed->picture_elements = 1;
    for (int i = 1; i < buffer->rank; i++) {
      if (!extent_is_constant(buffer->extents[i]))
        return fail(failure, "the picture input `%s` needs fixed sizes", buffer->name);
      feed->picture_elements *= buffer->extents[i].offset;
    }
    feed->picture_count = buffer->rank == 5 ? (int)buffer->extents[1].offset : 1;
    return claim(&feed->picture, buffer, "pictures, f32[B, C, H, W]", failure);
  }
  return fail(failure,
              "the model's input `%s` (%s) is neither token ids, i32[B, T], nor loss weights, f32[B, T], nor "
              "pictures, f32[B, C, H, W] or f32[B, N, C, H, W]",
              buffer->name, buffer->origin ? buffer->origin : "");
}

bool feed_find(const Program *program, Feed *feed, Failure *failure) {
  *feed = (Feed){0};
  for (int i = 0; i < program->buffer_count; i++)
    if (program->buffers[i].role == ROLE_DATA && strncmp(program->buffers[i].name, "feature:", 8) &&
        !find_input(&program->buffers[i], feed, failure))
      return false;
  return true;
}

bool feed_tokens(Session *session, const Tokenizer *tokenizer, Failure *failure) {
  const Program *program = session_program(session);
  for (int i = 0; i < program->buffer_count; i++) {
    const Buffer *buffer = &program->buffers[i];
    if (buffer->role != ROLE_SCALAR || strncmp(buffer->name, "token:", 6)) continue;
    int32_t id = conversation_token(tokenizer, buffer->name + 6);
    if (id < 0)
      return fail(failure, "the model speaks of the token `%s`, which its tokenizer does not have",
                  buffer->name + 6);
    if (!session_set_scalar(session, buffer->name, id, failure)) return false;
  }
  return true;
}

bool feed_batch(Session *session, const Feed *feed, const Batch *batch, Failure *failure) {
  size_t positions = (size_t)batch->rows * (size_t)batch->length;
  if (!session_resize(session, batch->rows, batch->length, 0, failure)) return false;
  if (feed->ids && !session_set(session, feed->ids, batch->ids, positions * sizeof *batch->ids, failure))
    return false;
  if (feed->weight &&
      !session_set(session, feed->weight, batch->weight, positions * sizeof *batch->weight, failure))
    return false;
  size_t pixels = (size_t)batch->rows * (size_t)feed->picture_elements;
  return !feed->picture ||
         session_set(session, feed->picture, batch->picture, pixels * sizeof *batch->picture, failure);
}
