// Tails of rows for vectors without cheap masked loads and stores. AVX2 has masked loads and
// stores, but the stores are slow on AMD's CPUs, and qemu's loads touch the bytes that are masked
// off, which may be on an unmapped page.
#pragma once

#include <cstdint>
#include <cstring>

namespace vitrun {
namespace {

// Copies `count` < 16 elements in at most four copies of fixed size.
template <class T>
inline void copy_tail(T* to, const T* from, int count) {
  int i = 0;
  if (count & 8) {
    std::memcpy(to, from, 8 * sizeof(T));
    i = 8;
  }
  if (count & 4) {
    std::memcpy(to + i, from + i, 4 * sizeof(T));
    i += 4;
  }
  if (count & 2) {
    std::memcpy(to + i, from + i, 2 * sizeof(T));
    i += 2;
  }
  if (count & 1) to[i] = from[i];
}

}  // namespace
}  // namespace vitrun
