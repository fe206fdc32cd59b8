// SentencePiece's vocabularies: pieces with scores -> tokens and merges. Its encoder joins, again and again,
// the neighbours whose union has the highest score, the leftmost of equals; so every way in which a piece
// falls into two others is a merge, and the pieces' order by score gives their ranks.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

// A longer piece has too many ways to fall in two; SentencePiece itself makes none above 16 characters
// unless it is told to.
enum { MAX_PIECE_BYTES = 512 };

typedef struct Merges {
  Merge *list;
  size_t count, capacity;
} Merges;

typedef struct Scored {
  float score;
  int32_t id;
} Scored;

static int compare_scores(const void *a, const void *b) { // highest first
  const Scored *first = a, *second = b;
  if (first->score != second->score) return first->score > second->score ? -1 : 1;
  return first->id < second->id ? -1 : first->id > second->id;
}

static int compare_merges(const void *a, const void *b) {
  const Merge *first = a, *second = b;
  if (first->rank != second->rank) return first->rank < second->rank ? -1 : 1;
  if (first->result != second->result) return first->result < second->result ? -1 : 1;
  return first->left < second->left ? -1 : first->left > second->left;
}

static bool is_mergeable(const Piece *piece) { return piece->kind == PIECE_NORMAL; }

static int hex_digit(char digit) {
  return digit >= '0' && digit <= '9' ? digit - '0' : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

static bool add_piece(Tokenizer *tokenizer, const Piece *piece, int32_t id, const char *place,
                      Failure *failure) {
  Token *token = &tokenizer->tokens[id];
  if (!piece->length || piece->length > MAX_PIECE_BYTES)
    return fail(failure, "%s: token %d has %zu bytes, expected 1 to %d", place, id, piece->length,
                MAX_PIECE_BYTES);
  if (!is_text(piece->text, piece->length))
    return fail(failure, "%s: token %d is not valid UTF-8", place, id);
  if (!isfinite(piece->score)) return fail(failure, "%s: token %d has a score that is no number", place, id);
  if (piece->kind < PIECE_NORMAL || piece->kind > PIECE_BYTE)
    return fail(failure, "%s: token %d has type %d, expected 1 to 6", place, id, (int)piece->kind);
  *token = (Token){.text = piece->text, .text_length = piece->length};
  token->known = piece->kind != PIECE_UNUSED;
  token->special = piece->kind == PIECE_CONTROL || piece->kind == PIECE_UNKNOWN;
  token->added = token->special || piece->kind == PIECE_USER;
  if (piece->kind == PIECE_UNKNOWN) tokenizer->unknown = id;
  bool byte = piece->length == 6 && !memcmp(piece->text, "<0x", 3) && piece->text[5] == '>' &&
              hex_digit(piece->text[3]) >= 0 && hex_digit(piece->text[4]) >= 0;
  if (piece->kind == PIECE_BYTE && !byte)
    return fail(failure, "%s: token %d is of type byte, but not spelled as one: \"%.20s\"", place, id,
                piece->text);
  tokenizer->byte_fallback |= piece->kind == PIECE_BYTE;
  return true;
}

static void add_ways(const Tokenizer *tokenizer, const Piece *pieces, int32_t id, uint32_t rank,
                     Merges *merges) {
  const Piece *piece = &pieces[id];
  for (size_t cut = 1; cut < piece->length; cut++) {
    if (((unsigned char)piece->text[cut] & 0xc0) == 0x80) continue; // inside a character
    int32_t left = tokenizer_lookup(tokenizer, piece->text, cut);
    if (left < 0 || !is_mergeable(&pieces[left])) continue;
    int32_t right = tokenizer_lookup(tokenizer, piece->text + cut, piece->length - cut);
    if (right < 0 || !is_mergeable(&pieces[right])) continue;
    if (merges->count == merges->capacity) {
      merges->capacity = merges->capacity ? merges->capacity * 2 : 4096;
      merges->list = realloc(merges->list, merges->capacity * sizeof *merges->list);
      if (!merges->list) die("out of memory");
    }
    merges->list[merges->count++] = (Merge){left, right, id, rank};
  }
}

// Ranks: equal scores are equal in rank. In the table, merges stand in order of rank, whose numbers then are
// the places of the first of equals.
static bool make_merges(Tokenizer *tokenizer, const Piece *pieces, const char *place, Failure *failure) {
  size_t count = (size_t)tokenizer->count;
  Scored *order = malloc(count * sizeof *order);
  Merges merges = {0};
  if (!order) die("out of memory");
  for (size_t i = 0; i < count; i++) order[i] = (Scored){pieces[i].score, (int32_t)i};
  qsort(order, count, sizeof *order, compare_scores);
  uint32_t rank = 0;
  for (size_t i = 0; i < count; i++) {
    if (i && order[i].score != order[i - 1].score) rank = (uint32_t)i;
    if (is_mergeable(&pieces[order[i].id])) add_ways(tokenizer, pieces, order[i].id, rank, &merges);
  }
  free(order);
  if (merges.count) qsort(merges.list, merges.count, sizeof *merges.list, compare_merges);
  uint32_t first = 0, before = 0;
  for (size_t i = 0; i < merges.count; i++) {
    if (i && merges.list[i].rank != before) first = (uint32_t)i;
    before = merges.list[i].rank;
    merges.list[i].rank = first;
  }
  tokenizer->merges = ARENA_ARRAY(tokenizer->arena, Merge, merges.count);
  if (merges.count) memcpy(tokenizer->merges, merges.list, merges.count * sizeof *merges.list);
  tokenizer->merge_count = merges.count;
  free(merges.list);
  return merges.count < UINT32_MAX || fail(failure, "%s: has too many merges", place);
}

bool use_pieces(Tokenizer *tokenizer, const Piece *pieces, size_t count, const char *place,
                Failure *failure) {
  if (!count || count > TOKENIZER_MAX_TOKENS)
    return fail(failure, "%s: has %zu tokens, expected 1 to %d", place, count, TOKENIZER_MAX_TOKENS);
  tokenizer->count = (int32_t)count;
  tokenizer->tokens = ARENA_ARRAY(tokenizer->arena, Token, count);
  tokenizer->fuse_unknown = true;
  float *scores = ARENA_ARRAY(tokenizer->arena, float, count);
  tokenizer->scores = scores;
  for (size_t i = 0; i < count; i++) {
    if (!add_piece(tokenizer, &pieces[i], (int32_t)i, place, failure)) return false;
    scores[i] = pieces[i].score;
  }
  return tokenizer_index(tokenizer, place, failure) && make_merges(tokenizer, pieces, place, failure);
}
