// Weight codes in about as many bits as their entropy: a range coder with asymmetric numeral
// systems (rANS; J. Duda, arXiv 1311.2540), of eight states that take turns by pairs of codes.
//
// Specification. Codes u [N, K] are one sequence, row by row, filled up to a multiple of 16 with
// some code. Codes 2i and 2i + 1 belong to state i mod 8. A code's frequency f of 4096 is its
// probability; its start b is the sum of the frequencies of the codes below it. Numbers are
// little-endian and not aligned:
//
//   u8      first code that has a frequency
//   u8      last code that has one
//   u16[]   f of each code from the first to the last; their sum is 4096
//   u64[8]  states before the first code, each >= 2^32
//   u32[]   words
//
// A reader takes a code from its state x as follows. With s = x mod 4096, the code is that u for
// which b <= s < b + f, and the state becomes f floor(x / 4096) + s - b. After the second code of a
// pair a state x below 2^32 becomes 2^32 x plus the next word. After the last code every state is
// 2^32 and no word is left.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace vitrun {

constexpr int kCoderStates = 8, kCoderGroup = 2 * kCoderStates;
constexpr int kFrequencyBits = 12;
constexpr uint64_t kLeastCoderState = uint64_t{1} << 32;
// So many codes a byte must suffice, so that a small file cannot ask for much memory.
constexpr int64_t kMaxCodesPerByte = 64;

// Encodes `codes`, at least one.
std::vector<uint8_t> encode_weight(std::span<const uint8_t> codes);

// Reads what encode_weight() wrote, piece by piece. Any bytes are safe to read: what is damaged
// fails, or gives other codes below 2^bits. `blob` must outlive it.
class WeightDecoder {
 public:
  WeightDecoder(std::span<const uint8_t> blob, int bits);

  // Reads the next codes; every call but the last takes a multiple of kCoderGroup.
  void read(std::span<uint8_t> codes);
  // Fails unless this is the end.
  void finish() const;

 private:
  struct Share {
    uint16_t frequency, offset;  // f and s - b
  };

  uint64_t step(uint64_t x, uint8_t& code) const;
  void read_group(uint8_t* codes);

  const uint8_t *next_, *end_;  // words
  std::array<uint64_t, kCoderStates> states_;
  std::array<Share, 1 << kFrequencyBits> shares_;   // by s
  std::array<uint8_t, 1 << kFrequencyBits> codes_;  // u by s
};

}  // namespace vitrun
