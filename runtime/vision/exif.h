// Reads which way up a photograph is, and turns it. Cameras store pixels as the sensor gives them
// and note the turn in EXIF; Pillow's ImageOps.exif_transpose applies it.
#pragma once

#include "runtime/vision/image.h"
#include "runtime/vision/image_format.h"

namespace vitrun {

// The meanings are EXIF's: 1 is as stored, 2 and 4 are mirrored, 3 is turned by 180 degrees, 5 and
// 7 are transposed, 6 must be turned by 90 degrees clockwise and 8 counter-clockwise.

// Returns the orientation, 1 to 8, that the file states as Pillow's getexif() finds it: in EXIF (a
// JPEG's APP1 segment, a PNG's eXIf or a WebP's EXIF chunk), else in an uncompressed XMP packet.
// Returns 1 where nothing is stated or what is stated is damaged.
int orientation_of(Bytes file, ImageFormat format);

// Turns an image that was stored with this orientation the right way up.
void turn_upright(int orientation, Image& image);

}  // namespace vitrun
