// The .qbin container against a golden file made in Python, its writer, and what lies below them.
// The files that must be refused are in test_qbin_corrupt.cc.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "kernels/pack.h"
#include "runtime/files/crc32.h"
#include "runtime/files/qbin.h"
#include "tests/runtime/files/qbin_testing.h"

using namespace vitrun;

namespace {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "vitrun_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string operator/(const char* name) const { return (path_ / name).string(); }
  int64_t files() const {
    return std::distance(std::filesystem::directory_iterator(path_),
                         std::filesystem::directory_iterator());
  }

 private:
  std::filesystem::path path_;
};

void write_file(const std::string& path, const Buffer& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  REQUIRE(out.good());
}

Buffer read_file(const std::string& path) {
  const MappedFile file(path);
  return {file.bytes().begin(), file.bytes().end()};
}

template <class T>
std::vector<T> values(const QbinFile& file, const std::string& name) {
  const QbinTensor* tensor = file.find(name);
  REQUIRE(tensor != nullptr);
  REQUIRE(tensor->bytes.size() % sizeof(T) == 0);
  std::vector<T> out(tensor->bytes.size() / sizeof(T));
  std::memcpy(out.data(), tensor->bytes.data(), tensor->bytes.size());
  return out;
}

template <class T>
std::span<const uint8_t> raw(const std::vector<T>& data) {
  return {reinterpret_cast<const uint8_t*>(data.data()), data.size() * sizeof(T)};
}

// The content that tests/golden/make_qbin.py puts into v2_0.qbin, as its writer would be given it.
constexpr int kColumnCount = 17, kDepthCount = 35;

Buffer golden_codes(int bits) {
  Buffer codes;
  for (int c = 0; c < kColumnCount; c++) {
    for (int d = 0; d < kDepthCount; d++) {
      codes.push_back(static_cast<uint8_t>((37 * c + 11 * d + c * d) % (1 << bits)));
    }
  }
  return codes;
}

const std::vector<float> kFloats = {0, 1, -2, 0.5f, 1e-40f, 3e38f};
const std::vector<double> kDoubles = {1.5, std::numeric_limits<double>::infinity(), 5e-324};
const std::vector<int64_t> kIntegers = {1, -1, std::numeric_limits<int64_t>::max()};
const std::vector<std::string> kStrings = {"", "猫 𝄞"};

Graph golden_graph() {
  using A = Attribute;
  Graph graph;
  const auto add = [&](NodeKind kind, Role role, int block, const std::string& name,
                       std::vector<int> in, std::map<A, double> attributes) {
    Node n;
    n.kind = kind;
    n.role = role;
    n.block = block;
    n.name = name;
    n.in = std::move(in);
    n.attributes = std::move(attributes);
    graph.nodes.push_back(std::move(n));
  };
  add(NodeKind::kInput, Role::kNone, -1, "image", {},
      {{A::kChannels, 3}, {A::kHeight, 4}, {A::kWidth, 5}, {A::kPlanar, 1}});
  add(NodeKind::kWindow, Role::kNone, -1, "patches", {0},
      {{A::kKernelHeight, 2}, {A::kKernelWidth, 2}, {A::kStride, 1}, {A::kCeil, 1}});
  add(NodeKind::kLinear, Role::kPatchEmbed, 0, "blocks.0.fc", {1}, {});
  add(NodeKind::kNorm, Role::kPreNorm, 70000, "Füße", {2}, {{A::kEpsilon, 1e-6}});
  add(NodeKind::kAdd, Role::kResidual, INT32_MIN, std::string(256, 'n'), {3, 2},
      {{A::kLimit, INFINITY}, {A::kAlpha, -5e-324}});
  Node &linear = graph[2], &norm = graph[3], &sum = graph[4];
  linear.unit = "blocks.0.fc", linear.weight = "blocks.0.fc.weight",
  linear.bias = "blocks.0.fc.bias";
  norm.unit = "猫", norm.weight = "w", norm.bias = "b";
  sum.bias = sum.name + ".bias";
  graph.outputs = {{"logits", 4}, {"features", 3}, {"猫", 3}};
  return graph;
}

void check_same(const Graph& found, const Graph& expected) {
  REQUIRE(found.size() == expected.size());
  for (int i = 0; i < found.size(); i++) {
    const Node &a = found[i], &b = expected[i];
    CAPTURE(b.name);
    CHECK(a.kind == b.kind);
    CHECK(a.role == b.role);
    CHECK(a.block == b.block);
    CHECK(a.name == b.name);
    CHECK(a.in == b.in);
    CHECK(a.attributes == b.attributes);
    CHECK(a.unit == b.unit);
    CHECK(a.weight == b.weight);
    CHECK(a.bias == b.bias);
  }
  REQUIRE(found.outputs.size() == expected.outputs.size());
  for (size_t i = 0; i < found.outputs.size(); i++) {
    CHECK(found.outputs[i].name == expected.outputs[i].name);
    CHECK(found.outputs[i].node == expected.outputs[i].node);
  }
}

QbinWriter golden_writer() {
  QbinWriter writer;
  writer.set("strings", kStrings);
  writer.set("i64", std::numeric_limits<int64_t>::min());
  writer.set("i64s", kIntegers);
  writer.set("f64", -0.1);
  writer.set("f64s", kDoubles);
  writer.set("string", "Füße\n");
  writer.set("none", std::vector<std::string>{});
  writer.add("main", golden_graph());
  writer.add("decoder", Graph());
  writer.add("f32", DType::kF32, 0, {2, 3}, raw(kFloats));
  writer.add("f16", DType::kF16, 0, {1, 2, 1, 1}, raw(std::vector<uint16_t>{0x3C00, 0xB400}));
  writer.add("i8", DType::kI8, 0, {5}, raw(std::vector<int8_t>{-128, -1, 0, 1, 127}));
  writer.add("u8", DType::kU8, 0, {3, 1}, raw(Buffer{0, 128, 255}));
  writer.add("i16", DType::kI16, 0, {2, 1, 1}, raw(std::vector<int16_t>{-32768, 32767}));
  writer.add("i32", DType::kI32, 0, {}, raw(std::vector<int32_t>{INT32_MIN}));
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    Buffer panels(static_cast<size_t>(pack_bytes(kColumnCount, kDepthCount, bits)));
    pack_codes(golden_codes(bits).data(), kColumnCount, kDepthCount, bits, panels.data());
    writer.add(cat("blocks.0.packed", bits), DType::kPacked, bits, {kColumnCount, kDepthCount},
               panels);
  }
  return writer;
}

std::string golden_path() {
  return std::string(VITRUN_TEST_DIR) + "/golden/qbin/v2_0.qbin";
}

}  // namespace

TEST_CASE("crc32: the values of zlib, in any pieces") {
  CHECK(crc32({}) == 0);
  const char* check = "123456789";
  CHECK(crc32({reinterpret_cast<const uint8_t*>(check), 9}) == 0xCBF43926);
  Buffer bytes;
  for (unsigned i = 0; i < 1000; i++) bytes.push_back(static_cast<uint8_t>(i * i % 251));
  for (size_t split = 0; split <= bytes.size(); split += 37) {
    const std::span all(bytes);
    CHECK(crc32(all.subspan(split), crc32(all.first(split))) == 0x5E35712B);
  }
}

TEST_CASE("mapped_file: contents, empty files, moves") {
  const TemporaryFolder folder;
  write_file(folder / "three", {1, 2, 3});
  write_file(folder / "none", {});
  MappedFile first(folder / "three");
  MappedFile second(folder / "none");
  CHECK(second.bytes().empty());
  second = std::move(first);
  const MappedFile third(std::move(second));
  CHECK(Buffer(third.bytes().begin(), third.bytes().end()) == Buffer{1, 2, 3});
}

TEST_CASE("mapped_file: what cannot be mapped is named with the reason") {
  const TemporaryFolder folder;
  const std::string missing = folder / "missing", pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(error_of([&] { MappedFile file(missing); }) ==
        missing + ": cannot open: No such file or directory");
  CHECK(error_of([&] { MappedFile file(pipe); }) ==
        pipe + ": expected a regular file, found a pipe or device");
  CHECK(error_of([&] { MappedFile file("/"); }) == "/: expected a regular file, found a directory");
}

TEST_CASE("qbin: the golden file of version 2.0 reads back") {
  const QbinFile file = QbinFile::open(golden_path());
  file.verify();
  CHECK(file.where() == golden_path());
  CHECK(file.tensors().size() == 12);
  CHECK(file.metadata().size() == 7);
  CHECK(file.get_i64("i64") == std::numeric_limits<int64_t>::min());
  CHECK(file.get_f64("f64") == -0.1);
  CHECK(file.get_string("string") == "Füße\n");
  CHECK(file.get_i64s("i64s") == kIntegers);
  CHECK(file.get_f64s("f64s") == kDoubles);
  CHECK(file.get_strings("strings") == kStrings);
  CHECK(file.get_strings("none").empty());

  REQUIRE(file.graphs().size() == 2);
  check_same(file.graphs().at("main"), golden_graph());
  check_same(file.graphs().at("decoder"), Graph());
  CHECK(file.graphs().at("main").params.empty());

  CHECK(values<float>(file, "f32") == kFloats);
  CHECK(file.find("f32")->dims == Dims{2, 3});
  CHECK(values<uint16_t>(file, "f16") == std::vector<uint16_t>{0x3C00, 0xB400});
  CHECK(file.find("f16")->dims == Dims{1, 2, 1, 1});
  CHECK(values<int8_t>(file, "i8") == std::vector<int8_t>{-128, -1, 0, 1, 127});
  CHECK(values<uint8_t>(file, "u8") == Buffer{0, 128, 255});
  CHECK(values<int16_t>(file, "i16") == std::vector<int16_t>{-32768, 32767});
  CHECK(values<int32_t>(file, "i32") == std::vector<int32_t>{INT32_MIN});
  CHECK(file.find("i32")->dims.empty());
  CHECK(file.find("nothing") == nullptr);
  for (const QbinTensor& tensor : file.tensors()) {
    CHECK(reinterpret_cast<uintptr_t>(tensor.bytes.data()) % 64 == 0);
  }
}

TEST_CASE("qbin: a file of version 1.0 is refused with what to do") {
  const std::string path = std::string(VITRUN_TEST_DIR) + "/golden/qbin/v1_0.qbin";
  CHECK(error_of([&] { QbinFile::open(path); }) ==
        path +
            ": made by vitrun 0.1 (format version 1), whose files hold no graph; make it again "
            "with vitquant");
}

TEST_CASE("qbin: packed tensors of the golden file unpack to their codes") {
  const QbinFile file = QbinFile::open(golden_path());
  for (int bits = kMinBits; bits <= kMaxBits; bits++) {
    const QbinTensor* tensor = file.find(cat("blocks.0.packed", bits));
    REQUIRE(tensor != nullptr);
    CHECK(tensor->dtype == DType::kPacked);
    CHECK(tensor->bits == bits);
    Buffer codes(kColumnCount * kDepthCount);
    unpack_codes(tensor->bytes.data(), kColumnCount, kDepthCount, bits, codes.data());
    CHECK(codes == golden_codes(bits));
  }
}

TEST_CASE("qbin: the writer makes the golden file, byte for byte") {
  CHECK(golden_writer().serialize() == read_file(golden_path()));
}

TEST_CASE("qbin: a moved file keeps its tensors") {
  const Aligned bytes(QbinWriter().serialize());
  QbinFile first = QbinFile::from_memory(bytes.bytes(), "m.qbin");
  QbinFile second = QbinFile::open(golden_path());
  const uint8_t* data = second.find("u8")->bytes.data();
  first = std::move(second);
  CHECK(first.find("u8")->bytes.data() == data);
  CHECK(values<uint8_t>(first, "u8") == Buffer{0, 128, 255});
}

TEST_CASE("qbin: metadata that is missing or of another type") {
  const QbinFile file = QbinFile::open(golden_path());
  CHECK(file.has("i64"));
  CHECK_FALSE(file.has("no"));
  CHECK(file.get_i64("no", 5) == 5);
  CHECK(file.get_i64("i64", 5) == std::numeric_limits<int64_t>::min());
  CHECK(error_of([&] { file.get_i64("no"); }) == golden_path() + ": metadata 'no' is missing");
  CHECK(error_of([&] { file.get_f64("strings"); }) ==
        golden_path() + ": metadata 'strings': expected f64, found array of strings");
  CHECK(contains(error_of([&] { file.get_i64("f64", 5); }), "expected i64, found f64"));
}

TEST_CASE("qbin: a buffer that is not aligned is refused") {
  Buffer bytes = QbinWriter().serialize();
  bytes.insert(bytes.begin(), 0);
  const Aligned moved(bytes);
  CHECK(error_of([&] { QbinFile::from_memory(moved.bytes().subspan(1), "m.qbin"); }) ==
        "m.qbin: expected a buffer aligned to 64 bytes");
}

// The data begins on a page that cannot be read while the file is opened.
TEST_CASE("qbin: opening does not touch the data") {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  QbinWriter writer;
  const size_t other = 64 + 2 + 3 + 1 + 4 + 58 - 24 + 1;  // header, key "pad", tensor "t" [4]
  writer.set("pad", std::string(page - other, 'x'));
  writer.add("t", DType::kU8, 0, {4}, Buffer{1, 2, 3, 4});
  const Buffer file = writer.serialize();
  REQUIRE(file.size() == page + 4);

  void* mapping =
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(mapping != MAP_FAILED);
  uint8_t* bytes = static_cast<uint8_t*>(mapping);
  std::copy(file.begin(), file.end(), bytes);
  REQUIRE(mprotect(bytes + page, page, PROT_NONE) == 0);
  {
    const QbinFile opened = QbinFile::from_memory({bytes, file.size()}, "m.qbin");
    CHECK(opened.find("t")->bytes.data() == bytes + page);
    REQUIRE(mprotect(bytes + page, page, PROT_READ) == 0);
    opened.verify();
  }
  munmap(mapping, 2 * page);
}

TEST_CASE("qbin_writer: an empty file and what it refuses") {
  const Aligned empty(QbinWriter().serialize());
  CHECK(empty.bytes().size() == 64);
  QbinFile::from_memory(empty.bytes(), "m.qbin").verify();

  const Buffer three = {1, 2, 3};
  QbinWriter twice;
  twice.set("k", 1);
  twice.add("t", DType::kU8, 0, {3}, three);
  CHECK(error_of([&] { twice.set("k", "one"); }) == "metadata 'k' is set twice");
  CHECK(error_of([&] { twice.add("t", DType::kU8, 0, {3}, three); }) ==
        "tensor 't' is added twice");
  twice.add("main", Graph());
  CHECK(error_of([&] { twice.add("main", Graph()); }) == "graph 'main' is added twice");

  QbinWriter size, long_name, bits, inputs, attribute;
  size.add("t", DType::kF32, 0, {1}, three);
  CHECK(contains(error_of([&] { size.serialize(); }), "'t': expected 4 bytes for [1], found 3"));
  long_name.set(std::string(70000, 'k'), 1);
  CHECK(contains(error_of([&] { long_name.serialize(); }), "70000 does not fit"));
  bits.add("t", DType::kU8, -1, {3}, three);
  CHECK(contains(error_of([&] { bits.serialize(); }), "-1 does not fit"));
  Graph many = golden_graph(), nan = golden_graph();
  many[4].in.assign(256, 0);
  inputs.add("main", many);
  CHECK(contains(error_of([&] { inputs.serialize(); }), "256 does not fit"));
  nan[3].attributes[Attribute::kEpsilon] = std::nan("");
  attribute.add("main", nan);
  CHECK(contains(error_of([&] { attribute.serialize(); }), "'Füße': epsilon is NaN"));
}

TEST_CASE("qbin_writer: the largest table entry takes 58 bytes beside its name") {
  QbinWriter writer;
  writer.set("pad", std::string(256 - 64 - 10 - 8, 'x'));  // the table starts at 248
  writer.add("12345678", DType::kU8, 0, {1, 1, 1, 1}, Buffer{9});
  CHECK(writer.serialize().size() == 320 + 1);  // 248 + 58 + 8 = 314, padded to 320
}

TEST_CASE("qbin_writer: writing replaces a file at once and leaves nothing else") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.qbin";
  write_file(path, {1, 2, 3});
  const MappedFile old(path);
  golden_writer().write(path);
  CHECK(read_file(path) == read_file(golden_path()));
  CHECK(Buffer(old.bytes().begin(), old.bytes().end()) == Buffer{1, 2, 3});
  CHECK(folder.files() == 1);
}

TEST_CASE("qbin_writer: a failed write is named and leaves the old file") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.qbin", nowhere = folder / "no/model.qbin";
  write_file(path, {1, 2, 3});
  rlimit old_limit;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{4096, old_limit.rlim_max};  // as a full disk: the golden file is larger
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  const std::string full = error_of([&] { golden_writer().write(path); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK(full == path + ": cannot write: File too large");
  CHECK(read_file(path) == Buffer{1, 2, 3});
  CHECK(folder.files() == 1);

  CHECK(contains(error_of([&] { golden_writer().write(nowhere); }), nowhere));
  CHECK(error_of([&] { golden_writer().write("/dev/null"); }) ==
        "/dev/null: expected a regular file to replace, found a folder, pipe or device");
}
