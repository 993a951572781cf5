// Writes a .qbin; qbin.h specifies the format.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <type_traits>
#include <utility>

#include "models/base/error.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/crc32.h"
#include "runtime/files/cursor.h"
#include "runtime/files/graph_section.h"
#include "runtime/files/qbin.h"

namespace vitrun {
namespace {

using Buffer = std::vector<uint8_t>;

// Puts a number as the format's narrower type. The reader's tighter limits are checked afterwards.
template <class T, class Number>
void put_as(Buffer& out, Number value) {
  if (!std::in_range<T>(value)) fail("a size or number of ", value, " does not fit a .qbin");
  put(out, static_cast<T>(value));
}

void append(Buffer& out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_name(Buffer& out, const std::string& name) {
  put_as<uint16_t>(out, name.size());
  out.insert(out.end(), name.begin(), name.end());
}

template <class T>
void put_value(Buffer& out, const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    put(out, value);
  } else {
    put_as<uint32_t>(out, value.size());
    if constexpr (std::is_same_v<T, std::string>) {
      out.insert(out.end(), value.begin(), value.end());
    } else {
      for (const auto& element : value) put_value(out, element);
    }
  }
}

void put_node(Buffer& out, const Node& n) {
  put_as<uint8_t>(out, static_cast<int>(n.kind));
  put_as<uint8_t>(out, static_cast<int>(n.role));
  put_as<int32_t>(out, n.block);
  put_name(out, n.name);
  const NodeNames names(n);
  put(out, names.flags());
  for (const std::string* name : names.spelled_out()) put_name(out, *name);
  put_as<uint8_t>(out, n.in.size());
  for (int in : n.in) put_as<uint32_t>(out, in);
  put_as<uint8_t>(out, n.attributes.size());
  for (const auto& [attribute, value] : n.attributes) {
    put_as<uint8_t>(out, static_cast<int>(attribute));
    put(out, value);
  }
}

uint64_t aligned(uint64_t size) {
  return (size + kQbinAlign - 1) / kQbinAlign * kQbinAlign;
}

}  // namespace

void QbinWriter::set(const std::string& key, QbinValue value) {
  if (!metadata_.emplace(key, std::move(value)).second) fail("metadata '", key, "' is set twice");
}

void QbinWriter::add(const std::string& name, DType dtype, int bits, const Dims& dims,
                     std::span<const uint8_t> bytes) {
  if (!names_.insert(name).second) fail("tensor '", name, "' is added twice");
  tensors_.push_back({name, dtype, bits, dims, {bytes.begin(), bytes.end()}, crc32(bytes)});
}

void QbinWriter::add(const std::string& name, Graph graph) {
  if (!graphs_.emplace(name, std::move(graph)).second) fail("graph '", name, "' is added twice");
}

void QbinWriter::take_graph(QbinWriter&& from, const std::string& name, const std::string& as) {
  add(as, std::move(from.graphs_.at(name)));
  for (Entry& t : from.tensors_) {
    if (!names_.insert(t.name).second) fail("tensor '", t.name, "' is added twice");
    tensors_.push_back(std::move(t));
  }
}

void QbinWriter::rename_graph(const std::string& name, const std::string& as) {
  Graph graph = std::move(graphs_.at(name));
  graphs_.erase(name);
  add(as, std::move(graph));
}

Buffer QbinWriter::graph_section() const {
  Buffer out;
  for (const auto& [name, graph] : graphs_) {
    put_name(out, name);
    put_as<uint32_t>(out, graph.nodes.size());
    for (const Node& n : graph.nodes) put_node(out, n);
    put_as<uint16_t>(out, graph.outputs.size());
    for (const Output& o : graph.outputs) {
      put_name(out, o.name);
      put_as<uint32_t>(out, o.node);
    }
  }
  return out;
}

Buffer QbinWriter::metadata_section() const {
  Buffer out;
  for (const auto& [key, value] : metadata_) {
    put_name(out, key);
    put_as<uint8_t>(out, value.index() + 1);
    std::visit([&](const auto& alternative) { put_value(out, alternative); }, value);
  }
  return out;
}

Buffer QbinWriter::table_section(uint64_t data_start) const {
  Buffer out;
  uint64_t end = data_start;
  for (const Entry& tensor : tensors_) {
    const uint64_t offset = aligned(end), size = tensor.bytes.size();
    put_name(out, tensor.name);
    put(out, tensor.dtype);
    put_as<uint8_t>(out, tensor.bits);
    put_as<uint8_t>(out, tensor.dims.size());
    put(out, uint8_t{0});
    put(out, tensor.crc);
    put(out, offset);
    put(out, size);
    for (int64_t dim : tensor.dims) put(out, dim);
    end = offset + size;
  }
  return out;
}

Buffer QbinWriter::build(const std::string& where) const {
  const Buffer metadata = metadata_section(), graphs = graph_section();
  const size_t table_size = table_section(0).size();  // does not depend on where the data starts

  QbinHeader header{};
  std::copy(std::begin(kQbinMagic), std::end(kQbinMagic), header.magic);
  header.major_version = kQbinMajor;
  header.minor_version = kQbinMinor;
  header.graph_offset = sizeof header + metadata.size();
  header.table_offset = header.graph_offset + graphs.size();
  header.head_size = aligned(header.table_offset + table_size);
  header.file_size = header.head_size;
  for (const Entry& tensor : tensors_) {
    header.file_size = aligned(header.file_size) + tensor.bytes.size();
  }
  header.key_count = static_cast<uint32_t>(metadata_.size());
  header.graph_count = static_cast<uint32_t>(graphs_.size());
  header.tensor_count = static_cast<uint32_t>(tensors_.size());

  Buffer file(sizeof header);
  file.reserve(header.file_size);
  append(file, metadata);
  append(file, graphs);
  append(file, table_section(header.head_size));
  for (const Entry& tensor : tensors_) {
    file.resize(aligned(file.size()));
    append(file, tensor.bytes);
  }
  file.resize(header.file_size);  // pads the head if there are no tensors
  std::memcpy(file.data(), &header, sizeof header);
  header.checksum = qbin_checksum(std::span(file).first(header.head_size));
  std::memcpy(file.data(), &header, sizeof header);
  const QbinFile checked(file, where);  // fails where the format's limits are not kept
  return file;
}

Buffer QbinWriter::serialize() const {
  return build(".qbin in memory");
}

void QbinWriter::write(const std::string& path) const {
  write_file(path, build(path));
}

}  // namespace vitrun
