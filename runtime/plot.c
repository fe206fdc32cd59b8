// log.jsonl -> SVG: each step's loss as a thin line, its running mean as a thick one.
#include "runtime/plot.h"

#include "runtime/files.h"
#include "runtime/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
  COLUMNS = 2,
  PANEL_WIDTH = 420,
  PANEL_HEIGHT = 240,
  LEFT = 52,
  RIGHT = 14,
  TOP = 34,
  BOTTOM = 34,
  TICKS = 4
};
enum { LOG_LIMIT = 1 << 30, MAX_POINTS = 800 };

typedef struct Point {
  double step, loss, mean;
} Point;

typedef struct Curve {
  const char *name;
  Point *points;
  size_t count, capacity;
  double least, most; // of the losses
} Curve;

static bool read_point(const char *line, size_t length, const char *place, Point *point, Failure *failure) {
  json_t *row = json_parse(line, length, place, failure);
  bool good = row && json_get_number(row, "step", place, &point->step, failure) &&
              json_get_number(row, "loss", place, &point->loss, failure) &&
              json_get_number(row, "mean", place, &point->mean, failure);
  json_decref(row);
  return good;
}

static bool read_curve(Arena *arena, const char *folder, Curve *curve, Failure *failure) {
  const char *path = arena_print(arena, "%s/log.jsonl", folder), *slash = strrchr(folder, '/');
  char *bytes;
  size_t size, number = 1;
  *curve = (Curve){.name = slash && slash[1] ? slash + 1 : folder, .least = INFINITY, .most = -INFINITY};
  if (!file_read(path, LOG_LIMIT, arena, &bytes, &size, failure)) return false;
  for (size_t at = 0; at < size; number++) {
    size_t length = strcspn(bytes + at, "\n");
    Point point;
    if (length &&
        !read_point(bytes + at, length, arena_print(arena, "%s:%zu", path, number), &point, failure))
      return false;
    if (length) {
      ARENA_PUSH(arena, curve->points, curve->count, curve->capacity, point);
      curve->least = fmin(curve->least, fmin(point.loss, point.mean));
      curve->most = fmax(curve->most, fmax(point.loss, point.mean));
    }
    at += length + 1;
  }
  return curve->count || fail(failure, "%s holds no step", path);
}

static double across(const Curve *curve, double step) {
  double last = curve->points[curve->count - 1].step, first = curve->points[0].step;
  return LEFT + (PANEL_WIDTH - LEFT - RIGHT) * (last > first ? (step - first) / (last - first) : 0.5);
}

static double down(const Curve *curve, double loss) {
  double range = curve->most - curve->least;
  return PANEL_HEIGHT - BOTTOM -
         (PANEL_HEIGHT - TOP - BOTTOM) * (range > 0 ? (loss - curve->least) / range : 0.5);
}

static void print_line(const Curve *curve, bool mean, Text *svg) {
  size_t stride = curve->count / MAX_POINTS + 1;
  text_print(svg, "<polyline class=\"%s\" points=\"", mean ? "mean" : "loss");
  for (size_t i = 0; i < curve->count; i += stride) {
    const Point *point = &curve->points[i];
    text_print(svg, "%.1f,%.1f ", across(curve, point->step), down(curve, mean ? point->mean : point->loss));
  }
  text_print(svg, "\"/>\n");
}

static void print_panel(const Curve *curve, int x, int y, Text *svg) {
  const Point *last = &curve->points[curve->count - 1];
  text_print(svg, "<g transform=\"translate(%d %d)\">\n<text x=\"%d\" y=\"20\" class=\"title\">%s</text>\n",
             x, y, LEFT, curve->name);
  text_print(svg, "<text x=\"%d\" y=\"20\" class=\"right\">last mean %.4f</text>\n", PANEL_WIDTH - RIGHT,
             last->mean);
  for (int i = 0; i <= TICKS; i++) {
    double loss = curve->least + (curve->most - curve->least) * i / TICKS, at = down(curve, loss);
    text_print(svg, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" class=\"grid\"/>\n", LEFT, at,
               PANEL_WIDTH - RIGHT, at);
    text_print(svg, "<text x=\"%d\" y=\"%.1f\" class=\"right\">%.3g</text>\n", LEFT - 6, at + 4, loss);
  }
  text_print(svg, "<text x=\"%d\" y=\"%d\">step %.0f</text>\n", LEFT, PANEL_HEIGHT - 14,
             curve->points[0].step);
  text_print(svg, "<text x=\"%d\" y=\"%d\" class=\"right\">step %.0f</text>\n", PANEL_WIDTH - RIGHT,
             PANEL_HEIGHT - 14, last->step);
  print_line(curve, false, svg);
  print_line(curve, true, svg);
  text_print(svg, "</g>\n");
}

static const char style[] =
    "<style>text{font-family:sans-serif;font-size:12px;fill:#333}.title{font-weight:bold;font-size:14px}"
    ".right{text-anchor:end}.grid{stroke:#ddd}polyline{fill:none}.loss{stroke:#9fc3e6;stroke-width:1}"
    ".mean{stroke:#1f5fa8;stroke-width:2}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";

bool plot_losses(const char *const *folders, size_t count, Text *svg, Failure *failure) {
  Arena *arena = arena_new();
  Curve *curves = ARENA_ARRAY(arena, Curve, count + 1);
  bool good = count || fail(failure, "the folder of a run is expected");
  for (size_t i = 0; good && i < count; i++) good = read_curve(arena, folders[i], &curves[i], failure);
  if (good) {
    int columns = count < COLUMNS ? (int)count : COLUMNS, rows = ((int)count + columns - 1) / columns;
    text_print(svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\">\n%s",
               columns * PANEL_WIDTH, rows * PANEL_HEIGHT, style);
    for (size_t i = 0; i < count; i++)
      print_panel(&curves[i], (int)i % columns * PANEL_WIDTH, (int)i / columns * PANEL_HEIGHT, svg);
    text_print(svg, "</svg>\n");
  }
  arena_free(arena);
  return good;
}
