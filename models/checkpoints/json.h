// Strict JSON for files that come from outside. Only offline tools use it; the inference library
// reads no JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace vitrun {

// Parses one JSON value. Fails, naming `where`, if the text is anything else, an object holds a key
// twice, or values nest deeper than `max_depth` (1: a flat object).
nlohmann::json parse_json(std::string_view text, const std::string& where, int max_depth);

// Reads a JSON file of at most kMaxJsonBytes.
constexpr size_t kMaxJsonBytes = 64 << 20;
nlohmann::json read_json(const std::string& path, int max_depth);

}  // namespace vitrun
