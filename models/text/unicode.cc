#include "models/text/unicode.h"

#include "models/base/error.h"

#ifdef VITRUN_TEXT

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

namespace vitrun {
namespace {

// Returns the bytes of the first character and sets it; below 0 if it is not UTF-8.
utf8proc_ssize_t first(std::string_view text, utf8proc_int32_t& c) {
  return utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                          static_cast<utf8proc_ssize_t>(text.size()), &c);
}

void append(std::string& text, utf8proc_int32_t c) {
  utf8proc_uint8_t bytes[4];
  const auto size = static_cast<size_t>(utf8proc_encode_char(c, bytes));
  text.append(reinterpret_cast<const char*>(bytes), size);
}

std::string nfc(std::string_view text) {
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &out,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(out, std::free);
  if (size < 0) fail("the text is not UTF-8");
  return {reinterpret_cast<const char*>(out), static_cast<size_t>(size)};
}

// Unicode's property White_Space.
bool is_space(utf8proc_int32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

CharClass class_of(utf8proc_int32_t c) {
  if (is_space(c)) return CharClass::kSpace;
  const utf8proc_category_t category = utf8proc_category(c);
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO)
    return CharClass::kLetter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO)
    return CharClass::kNumber;
  return CharClass::kOther;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t size = first(text, c);
    if (size <= 0) return false;
    text.remove_prefix(static_cast<size_t>(size));
  }
  return true;
}

CharClass first_class(std::string_view text, size_t& size) {
  utf8proc_int32_t c = 0;
  const utf8proc_ssize_t bytes = first(text, c);
  if (bytes <= 0) fail("the text is not UTF-8");
  size = static_cast<size_t>(bytes);
  return class_of(c);
}

std::string normalize_text(std::string_view text) {
  const std::string composed = nfc(text);
  std::string out;
  bool space = false;
  for (std::string_view rest = composed; !rest.empty();) {
    utf8proc_int32_t c = 0;
    rest.remove_prefix(static_cast<size_t>(first(rest, c)));
    if (!is_space(c))
      append(out, utf8proc_tolower(c));
    else if (!space)
      out += ' ';
    space = is_space(c);
    if (c == 0x130) append(out, 0x307);  // İ, the only letter whose lower case is two characters
  }
  return out;
}

std::string byte_character(int byte) {
  const auto printed = [](int b) {
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
  };
  int c = byte;
  if (!printed(byte)) {
    c = 0x100;
    for (int b = 0; b < byte; b++) c += printed(b) ? 0 : 1;
  }
  std::string out;
  append(out, c);
  return out;
}

}  // namespace vitrun

#else

namespace vitrun {
namespace {

[[noreturn]] void refuse() {
  fail("texts are not read by this build, which was made without utf8proc");
}

}  // namespace

bool is_utf8(std::string_view) {
  refuse();
}
CharClass first_class(std::string_view, size_t&) {
  refuse();
}
std::string normalize_text(std::string_view) {
  refuse();
}
std::string byte_character(int) {
  refuse();
}

}  // namespace vitrun

#endif
