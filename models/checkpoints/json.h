// Strict JSON for files that come from outside. Offline tools only: the inference library reads
// none.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace vitrun {

// Fails, naming `where`, if the text is not one JSON value, an object holds a key twice, or values
// nest deeper than `max_depth` (1: a flat object).
nlohmann::json parse_json(std::string_view text, const std::string& where, int max_depth);

// The same of a file of at most so many bytes.
constexpr size_t kMaxJsonBytes = 64 << 20;
nlohmann::json read_json(const std::string& path, int max_depth);

}  // namespace vitrun
