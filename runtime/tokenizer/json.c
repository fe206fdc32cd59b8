// tokenizer.json (Hugging Face's layout) and GPT-2's pair of files -> Tokenizer, and back.
#include <stdlib.h>
#include <string.h>

#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/tokenizer/parts.h"

// What is being read: the JSON and the tokenizer that grows from it.
typedef struct Reading {
  const char *place; // the file's name
  Tokenizer *tokenizer;
  json_t *vocabulary, *merges, *added;
  Failure *failure;
} Reading;

// A setting that would change ids and that we do not have is refused unless it is off.
static bool check_off(const Reading *reading, const json_t *object, const char *what, const char *key) {
  const json_t *value = json_object_get(object, key);
  bool off = !value || json_is_null(value) || json_is_false(value) ||
             (json_is_string(value) && !*json_string_value(value)) ||
             (json_is_number(value) && json_number_value(value) == 0);
  return off || fail(reading->failure, "%s: %s with \"%s\" set is not supported", reading->place, what, key);
}

static const char *type_of(const json_t *object) {
  const char *type = json_string_value(json_object_get(object, "type"));
  return type ? type : "(no type)";
}

static bool read_normalizer(Reading *reading, const json_t *normalizer, bool nested) {
  if (!normalizer || json_is_null(normalizer)) return true;
  const char *type = type_of(normalizer);
  if (!strcmp(type, "NFC")) return reading->tokenizer->compose = true;
  if (strcmp(type, "Sequence") || nested)
    return fail(reading->failure, "%s: the normalizer \"%.60s\" is not supported (only NFC is)",
                reading->place, type);
  size_t i;
  const json_t *step;
  json_array_foreach(json_object_get(normalizer, "normalizers"), i, step) {
    if (!read_normalizer(reading, step, true)) return false;
  }
  return true;
}

static bool read_split(Reading *reading, const json_t *step) {
  const json_t *pattern = json_object_get(step, "pattern");
  const char *regex = json_string_value(json_object_get(pattern, "Regex"));
  const char *literal = json_string_value(json_object_get(pattern, "String"));
  const char *behavior = json_string_value(json_object_get(step, "behavior"));
  if (!regex && !literal)
    return fail(reading->failure, "%s: a Split pre-tokenizer needs a pattern, either Regex or String",
                reading->place);
  if (!behavior || strcmp(behavior, "Isolated"))
    return fail(reading->failure,
                "%s: a Split pre-tokenizer with behavior \"%.40s\" is not supported (only Isolated is)",
                reading->place, behavior ? behavior : "(none)");
  return splitter_add(reading->tokenizer->splitter, regex ? regex : literal, !regex, reading->place,
                      reading->failure);
}

// One step of pre-tokenizing. ByteLevel has to be the last: behind it text is spelled in other characters.
static bool read_pre_tokenizer(Reading *reading, const json_t *step, bool last) {
  const char *type = type_of(step);
  Splitter *splitter = reading->tokenizer->splitter;
  if (!strcmp(type, "ByteLevel")) {
    if (!last)
      return fail(reading->failure, "%s: the pre-tokenizer ByteLevel must be the last", reading->place);
    if (!json_is_false(json_object_get(step, "use_regex"))) splitter_add_gpt2(splitter);
    return check_off(reading, step, "ByteLevel", "add_prefix_space");
  }
  if (last)
    return fail(reading->failure,
                "%s: the last pre-tokenizer is \"%.60s\"; byte-level BPE ends with ByteLevel", reading->place,
                type);
  if (!strcmp(type, "Split")) return read_split(reading, step);
  if (!strcmp(type, "Digits")) {
    bool each = json_is_true(json_object_get(step, "individual_digits"));
    return splitter_add(splitter, each ? "\\p{N}" : "\\p{N}+", false, reading->place, reading->failure);
  }
  return fail(reading->failure,
              "%s: the pre-tokenizer \"%.60s\" is not supported (ByteLevel, Split and Digits are)",
              reading->place, type);
}

static bool read_pre_tokenizers(Reading *reading, const json_t *root) {
  const json_t *pre = json_object_get(root, "pre_tokenizer"), *steps = json_object_get(pre, "pretokenizers");
  if (!json_is_object(pre))
    return fail(reading->failure, "%s: \"pre_tokenizer\" must be an object, found %s", reading->place,
                json_kind(pre));
  char *text = json_dumps(pre, JSON_COMPACT);
  if (!text) die("out of memory");
  reading->tokenizer->pre_tokenizer = arena_copy(reading->tokenizer->arena, text, strlen(text));
  free(text);
  if (strcmp(type_of(pre), "Sequence")) return read_pre_tokenizer(reading, pre, true);
  size_t count = json_array_size(steps);
  if (!count || count > 8)
    return fail(reading->failure, "%s: the pre-tokenizer Sequence must have 1 to 8 steps", reading->place);
  for (size_t i = 0; i < count; i++)
    if (!read_pre_tokenizer(reading, json_array_get(steps, i), i + 1 == count)) return false;
  return true;
}

// Ids are 0 ... count-1: as many as there are tokens, so that unique ones in range leave no gap.
static bool count_tokens(Reading *reading) {
  size_t count = json_object_size(reading->vocabulary), i;
  const json_t *entry;
  json_array_foreach(reading->added, i, entry) {
    const char *content;
    json_int_t id;
    if (!json_get_string(entry, "content", reading->place, &content, reading->failure) ||
        !json_get_integer(entry, "id", reading->place, &id, reading->failure))
      return false;
    const json_t *known = json_object_get(reading->vocabulary, content);
    if (!known)
      count++;
    else if (!json_is_integer(known) || json_integer_value(known) != id)
      return fail(reading->failure, "%s: the added token \"%.80s\" has id %lld, but another in \"vocab\"",
                  reading->place, content, (long long)id);
  }
  if (count > TOKENIZER_MAX_TOKENS)
    return fail(reading->failure, "%s: has %zu tokens, more than the %d allowed", reading->place, count,
                TOKENIZER_MAX_TOKENS);
  reading->tokenizer->count = (int32_t)count;
  reading->tokenizer->tokens = ARENA_ARRAY(reading->tokenizer->arena, Token, count);
  return true;
}

// The place of a token that claims `id`, checked.
static Token *claim(Reading *reading, const char *spelling, const json_t *id) {
  json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
  if (number < 0 || number >= reading->tokenizer->count) {
    fail(reading->failure,
         "%s: the id of token \"%.80s\" must be an integer from 0 to %d (there are %d tokens)",
         reading->place, spelling, reading->tokenizer->count - 1, reading->tokenizer->count);
    return NULL;
  }
  size_t length = strlen(spelling);
  if (!length || length > TOKENIZER_MAX_TOKEN_BYTES) {
    fail(reading->failure, "%s: token %lld has %zu bytes, expected 1 to %d", reading->place,
         (long long)number, length, TOKENIZER_MAX_TOKEN_BYTES);
    return NULL;
  }
  return &reading->tokenizer->tokens[number];
}

static bool read_added(Reading *reading) {
  size_t i;
  const json_t *entry;
  json_array_foreach(reading->added, i, entry) {
    const char *content = json_string_value(json_object_get(entry, "content"));
    Token *token = claim(reading, content, json_object_get(entry, "id"));
    if (!token) return false;
    if (token->bytes)
      return fail(reading->failure, "%s: the added tokens \"%.80s\" and \"%.80s\" have the same id",
                  reading->place, token->bytes, content);
    if (!check_off(reading, entry, "an added token", "single_word") ||
        !check_off(reading, entry, "an added token", "lstrip") ||
        !check_off(reading, entry, "an added token", "rstrip"))
      return false;
    size_t length = strlen(content);
    *token = (Token){arena_copy(reading->tokenizer->arena, content, length), length, true,
                     json_is_true(json_object_get(entry, "special"))};
  }
  return true;
}

static bool read_vocabulary(Reading *reading) {
  const char *spelling;
  json_t *id;
  json_object_foreach(reading->vocabulary, spelling, id) {
    Token *token = claim(reading, spelling, id);
    if (!token) return false;
    if (token->added && !strcmp(token->bytes, spelling)) continue;
    if (token->bytes)
      return fail(reading->failure, "%s: the token \"%.80s\" has the id %lld, which another token has too",
                  reading->place, spelling, (long long)json_integer_value(id));
    char *bytes;
    if (!byte_level_read(spelling, reading->tokenizer->arena, &bytes, &token->length))
      return fail(reading->failure, "%s: the token \"%.80s\" has a character that spells no byte",
                  reading->place, spelling);
    token->bytes = bytes;
  }
  return true;
}

// A merge's two sides, from "left right" or ["left", "right"]; *copy is to be freed.
static bool merge_sides(const json_t *entry, char **copy, const char **left, const char **right) {
  *copy = NULL;
  *left = json_string_value(json_array_get(entry, 0));
  *right = json_string_value(json_array_get(entry, 1));
  if (json_array_size(entry) == 2) return *left && *right;
  if (!json_is_string(entry)) return false;
  *left = *copy = strdup(json_string_value(entry));
  if (!*copy) die("out of memory");
  char *space = strchr(*copy, ' ');
  if (!space || strchr(space + 1, ' ')) return false;
  *space = 0;
  *right = space + 1;
  return true;
}

// A merge names two tokens, and what they spell together is a third: longer than either, so that no cycle is
// possible.
static bool read_merge(Reading *reading, size_t rank, const json_t *entry) {
  char *copy;
  const char *left, *right;
  if (!merge_sides(entry, &copy, &left, &right)) {
    free(copy);
    return fail(reading->failure, "%s: merge %zu must be two tokens", reading->place, rank);
  }
  Text joined = {0};
  text_print(&joined, "%s%s", left, right);
  const json_t *ids[3] = {json_object_get(reading->vocabulary, left),
                          json_object_get(reading->vocabulary, right),
                          json_object_get(reading->vocabulary, text_string(&joined))};
  const char *names[3] = {left, right, text_string(&joined)};
  bool good = true;
  for (int i = 0; good && i < 3; i++)
    good = ids[i] || fail(reading->failure, "%s: merge %zu needs the token \"%.80s\", which \"vocab\" lacks",
                          reading->place, rank, names[i]);
  if (good && (!*left || !*right))
    good = fail(reading->failure, "%s: merge %zu has an empty side", reading->place, rank);
  if (good)
    reading->tokenizer->merges[rank] =
        (Merge){(int32_t)json_integer_value(ids[0]), (int32_t)json_integer_value(ids[1]),
                (int32_t)json_integer_value(ids[2])};
  text_free(&joined);
  free(copy);
  return good;
}

static bool read_merges(Reading *reading) {
  size_t count = json_array_size(reading->merges);
  if (count > TOKENIZER_MAX_TOKENS)
    return fail(reading->failure, "%s: has %zu merges, more than the %d allowed", reading->place, count,
                TOKENIZER_MAX_TOKENS);
  reading->tokenizer->merges = ARENA_ARRAY(reading->tokenizer->arena, Merge, count);
  reading->tokenizer->merge_count = count;
  for (size_t rank = 0; rank < count; rank++)
    if (!read_merge(reading, rank, json_array_get(reading->merges, rank))) return false;
  return true;
}

static bool read_tables(Reading *reading) {
  return count_tokens(reading) && read_added(reading) && read_vocabulary(reading) && read_merges(reading) &&
         tokenizer_prepare(reading->tokenizer, reading->place, reading->failure);
}

static bool read_root(Reading *reading, const json_t *root) {
  json_t *model;
  if (!json_is_object(root))
    return fail(reading->failure, "%s: expected an object, found %s", reading->place, json_kind(root));
  if (!json_get_object(root, "model", reading->place, &model, reading->failure)) return false;
  const char *type = type_of(model);
  if (json_object_get(model, "type") && strcmp(type, "BPE"))
    return fail(reading->failure, "%s: the model is \"%.60s\"; only BPE is supported", reading->place, type);
  static const char *const off[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                                    "byte_fallback", "ignore_merges"};
  for (size_t i = 0; i < sizeof off / sizeof *off; i++)
    if (!check_off(reading, model, "a BPE model", off[i])) return false;
  reading->added = json_object_get(root, "added_tokens");
  if (reading->added && !json_is_null(reading->added) && !json_is_array(reading->added))
    return fail(reading->failure, "%s: \"added_tokens\" must be an array, found %s", reading->place,
                json_kind(reading->added));
  return json_get_object(model, "vocab", reading->place, &reading->vocabulary, reading->failure) &&
         json_get_array(model, "merges", reading->place, &reading->merges, reading->failure) &&
         read_normalizer(reading, json_object_get(root, "normalizer"), false) &&
         read_pre_tokenizers(reading, root) && read_tables(reading);
}

static bool finish(Reading *reading, bool good, Tokenizer **out) {
  *out = good ? reading->tokenizer : NULL;
  if (!good) tokenizer_free(reading->tokenizer);
  return good;
}

bool tokenizer_parse(const char *json, size_t size, const char *name, Tokenizer **out, Failure *failure) {
  *out = NULL;
  json_t *root = json_parse(json, size, name, failure);
  if (!root) return false;
  Reading reading = {.place = name, .tokenizer = tokenizer_new(), .failure = failure};
  bool good = read_root(&reading, root);
  json_decref(root);
  return finish(&reading, good, out);
}

bool tokenizer_read(const char *path, Tokenizer **out, Failure *failure) {
  *out = NULL;
  Mapping mapping;
  if (!file_map(path, &mapping, failure)) return false;
  bool good =
      mapping.size <= TOKENIZER_MAX_FILE ||
      fail(failure, "%s: has %zu bytes, more than the %d allowed", path, mapping.size, TOKENIZER_MAX_FILE);
  good = good && tokenizer_parse((const char *)mapping.bytes, mapping.size, path, out, failure);
  file_unmap(&mapping);
  return good;
}

static const char byte_level[] =
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}";

void tokenizer_use_gpt2(Tokenizer *tokenizer) {
  splitter_add_gpt2(tokenizer->splitter);
  tokenizer->pre_tokenizer = byte_level;
}

// merges.txt: a line "#version: ..." and then one merge a line.
static json_t *merges_of_lines(char *text) {
  json_t *merges = json_array();
  char *rest = text;
  for (char *line; (line = strsep(&rest, "\n"));)
    if (*line && !(line == text && *line == '#')) json_array_append_new(merges, json_string(line));
  return merges;
}

bool tokenizer_read_gpt2(const char *vocabulary_path, const char *merges_path, Tokenizer **out,
                         Failure *failure) {
  *out = NULL;
  Arena *arena = arena_new();
  Reading reading = {.place = vocabulary_path, .tokenizer = tokenizer_new(), .failure = failure};
  char *lines;
  size_t size;
  reading.vocabulary = json_read(vocabulary_path, TOKENIZER_MAX_FILE, failure);
  bool good = reading.vocabulary &&
              (json_is_object(reading.vocabulary) || fail(failure, "%s: expected an object, found %s",
                                                          vocabulary_path, json_kind(reading.vocabulary))) &&
              file_read(merges_path, TOKENIZER_MAX_FILE, arena, &lines, &size, failure);
  if (good) {
    reading.merges = merges_of_lines(lines);
    reading.added = json_array();
    json_t *end = json_object_get(reading.vocabulary, "<|endoftext|>");
    if (end)
      json_array_append_new(
          reading.added, json_pack("{s:s, s:O, s:b}", "content", "<|endoftext|>", "id", end, "special", 1));
    tokenizer_use_gpt2(reading.tokenizer);
    good = read_tables(&reading);
  }
  json_decref(reading.vocabulary);
  json_decref(reading.merges);
  json_decref(reading.added);
  arena_free(arena);
  return finish(&reading, good, out);
}

// Writing.

static void quote_token(Text *json, const Token *token) {
  Text spelling = {0};
  if (token->added)
    text_add(&spelling, token->bytes, token->length);
  else
    byte_level_spell(&spelling, token->bytes, token->length);
  json_quote(json, text_string(&spelling));
  text_free(&spelling);
}

static void print_added(Text *json, const Tokenizer *tokenizer) {
  const char *before = "";
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (!token->added) continue;
    text_print(json, "%s\n    {\"id\": %d, \"content\": ", before, id);
    quote_token(json, token);
    text_print(json,
               ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
               "\"special\": %s}",
               token->special ? "true" : "false");
    before = ",";
  }
}

static void print_merges(Text *json, const Tokenizer *tokenizer) {
  for (size_t rank = 0; rank < tokenizer->merge_count; rank++) {
    const Token *left = &tokenizer->tokens[tokenizer->merges[rank].left];
    const Token *right = &tokenizer->tokens[tokenizer->merges[rank].right];
    Text spelling = {0};
    byte_level_spell(&spelling, left->bytes, left->length);
    text_add(&spelling, " ", 1);
    byte_level_spell(&spelling, right->bytes, right->length);
    text_print(json, "%s\n      ", rank ? "," : "");
    json_quote(json, text_string(&spelling));
    text_free(&spelling);
  }
}

void tokenizer_print(const Tokenizer *tokenizer, Text *json) {
  text_print(
      json,
      "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
  print_added(json, tokenizer);
  text_print(json, "],\n  \"normalizer\": %s,\n  \"pre_tokenizer\": %s,\n",
             tokenizer->compose ? "{\"type\":\"NFC\"}" : "null", tokenizer->pre_tokenizer);
  text_print(json, "  \"post_processor\": null,\n  \"decoder\": %s,\n", byte_level);
  text_print(json,
             "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n"
             "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
             "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n"
             "    \"vocab\": {");
  for (int32_t id = 0; id < tokenizer->count; id++) {
    text_print(json, "%s\n      ", id ? "," : "");
    quote_token(json, &tokenizer->tokens[id]);
    text_print(json, ": %d", id);
  }
  text_print(json, "},\n    \"merges\": [");
  print_merges(json, tokenizer);
  text_print(json, "]\n  }\n}\n");
}

bool tokenizer_save(const Tokenizer *tokenizer, const char *path, Failure *failure) {
  Text json = {0};
  tokenizer_print(tokenizer, &json);
  bool good = file_replace(path, json.bytes, json.length, failure);
  text_free(&json);
  return good;
}
