#include "runtime/vision/dataset.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "models/base/error.h"
#include "runtime/files/mapped_file.h"

namespace vitrun {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxLabel = 1000000;

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](char c) { return static_cast<char>(c | 32); });
  for (const char* known :
       {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif"})
    if (extension == known) return true;
  return false;
}

std::vector<fs::path> sorted_entries(const fs::path& dir) {
  std::vector<fs::path> entries;
  for (const auto& e : fs::directory_iterator(dir)) entries.push_back(e.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

bool is_clutter(const std::string& name) {
  for (const char* known : {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"})
    if (name == known) return true;
  return name.starts_with('.');
}

// Adds what a folder holds and returns the number of images. `below` is its path from the folder
// that was given, and has `depth` parts.
size_t add_folder(const fs::path& dir, const std::string& below, int depth, ImageList& out) {
  constexpr int kMaxDepth = 16;  // links may lead round in circles
  if (depth > kMaxDepth) fail(dir.string(), ": folders are nested more than ", kMaxDepth, " deep");
  size_t images = 0;
  for (const fs::path& p : sorted_entries(dir)) {
    const std::string name = p.filename().string(),
                      path = below.empty() ? name : cat(below, "/", name);
    if (is_clutter(name)) continue;
    if (fs::is_directory(p)) {
      images += add_folder(p, path, depth + 1, out);
    } else if (fs::is_regular_file(p) && is_image(p)) {
      images++;
      out.samples.push_back({p.string(), -1});
      out.folders.push_back(below);
    } else {
      out.left_out.push_back(path);
    }
  }
  if (images == 0) out.empty_folders.push_back(below);
  return images;
}

// Parses "some path.jpg 12" or "some path.jpg". The last word is a label unless the whole line
// names a file.
Sample parse_line(const std::string& line, const fs::path& folder, const std::string& where) {
  const size_t end = line.find_last_not_of(" \t\r"), space = line.find_last_of(" \t", end);
  Sample s;
  s.path = (folder / line.substr(0, end + 1)).string();
  std::error_code ignored;
  if (fs::is_regular_file(s.path, ignored)) return s;
  if (space != std::string::npos) {
    const char *first = line.data() + space + 1, *last = line.data() + end + 1;
    const auto [stop, error] = std::from_chars(first, last, s.label);
    if (error != std::errc() || stop != last || s.label < 0 || s.label > kMaxLabel)
      fail(where, ": '", std::string(first, last), "' is no class index");
    s.path = (folder / line.substr(0, line.find_last_not_of(" \t", space) + 1)).string();
  }
  if (!fs::is_regular_file(s.path, ignored)) fail(where, ": there is no file '", s.path, "'");
  return s;
}

std::vector<Sample> from_list(const std::string& list) {
  if (is_image(list))
    fail(list, ": is an image, expected a folder of images or a list of `path label` lines");
  const MappedFile file(list);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  return parse_list(text, fs::path(list).parent_path().string(), list);
}

}  // namespace

std::vector<Sample> parse_list(std::string_view text, const std::string& folder,
                               const std::string& where) {
  std::vector<Sample> out;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);  // a byte order mark
  for (int number = 1; !text.empty(); number++) {
    const std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") != line.npos)
      out.push_back(parse_line(line, folder, cat(where, ":", number)));
  }
  return out;
}

ImageList find_images(const std::string& list_or_dir) {
  ImageList out;
  out.source = list_or_dir;
  try {
    if (!fs::exists(list_or_dir)) fail(list_or_dir, ": no such list or folder of images");
    if (fs::is_directory(list_or_dir))
      add_folder(list_or_dir, "", 0, out);
    else
      out.samples = from_list(list_or_dir);
  } catch (const fs::filesystem_error& e) {
    fail(list_or_dir, ": ", e.code().message());
  }
  if (out.samples.empty()) fail(list_or_dir, ": no images in it");
  return out;
}

std::vector<Sample> shuffle_samples(std::vector<Sample> samples, uint64_t seed) {
  for (size_t i = 0; i < samples.size(); i++) {  // Fisher-Yates
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    std::swap(samples[i], samples[i + (z ^ z >> 31) % (samples.size() - i)]);
  }
  return samples;
}

}  // namespace vitrun
