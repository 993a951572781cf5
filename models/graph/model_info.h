// A program needs to know this of a model beside its graph: name, size of its images, preprocessing
// and class names. Plain data; a .qbin stores it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vitrun {

// timm's eval transform: resize the shorter side to floor(size / crop_pct), centre crop, /255,
// (x - mean) / std. crop_pct stands for its shortest decimal: 0.8f is 0.8, and 224 / 0.8 is 280.
struct PreprocessConfig {
  enum class Resize { kBicubic, kBilinear };
  Resize resize = Resize::kBicubic;
  bool squash = false;      // resize both sides to floor(size / crop_pct), whatever their ratio
                            // (crop_mode "squash"; transformers, mostly with crop_pct 1)
  bool floor_crop = false;  // an odd margin of the crop is halved down (transformers), not to even
  float crop_pct = 0.9f;
  float mean[3] = {0.485f, 0.456f, 0.406f};
  float std[3] = {0.229f, 0.224f, 0.225f};
};

struct ModelInfo {
  std::string arch;  // timm's name where known ("deit_small_patch16_224"), else the family's name
  int image_height = 224, image_width = 224;  // three channels always
  int num_classes = 1000;                     // columns of the output "logits"; 0: it has none
  PreprocessConfig preprocess;
  std::vector<std::string> labels;  // empty, or one per class
};

// Fails on preprocessing that no model has (a std of zero), and on images of no size.
void check_info(const ModelInfo& info);

}  // namespace vitrun
