// Which attributes matter to an operation, by its type rule: what print.c writes, read.c expects and cse.c
// compares. All others are 0. A rule without a row here does not compile.
#ifndef VLMC_COMPILER_GRAPH_ATTRIBUTES_H
#define VLMC_COMPILER_GRAPH_ATTRIBUTES_H

#include "compiler/graph/graph.h"

// Text form, in this order: value=0.5 extent=T+1 axis=1 start=P stride=2 count=2 axes=0,2 from=0,_,1 batch=1
// rows=512 pairs=0/0 contract=2/1 stream=3 (`pairs` are DOT's batch pairs; empty lists are left out)
typedef enum Field {
  FIELD_VALUE = 1 << 0,
  FIELD_EXTENT = 1 << 1,
  FIELD_AXIS = 1 << 2,
  FIELD_START = 1 << 3,
  FIELD_STRIDE = 1 << 4,
  FIELD_COUNT = 1 << 5,
  FIELD_AXES = 1 << 6,
  FIELD_FROM = 1 << 7,
  FIELD_BATCH = 1 << 8,
  FIELD_ROWS = 1 << 9,
  FIELD_PAIRS = 1 << 10,
  FIELD_CONTRACT = 1 << 11,
  FIELD_STREAM = 1 << 12,
  FIELD_INPUT = 1 << 13, // spelled as the input's name and role, not as a number
  FIELD_END = 1 << 14
} Field;

enum {
  FIELDS_input = FIELD_INPUT,
  FIELDS_constant = FIELD_VALUE,
  FIELDS_size = FIELD_EXTENT,
  FIELDS_iota = FIELD_START,
  FIELDS_random = FIELD_STREAM,
  FIELDS_same = 0,
  FIELDS_cast = 0,
  FIELDS_compare = 0,
  FIELDS_select = 0,
  FIELDS_arrange = FIELD_FROM,
  FIELDS_split = FIELD_AXIS | FIELD_COUNT,
  FIELDS_merge = FIELD_AXIS | FIELD_COUNT,
  FIELDS_window = FIELD_AXIS | FIELD_START | FIELD_STRIDE,
  FIELDS_slice = FIELD_AXIS | FIELD_START,
  FIELDS_pad = FIELD_AXIS | FIELD_START,
  FIELDS_concat = FIELD_AXIS,
  FIELDS_reduce = FIELD_AXES,
  FIELDS_fold = FIELD_AXIS | FIELD_START | FIELD_STRIDE,
  FIELDS_dot = FIELD_PAIRS | FIELD_CONTRACT,
  FIELDS_gather = FIELD_BATCH,
  FIELDS_scatter = FIELD_BATCH | FIELD_ROWS,
  FIELDS_update = FIELD_AXIS | FIELD_START
};

extern const uint16_t op_fields[OP_COUNT];           // graph.c
const char *field_name(Field field);                 // "axis"
bool attributes_equal(const Node *a, const Node *b); // of the same op, and types of the same rank

#endif
