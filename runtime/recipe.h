// What a model file says about a run besides its arithmetic: preprocessing, chat template, stages. Filled by
// the compiler, read by the runtime; plain data, all memory belongs to whoever filled it.
#ifndef VLMC_RUNTIME_RECIPE_H
#define VLMC_RUNTIME_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum Resample { RESAMPLE_BILINEAR, RESAMPLE_BICUBIC } Resample;
typedef enum ResizeMode {
  RESIZE_EXACT,    // to the size, whatever the picture's shape
  RESIZE_SHORTEST, // until both sides cover the size: of a square size, the shortest edge has it
  RESIZE_NONE      // the picture must already have the size
} ResizeMode;

// picture file -> float[channels, height, width]: padded, resized, cropped to its centre, then
// (byte * scale - mean[c]) / std[c]
typedef struct Preprocess {
  int channels; // 1 (grey by ITU-R 601-2 luma) or 3 (RGB)
  int height, width;
  bool pad_square;       // before resizing: in the middle of a square as long as the longer side
  uint8_t pad_colour[3]; // of what surrounds it there
  ResizeMode resize;
  int resize_height, resize_width; // before cropping; 0: height and width
  Resample resample;
  double scale;
  double mean[3], std[3];
  int shift;   // training only: random shift by up to this many pixels, edges filled with zero bytes
  bool mirror; // training only: mirrored left to right with probability 1/2
} Preprocess;

// A conversation as text: `begin`, then turn after turn. `{system}`, `{prompt}` and `{answer}` stand for its
// parts, the image token for each picture of a turn; of what is not there, nothing stands. Supervised is what
// the model writes: the answer, the blanks before it, and what follows up to the first end token (up to the
// form's end, where it has none).
typedef struct Template {
  const char *begin;       // before a sample's first token of any kind: "<s>"; NULL: none
  const char *system;      // "<|im_start|>system\n{system}<|im_end|>\n"; NULL: nothing is said to the model
  const char *system_text; // what {system} is where nobody says otherwise; NULL: nothing
  // "<|im_start|>user\n<image>\n{prompt}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n". Where it
  // has {system}, `system` stands there in the first turn, else before the first turn.
  const char *turn;
  const char *caption;     // how a row with a caption alone reads: "<image>{answer}<|im_end|>"; NULL: none
  const char *image_token; // "<image>": a picture's place in a form
  const char *image_mark;  // the token that is there in the ids, `image_tokens` times; NULL: image_token
  int image_tokens;        // picture tokens that the model's encoder gives; 0 for a text model
  const char *const *ends; // special tokens at which generation stops; the first ends texts and pads rows
  size_t end_count;
  const char *const *specials; // special tokens in order; a trained tokenizer gives them ids 0, 1, 2, ...
  size_t special_count;
} Template;

typedef enum Schedule { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_LINEAR } Schedule;

typedef struct Stage {
  const char *name;
  const char *data;                           // file DIR/<data>.jsonl
  double rate;                                // peak learning rate
  Schedule schedule;                          // after the warm-up, down to floor * rate at the last step
  double floor;                               // share of the peak
  double warmup;                              // share of all steps (below 1) or a number of steps
  double beta1, beta2, epsilon, weight_decay; // decay applies to parameters of two and more axes
  double clip;                                // largest global gradient norm; 0: none
  int batch;                                  // samples per step of the device
  int accumulate;                             // steps of the device per optimizer step
  int length; // T: longest sample in tokens, pictures included; longer ones are cut (never in a picture)
  double epochs;
} Stage;

#endif
