// Text -> words, by a list of PCRE2 patterns.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

// GPT-2's pattern. White space is spelled out: PCRE2's \s also has U+180E, which Unicode took out in 2013.
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+"
                                   "|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

enum { MAX_PATTERNS = 8 };

struct Splitter {
  pcre2_code *patterns[MAX_PATTERNS];
  int count;
  pcre2_match_data *match;
  pcre2_match_context *limits;
};

Splitter *splitter_new(void) {
  Splitter *splitter = calloc(1, sizeof *splitter);
  if (!splitter) die("out of memory");
  splitter->match = pcre2_match_data_create(1, NULL); // one pair: where the whole match lies
  splitter->limits = pcre2_match_context_create(NULL);
  if (!splitter->match || !splitter->limits) die("out of memory");
  pcre2_set_match_limit(splitter->limits, 1000000);
  pcre2_set_heap_limit(splitter->limits, 65536); // KiB
  return splitter;
}

void splitter_free(Splitter *splitter) {
  if (!splitter) return;
  for (int i = 0; i < splitter->count; i++) pcre2_code_free(splitter->patterns[i]);
  pcre2_match_data_free(splitter->match);
  pcre2_match_context_free(splitter->limits);
  free(splitter);
}

bool splitter_add(Splitter *splitter, const char *pattern, bool literal, const char *place,
                  Failure *failure) {
  if (splitter->count == MAX_PATTERNS)
    return fail(failure, "%s: splits text in more than %d steps", place, MAX_PATTERNS);
  int error;
  PCRE2_SIZE offset;
  uint32_t options =
      PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C);
  pcre2_code *code =
      pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &offset, NULL);
  if (!code) {
    PCRE2_UCHAR reason[200];
    pcre2_get_error_message(error, reason, sizeof reason);
    return fail(failure, "%s: the pattern \"%.200s\" is wrong at byte %zu: %s", place, pattern,
                (size_t)offset, (const char *)reason);
  }
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // where there is no JIT, matching interprets
  splitter->patterns[splitter->count++] = code;
  return true;
}

void splitter_add_gpt2(Splitter *splitter) {
  Failure failure;
  if (!splitter_add(splitter, gpt2_pattern, false, "GPT-2's pattern", &failure)) die("%s", failure.message);
}

static int match(Splitter *splitter, int step, const char *text, size_t length, size_t at) {
  const pcre2_code *pattern = splitter->patterns[step];
  PCRE2_SPTR subject = (PCRE2_SPTR)text;
  int found = pcre2_match(pattern, subject, length, at, 0, splitter->match, splitter->limits);
  if (found != PCRE2_ERROR_JIT_STACKLIMIT) return found; // its stack is small; the interpreter takes the heap
  return pcre2_match(pattern, subject, length, at, PCRE2_NO_JIT, splitter->match, splitter->limits);
}

// Steps `step` and later on one piece. Depth is at most MAX_PATTERNS.
static void split(Splitter *splitter, int step, const char *text, size_t length, SplitWord *word,
                  void *context) {
  if (step == splitter->count) {
    word(context, text, length);
    return;
  }
  size_t done = 0; // everything before it has been handed on
  for (size_t at = 0; at < length;) {
    int found = match(splitter, step, text, length, at);
    if (found < 0) break; // no further match, or it gave up
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(splitter->match);
    size_t begin = place[0], end = place[1];
    if (begin > end || end < at || begin < done) break; // \K and look-behinds can do this
    if (begin == end) { // an empty match splits nothing; go on after the next character
      at = end + 1;
      while (at < length && ((unsigned char)text[at] & 0xc0) == 0x80) at++;
      continue;
    }
    if (begin > done) split(splitter, step + 1, text + done, begin - done, word, context);
    split(splitter, step + 1, text + begin, end - begin, word, context);
    done = at = end;
  }
  if (done < length) split(splitter, step + 1, text + done, length - done, word, context);
}

void splitter_run(Splitter *splitter, const char *text, size_t length, SplitWord *word, void *context) {
  if (length) split(splitter, 0, text, length, word, context);
}
