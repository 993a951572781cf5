#include "runtime/npy.h"

#include <cstring>
#include <fstream>
#include <regex>

#include "models/status.h"
#include "runtime/mapped_file.h"

namespace vitrun {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// The header's text and where the elements begin.
std::string_view read_header(std::string_view bytes, const std::string& path, size_t* data) {
  if (bytes.size() < 12 || !bytes.starts_with(kMagic)) fail(path, ": not a .npy file");
  const int major = bytes[6];
  if (major < 1 || major > 3) fail(path, ": .npy version ", major, ", expected 1 to 3");
  const size_t length_bytes = major == 1 ? 2 : 4, begin = 8 + length_bytes;
  size_t length = 0;
  for (size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<uint8_t>(bytes[8 + i]);
  if (length > 65536 || begin + length > bytes.size()) fail(path, ": truncated .npy header");
  *data = begin + length;
  return bytes.substr(begin, length);
}

Dims parse_shape(std::string text, const std::string& path) {
  Dims dims;
  int64_t count = 1;
  for (const std::regex number("[0-9]{1,12}");
       const auto& m :
       std::vector<std::smatch>(std::sregex_iterator(text.begin(), text.end(), number), {})) {
    dims.push_back(std::stoll(m.str()));
    if (__builtin_mul_overflow(count, dims.back(), &count))
      fail(path, ": shape (", text, ") is too large");
  }
  return dims;
}

}  // namespace

Tensor read_npy(const std::string& path) {
  const MappedFile file(path);
  const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()),
                               file.bytes().size());
  size_t data = 0;
  const std::string header(read_header(bytes, path, &data));
  std::smatch found;
  if (!std::regex_search(header, found, std::regex("'descr': *'([^']*)'")))
    fail(path, ": .npy header without descr");
  if (found[1] != "<f4")
    fail(path, ": elements are '", found[1].str(), "', expected float32 ('<f4')");
  if (!std::regex_search(header, std::regex("'fortran_order': *False")))
    fail(path, ": expected C order");
  if (!std::regex_search(header, found, std::regex("'shape': *\\(([0-9, ]*)\\)")))
    fail(path, ": no shape");
  const Dims dims = parse_shape(found[1], path);
  const int64_t count = element_count(dims);
  if (count < 0 || static_cast<uint64_t>(count) > bytes.size() / 4 ||
      bytes.size() - data != static_cast<uint64_t>(count) * 4)
    fail(path, ": shape ", to_string(dims), " needs ", count, " float32, the file holds ",
         bytes.size() - data, " bytes");
  Tensor out(dims);
  std::memcpy(out.data.data(), bytes.data() + data, bytes.size() - data);
  return out;
}

void write_npy(const std::string& path, const Tensor& tensor) {
  std::string shape;
  for (int64_t d : tensor.dims) shape += std::to_string(d) + ",";
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize((10 + header.size() + 1 + 63) / 64 * 64 - 10,
                ' ');  // elements start at a multiple of 64
  header.back() = '\n';
  std::ofstream out(path, std::ios::binary);
  const char version_and_length[4] = {1, 0, static_cast<char>(header.size() & 255),
                                      static_cast<char>(header.size() >> 8)};
  out << kMagic;
  out.write(version_and_length, 4) << header;
  out.write(reinterpret_cast<const char*>(tensor.data.data()),
            static_cast<std::streamsize>(tensor.data.size() * sizeof(float)));
  if (!out.flush()) fail(path, ": cannot write: ", std::strerror(errno));
}

}  // namespace vitrun
