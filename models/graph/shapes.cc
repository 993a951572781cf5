#include "models/graph/shapes.h"

#include <algorithm>
#include <numeric>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr int64_t kMaxSide = 1 << 24;               // rows, columns, groups
constexpr int64_t kMaxElements = int64_t{1} << 34;  // of one value of one image
constexpr int64_t kMaxKernel = 1 << 10;
constexpr int64_t kMaxWindowTokens = 4096;  // whose pairs a table of relative positions indexes
constexpr int64_t kMaxWindowedRows = 1 << 22;
constexpr int64_t kMaxGeometryElements = 1 << 25;  // of the windows of a graph's attentions

// The side of a window of attention on a map of `side` positions.
int64_t window_side(int64_t window, bool fixed, int side) {
  return fixed ? window : std::min<int64_t>(window, side);
}

// The inference in progress: shapes of the nodes before `node`, and the node in question.
class Inference {
 public:
  Inference(const Graph& graph, const std::vector<MapSize>& sizes) : graph_(graph), sizes_(sizes) {
    for (const Param& p : graph.params) dims_[p.name] = &p.dims;
  }

  Shapes run();

 private:
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(name_of(node().kind), " '", node().name, "': ", parts...);
  }
  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    if (!holds) refuse(parts...);
  }

  const Node& node() const { return graph_[at_]; }
  const Shape& operand(int i = 0) const { return shapes_[at(node().in, i)]; }

  // An attribute that must be a whole number from `least` to `most`; absent: `otherwise`.
  int64_t whole(Attribute a, int64_t least, int64_t most, int64_t otherwise) const {
    const double v = node().real(a, static_cast<double>(otherwise));
    require(v == std::floor(v) && v >= static_cast<double>(least) && v <= static_cast<double>(most),
            name_of(a), " is ", v, ", expected a whole number from ", least, " to ", most);
    return static_cast<int64_t>(v);
  }
  double real(Attribute a, double least, double most, double otherwise) const {
    const double v = node().real(a, otherwise);
    require(v >= least && v <= most, name_of(a), " is ", v, ", expected ", least, " to ", most);
    return v;
  }
  const Dims& dims(const std::string& param) const {
    const auto found = dims_.find(param);
    require(found != dims_.end(), "its parameter '", param, "' is not listed");
    return *found->second;
  }
  void expect_vector(const std::string& param, int64_t size) const {
    if (param.empty()) return;
    require(dims(param) == Dims{size}, "'", param, "' is ", to_string(dims(param)), ", expected ",
            to_string(Dims{size}));
  }
  const Shape& map(int i = 0) const {
    require(operand(i).height > 0, "its input is no map of positions");
    return operand(i);
  }
  // Only kinds that say so read an image or attention scores.
  void check_inputs() const;
  Shape like_input() const { return operand(); }
  Shape sized(int64_t groups, int64_t rows, int64_t cols) const;
  Shape map_of(int64_t height, int64_t width, int64_t cols) const;

  // A rule for each kind.
#define VITRUN_NODE(kind, function, name, least, most) Shape function();
#include "models/graph/kinds.def"

  // Height and width that neighbourhoods of the input's map take.
  std::pair<int64_t, int64_t> positions() const;
  void find_causal();
  int attention_geometry();
  void expect_broadcast() const;
  void keep_geometry() {
    at(shapes_.attention_of, at_) = at(shapes_.attention_of, node().in[0]);
  }
  // The map whose windows a geometry holds.
  const Shape& map_of_geometry() const {
    return at(maps_, at(shapes_.attention_of, node().in[0]));
  }
  const AttentionGeometry& geometry_of_input() const {
    return shapes_.geometry(node().in[0]);
  }

  const Graph& graph_;
  const std::vector<MapSize>& sizes_;
  std::map<std::string, const Dims*> dims_;
  size_t next_size_ = 0;
  int at_ = 0;
  Shapes shapes_;
  std::vector<bool> causal_;                       // of a Scores: a Softmax that reads it is
  std::map<std::vector<double>, int> geometries_;  // what makes one -> into shapes_.attention
  std::vector<Shape> maps_;                        // of q, for each of shapes_.attention
  int64_t geometry_elements_ = 0;                  // of all their arrays
};

Shape Inference::sized(int64_t groups, int64_t rows, int64_t cols) const {
  for (int64_t side : {groups, rows, cols})
    require(side >= 1 && side <= kMaxSide, "a value of ", groups, " x ", rows, " x ", cols,
            ", expected 1 to ", kMaxSide, " along each");
  require(rows * cols <= kMaxElements / groups, "a value of ", groups, " x ", rows, " x ", cols,
          " is too large");
  Shape s;
  s.groups = static_cast<int>(groups);
  s.rows = static_cast<int>(rows);
  s.cols = static_cast<int>(cols);
  return s;
}

Shape Inference::map_of(int64_t height, int64_t width, int64_t cols) const {
  require(height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide, "a map of ", height,
          " x ", width, " positions");
  Shape s = sized(1, height * width, cols);
  s.height = static_cast<int>(height);
  s.width = static_cast<int>(width);
  return s;
}

void Inference::check_inputs() const {
  const Node& n = node();
  for (size_t i = 0; i < n.in.size(); i++) {
    const Shape& x = operand(static_cast<int>(i));
    require(!x.planar || n.kind == NodeKind::kWindow || n.kind == NodeKind::kQuantize,
            "reads an image as it is, which only window does");
    const bool scores = n.kind == NodeKind::kSoftmax || n.kind == NodeKind::kQuantize ||
                        (n.kind == NodeKind::kMix && i == 0);
    require(x.groups == 1 || scores, "reads scores of ", x.groups, " groups");
    const bool pads = n.kind == NodeKind::kScores || n.kind == NodeKind::kMix ||
                      n.kind == NodeKind::kQuantize || n.kind == NodeKind::kNorm;
    require(!x.pad_row || pads,
            "reads a value with a row of padding, which only attention and norms do");
  }
}

Shape Inference::input() {
  const int64_t channels = whole(Attribute::kChannels, 1, kMaxSide, 0);
  int64_t height = whole(Attribute::kHeight, 1, 1 << 15, 0),
          width = whole(Attribute::kWidth, 1, 1 << 15, 0);
  if (!sizes_.empty()) {
    require(next_size_ < sizes_.size(), "the graph has more inputs than the ", sizes_.size(),
            " sizes given");
    height = at(sizes_, next_size_).height;
    width = at(sizes_, next_size_).width;
    require(height >= 1 && width >= 1 && height <= 1 << 15 && width <= 1 << 15, "a size of ",
            height, " x ", width, ", expected 1 to 32768");
  }
  next_size_++;
  expect_vector(node().weight, channels);
  expect_vector(node().bias, channels);
  require(node().weight.empty() == node().bias.empty(), "has a weight without a bias");
  Shape s = map_of(height, width, channels);
  s.planar = whole(Attribute::kPlanar, 0, 1, 0) != 0;
  require(s.planar || node().weight.empty(), "a map has a weight, which only images have");
  return s;
}

Shape Inference::constant() {
  Dims d = dims(node().weight);
  while (d.size() > 2 && d[0] == 1) d.erase(d.begin());
  if (d.size() > 3 || d.empty())
    refuse("'", node().weight, "' is ", to_string(dims(node().weight)));
  while (d.size() < 3) d.insert(d.begin(), 1);
  Shape s = sized(d[0], d[1], d[2]);
  const int64_t height = whole(Attribute::kHeight, 0, kMaxSide, 0),
                width = whole(Attribute::kWidth, 0, kMaxSide, 0);
  require((height == 0 && width == 0) || height * width == s.rows, "its map of ", height, " x ",
          width, " has not its ", s.rows, " rows");
  s.height = static_cast<int>(height);
  s.width = static_cast<int>(width);
  return s;
}

std::pair<int64_t, int64_t> Inference::positions() const {
  const Shape& x = map();
  const int64_t kh = whole(Attribute::kKernelHeight, 1, kMaxKernel, 0),
                kw = whole(Attribute::kKernelWidth, 1, kMaxKernel, 0),
                stride = whole(Attribute::kStride, 1, kMaxKernel, 1),
                padding = whole(Attribute::kPadding, 0, std::min(kh, kw) - 1, 0);
  const bool ceil = whole(Attribute::kCeil, 0, 1, 0) != 0;
  require(x.height + 2 * padding >= kh || ceil, "a kernel of ", kh, " x ", kw, " on a map of ",
          x.height, " x ", x.width);
  require(x.width + 2 * padding >= kw || ceil, "a kernel of ", kh, " x ", kw, " on a map of ",
          x.height, " x ", x.width);
  const int64_t height = window_positions(x.height, kh, stride, padding, ceil),
                width = window_positions(x.width, kw, stride, padding, ceil);
  require((height - 1) * stride - padding < x.height && (width - 1) * stride - padding < x.width,
          "its last neighbourhood lies outside of a map of ", x.height, " x ", x.width);
  return {height, width};
}

Shape Inference::window() {
  whole(Attribute::kOrder, 0, 2, 0);
  const auto [height, width] = positions();
  return map_of(height, width,
                int64_t{node().whole(Attribute::kKernelHeight)} *
                    node().whole(Attribute::kKernelWidth) * operand().cols);
}

Shape Inference::unwindow() {
  const Shape& x = map();
  const int64_t kh = whole(Attribute::kKernelHeight, 1, kMaxKernel, 0),
                kw = whole(Attribute::kKernelWidth, 1, kMaxKernel, 0),
                stride = whole(Attribute::kStride, 1, std::min(kh, kw), 1),
                padding = whole(Attribute::kPadding, 0, (std::min(kh, kw) - 1) / 2, 0);
  require(x.cols % (kh * kw) == 0, x.cols, " columns are no neighbourhoods of ", kh, " x ", kw);
  const int64_t channels = x.cols / (kh * kw);
  expect_vector(node().bias, channels);
  return map_of((x.height - 1) * stride + kh - 2 * padding,
                (x.width - 1) * stride + kw - 2 * padding, channels);
}

Shape Inference::linear() {
  const Shape& x = operand();
  const Dims& w = dims(node().weight);
  int64_t depth = 1;
  for (size_t i = 1; i < w.size(); i++) {
    require(w[i] >= 1 && w[i] <= kMaxSide && depth <= kMaxSide, "'", node().weight, "' is ",
            to_string(w));
    depth *= w[i];
  }
  require(w.size() >= 2 && depth == x.cols, "'", node().weight, "' is ", to_string(w),
          ", its input has ", x.cols, " columns");
  expect_vector(node().bias, w[0]);
  const int64_t window = whole(Attribute::kPadToWindow, 0, kMaxKernel, 0);
  const bool fixed = whole(Attribute::kFixedWindow, 0, 1, 0) != 0;
  bool pads = false;
  if (window > 0) {
    map();
    pads = x.height % window_side(window, fixed, x.height) != 0 ||
           x.width % window_side(window, fixed, x.width) != 0;
  }
  Shape s = sized(1, int64_t{x.rows} + pads, w[0]);
  s.height = x.height;
  s.width = x.width;
  s.pad_row = pads;
  return s;
}

Shape Inference::norm() {
  const Shape& x = operand();
  const int64_t type = whole(Attribute::kType, 0, 2, 0);
  real(Attribute::kEpsilon, 0, 1, 0);
  const int64_t begin = whole(Attribute::kBegin, 0, x.cols - 1, 0),
                end = whole(Attribute::kEnd, begin + 1, x.cols, x.cols), cols = end - begin;
  expect_vector(node().weight, cols);
  expect_vector(node().bias, cols);
  require(type != 0 || (!node().weight.empty() && !node().bias.empty()),
          "a layer norm needs a weight and a bias");
  const int64_t group = whole(Attribute::kGroup, 1, kMaxSide, cols);
  require(cols % group == 0, "groups of ", group, " of ", cols, " columns");
  Shape s = x;
  s.cols = static_cast<int>(cols);
  return s;
}

Shape Inference::act() {
  whole(Attribute::kType, 0, static_cast<int64_t>(ActType::kTanh), 0);
  real(Attribute::kLimit, 0, INFINITY, INFINITY);
  return like_input();
}

void Inference::expect_broadcast() const {
  const Shape &x = operand(0), &y = operand(1);
  const auto fits = [](int a, int b) { return a == b || b == 1; };
  require(fits(x.rows, y.rows) && fits(x.cols, y.cols) && fits(x.groups, y.groups),
          "an operand of ", y.rows, " x ", y.cols, " does not fit one of ", x.rows, " x ", x.cols);
}

Shape Inference::mul() {
  expect_broadcast();
  return like_input();
}

Shape Inference::add() {
  real(Attribute::kAlpha, -1e6, 1e6, 1);
  expect_broadcast();
  return like_input();
}

Shape Inference::concat() {
  const bool columns = whole(Attribute::kAxis, 0, 1, 0) != 0;
  int64_t rows = 0, cols = 0;
  for (int i = 0; i < count_of(node().in); i++) {
    const Shape& x = operand(i);
    require(columns ? x.rows == operand(0).rows : x.cols == operand(0).cols, "inputs of ",
            operand(0).rows, " x ", operand(0).cols, " and ", x.rows, " x ", x.cols);
    rows = columns ? x.rows : rows + x.rows;
    cols = columns ? cols + x.cols : x.cols;
  }
  Shape s = sized(1, rows, cols);
  if (columns) s.height = operand().height, s.width = operand().width;
  return s;
}

Shape Inference::slice() {
  const Shape& x = operand();
  const bool columns = whole(Attribute::kAxis, 0, 1, 0) != 0;
  const int64_t length = columns ? x.cols : x.rows;
  whole(Attribute::kBegin, -length, length - 1, 0);
  const int64_t begin = slice_begin(node(), x),
                end = whole(Attribute::kEnd, begin + 1, length, length);
  Shape s = columns ? sized(1, x.rows, end - begin) : sized(1, end - begin, x.cols);
  if (columns) s.height = x.height, s.width = x.width;
  return s;
}

Shape Inference::resize() {
  const Shape& x = map();
  whole(Attribute::kType, 0, 1, 0);
  if (node().in.size() == 2) return map_of(map(1).height, map(1).width, x.cols);
  return map_of(whole(Attribute::kHeight, 1, 1 << 15, 0), whole(Attribute::kWidth, 1, 1 << 15, 0),
                x.cols);
}

Shape Inference::pool() {
  whole(Attribute::kType, 0, 1, 0);
  if (node().has(Attribute::kKernelHeight)) {
    const auto [height, width] = positions();
    const int stride = node().whole(Attribute::kStride, 1), pad = node().whole(Attribute::kPadding);
    require((height - 1) * stride < operand().height + pad &&
                (width - 1) * stride < operand().width + pad,
            "its last neighbourhoods lie behind the map");
    return map_of(height, width, operand().cols);
  }
  whole(Attribute::kBegin, 0, operand().rows - 1, 0);
  return sized(1, 1, operand().cols);
}

// Marks the Scores that a causal Softmax reads.
void Inference::find_causal() {
  causal_.assign(graph_.nodes.size(), false);
  for (const Node& n : graph_.nodes)
    if (n.kind == NodeKind::kSoftmax && !n.in.empty() && n.in[0] >= 0 && n.in[0] < graph_.size() &&
        n.real(Attribute::kCausal) != 0)
      at(causal_, n.in[0]) = true;
}

// Builds a geometry only where no earlier Scores has the same, and only while all of them together
// stay below kMaxGeometryElements.
int Inference::attention_geometry() {
  const Shape &q = operand(0), &k = operand(1);
  const int64_t heads = whole(Attribute::kHeads, 1, 1 << 12, 0),
                dim = whole(Attribute::kHeadDim, 1, 1 << 12, 0),
                query = whole(Attribute::kQueryBegin, 0, kMaxSide, 0),
                key = whole(Attribute::kKeyBegin, 0, kMaxSide, 0),
                window = whole(Attribute::kWindow, 0, kMaxKernel, 0),
                grid_height = whole(Attribute::kHeight, 0, kMaxKernel, 0),
                grid_width = whole(Attribute::kWidth, 0, kMaxKernel, 0),
                shift = whole(Attribute::kShift, 0, std::max<int64_t>(window - 1, 0), 0),
                pad_first = whole(Attribute::kPadFirst, 0, 1, 0),
                fixed = whole(Attribute::kFixedWindow, 0, 1, 0);
  const double scale = real(Attribute::kScale, 0, 1e6, 1);
  require(query + heads * dim <= q.cols && key + heads * dim <= k.cols, heads, " heads of ", dim,
          " columns do not fit ", q.cols, " and ", k.cols);
  int64_t elements = k.rows;
  if (window > 0) {
    require(map(0).height == map(1).height && map(0).width == map(1).width,
            "q and k are different maps");
    require(int64_t{q.height} * q.width <= kMaxWindowedRows, "a map of ", q.rows,
            " positions is too large for windows");
    const int64_t high = window_side(window, fixed != 0, q.height),
                  wide = window_side(window, fixed != 0, q.width);
    require(high * wide <= kMaxWindowTokens, "windows of ", window, " x ", window);
    const bool padded = q.height % high != 0 || q.width % wide != 0;
    require(padded == q.pad_row && padded == k.pad_row,
            padded ? "the map is no multiple of the window and q and k have no row for padding"
                   : "q or k has a row for padding, which this window does not need");
    elements = (q.height + high) * (q.width + wide) * 2 + high * wide * high * wide;
  } else {
    require(!q.pad_row && !k.pad_row, "q or k has a row for padding and there are no windows");
  }
  if (grid_height > 0 || grid_width > 0) {
    const int64_t map = grid_height * grid_width, tokens = q.rows;
    require(grid_height > 0 && grid_width > 0 && window == 0 &&
                (tokens == map || tokens == map + 1) && k.rows == tokens &&
                tokens <= kMaxWindowTokens,
            "relative positions of a token or none and ", grid_height, " x ", grid_width,
            " others among ", q.rows, " rows of q and ", k.rows, " of k");
    elements += tokens * tokens;
  }
  std::vector<double> same;
  for (int64_t x :
       {heads, dim, query, key, window, shift, pad_first, fixed, int64_t{at(causal_, at_)},
        int64_t{q.rows}, int64_t{k.rows}, int64_t{window ? q.height : 0}, grid_height, grid_width})
    same.push_back(static_cast<double>(x));
  same.push_back(scale);
  const auto [found, is_new] = geometries_.emplace(same, count_of(shapes_.attention));
  if (!is_new) return found->second;
  geometry_elements_ += elements;
  require(geometry_elements_ <= kMaxGeometryElements,
          "the windows of all attentions take more than ", kMaxGeometryElements, " numbers");

  AttentionGeometry g;
  if (window > 0) {
    g = window_attention(
        q.height, q.width,
        {static_cast<int>(window), static_cast<int>(shift), pad_first != 0, fixed != 0});
  } else {
    g.queries = q.rows;
    g.tokens = k.rows;
    g.index.resize(static_cast<size_t>(k.rows));
    std::iota(g.index.begin(), g.index.end(), 0);
    if (grid_height > 0)
      g.bias_index =
          token_and_map_offsets(static_cast<int>(grid_height), static_cast<int>(grid_width),
                                q.rows > grid_height * grid_width);
  }
  g.bias_rows = window > 0        ? (2 * g.height - 1) * (2 * g.width - 1)
                : grid_height > 0 ? (2 * static_cast<int>(grid_height) - 1) *
                                            (2 * static_cast<int>(grid_width) - 1) +
                                        kTokenOffsets
                                  : 0;
  g.heads = static_cast<int>(heads);
  g.head_dim = static_cast<int>(dim);
  g.scale = static_cast<float>(scale);
  g.query_begin = static_cast<int>(query);
  g.key_begin = static_cast<int>(key);
  g.causal = at(causal_, at_);
  shapes_.attention.push_back(std::move(g));
  maps_.push_back(q);
  return found->second;
}

Shape Inference::scores() {
  const int geometry = attention_geometry();
  at(shapes_.attention_of, at_) = geometry;
  const AttentionGeometry& g = at(shapes_.attention, geometry);
  return sized(int64_t{g.windows} * g.heads, g.queries, g.tokens);
}

Shape Inference::softmax() {
  require(graph_.is(node().in[0], NodeKind::kScores), "its input comes from no scores");
  const AttentionGeometry& g = geometry_of_input();
  const bool causal = whole(Attribute::kCausal, 0, 1, 0) != 0;
  require(causal == g.causal, "is not causal and another softmax of its scores is");
  if (causal) require(g.whole() && g.queries == g.tokens, "causal, with other queries than keys");
  if (!node().weight.empty()) {
    require(g.bias_rows > 0, "a table of relative positions without windows or a grid");
    const Dims want = {g.bias_rows, g.heads};
    require(dims(node().weight) == want, "'", node().weight, "' is ",
            to_string(dims(node().weight)), ", expected ", to_string(want));
  }
  if (node().in.size() == 2) {
    const Shape &x = operand(0), &y = operand(1);
    require(graph_.is(node().in[1], NodeKind::kConst), "its bias is no constant");
    require(g.whole(), "a bias as a value, with windows");
    require(y.rows == x.rows && y.cols == x.cols && (y.groups == 1 || y.groups == x.groups),
            "a bias of ", y.groups, " x ", y.rows, " x ", y.cols, " on scores of ", x.groups, " x ",
            x.rows, " x ", x.cols);
    require(node().weight.empty(), "has a table and a bias");
  }
  keep_geometry();
  return like_input();
}

Shape Inference::mix() {
  const int weights = node().in[0];
  require(graph_.is(weights, NodeKind::kSoftmax) ||
              (graph_.is(weights, NodeKind::kQuantize) &&
               graph_.is(graph_[weights].in[0], NodeKind::kSoftmax)),
          "its input comes from no softmax");
  const AttentionGeometry& g = geometry_of_input();
  const Shape& v = operand(1);
  const int64_t begin = whole(Attribute::kValueBegin, 0, kMaxSide, 0),
                cols = int64_t{g.heads} * g.head_dim;
  require(begin + cols <= v.cols, g.heads, " heads of ", g.head_dim, " columns do not fit ",
          v.cols);
  keep_geometry();
  if (g.whole()) {
    require(v.rows == g.tokens && !v.pad_row, "v has ", v.rows, " rows, k ", g.tokens);
    return sized(1, g.queries, cols);
  }
  const Shape& q = map_of_geometry();
  require(v.height == q.height && v.width == q.width && v.pad_row == q.pad_row,
          "v is another map than q and k");
  return map_of(v.height, v.width, cols);
}

Shape Inference::rope() {
  const Shape &x = operand(0), &y = operand(1);
  const int64_t begin = whole(Attribute::kBegin, 0, x.cols - 1, 0),
                end = whole(Attribute::kEnd, begin + 1, x.cols, x.cols),
                dim = whole(Attribute::kHeadDim, 2, kMaxSide, 0);
  whole(Attribute::kType, 0, 1, 0);
  require(graph_.is(node().in[1], NodeKind::kConst), "its angles are no constant");
  require(dim % 2 == 0 && (end - begin) % dim == 0, end - begin, " columns are no heads of ", dim);
  require((y.cols == dim || y.cols == end - begin) && y.rows <= x.rows, "angles of ", y.rows, " x ",
          y.cols, " for ", x.rows, " rows and heads of ", dim);
  return like_input();
}

Shape Inference::quantize() {
  const Shape& x = operand();
  const int64_t begin = whole(Attribute::kBegin, 0, x.cols - 1, 0),
                end = whole(Attribute::kEnd, begin + 1, x.cols, x.cols);
  Shape s = x;
  s.cols = static_cast<int>(end - begin);
  require(!graph_.is(node().in[0], NodeKind::kScores), "rounds scores before their softmax");
  if (graph_.is(node().in[0], NodeKind::kSoftmax)) {
    require(s.cols == x.cols, "takes some columns of scores");
    keep_geometry();
  }
  return s;
}

Shape Inference::probability() {
  return like_input();
}

Shapes Inference::run() {
  shapes_.values.reserve(graph_.nodes.size());
  shapes_.attention_of.assign(graph_.nodes.size(), -1);
  find_causal();
  for (at_ = 0; at_ < graph_.size(); at_++) {
    const Node& n = node();
    for (int in : n.in)
      require(in >= 0 && in < at_, "reads node ", in, ", which does not come before it");
    static constexpr std::pair<int, int> kInputs[] = {
#define VITRUN_NODE(kind, function, name, least, most) {least, most},
#include "models/graph/kinds.def"
    };
    const auto [least, most] = kInputs[static_cast<size_t>(n.kind)];
    require(count_of(n.in) >= least && count_of(n.in) <= most, "has ", n.in.size(),
            " inputs, expected ", least, " to ", most);
    check_inputs();
    switch (n.kind) {
#define VITRUN_NODE(kind, function, name, least, most) \
  case NodeKind::k##kind:                              \
    shapes_.values.push_back(function());              \
    break;
#include "models/graph/kinds.def"
    }
  }
  if (!sizes_.empty() && next_size_ != sizes_.size())
    fail("the graph has ", next_size_, " inputs, ", sizes_.size(), " sizes were given");
  for (const Output& o : graph_.outputs)
    if (o.node < 0 || o.node >= graph_.size())
      fail("output '", o.name, "' is node ", o.node, " of ", graph_.size());
  return std::move(shapes_);
}

}  // namespace

int64_t window_positions(int64_t side, int64_t kernel, int64_t stride, int64_t padding, bool ceil) {
  const int64_t room = side + 2 * padding - kernel;
  if (room < 0) return 1;
  return (ceil ? (room + stride - 1) / stride : room / stride) + 1;
}

Shapes infer_shapes(const Graph& graph, const std::vector<MapSize>& sizes) {
  return Inference(graph, sizes).run();
}

int slice_begin(const Node& slice, const Shape& x) {
  const int begin = slice.whole(Attribute::kBegin);
  return begin < 0 ? begin + (slice.whole(Attribute::kAxis) ? x.cols : x.rows) : begin;
}

std::vector<MapSize> default_sizes(const Graph& graph) {
  std::vector<MapSize> sizes;
  for (const Node& n : graph.nodes)
    if (n.kind == NodeKind::kInput)
      sizes.push_back({n.whole(Attribute::kHeight), n.whole(Attribute::kWidth)});
  return sizes;
}

}  // namespace vitrun
