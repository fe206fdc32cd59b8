// The picture-blind guesser: answers a question by the commonest answer that its text has in training rows.
#ifndef VLMC_RUNTIME_GUESS_H
#define VLMC_RUNTIME_GUESS_H

#include "runtime/dataset.h"

typedef struct Guesser Guesser;
bool guesser_open(const char *folder, const char *name, Guesser **out,
                  Failure *failure);                                    // reads DIR/<name>.jsonl
const char *guesser_answer(const Guesser *guesser, const char *prompt); // NULL: never asked in training
void guesser_close(Guesser *guesser);                                   // accepts NULL

#endif
