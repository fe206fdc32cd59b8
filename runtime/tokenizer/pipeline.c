// The steps of tokenizer.json (normalizer, pre-tokenizer, post-processor, decoder) -> those of a Tokenizer.
// What would change ids or text and is not known is refused by name.
#include <string.h>

#include "runtime/json.h"
#include "runtime/tokenizer/parts.h"

enum { MAX_STEPS = 16, MAX_AROUND = 16 }; // steps of a part; tokens before or after every text

typedef struct Reading {
  Tokenizer *tokenizer;
  const char *place; // the file's name
  Failure *failure;
} Reading;

const Pipeline pipeline_gpt2 = {
    NULL, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}",
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}"};

const Pipeline pipeline_clip = {
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" \"},{\"type\":\"Lowercase\"}]}",
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
    "\"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"},"
    "\"behavior\":\"Removed\",\"invert\":true},"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}]}",
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}"};

const Pipeline pipeline_llama = {
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]}",
    NULL,
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"},\"content\":"
    "\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"};

const Pipeline pipeline_llama_bare = {
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}", NULL,
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"▁\"},\"content\":"
    "\" \"},"
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}"};

static const char *type_of(const json_t *part) {
  const char *type = json_string_value(json_object_get(part, "type"));
  return type ? type : "(no type)";
}

static bool has_type(const json_t *part, const char *type) { return !strcmp(type_of(part), type); }

static const char *text_of(const json_t *part, const char *key) {
  const char *text = json_string_value(json_object_get(part, key));
  return text ? text : "";
}

static bool refuse(const Reading *reading, const char *what, const json_t *part) {
  return fail(reading->failure, "%s: the %s \"%.60s\" is not supported", reading->place, what, type_of(part));
}

// Keeps a part for printing; false: there is nothing to do.
static bool keep(json_t **kept, json_t *part) {
  if (!part || json_is_null(part)) return false;
  *kept = json_incref(part);
  return true;
}

// Calls `step` for the part, or for each step of a Sequence (they do not nest deeper). `list` is the key of
// its steps.
typedef bool Step(Reading *reading, const json_t *part, size_t index, size_t count);
static bool each_step(Reading *reading, const json_t *part, const char *list, Step *step) {
  if (!json_is_object(part))
    return fail(reading->failure, "%s: a step of the tokenizer must be an object, found %s", reading->place,
                json_kind(part));
  if (!has_type(part, "Sequence")) return step(reading, part, 0, 1);
  const json_t *steps = json_object_get(part, list);
  size_t count = json_array_size(steps);
  if (!json_is_array(steps))
    return fail(reading->failure, "%s: \"%s\" must be an array, found %s", reading->place, list,
                json_kind(steps));
  if (count > MAX_STEPS)
    return fail(reading->failure, "%s: \"%s\" has %zu steps, more than %d", reading->place, list, count,
                MAX_STEPS);
  for (size_t i = 0; i < count; i++)
    if (!step(reading, json_array_get(steps, i), i, count)) return false;
  return true;
}

// A pattern: {"Regex": ...} or {"String": ...}, in old files a string alone.
static bool pattern_of(const Reading *reading, const json_t *part, const char **pattern, bool *literal) {
  const json_t *given = json_object_get(part, "pattern");
  const char *regex = json_string_value(json_object_get(given, "Regex"));
  const char *text =
      json_is_string(given) ? json_string_value(given) : json_string_value(json_object_get(given, "String"));
  *pattern = regex ? regex : text;
  *literal = !regex;
  return *pattern || fail(reading->failure, "%s: %s needs a pattern, either Regex or String", reading->place,
                          type_of(part));
}

// ---- normalizer ----

static bool add_normalization(const Reading *reading, NormalizeKind kind, const char *from, const char *to) {
  return normalizer_add(reading->tokenizer->normalizer, kind, from, to, reading->place, reading->failure);
}

static bool normalizer_step(Reading *reading, const json_t *part, size_t index, size_t count) {
  (void)index, (void)count;
  static const struct {
    const char *type;
    NormalizeKind kind;
  } plain[] = {{"NFC", NORMALIZE_NFC},
               {"NFD", NORMALIZE_NFD},
               {"NFKC", NORMALIZE_NFKC},
               {"NFKD", NORMALIZE_NFKD},
               {"Lowercase", NORMALIZE_LOWERCASE}};
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
    if (has_type(part, plain[i].type)) return add_normalization(reading, plain[i].kind, "", "");
  if (has_type(part, "Prepend"))
    return add_normalization(reading, NORMALIZE_PREPEND, "", text_of(part, "prepend"));
  if (has_type(part, "Strip")) {
    bool left = json_is_true(json_object_get(part, "strip_left"));
    bool right = json_is_true(json_object_get(part, "strip_right"));
    return (!left || add_normalization(reading, NORMALIZE_STRIP_LEFT, "", "")) &&
           (!right || add_normalization(reading, NORMALIZE_STRIP_RIGHT, "", ""));
  }
  if (!has_type(part, "Replace")) return refuse(reading, "normalizer", part);
  const char *pattern;
  bool literal;
  return pattern_of(reading, part, &pattern, &literal) &&
         add_normalization(reading, literal ? NORMALIZE_REPLACE : NORMALIZE_REPLACE_PATTERN, pattern,
                           text_of(part, "content"));
}

bool read_normalizer(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure) {
  Reading reading = {tokenizer, place, failure};
  return !keep(&tokenizer->normalizer_json, part) ||
         each_step(&reading, part, "normalizers", normalizer_step);
}

// ---- pre-tokenizer ----

static bool behavior_of(const Reading *reading, const json_t *part, SplitBehavior *behavior) {
  static const char *const names[] = {[SPLIT_ISOLATED] = "Isolated",
                                      [SPLIT_REMOVED] = "Removed",
                                      [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                      [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                      [SPLIT_CONTIGUOUS] = "Contiguous"};
  const char *name = text_of(part, "behavior");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    *behavior = (SplitBehavior)i;
    if (!strcmp(name, names[i])) return true;
  }
  return fail(reading->failure, "%s: %s with the behavior \"%.40s\" is not supported", reading->place,
              type_of(part), name);
}

static bool add_rule(const Reading *reading, SplitRule rule) {
  return splitter_add(reading->tokenizer->splitter, &rule, reading->place, reading->failure);
}

static bool add_preparation(const Reading *reading, NormalizeKind kind, const char *from, const char *to) {
  return normalizer_add(reading->tokenizer->preparation, kind, from, to, reading->place, reading->failure);
}

// Spaces become a mark, one of which also begins the text; perhaps words are split before each.
static bool metaspace_step(Reading *reading, const json_t *part, size_t index) {
  const char *mark = text_of(part, "replacement"), *scheme = text_of(part, "prepend_scheme");
  const json_t *old = json_object_get(part, "add_prefix_space"), *split = json_object_get(part, "split");
  if (index)
    return fail(reading->failure, "%s: the pre-tokenizer Metaspace must be the first", reading->place);
  if (!*mark) return fail(reading->failure, "%s: Metaspace needs a \"replacement\"", reading->place);
  if (!*scheme) scheme = json_is_false(old) ? "never" : "always";
  bool always = !strcmp(scheme, "always"), first = !strcmp(scheme, "first");
  if (!always && !first && strcmp(scheme, "never"))
    return fail(reading->failure, "%s: the prepend_scheme \"%.40s\" is not supported", reading->place,
                scheme);
  return add_preparation(reading, NORMALIZE_REPLACE, " ", mark) &&
         (!(always || first) ||
          add_preparation(reading, always ? NORMALIZE_PREPEND_MISSING : NORMALIZE_PREPEND_FIRST, "", mark)) &&
         (json_is_false(split) || add_rule(reading, (SplitRule){mark, true, SPLIT_MERGED_WITH_NEXT, false}));
}

// ByteLevel has to be the last: behind it text is spelled in other characters.
static bool byte_level_step(Reading *reading, const json_t *part, size_t index, size_t count) {
  if (index + 1 != count)
    return fail(reading->failure, "%s: the pre-tokenizer ByteLevel must be the last", reading->place);
  reading->tokenizer->byte_level = true;
  if (json_is_true(json_object_get(part, "add_prefix_space"))) {
    if (index)
      return fail(reading->failure,
                  "%s: ByteLevel with \"add_prefix_space\" behind other steps is not supported",
                  reading->place);
    if (!add_preparation(reading, NORMALIZE_PREPEND_MISSING, "", " ")) return false;
  }
  if (!json_is_false(json_object_get(part, "use_regex"))) splitter_add_gpt2(reading->tokenizer->splitter);
  return true;
}

// Of a word, as Rust has it: numbers that are no digits do not count.
#define LETTERS "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}"

static bool pre_tokenizer_step(Reading *reading, const json_t *part, size_t index, size_t count) {
  SplitRule rule = {0};
  if (has_type(part, "ByteLevel")) return byte_level_step(reading, part, index, count);
  if (has_type(part, "Metaspace")) return metaspace_step(reading, part, index);
  if (has_type(part, "Split")) {
    rule.invert = json_is_true(json_object_get(part, "invert"));
    return pattern_of(reading, part, &rule.pattern, &rule.literal) &&
           behavior_of(reading, part, &rule.behavior) && add_rule(reading, rule);
  }
  if (has_type(part, "Digits")) {
    bool each = json_is_true(json_object_get(part, "individual_digits"));
    return add_rule(reading, (SplitRule){each ? "\\p{N}" : "\\p{N}+", false, SPLIT_ISOLATED, false});
  }
  if (has_type(part, "Punctuation")) {
    rule.pattern = "[!-/:-@\\[-`{-~\\p{P}]";
    return behavior_of(reading, part, &rule.behavior) && add_rule(reading, rule);
  }
  if (has_type(part, "WhitespaceSplit"))
    return add_rule(reading, (SplitRule){"\\s", false, SPLIT_REMOVED, false});
  if (has_type(part, "Whitespace"))
    return add_rule(reading, (SplitRule){"[" LETTERS "]+|[^\\s" LETTERS "]+", false, SPLIT_REMOVED, true});
  return refuse(reading, "pre-tokenizer", part);
}

bool read_pre_tokenizer(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure) {
  Reading reading = {tokenizer, place, failure};
  return !keep(&tokenizer->pre_tokenizer_json, part) ||
         each_step(&reading, part, "pretokenizers", pre_tokenizer_step);
}

// ---- post-processor: what stands before and after every text ----

static bool add_id(const Reading *reading, const json_t *id, bool before) {
  Tokenizer *tokenizer = reading->tokenizer;
  json_int_t number = json_is_integer(id) ? json_integer_value(id) : -1;
  if (number < 0 || number >= tokenizer->count)
    return fail(reading->failure, "%s: the post-processor adds a token that does not exist", reading->place);
  int32_t **list = before ? &tokenizer->before : &tokenizer->after;
  size_t *count = before ? &tokenizer->before_count : &tokenizer->after_count;
  if (*count == MAX_AROUND)
    return fail(reading->failure, "%s: the post-processor adds more than %d tokens", reading->place,
                MAX_AROUND);
  *list = arena_grow(tokenizer->arena, *list, *count * sizeof **list, (*count + 1) * sizeof **list);
  (*list)[(*count)++] = (int32_t)number;
  return true;
}

static bool template_step(const Reading *reading, const json_t *part) {
  size_t i, j;
  const json_t *entry, *id;
  bool before = true;
  json_array_foreach(json_object_get(part, "single"), i, entry) {
    const char *name = text_of(json_object_get(entry, "SpecialToken"), "id");
    if (!*name) {
      before = false;
      continue;
    }
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(part, "special_tokens"), name), "ids");
    json_array_foreach(ids, j, id) {
      if (!add_id(reading, id, before)) return false;
    }
  }
  return true;
}

static bool post_processor_step(Reading *reading, const json_t *part, size_t index, size_t count) {
  (void)index, (void)count;
  if (has_type(part, "ByteLevel")) return true; // moves offsets only
  if (has_type(part, "TemplateProcessing")) return template_step(reading, part);
  if (has_type(part, "RobertaProcessing") || has_type(part, "BertProcessing"))
    return add_id(reading, json_array_get(json_object_get(part, "cls"), 1), true) &&
           add_id(reading, json_array_get(json_object_get(part, "sep"), 1), false);
  return refuse(reading, "post-processor", part);
}

bool read_post_processor(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure) {
  Reading reading = {tokenizer, place, failure};
  return !keep(&tokenizer->post_processor_json, part) ||
         each_step(&reading, part, "processors", post_processor_step);
}

// ---- decoder: every token's bytes ----

static void set_bytes(const Tokenizer *tokenizer, Token *token, const char *bytes, size_t length) {
  token->bytes = arena_copy(tokenizer->arena, bytes, length);
  token->length = length;
}

// Replaces `from` in the bytes of all tokens.
static void replace_in_tokens(const Tokenizer *tokenizer, const char *from, const char *to) {
  size_t width = strlen(from);
  for (int32_t id = 0; id < tokenizer->count; id++) {
    Token *token = &tokenizer->tokens[id];
    Text text = {0};
    size_t done = 0;
    if (!token->bytes || token->added || !width) continue;
    for (const char *at; (at = memmem(token->bytes + done, token->length - done, from, width));) {
      text_add(&text, token->bytes + done, (size_t)(at - token->bytes) - done);
      text_add(&text, to, strlen(to));
      done = (size_t)(at - token->bytes) + width;
    }
    if (done) {
      text_add(&text, token->bytes + done, token->length - done);
      set_bytes(tokenizer, token, text_string(&text), text.length);
    }
    text_free(&text);
  }
}

static void spell_bytes(const Tokenizer *tokenizer) {
  for (int32_t id = 0; id < tokenizer->count; id++) {
    Token *token = &tokenizer->tokens[id];
    char *bytes;
    size_t length, plain = strlen(tokenizer->suffix);
    if (!token->text || token->added) continue;
    bool ends = plain && token->text_length >= plain &&
                !memcmp(token->text + token->text_length - plain, tokenizer->suffix, plain);
    if (!byte_level_read(token->text, token->text_length - (ends ? plain : 0), tokenizer->arena, &bytes,
                         &length))
      continue;                      // spelled in other characters, it stands for itself
    if (ends) bytes[length++] = ' '; // its room was the end of the text
    token->bytes = bytes;
    token->length = length;
  }
}

static void fall_back(Tokenizer *tokenizer) {
  for (int byte = 0; byte < 256; byte++) {
    char spelling[8] = "<0x00>";
    spelling[3] = "0123456789ABCDEF"[byte >> 4];
    spelling[4] = "0123456789ABCDEF"[byte & 15];
    int32_t id = tokenizer_lookup(tokenizer, spelling, 6);
    if (id >= 0) set_bytes(tokenizer, &tokenizer->tokens[id], (char[]){(char)byte}, 1);
  }
}

static bool decoder_step(Reading *reading, const json_t *part, size_t index, size_t count) {
  (void)index, (void)count;
  Tokenizer *tokenizer = reading->tokenizer;
  const char *pattern;
  bool literal;
  if (has_type(part, "ByteLevel")) return spell_bytes(tokenizer), true;
  if (has_type(part, "ByteFallback")) return fall_back(tokenizer), true;
  if (has_type(part, "Fuse")) return true;
  if (has_type(part, "BPEDecoder")) return replace_in_tokens(tokenizer, text_of(part, "suffix"), " "), true;
  if (has_type(part, "Metaspace")) {
    const char *scheme = text_of(part, "prepend_scheme");
    bool prepends = strcmp(scheme, "never") && !json_is_false(json_object_get(part, "add_prefix_space"));
    tokenizer->drop_spaces = prepends ? SIZE_MAX : 0;
    replace_in_tokens(tokenizer, text_of(part, "replacement"), " ");
    return true;
  }
  if (has_type(part, "Replace")) {
    if (!pattern_of(reading, part, &pattern, &literal)) return false;
    if (!literal)
      return fail(reading->failure, "%s: a decoder that replaces a Regex is not supported", reading->place);
    if (strlen(text_of(part, "content")) > strlen(pattern)) // what a few steps in a row could blow up
      return fail(reading->failure,
                  "%s: a decoder that makes tokens longer than they are spelled is not supported",
                  reading->place);
    replace_in_tokens(tokenizer, pattern, text_of(part, "content"));
    return true;
  }
  if (!has_type(part, "Strip")) return refuse(reading, "decoder", part);
  json_int_t begin = json_integer_value(json_object_get(part, "start"));
  if (strcmp(text_of(part, "content"), " ") || begin < 0 || begin > 1 ||
      json_integer_value(json_object_get(part, "stop")))
    return fail(reading->failure,
                "%s: a decoder that strips more than one space before the text is not supported",
                reading->place);
  tokenizer->drop_spaces = (size_t)begin;
  return true;
}

// Without a decoder, tokens stand for what they are spelled as.
bool read_decoder(Tokenizer *tokenizer, json_t *part, const char *place, Failure *failure) {
  Reading reading = {tokenizer, place, failure};
  for (int32_t id = 0; id < tokenizer->count; id++) {
    Token *token = &tokenizer->tokens[id];
    if (token->text) token->bytes = token->text, token->length = token->text_length;
  }
  if (keep(&tokenizer->decoder_json, part)) return each_step(&reading, part, "decoders", decoder_step);
  if (tokenizer->byte_level) spell_bytes(tokenizer);
  return true;
}

// ---- steps that our own readers name ----

bool tokenizer_use(Tokenizer *tokenizer, const Pipeline *pipeline, const char *place, Failure *failure) {
  typedef bool Reader(Tokenizer *, json_t *, const char *, Failure *);
  const struct {
    const char *json;
    Reader *read;
  } parts[] = {{pipeline->normalizer, read_normalizer},
               {pipeline->pre_tokenizer, read_pre_tokenizer},
               {pipeline->decoder, read_decoder}};
  bool good = true;
  for (size_t i = 0; good && i < sizeof parts / sizeof *parts; i++) {
    json_t *part = parts[i].json ? json_parse(parts[i].json, strlen(parts[i].json), place, failure) : NULL;
    if (parts[i].json && !part) die("%s", failure->message);
    good = parts[i].read(tokenizer, part, place, failure);
    json_decref(part);
  }
  return good;
}
