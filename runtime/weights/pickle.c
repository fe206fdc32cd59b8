// The pickle machine. Each instruction makes at most one value, so that memory follows the size of the
// stream.
#include "runtime/weights/pickle.h"

#include <string.h>

#include "runtime/weights/parts.h"

// More than any model's: bounds for streams that are made to be long. Places: on the stack, marks, items.
enum { PICKLE_MAX_VALUES = 1 << 22, PICKLE_MAX_PLACES = 1 << 24 };

typedef struct Machine {
  const unsigned char *bytes;
  size_t size, at;
  const char *path;
  Arena *arena;
  Failure *failure;
  Pickle *pickle;
  PickleValue **stack;
  size_t depth, capacity;
  size_t *marks; // stack depths
  size_t mark_count, mark_capacity;
  PickleValue **memo;
  size_t memo_count, memo_capacity;
  size_t places; // taken so far
  bool failed;
} Machine;

static void refuse(Machine *machine, const char *why) {
  if (!machine->failed) fail(machine->failure, "%s: pickle, byte %zu: %s", machine->path, machine->at, why);
  machine->failed = true;
}

// The next `count` bytes; after a failure, or where they are not there, NULL.
static const unsigned char *take(Machine *machine, uint64_t count) {
  if (count > machine->size - machine->at) refuse(machine, "ends within an instruction");
  if (machine->failed) return NULL;
  const unsigned char *taken = machine->bytes + machine->at;
  machine->at += (size_t)count;
  return taken;
}

static uint64_t take_integer(Machine *machine, int bytes) {
  const unsigned char *taken = take(machine, (uint64_t)bytes);
  uint64_t value = 0;
  for (int i = bytes; taken && i--;) value = value << 8 | taken[i];
  return value;
}

// ---- the stack ----------------------------------------------------------------------------------

static void take_place(Machine *machine) {
  if (++machine->places > PICKLE_MAX_PLACES) refuse(machine, "puts values in too many places");
}

static void push(Machine *machine, PickleValue *value) {
  take_place(machine);
  ARENA_PUSH(machine->arena, machine->stack, machine->depth, machine->capacity, value);
}

// Of what lies above the last mark. Never NULL: an empty stack fails and gives a value that serves till then.
static PickleValue *pop(Machine *machine) {
  size_t floor = machine->mark_count ? machine->marks[machine->mark_count - 1] : 0;
  if (machine->depth > floor) return machine->stack[--machine->depth];
  refuse(machine, "takes more from the stack than there is");
  return ARENA_NEW(machine->arena, PickleValue);
}

static PickleValue *make(Machine *machine, PickleKind kind) {
  PickleValue *value = ARENA_NEW(machine->arena, PickleValue);
  value->kind = kind;
  if (++machine->pickle->values > PICKLE_MAX_VALUES) refuse(machine, "has too many values");
  return value;
}

static PickleValue *push_new(Machine *machine, PickleKind kind) {
  PickleValue *value = make(machine, kind);
  push(machine, value);
  return value;
}

static void push_integer(Machine *machine, int64_t integer) {
  push_new(machine, PICKLE_INTEGER)->integer = integer;
}

static void push_text(Machine *machine, uint64_t length) {
  const unsigned char *taken = take(machine, length);
  PickleValue *value = push_new(machine, PICKLE_TEXT);
  value->text = taken ? (const char *)taken : "";
  value->length = taken ? (size_t)length : 0;
}

static void push_long(Machine *machine, uint64_t bytes) {
  if (bytes > 8) {
    push_text(machine, bytes);
    return;
  }
  uint64_t value = take_integer(machine, (int)bytes);
  if (bytes && bytes < 8 && value >> (8 * bytes - 1)) value |= UINT64_MAX << 8 * bytes;
  push_integer(machine, (int64_t)value);
}

static void add_item(Machine *machine, PickleValue *to, PickleValue *item) {
  take_place(machine);
  ARENA_PUSH(machine->arena, to->items, to->count, to->capacity, item);
}

static size_t pop_mark(Machine *machine) {
  if (machine->mark_count) return machine->marks[--machine->mark_count];
  refuse(machine, "has no mark to go back to");
  return machine->depth;
}

// Everything above the last mark, as the items of `to`; an object's items are its own, and stay.
static void gather(Machine *machine, PickleValue *to, size_t mark) {
  for (size_t i = mark; to->kind != PICKLE_OBJECT && i < machine->depth; i++)
    add_item(machine, to, machine->stack[i]);
  machine->depth = mark;
}

static void push_gathered(Machine *machine, PickleKind kind) {
  PickleValue *value = make(machine, kind);
  gather(machine, value, pop_mark(machine));
  push(machine, value);
}

static PickleValue *top(Machine *machine) {
  PickleValue *value = pop(machine);
  push(machine, value);
  return value;
}

// What lies above the mark into the container below it.
static void extend(Machine *machine, PickleKind kind) {
  size_t mark = pop_mark(machine);
  size_t floor = machine->mark_count ? machine->marks[machine->mark_count - 1] : 0;
  PickleValue *to = mark > floor ? machine->stack[mark - 1] : NULL;
  if (!to || (to->kind != kind && to->kind != PICKLE_OBJECT) ||
      (kind == PICKLE_DICT && (machine->depth - mark) % 2))
    refuse(machine, "adds items to what does not take them");
  else
    gather(machine, to, mark);
}

static void push_tuple(Machine *machine, size_t count) {
  PickleValue *value = make(machine, PICKLE_TUPLE);
  value->items = ARENA_ARRAY(machine->arena, PickleValue *, count);
  value->count = value->capacity = count;
  while (count--) value->items[count] = pop(machine);
  push(machine, value);
}

static void add_one(Machine *machine, PickleKind kind) {
  PickleValue *value = pop(machine), *key = kind == PICKLE_DICT ? pop(machine) : NULL, *to = top(machine);
  if (to->kind == PICKLE_OBJECT) return;
  if (to->kind != kind) refuse(machine, "adds an item to what does not take it");
  if (key) add_item(machine, to, key);
  add_item(machine, to, value);
}

// ---- classes, and what is made of them ------------------------------------------------------------

static void push_global(Machine *machine, const char *module, size_t module_length, const char *name,
                        size_t name_length) {
  if (module_length + name_length > 1000) refuse(machine, "a class's name is too long");
  if (machine->failed) return;
  PickleValue *value = push_new(machine, PICKLE_GLOBAL);
  value->text = arena_print(machine->arena, "%.*s %.*s", (int)module_length, module, (int)name_length, name);
  value->length = strlen(value->text);
}

static const char *take_line(Machine *machine, size_t *length) {
  const unsigned char *from = machine->bytes + machine->at;
  const unsigned char *end = memchr(from, '\n', machine->size - machine->at);
  *length = end ? (size_t)(end - from) : 0;
  if (!end) refuse(machine, "a class's name does not end");
  take(machine, end ? *length + 1 : 0);
  return (const char *)from;
}

static void global_from_lines(Machine *machine) {
  size_t module_length, name_length;
  const char *module = take_line(machine, &module_length), *name = take_line(machine, &name_length);
  push_global(machine, module, module_length, name, name_length);
}

static void global_from_stack(Machine *machine) {
  PickleValue *name = pop(machine), *module = pop(machine);
  if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
    refuse(machine, "a class's name is no text");
  else
    push_global(machine, module->text, module->length, name->text, name->length);
}

// A call: of a dictionary's class, an empty dictionary (its items follow); else an object.
static void call(Machine *machine) {
  PickleValue *arguments = pop(machine), *callee = pop(machine);
  if (pickle_is(callee, PICKLE_GLOBAL, "collections OrderedDict") ||
      pickle_is(callee, PICKLE_GLOBAL, "collections defaultdict")) {
    push_new(machine, PICKLE_DICT);
    return;
  }
  PickleValue *object = push_new(machine, PICKLE_OBJECT);
  add_item(machine, object, callee);
  add_item(machine, object, arguments);
}

static void push_persistent(Machine *machine) {
  PickleValue *id = pop(machine), *value = push_new(machine, PICKLE_PERSISTENT);
  Pickle *pickle = machine->pickle;
  add_item(machine, value, id);
  ARENA_PUSH(machine->arena, pickle->persistents, pickle->persistent_count, pickle->persistent_capacity,
             value);
}

// ---- the memo -----------------------------------------------------------------------------------

static void remember(Machine *machine, uint64_t index) {
  PickleValue *value = top(machine);
  if (index >= machine->size || index >= PICKLE_MAX_VALUES) refuse(machine, "numbers a value too high");
  if (machine->failed) return;
  if (index >= machine->memo_capacity) {
    size_t capacity = (size_t)index * 2 + 16;
    machine->memo = arena_grow(machine->arena, machine->memo, sizeof(*machine->memo) * machine->memo_capacity,
                               sizeof(*machine->memo) * capacity);
    machine->memo_capacity = capacity;
  }
  machine->memo[index] = value;
  if (index >= machine->memo_count) machine->memo_count = (size_t)index + 1;
}

static void recall(Machine *machine, uint64_t index) {
  if (index < machine->memo_count && machine->memo[index])
    push(machine, machine->memo[index]);
  else
    refuse(machine, "recalls a value that it did not store");
}

// ---- instructions -------------------------------------------------------------------------------

static void check_protocol(Machine *machine) {
  uint64_t protocol = take_integer(machine, 1);
  if (protocol < 2 || protocol > 5) refuse(machine, "is of a protocol other than 2 to 5");
}

static void step(Machine *machine, int instruction) {
  switch (instruction) {
  case 0x80: check_protocol(machine); break;
  case 0x95: take(machine, 8); break; // FRAME
  case '(':
    take_place(machine);
    ARENA_PUSH(machine->arena, machine->marks, machine->mark_count, machine->mark_capacity, machine->depth);
    break;
  case '0': pop(machine); break;
  case '1': machine->depth = pop_mark(machine); break;
  case '2': push(machine, top(machine)); break;
  case 'N': push_new(machine, PICKLE_NONE); break;
  case 0x88: push_integer(machine, 1); break; // NEWTRUE
  case 0x89: push_integer(machine, 0); break; // NEWFALSE
  case 'K': push_integer(machine, (int64_t)take_integer(machine, 1)); break;
  case 'M': push_integer(machine, (int64_t)take_integer(machine, 2)); break;
  case 'J': push_integer(machine, (int32_t)take_integer(machine, 4)); break;
  case 0x8a: push_long(machine, take_integer(machine, 1)); break;
  case 0x8b: push_long(machine, take_integer(machine, 4)); break;
  case 'G': // no number of this kind matters to tensors
    take(machine, 8);
    push_new(machine, PICKLE_NUMBER);
    break;
  case 'U': // texts and bytes, by the size of their length
  case 'C':
  case 0x8c: push_text(machine, take_integer(machine, 1)); break;
  case 'X':
  case 'T':
  case 'B': push_text(machine, take_integer(machine, 4)); break;
  case 0x8d:
  case 0x8e: push_text(machine, take_integer(machine, 8)); break;
  case ')': push_tuple(machine, 0); break;
  case 0x85: push_tuple(machine, 1); break;
  case 0x86: push_tuple(machine, 2); break;
  case 0x87: push_tuple(machine, 3); break;
  case 't': push_gathered(machine, PICKLE_TUPLE); break;
  case ']':
  case 0x8f: push_new(machine, PICKLE_LIST); break; // 0x8f: a set
  case 'l':
  case 0x91: push_gathered(machine, PICKLE_LIST); break; // 0x91: a frozen set
  case 'a': add_one(machine, PICKLE_LIST); break;
  case 'e':
  case 0x90: extend(machine, PICKLE_LIST); break;
  case '}': push_new(machine, PICKLE_DICT); break;
  case 's': add_one(machine, PICKLE_DICT); break;
  case 'u': extend(machine, PICKLE_DICT); break;
  case 'c': global_from_lines(machine); break;
  case 0x93: global_from_stack(machine); break;
  case 'R':
  case 0x81: call(machine); break; // 0x81: NEWOBJ
  case 0x92:                       // NEWOBJ_EX: with named arguments
    pop(machine);
    call(machine);
    break;
  case 'b': pop(machine); break; // BUILD: attributes of the object below
  case 'Q': push_persistent(machine); break;
  case 'q': remember(machine, take_integer(machine, 1)); break;
  case 'r': remember(machine, take_integer(machine, 4)); break;
  case 0x94: remember(machine, machine->memo_count); break;
  case 'h': recall(machine, take_integer(machine, 1)); break;
  case 'j': recall(machine, take_integer(machine, 4)); break;
  default: refuse(machine, "an instruction that saved tensors do not need"); break;
  }
}

bool pickle_read(const unsigned char *bytes, size_t size, size_t *at, const char *path, Arena *arena,
                 Pickle *pickle, Failure *failure) {
  *pickle = (Pickle){0};
  Machine machine = {.bytes = bytes,
                     .size = size,
                     .at = *at,
                     .path = path,
                     .arena = arena,
                     .failure = failure,
                     .pickle = pickle};
  while (!machine.failed) {
    const unsigned char *instruction = take(&machine, 1);
    if (!instruction) break;
    if (*instruction == '.') {
      pickle->root = pop(&machine);
      break;
    }
    step(&machine, *instruction);
  }
  *at = machine.at;
  return !machine.failed;
}

bool pickle_is(const PickleValue *value, PickleKind kind, const char *text) {
  return value->kind == kind && value->length == strlen(text) && !memcmp(value->text, text, value->length);
}

PickleValue *pickle_get(const PickleValue *dict, const char *key) {
  for (size_t i = 0; dict->kind == PICKLE_DICT && i + 1 < dict->count; i += 2)
    if (pickle_is(dict->items[i], PICKLE_TEXT, key)) return dict->items[i + 1];
  return NULL;
}
