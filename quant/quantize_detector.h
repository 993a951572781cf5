// Quantizes a detector, whose graphs lie one behind another with plain functions between them.
#pragma once

#include <map>

#include "quant/pipeline.h"
#include "runtime/files/detector_file.h"
#include "runtime/vision/image.h"

namespace vitrun {

// Photographs for calibration, of any size.
struct PhotoSource {
  int64_t count = 0;
  std::function<Image(int64_t)> load;
};

struct QuantizedDetector {
  QbinWriter file;
  std::map<std::string, UnitTable> units;  // by graph; a unit's name is in one of them
};

// Quantizes each graph on what the float detector hands to it: the backbone on crops of the scaled
// photographs, the RPN on tiles of every level's map, the heads on RoIs of proposals and of what
// was found. Consumes the weights. `options` have the same bits for all units, no budget.
QuantizedDetector quantize_detector(FloatDetector model, const PhotoSource& photos,
                                    const QuantizeOptions& options, const Progress& progress = {});

}  // namespace vitrun
