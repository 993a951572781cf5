// Unicode as CLIP's tokenizer needs it. The tables are utf8proc's (Debian 12: Unicode 15.0).
#pragma once

#include <string>
#include <string_view>

namespace vitrun {

// Returns the NFC of a text, each run of white space in it as one space, in lower case letter by
// letter: Σ is σ wherever it stands. Fails if the text is not UTF-8.
std::string normalize_text(std::string_view text);

bool is_utf8(std::string_view text);

enum class CharClass { kSpace, kLetter, kNumber, kOther };

// Returns the class of the first character of a text in UTF-8, which is not empty, and sets `size`
// to its bytes.
CharClass first_class(std::string_view text, size_t& size);

// The character that byte-level vocabularies write for a byte, in UTF-8: itself where it is printed
// in Latin-1, else the next free one from U+0100 on.
std::string byte_character(int byte);

}  // namespace vitrun
