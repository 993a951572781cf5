// Checks a JPEG file for what stb_image does not: it fills missing data with grey or noise, and
// decodes with tables that the file never defined.
#pragma once

#include <string>

#include "runtime/vision/image_bytes.h"

namespace vitrun {

// Fails, naming `where`, on a file that ends before its end-of-image marker, on sides and pixels
// above the limits of image.h, on a scan that uses a Huffman or quantization table not defined
// before it, on a component without a scan, and on four components of unknown colours. The coded
// data are not looked at.
void check_jpeg(Bytes bytes, const std::string& where);

}  // namespace vitrun
