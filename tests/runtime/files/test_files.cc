// The programs' data files: .npy arrays.
#include <algorithm>
#include <cmath>

#include "models/checkpoints/config.h"
#include "runtime/files/npy.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

using namespace vitrun;

namespace {

// A .npy of the given format version around this header and these elements.
std::string npy(const std::string& header, const std::vector<float>& values, int version = 1) {
  std::string bytes = "\x93NUMPY" + std::string{static_cast<char>(version), '\0'};
  for (int i = 0; i < (version == 1 ? 2 : 4); i++)
    bytes += static_cast<char>(header.size() >> 8 * i & 255);
  bytes += header;
  return bytes.append(reinterpret_cast<const char*>(values.data()), 4 * values.size());
}

std::string shaped(const std::string& shape) {
  return "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
}

}  // namespace

TEST_CASE("npy: what NumPy wrote is read, and written again to the byte") {
  const TempFolder folder;
  for (const std::string name : {"models/vit.input.npy", "models/vit.logits.npy"}) {
    const Tensor read = read_npy(golden(name));
    CHECK(read.dims == (name == "models/vit.input.npy" ? Dims{2, 3, 16, 16} : Dims{2, 10}));
    write_npy(folder / "again.npy", read);
    CHECK(read_bytes(folder / "again.npy") == read_bytes(golden(name)));
  }
}

TEST_CASE("npy: versions, ranks and the order of keys") {
  const TempFolder folder;
  for (int version : {1, 2, 3}) {
    const Tensor read = read_npy(folder.file("a.npy", npy(shaped("(2, 1)"), {1, -2}, version)));
    CHECK(read.dims == Dims{2, 1});
    CHECK(read.data == std::vector<float>{1, -2});
  }
  CHECK(read_npy(folder.file("a.npy", npy(shaped("()"), {7}))).dims.empty());
  CHECK(read_npy(folder.file("a.npy", npy(shaped("(1,)"), {7}))).dims == Dims{1});
  CHECK(read_npy(folder.file("a.npy", npy(shaped("(3, 0)"), {}))).dims == Dims{3, 0});
  const std::string turned = "{'shape':(1,),'fortran_order':False,'descr':'<f4'}\n";
  CHECK(read_npy(folder.file("a.npy", npy(turned, {7}))).data == std::vector<float>{7});
}

TEST_CASE("npy: each bad file has its own message") {
  const std::string f8 = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }";
  const std::string big = "{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }";
  const std::string record = "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }";
  const std::string fortran = "{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }";
  const std::string whole = npy(shaped("(1,)"), {1});
  const std::pair<std::string, const char*> table[] = {
      {"", "not a .npy file"},
      {whole.substr(0, 11), "not a .npy file"},
      {whole.substr(0, 30), "truncated .npy header"},
      {whole.substr(0, whole.size() - 1), "shape [1] needs 1 float32, the file holds 3 bytes"},
      {whole + "x", "shape [1] needs 1 float32, the file holds 5 bytes"},
      {npy(shaped("(1,)"), {1}, 4), ".npy version 4, expected 1 to 3"},
      {npy("{}", {1}), ".npy header without 'descr'"},
      {npy("{'descr': '<f4'}", {1}), ".npy header without 'fortran_order'"},
      {npy("{'descr': '<f4', 'fortran_order': False}", {1}), ".npy header without 'shape'"},
      {npy(f8, {1, 1}), "elements are '<f8', expected float32 ('<f4')"},
      {npy(big, {1}), "elements are '>f4', expected float32 ('<f4')"},
      {npy(record, {1}), "elements are [('x', expected float32"},
      {npy(fortran, {1}), "expected C order"},
      {npy(shaped("(1"), {1}), "without a shape"},
      {npy(shaped("1"), {1}), "without a shape"},
      {npy(shaped("(-1,)"), {1}), "'(-1,)' is no shape"},
      {npy(shaped("(1 1)"), {1}), "'(1 1)' is no shape"},
      {npy(shaped("(,)"), {1}), "'(,)' is no shape"},
      {npy(shaped("(99999999999999999999,)"), {1}), "is too large"},
      {npy(shaped("(4611686018427387904, 4)"), {}), "is too large"},
      {npy(shaped("(0, 4611686018427387904, 4)"), {}), "is too large"},
      {npy(shaped("(4611686018427387904,)"), {}), "the file holds 0 bytes"},
      // once the end of the stack: a regular expression was matched against it
      {npy("{'descr': '" + std::string(60000, '<') + "'}", {1}, 2), "header of 60013 bytes"},
  };
  const TempFolder folder;
  for (const auto& [bytes, message] : table) {
    const std::string path = folder.file("bad.npy", bytes);
    const std::string error = error_of([&] { read_npy(path); });
    CAPTURE(message);
    CAPTURE(error);
    CHECK(error.starts_with(path + ": "));
    CHECK(contains(error, message));
    CHECK(error.size() < path.size() + 200);
  }
}

TEST_CASE("npy: raw images must fit the model and be finite") {
  ModelConfig config = config_from_arch("vit_tiny_patch16_224");
  config.image_height = config.image_width = 16;
  const TempFolder folder;
  const std::string path = folder / "raw.npy";
  Tensor images({3, 16, 16});
  write_npy(path, images);
  CHECK(read_raw_images(path, config).dims == Dims{1, 3, 16, 16});
  images.data[7] = std::nanf("");
  write_npy(path, images);
  CHECK(contains(error_of([&] { read_raw_images(path, config); }), "element 7 is nan"));
  for (const Dims& dims : {Dims{}, Dims{0, 3, 16, 16}, Dims{1, 16, 16, 3}, Dims{1, 1, 3, 16, 16}}) {
    write_npy(path, Tensor(dims));
    CHECK(contains(error_of([&] { read_raw_images(path, config); }),
                   "the model takes [N, 3, 16, 16]"));
  }
}

TEST_CASE("npy: a file that cannot be written") {
  CHECK(error_of([] { write_npy("/nonexistent/a.npy", Tensor({1})); }) ==
        "/nonexistent/a.npy: cannot write: No such file or directory");
  CHECK(contains(error_of([] { write_npy("/dev/full", Tensor({1})); }), "No space left"));
}
