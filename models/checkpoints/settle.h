// The completions of the families' configurations share this (config.cc, config_swin.cc): sizes
// read from the shapes of the weights, which must be those that a configuration states.
#pragma once

#include "models/base/error.h"
#include "models/checkpoints/config.h"

namespace vitrun {

constexpr int kMaxBlocks = 64, kMaxStages = 8, kMaxWindow = 64;

void check_range(const char* what, int value, int low, int high);

// Reads sizes from the shapes of a weight file; `where` names the file in messages.
struct ShapeReader {
  const ShapeMap& shapes;
  const std::string& where;

  bool has(const std::string& name) const { return shapes.contains(name); }

  // Returns side `axis` of a tensor, which must exist and have that rank.
  int side(const std::string& name, size_t rank, size_t axis) const {
    const auto it = shapes.find(name);
    if (it == shapes.end()) fail(where, ": no tensor '", name, "'");
    const Dims& dims = it->second;
    if (dims.size() != rank || dims[axis] < 1 || dims[axis] > (1 << 24))
      fail(where, ": tensor '", name, "' has shape ", to_string(dims), ", expected ", rank,
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
int exact_root(int square);

// Fills a size that the configuration leaves open; one that it states must be the size found.
void settle(int& stated, int found, const char* what, const std::string& where);
void settle(std::vector<int>& stated, const std::vector<int>& found, const char* what,
            const std::string& where);
void settle_common(ModelConfig& c, const ShapeReader& in, const std::string& first_block,
                   const std::string& head);
void settle_pool(ModelConfig& c, const Given& given, const std::string& where);

// --- Swin (config_swin.cc) ---

// The built-in architectures that want images of this side.
void add_swin_archs(std::vector<ModelConfig>& all, int side);
// Whether a Swin's tensors are those of SwinV2.
bool is_swin_v2(const ShapeMap& shapes);
void complete_swin(ModelConfig& c, const ShapeReader& in, const Given& given);
void validate_swin(const ModelConfig& c);

}  // namespace vitrun
