// Writes a file so that nothing is lost.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace vitrun {

// Writes all or nothing: a file beside `path` is written, synced and then renamed over it. After a
// failure (a full disk, say) the old file is as it was and nothing else is left behind.
void write_file(const std::string& path, std::span<const uint8_t> bytes);
void write_file(const std::string& path, std::string_view text);

}  // namespace vitrun
