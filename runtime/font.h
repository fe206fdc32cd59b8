// Text in pictures: a font that has every character asked for, and lines of it drawn on RGB pixels.
#ifndef VLMC_RUNTIME_FONT_H
#define VLMC_RUNTIME_FONT_H

#include <stddef.h>

#include "runtime/base/failure.h"
#include "runtime/picture.h"

typedef struct Font Font;

// The font of $VLMC_FONT, else the plainest one under /usr/share/fonts, /usr/local/share/fonts and
// ~/.local/share/fonts, that has all characters of `texts`. Fails where there is none: it names a character
// that is missing and a package that has it.
bool font_open(const char *const *texts, size_t count, Font **out, Failure *failure);
void font_close(Font *font); // accepts NULL

void font_size(Font *font, int pixels); // of what follows; at first 14
int font_line_height(const Font *font); // in pixels
// How many bytes of `text` fit on a line of `width` pixels, broken at a space or between ideographs where
// possible; at least one character, unless the text is empty.
size_t font_fit(Font *font, const char *text, int width);
// Draws `length` bytes with the line's upper left corner at (x, y); what lies outside the picture is left
// out.
void font_draw(Font *font, Picture *picture, int x, int y, const char *text, size_t length,
               const uint8_t colour[3]);

#endif
