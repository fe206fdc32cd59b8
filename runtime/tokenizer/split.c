// Text -> words, by a list of PCRE2 patterns.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/tokenizer/parts.h"

// White space: PCRE2's \s also has U+180E, which Unicode took out in 2013.
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
static const char gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
                                   "|\\s+(?!\\S)|\\s+";

enum { MAX_RULES = 16 };

typedef struct Rule {
  pcre2_code *code;
  SplitBehavior behavior;
  bool invert;
} Rule;

struct Splitter {
  Rule rules[MAX_RULES];
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
  for (int i = 0; i < splitter->count; i++) pcre2_code_free(splitter->rules[i].code);
  pcre2_match_data_free(splitter->match);
  pcre2_match_context_free(splitter->limits);
  free(splitter);
}

bool splitter_is_empty(const Splitter *splitter) { return !splitter->count; }

// A letter, mark, number or connector; the circled and squared letters are symbols elsewhere.
#define WORD                                                                                                 \
  "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{"  \
  "1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{"                                                               \
  "1f189}"

// Classes that PCRE2 and Oniguruma, whose patterns these are, understand differently are written in full,
// within [...] and without.
static bool rewrite_class(char letter, bool inside, Text *out) {
  static const struct {
    char letter;
    const char *class;
  } classes[] = {{'s', SPACE}, {'w', WORD}, {'h', "0-9a-fA-F"}};
  for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
    bool negated = letter == classes[i].letter - 'a' + 'A';
    if (letter != classes[i].letter && (!negated || inside)) continue;
    text_print(out, inside ? "%s%s" : "[%s%s]", negated ? "^" : "", classes[i].class);
    return true;
  }
  return false;
}

static void rewrite_classes(const char *pattern, Text *out) {
  bool class = false;
  for (const char *at = pattern; *at; at++) {
    if (*at == '\\' && at[1]) {
      at++;
      if (!rewrite_class(*at, class, out)) text_print(out, "\\%c", *at);
      continue;
    }
    if (*at == '[' && !class)
      class = true;
    else if (*at == ']')
      class = false;
    text_add(out, at, 1);
  }
}

pcre2_code *pattern_compile(const char *pattern, bool literal, const char *place, Failure *failure) {
  int error;
  PCRE2_SIZE offset;
  Text text = {0};
  uint32_t options = PCRE2_UTF | PCRE2_MATCH_INVALID_UTF |
                     (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
  if (literal)
    text_add(&text, pattern, strlen(pattern));
  else
    rewrite_classes(pattern, &text);
  pcre2_code *code =
      pcre2_compile((PCRE2_SPTR)text_string(&text), PCRE2_ZERO_TERMINATED, options, &error, &offset, NULL);
  if (code) {
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // where there is no JIT, matching interprets
  } else {
    PCRE2_UCHAR reason[200];
    pcre2_get_error_message(error, reason, sizeof reason);
    fail(failure, "%s: the pattern \"%.200s\" is wrong at byte %zu: %s", place, text_string(&text),
         (size_t)offset, (const char *)reason);
  }
  text_free(&text);
  return code;
}

bool splitter_add(Splitter *splitter, const SplitRule *rule, const char *place, Failure *failure) {
  if (splitter->count == MAX_RULES)
    return fail(failure, "%s: splits text in more than %d steps", place, MAX_RULES);
  pcre2_code *code = pattern_compile(rule->pattern, rule->literal, place, failure);
  if (!code) return false;
  splitter->rules[splitter->count++] = (Rule){code, rule->behavior, rule->invert};
  return true;
}

void splitter_add_gpt2(Splitter *splitter) {
  Failure failure;
  SplitRule rule = {.pattern = gpt2_pattern};
  if (!splitter_add(splitter, &rule, "GPT-2's pattern", &failure)) die("%s", failure.message);
}

// One rule at work on one text: ranges come in order, and a piece may still grow before it is handed on.
typedef struct Splitting {
  Splitter *splitter;
  int step;
  const char *text;
  size_t begin, end; // the piece held back
  bool held;
  bool after_match; // the range before this one was a match
  SplitWord *word;
  void *context;
} Splitting;

static void split(Splitter *splitter, int step, const char *text, size_t length, SplitWord *word,
                  void *context);

static void hand_on(Splitting *splitting) {
  if (splitting->held && splitting->end > splitting->begin)
    split(splitting->splitter, splitting->step + 1, splitting->text + splitting->begin,
          splitting->end - splitting->begin, splitting->word, splitting->context);
  splitting->held = false;
}

// Whether the range goes on with the piece that is held back.
static bool joins(const Splitting *splitting, SplitBehavior behavior, bool is_match) {
  switch (behavior) {
  case SPLIT_MERGED_WITH_PREVIOUS: return is_match && !splitting->after_match;
  case SPLIT_MERGED_WITH_NEXT: return !is_match && splitting->after_match;
  case SPLIT_CONTIGUOUS: return is_match == splitting->after_match;
  default: return false;
  }
}

static void add_range(Splitting *splitting, size_t begin, size_t end, bool is_match) {
  const Rule *rule = &splitting->splitter->rules[splitting->step];
  is_match ^= rule->invert;
  if (splitting->held && joins(splitting, rule->behavior, is_match)) {
    splitting->end = end;
  } else {
    hand_on(splitting);
    splitting->held = rule->behavior != SPLIT_REMOVED || !is_match;
    splitting->begin = begin;
    splitting->end = end;
  }
  splitting->after_match = is_match;
}

static int match(Splitter *splitter, int step, const char *text, size_t length, size_t at) {
  const pcre2_code *code = splitter->rules[step].code;
  PCRE2_SPTR subject = (PCRE2_SPTR)text;
  int found = pcre2_match(code, subject, length, at, 0, splitter->match, splitter->limits);
  if (found != PCRE2_ERROR_JIT_STACKLIMIT) return found; // its stack is small; the interpreter takes the heap
  return pcre2_match(code, subject, length, at, PCRE2_NO_JIT, splitter->match, splitter->limits);
}

// Steps `step` and later on one piece. Depth is at most MAX_RULES.
static void split(Splitter *splitter, int step, const char *text, size_t length, SplitWord *word,
                  void *context) {
  if (step == splitter->count) {
    word(context, text, length);
    return;
  }
  Splitting splitting = {splitter, step, text, 0, 0, false, false, word, context};
  size_t done = 0, last = SIZE_MAX; // everything before `done` is in a range; the last match ended at `last`
  for (size_t at = 0; at < length;) {
    int found = match(splitter, step, text, length, at);
    if (found < 0) break; // no further match, or it gave up
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(splitter->match);
    size_t begin = place[0], end = place[1];
    if (begin > end || end < at || begin < done) break; // \K and look-behinds can do this
    if (begin == end && end == last) { // nothing, right behind a match: go on after the next character
      at = end + 1;
      while (at < length && ((unsigned char)text[at] & 0xc0) == 0x80) at++;
      continue;
    }
    if (begin > done) add_range(&splitting, done, begin, false);
    add_range(&splitting, begin, end, true);
    done = at = last = end;
  }
  if (done < length) add_range(&splitting, done, length, false);
  hand_on(&splitting);
}

void splitter_run(Splitter *splitter, const char *text, size_t length, SplitWord *word, void *context) {
  if (length) split(splitter, 0, text, length, word, context);
}
