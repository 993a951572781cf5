#include "runtime/files/npy.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/base/error.h"
#include "runtime/files/mapped_file.h"

namespace vitrun {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

constexpr size_t kMaxHeader = 10000;  // the limit of NumPy's own reader

// Returns the header's text, and in `data` where the elements begin.
std::string_view read_header(std::string_view bytes, const std::string& path, size_t* data) {
  if (bytes.size() < 12 || !bytes.starts_with(kMagic)) fail(path, ": not a .npy file");
  const int major = static_cast<uint8_t>(bytes[6]);
  if (major < 1 || major > 3) fail(path, ": .npy version ", major, ", expected 1 to 3");
  const size_t length_bytes = major == 1 ? 2 : 4, begin = 8 + length_bytes;
  size_t length = 0;
  for (size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<uint8_t>(bytes[8 + i]);
  if (length > kMaxHeader)
    fail(path, ": .npy header of ", length, " bytes, expected at most ", kMaxHeader);
  if (begin + length > bytes.size()) fail(path, ": truncated .npy header");
  *data = begin + length;
  return bytes.substr(begin, length);
}

// Returns what follows "'key': " in the header, which is a Python dict.
std::string_view value_of(std::string_view header, const char* key, const std::string& path) {
  const size_t at = header.find(cat("'", key, "':"));
  if (at == header.npos) fail(path, ": .npy header without '", key, "'");
  header.remove_prefix(header.find(':', at) + 1);
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  return header;
}

// Parses "(2, 3)", "(2,)" or "()".
Dims parse_shape(std::string_view text, const std::string& path) {
  const size_t end = text.find(')');
  if (!text.starts_with('(') || end == text.npos) fail(path, ": .npy header without a shape");
  const std::string shape(text.substr(0, end + 1)), shown = shape.substr(0, 60);
  std::istringstream sides(shape.substr(1, end - 1));
  Dims dims;
  int64_t count = 1;
  for (std::string side; std::getline(sides, side, ',');) {
    side.erase(0, side.find_first_not_of(' '));
    int64_t value = -1;
    const char* const last = side.data() + side.size();
    const auto [stop, error] = std::from_chars(side.data(), last, value);
    if (error == std::errc::result_out_of_range ||
        __builtin_mul_overflow(count, std::max<int64_t>(value, 1), &count))
      fail(path, ": shape ", shown, " is too large");
    if (stop != last || value < 0) fail(path, ": '", shown, "' is no shape");
    dims.push_back(value);
  }
  return dims;
}

// Prints dims as Python prints a tuple.
std::string shape_text(const Dims& dims) {
  std::string text;
  for (size_t i = 0; i < dims.size(); i++) text += (i ? ", " : "") + std::to_string(dims[i]);
  return "(" + text + (dims.size() == 1 ? ",)" : ")");
}

}  // namespace

Tensor read_npy(const std::string& path) {
  return parse_npy(MappedFile(path).bytes(), path);
}

Tensor parse_npy(std::span<const uint8_t> file, const std::string& where) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  size_t data = 0;
  const std::string_view header = read_header(bytes, where, &data);
  const std::string_view type = value_of(header, "descr", where);
  if (!type.starts_with("'<f4'"))
    fail(where, ": elements are ", type.substr(0, std::min<size_t>(type.find(','), 40)),
         ", expected float32 ('<f4')");
  if (!value_of(header, "fortran_order", where).starts_with("False"))
    fail(where, ": expected C order, found Fortran's");
  const Dims dims = parse_shape(value_of(header, "shape", where), where);
  const auto count = static_cast<uint64_t>(element_count(dims));
  if (count > bytes.size() / 4 || bytes.size() - data != count * 4)
    fail(where, ": shape ", to_string(dims), " needs ", count, " float32, the file holds ",
         bytes.size() - data, " bytes");
  Tensor out(dims);
  if (count > 0) std::memcpy(out.data.data(), bytes.data() + data, bytes.size() - data);
  return out;
}

Tensor read_raw_images(const std::string& path, const ModelInfo& config) {
  Tensor images = read_npy(path);
  if (images.dims.size() == 3) images.dims.insert(images.dims.begin(), 1);
  const Dims want = {images.dims.empty() ? 0 : images.dims[0], 3, config.image_height,
                     config.image_width};
  if (images.dims != want || want[0] == 0)
    fail(path, ": shape ", to_string(images.dims), ", the model takes [N, 3, ", want[2], ", ",
         want[3], "]");
  for (size_t i = 0; i < images.data.size(); i++)
    if (!std::isfinite(images.data[i]))
      fail(path, ": element ", i, " is ", images.data[i], ", not a finite number");
  return images;
}

void check_npy_writable(const std::string& path) {
  std::error_code ignored;
  const bool there = std::filesystem::exists(path, ignored);
  if (there && std::filesystem::is_fifo(path, ignored)) return;  // opening one waits for a reader
  if (!std::ofstream(path, std::ios::binary | std::ios::app))
    fail(path, ": cannot write: ", std::strerror(errno));
  if (!there) std::filesystem::remove(path, ignored);
}

void write_npy(const std::string& path, const Tensor& tensor) {
  std::string header =
      "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape_text(tensor.dims) + ", }";
  constexpr size_t kAlign = 64;  // the elements start at a multiple of this
  constexpr size_t kFrame = 10;  // bytes of magic, version and length before the header
  header.resize((kFrame + header.size() + kAlign) / kAlign * kAlign - kFrame, ' ');
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
