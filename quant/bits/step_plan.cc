#include "quant/bits/step_plan.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "models/base/error.h"
#include "runtime/files/coded_weight.h"
#include "runtime/files/qbin.h"

namespace vitrun {
namespace {

// Steps that are tried, as powers of two times the weight's standard deviation.
constexpr double kLeastStep = -7, kMostStep = 2, kStepRatio = 0.25;

double deviation_of(const Tensor& weight) {
  double squares = 1e-30;
  for (float w : weight.data) squares += double{w} * double{w};
  return std::sqrt(squares / static_cast<double>(weight.data.size()));
}

// The entropy of the codes in bytes, and what the blob has beside.
double coded_bytes(const std::vector<uint8_t>& codes) {
  std::array<double, 256> counts{};
  for (uint8_t u : codes) counts[u]++;
  double bits = 0, kinds = 0;
  for (double count : counts) {
    if (count == 0) continue;
    bits -= count * std::log2(count / static_cast<double>(codes.size()));
    kinds++;
  }
  return bits / 8 + 2 * kinds + 8 * kCoderStates + 2;
}

}  // namespace

int64_t stored_bytes(const WeightCodes& codes) {
  constexpr int64_t kAlign{kQbinAlign};
  return (std::ssize(encode_weight(codes.codes)) + kAlign - 1) / kAlign * kAlign;
}

float step_of_entropy(const Tensor& weight, double bits) {
  const double normal = 0.5 * std::log2(2 * M_PI * M_E);  // the entropy of N(0, 1)
  return static_cast<float>(deviation_of(weight) * std::exp2(normal - bits));
}

StepPlan::Curve StepPlan::curve_of(const Linear& linear) {
  Curve curve;
  double least = INFINITY;
  const double deviation = std::log2(deviation_of(linear.weight));
  for (double part = kMostStep; part >= kLeastStep; part -= kStepRatio) {
    const WeightGrid grid{linear.grid.bits, static_cast<float>(std::exp2(deviation + part))};
    const double error = squared_error(linear.weight.data, grid.range(), grid.bits);
    if (error >= least) break;  // more codes are beyond the last one than narrower steps gain
    least = error;
    curve.log_step.push_back(deviation + part);
    curve.bytes.push_back(coded_bytes(quantize_weight(linear.weight, grid).codes));
  }
  std::ranges::reverse(curve.log_step);
  std::ranges::reverse(curve.bytes);
  const double a = linear.error / std::pow(double{linear.grid.step}, 2);
  curve.codes_by_error = static_cast<double>(linear.weight.data.size()) / std::max(a, 1e-30);
  return curve;
}

// a s^2 / n = level, within the steps of the curve.
double StepPlan::Curve::log_step_at(double log_level) const {
  return std::clamp((log_level + std::log2(codes_by_error)) / 2, log_step.front(), log_step.back());
}

double StepPlan::Curve::bytes_at(double log_s) const {
  const auto above = std::ranges::upper_bound(log_step, log_s);
  if (above == log_step.end()) return correction * bytes.back();
  if (above == log_step.begin()) return correction * bytes.front();
  const auto i = static_cast<size_t>(above - log_step.begin());
  const double part = (log_s - log_step[i - 1]) / (log_step[i] - log_step[i - 1]);
  return correction * std::lerp(bytes[i - 1], bytes[i], part);
}

StepPlan::StepPlan(const std::vector<Linear>& linears, int64_t bytes, int64_t file_bytes)
    : left_(bytes), file_bytes_(file_bytes) {
  double least = 0;
  for (const Linear& l : linears) {
    const Curve curve = curve_of(l);
    least += curve.bytes.back() + double{kQbinAlign};
    linears_.emplace(l.name, curve);
  }
  if (least > static_cast<double>(bytes))
    fail("no steps of the weights fit into a file of ", file_bytes,
         " bytes: the smallest possible has about ",
         file_bytes - bytes + static_cast<int64_t>(least));
}

double StepPlan::log_level() const {
  const auto bytes = [&](double level) {
    double sum = 0;
    for (const auto& [name, curve] : linears_)
      sum += curve.bytes_at(curve.log_step_at(level)) + double{kQbinAlign} / 2;
    return sum;
  };
  double low = -200, high = 200;
  for (int i = 0; i < 60; i++) {
    const double middle = (low + high) / 2;
    (bytes(middle) > static_cast<double>(left_) ? low : high) = middle;
  }
  return high;
}

float StepPlan::step(const std::string& linear) const {
  return static_cast<float>(std::exp2(linears_.at(linear).log_step_at(log_level())));
}

bool StepPlan::take(const std::string& linear, const WeightCodes& codes) {
  const int64_t bytes = stored_bytes(codes);
  Curve& curve = linears_.at(linear);
  if (linears_.size() == 1 && bytes > left_) {
    const double planned = curve.bytes_at(curve.log_step_at(log_level()));
    if (curve.log_step_at(log_level()) == curve.log_step.back())
      fail("no steps of the weights fit into a file of ", file_bytes_, " bytes: it lacks ",
           bytes - left_);
    curve.correction *= std::max(static_cast<double>(bytes) / planned, 1.0002);
    return false;
  }
  left_ -= bytes;
  linears_.erase(linear);
  return true;
}

WeightCodes round_planned(StepPlan* steps, const std::string& linear, int bits,
                          const std::function<WeightCodes(const WeightGrid&)>& round) {
  if (!steps || !steps->has(linear)) return round({bits});
  WeightCodes codes;
  do codes = round({bits, steps->step(linear)});
  while (!steps->take(linear, codes));
  narrow(codes);
  return codes;
}

}  // namespace vitrun
