// Comparing embeddings, on vectors in the plane whose angles are known.
#include <doctest/doctest.h>

#include <cmath>
#include <numbers>

#include "models/base/error.h"
#include "runtime/program/embeddings.h"

using namespace vitrun;

namespace {

// A row for each angle, in degrees, of that length.
Tensor at_angles(const std::vector<double>& degrees, double length = 1) {
  Tensor t({static_cast<int64_t>(degrees.size()), 2});
  for (size_t i = 0; i < degrees.size(); i++) {
    const double a = degrees[i] * std::numbers::pi / 180;
    t.data[2 * i] = static_cast<float>(length * std::cos(a));
    t.data[2 * i + 1] = static_cast<float>(length * std::sin(a));
  }
  return t;
}

}  // namespace

TEST_CASE("neighbours are ordered by the angle, whatever the lengths") {
  const std::vector<Neighbour> found = neighbours(at_angles({90, 10, 180, 60}, 5), at_angles({0}));
  REQUIRE(found.size() == 4);
  const size_t rows[] = {1, 3, 0, 2};
  const double degrees[] = {10, 60, 90, 180};
  for (size_t i = 0; i < 4; i++) {
    CHECK(found[i].row == rows[i]);
    CHECK(found[i].cosine == doctest::Approx(std::cos(degrees[i] * std::numbers::pi / 180)));
  }
}

TEST_CASE("of equally near rows the earlier is first") {
  const std::vector<Neighbour> found = neighbours(at_angles({30, 30, 0, 30}), at_angles({0}));
  const size_t rows[] = {2, 0, 1, 3};
  for (size_t i = 0; i < 4; i++) CHECK(found[i].row == rows[i]);
}

TEST_CASE("a query that is zero or of another width has no neighbours") {
  CHECK_THROWS_WITH_AS(neighbours(at_angles({0}), Tensor({1, 2})),
                       "the embedding of the query is zero", Error);
  CHECK_THROWS_WITH_AS(neighbours(at_angles({0}), Tensor({1, 3})),
                       "the query's embedding has 3 numbers, those of images 2", Error);
}

TEST_CASE("agreement with a reference: angle, length and nearest neighbour") {
  Embeddings e;
  // The first two are nearest to each other in both; the third is nearest to the second in `values`
  // and to the fourth, which is nearest to it, in `reference`.
  e.values = at_angles({0, 10, 40, 100});
  e.reference = at_angles({0, 10, 70, 100});
  const EmbeddingAgreement a = agreement_of(e);
  CHECK(a.cosine == doctest::Approx((3 + std::cos(std::numbers::pi / 6)) / 4));
  CHECK(a.worst_cosine == doctest::Approx(std::cos(std::numbers::pi / 6)));
  CHECK(a.neighbour == doctest::Approx(0.75));
  // A chord of 30 degrees in one of four unit vectors.
  CHECK(a.error == doctest::Approx(2 * std::sin(std::numbers::pi / 12) / 2));
  e.values = at_angles({0, 10, 70, 100}, 0.5);
  CHECK(agreement_of(e).error == doctest::Approx(0.5));
}

TEST_CASE("the nearest labelled neighbours vote, ties going to the nearer") {
  // Angles 0 and 4 are of class 0, 10 and 13 of class 1; 100 has no label and no vote.
  const Tensor t = at_angles({0, 4, 10, 13, 100});
  const std::vector<int> labels = {0, 0, 1, 1, -1};
  const std::vector<double> shares = neighbour_accuracy(t, labels, {1, 3});
  CHECK(shares[0] == doctest::Approx(1));
  // Every image has one of three votes for its own class and two for the other.
  CHECK(shares[1] == doctest::Approx(0));
}
