// Allocations are counted for the whole test program by test_allocation.cc, which can make them
// fail.
#pragma once

#include <cstdint>

namespace vitrun {

// Calls of operator new so far.
int64_t allocation_count();

// This thread's allocation number `count` from here on (0: the next) fails; below 0: none does.
void fail_allocation_in(int64_t count);

}  // namespace vitrun
