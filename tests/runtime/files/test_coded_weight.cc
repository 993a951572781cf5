// Entropy-coded weights: read from what an independent encoder wrote (golden/make_coded_weight.py),
// there and back, and damaged.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "runtime/files/coded_weight.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

// Reads `count` codes, so many at a time.
Buffer decoded(const Buffer& blob, size_t count, int bits = 8, size_t piece = 1 << 20) {
  const Buffer copy(blob.begin(), blob.end());  // of exactly this size, for AddressSanitizer
  WeightDecoder decoder(copy, bits);
  Buffer codes(count);
  for (size_t i = 0; i < count; i += piece)
    decoder.read(std::span(codes).subspan(i, std::min(piece, count - i)));
  decoder.finish();
  return codes;
}

Buffer golden_blob() {
  std::ifstream file(VITRUN_TEST_DIR "/golden/qbin/coded_weight.bin", std::ios::binary);
  REQUIRE(file.good());
  return Buffer(std::istreambuf_iterator<char>(file), {});
}

constexpr size_t kGoldenCodes = 1003;

Buffer golden_codes() {
  Buffer codes;
  for (size_t i = 0; i < kGoldenCodes; i++)
    codes.push_back(static_cast<uint8_t>(3 + i * i * 7 % 97 % 13 % 9));
  return codes;
}

// Rounded normal values with a standard deviation of `deviation` codes.
Buffer normal_codes(size_t count, double deviation) {
  std::mt19937 random(7);
  std::normal_distribution<double> normal(0, deviation);
  Buffer codes;
  for (size_t i = 0; i < count; i++)
    codes.push_back(
        static_cast<uint8_t>(std::lround(std::clamp(normal(random), -128., 127.)) + 128));
  return codes;
}

double entropy_bytes(const Buffer& codes) {
  std::array<double, 256> counts{};
  for (uint8_t u : codes) counts[u]++;
  double bits = 0;
  for (double c : counts)
    if (c > 0) bits -= c * std::log2(c / static_cast<double>(codes.size()));
  return bits / 8;
}

TEST_CASE("coded weight: what another encoder wrote, in pieces of any size") {
  for (size_t piece : {size_t{16}, size_t{48}, size_t{992}, size_t{4096}})
    CHECK(decoded(golden_blob(), kGoldenCodes, 4, piece) == golden_codes());
}

TEST_CASE("coded weight: there and back, of every count and distribution") {
  for (size_t count : {1, 2, 15, 16, 17, 31, 32, 33, 255, 1000, 4097})
    for (double deviation : {0.05, 0.4, 3.0, 60.0}) {
      CAPTURE(count);
      CAPTURE(deviation);
      const Buffer codes = normal_codes(count, deviation);
      CHECK(decoded(encode_weight(codes), count) == codes);
    }
  for (const uint8_t same : Buffer{0, 128, 255}) {
    const Buffer codes(300000, same);
    const Buffer blob = encode_weight(codes);
    CHECK(decoded(blob, codes.size()) == codes);
    // A reader refuses more codes a byte.
    CHECK(std::ssize(blob) * kMaxCodesPerByte >= std::ssize(codes));
  }
}

TEST_CASE("coded weight: within half a percent of the entropy, and the head") {
  for (double deviation : {0.6, 1.0, 2.0, 8.0, 30.0}) {
    const Buffer codes = normal_codes(200000, deviation), blob = encode_weight(codes);
    const double head = 2 + 8 * kCoderStates + 2 * 256;
    CHECK(static_cast<double>(blob.size()) < 1.005 * entropy_bytes(codes) + head);
    CHECK(static_cast<double>(blob.size()) > entropy_bytes(codes));
  }
}

TEST_CASE("coded weight: damage is refused with its reason") {
  const Buffer good = golden_blob();
  const auto with = [&](size_t at, uint8_t value) {
    Buffer bytes = good;
    bytes.at(at) = value;
    return bytes;
  };
  const auto first = [&](size_t count) {
    return Buffer(good.begin(), good.begin() + std::ptrdiff_t(count));
  };
  const size_t states = 2 + 2 * size_t(good[1] - good[0] + 1), words = states + 8 * kCoderStates;
  Buffer longer = good;
  longer.insert(longer.end(), 4, 0);
  struct Case {
    Buffer bytes;
    const char* message;
  };
  const Case cases[] = {
      {first(1), "the codes end within their head"},
      {first(states - 1), "the codes end within their head"},
      {first(words - 1), "the codes end within their head"},
      {first(good.size() - 1), "the codes end within a word"},
      {first(good.size() - 4), "the codes end too early"},
      {first(words), "the codes end too early"},
      {longer, "4 bytes after the codes"},
      {with(1, 16), "expected codes of 4 bits in ascending order, found 3 to 16"},
      {with(0, 12), "expected codes of 4 bits in ascending order, found 12 to 11"},
      {with(3, 255), "frequencies sum to more than 4096"},
      {with(2, uint8_t(good[2] - 1)), "frequencies sum to 4095, expected 4096"},
      {with(states + 4, 0), "a state is "},
      {with(good.size() - 2, uint8_t(good[good.size() - 2] ^ 1)), "the codes are damaged"},
  };
  for (const Case& c : cases) {
    const std::string message = error_of([&] { decoded(c.bytes, kGoldenCodes, 4); });
    CAPTURE(message);
    CHECK(message.starts_with(c.message));
  }
}

TEST_CASE("coded weight: any damage gives codes within their bits, or an error") {
  std::mt19937 random(11);
  const Buffer good = golden_blob();
  for (int trial = 0; trial < 3000; trial++) {
    Buffer bytes = good;
    for (auto flips = 1 + random() % 3; flips > 0; flips--)
      bytes[random() % bytes.size()] ^= static_cast<uint8_t>(1 << random() % 8);
    error_of([&] {
      WeightDecoder decoder(bytes, 4);
      Buffer codes(kGoldenCodes);
      decoder.read(codes);
      CHECK(std::ranges::max(codes) < 16);
    });
  }
}

}  // namespace
}  // namespace vitrun
