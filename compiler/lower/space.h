// Iteration spaces, internal to this folder: which loops the nodes of one kernel have in common.
//
// A Space is a set of atoms, the loops. The Place of a node says, per axis of its type, the atoms whose
// row-major number is the index: of [B, T, D] over atoms b t h e it may be (b) (t) (h e). Two nodes with
// known places over the same atoms are computed in one loop nest, whatever splits, merges and transpositions
// lie between them. Where a reshape needs it, an atom is split in two; axes of extent 1 have no atoms.
#ifndef VLMC_COMPILER_LOWER_SPACE_H
#define VLMC_COMPILER_LOWER_SPACE_H

#include "compiler/graph/graph.h"

enum { SPACE_MAX_ATOMS = 48, AXIS_MAX_ATOMS = 6 };

typedef struct Atom {
  Extent extent;
  const char *label;
  uint8_t outer, inner; // once split: its two parts; 0: whole
} Atom;

typedef struct Space {
  Atom atoms[SPACE_MAX_ATOMS]; // atoms[0] is unused
  int count;
} Space;

typedef struct Place {
  bool known;
  uint8_t rank;
  uint8_t counts[MAX_RANK];
  uint8_t atoms[MAX_RANK][AXIS_MAX_ATOMS];
} Place;

void space_init(Space *space);
// A fresh atom per axis of the type. False: the space is full.
bool space_add_type(Space *space, const Type *type, Place *place);
bool space_add_axis(Space *space, Axis axis, Place *place); // appends one axis to the place

// Splits of atoms done since the place was made are carried into it. False: an axis has too many atoms.
bool place_refresh(const Space *space, Place *place);
// Equal once both are refreshed.
bool place_equal(const Space *space, Place *a, Place *b);
// The atoms of a place as a bit mask; of a refreshed one, all of them whole.
uint64_t place_mask(const Place *place);
// A mask of atoms with all that were split replaced by their parts.
uint64_t space_whole(const Space *space, uint64_t mask);
// Splits atoms until both run over the same ones axis by axis; pairs[i] = atom of `a`, atom of `b`, in order.
typedef struct AtomPair {
  uint8_t a, b;
} AtomPair;
bool place_align(Space *a_space, Place *a, Space *b_space, Place *b, AtomPair *pairs, int *count);

// From a node's place to that of its operand (number `k`). False: no element of the operand belongs to each
// of the node's (slice, pad, reductions...); the place is then left unknown.
bool place_of_operand(Space *space, const Graph *graph, NodeId node, const Place *place, int k,
                      Place *operand);
// Likewise where the index is shifted or looked up on the way: which atoms move along which axis, roughly.
bool place_near_operand(Space *space, const Graph *graph, NodeId node, const Place *place, int k,
                        Place *operand);
// From the place of operand `k` to the node's: elementwise operations, arrange, split, merge, reductions.
// New axes of an arrange are matched in order with the atoms of `fill` (a mask) that are not yet used.
bool place_of_result(Space *space, const Graph *graph, NodeId node, int k, const Place *operand,
                     uint64_t fill, Place *place);
// The axes of a reduction's operand that it keeps, or the others.
uint32_t reduced_axes(const Node *node);

#endif
