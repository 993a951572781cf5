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

void GradientWalk::visit(Reference& forward, const Tensor& image, int64_t seed,
                         const Visitor& see) const {
  const Graph& graph = engine_.graph();
  const Shapes& shapes = engine_.shapes();
  const int patches = graph.find(Role::kPatchEmbed);
  const auto observe = [&](int node, const Flow& flow) {
    std::span<const float> gradient(flow.gradient);
    if (node == engine_.embedding() && patches >= 0) {  // the last rows are those of the patches
      node = patches;
      gradient = gradient.last(static_cast<size_t>(shapes[node].size()));
    }
    if (!graph.is(node, NodeKind::kLinear)) return;
    const Shape& s = shapes[node];
    see(node, gradient.first(array_size(s.tokens(), s.cols)));
  };
  const std::vector<Tensor> values = forward.run_keeping(
      image, engine_.embedding(), *std::max_element(starts_.begin(), starts_.end()));
  engine_.gradients(values, random_starts(seed, starts_, values), observe);
}

namespace {

// squares[i] += |rows_i|^2, with rows [tokens, cols].
void add_squares(std::span<const float> rows, std::span<float> squares) {
  const size_t cols = rows.size() / squares.size();
  for (size_t i = 0; i < squares.size(); i++) {
    double sum = 0;
    for (float v : rows.subspan(i * cols, cols)) sum += double{v} * double{v};
    squares[i] += static_cast<float>(sum);
  }
}

// moments += rows^T rows in the upper triangle, with rows [tokens, cols].
void add_moments(std::span<const float> rows, int cols, std::vector<float>& moments) {
  cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, cols, static_cast<int>(rows.size()) / cols, 1,
              rows.data(), cols, 1, moments.data(), cols);
}

// Copies the upper triangle of m [n, n] to the lower.
void mirror(std::vector<float>& m, size_t n) {
  for (size_t i = 0; i < n; i++)
    for (size_t j = 0; j < i; j++) m[i * n + j] = m[j * n + i];
}

}  // namespace

std::map<int, OutputGradients> output_gradients(const FloatModel& model, const Tensor& images,
                                                int threads,
                                                const std::vector<std::string>& outputs) {
  const Shapes shapes = infer_shapes(model.graph);
  const int64_t count = images.dims[0], held = count / 4;
  std::map<int, OutputGradients> out;
  std::map<int, std::atomic<int64_t>> turns;  // Linear -> the walk that is added next
  for (int i = 0; i < model.graph.size(); i++) {
    if (!model.graph.is(i, NodeKind::kLinear)) continue;
    const size_t area = array_size(shapes[i].cols, shapes[i].cols);
    out[i].norms.resize(array_size(count * shapes[i].tokens()));
    out[i].fitted.resize(area);
    if (held > 0) out[i].unseen.resize(area);
    turns[i] = 0;
  }
  const GradientWalk walk(model, outputs);
  std::atomic<int64_t> next{0};
  ThreadPool(threads).run([&](int) {
    Reference forward(model.graph, model.weights, 1);
    for (int64_t i; (i = next.fetch_add(1)) < count * kGradientSigns;) {
      const int64_t image = i % count;
      walk.visit(
          forward, slice(images, image, 1), i, [&](int linear, std::span<const float> gradient) {
            OutputGradients& sums = out.at(linear);
            const size_t tokens = sums.norms.size() / static_cast<size_t>(count);
            std::atomic<int64_t>& turn = turns.at(linear);
            for (int64_t now; (now = turn) != i;) turn.wait(now);
            add_squares(gradient,
                        std::span(sums.norms).subspan(static_cast<size_t>(image) * tokens, tokens));
            add_moments(gradient, shapes[linear].cols,
                        image < count - held ? sums.fitted : sums.unseen);
            turn = i + 1;
            turn.notify_all();
          });
    }
  });
  for (auto& [linear, sums] : out) {
    for (float& norm : sums.norms) norm = std::sqrt(norm / static_cast<float>(kGradientSigns));
    const auto cols = static_cast<size_t>(shapes[linear].cols);
    mirror(sums.fitted, cols);
    if (held > 0) mirror(sums.unseen, cols);
  }
  return out;
}

}  // namespace vitrun
