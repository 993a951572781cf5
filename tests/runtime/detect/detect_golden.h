// The inputs and files of golden/make_detect.py.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "models/base/tensor.h"
#include "runtime/detect/boxes.h"

namespace vitrun {

// numbers() of the script: multiples of 1/512 in [-1, 1).
inline float number(int seed, int64_t index) {
  uint32_t h = static_cast<uint32_t>(index + int64_t{seed} * 1000003) * 2654435761u + 12345u;
  h = (h ^ (h >> 15)) * 2246822519u;
  h = h ^ (h >> 13);
  return static_cast<float>((h >> 8) & 0x3ff) / 512 - 1;
}

inline Tensor numbers(int seed, Dims dims) {
  Tensor tensor(std::move(dims));
  for (size_t i = 0; i < tensor.data.size(); i++)
    tensor.data[i] = number(seed, static_cast<int64_t>(i));
  return tensor;
}

inline std::vector<Box> random_boxes(int seed, int count, float extent) {
  std::vector<Box> boxes;
  for (int i = 0; i < count; i++) {
    const auto n = [&](int k) { return number(seed, 4 * i + k) + 1; };
    const float x = n(0) / 2 * extent, y = n(1) / 2 * extent;
    boxes.push_back({x, y, x + n(2) / 4 * extent, y + n(3) / 4 * extent});
  }
  return boxes;
}

// A line whose fields are read one after another; the bars between them are skipped.
class GoldenLine {
 public:
  explicit GoldenLine(const std::string& line) : in_(line) {}
  template <class T>
  T next() {
    std::string word;
    while (in_ >> word && word == "|") {
    }
    if constexpr (std::is_same_v<T, std::string>) return word;
    if constexpr (std::is_same_v<T, float>) return std::stof(word);
    if constexpr (std::is_same_v<T, int>) return std::stoi(word);
  }
  template <class T>
  std::vector<T> list(size_t count) {
    std::vector<T> values;
    for (size_t i = 0; i < count; i++) values.push_back(next<T>());
    return values;
  }
  Box box() {
    const auto v = list<float>(4);
    return {v[0], v[1], v[2], v[3]};
  }
  // The fields up to the next bar or the end.
  template <class T>
  std::vector<T> rest() {
    std::vector<T> values;
    for (std::string word; in_ >> word && word != "|";)
      values.push_back(static_cast<T>(std::stod(word)));
    return values;
  }

 private:
  std::istringstream in_;
};

inline std::vector<std::string> detect_golden(const std::string& name) {
  std::ifstream file(std::string(VITRUN_TEST_DIR) + "/golden/detect/" + name);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  REQUIRE(!lines.empty());
  return lines;
}

inline void check_near(const Box& found, const Box& expected, float tolerance) {
  CHECK(std::abs(found.x1 - expected.x1) <= tolerance);
  CHECK(std::abs(found.y1 - expected.y1) <= tolerance);
  CHECK(std::abs(found.x2 - expected.x2) <= tolerance);
  CHECK(std::abs(found.y2 - expected.y2) <= tolerance);
}

}  // namespace vitrun
