// A detector's DetectorInfo in the metadata of a .qbin, under "detector.*".
#pragma once

#include <map>
#include <string>

#include "models/graph/detector_info.h"
#include "models/graph/model_info.h"
#include "runtime/files/qbin.h"

namespace vitrun {

bool is_detector(const QbinFile& file);

std::map<std::string, QbinValue> detector_metadata(const DetectorInfo& info, int classes);

// Reads and checks it, and sets the classes of `model`. Fails, naming the file and the key.
DetectorInfo read_detector(const QbinFile& file, ModelInfo& model);

}  // namespace vitrun
