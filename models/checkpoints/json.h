// Strict JSON for files that come from outside. Only offline tools use it; the inference library
// reads no JSON.
#pragma once

#include <functional>
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

// An object of the list called `list`, or of a text that is a list itself, whose name is "".
using JsonItem =
    std::function<void(const std::string& list, size_t index, const nlohmann::json& item)>;

// Parses a large text that is a list of objects, or an object of such lists. Each object of a list
// is handed over and forgotten, so that one at a time is held. Returns what is left: the lists
// without objects, and everything else. Fails as parse_json() does, and if an item holds more than
// a thousand objects.
nlohmann::json visit_json(std::string_view text, const std::string& where, int max_depth,
                          const JsonItem& visit);

}  // namespace vitrun
