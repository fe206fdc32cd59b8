// Text -> normalised text, step by step: Unicode's normal forms, lower case, replacements, prefixes.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/tokenizer/parts.h"

enum { MAX_STEPS = 16, MAX_GROWTH = 256 };

typedef struct Step {
  NormalizeKind kind;
  char *from, *to;
  size_t from_length, to_length;
  pcre2_code *code; // of `from`, where it is a pattern
} Step;

struct Normalizer {
  Step steps[MAX_STEPS];
  int count;
  size_t growth; // text becomes at most so many times as long
  Text texts[2]; // a step reads one and writes the other
  pcre2_match_data *match;
  pcre2_match_context *limits;
};

Normalizer *normalizer_new(void) {
  Normalizer *normalizer = calloc(1, sizeof *normalizer);
  if (!normalizer) die("out of memory");
  normalizer->match = pcre2_match_data_create(1, NULL);
  normalizer->limits = pcre2_match_context_create(NULL);
  if (!normalizer->match || !normalizer->limits) die("out of memory");
  normalizer->growth = 1;
  pcre2_set_match_limit(normalizer->limits, 1000000);
  pcre2_set_heap_limit(normalizer->limits, 65536); // KiB
  return normalizer;
}

void normalizer_free(Normalizer *normalizer) {
  if (!normalizer) return;
  for (int i = 0; i < normalizer->count; i++) {
    free(normalizer->steps[i].from);
    free(normalizer->steps[i].to);
    pcre2_code_free(normalizer->steps[i].code);
  }
  text_free(&normalizer->texts[0]);
  text_free(&normalizer->texts[1]);
  pcre2_match_data_free(normalizer->match);
  pcre2_match_context_free(normalizer->limits);
  free(normalizer);
}

// How many bytes the step makes of one, at most.
static size_t growth_of(const Step *step) {
  switch (step->kind) {
  case NORMALIZE_NFC:
  case NORMALIZE_NFD: return 3;
  case NORMALIZE_NFKC:
  case NORMALIZE_NFKD: return 11;
  case NORMALIZE_LOWERCASE: return 2;
  case NORMALIZE_STRIP_LEFT:
  case NORMALIZE_STRIP_RIGHT: return 1;
  case NORMALIZE_PREPEND:
  case NORMALIZE_PREPEND_MISSING:
  case NORMALIZE_PREPEND_FIRST: return 1 + step->to_length;
  case NORMALIZE_REPLACE: return step->to_length ? (step->to_length - 1) / step->from_length + 1 : 1;
  case NORMALIZE_REPLACE_PATTERN: return step->to_length ? step->to_length : 1;
  }
  return 1;
}

bool normalizer_add(Normalizer *normalizer, NormalizeKind kind, const char *from, const char *to,
                    const char *place, Failure *failure) {
  if (normalizer->count == MAX_STEPS)
    return fail(failure, "%s: normalises text in more than %d steps", place, MAX_STEPS);
  if (strlen(to) > 64 || (kind == NORMALIZE_REPLACE && !*from))
    return fail(failure, "%s: a normalizer that replaces \"%.80s\" by \"%.80s\" is not supported", place,
                from, to);
  Step *step = &normalizer->steps[normalizer->count++];
  *step = (Step){kind, strdup(from), strdup(to), strlen(from), strlen(to), NULL};
  if (!step->from || !step->to) die("out of memory");
  normalizer->growth *= growth_of(step);
  if (normalizer->growth > MAX_GROWTH)
    return fail(failure, "%s: its normalizers can make text more than %d times as long", place, MAX_GROWTH);
  if (kind == NORMALIZE_REPLACE_PATTERN) step->code = pattern_compile(from, false, place, failure);
  return step->code || kind != NORMALIZE_REPLACE_PATTERN;
}

static bool is_ascii(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (text[i] & 0x80) return false;
  return true;
}

// Text that is not UTF-8 has no normal form and stays as it is.
static bool bring_to_form(NormalizeKind kind, const char *text, size_t length, Text *out) {
  static const int options[] = {[NORMALIZE_NFC] = UTF8PROC_COMPOSE,
                                [NORMALIZE_NFD] = UTF8PROC_DECOMPOSE,
                                [NORMALIZE_NFKC] = UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
                                [NORMALIZE_NFKD] = UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
  utf8proc_uint8_t *form = NULL;
  if (is_ascii(text, length)) return false;
  utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &form,
                                       UTF8PROC_STABLE | options[kind]);
  if (size >= 0) text_add(out, (const char *)form, (size_t)size);
  free(form);
  return size >= 0;
}

static bool lower(const char *text, size_t length, Text *out) {
  for (size_t at = 0; at < length;) {
    utf8proc_int32_t code;
    utf8proc_uint8_t bytes[4];
    utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &code);
    if (size <= 0) {
      text_add(out, text + at++, 1);
      continue;
    }
    at += (size_t)size;
    if (code == 0x130) // the one letter whose lower case is two: i and a dot above
      text_add(out, "i\xcc\x87", 3);
    else
      text_add(out, (const char *)bytes, (size_t)utf8proc_encode_char(utf8proc_tolower(code), bytes));
  }
  return true;
}

// White space as Unicode has it; the length of the character at text + at, 0 where it is none.
static size_t space_at(const char *text, size_t length, size_t at) {
  utf8proc_int32_t code;
  if (at >= length) return 0;
  utf8proc_ssize_t size =
      utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &code);
  if (size <= 0) return 0;
  utf8proc_category_t category = utf8proc_category(code);
  bool space = (code >= 9 && code <= 13) || code == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
               category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
  return space ? (size_t)size : 0;
}

static bool strip(bool left, const char *text, size_t length, Text *out) {
  size_t begin = 0, end = left ? length : 0;
  if (left)
    for (size_t size; (size = space_at(text, length, begin)); begin += size) {
    }
  else
    for (size_t at = 0, size; at < length; at += size) {
      bool space = (size = space_at(text, length, at)) > 0;
      if (!space) size = 1, end = at + 1;
    }
  text_add(out, text + begin, end - begin);
  return true;
}

static bool prepend(const Step *step, bool first, const char *text, size_t length, Text *out) {
  bool begins = length >= step->to_length && !memcmp(text, step->to, step->to_length);
  bool there = begins && step->kind != NORMALIZE_PREPEND;
  if (!length || there || (step->kind == NORMALIZE_PREPEND_FIRST && !first)) return false;
  text_add(out, step->to, step->to_length);
  text_add(out, text, length);
  return true;
}

static bool replace(const Step *step, const char *text, size_t length, Text *out) {
  size_t done = 0;
  for (const char *at; (at = memmem(text + done, length - done, step->from, step->from_length));
       done = (size_t)(at - text) + step->from_length) {
    text_add(out, text + done, (size_t)(at - text) - done);
    text_add(out, step->to, step->to_length);
  }
  if (!done) return false;
  text_add(out, text + done, length - done);
  return true;
}

static bool replace_pattern(Normalizer *normalizer, const Step *step, const char *text, size_t length,
                            Text *out) {
  size_t done = 0;
  for (size_t at = 0; at <= length;) {
    if (pcre2_match(step->code, (PCRE2_SPTR)text, length, at, 0, normalizer->match, normalizer->limits) < 0)
      break;
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(normalizer->match);
    size_t begin = place[0], end = place[1];
    if (begin > end || begin < done || end < at) break;
    at = end + (begin == end); // an empty match replaces nothing
    while (begin == end && at < length && ((unsigned char)text[at] & 0xc0) == 0x80) at++;
    if (begin == end) continue;
    text_add(out, text + done, begin - done);
    text_add(out, step->to, step->to_length);
    done = end;
  }
  text_add(out, text + done, length - done);
  return true;
}

// False: the text stays as it is.
static bool run_step(Normalizer *normalizer, const Step *step, const char *text, size_t length, bool first,
                     Text *out) {
  switch (step->kind) {
  case NORMALIZE_NFC:
  case NORMALIZE_NFD:
  case NORMALIZE_NFKC:
  case NORMALIZE_NFKD: return bring_to_form(step->kind, text, length, out);
  case NORMALIZE_LOWERCASE: return lower(text, length, out);
  case NORMALIZE_STRIP_LEFT: return strip(true, text, length, out);
  case NORMALIZE_STRIP_RIGHT: return strip(false, text, length, out);
  case NORMALIZE_PREPEND:
  case NORMALIZE_PREPEND_MISSING:
  case NORMALIZE_PREPEND_FIRST: return prepend(step, first, text, length, out);
  case NORMALIZE_REPLACE: return replace(step, text, length, out);
  case NORMALIZE_REPLACE_PATTERN: return replace_pattern(normalizer, step, text, length, out);
  }
  return false;
}

void normalizer_run(Normalizer *normalizer, const char **text, size_t *length, bool first) {
  int next = 0;
  for (int i = 0; i < normalizer->count; i++) {
    Text *out = &normalizer->texts[next];
    out->length = 0;
    if (!run_step(normalizer, &normalizer->steps[i], *text, *length, first, out)) continue;
    *text = text_string(out);
    *length = out->length;
    next = !next;
  }
}
