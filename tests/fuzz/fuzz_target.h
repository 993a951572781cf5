// A fuzz target is a fuzz_target(), which one of fuzz_*.cc defines and fuzz_main.cc calls.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "models/base/error.h"

namespace vitrun {

// May throw Error. Anything else is a finding: another exception, a crash, a hang, abort().
void fuzz_target(std::span<const uint8_t> bytes);

// Turns the bytes of an execution into choices; 0 once they are used up.
class Choices {
 public:
  explicit Choices(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  bool left() const { return !bytes_.empty(); }
  template <class T>
  T number() {
    T value{};
    const size_t count = std::min(sizeof value, bytes_.size());
    std::memcpy(&value, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return value;
  }
  int below(int limit) { return number<uint8_t>() % limit; }  // limit <= 256
  int between(int low, int high) { return low + below(high - low + 1); }

 private:
  std::span<const uint8_t> bytes_;
};

// A guarantee that the target found broken.
#define FUZZ_CHECK(holds)                                              \
  do {                                                                 \
    if (!(holds)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #holds); \
      abort();                                                         \
    }                                                                  \
  } while (false)

}  // namespace vitrun
