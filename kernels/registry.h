// The choice of the kernels that run. isa.def lists the ISAs, best first.
#pragma once

#include <span>

#include "kernels/kernels.h"

namespace vitrun {

// All tables in this binary, best first, whether or not this CPU can run them.
std::span<const Kernels* const> compiled_kernels();
// Whether this CPU and operating system can run the table.
bool is_supported(const Kernels& kernels);
// Returns the table called `name`. If name is null or empty, the environment variable VITRUN_ISA
// names it; if that is empty too, the best supported table is returned. An unknown name, or one
// that this machine does not support, gives null; isa_names() lists the valid ones for the message.
const Kernels* find_kernels(const char* name);
// The names that this machine supports, such as "avx512vnni avx2 scalar", in static storage.
const char* isa_names();

}  // namespace vitrun
