// The tests of the C ABI share this.
#pragma once

#include <cstring>

#include "runtime/api/vitrun.h"

namespace vitrun {

inline bool last_error_says(const char* text) {
  return std::strstr(vit_last_error(), text) != nullptr;
}

}  // namespace vitrun
