// tokenizer.json (Hugging Face's layout) and GPT-2's pair of files -> Tokenizer.
#include <stdio.h>
#include <string.h>

#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/tokenizer/parts.h"

// What is being read: the JSON and the tokenizer that grows from it.
typedef struct Reading {
  const char *place; // the file's name
  Tokenizer *tokenizer;
  const json_t *vocabulary, *added;
  Failure *failure;
} Reading;

// A setting that would change ids and that we do not have is refused unless it is off.
static bool check_off(const Reading *reading, const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  bool off = !value || json_is_null(value) || json_is_false(value) ||
             (json_is_string(value) && !*json_string_value(value)) ||
             (json_is_number(value) && json_number_value(value) == 0);
  return off ||
         fail(reading->failure, "%s: a BPE model with \"%s\" set is not supported", reading->place, key);
}

// Ids are 0 ... count-1. A few may be unused, but not so many that a small file asks for much memory.
static bool count_tokens(Reading *reading) {
  size_t entries = json_object_size(reading->vocabulary) + json_array_size(reading->added), i;
  json_int_t last = -1, limit = (json_int_t)entries * 2 + 4096;
  const char *spelling;
  const json_t *entry;
  json_t *id;
  if (limit > TOKENIZER_MAX_TOKENS) limit = TOKENIZER_MAX_TOKENS;
  if (entries > TOKENIZER_MAX_TOKENS)
    return fail(reading->failure, "%s: has %zu tokens, more than the %d allowed", reading->place, entries,
                TOKENIZER_MAX_TOKENS);
  json_object_foreach((json_t *)reading->vocabulary, spelling, id) {
    json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    if (number < 0 || number >= limit)
      return fail(reading->failure, "%s: the id of token \"%.80s\" must be an integer from 0 to %lld",
                  reading->place, spelling, (long long)limit - 1);
    if (number > last) last = number;
  }
  json_array_foreach(reading->added, i, entry) {
    const char *content;
    json_int_t number;
    if (!json_get_string(entry, "content", reading->place, &content, reading->failure) ||
        !json_get_integer(entry, "id", reading->place, &number, reading->failure))
      return false;
    if (number < 0 || number >= limit)
      return fail(reading->failure, "%s: the id of token \"%.80s\" must be an integer from 0 to %lld",
                  reading->place, content, (long long)limit - 1);
    if (number > last) last = number;
  }
  if (last < 0) return fail(reading->failure, "%s: has no tokens", reading->place);
  reading->tokenizer->count = (int32_t)last + 1;
  reading->tokenizer->tokens = ARENA_ARRAY(reading->tokenizer->arena, Token, last + 1);
  return true;
}

static bool check_length(const Reading *reading, json_int_t id, size_t length) {
  return (length && length <= TOKENIZER_MAX_TOKEN_BYTES) ||
         fail(reading->failure, "%s: token %lld has %zu bytes, expected 1 to %d", reading->place,
              (long long)id, length, TOKENIZER_MAX_TOKEN_BYTES);
}

static bool read_vocabulary(Reading *reading) {
  const char *spelling;
  json_t *id;
  json_object_foreach((json_t *)reading->vocabulary, spelling, id) {
    Token *token = &reading->tokenizer->tokens[json_integer_value(id)];
    size_t length = strlen(spelling);
    if (!check_length(reading, json_integer_value(id), length)) return false;
    if (token->text)
      return fail(reading->failure, "%s: the tokens \"%.80s\" and \"%.80s\" have the same id %lld",
                  reading->place, token->text, spelling, (long long)json_integer_value(id));
    *token = (Token){.text = arena_copy(reading->tokenizer->arena, spelling, length),
                     .text_length = length,
                     .known = true};
  }
  return true;
}

static bool read_added(Reading *reading) {
  size_t i;
  const json_t *entry;
  json_array_foreach(reading->added, i, entry) {
    const char *content = json_string_value(json_object_get(entry, "content"));
    json_int_t id = json_integer_value(json_object_get(entry, "id"));
    const json_t *known = json_object_get(reading->vocabulary, content);
    Token *token = &reading->tokenizer->tokens[id];
    size_t length = strlen(content);
    if (known && json_integer_value(known) != id)
      return fail(reading->failure, "%s: the added token \"%.80s\" has id %lld, but another in \"vocab\"",
                  reading->place, content, (long long)id);
    if (token->added || (token->text && !known))
      return fail(reading->failure, "%s: the tokens \"%.80s\" and \"%.80s\" have the same id %lld",
                  reading->place, token->text, content, (long long)id);
    if (!check_length(reading, id, length)) return false;
    *token = (Token){.text = arena_copy(reading->tokenizer->arena, content, length),
                     .text_length = length,
                     .known = known != NULL,
                     .added = true,
                     .special = json_is_true(json_object_get(entry, "special")),
                     .normalized = json_is_true(json_object_get(entry, "normalized")),
                     .strip_left = json_is_true(json_object_get(entry, "lstrip")),
                     .strip_right = json_is_true(json_object_get(entry, "rstrip")),
                     .single_word = json_is_true(json_object_get(entry, "single_word"))};
  }
  return true;
}

static bool start_merges(Reading *reading, size_t count) {
  reading->tokenizer->merges = ARENA_ARRAY(reading->tokenizer->arena, Merge, count);
  reading->tokenizer->merge_count = count;
  return count <= TOKENIZER_MAX_TOKENS ||
         fail(reading->failure, "%s: has %zu merges, more than the %d allowed", reading->place, count,
              TOKENIZER_MAX_TOKENS);
}

// A merge is "left right" or ["left", "right"].
static bool read_merge(Reading *reading, size_t rank, const json_t *entry) {
  Tokenizer *tokenizer = reading->tokenizer;
  const char *left = json_string_value(json_array_get(entry, 0));
  const char *right = json_string_value(json_array_get(entry, 1));
  if (json_array_size(entry) == 2 && left && right)
    return add_merge(tokenizer, rank, left, strlen(left), right, strlen(right), reading->place,
                     reading->failure);
  if (!json_is_string(entry))
    return fail(reading->failure, "%s: merge %zu must be two tokens", reading->place, rank);
  return add_merge_line(tokenizer, rank, json_string_value(entry), json_string_length(entry), reading->place,
                        reading->failure);
}

// Ranks that differ from the merges' order: our own member, for vocabularies in which several merges are
// equal. Each is the place of the first of equals.
static bool read_ranks(Reading *reading, const json_t *ranks) {
  size_t i;
  const json_t *rank;
  if (!ranks) return true;
  bool good = json_array_size(ranks) == reading->tokenizer->merge_count;
  json_array_foreach(ranks, i, rank) {
    json_int_t number = json_is_integer(rank) ? json_integer_value(rank) : -1;
    json_int_t before = good && i ? reading->tokenizer->merges[i - 1].rank : 0;
    good = good && (number == (json_int_t)i || (i && number == before));
    if (good) reading->tokenizer->merges[i].rank = (uint32_t)number;
  }
  return good || fail(reading->failure, "%s: \"ranks\" must name the first merge of equals for each merge",
                      reading->place);
}

static bool read_merges(Reading *reading, const json_t *model) {
  json_t *merges;
  if (!json_get_array(model, "merges", reading->place, &merges, reading->failure)) return false;
  if (!start_merges(reading, json_array_size(merges))) return false;
  for (size_t rank = 0; rank < json_array_size(merges); rank++)
    if (!read_merge(reading, rank, json_array_get(merges, rank))) return false;
  return read_ranks(reading, json_object_get(model, "ranks"));
}

static bool read_unknown(Reading *reading, const json_t *model) {
  Tokenizer *tokenizer = reading->tokenizer;
  const char *unknown = json_string_value(json_object_get(model, "unk_token"));
  if (!unknown) return true;
  tokenizer->unknown = tokenizer_lookup(tokenizer, unknown, strlen(unknown));
  return tokenizer->unknown >= 0 ||
         fail(reading->failure, "%s: the unknown token \"%.80s\" is not in \"vocab\"", reading->place,
              unknown);
}

// Our own member (print.c): what a GGUF file said.
static bool read_gguf_names(Reading *reading, const json_t *said) {
  Tokenizer *tokenizer = reading->tokenizer;
  const char *pre = json_string_value(json_object_get(said, "pre"));
  if (pre) tokenizer->split_name = arena_copy(tokenizer->arena, pre, strlen(pre));
  for (int i = 0; i < NAMED_COUNT; i++) {
    const json_t *id = json_object_get(said, named_tokens[i]);
    json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
    if (!id) continue;
    if (number < 0 || number >= tokenizer->count)
      return fail(reading->failure, "%s: \"%s\" must be an id from 0 to %d", reading->place, named_tokens[i],
                  tokenizer->count - 1);
    tokenizer->named[i] = (int32_t)number;
  }
  return true;
}

static bool read_model(Reading *reading, const json_t *model) {
  Tokenizer *tokenizer = reading->tokenizer;
  const json_t *type = json_object_get(model, "type");
  if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE")))
    return fail(reading->failure, "%s: the model is \"%.60s\"; only BPE is supported", reading->place,
                json_is_string(type) ? json_string_value(type) : json_kind(type));
  if (!check_off(reading, model, "dropout") || !check_off(reading, model, "continuing_subword_prefix"))
    return false;
  const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
  tokenizer->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
  tokenizer->fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"));
  tokenizer->whole_words = json_is_true(json_object_get(model, "ignore_merges"));
  tokenizer->suffix = suffix ? arena_copy(tokenizer->arena, suffix, strlen(suffix)) : "";
  if (strlen(tokenizer->suffix) > 32 || (*tokenizer->suffix && tokenizer->whole_words))
    return fail(reading->failure, "%s: the end_of_word_suffix \"%.80s\" is not supported", reading->place,
                suffix);
  return true;
}

static bool read_tables(Reading *reading) {
  return count_tokens(reading) && read_vocabulary(reading) && read_added(reading) &&
         tokenizer_index(reading->tokenizer, reading->place, reading->failure);
}

static bool read_root(Reading *reading, const json_t *root) {
  Tokenizer *tokenizer = reading->tokenizer;
  const char *place = reading->place;
  Failure *failure = reading->failure;
  json_t *model, *vocabulary;
  if (!json_is_object(root)) return fail(failure, "%s: expected an object, found %s", place, json_kind(root));
  if (!json_get_object(root, "model", place, &model, failure)) return false;
  if (!read_model(reading, model) || !json_get_object(model, "vocab", place, &vocabulary, failure))
    return false;
  reading->vocabulary = vocabulary;
  reading->added = json_object_get(root, "added_tokens");
  if (reading->added && !json_is_null(reading->added) && !json_is_array(reading->added))
    return fail(failure, "%s: \"added_tokens\" must be an array, found %s", place, json_kind(reading->added));
  return read_tables(reading) && read_merges(reading, model) && read_unknown(reading, model) &&
         read_gguf_names(reading, json_object_get(model, "gguf")) &&
         read_normalizer(tokenizer, json_object_get(root, "normalizer"), place, failure) &&
         read_pre_tokenizer(tokenizer, json_object_get(root, "pre_tokenizer"), place, failure) &&
         read_post_processor(tokenizer, json_object_get(root, "post_processor"), place, failure) &&
         read_decoder(tokenizer, json_object_get(root, "decoder"), place, failure);
}

bool read_tokenizer_json(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                         Failure *failure) {
  json_t *root = json_parse(bytes, size, place, failure);
  Reading reading = {.place = place, .tokenizer = tokenizer, .failure = failure};
  bool good = root && read_root(&reading, root);
  json_decref(root);
  return good;
}

// merges.txt: a line "#version: ..." and then one merge a line.
static bool read_merge_lines(Reading *reading, const char *text) {
  size_t count = 0, rank = 0;
  for (const char *at = text; *at; at++) count += *at == '\n';
  if (!start_merges(reading, count + 1)) return false;
  for (const char *line = text, *end; *line; line = *end ? end + 1 : end) {
    end = strchrnul(line, '\n');
    size_t length = (size_t)(end - line);
    if (length && line[length - 1] == '\r') length--;
    if (!length || (line == text && *line == '#')) continue;
    if (!add_merge_line(reading->tokenizer, rank++, line, length, reading->place, reading->failure))
      return false;
  }
  reading->tokenizer->merge_count = rank;
  return true;
}

bool tokenizer_read_gpt2(const char *vocabulary_path, const char *merges_path, Tokenizer **out,
                         Failure *failure) {
  Arena *arena = arena_new();
  Tokenizer *tokenizer = tokenizer_new();
  Reading reading = {.place = vocabulary_path, .tokenizer = tokenizer, .failure = failure};
  char *lines;
  size_t size;
  json_t *vocabulary = json_read(vocabulary_path, TOKENIZER_MAX_FILE, failure), *added = json_array();
  reading.vocabulary = vocabulary;
  reading.added = added;
  json_t *end = json_object_get(vocabulary, "<|endoftext|>");
  if (end)
    json_array_append_new(added,
                          json_pack("{s:s, s:O, s:b}", "content", "<|endoftext|>", "id", end, "special", 1));
  bool good = vocabulary &&
              (json_is_object(vocabulary) ||
               fail(failure, "%s: expected an object, found %s", vocabulary_path, json_kind(vocabulary))) &&
              file_read(merges_path, TOKENIZER_MAX_FILE, arena, &lines, &size, failure) &&
              read_tables(&reading);
  reading.place = merges_path;
  good = good && read_merge_lines(&reading, lines) &&
         tokenizer_use(tokenizer, &pipeline_gpt2, vocabulary_path, failure) &&
         tokenizer_prepare(tokenizer, vocabulary_path, failure);
  json_decref(vocabulary);
  json_decref(added);
  arena_free(arena);
  *out = good ? tokenizer : NULL;
  if (!good) tokenizer_free(tokenizer);
  return good;
}
