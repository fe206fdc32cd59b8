// A sheet: pictures in a grid, each with a few lines of text under it, as one PNG.
#ifndef VLMC_RUNTIME_SHEET_H
#define VLMC_RUNTIME_SHEET_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/failure.h"
#include "runtime/picture.h"

typedef enum SheetMark { SHEET_PLAIN, SHEET_GOOD, SHEET_BAD } SheetMark; // grey, green, red

typedef struct SheetLine {
  const char *text; // UTF-8; broken into as many lines as it needs
  SheetMark mark;
} SheetLine;

typedef struct SheetCell {
  const Picture *picture; // scaled up by a whole number to about `side` pixels, pixels kept square
  const SheetLine *lines;
  int line_count;
} SheetCell;

// `columns` cells a row, pictures about `side` pixels wide. Text needs a font that has every character used:
// $VLMC_FONT, else the first fitting one under /usr/share/fonts, /usr/local/share/fonts and
// ~/.local/share/fonts. Where none has them all, it fails and says which package to install.
bool sheet_write(const char *path, const char *title, const SheetCell *cells, size_t count, int columns,
                 int side, Failure *failure);

#endif
