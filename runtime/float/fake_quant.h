// Fake quantization: a .qbin's arithmetic simulated on the float engine. Every operand is replaced
// by the value its code stands for, so it differs from the integer engine by float rounding alone.
#pragma once

#include "runtime/float/reference.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {

// The weights in float, those of Linears as s_w (q - z_w), for Reference on model.graph().
Weights dequantize_weights(const QuantModel& model);

// A value of a kUniform site to the one its code stands for.
class UniformRounding {
 public:
  explicit UniformRounding(const SiteParams& params);
  float operator()(float x) const;

 private:
  Quantizer quantizer_;
  float scale_;
  std::vector<float> levels_;  // by code, less the zero point
};

// Replaces columns of a site's value [.., cols] by what their codes stand for.
void fake_quantize(const Site& site, const SiteParams& params, Tensor& value);

// Calls fake_quantize() for every site of the node. `model` must outlive it.
Reference::Observer fake_quantizer(const QuantModel& model);

}  // namespace vitrun
