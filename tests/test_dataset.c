// Data sets: what rows a file has, and what every wrong line is told.
#include <unistd.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/dataset.h"
#include "runtime/files.h"

static char folder[] = "/tmp/vlmc-dataset-XXXXXX";

static void test_rows(Arena *arena) {
  static const char lines[] =
      "\xef\xbb\xbf{\"image\": \"a/b.png\", \"caption\": \"红\"}\r\n"
      "\n  \t\n"
      "{\"image\": \"c.gz#17\", \"prompt\": \"p\", \"answer\": \"\", \"kind\": \"yes/no\"}\n"
      "{\"turns\": [{\"prompt\": \"p\", \"answer\": \"a\"}, {\"prompt\": \"q\", \"answer\": \"b\"}]}\n"
      "not json\n"
      "{\"text\": \"last\"}";
  Failure failure;
  CHECK(file_replace(arena_print(arena, "%s/rows.jsonl", folder), lines, sizeof lines - 1, &failure), "%s",
        failure.message);
  Dataset *dataset;
  CHECK(dataset_open(folder, "rows", &dataset, &failure), "%s", failure.message);
  if (!dataset) return;
  CHECK(dataset_count(dataset) == 5, "%zu rows", dataset_count(dataset));
  Row row;
  CHECK(dataset_row(dataset, 0, arena, &row, &failure) && !strcmp(row.image, "a/b.png") &&
            !strcmp(row.caption, "红") && !row.turn_count && !row.text && !row.kind,
        "row 0: %s", failure.message);
  CHECK(dataset_row(dataset, 1, arena, &row, &failure) && !strcmp(row.image, "c.gz#17") &&
            row.turn_count == 1 && !strcmp(row.turns->prompt, "p") && !*row.turns->answer &&
            !strcmp(row.kind, "yes/no"),
        "row 1: %s", failure.message);
  CHECK(dataset_row(dataset, 2, arena, &row, &failure) && !row.image && row.turn_count == 2 &&
            !strcmp(row.turns[1].answer, "b"),
        "row 2: %s", failure.message);
  CHECK(!dataset_row(dataset, 3, arena, &row, &failure) &&
            strstr(failure.message, "rows.jsonl:6: not valid JSON"),
        "%s", failure.message);
  CHECK(dataset_row(dataset, 4, arena, &row, &failure) && !strcmp(row.text, "last"), "row 4: %s",
        failure.message);
  CHECK(dataset_line(dataset, 4) == 7, "line %zu", dataset_line(dataset, 4));
  dataset_close(dataset);

  CHECK(!dataset_open(folder, "none", &dataset, &failure) && strstr(failure.message, "none.jsonl"), "%s",
        failure.message);
  CHECK(file_replace(arena_print(arena, "%s/empty.jsonl", folder), " \n\n", 3, &failure) &&
            !dataset_open(folder, "empty", &dataset, &failure) && strstr(failure.message, "has no rows"),
        "%s", failure.message);
}

static void test_bad_lines(Arena *arena) {
  static const struct {
    const char *line, *message;
  } cases[] = {
      {"[]", "expected an object, found an array"},
      {"{}", "expected exactly one of"},
      {"{\"image\":\"a\"}", "expected exactly one of"},
      {"{\"caption\":\"a\",\"text\":\"b\"}", "expected exactly one of"},
      {"{\"caption\":\"a\",\"prompt\":\"b\"}", "expected exactly one of"},
      {"{\"caption\":7}", "\"caption\" must be a string, found an integer"},
      {"{\"caption\":null}", "\"caption\" must be a string, found null"},
      {"{\"prompt\":\"a\"}", "\"answer\" must be a string, found nothing"},
      {"{\"answer\":\"a\"}", "\"prompt\" must be a string, found nothing"},
      {"{\"text\":\"a\",\"image\":\"b\"}", "has no \"image\""},
      {"{\"text\":\"a\",\"label\":1}", "unknown key \"label\""},
      {"{\"text\":\"a\",\"kind\":1}", "\"kind\" must be a string"},
      {"{\"turns\":[]}", "at least one turn, found none"},
      {"{\"turns\":{}}", "at least one turn, found an object"},
      {"{\"turns\":[1]}", "turn 1 must be an object"},
      {"{\"turns\":[{\"prompt\":\"a\",\"answer\":\"b\",\"x\":1}]}", "unknown key \"x\""},
      {"{\"image\":\"/etc/passwd\",\"caption\":\"a\"}", "must be relative"},
      {"{\"image\":\"a/../b\",\"caption\":\"a\"}", "may not lead out"},
      {"{\"image\":\"..\",\"caption\":\"a\"}", "may not lead out"},
      {"{\"image\":\"\",\"caption\":\"a\"}", "must be a path"},
      {"{\"image\":3,\"caption\":\"a\"}", "\"image\" must be a string"},
      {"{\"text\":\"a\",\"text\":\"b\"}", "duplicate"},
      {"{\"text\":\"\xff\"}", "not valid JSON"},
      {"{\"text\":\"a\\u0000b\"}", "not valid JSON"},
      {"{\"text\":\"a\"} x", "not valid JSON"},
      {"{\"text\":\"a\"", "not valid JSON"},
      {"", "not valid JSON"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Row row;
    Failure failure = {0};
    bool good = dataset_parse(cases[i].line, strlen(cases[i].line), "d.jsonl:5", arena, &row, &failure);
    CHECK(!good && strstr(failure.message, cases[i].message) && !strncmp(failure.message, "d.jsonl:5: ", 11),
          "%s: %s", cases[i].line, failure.message);
  }
  Row row;
  Failure failure;
  const char *fine = "{\"image\":\"..a/b..\",\"caption\":\"a\"}";
  CHECK(dataset_parse(fine, strlen(fine), "d", arena, &row, &failure), "%s", failure.message);
}

int main(void) {
  if (!mkdtemp(folder)) return 2;
  Arena *arena = arena_new();
  test_rows(arena);
  test_bad_lines(arena);
  if (system(arena_print(arena, "rm -r %s", folder))) return 2;
  arena_free(arena);
  return check_finish();
}
