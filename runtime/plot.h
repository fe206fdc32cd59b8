// Loss curves of runs as SVG: a panel per run, from its log.jsonl.
#ifndef VLMC_RUNTIME_PLOT_H
#define VLMC_RUNTIME_PLOT_H

#include "runtime/base/failure.h"
#include "runtime/base/text.h"

#include <stddef.h>

// `folders` hold log.jsonl; an empty or malformed log is a failure that names its line.
bool plot_losses(const char *const *folders, size_t count, Text *svg, Failure *failure);

#endif
