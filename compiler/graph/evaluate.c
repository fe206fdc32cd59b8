// The meaning of a graph, slow and obvious: graph, run-time sizes, inputs -> outputs, in f64. One function
// per lowering rule of ops.def, naked loops, every access checked. Whole numbers are exact below 2^53;
// nothing is rounded to a narrower float. Everything else in the compiler is compared with this.
#include <math.h>
#include <string.h>

#include "compiler/graph/graph.h"
#include "runtime/base/failure.h"
#include "runtime/base/philox.h"

typedef struct Evaluation {
  const Node *node;
  const int64_t *symbols;
  const Tensor *x, *y, *z; // values of the operands
  const Tensor *inputs;    // of the graph
  Tensor *result;          // zeros
} Evaluation;

// ---- what the rules share -----------------------------------------------------------------------

// Runs over all positions of a type in row-major order: for (Position p = begin(&type); p.more; next(&p))
typedef struct Position {
  const Type *type;
  int64_t at[MAX_RANK], linear;
  bool more;
} Position;

static int64_t length(const Tensor *tensor, int axis) { return tensor->type.axes[axis].extent.offset; }

static Position begin(const Type *type) {
  Position position = {.type = type, .more = true};
  for (int i = 0; i < type->rank; i++) position.more = position.more && type->axes[i].extent.offset > 0;
  return position;
}

static void next(Position *position) {
  int axis = position->type->rank - 1;
  position->linear++;
  while (axis >= 0 && ++position->at[axis] == position->type->axes[axis].extent.offset)
    position->at[axis--] = 0;
  position->more = axis >= 0;
}

static double *element(const Tensor *tensor, const int64_t *at) {
  int64_t linear = 0;
  for (int i = 0; i < tensor->type.rank; i++) {
    if (at[i] < 0 || at[i] >= length(tensor, i))
      die("index %lld is outside of axis %d (%s), which has %lld", (long long)at[i], i,
          tensor->type.axes[i].label, (long long)length(tensor, i));
    linear = linear * length(tensor, i) + at[i];
  }
  return &tensor->data[linear];
}

#define FOR_EACH(position, tensor)                                                                           \
  for (Position position = begin(&(tensor)->type); position.more; next(&position))

// ---- sources ------------------------------------------------------------------------------------

static void evaluate_input(const Evaluation *e) {
  const Tensor *given = &e->inputs[e->node->attributes.input];
  if (!type_equal(&given->type, &e->result->type))
    die("input %u has another type", e->node->attributes.input);
  FOR_EACH(p, e->result) e->result->data[p.linear] = given->data[p.linear];
}

static void evaluate_constant(const Evaluation *e) { e->result->data[0] = e->node->attributes.number; }

static void evaluate_size(const Evaluation *e) {
  e->result->data[0] = (double)extent_value(e->node->attributes.extent, e->symbols);
}

static void evaluate_iota(const Evaluation *e) {
  int64_t start = extent_value(e->node->attributes.start, e->symbols);
  FOR_EACH(p, e->result) e->result->data[p.linear] = (double)(start + p.at[0]);
}

static void evaluate_random(const Evaluation *e) {
  uint32_t counter = (uint32_t)(int64_t)e->x->data[0];
  FOR_EACH(p, e->result)
  e->result->data[p.linear] = (double)philox_uniform(counter, e->node->attributes.stream, p.linear);
}

// ---- elementwise --------------------------------------------------------------------------------

static double to_whole(double x, double low, double high) {
  return x != x ? 0 : x <= low ? low : x >= high ? high : trunc(x);
}

static double to_dtype(double x, DType dtype) {
  switch (dtype) {
  case DTYPE_BOOL: return x != 0;
  case DTYPE_U8: return to_whole(x, 0, 255);
  case DTYPE_I32: return to_whole(x, INT32_MIN, INT32_MAX);
  case DTYPE_I64: return to_whole(x, -0x1p63, 0x1p63);
  default: return x;
  }
}

// Rounded down; 0 where the divisor is 0.
static double whole_quotient(double x, double y) {
  if (y == 0) return 0;
  double quotient = floor(x / y);
  bool above = y > 0 ? quotient * y > x : quotient * y < x; // the division itself may have been rounded up
  return above ? quotient - 1 : quotient;
}

double evaluate_element(Op op, DType dtype, double x, double y, double z) {
  bool whole = !dtype_is_float(dtype);
  switch (op) {
  case OP_NEG: return -x;
  case OP_ABS: return fabs(x);
  case OP_EXP: return exp(x);
  case OP_LOG: return log(x);
  case OP_SQRT: return sqrt(x);
  case OP_RSQRT: return 1 / sqrt(x);
  case OP_SIN: return sin(x);
  case OP_COS: return cos(x);
  case OP_TANH: return tanh(x);
  case OP_ERF: return erf(x);
  case OP_FLOOR: return floor(x);
  case OP_NOT: return !x;
  case OP_CAST: return to_dtype(x, dtype);
  case OP_STOP: return x;
  case OP_ADD: return x + y;
  case OP_SUB: return x - y;
  case OP_MUL: return x * y;
  case OP_DIV: return whole ? whole_quotient(x, y) : x / y;
  case OP_MOD: return !whole ? x - y * floor(x / y) : y == 0 ? 0 : x - y * whole_quotient(x, y);
  case OP_POW: return pow(x, y);
  case OP_MIN: return x != x ? x : y != y ? y : x < y ? x : y;
  case OP_MAX: return x != x ? x : y != y ? y : x > y ? x : y;
  case OP_LESS: return x < y;
  case OP_LESSEQ: return x <= y;
  case OP_EQUAL: return x == y;
  case OP_AND: return x && y;
  case OP_OR: return x || y;
  case OP_SELECT: return x != 0 ? y : z;
  default: die("%s is not elementwise", op_table[op].name);
  }
}

static void evaluate_scalar(const Evaluation *e) {
  FOR_EACH(p, e->result) {
    double x = e->x->data[p.linear], y = e->y ? e->y->data[p.linear] : 0, z = e->z ? e->z->data[p.linear] : 0;
    e->result->data[p.linear] = evaluate_element(e->node->op, e->node->type.dtype, x, y, z);
  }
}

// ---- views --------------------------------------------------------------------------------------

static void evaluate_arrange(const Evaluation *e) {
  FOR_EACH(p, e->result) {
    int64_t at[MAX_RANK] = {0};
    for (int i = 0; i < e->result->type.rank; i++)
      if (e->node->attributes.from[i] >= 0) at[e->node->attributes.from[i]] = p.at[i];
    e->result->data[p.linear] = *element(e->x, at);
  }
}

// Row-major order stays as it is, whatever it is called.
static void evaluate_split(const Evaluation *e) {
  if (type_elements(&e->x->type, e->symbols) != type_elements(&e->result->type, e->symbols))
    die("split changes size");
  FOR_EACH(p, e->result) e->result->data[p.linear] = e->x->data[p.linear];
}

static void evaluate_merge(const Evaluation *e) { evaluate_split(e); }

// y[.., o, i, ..] = x[.., start + o*stride + i, ..]
static void evaluate_window(const Evaluation *e) {
  int axis = e->node->attributes.axis;
  int64_t start = e->node->attributes.start.offset, stride = e->node->attributes.stride;
  FOR_EACH(p, e->result) {
    int64_t at[MAX_RANK], source = start + p.at[axis] * stride + p.at[axis + 1];
    if (source < 0 || source >= length(e->x, axis)) continue;
    for (int i = 0; i < e->x->type.rank; i++) at[i] = i < axis ? p.at[i] : i == axis ? source : p.at[i + 1];
    e->result->data[p.linear] = *element(e->x, at);
  }
}

static void evaluate_slice(const Evaluation *e) {
  int64_t start = extent_value(e->node->attributes.start, e->symbols);
  FOR_EACH(p, e->result) {
    int64_t at[MAX_RANK] = {0};
    memcpy(at, p.at, sizeof at);
    at[e->node->attributes.axis] += start;
    e->result->data[p.linear] = *element(e->x, at);
  }
}

static void evaluate_pad(const Evaluation *e) {
  int axis = e->node->attributes.axis;
  int64_t before = extent_value(e->node->attributes.start, e->symbols);
  FOR_EACH(p, e->x) {
    int64_t at[MAX_RANK] = {0};
    memcpy(at, p.at, sizeof at);
    at[axis] += before;
    *element(e->result, at) = e->x->data[p.linear];
  }
}

static void evaluate_concat(const Evaluation *e) {
  int axis = e->node->attributes.axis;
  FOR_EACH(p, e->x) * element(e->result, p.at) = e->x->data[p.linear];
  FOR_EACH(p, e->y) {
    int64_t at[MAX_RANK] = {0};
    memcpy(at, p.at, sizeof at);
    at[axis] += length(e->x, axis);
    *element(e->result, at) = e->y->data[p.linear];
  }
}

// ---- reductions ---------------------------------------------------------------------------------

// Where in the result of a reduction the element at p goes.
static double *reduced(const Evaluation *e, const Position *p) {
  int64_t at[MAX_RANK];
  int rank = 0;
  for (int i = 0; i < e->x->type.rank; i++)
    if (!(e->node->attributes.axes >> i & 1)) at[rank++] = p->at[i];
  return element(e->result, at);
}

static void evaluate_sum(const Evaluation *e) { FOR_EACH(p, e->x) * reduced(e, &p) += e->x->data[p.linear]; }

static void evaluate_redmax(const Evaluation *e) {
  FOR_EACH(p, e->result) e->result->data[p.linear] = -INFINITY;
  FOR_EACH(p, e->x) {
    double *y = reduced(e, &p);
    *y = evaluate_element(OP_MAX, e->node->type.dtype, *y, e->x->data[p.linear], 0);
  }
}

// y[.., start + o*stride + i, ..] += x[.., o, i, ..]
static void evaluate_fold(const Evaluation *e) {
  int axis = e->node->attributes.axis;
  int64_t start = e->node->attributes.start.offset, stride = e->node->attributes.stride;
  FOR_EACH(p, e->x) {
    int64_t at[MAX_RANK], target = start + p.at[axis] * stride + p.at[axis + 1];
    if (target < 0 || target >= length(e->result, axis)) continue;
    for (int i = 0; i < e->result->type.rank; i++)
      at[i] = i < axis ? p.at[i] : i == axis ? target : p.at[i + 1];
    *element(e->result, at) += e->x->data[p.linear];
  }
}

// ---- contraction and indexing -------------------------------------------------------------------

static bool listed(const int8_t *list, int count, int axis) {
  for (int i = 0; i < count; i++)
    if (list[i] == axis) return true;
  return false;
}

// y[batch.., free of x.., free of y..] = sum over contracted axes of x * y
static void evaluate_dot(const Evaluation *e) {
  const Attributes *a = &e->node->attributes;
  Type contracted = {.rank = a->contract};
  int pairs = a->batch + a->contract;
  for (int i = 0; i < a->contract; i++) contracted.axes[i] = e->x->type.axes[a->left[a->batch + i]];
  FOR_EACH(p, e->result) {
    int64_t x_at[MAX_RANK], y_at[MAX_RANK];
    int from = 0;
    double sum = 0;
    for (; from < a->batch; from++) x_at[a->left[from]] = y_at[a->right[from]] = p.at[from];
    for (int i = 0; i < e->x->type.rank; i++)
      if (!listed(a->left, pairs, i)) x_at[i] = p.at[from++];
    for (int i = 0; i < e->y->type.rank; i++)
      if (!listed(a->right, pairs, i)) y_at[i] = p.at[from++];
    for (Position c = begin(&contracted); c.more; next(&c)) {
      for (int i = 0; i < a->contract; i++)
        x_at[a->left[a->batch + i]] = y_at[a->right[a->batch + i]] = c.at[i];
      sum += *element(e->x, x_at) * *element(e->y, y_at);
    }
    e->result->data[p.linear] = sum;
  }
}

// y[b.., i.., r..] = x[b.., index[b.., i..], r..]; 0 where the index is outside
static void evaluate_gather(const Evaluation *e) {
  int batch = e->node->attributes.batch, indexed = e->y->type.rank;
  FOR_EACH(p, e->result) {
    int64_t at[MAX_RANK] = {0};
    double row = *element(e->y, p.at);
    if (row < 0 || row >= (double)length(e->x, batch)) continue;
    for (int i = 0; i < batch; i++) at[i] = p.at[i];
    at[batch] = (int64_t)row;
    for (int i = batch + 1; i < e->x->type.rank; i++) at[i] = p.at[indexed + i - batch - 1];
    e->result->data[p.linear] = *element(e->x, at);
  }
}

// y[b.., index[b.., i..], r..] += v[b.., i.., r..]
static void evaluate_scatter(const Evaluation *e) {
  int batch = e->node->attributes.batch, indexed = e->x->type.rank;
  FOR_EACH(p, e->y) {
    int64_t at[MAX_RANK] = {0};
    double row = *element(e->x, p.at);
    if (row < 0 || row >= (double)length(e->result, batch)) continue;
    for (int i = 0; i < batch; i++) at[i] = p.at[i];
    at[batch] = (int64_t)row;
    for (int i = indexed; i < e->y->type.rank; i++) at[batch + 1 + i - indexed] = p.at[i];
    *element(e->result, at) += e->y->data[p.linear];
  }
}

static void evaluate_update(const Evaluation *e) {
  int64_t start = extent_value(e->node->attributes.start, e->symbols);
  FOR_EACH(p, e->x) e->result->data[p.linear] = e->x->data[p.linear];
  FOR_EACH(p, e->y) {
    int64_t at[MAX_RANK] = {0};
    memcpy(at, p.at, sizeof at);
    at[e->node->attributes.axis] += start;
    *element(e->result, at) = e->y->data[p.linear];
  }
}

// ---- all of it ----------------------------------------------------------------------------------

typedef void Rule(const Evaluation *evaluation);
static Rule *const rules[OP_COUNT] = {
#define OP(enumerator, name, inputs, properties, type, gradient, lowering, meaning) evaluate_##lowering,
#include "compiler/graph/ops.def"
#undef OP
};

void graph_evaluate(const Graph *graph, Arena *arena, const int64_t symbols[SYMBOL_COUNT],
                    const Tensor *inputs, Tensor *outputs) {
  Tensor *values = ARENA_ARRAY(arena, Tensor, graph->count);
  for (NodeId id = 1; id < graph->count; id++) {
    const Node *node = &graph->nodes[id];
    Tensor *value = &values[id];
    const Tensor *operands[MAX_INPUTS] = {0};
    value->type = node->type;
    for (int i = 0; i < node->type.rank; i++)
      value->type.axes[i].extent = extent_constant(extent_value(node->type.axes[i].extent, symbols));
    value->data = ARENA_ARRAY(arena, double, type_elements(&value->type, symbols));
    for (int i = 0; i < op_table[node->op].inputs; i++) operands[i] = &values[node->in[i]];
    rules[node->op](&(Evaluation){node, symbols, operands[0], operands[1], operands[2], inputs, value});
  }
  for (size_t i = 0; i < graph->output_count; i++) outputs[i] = values[graph->outputs[i].node];
}
