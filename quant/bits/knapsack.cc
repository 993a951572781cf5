#include "quant/bits/knapsack.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "models/base/error.h"

namespace vitrun {
namespace {

using Units = std::vector<std::vector<Choice>>;

constexpr double kUnlimited = static_cast<double>(std::numeric_limits<int64_t>::max());

// p and q of method.md section 5.
struct Prices {
  double bytes = 0, time = 0;

  double of(const Choice& c) const {
    return c.cost + bytes * static_cast<double>(c.bytes) + time * static_cast<double>(c.time);
  }
};

double least(const std::vector<Choice>& unit, const Prices& prices) {
  double best = INFINITY;
  for (const Choice& c : unit) best = std::min(best, prices.of(c));
  return best;
}

// price * limit; the price is 0 where there is no limit, and so is the product.
double times_limit(double price, int64_t limit) {
  return price > 0 ? price * static_cast<double>(limit) : 0;
}

// L(p, q) of method.md section 5.
double bound_of(const Units& units, const Limits& limits, const Prices& prices) {
  double sum = -times_limit(prices.bytes, limits.bytes) - times_limit(prices.time, limits.time);
  for (const auto& unit : units) sum += least(unit, prices);
  return sum;
}

// Returns the point of [0, high] at which a concave function is greatest, by ternary search.
template <class F>
double maximize(double high, const F& f) {
  double low = 0;
  for (int i = 0; i < 60; i++) {
    const double a = low + (high - low) / 3, b = high - (high - low) / 3;
    f(a) < f(b) ? low = a : high = b;
  }
  return f(0) >= f(low) ? 0 : low;
}

// Returns a price of `field` above which every unit takes as little of it as it can.
template <class Field>
double highest_price(const Units& units, Field field) {
  double highest = 0;
  for (const auto& unit : units) {
    double most = 0, least_cost = INFINITY;
    int64_t step = std::numeric_limits<int64_t>::max();  // the least difference between choices
    std::vector<int64_t> values;
    for (const Choice& c : unit) {
      most = std::max(most, c.cost);
      least_cost = std::min(least_cost, c.cost);
      values.push_back(c.*field);
    }
    std::sort(values.begin(), values.end());
    for (size_t i = 1; i < values.size(); i++)
      if (values[i] > values[i - 1]) step = std::min(step, values[i] - values[i - 1]);
    highest = std::max(highest, (most - least_cost) / static_cast<double>(step));
  }
  return highest;
}

Prices best_prices(const Units& units, const Limits& limits) {
  const double most_bytes = static_cast<double>(limits.bytes) < kUnlimited
                                ? highest_price(units, &Choice::bytes)
                                : 0,
               most_time = static_cast<double>(limits.time) < kUnlimited
                               ? highest_price(units, &Choice::time)
                               : 0;
  const auto best_time = [&](double bytes) {
    return maximize(most_time, [&](double time) { return bound_of(units, limits, {bytes, time}); });
  };
  const double bytes = maximize(most_bytes, [&](double b) {
    return bound_of(units, limits, {b, best_time(b)});
  });
  return {bytes, best_time(bytes)};
}

// One choice for each of the first units.
struct Partial {
  int64_t bytes, time;
  double cost, deviation;
  size_t before;  // the selection that this one extends, an index into the previous layer
  size_t choice;  // the choice of the last unit
};

// Keeps the selections that no other undercuts in bytes, time and cost.
std::vector<Partial> undominated(std::vector<Partial> all) {
  std::sort(all.begin(), all.end(), [](const Partial& a, const Partial& b) {
    if (a.bytes != b.bytes) return a.bytes < b.bytes;
    return a.time != b.time ? a.time < b.time : a.cost < b.cost;
  });
  std::map<int64_t, double> stairs;  // time -> cost of the kept ones; the cost falls with time
  std::vector<Partial> kept;
  for (const Partial& p : all) {
    auto next = stairs.upper_bound(p.time);
    if (next != stairs.begin() && std::prev(next)->second <= p.cost) continue;
    while (next != stairs.end() && next->second >= p.cost) next = stairs.erase(next);
    stairs[p.time] = p.cost;
    kept.push_back(p);
  }
  return kept;
}

// out[u] is the least of `field` that units u, u + 1, ... can take together, u = 0 .. units.size().
template <class Field>
std::vector<int64_t> least_from(const Units& units, Field field) {
  std::vector<int64_t> rest(units.size() + 1);
  for (size_t u = units.size(); u-- > 0;) {
    int64_t smallest = std::numeric_limits<int64_t>::max();
    for (const Choice& c : units[u]) smallest = std::min(smallest, c.*field);
    rest[u] = rest[u + 1] + smallest;
  }
  return rest;
}

// The dynamic program of method.md section 5 over partial selections.
class KnapsackSearch {
 public:
  KnapsackSearch(const Units& units, const Limits& limits)
      : units_(units),
        limits_(limits),
        prices_(best_prices(units, limits)),
        bound_(bound_of(units, limits, prices_)),
        bytes_from_(least_from(units, &Choice::bytes)),
        time_from_(least_from(units, &Choice::time)) {}

  double bound() const { return bound_; }

  // Finds the best selection that deviates by at most `gap`; false if there is none.
  bool run(double gap) {
    layers_ = {{{0, 0, 0, 0, 0, 0}}};
    for (size_t u = 0; u < units_.size(); u++) layers_.push_back(undominated(extended(u, gap)));
    const auto& last = layers_.back();
    if (last.empty()) return false;
    best_ = static_cast<size_t>(
        std::min_element(last.begin(), last.end(),
                         [](const Partial& a, const Partial& b) { return a.cost < b.cost; }) -
        last.begin());
    return true;
  }

  double cost() const { return layers_.back()[best_].cost; }

  std::vector<size_t> chosen() const {
    std::vector<size_t> choices(units_.size());
    size_t selection = best_;
    for (size_t u = units_.size(); u-- > 0;) {
      const Partial& p = layers_[u + 1][selection];
      choices[u] = p.choice;
      selection = p.before;
    }
    return choices;
  }

 private:
  // Extends each selection of layer u by each choice of unit u that may still fit.
  std::vector<Partial> extended(size_t u, double gap) const {
    const std::vector<Choice>& unit = units_[u];
    const double smallest = least(unit, prices_);
    std::vector<Partial> all;
    for (size_t c = 0; c < unit.size(); c++) {
      const double more = prices_.of(unit[c]) - smallest;
      for (size_t i = 0; i < layers_[u].size(); i++) {
        const Partial& p = layers_[u][i];
        if (p.deviation + more > gap ||
            p.bytes + unit[c].bytes > limits_.bytes - bytes_from_[u + 1] ||
            p.time + unit[c].time > limits_.time - time_from_[u + 1])
          continue;
        all.push_back({p.bytes + unit[c].bytes, p.time + unit[c].time, p.cost + unit[c].cost,
                       p.deviation + more, i, c});
      }
    }
    return all;
  }

  const Units& units_;
  const Limits& limits_;
  Prices prices_;
  double bound_;
  std::vector<int64_t> bytes_from_, time_from_;
  std::vector<std::vector<Partial>> layers_;
  size_t best_ = 0;
};

// Replaces each choice's cost by its time, so that the least cost is the least time.
Units with_time_as_cost(Units units) {
  for (auto& unit : units)
    for (Choice& c : unit) {
      c.cost = static_cast<double>(c.time);
      c.time = 0;
    }
  return units;
}

// Returns the least time of all selections that fit into `bytes`.
int64_t least_time(const Units& units, int64_t bytes) {
  const std::vector<size_t> chosen = choose_within(with_time_as_cost(units), {.bytes = bytes});
  int64_t time = 0;
  for (size_t u = 0; u < units.size(); u++) time += units[u][chosen[u]].time;
  return time;
}

}  // namespace

std::vector<size_t> choose_within(const Units& units, const Limits& limits) {
  if (const auto least = least_from(units, &Choice::bytes)[0]; least > limits.bytes)
    throw TooFewBytes(least - limits.bytes);
  if (limits.time < std::numeric_limits<int64_t>::max())
    if (const int64_t time = least_time(units, limits.bytes); time > limits.time)
      fail("no choice of bits within ", limits.bytes,
           " bytes of weights is as fast as asked: ", "matrix products take at least ",
           static_cast<double>(time) * 1e-9, " ms");
  KnapsackSearch search(units, limits);
  // Some selection fits, so a wide enough gap finds one. The distance of its cost from the bound is
  // then a gap that certainly holds the best selection.
  for (double gap = std::max(1e-3 * std::fabs(search.bound()), 1e-300);;) {
    const bool found = search.run(gap);
    const double enough = found ? search.cost() - search.bound() : INFINITY;
    if (enough <= gap) return search.chosen();
    gap = std::min(2 * gap, enough * (1 + 1e-9));
  }
}

}  // namespace vitrun
