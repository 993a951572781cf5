#include "runtime/detect/rle.h"

#include <utility>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

constexpr int kFirstCharacter = 48;  // '0': 6 bits a character, up to 'o'
constexpr int kMore = 0x20, kSign = 0x10;

int64_t pixels_of(const Rle& rle) {
  return int64_t{rle.height} * rle.width;
}

void append_number(int64_t x, std::string& text) {
  for (bool more = true; more;) {
    int64_t group = x & 0x1f;
    x >>= 5;
    more = group & kSign ? x != -1 : x != 0;
    if (more) group |= kMore;
    text += static_cast<char>(group + kFirstCharacter);
  }
}

// Reads a number off the front of `text`.
int64_t take_number(std::string_view& text) {
  int64_t x = 0;
  for (int shift = 0; shift < 40; shift += 5) {
    if (text.empty()) fail("RLE: the counts end within a number");
    const int code = text.front() - kFirstCharacter;
    text.remove_prefix(1);
    if (code < 0 || code > 0x3f) fail("RLE: a character outside '0'..'o' in the counts");
    x |= static_cast<int64_t>(code & 0x1f) << shift;
    if (code & kMore) continue;
    return code & kSign ? x - (int64_t{1} << (shift + 5)) : x;
  }
  fail("RLE: a count of more than 40 bits");
}

void check_sides(int height, int width) {
  if (height < 1 || width < 1 || height > kMaxRleSide || width > kMaxRleSide)
    fail("RLE: a mask of ", height, "x", width, ", expected sides of 1..", kMaxRleSide);
}

void check_sum(int64_t sum, int height, int width) {
  if (sum != int64_t{height} * width)
    fail("RLE: counts of ", sum, " pixels, expected ", height, "x", width);
}

}  // namespace

int64_t Rle::area() const {
  int64_t sum = 0;
  for (size_t i = 1; i < counts.size(); i += 2) sum += counts[i];
  return sum;
}

RunWriter::RunWriter(int height, int width) : rle_{height, width, {}} {
  check_sides(height, width);
}

void RunWriter::add(bool inside, int64_t pixels) {
  if (pixels == 0) return;
  if (inside != inside_) {
    rle_.counts.push_back(static_cast<uint32_t>(run_));
    run_ = 0;
    inside_ = inside;
  }
  run_ += pixels;
}

Rle RunWriter::finish() {
  rle_.counts.push_back(static_cast<uint32_t>(run_));
  return std::move(rle_);
}

Rle encode_rle(std::span<const uint8_t> pixels, int height, int width) {
  check_sides(height, width);
  check_sum(static_cast<int64_t>(pixels.size()), height, width);
  RunWriter runs(height, width);
  for (int x = 0; x < width; x++)
    for (int y = 0; y < height; y++) runs.add(pixels[array_size(y, width) + array_size(x)] != 0, 1);
  return runs.finish();
}

void decode_rle(const Rle& rle, std::span<uint8_t> pixels) {
  check_sides(rle.height, rle.width);
  check_sum(static_cast<int64_t>(pixels.size()), rle.height, rle.width);
  int64_t sum = 0;
  for (uint32_t count : rle.counts) sum += count;
  check_sum(sum, rle.height, rle.width);
  const auto width = static_cast<size_t>(rle.width);
  size_t place = 0;
  int x = 0, y = 0;
  uint8_t inside = 0;
  for (uint32_t count : rle.counts) {
    for (; count > 0; count--) {
      pixels[place] = inside;
      place += width;
      if (++y < rle.height) continue;
      y = 0;
      place = static_cast<size_t>(++x);
    }
    inside ^= 1;
  }
}

std::string rle_text(const Rle& rle) {
  std::string text;
  for (size_t i = 0; i < rle.counts.size(); i++)
    append_number(int64_t{rle.counts[i]} - (i > 2 ? int64_t{rle.counts[i - 2]} : 0), text);
  return text;
}

Rle rle_of_text(std::string_view text, int height, int width) {
  check_sides(height, width);
  Rle rle = {height, width, {}};
  int64_t sum = 0;
  while (!text.empty()) {
    int64_t count = take_number(text);
    if (rle.counts.size() > 2) count += at(rle.counts, rle.counts.size() - 2);
    sum += count;
    if (count < 0 || sum > pixels_of(rle))
      fail("RLE: a run of ", count, " pixels in a mask of ", height, "x", width);
    rle.counts.push_back(static_cast<uint32_t>(count));
  }
  check_sum(sum, height, width);
  return rle;
}

}  // namespace vitrun
