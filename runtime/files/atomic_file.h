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

// Fails as write_file() would where a file cannot be made there; nothing is left behind. Programs
// call it before work whose result would be lost.
void check_writable(const std::string& path);

}  // namespace vitrun
