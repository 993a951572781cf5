// The pairs of columns that Rope rotates, the same for the float and the integer engine.
#pragma once

#include <utility>

#include "models/graph/graph.h"

namespace vitrun {

struct RotaryPairs {
  int begin, end, head_dim;
  bool neighbours;

  explicit RotaryPairs(const Node& n, int cols)
      : begin(n.whole(Attribute::kBegin)),
        end(n.whole(Attribute::kEnd, cols)),
        head_dim(n.whole(Attribute::kHeadDim)),
        neighbours(n.whole(Attribute::kType) != 0) {}

  // Calls body(first column, second column, pair within the head).
  template <class Body>
  void for_each(const Body& body) const {
    const int half = head_dim / 2;
    for (int head = begin; head < end; head += head_dim)
      for (int i = 0; i < half; i++)
        neighbours ? body(head + 2 * i, head + 2 * i + 1, i) : body(head + i, head + i + half, i);
  }
};

// A pair turned by an angle of cosine c and sine s.
inline std::pair<float, float> turned(float a, float b, float c, float s) {
  return {a * c - b * s, b * c + a * s};
}

}  // namespace vitrun
