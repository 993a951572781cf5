// Decodes WebP images with libwebp, which only builds with VITRUN_WEBP have.
#pragma once

#include "runtime/vision/image.h"
#include "runtime/vision/image_bytes.h"

namespace vitrun {

// Whether this build reads WebP.
bool reads_webp();

// The size that a WebP file states, which may be anything up to 2^24; the decoder allocates for it.
struct WebpSize {
  int64_t width = 0, height = 0;
};

// Fails, naming `where`, on truncated or damaged files, and in a build that does not read WebP.
WebpSize webp_size(Bytes bytes, const std::string& where);
// Decodes the first frame; pixels outside it are black. Alpha is dropped. Fails as webp_size()
// does.
Image decode_webp(Bytes bytes, const std::string& where);

}  // namespace vitrun
