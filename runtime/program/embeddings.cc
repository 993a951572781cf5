#include "runtime/program/embeddings.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {
namespace {

double dot(const Tensor& a, size_t i, const Tensor& b, size_t j) {
  const size_t d = static_cast<size_t>(a.dims[1]);
  const float *x = a.data.data() + i * d, *y = b.data.data() + j * d;
  double sum = 0;
  for (size_t k = 0; k < d; k++) sum += double{x[k]} * double{y[k]};
  return sum;
}

double cosine(const Tensor& a, size_t i, const Tensor& b, size_t j) {
  const double lengths = std::sqrt(dot(a, i, a, i) * dot(b, j, b, j));
  return lengths > 0 ? dot(a, i, b, j) / lengths : 0;
}

size_t count_rows(const Tensor& t) {
  return static_cast<size_t>(t.dims[0]);
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
  for (size_t first = 0; first < samples.size(); first += batch) {
    const size_t n = std::min(batch, samples.size() - first);
    const LoadedImages loaded = loader.load(samples, first, n);
    e.unread.insert(e.unread.end(), loaded.unread.begin(), loaded.unread.end());
    if (progress) progress(ratio(first + n, samples.size()));
    if (loaded.read.empty()) continue;
    const auto start = std::chrono::steady_clock::now();
    const Tensor values = embedding_of(model, loaded.images);
    e.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    append(e.values, values);
    for (size_t i : loaded.read) e.labels.push_back(samples[i].label);
    if (!reference) continue;
    const Tensor expected = embedding_of(*reference, loaded.images);
    if (expected.dims != values.dims)
      fail("--reference is another kind of model: embeddings of ", expected.dims[1],
           " numbers instead of ", values.dims[1]);
    append(e.reference, expected);
  }
  if (e.labels.empty())
    fail(unread_note(e.unread), "none of ", samples.size(), " images could be read");
  return e;
}

std::vector<size_t> nearest(const Tensor& embeddings, size_t i, size_t count) {
  std::vector<std::pair<double, size_t>> others;
  for (size_t j = 0; j < count_rows(embeddings); j++)
    if (j != i) others.emplace_back(-cosine(embeddings, i, embeddings, j), j);
  std::ranges::sort(others);
  std::vector<size_t> rows;
  for (const auto& [distance, row] : others)
    if (rows.size() < count) rows.push_back(row);
  return rows;
}

EmbeddingAgreement agreement_of(const Embeddings& e) {
  EmbeddingAgreement a;
  const size_t n = count_rows(e.values);
  double error = 0, energy = 0;
  size_t same = 0;
  for (size_t i = 0; i < n; i++) {
    const double c = cosine(e.values, i, e.reference, i);
    a.cosine += c / static_cast<double>(n);
    a.worst_cosine = std::min(a.worst_cosine, c);
    same += nearest(e.values, i, 1) == nearest(e.reference, i, 1);
  }
  for (size_t i = 0; i < e.values.data.size(); i++) {
    error += std::pow(double{e.values.data[i]} - double{e.reference.data[i]}, 2);
    energy += std::pow(double{e.reference.data[i]}, 2);
  }
  a.error = std::sqrt(error / energy);
  a.neighbour = ratio(same, n);
  return a;
}

double neighbour_accuracy(const Tensor& embeddings, const std::vector<int>& labels, int k) {
  size_t right = 0, labelled = 0;
  for (size_t i = 0; i < labels.size(); i++) {
    if (labels[i] < 0) continue;
    labelled++;
    std::map<int, int> votes;
    int best = -1, counted = 0;
    const std::vector<size_t> others = nearest(embeddings, i, labels.size());
    for (size_t j : others)
      if (labels[j] >= 0 && counted < k) counted++, votes[labels[j]]++;
    for (size_t j : others)
      if (votes.contains(labels[j]) && (best < 0 || votes[labels[j]] > votes[best]))
        best = labels[j];
    right += best == labels[i];
  }
  return ratio(right, labelled);
}

}  // namespace vitrun
