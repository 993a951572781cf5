// Classes by their names: each gets a vector from texts about it, and an image is of the class
// whose vector is the closest to the image's embedding (method.md section 20).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/text/text_input.h"

namespace vitrun {

// A template has this in the place of a class's name.
constexpr const char* kNamePlace = "{}";

// The seven of OpenAI's eighty templates for ImageNet that are as good as all together.
std::vector<std::string> default_templates();

// The vector of a class, [1, D] of length 1: the mean over the templates of the texts' vectors of
// length 1. Fails if it is zero.
Tensor class_vector(const std::string& name, const std::vector<std::string>& templates,
                    const TextEmbedder& embed);

// logits[c] = scale * cosine(image, vectors[c]), where image is [D] and vectors [classes, D], of
// any length. Fails if one is zero.
void compare_with_classes(std::span<const float> image, std::span<const float> vectors,
                          double scale, std::span<float> logits);

}  // namespace vitrun
