#include <algorithm>
#include <random>

#include "bench/vitbench/product.h"
#include "kernels/pack.h"

namespace vitrun {
namespace {

uint8_t random_code(std::mt19937& random, int bits) {
  return static_cast<uint8_t>(random() & ((1u << bits) - 1));
}

}  // namespace

Product::Product(const Shape& shape, const Widths& widths, Epilogue epilogue) : shape_(shape) {
  std::mt19937 random(1);
  const size_t depth = static_cast<size_t>(round_up(shape.k, kDepthAlign));
  const size_t m = static_cast<size_t>(shape.m), n = static_cast<size_t>(shape.n);
  const size_t columns = static_cast<size_t>(round_up(shape.n, kColumns));
  a_.resize(m * depth);
  for (size_t i = 0; i < a_.size(); i++) {
    if (i % depth < static_cast<size_t>(shape.k)) a_[i] = random_code(random, widths.activation);
  }
  const int range = widths.range ? widths.range : widths.weight;
  const int middle = (1 << (widths.weight - 1)) - (1 << (range - 1));
  std::vector<uint8_t> codes(n * static_cast<size_t>(shape.k));
  for (uint8_t& c : codes) c = static_cast<uint8_t>(random_code(random, range) + middle);
  panels_.resize(static_cast<size_t>(pack_bytes(shape.n, shape.k, widths.weight)) + 64);
  uint8_t* aligned = panels_.data() + (64 - reinterpret_cast<uintptr_t>(panels_.data()) % 64) % 64;
  pack_codes(codes.data(), shape.n, shape.k, widths.weight, aligned);
  row_sum_.assign(m, 1000);
  terms_.assign(columns, 3);
  floats_.assign(columns, 0.01f);
  y_.resize(m * n);
  if (epilogue == Epilogue::kInt32) raw_.resize(m * columns);
  args_ = {};
  args_.m = shape.m;
  args_.n = shape.n;
  args_.k = shape.k;
  args_.a = a_.data();
  args_.a_stride = static_cast<int64_t>(depth);
  args_.row_sum = row_sum_.data();
  args_.panels = aligned;
  args_.bits = widths.weight;
  args_.a_bits = widths.activation;
  args_.range_bits = widths.range;
  args_.scale = args_.bias = floats_.data();
  args_.offset = args_.zero = terms_.data();
  args_.epilogue = epilogue;
  args_.y = y_.data();
  args_.y_stride = shape.n;
  args_.raw = raw_.data();
  args_.raw_stride = static_cast<int64_t>(columns);
}

std::vector<float> Product::result(const Kernels& kernels) {
  std::fill(y_.begin(), y_.end(), -1.0f);
  kernels.gemm(args_);
  return y_;
}

double Product::seconds(const Kernels& kernels) {
  const double start = now_seconds();
  kernels.gemm(args_);
  return now_seconds() - start;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

}  // namespace vitrun
