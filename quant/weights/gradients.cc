#include "quant/weights/gradients.h"

#include <cblas.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <random>

namespace vitrun {
namespace {

// A sign for each element of the values [nodes] at `starts`, over the norm of its value if there
// are several.
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

}  // namespace

GradientWalk::GradientWalk(const FloatModel& model, const std::vector<std::string>& outputs)
    : engine_(model.graph, model.weights, 1) {
  for (const std::string& name : outputs) starts_.push_back(model.graph.output(name));
  if (outputs.empty()) starts_.push_back(engine_.logits());
}

void GradientWalk::visit(Reference& forward, const Tensor& image, std::span<const int64_t> seeds,
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
  const std::vector<Tensor> values = forward.run_keeping(
      image, engine_.embedding(), *std::max_element(starts_.begin(), starts_.end()));
  std::vector<std::map<int, Values>> starts;
  for (int64_t seed : seeds) starts.push_back(random_starts(seed, starts_, values));
  engine_.gradients(values, starts, observe);
}

namespace {

constexpr int kPanel = 128;  // rows of a GramSum's panel

// squares[i] += |row_i|^2 over all draws, with rows [draws, tokens, cols] and squares [tokens].
void add_squares(std::span<const float> rows, int cols, std::span<float> squares) {
  const auto width = static_cast<size_t>(cols), count = rows.size() / width;
  for (size_t i = 0; i < count; i++) {
    double sum = 0;
    for (float v : rows.subspan(i * width, width)) sum += double{v} * double{v};
    squares[i % squares.size()] += static_cast<float>(sum);
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
  std::map<int, std::atomic<int64_t>> turns;  // Linear -> the image that is added next
  for (int i = 0; i < model.graph.size(); i++) {
    if (!model.graph.is(i, NodeKind::kLinear)) continue;
    out[i].norms.resize(array_size(count * shapes[i].tokens()));
    out[i].fitted = GramSum(shapes[i].cols);
    if (held > 0) out[i].unseen = GramSum(shapes[i].cols);
    turns[i] = 0;
  }
  const GradientWalk walk(model, outputs);
  std::atomic<int64_t> next{0};
  ThreadPool(threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (int64_t i; (i = next.fetch_add(1)) < count;) {
      std::vector<int64_t> seeds;
      for (int64_t draw = 0; draw < kGradientSigns; draw++) seeds.push_back(i + draw * count);
      walk.visit(
          forward, slice(images, i, 1), seeds, [&](int linear, std::span<const float> gradient) {
            OutputGradients& sums = out.at(linear);
            const int cols = shapes[linear].cols;
            const size_t tokens = sums.norms.size() / static_cast<size_t>(count);
            std::atomic<int64_t>& turn = turns.at(linear);
            for (int64_t now; (now = turn) != i;) turn.wait(now);
            add_squares(gradient, cols,
                        std::span(sums.norms).subspan(static_cast<size_t>(i) * tokens, tokens));
            (i < count - held ? sums.fitted : sums.unseen)
                .add(gradient.data(), std::ssize(gradient) / cols);
            turn = i + 1;
            turn.notify_all();
          });
    }
  });
  for (auto& [linear, sums] : out)
    for (float& norm : sums.norms) norm = std::sqrt(norm / static_cast<float>(kGradientSigns));
  return out;
}

}  // namespace vitrun
