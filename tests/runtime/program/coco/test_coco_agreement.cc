// Two detectors on the same images: cases worked out by hand.
#include <doctest/doctest.h>

#include "runtime/program/coco/coco_agreement.h"

using namespace vitrun;

namespace {

// A square of the given side at (x, 0) on an image of 40 x 20, whose mask is the square too.
CocoDetection square(int image, int category, double score, int x, int side) {
  std::vector<uint8_t> pixels(800);
  for (int row = 0; row < side; row++)
    for (int col = x; col < x + side; col++) pixels[static_cast<size_t>(40 * row + col)] = 1;
  CocoDetection d;
  d.image = image;
  d.category = category;
  d.score = score;
  d.box = {static_cast<double>(x), 0, static_cast<double>(side), static_cast<double>(side)};
  d.mask = encode_rle(pixels, 20, 40);
  return d;
}

CocoDetections all(std::vector<CocoDetection> found) {
  CocoDetections detections;
  detections.found = std::move(found);
  return detections;
}

}  // namespace

TEST_CASE("detections of one image and class whose boxes overlap enough are pairs") {
  const CocoDetections reference = all({square(0, 0, .9, 0, 10), square(0, 1, .8, 20, 10),
                                        square(1, 0, .7, 0, 10), square(1, 0, .4, 20, 10)});
  CHECK(coco_agreement(reference, reference).both == 3);  // the fourth is not sure
  CHECK(coco_agreement(reference, reference).box_overlap == 1);
  CHECK(coco_agreement(reference, reference).mask_overlap == 1);
  // Moved by a pixel of ten: 90 of 110 pixels. Another class, another image, an unsure one.
  const CocoDetections other = all({square(0, 0, .6, 1, 10), square(0, 0, .9, 20, 10),
                                    square(2, 0, .9, 0, 10), square(1, 0, .49, 0, 10)});
  const CocoAgreement a = coco_agreement(other, reference);
  CHECK(a.reference == 3);
  CHECK(a.found == 3);
  CHECK(a.both == 1);
  CHECK(a.box_overlap == doctest::Approx(90. / 110));
  CHECK(a.mask_overlap == doctest::Approx(90. / 110));
  CHECK(coco_agreement({}, reference).both == 0);
  CHECK(coco_agreement({}, reference).box_overlap == 0);
}

TEST_CASE("the pairs of greatest overlap come first, and each detection is in one") {
  const CocoDetections reference = all({square(0, 0, .9, 0, 20), square(0, 0, .8, 1, 20)});
  const CocoDetections ours = all({square(0, 0, .9, 1, 20)});
  const CocoAgreement a = coco_agreement(ours, reference);
  CHECK(a.both == 1);
  CHECK(a.box_overlap == 1);
}
