// Decodes and preprocesses images for a model. An image that cannot be read ends no run: it is
// named and left out, and the program decides whether enough remain.
#pragma once

#include <algorithm>
#include <functional>
#include <future>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/base/tensor.h"
#include "models/graph/model_info.h"
#include "runtime/vision/dataset.h"
#include "runtime/vision/image.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {

struct UnreadImage {
  size_t index = 0;  // among the samples
  std::string why;   // begins with the path
};

struct LoadedImages {
  Tensor images;             // [n, 3, H, W], those that could be read, in the samples' order
  std::vector<size_t> read;  // the index of each of them among the samples
  std::vector<UnreadImage> unread;
};

// Images [first, first + n) of a tensor that is in memory.
LoadedImages loaded_part(const Tensor& all, int64_t first, int64_t n);

// Only one thread may use a loader at a time.
class ImageLoader {
 public:
  ImageLoader(const ModelInfo& config, Exif exif) : config_(config), exif_(exif) {}

  const ModelInfo& config() const { return config_; }
  // Loads samples [first, first + count).
  LoadedImages load(const std::vector<Sample>& samples, size_t first, size_t count);
  // The same for samples that must all be there, as [count, 3, H, W]: fails at one that cannot be
  // read.
  Tensor load_all(const std::vector<Sample>& samples, size_t first, size_t count);

 private:
  void load_one(const std::string& path, std::span<float> out);

  ModelInfo config_;
  Exif exif_;
  PreprocessScratch scratch_;
};

// Batches of `total` images in their order. With `ahead` the next one is loaded on a thread of its
// own while the caller works on the last one, which pays where a CPU is free for it.
class Batches {
 public:
  // Loads images first .. first + n. It is called once at a time, and never after the destructor.
  using Load = std::function<LoadedImages(int64_t first, int64_t n)>;

  Batches(Load load, int64_t total, int64_t batch, bool ahead)
      : load_(std::move(load)), total_(total), batch_(batch), ahead_(ahead) {}

  // The next batch; none after the last. Throws what Load throws.
  std::optional<LoadedImages> next();

 private:
  LoadedImages load_at(int64_t first) const {
    return load_(first, std::min(batch_, total_ - first));
  }

  Load load_;
  int64_t total_, batch_, first_ = 0;
  bool ahead_;
  std::future<LoadedImages> coming_;
};

// Loads the samples in batches and calls body() with each that holds images; `progress` gets the
// fraction done. Returns the samples that could not be read; fails if these are all.
std::vector<UnreadImage> for_each_batch(ImageLoader& loader, const std::vector<Sample>& samples,
                                        size_t batch, const std::function<void(double)>& progress,
                                        const std::function<void(const LoadedImages&)>& body);

// Returns lines that name the images that were left out, at most ten; empty for none.
std::string unread_note(const std::vector<UnreadImage>& unread);
// Returns a line that names files of a folder that are no images, at most five; empty for none.
std::string left_out_note(const ImageList& images);

// The images that a program was given by name, those of folders among them. Says on stderr which
// files of folders are no images.
std::vector<Sample> named_images(const std::vector<std::string>& paths);

// Takes the first `count` samples, or all if there are no more. Those that cannot be read are
// replaced by later ones while there are any, and appended to `unread`. Fails if fewer than half of
// what could be had remain.
std::vector<Sample> take_readable(const std::vector<Sample>& samples, size_t count,
                                  ImageLoader& loader, std::vector<UnreadImage>& unread);

}  // namespace vitrun
