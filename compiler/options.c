// Reading the command line by one table.
#include "compiler/options.h"

#include "runtime/feature_code.h"
#include "runtime/files.h"
#include "runtime/tokenizer/tokenizer.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum FlagKind {
  FLAG_SET,
  FLAG_TEXT,
  FLAG_WHOLE,
  FLAG_REAL,
  FLAG_LIST,
  FLAG_BYTES,
  FLAG_CODE
} FlagKind;

enum {
  C = 1 << COMMAND_COMPILE,
  T = 1 << COMMAND_TRAIN,
  E = 1 << COMMAND_EVAL,
  H = 1 << COMMAND_CHAT,
  K = 1 << COMMAND_CHECK,
  D = 1 << COMMAND_DRAW,
  P = 1 << COMMAND_PLOT,
  V = 1 << COMMAND_TOKENIZER,
  X = 1 << COMMAND_EXPORT,
  MODELS = C | T | E | H | K | D | X,
  ALL = MODELS | P | V,
  RUN = T | E | H | K
};

typedef struct Flag {
  const char *name;
  char letter; // or 0
  int commands;
  FlagKind kind;
  size_t field, count_field; // offsets in Options
  double least, most;        // numbers
  const char *value, *help;
} Flag;

#define AT(field) offsetof(Options, field)
static const Flag flags[] = {
    {"help", 'h', ALL, FLAG_SET, AT(help), 0, 0, 0, NULL, "print this text"},
    {"version", 0, ALL, FLAG_SET, AT(version), 0, 0, 0, NULL, "print the version"},
    {"target", 't', C | RUN, FLAG_TEXT, AT(target), 0, 0, 0, "T", "cpu (default), cuda, cuda:sm_80, ref"},
    {"preset", 'p', MODELS, FLAG_TEXT, AT(preset), 0, 0, 0, "P", "sizes by a preset of the model file"},
    {"define", 'D', MODELS, FLAG_LIST, AT(defines), AT(define_count), 0, 0, "PATH=VALUE",
     "set one size, as in -D vision.width=96"},
    {"stage", 's', MODELS, FLAG_TEXT, AT(stage), 0, 0, 0, "S",
     "stage of the model file (default: its first)"},
    {"dtype", 0, C | RUN, FLAG_TEXT, AT(dtype), 0, 0, 0, "TYPE",
     "f32 (default) or bf16: activations between kernels"},
    {"threads", 'j', C | RUN, FLAG_WHOLE, AT(threads), 0, 0, 1024, "N", "threads (default: one per core)"},
    {"program", 0, C | D, FLAG_TEXT, AT(program), 0, 0, 0, "KIND",
     "forward, loss, train, features, prefill or decode"},
    {"batch", 0, C, FLAG_WHOLE, AT(batch), 0, 1, 1 << 20, "B", "samples that tables are computed for"},
    {"length", 0, C | T | E | K, FLAG_WHOLE, AT(length), 0, 1, 1 << 20, "T",
     "positions: for tables, the longest sample, or a window of a text (default: 512)"},
    {"emit", 0, C, FLAG_TEXT, AT(emit), 0, 0, 0, "FORM",
     "print a form: ast graph grad fused kernels memory llvm asm c cuda ptx cubin dot svg"},
    {"output", 'o', C | D | P | X | V, FLAG_TEXT, AT(output), 0, 0, 0, "FILE",
     "write there; a folder gets one file per kernel"},
    {"kernel", 0, C, FLAG_TEXT, AT(kernel), 0, 0, 0, "NAME", "only kernels whose name holds NAME"},
    {"explain", 0, C, FLAG_TEXT, AT(explain), 0, 0, 0, "TOPIC",
     "fusion: why each value stays in memory; features: what is kept of frozen parts"},
    {"stop-after", 0, C, FLAG_TEXT, AT(stop_after), 0, 0, 0, "PASS", "end the pipeline there"},
    {"dump-after", 0, C, FLAG_TEXT, AT(dump_after), 0, 0, 0, "PASS",
     "print what a pass left, or all, on stderr"},
    {"time-passes", 0, C | RUN, FLAG_SET, AT(time_passes), 0, 0, 0, NULL,
     "print the time of every pass on stderr"},
    {"unfused", 0, C | RUN, FLAG_SET, AT(unfused), 0, 0, 0, NULL, "a kernel per operation, for comparison"},
    {"list-passes", 0, C, FLAG_SET, AT(list_passes), 0, 0, 0, NULL, "the pipeline, in order"},
    {"list-ops", 0, C, FLAG_SET, AT(list_ops), 0, 0, 0, NULL, "operations of the graph, with their meaning"},
    {"cache-dir", 0, C | RUN, FLAG_TEXT, AT(cache), 0, 0, 0, "DIR",
     "compiled code and features (default: $XDG_CACHE_HOME/vlmc; none: off)"},
    {"cache-size", 0, T, FLAG_BYTES, AT(cache_size), 0, 0, 0, "SIZE",
     "most that features of frozen parts take there, as in 500M (default: 8G; 0: none are kept)"},
    {"cache-dtype", 0, T, FLAG_CODE, AT(cache_dtype), 0, 0, 0, "TYPE",
     "f32 (default), f16 or int8: how features are kept"},
    {"data", 'd', T | E | K, FLAG_TEXT, AT(data), 0, 0, 0, "DIR",
     "folder of the data set's .jsonl files; for eval also a text's file"},
    {"split", 0, E, FLAG_TEXT, AT(split), 0, 0, 0, "NAME", "file DIR/NAME.jsonl (default: test)"},
    {"out", 0, T, FLAG_TEXT, AT(out), 0, 0, 0, "DIR", "folder for checkpoint and log"},
    {"weights", 'w', E | H | K | X, FLAG_TEXT, AT(weights), 0, 0, 0, "PATH",
     "folder that train wrote, or a published checkpoint"},
    {"from", 0, T | K | X, FLAG_LIST, AT(from), AT(from_count), 0, 0, "[PART=]PATH[:PART]",
     "a checkpoint to start from, or for one part of the model"},
    {"allow-missing", 0, RUN | X, FLAG_LIST, AT(allow_missing), AT(allow_count), 0, 0, "GLOB",
     "parameters or tensors that a checkpoint need not have"},
    {"format", 0, X, FLAG_TEXT, AT(format), 0, 0, 0, "F",
     "safetensors (default) or gguf, which carries the tokenizer"},
    {"weights-dtype", 0, C | E | H | X, FLAG_TEXT, AT(weights_dtype), 0, 0, 0, "TYPE",
     "f32 (default), bf16, q8_0 or q4_0: weights in memory; matrices of a GGUF file, also f16"},
    {"as", 0, X, FLAG_TEXT, AT(as), 0, 0, 0, "NAME",
     "block of the model's weights that says how the file is laid out"},
    {"tokenizer", 0, T | E | H | K | X, FLAG_TEXT, AT(tokenizer), 0, 0, 0, "FILE",
     "tokenizer.json (default: beside the weights, else trained on the data)"},
    {"resume", 0, T, FLAG_SET, AT(resume), 0, 0, 0, NULL, "go on where the run in --out stopped"},
    {"epochs", 0, T, FLAG_REAL, AT(epochs), 0, 1e-6, 1e6, "N", "passes over the data (default: the stage's)"},
    {"steps", 0, T, FLAG_WHOLE, AT(steps), 0, 1, 1e12, "N", "end after so many steps"},
    {"save-every", 0, T, FLAG_REAL, AT(save_every), 0, 0, 1e9, "SECONDS",
     "time between checkpoints (default: 60; 0: every step)"},
    {"seed", 0, T | H | K, FLAG_WHOLE, AT(seed), 0, 0, 9e15, "N",
     "of initial values, order of the data, and sampling"},
    {"quiet", 'q', T | E, FLAG_SET, AT(quiet), 0, 0, 0, NULL, "no progress line"},
    {"profile", 0, C | T | E | H, FLAG_SET, AT(profile), 0, 0, 0, NULL,
     "run, and print per kernel its time, speed, and what bounds it"},
    {"limit", 0, E, FLAG_WHOLE, AT(limit), 0, 1, 1e12, "N", "only the first N rows; of a text, windows"},
    {"sheet", 0, E, FLAG_TEXT, AT(sheet), 0, 0, 0, "FILE", "a sheet of pictures with their answers, as PNG"},
    {"log", 0, E, FLAG_TEXT, AT(log), 0, 0, 0, "FILE", "every row's answer, as JSON lines"},
    {"image", 'i', H, FLAG_LIST, AT(images), AT(image_count), 0, 0, "FILE",
     "picture to talk about; several where the model looks at several"},
    {"system", 0, H, FLAG_TEXT, AT(system), 0, 0, 0, "TEXT",
     "what the model is told first (default: what its template says)"},
    {"plain", 0, H, FLAG_SET, AT(plain), 0, 0, 0, NULL, "no template: goes on with the prompt as a text"},
    {"prompt", 0, H, FLAG_TEXT, AT(prompt), 0, 0, 0, "TEXT", "one question; without it a conversation"},
    {"temperature", 0, H, FLAG_REAL, AT(temperature), 0, 0, 100, "X",
     "0 (default): always the likeliest token"},
    {"top-k", 0, H, FLAG_WHOLE, AT(top_k), 0, 0, 1e9, "N", "sample from the N likeliest only"},
    {"top-p", 0, H, FLAG_REAL, AT(top_p), 0, 0, 1, "X",
     "sample from the likeliest that hold X of the probability"},
    {"max-tokens", 0, E | H, FLAG_WHOLE, AT(max_tokens), 0, 1, 1 << 20, "N", "longest answer (default: 128)"},
    {"vocabulary", 0, V, FLAG_WHOLE, AT(vocabulary), 0, 256, TOKENIZER_MAX_TOKENS, "N", "tokens in all"},
    {"special", 0, V, FLAG_LIST, AT(specials), AT(special_count), 0, 0, "TOKEN",
     "a special token; they get the first ids, in order"},
};
enum { FLAG_COUNT = sizeof flags / sizeof *flags };

static const struct CommandRow {
  const char *name, *usage, *what;
} commands[COMMAND_COUNT] = {
    [COMMAND_COMPILE] = {"", "MODEL.vlm", "compile and print the kernel table"},
    [COMMAND_TRAIN] = {"train", "MODEL.vlm --stage S --data DIR --out DIR", "train one stage"},
    [COMMAND_EVAL] = {"eval", "MODEL.vlm --weights DIR --data DIR",
                      "answer every question of a split, exact match; of a text, the perplexity"},
    [COMMAND_CHAT] = {"chat", "MODEL.vlm --weights DIR [--image F --prompt P]", "talk about a picture"},
    [COMMAND_CHECK] = {"check", "MODEL.vlm --stage S --data DIR",
                       "prove before step one that weights, data and mask fit"},
    [COMMAND_PLOT] = {"plot", "RUN... [-o FILE.svg]", "loss curves of runs as SVG"},
    [COMMAND_EXPORT] = {"export", "MODEL.vlm --weights RUN [--as NAME] -o FILE",
                        "write weights under the names that others know them by"},
    [COMMAND_TOKENIZER] = {"tokenizer", "train --vocabulary N [--special TOKEN]... -o FILE.json FILE...",
                           "learn a vocabulary from texts or rows of data sets (.jsonl)"},
    [COMMAND_DRAW] = {"draw", "MODEL.vlm [-o FILE.svg]",
                      "the architecture as SVG: blocks, shapes, what is frozen"},
};

static bool read_number(const Flag *flag, const char *text, double *number, Failure *failure) {
  char *end;
  errno = 0;
  *number = strtod(text, &end);
  bool fits = end != text && !*end && !errno && *number >= flag->least && *number <= flag->most;
  if (fits && (flag->kind != FLAG_WHOLE || *number == (double)(int64_t)*number)) return true;
  return fail(failure, "--%s takes a%s number from %.15g to %.15g, found `%.80s`", flag->name,
              flag->kind == FLAG_WHOLE ? " whole" : "", flag->least, flag->most, text);
}

// 500M, 1.5G, 8 GiB, 1000000: units are powers of 1024, whatever stands behind their letter.
static bool read_bytes(const Flag *flag, const char *text, int64_t *bytes, Failure *failure) {
  static const char units[] = "KMGT", *const endings[] = {"", "B", "iB"};
  char *end;
  errno = 0;
  double number = strtod(text, &end);
  bool good = end != text && !errno && number >= 0;
  end += strspn(end, " ");
  const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
  for (const char *at = units; unit && at <= unit; at++) number *= 1024;
  bool ended = !strcmp(end, "B");
  for (int i = 0; i < 3; i++) ended |= !strcmp(end + (unit != NULL), endings[i]) && (unit || !i);
  *bytes = good && ended && number < 9e18 ? (int64_t)number : 0;
  return (good && ended && number < 9e18) ||
         fail(failure, "--%s takes a number of bytes, as in 500M or 8G, found `%.80s`", flag->name, text);
}

static bool read_code(const Flag *flag, const char *text, int *code, Failure *failure) {
  for (*code = 0; *code < FEATURE_CODE_COUNT; ++*code)
    if (!strcmp(text, feature_code_names[*code])) return true;
  return fail(failure, "--%s is f32, f16 or int8, found `%.80s`", flag->name, text);
}

static bool set_flag(const Flag *flag, const char *value, Options *options, Failure *failure) {
  char *base = (char *)options;
  double number;
  switch (flag->kind) {
  case FLAG_SET: *(bool *)(base + flag->field) = true; return true;
  case FLAG_TEXT: *(const char **)(base + flag->field) = value; return true;
  case FLAG_BYTES: return read_bytes(flag, value, (int64_t *)(base + flag->field), failure);
  case FLAG_CODE: return read_code(flag, value, (int *)(base + flag->field), failure);
  case FLAG_REAL: return read_number(flag, value, (double *)(base + flag->field), failure);
  case FLAG_WHOLE:
    if (!read_number(flag, value, &number, failure)) return false;
    if (flag->field == AT(threads))
      options->threads = (int)number;
    else
      *(int64_t *)(base + flag->field) = (int64_t)number;
    return true;
  case FLAG_LIST: {
    int *count = (int *)(base + flag->count_field);
    if (*count == OPTIONS_MAX_LIST)
      return fail(failure, "--%s is given more than %d times", flag->name, OPTIONS_MAX_LIST);
    ((const char **)(base + flag->field))[(*count)++] = value;
    return true;
  }
  }
  return true;
}

static const Flag *find_flag(const char *word, size_t length, bool is_letter) {
  for (int i = 0; i < FLAG_COUNT; i++) {
    if (is_letter ? flags[i].letter == *word
                  : strlen(flags[i].name) == length && !strncmp(flags[i].name, word, length))
      return &flags[i];
  }
  return NULL;
}

static const char *command_text(Command command) {
  return command == COMMAND_COMPILE ? "vlmc" : commands[command].name;
}

static bool fail_unknown(const Options *options, const char *word, Failure *failure) {
  const struct CommandRow *row = &commands[options->command];
  const char *name = word + strspn(word, "-");
  char asked[80];
  snprintf(asked, sizeof asked, "%.*s", (int)strcspn(name, "="), name);
  Closest closest = closest_to(asked);
  for (int i = 0; i < FLAG_COUNT && word[1] == '-'; i++)
    if (flags[i].commands >> options->command & 1) closest_try(&closest, flags[i].name);
  if (closest.name) return fail(failure, "unknown option `%.80s`; is --%s meant?", word, closest.name);
  return fail(failure, "unknown option `%.80s`; `vlmc %s%s--help` lists them", word, row->name,
              *row->name ? " " : "");
}

// One flag at words[*at], with its value in the same word (--a=v, -av) or in the next.
static bool read_flag(int count, char **words, int *at, Options *options, Failure *failure) {
  const char *word = words[*at];
  bool letter = word[1] != '-';
  const char *name = word + (letter ? 1 : 2), *value = letter ? name + 1 : strchr(name, '=');
  size_t length = letter ? 1 : value ? (size_t)(value - name) : strlen(name);
  const Flag *flag = find_flag(name, length, letter);
  if (!flag) return fail_unknown(options, word, failure);
  if (!(flag->commands >> options->command & 1))
    return fail(failure, "--%s is not an option of `%s`; `vlmc %s%s--help` lists them", flag->name,
                command_text(options->command), commands[options->command].name, options->command ? " " : "");
  if (letter ? !*value : !value)
    value = NULL;
  else if (!letter)
    value++;
  if (flag->kind == FLAG_SET) {
    if (value) return fail(failure, "--%s takes no value", flag->name);
    return set_flag(flag, NULL, options, failure);
  }
  if (!value && ++*at < count) value = words[*at];
  bool may_be_empty = flag->field == AT(prompt) || flag->field == AT(system);
  if (!value || (!*value && !may_be_empty))
    return fail(failure, "--%s needs a value: --%s %s", flag->name, flag->name, flag->value);
  return set_flag(flag, value, options, failure);
}

// The first word is no command: is it a mistyped one, rather than a model file? A file of that name is one.
static bool check_command(int count, char **words, Failure *failure) {
  const char *word = count > 1 ? words[1] : "-";
  Closest closest = closest_to(word);
  if (*word == '-' || strpbrk(word, "./") || file_exists(word)) return true;
  for (int i = 1; i < COMMAND_COUNT; i++) {
    if (!strcmp(word, commands[i].name)) return true;
    closest_try(&closest, commands[i].name);
  }
  if (!closest.name) return true;
  return fail(failure, "`%s` is neither a command nor a file; did you mean `vlmc %s`?", word, closest.name);
}

bool options_read(int count, char **words, Options *options, Failure *failure) {
  *options = (Options){.target = "cpu",
                       .split = "test",
                       .max_tokens = 128,
                       .top_p = 1,
                       .save_every = 60,
                       .cache_size = (int64_t)8 << 30};
  int at = 1;
  if (!check_command(count, words, failure)) return false;
  for (int i = 1; count > 1 && i < COMMAND_COUNT; i++)
    if (!strcmp(words[1], commands[i].name)) options->command = (Command)i, at = 2;
  for (bool plain = false; at < count; at++) {
    if (!plain && !strcmp(words[at], "--"))
      plain = true;
    else if (!plain && words[at][0] == '-' && words[at][1]) {
      if (!read_flag(count, words, &at, options, failure)) return false;
    } else {
      bool many = options->command == COMMAND_PLOT || options->command == COMMAND_TOKENIZER;
      bool room = options->more_count < (many ? OPTIONS_MAX_LIST : 1);
      if (!room && many)
        return fail(failure, "more than %d files, the last `%.200s`", OPTIONS_MAX_LIST, words[at]);
      if (!room) return fail(failure, "one model file is expected, found also `%.200s`", words[at]);
      if (!options->model) options->model = words[at];
      options->more[options->more_count++] = words[at];
    }
  }
  return true;
}

static void print_flags(const Options *options, Text *text) {
  for (int i = 0; i < FLAG_COUNT; i++) {
    const Flag *flag = &flags[i];
    char left[64];
    if (!(flag->commands >> options->command & 1)) continue;
    snprintf(left, sizeof left, "%c%c%s--%s%s%s", flag->letter ? '-' : ' ', flag->letter ? flag->letter : ' ',
             flag->letter ? ", " : "  ", flag->name, flag->value ? " " : "", flag->value ? flag->value : "");
    text_print(text, "  %-34s %s\n", left, flag->help);
  }
}

void options_help(const Options *options, Text *text) {
  const struct CommandRow *row = &commands[options->command];
  text_print(text, "usage: vlmc %s%s%s [option]...\n%s\n\n", row->name, *row->name ? " " : "", row->usage,
             row->what);
  if (options->command == COMMAND_COMPILE) {
    for (int i = 1; i < COMMAND_COUNT; i++)
      text_print(text, "       vlmc %s %s\n           %s\n", commands[i].name, commands[i].usage,
                 commands[i].what);
    text_print(text, "\n`vlmc COMMAND --help` lists a command's options. Exit status: 0 good, 1 user's "
                     "error, 2 our own.\n\n");
  }
  print_flags(options, text);
}
