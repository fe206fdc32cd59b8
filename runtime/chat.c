// Prompts -> answers, streamed.
#include "runtime/chat.h"

#include "runtime/base/clock.h"
#include "runtime/conversation.h"
#include "runtime/picture.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { MAX_TURNS = 256 };

typedef struct Chat {
  const ChatOptions *options;
  Arena *arena;
  Conversation *conversation; // NULL: texts are gone on with as they stand
  Sampler sampler;
  Turn turns[MAX_TURNS];
  int turn_count;
  float *pictures;      // [N, C, H, W]; zeros where there is none
  int shown, new_shown; // pictures of the conversation; those of them that the next question is about
  Ids seen;             // ids that the key/value cache holds
} Chat;

static void forget(Chat *chat) {
  int64_t elements = generator_feed(chat->options->generator)->picture_elements;
  memset(chat->pictures, 0, (size_t)elements * sizeof *chat->pictures);
  chat->turn_count = chat->shown = chat->new_shown = 0;
  chat->seen.count = 0;
}

// The next question will be about one more picture. Where the model can not look at one more, the
// conversation starts anew with it.
static bool load_picture(Chat *chat, const char *path, Failure *failure) {
  const Preprocess *preprocess = chat->options->preprocess;
  const Feed *feed = generator_feed(chat->options->generator);
  Picture picture = {0};
  if (!preprocess || !feed->picture) return fail(failure, "this model does not look at pictures");
  size_t size = (size_t)preprocess->width * (size_t)preprocess->height * (size_t)preprocess->channels;
  if (size * (size_t)feed->picture_count != (size_t)feed->picture_elements)
    return fail(failure, "the model's input `%s` has another size than `preprocess` gives pictures",
                feed->picture);
  uint8_t *bytes = malloc(size);
  bool good = bytes || fail(failure, "out of memory for a picture");
  good = good && picture_read(path, &picture, failure) &&
         picture_prepare(&picture, preprocess, path, bytes, failure);
  if (good && chat->shown == feed->picture_count) {
    fprintf(chat->options->messages, "[the model looks at %d at most: the conversation starts anew]\n",
            feed->picture_count);
    forget(chat);
  }
  if (good) {
    picture_normalise(preprocess, bytes, NULL, chat->pictures + size * (size_t)chat->shown);
    chat->shown++, chat->new_shown++;
    chat->seen.count = 0; // what was computed did not see it
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
      goes_on
          ? generator_decode(generator, (int64_t)(prompt->count - held), prompt->list + held, failure)
          : generator_prefill(generator, 1, (int64_t)prompt->count, prompt->list, chat->pictures, failure);
  chat->seen.count = 0;
  for (size_t i = 0; good && i < prompt->count; i++) ids_add(&chat->seen, prompt->list[i]);
  return good;
}

typedef struct Timing {
  double asked, first, end;
  int64_t tokens;
} Timing;

// Prints what has come since the answer had `before` bytes; not the blanks that the template has before it.
static void print_new(const Chat *chat, const Text *answer, size_t before) {
  const char *all = text_string(answer);
  size_t blanks = chat->conversation ? conversation_blanks(chat->conversation, all) : 0;
  fputs(all + (before > blanks ? before : blanks), chat->options->out);
  fflush(chat->options->out);
}

// Is the answer complete with this token? A plain text ends where its tokenizer begins or ends one, or names an end.
static bool ends(const Chat *chat, int32_t id) {
  const Tokenizer *tokenizer = chat->options->tokenizer;
  const int32_t *before, *after;
  if (chat->conversation) return conversation_ends(chat->conversation, id);
  size_t before_count = tokenizer_before(tokenizer, &before),
         after_count = tokenizer_after(tokenizer, &after);
  for (size_t i = 0; i < before_count; i++)
    if (before[i] == id) return true;
  for (size_t i = 0; i < after_count; i++)
    if (after[i] == id) return true;
  return id == tokenizer_end(tokenizer);
}

// One token after the other until an end token, the limit, the cache's end or a signal.
static bool stream_answer(Chat *chat, Text *answer, Timing *timing, Failure *failure) {
  const ChatOptions *options = chat->options;
  int32_t vocabulary = generator_vocabulary(options->generator);
  Decoder decoder = {0};
  while (timing->tokens < options->max_tokens && !(options->stop && *options->stop != CHAT_ANSWERING)) {
    int32_t id = sampler_next(&chat->sampler, generator_logits(options->generator), vocabulary);
    if (!timing->tokens++) timing->first = clock_now();
    if (ends(chat, id) || id >= tokenizer_count(options->tokenizer)) break;
    size_t before = answer->length;
    tokenizer_decode(options->tokenizer, &decoder, id, false, answer);
    print_new(chat, answer, before);
    if (!generator_room(options->generator)) break;
    if (!generator_decode(options->generator, 1, &id, failure)) return false;
    ids_add(&chat->seen, id);
  }
  size_t before = answer->length;
  tokenizer_decode_end(&decoder, answer);
  print_new(chat, answer, before);
  fputc('\n', options->out);
  fflush(options->out);
  timing->end = clock_now();
  if (!timing->tokens) timing->first = timing->end;
  return true;
}

// What comes after `prompt`, streamed and, without the template's blanks, in *given (the arena's).
static bool answer_prompt(Chat *chat, const Ids *prompt, const char **given, Failure *failure) {
  Text answer = {0};
  Timing timing = {.asked = clock_now()};
  volatile sig_atomic_t *stop = chat->options->stop;
  if (stop) *stop = CHAT_ANSWERING;
  bool good = feed_prompt(chat, prompt, failure) && stream_answer(chat, &answer, &timing, failure);
  if (stop && *stop == CHAT_ANSWERING) *stop = 0;
  if (good) {
    double rate = timing.tokens > 1 ? (double)(timing.tokens - 1) / (timing.end - timing.first) : 0;
    if (chat->conversation)
      *given = conversation_answer(chat->conversation, text_string(&answer), chat->arena);
    fprintf(chat->options->messages,
            "[%zu prompt tokens, first token after %.0f ms, %" PRId64 " tokens, %.0f tokens/s]\n",
            prompt->count, 1e3 * (timing.first - timing.asked), timing.tokens, rate);
  }
  text_free(&answer);
  return good;
}

// Goes on with a text; nothing of it is remembered.
static bool go_on(Chat *chat, const char *text, Failure *failure) {
  Ids prompt = {0};
  const int32_t *before;
  const char *given;
  size_t count = tokenizer_before(chat->options->tokenizer, &before);
  for (size_t i = 0; i < count; i++) ids_add(&prompt, before[i]);
  tokenizer_encode(chat->options->tokenizer, text, strlen(text), false, &prompt);
  bool good = prompt.count ? answer_prompt(chat, &prompt, &given, failure)
                           : fail(failure, "there is no text to go on with");
  ids_free(&prompt);
  return good;
}

// Where an ordinary token stands for pictures ("@" of minimind-v's first generation), a question that holds it would show
// the model a piece of a picture.
static bool check_marks(const Chat *chat, const char *question, Failure *failure) {
  const Tokenizer *tokenizer = chat->options->tokenizer;
  int32_t mark = conversation_image(chat->conversation);
  bool good = true;
  Ids ids = {0};
  tokenizer_encode(tokenizer, question, strlen(question), false, &ids);
  for (size_t i = 0; good && i < ids.count; i++)
    if (ids.list[i] == mark) {
      size_t length;
      const char *text = tokenizer_bytes(tokenizer, mark, &length);
      good = fail(failure, "the question holds \"%.*s\", which stands for a picture in this model's texts",
                  (int)length, text);
    }
  ids_free(&ids);
  return good;
}

static bool ask(Chat *chat, const char *question, Failure *failure) {
  Ids prompt = {0};
  if (!chat->conversation) return go_on(chat, question, failure);
  if (!*question) return fail(failure, "the prompt is empty");
  if (!conversation_has_turns(chat->conversation))
    return fail(failure, "this model's template has captions, but no turns: it can not be asked");
  if (!check_marks(chat, question, failure)) return false;
  if (chat->turn_count == MAX_TURNS)
    return fail(failure, "the conversation has %d turns; /clear starts anew", MAX_TURNS);
  Turn *turn = &chat->turns[chat->turn_count++];
  *turn = (Turn){arena_copy(chat->arena, question, strlen(question)), "", chat->new_shown};
  conversation_prompt(chat->conversation, chat->options->system, chat->turns, chat->turn_count, &prompt);
  bool good = answer_prompt(chat, &prompt, &turn->answer, failure);
  if (good) {
    chat->new_shown = 0;
  } else { // as if it had not been asked
    chat->turn_count--;
    chat->seen.count = 0;
  }
  ids_free(&prompt);
  return good;
}

// Says what it sees in the last picture alone.
static bool caption(Chat *chat, Failure *failure) {
  Ids prompt = {0};
  const char *given;
  conversation_caption_prompt(chat->conversation, &prompt);
  bool good = prompt.count ? answer_prompt(chat, &prompt, &given, failure)
                           : fail(failure, "the template's caption begins with {answer}: there is nothing to "
                                           "go on from");
  forget(chat);
  ids_free(&prompt);
  return good;
}

// ---- the conversation ---------------------------------------------------------------------------

static const char help[] = "/image FILE  look at a picture (one more, where the model can)\n"
                           "/clear       forget the conversation and its pictures\n"
                           "/exit        end (so does the end of input)\n";

// False: the conversation ends.
static bool command(Chat *chat, char *line) {
  FILE *messages = chat->options->messages;
  Failure failure;
  if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) return false;
  if (!chat->conversation) {
    fputs("/exit        end; all else is text to go on with\n", messages);
  } else if (!strcmp(line, "/clear"))
    forget(chat);
  else if (!strncmp(line, "/image ", 7)) {
    if (!load_picture(chat, line + 7, &failure) ||
        (!conversation_has_turns(chat->conversation) && !caption(chat, &failure)))
      fprintf(messages, "%s\n", failure.message);
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
    if (*line == '/')
      more = command(chat, line);
    else if (*line && !ask(chat, line, failure)) {
      if (failure->internal) break;
      fprintf(options->messages, "vlmc: error: %s\n", failure->message);
      failure->message[0] = 0;
    }
    if (options->stop) *options->stop = 0; // who ends an answer does not end the conversation
  }
  free(line);
  return !failure->internal;
}

static bool begin(Chat *chat, Failure *failure) {
  const ChatOptions *options = chat->options;
  if (!options->form)
    return (!options->system && !options->image_count) ||
           fail(failure, "a text that is gone on with as it stands has no pictures and no --system");
  bool good = conversation_new(chat->arena, options->tokenizer, options->form, &chat->conversation, failure);
  if (good && options->system && !conversation_takes_system(chat->conversation))
    good = fail(failure, "the model's template has no `system`: it has no place for such a text");
  for (int i = 0; good && i < options->image_count; i++) {
    good = load_picture(chat, options->images[i], failure);
    if (good && !conversation_has_turns(chat->conversation)) good = caption(chat, failure);
  }
  return good;
}

bool chat_run(const ChatOptions *options, Failure *failure) {
  Chat *chat = calloc(1, sizeof *chat);
  if (!chat) return fail(failure, "out of memory");
  *failure = (Failure){0};
  chat->options = options;
  chat->arena = arena_new();
  chat->sampler = options->sampler;
  chat->pictures =
      calloc((size_t)generator_feed(options->generator)->picture_elements + 1, sizeof *chat->pictures);
  bool good = chat->pictures || fail(failure, "out of memory for pictures");
  good = good && begin(chat, failure);
  if (good) good = options->prompt ? ask(chat, options->prompt, failure) : converse(chat, failure);
  ids_free(&chat->seen);
  free(chat->pictures);
  arena_free(chat->arena);
  free(chat);
  return good;
}
