#include "models/checkpoints/json.h"

#include <filesystem>
#include <fstream>
#include <set>
#include <vector>

#include "models/base/error.h"

namespace vitrun {

namespace {

using nlohmann::json;
using Event = json::parse_event_t;

// Refuses what strict JSON does not allow, event by event.
class Strictness {
 public:
  Strictness(const std::string& where, int max_depth) : where_(where), max_depth_(max_depth) {}

  void check(int depth, Event event, const json& parsed) {
    if ((event == Event::object_start || event == Event::array_start) && depth >= max_depth_)
      fail(where_, ": JSON nested deeper than ", max_depth_, " levels");
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second)
      fail(where_, ": the key '", parsed.get<std::string>(), "' appears twice");
  }

 private:
  const std::string& where_;
  int max_depth_;
  std::vector<std::set<std::string>> keys_;  // keys so far of each object that is still open
};

// Knows which objects are items: those of a list at the top, or of one that the object at the top
// holds.
class Items {
 public:
  Items(const std::string& where, const JsonItem& visit) : where_(where), visit_(visit) {}

  // Returns whether the value is kept.
  bool event(int depth, Event event, const json& parsed) {
    if (event == Event::object_start || event == Event::array_start) open(depth, event);
    if (event == Event::key && depth == 1) {
      list_ = parsed.get<std::string>();
      index_ = 0;
    }
    if (event == Event::object_end && is_item(depth)) {
      visit_(list_, index_++, parsed);
      objects_ = 0;
      return false;
    }
    return true;
  }

 private:
  static constexpr int kMaxObjects = 1000;  // each of them makes the library search its parent

  void open(int depth, Event event) {
    is_list_.resize(static_cast<size_t>(depth));
    is_list_.push_back(event == Event::array_start);
    if (event == Event::object_start && ++objects_ > kMaxObjects)
      fail(where_, ": more than ", kMaxObjects, " objects outside of lists of objects");
  }

  bool is_item(int depth) const {
    return (depth == 1 || (depth == 2 && !is_list_[0])) && is_list_[static_cast<size_t>(depth - 1)];
  }

  const std::string& where_;
  const JsonItem& visit_;
  std::vector<bool> is_list_;  // of each value that is open
  std::string list_;
  size_t index_ = 0;
  int objects_ = 0;
};

json parse(std::string_view text, const std::string& where, const json::parser_callback_t& check) {
  try {
    return json::parse(text, check);
  } catch (const json::exception& e) {
    // The library quotes the offending token, which may be the whole file.
    fail(where, ": is not valid JSON: ", std::string(e.what()).substr(0, 200));
  }
}

}  // namespace

json parse_json(std::string_view text, const std::string& where, int max_depth) {
  Strictness strictness(where, max_depth);
  return parse(text, where, [&](int depth, Event event, json& parsed) {
    strictness.check(depth, event, parsed);
    return true;
  });
}

json visit_json(std::string_view text, const std::string& where, int max_depth,
                const JsonItem& visit) {
  Strictness strictness(where, max_depth);
  Items items(where, visit);
  return parse(text, where, [&](int depth, Event event, json& parsed) {
    strictness.check(depth, event, parsed);
    return items.event(depth, event, parsed);
  });
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
