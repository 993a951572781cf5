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
  for (const char* known : {".jpg", ".jpeg", ".png", ".bmp", ".gif"})
    if (extension == known) return true;
  return false;
}

std::vector<fs::path> sorted_entries(const fs::path& dir) {
  std::vector<fs::path> entries;
  for (const auto& e : fs::directory_iterator(dir)) entries.push_back(e.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

void add_images(const fs::path& dir, int label, std::vector<Sample>& out) {
  for (const fs::path& p : sorted_entries(dir))
    if (fs::is_regular_file(p) && is_image(p)) out.push_back({p.string(), label});
}

std::vector<Sample> from_folder(const fs::path& dir) {
  std::vector<Sample> out;
  int label = 0;
  for (const fs::path& p : sorted_entries(dir))
    if (fs::is_directory(p)) add_images(p, label++, out);
  if (label == 0) add_images(dir, -1, out);
  return out;
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
  const MappedFile file(list);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  return parse_list(text, fs::path(list).parent_path().string(), list);
}

}  // namespace

std::vector<Sample> parse_list(std::string_view text, const std::string& folder,
                               const std::string& where) {
  std::vector<Sample> out;
  for (int number = 1; !text.empty(); number++) {
    const std::string line(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.find_first_not_of(" \t\r") != line.npos)
      out.push_back(parse_line(line, folder, cat(where, ":", number)));
  }
  return out;
}

std::vector<Sample> load_samples(const std::string& list_or_dir) {
  std::vector<Sample> out;
  try {
    if (!fs::exists(list_or_dir)) fail(list_or_dir, ": no such list or folder of images");
    out = fs::is_directory(list_or_dir) ? from_folder(list_or_dir) : from_list(list_or_dir);
  } catch (const fs::filesystem_error& e) {
    fail(list_or_dir, ": ", e.code().message());
  }
  if (out.empty()) fail(list_or_dir, ": no images in it");
  return out;
}

std::vector<Sample> draw_samples(std::vector<Sample> samples, size_t count, uint64_t seed) {
  if (count >= samples.size()) return samples;
  for (size_t i = 0; i < count; i++) {  // the first steps of a Fisher-Yates shuffle
    uint64_t z = (seed += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    std::swap(samples[i], samples[i + (z ^ z >> 31) % (samples.size() - i)]);
  }
  samples.resize(count);
  return samples;
}

}  // namespace vitrun
