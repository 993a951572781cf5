// Tables of positions for another grid against PyTorch's interpolate (golden/make_positions.py).
#include "models/families/resize_positions.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "models/base/error.h"
#include "runtime/files/npy.h"

using namespace vitrun;

namespace {

const std::string kFolder = VITRUN_TEST_DIR "/golden/positions/";
constexpr int kPrefix = 2;

double largest_error(const Tensor& a, const Tensor& b) {
  double worst = 0;
  for (size_t i = 0; i < a.data.size(); i++)
    worst = std::max(worst, std::fabs(double{a.data[i]} - double{b.data[i]}));
  return worst;
}

}  // namespace

TEST_CASE("positions are resized as PyTorch's interpolate does it, with each filter") {
  const std::pair<const char*, PositionFilter> filters[] = {
      {"antialias", PositionFilter::kBicubicAntialias},
      {"bicubic", PositionFilter::kBicubic},
      {"bilinear", PositionFilter::kBilinear}};
  std::ifstream list(kFolder + "list.txt");
  int lines = 0;
  GridChange g;
  for (std::string name; list >> name >> g.from_height >> g.from_width >> g.to_height >> g.to_width;
       lines++) {
    const std::string from = cat(g.from_height, "x", g.from_width),
                      to = cat(g.to_height, "x", g.to_width);
    CAPTURE(name);
    CAPTURE(from);
    CAPTURE(to);
    const auto* filter =
        std::ranges::find_if(filters, [&](const auto& known) { return name == known.first; });
    REQUIRE(filter != std::end(filters));
    const Tensor expected = read_npy(kFolder + name + "_" + from + "_" + to + ".npy"),
                 got = resize_positions(read_npy(kFolder + "table_" + from + ".npy"), kPrefix, g,
                                        filter->second);
    CHECK(got.dims == expected.dims);
    // Weights are of doubles, sums too: what differs is the rounding to float, and PyTorch's order.
    CHECK(largest_error(got, expected) < 1e-6);
  }
  CHECK(lines == 33);
}
