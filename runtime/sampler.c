// Greedy, temperature, top-k, top-p.
#include "runtime/sampler.h"

#include "runtime/base/failure.h"

#include <math.h>
#include <stdlib.h>

typedef struct Candidate {
  int32_t id;
  double weight;
} Candidate;

static int32_t likeliest(const float *logits, int32_t vocabulary) {
  int32_t best = 0;
  for (int32_t i = 1; i < vocabulary; i++)
    if (logits[i] > logits[best] || (isnan(logits[best]) && !isnan(logits[i]))) best = i;
  return best;
}

static int by_weight(const void *left, const void *right) {
  const Candidate *a = left, *b = right;
  if (a->weight != b->weight) return a->weight < b->weight ? 1 : -1;
  return a->id < b->id ? -1 : a->id > b->id;
}

// SplitMix64 (Steele, Lea, Flood 2014), to [0, 1).
static double next_uniform(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// Keeps the first top_k candidates, and of these as few as hold top_p of the weight. Returns their weight.
static double restrict_candidates(const Sampler *sampler, const Candidate *list, int32_t *count) {
  double total = 0, kept = 0;
  if (sampler->top_k && sampler->top_k < *count) *count = (int32_t)sampler->top_k;
  for (int32_t i = 0; i < *count; i++) total += list[i].weight;
  for (int32_t i = 0; i < *count; i++) {
    kept += list[i].weight;
    if (kept >= sampler->top_p * total) *count = i + 1;
  }
  return kept;
}

int32_t sampler_next(Sampler *sampler, const float *logits, int32_t vocabulary) {
  int32_t best = likeliest(logits, vocabulary);
  if (sampler->temperature <= 0 || !isfinite(logits[best])) return best;
  Candidate *list = malloc((size_t)vocabulary * sizeof *list);
  if (!list) die("out of memory while sampling");
  for (int32_t i = 0; i < vocabulary; i++) {
    double weight = exp(((double)logits[i] - logits[best]) / sampler->temperature);
    list[i] = (Candidate){i, isnan(weight) ? 0 : weight};
  }
  qsort(list, (size_t)vocabulary, sizeof *list, by_weight);
  int32_t count = vocabulary, at = 0;
  double left = restrict_candidates(sampler, list, &count) * next_uniform(&sampler->state);
  while (at + 1 < count && left >= list[at].weight) left -= list[at++].weight;
  int32_t id = list[at].id;
  free(list);
  return id;
}
