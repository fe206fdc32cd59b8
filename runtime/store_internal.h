// What sessions ask of the store.
#ifndef VLMC_RUNTIME_STORE_INTERNAL_H
#define VLMC_RUNTIME_STORE_INTERNAL_H

#include "runtime/store.h"

// The tensor of a PARAM, PART or STATE buffer, made where it is new. NULL: failure.
StoreTensor *store_bind(TensorStore *store, const Buffer *buffer, Failure *failure);
// Of a packed parameter, once its parts are bound: finds them.
void store_join(TensorStore *store, StoreTensor *tensor);
// Gives a state whose extents depend on run-time sizes room for these.
bool store_resize(TensorStore *store, StoreTensor *tensor, const Buffer *buffer, const int64_t symbols[SYMBOL_COUNT],
                  Failure *failure);

#endif
