// Masks as COCO has them: runs of pixels column by column, of 0 and 1 in turn beginning with 0, and
// the text that holds them in JSON.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrun {

struct Rle {
  int height = 0, width = 0;
  std::vector<uint32_t> counts;  // their sum is height * width

  int64_t area() const;  // pixels inside
};

inline constexpr int kMaxRleSide = 65535;  // of a mask; more fails

// Makes runs of pixels that come column by column, as pycocotools does: an empty first run of
// zeros is kept, other empty runs are not made.
class RunWriter {
 public:
  RunWriter(int height, int width);
  void add(bool inside, int64_t pixels);
  Rle finish();  // call it once

 private:
  Rle rle_;
  bool inside_ = false;
  int64_t run_ = 0;
};

// pixels [height, width], row by row; 0 is outside.
Rle encode_rle(std::span<const uint8_t> pixels, int height, int width);
// Writes 0 and 1 to pixels [height, width]. Fails if the counts are not of that many pixels.
void decode_rle(const Rle& rle, std::span<uint8_t> pixels);

// COCO's "counts": each run, from the fourth on less the run two before it, in groups of 5 bits.
std::string rle_text(const Rle& rle);
// Fails on text that is not of height x width pixels.
Rle rle_of_text(std::string_view text, int height, int width);

}  // namespace vitrun
