// Errors. Everything that opens, reads, builds or converts throws Error with a message that names
// the file, tensor or option, what was expected and what was found. Running a session throws
// nothing; the C ABI and each program's main() are the only places that catch.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace vitrun {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Joins its arguments as operator<< prints them.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(cat(parts...));
}

}  // namespace vitrun
