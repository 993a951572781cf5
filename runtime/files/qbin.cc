// Reads a .qbin. Point numbers are those of the specification in qbin.h.
#include "runtime/files/qbin.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kernels/pack.h"
#include "models/base/error.h"
#include "runtime/files/coded_weight.h"
#include "runtime/files/crc32.h"
#include "runtime/files/cursor.h"
#include "runtime/files/graph_section.h"

namespace vitrun {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr uint32_t kMaxKeys = 10000, kMaxTensors = 100000, kMaxGraphs = 16;
constexpr size_t kMaxString = 1 << 20, kMaxArray = 1 << 20;
constexpr int kMaxRank = 4;
constexpr int64_t kMaxPackedDim = 1 << 24;  // below it pack_bytes() cannot overflow
constexpr const char* kTypeNames[] = {"i64",          "f64",          "string",
                                      "array of i64", "array of f64", "array of strings"};

bool all_zero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

void check_magic(Bytes bytes, const std::string& where) {
  const size_t count = std::min(bytes.size(), sizeof kQbinMagic);
  if (std::equal(kQbinMagic, kQbinMagic + count, bytes.begin())) return;
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), count);
  if (start.find("QBN") != start.npos) {
    fail(where, ": a .qbin damaged in its first bytes, as by a transfer in text mode; ",
         "copy it again in binary mode");
  }
  fail(where, ": not a .qbin file (its first bytes are not the magic \\x89QBN)");
}

// Checks point 1, except the magic and the version.
void check_header(const QbinHeader& header, Bytes bytes, const std::string& where) {
  if (header.file_size > bytes.size()) {
    fail(where, ": truncated: expected ", header.file_size, " bytes, found ", bytes.size());
  }
  if (header.file_size < bytes.size()) {
    fail(where, ": ", bytes.size() - header.file_size, " bytes after the end: expected ",
         header.file_size, " bytes, found ", bytes.size());
  }
  if (header.head_size < sizeof header || header.head_size > header.file_size ||
      header.head_size % kQbinAlign != 0) {
    fail(where, ": head size ", header.head_size, " is not a multiple of ", kQbinAlign, " in ",
         sizeof header, "..", header.file_size);
  }
  const uint32_t checksum = qbin_checksum(bytes.first(header.head_size));
  if (checksum != header.checksum) fail(where, ": the head is damaged (its checksum differs)");
  if (header.table_offset < sizeof header || header.table_offset > header.head_size) {
    fail(where, ": tensor table offset ", header.table_offset, " is not in ", sizeof header, "..",
         header.head_size);
  }
  if (header.graph_offset < sizeof header || header.graph_offset > header.table_offset) {
    fail(where, ": graph offset ", header.graph_offset, " is not in ", sizeof header, "..",
         header.table_offset);
  }
  if (header.graph_count > kMaxGraphs) {
    fail(where, ": expected at most ", kMaxGraphs, " graphs, found ", header.graph_count);
  }
  if (header.key_count > kMaxKeys) {
    fail(where, ": expected at most ", kMaxKeys, " metadata keys, found ", header.key_count);
  }
  if (header.tensor_count > kMaxTensors) {
    fail(where, ": expected at most ", kMaxTensors, " tensors, found ", header.tensor_count);
  }
  if (header.minor_version <= kQbinMinor && header.zero != 0) {
    fail(where, ": the header's reserved bytes are not zero");
  }
}

QbinHeader read_header(Bytes bytes, const std::string& where) {
  QbinHeader header;
  if (bytes.empty()) fail(where, ": expected a .qbin file, found an empty one");
  check_magic(bytes, where);
  if (bytes.size() < sizeof header) {
    fail(where, ": truncated: expected a header of ", sizeof header, " bytes, found ",
         bytes.size());
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.major_version == 1) {
    fail(where, ": made by vitrun 0.1 (format version 1), whose files hold no graph; ",
         "make it again with vitquant");
  }
  if (header.major_version != kQbinMajor) {
    fail(where, ": format version ", header.major_version, ".", header.minor_version,
         header.major_version > kQbinMajor ? ", made by a newer vitrun; " : "; ",
         "this one reads version ", kQbinMajor);
  }
  check_header(header, bytes, where);
  return header;
}

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

template <class T>
T read_value(Cursor& cursor) {
  if constexpr (IsVector<T>::value) {
    using Element = typename T::value_type;
    constexpr size_t kLeast = std::is_arithmetic_v<Element> ? sizeof(Element) : sizeof(uint32_t);
    const size_t count = cursor.number<uint32_t>();
    if (count > kMaxArray) {
      cursor.fail_item("expected an array of at most ", kMaxArray, " values, found ", count);
    }
    if (count > cursor.left().size() / kLeast) {
      cursor.fail_item("an array of ", count, " values does not fit the ", cursor.left().size(),
                       " bytes left");
    }
    T values(count);
    for (Element& value : values) value = read_value<Element>(cursor);
    return values;
  } else if constexpr (std::is_same_v<T, std::string>) {
    const size_t length = cursor.number<uint32_t>();
    if (length > kMaxString) {
      cursor.fail_item("expected a string of at most ", kMaxString, " bytes, found ", length);
    }
    return cursor.text(length, "string", "\t\n");
  } else {
    const T value = cursor.number<T>();
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(value)) cursor.fail_item("expected a number, found NaN");
    }
    return value;
  }
}

// Reads a value of the alternative that the file's type number selects.
template <size_t kType = 0>
QbinValue read_typed(Cursor& cursor, size_t type) {
  if constexpr (kType < std::variant_size_v<QbinValue>) {
    if (type != kType + 1) return read_typed<kType + 1>(cursor, type);
    return read_value<std::variant_alternative_t<kType, QbinValue>>(cursor);
  } else {
    cursor.fail_item("unknown value type ", type);
  }
}

std::map<std::string, QbinValue> read_metadata(Bytes bytes, uint32_t count,
                                               const std::string& where) {
  std::map<std::string, QbinValue> metadata;
  Cursor cursor(bytes, where);
  for (uint32_t i = 0; i < count; i++) {
    cursor.begin_item("metadata key ", i);
    const std::string key = cursor.name();
    cursor.begin_item("metadata '", key, "'");
    const size_t type = cursor.number<uint8_t>();
    QbinValue value = read_typed(cursor, type);
    if (!metadata.emplace(key, std::move(value)).second) cursor.fail_item("the key is there twice");
  }
  if (!cursor.left().empty()) {
    fail(where, ": metadata: ", cursor.left().size(), " bytes after the last key");
  }
  return metadata;
}

// Returns the bytes of an element, 0 for codes of a weight and -1 for an unknown type.
int element_size(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kI16:
      return 2;
    case DType::kI8:
    case DType::kU8:
      return 1;
    case DType::kPacked:
    case DType::kCoded:
      return 0;
  }
  return -1;
}

// Returns the bytes of a weight's codes; of kCoded, the least.
int64_t codes_size(const QbinTensor& tensor, const Cursor& cursor) {
  const Dims& dims = tensor.dims;
  if (tensor.bits < kMinBits || tensor.bits > kMaxBits) {
    cursor.fail_item("expected ", kMinBits, "..", kMaxBits, " bits, found ", tensor.bits);
  }
  if (dims.size() != 2 || std::max(dims[0], dims[1]) > kMaxPackedDim) {
    cursor.fail_item("expected codes [N, K] with N, K <= ", kMaxPackedDim, ", found ",
                     to_string(dims));
  }
  if (tensor.dtype == DType::kCoded) return dims[0] * dims[1] / kMaxCodesPerByte;
  return pack_bytes(static_cast<int>(dims[0]), static_cast<int>(dims[1]), tensor.bits);
}

// Returns the bytes that a blob of this type, bits and dimensions must have; of kCoded, the least.
int64_t blob_size(const QbinTensor& tensor, const Cursor& cursor) {
  for (int64_t dim : tensor.dims) {
    if (dim < 1) cursor.fail_item("expected dimensions >= 1, found ", to_string(tensor.dims));
  }
  int64_t size = element_size(tensor.dtype);
  if (size < 0) cursor.fail_item("unknown data type ", static_cast<int>(tensor.dtype));
  if (size == 0) return codes_size(tensor, cursor);
  if (tensor.bits != 0) cursor.fail_item("expected 0 bits (no codes), found ", tensor.bits);
  for (int64_t dim : tensor.dims) {
    if (__builtin_mul_overflow(size, dim, &size)) {
      cursor.fail_item("dimensions ", to_string(tensor.dims), " overflow");
    }
  }
  return size;
}

// Checks point 4 for one blob; `end` is the end of the blob before it.
void check_place(uint64_t offset, uint64_t size, uint64_t end, uint64_t file_size,
                 const Cursor& cursor) {
  if (offset % kQbinAlign != 0) {
    cursor.fail_item("offset ", offset, " is not a multiple of ", kQbinAlign);
  }
  if (offset > file_size || size > file_size - offset) {
    cursor.fail_item(size, " bytes at ", offset, " pass the end of the file at ", file_size);
  }
  if (offset < end) {
    cursor.fail_item("offset ", offset, " overlaps what comes before it, up to ", end);
  }
  if (offset - end >= kQbinAlign) {
    cursor.fail_item("offset ", offset, " leaves a gap of ", offset - end, " bytes before it");
  }
}

QbinTensor read_tensor(Cursor& cursor, Bytes file, uint64_t end) {
  QbinTensor tensor;
  tensor.name = cursor.name();
  cursor.begin_item("tensor '", tensor.name, "'");
  tensor.dtype = static_cast<DType>(cursor.number<uint8_t>());
  tensor.bits = cursor.number<uint8_t>();
  const int rank = cursor.number<uint8_t>();
  if (rank > kMaxRank) {
    cursor.fail_item("expected at most ", kMaxRank, " dimensions, found ", rank);
  }
  if (cursor.number<uint8_t>() != 0) cursor.fail_item("the reserved byte is not zero");
  tensor.crc = cursor.number<uint32_t>();
  const uint64_t offset = cursor.number<uint64_t>();
  const uint64_t size = cursor.number<uint64_t>();
  for (int i = 0; i < rank; i++) tensor.dims.push_back(cursor.number<int64_t>());
  const auto expected = static_cast<uint64_t>(blob_size(tensor, cursor));
  const bool coded = tensor.dtype == DType::kCoded;
  if (coded ? size < expected : size != expected) {
    cursor.fail_item("expected ", coded ? "at least " : "", expected, " bytes for ",
                     to_string(tensor.dims), ", found ", size);
  }
  check_place(offset, size, end, file.size(), cursor);
  tensor.bytes = file.subspan(offset, size);
  return tensor;
}

}  // namespace

uint32_t qbin_checksum(Bytes head) {
  constexpr size_t kAt = offsetof(QbinHeader, checksum);
  constexpr uint8_t kNone[sizeof(QbinHeader::checksum)] = {};
  const uint32_t before = crc32(kNone, crc32(head.first(kAt)));
  return crc32(head.subspan(kAt + sizeof kNone), before);
}

QbinFile::QbinFile(Bytes bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {
  const QbinHeader header = read_header(bytes_, where_);
  head_size_ = header.head_size;
  const Bytes head = bytes_.first(head_size_);
  metadata_ = read_metadata(head.first(header.graph_offset).subspan(sizeof header),
                            header.key_count, where_);
  graphs_ = read_graphs(head.first(header.table_offset).subspan(header.graph_offset),
                        header.graph_count, where_);
  Cursor cursor(head.subspan(header.table_offset), where_);
  uint64_t end = head_size_;
  for (uint32_t i = 0; i < header.tensor_count; i++) {
    cursor.begin_item("tensor ", i);
    QbinTensor tensor = read_tensor(cursor, bytes_, end);
    if (!index_.emplace(tensor.name, i).second) cursor.fail_item("the name is there twice");
    end = static_cast<uint64_t>(tensor.bytes.data() - bytes_.data()) + tensor.bytes.size();
    tensors_.push_back(std::move(tensor));
  }
  if (cursor.left().size() >= kQbinAlign || !all_zero(cursor.left())) {
    fail(where_, ": tensor table: expected fewer than ", kQbinAlign, " zeros after it, found ",
         cursor.left().size(), " bytes");
  }
  if (end != bytes_.size()) {
    fail(where_, ": ", bytes_.size() - end, " bytes after the last tensor");
  }
}

QbinFile QbinFile::open(const std::string& path) {
  MappedFile mapping(path);
  QbinFile file(mapping.bytes(), path);
  file.mapping_ = std::move(mapping);
  return file;
}

QbinFile QbinFile::from_memory(Bytes bytes, std::string where) {
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kQbinAlign != 0) {
    fail(where, ": expected a buffer aligned to ", kQbinAlign, " bytes");
  }
  return QbinFile(bytes, std::move(where));
}

void QbinFile::verify() const {
  size_t end = head_size_;
  for (const QbinTensor& tensor : tensors_) {
    const size_t start = static_cast<size_t>(tensor.bytes.data() - bytes_.data());
    if (!all_zero(bytes_.subspan(end, start - end))) {
      fail(where_, ": tensor '", tensor.name, "': the gap before its data is not zero");
    }
    if (crc32(tensor.bytes) != tensor.crc) {
      fail(where_, ": tensor '", tensor.name, "': the data is damaged (its checksum differs)");
    }
    end = start + tensor.bytes.size();
  }
}

const QbinTensor* QbinFile::find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

template <class T>
const T& QbinFile::get(const std::string& key) const {
  const auto it = metadata_.find(key);
  if (it == metadata_.end()) fail(where_, ": metadata '", key, "' is missing");
  if (const T* value = std::get_if<T>(&it->second)) return *value;
  fail(where_, ": metadata '", key, "': expected ", kTypeNames[QbinValue(T()).index()], ", found ",
       kTypeNames[it->second.index()]);
}

int64_t QbinFile::get_i64(const std::string& key) const {
  return get<int64_t>(key);
}

int64_t QbinFile::get_i64(const std::string& key, int64_t fallback) const {
  return has(key) ? get<int64_t>(key) : fallback;
}

double QbinFile::get_f64(const std::string& key) const {
  return get<double>(key);
}

const std::string& QbinFile::get_string(const std::string& key) const {
  return get<std::string>(key);
}

const std::vector<int64_t>& QbinFile::get_i64s(const std::string& key) const {
  return get<std::vector<int64_t>>(key);
}

const std::vector<double>& QbinFile::get_f64s(const std::string& key) const {
  return get<std::vector<double>>(key);
}

const std::vector<std::string>& QbinFile::get_strings(const std::string& key) const {
  return get<std::vector<std::string>>(key);
}

}  // namespace vitrun
