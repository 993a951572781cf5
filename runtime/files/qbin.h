// The .qbin container: graphs, named tensors and typed metadata in one file, mapped and used in
// place.
//
// Specification, version 2.0. Integers and floats are little-endian, floats IEEE 754; nothing but
// blobs is aligned. Header, metadata, graphs and tensor table are the head; the data section
// follows.
//
//  1. Header, 64 bytes (QbinHeader):
//       0  u8[8]   magic 89 51 42 4E 0D 0A 1A 0A ("\x89QBN\r\n\x1a\n"). As in PNG, the bytes show
//                  damage by transfers that change the eighth bit or the line ends.
//       8  u16     major version, 2. Anything else is refused.
//      10  u16     minor version, 0. A newer one is read (point 6).
//      12  u32     CRC-32 (IEEE, as zlib) of the whole head with these four bytes taken as zero.
//      16  u64     size of the file. A file of another size is refused.
//      24  u64     size of the head, a multiple of 64 and <= the size of the file.
//      32  u64     offset of the tensor table.
//      40  u32     number of metadata keys, <= 10000.
//      44  u32     number of tensors, <= 100000.
//      48  u64     offset of the graphs. The metadata takes all bytes from 64 to there, the graphs
//                  take all from there to the tensor table.
//      56  u32     number of graphs, <= 16.
//      60  u32     zero; checked in minor version 0.
//  2. Metadata: one entry per key, keys unique, in any order.
//       u16   length of the key, 1..256
//       u8[]  key: UTF-8 without control characters
//       u8    type, then the value:
//             1  i64
//             2  f64, not NaN
//             3  string: u32 length <= 1 MiB, then UTF-8 without control characters but \t and \n
//             4, 5, 6  array: u32 count <= 2^20, then so many values as of type 1, 2, 3
//     Graphs: models/graph/graph.h describes the nodes, kinds.def gives their numbers. Each graph:
//       name     of the graph, unique
//       u32      number of nodes, <= 65536; per node:
//         u8     kind
//         u8     role
//         i32    block, -1 for none
//         name
//         u8     flags: 1 the node has a unit, 2 the unit is not NAME; 4 it has a weight, 8 the
//                weight is not NAME.weight; 16 it has a bias, 32 the bias is not NAME.bias
//         name   each of unit, weight, bias whose flag 2, 8, 32 is set
//         u8     number of inputs, then u32 each: an earlier node
//         u8     number of attributes, then u8 number and f64 value each, numbers ascending
//       u16      number of outputs, then name and u32 node each
//     A name is u16 length 1..256, then UTF-8 as in a key. A weight or bias is the tensor of that
//     name in the table. infer_shapes() checks whether nodes fit together (models/graph/shapes.h).
//  3. Tensor table: one entry per tensor, names unique, at most 58 bytes beside the name.
//       u16    length of the name, 1..256
//       u8[]   name: as a key
//       u8     data type (DType)
//       u8     bits of a code: 3..8 for kPacked and kCoded, else 0
//       u8     number of dimensions, 0..4; kPacked and kCoded: 2
//       u8     zero
//       u32    CRC-32 of the blob
//       u64    offset of the blob in the file (point 4)
//       u64    size of the blob: the product of the dimensions times the size of an element; for
//              kPacked pack_bytes(N, K, bits) of kernels/pack.h, whose layout the blob has; for
//              kCoded at least N K / 64, and the blob has the layout of coded_weight.h
//       u64[]  dimensions, each >= 1; for kPacked and kCoded N, K <= 2^24
//     Zeros, fewer than 64, fill the head up to its size.
//  4. Data: blobs in the order of the table. Each begins at the first multiple of 64 that is not
//     before the end of the previous one (the first: of the head). So blobs are aligned, cannot
//     overlap and hide nothing. The gaps are zero. The file ends with the last blob.
//  5. Opening a file reads the head alone and checks all of the above except the data section.
//     QbinFile::verify() checks that too: each blob has its CRC-32, and gaps are zero.
//  6. Files of a released version load for ever within a major version. A minor version may only
//     add what an older reader may ignore: new keys, new tensor names, meaning for the header's
//     zeros. A new kind of node, attribute or data type has a number of its own, by which an older
//     reader refuses the files that have it (kCoded came with vitrun 0.2). Anything else is a new
//     major version.
#pragma once

#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "models/graph/graph.h"
#include "runtime/files/mapped_file.h"

namespace vitrun {

static_assert(std::endian::native == std::endian::little, "a .qbin is used in place");

constexpr uint64_t kQbinAlign = 64;
constexpr uint8_t kQbinMagic[8] = {0x89, 'Q', 'B', 'N', '\r', '\n', 0x1a, '\n'};
constexpr uint16_t kQbinMajor = 2, kQbinMinor = 0;

struct QbinHeader {
  uint8_t magic[8];
  uint16_t major_version, minor_version;
  uint32_t checksum;
  uint64_t file_size, head_size, table_offset;
  uint32_t key_count, tensor_count;
  uint64_t graph_offset;
  uint32_t graph_count, zero;
};
static_assert(sizeof(QbinHeader) == 64);

// Computes the checksum that belongs into the header of `head`, which is a whole head.
uint32_t qbin_checksum(std::span<const uint8_t> head);

// The type of a tensor's elements; the numbers are those of the file.
enum class DType : uint8_t {
  kF32 = 1,
  kF16 = 2,
  kI8 = 3,
  kU8 = 4,
  kI16 = 5,
  kI32 = 6,
  kPacked = 7,  // b-bit codes [N, K] in panels (kernels/pack.h)
  kCoded = 8,   // such codes in about as many bits as their entropy (coded_weight.h)
};

struct QbinTensor {
  std::string name;
  DType dtype;
  int bits;  // 3..8 for the codes of kPacked and kCoded, else 0
  Dims dims;
  std::span<const uint8_t> bytes;  // aligned to 64 bytes
  uint32_t crc;
};

// A metadata value; its alternatives are in the order of the file's type numbers, from 1.
using QbinValue = std::variant<int64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

// A .qbin that is open for reading. It is immutable, so many threads may read it. Tensors, their
// bytes and values live as long as the object they came from, or the one it was moved into. Every
// failure names the file (where()) and the tensor or key.
class QbinFile {
 public:
  // Maps the file and checks it as point 5 of the specification says, without touching the data.
  static QbinFile open(const std::string& path);
  // Opens a buffer instead, which must stay alive and unchanged. Blobs are used in place, so a
  // buffer that is not aligned to 64 bytes fails rather than being copied. `where` names it in
  // messages.
  static QbinFile from_memory(std::span<const uint8_t> bytes, std::string where);

  QbinFile(QbinFile&&) = default;
  QbinFile& operator=(QbinFile&&) = default;

  // Reads all the data once and fails with the name of the first tensor whose checksum differs.
  void verify() const;

  // The graphs' nodes and outputs as they stand in the file, not checked by infer_shapes() and
  // without parameters.
  const std::map<std::string, Graph>& graphs() const { return graphs_; }
  // Moves one out, so that it is not in memory twice; graphs() has an empty one in its place.
  Graph take_graph(const std::string& name) { return std::move(graphs_.at(name)); }

  const std::vector<QbinTensor>& tensors() const { return tensors_; }  // in the file's order
  const QbinTensor* find(const std::string& name) const;               // null if there is none

  // A missing key fails unless there is a fallback. A value of another type always fails.
  int64_t get_i64(const std::string& key) const;
  int64_t get_i64(const std::string& key, int64_t fallback) const;
  double get_f64(const std::string& key) const;
  const std::string& get_string(const std::string& key) const;
  const std::vector<int64_t>& get_i64s(const std::string& key) const;
  const std::vector<double>& get_f64s(const std::string& key) const;
  const std::vector<std::string>& get_strings(const std::string& key) const;
  bool has(const std::string& key) const { return metadata_.contains(key); }
  const std::map<std::string, QbinValue>& metadata() const { return metadata_; }

  size_t size() const { return bytes_.size(); }  // bytes of the file
  const std::string& where() const { return where_; }

 private:
  friend class QbinWriter;  // reads back what it wrote, in a buffer of any alignment

  QbinFile(std::span<const uint8_t> bytes, std::string where);
  template <class T>
  const T& get(const std::string& key) const;

  std::optional<MappedFile> mapping_;
  std::span<const uint8_t> bytes_;
  std::string where_;
  uint64_t head_size_ = 0;
  std::map<std::string, QbinValue> metadata_;
  std::map<std::string, Graph> graphs_;
  std::vector<QbinTensor> tensors_;
  std::map<std::string, size_t> index_;  // name -> index into tensors_
};

// Collects metadata, graphs and tensors, then writes them as a .qbin of the current version. The
// same calls give the same bytes: keys are sorted, tensors stay in the order they were added.
class QbinWriter {
 public:
  // A second value for a key, and a second tensor or graph of a name, fail at once. Whatever else
  // the format refuses fails in serialize() and write(), by the reader's own checks.
  void set(const std::string& key, QbinValue value);
  // Adds a graph's nodes and outputs. Its parameters must be added as tensors.
  void add(const std::string& name, Graph graph);
  // Adds a tensor and copies its bytes. `bits` is 3..8 for kPacked and kCoded, else 0.
  void add(const std::string& name, DType dtype, int bits, const Dims& dims,
           std::span<const uint8_t> bytes);

  // Adds a graph of another file under a new name, and all of that file's tensors; its metadata is
  // left out.
  void take_graph(QbinWriter&& from, const std::string& name, const std::string& as);

  void rename_graph(const std::string& name, const std::string& as);

  std::vector<uint8_t> serialize() const;
  // Writes the file, all or nothing (atomic_file.h).
  void write(const std::string& path) const;

 private:
  struct Entry {
    std::string name;
    DType dtype;
    int bits;
    Dims dims;
    std::vector<uint8_t> bytes;
    uint32_t crc;
  };

  std::vector<uint8_t> metadata_section() const;
  std::vector<uint8_t> graph_section() const;
  std::vector<uint8_t> table_section(uint64_t data_start) const;
  std::vector<uint8_t> build(const std::string& where) const;  // returns a whole file, checked

  std::map<std::string, QbinValue> metadata_;
  std::map<std::string, Graph> graphs_;
  std::vector<Entry> tensors_;
  std::set<std::string> names_;
};

}  // namespace vitrun
