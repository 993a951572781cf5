#include "models/checkpoints/json.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "models/base/error.h"

namespace vitrun {

nlohmann::json parse_json(std::string_view text, const std::string& where, int max_depth) {
  using nlohmann::json;
  std::vector<std::set<std::string>> keys;  // keys so far of each object that is still open
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth)
      fail(where, ": JSON nested deeper than ", max_depth, " levels");
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second)
      fail(where, ": the key '", parsed.get<std::string>(), "' appears twice");
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& e) {
    // The library quotes the offending token, which may be the whole file.
    fail(where, ": is not valid JSON: ", std::string(e.what()).substr(0, 200));
  }
}

nlohmann::json read_json(const std::string& path, int max_depth) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);  // a device gives an error
  std::ifstream in(path, std::ios::binary);
  if (error || !in) throw FileError(cat(path, ": cannot open"));
  if (size > kMaxJsonBytes) fail(path, ": ", size, " bytes are too many for JSON");
  return parse_json(std::string((std::istreambuf_iterator<char>(in)), {}), path, max_depth);
}

}  // namespace vitrun
