// A model file's template as the Jinja text that other programs render conversations with.
#ifndef VLMC_RUNTIME_JINJA_H
#define VLMC_RUNTIME_JINJA_H

#include "runtime/base/failure.h"
#include "runtime/base/text.h"
#include "runtime/recipe.h"

// Adds to `out` a text over `messages` ({'role': 'system' | 'user' | 'assistant', 'content': string}) that
// renders what conversation_prompt encodes, without pictures: whoever renders it puts their places in the
// contents. Needs a template with turns. Of Jinja only what llama.cpp's subset has.
bool template_jinja(const Template *form, Text *out, Failure *failure);

#endif
