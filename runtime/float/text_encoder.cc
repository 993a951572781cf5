#include "runtime/float/text_encoder.h"

#include <algorithm>

#include "models/base/error.h"

namespace vitrun {

TextInput text_input(const TextTower& tower) {
  return {tower.vocabulary, tower.positions, [&tokens = tower.tokens](int32_t token, float* out) {
            const int64_t width = tokens.dims[1];
            std::copy_n(tokens.data.begin() + token * width, width, out);
          }};
}

TextEncoder::TextEncoder(const TextTower& tower, int threads)
    : input_(text_input(tower)), engine_(tower.graph, tower.weights, threads) {}

Tensor TextEncoder::embed(const std::vector<std::string>& texts) {
  Tensor out;
  for (const std::string& text : texts) {
    const Tensor row = engine_.run(input_.embed(text));
    out.dims = {out.dims.empty() ? 1 : out.dims[0] + 1, row.dims[1]};
    out.data.insert(out.data.end(), row.data.begin(), row.data.end());
  }
  return out;
}

}  // namespace vitrun
