#include "quant/weights/gradients.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>

namespace vitrun {
std::map<int, Values> random_starts(int64_t seed, const std::vector<int>& starts,
                                    const std::vector<Tensor>& values) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::map<int, Values> out;
  for (int node : starts) {
    const std::vector<float>& y = at(values, node).data;
    double energy = 1;
    if (starts.size() > 1)
      energy = sum_of(y.size(), [&](size_t i) { return double{y[i]} * double{y[i]}; });
    const float size = energy > 0 ? static_cast<float>(1 / std::sqrt(energy)) : 0;
    Values& signs = out[node];
    for (size_t i = 0; i < y.size(); i++) signs.push_back(random() & 1 ? size : -size);
  }
  return out;
}

GradientWalk::GradientWalk(const FloatModel& model, const std::vector<std::string>& outputs)
    : engine_(model.graph, model.weights, 1) {
  for (const std::string& name : outputs) starts_.push_back(model.graph.output(name));
  if (outputs.empty()) starts_.push_back(engine_.logits());
}

std::vector<Tensor> GradientWalk::values(Reference& forward, const Tensor& image) const {
  return forward.run_keeping(image, engine_.embedding(),
                             *std::max_element(starts_.begin(), starts_.end()));
}

void GradientWalk::visit(const std::vector<Tensor>& values, std::span<const int64_t> seeds,
                         const Visitor& see) const {
  const Graph& graph = engine_.graph();
  const Shapes& shapes = engine_.shapes();
  const int patches = graph.find(Role::kPatchEmbed);
  std::vector<float> rows;  // of the draws so far
  size_t draws = 0;
  const auto observe = [&](int node, const Flow& flow) {
    std::span<const float> gradient(flow.gradient);
    if (node == engine_.embedding() && patches >= 0) {  // the last rows are those of the patches
      node = patches;
      gradient = gradient.last(static_cast<size_t>(shapes[node].size()));
    }
    if (!graph.is(node, NodeKind::kLinear)) return;
    const Shape& s = shapes[node];
    const auto of_tokens = gradient.first(array_size(s.tokens(), s.cols));
    rows.insert(rows.end(), of_tokens.begin(), of_tokens.end());
    if (++draws < seeds.size()) return;
    see(node, rows);
    rows.clear();
    draws = 0;
  };
  std::vector<std::map<int, Values>> starts;
  for (int64_t seed : seeds) starts.push_back(random_starts(seed, starts_, values));
  engine_.gradients(values, starts, observe);
}

namespace {

constexpr int kPanel = 256;                                // rows of a GramSum's panel
constexpr int64_t kWalks = kGradientSigns / kSignsAtOnce;  // of an image

// squares[i] += |row_i|^2 over all draws, with rows [draws, tokens, cols] and squares [tokens].
void add_squares(std::span<const float> rows, int cols, std::span<float> squares) {
  const auto width = static_cast<size_t>(cols), count = rows.size() / width;
  for (size_t i = 0; i < count; i++) {
    const float* row = &rows[i * width];
    squares[i % squares.size()] += static_cast<float>(
        sum_of(width, [&](size_t c) { return double{row[c]} * double{row[c]}; }));
  }
}

}  // namespace

GramSum::GramSum(int columns) : n_(columns) {
  for (int first = 0; first < n_; first += kPanel)
    panels_.emplace_back(array_size(std::min(kPanel, n_ - first), n_ - first));
}

void GramSum::add(const float* rows, int64_t count) {
  for (int b = 0; b < count_of(panels_); b++) {
    const int first = b * kPanel, cols = n_ - first;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, std::min(kPanel, cols), cols,
                static_cast<int>(count), 1, rows + first, n_, rows + first, n_, 1,
                at(panels_, b).data(), cols);
  }
}

std::vector<double> GramSum::matrix() const {
  std::vector<double> out(array_size(n_, n_));
  const auto n = static_cast<size_t>(n_);
  for (size_t i = 0; i < n; i++) {
    const size_t first = i / kPanel * kPanel;
    const float* row = &panels_[i / kPanel][(i - first) * (n - first)];
    for (size_t j = i; j < n; j++) out[i * n + j] = out[j * n + i] = double{row[j - first]};
  }
  return out;
}

std::map<int, OutputGradients> output_gradients(const FloatModel& model, const Tensor& images,
                                                int threads,
                                                const std::vector<std::string>& outputs) {
  const Shapes shapes = infer_shapes(model.graph);
  const int64_t count = images.dims[0], held = count / 4;
  std::map<int, OutputGradients> out;
  std::map<int, std::atomic<int64_t>> turns;  // Linear -> the walk that is added next
  for (int i = 0; i < model.graph.size(); i++) {
    if (!model.graph.is(i, NodeKind::kLinear)) continue;
    out[i].norms.resize(array_size(count * shapes[i].tokens()));
    out[i].fitted = GramSum(shapes[i].cols);
    if (held > 0) out[i].unseen = GramSum(shapes[i].cols);
    turns[i] = 0;
  }
  const GradientWalk walk(model, outputs);
  // Walk w is of image w / kWalks.
  const auto add_walk = [&](int64_t w, const std::vector<Tensor>& values) {
    const int64_t image = w / kWalks;
    std::vector<int64_t> seeds;
    for (int64_t draw = 0; draw < kSignsAtOnce; draw++)
      seeds.push_back(image + (w % kWalks * kSignsAtOnce + draw) * count);
    walk.visit(values, seeds, [&](int linear, std::span<const float> gradient) {
      OutputGradients& sums = out.at(linear);
      const int cols = shapes[linear].cols;
      const size_t tokens = sums.norms.size() / static_cast<size_t>(count);
      std::atomic<int64_t>& turn = turns.at(linear);
      for (int64_t now; (now = turn) != w;) turn.wait(now);
      add_squares(gradient, cols,
                  std::span(sums.norms).subspan(static_cast<size_t>(image) * tokens, tokens));
      (image < count - held ? sums.fitted : sums.unseen)
          .add(gradient.data(), std::ssize(gradient) / cols);
      turn = w + 1;
      turn.notify_all();
    });
  };
  Reference forward(model.graph, model.weights, threads);
  ThreadPool pool(threads);
  const int64_t at_once = std::max<int64_t>(threads / kWalks, 1);  // images
  for (int64_t first = 0; first < count; first += at_once) {
    const int64_t end = std::min(count, first + at_once);
    std::vector<std::vector<Tensor>> values;
    for (int64_t i = first; i < end; i++)
      values.push_back(walk.values(forward, slice(images, i, 1)));
    std::atomic<int64_t> next{first * kWalks};
    pool.run([&](int) {
      for (int64_t w; (w = next.fetch_add(1)) < end * kWalks;)
        add_walk(w, at(values, w / kWalks - first));
    });
  }
  for (auto& [linear, sums] : out)
    for (float& norm : sums.norms) norm = std::sqrt(norm / static_cast<float>(kGradientSigns));
  return out;
}

}  // namespace vitrun
