// `vitrun --info`: what a model file holds.
#pragma once

#include <string>

namespace vitrun {

// Prints to stdout, as a table or as one JSON object. `path` as for open_predictor(). Returns an
// exit status.
int print_info(const std::string& path, const std::string& arch, bool json);

}  // namespace vitrun
