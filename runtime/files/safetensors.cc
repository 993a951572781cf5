#include "runtime/files/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>
#include <vector>

#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "models/names/foreign.h"
#include "runtime/files/half.h"

namespace vitrun {
namespace {

using nlohmann::json;

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr int kMaxHeaderDepth = 3;                 // header, tensor, shape

struct DType {
  const char* name;
  uint64_t bytes;
};

// Only the first three types can be weights. A file may hold the others in buffers that nobody
// reads.
constexpr DType kDTypes[] = {
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8},     {"I64", 8},
    {"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
    {"U16", 2}, {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

bool multiply(uint64_t a, uint64_t b, uint64_t* product) {
  return !__builtin_mul_overflow(a, b, product);
}

uint64_t dtype_bytes(const std::string& dtype, const std::string& where) {
  const auto* found = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                   [&](const DType& d) { return dtype == d.name; });
  if (found == std::end(kDTypes)) fail(where, ": unknown dtype '", dtype, "'");
  return found->bytes;
}

const json& member(const json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end()) fail(where, ": no '", key, "'");
  return *it;
}

Dims read_shape(const json& value, const std::string& where) {
  if (!value.is_array()) fail(where, ": 'shape' is not a list");
  Dims dims;
  for (const json& side : value) {
    if (!side.is_number_unsigned() || side.get<uint64_t>() > uint64_t{INT64_MAX})
      fail(where, ": 'shape' holds ", side.dump().substr(0, 40), ", not a size");
    dims.push_back(side.get<int64_t>());
  }
  return dims;
}

void read_offsets(const json& value, const std::string& where, TensorInfo& info) {
  const bool pair = value.is_array() && value.size() == 2 && value[0].is_number_unsigned() &&
                    value[1].is_number_unsigned();
  if (!pair) fail(where, ": 'data_offsets' is not a pair of non-negative integers");
  info.begin = value[0].get<uint64_t>();
  info.end = value[1].get<uint64_t>();
  if (info.begin > info.end)
    fail(where, ": data_offsets [", info.begin, ", ", info.end, "] end before they begin");
}

uint64_t expected_bytes(const TensorInfo& info, const std::string& where) {
  uint64_t bytes = dtype_bytes(info.dtype, where);
  for (int64_t side : info.dims)
    if (!multiply(bytes, static_cast<uint64_t>(side), &bytes))
      fail(where, ": shape ", to_string(info.dims), " is too large");
  return bytes;
}

TensorInfo read_tensor(const json& entry, uint64_t data_bytes, const std::string& where) {
  if (!entry.is_object()) fail(where, ": the header entry is not an object");
  TensorInfo info;
  const json& dtype = member(entry, "dtype", where);
  if (!dtype.is_string()) fail(where, ": 'dtype' is not a string");
  info.dtype = dtype.get<std::string>();
  info.dims = read_shape(member(entry, "shape", where), where);
  read_offsets(member(entry, "data_offsets", where), where, info);
  if (info.end > data_bytes)
    fail(where, ": data_offsets end at byte ", info.end, " but the file holds ", data_bytes,
         " bytes of data");
  const uint64_t expected = expected_bytes(info, where);
  if (info.end - info.begin != expected)
    fail(where, ": ", info.dtype, " ", to_string(info.dims), " needs ", expected,
         " bytes but data_offsets span ", info.end - info.begin);
  return info;
}

void check_metadata(const json& value, const std::string& path) {
  if (!value.is_object()) fail(path, ": '__metadata__' is not an object");
  for (const json& text : value)
    if (!text.is_string()) fail(path, ": '__metadata__' holds a value that is not a string");
}

std::string tensor_label(const std::string& path, const std::string& name) {
  return cat(path, ": tensor '", name, "'");
}

uint16_t read_u16(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] | bytes[1] << 8);
}

float read_f32(const uint8_t* bytes) {
  static_assert(std::endian::native == std::endian::little);
  float value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <class Read>
void convert(const uint8_t* bytes, size_t element_bytes, std::vector<float>& out, Read read) {
  for (size_t i = 0; i < out.size(); i++) out[i] = read(bytes + i * element_bytes);
}

void check_finite(const std::vector<float>& data, const std::string& where) {
  for (size_t i = 0; i < data.size(); i++)
    if (!std::isfinite(data[i]))
      fail(where, ": element ", i, " is ", data[i], ", not a finite number");
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : path_(path), mapping_(path) {
  bytes_ = mapping_->bytes();
  read_header();
  check_coverage();
}

SafetensorsFile::SafetensorsFile(std::span<const uint8_t> bytes, const std::string& where)
    : path_(where), bytes_(bytes) {
  read_header();
  check_coverage();
}

void SafetensorsFile::read_header() {
  const std::string_view bytes(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  if (const std::string what = foreign_format(bytes); !what.empty())
    fail(path_, ": not a .safetensors file: this is ", what);
  if (bytes.size() < kPrefixBytes)
    fail(path_, ": not a .safetensors file: ", "shorter than 8 bytes");
  uint64_t length = 0;
  for (size_t i = kPrefixBytes; i-- > 0;) length = length << 8 | bytes_[i];
  if (length > kMaxHeaderBytes)
    fail(path_, ": not a .safetensors file: header of ", length, " bytes, at most ",
         kMaxHeaderBytes, " expected");
  if (length > bytes.size() - kPrefixBytes)
    fail(path_, ": truncated: header of ", length, " bytes in a file of ", bytes.size());
  const std::string_view text = bytes.substr(kPrefixBytes, length);
  if (!text.starts_with('{')) fail(path_, ": the header does not begin with '{'");

  data_begin_ = kPrefixBytes + length;
  const json header = parse_json(text, path_, kMaxHeaderDepth);
  for (const auto& [name, entry] : header.items())
    if (name == "__metadata__")
      check_metadata(entry, path_);
    else
      tensors_[name] = read_tensor(entry, bytes.size() - data_begin_, tensor_label(path_, name));
}

// The format allows neither gaps nor overlaps nor a tail, so that nothing can hide in a file.
void SafetensorsFile::check_coverage() const {
  std::vector<std::pair<const std::string*, const TensorInfo*>> order;
  for (const auto& [name, info] : tensors_) order.emplace_back(&name, &info);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t end = 0;
  for (const auto& [name, info] : order) {
    if (info->begin < end)
      fail(tensor_label(path_, *name), ": overlaps the tensor before it: begins at byte ",
           info->begin, ", expected ", end);
    if (info->begin > end)
      fail(tensor_label(path_, *name), ": leaves a gap before it: begins at byte ", info->begin,
           ", expected ", end);
    end = info->end;
  }
  const uint64_t data_bytes = bytes_.size() - data_begin_;
  if (end != data_bytes)
    fail(path_, ": ", data_bytes - end, " bytes after the last tensor, which ends at byte ", end,
         " of the data");
}

Tensor SafetensorsFile::load(const std::string& name) const {
  const std::string where = tensor_label(path_, name);
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) fail(where, ": not in the file");
  const TensorInfo& info = it->second;
  const uint8_t* bytes = bytes_.data() + data_begin_ + info.begin;
  const bool is_f32 = info.dtype == "F32", is_f16 = info.dtype == "F16";
  if (!is_f32 && !is_f16 && info.dtype != "BF16")
    fail(where, ": dtype ", info.dtype, " is not supported; expected F32, F16 or BF16");
  Tensor tensor(info.dims);
  if (is_f32)
    convert(bytes, 4, tensor.data, read_f32);
  else if (is_f16)
    convert(bytes, 2, tensor.data, [](const uint8_t* p) { return half_to_float(read_u16(p)); });
  else
    convert(bytes, 2, tensor.data, [](const uint8_t* p) { return bfloat16_to_float(read_u16(p)); });
  check_finite(tensor.data, where);
  return tensor;
}

}  // namespace vitrun
