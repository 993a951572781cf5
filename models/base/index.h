// Element i of a vector by a signed index: indices of nodes, rows and classes are int everywhere.
#pragma once

#include <concepts>
#include <cstddef>
#include <vector>

namespace vitrun {

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

}  // namespace vitrun
