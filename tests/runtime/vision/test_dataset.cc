// Lists and folders of images, and the classes that folders stand for.
#include <functional>
#include <set>

#include "models/base/error.h"
#include "runtime/program/image_loader.h"
#include "runtime/vision/class_folders.h"
#include "runtime/vision/wordnet_ids.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

using namespace vitrun;

namespace {

struct Labelled {
  std::string name;
  int label;
  bool operator==(const Labelled&) const = default;
};

ModelInfo model_of(const std::vector<std::string>& labels) {
  ModelInfo model;
  model.labels = labels;
  model.num_classes = static_cast<int>(labels.size());
  return model;
}

ModelInfo model_of(int classes) {
  ModelInfo model;
  model.num_classes = classes;
  return model;
}

// Empty files of these names, and their folders.
void make_files(const TempFolder& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    std::filesystem::create_directories(std::filesystem::path(folder / name).parent_path());
    folder.file(name, "");
  }
}

struct Found {
  std::vector<Labelled> samples;  // names relative to the folder
  Labelling labelling;
};

Found labelled(const TempFolder& folder, const std::string& list, const ModelInfo& model) {
  ImageList images = find_images(folder / list);
  Found found{{}, label_by_folder(images, model)};
  const size_t skip = (folder / "").size();
  for (const Sample& s : images.samples) found.samples.push_back({s.path.substr(skip), s.label});
  return found;
}

std::string refusal(const TempFolder& folder, const ModelInfo& model) {
  return error_of([&] { labelled(folder, "", model); });
}

TEST_CASE("batches come in their order, loaded ahead or not, and what loading throws comes out") {
  for (bool ahead : {false, true}) {
    std::vector<int64_t> loaded;
    Batches batches(
        [&](int64_t first, int64_t n) {
          if (first == 6) fail("no image ", first);
          loaded.push_back(first);
          return LoadedImages{Tensor({n, 1}), {static_cast<size_t>(first)}, {}};
        },
        7, 3, ahead);
    for (size_t first : {size_t{0}, size_t{3}}) {
      const auto batch = batches.next();
      REQUIRE(batch);
      CHECK(batch->read[0] == first);
      CHECK(batch->images.dims[0] == 3);
    }
    CHECK_THROWS_WITH_AS(batches.next(), "no image 6", Error);
    CHECK(loaded == std::vector<int64_t>{0, 3});
  }
  Batches none([](int64_t, int64_t) { return LoadedImages(); }, 0, 1, true);
  CHECK(!none.next());
}

}  // namespace

TEST_CASE("lists: paths are relative to the list, may hold spaces, labels are optional") {
  const TempFolder folder;
  make_files(folder, {"a.png", "two words.jpg", "sub/b.bmp", "7"});
  folder.file("list.txt",
              "\xEF\xBB\xBF"
              "a.png 3\r\n\n  \ntwo words.jpg 0\ntwo words.jpg\nsub/b.bmp\t12\n7\n7 1");
  const Found found = labelled(folder, "list.txt", model_of(20));
  CHECK(found.samples == std::vector<Labelled>{{"a.png", 3},
                                               {"two words.jpg", 0},
                                               {"two words.jpg", -1},
                                               {"sub/b.bmp", 12},
                                               {"7", -1},
                                               {"7", 1}});
  CHECK(found.labelling.from == "list");
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
    const std::string error = error_of([&] { find_images(path); });
    CAPTURE(error);
    CHECK(contains(error, message));
  }
  CHECK(contains(error_of([] { find_images("/nonexistent"); }), "no such list or folder"));
  CHECK(contains(error_of([&] { find_images(folder / "a.png"); }), "a.png: is an image, expected"));
}

TEST_CASE("folders: what systems leave behind does not count, other files are named") {
  const TempFolder folder;
  make_files(folder, {".DS_Store", ".hidden/a.png", "__MACOSX/a.png", ".ipynb_checkpoints/1.png",
                      "@eaDir/a.png", "Thumbs.db", "desktop.ini", "._1.png", "notes.txt", "1.png",
                      "2.WebP", "3.jfif", "empty/readme.md"});
  const ImageList images = find_images(folder / "");
  CHECK(images.samples.size() == 3);
  CHECK(images.left_out == std::vector<std::string>{"empty/readme.md", "notes.txt"});
  CHECK(left_out_note(images) == images.source +
                                     ": left out, as their names are not those of "
                                     "images: 2 files, empty/readme.md, notes.txt\n");
  CHECK(labelled(folder, "", model_of(2)).labelling.from == "none");
  CHECK(contains(error_of([&] { find_images(folder / "empty"); }), "empty: no images in it"));
}

TEST_CASE("folders: a name that is a label is that class") {
  const TempFolder folder;
  make_files(folder, {"great_white  Shark/1.png", "TENCH/2.png", "hen/sub/3.png", "loose.png"});
  const Found found = labelled(
      folder, "", model_of({"cock", "hen", "tench, Tinca tinca", "great white shark", "ostrich"}));
  CHECK(found.samples == std::vector<Labelled>{{"TENCH/2.png", 2},
                                               {"great_white  Shark/1.png", 3},
                                               {"hen/sub/3.png", 1},
                                               {"loose.png", -1}});
  CHECK(found.labelling.from == "label names");
  CHECK(contains(found.labelling.note, "1 images that lie in no class folder have no label"));
}

TEST_CASE("folders: class names may be further in") {
  const TempFolder folder;
  make_files(folder, {"train/hen/1.png", "val/cock/2.png", "val/hen/3.png"});
  const Found found = labelled(folder, "", model_of({"cock", "hen", "ostrich"}));
  CHECK(found.samples ==
        std::vector<Labelled>{{"train/hen/1.png", 1}, {"val/cock/2.png", 0}, {"val/hen/3.png", 1}});
}

TEST_CASE("folders: a whole label goes before a synonym, and two of one name are refused") {
  const TempFolder folder;
  make_files(folder, {"maillot/1.png"});
  CHECK(labelled(folder, "", model_of({"maillot, tank suit", "maillot"})).samples[0].label == 1);
  CHECK(contains(refusal(folder, model_of({"maillot", "hen", "maillot"})),
                 "'maillot' is the name of classes 0 and 2"));
}

TEST_CASE("folders: WordNet ids are ImageNet's classes, for a model of 1000") {
  const TempFolder folder;
  make_files(folder, {"n02123045/1.png", "n01440764/2.png", "n15075141/3.png"});
  const Found found = labelled(folder, "", model_of(1000));
  CHECK(found.samples == std::vector<Labelled>{{"n01440764/2.png", 0},
                                               {"n02123045/1.png", 281},
                                               {"n15075141/3.png", 999}});
  CHECK(found.labelling.from == "WordNet ids");
  CHECK(labelled(folder, "", model_of(3)).labelling.from == "folder order");
  CHECK(!wordnet_class("n01440765"));
  CHECK(!wordnet_class("n0144076"));
}

TEST_CASE("folders: names of which only some are classes are refused") {
  const TempFolder folder;
  make_files(folder, {"hen/1.png", "hens/2.png"});
  const std::string error = refusal(folder, model_of({"cock", "hen"}));
  CHECK(contains(error, "1 folders have names of the model's classes, as 'hen'"));
  CHECK(contains(error, "1 have not: 'hens'"));
}

TEST_CASE("folders: other names are numbered in their order, and that is said") {
  const TempFolder folder;
  make_files(folder, {"set/b/1.png", "set/a/2.png", "set/b/sub/3.png"});
  std::filesystem::create_directories(folder / "set/aa");
  const Found found = labelled(folder, "", model_of(3));
  CHECK(found.samples ==
        std::vector<Labelled>{{"set/a/2.png", 0}, {"set/b/1.png", 2}, {"set/b/sub/3.png", 2}});
  CHECK(found.labelling.from == "folder order");
  CHECK(contains(found.labelling.note, "0 = 'a', 1 = 'aa', 2 = 'b'; there is no image in 'aa'"));
  CHECK(!contains(found.labelling.note, "WARNING"));
  CHECK(contains(labelled(folder, "", model_of(9)).labelling.note,
                 "WARNING: there are 3 folders and 9 classes"));
}

TEST_CASE("folders: what cannot be numbered is refused") {
  const TempFolder mixture, splits;
  make_files(mixture, {"1.png", "2.png", "thumbs/1.png"});
  CHECK(contains(refusal(mixture, model_of(2)), "2 images lie beside the folders 'thumbs'"));
  make_files(splits, {"train/a/1.png", "val/a/2.png"});
  CHECK(contains(refusal(splits, model_of(2)), "'train', 'val' are parts of a data set"));
}

TEST_CASE("samples: drawn by SplitMix64, none twice") {
  std::vector<Sample> all;
  for (int i = 0; i < 10; i++) all.push_back({std::to_string(i), i});
  // Its first outputs from seed 0 are e220a8397b1dcdaf, 6e789e6aa1b965f4 and 06c45d188009454f
  // (Steele, Lea and Flood 2014): 5, 0 and 7 modulo the 10, 9 and 8 that are left.
  const std::vector<Sample> drawn = shuffle_samples(all, 0);
  REQUIRE(drawn.size() == 10);
  CHECK(drawn[0].label == 5);
  CHECK(drawn[1].label == 1);
  CHECK(drawn[2].label == 9);

  std::set<int> seen;
  for (const Sample& s : shuffle_samples(all, 42)) seen.insert(s.label);
  CHECK(seen.size() == 10);
  CHECK(shuffle_samples(all, 1).front().label != shuffle_samples(all, 2).front().label);
}

TEST_CASE("samples that cannot be read are replaced, and too few are refused") {
  const TempFolder folder;
  std::vector<Sample> all;
  for (int i = 0; i < 6; i++) {
    const std::string name = std::to_string(i) + ".bmp";
    all.push_back({folder.file(name, i % 2 ? "no image" : bmp(8, 8, i + 1)), i});
  }
  ModelInfo config = model_of(10);
  config.image_width = config.image_height = 8;
  ImageLoader loader(config, Exif::kApply);
  const auto drawn = [&](size_t count, size_t of) {
    std::vector<UnreadImage> unread;
    const std::vector<Sample> from(all.begin(), all.begin() + static_cast<ptrdiff_t>(of));
    std::set<int> labels;
    for (const Sample& s : take_readable(shuffle_samples(from, 0), count, loader, unread))
      labels.insert(s.label);
    return labels;
  };
  CHECK(drawn(3, 6) == std::set<int>{0, 2, 4});
  CHECK(drawn(6, 6) == std::set<int>{0, 2, 4});
  CHECK(drawn(9, 1) == std::set<int>{0});
  all.erase(all.begin());
  CHECK(contains(error_of([&] { drawn(5, 5); }),
                 "only 2 of 5 calibration images could be read, expected at least half"));
}

TEST_CASE("images that cannot be read leave the others in their places") {
  const TempFolder folder;
  const std::vector<Sample> samples = {{folder.file("0.bmp", bmp(8, 8, 1)), -1},
                                       {folder / "none.bmp", -1},
                                       {folder.file("2.bmp", bmp(8, 8, 2)), -1}};
  ModelInfo config = model_of(10);
  config.image_width = config.image_height = 8;
  ImageLoader loader(config, Exif::kApply);
  const LoadedImages loaded = loader.load(samples, 0, 3);
  CHECK(loaded.read == std::vector<size_t>{0, 2});
  REQUIRE(loaded.unread.size() == 1);
  CHECK(loaded.unread[0].index == 1);
  CHECK(loaded.unread[0].why == samples[1].path + ": cannot open: No such file or directory");
  CHECK(loaded.images.dims == Dims{2, 3, 8, 8});
  CHECK(slice(loaded.images, 1, 1).data == loader.load_all(samples, 2, 1).data);
  CHECK(contains(error_of([&] { loader.load_all(samples, 0, 3); }), "none.bmp: cannot open"));
}
