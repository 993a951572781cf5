// Lists names in messages.
#pragma once

#include <string>
#include <vector>

namespace vitrun {

// "'a', 'b' and 3 more", at most `most` of them named, each between two `quote`s.
std::string listed(const std::vector<std::string>& names, size_t most, const char* quote = "'");

}  // namespace vitrun
