// PyTorch's saved state: what torch.save wrote of a dictionary of tensors, in either of its two containers.
//
//   zip archive    NAME/data.pkl, a pickle that refers to storages by key; NAME/data/KEY, their bytes
//   stream         five pickles (a magic number, 1001, about the machine, the state, the storages' keys),
//                  then per key an i64 number of elements and the bytes
//
// A tensor is a view of a storage: offset, extents, strides. Contiguous views point into the mapped file,
// others are copied in order. Names are the dictionary's keys; of dictionaries and lists within, joined with
// dots ("model.lm.weight", "optimizer.state.0.exp_avg"). A dictionary under "state_dict" stands for the whole;
// a tensor that was saved alone has the empty name.
// Nothing but tensors is looked at, and nothing is executed: see pickle.h.
#ifndef VLMC_WEIGHTS_TORCH_H
#define VLMC_WEIGHTS_TORCH_H

#include "runtime/weights/parts.h"

enum { TORCH_MAX_NAME = 500, TORCH_MAX_DEPTH = 16 };

#endif
