#include "runtime/text/class_vectors.h"

#include <cmath>

#include "models/base/error.h"

namespace vitrun {
namespace {

constexpr const char* kTemplates[] = {"itap of a {}.",           "a bad photo of the {}.",
                                      "a origami {}.",           "a photo of the large {}.",
                                      "a {} in a video game.",   "art of the {}.",
                                      "a photo of the small {}."};

std::string filled(std::string text, const std::string& name) {
  const std::string_view place = kNamePlace;
  for (size_t at = 0; (at = text.find(place, at)) != text.npos; at += name.size())
    text.replace(at, place.size(), name);
  return text;
}

double length_of(std::span<const float> v, std::string_view what) {
  double squares = 0;
  for (float x : v) squares += double{x} * double{x};
  if (!(squares > 0)) fail("the embedding of ", what, " is zero");
  return std::sqrt(squares);
}

// v / |v|, in place.
void normalize(std::span<float> v, std::string_view what) {
  const double length = length_of(v, what);
  for (float& x : v) x = static_cast<float>(double{x} / length);
}

}  // namespace

std::vector<std::string> default_templates() {
  return {std::begin(kTemplates), std::end(kTemplates)};
}

Tensor class_vector(const std::string& name, const std::vector<std::string>& templates,
                    const TextEmbedder& embed) {
  std::vector<std::string> texts;
  for (const std::string& t : templates) texts.push_back(filled(t, name));
  Tensor vectors = embed(texts);
  const size_t width = static_cast<size_t>(vectors.dims[1]);
  Tensor mean({1, vectors.dims[1]});
  for (size_t i = 0; i < vectors.data.size(); i += width) {
    normalize({vectors.data.data() + i, width}, "'" + name + "'");
    for (size_t k = 0; k < width; k++) mean.data[k] += vectors.data[i + k];
  }
  normalize(mean.data, "'" + name + "'");
  return mean;
}

void compare_with_classes(std::span<const float> image, std::span<const float> vectors,
                          double scale, std::span<float> logits) {
  const double image_length = length_of(image, "an image");
  for (size_t c = 0; c < logits.size(); c++) {
    const std::span<const float> vector = vectors.subspan(c * image.size(), image.size());
    double sum = 0;
    for (size_t k = 0; k < image.size(); k++) sum += double{image[k]} * double{vector[k]};
    logits[c] = static_cast<float>(scale * sum / (image_length * length_of(vector, "a class")));
  }
}

}  // namespace vitrun
