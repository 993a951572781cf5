// The kernels a session runs on, or an error that says which there are.
#pragma once

#include <string>

#include "kernels/kernels.h"

namespace vitrun {

// The kernels called `name`; for an empty name those VITRUN_ISA names, else the best this CPU has.
// A name that is unknown or not supported fails and lists the supported ones.
const Kernels& choose_kernels(const std::string& name = "");

}  // namespace vitrun
