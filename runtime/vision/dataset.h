// Reads lists of images from a text file or a folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vitrun {

struct Sample {
  std::string path;
  int label = -1;  // a class index, -1 for none
};

// The images of a list or a folder.
struct ImageList {
  std::string source;  // the list or folder, as it was given
  std::vector<Sample> samples;
  // For a folder: each sample's own folder below it, as in "train/cat"; "" for those directly in
  // it. Empty for a list.
  std::vector<std::string> folders;
  std::vector<std::string> empty_folders;  // folders below it in which there is no image
  std::vector<std::string> left_out;       // files below it whose names are not those of images
};

// Reads a list or a folder of images.
//   A list has one `path label` on each line. The path is relative to the list's own folder; the
//   label, a class index, may be missing.
//   A folder is searched with the folders in it, in the order of their names. Its samples have no
//   label yet: label_by_folder() (class_folders.h) gives them. What systems and programs leave
//   behind does not count: names that begin with a dot, __MACOSX, @eaDir, Thumbs.db, desktop.ini.
// Fails if there is no image, on a label that is no number, and on a line whose file is missing.
ImageList find_images(const std::string& list_or_dir);
// Parses the text of a list that lies in `folder`; `where` names it in messages.
std::vector<Sample> parse_list(std::string_view text, const std::string& folder,
                               const std::string& where);

// Shuffles samples with a generator that is the same everywhere (SplitMix64); the first n are a
// draw of n without replacement.
std::vector<Sample> shuffle_samples(std::vector<Sample> samples, uint64_t seed);

}  // namespace vitrun
