// Lists of images: a text file or a folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vitrun {

struct Sample {
  std::string path;
  int label = -1;  // -1: none
};

// LIST: one `path label` a line, the path relative to the list's own folder, the label a class
// index, optional. DIR: a folder per class (classes in the order of their sorted names), or loose
// images; sorted by name. Fails if there is none, on a label that is no number, or on a line's
// missing file.
std::vector<Sample> load_samples(const std::string& list_or_dir);
// The lines of a LIST in `folder`; `where` names it in messages.
std::vector<Sample> parse_list(std::string_view text, const std::string& folder,
                               const std::string& where);

// `count` of them, drawn without replacement by a fixed generator (SplitMix64); all, in order, if
// count is not less than there are.
std::vector<Sample> draw_samples(std::vector<Sample> samples, size_t count, uint64_t seed);

}  // namespace vitrun
