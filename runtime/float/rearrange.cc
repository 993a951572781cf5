// Nodes that only move or repeat values: Input, Const, Concat, Slice. Relevance moves with them.
#include <algorithm>

#include "models/base/error.h"
#include "runtime/float/operators.h"

namespace vitrun {

// An image's channels become pixels again where the node says so.
void forward_input(const ForwardCall& c) {
  std::copy(c.image->data.begin(), c.image->data.end(), c.y.data.begin());
  const float *scale = c.param(c.node().weight), *shift = c.param(c.node().bias);
  if (!scale) return;
  const auto positions = static_cast<size_t>(c.shape().rows),
             channels = static_cast<size_t>(c.shape().cols);
  for (size_t i = 0; i < c.y.data.size(); i++) {
    const size_t channel = i / positions % channels;
    c.y.data[i] = c.y.data[i] * scale[channel] + shift[channel];
  }
}

double backward_input(const BackwardCall& c, Flows&) {
  fail("input '", c.node().name, "' has no rule: a walk ends there");
}

void forward_constant(const ForwardCall& c) {
  const std::vector<float>& value = c.weights.at(c.node().weight).data;
  for (size_t at = 0; at < c.y.data.size(); at += value.size())
    std::copy(value.begin(), value.end(), c.y.data.begin() + static_cast<std::ptrdiff_t>(at));
}

// The parameter keeps what reaches it.
double backward_constant(const BackwardCall& c, Flows&) {
  return c.flow.relevant() ? sum(c.flow.relevance) : 0;
}

namespace {

// A node that puts blocks of floats side by side has each input as `count` blocks of `size` floats,
// `step` apart in the value that holds them all.
struct Blocks {
  size_t count, size, step;
};

// Input `x` within a Concat's value `y`, or the result `x` of a Slice within its input `y`.
Blocks blocks_of(const Shape& x, const Shape& y, bool columns, int64_t batch) {
  const auto images = static_cast<size_t>(batch);
  if (columns)
    return {images * static_cast<size_t>(x.rows), static_cast<size_t>(x.cols),
            static_cast<size_t>(y.cols)};
  return {images, static_cast<size_t>(x.size()), static_cast<size_t>(y.size())};
}

void copy_in(const Blocks& b, const float* x, float* y) {
  for (size_t i = 0; i < b.count; i++) std::copy_n(x + i * b.size, b.size, y + i * b.step);
}

void copy_out(const Blocks& b, const float* y, float* x) {
  for (size_t i = 0; i < b.count; i++) std::copy_n(y + i * b.step, b.size, x + i * b.size);
}

// The offset, in floats, at which a part begins.
int64_t offset_of(int before, const Shape& y, bool columns) {
  return columns ? before : int64_t{before} * y.cols;
}

}  // namespace

void forward_concat(const ForwardCall& c) {
  const bool columns = c.node().whole(Attribute::kAxis) != 0;
  int before = 0;
  for (int i = 0; i < count_of(c.in); i++) {
    const Shape& x = c.shape_of(i);
    copy_in(blocks_of(x, c.shape(), columns, c.batch()), at(c.in, i)->data.data(),
            c.y.data.data() + offset_of(before, c.shape(), columns));
    before += columns ? x.cols : x.rows;
  }
}

double backward_concat(const BackwardCall& c, Flows& to) {
  const bool columns = c.node().whole(Attribute::kAxis) != 0;
  int before = 0;
  for (int i = 0; i < count_of(c.in); i++) {
    const Shape& x = c.shape_of(i);
    const Blocks blocks = blocks_of(x, c.shape(), columns, 1);
    const auto part = [&](const Values& flow, Values& out) {
      out.resize(static_cast<size_t>(x.size()));
      copy_out(blocks, flow.data() + offset_of(before, c.shape(), columns), out.data());
    };
    part(c.flow.gradient, at(to, i).gradient);
    if (c.flow.relevant()) part(c.flow.relevance, at(to, i).relevance);
    before += columns ? x.cols : x.rows;
  }
  return 0;
}

void forward_slice(const ForwardCall& c) {
  const bool columns = c.node().whole(Attribute::kAxis) != 0;
  const int begin = slice_begin(c.node(), c.shape_of(0));
  copy_out(blocks_of(c.shape(), c.shape_of(0), columns, c.batch()),
           c.in[0]->data.data() + offset_of(begin, c.shape_of(0), columns), c.y.data.data());
}

double backward_slice(const BackwardCall& c, Flows& to) {
  const bool columns = c.node().whole(Attribute::kAxis) != 0;
  const int begin = slice_begin(c.node(), c.shape_of(0));
  const Blocks blocks = blocks_of(c.shape(), c.shape_of(0), columns, 1);
  const auto whole = [&](const Values& flow, Values& out) {
    out.assign(c.in[0]->data.size(), 0);
    copy_in(blocks, flow.data(), out.data() + offset_of(begin, c.shape_of(0), columns));
  };
  whole(c.flow.gradient, to[0].gradient);
  if (c.flow.relevant()) whole(c.flow.relevance, to[0].relevance);
  return 0;
}

}  // namespace vitrun
