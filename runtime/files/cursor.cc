#include "runtime/files/cursor.h"

namespace vitrun {
namespace {

// Decodes the UTF-8 sequence at the front of `text`. Returns its length, 0 if it is malformed.
size_t decode_utf8(std::string_view text, uint32_t& code) {
  // The smallest code point of a sequence of each length; a smaller one makes the form overlong.
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const uint32_t lead = static_cast<uint8_t>(text[0]);
  code = lead;
  if (lead < 0x80) return 1;
  const size_t length = lead >> 5 == 0x6 ? 2 : lead >> 4 == 0xE ? 3 : lead >> 3 == 0x1E ? 4 : 0;
  if (length == 0 || length > text.size()) return 0;
  code = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; i++) {
    const uint32_t next = static_cast<uint8_t>(text[i]);
    if (next >> 6 != 2) return 0;
    code = code << 6 | (next & 0x3F);
  }
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  return code < kSmallest[length] || code > 0x10FFFF || surrogate ? 0 : length;
}

// Whether `text` is well-formed UTF-8 without control characters other than those allowed.
bool is_text(std::string_view text, std::string_view allowed) {
  while (!text.empty()) {
    uint32_t code;
    const size_t length = decode_utf8(text, code);
    if (length == 0) return false;
    const bool control = code < 0x20 || (code >= 0x7F && code < 0xA0);
    if (control && allowed.find(text[0]) == allowed.npos) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace

std::string Cursor::text(size_t length, const char* what, std::string_view allowed_controls) {
  const std::span<const uint8_t> bytes = take(length);
  std::string value(bytes.begin(), bytes.end());
  if (!is_text(value, allowed_controls))
    fail_item("the ", what, " is not UTF-8 text without control characters");
  return value;
}

std::string Cursor::name() {
  const size_t length = number<uint16_t>();
  if (length == 0 || length > kMaxName)
    fail_item("expected a name of 1..", kMaxName, " bytes, found ", length);
  return text(length, "name", "");
}

}  // namespace vitrun
