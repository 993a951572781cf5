// Chooses the kernels that a session runs on.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace vitrun {

// Returns the kernels called `name`. An empty name means those that VITRUN_ISA names, or else the
// best that this CPU supports. A name that is unknown or not supported fails and lists the
// supported ones.
const Kernels& choose_kernels(const std::string& name = "");

}  // namespace vitrun
