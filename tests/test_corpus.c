// Replays the corpus of every fuzz target of the runtime's readers, and changed copies of it. A target that
// finds something wrong aborts.
#define REPLAY_NO_MAIN
#include "fuzz/replay.c"

#include "check.h"

#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz/fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_tokenizer
#include "fuzz/fuzz_tokenizer.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_picture
#include "fuzz/fuzz_picture.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_dataset
#include "fuzz/fuzz_dataset.c"
#undef LLVMFuzzerTestOneInput

int main(void) {
  static const struct {
    const char *folder;
    FuzzTarget *target;
  } targets[] = {{"tests/fuzz/corpus/safetensors", fuzz_safetensors},
                 {"tests/fuzz/corpus/tokenizer", fuzz_tokenizer},
                 {"tests/fuzz/corpus/picture", fuzz_picture},
                 {"tests/fuzz/corpus/dataset", fuzz_dataset}};
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    int files = replay_folder(targets[i].target, targets[i].folder);
    CHECK(files > 0, "%s has no files", targets[i].folder);
    printf("%s: %d files\n", targets[i].folder, files);
  }
  return check_finish();
}
