// The pairs of columns that Rope rotates, the same for the float and the integer engine.
#pragma once

#include <utility>

#include "models/graph/graph.h"

namespace vitrun {

struct RotaryPairs {
  int begin, end, head_dim;
  bool neighbours;
  int next_head;  // from a head's cosines in the table to the next head's

  // `cols` columns of x, `angles` of the table.
  RotaryPairs(const Node& n, int cols, int angles)
      : begin(n.whole(Attribute::kBegin)),
        end(n.whole(Attribute::kEnd, cols)),
        head_dim(n.whole(Attribute::kHeadDim)),
        neighbours(n.whole(Attribute::kType) != 0),
        next_head(angles == head_dim ? 0 : head_dim) {}

  // Calls body(first column, second column, column of the cosine); the sine is half a head behind.
  template <class Body>
  void for_each(const Body& body) const {
    const int half = head_dim / 2;
    int angle = 0;
    for (int head = begin; head < end; head += head_dim, angle += next_head)
      for (int i = 0; i < half; i++)
        neighbours ? body(head + 2 * i, head + 2 * i + 1, angle + i)
                   : body(head + i, head + i + half, angle + i);
  }
};

// A pair turned by an angle of cosine c and sine s.
inline std::pair<float, float> turned(float a, float b, float c, float s) {
  return {a * c - b * s, b * c + a * s};
}

}  // namespace vitrun
