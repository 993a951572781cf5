// Which kernels run. isa.def lists the ISAs, best first, one line each.
#pragma once

#include <span>

#include "kernels/kernels.h"

namespace vitrun {

// Tables compiled into this binary, best first, whether or not this CPU can run them.
std::span<const Kernels* const> compiled_kernels();
// True if this CPU and operating system can run the table.
bool is_supported(const Kernels& kernels);
// The table called `name`; the best supported one for a null or empty name after VITRUN_ISA from
// the environment has been asked. Null if the name is unknown or not supported here: say so with
// isa_names().
const Kernels* find_kernels(const char* name);
// "avx512vnni avx2 scalar": the names supported here, for messages. Static storage.
const char* isa_names();

}  // namespace vitrun
