// Writes what coded_weight.h specifies.
#include <algorithm>
#include <cmath>

#include "models/base/error.h"
#include "runtime/files/coded_weight.h"
#include "runtime/files/cursor.h"

namespace vitrun {
namespace {

constexpr size_t kCodes = 256;
constexpr int64_t kSlots = 1 << kFrequencyBits;
// A code of this frequency takes 0.19 bits, so that a byte never holds kMaxCodesPerByte codes.
constexpr int64_t kMostFrequent = kSlots - kSlots / 8;

using Counts = std::array<int64_t, kCodes>;

// Returns the code whose frequency is changed with the least loss of bits.
size_t cheapest(const Counts& counts, const Counts& f, int change) {
  size_t best = 0;
  double least = INFINITY;
  for (size_t u = 0; u < kCodes; u++) {
    if (f[u] == 0 || f[u] + change == 0) continue;
    const double ratio = static_cast<double>(f[u] + change) / static_cast<double>(f[u]);
    const double cost = -static_cast<double>(counts[u]) * std::log2(ratio);
    if (cost < least) least = cost, best = u;
  }
  return best;
}

// Returns the frequencies that encode these counts in the fewest bits: the counts in proportion,
// rounded, at least 1 where a code occurs. What rounding adds or lacks is taken from, or given to,
// the codes where it costs least, one by one.
Counts frequencies_of(const Counts& counts, int64_t total) {
  Counts f{};
  int64_t sum = 0;
  for (size_t u = 0; u < kCodes; u++) {
    if (counts[u] == 0) continue;
    const double share = static_cast<double>(counts[u]) / static_cast<double>(total);
    f[u] = std::max<int64_t>(1, std::lround(share * kSlots));
    sum += f[u];
  }
  while (sum != kSlots) {
    const int change = sum < kSlots ? 1 : -1;
    f[cheapest(counts, f, change)] += change;
    sum += change;
  }
  const auto frequent = static_cast<size_t>(std::ranges::max_element(f) - f.begin());
  if (f[frequent] > kMostFrequent) {  // another code takes the rest, whether it occurs or not
    f[frequent == 0 ? 1 : frequent - 1] += f[frequent] - kMostFrequent;
    f[frequent] = kMostFrequent;
  }
  return f;
}

}  // namespace

std::vector<uint8_t> encode_weight(std::span<const uint8_t> codes) {
  if (codes.empty()) fail("coded weight: no codes");
  Counts counts{}, start{};
  for (uint8_t u : codes) counts[u]++;
  const Counts f = frequencies_of(counts, std::ssize(codes));
  for (size_t u = 1; u < kCodes; u++) start[u] = start[u - 1] + f[u - 1];

  // The decoder's steps, undone from the last pair of codes to the first. A pair is one symbol of
  // frequency f f' of 2^24.
  const auto code = [&](size_t i) { return i < codes.size() ? codes[i] : codes[0]; };
  std::array<uint64_t, kCoderStates> states;
  states.fill(kLeastCoderState);
  std::vector<uint32_t> words;  // the last one first
  const size_t groups = (codes.size() + kCoderGroup - 1) / kCoderGroup;
  for (size_t i = groups * kCoderStates; i-- > 0;) {
    uint64_t& x = states[i % kCoderStates];
    const uint8_t pair[] = {code(2 * i + 1), code(2 * i)};
    if (x >> (64 - 2 * kFrequencyBits) >= static_cast<uint64_t>(f[pair[0]] * f[pair[1]])) {
      words.push_back(static_cast<uint32_t>(x));
      x >>= 32;
    }
    for (uint8_t u : pair) {
      const auto frequency = static_cast<uint64_t>(f[u]);
      x = (x / frequency << kFrequencyBits) + x % frequency + static_cast<uint64_t>(start[u]);
    }
  }

  std::vector<uint8_t> out;
  size_t first = 0, last = kCodes - 1;
  while (f[first] == 0) first++;
  while (f[last] == 0) last--;
  put(out, static_cast<uint8_t>(first));
  put(out, static_cast<uint8_t>(last));
  for (size_t u = first; u <= last; u++) put(out, static_cast<uint16_t>(f[u]));
  for (uint64_t state : states) put(out, state);
  for (size_t i = words.size(); i-- > 0;) put(out, words[i]);
  return out;
}

}  // namespace vitrun
