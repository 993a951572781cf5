// Compares the embeddings of images: with those of a reference model, and with each other.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/program/image_loader.h"
#include "runtime/program/predictor.h"

namespace vitrun {

// The embeddings [n, D] of the images that could be read.
struct Embeddings {
  Tensor values, reference;  // reference: empty without one
  std::vector<size_t> read;  // the index of each image among the samples
  std::vector<int> labels;   // -1: none
  std::vector<UnreadImage> unread;
  double seconds = 0;  // time in the model alone
};

// Runs both models over the samples, `reference` may be null. Fails if a model has no embedding, if
// the two differ in width, or if no image could be read.
Embeddings embed(Predictor& model, Predictor* reference, ImageLoader& loader,
                 const std::vector<Sample>& samples, size_t batch,
                 const std::function<void(double)>& progress);

// A row of embeddings and its cosine with what it was compared to.
struct Neighbour {
  size_t row = 0;
  double cosine = 0;  // 0 if one of the two is zero
};
// The rows of [n, D] by falling cosine with the query [1, D], of equal ones the earlier first.
// Fails if the query has another width or is zero.
std::vector<Neighbour> neighbours(const Tensor& embeddings, const Tensor& query);

// How close embeddings are to the reference's.
struct EmbeddingAgreement {
  double cosine = 0, worst_cosine = 1;  // mean and least over the images
  double error = 0;                     // |x - r| / |r| over all of them
  double neighbour = 0;  // share of images whose nearest other image is the reference's
};
EmbeddingAgreement agreement_of(const Embeddings& e);

// For each k the share of labelled images that the k nearest other labelled images, by cosine, vote
// for; of a tie the nearer label counts.
std::vector<double> neighbour_accuracy(const Tensor& embeddings, const std::vector<int>& labels,
                                       const std::vector<int>& ks);

}  // namespace vitrun
