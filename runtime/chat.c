// Prompts -> answers, streamed.
#include "runtime/chat.h"

#include "runtime/conversation.h"
#include "runtime/picture.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TURNS = 256 };

typedef struct Chat {
  const ChatOptions *options;
  Arena *arena;
  Conversation *conversation;
  Sampler sampler;
  Turn turns[MAX_TURNS];
  int turn_count;
  float *picture; // [C, H, W]; zeros without one
  bool has_picture;
  Ids seen; // ids that the key/value cache holds
} Chat;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void forget(Chat *chat) {
  chat->turn_count = 0;
  chat->seen.count = 0;
}

static bool load_picture(Chat *chat, const char *path, Failure *failure) {
  const Preprocess *preprocess = chat->options->preprocess;
  Picture picture = {0};
  if (!preprocess || !generator_feed(chat->options->generator)->picture)
    return fail(failure, "this model does not look at pictures");
  uint8_t *bytes =
      malloc((size_t)preprocess->width * (size_t)preprocess->height * (size_t)preprocess->channels);
  bool good = bytes || fail(failure, "out of memory for a picture");
  good = good && picture_read(path, &picture, failure) &&
         picture_prepare(&picture, preprocess, path, bytes, failure);
  if (good) {
    picture_normalise(preprocess, bytes, NULL, chat->picture);
    chat->has_picture = true;
    forget(chat);
  }
  picture_free(&picture);
  free(bytes);
  return good;
}

// Brings the cache to the prompt: what is new is decoded where the prompt goes on from what the cache holds,
// else all is computed anew.
static bool feed_prompt(Chat *chat, const Ids *prompt, Failure *failure) {
  Generator *generator = chat->options->generator;
  size_t held = chat->seen.count;
  bool goes_on =
      held && held < prompt->count && !memcmp(prompt->list, chat->seen.list, held * sizeof *prompt->list);
  bool good =
      goes_on ? generator_decode(generator, (int64_t)(prompt->count - held), prompt->list + held, failure)
              : generator_prefill(generator, 1, (int64_t)prompt->count, prompt->list, chat->picture, failure);
  chat->seen.count = 0;
  for (size_t i = 0; good && i < prompt->count; i++) ids_add(&chat->seen, prompt->list[i]);
  return good;
}

typedef struct Timing {
  double asked, first, end;
  int64_t tokens;
} Timing;

// One token after the other until the end token, the limit, the cache's end or a signal.
static bool stream_answer(Chat *chat, Text *answer, Timing *timing, Failure *failure) {
  const ChatOptions *options = chat->options;
  int32_t vocabulary = generator_vocabulary(options->generator), end = conversation_end(chat->conversation);
  Decoder decoder = {0};
  while (timing->tokens < options->max_tokens && !(options->stop && *options->stop)) {
    int32_t id = sampler_next(&chat->sampler, generator_logits(options->generator), vocabulary);
    if (!timing->tokens++) timing->first = now();
    if (id == end || id >= tokenizer_count(options->tokenizer)) break;
    size_t before = answer->length;
    tokenizer_decode(options->tokenizer, &decoder, id, false, answer);
    fputs(text_string(answer) + (answer->length > before ? before : answer->length), options->out);
    fflush(options->out);
    if (!generator_room(options->generator)) break;
    if (!generator_decode(options->generator, 1, &id, failure)) return false;
    ids_add(&chat->seen, id);
  }
  size_t before = answer->length;
  tokenizer_decode_end(&decoder, answer);
  if (answer->length > before) fputs(text_string(answer) + before, options->out);
  fputc('\n', options->out);
  fflush(options->out);
  timing->end = now();
  return true;
}

static bool ask(Chat *chat, const char *question, Failure *failure) {
  const ChatOptions *options = chat->options;
  Ids prompt = {0};
  Text answer = {0};
  Timing timing = {.asked = now()};
  if (chat->turn_count == MAX_TURNS)
    return fail(failure, "the conversation has %d turns; /clear starts anew", MAX_TURNS);
  chat->turns[chat->turn_count++] = (Turn){arena_copy(chat->arena, question, strlen(question)), ""};
  conversation_prompt(chat->conversation, chat->turns, chat->turn_count, chat->has_picture, &prompt);
  bool good = feed_prompt(chat, &prompt, failure) && stream_answer(chat, &answer, &timing, failure);
  if (good) {
    double rate = timing.tokens > 1 ? (double)(timing.tokens - 1) / (timing.end - timing.first) : 0;
    chat->turns[chat->turn_count - 1].answer = arena_copy(chat->arena, text_string(&answer), answer.length);
    fprintf(options->messages,
            "[%zu prompt tokens, first token after %.0f ms, %" PRId64 " tokens, %.0f tokens/s]\n",
            prompt.count, 1e3 * (timing.first - timing.asked), timing.tokens, rate);
  } else {
    forget(chat);
  }
  text_free(&answer);
  ids_free(&prompt);
  return good;
}

// ---- the conversation ---------------------------------------------------------------------------

static const char help[] = "/image FILE  look at another picture, and start anew\n"
                           "/clear       forget the conversation\n"
                           "/exit        end (so does the end of input)\n";

// False: the conversation ends.
static bool command(Chat *chat, char *line) {
  FILE *messages = chat->options->messages;
  Failure failure;
  if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) return false;
  if (!strcmp(line, "/clear"))
    forget(chat);
  else if (!strncmp(line, "/image ", 7)) {
    if (!load_picture(chat, line + 7, &failure)) fprintf(messages, "%s\n", failure.message);
  } else
    fputs(help, messages);
  return true;
}

static bool converse(Chat *chat, Failure *failure) {
  const ChatOptions *options = chat->options;
  bool terminal = isatty(fileno(options->in)), more = true;
  char *line = NULL;
  size_t capacity = 0;
  if (terminal) fprintf(options->messages, "%s", help);
  while (more) {
    if (terminal) fputs("> ", options->messages), fflush(options->messages);
    ssize_t length = getline(&line, &capacity, options->in);
    if (length < 0) break;
    while (length && isspace((unsigned char)line[length - 1])) line[--length] = 0;
    if (options->stop) *options->stop = 0;
    if (*line == '/')
      more = command(chat, line);
    else if (*line && !ask(chat, line, failure)) {
      if (failure->internal) break;
      fprintf(options->messages, "vlmc: error: %s\n", failure->message);
      failure->message[0] = 0;
    }
  }
  free(line);
  return !failure->internal;
}

bool chat_run(const ChatOptions *options, Failure *failure) {
  Chat *chat = calloc(1, sizeof *chat);
  if (!chat) return fail(failure, "out of memory");
  *failure = (Failure){0};
  chat->options = options;
  chat->arena = arena_new();
  chat->sampler = options->sampler;
  chat->picture =
      calloc((size_t)generator_feed(options->generator)->picture_elements + 1, sizeof *chat->picture);
  bool good = chat->picture || fail(failure, "out of memory for a picture");
  good =
      good && conversation_new(chat->arena, options->tokenizer, options->form, &chat->conversation, failure);
  if (good && options->image) good = load_picture(chat, options->image, failure);
  if (good) good = options->prompt ? ask(chat, options->prompt, failure) : converse(chat, failure);
  ids_free(&chat->seen);
  free(chat->picture);
  arena_free(chat->arena);
  free(chat);
  return good;
}
