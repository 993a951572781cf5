// Searches the ranges of activations on calibration images (method.md sections 2, 8, 9, 10 and 14).
#pragma once

#include <functional>
#include <vector>

#include "models/graph/quantizers.h"
#include "quant/ranges/observer.h"
#include "runtime/float/reference.h"
#include "runtime/integer/qmodel.h"

namespace vitrun {

// The quantizer found for a site, CodeParams of models/graph/quantizers.h. With levels the range is
// that of 8-bit codes; with a group there is none.
struct SiteRange {
  int bits = 8;
  UniformRange range = {};
  float rate = 2;
  int twin = CodeParams::kLogCodes;
  std::vector<LevelRun> levels = {};
  std::vector<UniformRange> heads = {};
  int group = 0;

  CodeParams params() const {
    return {bits, range.scale, range.zero, rate, twin, levels, heads, group};
  }
};

// The error that the search for a uniform range minimises, and the candidates that it tries.
enum class Objective {
  // The squared error of the tensor, at the three percentiles of method.md section 2.
  kTensor,
  // For inputs of Linears that end in a residual add (proj, fc2) the error of the normalised sum,
  // at the percentiles, the whole range and the geometric means of neighbours (method.md section 8,
  // [ours]); for all others as kTensor.
  kResidual,
};

struct CalibrateOptions {
  Objective objective = Objective::kResidual;
  std::vector<float> log_rates = {2};  // log codes per octave that are tried after softmax
  // After softmax, codes divided by their sum: carried ones with 8 bits, log codes are tried with
  // fewer.
  bool softmax_sums = false;
  bool levels = false;  // inputs of Linears of fewer than 8 bits get levels (code_levels.h)
  bool heads = false;   // each head of q, k and v gets its own range
};

// Whether each head of a site's columns has a range of its own: those of q, k and v if `all`, else
// only cosines (an L2 norm), whose factors may differ by head.
bool has_head_ranges(const Graph& graph, const Shapes& shapes, const Site& site, bool all);

// `count` preprocessed images for calibration, handed out in batches so that only one batch is in
// memory.
struct ImageSource {
  int64_t count = 0;
  // Returns images [first, first + n) as [n, 3, H, W].
  std::function<Tensor(int64_t first, int64_t n)> load;
};

// Makes a source of images that are in memory already, [count, 3, H, W].
ImageSource tensor_source(Tensor images);

// Receives the fraction done, 0..1.
using Progress = std::function<void(double)>;

// Turns the 8-bit ranges of q, k or v, or one for all heads, into those of which each head's
// columns of a row take 2^bits codes (HeadArgs in kernels.h), with room at both ends.
SiteRange in_head_groups(SiteRange range, int bits, const AttentionGeometry& g);

// Calls body(std::span<const float>) with columns [begin, end) of every row of the site's value.
template <class Body>
void for_each_row(const Site& site, const Tensor& value, const Body& body) {
  const float* row = value.data.data();
  for (int64_t i = 0; i < value.dims[0] * value.dims[1]; i++, row += value.dims[2])
    body(std::span(row + site.begin, row + site.end));
}

// Runs the engine on all images, a few at a time.
void run_all(Reference& engine, const ImageSource& images, const Reference::Observer& observe,
             const Progress& progress = {});

// Searches the range of every site in two passes over the images: the first observes exact
// quantiles, the second sums the squared error of each candidate. bits[i] belongs to sites[i].
// Memory is bounded by one batch and 0.2 % of the observed values.
std::vector<SiteRange> calibrate(Reference& engine, const std::vector<Site>& sites,
                                 const std::vector<int>& bits, const ImageSource& images,
                                 const CalibrateOptions& options, const Progress& progress = {});

}  // namespace vitrun
