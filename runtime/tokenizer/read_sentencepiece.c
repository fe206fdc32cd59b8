// SentencePiece's tokenizer.model -> Tokenizer. The file is a protocol buffer:
//
//   1 piece*: 1 text, 2 score (float), 3 kind
//   2 trainer: 3 model type, 24 space as suffix, 41 <s>, 42 </s>
//   3 normalizer: 2 table of characters, 3 space before the text, 4 single spaces, 5 spaces as marks
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

// One field: a varint or a fixed-size number in `number`, or `length` bytes.
typedef struct Field {
  uint64_t tag, number;
  const char *bytes;
  size_t length;
} Field;

typedef struct Message {
  const char *at, *end;
  const char *start; // of the file, for messages
} Message;

static bool read_varint(Message *message, uint64_t *number) {
  *number = 0;
  for (int shift = 0; shift < 64 && message->at < message->end; shift += 7) {
    unsigned char byte = (unsigned char)*message->at++;
    *number |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

// False at the end of the message; a failure, where there is one, is set.
static bool next_field(Message *message, Field *field, const char *place, Failure *failure, bool *good) {
  uint64_t key, length = 0;
  if (!*good || message->at == message->end) return false;
  size_t where = (size_t)(message->at - message->start);
  *good = read_varint(message, &key);
  *field = (Field){.tag = key >> 3};
  switch (*good ? key & 7 : 7) {
  case 0: *good = read_varint(message, &field->number); break;
  case 1: length = 8; break;
  case 2: *good = read_varint(message, &length); break;
  case 5: length = 4; break;
  default: *good = false;
  }
  *good = *good && length <= (size_t)(message->end - message->at);
  if (!*good)
    return fail(failure, "%s: the field at byte %zu is broken or goes beyond its end", place, where);
  field->bytes = message->at;
  field->length = (size_t)length;
  message->at += length;
  for (size_t i = 0; (key & 7) != 2 && i < length; i++)
    field->number |= (uint64_t)(unsigned char)field->bytes[i] << (8 * i);
  return true;
}

typedef struct Reading {
  Tokenizer *tokenizer;
  Piece *pieces; // [capacity], on the C heap
  size_t count, capacity;
  uint64_t model, begin, end;
  bool suffix, prefix, single_spaces, marks;
  size_t table;
  const char *place, *start;
  Failure *failure;
} Reading;

static Message inner(const Reading *reading, const Field *field) {
  return (Message){field->bytes, field->bytes + field->length, reading->start};
}

static bool read_piece(Reading *reading, const Field *field) {
  Message message = inner(reading, field);
  Piece piece = {.kind = PIECE_NORMAL, .text = ""};
  Field part;
  bool good = true;
  while (next_field(&message, &part, reading->place, reading->failure, &good)) {
    uint32_t bits = (uint32_t)part.number;
    if (part.tag == 1) {
      piece.text = arena_copy(reading->tokenizer->arena, part.bytes ? part.bytes : "", part.length);
      piece.length = part.length;
    }
    if (part.tag == 2) memcpy(&piece.score, &bits, 4);
    if (part.tag == 3) piece.kind = part.number <= PIECE_BYTE ? (PieceKind)part.number : (PieceKind)0;
  }
  if (good && piece.kind == PIECE_UNUSED)
    return fail(reading->failure, "%s: token %zu is marked as not to be used, which is not supported",
                reading->place, reading->count);
  if (reading->count == reading->capacity) {
    reading->capacity = reading->capacity ? reading->capacity * 2 : 1024;
    reading->pieces = realloc(reading->pieces, reading->capacity * sizeof *reading->pieces);
    if (!reading->pieces) die("out of memory");
  }
  reading->pieces[reading->count++] = piece;
  return good;
}

static bool read_trainer(Reading *reading, const Field *field) {
  Message message = inner(reading, field);
  Field part;
  bool good = true;
  while (next_field(&message, &part, reading->place, reading->failure, &good)) {
    if (part.tag == 3) reading->model = part.number;
    if (part.tag == 24) reading->suffix = part.number != 0;
    if (part.tag == 41) reading->begin = part.number;
    if (part.tag == 42) reading->end = part.number;
  }
  return good;
}

static bool read_normalizer_spec(Reading *reading, const Field *field) {
  Message message = inner(reading, field);
  Field part;
  bool good = true;
  while (next_field(&message, &part, reading->place, reading->failure, &good)) {
    if (part.tag == 2) reading->table = part.length;
    if (part.tag == 3) reading->prefix = part.number != 0;
    if (part.tag == 4) reading->single_spaces = part.number != 0;
    if (part.tag == 5) reading->marks = part.number != 0;
  }
  return good;
}

static bool read_fields(Reading *reading, size_t size) {
  Message message = {reading->start, reading->start + size, reading->start};
  Field field;
  bool good = true;
  while (next_field(&message, &field, reading->place, reading->failure, &good)) {
    if (field.tag == 1) good = read_piece(reading, &field);
    if (field.tag == 2) good = read_trainer(reading, &field);
    if (field.tag == 3) good = read_normalizer_spec(reading, &field);
  }
  return good;
}

static bool check(const Reading *reading) {
  static const char *const models[] = {"(none)", "unigram", "BPE", "word", "char"};
  if (reading->model != 2)
    return fail(reading->failure, "%s: the SentencePiece model is of the kind %s; only BPE is supported",
                reading->place, reading->model < 5 ? models[reading->model] : "(unknown)");
  if (reading->table)
    return fail(reading->failure, "%s: a SentencePiece model that replaces characters is not supported",
                reading->place);
  if (reading->suffix || !reading->marks)
    return fail(reading->failure, "%s: a SentencePiece model with %s is not supported", reading->place,
                reading->suffix ? "spaces as suffixes" : "spaces that are not marked");
  return true;
}

// The model's own normaliser as steps.
static bool use_steps(const Reading *reading) {
  Text text = {0};
  text_print(&text, "{\"type\":\"Sequence\",\"normalizers\":[");
  if (reading->single_spaces)
    text_print(&text,
               "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +|[ ▁]+\\\\z\"},\"content\":\"\"},"
               "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},");
  if (reading->prefix) text_print(&text, "{\"type\":\"Prepend\",\"prepend\":\"%s\"},", space_mark);
  text_print(&text, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"%s\"}]}", space_mark);
  Pipeline pipeline = reading->prefix ? pipeline_llama : pipeline_llama_bare;
  pipeline.normalizer = text.bytes;
  bool good = tokenizer_use(reading->tokenizer, &pipeline, reading->place, reading->failure);
  text_free(&text);
  return good;
}

static bool is_control(const Reading *reading, uint64_t id) {
  return id < reading->count && reading->pieces[id].kind == PIECE_CONTROL;
}

bool read_sentencepiece(Tokenizer *tokenizer, const char *bytes, size_t size, const char *place,
                        Failure *failure) {
  Reading reading = {.tokenizer = tokenizer,
                     .model = 1, // what the format takes where nothing is said
                     .begin = 1,
                     .end = 2,
                     .prefix = true,
                     .single_spaces = true,
                     .marks = true,
                     .place = place,
                     .start = bytes,
                     .failure = failure};
  bool good = read_fields(&reading, size) && check(&reading) &&
              use_pieces(tokenizer, reading.pieces, reading.count, place, failure) && use_steps(&reading);
  if (good && is_control(&reading, reading.end)) tokenizer->named[NAMED_END] = (int32_t)reading.end;
  if (good && is_control(&reading, reading.begin)) {
    tokenizer->before = ARENA_ARRAY(tokenizer->arena, int32_t, 1);
    tokenizer->before_count = 1;
    *tokenizer->before = (int32_t)reading.begin;
  }
  free(reading.pieces);
  return good;
}
