#include "models/base/error.h"

#include <cstdio>

namespace vitrun {

void Piece::append_to(std::string& out) const {
  switch (kind_) {
    case kText:
      out += text_;
      return;
    case kSigned:
      out += std::to_string(signed_);
      return;
    case kUnsigned:
      out += std::to_string(unsigned_);
      return;
    case kReal:
      char text[32];
      std::snprintf(text, sizeof text, "%g", real_);
      out += text;
  }
}

std::string join(std::initializer_list<Piece> pieces) {
  std::string out;
  for (const Piece& p : pieces) p.append_to(out);
  return out;
}

void fail_with(std::initializer_list<Piece> pieces) {
  throw Error(join(pieces));
}

}  // namespace vitrun
