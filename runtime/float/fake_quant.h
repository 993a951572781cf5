// Fake quantization: every value replaced by what its code stands for, in float.
#pragma once

#include "models/graph/quantizers.h"

namespace vitrun {

// A value of a uniform quantizer to the one its code stands for.
class UniformRounding {
 public:
  explicit UniformRounding(const CodeParams& params);
  float operator()(float x) const;

 private:
  Quantizer quantizer_;
  float scale_;
  std::vector<float> levels_;  // by code, less the zero point
};

// Replaces columns [begin, end) of `count` rows of `cols` floats. A range that is each row's own
// comes from the kernels, so that it is the integer engine's to the last bit.
void fake_quantize(const CodeParams& params, bool softmax, float* values, int64_t count,
                   int64_t cols, int64_t begin, int64_t end);

// Replaces columns of a site's value [.., cols].
void fake_quantize(const Site& site, const CodeParams& params, Tensor& value);

}  // namespace vitrun
