// Resize and Pool.
#include <algorithm>

#include "models/graph/neighbourhoods.h"
#include "models/graph/resampling.h"
#include "runtime/integer/plain/plain.h"

namespace vitrun {

void run_resize(const PlainCall& c) {
  const PlainInput& x = c.in[0];
  const bool bilinear = c.node.whole(Attribute::kType) != 0;
  for (int r = c.begin; r < c.end; r++) {
    float* y = c.row(r);
    std::fill_n(y, c.cols(), 0.f);
    for_each_sample(r, x.shape->height, x.shape->width, c.shape.height, c.shape.width, bilinear,
                    [&](int row, float weight) {
                      const float* from = x.row(row);
                      for (int i = 0; i < c.cols(); i++) y[i] += weight * from[i];
                    });
  }
}

namespace {

// Takes the rows one after another: the first as it is, the others added or compared.
class Pooling {
 public:
  Pooling(bool max, int cols, float* y) : max_(max), cols_(cols), y_(y) {}

  void take(const float* x) {
    if (count_++ == 0) {
      std::copy_n(x, cols_, y_);
    } else if (max_) {
      for (int i = 0; i < cols_; i++) y_[i] = std::max(y_[i], x[i]);
    } else {
      for (int i = 0; i < cols_; i++) y_[i] += x[i];
    }
  }
  void finish() {
    for (int i = 0; !max_ && i < cols_; i++) y_[i] /= static_cast<float>(count_);
  }

 private:
  bool max_;
  int cols_, count_ = 0;
  float* y_;
};

}  // namespace

void run_pool(const PlainCall& c) {
  const PlainInput& x = c.in[0];
  const bool max = c.node.whole(Attribute::kType) != 0;
  const bool all = !c.node.has(Attribute::kKernelHeight);
  for (int r = c.begin; r < c.end; r++) {
    Pooling pooling(max, c.cols(), c.row(r));
    if (all) {
      for (int row = c.node.whole(Attribute::kBegin); row < x.shape->rows; row++)
        pooling.take(x.row(row));
    } else {
      const Neighbourhoods n = neighbourhoods_of(c.node, *x.shape, c.shape);
      for (int ky = 0; ky < n.kernel_height; ky++)
        for (int kx = 0; kx < n.kernel_width; kx++)
          if (const int row = n.row(r, ky, kx); row >= 0) pooling.take(x.row(row));
    }
    pooling.finish();
  }
}

}  // namespace vitrun
