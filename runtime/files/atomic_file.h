// Writing a file so that nothing is lost.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace vitrun {

// All or nothing: writes beside `path`, syncs, then renames over it. On failure (a full disk, say)
// the file that was there is left as it was and nothing else is left behind.
void write_file(const std::string& path, std::span<const uint8_t> bytes);
void write_file(const std::string& path, std::string_view text);

}  // namespace vitrun
