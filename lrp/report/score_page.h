// The page of vitlrp --report.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lrp/walk/scores.h"

namespace vitrun {

struct Picture {
  std::string title;
  std::vector<uint8_t> png;
};

// "4/8" or, without a weight, "8": the weight and activation bits of units, by name.
using BitLabels = std::map<std::string, std::string>;

// Of a .qbin, which must be of the scores' model.
BitLabels bit_labels(const std::string& qbin, const Scores& scores);

// One self-contained HTML page: importances by block and kind of unit with their bits where given,
// how the two scorers agree, and the pictures.
std::string report_page(const Scores& scores, const BitLabels& bits,
                        const std::vector<Picture>& pictures);

}  // namespace vitrun
