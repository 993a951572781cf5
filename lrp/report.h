// The page of vitlrp --report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lrp/scores.h"

namespace vitrun {

struct Picture {
  std::string title;
  std::vector<uint8_t> png;
};

// One self-contained HTML page: importances by block and kind of unit, how the two scorers agree,
// and the pictures.
std::string report_page(const Scores& scores, const std::vector<Picture>& pictures);

}  // namespace vitrun
