// What the C and the CUDA text share: names, values, scopes, loops, accesses. Internal to c.c and cuda*.c.
//
// Text is written from top to bottom. A value is asked for by its expression: csource_value gives C text for
// it, after writing, at the place where the text has come to, whatever definitions it needs. A definition is
// known until the scope in which it was written closes. Before a loop opens, csource_hoist writes what does
// not change in it.
#ifndef VLMC_COMPILER_EMIT_CSOURCE_H
#define VLMC_COMPILER_EMIT_CSOURCE_H

#include "compiler/emit/emit.h"

typedef struct CSource CSource;
struct CSource {
  Arena *arena; // dies with the kernel's emission
  Kernel *kernel;
  bool cuda;
  const char *function; // "kernel_" and the kernel's name
  Text body;            // of the function
  int indent;           // in steps of two blanks
  bool *reached;
  uint32_t *uses;                          // per expression: how often it is an operand
  const char **value;                      // per expression: what it is called in the open scopes, or NULL
  uint32_t *visited, visit, last_visit;    // marks of csource_hoist
  const char *axis_value[KERNEL_MAX_AXES]; // text of an axis' value in the open scopes, or NULL
  const char *axis_name[KERNEL_MAX_AXES], *buffer_name[KERNEL_MAX_BUFFERS];
  ExprId *defined; // in order; a scope remembers how many there were before it
  size_t defined_count, defined_capacity;
  size_t *scopes;
  size_t scope_count, scope_capacity;
  const char **names; // identifiers that are taken
  size_t name_count, name_capacity;
  // Writes a reduction in another way than a loop of this thread; false: it did not.
  bool (*reduce)(CSource *c, ExprId reduction);
  void *context;
};

void csource_begin(CSource *c, Arena *arena, Kernel *kernel, bool cuda);
void csource_end(CSource *c); // frees `body`

// One line, indented; csource_open adds ` {` and opens a scope, csource_close ends it.
void csource_line(CSource *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void csource_open(CSource *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void csource_close(CSource *c);
const char *csource_name(CSource *c, const char *base);     // a fresh identifier like `base`
const char *csource_axis(CSource *c, int axis);             // what an axis' value is called
const char *csource_variable(CSource *c, const char *base); // likewise, numbered from 1

const char *csource_extent(CSource *c, Extent extent);   // "768", "T", "(T + 1)"
const char *csource_product(CSource *c, uint32_t axes);  // of extents: "B * T", "1"
const char *csource_type(const CSource *c, DType dtype); // of a value
const char *csource_value(CSource *c, ExprId id);
// Writes a definition even where the text would stand in place, and returns its name.
const char *csource_define(CSource *c, ExprId id);
// Says what an expression is called from here on, until the scope closes.
void csource_set(CSource *c, ExprId id, const char *text);
// Defines the parts of an expression that depend on none of these axes.
void csource_hoist(CSource *c, ExprId id, uint32_t axes);
void csource_loop(CSource *c, int axis); // opens a loop of this thread over all of an axis
const char *csource_offset(CSource *c, int buffer, const ExprId *index);  // of an element, in elements
const char *csource_load(CSource *c, int buffer, const char *offset);     // element to value
const char *csource_element(CSource *c, int buffer, const char *element); // as it lies in memory to value
const char *csource_stored(CSource *c, int buffer, const char *value);    // and back
void csource_store(CSource *c, const Store *store, const char *value);
const char *csource_initial(const CSource *c, const Expr *reduction); // what a reduction starts from
// total op value, for a reduction's running total
const char *csource_accumulate(CSource *c, const Expr *reduction, const char *total, const char *value);
// Values of an index written as one number (row-major over `axes`, ascending): defines each axis.
void csource_split(CSource *c, uint32_t axes, const char *linear);
// Opens a loop over the product of some axes from `start` on in steps, and defines each axis; the counter is
// the axis where there is one, else called like `base`.
void csource_stride(CSource *c, uint32_t axes, const char *base, const char *start, const char *step);

// Groups of stores, as bit masks of their numbers: those of `among` that run over just these axes; what all
// of them share and does not depend on `axes`; their values, then their writes.
uint32_t csource_group(const Kernel *kernel, uint32_t among, uint32_t axes);
void csource_hoist_group(CSource *c, uint32_t group, uint32_t axes);
void csource_stores(CSource *c, uint32_t group);

// The header comment: model lines, shapes, FLOPs, bytes, then `schedule` where given.
void csource_comment(CSource *c, const EmitOptions *options, const char *schedule, Text *out);
void csource_parameters(CSource *c, Text *out);             // the parameter list of the function
bool csource_calls(const char *text, const char *function); // by name, anywhere in the text
// The helper functions that `body` calls, in the language's spelling.
void csource_helpers(const char *body, bool cuda, Text *out);

#endif
