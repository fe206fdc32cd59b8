// Generating text for one or several prompts at once, with the programs that the compiler derived: prefill
// takes the prompt and fills the key/value cache, decode takes one or more further tokens.
#ifndef VLMC_RUNTIME_GENERATOR_H
#define VLMC_RUNTIME_GENERATOR_H

#include "runtime/feed.h"
#include "runtime/sampler.h"

typedef struct Generator Generator;

// `capacity`: positions of the cache (what the programs were derived for). The vocabulary comes from the
// program's result.
bool generator_open(const Program *prefill, const Program *decode, TensorStore *store,
                    const Tokenizer *tokenizer, int64_t capacity, Generator **out, Failure *failure);
void generator_close(Generator *generator); // accepts NULL
int32_t generator_vocabulary(const Generator *generator);
int64_t generator_room(const Generator *generator); // positions still free
const Feed *generator_feed(const Generator *generator);
Session *generator_session(const Generator *generator, bool decode); // for profiles

// ids[batch, count] of prompts that are equally long; picture[batch, C, H, W] where the model takes pictures.
// Starts anew. The last positions' logits are then in generator_logits.
bool generator_prefill(Generator *generator, int64_t batch, int64_t count, const int32_t *ids,
                       const float *picture, Failure *failure);
// ids[batch, count] after what is there.
bool generator_decode(Generator *generator, int64_t count, const int32_t *ids, Failure *failure);
const float *generator_logits(const Generator *generator); // [batch, vocabulary]

#endif
