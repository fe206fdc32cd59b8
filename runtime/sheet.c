// A grid of pictures with text under each, drawn and written as PNG.
#include "runtime/sheet.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/arena.h"
#include "runtime/font.h"
#include "runtime/picture_parts.h"

enum { MARGIN = 12, GAP = 16, TEXT_GAP = 4, TEXT_SIZE = 14, TITLE_SIZE = 18 };

static const uint8_t colours[][3] = {
    [SHEET_PLAIN] = {80, 80, 80}, [SHEET_GOOD] = {16, 120, 48}, [SHEET_BAD] = {190, 32, 32}};

typedef struct Sheet {
  Font *font;
  Picture canvas;
  const SheetCell *cells;
  size_t count;
  int columns, side;
} Sheet;

// Draws a text broken to `width`, or only measures it (canvas NULL). Returns its height.
static int write_text(Font *font, Picture *canvas, int x, int y, int width, const char *text,
                      const uint8_t colour[3]) {
  int top = y;
  while (*text) {
    size_t length = font_fit(font, text, width);
    if (canvas) font_draw(font, canvas, x, y, text, length, colour);
    text += length;
    while (*text == ' ') text++;
    y += font_line_height(font);
  }
  return y - top;
}

static int cell_text(const Sheet *sheet, const SheetCell *cell, Picture *canvas, int x, int y) {
  int height = 0;
  for (int i = 0; i < cell->line_count; i++)
    height += write_text(sheet->font, canvas, x, y + height, sheet->side, cell->lines[i].text,
                         colours[cell->lines[i].mark]);
  return height;
}

// Height of a row of cells: the picture's square, and the longest text.
static int row_height(const Sheet *sheet, size_t first) {
  int text = 0;
  for (size_t i = first; i < sheet->count && i < first + (size_t)sheet->columns; i++) {
    int height = cell_text(sheet, &sheet->cells[i], NULL, 0, 0);
    if (height > text) text = height;
  }
  return sheet->side + TEXT_GAP + text + GAP;
}

// The picture at a size that fits the square: enlarged by a whole number, or shrunk.
static bool scale(const Picture *picture, int side, Picture *out, Failure *failure) {
  int longest = picture->width > picture->height ? picture->width : picture->height;
  int times = side / longest;
  if (times < 1) {
    int width = (int)((int64_t)picture->width * side / longest),
        height = (int)((int64_t)picture->height * side / longest);
    return picture_resize(picture, width ? width : 1, height ? height : 1, RESAMPLE_BICUBIC, out, failure);
  }
  if (!picture_allocate((int64_t)picture->width * times, (int64_t)picture->height * times, picture->channels,
                        "a picture of the sheet", out, failure))
    return false;
  size_t channels = (size_t)picture->channels;
  for (int y = 0; y < out->height; y++)
    for (int x = 0; x < out->width; x++)
      memcpy(out->pixels + ((size_t)y * (size_t)out->width + (size_t)x) * channels,
             picture->pixels +
                 ((size_t)(y / times) * (size_t)picture->width + (size_t)(x / times)) * channels,
             channels);
  return true;
}

static bool draw_picture(Sheet *sheet, const Picture *picture, int x, int y, Failure *failure) {
  Picture scaled;
  if (!scale(picture, sheet->side, &scaled, failure)) return false;
  x += (sheet->side - scaled.width) / 2;
  y += (sheet->side - scaled.height) / 2;
  for (int row = 0; row < scaled.height; row++)
    for (int column = 0; column < scaled.width; column++) {
      const uint8_t *in =
          scaled.pixels + ((size_t)row * (size_t)scaled.width + (size_t)column) * (size_t)scaled.channels;
      uint8_t *out =
          sheet->canvas.pixels + ((size_t)(y + row) * (size_t)sheet->canvas.width + (size_t)(x + column)) * 3;
      for (int c = 0; c < 3; c++) out[c] = in[scaled.channels == 3 ? c : 0];
    }
  picture_free(&scaled);
  return true;
}

static bool draw_cells(Sheet *sheet, int y, Failure *failure) {
  for (size_t i = 0; i < sheet->count; i++) {
    int x = MARGIN + (int)(i % (size_t)sheet->columns) * (sheet->side + GAP);
    if (sheet->cells[i].picture && !draw_picture(sheet, sheet->cells[i].picture, x, y, failure)) return false;
    cell_text(sheet, &sheet->cells[i], &sheet->canvas, x, y + sheet->side + TEXT_GAP);
    if ((i + 1) % (size_t)sheet->columns == 0) y += row_height(sheet, i + 1 - (size_t)sheet->columns);
  }
  return true;
}

static bool draw_all(Sheet *sheet, const char *title, Failure *failure) {
  int width = 2 * MARGIN + sheet->columns * (sheet->side + GAP) - GAP;
  font_size(sheet->font, TITLE_SIZE);
  int top = MARGIN + write_text(sheet->font, NULL, 0, 0, width - 2 * MARGIN, title, colours[SHEET_PLAIN]) +
            TEXT_GAP;
  font_size(sheet->font, TEXT_SIZE);
  int64_t height = top + MARGIN;
  for (size_t first = 0; first < sheet->count; first += (size_t)sheet->columns)
    height += row_height(sheet, first);
  if (!picture_allocate(width, height, 3, "the sheet", &sheet->canvas, failure)) return false;
  memset(sheet->canvas.pixels, 255, (size_t)width * (size_t)height * 3);
  font_size(sheet->font, TITLE_SIZE);
  write_text(sheet->font, &sheet->canvas, MARGIN, MARGIN, width - 2 * MARGIN, title, colours[SHEET_PLAIN]);
  font_size(sheet->font, TEXT_SIZE);
  return draw_cells(sheet, top, failure);
}

bool sheet_write(const char *path, const char *title, const SheetCell *cells, size_t count, int columns,
                 int side, Failure *failure) {
  if (columns < 1 || columns > 1000 || side < 16 || side > 4096 || count > 10000)
    return fail(failure, "%s: a sheet of %zu pictures, %d in a row, %d pixels wide cannot be drawn", path,
                count, columns, side);
  Arena *arena = arena_new();
  const char **texts = NULL;
  size_t text_count = 0, capacity = 0;
  ARENA_PUSH(arena, texts, text_count, capacity, title);
  for (size_t i = 0; i < count; i++)
    for (int line = 0; line < cells[i].line_count; line++)
      ARENA_PUSH(arena, texts, text_count, capacity, cells[i].lines[line].text);
  Sheet sheet = {.cells = cells, .count = count, .columns = columns, .side = side};
  bool good = font_open(texts, text_count, &sheet.font, failure) && draw_all(&sheet, title, failure) &&
              picture_write_png(path, &sheet.canvas, failure);
  font_close(sheet.font);
  picture_free(&sheet.canvas);
  arena_free(arena);
  return good;
}
