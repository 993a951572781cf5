// The entry that libFuzzer calls.
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    vitrun::fuzz_target({data, size});
  } catch (const vitrun::Error&) {
  }
  return 0;
}
