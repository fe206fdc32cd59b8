// Data set + generator -> accuracy, by kind of question.
#include "runtime/evaluate.h"

#include "runtime/base/clock.h"
#include "runtime/conversation.h"
#include "runtime/files.h"
#include "runtime/guess.h"
#include "runtime/json.h"
#include "runtime/sheet.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH = 128, SHEET_CELLS = 40, SHEET_COLUMNS = 8, SHEET_SIDE = 112 };

typedef struct Question {
  Row row;
  const Turn *turn; // the last one
  size_t line;      // in the file
  Ids prompt;
  const char *given; // the model's answer; NULL: not asked (yet), or its picture is unreadable
  bool right, unreadable;
} Question;

typedef struct Evaluation {
  const EvaluateOptions *options;
  Arena *arena;
  Dataset *dataset;
  PictureFolder *folder;
  Conversation *conversation;
  Question *questions;
  size_t count, done;
  size_t *order; // by length of the prompt: those asked together must be equally long
  size_t picture_floats;
  float *pictures; // [BATCH, C, H, W]
  double shown;
} Evaluation;

// ---- reading ------------------------------------------------------------------------------------

static bool read_question(Evaluation *evaluation, size_t index, Question *question, Failure *failure) {
  if (!dataset_row(evaluation->dataset, index, evaluation->arena, &question->row, failure)) return false;
  question->line = dataset_line(evaluation->dataset, index);
  if (!question->row.turn_count)
    return fail(failure, "%s:%zu: a row to be scored has a prompt and an answer",
                dataset_path(evaluation->dataset), question->line);
  question->turn = &question->row.turns[question->row.turn_count - 1];
  const Row *row = &question->row;
  int most = generator_feed(evaluation->options->generator)->picture_count;
  if (most && row->image_count > (size_t)most)
    return fail(failure, "%s:%zu: the row shows %zu pictures, but the model looks at %d",
                dataset_path(evaluation->dataset), question->line, row->image_count, most);
  if (row->system && !conversation_takes_system(evaluation->conversation))
    return fail(failure, "%s:%zu: the row has a system's text, but the model's template has no place for it",
                dataset_path(evaluation->dataset), question->line);
  conversation_prompt(evaluation->conversation, row->system, row->turns, row->turn_count, &question->prompt);
  return true;
}

static int by_length(const void *left, const void *right, void *context) {
  const Question *questions = context;
  size_t a = *(const size_t *)left, b = *(const size_t *)right;
  size_t x = questions[a].prompt.count, y = questions[b].prompt.count;
  return x != y ? (x < y ? -1 : 1) : a < b ? -1 : 1;
}

static bool read_questions(Evaluation *evaluation, Failure *failure) {
  const EvaluateOptions *options = evaluation->options;
  const Feed *feed = generator_feed(options->generator);
  if (feed->picture && !options->preprocess)
    return fail(failure, "the model reads pictures, but no part of it has a `preprocess` block");
  if (!dataset_open(options->data, options->split, &evaluation->dataset, failure)) return false;
  if (!conversation_new(evaluation->arena, options->tokenizer, options->form, &evaluation->conversation,
                        failure))
    return false;
  evaluation->folder = picture_folder_open(options->data);
  evaluation->count = dataset_count(evaluation->dataset);
  if (options->limit && (size_t)options->limit < evaluation->count)
    evaluation->count = (size_t)options->limit;
  evaluation->questions = ARENA_ARRAY(evaluation->arena, Question, evaluation->count);
  evaluation->order = ARENA_ARRAY(evaluation->arena, size_t, evaluation->count);
  for (size_t i = 0; i < evaluation->count; i++) {
    evaluation->order[i] = i;
    if (!read_question(evaluation, i, &evaluation->questions[i], failure)) return false;
  }
  qsort_r(evaluation->order, evaluation->count, sizeof *evaluation->order, by_length, evaluation->questions);
  evaluation->picture_floats = feed->picture ? (size_t)feed->picture_elements : 0;
  evaluation->pictures = calloc(BATCH * evaluation->picture_floats + 1, sizeof *evaluation->pictures);
  return evaluation->pictures || fail(failure, "out of memory for %d pictures", BATCH);
}

static bool read_picture(Evaluation *evaluation, const char *image, float *out, Failure *failure) {
  const Preprocess *preprocess = evaluation->options->preprocess;
  Picture picture = {0};
  uint8_t *bytes =
      malloc((size_t)preprocess->width * (size_t)preprocess->height * (size_t)preprocess->channels);
  bool good = bytes || fail(failure, "out of memory for a picture");
  good = good && picture_folder_read(evaluation->folder, image, &picture, failure) &&
         picture_prepare(&picture, preprocess, image, bytes, failure);
  if (good) picture_normalise(preprocess, bytes, NULL, out);
  picture_free(&picture);
  free(bytes);
  return good;
}

static bool read_pictures(Evaluation *evaluation, const Question *question, float *out, Failure *failure) {
  int most = generator_feed(evaluation->options->generator)->picture_count;
  memset(out, 0, evaluation->picture_floats * sizeof *out);
  for (size_t i = 0; i < question->row.image_count; i++)
    if (!read_picture(evaluation, question->row.images[i],
                      out + i * (evaluation->picture_floats / (size_t)most), failure))
      return false;
  return true;
}

// ---- asking -------------------------------------------------------------------------------------

typedef struct Group {
  Question *questions[BATCH];
  int count;
  int32_t next[BATCH];
  bool ended[BATCH];
  Decoder decoders[BATCH];
  Text answers[BATCH];
} Group;

// The next questions with prompts of one length whose pictures can be read.
static bool gather(Evaluation *evaluation, Group *group) {
  Failure failure;
  group->count = 0;
  while (evaluation->done < evaluation->count && group->count < BATCH) {
    Question *question = &evaluation->questions[evaluation->order[evaluation->done]];
    if (group->count && question->prompt.count != group->questions[0]->prompt.count) break;
    evaluation->done++;
    if (evaluation->picture_floats &&
        !read_pictures(evaluation, question,
                       evaluation->pictures + (size_t)group->count * evaluation->picture_floats, &failure)) {
      question->unreadable = true;
      fprintf(stderr, "vlmc: warning: skipped: %s:%zu: %s\n", dataset_path(evaluation->dataset),
              question->line, failure.message);
      continue;
    }
    group->questions[group->count++] = question;
  }
  return group->count > 0;
}

static bool prefill(Evaluation *evaluation, Group *group, Failure *failure) {
  size_t length = group->questions[0]->prompt.count;
  int32_t *ids = malloc((size_t)group->count * length * sizeof *ids);
  if (!ids) return fail(failure, "out of memory for %d prompts", group->count);
  for (int i = 0; i < group->count; i++)
    memcpy(ids + (size_t)i * length, group->questions[i]->prompt.list, length * sizeof *ids);
  bool good = generator_prefill(evaluation->options->generator, group->count, (int64_t)length, ids,
                                evaluation->pictures, failure);
  free(ids);
  return good;
}

// Takes each answer's next token from the logits. False when all have ended.
static bool take_tokens(Evaluation *evaluation, Group *group) {
  const EvaluateOptions *options = evaluation->options;
  int32_t vocabulary = generator_vocabulary(options->generator);
  Sampler greedy = {0};
  bool more = false;
  for (int i = 0; i < group->count; i++) {
    int32_t id = sampler_next(&greedy, generator_logits(options->generator) + (size_t)i * (size_t)vocabulary,
                              vocabulary);
    bool unknown =
        id >= tokenizer_count(options->tokenizer); // room in the vocabulary that the tokenizer does not use
    group->ended[i] |= conversation_ends(evaluation->conversation, id) || unknown;
    group->next[i] = group->ended[i] ? conversation_padding(evaluation->conversation) : id;
    if (!group->ended[i])
      tokenizer_decode(options->tokenizer, &group->decoders[i], id, false, &group->answers[i]);
    more |= !group->ended[i];
  }
  return more;
}

static bool ask(Evaluation *evaluation, Group *group, Failure *failure) {
  const EvaluateOptions *options = evaluation->options;
  memset(group->ended, 0, sizeof group->ended);
  memset(group->decoders, 0, sizeof group->decoders);
  if (!prefill(evaluation, group, failure)) return false;
  for (int64_t i = 1;
       take_tokens(evaluation, group) && i < options->max_tokens && generator_room(options->generator) > 0;
       i++)
    if (!generator_decode(options->generator, 1, group->next, failure)) return false;
  for (int i = 0; i < group->count; i++) {
    Question *question = group->questions[i];
    tokenizer_decode_end(&group->decoders[i], &group->answers[i]);
    question->given =
        conversation_answer(evaluation->conversation, text_string(&group->answers[i]), evaluation->arena);
    question->right = !strcmp(question->given, question->turn->answer);
    text_free(&group->answers[i]);
  }
  return true;
}

static void show(Evaluation *evaluation, double started) {
  FILE *out = evaluation->options->progress;
  double time = clock_now();
  if (!out || time - evaluation->shown < (isatty(fileno(out)) ? 0.5 : 10)) return;
  evaluation->shown = time;
  fprintf(out, "%seval  %zu/%zu  %.0f answers/s%s", isatty(fileno(out)) ? "\r" : "", evaluation->done,
          evaluation->count, (double)evaluation->done / (time - started),
          isatty(fileno(out)) ? "\033[K" : "\n");
  fflush(out);
}

static bool ask_all(Evaluation *evaluation, Failure *failure) {
  const volatile sig_atomic_t *stop = evaluation->options->stop;
  double started = clock_now();
  Group *group = calloc(1, sizeof *group);
  bool good = group || fail(failure, "out of memory");
  while (good && !(stop && *stop) && gather(evaluation, group)) {
    good = ask(evaluation, group, failure);
    show(evaluation, started);
  }
  if (evaluation->options->progress && isatty(fileno(evaluation->options->progress)))
    fputs("\r\033[K", evaluation->options->progress);
  free(group);
  return good;
}

// ---- reporting ----------------------------------------------------------------------------------

typedef struct Score {
  const char *kind;
  int64_t right, rows, guessed;
} Score;

static Score *find_score(Arena *arena, Score **scores, size_t *count, size_t *capacity, const char *kind) {
  for (size_t i = 0; i < *count; i++)
    if (!strcmp((*scores)[i].kind, kind)) return &(*scores)[i];
  ARENA_PUSH(arena, *scores, *count, *capacity, ((Score){.kind = kind}));
  return &(*scores)[*count - 1];
}

static bool report_scores(Evaluation *evaluation, EvaluateResult *result, Text *report, Failure *failure) {
  const EvaluateOptions *options = evaluation->options;
  Score *scores = NULL;
  size_t count = 0, capacity = 0;
  Guesser *guesser = NULL;
  if (options->training && !guesser_open(options->data, options->training, &guesser, failure)) return false;
  for (size_t i = 0; i < evaluation->count; i++) {
    const Question *question = &evaluation->questions[i];
    result->skipped += question->unreadable;
    if (!question->given) continue;
    Score *score = find_score(evaluation->arena, &scores, &count, &capacity,
                              question->row.kind ? question->row.kind : "all");
    const char *guess = guesser ? guesser_answer(guesser, question->turn->prompt) : NULL;
    score->rows++, result->rows++;
    score->right += question->right, result->right += question->right;
    score->guessed += guess && !strcmp(guess, question->turn->answer);
  }
  for (size_t i = 0; i < count; i++) {
    text_print(report, "%-24s %6.2f %%  (%" PRId64 "/%" PRId64 ")", scores[i].kind,
               100.0 * (double)scores[i].right / (double)scores[i].rows, scores[i].right, scores[i].rows);
    if (guesser)
      text_print(report, "  picture-blind guesser %6.2f %%",
                 100.0 * (double)scores[i].guessed / (double)scores[i].rows);
    text_print(report, "\n");
  }
  guesser_close(guesser);
  return true;
}

static bool write_answers(const Evaluation *evaluation, Failure *failure) {
  Text text = {0};
  for (size_t i = 0; i < evaluation->count; i++) {
    const Question *question = &evaluation->questions[i];
    if (!question->given) continue;
    text_print(&text, "{\"line\": %zu, \"prompt\": ", question->line);
    json_quote(&text, question->turn->prompt);
    text_print(&text, ", \"answer\": ");
    json_quote(&text, question->turn->answer);
    text_print(&text, ", \"given\": ");
    json_quote(&text, question->given);
    text_print(&text, ", \"right\": %s}\n", question->right ? "true" : "false");
  }
  bool good = file_replace(evaluation->options->log, text_string(&text), text.length, failure);
  text_free(&text);
  return good;
}

// Questions about one picture share a cell.
static bool write_sheet(Evaluation *evaluation, const char *title, Failure *failure) {
  SheetCell cells[SHEET_CELLS] = {0};
  Picture pictures[SHEET_CELLS] = {0};
  const char *images[SHEET_CELLS];
  size_t count = 0;
  bool good = true;
  for (size_t i = 0; good && i < evaluation->count; i++) {
    const Question *question = &evaluation->questions[i];
    size_t at = 0;
    if (!question->given || !question->row.image_count) continue;
    while (at < count && strcmp(images[at], question->row.images[0])) at++;
    if (at == SHEET_CELLS) break;
    if (at == count) {
      images[count++] = question->row.images[0];
      good = picture_folder_read(evaluation->folder, question->row.images[0], &pictures[at], failure);
      cells[at].picture = &pictures[at];
    }
    SheetLine *lines = ARENA_ARRAY(evaluation->arena, SheetLine, cells[at].line_count + 2);
    if (cells[at].line_count) memcpy(lines, cells[at].lines, sizeof *lines * (size_t)cells[at].line_count);
    lines[cells[at].line_count++] = (SheetLine){question->turn->prompt, SHEET_PLAIN};
    lines[cells[at].line_count++] = (SheetLine){question->given, question->right ? SHEET_GOOD : SHEET_BAD};
    cells[at].lines = lines;
  }
  good = good &&
         sheet_write(evaluation->options->sheet, title, cells, count, SHEET_COLUMNS, SHEET_SIDE, failure);
  for (size_t i = 0; i < count; i++) picture_free(&pictures[i]);
  return good;
}

bool evaluate_run(const EvaluateOptions *options, EvaluateResult *result, Text *report, Failure *failure) {
  Evaluation evaluation = {.options = options, .arena = arena_new()};
  double started = clock_now();
  *result = (EvaluateResult){0};
  bool good = read_questions(&evaluation, failure) && ask_all(&evaluation, failure) &&
              report_scores(&evaluation, result, report, failure);
  result->seconds = clock_now() - started;
  if (good && result->skipped && !result->rows)
    good = fail(failure, "%s: no picture of its %" PRId64 " rows could be read",
                dataset_path(evaluation.dataset), result->skipped);
  if (good && options->log) good = write_answers(&evaluation, failure);
  if (good && options->sheet) {
    const char *title = arena_print(evaluation.arena, "%s: %" PRId64 " of %" PRId64 " answers right",
                                    options->split, result->right, result->rows);
    good = write_sheet(&evaluation, title, failure);
  }
  for (size_t i = 0; evaluation.questions && i < evaluation.count; i++)
    ids_free(&evaluation.questions[i].prompt);
  free(evaluation.pictures);
  picture_folder_close(evaluation.folder);
  dataset_close(evaluation.dataset);
  arena_free(evaluation.arena);
  return good;
}
