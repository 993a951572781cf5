#include "models/families/position_mlp.h"

#include <algorithm>

namespace vitrun {

Tensor position_table(int height, int width, const PositionMlp& mlp,
                      const std::function<double(int)>& along_height,
                      const std::function<double(int)>& along_width,
                      const std::function<double(double, size_t)>& last) {
  const Tensor &w1 = mlp.w1, &b1 = mlp.b1, &w2 = mlp.w2;
  const size_t hidden = b1.data.size(), heads = static_cast<size_t>(w2.dims[0]);
  Tensor table({int64_t{2 * height - 1} * (2 * width - 1), w2.dims[0]});
  std::vector<double> y(hidden);
  float* to = table.data.data();
  for (int i = 1 - height; i < height; i++)
    for (int j = 1 - width; j < width; j++, to += heads) {
      const double dy = along_height(i), dx = along_width(j);
      for (size_t k = 0; k < hidden; k++) {
        const double sum =
            double{w1.data[2 * k]} * dy + double{w1.data[2 * k + 1]} * dx + double{b1.data[k]};
        y[k] = std::max(sum, 0.0);
      }
      for (size_t head = 0; head < heads; head++) {
        double sum = 0;
        for (size_t k = 0; k < hidden; k++) sum += double{w2.data[head * hidden + k]} * y[k];
        to[head] = static_cast<float>(last(sum, head));
      }
    }
  return table;
}

}  // namespace vitrun
