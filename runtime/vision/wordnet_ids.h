// The WordNet ids of ImageNet-1k's classes, which many folders of images carry.
#pragma once

#include <optional>
#include <string>

namespace vitrun {

// Returns the class, 0 to 999, of a WordNet id such as n01440764; none for other names.
std::optional<int> wordnet_class(const std::string& id);

}  // namespace vitrun
