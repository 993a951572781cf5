// Tells the format of an image file by its first bytes, never by its name.
#pragma once

#include <string>

#include "runtime/vision/image_bytes.h"

namespace vitrun {

enum class ImageFormat { kJpeg, kPng, kBmp, kGif, kWebp };

// Fails, naming `where`, on formats that are not read, with the format's name where it is known.
ImageFormat image_format(Bytes bytes, const std::string& where);

}  // namespace vitrun
