#include "runtime/files/safetensors.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "models/base/error.h"

using namespace vitrun;

namespace {

namespace fs = std::filesystem;

// A file in the temporary folder, gone with the object.
class TempFile {
 public:
  explicit TempFile(const std::string& bytes)
      : path_(fs::temp_directory_path() / ("vitrun_safetensors_" + std::to_string(getpid()))) {
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TempFile() { fs::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

std::string length_prefix(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; i++) bytes += static_cast<char>(length >> (8 * i) & 255);
  return bytes;
}

std::string container(const std::string& header, size_t data_bytes) {
  return length_prefix(header.size()) + header + std::string(data_bytes, '\0');
}

// A header of one tensor called "a".
std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

std::string two(const std::string& first, const std::string& second) {
  const std::string f32 = R"({"dtype":"F32","shape":[2],"data_offsets":)";
  return R"({"a":)" + f32 + first + R"(},"b":)" + f32 + second + "}}";
}

// The message of opening the file; "" if it opens.
std::string error_of(const std::string& bytes) {
  const TempFile file(bytes);
  try {
    SafetensorsFile opened(file.path());
    return "";
  } catch (const Error& e) {
    CHECK(std::string(e.what()).starts_with(file.path()));
    return e.what();
  }
}

std::string load_error(const std::string& bytes, const std::string& name) {
  const TempFile file(bytes);
  const SafetensorsFile opened(file.path());
  try {
    opened.load(name);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

std::string f32_bytes(std::initializer_list<float> values) {
  return {reinterpret_cast<const char*>(values.begin()), 4 * values.size()};
}

struct Corrupt {
  const char* name;
  std::string bytes;
  const char* message;
};

const Corrupt kCorrupt[] = {
    // the frame
    {"empty file", "", "shorter than 8 bytes"},
    {"seven bytes", "\x02\0\0\0\0\0\0", "shorter than 8 bytes"},
    {"only a length", length_prefix(2), "truncated: header of 2 bytes in a file of 8"},
    {"truncated header", container(entry("F32", "[1]", "[0,4]"), 4).substr(0, 30), "truncated"},
    {"length beyond the cap", length_prefix(100'000'001) + "{}", "at most 100000000"},
    {"length of all ones", std::string(8, '\xff') + "{}", "not a .safetensors file: header of"},
    {"Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"},
    {"zip archive", std::string("PK\x03\x04", 4) + std::string(40, 'x'), "zip archive"},
    {"pickle", "\x80\x02}q\x01(X\x05" + std::string(20, 'x'), "Python pickle"},
    // the header as JSON
    {"empty header", container("", 0), "does not begin with '{'"},
    {"leading blank", container(" {}", 0), "does not begin with '{'"},
    {"array header", container("[]", 0), "does not begin with '{'"},
    {"cut JSON", container(R"({"a":)", 0), "not valid JSON"},
    {"text after the JSON", container("{} x", 0), "not valid JSON"},
    {"invalid UTF-8", container("{\"\xff\":1}", 0), "not valid JSON"},
    {"huge number", container(entry("F32", "[1e999]", "[0,4]"), 4), "not valid JSON"},
    {"duplicate tensor",
     container(R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)" +
                   entry("F32", "[0]", "[0,0]").substr(1),
               0),
     "'a' appears twice"},
    {"duplicate key",
     container(R"({"a":{"dtype":"F32","dtype":"F16","shape":[0],"data_offsets":[0,0]}})", 0),
     "'dtype' appears twice"},
    {"deep nesting", container(R"({"a":)" + std::string(100000, '['), 0), "nested deeper than 3"},
    {"metadata is a list", container(R"({"__metadata__":[]})", 0), "'__metadata__' is not an obj"},
    {"metadata of numbers", container(R"({"__metadata__":{"x":1}})", 0), "is not a string"},
    // an entry
    {"entry is a number", container(R"({"a":1})", 0), "'a': the header entry is not an object"},
    {"no dtype", container(R"({"a":{"shape":[],"data_offsets":[0,4]}})", 4), "'a': no 'dtype'"},
    {"no shape", container(R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4), "no 'shape'"},
    {"no offsets", container(R"({"a":{"dtype":"F32","shape":[1]}})", 4), "no 'data_offsets'"},
    {"dtype is a number", container(R"({"a":{"dtype":3,"shape":[],"data_offsets":[0,4]}})", 4),
     "'dtype' is not a string"},
    {"unknown dtype", container(entry("F31", "[1]", "[0,4]"), 4), "unknown dtype 'F31'"},
    {"shape is a number", container(entry("F32", "4", "[0,4]"), 4), "'shape' is not a list"},
    {"negative side", container(entry("F32", "[-1]", "[0,4]"), 4), "'shape' holds -1"},
    {"fractional side", container(entry("F32", "[1.5]", "[0,4]"), 4), "'shape' holds 1.5"},
    {"side above int64", container(entry("F32", "[9223372036854775808]", "[0,4]"), 4),
     "not a size"},
    // 2^62 elements of 4 bytes are 0 modulo 2^64
    {"product overflows", container(entry("F32", "[4611686018427387904]", "[0,0]"), 0),
     "is too large"},
    {"three offsets", container(entry("F32", "[1]", "[0,4,8]"), 4), "is not a pair"},
    {"negative offset", container(entry("F32", "[1]", "[-4,0]"), 4), "is not a pair"},
    {"offsets reversed", container(entry("F32", "[1]", "[4,0]"), 4), "end before they begin"},
    {"offsets past the end", container(entry("F32", "[2]", "[0,8]"), 4),
     "data_offsets end at byte 8 but the file holds 4"},
    {"size and shape differ", container(entry("F32", "[3]", "[0,8]"), 8),
     "needs 12 bytes but data_offsets span 8"},
    // the data section
    {"overlap", container(two("[0,8]", "[4,12]"), 12), "'b': overlaps"},
    {"same bytes twice", container(two("[0,8]", "[0,8]"), 8), "'b': overlaps"},
    {"gap", container(two("[0,8]", "[12,20]"), 20), "'b': leaves a gap"},
    {"gap at the front", container(entry("F32", "[1]", "[4,8]"), 8), "'a': leaves a gap"},
    {"tail", container(entry("F32", "[1]", "[0,4]"), 5), "1 bytes after the last tensor"},
    {"data without tensors", container("{}", 16), "16 bytes after the last tensor"},
};

}  // namespace

TEST_CASE("safetensors: each corrupt file has its own message") {
  for (const Corrupt& c : kCorrupt) {
    CAPTURE(c.name);
    const std::string message = error_of(c.bytes);
    CAPTURE(message);
    CHECK(message.find(c.message) != std::string::npos);
    CHECK(message.size() < 400);
  }
}

TEST_CASE("safetensors: what the format allows is read") {
  CHECK(error_of(container("{}", 0)) == "");
  CHECK(error_of(container(R"({"__metadata__":{"format":"pt"}}   )", 0)) == "");
  CHECK(error_of(container(entry("F32", "[]", "[0,4]"), 4)) == "");           // a scalar
  CHECK(error_of(container(entry("F32", "[5,0]", "[0,0]"), 0)) == "");        // no elements
  CHECK(error_of(container(entry("I64", "[1]", "[0,8]"), 8)) == "");          // a buffer
  CHECK(error_of(container(two("[8,16]", "[0,8]"), 16)) == "");               // any order
  CHECK(error_of(container(entry("F32", "[1]", "[0,4]") + "   ", 4)) == "");  // unaligned data
}

TEST_CASE("safetensors: values, shapes and their order") {
  const std::string header = two("[8,16]", "[0,8]");
  const TempFile file(length_prefix(header.size()) + header + f32_bytes({1, -2, 3.5f, 0}));
  const SafetensorsFile opened(file.path());
  CHECK(opened.tensors().size() == 2);
  CHECK(opened.load("b").dims == Dims{2});
  CHECK(opened.load("b").data == std::vector<float>{1, -2});
  CHECK(opened.load("a").data == std::vector<float>{3.5f, 0});
}

TEST_CASE("safetensors: what cannot be a weight") {
  CHECK(load_error(container(entry("I64", "[1]", "[0,8]"), 8), "a").find("dtype I64") !=
        std::string::npos);
  CHECK(load_error(container("{}", 0), "x").find("tensor 'x': not in the file") !=
        std::string::npos);
  const std::string header = entry("F32", "[2]", "[0,8]");
  const std::string prefix = length_prefix(header.size()) + header;
  CHECK(load_error(prefix + f32_bytes({0, NAN}), "a").find("element 1 is nan") !=
        std::string::npos);
  CHECK(load_error(prefix + f32_bytes({-INFINITY, 0}), "a").find("element 0 is -inf") !=
        std::string::npos);
}

TEST_CASE("safetensors: a missing file and a folder") {
  CHECK_THROWS_AS(SafetensorsFile("/nonexistent/x.safetensors"), Error);
  CHECK_THROWS_AS(SafetensorsFile(fs::temp_directory_path().string()), Error);
}

TEST_CASE("safetensors: F16 and BF16 as numpy and torch convert them") {
  const SafetensorsFile file(std::string(VITRUN_TEST_DIR) +
                             "/golden/models/dtypes/dtypes.safetensors");
  for (const std::string name : {"half", "brain"}) {
    const Tensor mine = file.load(name), theirs = file.load(name + "_as_f32");
    REQUIRE(mine.data.size() > 400);
    REQUIRE(mine.dims == theirs.dims);
    for (size_t i = 0; i < mine.data.size(); i++) {
      CHECK(mine.data[i] == theirs.data[i]);
      CHECK(std::signbit(mine.data[i]) == std::signbit(theirs.data[i]));
    }
  }
}
