// Errors. Everything that opens, reads, builds or converts throws Error with a message that names
// the file, tensor or option, what was expected and what was found. Running a session throws
// nothing; the C ABI and each program's main() are the only places that catch.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>

namespace vitrun {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The system could not open, read or map a file.
class FileError : public Error {
 public:
  using Error::Error;
};

// The system refused something else, a thread for example.
class SystemError : public Error {
 public:
  using Error::Error;
};

// An argument of cat(): text, or a number as operator<< prints it.
class Piece {
 public:
  Piece(std::string_view text) : kind_(kText), text_(text) {}
  Piece(const std::string& text) : Piece(std::string_view(text)) {}
  Piece(const char* text) : Piece(std::string_view(text)) {}
  template <std::signed_integral T>
  Piece(T x) : kind_(kSigned), signed_(x) {}
  template <std::unsigned_integral T>
  Piece(T x) : kind_(kUnsigned), unsigned_(x) {}
  Piece(char) = delete;  // a character or a number?
  Piece(double x) : kind_(kReal), real_(x) {}

  void append_to(std::string& out) const;

 private:
  enum { kText, kSigned, kUnsigned, kReal } kind_;
  std::string_view text_;
  union {
    int64_t signed_ = 0;
    uint64_t unsigned_;
    double real_;
  };
};

std::string join(std::initializer_list<Piece> pieces);
[[noreturn]] void fail_with(std::initializer_list<Piece> pieces);  // Error(join(pieces))

template <class... Parts>
std::string cat(const Parts&... parts) {
  return join({Piece(parts)...});
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  fail_with({Piece(parts)...});
}

}  // namespace vitrun
