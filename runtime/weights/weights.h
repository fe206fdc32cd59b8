// Weights: a file of named tensors, whatever its format. The format is known by the content, never by the
// name:
//
//   safetensors        safetensors.h
//   GGUF 2 and 3       gguf.h, which also gives the metadata
//   PyTorch            .bin, .pth: a zip archive of stored entries, or the older stream of pickles; torch.h
//   llama2.c           version 0: seven integers, then f32; llama2c.h names the tensors
//   an index           JSON with a "weight_map" from tensor to file beside it: safetensors or PyTorch shards
//   a folder           model.safetensors.index.json, model.safetensors, pytorch_model.bin.index.json or
//                      pytorch_model.bin, the first that is there
//
// Files are mapped, not read, and everything is checked before anyone sees a pointer: sizes, offsets,
// overlap, names that appear twice. What is refused is refused with one sentence that names file, place and
// reason. Beyond the mappings, memory is proportional to the headers; where a tensor's bytes have to be moved
// (badly aligned, or a transposed view) the copies together are at most as large as the file.
#ifndef VLMC_WEIGHTS_WEIGHTS_H
#define VLMC_WEIGHTS_WEIGHTS_H

#include "runtime/weights/format.h"
#include "runtime/weights/gguf.h"

typedef struct WeightFile {
  const char *path;      // as given to weights_open, or the index or file that was found in that folder
  const char *kind;      // "safetensors", "GGUF", "PyTorch", "llama2.c"; of shards, theirs
  WeightTensor *tensors; // in the order of the file, and of shards one after the other
  size_t count;
  const Gguf *gguf; // its metadata, where this is a GGUF file; else NULL
  struct WeightStorage *storage;
} WeightFile;

bool weights_open(const char *path, WeightFile *file, Failure *failure);
// The same from bytes that the caller keeps alive (`name` is used in messages); an index is refused, for it
// names other files. For tests and fuzzing.
bool weights_parse(const unsigned char *bytes, size_t size, const char *name, WeightFile *file,
                   Failure *failure);
void weights_close(WeightFile *file); // accepts a zeroed one

const WeightTensor *weights_find(const WeightFile *file, const char *name); // NULL: none
// By two pieces of the name, put together: "model.", "norm.weight".
const WeightTensor *weights_find_joined(const WeightFile *file, const char *prefix, const char *name);
// Text that a safetensors file carries beside its tensors ("step"); NULL: none, also in other formats.
const char *weights_metadata(const WeightFile *file, const char *key);

#endif
