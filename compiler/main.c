// vlmc: reads the command line and calls one command.
#include "compiler/commands.h"
#include "compiler/graph/graph.h"
#include "runtime/chat.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERSION "0.1"

static volatile sig_atomic_t
    stop; // the signal of Ctrl-C; the one global: signal handlers can reach nothing else

static void end_at_once(int number) {
  signal(number, SIG_DFL);
  raise(number); // when the handler is left
}

// For commands that finish what they are at first, which can take seconds: the key was heard.
static void on_stop(int number) {
  static const char said[] = "\nvlmc: stopping; once more ends it at once\n";
  int before = errno;
  if (stop)
    end_at_once(number);
  else
    (void)!write(STDERR_FILENO, said, sizeof said - 1);
  stop = number;
  errno = before;
}

// Ends an answer that is being given, else the program.
static void on_chat_signal(int number) {
  if (stop != CHAT_ANSWERING) end_at_once(number);
  stop = number;
}

// A run that was stopped ends by the signal, after it has saved: scripts then go no further.
static int pass_signal_on(int status) {
  int number = (int)stop;
  if (status || number <= 0) return status;
  fflush(stdout);
  signal(number, SIG_DFL);
  raise(number);
  return status;
}

static void list_ops(Text *text) {
  for (int i = 0; i < OP_COUNT; i++) text_print(text, "%-8s %s\n", op_table[i].name, op_table[i].meaning);
}

// What was asked to be printed and could not be is a failure: a full disk, a closed descriptor.
static int finish_output(int status) {
  if (!fflush(stdout) && !ferror(stdout)) return status;
  if (!status) fprintf(stderr, "vlmc: error: standard output can not be written: %s\n", strerror(errno));
  return status ? status : 1;
}

static bool print_information(const Options *options) {
  Text text = {0};
  if (options->help)
    options_help(options, &text);
  else if (options->version)
    text_print(&text, "vlmc " VERSION "\n");
  else if (options->list_passes)
    pipeline_list(&text);
  else if (options->list_ops)
    list_ops(&text);
  fputs(text_string(&text), stdout);
  bool printed = text.length > 0;
  text_free(&text);
  return printed;
}

static int run_command(const Options *options) {
  bool finishes = options->command == COMMAND_TRAIN || options->command == COMMAND_EVAL;
  if (finishes) signal(SIGTERM, on_stop);
  if (finishes || options->command == COMMAND_CHAT) signal(SIGINT, finishes ? on_stop : on_chat_signal);
  switch (options->command) {
  case COMMAND_TRAIN: return pass_signal_on(run_train(options, &stop));
  case COMMAND_EVAL: return pass_signal_on(run_eval(options, &stop));
  case COMMAND_CHAT: return pass_signal_on(run_chat(options, &stop));
  case COMMAND_CHECK: return run_check(options);
  case COMMAND_DRAW: return run_draw(options);
  case COMMAND_PLOT: return run_plot(options);
  case COMMAND_TOKENIZER: return run_tokenizer(options);
  case COMMAND_EXPORT: return run_export(options);
  default: return run_compile(options);
  }
}

int main(int count, char **words) {
  Options options;
  Failure failure;
  if (!options_read(count, words, &options, &failure)) {
    fprintf(stderr, "vlmc: error: %s\n", failure.message);
    return 1;
  }
  return finish_output(print_information(&options) ? 0 : run_command(&options));
}
