// Measures several programs in turns: one, the next, ..., and over again, all others stopped meanwhile, so that what
// the machine does beside falls on each alike. Input: ROUNDS, and on standard input a line NAME<tab>COMMAND for each
// side, a program that speaks as side.h says. Output: a line for each side, in the same order:
//
//   NAME  MILLISECONDS  PEAK-MIB        the median of the rounds, and the physical memory that it had at most
//   NAME  -  REASON                     it can not be measured here
#include "tests/bench/side.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_SIDES = 16, MOST_ROUNDS = 101, ROUND_MILLISECONDS = 400, ROUND_STEPS = 50 };
enum { START_SECONDS = 900, LINE_SECONDS = 300, END_SECONDS = 5 };

typedef struct Side {
  char name[64], command[1024], reason[512];
  pid_t process;
  int to, from, messages; // the other ends of its standard input and output; what it wrote on stderr
  int steps;              // per round
  double times[MOST_ROUNDS], peak_mib;
} Side;

static void give_up(Side *side, const char *reason) {
  snprintf(side->reason, sizeof side->reason, "%.500s", reason);
}

// Its last words, where it ended by itself.
static void give_up_ended(Side *side) {
  char tail[4096];
  off_t end = lseek(side->messages, 0, SEEK_END), from = end > 4095 ? end - 4095 : 0;
  ssize_t length = pread(side->messages, tail, sizeof tail - 1, from);
  while (length > 0 && strchr("\n\r\t ", tail[length - 1])) length--;
  tail[length > 0 ? length : 0] = 0;
  char *line = strrchr(tail, '\n');
  give_up(side, *tail ? line ? line + 1 : tail : "it ended without a word");
  for (char *c = side->reason; *c; c++)
    if (*c == '\t' || *c == '|') *c = ' ';
}

// A line without its end. False: the side is given up.
static bool read_line(Side *side, char *line, size_t room, int seconds) {
  size_t length = 0;
  double end = side_clock() + seconds;
  for (;;) {
    struct pollfd wait = {.fd = side->from, .events = POLLIN};
    int left = (int)(1e3 * (end - side_clock()));
    char byte;
    if (left <= 0 || poll(&wait, 1, left) == 0) return give_up(side, "it took too long"), false;
    if (read(side->from, &byte, 1) != 1) return give_up_ended(side), false;
    if (byte == '\n') break;
    if (length + 1 < room) line[length++] = byte;
  }
  line[length] = 0;
  return true;
}

static void run_child(const Side *side, int input, int output) {
  char line[sizeof side->command + 8];
  prctl(PR_SET_PDEATHSIG, SIGKILL); // whatever becomes of us, no side is left behind
  snprintf(line, sizeof line, "exec %s", side->command);
  dup2(input, 0), dup2(output, 1), dup2(side->messages, 2);
  for (int i = 3; i < 256; i++) close(i);
  execl("/bin/sh", "sh", "-c", line, (char *)NULL);
  _exit(127);
}

static void start(Side *side) {
  int to[2], from[2];
  char line[256];
  FILE *messages = tmpfile();
  if (!messages || pipe(to) || pipe(from)) {
    give_up(side, "no pipe or file can be had for it");
    return;
  }
  side->messages = fileno(messages); // open as long as we are
  side->to = to[1], side->from = from[0];
  side->process = fork();
  if (!side->process) run_child(side, to[0], from[1]);
  close(to[0]), close(from[1]);
  if (side->process < 0)
    give_up(side, "no process can be had for it");
  else if (read_line(side, line, sizeof line, START_SECONDS) && strcmp(line, "ready"))
    give_up(side, !strncmp(line, "absent ", 7) ? line + 7 : "it says neither `ready` nor `absent`");
  if (side->process > 0) kill(side->process, SIGSTOP);
}

// The median of so many steps; 0: the side is given up.
static double ask(Side *side, int steps) {
  char line[256];
  kill(side->process, SIGCONT);
  bool asked = dprintf(side->to, "%d\n", steps) > 0;
  if (!asked) give_up_ended(side);
  double time = asked && read_line(side, line, sizeof line, LINE_SECONDS) ? strtod(line, NULL) : 0;
  kill(side->process, SIGSTOP);
  if (time <= 0 && !*side->reason) give_up(side, "it printed no time");
  return time;
}

static double peak_mib(pid_t process) {
  char line[256];
  snprintf(line, sizeof line, "/proc/%d/status", (int)process);
  FILE *file = fopen(line, "r");
  double kib = 0;
  while (file && fgets(line, sizeof line, file))
    if (!strncmp(line, "VmHWM:", 6)) kib = strtod(line + 6, NULL);
  if (file) fclose(file);
  return kib / 1024;
}

// Its input ends, and so does it; else it is killed.
static void end(Side *side) {
  if (side->process <= 0) return;
  close(side->to), close(side->from);
  kill(side->process, *side->reason ? SIGKILL : SIGCONT);
  double limit = side_clock() + END_SECONDS;
  while (!waitpid(side->process, NULL, WNOHANG)) {
    if (side_clock() > limit) kill(side->process, SIGKILL);
    usleep(2000);
  }
}

static int read_sides(Side *sides) {
  int count = 0;
  static char line[2048];
  while (count < MOST_SIDES && fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = 0;
    char *tab = strchr(line, '\t');
    if (!tab || (size_t)(tab - line) >= sizeof sides->name || strlen(tab + 1) >= sizeof sides->command)
      return 0;
    *tab = 0;
    strcpy(sides[count].name, line), strcpy(sides[count].command, tab + 1);
    count++;
  }
  return count;
}

int main(int words, char **word) {
  static Side sides[MOST_SIDES];
  int rounds = words == 2 ? atoi(word[1]) : 0, count = read_sides(sides);
  if (rounds < 1 || rounds > MOST_ROUNDS || !count)
    return fprintf(stderr, "usage: rounds ROUNDS, and lines NAME<tab>COMMAND on standard input\n"), 1;
  signal(SIGPIPE, SIG_IGN);
  for (int i = 0; i < count; i++) start(&sides[i]);
  for (int round = -1; round < rounds; round++) // the first is for the caches, and says how long a step is
    for (int i = 0; i < count; i++) {
      Side *side = &sides[i];
      double time = *side->reason ? 0 : ask(side, round < 0 ? 1 : side->steps);
      if (round >= 0) side->times[round] = time;
      side->steps = time > 0 && round < 0 ? (int)(ROUND_MILLISECONDS / time) : side->steps;
      side->steps = side->steps < 1 ? 1 : side->steps > ROUND_STEPS ? ROUND_STEPS : side->steps;
    }
  for (int i = 0; i < count; i++) {
    Side *side = &sides[i];
    side->peak_mib = *side->reason ? 0 : peak_mib(side->process);
    end(side);
    if (*side->reason)
      printf("%s\t-\t%s\n", side->name, side->reason);
    else
      printf("%s\t%.4f\t%.1f\n", side->name, side_median(side->times, rounds), side->peak_mib);
  }
  return 0;
}
