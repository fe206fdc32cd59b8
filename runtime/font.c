// Fonts by FreeType: finding one, measuring and drawing lines.
#include "runtime/font.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utf8proc.h>

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_TRUETYPE_TABLES_H

#include "runtime/base/arena.h"

struct Font {
  FT_Library library;
  FT_Face face;
};

// The next character and its bytes; control characters are blanks, what is not UTF-8 is a question mark.
static uint32_t next_character(const char *text, size_t *bytes) {
  utf8proc_int32_t code;
  utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code);
  *bytes = size > 0 ? (size_t)size : 1;
  if (size <= 0) return '?';
  return code < 32 || code == 127 ? ' ' : (uint32_t)code;
}

// The first character of the texts that the face lacks, or 0.
static uint32_t missing_character(FT_Face face, const char *const *texts, size_t count) {
  for (size_t i = 0; i < count; i++)
    for (size_t at = 0, bytes; texts[i][at]; at += bytes) {
      uint32_t code = next_character(texts[i] + at, &bytes);
      if (!FT_Get_Char_Index(face, code)) return code;
    }
  return 0;
}

// Looking through folders.

enum { MAX_DEPTH = 8, MAX_FONTS = 4000 };

typedef struct Search {
  Arena *arena;
  FT_Library library;
  const char *const *texts;
  size_t count;
  int looked_at;
  char *best; // path
  int best_oddness;
  uint32_t missing; // in the plainest font looked at
  int missing_oddness;
} Search;

// Plain is an upright face without serifs, of normal weight and width; what is equally plain is taken in
// order of paths. Classes as in the OS/2 table of the OpenType specification.
static int oddness(FT_Face face) {
  enum { LATIN_TEXT = 2, SANS_SERIF = 11, NORMAL_WEIGHT = 400, NORMAL_WIDTH = 5 };
  const TT_OS2 *classes = FT_Get_Sfnt_Table(face, FT_SFNT_OS2);
  int odd = (face->style_flags ? 2 : 0) + (FT_IS_FIXED_WIDTH(face) ? 1 : 0);
  if (!classes) return odd + 1;
  bool sans = classes->panose[0] == LATIN_TEXT && classes->panose[1] >= SANS_SERIF;
  return odd + !sans + (classes->usWeightClass != NORMAL_WEIGHT) + (classes->usWidthClass != NORMAL_WIDTH);
}

static void consider(Search *search, const char *path) {
  FT_Face face;
  if (search->looked_at++ >= MAX_FONTS || FT_New_Face(search->library, path, 0, &face)) return;
  int odd = oddness(face);
  uint32_t missing = FT_IS_SCALABLE(face) ? missing_character(face, search->texts, search->count) : ' ';
  bool better = !search->best || odd < search->best_oddness ||
                (odd == search->best_oddness && strcmp(path, search->best) < 0);
  if (missing && (!search->missing || odd < search->missing_oddness)) {
    search->missing = missing;
    search->missing_oddness = odd;
  }
  if (!missing && better) {
    search->best = arena_copy(search->arena, path, strlen(path));
    search->best_oddness = odd;
  }
  FT_Done_Face(face);
}

static bool names_font(const char *name) {
  const char *dot = strrchr(name, '.');
  return dot && (!strcmp(dot, ".ttf") || !strcmp(dot, ".ttc") || !strcmp(dot, ".otf"));
}

static void search_folder(Search *search, const char *path, int depth) {
  DIR *folder = depth < MAX_DEPTH ? opendir(path) : NULL;
  if (!folder) return;
  for (struct dirent *entry; (entry = readdir(folder));) {
    if (entry->d_name[0] == '.') continue;
    char *below = arena_print(search->arena, "%s/%s", path, entry->d_name);
    struct stat status;
    if (stat(below, &status) != 0) continue;
    if (S_ISDIR(status.st_mode))
      search_folder(search, below, depth + 1);
    else if (names_font(entry->d_name))
      consider(search, below);
  }
  closedir(folder);
}

static void search_all(Search *search) {
  search_folder(search, "/usr/share/fonts", 0);
  search_folder(search, "/usr/local/share/fonts", 0);
  const char *home = getenv("HOME");
  if (home) search_folder(search, arena_print(search->arena, "%s/.local/share/fonts", home), 0);
}

static bool fail_missing(Failure *failure, const char *lacking, uint32_t code) {
  utf8proc_uint8_t spelling[5] = {0};
  utf8proc_encode_char((utf8proc_int32_t)code, spelling);
  return fail(failure,
              "%s the character %s (U+%04X); install the package %s, or name another font in VLMC_FONT",
              lacking, (char *)spelling, code, code >= 0x2e80 ? "fonts-wqy-microhei" : "fonts-dejavu-core");
}

static bool find_face(Font *font, const char *const *texts, size_t count, Failure *failure) {
  const char *named = getenv("VLMC_FONT");
  if (named && *named) {
    if (FT_New_Face(font->library, named, 0, &font->face) || !FT_IS_SCALABLE(font->face))
      return fail(failure, "%s: is no font that can be used (VLMC_FONT names it)", named);
    uint32_t missing = missing_character(font->face, texts, count);
    return !missing || fail_missing(failure, "the font that VLMC_FONT names lacks", missing);
  }
  Search search = {.arena = arena_new(), .library = font->library, .texts = texts, .count = count};
  search_all(&search);
  bool good = search.best && FT_New_Face(font->library, search.best, 0, &font->face) == 0;
  if (!good)
    fail_missing(failure, "no font on this machine has all characters needed; one lacks",
                 search.missing ? search.missing : 'A');
  arena_free(search.arena);
  return good;
}

bool font_open(const char *const *texts, size_t count, Font **out, Failure *failure) {
  Font *font = calloc(1, sizeof *font);
  if (!font || FT_Init_FreeType(&font->library)) die("FreeType does not start");
  *out = font;
  if (find_face(font, texts, count, failure)) {
    font_size(font, 14);
    return true;
  }
  font_close(font);
  *out = NULL;
  return false;
}

void font_close(Font *font) {
  if (!font) return;
  if (font->face) FT_Done_Face(font->face);
  FT_Done_FreeType(font->library);
  free(font);
}

void font_size(Font *font, int pixels) { FT_Set_Pixel_Sizes(font->face, 0, (FT_UInt)pixels); }

int font_line_height(const Font *font) { return (int)((font->face->size->metrics.height + 63) >> 6); }

static int advance(Font *font, uint32_t code) {
  if (FT_Load_Char(font->face, code, FT_LOAD_NO_BITMAP)) return 0;
  return (int)((font->face->glyph->advance.x + 32) >> 6);
}

size_t font_fit(Font *font, const char *text, int width) {
  size_t at = 0, bytes, last_break = 0;
  for (int x = 0; text[at]; at += bytes) {
    uint32_t code = next_character(text + at, &bytes);
    x += advance(font, code);
    if (x > width && code != ' ') return last_break ? last_break : at ? at : bytes;
    if (code == ' ' || code >= 0x2e80) last_break = at + bytes; // ideographs and what stands with them
  }
  return at;
}

static void blend(uint8_t *pixel, const uint8_t colour[3], unsigned cover) {
  for (int c = 0; c < 3; c++)
    pixel[c] = (uint8_t)((pixel[c] * (255 - cover) + colour[c] * cover + 127) / 255);
}

static void draw_glyph(const FT_Bitmap *bitmap, Picture *picture, int x, int y, const uint8_t colour[3]) {
  for (int row = 0; row < (int)bitmap->rows; row++)
    for (int column = 0; column < (int)bitmap->width; column++) {
      int at_x = x + column, at_y = y + row;
      if (at_x < 0 || at_y < 0 || at_x >= picture->width || at_y >= picture->height) continue;
      blend(picture->pixels + ((size_t)at_y * (size_t)picture->width + (size_t)at_x) * 3, colour,
            bitmap->buffer[row * bitmap->pitch + column]);
    }
}

void font_draw(Font *font, Picture *picture, int x, int y, const char *text, size_t length,
               const uint8_t colour[3]) {
  int baseline = y + (int)((font->face->size->metrics.ascender + 63) >> 6);
  for (size_t at = 0, bytes; at < length && text[at]; at += bytes) {
    uint32_t code = next_character(text + at, &bytes);
    if (FT_Load_Char(font->face, code, FT_LOAD_NO_BITMAP | FT_LOAD_RENDER)) continue;
    FT_GlyphSlot glyph = font->face->glyph;
    if (glyph->bitmap.pixel_mode == FT_PIXEL_MODE_GRAY)
      draw_glyph(&glyph->bitmap, picture, x + glyph->bitmap_left, baseline - glyph->bitmap_top, colour);
    x += (int)((glyph->advance.x + 32) >> 6);
  }
}
