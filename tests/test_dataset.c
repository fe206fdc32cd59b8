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
  CHECK(dataset_row(dataset, 0, arena, &row, &failure) && row.image_count == 1 &&
            !strcmp(row.images[0], "a/b.png") && !strcmp(row.caption, "红") && !row.turn_count && !row.text &&
            !row.kind,
        "row 0: %s", failure.message);
  CHECK(dataset_row(dataset, 1, arena, &row, &failure) && !strcmp(row.images[0], "c.gz#17") &&
            row.turns->pictures == 1 && row.turn_count == 1 && !strcmp(row.turns->prompt, "p") &&
            !*row.turns->answer && !strcmp(row.kind, "yes/no"),
        "row 1: %s", failure.message);
  CHECK(dataset_row(dataset, 2, arena, &row, &failure) && !row.image_count && row.turn_count == 2 &&
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
      {"{\"image\":3,\"caption\":\"a\"}",
       "\"image\" must be a string or an array of strings, found an integer"},
      {"{\"image\":[\"a\",3],\"caption\":\"a\"}", "found an integer"},
      {"{\"image\":[],\"caption\":\"a\"}", "names no picture"},
      {"{\"text\":\"a\",\"system\":\"b\"}", "a \"system\" belongs to"},
      {"{\"turns\":[{\"image\":\"/b\",\"prompt\":\"a\",\"answer\":\"b\"}]}", "must be relative"},
      {"{\"conversations\":[]}", "an array of messages, found none"},
      {"{\"conversations\":\"x\"}", "an array of messages, found a string"},
      {"{\"conversations\":[1]}", "message 1 must be an object"},
      {"{\"conversations\":[{\"from\":\"human\"}]}", "\"value\" must be a string, found nothing"},
      {"{\"conversations\":[{\"from\":\"robot\",\"value\":\"\"}]}", "is from \"robot\", expected system"},
      {"{\"conversations\":[{\"from\":\"gpt\",\"value\":\"a\"}]}", "expected one from the user"},
      {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"}]}", "must be the model's"},
      {"{\"conversations\":[{\"role\":\"system\",\"content\":\"a\"}]}", "must be the model's"},
      {"{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"a\"}]}",
       "message 2 is from \"user\", expected one from the model"},
      {"{\"image\":\"a\",\"conversations\":[{\"from\":\"human\",\"value\":\"<image><image>\"},{\"from\":"
       "\"gpt\","
       "\"value\":\"a\"}]}",
       "<image> stands 2 times in the conversation, but \"image\" names 1"},
      {"{\"conversations\":[],\"prompt\":\"a\"}", "unknown key \"prompt\", expected id"},
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

// Rows as LLaVA and minimind-v publish them, and several pictures in our own.
static void test_conversations(Arena *arena) {
  static const struct {
    const char *line, *system;
    int images, turns, pictures[2];
    const char *prompts[2], *answers[2];
  } cases[] = {
      {"{\"id\":\"7\",\"image\":\"a.jpg\",\"conversations\":[{\"from\":\"human\",\"value\":\"<image>\\nwhat?"
       "\"},"
       "{\"from\":\"gpt\",\"value\":\"a bag\"},{\"from\":\"human\",\"value\":\" its colour? \"},"
       "{\"from\":\"gpt\",\"value\":\"red\"}]}",
       NULL,
       1,
       2,
       {1, 0},
       {"what?", " its colour? "},
       {"a bag", "red"}},
      {"{\"image\":[\"a\",\"b\",\"c\"],\"conversations\":[{\"role\":\"system\",\"content\":\"be brief\"},"
       "{\"role\":\"user\",\"content\":\"<image>and<image>?\\n\"},{\"role\":\"assistant\",\"content\":\"x\"},"
       "{\"role\":\"user\",\"content\":\"now\\n<image>\"},{\"role\":\"assistant\",\"content\":\"y\"}]}",
       "be brief",
       3,
       2,
       {2, 1},
       {"and?", "now"},
       {"x", "y"}},
      {"{\"image\":\"a\",\"conversations\":[{\"from\":\"human\",\"value\":\"p\"},{\"from\":\"gpt\",\"value\":"
       "\"<image>\"}"
       "]}",
       NULL,
       1,
       1,
       {1},
       {"p"},
       {"<image>"}},
      {"{\"image\":[\"a\",\"b\"],\"system\":\"s\",\"turns\":[{\"prompt\":\"p\",\"answer\":\"x\"},"
       "{\"image\":\"c\",\"prompt\":\"q\",\"answer\":\"y\"}]}",
       "s",
       3,
       2,
       {2, 1},
       {"p", "q"},
       {"x", "y"}},
      {"{\"turns\":[{\"prompt\":\"p\",\"answer\":\"x\"},{\"image\":[\"c\",\"d\"],\"prompt\":\"q\",\"answer\":"
       "\"y\"}]}",
       NULL,
       2,
       2,
       {0, 2},
       {"p", "q"},
       {"x", "y"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Row row;
    Failure failure = {0};
    bool good = dataset_parse(cases[i].line, strlen(cases[i].line), "d", arena, &row, &failure);
    CHECK(good, "%s: %s", cases[i].line, failure.message);
    if (!good) continue;
    CHECK((int)row.image_count == cases[i].images && row.turn_count == cases[i].turns, "case %zu: %zu, %d", i,
          row.image_count, row.turn_count);
    CHECK(!cases[i].system == !row.system && (!row.system || !strcmp(row.system, cases[i].system)), "%zu", i);
    for (int t = 0; t < row.turn_count && t < cases[i].turns; t++)
      CHECK(row.turns[t].pictures == cases[i].pictures[t] &&
                !strcmp(row.turns[t].prompt, cases[i].prompts[t]) &&
                !strcmp(row.turns[t].answer, cases[i].answers[t]),
            "case %zu, turn %d: %d, \"%s\", \"%s\"", i, t, row.turns[t].pictures, row.turns[t].prompt,
            row.turns[t].answer);
  }
}

// NAME.json: one array of rows, as LLaVA's files are.
static void test_array(Arena *arena) {
  static const char text[] =
      "\n[ {\"text\": \"a]\\\"},\"},\n\n {\"text\":\n\"b\"} , {\"caption\": {\"x\": [1]}}\n]\n";
  static const struct {
    const char *text, *message;
  } bad[] = {{"{}", "expected an array of rows"},
             {"[]", "has no rows"},
             {"[ ", "does not end"},
             {"[{\"text\":\"a\"}", "does not end"},
             {"[{\"text\":\"a\"}] x", "something stands"},
             {"[{\"text\":\"a}]", "does not end"},
             {"[1}", "expected `,` or `]`"},
             {"", "expected an array"}};
  Failure failure;
  Dataset *dataset;
  Row row;
  const char *path = arena_print(arena, "%s/array.json", folder);
  CHECK(file_replace(path, text, sizeof text - 1, &failure), "%s", failure.message);
  bool good = dataset_open(folder, "array", &dataset, &failure);
  CHECK(good && dataset_count(dataset) == 3, "%s", failure.message);
  if (!good) return;
  CHECK(dataset_row(dataset, 0, arena, &row, &failure) && !strcmp(row.text, "a]\"},"), "%s", failure.message);
  CHECK(dataset_row(dataset, 1, arena, &row, &failure) && !strcmp(row.text, "b"), "%s", failure.message);
  CHECK(dataset_line(dataset, 0) == 2 && dataset_line(dataset, 1) == 4 && dataset_line(dataset, 2) == 5,
        "lines");
  CHECK(!dataset_row(dataset, 2, arena, &row, &failure) &&
            strstr(failure.message, "array.json:5: \"caption\" must be a string"),
        "%s", failure.message);
  dataset_close(dataset);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    CHECK(file_replace(path, bad[i].text, strlen(bad[i].text), &failure) &&
              !dataset_open(folder, "array", &dataset, &failure) && strstr(failure.message, bad[i].message),
          "%s: %s", bad[i].text, failure.message);
  }
  const char *comma = "[{\"text\":\"a\"},]";
  good =
      file_replace(path, comma, strlen(comma), &failure) && dataset_open(folder, "array", &dataset, &failure);
  CHECK(good && !dataset_row(dataset, 1, arena, &row, &failure), "a comma too many");
  if (good) dataset_close(dataset);
}

int main(void) {
  if (!mkdtemp(folder)) return 2;
  Arena *arena = arena_new();
  test_rows(arena);
  test_bad_lines(arena);
  test_conversations(arena);
  test_array(arena);
  if (system(arena_print(arena, "rm -r %s", folder))) return 2;
  arena_free(arena);
  return check_finish();
}
