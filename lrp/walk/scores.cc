#include "lrp/walk/scores.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "runtime/files/atomic_file.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kFraction = 80;  // bits of an ExactSum behind the binary point

}  // namespace

void ExactSum::add(double x) {
  if (!(std::fabs(x) < 0x1p20)) fail("a score of ", x, " cannot be summed");
  // x is added in two parts, each of which fits into 64 bits.
  const double high = std::floor(std::ldexp(x, kFraction - 40));
  const double low = std::nearbyint(std::ldexp(std::ldexp(x, kFraction - 40) - high, 40));
  units_ += static_cast<__int128>(static_cast<int64_t>(high)) * (int64_t{1} << 40) +
            static_cast<int64_t>(low);
}

double ExactSum::value() const {
  return std::ldexp(static_cast<double>(units_), -kFraction);
}

std::string ExactSum::text() const {
  std::string digits;
  auto rest =
      units_ < 0 ? -static_cast<unsigned __int128>(units_) : static_cast<unsigned __int128>(units_);
  do digits.insert(digits.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
  while (rest /= 10);
  return (units_ < 0 ? "-" : "") + digits;
}

ExactSum ExactSum::from_text(const std::string& text) {
  const size_t start = text.starts_with("-") ? 1 : 0;
  if (text.size() == start || text.size() > start + 37 ||
      text.find_first_not_of("0123456789", start) != std::string::npos)
    fail("'", text, "' is no sum");
  ExactSum out;
  for (size_t i = start; i < text.size(); i++) out.units_ = out.units_ * 10 + (text[i] - '0');
  if (start) out.units_ = -out.units_;
  return out;
}

Scores::Scores(const Graph& graph, std::string arch, std::string target_classes, double of_rules)
    : model(std::move(arch)), target(std::move(target_classes)), epsilon(of_rules) {
  for (const std::string& name : scored_units(graph)) units.push_back({name, {}, {}, {}});
}

void Scores::add(const ImageRelevance& image) {
  images++;
  for (size_t u = 0; u < units.size(); u++) {
    units[u].score.add(image.score[u]);
    units[u].squares.add(image.score[u] * image.score[u]);
    units[u].gradient_input.add(image.gradient_input[u]);
  }
}

void Scores::merge(const Scores& other) {
  if (other.model != model || other.target != target || other.units.size() != units.size())
    fail("scores of ", model, " (", target, ") do not go with those of ", other.model, " (",
         other.target, ")");
  if (other.epsilon != epsilon)
    fail("scores with epsilon ", epsilon, " do not go with those with epsilon ", other.epsilon);
  images += other.images;
  skipped += other.skipped;
  for (size_t u = 0; u < units.size(); u++) {
    if (other.units[u].name != units[u].name)
      fail("unit '", units[u].name, "' does not go with '", other.units[u].name, "'");
    units[u].score.add(other.units[u].score);
    units[u].squares.add(other.units[u].squares);
    units[u].gradient_input.add(other.units[u].gradient_input);
  }
}

std::vector<double> Scores::contribution() const {
  std::vector<double> out;
  for (const Unit& u : units) out.push_back(u.score.value() / static_cast<double>(images));
  return out;
}

std::vector<double> Scores::standard_error() const {
  const double n = static_cast<double>(images);
  std::vector<double> out;
  for (const Unit& u : units) {
    const double mean = u.score.value() / n, variance = u.squares.value() / n - mean * mean;
    out.push_back(images > 1 ? std::sqrt(std::max(variance, 0.0) / (n - 1)) : 0);
  }
  return out;
}

std::vector<double> Scores::importance() const {
  std::vector<double> out = contribution();
  const double sum = std::accumulate(out.begin(), out.end(), 0.0);
  for (double& x : out) x = sum > 0 ? x / sum : 0;
  return out;
}

std::vector<double> Scores::gradient_input() const {
  std::vector<double> out;
  for (const Unit& u : units) out.push_back(u.gradient_input.value() / static_cast<double>(images));
  return out;
}

double kendall_tau(const std::vector<double>& a, const std::vector<double>& b) {
  auto sign = [](double x) { return (x > 0) - (x < 0); };
  double agree = 0, in_a = 0, in_b = 0;
  for (size_t i = 0; i < a.size(); i++)
    for (size_t j = 0; j < i; j++) {
      const int x = sign(a[i] - a[j]), y = sign(b[i] - b[j]);
      agree += x * y;
      in_a += x * x;
      in_b += y * y;
    }
  return in_a > 0 && in_b > 0 ? agree / std::sqrt(in_a * in_b) : 1;
}

void write_scores(const Scores& scores, const std::string& path) {
  const auto contribution = scores.contribution(), importance = scores.importance(),
             error = scores.standard_error(), plain = scores.gradient_input();
  Json document = {
      {"model", scores.model},     {"images", scores.images},
      {"skipped", scores.skipped}, {"target", scores.target},
      {"epsilon", scores.epsilon}, {"tau_gradient_input", kendall_tau(contribution, plain)},
      {"units", Json::array()}};
  for (size_t u = 0; u < scores.units.size(); u++)
    document["units"].push_back({{"name", scores.units[u].name},
                                 {"contribution", contribution[u]},
                                 {"importance", importance[u]},
                                 {"standard_error", error[u]},
                                 {"gradient_input", plain[u]},
                                 {"sum", scores.units[u].score.text()},
                                 {"sum_squares", scores.units[u].squares.text()},
                                 {"sum_gradient_input", scores.units[u].gradient_input.text()}});
  write_file(path, document.dump(1) + "\n");
}

Scores read_scores(const std::string& path) {
  Scores scores;
  try {
    const nlohmann::json document = read_json(path, 4);
    scores.model = document.at("model");
    scores.target = document.at("target");
    scores.images = document.at("images");
    scores.skipped = document.value("skipped", int64_t{0});
    scores.epsilon = document.value("epsilon", 0.0);  // older files have the published rule
    if (scores.skipped < 0) fail("skipped must be at least 0, found ", scores.skipped);
    if (scores.images < 1) fail("images must be at least 1, found ", scores.images);
    for (const auto& unit : document.at("units"))
      scores.units.push_back({unit.at("name"), ExactSum::from_text(unit.at("sum")),
                              ExactSum::from_text(unit.at("sum_squares")),
                              ExactSum::from_text(unit.at("sum_gradient_input"))});
  } catch (const nlohmann::json::exception& e) {
    fail(path, ": expected scores that vitlrp wrote: ", e.what());
  } catch (const Error& e) {
    const std::string what = e.what();
    fail(what.starts_with(path) ? "" : path + ": ", what);
  }
  return scores;
}

}  // namespace vitrun
