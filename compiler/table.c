// The kernel table: what the program consists of, a row per distinct kernel.
#include "compiler/compile_internal.h"

#include "compiler/graph/passes/passes.h"

#include <string.h>

static void print_amount(Text *text, double amount, const char *unit) {
  static const char *const prefixes[] = {"", "k", "M", "G", "T", "P"};
  int i = 0;
  while (amount >= 1000 && i < 5) amount /= 1000, i++;
  char number[40];
  snprintf(number, sizeof number, amount < 10 && i ? "%.2f" : amount < 100 && i ? "%.1f" : "%.0f", amount);
  text_print(text, "%6s %s%-*s", number, prefixes[i], i ? (int)strlen(unit) : (int)strlen(unit) + 1, unit);
}

typedef struct Row {
  const Launch *first;
  int calls;
  double bytes, flops;
} Row;

static void print_row(const Row *row, const Code *code, bool cuda, Text *text) {
  char name[44];
  snprintf(name, sizeof name, "%.*s%s", strlen(code->name) > 40 ? 37 : 40, code->name,
           strlen(code->name) > 40 ? "..." : "");
  text_print(text, "%-40s %5d  %-10s", name, row->calls, row->first->anchor);
  print_amount(text, row->bytes, "B");
  text_print(text, "  ");
  print_amount(text, row->flops, "FLOP");
  if (cuda) text_print(text, "  %4d %6d %6d", code->registers, code->shared_bytes, code->spill_bytes);
  text_print(text, "  %s\n", row->first->lines);
}

void kernel_table(const Unit *unit, Text *text) {
  const Program *program = &unit->lowered.program;
  bool cuda = !strncmp(unit->compiler->options.target, "cuda", 4);
  double bytes = 0, flops = 0;
  text_print(text, "%-40s %5s  %-10s%-10s  %-11s%s  model lines\n", "kernel", "calls", "anchor", "     bytes",
             "      FLOPs", cuda ? "   regs shared spills" : "");
  for (int i = 0; i < program->code_count; i++) {
    Row row = {0};
    for (int j = 0; j < program->launch_count; j++) {
      const Launch *launch = &program->launches[j];
      if (launch->code != i) continue;
      if (!row.first) row.first = launch;
      row.calls++, row.bytes += launch->bytes, row.flops += launch->flops;
    }
    if (!row.first) continue;
    print_row(&row, &program->codes[i], cuda, text);
    bytes += row.bytes, flops += row.flops;
  }
  text_print(text, "%-40s %5d  %-10s", "total", program->launch_count, "");
  print_amount(text, bytes, "B");
  text_print(text, "  ");
  print_amount(text, flops, "FLOP");
  text_print(text, "  for B=%lld T=%lld\n", (long long)unit->symbols[SYMBOL_BATCH],
             (long long)unit->symbols[SYMBOL_TIME]);
  if (unit->compiler->options.packing && unit->graph) weights_report(unit->graph, unit->before_backward, text);
}
