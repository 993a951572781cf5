#include "runtime/vision/wordnet_ids.h"

#include <algorithm>
#include <iterator>

namespace vitrun {
namespace {

// Classes are numbered in the order of their ids.
constexpr int kIds[] = {
#include "runtime/vision/wordnet_ids.def"
};
static_assert(std::size(kIds) == 1000 && std::ranges::is_sorted(kIds));

}  // namespace

std::optional<int> wordnet_class(const std::string& id) {
  constexpr size_t kDigits = 8;
  if (id.size() != 1 + kDigits || id[0] != 'n' || id.find_first_not_of("0123456789", 1) != id.npos)
    return std::nullopt;
  const int number = std::stoi(id.substr(1));
  const int* const found = std::ranges::lower_bound(kIds, number);
  if (found == std::end(kIds) || *found != number) return std::nullopt;
  return static_cast<int>(found - std::begin(kIds));
}

}  // namespace vitrun
