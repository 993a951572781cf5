// Signed indices and counts: nodes, rows and classes are int everywhere, vectors want size_t.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <vector>

namespace vitrun {

// Element i of a vector.
template <class T, class Allocator>
decltype(auto) at(std::vector<T, Allocator>& v, std::integral auto i) {
  return v[static_cast<size_t>(i)];
}
template <class T, class Allocator>
decltype(auto) at(const std::vector<T, Allocator>& v, std::integral auto i) {
  return v[static_cast<size_t>(i)];
}

template <class Container>
int count_of(const Container& c) {
  return static_cast<int>(c.size());
}

// The number of elements of an array with these sides, which must not be negative.
size_t array_size(std::integral auto... sides) {
  return (size_t{1} * ... * static_cast<size_t>(sides));
}

// The index of the first least element of v, which is not empty.
template <class T>
size_t index_of_least(const std::vector<T>& v) {
  return static_cast<size_t>(std::min_element(v.begin(), v.end()) - v.begin());
}

// a / b of two integers, in double.
inline double ratio(std::integral auto a, std::integral auto b) {
  return static_cast<double>(a) / static_cast<double>(b);
}

}  // namespace vitrun
