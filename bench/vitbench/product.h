// One matrix product with its buffers, for timing.
#pragma once

#include <vector>

#include "bench/vitbench/vitbench.h"

namespace vitrun {

struct Shape {
  const char* name;
  int m, k, n;
};

struct Widths {
  int weight, activation;
  int range = 0;  // not 0: weights of so many bits in panels of `weight`, as K's and V's codes are
};

// Random codes over the full range of their widths.
class Product {
 public:
  Product(const Shape& shape, const Widths& widths, Epilogue epilogue = Epilogue::kFloat);
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;

  double operations() const { return 2.0 * shape_.m * shape_.n * shape_.k; }
  // y, which a product to kInt32 leaves alone.
  std::vector<float> result(const Kernels& kernels);
  double seconds(const Kernels& kernels);

 private:
  Shape shape_;
  std::vector<uint8_t> a_, panels_;
  std::vector<int32_t> row_sum_, terms_, raw_;
  std::vector<float> floats_, y_;
  GemmArgs args_;
};

double median(std::vector<double> values);

}  // namespace vitrun
