#include "lrp/program/image_work.h"

#include <charconv>
#include <memory>

#include "models/base/error.h"
#include "runtime/files/npy.h"
#include "runtime/program/cli.h"
#include "runtime/vision/class_folders.h"

namespace vitrun {
namespace {

// Appends what `more` holds, whose only image is the one at `position`.
void append(LoadedImages more, size_t position, LoadedImages& all) {
  if (all.images.dims.empty()) all.images.dims = more.images.dims, all.images.dims[0] = 0;
  all.images.dims[0] += more.images.dims[0];
  all.images.data.insert(all.images.data.end(), more.images.data.begin(), more.images.data.end());
  if (!more.read.empty()) all.read.push_back(position);
  for (UnreadImage& image : more.unread) all.unread.push_back({position, std::move(image.why)});
}

struct Shard {
  int index = 0, count = 1;
};

// Reads --shard I/N.
Shard shard_option(const cxxopts::ParseResult& args) {
  Shard out;
  if (!args.count("shard")) return out;
  const std::string shard = args["shard"].as<std::string>();
  const char* const end = shard.data() + shard.size();
  const auto index_end = std::from_chars(shard.data(), end, out.index);
  const bool parts = index_end.ec == std::errc() && index_end.ptr != end && *index_end.ptr == '/';
  const auto count_end = std::from_chars(parts ? index_end.ptr + 1 : end, end, out.count);
  if (!parts || count_end.ec != std::errc() || count_end.ptr != end || out.index < 0 ||
      out.index >= out.count)
    throw UsageError(cat("--shard must be I/N with 0 <= I < N, got '", shard, "'"));
  return out;
}

// The elements i, i + n, i + 2n, ... of `all`, for a shard i/n. Fails if there are none.
template <class T>
std::vector<T> part_of(const std::vector<T>& all, const Shard& shard) {
  std::vector<T> taken;
  for (int64_t i = shard.index; i < count_of(all); i += shard.count) taken.push_back(at(all, i));
  if (taken.empty()) fail("--shard ", shard.index, "/", shard.count, " has no image");
  return taken;
}

void take_shard(const Shard& shard, Work& work) {
  if (!work.labels.empty()) {
    work.labels.resize(array_size(work.count));
    work.labels = part_of(work.labels, shard);
  }
  work.targets = part_of(work.targets, shard);
  work.count = count_of(work.targets);
  work.load = [load = work.load, shard](int64_t first, int64_t n) {
    LoadedImages all;
    for (int64_t i = first; i < first + n; i++)
      append(load(shard.index + i * shard.count, 1), static_cast<size_t>(i), all);
    return all;
  };
}

int64_t limit_option(const cxxopts::ParseResult& args) {
  return args.count("limit") ? int_option(args, "limit", 1, 1 << 30) : INT64_MAX;
}

void choose_targets(const cxxopts::ParseResult& args, const ModelInfo& config, Work& work) {
  work.targets.assign(static_cast<size_t>(work.count), -1);
  if (args.count("class") + args.count("labels") > 1) throw UsageError("give --class or --labels");
  if (config.num_classes == 0) {
    for (const char* option : {"class", "labels"})
      if (args.count(option))
        fail("--", option, ": the model has no classes; without it the embedding is explained");
    work.target = "embedding";
    return;
  }
  if (args.count("class")) {
    const int c = int_option(args, "class", 0, 1 << 20);
    work.targets.assign(work.targets.size(), c);
    work.target = cat("class ", c);
  }
  if (!args.count("labels")) return;
  const std::string list = args["labels"].as<std::string>();
  for (size_t i = 0; i < work.targets.size(); i++) {
    if (i >= work.labels.size() || work.labels[i] < 0)
      fail(list, ": image ", i, " has no label; expected `path label` lines for ", work.count,
           " images");
    work.targets[i] = work.labels[i];
  }
  work.target = "labels";
}

// Finds the images of a list or folder; labels of a folder only if they are needed.
std::vector<Sample> find_samples(const std::string& list_or_dir, const ModelInfo& config,
                                 bool labelled) {
  ImageList list = find_images(list_or_dir);
  std::fputs(left_out_note(list).c_str(), stderr);
  if (!labelled) return list.samples;
  if (const Labelling labelling = label_by_folder(list, config); !labelling.note.empty())
    std::fprintf(stderr, "%s\n", labelling.note.c_str());
  return list.samples;
}

}  // namespace

// The classes of the images that were read.
std::vector<int> of_read(const LoadedImages& batch, const std::vector<int>& classes) {
  std::vector<int> out;
  for (size_t i : batch.read) out.push_back(classes[i]);
  return out;
}

Work choose_work(const cxxopts::ParseResult& args, const ModelInfo& config, bool labelled) {
  if (args.count("images") + args.count("raw") != 1) throw UsageError("give --images or --raw");
  Work work;
  const int64_t limit = limit_option(args);
  // The list of labels, if there is one, is the list of images too.
  const bool by_labels = args.count("labels") > 0, raw = args.count("raw") > 0;
  std::vector<Sample> samples;
  if (!raw || by_labels)
    samples = find_samples(args[by_labels ? "labels" : "images"].as<std::string>(), config,
                           labelled || by_labels);
  if (raw) {
    auto all = std::make_shared<Tensor>(read_raw_images(args["raw"].as<std::string>(), config));
    work.count = std::min(all->dims[0], limit);
    work.load = [all](int64_t first, int64_t n) { return loaded_part(*all, first, n); };
  } else {
    auto loader = std::make_shared<ImageLoader>(config, exif_option(args));
    work.count = std::min(static_cast<int64_t>(samples.size()), limit);
    work.load = [loader, samples](int64_t first, int64_t n) {
      return loader->load(samples, static_cast<size_t>(first), static_cast<size_t>(n));
    };
  }
  for (const Sample& s : samples) work.labels.push_back(s.label);
  choose_targets(args, config, work);
  if (args.count("shard")) take_shard(shard_option(args), work);
  return work;
}

std::vector<std::string> choose_photos(const cxxopts::ParseResult& args, const ModelInfo& config) {
  if (!args.count("images")) throw UsageError("a detector needs photographs: --images DIR|LIST");
  for (const char* other : {"raw", "labels"})
    if (args.count(other)) throw UsageError(cat("a detector takes no --", other));
  std::vector<std::string> paths;
  for (const Sample& s : find_samples(args["images"].as<std::string>(), config, false))
    if (count_of(paths) < limit_option(args)) paths.push_back(s.path);
  return part_of(paths, shard_option(args));
}

}  // namespace vitrun
