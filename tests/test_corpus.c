// Replays the corpus of every fuzz target, and changed copies of it; of the published suites of pictures,
// where they are, the folders with malformed ones. A target that finds something wrong aborts.
#define REPLAY_NO_MAIN
#include "fuzz/replay.c"

#include "check.h"

enum { SUITE_CHANGES = 4 }; // hundreds of files

#define LLVMFuzzerTestOneInput fuzz_safetensors
#include "fuzz/fuzz_safetensors.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_torch
#include "fuzz/fuzz_torch.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_gguf
#include "fuzz/fuzz_gguf.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_llama2c
#include "fuzz/fuzz_llama2c.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_index
#include "fuzz/fuzz_index.c"
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
#define LLVMFuzzerTestOneInput fuzz_language
#include "fuzz/fuzz_language.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_graph
#include "fuzz/fuzz_graph.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_kernel
#include "fuzz/fuzz_kernel.c"
#undef LLVMFuzzerTestOneInput

// The suites stay what they are elsewhere: archives that are no part of the project.
static void replay_suites(const char *data) {
  static const char *const archives[] = {"pngsuite/pngsuite.tar.xz", "jpeg/jpeg-decoder-tests.tar"};
  static const char *const folders[] = {"png", "tests/icc", "tests/crashtest/images",
                                        "tests/crashtest/images/imagetestsuite"};
  char folder[] = "/tmp/vlmc-corpus-XXXXXX", command[500];
  bool good = mkdtemp(folder) != NULL;
  for (int i = 0; good && i < 2; i++) {
    snprintf(command, sizeof command, "tar -xf '%s/%s' -C %s", data, archives[i], folder);
    good = system(command) == 0;
  }
  for (int i = 0; good && i < 4; i++) {
    snprintf(command, sizeof command, "%s/%s", folder, folders[i]);
    int files = replay_folder(fuzz_picture, command, SUITE_CHANGES);
    CHECK(files > 4, "%s has %d files", folders[i], files);
    printf("%s: %d files\n", folders[i], files);
  }
  if (!good) SKIP("malformed pictures: cannot be unpacked from %s", data);
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command)) CHECK(false, "%s", command);
}

int main(void) {
  static const struct {
    const char *folder;
    FuzzTarget *target;
  } targets[] = {{"tests/fuzz/corpus/safetensors", fuzz_safetensors},
                 {"tests/fuzz/corpus/torch", fuzz_torch},
                 {"tests/fuzz/corpus/gguf", fuzz_gguf},
                 {"tests/fuzz/corpus/llama2c", fuzz_llama2c},
                 {"tests/fuzz/corpus/index", fuzz_index},
                 {"tests/fuzz/corpus/tokenizer", fuzz_tokenizer},
                 {"tests/fuzz/corpus/picture", fuzz_picture},
                 {"tests/fuzz/corpus/dataset", fuzz_dataset},
                 {"tests/fuzz/corpus/language", fuzz_language},
                 {"tests/fuzz/corpus/graph", fuzz_graph},
                 {"tests/fuzz/corpus/kernel", fuzz_kernel}};
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    int files = replay_folder(targets[i].target, targets[i].folder, REPLAY_CHANGES);
    CHECK(files > 0, "%s has no files", targets[i].folder);
    printf("%s: %d files\n", targets[i].folder, files);
  }
  if (check_data())
    replay_suites(check_data());
  else
    SKIP("malformed pictures: no test data (set VLMC_TEST_DATA)");
  return check_finish();
}
