#include "runtime/program/embeddings.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/program/cli.h"

namespace vitrun {
namespace {

double dot(const float* x, const float* y, size_t n) {
  double sum = 0;
  for (size_t k = 0; k < n; k++) sum += double{x[k]} * double{y[k]};
  return sum;
}

// Rows of a tensor [n, D], and their squared lengths.
struct Rows {
  const Tensor& values;
  size_t width;
  std::vector<double> squares;

  explicit Rows(const Tensor& t) : values(t), width(static_cast<size_t>(t.dims[1])) {
    for (size_t i = 0; i < count(); i++) squares.push_back(dot(row(i), row(i), width));
  }

  size_t count() const { return static_cast<size_t>(values.dims[0]); }
  const float* row(size_t i) const { return values.data.data() + i * width; }
};

double cosine(const Rows& a, size_t i, const Rows& b, size_t j) {
  const double lengths = std::sqrt(a.squares[i] * b.squares[j]);
  return lengths > 0 ? dot(a.row(i), b.row(j), a.width) / lengths : 0;
}

// The rows by falling cosine with row i of `query`, of equal ones the earlier first.
std::vector<Neighbour> by_cosine(const Rows& rows, const Rows& query, size_t i) {
  std::vector<Neighbour> order;
  for (size_t j = 0; j < rows.count(); j++) order.push_back({j, cosine(query, i, rows, j)});
  std::ranges::stable_sort(order, std::ranges::greater(), &Neighbour::cosine);
  return order;
}

// The rows but i itself, the nearest to it first.
std::vector<size_t> nearest(const Rows& rows, size_t i) {
  std::vector<size_t> order;
  for (const Neighbour& n : by_cosine(rows, rows, i))
    if (n.row != i) order.push_back(n.row);
  return order;
}

std::vector<size_t> first_of(std::vector<size_t> order) {
  order.resize(std::min<size_t>(order.size(), 1));
  return order;
}

// The label for which the k nearest labelled rows vote; of a tie the nearer one.
int vote(const std::vector<size_t>& order, const std::vector<int>& labels, int k) {
  std::map<int, int> votes;
  int best = -1, counted = 0;
  for (size_t j : order)
    if (labels[j] >= 0 && counted < k) counted++, votes[labels[j]]++;
  for (size_t j : order)
    if (votes.contains(labels[j]) && (best < 0 || votes[labels[j]] > votes[best])) best = labels[j];
  return best;
}

void append(Tensor& all, const Tensor& more) {
  if (all.data.empty()) {
    all = more;
    return;
  }
  all.data.insert(all.data.end(), more.data.begin(), more.data.end());
  all.dims[0] += more.dims[0];
}

Tensor embedding_of(Predictor& model, const Tensor& images) {
  return std::move(model.run(images, {"embedding"})[0]);
}

}  // namespace

Embeddings embed(Predictor& model, Predictor* reference, ImageLoader& loader,
                 const std::vector<Sample>& samples, size_t batch,
                 const std::function<void(double)>& progress) {
  Embeddings e;
  e.unread = for_each_batch(loader, samples, batch, progress, [&](const LoadedImages& loaded) {
    const auto start = std::chrono::steady_clock::now();
    const Tensor values = embedding_of(model, loaded.images);
    e.seconds += seconds_since(start);
    append(e.values, values);
    for (size_t i : loaded.read) e.read.push_back(i), e.labels.push_back(samples[i].label);
    if (!reference) return;
    const Tensor expected = embedding_of(*reference, loaded.images);
    if (expected.dims != values.dims)
      fail("--reference is another kind of model: embeddings of ", expected.dims[1],
           " numbers instead of ", values.dims[1]);
    append(e.reference, expected);
  });
  return e;
}

std::vector<Neighbour> neighbours(const Tensor& embeddings, const Tensor& query) {
  const Rows rows(embeddings), wanted(query);
  if (wanted.width != rows.width)
    fail("the query's embedding has ", wanted.width, " numbers, those of images ", rows.width);
  if (!(wanted.squares[0] > 0)) fail("the embedding of the query is zero");
  return by_cosine(rows, wanted, 0);
}

EmbeddingAgreement agreement_of(const Embeddings& e) {
  EmbeddingAgreement a;
  const Rows rows(e.values), reference(e.reference);
  double error = 0, energy = 0;
  size_t same = 0;
  for (size_t i = 0; i < rows.count(); i++) {
    const double c = cosine(rows, i, reference, i);
    a.cosine += c / static_cast<double>(rows.count());
    a.worst_cosine = std::min(a.worst_cosine, c);
    same += first_of(nearest(rows, i)) == first_of(nearest(reference, i));
  }
  for (size_t i = 0; i < e.values.data.size(); i++) {
    error += std::pow(double{e.values.data[i]} - double{e.reference.data[i]}, 2);
    energy += std::pow(double{e.reference.data[i]}, 2);
  }
  a.error = std::sqrt(error / energy);
  a.neighbour = ratio(same, rows.count());
  return a;
}

std::vector<double> neighbour_accuracy(const Tensor& embeddings, const std::vector<int>& labels,
                                       const std::vector<int>& ks) {
  const Rows rows(embeddings);
  std::vector<size_t> right(ks.size());
  size_t labelled = 0;
  for (size_t i = 0; i < labels.size(); i++) {
    if (labels[i] < 0) continue;
    labelled++;
    const std::vector<size_t> order = nearest(rows, i);
    for (size_t k = 0; k < ks.size(); k++) right[k] += vote(order, labels, ks[k]) == labels[i];
  }
  std::vector<double> shares;
  for (size_t r : right) shares.push_back(ratio(r, labelled));
  return shares;
}

}  // namespace vitrun
