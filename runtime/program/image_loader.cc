#include "runtime/program/image_loader.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "models/base/error.h"
#include "models/base/index.h"

namespace vitrun {

void ImageLoader::load_one(const std::string& path, std::span<float> out) {
  const Image image = load_image(path, exif_);
  try {
    preprocess(view_of(image), config_, out, scratch_);
  } catch (const Error& e) {
    fail(path, ": ", e.what());
  }
}

LoadedImages ImageLoader::load(const std::vector<Sample>& samples, size_t first, size_t count) {
  LoadedImages out;
  const size_t size = 3 * array_size(config_.image_height, config_.image_width);
  out.images.data.resize(count * size);
  for (size_t i = first; i < first + count; i++) {
    try {
      load_one(samples[i].path, std::span(out.images.data).subspan(out.read.size() * size, size));
      out.read.push_back(i);
    } catch (const Error& e) {
      out.unread.push_back({i, e.what()});
    }
  }
  out.images.data.resize(out.read.size() * size);
  out.images.dims = {static_cast<int64_t>(out.read.size()), 3, config_.image_height,
                     config_.image_width};
  return out;
}

LoadedImages loaded_part(const Tensor& all, int64_t first, int64_t n) {
  LoadedImages part;
  part.images = slice(all, first, n);
  for (int64_t i = first; i < first + n; i++) part.read.push_back(static_cast<size_t>(i));
  return part;
}

Tensor ImageLoader::load_all(const std::vector<Sample>& samples, size_t first, size_t count) {
  LoadedImages loaded = load(samples, first, count);
  if (!loaded.unread.empty()) throw FileError(loaded.unread[0].why);
  return std::move(loaded.images);
}

std::optional<LoadedImages> Batches::next() {
  if (first_ >= total_) return {};
  LoadedImages loaded = coming_.valid() ? coming_.get() : load_at(first_);
  first_ += batch_;
  if (first_ >= total_ || !ahead_) return loaded;
  try {
    coming_ = std::async(std::launch::async, [this, at = first_] { return load_at(at); });
  } catch (const std::system_error&) {  // no thread is to be had: loaded when asked for
    coming_ = {};
  }
  return loaded;
}

std::vector<UnreadImage> for_each_batch(ImageLoader& loader, const std::vector<Sample>& samples,
                                        size_t batch, const std::function<void(double)>& progress,
                                        const std::function<void(const LoadedImages&)>& body) {
  std::vector<UnreadImage> unread;
  for (size_t first = 0; first < samples.size(); first += batch) {
    const size_t n = std::min(batch, samples.size() - first);
    const LoadedImages loaded = loader.load(samples, first, n);
    unread.insert(unread.end(), loaded.unread.begin(), loaded.unread.end());
    if (progress) progress(ratio(first + n, samples.size()));
    if (!loaded.read.empty()) body(loaded);
  }
  if (unread.size() == samples.size())
    fail(unread_note(unread), "none of ", samples.size(), " images could be read");
  return unread;
}

std::string unread_note(const std::vector<UnreadImage>& unread) {
  if (unread.empty()) return "";
  constexpr size_t kMost = 10;
  std::string text;
  for (size_t i = 0; i < std::min(unread.size(), kMost); i++) text += unread[i].why + "\n";
  return cat(text, unread.size(), unread.size() == 1 ? " image" : " images",
             " could not be read and left out",
             unread.size() > kMost ? "; the first are named above\n" : "\n");
}

std::string left_out_note(const ImageList& images) {
  if (images.left_out.empty()) return "";
  constexpr size_t kMost = 5;
  std::string names;
  for (size_t i = 0; i < std::min(images.left_out.size(), kMost); i++)
    names += (i == 0 ? "" : ", ") + images.left_out[i];
  return cat(images.source,
             ": left out, as their names are not those of images: ", images.left_out.size(),
             images.left_out.size() == 1 ? " file, " : " files, ", names,
             images.left_out.size() > kMost ? ", …\n" : "\n");
}

std::vector<Sample> named_images(const std::vector<std::string>& paths) {
  std::vector<Sample> samples;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!std::filesystem::is_directory(path, ignored)) {
      samples.push_back({path, -1});
      continue;
    }
    const ImageList list = find_images(path);
    std::cerr << left_out_note(list);
    samples.insert(samples.end(), list.samples.begin(), list.samples.end());
  }
  return samples;
}

std::vector<Sample> take_readable(const std::vector<Sample>& samples, size_t count,
                                  ImageLoader& loader, std::vector<UnreadImage>& unread) {
  const size_t wanted = std::min(count, samples.size());
  std::vector<Sample> drawn;
  for (size_t i = 0; i < samples.size() && drawn.size() < wanted; i++) {
    const LoadedImages one = loader.load(samples, i, 1);
    unread.insert(unread.end(), one.unread.begin(), one.unread.end());
    if (one.unread.empty()) drawn.push_back(samples[i]);
  }
  if (2 * drawn.size() < wanted)
    fail(unread_note(unread), "only ", drawn.size(), " of ", wanted,
         " calibration images could be read, expected at least half");
  return drawn;
}

}  // namespace vitrun
