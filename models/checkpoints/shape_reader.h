// Reads the sizes of a model from the shapes of its weights, for config_vit.cc, config_swin.cc and
// config.cc.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "models/base/error.h"
#include "models/checkpoints/config.h"

namespace vitrun {

constexpr int kMaxBlocks = 64, kMaxStages = 8;

inline void check_range(const char* what, int value, int low, int high) {
  if (value < low || value > high)
    fail("configuration: ", what, " is ", value, ", expected ", low, "..", high);
}

// Reads sizes from the shapes of a weight file. `where` names whatever states the configuration in
// messages, `file` the weights, whose tensors may be at fault.
struct ShapeReader {
  const ShapeMap& shapes;
  const std::string& where;
  const std::string& file = where;

  bool has(const std::string& name) const { return shapes.contains(name); }

  // Returns side `axis` of a tensor, which must exist and have that rank.
  int side(const std::string& name, size_t rank, size_t axis) const {
    const auto it = shapes.find(name);
    if (it == shapes.end()) fail(file, ": no tensor '", name, "'");
    const Dims& dims = it->second;
    if (dims.size() != rank || dims[axis] < 1 || dims[axis] > (1 << 24))
      fail(file, ": tensor '", name, "' has shape ", to_string(dims), ", expected ", rank,
           " sides of a sensible size");
    return static_cast<int>(dims[axis]);
  }

  // Returns how many names prefix0suffix, prefix1suffix, ... there are.
  int count(const std::string& prefix, const std::string& suffix) const {
    int n = 0;
    while (n <= kMaxBlocks && has(cat(prefix, n, suffix))) n++;
    return n;
  }
};

// Returns the root of a perfect square, 0 for any other number.
inline int exact_root(int square) {
  const int root = static_cast<int>(std::lround(std::sqrt(static_cast<double>(square))));
  return square > 0 && root * root == square ? root : 0;
}

// Fills a size that the configuration leaves open; one that it states must be the size found.
inline void settle(int& stated, int found, const char* what, const std::string& where) {
  if (stated == 0) stated = found;
  if (stated != found)
    fail(where, ": the configuration says ", what, " ", stated, ", the weights ", found);
}

inline void settle(std::vector<int>& stated, const std::vector<int>& found, const char* what,
                   const std::string& where) {
  if (stated.empty()) stated = found;
  if (stated == found) return;
  const auto text = [](const std::vector<int>& v) { return to_string(Dims(v.begin(), v.end())); };
  fail(where, ": the configuration says ", what, " ", text(stated), ", the weights ", text(found));
}

// Completes a configuration of either family (complete()).
void complete_vit(ModelConfig& config, const ShapeReader& in, const Given& given);
void complete_swin(ModelConfig& config, const ShapeReader& in, const Given& given);

// Whether a Swin's tensors are those of SwinV2.
bool is_swin_v2(const ShapeMap& shapes);
// Adds Swin's built-in architectures, those for images of this side.
void add_swin_archs(std::vector<ModelConfig>& all, int side);
void validate_swin(const ModelConfig& config);

// Fills the patch size and the width, which the patch embedding tells.
void settle_patch_embedding(ModelConfig& config, const ShapeReader& in);

// Fills the pooling, which a configuration and a user must agree on.
void settle_pool(ModelConfig& config, const Given& given, const std::string& where);

}  // namespace vitrun
