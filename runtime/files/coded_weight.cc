#include "runtime/files/coded_weight.h"

#include <algorithm>
#include <cstring>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr uint32_t kSlots = 1 << kFrequencyBits;

template <class T>
T take(std::span<const uint8_t>& bytes) {
  T value;
  if (bytes.size() < sizeof value) fail("the codes end within their head");
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes = bytes.subspan(sizeof value);
  return value;
}

}  // namespace

WeightDecoder::WeightDecoder(std::span<const uint8_t> blob, int bits) {
  const uint32_t first = take<uint8_t>(blob), last = take<uint8_t>(blob);
  if (first > last || last >> bits != 0)
    fail("expected codes of ", bits, " bits in ascending order, found ", first, " to ", last);
  uint32_t slot = 0;
  for (uint32_t code = first; code <= last; code++) {
    const uint32_t frequency = take<uint16_t>(blob);
    if (frequency > kSlots - slot) fail("frequencies sum to more than ", kSlots);
    for (uint32_t i = 0; i < frequency; i++) {
      shares_[slot + i] = {static_cast<uint16_t>(frequency), static_cast<uint16_t>(i)};
      codes_[slot + i] = static_cast<uint8_t>(code);
    }
    slot += frequency;
  }
  if (slot != kSlots) fail("frequencies sum to ", slot, ", expected ", kSlots);
  for (uint64_t& state : states_) {
    state = take<uint64_t>(blob);
    if (state < kLeastCoderState) fail("a state is ", state, ", below ", kLeastCoderState);
  }
  if (blob.size() % 4 != 0) fail("the codes end within a word");
  next_ = blob.data();
  end_ = blob.data() + blob.size();
}

// Takes a code from a state and returns the state after it.
inline uint64_t WeightDecoder::step(uint64_t x, uint8_t& code) const {
  const size_t slot = x & (kSlots - 1);
  code = codes_[slot];
  return shares_[slot].frequency * (x >> kFrequencyBits) + shares_[slot].offset;
}

void WeightDecoder::read(std::span<uint8_t> codes) {
  constexpr size_t kMostWords = sizeof(uint32_t) * kCoderStates;  // bytes that a group may take
  std::array<uint64_t, kCoderStates> states = states_;  // copies, which nothing else can change
  const uint8_t* next = next_;
  uint8_t* out = codes.data();
  size_t left = codes.size();
  for (; left >= kCoderGroup && static_cast<size_t>(end_ - next) >= kMostWords;
       left -= kCoderGroup) {
    for (uint64_t& state : states) {
      const uint64_t x = step(step(state, out[0]), out[1]);
      uint32_t word;
      std::memcpy(&word, next, sizeof word);
      const uint64_t low = x < kLeastCoderState;  // no branch, which could not be predicted
      state = x << 32 * low | (word & (0 - low));
      next += sizeof word * low;
      out += 2;
    }
  }
  states_ = states;
  next_ = next;
  for (; left > 0; left -= std::min<size_t>(left, kCoderGroup)) {
    uint8_t group[kCoderGroup];
    read_group(group);
    out = std::copy_n(group, std::min<size_t>(left, kCoderGroup), out);
  }
}

// Reads a group near the end of the words, checking for each that it is there.
void WeightDecoder::read_group(uint8_t* codes) {
  for (uint64_t& state : states_) {
    state = step(step(state, codes[0]), codes[1]);
    codes += 2;
    if (state >= kLeastCoderState) continue;
    uint32_t word;
    if (next_ == end_) fail("the codes end too early");
    std::memcpy(&word, next_, sizeof word);
    state = state << 32 | word;
    next_ += sizeof word;
  }
}

void WeightDecoder::finish() const {
  if (next_ != end_) fail(end_ - next_, " bytes after the codes");
  if (std::ranges::any_of(states_, [](uint64_t state) { return state != kLeastCoderState; }))
    fail("the codes are damaged");
}

}  // namespace vitrun
