// What tests build graphs by hand from: types of constant extents, and values by a generator of their own.
#ifndef VLMC_TESTS_GRAPH_PARTS_H
#define VLMC_TESTS_GRAPH_PARTS_H

#include "compiler/graph/graph.h"
#include "tests/check.h"

static uint32_t state = 1; // of uniform
static inline double uniform(double low, double high) {
  state = state * 1664525u + 1013904223u;
  return low + (high - low) * (double)(state >> 8) / (double)(1 << 24);
}

static inline Type type_of(DType dtype, int rank, const int64_t *extents) {
  static const char *const labels[MAX_RANK] = {"a", "b", "c", "d", "e", "f", "g", "h"};
  Type type = {.dtype = dtype, .rank = rank};
  for (int i = 0; i < rank; i++) type.axes[i] = (Axis){labels[i], extent_constant(extents[i])};
  return type;
}
#define EXTENTS(...)                                                                                         \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

static inline Axis axis(const char *label, int64_t extent) { return (Axis){label, extent_constant(extent)}; }

static inline bool verify(const Graph *graph, const char *what) {
  Text reason = {0};
  bool good = graph && graph_verify(graph, &reason);
  CHECK(good, "%s: %s", what, graph ? text_string(&reason) : "no graph");
  text_free(&reason);
  return good;
}

#endif
