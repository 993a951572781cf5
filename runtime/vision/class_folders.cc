#include "runtime/vision/class_folders.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "models/base/error.h"
#include "models/base/index.h"
#include "models/base/listed.h"
#include "runtime/vision/wordnet_ids.h"

namespace vitrun {
namespace {

using Names = std::vector<std::string>;

constexpr size_t kShown = 5;  // folders named in a message

std::string normalised(const std::string& name) {
  std::string out;
  for (char c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 'a' - 'A');
    if (c == '_') c = ' ';
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

Names parts_of(const std::string& folder) {
  Names parts;
  for (size_t begin = 0; begin < folder.size();) {
    const size_t end = std::min(folder.find('/', begin), folder.size());
    parts.push_back(folder.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// The classes that go by a name: a whole label, or, where none has it, the first synonym of one.
class LabelNames {
 public:
  explicit LabelNames(const Names& labels) {
    for (int c = 0; c < count_of(labels); c++) {
      const std::string& label = at(labels, c);
      whole_[normalised(label)].push_back(c);
      const size_t comma = label.find(',');
      if (comma != label.npos) first_[normalised(label.substr(0, comma))].push_back(c);
    }
  }

  std::optional<int> operator()(const std::string& folder) const {
    const std::string name = normalised(folder);
    const auto whole = whole_.find(name), first = first_.find(name);
    if (whole == whole_.end() && first == first_.end()) return std::nullopt;
    const std::vector<int>& classes = whole != whole_.end() ? whole->second : first->second;
    if (classes.size() > 1)
      fail("folder '", folder, "' is the name of classes ", classes[0], " and ", classes[1],
           " of the model: give a list of `path label` lines instead");
    return classes[0];
  }

 private:
  std::map<std::string, std::vector<int>> whole_, first_;
};

using ClassOf = std::function<std::optional<int>(const std::string& folder)>;

// The folders of a list of images, level by level.
class Levels {
 public:
  explicit Levels(const ImageList& images) {
    for (const std::string& folder : images.folders) parts_.push_back(parts_of(folder));
    for (const std::string& folder : images.empty_folders) empty_.push_back(parts_of(folder));
    for (const Names& p : parts_) depth_ = std::max(depth_, p.size());
  }

  size_t depth() const { return depth_; }
  // The name of a sample's folder at a level; null for an image that lies further out.
  const std::string* name(size_t sample, size_t level) const {
    return level < parts_[sample].size() ? &parts_[sample][level] : nullptr;
  }
  // The names of the folders with images at a level, in their order.
  Names names(size_t level) const {
    std::set<std::string> found;
    for (const Names& p : parts_)
      if (level < p.size()) found.insert(p[level]);
    return {found.begin(), found.end()};
  }
  // The names of those without, which lie in the same outer folder.
  Names empty(size_t level) const {
    Names found;
    for (const Names& p : empty_)
      if (p.size() == level + 1 && std::equal(p.begin(), p.end() - 1, parts_[0].begin()))
        found.push_back(p[level]);
    return found;
  }
  // The number of images that lie further out than a level.
  size_t outside(size_t level) const {
    return static_cast<size_t>(
        std::ranges::count_if(parts_, [&](const Names& p) { return p.size() <= level; }));
  }

 private:
  std::vector<Names> parts_, empty_;
  size_t depth_ = 0;
};

// Labels the samples if the names of some level are classes; false if there is no such level.
bool label_by_name(ImageList& images, const Levels& levels, const ClassOf& class_of) {
  for (size_t level = 0; level < levels.depth(); level++) {
    Names known, unknown;
    for (const std::string& name : levels.names(level))
      (class_of(name) ? known : unknown).push_back(name);
    if (known.empty()) continue;
    if (!unknown.empty())
      fail(images.source, ": ", known.size(), " folders have names of the model's classes, as ",
           listed({known[0]}, kShown), ", and ", unknown.size(),
           " have not: ", listed(unknown, kShown));
    for (size_t i = 0; i < images.samples.size(); i++)
      if (const std::string* name = levels.name(i, level))
        images.samples[i].label = *class_of(*name);
    return true;
  }
  return false;
}

std::string unlabelled_note(const ImageList& images) {
  const auto count =
      std::ranges::count_if(images.samples, [](const Sample& s) { return s.label < 0; });
  if (count == 0) return "";
  return cat(images.source, ": ", count, " images that lie in no class folder have no label");
}

// The outermost level at which there is more than one folder, or the innermost one.
size_t level_to_number(const Levels& levels) {
  size_t level = 0;
  while (level + 1 < levels.depth() && levels.names(level).size() == 1 &&
         levels.outside(level + 1) == 0)
    level++;
  return level;
}

void check_numbering(const ImageList& images, const Levels& levels, size_t level) {
  const Names names = levels.names(level);
  if (const size_t outside = levels.outside(level))
    fail(images.source, ": ", outside, " images lie beside the folders ", listed(names, kShown),
         ", whose names are none of the model's classes: give a folder that has only class "
         "folders, or a list of `path label` lines");
  const auto is_split = [](const std::string& name) {
    const std::set<std::string> known = {"train", "training",   "val",  "valid",
                                         "dev",   "validation", "test", "testing"};
    return known.contains(normalised(name));
  };
  if (names.size() > 1 && std::ranges::all_of(names, is_split))
    fail(images.source, ": the folders ", listed(names, kShown),
         " are parts of a data set: give one of them");
}

// Numbers the folders in their order; returns what is to be said about it.
std::string number_folders(ImageList& images, const Levels& levels, const ModelInfo& model) {
  const size_t level = level_to_number(levels);
  check_numbering(images, levels, level);
  Names names = levels.names(level);
  const Names empty = levels.empty(level);
  names.insert(names.end(), empty.begin(), empty.end());
  std::ranges::sort(names);
  std::map<std::string, int> numbers;
  for (int c = 0; c < count_of(names); c++) numbers[at(names, c)] = c;
  for (size_t i = 0; i < images.samples.size(); i++)
    images.samples[i].label = numbers.at(*levels.name(i, level));
  std::string note = cat(images.source, ": folders are classes in the order of their names:");
  for (int c = 0; c < std::min(count_of(names), 3); c++)
    note += cat(c == 0 ? " " : ", ", c, " = '", at(names, c), "'");
  if (names.size() > 3) note += cat(", … ", names.size() - 1, " = '", names.back(), "'");
  if (!empty.empty()) note += cat("; there is no image in ", listed(empty, kShown));
  if (model.num_classes > 0 && count_of(names) != model.num_classes)
    note += cat("; WARNING: there are ", names.size(), " folders and ", model.num_classes,
                " classes, so that numbers are probably wrong: name the folders as the model's "
                "labels, or give a list of `path label` lines");
  return note;
}

}  // namespace

Labelling label_by_folder(ImageList& images, const ModelInfo& model) {
  if (images.folders.empty()) {
    const bool any =
        std::ranges::any_of(images.samples, [](const Sample& s) { return s.label >= 0; });
    return {any ? "list" : "none", ""};
  }
  const Levels levels(images);
  if (levels.depth() == 0) return {"none", ""};
  if (label_by_name(images, levels, LabelNames(model.labels)))
    return {"label names", unlabelled_note(images)};
  constexpr int kImageNetClasses = 1000;
  if (model.num_classes == kImageNetClasses && label_by_name(images, levels, wordnet_class))
    return {"WordNet ids", unlabelled_note(images)};
  return {"folder order", number_folders(images, levels, model)};
}

}  // namespace vitrun
