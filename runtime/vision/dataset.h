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

// Reads a list or a folder of images.
//   A list has one `path label` on each line. The path is relative to the list's own folder; the
//   label, a class index, may be missing.
//   A folder has one folder for each class, in the order of their sorted names, or loose images,
//   which have no label. Images are sorted by name.
// Fails if there is no image, on a label that is no number, and on a line whose file is missing.
std::vector<Sample> load_samples(const std::string& list_or_dir);
// Parses the text of a list that lies in `folder`; `where` names it in messages.
std::vector<Sample> parse_list(std::string_view text, const std::string& folder,
                               const std::string& where);

// Draws `count` samples without replacement, with a generator that is the same everywhere
// (SplitMix64). Returns all in their order if there are no more than `count`.
std::vector<Sample> draw_samples(std::vector<Sample> samples, size_t count, uint64_t seed);

}  // namespace vitrun
