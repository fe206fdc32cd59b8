// Sheets: text is drawn where it belongs and broken to its column; a character no font has is named.
#include <unistd.h>

#include "check.h"
#include "runtime/base/arena.h"
#include "runtime/font.h"
#include "runtime/sheet.h"

static const char latin[] = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf";
static const char chinese[] = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc";

static void test_fit(void) {
  const char *text = "one two three";
  Font *font;
  Failure failure;
  CHECK(font_open(&text, 1, &font, &failure), "%s", failure.message);
  if (!font) return;
  CHECK(font_fit(font, text, 10000) == strlen(text) && font_fit(font, "", 10) == 0, "a wide line");
  size_t first = font_fit(font, text, 70);
  CHECK(first == 4 || first == 8, "broken after %zu bytes, not at a space", first);
  CHECK(font_fit(font, "mmmmmmmm", 1) == 1, "at least one character");
  size_t some = font_fit(font, "mmmmmmmm", 40);
  CHECK(some > 1 && some < 8, "a long word is broken, after %zu", some);
  font_close(font);
}

// Of the sheet's columns of pixels: how many are dark in rows [top, bottom).
static int count_dark(const Picture *picture, int left, int right, int top, int bottom) {
  int dark = 0;
  for (int y = top; y < bottom; y++)
    for (int x = left; x < right; x++) dark += picture->pixels[(y * picture->width + x) * 3 + 1] < 160;
  return dark;
}

static void test_layout(const char *path) {
  uint8_t grey[4] = {0, 0, 0, 0};
  Picture small = {2, 2, 1, grey};
  SheetLine lines[] = {{"what is it?", SHEET_PLAIN}, {"a bag", SHEET_GOOD}};
  SheetCell cells[] = {{&small, lines, 2}, {NULL, NULL, 0}, {&small, lines, 1}};
  Failure failure;
  CHECK(sheet_write(path, "title", cells, 3, 2, 64, &failure), "%s", failure.message);
  Picture sheet;
  CHECK(picture_read(path, &sheet, &failure), "%s", failure.message);
  CHECK(sheet.width == 2 * 12 + 2 * 64 + 16, "%d pixels wide", sheet.width);
  int top = -1; // of the first picture: the first row that is black from 12 to 76
  for (int y = 0; y < sheet.height && top < 0; y++)
    if (count_dark(&sheet, 12, 76, y, y + 1) == 64) top = y;
  CHECK(top > 12 && count_dark(&sheet, 12, 76, top, top + 64) == 64 * 64, "the picture, at %d", top);
  CHECK(count_dark(&sheet, 92, 156, top, top + 64) == 0, "the empty cell is not empty");
  CHECK(count_dark(&sheet, 12, 76, top + 66, top + 98) > 20, "no text under the picture");
  CHECK(count_dark(&sheet, 12, 100, 12, top - 2) > 20, "no title");
  picture_free(&sheet);
  uint8_t wide[300 * 3] = {0};
  Picture large = {300, 1, 3, wide};
  SheetCell one = {&large, NULL, 0};
  CHECK(sheet_write(path, "", &one, 1, 1, 64, &failure), "%s", failure.message);
  CHECK(!sheet_write(path, "", &one, 1, 0, 64, &failure), "no columns");
  CHECK(!sheet_write("/nowhere/sheet.png", "", &one, 1, 1, 64, &failure), "no folder");
}

static void test_missing(const char *path) {
  SheetLine line = {"描述这张图片", SHEET_BAD};
  SheetCell cell = {NULL, &line, 1};
  Failure failure = {0};
  setenv("VLMC_FONT", latin, 1);
  CHECK(!sheet_write(path, "t", &cell, 1, 1, 64, &failure) && strstr(failure.message, "描 (U+63CF)") &&
            strstr(failure.message, "fonts-wqy-microhei"),
        "%s", failure.message);
  setenv("VLMC_FONT", "/dev/null", 1);
  CHECK(!sheet_write(path, "t", &cell, 1, 1, 64, &failure) &&
            strstr(failure.message, "/dev/null: is no font"),
        "%s", failure.message);
  unsetenv("VLMC_FONT");
  if (access(chinese, R_OK)) {
    SKIP("Chinese text: the package fonts-wqy-microhei is not installed");
    return;
  }
  CHECK(sheet_write(path, "图片 and \xff\n", &cell, 1, 1, 64, &failure), "%s", failure.message);
}

int main(void) {
  if (access(latin, R_OK)) {
    SKIP("sheets: the package fonts-dejavu-core is not installed");
    return check_finish();
  }
  char path[] = "/tmp/vlmc-sheet-XXXXXX";
  close(mkstemp(path));
  test_fit();
  test_layout(path);
  test_missing(path);
  unlink(path);
  return check_finish();
}
