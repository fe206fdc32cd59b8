// The vocabulary inside a GGUF file -> Tokenizer, and back, by its metadata:
//
//   tokenizer.ggml.model       gpt2: byte-level; llama: SentencePiece's pieces
//   tokenizer.ggml.pre         gpt2: how text is split
//   tokenizer.ggml.tokens, token_type, merges (gpt2), scores (llama)
//   tokenizer.ggml.bos_token_id, eos_token_id, ... (named_tokens), add_bos_token, add_eos_token,
//   add_space_prefix
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"
#include "runtime/weights/gguf.h"

#define KEY(name) "tokenizer.ggml." name
#define REGEX(pattern)                                                                                       \
  "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" pattern "\"},\"behavior\":\"Isolated\",\"invert\":false},"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true},"
#define STEPS(steps, last_splits)                                                                            \
  "{\"type\":\"Sequence\",\"pretokenizers\":[" steps                                                         \
  "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" last_splits      \
  "}]}"
// The pattern of GPT-4 and its descendants, who differ in how many digits stay together.
#define WORDS(digits)                                                                                        \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" digits                             \
  "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define NFC "{\"type\":\"NFC\"}"

typedef struct Kind {
  const char *pre, *normalizer, *pre_tokenizer;
  bool whole_words;
} Kind;

const char *const named_tokens[NAMED_COUNT] = {
    [NAMED_BEGIN] = "bos_token_id",       [NAMED_END] = "eos_token_id",
    [NAMED_END_OF_TURN] = "eot_token_id", [NAMED_END_OF_MESSAGE] = "eom_token_id",
    [NAMED_UNKNOWN] = "unknown_token_id", [NAMED_PADDING] = "padding_token_id"};

typedef struct NamedKey {
  char text[60];
} NamedKey;

static NamedKey named_key(int named) {
  NamedKey key;
  snprintf(key.text, sizeof key.text, KEY("%s"), named_tokens[named]);
  return key;
}

static const char gpt2_steps[] = STEPS("", "true");
static const char digit_steps[] = STEPS(DIGITS, "true");
static const char qwen2_steps[] = STEPS(REGEX(WORDS("\\\\p{N}")), "false");
static const char llama3_steps[] = STEPS(REGEX(WORDS("\\\\p{N}{1,3}")), "false");
static const char deepseek_coder_steps[] =
    STEPS(REGEX("[\\\\r\\\\n]") REGEX("\\\\s?\\\\p{L}+") REGEX("\\\\s?\\\\p{P}+")
              REGEX("[一-龥ࠀ-一가-퟿]+") DIGITS,
          "false");

static const Kind kinds[] = {{"gpt-2", NULL, gpt2_steps, false},
                             {"gpt2", NULL, gpt2_steps, false},
                             {"phi-2", NULL, gpt2_steps, false},
                             {"jais", NULL, gpt2_steps, false},
                             {"mpt", NULL, gpt2_steps, false},
                             {"olmo", NULL, gpt2_steps, false},
                             {"roberta-bpe", NULL, gpt2_steps, false},
                             {"starcoder", NULL, digit_steps, false},
                             {"refact", NULL, digit_steps, false},
                             {"command-r", NULL, digit_steps, false},
                             {"smollm", NULL, digit_steps, false},
                             {"codeshell", NULL, digit_steps, false},
                             {"exaone", NULL, digit_steps, false},
                             {"qwen2", NFC, qwen2_steps, false},
                             {"deepseek-r1-qwen", NULL, qwen2_steps, false},
                             {"megrez", NULL, qwen2_steps, false},
                             {"stablelm2", NULL, qwen2_steps, false},
                             {"hunyuan", NULL, qwen2_steps, false},
                             {"llama-bpe", NULL, llama3_steps, true},
                             {"llama3", NULL, llama3_steps, true},
                             {"llama-v3", NULL, llama3_steps, true},
                             {"smaug-bpe", NULL, llama3_steps, false},
                             {"dbrx", NULL, llama3_steps, false},
                             {"deepseek-coder", NULL, deepseek_coder_steps, false}};

typedef struct Reading {
  Tokenizer *tokenizer;
  const Gguf *file;
  const GgufString *tokens;
  size_t count;
  const GgufValue *types; // NULL: all are normal
  const char *place;
  Failure *failure;
} Reading;

static bool equals(GgufString string, const char *text) {
  return string.length == strlen(text) && !memcmp(string.bytes, text, string.length);
}

static PieceKind kind_of(const Reading *reading, size_t id) {
  int64_t kind = reading->types ? gguf_integer(reading->types, id) : PIECE_NORMAL;
  return kind >= PIECE_NORMAL && kind <= PIECE_BYTE ? (PieceKind)kind : (PieceKind)0;
}

static bool read_tokens(Reading *reading) {
  if (!gguf_get_strings(reading->file, KEY("tokens"), &reading->tokens, &reading->count, reading->failure))
    return false;
  if (!reading->count || reading->count > TOKENIZER_MAX_TOKENS)
    return fail(reading->failure, "%s: has %zu tokens, expected 1 to %d", reading->place, reading->count,
                TOKENIZER_MAX_TOKENS);
  const GgufValue *types = gguf_find(reading->file, KEY("token_type"));
  if (types && (!gguf_get_numbers(reading->file, KEY("token_type"), &reading->types, reading->failure) ||
                types->count != reading->count))
    return types->count == reading->count || fail(reading->failure, "%s: has %zu tokens, but types of %zu",
                                                  reading->place, reading->count, types->count);
  return true;
}

// A flag that may be absent.
static bool flag(const Reading *reading, const char *key, bool absent, bool *out) {
  *out = absent;
  return !gguf_find(reading->file, key) || gguf_get_bool(reading->file, key, out, reading->failure);
}

// What stands before or after every text, where the file asks for it.
static bool read_border(const Reading *reading, const char *add, bool absent, const char *key, int32_t **ids,
                        size_t *count) {
  bool wanted;
  int64_t id;
  if (!flag(reading, add, absent, &wanted)) return false;
  if (!wanted || !gguf_find(reading->file, key)) return true;
  if (!gguf_get_integer(reading->file, key, &id, reading->failure)) return false;
  if (id < 0 || (size_t)id >= reading->count)
    return fail(reading->failure, "%s: %s is %lld, but there are %zu tokens", reading->place, key,
                (long long)id, reading->count);
  *ids = ARENA_ARRAY(reading->tokenizer->arena, int32_t, 1);
  **ids = (int32_t)id;
  *count = 1;
  return true;
}

static bool read_named(const Reading *reading) {
  for (int i = 0; i < NAMED_COUNT; i++) {
    int64_t id = -1;
    NamedKey key = named_key(i);
    if (!gguf_find(reading->file, key.text)) continue;
    if (!gguf_get_integer(reading->file, key.text, &id, reading->failure)) return false;
    // Some files name the last possible id where they mean none.
    if (id >= 0 && (size_t)id < reading->count) reading->tokenizer->named[i] = (int32_t)id;
  }
  return true;
}

static bool read_borders(const Reading *reading, bool begins) {
  Tokenizer *tokenizer = reading->tokenizer;
  return read_named(reading) &&
         read_border(reading, KEY("add_bos_token"), begins, KEY("bos_token_id"), &tokenizer->before,
                     &tokenizer->before_count) &&
         read_border(reading, KEY("add_eos_token"), false, KEY("eos_token_id"), &tokenizer->after,
                     &tokenizer->after_count);
}

// SentencePiece.

static bool read_pieces(const Reading *reading) {
  const GgufValue *scores;
  bool prefix;
  Piece *pieces;
  if (!gguf_get_numbers(reading->file, KEY("scores"), &scores, reading->failure)) return false;
  if (scores->count != reading->count)
    return fail(reading->failure, "%s: has %zu tokens, but scores of %zu", reading->place, reading->count,
                scores->count);
  if (!flag(reading, KEY("add_space_prefix"), true, &prefix)) return false;
  if (!(pieces = calloc(reading->count, sizeof *pieces))) die("out of memory");
  for (size_t i = 0; i < reading->count; i++) {
    GgufString text = reading->tokens[i];
    pieces[i] = (Piece){arena_copy(reading->tokenizer->arena, text.bytes, text.length), text.length,
                        (float)gguf_number(scores, i), kind_of(reading, i)};
  }
  bool good = use_pieces(reading->tokenizer, pieces, reading->count, reading->place, reading->failure);
  free(pieces);
  return good &&
         tokenizer_use(reading->tokenizer, prefix ? &pipeline_llama : &pipeline_llama_bare, reading->place,
                       reading->failure) &&
         read_borders(reading, true);
}

// Byte-level.

// Control tokens are special; tokens that users defined are found in every text. Where two are spelled alike,
// the second is never used.
static bool add_tokens(const Reading *reading) {
  Tokenizer *tokenizer = reading->tokenizer;
  tokenizer->count = (int32_t)reading->count;
  tokenizer->tokens = ARENA_ARRAY(tokenizer->arena, Token, reading->count);
  for (size_t i = 0; i < reading->count; i++) {
    GgufString text = reading->tokens[i];
    PieceKind kind = kind_of(reading, i);
    if (!text.length || text.length > TOKENIZER_MAX_TOKEN_BYTES || !is_text(text.bytes, text.length))
      return fail(reading->failure, "%s: token %zu is not 1 to %d bytes of valid UTF-8", reading->place, i,
                  TOKENIZER_MAX_TOKEN_BYTES);
    if (!kind)
      return fail(reading->failure, "%s: token %zu has a type that is not 1 to 6", reading->place, i);
    Token *token = &tokenizer->tokens[i];
    *token =
        (Token){.text = arena_copy(tokenizer->arena, text.bytes, text.length), .text_length = text.length};
    token->known = kind != PIECE_UNUSED;
    token->special = kind == PIECE_CONTROL || kind == PIECE_UNKNOWN;
    token->added = token->special || kind == PIECE_USER;
  }
  return true;
}

static bool read_merges(const Reading *reading) {
  const GgufString *lines;
  Tokenizer *tokenizer = reading->tokenizer;
  size_t count;
  if (!gguf_get_strings(reading->file, KEY("merges"), &lines, &count, reading->failure)) return false;
  if (count > TOKENIZER_MAX_TOKENS)
    return fail(reading->failure, "%s: has %zu merges, more than the %d allowed", reading->place, count,
                TOKENIZER_MAX_TOKENS);
  tokenizer->merges = ARENA_ARRAY(tokenizer->arena, Merge, count);
  tokenizer->merge_count = count;
  for (size_t rank = 0; rank < count; rank++)
    if (!add_merge_line(tokenizer, rank, lines[rank].bytes, lines[rank].length, reading->place,
                        reading->failure))
      return false;
  return true;
}

static bool read_byte_level(const Reading *reading) {
  GgufString pre;
  const Kind *kind = NULL;
  Pipeline pipeline = pipeline_gpt2;
  if (!gguf_get_string(reading->file, KEY("pre"), &pre, reading->failure)) return false;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (equals(pre, kinds[i].pre)) kind = &kinds[i];
  if (!kind)
    return fail(reading->failure, "%s: how \"%.*s\" splits text (%s) is not known", reading->place,
                pre.length < 60 ? (int)pre.length : 60, pre.bytes, KEY("pre"));
  pipeline.normalizer = kind->normalizer;
  pipeline.pre_tokenizer = kind->pre_tokenizer;
  reading->tokenizer->whole_words = kind->whole_words;
  reading->tokenizer->split_name = kind->pre;
  return add_tokens(reading) && tokenizer_index(reading->tokenizer, reading->place, reading->failure) &&
         read_merges(reading) &&
         tokenizer_use(reading->tokenizer, &pipeline, reading->place, reading->failure) &&
         read_borders(reading, kind->whole_words);
}

bool read_gguf_vocabulary(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                          Failure *failure) {
  Gguf file = {0};
  GgufString model;
  if (!gguf_parse((const unsigned char *)bytes, size, place, &file, failure)) return false;
  Reading reading = {.tokenizer = tokenizer, .file = &file, .place = place, .failure = failure};
  bool good = gguf_get_string(&file, KEY("model"), &model, failure) && read_tokens(&reading);
  if (good && equals(model, "llama"))
    good = read_pieces(&reading);
  else if (good && equals(model, "gpt2"))
    good = read_byte_level(&reading);
  else if (good)
    good = fail(failure, "%s: the tokenizer \"%.*s\" is not supported; gpt2 and llama are", place,
                model.length < 60 ? (int)model.length : 60, model.bytes);
  gguf_close(&file);
  return good;
}

// ---- writing ------------------------------------------------------------------------------------

static bool same_json(const json_t *json, const char *text) {
  if (!text) return !json || json_is_null(json);
  json_t *read = json_loads(text, 0, NULL);
  bool same = read && json && json_equal(read, json);
  json_decref(read);
  return same;
}

// The kind that the file named, else the first that splits as the tokenizer does; NULL: none. Byte-level
// splitting alone is GPT-2's.
static const Kind *find_kind(const Tokenizer *tokenizer) {
  static const char alone[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
                              "\"use_regex\":true}";
  const Kind *found = NULL;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    const Kind *kind = &kinds[i];
    bool splits = same_json(tokenizer->pre_tokenizer_json, kind->pre_tokenizer) ||
                  (kind->pre_tokenizer == gpt2_steps && same_json(tokenizer->pre_tokenizer_json, alone));
    if (!splits || !same_json(tokenizer->normalizer_json, kind->normalizer) ||
        tokenizer->whole_words != kind->whole_words)
      continue;
    if (tokenizer->split_name && !strcmp(kind->pre, tokenizer->split_name)) return kind;
    if (!found) found = kind;
  }
  return found;
}

static PieceKind piece_kind(const Tokenizer *tokenizer, int32_t id) {
  const Token *token = &tokenizer->tokens[id];
  if (id == tokenizer->unknown && !tokenizer->byte_level) return PIECE_UNKNOWN;
  if (token->special) return PIECE_CONTROL;
  if (token->added) return PIECE_USER;
  if (!token->text || !token->known) return PIECE_UNUSED;
  for (int byte = 0; tokenizer->byte_fallback && byte < 256; byte++)
    if (tokenizer->bytes[byte] == id) return PIECE_BYTE;
  return PIECE_NORMAL;
}

// All `count` tokens, those that the tokenizer lacks as unused ones.
static Piece *list_pieces(const Tokenizer *tokenizer, size_t count, Arena *arena) {
  Piece *pieces = ARENA_ARRAY(arena, Piece, count);
  for (size_t i = 0; i < count; i++) {
    const Token *token = i < (size_t)tokenizer->count ? &tokenizer->tokens[i] : &(Token){0};
    pieces[i].text = token->text ? token->text : arena_print(arena, "[unused %zu]", i);
    pieces[i].length = token->text ? token->text_length : strlen(pieces[i].text);
    pieces[i].kind = token->text ? piece_kind(tokenizer, (int32_t)i) : PIECE_UNUSED;
  }
  return pieces;
}

static void note_pieces(const Piece *pieces, size_t count, Arena *arena, GgufMetadata *metadata) {
  GgufString *texts = ARENA_ARRAY(arena, GgufString, count);
  int32_t *types = ARENA_ARRAY(arena, int32_t, count);
  for (size_t i = 0; i < count; i++) {
    texts[i] = (GgufString){pieces[i].text, pieces[i].length};
    types[i] = (int32_t)pieces[i].kind;
  }
  gguf_add_strings(metadata, KEY("tokens"), texts, count);
  gguf_add_i32s(metadata, KEY("token_type"), types, count);
}

static bool note_byte_level(const Tokenizer *tokenizer, size_t count, Arena *arena, GgufMetadata *metadata,
                            Failure *failure) {
  bool plain = !*tokenizer->suffix;
  for (size_t i = 0; i < tokenizer->merge_count; i++) plain &= tokenizer->merges[i].rank == i;
  const Kind *kind = plain ? find_kind(tokenizer) : NULL;
  if (!kind) return fail(failure, "the tokenizer splits text in a way that GGUF has no name for");
  GgufString *lines = ARENA_ARRAY(arena, GgufString, tokenizer->merge_count + 1);
  for (size_t i = 0; i < tokenizer->merge_count; i++) {
    const Merge *merge = &tokenizer->merges[i];
    const Token *left = &tokenizer->tokens[merge->left], *right = &tokenizer->tokens[merge->right];
    const char *line = arena_print(arena, "%.*s %.*s", (int)left->text_length, left->text,
                                   (int)right->text_length, right->text);
    lines[i] = (GgufString){line, strlen(line)};
  }
  gguf_add_string(metadata, KEY("model"), "gpt2");
  gguf_add_string(metadata, KEY("pre"), kind->pre);
  note_pieces(list_pieces(tokenizer, count, arena), count, arena, metadata);
  gguf_add_strings(metadata, KEY("merges"), lines, tokenizer->merge_count);
  gguf_add_bool(metadata, KEY("add_space_prefix"), false);
  return true;
}

// Scores: the file's own, else from the ranks, where a token's first merge speaks for it.
static void score_pieces(const Tokenizer *tokenizer, Piece *pieces) {
  size_t merges = tokenizer->merge_count;
  for (int32_t i = 0; i < tokenizer->count; i++) {
    bool merged = pieces[i].kind == PIECE_NORMAL;
    pieces[i].score = tokenizer->scores ? tokenizer->scores[i] : merged ? -(float)merges : 0;
  }
  for (size_t i = tokenizer->scores ? 0 : merges; i-- > 0;)
    pieces[tokenizer->merges[i].result].score = -(float)tokenizer->merges[i].rank;
}

// Whether reading the pieces gives the tokenizer's merges in their order. Ways to make one token may be equal
// there that are not here: they were listed side by side.
static bool pieces_merge_alike(const Tokenizer *tokenizer, const Piece *pieces, size_t count,
                               Failure *failure) {
  Tokenizer *back = tokenizer_new();
  bool good = use_pieces(back, pieces, count, "the tokenizer", failure) &&
              tokenizer_prepare(back, "the tokenizer", failure);
  bool alike = good && back->merge_count == tokenizer->merge_count;
  uint32_t last = 0;
  for (size_t i = 0; alike && i < tokenizer->merge_count; i++) {
    const Merge *merge = &tokenizer->merges[i], *read = tokenizer_merge(back, merge->left, merge->right);
    bool equal = i && merge->rank == merge[-1].rank;
    alike = read && read->result == merge->result && read->rank >= last && (!equal || read->rank == last);
    if (alike) last = read->rank;
  }
  tokenizer_free(back);
  return alike || (good && fail(failure, "the tokenizer's merges are not those that scores of tokens give, "
                                         "and GGUF has nothing else for SentencePiece's kind"));
}

// Whether text gets a mark before it, at the beginning and after special tokens: what GGUF can say.
static bool find_prefix(const Tokenizer *tokenizer, bool *prefix, Failure *failure) {
  static const char alone[] = "{\"type\":\"Sequence\",\"normalizers\":["
                              "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]}";
  const json_t *normalizer = tokenizer->normalizer_json;
  *prefix = same_json(normalizer, pipeline_llama.normalizer);
  bool known =
      *prefix || same_json(normalizer, pipeline_llama_bare.normalizer) || same_json(normalizer, alone);
  return (known && !tokenizer->pre_tokenizer_json) ||
         fail(failure, "the tokenizer prepares text otherwise than by \"▁\" for every space and perhaps one "
                       "before each text, which is what GGUF can say of SentencePiece's kind");
}

static bool note_sentencepiece(const Tokenizer *tokenizer, size_t count, Arena *arena, GgufMetadata *metadata,
                               Failure *failure) {
  bool prefix, whole = tokenizer->byte_fallback && !*tokenizer->suffix && !tokenizer->whole_words;
  for (int byte = 0; byte < 256; byte++) whole &= tokenizer->bytes[byte] >= 0;
  if (!whole)
    return fail(failure, "the tokenizer is neither byte-level nor of SentencePiece's kind with a token for "
                         "each byte: GGUF has no form for it");
  Piece *pieces = list_pieces(tokenizer, count, arena);
  score_pieces(tokenizer, pieces);
  if (!find_prefix(tokenizer, &prefix, failure) || !pieces_merge_alike(tokenizer, pieces, count, failure))
    return false;
  float *scores = ARENA_ARRAY(arena, float, count);
  for (size_t i = 0; i < count; i++) scores[i] = pieces[i].score;
  gguf_add_string(metadata, KEY("model"), "llama");
  gguf_add_string(metadata, KEY("pre"), "default");
  note_pieces(pieces, count, arena, metadata);
  gguf_add_f32s(metadata, KEY("scores"), scores, count);
  gguf_add_bool(metadata, KEY("add_space_prefix"), prefix);
  return true;
}

// What stands before and after every text, and the tokens that have a name.
static void note_borders(const Tokenizer *tokenizer, int32_t begin, int32_t end, GgufMetadata *metadata) {
  int32_t named[NAMED_COUNT];
  memcpy(named, tokenizer->named, sizeof named);
  if (begin >= 0) named[NAMED_BEGIN] = begin;
  if (end >= 0) named[NAMED_END] = end;
  if (tokenizer->before_count) named[NAMED_BEGIN] = *tokenizer->before;
  if (tokenizer->after_count) named[NAMED_END] = *tokenizer->after;
  if (tokenizer->unknown >= 0) named[NAMED_UNKNOWN] = tokenizer->unknown;
  for (int i = 0; i < NAMED_COUNT; i++)
    if (named[i] >= 0) gguf_add_u32(metadata, named_key(i).text, (uint32_t)named[i]);
  gguf_add_bool(metadata, KEY("add_bos_token"), tokenizer->before_count != 0);
  gguf_add_bool(metadata, KEY("add_eos_token"), tokenizer->after_count != 0);
}

bool tokenizer_note_gguf(const Tokenizer *tokenizer, int64_t vocabulary, int32_t begin, int32_t end,
                         GgufMetadata *metadata, Failure *failure) {
  if (vocabulary < tokenizer->count || vocabulary > TOKENIZER_MAX_TOKENS)
    return fail(failure, "the tokenizer has %d tokens, but the model %lld", tokenizer->count,
                (long long)vocabulary);
  if (tokenizer->before_count > 1 || tokenizer->after_count > 1)
    return fail(failure, "the tokenizer puts %zu tokens before every text and %zu after it; GGUF can say one",
                tokenizer->before_count, tokenizer->after_count);
  Arena *arena = arena_new();
  bool good = (tokenizer->byte_level ? note_byte_level : note_sentencepiece)(tokenizer, (size_t)vocabulary,
                                                                             arena, metadata, failure);
  if (good) note_borders(tokenizer, begin, end, metadata);
  arena_free(arena);
  return good;
}
