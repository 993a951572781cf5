// Makes the page of vitlrp --report.
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

// Unit name -> its weight and activation bits, "4/8", or "8" for a unit without a weight.
using BitLabels = std::map<std::string, std::string>;

// Reads the bits of a .qbin, which must be of the model that was scored.
BitLabels bit_labels(const std::string& qbin, const Scores& scores);

// Returns one self-contained HTML page: importances by block and kind of unit, with bits if `bits`
// is not empty, how well the two scorers agree, and the pictures.
std::string report_page(const Scores& scores, const BitLabels& bits,
                        const std::vector<Picture>& pictures);

}  // namespace vitrun
