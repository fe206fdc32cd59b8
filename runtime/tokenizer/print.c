// Tokenizer -> tokenizer.json, written as Hugging Face's library writes it.
#include <stdlib.h>
#include <string.h>

#include "runtime/files.h"
#include "runtime/tokenizer/parts.h"

static json_t *flag(bool value) { return json_boolean(value); }

static json_t *part(json_t *json) { return json ? json_incref(json) : json_null(); }

static json_t *text_or_null(const char *text) { return text ? json_string(text) : json_null(); }

static json_t *spelling(const Token *token) { return json_stringn(token->text, token->text_length); }

static json_t *added_tokens(const Tokenizer *tokenizer) {
  json_t *list = json_array();
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (!token->added) continue;
    json_t *entry = json_object();
    json_object_set_new(entry, "id", json_integer(id));
    json_object_set_new(entry, "content", spelling(token));
    json_object_set_new(entry, "single_word", flag(token->single_word));
    json_object_set_new(entry, "lstrip", flag(token->strip_left));
    json_object_set_new(entry, "rstrip", flag(token->strip_right));
    json_object_set_new(entry, "normalized", flag(token->normalized));
    json_object_set_new(entry, "special", flag(token->special));
    json_array_append_new(list, entry);
  }
  return list;
}

static json_t *vocabulary(const Tokenizer *tokenizer) {
  json_t *list = json_object();
  for (int32_t id = 0; id < tokenizer->count; id++) {
    const Token *token = &tokenizer->tokens[id];
    if (token->known) json_object_setn_new_nocheck(list, token->text, token->text_length, json_integer(id));
  }
  return list;
}

static json_t *merges(const Tokenizer *tokenizer) {
  json_t *list = json_array();
  for (size_t i = 0; i < tokenizer->merge_count; i++) {
    json_t *sides = json_array();
    json_array_append_new(sides, spelling(&tokenizer->tokens[tokenizer->merges[i].left]));
    json_array_append_new(sides, spelling(&tokenizer->tokens[tokenizer->merges[i].right]));
    json_array_append_new(list, sides);
  }
  return list;
}

// Only where they are not the merges' places; other readers pass over it.
static json_t *ranks(const Tokenizer *tokenizer) {
  bool plain = true;
  json_t *list = json_array();
  for (size_t i = 0; i < tokenizer->merge_count; i++) {
    plain &= tokenizer->merges[i].rank == i;
    json_array_append_new(list, json_integer(tokenizer->merges[i].rank));
  }
  if (!plain) return list;
  json_decref(list);
  return NULL;
}

// What a GGUF file said and tokenizer.json has no place for, so that a GGUF file can say it again; other readers pass
// over it.
static json_t *gguf(const Tokenizer *tokenizer) {
  json_t *object = json_object();
  if (tokenizer->split_name) json_object_set_new(object, "pre", json_string(tokenizer->split_name));
  for (int i = 0; i < NAMED_COUNT; i++)
    if (tokenizer->named[i] >= 0)
      json_object_set_new(object, named_tokens[i], json_integer(tokenizer->named[i]));
  if (json_object_size(object)) return object;
  json_decref(object);
  return NULL;
}

static json_t *model(const Tokenizer *tokenizer) {
  json_t *object = json_object(), *equals = ranks(tokenizer), *said = gguf(tokenizer);
  json_object_set_new(object, "type", json_string("BPE"));
  json_object_set_new(object, "dropout", json_null());
  json_object_set_new(object, "unk_token",
                      tokenizer->unknown < 0 ? json_null()
                                             : spelling(&tokenizer->tokens[tokenizer->unknown]));
  json_object_set_new(object, "continuing_subword_prefix", json_null());
  json_object_set_new(object, "end_of_word_suffix",
                      text_or_null(*tokenizer->suffix ? tokenizer->suffix : NULL));
  json_object_set_new(object, "fuse_unk", flag(tokenizer->fuse_unknown));
  json_object_set_new(object, "byte_fallback", flag(tokenizer->byte_fallback));
  json_object_set_new(object, "ignore_merges", flag(tokenizer->whole_words));
  json_object_set_new(object, "vocab", vocabulary(tokenizer));
  json_object_set_new(object, "merges", merges(tokenizer));
  if (equals) json_object_set_new(object, "ranks", equals);
  if (said) json_object_set_new(object, "gguf", said);
  return object;
}

static void add_around(const Tokenizer *tokenizer, const int32_t *ids, size_t count, json_t *steps,
                       json_t *specials) {
  for (size_t i = 0; i < count; i++) {
    json_t *text = spelling(&tokenizer->tokens[ids[i]]);
    json_array_append_new(steps, json_pack("{s:{s:O, s:i}}", "SpecialToken", "id", text, "type_id", 0));
    json_object_set_new(specials, json_string_value(text),
                        json_pack("{s:O, s:[i], s:[O]}", "id", text, "ids", (int)ids[i], "tokens", text));
    json_decref(text);
  }
}

// Where the file that was read had another way to say what stands before and after every text.
static json_t *post_processor(const Tokenizer *tokenizer) {
  if (tokenizer->post_processor_json || !(tokenizer->before_count + tokenizer->after_count))
    return part(tokenizer->post_processor_json);
  json_t *single = json_array(), *specials = json_object();
  add_around(tokenizer, tokenizer->before, tokenizer->before_count, single, specials);
  json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
  add_around(tokenizer, tokenizer->after, tokenizer->after_count, single, specials);
  json_t *pair = json_deep_copy(single);
  json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
  return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                   "special_tokens", specials);
}

void tokenizer_print(const Tokenizer *tokenizer, Text *json) {
  json_t *root = json_object();
  json_object_set_new(root, "version", json_string("1.0"));
  json_object_set_new(root, "truncation", json_null());
  json_object_set_new(root, "padding", json_null());
  json_object_set_new(root, "added_tokens", added_tokens(tokenizer));
  json_object_set_new(root, "normalizer", part(tokenizer->normalizer_json));
  json_object_set_new(root, "pre_tokenizer", part(tokenizer->pre_tokenizer_json));
  json_object_set_new(root, "post_processor", post_processor(tokenizer));
  json_object_set_new(root, "decoder", part(tokenizer->decoder_json));
  json_object_set_new(root, "model", model(tokenizer));
  char *text = json_dumps(root, JSON_INDENT(2));
  if (!text) die("out of memory");
  text_add(json, text, strlen(text));
  free(text);
  json_decref(root);
}

bool tokenizer_save(const Tokenizer *tokenizer, const char *path, Failure *failure) {
  Text json = {0};
  tokenizer_print(tokenizer, &json);
  bool good = file_replace(path, json.bytes, json.length, failure);
  text_free(&json);
  return good;
}
