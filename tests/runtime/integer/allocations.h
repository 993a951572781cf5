// What test_allocation.cc counts for the whole test program.
#pragma once

#include <cstdint>

namespace vitrun {

// Calls of operator new so far.
int64_t allocation_count();

}  // namespace vitrun
