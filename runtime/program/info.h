// Describes a model file, for `vitrun --info`.
#pragma once

#include <string>

#include "runtime/files/model_file.h"

namespace vitrun {

// Prints the description to stdout, as a table or as one JSON object. `path` is as for
// open_predictor(). Returns an exit status.
int print_info(const std::string& path, const WeightOptions& options, bool json);

}  // namespace vitrun
