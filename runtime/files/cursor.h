// Reads the sections of a .qbin's head, and appends numbers as they stand there.
#pragma once

#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/base/error.h"

namespace vitrun {

// Appends a number, little-endian and not aligned.
template <class T>
void put(std::vector<uint8_t>& out, T value) {
  uint8_t bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.insert(out.end(), std::begin(bytes), std::end(bytes));
}

// Walks one section of the head, entry by entry. Reading beyond the section's end fails. Messages
// name the entry by what begin_item() was given ("metadata key 3").
class Cursor {
 public:
  Cursor(std::span<const uint8_t> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  template <class... Parts>
  void begin_item(const Parts&... parts) {
    item_ = cat(parts...);
  }

  template <class... Parts>
  [[noreturn]] void fail_item(const Parts&... parts) const {
    fail(where_, ": ", item_, ": ", parts...);
  }

  std::span<const uint8_t> left() const { return bytes_; }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  // Reads UTF-8 text. Control characters other than the allowed ones fail, since texts are printed
  // on terminals.
  std::string text(size_t length, const char* what, std::string_view allowed_controls);
  std::string name();

 private:
  static constexpr size_t kMaxName = 256;

  std::span<const uint8_t> take(size_t count) {
    if (count > bytes_.size()) {
      fail_item("expected ", count, " more bytes, but its section ends after ", bytes_.size());
    }
    const std::span<const uint8_t> taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }

  std::span<const uint8_t> bytes_;
  const std::string& where_;
  std::string item_;
};

}  // namespace vitrun
