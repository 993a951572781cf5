// Rows in 16 lanes at a time: what the row kernels and the GEMMs' epilogue share.
#pragma once

#include "kernels/kernels.h"
#include "kernels/shared/vecmath-inl.h"

namespace vitrun {
namespace {

// Calls f(j, count) for the columns j .. j + count of a row of n: constant count 16, then the tail.
template <class F>
inline void for_lanes(int n, F f) {
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) f(j, kLanes);
  if (j < n) f(j, n - j);
}
#define VITRUN_LANES(j, count) [&](int j, int count) __attribute__((always_inline))

// Writes the low byte of the first `count` lanes, nothing beyond.
inline void store_bytes(uint8_t* p, Ints x, int count) {
  if (count == kLanes) return store_bytes(p, x);
  uint8_t bytes[kLanes];
  store_bytes(bytes, x);
  std::memcpy(p, bytes, static_cast<size_t>(count));
}

// A Quantizer in lanes; see kernels.h for what it computes and why NaN gives code 0.
struct LaneQuantizer {
  Floats inv_scale, low, high;
  Ints zero;

  explicit LaneQuantizer(Quantizer q)
      : inv_scale(splat(q.inv_scale)),
        low(splat(static_cast<float>(-q.zero))),
        high(splat(static_cast<float>(q.max_code - q.zero))),
        zero(splat(q.zero)) {}
  // Of 16 columns.
  LaneQuantizer(const ColumnQuantizers& q, int column)
      : inv_scale(load(q.inv_scale + column, kLanes)),
        low(load(q.low + column, kLanes)),
        high(load(q.high + column, kLanes)),
        zero(load(q.zero + column, kLanes)) {}

  Ints operator()(Floats x) const {
    return round_to_int(min(max(x * inv_scale, low), high)) + zero;
  }
};

// Clears the codes of a row between round_up(n, 16) and round_up(n, 32).
inline void clear_padding(uint8_t* codes, int n) {
  const int written = round_up(n, kLanes);
  if (written < round_up(n, kDepthAlign)) store_bytes(codes + written, splat(0));
}

}  // namespace
}  // namespace vitrun
