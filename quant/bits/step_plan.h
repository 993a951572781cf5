// The steps of entropy-coded weights such that a file has a given size (method.md section 22,
// [ours]). With steps s the logits change by sum_l a_l s_l^2, and the weights take about
// sum_l n_l (h_l - log2 s_l) bits, so that the change is least where a_l s_l^2 / n_l is the same
// for every Linear l.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "quant/weights/weight_codes.h"

namespace vitrun {

// The step at which codes have about so many bits of entropy, as if the weight were normally
// distributed.
float step_of_entropy(const Tensor& weight, double bits);

// Returns what a coded weight takes of a file, its alignment included.
int64_t stored_bytes(const WeightCodes& codes);

class StepPlan {
 public:
  // A Linear whose weight is coded in codes of at most grid.bits bits. `error` is the squared
  // change of the logits that is predicted for grid.step. The weight is not kept.
  struct Linear {
    std::string name;
    const Tensor& weight;
    WeightGrid grid;
    double error;
  };

  // Fails where the weights cannot be made to take `bytes` bytes of a file or fewer; `file_bytes`
  // is the size of that file, for the message.
  StepPlan(const std::vector<Linear>& linears, int64_t bytes, int64_t file_bytes);

  bool has(const std::string& linear) const { return linears_.contains(linear); }
  // The step for a Linear with which those not yet taken fill what is left of the bytes.
  float step(const std::string& linear) const;
  // Takes a Linear that was rounded with its step; the next steps make up for its size. Returns
  // false, and takes nothing, where the last one has too many bytes: its next step is wider.
  bool take(const std::string& linear, const WeightCodes& codes);

 private:
  // The size of a weight rounded to the nearest codes, by its step.
  struct Curve {
    std::vector<double> log_step, bytes;  // ascending steps, from the one of least error on
    double codes_by_error = 0;            // n_l / a_l
    double correction = 1;                // of the bytes, for what was measured

    double log_step_at(double log_level) const;
    double bytes_at(double log_step) const;
  };

  static Curve curve_of(const Linear& linear);
  double log_level() const;  // of the level a s^2 / n that fills what is left

  std::map<std::string, Curve> linears_;  // those not yet taken
  int64_t left_, file_bytes_;
};

// Rounds the weight of a Linear by `round` to codes of at most `bits` bits: where `steps` has the
// Linear, with its step, again with wider ones until they fit, and then in the fewest bits.
WeightCodes round_planned(StepPlan* steps, const std::string& linear, int bits,
                          const std::function<WeightCodes(const WeightGrid&)>& round);

}  // namespace vitrun
