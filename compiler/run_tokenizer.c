// vlmc tokenizer train: texts, or rows of data sets -> tokenizer.json.
#include "compiler/commands.h"

#include "runtime/dataset.h"
#include "runtime/files.h"

#include <stdio.h>
#include <string.h>

// Every text of a row: prompts and answers one by one.
static void add_row(TokenizerTrainer *trainer, const Row *row) {
  if (row->text) tokenizer_trainer_add(trainer, row->text, strlen(row->text));
  if (row->caption) tokenizer_trainer_add(trainer, row->caption, strlen(row->caption));
  for (int i = 0; i < row->turn_count; i++) {
    tokenizer_trainer_add(trainer, row->turns[i].prompt, strlen(row->turns[i].prompt));
    tokenizer_trainer_add(trainer, row->turns[i].answer, strlen(row->turns[i].answer));
  }
}

static bool add_rows(TokenizerTrainer *trainer, const char *path, const Mapping *mapping, Failure *failure) {
  const char *text = (const char *)mapping->bytes, *end = text + mapping->size;
  size_t number = 1;
  bool good = true;
  for (const char *stop; good && text < end; text = stop + 1, number++) {
    stop = memchr(text, '\n', (size_t)(end - text));
    if (!stop) stop = end;
    size_t length = (size_t)(stop - text);
    bool empty = true;
    for (size_t i = 0; i < length; i++) empty &= strchr(" \t\r", text[i]) && text[i];
    if (empty) continue;
    Arena *arena = arena_new();
    Row row;
    good = dataset_parse(text, length, arena_print(arena, "%s:%zu", path, number), arena, &row, failure);
    if (good) add_row(trainer, &row);
    arena_free(arena);
  }
  return good;
}

static bool add_file(TokenizerTrainer *trainer, const char *path, Failure *failure) {
  Mapping mapping;
  size_t length = strlen(path);
  if (!file_map(path, &mapping, failure)) return false;
  bool rows = length > 6 && !strcmp(path + length - 6, ".jsonl"), good = true;
  if (rows)
    good = add_rows(trainer, path, &mapping, failure);
  else
    tokenizer_trainer_add(trainer, (const char *)mapping.bytes, mapping.size);
  file_unmap(&mapping);
  return good;
}

static bool train(const Options *options, Tokenizer **out, Failure *failure) {
  TokenizerTrainer *trainer = tokenizer_trainer_new();
  bool good = true;
  for (int i = 1; good && i < options->more_count; i++) good = add_file(trainer, options->more[i], failure);
  good = good && tokenizer_trainer_finish(trainer, (size_t)options->vocabulary, options->specials,
                                          (size_t)options->special_count, out, failure);
  tokenizer_trainer_free(trainer);
  return good;
}

static bool check_words(const Options *options, Failure *failure) {
  if (!options->more_count || strcmp(options->more[0], "train"))
    return fail(failure, "`vlmc tokenizer` is followed by `train`; `vlmc tokenizer --help` says more");
  if (options->more_count < 2)
    return fail(failure, "no files to learn from: name texts or .jsonl files of data sets");
  if (!options->vocabulary) return fail(failure, "--vocabulary is needed: how many tokens there shall be");
  return options->output || fail(failure, "--output is needed: the tokenizer.json to write");
}

int run_tokenizer(const Options *options) {
  Failure failure = {0};
  Tokenizer *tokenizer = NULL;
  bool good = check_words(options, &failure) && train(options, &tokenizer, &failure) &&
              tokenizer_save(tokenizer, options->output, &failure);
  if (good)
    printf("%s: %d tokens%s\n", options->output, tokenizer_count(tokenizer),
           tokenizer_count(tokenizer) < options->vocabulary ? "; no other pair occurs twice" : "");
  else
    fprintf(stderr, "vlmc: error: %s\n", failure.message);
  tokenizer_free(tokenizer);
  return good ? 0 : 1;
}
