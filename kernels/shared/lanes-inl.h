// Loops and quantizers over rows of 16 lanes at a time, for the row kernels and the GEMMs'
// epilogue.
#pragma once

#include "kernels/kernels.h"
#include "kernels/shared/tail-inl.h"
#include "kernels/shared/vecmath-inl.h"

namespace vitrun {
namespace {

// Calls f(j, count) for columns j .. j + count of a row of n columns. count is the constant 16 but
// for the last call, which takes the rest.
template <class F>
inline void for_lanes(int n, F f) {
  int j = 0;
  for (; j + kLanes <= n; j += kLanes) f(j, kLanes);
  if (j < n) f(j, n - j);
}
// Begins such an f as a lambda that is always inlined.
#define VITRUN_LANES(j, count) [&](int j, int count) __attribute__((always_inline))

inline Floats splat_float(int32_t x) {
  return to_float(splat(x));
}

// Writes the low bytes of the first `count` lanes and nothing beyond.
inline void store_bytes(uint8_t* p, Ints x, int count) {
  if (count == kLanes) return store_bytes(p, x);
  uint8_t bytes[kLanes];
  store_bytes(bytes, x);
  copy_tail(p, bytes, count);
}

// A Quantizer in lanes; kernels.h has the formula. NaN gives code 0, because max(NaN, low) is low.
struct LaneQuantizer {
  Floats inv_scale, low, high;
  Ints zero;

  explicit LaneQuantizer(Quantizer q)
      : inv_scale(splat(q.inv_scale)),
        low(splat_float(-q.zero)),
        high(splat_float(q.max_code - q.zero)),
        zero(splat(q.zero)) {}
  // The quantizers of `count` columns from `column` on.
  LaneQuantizer(const ColumnQuantizers& q, int column, int count = kLanes)
      : inv_scale(load(q.inv_scale + column, count)),
        low(load(q.low + column, count)),
        high(load(q.high + column, count)),
        zero(load(q.zero + column, count)) {}

  Ints operator()(Floats x) const {
    return round_to_int(min(max(x * inv_scale, low), high)) + zero;
  }
};

// The steps of a RowQuantizer's groups, one a lane, each with the lowest and the highest multiple
// of it that has a code. `low` is the group's min(0, t_j) and `span` its range.
struct GroupSteps {
  Floats step, inverse, lowest, highest;

  GroupSteps(Floats low, Floats span, float top)
      : step(max(to_float(round_to_int(span * splat(1 / top) + splat(0.499f))), splat(1.0f))),
        inverse(splat(1.0f) / step),
        lowest(to_float(round_to_int(low * inverse))),
        highest(splat(top) + lowest) {}

  Ints multiple(Floats t) const { return round_to_int(min(max(t * inverse, lowest), highest)); }
};

// Clears the codes of a row from round_up(n, 16) to round_up(n, 32).
inline void clear_padding(uint8_t* codes, int n) {
  const int written = round_up(n, kLanes);
  if (written < round_up(n, kDepthAlign)) store_bytes(codes + written, splat(0));
}

}  // namespace
}  // namespace vitrun
