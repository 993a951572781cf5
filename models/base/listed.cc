#include "models/base/listed.h"

#include <algorithm>

#include "models/base/error.h"

namespace vitrun {

std::string listed(const std::vector<std::string>& names, size_t most, const char* quote) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), most); i++)
    text += cat(i == 0 ? "" : ", ", quote, names[i], quote);
  return names.size() > most ? cat(text, " and ", names.size() - most, " more") : text;
}

}  // namespace vitrun
