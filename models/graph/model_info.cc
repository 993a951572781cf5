#include "models/graph/model_info.h"

#include <cmath>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr int kMaxImageSize = 2048;

void check_number(const char* what, float value, bool ok, const char* expected) {
  if (!std::isfinite(value) || !ok)
    fail("configuration: ", what, " is ", value, ", expected ", expected);
}

}  // namespace

void check_info(const ModelInfo& info) {
  for (int side : {info.image_height, info.image_width})
    if (side < 1 || side > kMaxImageSize)
      fail("configuration: an image of ", info.image_height, "x", info.image_width,
           ", expected 1..", kMaxImageSize, " along each side");
  const PreprocessConfig& p = info.preprocess;
  check_number("crop_pct", p.crop_pct, p.crop_pct > 0.1f && p.crop_pct <= 1,
               "a number in (0.1, 1]");
  for (float mean : p.mean)
    check_number("mean", mean, std::abs(mean) <= 1000, "a number in -1000..1000");
  for (float std : p.std)
    check_number("std", std, std > 1e-6f && std <= 1000, "a number in (1e-6, 1000]");
}

}  // namespace vitrun
