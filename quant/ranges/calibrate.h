// Activation ranges from calibration images (method.md section 2).
#pragma once

#include <functional>
#include <vector>

#include "models/graph/quantizers.h"
#include "quant/ranges/observer.h"
#include "runtime/float/reference.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {

// What a site needs at run time, CodeParams of qmodel.h; with levels the range is that of 8-bit
// codes.
struct SiteRange {
  int bits = 8;
  UniformRange range;
  float rate = 2;
  int twin = CodeParams::kLogCodes;
  std::vector<LevelRun> levels = {};
  std::vector<UniformRange> heads = {};

  CodeParams params() const { return {bits, range.scale, range.zero, rate, twin, levels, heads}; }
};

// What the search for a uniform range makes small, and what it tries.
enum class Objective {
  // The paper's: the squared error of the tensor, at its three percentiles.
  kTensor,
  // [ours] The same, but inputs of Linears that end in a residual add (proj, fc2): the error of
  // that sum once normalised, as the next LayerNorm sees it, at the percentiles, the whole range
  // and the geometric means between neighbours. A token with a massive activation (ViT-Ti: 218
  // after a GELU, 7 elsewhere) may then be clipped, but not below what keeps its direction, and
  // the codes go to the others.
  kResidual,
};

struct CalibrateOptions {
  Objective objective = Objective::kResidual;
  std::vector<float> log_rates = {2};  // codes an octave of the softmax output that are tried
  bool levels = false;  // inputs of Linears of fewer than 8 bits get levels (levels.h)
  bool heads = false;   // q, k and v get a range for each head
};

// Calibration input: `count` preprocessed images, handed out in batches so that only one batch is
// in memory.
struct ImageSource {
  int64_t count = 0;
  // Images [first, first + n) as [n, 3, H, W].
  std::function<Tensor(int64_t first, int64_t n)> load;
};

// Images that are in memory already, [count, 3, H, W].
ImageSource tensor_source(Tensor images);

// Called with the fraction done, 0..1.
using Progress = std::function<void(double)>;

// The elements of a site: columns [begin, end) of every row of its node's value.
template <class Body>  // body(std::span<const float>)
void for_each_row(const Site& site, const Tensor& value, const Body& body) {
  const int64_t cols = value.dims[2];
  for (int64_t row = 0; row < value.dims[0] * value.dims[1]; row++)
    body(std::span(value.data)
             .subspan(static_cast<size_t>(row * cols + site.begin),
                      static_cast<size_t>(site.end - site.begin)));
}

// Runs the engine on all images, a few at a time.
void run_all(Reference& engine, const ImageSource& images, const Reference::Observer& observe,
             const Progress& progress = {});

// The range of every site by search: two passes over the images, the first for exact
// quantiles, the second for the squared error of each candidate. bits[i] belongs to sites[i].
// Memory is bounded by one batch and 0.2 % of the observed values.
std::vector<SiteRange> calibrate(Reference& engine, const std::vector<Site>& sites,
                                 const std::vector<int>& bits, const ImageSource& images,
                                 const CalibrateOptions& options, const Progress& progress = {});

}  // namespace vitrun
