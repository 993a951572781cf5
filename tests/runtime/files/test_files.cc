// The programs' data files: .npy arrays, lists and folders of images.
#include <algorithm>
#include <cmath>
#include <set>

#include "models/checkpoints/config.h"
#include "runtime/files/npy.h"
#include "runtime/vision/dataset.h"
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

struct Labelled {
  std::string name;
  int label;
  bool operator==(const Labelled&) const = default;
};

// Names relative to the folder, with labels.
std::vector<Labelled> samples_in(const TempFolder& folder, const std::string& list) {
  const size_t skip = (folder / "").size();
  std::vector<Labelled> out;
  for (const Sample& s : load_samples(folder / list)) out.push_back({s.path.substr(skip), s.label});
  return out;
}

void make_folder(const TempFolder& folder, const std::string& name) {
  std::filesystem::create_directories(folder / name);
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

TEST_CASE("lists: paths are relative to the list, may hold spaces, labels are optional") {
  const TempFolder folder;
  make_folder(folder, "sub");
  for (const std::string name : {"a.png", "two words.jpg", "sub/b.bmp", "7"}) folder.file(name, "");
  folder.file("list.txt", "a.png 3\r\n\n  \ntwo words.jpg 0\ntwo words.jpg\nsub/b.bmp\t12\n7\n7 1");
  CHECK(samples_in(folder, "list.txt") == std::vector<Labelled>{{"a.png", 3},
                                                                {"two words.jpg", 0},
                                                                {"two words.jpg", -1},
                                                                {"sub/b.bmp", 12},
                                                                {"7", -1},
                                                                {"7", 1}});
}

TEST_CASE("lists: errors name the line") {
  const TempFolder folder;
  folder.file("a.png", "");
  const std::pair<std::string, const char*> table[] = {
      {"a.png 1\nb.png 2\n", "list.txt:2: there is no file '"},
      {"a.png cat\n", "list.txt:1: 'cat' is no class index"},
      {std::string(300, 'a') + "\n",
       "list.txt:1: there is no file '"},  // longer than a name may be
      {"a.png -1\n", "list.txt:1: '-1' is no class index"},
      {"a.png 1.5\n", "list.txt:1: '1.5' is no class index"},
      {"a.png 1000001\n", "list.txt:1: '1000001' is no class index"},
      {"a.png 99999999999999999999\n", "is no class index"},
      {" 1\n", "list.txt:1: there is no file '"},
      {"\n \n", "list.txt: no images in it"},
      {"", "list.txt: no images in it"},
  };
  for (const auto& [text, message] : table) {
    const std::string path = folder.file("list.txt", text);
    const std::string error = error_of([&] { load_samples(path); });
    CAPTURE(error);
    CHECK(contains(error, message));
  }
  CHECK(contains(error_of([] { load_samples("/nonexistent"); }), "no such list or folder"));
}

TEST_CASE("folders: a folder per class, or loose images") {
  const TempFolder folder;
  for (const std::string name : {"dog", "cat", "empty"}) make_folder(folder, name);
  for (const std::string name :
       {"dog/2.JPG", "dog/1.png", "cat/x.gif", "cat/notes.txt", "cat/y.tiff", "loose.png"})
    folder.file(name, "");
  CHECK(samples_in(folder, "") ==
        std::vector<Labelled>{{"cat/x.gif", 0}, {"dog/1.png", 1}, {"dog/2.JPG", 1}});
  CHECK(samples_in(folder, "dog") == std::vector<Labelled>{{"dog/1.png", -1}, {"dog/2.JPG", -1}});
  CHECK(contains(error_of([&] { load_samples(folder / "empty"); }), "empty: no images in it"));
}

TEST_CASE("samples: drawn by SplitMix64, none twice") {
  std::vector<Sample> all;
  for (int i = 0; i < 10; i++) all.push_back({std::to_string(i), i});
  // Its first outputs from seed 0 are e220a8397b1dcdaf, 6e789e6aa1b965f4 and 06c45d188009454f
  // (Steele, Lea and Flood 2014): 5, 0 and 7 modulo the 10, 9 and 8 that are left.
  const std::vector<Sample> three = draw_samples(all, 3, 0);
  REQUIRE(three.size() == 3);
  CHECK(three[0].label == 5);
  CHECK(three[1].label == 1);
  CHECK(three[2].label == 9);

  std::set<int> seen;
  for (const Sample& s : draw_samples(all, 9, 42)) seen.insert(s.label);
  CHECK(seen.size() == 9);
  CHECK(draw_samples(all, 3, 1).front().label != draw_samples(all, 3, 2).front().label);
  const std::vector<Sample> same = draw_samples(all, 10, 3);
  for (int i = 0; i < 10; i++) CHECK(same[static_cast<size_t>(i)].label == i);
}
