// CRC-32 with the IEEE polynomial, as zlib, PNG and Python's zlib.crc32 compute it.
#pragma once

#include <cstdint>
#include <span>

namespace vitrun {

// Returns the checksum of all bytes so far: those whose checksum is `previous` (0 for none), then
// `bytes`.
uint32_t crc32(std::span<const uint8_t> bytes, uint32_t previous = 0);

}  // namespace vitrun
