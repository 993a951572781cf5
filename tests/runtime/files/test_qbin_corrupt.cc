// .qbin files made by hand that each break one rule of runtime/files/qbin.h, and exhaustive damage
// to a small one.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "runtime/files/crc32.h"
#include "runtime/files/qbin.h"
#include "tests/runtime/files/qbin_testing.h"

using namespace vitrun;

namespace {

std::string open_error(const Buffer& bytes) {
  const Aligned aligned(bytes);
  return error_of([&] { QbinFile::from_memory(aligned.bytes(), "m.qbin"); });
}

void put_u32(Buffer& bytes, size_t at, uint32_t value) {
  std::memcpy(&bytes[at], &value, sizeof value);
}

// The head's size and checksum lie at 24 and 12.
void fix_checksum(Buffer& bytes) {
  uint64_t head_size;
  std::memcpy(&head_size, &bytes[24], sizeof head_size);
  put_u32(bytes, 12, 0);
  put_u32(bytes, 12, crc32(std::span(bytes).first(head_size)));
}

// A .qbin put together field by field, to be broken in one place; checksums are right unless set.
struct HandTensor {
  std::string name;
  uint8_t dtype, bits;
  std::vector<int64_t> dims;
  uint64_t offset, size;  // offset from the start of the data
  uint8_t rank = static_cast<uint8_t>(dims.size()), reserved = 0;
};

class Emitter {
 public:
  template <class T>
  Emitter& put(T value) {
    const auto* p = reinterpret_cast<const uint8_t*>(&value);
    bytes.insert(bytes.end(), p, p + sizeof value);
    return *this;
  }
  Emitter& text(const std::string& value) {
    bytes.insert(bytes.end(), value.begin(), value.end());
    return *this;
  }
  Emitter& name(const std::string& value) {
    return put(static_cast<uint16_t>(value.size())).text(value);
  }
  Buffer bytes;
};

struct HandNode {
  uint8_t kind = 0, role = 0;
  std::string name = "n";
  uint8_t flags = 0;
  std::vector<std::string> names = {};  // that the flags spell out
  std::vector<uint32_t> inputs = {};
  std::vector<std::pair<uint8_t, double>> attributes = {};
};

struct HandGraph {
  std::string name;
  std::vector<HandNode> nodes;
  std::vector<std::pair<std::string, uint32_t>> outputs;
  // The lengths that it says those have.
  uint32_t node_count = static_cast<uint32_t>(nodes.size());
  uint16_t output_count = static_cast<uint16_t>(outputs.size());
};

struct HandFile {
  Emitter metadata;
  uint32_t keys = 0;
  std::vector<HandGraph> graphs;
  std::string after_graphs;
  std::vector<HandTensor> tensors;
  size_t data_size = 0;
  std::string after_table;
  std::function<void(QbinHeader&)> patch = [](QbinHeader&) {};

  Emitter& key(const std::string& name, uint8_t type) {
    keys++;
    return metadata.name(name).put(type);
  }
  Buffer build() const;

 private:
  Buffer graph_section() const;
  Buffer table(uint64_t data_start) const;
};

Buffer HandFile::graph_section() const {
  Emitter out;
  for (const HandGraph& g : graphs) {
    out.name(g.name).put(g.node_count);
    for (const HandNode& n : g.nodes) {
      out.put(n.kind).put(n.role).put(int32_t{-1}).name(n.name).put(n.flags);
      for (const std::string& name : n.names) out.name(name);
      out.put(static_cast<uint8_t>(n.inputs.size()));
      for (uint32_t in : n.inputs) out.put(in);
      out.put(static_cast<uint8_t>(n.attributes.size()));
      for (const auto& [attribute, value] : n.attributes) out.put(attribute).put(value);
    }
    out.put(g.output_count);
    for (const auto& [name, node] : g.outputs) out.name(name).put(node);
  }
  return out.text(after_graphs).bytes;
}

Buffer HandFile::table(uint64_t data_start) const {
  Emitter out;
  for (const HandTensor& t : tensors) {
    out.name(t.name).put(t.dtype).put(t.bits).put(t.rank).put(t.reserved).put(uint32_t{0});
    out.put(data_start + t.offset).put(t.size);
    for (int64_t dim : t.dims) out.put(dim);
  }
  return out.text(after_table).bytes;
}

Buffer HandFile::build() const {
  const Buffer graph_bytes = graph_section();
  const uint64_t graphs_at = 64 + metadata.bytes.size(), table_at = graphs_at + graph_bytes.size();
  const uint64_t head_size = (table_at + table(0).size() + 63) / 64 * 64;
  QbinHeader header{{0x89, 'Q', 'B', 'N', '\r', '\n', 0x1a, '\n'},
                    2,
                    0,
                    0,
                    head_size + data_size,
                    head_size,
                    table_at,
                    keys,
                    static_cast<uint32_t>(tensors.size()),
                    graphs_at,
                    static_cast<uint32_t>(graphs.size()),
                    0};
  patch(header);
  Emitter out;
  out.put(header);
  out.text({metadata.bytes.begin(), metadata.bytes.end()});
  out.text({graph_bytes.begin(), graph_bytes.end()});
  const Buffer entries = table(head_size);
  out.text({entries.begin(), entries.end()});
  out.bytes.resize(head_size + data_size);
  put_u32(out.bytes, 12, 0);
  put_u32(out.bytes, 12, crc32(std::span(out.bytes).first(head_size)));
  return out.bytes;
}

// One key of type i64; a graph of an input and of a sum with names of all kinds; "a": three floats;
// after a gap "b": 4-bit codes [16, 32], 256 bytes.
HandFile hand_file() {
  HandFile file;
  file.key("k", 1).put(int64_t{7});
  file.graphs = {{.name = "g",
                  .nodes = {{.attributes = {{0, 3.0}, {3, 1.0}}},
                            {.kind = 8,
                             .role = 11,
                             .name = "s",
                             .flags = 1 | 12 | 16,
                             .names = {"w"},
                             .inputs = {0, 0},
                             .attributes = {{15, 2.0}}}},
                  .outputs = {{"x", 0}, {"y", 1}}}};
  file.tensors = {{"a", 1, 0, {3}, 0, 12}, {"b", 7, 4, {16, 32}, 64, 256}};
  file.data_size = 320;
  return file;
}

struct Corrupt {
  std::function<void(HandFile&)> damage;
  const char* message;
};

void check_all(const std::vector<Corrupt>& table) {
  for (const Corrupt& corrupt : table) {
    HandFile file = hand_file();
    corrupt.damage(file);
    const std::string error = open_error(file.build());
    INFO("found: " << error);
    INFO("expected: " << std::string(corrupt.message));
    CHECK(contains(error, corrupt.message));
    CHECK(error.starts_with("m.qbin: "));
  }
}

}  // namespace

TEST_CASE("qbin: a corrupt or foreign start") {
  Buffer good = hand_file().build();
  CHECK(open_error(good) == "no error");
  CHECK(contains(open_error({}), "found an empty one"));
  CHECK(contains(open_error({'{', '}'}), "not a .qbin file"));
  Buffer png = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  CHECK(contains(open_error(png), "not a .qbin file"));

  Buffer unix_lines = good, dos_lines = good, seven_bits = good;
  unix_lines.erase(unix_lines.begin() + 4);
  dos_lines.insert(dos_lines.begin() + 5, '\r');
  seven_bits[0] = 0x09;
  for (const Buffer& text : {unix_lines, dos_lines, seven_bits}) {
    CHECK(contains(open_error(text), "by a transfer in text mode"));
  }

  Buffer head_only(good.begin(), good.begin() + 40);
  CHECK(contains(open_error(head_only), "truncated: expected a header of 64 bytes, found 40"));
  Buffer shorter = good, longer = good;
  shorter.pop_back();
  longer.push_back(0);
  CHECK(contains(open_error(shorter), cat("truncated: expected ", good.size(), " bytes, found ")));
  CHECK(contains(open_error(longer), "1 bytes after the end"));
  good[70] ^= 1;
  CHECK(contains(open_error(good), "the head is damaged (its checksum differs)"));
}

TEST_CASE("qbin: every rule for the header") {
  using H = QbinHeader;
  auto header = [](std::function<void(H&)> patch) {
    return [patch](HandFile& file) { file.patch = patch; };
  };
  check_all({
      {header([](H& h) { h.major_version = 3; }), "version 3.0, made by a newer vitrun"},
      {header([](H& h) { h.major_version = 1; }), "made by vitrun 0.1 (format version 1), whose"},
      {header([](H& h) { h.major_version = 0; }), "version 0.0; this one reads version 2"},
      {header([](H& h) { h.file_size = UINT64_MAX; }), "truncated: expected 18446744073709551615"},
      {header([](H& h) { h.head_size = UINT64_MAX - 63; }), "head size 18446744073709551552"},
      {header([](H& h) { h.head_size = 0; }), "head size 0 is not"},
      {header([](H& h) { h.head_size += 1; }), "is not a multiple of 64"},
      {header([](H& h) { h.table_offset = 63; }), "tensor table offset 63"},
      {header([](H& h) { h.table_offset = UINT64_MAX; }), "table offset 18446744073709551615"},
      {header([](H& h) { h.graph_offset = 63; }), "graph offset 63 is not in 64.."},
      {header([](H& h) { h.graph_offset = h.table_offset + 1; }), "graph offset "},
      {header([](H& h) { h.graph_offset = UINT64_MAX; }), "graph offset 18446744073709551615"},
      {header([](H& h) { h.graph_count = 17; }), "at most 16 graphs, found 17"},
      {header([](H& h) { h.key_count = 10001; }), "at most 10000 metadata keys, found 10001"},
      {header([](H& h) { h.tensor_count = 100001; }), "at most 100000 tensors, found 100001"},
      {header([](H& h) { h.zero = 1 << 31; }), "reserved bytes are not zero"},
      {header([](H& h) { h.key_count = 2; }), "metadata key 1: expected 2 more bytes"},
      {header([](H& h) { h.key_count = 0; }), "metadata: 12 bytes after the last key"},
      {header([](H& h) { h.graph_count = 2; }), "graph 1: expected 2 more bytes, but its section"},
      {header([](H& h) { h.graph_count = 0; }), "graphs: 85 bytes after the last graph"},
      {header([](H& h) { h.tensor_count = 3; }), "tensor 2: expected a name of 1..256"},
      {header([](H& h) { h.tensor_count = 1; }), "tensor table: expected fewer than 64 zeros"},
  });
  HandFile newer = hand_file();
  newer.patch = [](H& h) { h.minor_version = 7, h.zero = 1; };
  CHECK(open_error(newer.build()) == "no error");
}

TEST_CASE("qbin: every rule for metadata") {
  const std::string long_name(257, 'x');
  check_all({
      {[](HandFile& f) { f.key("", 1); }, "metadata key 1: expected a name of 1..256 bytes"},
      {[&](HandFile& f) { f.key(long_name, 1); }, "bytes, found 257"},
      {[](HandFile& f) { f.key("a\n", 1); }, "the name is not UTF-8 text"},
      {[](HandFile& f) { f.key("\x7F", 1); }, "the name is not UTF-8 text"},
      {[](HandFile& f) { f.key("\xC2\x9B", 1); }, "the name is not UTF-8 text"},      // C1 control
      {[](HandFile& f) { f.key("\xC0\xAF", 1); }, "the name is not UTF-8 text"},      // overlong
      {[](HandFile& f) { f.key("\xED\xA0\x80", 1); }, "the name is not UTF-8 text"},  // surrogate
      {[](HandFile& f) { f.key("\xF4\x90\x80\x80", 1); }, "the name is not UTF-8"},   // > 10FFFF
      {[](HandFile& f) { f.key("a\xE2\x82", 1); }, "the name is not UTF-8 text"},     // cut off
      {[](HandFile& f) { f.key("\x80", 1); }, "the name is not UTF-8 text"},
      {[](HandFile& f) { f.key("k", 1).put(int64_t{8}); }, "metadata 'k': the key is there twice"},
      {[](HandFile& f) { f.key("t", 0); }, "metadata 't': unknown value type 0"},
      {[](HandFile& f) { f.key("t", 7); }, "metadata 't': unknown value type 7"},
      {[](HandFile& f) { f.key("i", 1).put(1); }, "expected 8 more bytes, but its section ends"},
      {[](HandFile& f) { f.key("f", 2).put(std::numeric_limits<double>::quiet_NaN()); },
       "metadata 'f': expected a number, found NaN"},
      {[](HandFile& f) { f.key("s", 3).put(uint32_t{5}).text("four"); }, "expected 5 more bytes"},
      {[](HandFile& f) { f.key("s", 3).put(uint32_t{(1 << 20) + 1}); },
       "expected a string of at most 1048576 bytes, found 1048577"},
      {[](HandFile& f) { f.key("s", 3).put(uint32_t{2}).text("\x1b["); },
       "metadata 's': the string is not UTF-8 text"},
      {[](HandFile& f) { f.key("a", 4).put(uint32_t{(1 << 20) + 1}); },
       "expected an array of at most 1048576 values, found 1048577"},
      {[](HandFile& f) { f.key("a", 4).put(uint32_t{2}).put(int64_t{1}); },
       "an array of 2 values does not fit the 8 bytes left"},
      {[](HandFile& f) { f.key("a", 6).put(uint32_t{1 << 20}).put(uint32_t{0}); },
       "an array of 1048576 values does not fit the 4 bytes left"},
      {[](HandFile& f) { f.key("a", 5).put(uint32_t{1}).put(std::nan("")); }, "found NaN"},
  });
}

TEST_CASE("qbin: every rule for graphs") {
  using N = HandNode;
  const auto graph = [](std::function<void(HandGraph&)> patch) {
    return [patch](HandFile& file) { patch(file.graphs[0]); };
  };
  const auto node = [](std::function<void(N&)> patch) {
    return [patch](HandFile& file) { patch(file.graphs[0].nodes[1]); };
  };
  const auto flags = [&](uint8_t value) { return node([value](N& n) { n.flags = value; }); };
  const std::string long_name(257, 'x');
  const double nan = std::nan("");
  check_all({
      {graph([](HandGraph& g) { g.name = ""; }), "graph 0: expected a name of 1..256 bytes"},
      {graph([](HandGraph& g) { g.name = "\n"; }), "graph 0: the name is not UTF-8 text"},
      {[](HandFile& f) { f.graphs.push_back(f.graphs[0]); }, "graph 'g': is there twice"},
      {[](HandFile& f) { f.after_graphs = "x"; }, "graphs: 1 bytes after the last graph"},
      {graph([](HandGraph& g) { g.node_count = 65537; }),
       "graph 'g': expected at most 65536 nodes, found 65537"},
      {graph([](HandGraph& g) { g.node_count = 65536; }), "graph 'g', node 2"},
      {graph([](HandGraph& g) { g.node_count = 1; }), "graph 'g': expected at most 64 outputs"},
      {node([](N& n) { n.kind = kNodeKinds; }),
       "graph 'g', node 1: kind 19, this version knows those below 19"},
      {node([](N& n) { n.kind = 255; }), "graph 'g', node 1: kind 255, this version knows"},
      {node([](N& n) { n.role = 17; }),
       "graph 'g', node 1: role 17, this version knows those below 17"},
      {node([](N& n) { n.name = ""; }), "graph 'g', node 1: expected a name of 1..256 bytes"},
      {node([&](N& n) { n.name = long_name; }), "graph 'g', node 1: expected a name of 1..256"},
      {node([](N& n) { n.name = "\x80"; }), "graph 'g', node 1: the name is not UTF-8 text"},
      {flags(2), "graph 'g', node 1 's': flags 2"},  // names spelled out that it does not have
      {flags(8), "graph 'g', node 1 's': flags 8"},
      {flags(32), "graph 'g', node 1 's': flags 32"},
      {flags(1 | 12 | 16 | 64), "graph 'g', node 1 's': flags 93"},
      {flags(1 | 12 | 16 | 128), "graph 'g', node 1 's': flags 157"},
      {node([](N& n) { n.names[0] = ""; }), "graph 'g', node 1 's': expected a name of 1..256"},
      {node([](N& n) { n.names[0] = "\x1b"; }), "graph 'g', node 1 's': the name is not UTF-8"},
      {node([](N& n) { n.inputs[1] = 65536; }), "'s': reads node 65536 of at most 65536"},
      {node([](N& n) { n.inputs[0] = UINT32_MAX; }), "'s': reads node 4294967295 of at most"},
      {node([](N& n) { n.attributes[0].first = 35; }),
       "graph 'g', node 1 's': attribute 35, this version knows those below 35"},
      {node([&](N& n) { n.attributes[0].second = nan; }), "graph 'g', node 1 's': alpha is NaN"},
      {node([](N& n) {
         n.attributes.push_back({15, 3});
       }),
       "graph 'g', node 1 's': attributes do not ascend"},
      {node([](N& n) {
         n.attributes.push_back({14, 3});
       }),
       "graph 'g', node 1 's': attributes do not ascend"},
      {graph([](HandGraph& g) { g.output_count = 65; }),
       "graph 'g': expected at most 64 outputs, found 65"},
      {graph([](HandGraph& g) { g.output_count = 3; }), "graph 'g': expected 2 more bytes"},
      {graph([](HandGraph& g) { g.output_count = 1; }), "graphs: 7 bytes after the last graph"},
      {graph([](HandGraph& g) { g.outputs[0].first = ""; }), "graph 'g': expected a name of 1.."},
      {graph([](HandGraph& g) { g.outputs[1].second = 2; }),
       "graph 'g': output 'y' is node 2 of 2"},
      {graph([](HandGraph& g) { g.outputs[1].second = UINT32_MAX; }),
       "graph 'g': output 'y' is node 4294967295 of 2"},
      {graph([](HandGraph& g) { g.outputs[1].first = "x"; }),
       "graph 'g': output 'x' is there twice"},
  });
}

TEST_CASE("qbin: every rule for tensors") {
  using T = HandTensor;
  auto a = [](std::function<void(T&)> patch) {
    return [patch](HandFile& file) { patch(file.tensors[0]); };
  };
  auto b = [](std::function<void(T&)> patch) {
    return [patch](HandFile& file) { patch(file.tensors[1]); };
  };
  check_all({
      {a([](T& t) { t.name = ""; }), "tensor 0: expected a name of 1..256 bytes, found 0"},
      {a([](T& t) { t.name = "\x01"; }), "tensor 0: the name is not UTF-8 text"},
      {b([](T& t) { t.name = "a"; }), "tensor 'a': the name is there twice"},
      {a([](T& t) { t.dtype = 0; }), "tensor 'a': unknown data type 0"},
      {a([](T& t) { t.dtype = 9; }), "tensor 'a': unknown data type 9"},
      {a([](T& t) { t.bits = 8; }), "tensor 'a': expected 0 bits (no codes), found 8"},
      {a([](T& t) { t.rank = 5; }), "tensor 'a': expected at most 4 dimensions, found 5"},
      {b([](T& t) { t.rank = 200; }), "tensor 'b': expected at most 4 dimensions, found 200"},
      {a([](T& t) { t.reserved = 1; }), "tensor 'a': the reserved byte is not zero"},
      {a([](T& t) { t.dims = {0}; }), "tensor 'a': expected dimensions >= 1, found [0]"},
      {a([](T& t) { t.dims = {-3}; }), "tensor 'a': expected dimensions >= 1, found [-3]"},
      {a([](T& t) { t.dims = {INT64_MAX}; }), "tensor 'a': dimensions [9223372036854775807] over"},
      {a([](T& t) { t.dims = {4}; }), "tensor 'a': expected 16 bytes for [4], found 12"},
      {a([](T& t) { t.size = 13; }), "tensor 'a': expected 12 bytes for [3], found 13"},
      {a([](T& t) { t.dtype = 2; }), "tensor 'a': expected 6 bytes for [3], found 12"},
      {b([](T& t) { t.bits = 2; }), "tensor 'b': expected 3..8 bits, found 2"},
      {b([](T& t) { t.bits = 9; }), "tensor 'b': expected 3..8 bits, found 9"},
      {b([](T& t) { t.bits = 5; }), "tensor 'b': expected 320 bytes for [16, 32], found 256"},
      {b([](T& t) {
         t.dims = {17, 32};
       }),
       "expected 512 bytes for [17, 32], found 256"},
      {b([](T& t) {
         t.dtype = 8, t.dims = {1 << 15, 1 << 10};
       }),
       "tensor 'b': expected at least 524288 bytes for [32768, 1024], found 256"},
      {b([](T& t) { t.dtype = 8, t.bits = 0; }), "tensor 'b': expected 3..8 bits, found 0"},
      {b([](T& t) { t.dims = {512}, t.rank = 1; }), "expected codes [N, K]"},
      {b([](T& t) {
         t.dims = {1, INT64_MAX};
       }),
       "expected codes [N, K] with N, K <="},
      {b([](T& t) { t.offset = 65; }), "is not a multiple of 64"},
      {b([](T& t) { t.offset = 0; }), "overlaps what comes before it"},
      {a([](T& t) { t.offset -= 64; }), "tensor 'a': offset 192 overlaps what comes before it"},
      {b([](T& t) { t.offset = 128; }), "tensor 'b': 256 bytes at 384 pass the end of the file"},
      {b([](T& t) { t.offset = uint64_t{1} << 63; }), "pass the end of the file at 576"},
      {b([](T& t) {
         t.dtype = 4, t.bits = 0, t.size = 256, t.dims = {256}, t.rank = 1, t.offset = 1 << 20;
       }),
       "pass the end of the file at 576"},
      {[](HandFile& f) { f.tensors[1].offset += 64, f.data_size += 64; }, "leaves a gap of 116"},
      {[](HandFile& f) { f.data_size += 1; }, "1 bytes after the last tensor"},
      {[](HandFile& f) { f.after_table = std::string(63, '\0'); }, "fewer than 64 zeros after it"},
      {[](HandFile& f) { f.after_table = "x"; }, "tensor table: expected fewer than 64 zeros"},
  });
}

TEST_CASE("qbin: damage anywhere in the head is found when opening") {
  const Buffer good = hand_file().build();
  const size_t head_size = good.size() - 320;
  for (size_t at = 0; at < head_size; at++) {
    for (int change = 1; change < 256; change++) {
      Buffer bad = good;
      bad[at] = static_cast<uint8_t>(bad[at] ^ change);
      if (open_error(bad) == "no error") FAIL("byte " << at << " changed by " << change);
    }
  }
}

TEST_CASE("qbin: a file cut off anywhere is refused") {
  const Buffer good = hand_file().build();
  for (size_t size = 0; size < good.size(); size++) {
    const std::string error = open_error({good.begin(), good.begin() + static_cast<int>(size)});
    CHECK(contains(error, size == 0 ? "found an empty one" : "truncated: expected "));
  }
}

// Whatever a head says under a right checksum, the reader answers with an Error or a file whose
// tensors lie inside; AddressSanitizer watches.
TEST_CASE("qbin: a forged head is refused or harmless") {
  const Buffer good = hand_file().build();
  const size_t head_size = good.size() - 320;
  int opened = 0;
  for (size_t at = 0; at < head_size; at++) {
    for (int value : {0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xFF, good[at] ^ 1, good[at] + 1}) {
      Buffer forged = good;
      forged[at] = static_cast<uint8_t>(value);
      if (at < 24 || at >= 32) fix_checksum(forged);
      const Aligned bytes(forged);
      error_of([&] {
        const QbinFile file = QbinFile::from_memory(bytes.bytes(), "m.qbin");
        opened++;
        file.verify();
      });
    }
  }
  CHECK(opened > 0);
}

TEST_CASE("qbin: damage anywhere in the data, gaps too, is found by verify") {
  QbinWriter writer;
  writer.add("first", DType::kU8, 0, {5}, Buffer{1, 2, 3, 4, 5});
  writer.add("second", DType::kI16, 0, {3}, Buffer{1, 2, 3, 4, 5, 6});
  const Buffer good = writer.serialize();
  const size_t data_start = good.size() - 64 - 6;
  for (size_t at = data_start; at < good.size(); at++) {
    Buffer bad = good;
    bad[at] ^= 0x10;
    const Aligned bytes(bad);
    const QbinFile file = QbinFile::from_memory(bytes.bytes(), "m.qbin");
    const bool in_gap = at >= data_start + 5 && at < data_start + 64;
    const std::string name = at < data_start + 5 ? "first" : "second";
    CHECK(error_of([&] { file.verify(); }) ==
          "m.qbin: tensor '" + name + "': " +
              (in_gap ? "the gap before its data is not zero"
                      : "the data is damaged (its checksum differs)"));
  }
}
